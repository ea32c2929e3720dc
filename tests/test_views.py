"Weak views against a second implementation: numpy's reflecting pad and slices, one image at a time; and their distribution."
import itertools, numpy as np, pytest, random, torch, torchvision.transforms.v2 as T, warnings
from fastai.vision.all import (DataLoader, Flip, IntToFloatTensor, ItemTransform, Normalize, Pipeline, TensorImage, TensorImageBW, ToTensor, Transform,
    TfmdDL, aug_transforms, imagenet_stats)
from fastai_mixmatch import views
from fastai_mixmatch.views import BatchViews, WeakView, shift_draws, shift_flip
from photos import S, least_p, one_image, photo_parts
from types import SimpleNamespace

def images(b=3, c=3, h=6, w=9, dtype=torch.uint8, seed=0):
    x = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (b, c, h, w), dtype=np.uint8))
    return x if dtype==torch.uint8 else (x.to(dtype)/255 if dtype.is_floating_point else x.to(dtype))

def one(im, dy, dx, flip):
    "Pad, cut, flip"
    (h, w), (dy, dx) = im.shape[1:], (int(dy), int(dx))
    pad = np.pad(im, ((0, 0), (abs(dy), abs(dy)), (abs(dx), abs(dx))), mode='reflect')
    v = pad[:, abs(dy)+dy:, abs(dx)+dx:][:, :h, :w]
    return v[..., ::-1] if flip else v

@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_any_type(dtype):
    x, d = images(dtype=dtype), shift_draws(6, (3, 4), .5)
    got = shift_flip(x, *d)
    f = lambda t: t.double().numpy()
    assert got.dtype==dtype and got.is_contiguous()
    for i, o in enumerate(zip(*d)): np.testing.assert_array_equal(f(got[i]), one(f(x[i%3]), *o))

@pytest.mark.parametrize('how', [views.shift_rows, views.shift_gather])
@pytest.mark.parametrize('shape', [(1, 1, 1, 1), (2, 1, 1, 5), (2, 4, 5, 1), (3, 3, 6, 9), (1, 2, 9, 4), (5, 1, 2, 2)])
def test_every_shift_and_flip(how, shape):
    "Every shift that reflection allows, up to the size less one, in both implementations; any number of views."
    x, (b, _, h, w) = images(*shape), shape
    d = list(itertools.product(range(1-h, h), range(1-w, w), (False, True)))
    d = [o for o in d for _ in range(b)]
    dy, dx, fl = map(torch.tensor, zip(*d))
    got = how(x, dy, dx, fl).numpy()
    for i, o in enumerate(d): np.testing.assert_array_equal(got[i], one(x[i%b].numpy(), *o), err_msg=str(o))

def test_input_is_left_alone_and_any_layout():
    x = images()
    d = shift_draws(6, (2, 2), .5)
    want, old = shift_flip(x, *d), x.clone()
    assert torch.equal(x, old)
    layouts = x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3), torch.stack([x, x], 1)[:, 0]
    for y in layouts: assert torch.equal(shift_flip(y, *d), want)

def test_draws_are_uniform_and_independent():
    "All offsets, the last too, as often; flips as often as asked; views of one image drawn apart. Bounds are 5 standard deviations."
    torch.manual_seed(0)
    n, (dy, dx, fl) = 90000, shift_draws(90000, (4, 2), .3)
    for d, m in ((dy, 4), (dx, 2)):
        k = 2*m+1
        counts = torch.bincount(d+m, minlength=k)
        assert len(counts)==k and (counts-n/k).abs().max() < 5*(n/k*(1-1/k))**.5
    assert abs(fl.float().mean()-.3) < 5*(.21/n)**.5
    for a, b in itertools.combinations((dy, dx, fl), 2): assert abs(np.corrcoef(a, b)[0, 1]) < 5/n**.5
    half = dy.view(2, -1)
    assert abs(np.corrcoef(half[0], half[1])[0, 1]) < 5/(n/2)**.5

def test_views_of_one_image_by_histogram():
    "Views of an image whose pixels are all different say which shift and flip they had: all 2*9*5 occur, as often."
    torch.manual_seed(1)
    x = torch.arange(32*16).view(1, 1, 32, 16)
    n = 18000
    v = WeakView(1/8, flip=.5).view(x, n)[:, 0]
    names = torch.unique(v[:, 10, 5]*100000 + v[:, 10, 6], return_counts=True)[1]
    assert len(names)==9*5*2 and (names-n/90).abs().max() < 5*(n/90)**.5

