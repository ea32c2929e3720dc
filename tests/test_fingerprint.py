"Whatever a result depends on is in the fingerprint of the run, under its name."
import functools, json, numpy as np, os, pandas as pd, pytest, shutil, sys, time, torch, types
from datetime import date
from fastai.callback.all import CSVLogger, ParamScheduler, SchedCos
from fastai.vision.all import (AccumMetric, Callback, CategoryBlock, CrossEntropyLossFlat, DataBlock, DataLoaders, GradientClip, Image,
    ImageBlock, IndexSplitter, IntToFloatTensor, ParamScheduler, PartialDL, PILImageBW, Resize, TensorImage, ToTensor, Transform, TransformBlock, WeightedDL,
    accuracy, error_rate, get_image_files, params, set_seed)
from fastai_mixmatch.all import *
from fastai_mixmatch.fingerprint import _shared, describe_items, differences, settings
from fastai_mixmatch.describe import Unknown, plain
from fastai_mixmatch.sources import raw_items
from functools import partial
from pathlib import Path
from helpers import IL, SMALL, X, Y, core_dls as digit_dls, forks, representatives
from torch import nn
from torchvision.models.resnet import BasicBlock

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

@pytest.fixture
def unscanned(monkeypatch):
    """Packages are not searched for what the program put into them, which takes half of the time. For tests of what lies elsewhere;
    those of values, patches and swaps in packages search, and compare the same program with itself, too"""
    monkeypatch.setattr(Unknown, 'patches', lambda self: None)

class Found(BaseException): pass

class Look(Callback):
    order, in_checkpoint = 1000, False
    def before_fit(self):
        method = next(o for o in self.learn.cbs if isinstance(o, SemiSupervised))
        self.found = settings(self.learn, method)
        raise Found

def identity(arch=SMALL, method=None, seed=0, dls=None, unlabeled=None, fit=lambda learn: learn.fit(1), **kw):
    "Settings at the start of a fit, and what cannot be compared"
    set_seed(seed)
    dls = dls() if dls else digit_dls()
    learn = ssl_learner(dls, IL[200:328] if unlabeled is None else unlabeled, arch, method=method() if method else FixMatch(), bs=32, **kw)
    learn.add_cb(look := Look())
    with learn.no_bar(), learn.no_logging(), pytest.raises(Found): fit(learn)
    return look.found

def net(ni, no, slope=.01, momentum=.1, eps=1e-5, act=None, scale=1.):
    m = nn.Sequential(nn.Conv2d(ni, 8, 3), nn.BatchNorm2d(8, eps=eps, momentum=momentum), act or nn.LeakyReLU(slope),
                      nn.AdaptiveAvgPool2d(1), nn.Flatten(), Scale(scale), nn.Linear(8, no))
    return m

class Scale(nn.Module):
    "A setting that `repr` does not show"
    def __init__(self, s): super().__init__(); self.s = s
    def forward(self, x): return x*self.s

class Slotted:
    __slots__ = ('weight',)
    def __init__(self, weight): self.weight = weight
    def __call__(self, p, y): return nn.functional.cross_entropy(p, y)*self.weight

class Penalty(Callback):
    "Keeps its argument under another name"
    def __init__(self, strength): self._s = strength

class Fixed(Callback): strength = 1.
class FixedMore(Fixed): strength = 2.

def local_net(k):
    "A network, loss, callback and method of classes that are made in a function, and use what stands around"
    class Local(nn.Module):
        def __init__(self, ni, no):
            super().__init__()
            self.net = SMALL(ni, no)
        def forward(self, x): return self.net(x)*k
    return Local

def local_loss(k):
    class Local:
        def __call__(self, p, y): return nn.functional.cross_entropy(p, y)*k
    return Local()

def local_callback(k):
    class Local(Callback):
        def after_loss(self): self.learn.loss_grad = self.learn.loss_grad*k
    return Local()

def local_method(k):
    class Local(FixMatch):
        def weight(self): return k
    return Local

def deep(ni, no): return nn.Sequential(*[nn.Conv2d(i, 8, 3, padding=1) for i in (ni, 8, 8)], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, no))
def only(i):
    "A fit of layer `i` and the head"
    def fit(learn):
        for m in learn.model[:3]: m.requires_grad_(m is learn.model[i])
        learn.fit(1)
    return dict(arch=deep, fit=fit)
def cut(i): return dict(arch=deep, splitter=lambda m: [params(m[:i]), params(m[i:])], fit=lambda learn: learn.fit(1, slice(1e-4, 1e-2)))
def loaders(make):
    "Another loader of the labeled images"
    def dls():
        d = digit_dls()
        return DataLoaders(make(d.train.dataset, bs=10, after_item=d.train.after_item, after_batch=d.train.after_batch), d.valid)
    return dict(dls=dls)
def sampled(w):
    x, y = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(20)%10
    ds, sampler = torch.utils.data.TensorDataset(x, y), torch.utils.data.WeightedRandomSampler([1.]*10+[w]*10, 20)
    return dict(dls=lambda: DataLoaders(torch.utils.data.DataLoader(ds, 10, sampler=sampler), torch.utils.data.DataLoader(ds, 10)), unlabeled=x)
def unshuffled():
    dls = digit_dls()
    dls.train.shuffle = False
    return dls
def altered(**kw):
    def fit(learn):
        for k, v in kw.items(): setattr(learn.cbs.filter(lambda o: isinstance(o, SemiSupervised))[0], k, v)
        learn.fit(1)
    return dict(fit=fit)
def hung(**kw):
    "What the program hangs on the learner, for callbacks to read or in place of a method"
    def fit(learn):
        for k, v in kw.items(): setattr(learn, k, v)
        learn.fit(1)
    return dict(fit=fit)
class Keeps(nn.Module):
    "A setting under a private name, and one that is a tensor, no buffer"
    def __init__(self, ni, no, k=1., private=False):
        super().__init__()
        self.net, self._k, self.k = SMALL(ni, no), k if private else 1., torch.tensor(1. if private else k)
    def forward(self, x): return self.net(x)*self._k*self.k

