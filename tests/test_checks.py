"What can be known before training is said before it, in one sentence."
import numpy as np, pytest, torch, warnings
from collections import deque
from fastai.callback.mixup import CutMix, MixUp
from fastai.losses import CrossEntropyLossFlat, FocalLossFlat
from fastai.vision.all import (Callback, DataLoaders, Normalize, Optimizer, ParamScheduler, PILImageBW, SchedLin, TensorImage, Transform,
    ValueMetric, aug_transforms, noop, sgd_step)
from fastai_mixmatch.all import *
from fastai_mixmatch.streams import LabeledDL
from functools import partial
from helpers import IL, SMALL, X, Y, core_dls, core_learner, method_learner, not_held, torch_sets, train
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, TensorDataset

UX = X[200:230]
digit_dls,learner = core_dls,core_learner

class Count(nn.Module):
    "Counts forward passes with gradient: training steps"
    def __init__(self, model): super().__init__(); self.model,self.steps = model,0
    def forward(self, x): self.steps += torch.is_grad_enabled(); return self.model(x)

def refused(exc, *words, dls=None, unlabeled=None, n=(1, 10), model=None, **kw):
    "Making or fitting the learner raises exactly `exc`, with all `words`, before any training step"
    model = Count(model or SMALL(*n))
    with pytest.raises(exc) as e: learner(dls, UX if unlabeled is None else unlabeled, model, **kw).fit(1)
    assert e.type is exc and model.steps==0
    for w in words: assert str(w) in str(e.value), (w, str(e.value))

def test_batch_norm_over_one_image():
    dls = digit_dls()
    refused(ValueError, 'batch norm', 'larger batch', dls=dls, bs=1, k=1)
    refused(ValueError, 'batch norm', dls=dls, unlabeled=UX[:1], k=1)
    learner(dls, bs=1).fit(1)                                         # two views: two images
    learner(digit_dls(bs=1)).fit(1)
    learner(dls, arch=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), bs=1, k=1).fit(1)

LOSSES = dict(indices=(nn.NLLLoss(), 'Error('), fastais=(CrossEntropyLossFlat(), 'Error('), focal=(FocalLossFlat(), 'Error('), each=(nn.CrossEntropyLoss(reduction='none'), 'got a tensor (1,) of torch.float32'),
    number=(lambda p, y: 1., 'got 1.0'), few=(labeled_loss(weight=[1., 2.]), '10 classes need as many weights'))
@pytest.mark.parametrize('name', LOSSES)
def test_labeled_losses_of_another_form(name):
    "Most losses take class indices, and these have probabilities"
    loss, words = LOSSES[name]
    refused(ValueError, 'MixMatch.loss_x: expected one number', '(B,n_classes)', words, 'labeled_loss(weight=', loss_x=loss)

def test_a_labeled_loss_that_would_not_be_used():
    with pytest.raises(ValueError, match="tsa anneals cross entropy; loss_x must be 'ce'; got"): UDA(tsa='linear', loss_x='focal')
    assert UDA(loss_x='focal') and UDA(tsa='linear')

@pytest.mark.parametrize('n_out', [1, 9, 11])
def test_model_of_another_width(n_out): refused(ValueError, f'(1, {n_out})', '(1, 10)', 'one output for each class', n=(1, n_out))

def test_model_output_of_another_kind():
    class Two(nn.Module):
        def __init__(self): super().__init__(); self.m = SMALL(1, 10)
        def forward(self, x): return self.m(x), x
    refused(ValueError, 'got (a tensor (1, 10)', model=Two())
    refused(ValueError, '(1, 10, 1)', '(1, 10)', model=nn.Sequential(SMALL(1, 10), nn.Unflatten(1, (10, 1))))

def test_two_methods_in_one_learner():
    refused(ValueError, 'a learner trains with one method; this one has FixMatch and MixMatch', 'Leave one out', cbs=FixMatch(IL[200:264]))
    learn = learner()
    with pytest.raises(ValueError, match='one method'): learn.add_cb(FixMatch(IL[200:264]))
    learn.fit(1)

