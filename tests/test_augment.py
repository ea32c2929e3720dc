"Strong views: each operation against PIL, and properties over random batches of any size."
import numpy as np, pytest, torch
from fastai.vision.all import Pipeline, TensorImage, Normalize, IntToFloatTensor
from fastai_mixmatch import augment as A
from fastai_mixmatch.all import BatchViews, CTAugment, Cutout, RandAugment, StrongView, WeakView
from hypothesis import given, strategies as st
from PIL import Image, ImageEnhance, ImageOps
from types import SimpleNamespace

shapes = st.tuples(st.integers(1, 33), st.sampled_from([1, 2, 3, 4]), st.integers(1, 20), st.integers(1, 20))

def rgb(n=6, size=(24, 30), seed=0):
    "Smooth random images, uint8 `(n,H,W,3)`, some with little contrast."
    g = np.random.default_rng(seed)
    small = torch.tensor(g.random((n, 3, 5, 5)))
    x = torch.nn.functional.interpolate(small, size=size, mode='bicubic').clamp(0, 1).numpy()
    x = x * np.linspace(.4, 1, n)[:, None, None, None] + g.random(x.shape) * .1
    return (x.clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)

def float_batch(a): return torch.tensor(a).permute(0, 3, 1, 2).float() / 255

def each(f, a): return np.stack([np.asarray(f(Image.fromarray(o))) for o in a])

def differs(got, want):
    "Differences in levels of 255"
    return (float_batch(want) - got).abs().mul(255)

def gray_batch(seed=0): return rgb(seed=seed)[..., 0]

# --- each operation against PIL

@pytest.mark.parametrize('m', [0., .3, .7, .95])
@pytest.mark.parametrize('name, pil', [('brightness', ImageEnhance.Brightness), ('color', ImageEnhance.Color), ('contrast', ImageEnhance.Contrast), ('sharpness', ImageEnhance.Sharpness)])
def test_blends_against_pil(name, pil, m):
    a = rgb()
    got = RandAugment.colors[name](float_batch(a), torch.full((len(a),), m))
    assert differs(got, each(lambda im: pil(im).enhance(1-m), a)).max() <= 1.6

@pytest.mark.parametrize('bits', [8, 7, 6, 5, 4])
def test_posterize_against_pil(bits):
    a = rgb()
    assert differs(A.posterize(float_batch(a), torch.full((len(a),), (8-bits)/4)), each(lambda im: ImageOps.posterize(im, bits), a)).max() < 1e-3

@pytest.mark.parametrize('threshold', [256, 255, 200, 128, 1, 0])
def test_solarize_against_pil(threshold):
    a = rgb()
    m = torch.full((len(a),), 1-(threshold-.5)/256 if threshold else 1.)
    assert differs(A.solarize(float_batch(a), m.clamp(0, 1)), each(lambda im: ImageOps.solarize(im, threshold), a)).max() < 1e-3