def wrapped(k):
    "A function that bears the name of another"
    @functools.wraps(accuracy)
    def f(p, y): return accuracy(p, y)*k
    return f

def main(text, **kw):
    "What the program itself defines, as it was edited between two starts"
    space = dict(globals(), __name__='__main__', **kw)
    exec(text, space)
    return space['mine']
def main_function(k, doc=''): return main(f'def mine(p, y):\n  "{doc}"\n  return (p.argmax(1)==y).float().mean()*{k}')
def main_callback(k): return main(f'class mine(Callback):\n  def after_loss(self): self.learn.loss_grad = self.learn.loss_grad*{k}')()
def main_global(k): return main(f'K = {k}\ndef mine(p, y): return (p.argmax(1)==y).float().mean()*K')
def main_helper(k): return main(f'def helper(): return {k}\ndef mine(p, y): return (p.argmax(1)==y).float().mean()*helper()')
def main_private(k): return main(f'class mine(Callback):\n  _k = {k}\n  def after_loss(self): self.learn.loss_grad = self.learn.loss_grad*self._k')()
def main_cached(k): return main(f'class mine(Callback):\n  @functools.cached_property\n  def factor(self): return {k}')()
def main_repr(k): return main(f'class mine:\n  def __call__(self, p, y): return nn.functional.cross_entropy(p, y)*{k}\n  def __repr__(self): return "mine"')()
def main_net(k): return main(f'class mine(nn.Module):\n  slope = {k}\n  def __init__(self, ni, no):\n    super().__init__()\n    self.body = nn.Sequential('
    f'nn.Flatten(), nn.Linear(64*ni, no))\n  def forward(self, x): return self.body(x*self.slope)')
def prior(k): return lambda: MixMatch(prior=torch.tensor([k]+[1.]*9))
def main_method(k): return main(f'class mine(FixMatch):\n  @property\n  def lam(self): return {k}')

def function_tfm(k):
    def f(x: TensorImage): return x*k
    return f
def local_tfm(k):
    class Local(Transform):
        def encodes(self, x: TensorImage): return x*k
    return Local()
def averaged(k):
    class Averaged(FreeMatch): averages = dict(tau=k, p_model=k, hist=k)
    return Averaged
class Sizes(Callback): sizes = 1, 2
class OtherSizes(Callback): sizes = 1, 3
OtherSizes.__qualname__ = OtherSizes.__name__ = 'Sizes'

def pictures(read, unlabeled=None):
    "Digits that a function opens"
    def dls():
        block = DataBlock((TransformBlock(type_tfms=read, batch_tfms=IntToFloatTensor), CategoryBlock), get_x=lambda i: X[i],
            get_y=lambda i: str(Y[i]), splitter=IndexSplitter(range(20, 40)))
        return block.dataloaders(list(range(40)), bs=20, num_workers=0)
    return dict(dls=dls, unlabeled=unlabeled)
def opened(f): return PILImageBW.create(f)
def turned(f): return PILImageBW(PILImageBW.create(f).rotate(90))

class Folder(torch.utils.data.Dataset):
    "As torchvision's `ImageFolder`"
    def __init__(self, transform, odd=0):
        self.samples, self.transform = [(f'{i}.png', i%10) for i in range(20)], transform
        self.targets = [(i+odd*(i==3))%10 for i in range(20)]
    def __len__(self): return 20
    def __getitem__(self, i): return self.transform(torch.tensor(X[i]/255.).float()[None]), self.targets[i]
def of_folder(**kw):
    make = lambda: Folder(**{'transform': Times(1.), **kw})
    u = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return dict(dls=lambda: DataLoaders(*[torch.utils.data.DataLoader(make(), 10) for _ in range(2)]), unlabeled=u)
class Times:
    def __init__(self, k): self.k = k
    def __call__(self, x): return x*self.k
def seeded_order(seed, n=20):
    ds = torch.utils.data.TensorDataset(torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(20)%10)
    def sampler(): return torch.utils.data.RandomSampler(ds, True, n, generator=torch.Generator().manual_seed(seed))
    return dict(dls=lambda: DataLoaders(torch.utils.data.DataLoader(ds, 10, sampler=sampler()), torch.utils.data.DataLoader(ds, 10)), unlabeled=ds.tensors[0])

class Twin(Callback): pass
class Decays(ParamScheduler):
    def __init__(self, k): super().__init__(dict(wd=SchedCos(.1, .01))); self.k = k
class Logs(CSVLogger):
    def __init__(self, k): super().__init__(); self.k = k
def other_truth(n): return ImageList.from_arrays(X[200:328], [*Y[200:200+n][::-1], *Y[200+n:328]], img_cls=PILImageBW)
class Other(Callback): pass

def strong(**kw): return lambda: FixMatch(strong=StrongView(RandAugment(**kw)))
def closure(k): return lambda p, y: accuracy(p, y)*k
def weighted(*w): return CrossEntropyLossFlat(weight=torch.tensor(w+(1.,)*(10-len(w))))
def named(ni, no, **kw): return partial(net, **kw)(ni, no)