@pytest.mark.parametrize('kw', [dict(bs=16.), dict(mu=2.), dict(steps=2.5), dict(bs='16'), dict(steps=0)])
def test_stream_settings_are_whole_numbers(kw):
    (k,v), = kw.items()
    for f in (Unlabeled, lambda **kw: learner(**kw)):
        with pytest.raises(ValueError, match=f"{k}, .* must be a whole number of at least 1; got {v!r}"): f(**kw)

def test_batch_size_is_given_once():
    "`mu` would do nothing beside `bs`"
    for f in (Unlabeled, lambda **kw: learner(**kw)):
        with pytest.raises(ValueError, match="give `bs` or `mu`.*'bs': 8, 'mu': 2"): f(bs=8, mu=2)

def test_learning_rate_of_zero_is_kept(): assert learner(lr=0).lr == 0

def test_settings_of_a_stream_without_images():
    with pytest.raises(ValueError, match=r'`unlabeled` is Unlabeled\(bs=3.*; pass a folder'): learner(unlabeled=Unlabeled(bs=3))

@pytest.mark.parametrize('cls', [MixUp, CutMix])
def test_callbacks_that_mix(cls): refused(ValueError, f'{cls.__name__} exchanges the images and labels of a batch', 'Leave it out, and mix in `make_batch`', cbs=cls())

def test_labels_of_torchvision_are_counted_as_they_are_trained():
    "`targets` are what stands in the files; `target_transform` says what is learned"
    from fastai_mixmatch.checks import label_indices
    from torchvision.datasets import FakeData
    ds = FakeData(6, (3, 8, 8), 3, target_transform=lambda y: 2-y)
    ds.targets = [2-ds[i][1] for i in range(6)]
    assert label_indices(ds)==[ds[i][1] for i in range(6)]!=ds.targets

def test_a_validation_set_with_other_indices():
    "Its accuracy would be wrong; two sets of the same classes, or one that does not know its classes, are fine"
    labeled, valid, x = torch_sets()
    def of(ds, classes=None):
        ds = TensorDataset(*ds.tensors)
        if classes: ds.classes = classes
        return DataLoader(ds, 10)
    names = [*'abcdefghij']
    refused(ValueError, 'the validation set numbers its classes differently', "['b', 'c'", "['a', 'b'", 'Give both one list',
            dls=(dls := DataLoaders(of(labeled, names), of(valid, names[1:]+['a']))), unlabeled=x)
    with pytest.raises(ValueError, match='numbers its classes differently'): LabeledDL(dls)
    for other in (names, None): learner(DataLoaders(of(labeled, names), of(valid, other)), x).fit(1)

@pytest.mark.parametrize('dtype', [torch.float64, torch.float16])
def test_images_of_another_type_than_the_weights(dtype):
    labeled,valid,x = torch_sets()
    def of(ds): return DataLoader(TensorDataset(ds.tensors[0].to(dtype), ds.tensors[1]), 10)
    refused(TypeError, f'images are {dtype} and weights torch.float32: convert one of them', dls=DataLoaders(of(labeled), of(valid)), unlabeled=x.to(dtype))

# --- methods, views and columns of one's own

class Own(SemiSupervised):
    "Learns its own guesses"
    def losses(self, pred, y, *qs):
        x,u = self.parts(pred, y)
        return self.loss_x(x, y), l2_loss(u, self.guess(u, by='pred'))

def own(base=Own, **kw): return type('Own', (base,), kw)
def using(do, **kw):
    "A method that does something more in each step"
    def losses(self, pred, y):
        do(self, pred)
        return Own.losses(self, pred, y)
    return own(losses=losses, **kw)
def noting(*names): return using(lambda self, pred: self.note(**{o: pred.mean() for o in names}), columns=names)
def batch(f): return own(make_batch=lambda self, b: f(torch.cat([b.x, *b.weak]), b))
def losses(f): return own(losses=lambda self, pred, y: f(self, *Own.losses(self, pred, y), pred))
def guessing(then): return own(losses=lambda self, pred, y: (pred.mean(), self.guess(pred[len(y):], by='pred', then=then).sum()))