@pytest.mark.parametrize('name', ['autocontrast', 'equalize'])
def test_histograms_against_pil(name):
    a = np.concatenate([rgb(), np.full((1, 24, 30, 3), 77, np.uint8), (rgb(1)//64*64)])
    got = RandAugment.colors[name](float_batch(a), torch.ones(len(a)))
    assert differs(got, each(getattr(ImageOps, name), a)).max() <= (1.01 if name == 'autocontrast' else 1e-3)

def affine(im, *coefs): return im.transform(im.size, Image.AFFINE, coefs)

GEOMETRY = dict(rotate=lambda im, v: im.rotate(30*v), shear_x=lambda im, v: affine(im, 1, .3*v, 0, 0, 1, 0),
    shear_y=lambda im, v: affine(im, 1, 0, 0, .3*v, 1, 0), translate_x=lambda im, v: affine(im, 1, 0, .3*v*im.size[0], 0, 1, 0),
    translate_y=lambda im, v: affine(im, 1, 0, 0, 0, 1, .3*v*im.size[1]))

@pytest.mark.parametrize('size', [(24, 24), (24, 30)])
@pytest.mark.parametrize('v', [-1., -.4, .7, 1.])
@pytest.mark.parametrize('name', list(GEOMETRY))
def test_geometry_against_pil(name, v, size):
    "The nearest pixel is PIL's, but for ties in rounding."
    a, kind = rgb(size=size), RandAugment.geometry.index(name)
    got = A.warp(float_batch(a), A.affines(torch.full((len(a),), kind), torch.full((len(a),), v), size), 'nearest')
    assert (differs(got, each(lambda im: GEOMETRY[name](im, v), a)) > .5).float().mean() < .04

# --- properties

@given(shapes, st.integers(0, 3), st.sampled_from([0., .5, 1.]))
def test_views_keep_form(shape, n, p):
    x = torch.rand(shape)
    before = x.clone()
    for view in (RandAugment(n, p), StrongView(RandAugment(n, p)), CTAugment(n), StrongView(weak=WeakView(flip=.5)), Cutout(.3)):
        v = view.view(x)
        assert v.shape == x.shape and v.dtype == x.dtype and torch.isfinite(v).all() and v.min() >= 0 and v.max() <= 1 and torch.equal(x, before)

@given(st.integers(0, 1000))
def test_same_seed_same_view(seed):
    x = torch.rand(20, 3, 9, 7)
    def draw(s):
        torch.manual_seed(s)
        return StrongView().view(x)
    assert torch.equal(draw(seed), draw(seed)) and not torch.equal(draw(seed), draw(seed+1))

def test_nothing_at_magnitude_0():
    x = float_batch(rgb())
    ops = [o for o in RandAugment.pool if o not in ('autocontrast', 'equalize')]
    for _ in range(5): assert torch.allclose(RandAugment(2, 1., magnitude=0, ops=ops).view(x), x, atol=1e-4)
    assert torch.equal(RandAugment(0).view(x), x) and torch.equal(RandAugment(2, 0.).view(x), x) and torch.equal(Cutout(0.).view(x), x)

def test_each_image_is_its_own():
    "A view of an image is of that image: positions are kept, and an image that was left alone is as it was."
    x = torch.arange(64.).view(64, 1, 1, 1).expand(-1, 3, 8, 8)/64
    v, used = RandAugment(1, .5, ops=('identity', 'translate_x')).run(x, RandAugment().draw)
    assert torch.equal(v[used[0] < 0], x[used[0] < 0]) and (used >= 0).sum() == 32
    assert torch.allclose(v.amax((1, 2, 3)), x[:, 0, 0, 0], atol=1e-5)

def test_operations_are_drawn_evenly():
    aug, counts = RandAugment(1, .5), torch.zeros(len(RandAugment.pool))
    for b in (7, 64):
        counts.zero_()
        for _ in range(400):
            for o, s, e in aug.slices(b): counts[o] += e-s
        assert abs(counts.sum()/400/b - .5) < .03 and (counts/counts.sum()*14 - 1).abs().max() < .4
    for _ in range(20):
        plan = aug.slices(448)
        assert {e-s for _, s, e in plan} == {16} and [s for _, s, _ in plan][1:] == [e for _, _, e in plan][:-1]

def test_images_do_not_depend_on_each_other():
    "An operation on a batch is that operation on each image."
    x, m = float_batch(rgb()), torch.linspace(.1, .9, 6)
    for f in RandAugment.colors.values(): assert torch.allclose(f(x, m), torch.cat([f(x[i:i+1], m[i:i+1]) for i in range(6)]), atol=1e-6)

def test_cutout():
    for size in ((32, 32), (10, 31)):
        holes = (Cutout(.5).view(torch.ones(500, 2, *size)) == .5)
        assert (holes[:, 0] == holes[:, 1]).all()
        for o in holes[:50, 0]:
            ys, xs = o.any(1).nonzero(), o.any(0).nonzero()
            assert o.sum() == len(ys)*len(xs) and len(ys) <= round(size[0]*.5) and len(xs) <= round(size[1]*.5)
        assert holes.float().mean((0, 1)).min() > .05

def test_bad_arguments():
    for make in (lambda: RandAugment(p=2), lambda: RandAugment(-1), lambda: RandAugment(magnitude=(.5, .2)), lambda: RandAugment(ops=('no',)),
            lambda: RandAugment(ops=()), lambda: Cutout(2.)):
        with pytest.raises(ValueError): make()
    with pytest.raises(TypeError, match='float images'): RandAugment().view(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))

def test_as_batch_transform():
    "In a fastai pipeline: on training batches only, after the division, before normalization."
    x = TensorImage(torch.randint(0, 256, (16, 3, 12, 12), dtype=torch.uint8))
    stats = torch.full((1, 3, 1, 1), .5), torch.full((1, 3, 1, 1), .25)
    fs = [Normalize(*stats), StrongView(), WeakView(), IntToFloatTensor()]
    names = [type(f).__name__ for f in Pipeline(fs).fs]
    assert names == ['WeakView', 'IntToFloatTensor', 'StrongView', 'Normalize']
    train, valid = (Pipeline(fs, split_idx=i)(x) for i in (0, 1))
    assert isinstance(train, TensorImage) and torch.allclose(valid.as_subclass(torch.Tensor), (x.as_subclass(torch.Tensor)/255-.5)/.25)
    assert train.min() >= -2-1e-5 and train.max() <= 2+1e-5 and not torch.equal(train, valid)

def test_strong_view_of_the_loader():
    "`BatchViews.strong` distorts after the loader's own transforms and before normalization."
    x = torch.randint(0, 256, (8, 3, 12, 12), dtype=torch.uint8)
    norm = Normalize(torch.full((1, 3, 1, 1), .5), torch.full((1, 3, 1, 1), .25))
    views = BatchViews(SimpleNamespace(after_batch=Pipeline([norm, IntToFloatTensor()])), TensorImage(x), weak=False)
    half = SimpleNamespace(view=lambda o: o/2)
    assert type(views.strong(x, half)) is torch.Tensor and torch.allclose(views.strong(x, half), (x/510-.5)/.25, atol=1e-6)

# --- learned magnitudes

def test_ctaugment_update():
    "Bins that were used move towards the model's answer, once for each use, one after the other."
    ct, C = CTAugment(n=1, bins=3, decay=.9), 4
    y, p = torch.eye(C)[[0, 1, 2]], torch.tensor([[1., 0, 0, 0], [.5, .5, 0, 0], [.25, .25, .25, .25]])
    ct.update(torch.tensor([[5, 7, -1]]), p, y)
    want = torch.ones(14*3)
    want[5], want[7] = .9*1+.1*1, .9*1+.1*.5
    assert torch.allclose(ct.weights.flatten(), want)
    ct.update(torch.tensor([[7, 7, 7]]), p[[1, 1, 1]], y[[1, 1, 1]])
    assert torch.isclose(ct.weights.flatten()[7], torch.tensor(.95*.9**3+.5*(1-.9**3)))

def test_ctaugment_draws_good_bins():
    ct = CTAugment(bins=4)
    ct.weights[:] = torch.tensor([.9, .85, .79, .1])
    m, used = ct.draw(torch.arange(14).repeat(500))
    assert m.max() < .5 and set((used % 4).tolist()) == {0, 1}
    ct.weights[:] = .1
    assert set((ct.draw(torch.arange(14).repeat(50))[1] % 4).tolist()) == {0, 1, 2, 3}
    v, used = ct.probe(torch.rand(20, 3, 8, 8))
    assert v.shape == (20, 3, 8, 8) and used.shape == (2, 20)