@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('c, cls', [(1, TensorImageBW), (3, TensorImage)])
def test_batch_views_are_the_loaders(own, c, cls):
    "On equal draws, the fused conversion gives what fastai's own transforms give; the pool is left alone."
    tfms = [IntToFloatTensor(), Normalize.from_stats([.5, .4, .3][:c], [.2, .3, .4][:c], cuda=False)]
    dl = SimpleNamespace(after_batch=Pipeline(([WeakView(flip=.5)] if own else []) + tfms))
    for x in (images(4, c, 8, 8), images(4, c, 8, 8).float()):
        v, old = BatchViews(dl, cls(x), None if own else WeakView(flip=.5)), x.clone()
        assert v.plain is not None and (v.weak is None)==own
        torch.manual_seed(3); got = torch.cat(v.views(x, 3))
        torch.manual_seed(3); raw = WeakView(flip=.5).view(x, 3)
        want = Pipeline(tfms, split_idx=0)((cls(raw.clone()),))[0]
        assert type(got) is torch.Tensor and got.dtype==torch.float32
        torch.testing.assert_close(got, torch.Tensor(want), rtol=0, atol=1e-5)
        assert torch.equal(x, old)

def test_a_view_of_the_loader_is_made_once_where_gray_images_become_colored():
    x, tfms = images(4, 1, 8, 8), Pipeline([WeakView(flip=.5), IntToFloatTensor(), Normalize.from_stats(*imagenet_stats, cuda=False)], split_idx=0)
    v = BatchViews(SimpleNamespace(after_batch=tfms), TensorImageBW(x))
    torch.manual_seed(3); got = v(x)
    torch.manual_seed(3); want = tfms((TensorImageBW(x.clone()),))[0]
    assert v.weak is None and got.shape==(4, 3, 8, 8) and torch.equal(got, torch.Tensor(want))

# --- what is random

def loader(*tfms): return SimpleNamespace(after_batch=Pipeline([IntToFloatTensor(), *tfms]))
def stats(c=3): return Normalize.from_stats([.5, .4, .3][:c], [.2, .3, .4][:c], cuda=False)

class OwnGenerator(Transform):
    "Negative images, with probability `p` a batch, by a generator that nobody else sees"
    def __init__(self, seed, p=.05): self.rng, self.p = random.Random(seed), p
    def encodes(self, x:TensorImage): return 1-x if self.rng.random() < self.p else x

class NumpyGenerator(OwnGenerator):
    def __init__(self, seed, p=.05): self.rng, self.p = np.random.default_rng(seed), p

class Halved(Normalize):
    "A child of a known transform is not known"
    def encodes(self, x:TensorImage): return x/2

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('make', [OwnGenerator, NumpyGenerator])
def test_rare_randomness_is_never_missed(make):
    "A transform that hardly ever acts looks deterministic in most runs; no weak view is put on top in any of 40 learners."
    like = TensorImage(images(4, 3, 8, 8))
    for seed in range(40):
        v = BatchViews(loader(make(seed)), like)
        assert v.weak is None

@pytest.mark.parametrize('tfms', [(), (ToTensor(),), (stats(),), (stats(), ToTensor())])
def test_known_transforms_get_a_weak_view(tfms):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        v = BatchViews(loader(*tfms), TensorImage(images(4, 3, 8, 8)))
    assert type(v.weak) is WeakView
    assert {IntToFloatTensor, *map(type, tfms)} <= set(BatchViews.deterministic)

@pytest.mark.parametrize('tfm', [OwnGenerator(0), Halved(), Flip(p=1.), lambda x: x])
def test_unknown_transforms_are_named_and_weak_decides(tfm):
    like = TensorImage(images(4, 3, 8, 8))
    name = getattr(tfm, '__name__', type(tfm).__name__)
    with pytest.warns(UserWarning, match=f'{name}.*weak=WeakView'): assert BatchViews(loader(tfm), like).weak is None
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        given = WeakView(.2)
        assert BatchViews(loader(tfm), like, weak=given).weak is given
        assert BatchViews(loader(tfm), like, weak=False).weak is None

@pytest.mark.parametrize('tfms', [aug_transforms(size=8), [WeakView()], [Flip(p=.01)]])
def test_what_draws_is_random_without_a_word(tfms):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        v = BatchViews(loader(*tfms, stats()), TensorImage(images(4, 3, 8, 8)))
    assert v.weak is None