class Later(Callback):
    "Adds a column after the method's"
    order = 40
    def before_fit(self): self.learn.metrics = self.learn.metrics + ValueMetric(lambda: 1., 'mine')
    def after_fit(self): self.learn.metrics = self.learn.metrics.filter(lambda m: m.name!='mine')

AVERAGES,DECLARED,LOSSES_OF = 'Own.averages: expected a dictionary such as dict(p=0.999), or names and a setting `momentum`; ', 'Own.make_batch: ', 'Own.losses: expected labeled and unlabeled loss, two tensors of one number, each with a gradient, or 0; '
TARGETS_OF = 'Own.targets: expected classes `(B_u,)` or probabilities `(B_u,n_classes)`, and weights `(B_u,)`; '
MISTAKES = dict( # chkstyle: ignore-node (one case a line)
    columns_as_text=(own(columns='agreement'), 'Own.columns: expected names, each once, such as (\'mask_rate\',); got \'agreement\''),
    columns_of_numbers=(own(columns=(3,)), 'Own.columns: expected names'),
    averages_as_text=(own(averages='p', momentum=.9), AVERAGES, "got 'p'"),
    averages_without_momentum=(own(averages=('p',)), AVERAGES, "got ('p')"),
    averages_of_a_number=(own(averages=3), AVERAGES, 'got 3'),
    averages_of_texts=(own(averages=dict(p='x')), AVERAGES, "got {'p': 'x'}"),
    averages_that_grow=(own(averages=dict(p=1.5)), AVERAGES, "got {'p': 1.5}"),
    averages_that_fresh_gives=(own(averages=dict(p=.9), fresh=lambda self: dict(p=0)), AVERAGES, 'no name may be one that `fresh` gives', "got {'p': 0.9}"),
    averages_of_a_dictionary=(own(averages=dict(items=.9)), AVERAGES, "got {'items': 0.9}"),
    averages_of_the_strong_view=(own(averages=dict(strong=.9)), AVERAGES, "got {'strong': 0.9}"),
    fresh_none=(own(fresh=lambda self: None), 'Own.fresh: expected a dictionary', 'got None'),
    fresh_of_a_dictionary=(own(fresh=lambda self: dict(keys=1)), 'Own.fresh: expected a dictionary; no name in it may be \'strong\' or that of a method of dictionaries, such as \'items\''),
    heads_as_list=(own(heads=['turn']), "Own.heads: expected a dictionary such as dict(turn=4)", "got ['turn']"),
    heads_as_names=(own(heads=('turn',)), 'Own.heads: expected a dictionary such as dict(turn=4)'),
    heads_without_outputs=(own(heads=dict(turn=0)), "got {'turn': 0}"),
    head_of_a_taken_name=(own(heads=dict(keys=4)), 'with names that a `ModuleDict` can hold', "got {'keys': 4}"),
    head_with_a_dot=(own(heads={'a.b': 4}), 'with names that a `ModuleDict` can hold', "got {'a.b': 4}"),
    head_that_is_no_module=(own(heads=dict(turn=lambda n: 4)), 'heads: a function must give a module', "got {'turn': 4}"),
    head_of_a_switch=(own(heads=dict(turn=True)), 'expected a dictionary such as dict(turn=4)', "got {'turn': True}"),
    head_without_parameters=(own(heads=dict(turn=nn.Identity)), 'must give a module with parameters', "got {'turn': Identity()}"),
    learned_with_its_graph=(using(lambda self, pred: self.learned.update(far=pred.mean()), fresh=lambda self: dict(far=0)),
                            'Own keeps `self.learned.far` with the graph of its step', '`.detach()` it'),
    guess_by_what=(own(make_batch=lambda self, b: self.guess(b.weak, by='averages')), "by: expected 'model', 'teacher', 'pred' or a network", "got 'averages'"),
    losses_without_gradient=(losses(lambda self, x, u, pred: (x.detach(), u.detach())), LOSSES_OF),
    heads_of_floats=(own(heads=dict(turn=4.)), "got {'turn': 4.0}"),
    strong_view=(batch(lambda x, b: (torch.cat([x, b.strong[0]]), (b.y,))), DECLARED, 'declares k = 1 weak and ks = 0 strong views; declare as many as it uses'),
    strong_views_unpacked=(batch(lambda x, b: [v for v, in [b.strong]]), DECLARED, 'not enough values', 'ks = 0'),
    strong_views_joined=(batch(lambda x, b: torch.cat(b.strong)), DECLARED, 'ks = 0'),
    second_weak_view=(batch(lambda x, b: b.weak[1]), DECLARED, 'k = 1 weak'),
    parts_unpacked=(own(losses=lambda self, pred, y: [0 for x,u,v in [self.parts(pred, y)]]), 'Own.losses: not enough values', 'k = 1 weak'),
    batch_alone=(batch(lambda x, b: x), 'Own.make_batch: expected images like `b.x`', 'a tuple of targets', 'got a tensor (32, 1, 8, 8) of torch.float32'),
    batch_none=(batch(lambda x, b: None), 'Own.make_batch: expected', 'got None'),
    targets_alone=(batch(lambda x, b: (x, b.y)), 'a tuple of targets', 'a tensor (16, 10)'),
    no_targets=(batch(lambda x, b: (x, ())), 'a tuple of targets'),
    flat_images=(batch(lambda x, b: (x.flatten(1), (b.y,))), 'images like `b.x`', '(32, 64)'),
    class_indices=(batch(lambda x, b: (x, (b.y.argmax(1),))), 'labels like `b.y` first', 'a tensor (16,) of torch.int64'),
    few_images=(batch(lambda x, b: (x[:2], (b.y,))), 'labeled ones first', '(2, 1, 8, 8)'),
    unlabeled_loss_without_gradient=(losses(lambda self, x, u, pred: (x, u.detach()+1)), LOSSES_OF, 'tensor(1.)'),
    labeled_loss_without_gradient=(losses(lambda self, x, u, pred: (x.detach(), u)), LOSSES_OF),
    images_of_another_type=(batch(lambda x, b: (x.double(), (b.y,))), 'images like `b.x`', 'a tensor (32, 1, 8, 8) of torch.float64'),
    **{f'column_of_a_{type(v).__name__}': (using(lambda self, pred, v=v: self.note(a=v), columns=('a',)), 'Own.note: expected numbers or tensors; got {', f"'a': {v!r}")
       for v in ('x', '3', None, [1., 2.], 1j, torch.tensor(1j))},
    a_column_twice=(own(columns=('a','a')), "Own.columns: expected names, each once, such as ('mask_rate',); got ('a', 'a')"),
    a_column_without_name=(own(columns=('',)), 'Own.columns: expected names'), an_average_twice=(own(averages=('p','p'), momentum=.9), AVERAGES, "got ('p', 'p')"),
    one_loss=(losses(lambda self, x, u, p: x), LOSSES_OF, 'got tensor('), three_losses=(losses(lambda self, x, u, p: (x, u, u)), LOSSES_OF),
    loss_of_each=(losses(lambda self, x, u, p: (x, p.mean(1))), LOSSES_OF, 'a tensor (32,)'), loss_as_number=(losses(lambda self, x, u, p: (x, 0.)), LOSSES_OF, '0.0)'),
    no_loss=(losses(lambda self, *o: None), LOSSES_OF, 'got None'),
    classes_alone=(own(FixMatch, targets=lambda self, q, q_x: q.argmax(1)), TARGETS_OF, 'got a tensor ('),
    one_weight=(own(FixMatch, targets=lambda self, q, q_x: (q, q.max())), TARGETS_OF, 'got (a tensor ('),
    targets_of_labels=(own(FixMatch, targets=lambda self, q, q_x: (q_x, q_x[:, 0])), TARGETS_OF),
    weight_none=(own(weight=lambda self: None), 'Own.weight: expected a number without gradient; got None'),
    weight_with_gradient=(own(weight=lambda self: torch.tensor(1., requires_grad=True)), 'without gradient; got tensor(1., requires_grad=True)'),
    weight_of_each=(own(weight=lambda self: torch.ones(10)), 'a number without gradient; got a tensor (10,)'),
    guess_none=(guessing(lambda q: None), 'Own.guess: expected probabilities `(B_u,n_classes)`; got None'),
    guess_of_classes=(guessing(lambda q: q.argmax(1)), 'Own.guess: expected probabilities', 'torch.int64'),
    **{f'column_{o}': (noting(o), f"Own.columns must not be names of others in the table; got ['{o}']")
       for o in ('accuracy', 'loss_u', 'guess_acc', 'epoch', 'train_loss', 'time', 'mine')})