CASES = dict(
    magnitude=(dict(method=strong(magnitude=(0, 1))), dict(method=strong(magnitude=(0, .05))), 'strong.aug.magnitude'),
    operations=(dict(method=strong(ops=('rotate','color'))), dict(method=strong(ops=('rotate',))), 'strong.aug.ops'),
    cutout=(dict(method=lambda: FixMatch(strong=StrongView(cutout=.5))), dict(method=lambda: FixMatch(strong=StrongView(cutout=.25))), 'strong.cutout.size'),
    learned=(dict(method=lambda: FixMatch(strong=StrongView(CTAugment(decay=.9)))), dict(method=lambda: FixMatch(strong=StrongView(CTAugment(decay=.8)))), 'strong.aug.decay'),
    slope=(dict(arch=net), dict(arch=partial(net, slope=.2)), 'model.2'), momentum=(dict(arch=net), dict(arch=partial(net, momentum=.2)), 'model.1'),
    eps=(dict(arch=net), dict(arch=partial(net, eps=1.)), 'model.1'), activation=(dict(arch=net), dict(arch=partial(net, act=nn.ReLU())), 'model.2'),
    hidden=(dict(arch=net), dict(arch=partial(net, scale=2.)), 'model.5'),
    metric=(dict(metrics=accuracy), dict(metrics=error_rate), 'metrics'), more_metrics=(dict(metrics=accuracy), dict(metrics=[accuracy, error_rate]), 'metrics'),
    metric_value=(dict(metrics=AccumMetric(accuracy, flatten=False)), dict(metrics=AccumMetric(accuracy, flatten=True)), 'metric accuracy.flatten'),
    closure=(dict(metrics=closure(1.)), dict(metrics=closure(2.)), 'metric <lambda>.func'),
    weights_of_loss=(dict(loss_func=weighted(1.)), dict(loss_func=weighted(2.)), 'loss function'), slots=(dict(loss_func=Slotted(1)), dict(loss_func=Slotted(2)), 'loss function.weight'),
    scheduler=(dict(cbs=Decays(1.)), dict(cbs=Decays(.5)), 'decays.k'), logger=(dict(cbs=Logs(1.)), dict(cbs=Logs(.5)), 'logs.k'),
    truth=(dict(unlabeled=other_truth(0)), dict(unlabeled=other_truth(9)), 'unlabeled images.labels'),
    memory_format=(dict(fit=lambda o: o.fit(1)), dict(fit=lambda o: o.to_contiguous().fit(1)), 'memory format'),
    smoothing=(dict(loss_func=nn.CrossEntropyLoss()), dict(loss_func=nn.CrossEntropyLoss(label_smoothing=.1)), 'loss function'),
    other_name=(dict(cbs=Penalty(1)), dict(cbs=Penalty(2)), 'globals of callbacks.penalty._s'), class_value=(dict(cbs=Fixed()), dict(cbs=FixedMore()), 'callbacks'),
    clip=(dict(cbs=GradientClip(.4)), dict(cbs=GradientClip(.2)), 'gradient_clip.max_norm'),
    optimizer=(dict(opt_func=partial(FastAdam, sqr_mom=.9)), dict(opt_func=partial(FastAdam, sqr_mom=.8)), 'optimizer'),
    frozen=(only(1), only(2), 'weights in training'), groups=(cut(1), cut(3), 'weights in training'), decay=(dict(wd_bn_bias=False), dict(wd_bn_bias=True), 'weights in training'),
    image_weights=(loaders(partial(WeightedDL, wgts=[1.]*20)), loaders(partial(WeightedDL, wgts=[1.]*10+[9.]*10)), 'labeled order.wgts'),
    part=(loaders(partial(PartialDL, partial_n=10)), loaders(partial(PartialDL, partial_n=20)), 'labeled order.partial_n'),
    sampler=(sampled(1.), sampled(7.), 'labeled order.weights'), unshuffled=(dict(), dict(dls=unshuffled), 'labeled order.shuffle'),
    views=(dict(), altered(k=3), 'k'), patched=(dict(), altered(weight=lambda: 5.), 'weight'),
    order=(dict(cbs=[Twin(), Other()]), dict(cbs=[Other(), Twin()]), 'callbacks'),
    seed=(dict(), dict(seed=1), 'initial weights'), labels=(dict(dls=digit_dls), dict(dls=partial(digit_dls, n=30)), 'labeled images'),
    validation=(dict(dls=digit_dls), dict(dls=partial(digit_dls, valid=50)), 'validation images'), epochs=(dict(), dict(fit=lambda learn: learn.fit(2)), 'epochs'),
    local_net=(dict(arch=local_net(1.)), dict(arch=local_net(2.)), 'model'), local_loss=(dict(loss_func=local_loss(1.)), dict(loss_func=local_loss(2.)), 'loss function'),
    local_callback=(dict(cbs=local_callback(1.)), dict(cbs=local_callback(2.)), 'local'),
    local_method=(dict(method=local_method(1.)), dict(method=local_method(2.)), 'method'),
    private=(dict(arch=Keeps), dict(arch=partial(Keeps, k=2., private=True)), 'model'), tensor=(dict(arch=Keeps), dict(arch=partial(Keeps, k=2.)), 'model'),
    wrapped=(dict(metrics=wrapped(1.)), dict(metrics=wrapped(2.)), 'metric accuracy.func'),
    main_function=(dict(metrics=main_function(1.)), dict(metrics=main_function(2.)), 'metric mine.func'),
    main_callback=(dict(cbs=main_callback(1.)), dict(cbs=main_callback(2.)), 'mine'), main_method=(dict(method=main_method(1.)), dict(method=main_method(2.)), 'method'),
    function_tfm=(dict(dls=partial(digit_dls, batch_tfms=function_tfm(1.))), dict(dls=partial(digit_dls, batch_tfms=function_tfm(.5))), 'function_tfm'),
    local_tfm=(dict(dls=partial(digit_dls, batch_tfms=local_tfm(1.))), dict(dls=partial(digit_dls, batch_tfms=local_tfm(.5))), 'Local'),
    class_values=(dict(cbs=Sizes()), dict(cbs=OtherSizes()), 'globals of callbacks.test_fingerprint.Sizes.sizes'), averages=(dict(method=averaged(.9)), dict(method=averaged(.8)), 'globals.test_fingerprint.averaged.<locals>.Averaged.averages'),
    one_name=(dict(method=lambda: VAT(eps=6.)), dict(method=lambda: VAT(eps=3.)), 'eps'),
    twins=(dict(cbs=[Penalty(1), Penalty(2)]), dict(cbs=[Penalty(3), Penalty(2)]), 'globals of callbacks.penalty._s'),
    opening=(pictures(opened), pictures(turned), 'labeled images.opening'),
    own_list=(dict(unlabeled=ImageList(list(X[200:328]), tfms=Resize(8), img_cls=PILImageBW)),
        dict(unlabeled=ImageList(list(X[200:328]), tfms=Resize(8, method='squish'), img_cls=PILImageBW)), 'unlabeled images.opening'),
    torchs_transform=(of_folder(), of_folder(transform=Times(.5)), 'labeled images.opening'), torchs_labels=(of_folder(), of_folder(odd=1), 'labeled images.labels'),
    order_seed=(seeded_order(1), seeded_order(2), 'random numbers'), order_length=(seeded_order(1), seeded_order(1, 40), 'labeled order._num_samples'),
    main_global=(dict(metrics=main_global(1.)), dict(metrics=main_global(2.)), 'globals.__main__.K'),
    main_helper=(dict(metrics=main_helper(1.)), dict(metrics=main_helper(2.)), 'code.__main__.helper'),
    main_private=(dict(cbs=main_private(1.)), dict(cbs=main_private(2.)), 'globals of callbacks.__main__.mine._k'), main_cached=(dict(cbs=main_cached(1.)), dict(cbs=main_cached(2.)), 'mine'),
    main_net=(dict(arch=main_net(1.)), dict(arch=main_net(2.)), 'globals.__main__.mine.slope'),
    prior=(dict(method=prior(1.)), dict(method=prior(2.)), 'prior'), main_repr=(dict(loss_func=main_repr(1.)), dict(loss_func=main_repr(2.)), 'loss function'),
    learners_own=(hung(lam=1.), hung(lam=2.), 'globals.learner.lam'), learners_method=(dict(), hung(_backward=len), 'globals.learner'),
    threshold=(dict(), dict(method=lambda: FixMatch(threshold=.9)), 'threshold'))