def test_loaders_without_batch_transforms_get_a_weak_view():
    x = images(4, 3, 8, 8).float()
    for dl in (DataLoader([(o, 0) for o in x], bs=2), torch.utils.data.DataLoader(x)): assert type(BatchViews(dl, x).weak) is WeakView

# --- what the loader gives

class Mirrored(ItemTransform):
    def encodes(self, xy): return xy[0].flip(-1), xy[1]

class Blended(ItemTransform):
    def encodes(self, xy): return (xy[0]+xy[0].flip(0))/2, (xy[1]+xy[1].flip(0))/2

class Halves(ItemTransform):
    def encodes(self, xy): return xy[0][::2], xy[1]

def by_loader(x, cls, tfms):
    "What a loader of `(image, label)` pairs gives for `x`"
    return TfmdDL([(o, torch.tensor(0)) for o in cls(x)], bs=len(x), num_workers=0, after_batch=tfms, do_setup=False).one_batch()[0]

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('c, cls, tfms', [
    (1, TensorImageBW, [IntToFloatTensor(), Normalize.from_stats(*imagenet_stats, cuda=False)]),
    (3, TensorImage, [IntToFloatTensor(), stats(), Mirrored()]),
    (3, TensorImage, [Mirrored(), IntToFloatTensor(), Halved()]),
    (1, TensorImageBW, [IntToFloatTensor(), stats(1)])])
def test_views_are_what_the_loader_gives(c, cls, tfms):
    x = images(5, c, 8, 8)
    v = BatchViews(SimpleNamespace(after_batch=Pipeline(tfms)), cls(x), weak=False)
    want = torch.Tensor(by_loader(x, cls, tfms))
    torch.testing.assert_close(v(x), want, rtol=0, atol=1e-6)
    for o in v.views(x, 2): torch.testing.assert_close(o, want, rtol=0, atol=1e-6)
    torch.testing.assert_close(v.strong(x, SimpleNamespace(view=lambda o: o)), want, rtol=0, atol=1e-6)

@pytest.mark.filterwarnings('ignore')
def test_a_function_gets_the_whole_batch():
    "`after_batch` of a plain `DataLoader` takes images and labels."
    x = images(5).float()
    dl = DataLoader([(o, 0) for o in x], bs=5, after_batch=lambda b: (b[0]/255, b[1]))
    assert torch.equal(BatchViews(dl, x, weak=False)(x), dl.one_batch()[0])

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('tfm, error, match', [
    (Blended(), TypeError, 'changes labels.*Blended'), (Halves(), ValueError, '2 images of 4.*Halves')])
def test_what_cannot_be_done_without_labels_is_refused(tfm, error, match):
    with pytest.raises(error, match=match): BatchViews(loader(tfm), TensorImage(images(4, 3, 8, 8)))

# --- on photographs, against torchvision's transforms of one image: views of both have the same distribution

@pytest.fixture(scope='module')
def photos(): return photo_parts()

def weak_theirs(photos, flip=.5):
    t = T.Compose([T.RandomCrop(S, padding=4, padding_mode='reflect'), T.RandomHorizontalFlip(flip)])
    return torch.stack([t(im) for im in photos])

@pytest.mark.parametrize('images', [lambda o: o, one_image], ids=['many images', 'one image'])
def test_shift_and_flip(photos, images):
    x = images(photos)
    assert least_p(WeakView(1/8, flip=.5).view(x), weak_theirs(x)) > .01

def test_the_test_sees_another_shift_or_flip(photos):
    x = one_image(photos)
    assert least_p(WeakView(3/32, flip=.5).view(x), weak_theirs(x)) < .01
    assert least_p(WeakView(1/8, flip=.3).view(x), weak_theirs(x)) < .01

def test_views_of_one_image_are_the_same_ones(photos):
    "Drawn often enough, both give all 162 views of an image, pixel for pixel, and no others."
    x = photos[1:2]
    distinct = lambda v: {o.numpy().tobytes() for o in v}
    a, b = distinct(WeakView(1/8, flip=.5).view(x, 2500)), distinct(weak_theirs(x.expand(2500, -1, -1, -1)))
    assert len(a) == 9*9*2 and a == b

def test_a_weak_view_that_is_not_used_is_named():
    like = TensorImage(images(4, 3, 8, 8))
    with pytest.warns(UserWarning, match=r'`weak=WeakView.*` is not used, as `dls` has random batch transforms: Flip'): BatchViews(loader(Flip()), like, WeakView())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for weak in (None, False): assert BatchViews(loader(Flip()), like, weak).weak is None