@pytest.mark.parametrize('name', MISTAKES)
def test_mistakes_in_a_method_of_ones_own(name):
    "At its first step at the latest: the weights have not moved"
    (method, *words),model = MISTAKES[name],SMALL(1, 10)
    start = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError) as e: train(method_learner(method(), 60, arch=model, cbs=Later()))
    for w in words: assert w in str(e.value), (w, str(e.value))
    assert all(map(torch.equal, start, model.parameters()))

def test_what_is_right_is_not_refused():
    class Right(FixMatch):
        columns,averages,momentum,heads = ['mean'],['p'],.9,dict(turn=lambda n: nn.Linear(n, 4))
        def weight(self): return torch.tensor(.5)
        def fresh(self): return dict(last=None)
        def losses(self, pred, y):
            self.note(mean=self.average('p', pred.mean()), mask_rate=1.)
            return [o + 0*self.head('turn').sum() for o in super().losses(pred, y)]
    with pytest.raises(AttributeError, match=r"Right uses the column 'mask_rate', which it does not declare: `columns = \('mask_rate',\)`"): train(method_learner(Right(), 60))
    Right.columns = ['mean','mask_rate']
    assert train(method_learner(Right(), 60)).report.rows[0]['mean'] is not None

@pytest.mark.parametrize('to', [lambda x, u: (x.double(), u), lambda x, u: (x, u.double()), lambda x, u: (x, u.double().detach()*0), lambda x, u: (x.half(), u)])
def test_losses_of_another_precision(to):
    "The mean of an epoch, which fastai keeps, is of float32"
    plain,other = [train(method_learner(losses(lambda self, x, u, pred, f=f: f(x, u))(), 60)) for f in (lambda x, u: (x, u), to)]
    assert [round(o['train_loss'], 2) for o in plain.report.rows]==[round(o['train_loss'], 2) for o in other.report.rows]