# By night, as another case takes the same way: a layer's settings (`slope`), a view's (`magnitude`), metrics (`metric`), a loss of a library (`weights_of_loss`),
# what trains (`frozen`), a loader's attributes (`image_weights`), local classes (`local_net`), what is not in `repr` (`tensor`), classes of the program (`main_net`)
BY_NIGHT = 'momentum eps activation operations cutout more_metrics smoothing groups part local_loss local_callback local_tfm private main_callback order_length one_name'.split()

@pytest.mark.parametrize('name', [pytest.param(o, marks=pytest.mark.nightly if o in BY_NIGHT else ()) for o in CASES])
@pytest.mark.filterwarnings('ignore')
def test_a_difference_is_named(name, unscanned):
    a, b, expected = CASES[name]
    (old, _), (new, _), (again, _) = identity(**a), identity(**b), identity(**a)
    assert not differences(old, again)
    diff = differences(old, new)
    assert any(k == expected or k.startswith(f'{expected}.') for k in diff), diff
    assert all(f'{k}: ' in v and ' then, ' in v and v.endswith(' now') for k, v in diff.items())

def test_what_a_reader_knows_comes_first():
    "Digests come last; a change of the learning rate shows numbers, without types of arrays"
    old = dict(weights='digest 0123456789ab', names='0123456789ab', a=dict(T=.5), s=[['<float64 (1,)>', [4e-3]]])
    new = dict(weights='digest ba9876543210', names='ba9876543210', a=dict(T=.4), s=[['<float64 (1,)>', [2e-3]]])
    diff = differences(old, new)
    assert list(diff) == ['s', 'a.T', 'weights', 'names'] and diff['s'] == 's: [[[0.004]]] then, [[[0.002]]] now'

class Half(Transform):
    split_idx = 1
    def __init__(self, k): self.k = k
    def encodes(self, x: TensorImage): return x*self.k
def valid_loader(**kw):
    "Another loader of the validation images"
    def dls():
        d = digit_dls()
        given = {k: getattr(d.valid, k) for k in ('after_item', 'after_batch')}
        return DataLoaders(d.train, type(d.valid)(d.valid.dataset, **{'bs': 20, **given, **kw}))
    return dict(dls=dls)
def halved(samples, k): return samples[:k]
def pairs(k): return main(f'def mine(samples): return torch.stack([o[0] for o in samples])*{k}, torch.stack([o[1] for o in samples])')
def torch_valid(batch_size=10, **kw):
    x, y = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(20)%10
    ds = torch.utils.data.TensorDataset(x, y)
    return dict(dls=lambda: DataLoaders(torch.utils.data.DataLoader(ds, 10), torch.utils.data.DataLoader(ds, batch_size, **kw)), unlabeled=x)

class PlainLoader:
    "No loader of a library: batches of a dataset, times `k`"
    def __init__(self, dataset, k): self.dataset, self.k = dataset, k
    def __len__(self): return 1
    def __iter__(self):
        xs, ys = zip(*[self.dataset[i] for i in range(20)])
        yield torch.stack([TensorImage(image2tensor(x)).float()*self.k for x in xs]), torch.stack([TensorCategory(y) for y in ys])
    def to(self, device): return self
def plain_loader(k): return dict(dls=lambda: DataLoaders((d := digit_dls()).train, PlainLoader(d.valid.dataset, k)))

VALID = dict( # chkstyle: ignore-node (one case a line)
    item=(partial(digit_dls, item_tfms=Half(1.)), partial(digit_dls, item_tfms=Half(.5)), 'after_item'),
    batch=(partial(digit_dls, batch_tfms=Half(1.)), partial(digit_dls, batch_tfms=Half(.5)), 'after_batch'),
    own_item=(valid_loader(after_item=[ToTensor, Resize(8)]), valid_loader(after_item=[ToTensor, Resize(8, 'squish')]), 'after_item'),
    own_batch=(valid_loader(after_batch=[IntToFloatTensor(255)]), valid_loader(after_batch=[IntToFloatTensor(128)]), 'after_batch'),
    one_less=(valid_loader(), valid_loader(after_batch=[]), 'after_batch'),
    before=(valid_loader(before_batch=partial(halved, k=20)), valid_loader(before_batch=partial(halved, k=1)), 'before_batch'),
    create=(valid_loader(create_batch=pairs(1.)), valid_loader(create_batch=pairs(.5)), 'create_batch'),
    drop=(valid_loader(), valid_loader(drop_last=True), 'drop_last'),
    no_library=(plain_loader(1.), plain_loader(.5), 'k'),
    size=(valid_loader(bs=16), valid_loader(bs=20), 'batch size'),
    torch_size=(torch_valid(batch_size=3), torch_valid(batch_size=6), 'batch size'),
    torch_list=(torch_valid(sampler=[1, 2, 3]), torch_valid(sampler=[1, 2, 4]), 'items'),
    collate=(torch_valid(collate_fn=pairs(1.)), torch_valid(collate_fn=pairs(.5)), 'collate_fn'))