def test_an_unlabeled_loss_that_is_only_looked_at():
    "With a weight of 0 it needs no gradient"
    row = train(method_learner(losses(lambda self, x, u, pred: (x, u.detach()+1))(lambda_u=0), 60)).report.rows[0]
    assert row['loss_u']==1

def test_targets_of_another_precision():
    train(method_learner(batch(lambda x, b: (x, (b.y.double(),)))(), 60))

def test_columns_of_other_types():
    "Numbers of numpy, and tensors of whole numbers and truth values"
    values = [np.float32(2), True, torch.tensor([1,2]), torch.tensor([True,False]), torch.tensor(3., dtype=torch.float64), torch.tensor([.5,1.5]).half()]
    named = dict(zip('abcdef', values))
    row = train(method_learner(using(lambda self, pred: self.note(**named), columns=(*named,))(), 60)).report.rows[0]
    assert [row[o] for o in named]==[2, 1, 1.5, .5, 3, 1]

def test_columns_without_guesses():
    "A method that makes none has the columns that it declares, and no others"
    class Counts(Supervised):
        columns = ('two',)
        def losses(self, *a):
            self.note(two=2.)
            return super().losses(*a)
    row = train(method_learner(Counts(), 60)).report.rows[0]
    assert row['two']==2 and 'loss_x' not in row