@pytest.mark.parametrize('name', VALID)
@pytest.mark.filterwarnings('ignore')
def test_how_validation_images_become_batches(name, unscanned):
    "`SaveModelCallback` and others decide by what is measured on them"
    a, b, expected = VALID[name]
    old, new, again = (identity(**(o if isinstance(o, dict) else dict(dls=o)))[0] for o in (a, b, a))
    diff = differences(old, new)
    assert not differences(old, again) and {k for k in diff if 'Half' not in k} == {f'validation images.batches.{expected}'}, diff

PROJECT = dict(own='', deep='''
def first(): return second()
def second(): return third()
def third(): return 1.
''', values='''
K, W, unused = [1., 2.], dict(a=dict(b=[1])), 3
''', main='''
import threading
from collections import namedtuple
from fastai.vision.all import *
from own import values
from own.deep import first
lock, ready, shape = threading.Lock(), None, namedtuple('Shape', 'h w')(8, 8)
class Cfg:
    rate = 1.
    class sizes: small = [1, 2]
def decorated(f):
    @functools.wraps(f)
    def g(*args): return f(*args)
    return g
@decorated
def helper(x): return x*1.5
def mine(p, y):
    from own.lazy import late
    with lock: return accuracy(p, y)*first()*values.K[0]*len(values.W)*Cfg.rate*len(Cfg.sizes.small)*helper(shape.h)
class Loss:
    def __call__(self, p, y): return nn.functional.cross_entropy(p, y)
class Mine(Callback):
    table = [1]
    def after_loss(self): self.seen, self.learn.loss_grad = self.scale, self.learn.loss_grad*self.scale
''', lazy='def late(): return 1')

@pytest.fixture
def project(monkeypatch, tmp_path):
    "Import the modules of a program, after an edit; settings and unknown names of its run"
    def load(old='', new='', lazy=False, **attrs):
        text = {k: v.replace(old, new) if old else v for k, v in PROJECT.items()}
        assert not old or text != PROJECT, old
        for n in ('own', 'own.deep', 'own.values', 'own.lazy', 'own.main'):
            mod = types.ModuleType(n)
            mod.__file__, mod.__package__ = str(tmp_path/f'{n}.py'), 'own'
            monkeypatch.setitem(sys.modules, n, mod)
            exec(text[n.split('.')[-1]], vars(mod))
            if n != 'own': setattr(sys.modules['own'], n[4:], mod)
        if not lazy: monkeypatch.delitem(sys.modules, 'own.lazy')
        main, cb = sys.modules['own.main'], sys.modules['own.main'].Mine()
        for k, v in dict(dict(scale=1., kernel=[1, 2], lock=main.lock), **attrs).items(): setattr(cb, k, v)
        return identity(metrics=main.mine, loss_func=main.Loss(), cbs=[cb, Callback(after_batch=lambda self: 1)])
    return load

@pytest.mark.filterwarnings('ignore')
def test_the_whole_program(project):
    "Functions of its modules to any depth, lists and dictionaries that they use, and what a callback without arguments was given"
    (whole, unknown), (again, _) = project(), project()
    assert not differences(whole, again)
    assert unknown == ['own.lazy', 'own.main.lock', 'callback.after_batch', 'mine.lock']
    for edit, name in (('third(): return 1.', 'third(): return 2.'), 'code.own.deep.third'), (('K, W, unused = [1., 2.]', 'K, W, unused = [1., 3.]'), 'globals.own.values.K'), (
            ('b=[1]', 'b=[2]'), 'globals.own.values.W.a.b'), (('rate = 1.', 'rate = 2.'), 'globals.own.main.Cfg.rate'), (('[1, 2]', '[1]'), 'globals.own.main.Cfg.sizes.small'), (
            ('x*1.5', 'x*2.5'), 'code.own.main.helper'), (('(8, 8)', '(8, 9)'), 'globals.own.main.shape'), (('cross_entropy', 'nll_loss'), 'loss function'), (
            ('table = [1]', 'table = [2]'), 'globals of callbacks.own.main.Mine.table'):
        assert list(differences(whole, project(*edit)[0])) == [name]
    assert not differences(whole, project('unused = [1., 2.], dict(a=dict(b=[1])), 3', 'unused = [1., 2.], dict(a=dict(b=[1])), 4')[0])
    assert set(differences(whole, project(scale=2., kernel=[1, 3])[0])) == {'globals of callbacks.mine.kernel', 'globals of callbacks.mine.scale'}
    late = project(lazy=True)
    assert 'own.lazy' not in late[1] and list(differences(whole, late[0])) == ['code.own.lazy.late']

PATCHED = dict( # chkstyle: ignore-node (one case a line)
    method=(FixMatch, 'targets', 'def mine(self, q, q_x): return q.argmax(1), (q.amax(1)>={}).to(q.dtype)', 'code.fastai_mixmatch.methods.FixMatch.targets'),
    base=(SemiSupervised, 'weight', 'mine = property(lambda self: {})', 'code.fastai_mixmatch.semi.SemiSupervised.weight'),
    function=('fastai_mixmatch.methods', 'sharpen', 'def mine(q, T): return q*{}', 'code.fastai_mixmatch.methods.sharpen'),
    wraps=('fastai_mixmatch.methods', 'sharpen', 'old = sharpen\n@functools.wraps(old)\ndef mine(q, T): return old(q, T*{})', 'code.fastai_mixmatch.methods.sharpen'),
    held=('fastai_mixmatch.methods', 'CTAugment', 'class mine:\n  def f(self): return {}', 'code.fastai_mixmatch.methods.CTAugment'),
    layer=(nn.LeakyReLU, 'forward', 'def mine(self, x): return x*{}', 'code.torch.nn.modules.activation.LeakyReLU.forward'),
    torchs=('torch.nn.functional', 'leaky_relu', 'def mine(x, *args): return x*{}', 'code.torch.nn.functional.leaky_relu'),
    beta=('torch.distributions.Beta', 'rsample', 'def mine(self, shape=()): return torch.full(shape, {})', 'code.torch.distributions.beta.Beta.rsample'),
    base_of_beta=('torch.distributions.distribution.Distribution', 'sample', 'def mine(self, shape=()): return torch.full(shape, {})',
        'code.torch.distributions.distribution.Distribution.sample'),
    optimizer=('torch.optim.SGD', 'step', 'def mine(self): return {}', 'code.torch.optim.sgd.SGD.step'),
    fused=('torch.optim.Adam', 'zero_grad', 'def mine(*args, **kw): return {}', 'code.torch.optim.adam.Adam.zero_grad'),
    network=('torchvision.models.resnet.BasicBlock', 'forward', 'def mine(self, x): return x*{}', 'code.torchvision.models.resnet.BasicBlock.forward'))