def test_a_setting_does_not_hide_a_method():
    with pytest.raises(TypeError, match='`weight` of Hidden hides a method or attribute; rename it'):
        class Hidden(SemiSupervised): weight:float = 1.
    with pytest.raises(TypeError, match='`targets` of Hidden hides'):
        class Hidden(FixMatch): targets = None
    class Fine(FixMatch):
        targets,ks,strong = staticmethod(lambda q, q_x: (q, q.amax(1))),2,None
        full_weight = property(lambda self: 1.)
        sure:object = None

@pytest.mark.parametrize('name', ['__init__','check','after_create','prepare','watch','before_fit','before_train','before_batch','after_loss','after_fit','tidy'])
def test_a_method_that_must_go_on_with_its_bases(name):
    "Without it, a training would fail deep inside, or leave the learner changed"
    with pytest.raises(TypeError, match=fr'`{name}` of Own must call that of its base: `super\(\).{name}\(\)`'): own(**{name: lambda self: None})
    class Fine(Own):
        before_fit,events = lambda self: super(Fine, self).before_fit(),[]
        def before_batch(self):
            self.events.append(len(self.learn.xb[0]))
            Own.before_batch(self)
        def after_batch(self): "Of no base"
        def after_epoch(self): "Of no base"
    train(method_learner(Fine(), 60))
    assert Fine.events

@pytest.mark.parametrize('name', ['view','step','dl','source','fitting','learned','world','class_counts'])
def test_a_name_of_the_base_is_not_taken(name):
    for v in (3, lambda self, x: x):
        with pytest.raises(TypeError, match=f'`{name}` of Own hides a method or attribute; rename it'): own(**{name: v})

def test_fewer_views_than_none():
    class Under(Own): ks = -1
    with pytest.raises(ValueError, match='Under.ks: expected a whole number of strong views.*got -1'): Under()

def test_settings_without_annotation():
    class Plain(Own): alpha = .5
    class Typed(Plain): alpha:float = .6
    for f in (lambda: Plain(alpha=.1), lambda: SemiSupervised(k=2)):
        with pytest.raises(TypeError, match='`(alpha|k)` of (Plain|SemiSupervised) is not an argument, as it has no annotation, such as `'): f()
    assert Typed(alpha=.1).alpha==.1

def test_a_setting_needs_a_default():
    with pytest.raises(TypeError, match='`q` of Bare needs a default: `q:float = 0.5`'):
        class Bare(MixMatch): q:float

def test_settings_that_a_step_changes():
    with pytest.raises(AttributeError, match='Own sets `self.lambda_u` in its step.*self.learned.lambda_u'): train(method_learner(using(lambda self, pred: setattr(self, 'lambda_u', .5))(), 60))

class View:
    "A strong view that does `f`"
    def __init__(self, f): self.f = f
    def view(self, x): return self.f(x)

VIEWS = dict(shape=lambda x: x[...,1:], few=lambda x: x[:2], none=lambda x: None, images=list, half=torch.Tensor.half, double=torch.Tensor.double,
    device=lambda x: x.to('meta'),
    range=lambda x: x*255, negative=lambda x: x-1, nan=lambda x: x/0)
@pytest.mark.parametrize('name', VIEWS)
def test_strong_views_of_another_form(name):
    with pytest.raises(ValueError, match=r'View.view: expected one view of each image.*in \[0,1\].*for a tensor \(40, 1, 8, 8\) of torch.float32 from 0.0 to 1.0 on cpu; got'):
        train(method_learner(FixMatch(strong=View(VIEWS[name])), 60))

def test_nan_in_an_image_is_not_blamed_on_the_strong_view():
    labeled,valid,x = torch_sets()
    learn = ssl_learner(DataLoaders.from_dsets(labeled, valid, bs=10), x.clone(), SMALL, FixMatch(strong=View(noop)))
    learn.fix_match.dl.pool.x[:,0,3,3] = torch.nan
    with pytest.raises(FloatingPointError, match='unlabeled image .* holds NaN'): train(learn)