class Normed(nn.BatchNorm2d): pass
VALUES = dict( # chkstyle: ignore-node (one case a line)
    method=(FixMatch, 'order', 'globals.fastai_mixmatch.methods.FixMatch.order'), callback=(EMA, 'order', 'globals of callbacks.fastai_mixmatch.ema.EMA.order'),
    base=(Callback, 'run_train', 'globals.fastai.callback.core.Callback.run_train'), loss=(CrossEntropyLossFlat, 'y_int', 'globals.fastai.losses.CrossEntropyLossFlat.y_int'),
    layer=(nn.BatchNorm2d, 'momentum_default', 'globals.torch.nn.modules.batchnorm.BatchNorm2d.momentum_default'))

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', VALUES)
def test_values_of_a_package_s_classes_are_compared(name, monkeypatch):
    "Of all that take part in the training"
    cls, attr, expected = VALUES[name]
    arch = partial(net, act=nn.Sequential(Normed(8)))
    usual = identity(arch=arch)[0]
    monkeypatch.setattr(cls, attr, getattr(cls, attr, 50)+1, raising=False)
    assert list(differences(usual, identity(arch=arch)[0])) == [expected]
    monkeypatch.undo()
    assert not differences(usual, identity(arch=arch)[0])

def test_what_an_enum_keeps_for_itself_is_no_setting():
    "A flag of a package remembers each combination that was asked for"
    import re
    def noted():
        plain(re.RegexFlag, u := Unknown())
        return u.used()
    before = noted()
    re.RegexFlag(2+4+8+64)
    assert noted() == before

@pytest.mark.filterwarnings('ignore')
def test_a_function_of_the_package_in_place_of_another(monkeypatch):
    "It is no function of the program, but does not stand where it belongs"
    usual = identity()[0]
    methods = sys.modules['fastai_mixmatch.methods']
    monkeypatch.setattr(methods, 'l2_loss', methods.soft_cross_entropy)
    name = 'globals.fastai_mixmatch.methods.l2_loss'
    assert differences(usual, identity()[0]) == {name: f'{name}: null then, "soft_cross_entropy" now'}

def test_no_plain_value_of_a_room_moves_a_result():
    "So `Unknown` need not compare those of modules: here are all numbers and names that training rooms hold"
    import ast
    root = Path(sys.modules['fastai_mixmatch'].__file__).parent
    held = set()
    for o in 'views augment targets mixup losses batch finite semi mixmatch methods ema optim speed heads streams pool cache report'.split():
        tree = ast.parse((root/f'{o}.py').read_text())
        held |= {n.id for a in tree.body if isinstance(a, ast.Assign) for t in a.targets for n in ast.walk(t) if isinstance(n, ast.Name)
                 and type(getattr(sys.modules[f'fastai_mixmatch.{o}'], n.id)) in (bool, int, float, str)}
    assert held - {'__doc__'} == {'CACHE_LIMIT'}

class Alpha(Callback): "A callback whose name is that of a setting"
class Versions(Callback): pass

@pytest.mark.filterwarnings('ignore')
def test_a_callback_frees_no_setting_of_its_name_among_ranks():
    "Only the program's callbacks, and times of files, may differ between processes"
    def shared(**kw):
        learn = ssl_learner(digit_dls(), IL[200:328], SMALL, method=MixMatch(alpha=.5), bs=32, cbs=[Alpha(), Versions(), Penalty(3)], **kw)
        found = []
        class See(Callback):
            order, in_checkpoint = 1000, False
            def before_fit(self):
                found.append(_shared(self.learn, self.learn.mix_match))
                raise Found
        learn.add_cb(See())
        with learn.no_bar(), learn.no_logging(), pytest.raises(Found): learn.fit(1)
        return found[0]
    names = shared()
    assert names['alpha'] == .5 and names['versions.torch'] == torch.__version__ and names['ema.decay'] == .999
    assert not [o for o in names if 'penalty' in o or o.startswith('callbacks') or 'of callbacks' in o or o.startswith('random numbers')]

SWAPPED = dict( # chkstyle: ignore-node (one case a line)
    method=(FixMatch, 'targets', FixMatch.__mro__[1].targets, 'fastai_mixmatch.methods.FixMatch.targets'),
    property=(FixMatch, 'weight', vars(MixMatch)['weight'], 'fastai_mixmatch.methods.FixMatch.weight'),
    torchs=(FixMatch, 'targets', nn.ReLU.forward, 'fastai_mixmatch.methods.FixMatch.targets'),
    function=(FixMatch, 'targets', nn.functional.relu, 'fastai_mixmatch.methods.FixMatch.targets'),
    base=(SemiSupervised, 'weight', FixMatch.check, 'fastai_mixmatch.semi.SemiSupervised.weight'))

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', SWAPPED)
def test_a_method_in_the_place_of_another_is_noticed(name, monkeypatch):
    "Though no code of the program is there"
    usual, (where, attr, f, at) = identity()[0], SWAPPED[name]
    monkeypatch.setattr(where, attr, f, raising=False)
    assert list(differences(usual, identity()[0])) == [f'globals.{at}']
    monkeypatch.undo()
    assert not differences(usual, identity()[0])

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', representatives(PATCHED, ('method','base','wraps','layer')))
def test_what_the_program_replaces_is_compared(name, monkeypatch):
    "A function or method of a package, with another one than then, or without"
    where, attr, text, expected = PATCHED[name]
    block = partial(BasicBlock, 1, 1)
    def start(k=None):
        with monkeypatch.context() as m:
            args = (where, attr) if isinstance(where, type) else (f'{where}.{attr}',)
            if k: m.setattr(*args, main(text.format(k)), raising=False)
            return identity(arch=lambda ni, no: nn.Sequential(block(), SMALL(ni, no)))[0]
    usual, old, again, new = start(), start(.3), start(.3), start(.9)
    assert list(differences(old, new)) == [expected] and expected in differences(usual, old) and not differences(old, again)
    assert not differences(usual, start())

def test_what_training_moves_is_compared_as_it_was():
    "A list that grows does not refuse the second of two fits; a warning names it. What a callback holds is saved with it"
    grows = main('seen = []\nN = [1]\ndef mine(p, y):\n  seen.append(len(N))\n  return accuracy(p, y)')
    class Grows(Callback):
        def __init__(self): self.seen = []
        def after_batch(self): self.seen.append(1)
    found = []
    class See(Callback):
        order, in_checkpoint = 1000, False
        def before_fit(self): found.append(settings(self.learn, next(o for o in self.learn.cbs if isinstance(o, SemiSupervised))))
    learn = ssl_learner(digit_dls(), IL[200:328], SMALL, method=FixMatch(), bs=32, metrics=grows, cbs=[Grows(), See()])
    with learn.no_bar(), learn.no_logging():
        for _ in range(2): learn.fit(1)
    (a, nothing), (b, unknown) = found
    assert nothing == [] and unknown == ['__main__.seen']
    assert set(differences(a, b)) <= {'initial weights', 'random numbers', 'initial moments (`reset_opt`)'} and a['globals']['__main__.seen'] == []

def test_bounded():
    "Functions that use each other are described once, a huge list not at all, and a long one of plain values in a moment"
    text = ''.join(f'def f{i}(): return f{(i+1)%300}()+f{(i*7)%300}()+f{(i*13)%300}()\n' for i in range(300))
    deep, unknown = main(text+'mine = f0'), Unknown()
    plain(deep, unknown, 'f')
    code, values = unknown.used()
    assert len(code) == 300 and not values and not unknown
    huge = [1]*(5*10**6+1)
    assert plain(huge, unknown, 'huge') == 'list' and list(unknown) == ['huge']
    nested = [[[1]]*1000]*5000
    plain(nested, unknown, 'nested')
    assert len(unknown) == 2
    start = time.perf_counter()
    a, b = plain(list(range(10**6))), plain([*range(10**6-1), 0])
    assert a != b and len(a) < 50 and time.perf_counter()-start < 5

def test_one_pixel_of_many():
    x = X[200:328].copy(); x[77, 3, 3] ^= 1
    (a, _), (b, _) = identity(), identity(unlabeled=ImageList.from_arrays(x, Y[200:328], img_cls=PILImageBW))
    assert list(differences(a, b)) == ['unlabeled images.pixels']