@pytest.mark.parametrize('weak', [noop, WeakView, 3, View(noop), View(lambda x: x[...,1:])])
def test_weak_views_of_another_form(weak):
    with pytest.raises(ValueError, match=r'Unlabeled.weak: expected an object such as `WeakView\(\)`, whose `view\(x, 2\)` gives two views of each image, for a tensor \(4, 1, 8, 8\).*; got'): learner(weak=weak)

class Counted(View):
    "Counts its calls"
    n = 0
    def view(self, x):
        self.n += 1
        return super().view(x)
class Filled(Counted):
    def __init__(self, f): self.f,self.buf = f,torch.zeros(3)
    def view(self, x): self.buf += 1; return x
class Drawn(Counted):
    def __init__(self, f): self.f,self.rng = f,np.random.default_rng(0)
    def view(self, x): return (x*self.rng.random()).float()
class CountedAug(RandAugment):
    n_seen = 0
    def view(self, x): self.n_seen += 1; return super().view(x)
class Saved(Counted):
    def state_dict(self): return dict(n=self.n)
    def load_state_dict(self, s): self.n = s['n']

@pytest.mark.parametrize('strong,lost', [(Counted, 'n of Counted'), (Filled, 'buf of Filled'), (Drawn, 'rng of Drawn'), (lambda f: StrongView(CountedAug()), 'aug of StrongView'),
    (View, None), (Saved, None), (lambda f: StrongView(), None), (lambda f: StrongView(CTAugment()), None)])
def test_strong_views_that_a_checkpoint_does_not_hold(strong, lost):
    "What changes in a step and is no part of a `state_dict` is named"
    from fastai_mixmatch.distributed import warn_once
    warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        train(method_learner(FixMatch(strong=strong(noop)), 60))
    said = [str(o.message) for o in ws if 'a checkpoint does not hold' in str(o.message)]
    assert said==([f'a checkpoint does not hold {lost}, which a step changes; give it `state_dict` and `load_state_dict`'] if lost else [])

class BufferLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('m', torch.ones(()))
    def forward(self, pred, y):
        self.m.mul_(.9)
        return self.m*soft_cross_entropy(pred, y)
class CountedLoss(Counted):
    def __call__(self, pred, y):
        self.n += 1
        return soft_cross_entropy(pred, y)
class CountedTransform(Transform):
    n_seen = 0
    def encodes(self, x:TensorImage):
        self.n_seen += 1
        return x
class Listed(MixMatch):
    def losses(self, *args):
        self.rows.append(1)
        return super().losses(*args)

@pytest.mark.parametrize('loss, tfm, lost', [(BufferLoss, None, '_buffers of BufferLoss'), (lambda: CountedLoss(noop), None, 'n of CountedLoss'),
    (lambda: 'ce', CountedTransform, 'n_seen of CountedTransform'), (lambda: 'focal', None, None)])
def test_losses_and_transforms_that_a_checkpoint_does_not_hold(loss, tfm, lost):
    "A loss, a transform or a list of the method that a step changes is named; fastai's random transforms draw anew, and are not"
    tfms = [*aug_transforms(size=8, do_flip=False), Normalize.from_stats([.5], [.5], cuda=False), *([tfm()] if tfm else [])]
    said = not_held(lambda: train(
        core_learner(core_dls(batch_tfms=tfms), loss_x=loss()) if tfm else method_learner(MixMatch(loss_x=loss()), 60)))
    assert said==([f'a checkpoint does not hold {lost}, which a step changes; a training that goes on begins anew'] if lost else [])

class Counts(nn.Module):
    n = None
    def forward(self, x):
        if self.training: self.n = (self.n or 0)+1
        return x

def test_a_number_of_the_network_that_a_step_changes():
    with pytest.warns(UserWarning, match='a checkpoint does not hold n of Counts, which a step changes'):
        train(core_learner(arch=lambda n_in, n_out: nn.Sequential(SMALL(n_in, n_out), Counts())))