def test_files_are_known_by_size_and_time(tmp_path):
    digits_sample(tmp_path/'d', 20)
    files = sorted((tmp_path/'d/unlabeled').iterdir())[:64]
    a = describe_items(files)
    assert describe_items(list(map(str, files))) == a and a[''] == 64
    stat = files[5].stat()
    shutil.copy(files[6], files[5])
    os.utime(files[5], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    b = describe_items(files)
    assert list(differences(dict(x=a), dict(x=b))) == (['x.sizes'] if files[5].stat().st_size != stat.st_size else [])
    os.utime(files[5], ns=(0, stat.st_mtime_ns+1))
    assert 'x.times' in differences(dict(x=a), dict(x=describe_items(files)))
    shutil.copytree(tmp_path/'d', tmp_path/'moved')
    assert describe_items(sorted((tmp_path/'moved/unlabeled').iterdir())[:64]) == describe_items(files), 'a moved folder is the same'

def test_tensors_of_a_dataset():
    ds = [torch.utils.data.TensorDataset(torch.full((4, 1, 8, 8), v), torch.arange(4)) for v in (0., 1.)]
    a, b = map(describe_items, ds)
    assert a != b and a == describe_items(ds[0]) and a[''] == 4

@pytest.mark.filterwarnings('ignore')
def test_what_cannot_be_compared_is_named():
    class Own(Transform):
        def __init__(self): self.rng = np.random.default_rng()
        def encodes(self, x: PILImageBW): return x
    assert identity()[1] == []
    unknown = identity(dls=partial(digit_dls, item_tfms=Own()), metrics=lambda p, y: accuracy(p, y), cbs=GradientClip(.5))[1]
    assert set(unknown) == {'Own.rng', 'validation.after_item.0.rng', 'metric <lambda>.func'}
    class Holds(Callback):
        def __init__(self, o): self.o = o
    odd = dict(sparse=torch.eye(2).to_sparse(), meta=torch.empty(2, device='meta'), long=np.longdouble(1),
        day=date(2026, 1, 1), days={date(2026, 1, 1): pd.NaT}, frame=pd.DataFrame(dict(a=[date(2026, 1, 1)])))
    assert identity(cbs=Holds(odd))[1] == ['holds.o.sparse', 'holds.o.meta']
    later = dict(odd, day=date(2026, 1, 2), frame=pd.DataFrame(dict(a=[date(2026, 1, 2)])))
    assert sorted(differences(*[identity(cbs=Holds(o))[0] for o in (odd, later)])) == ['holds.o.day', 'holds.o.frame']

def test_schedules_are_compared_between_the_points_that_are_shown():
    "17 are; a bump that one step of 120 between two of them has is another schedule"
    def of(f): return identity(fit=lambda learn: learn.fit(30, cbs=ParamScheduler({'lr': f})))[0]
    old,new = of(lambda pos: 1e-3),of(lambda pos: 1e-3+(.008<pos<.009))
    assert old['schedule of lr'][:-1] == new['schedule of lr'][:-1] and 'schedule of lr' in differences(old, new)

def test_norms_that_train_in_a_frozen_group():
    def of(train_bn): return identity(arch=lambda ni, no: nn.Sequential(SMALL(ni, 4), nn.Linear(4, no)), train_bn=train_bn, wd_bn_bias=True)[0]
    assert 'weights in training' in differences(of(True), of(False))

def test_a_docstring_is_no_setting(): assert plain(main_function(1, 'Mean')) == plain(main_function(1, 'A mean')) != plain(main_function(2, 'Mean'))

@pytest.mark.filterwarnings('ignore')
def test_hooks_loaders_and_what_is_not_there_yet():
    "The first two are named; a function that uses what is defined later is no error"
    def hooked(ni, no):
        net = SMALL(ni, no)
        net.register_forward_pre_hook(lambda m, x: (x[0]*2,))
        return net
    def early():
        def f(p, y): return later(p, y)
        if not f: later = accuracy
        return f
    def of_gradients(ni, no):
        net = SMALL(ni, no)
        net[-1].register_full_backward_hook(lambda m, i, o: i)
        return net
    def of_a_weight(ni, no):
        net = SMALL(ni, no)
        next(net.parameters()).register_hook(lambda g: g*2)
        return net
    assert all(identity(arch=o)[1] == ['hooks of the model'] for o in (hooked, of_a_weight, of_gradients)) and identity(method=lambda: ReMixMatch(ks=1))[1] == []
    assert identity(cbs=Penalty(digit_dls().valid), metrics=early())[1] == ['metric f.func', 'penalty._s']

def test_a_head_that_was_computed_may_be_rounded_otherwise():
    "The linear start follows from images and network, which are compared; another number of threads gives other bits. What is moved afterwards counts"
    def start(learn, off, moved=0.):
        head = learn.model[-1]
        for p in head.parameters():
            p.data.fill_(.3+off)
            p.computed = p.data.clone()
        head.bias.data += moved
        learn.fit(1)
    def one(**kw): return identity(arch=lambda ni, no: nn.Sequential(SMALL(ni, 4), nn.Linear(4, no)), fit=partial(start, **kw))[0]
    assert one(off=0.)==one(off=1e-6)!=one(off=0., moved=1e-6)

def test_versions(monkeypatch):
    a, _ = identity()
    monkeypatch.setattr(torch, '__version__', '0.0.1')
    assert list(differences(a, identity()[0])) == ['versions.torch']
    assert set(a['versions']) == {'torch', 'torchvision', 'fastai', 'fastai_mixmatch', 'numpy', 'PIL', 'Python', 'fastcore', 'fasttransform'}

def installed(monkeypatch, name, text, version='1.0'):
    "A module of another package"
    mod = types.ModuleType(name)
    mod.__file__ = f'{os.path.dirname(os.path.dirname(torch.__file__))}/{name}/__init__.py'
    if version: mod.__version__ = version
    monkeypatch.setitem(sys.modules, name, mod)
    exec(f'from fastai.vision.all import *\n{text}', vars(mod))
    return mod

USES = dict( # chkstyle: ignore-node (one case a line)
    model=('class M(nn.Identity): pass', lambda m: dict(arch=lambda ni, no: nn.Sequential(SMALL(ni, no), m.M()))),
    optimizer=('def M(*args, **kw): return Adam(*args, **kw)', lambda m: dict(opt_func=partial(m.M))),
    loss=('class M(nn.Module):\n  def forward(self, p, y): return F.cross_entropy(p, y)', lambda m: dict(loss_func=m.M())),
    metric=('def M(p, y): return accuracy(p, y)', lambda m: dict(metrics=m.M)), callback=('class M(Callback): pass', lambda m: dict(cbs=m.M())),
    transform=('class M(Transform): pass', lambda m: dict(dls=partial(digit_dls, batch_tfms=m.M()))),
    validation=('class M(Transform): split_idx = 1', lambda m: dict(dls=partial(digit_dls, item_tfms=m.M()))),
    base=('class M(Callback): pass', lambda m: dict(cbs=type('Mine', (m.M,), {})())),
    used=('def M(p, y): return accuracy(p, y)', lambda m: dict(metrics=main('def mine(p, y): return M(p, y)', M=m.M))))

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', USES)
def test_versions_of_all_packages_that_take_part(name, unscanned, monkeypatch):
    text, use = USES[name]
    mod = installed(monkeypatch, 'other', text)
    a, unknown = identity(**use(mod))
    mod.__version__ = '2.0'
    assert differences(a, identity(**use(mod))[0]) == {'versions.other': 'versions.other: "1.0" then, "2.0" now'} and not unknown
    del mod.__version__
    assert 'version of other' in identity(**use(mod))[1]

@pytest.mark.nightly # By commit, `test_a_program_with_all_of_it_resumes` has another hash seed, too
def test_is_the_same_in_another_process(tmp_path):
    "No address, no order of a set, no hash seed"
    import subprocess, sys
    code = "import json,sys; sys.path.insert(0, 'tests'); import test_fingerprint as t; print('\\n'+json.dumps(t.identity(metrics=[t.closure(1.)], cbs=t.GradientClip(.4))[0]))"
    root = Path(__file__).resolve().parent.parent
    env = {**os.environ, 'PYTHONHASHSEED': '1', 'PYTHONPATH': str(root)}
    new = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, cwd=root, env=env)
    fork = forks().run('-W', 'ignore', '-c', code, cwd=root, env=env) # Its seed of hashes is another one
    assert not differences(*(json.loads(o.stdout.strip().split('\n')[-1]) for o in (new, fork))), new.stderr+fork.stderr

def test_files_that_are_opened_count(tmp_path):
    "Not those that name them"
    for part in ('small', 'large'):
        (tmp_path/part).mkdir()
        for i in range(6): Image.fromarray(X[i]).save(tmp_path/part/f'{i}.png')
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=get_image_files, get_x=lambda o: tmp_path/'large'/o.name,
        get_y=lambda o: int(o.stem)%2, splitter=IndexSplitter([4, 5]))
    ds = block.datasets(tmp_path/'small').train
    old, files = describe_items(ds), raw_items(ds)
    assert files==[tmp_path/'large'/o.name for o in get_image_files(tmp_path/'small')[:4]]
    Image.fromarray(X[9].repeat(2, 0)).save(files[0])
    assert describe_items(ds)['sizes']!=old['sizes'] and describe_items(ds)['names']==old['names']