@pytest.mark.parametrize('rows', [[], deque(maxlen=9)], ids=['list','deque'])
def test_a_list_of_the_method_that_a_step_changes(rows):
    m = Listed()
    m.rows = rows
    said = not_held(lambda: train(method_learner(m, 60)))
    assert said==['a checkpoint does not hold rows of Listed, which a step changes; a training that goes on begins anew']

class Passes(Sampler):
    "Another order in each pass, by its number"
    n = 0
    def __len__(self): return 40
    def __iter__(self):
        self.n += 1
        return iter(torch.randperm(40, generator=torch.Generator().manual_seed(self.n)).tolist())

class Reads(Dataset):
    "Counts its readings"
    n = 0
    def __init__(self, *xs): self.xs = xs
    def __len__(self): return len(self.xs[0])
    def __getitem__(self, i):
        self.n += 1
        return tuple(x[i] for x in self.xs)

class ReadItems(Transform):
    n = 0
    def encodes(self, x:PILImageBW):
        self.n += 1
        return x

def of_torch(labeled=TensorDataset, unlabeled=TensorDataset, sampler=None):
    x,y = torch.tensor(X/255.).float()[:,None],torch.tensor(Y)
    dl = DataLoader(labeled(x[:40], y[:40]), 20, sampler=sampler, shuffle=sampler is None)
    return core_learner(DataLoaders(dl, DataLoader(TensorDataset(x[:40], y[:40]), 20)), unlabeled(x[200:264]), loss_func=nn.CrossEntropyLoss())

STATES = dict(sampler=(lambda: of_torch(sampler=Passes()), 'n of Passes'), labeled=(lambda: of_torch(labeled=Reads), 'n of Reads'),
    unlabeled=(lambda: of_torch(unlabeled=Reads), 'n of Reads'), part=(lambda: of_torch(unlabeled=lambda x: Subset(Reads(x), range(60))), 'n of Reads'),
    items=(lambda: core_learner(core_dls(item_tfms=ReadItems())), 'n of ReadItems'), plain=(of_torch, None))

@pytest.mark.parametrize('name', STATES)
@pytest.mark.filterwarnings('ignore')
def test_state_of_data_that_a_checkpoint_does_not_hold(name):
    "Of samplers, datasets and item transforms"
    make,lost = STATES[name]
    said = not_held(lambda: train(make()))
    assert said==([f'a checkpoint does not hold {lost}, which a step changes; a training that goes on begins anew'] if lost else [])

@pytest.mark.parametrize('name, said', [('lambda_u', '`lambda_u`'), ('lrs', '`lrs`; did you mean `lr`')])
def test_schedules_of_what_no_optimizer_has(name, said):
    "fastai would set it without a word, and nothing would read it"
    with pytest.raises(TypeError, match=f'the optimizer has no argument {said}'): core_learner().fit(1, cbs=ParamScheduler({name: SchedLin(0, 1)}))

def test_a_dataset_and_its_sampler_that_know_each_other():
    learn = of_torch(labeled=Reads, sampler=Passes())
    ds = learn.dls.train.dataset
    ds.sampler,learn.dls.train.sampler.dataset = learn.dls.train.sampler,ds
    with pytest.warns(UserWarning, match='n of (Reads|Passes)'): train(learn)

def test_a_schedule_that_is_made_when_a_fit_begins():
    class Late(ParamScheduler):
        def __init__(self): pass
        def before_fit(self):
            self.scheds = {'lr': SchedLin(.01, .001)}
            super().before_fit()
    learn = core_learner()
    learn.fit(1, cbs=Late())
    assert learn.opt.hypers[-1]['lr']<.004

def test_schedules_of_a_momentum_that_an_optimizer_has_not():
    "fastai's own schedules set it in any optimizer"
    core_learner(opt_func=partial(Optimizer, cbs=[sgd_step])).fit_one_cycle(1)
