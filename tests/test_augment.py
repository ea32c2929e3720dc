"Strong views: each operation against PIL, and properties over random batches of any size."
import numpy as np, pytest, torch, torchvision.transforms.v2.functional as TF
from fastai.vision.all import Pipeline, RandomErasing, TensorImage, Normalize, IntToFloatTensor
from fastai_mixmatch import augment as A
from fastai_mixmatch.all import BatchViews, CTAugment, Cutout, RandAugment, StrongView, WeakView
from hypothesis import given, strategies as st
from photos import S, least_p, one_image, photo_parts
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
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

ENHANCE = dict(brightness=ImageEnhance.Brightness, color=ImageEnhance.Color, contrast=ImageEnhance.Contrast, sharpness=ImageEnhance.Sharpness)
PAPER, CODE, CT = (A.spaces[o] for o in ('paper', 'code', 'ctaugment'))

@pytest.mark.parametrize('m', [0., .3, .7, 1.])
@pytest.mark.parametrize('name, pil', list(ENHANCE.items()))
def test_blends_against_pil(name, pil, m):
    a = rgb()
    got = PAPER.colors[name](float_batch(a), torch.full((len(a),), m))
    assert differs(got, each(lambda im: pil(im).enhance(1-.95*m), a)).max() <= 1.6

@pytest.mark.parametrize('bits', range(1, 9))
def test_posterize_against_pil(bits):
    a = rgb()
    want = each(lambda im: ImageOps.posterize(im, bits), a)
    assert differs(A.posterize(float_batch(a), torch.full((len(a),), 8.-bits)), want).max() < 1e-3
    if bits >= 4: assert differs(PAPER.colors['posterize'](float_batch(a), torch.full((len(a),), (8-bits)/4)), want).max() < 1e-3

@pytest.mark.parametrize('threshold', [256, 255, 200, 128, 1, 0])
def test_solarize_against_pil(threshold):
    a = rgb()
    m = torch.full((len(a),), 1-(threshold-.5)/256 if threshold else 1.)
    assert differs(PAPER.colors['solarize'](float_batch(a), m.clamp(0, 1)), each(lambda im: ImageOps.solarize(im, threshold), a)).max() < 1e-3

@pytest.mark.parametrize('name', ['autocontrast', 'equalize'])
def test_histograms_against_pil(name):
    a = np.concatenate([rgb(), np.full((1, 24, 30, 3), 77, np.uint8), (rgb(1)//64*64)])
    got = PAPER.colors[name](float_batch(a), torch.ones(len(a)))
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
    a, kind = rgb(size=size), A.moves.index(name)
    got = A.warp(float_batch(a), A.affines(torch.full((len(a),), kind), torch.full((len(a),), v), size), 'nearest')
    assert (differs(got, each(lambda im: GEOMETRY[name](im, v), a)) > .5).float().mean() < .04

# --- the ranges of the authors' code, at each of its nine levels and at 0, against PIL

def pil_code(op, level):
    "The operation as FixMatch's code calls it in PIL, `level` from 0 to 9"
    v = level/10
    if op in ENHANCE: return lambda im: ENHANCE[op](im).enhance(.1+1.8*v)
    return dict(posterize=lambda im: ImageOps.posterize(im, 4-int(level*4/10)), solarize=lambda im: ImageOps.solarize(im, 256-int(level*256/10)),
        autocontrast=ImageOps.autocontrast, equalize=ImageOps.equalize)[op]

@pytest.mark.parametrize('level', range(10))
@pytest.mark.parametrize('op', [o for o in CODE.colors])
def test_colors_of_the_code(op, level):
    a = rgb()
    got = CODE.colors[op](float_batch(a), torch.full((len(a),), level/10))
    assert differs(got, each(pil_code(op, level), a)).max() <= (1.6 if op in (*ENHANCE, 'autocontrast') else 1e-3)

GRAY = dict(fillcolor=(128,)*3)
def pil_moved(op, v):
    "In PIL: rotation by up to 30 degrees, shear by up to 0.3, translation by up to 10 of 32 pixels, gray moves in"
    if op == 'rotate': return lambda im: im.rotate(30*v, **GRAY)
    c = dict(shear_x=(1, .3*v, 0, 0, 1, 0), shear_y=(1, 0, 0, .3*v, 1, 0), translate_x=(1, 0, 10*v, 0, 1, 0), translate_y=(1, 0, 0, 0, 1, 10*v))[op]
    return lambda im: im.transform(im.size, Image.AFFINE, c, **GRAY)

@pytest.mark.parametrize('level', [1, 4, 9])
@pytest.mark.parametrize('op', A.moves[:5])
def test_moves_of_the_code(op, level):
    a = rgb(size=(32, 32))
    m = torch.full((len(a),), level/10)
    matrices = A.affines(torch.full((len(a),), A.moves.index(op)), m, (32, 32), CODE.degrees, CODE.shift)
    got = A.warp(float_batch(a), matrices, CODE.mode, CODE.fill)
    assert (differs(got, each(pil_moved(op, level/10), a)) > 1).float().mean() < (1e-3 if 'translate' in op else .04)

def test_which_space_does_what():
    "The levels that are drawn, read off the views of one gray image: nine shades in the code, all between 0.05 and 1 in the paper."
    x = torch.full((3000, 1, 1, 1), .5)
    factors = lambda **kw: (RandAugment(1, 1., ops=('brightness',), **kw).view(x)/.5).flatten()
    code, paper = factors(space='code'), factors()
    shades, counts = code.mul(100).round().unique(return_counts=True)
    assert torch.equal(shades, torch.arange(28., 173, 18)) and (counts/3000-1/9).abs().max() < .03
    assert .05 <= paper.min() < .06 and .99 < paper.max() <= 1
    assert torch.equal(factors(space='code', magnitude=1.).mul(100).round().unique(), torch.tensor([172.]))
    assert [RandAugment(**kw).mode for kw in ({}, dict(space='code'), dict(space='code', mode='bilinear'))] == ['bilinear', 'nearest', 'bilinear']
    a = RandAugment(1, 1., ops=('translate_x',), space='code', magnitude=1.).view(torch.ones(64, 1, 32, 32))
    assert ((a == .5).sum((1, 2, 3)) == 32*9).all() and {bool(o) for o in a[:, 0, 0, 0] == .5} == {True, False}

# --- CTAugment's own operations against PIL

def ct_pil(op, v):
    "The operation as ReMixMatch's code calls it in PIL, `v` in [0,1)"
    if op in ENHANCE: return lambda im: ENHANCE[op](im).enhance(.1+1.9*v)
    f = dict(autocontrast=ImageOps.autocontrast, equalize=ImageOps.equalize, invert=ImageOps.invert, blur=lambda im: im.filter(ImageFilter.BLUR),
        smooth=lambda im: im.filter(ImageFilter.SMOOTH)).get(op)
    if f: return lambda im: Image.blend(im, f(im), v)
    return dict(posterize=lambda im: ImageOps.posterize(im, 1+int(v*7.999)), solarize=lambda im: ImageOps.solarize(im, int(v*255.999)))[op]

@pytest.mark.parametrize('v', [0., .2, .45, .5, .8, .99])
@pytest.mark.parametrize('op', [o for o in CT.colors if o != 'cutout'])
def test_colors_of_ctaugment(op, v):
    a = rgb()
    got = CT.colors[op](float_batch(a), torch.full((len(a),), v))
    assert differs(got, each(ct_pil(op, v), a)).max() <= (1e-3 if op in ('posterize', 'solarize') else 2.1)

def test_pool_of_ctaugment():
    assert set(CT.pool) == {*'autocontrast blur brightness color contrast cutout equalize identity invert posterize rescale rotate sharpness'.split(),
        *'shear_x shear_y smooth solarize translate_x translate_y'.split()} and len(CT.pool) == 19
    assert set(CT.pool)-set(PAPER.pool) == {'blur', 'cutout', 'invert', 'rescale', 'smooth'} and PAPER.pool == CODE.pool and len(PAPER.pool) == 14

@pytest.mark.parametrize('v', [0., .3, 1.])
def test_rescale(v):
    "The middle of the image, `1-v/2` of its height and width, enlarged."
    a = rgb(size=(32, 40))
    want = each(lambda im: im.transform(im.size, Image.EXTENT, (v*10, v*8, 40-v*10, 32-v*8), Image.NEAREST), a)
    got = A.warp(float_batch(a), A.affines(torch.full((len(a),), 5), torch.full((len(a),), v), (32, 40)), 'nearest')
    assert (differs(got, want) > 1).float().mean() < .02

def test_cutout_of_ctaugment():
    "The square grows with the magnitude of each image, up to half of its height and width."
    m = torch.linspace(0, 1, 33).repeat(20)
    holes = (CT.colors['cutout'](torch.ones(len(m), 2, 32, 32), m) == .5).float().mean((1, 2, 3)).view(20, 33).amax(0)
    want = (torch.linspace(0, 16, 33).round()/32)**2
    assert holes[0] == 0 and (holes <= want+1e-6).all() and (holes-want).abs().max() < .02

@pytest.mark.parametrize('op, far', [('rotate', 45), ('shear_x', .3), ('translate_y', .3)])
def test_bins_tell_left_from_right(op, far):
    "The middle bin does nothing, and bins of both ends move as far, in opposite directions."
    ct = CTAugment(1, 1., ops=(op,))
    kind = torch.full((3,), A.moves.index(op))
    assert torch.equal(ct.signed(kind, torch.tensor([0., .5, 1.])), torch.tensor([-1., 0., 1.]))
    assert ct.signed(torch.tensor([5]), torch.tensor([.3])) == .3
    assert (ct.ranges.degrees if op == 'rotate' else .3) == far and ct.ranges.shift == .3

# --- what is small, gray, or of other channels

@pytest.mark.parametrize('name, pil, least', [('smooth', ImageFilter.SMOOTH, 3), ('blur', ImageFilter.BLUR, 5)])
def test_filters_of_the_smallest_images(name, pil, least):
    "Of gray images, too. The smallest that a filter fits in has one pixel that changes, and where it does not fit, none."
    for size in ((least, least), (9, 7)):
        a = rgb(3, size)
        got = getattr(A, name)(float_batch(a))
        assert differs(got, each(lambda im: im.filter(pil), a)).max() <= 1 and not torch.equal(got, float_batch(a))
        assert torch.allclose(getattr(A, name)(float_batch(a)[:, :1]), got[:, :1], atol=1e-6)
    for size in ((least-1, 9), (9, least-1), (1, 1)):
        x = torch.rand(2, 3, *size)
        assert torch.equal(getattr(A, name)(x), x)

@pytest.mark.parametrize('c', [1, 2, 4, 5])
def test_gray_of_other_channels(c):
    "It is their mean: of 1 channel itself, so that `color` leaves it alone."
    x = torch.rand(3, c, 4, 5)
    gray = torch.stack([sum(o)/c for o in x])[:, None]
    assert torch.allclose(A.to_gray(x), gray, atol=1e-6)
    assert torch.allclose(A.color(x, torch.full((3,), .3)), .7*x+.3*gray, atol=1e-6)

def test_histograms_of_what_is_no_byte():
    "Rounding neither becomes black and white nor wraps around, and a channel that equalization leaves alone keeps its fractions."
    x = torch.full((1, 1, 4, 4), .5)
    x[..., 0, 0] += 6e-8
    assert A.autocontrast(x).max()-A.autocontrast(x).min() < .1
    a = rgb(1)
    x = float_batch(a)
    beyond = torch.where(x == x.amin((2, 3), keepdim=True), -.003, torch.where(x == x.amax((2, 3), keepdim=True), 1.003, x))
    assert torch.equal(A.equalize(beyond), A.equalize(beyond.clamp(0, 1)))
    x[:, 1] = .3003
    assert torch.equal(A.equalize(x)[:, 1], x[:, 1]) and not torch.equal(A.equalize(x)[:, 0], x[:, 0])

@pytest.mark.parametrize('n, length', [(5, 1), (6, 2), (7, 3), (8, 4), (9, 9), (4, 0)])
def test_cut_is_around_any_pixel(n, length):
    "`length` pixels from half of them before a pixel on; every pixel is chosen, and what lies outside is lost."
    x = A.cut(torch.ones(40*n*n, 1, n, n), length/n)[:, 0]
    want = {tuple(max(0, c-length//2) <= i < c-length//2+length for i in range(n)) for c in range(n)}
    for dim in (1, 2): assert {tuple(o.tolist()) for o in (x == .5).any(dim)} == (want if length else {(False,)*n})
    if length == 1: assert (torch.bincount((x == .5).any(1).long().argmax(1))/len(x)*n - 1).abs().max() < .25

# --- properties

@pytest.mark.parametrize('space', A.spaces)
@pytest.mark.parametrize('ops', [None, ('rotate', 'shear_y', 'translate_x')])
def test_each_view_is_that_of_its_own_operation(space, ops):
    "`run` names the operation that each image got; done to that image alone, to one side or the other, it gives the view."
    m, x = .5, torch.rand(130, 3, 12, 10)
    aug = RandAugment(1, .9, magnitude=m, space=space, ops=ops if ops is None else (*ops, *aug_extra(space)))
    v, used = aug.run(x, aug.draw)
    r, m = aug.ranges, m if aug.ranges.levels is None else aug.draw(torch.zeros(1, dtype=torch.long))[0].item()
    assert set(used[0].tolist()) == {-1, *(aug.pool.index(o) for o in aug.ops)}
    for a, b, o in zip(x[:, None], v[:, None], used[0].tolist()):
        name = aug.pool[o] if o >= 0 else 'identity'
        if name == 'cutout': continue # Where it cuts is drawn
        if name in A.moves:
            kind = torch.tensor([A.moves.index(name)])
            want = [A.warp(a, A.affines(kind, torch.tensor([k*m]), (12, 10), r.degrees, r.shift), r.mode, r.fill) for k in (1, -1)]
        else: want = [r.colors[name](a, torch.tensor([m]))] if name in r.colors else [a]
        assert any(torch.allclose(b, o.clamp(0, 1), atol=1e-5) for o in want), name

def aug_extra(space): return ('rescale',) if space == 'ctaugment' else ()

def test_values_stay_in_range():
    x = torch.rand(20, 3, 4, 4)*2-.5
    for aug in (RandAugment(0), RandAugment(2, 0.)): assert torch.equal(aug.view(x), x.clamp(0, 1))

@given(shapes, st.integers(0, 3), st.sampled_from([0., .5, 1.]))
def test_views_keep_form(shape, n, p):
    x = torch.rand(shape)
    before = x.clone()
    for view in (RandAugment(n, p), StrongView(RandAugment(n, p)), CTAugment(n), Cutout(.3)):
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
    ops = [o for o in PAPER.pool if o not in ('autocontrast', 'equalize')]
    for _ in range(5): assert torch.allclose(RandAugment(2, 1., magnitude=0, ops=ops).view(x), x, atol=1e-4)
    assert torch.equal(RandAugment(0).view(x), x) and torch.equal(RandAugment(2, 0.).view(x), x) and torch.equal(Cutout(0.).view(x), x)

def test_each_image_is_its_own():
    "A view of an image is of that image: positions are kept, and an image that was left alone is as it was."
    x = torch.arange(64.).view(64, 1, 1, 1).expand(-1, 3, 8, 8)/64
    v, used = RandAugment(1, .5, ops=('identity', 'translate_x')).run(x, RandAugment().draw)
    assert torch.equal(v[used[0] < 0], x[used[0] < 0]) and (used >= 0).sum() == 32
    assert torch.allclose(v.amax((1, 2, 3)), x[:, 0, 0, 0], atol=1e-5)

def test_operations_are_drawn_evenly():
    aug, counts = RandAugment(1, .5), torch.zeros(len(PAPER.pool))
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
    for f in (*PAPER.colors.values(), *CODE.colors.values(), *(f for k, f in CT.colors.items() if k != 'cutout')):
        assert torch.allclose(f(x, m), torch.cat([f(x[i:i+1], m[i:i+1]) for i in range(6)]), atol=1e-6)

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
            lambda: RandAugment(ops=()), lambda: RandAugment(space='no'), lambda: RandAugment(ops=('invert',)), lambda: Cutout(2.)):
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

@pytest.mark.parametrize('end', [[], [Normalize(torch.full((1, 3, 1, 1), .5), torch.full((1, 3, 1, 1), .25))]], ids=['plain', 'normalized'])
def test_strong_view_comes_before_erasing(end):
    "`RandomErasing` fills in noise that is no color"
    x, seen = torch.randint(0, 256, (8, 3, 12, 12), dtype=torch.uint8), []
    views = BatchViews(SimpleNamespace(after_batch=Pipeline([IntToFloatTensor(), RandomErasing(p=1.), *end])), TensorImage(x))
    res = views.strong(x, SimpleNamespace(view=lambda o: seen.append(o) or o))
    assert torch.equal(seen[0], x/255) and not torch.allclose(res, (x/255-.5)/.25 if end else x/255)

# --- learned magnitudes

def test_ctaugment_update():
    "Bins that were used move towards the model's answer, once for each use, one after the other."
    ct, C = CTAugment(n=1, bins=3, decay=.9), 4
    y, p = torch.eye(C)[[0, 1, 2]], torch.tensor([[1., 0, 0, 0], [.5, .5, 0, 0], [.25, .25, .25, .25]])
    ct.update(torch.tensor([[5, 7, -1]]), p, y)
    want = torch.ones(19*3)
    want[5], want[7] = .9*1+.1*1, .9*1+.1*.5
    assert torch.allclose(ct.weights.flatten(), want)
    ct.update(torch.tensor([[7, 7, 7]]), p[[1, 1, 1]], y[[1, 1, 1]])
    assert torch.isclose(ct.weights.flatten()[7], torch.tensor(.95*.9**3+.5*(1-.9**3)))

def test_ctaugment_update_of_two_passes():
    "The first bin of all is one like others; each pass of an image is judged by that image's answer; what no image had is none."
    ct = CTAugment(bins=3, decay=.9)
    ct.weights[:] = .7
    ct.update(torch.tensor([[0, 4], [1, -1]]), torch.tensor([[1., 0], [.4, .6]]), torch.eye(2)[[0, 0]])
    want = torch.full((19*3,), .7)
    want[0], want[4], want[1] = .9*.7+.1*1, .9*.7+.1*.4, .9*.7+.1*1
    assert torch.allclose(ct.weights.flatten(), want)

def test_ctaugment_draws_at_the_threshold():
    ct = CTAugment(threshold=.5, decay=1., bins=3)
    ct.weights[:] = torch.tensor([1., .5, .4])
    assert torch.equal(ct.chances(), torch.tensor([[1., .5, 0.]]*19))

def test_strong_view_hands_on_what_is_learned():
    a, b = StrongView(CTAugment()), StrongView(CTAugment())
    a.aug.weights[3] = .2
    b.load_state_dict(a.state_dict())
    assert torch.equal(b.aug.weights, a.aug.weights) and b.aug.weights is not a.aug.weights
    plain = StrongView()
    assert plain.state_dict() == {}
    plain.load_state_dict({})

def rate_to_p(w, th=.8, decay=.99):
    "A bin's chance, in float64: relative to the best bin of the operation"
    p = np.asarray(w, dtype=np.float64)+(1-decay)
    p = p/p.max()
    p[p < th] = 0
    return p/p.sum()

@pytest.mark.parametrize('w', [[.79]*16+[.81], [1.]*17, [.1]*17, [0.]*17, [.9, .85, .79, .1]+[0.]*13, list(np.linspace(.5, 1, 17)),
    [1.]+[.789]*8+[.797]*8])
def test_ctaugment_draws_what_is_near_the_best(w):
    "The threshold is relative to the best bin of the operation: where sixteen stand at 0.79 and one at 0.81, all 17 are drawn."
    ct, n = CTAugment(), 40000
    op = ct.pool.index('rotate')
    ct.weights[:] = torch.rand(19, 17)
    ct.weights[op] = torch.tensor(w)
    m, used = ct.draw(torch.full((n,), op))
    counts, p = np.bincount(used-op*17, minlength=17), rate_to_p(w)
    assert ((counts > 0) == (p > 0)).all()
    assert (abs(counts/n-p) < 5*(p*(1-p)/n)**.5+1e-9).all()
    assert torch.equal((m*17).floor().long(), used-op*17)
    if w[0] == .79: assert (counts > 0).all()

def test_ctaugment_probes_uniformly():
    "All bins and all magnitudes within them, whatever the weights."
    from scipy.stats import kstest
    ct, n = CTAugment(1), 20000
    ct.weights[:] = torch.rand(19, 17)
    m, used = ct.draw_uniform(torch.arange(19).repeat(n))
    assert kstest(m[:n].numpy(), 'uniform').pvalue > 1e-3 and (torch.bincount(used, minlength=19*17)/n*17-1).abs().max() < .2
    v, used = ct.probe(torch.rand(20, 3, 8, 8))
    assert v.shape == (20, 3, 8, 8) and used.shape == (1, 20) and (used >= 0).all()

def test_ctaugment_probe_says_what_it_did():
    "The bin that is named for an image is the one by which its view was made."
    ct = CTAugment(1, 1., ops=('brightness',))
    v, used = ct.probe(torch.full((200, 1, 2, 2), .5))
    level = (v[:, 0, 0, 0]/.5-.1)/1.9
    assert torch.equal((level*17).floor().long().clamp(0, 16), used[0]-ct.pool.index('brightness')*17)

def test_ctaugment_defaults():
    "One wrong answer moves a bin by a hundredth; depth 2, always, 17 bins."
    ct = CTAugment()
    ct.update(torch.tensor([[5]]), torch.tensor([[0., 1.]]), torch.tensor([[1., 0.]]))
    assert torch.isclose(ct.weights.flatten()[5], torch.tensor(.99)) and (ct.weights.flatten() == 1).sum() == 19*17-1
    assert (ct.n, ct.p, ct.bins, ct.threshold, ct.space) == (2, 1., 17, .8, 'ctaugment')
    with pytest.raises(ValueError, match='14, 17'): ct.load_state_dict(dict(weights=torch.ones(14, 17)))

class Judge(torch.nn.Module):
    "Knows whether the left or the right half is lighter, but says the contrary of images that have become lighter than they were"
    def __init__(self, *_):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))
    def forward(self, x):
        left, right = x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3))
        side = torch.where(right > left, 1., -1.)*torch.where(torch.maximum(left, right) > .5, -1., 1.)
        return torch.stack([-side, side], 1)*50*(1+0*self.w)

def test_a_method_teaches_ctaugment_with_each_image_its_own_label():
    "Bins that make images darker keep the full weight, as the judge is right about each of them; those that make them lighter lose it."
    from fastai.vision.all import DataLoader as DL, DataLoaders
    from fastai_mixmatch.all import FixMatch, ssl_learner
    sides = torch.arange(40) % 2
    x = torch.zeros(40, 1, 8, 8)
    for i, s in enumerate(sides): x[i, :, :, s*4:s*4+4] = .5
    dls = DataLoaders(*[DL(list(zip(x, sides)), bs=10, shuffle=b) for b in (True, False)])
    dls.c = 2
    ct = CTAugment(1, 1., ops=('brightness',))
    learn = ssl_learner(dls, x, Judge, method=FixMatch(strong=StrongView(ct, cutout=0.)), weak=False)
    with learn.no_bar(), learn.no_logging(): learn.fit(12)
    w = ct.weights[ct.pool.index('brightness')]
    assert (w[:8] == 1).all() and (w[9:] < .99).all()

# --- what a strong view is made of

def test_settings():
    "FixMatch's: two operations, any magnitude, half of the height and width cut; and when each transform comes."
    a, c, v = RandAugment(), Cutout(), StrongView()
    assert (a.n, a.p, a.magnitude, a.space, a.mode, a.ops) == (2, .5, (0., 1.), 'paper', 'bilinear', list(PAPER.pool))
    assert (c.size, v.cutout.size, repr(v.aug)) == (.5, .5, repr(a))
    assert (a.order, c.order, v.order, a.split_idx, c.split_idx, CTAugment().order) == (90, 91, 90, 0, 0, 90)
    assert {k: (o.degrees, o.shift, o.fill, o.mode, o.levels) for k, o in A.spaces.items()} == dict(paper=(30, .3, 0., 'bilinear', None),
        code=(30, 10/32, .5, 'nearest', 9), ctaugment=(45, .3, 0., 'bilinear', None))
    for kw in (dict(p=0.), dict(p=1.), dict(n=0), dict(magnitude=0.), dict(magnitude=1.), dict(magnitude=(.3, .3)), dict(magnitude=(0, 1))): RandAugment(**kw)
    for kw in (dict(p=-.01), dict(p=1.01), dict(n=1.5), dict(magnitude=-.1), dict(magnitude=1.1), dict(magnitude=(0., 1.1))):
        with pytest.raises(ValueError): RandAugment(**kw)
    assert Cutout(1.).size == 1. and Cutout(0.).size == 0.
    for size in (-.01, 1.01):
        with pytest.raises(ValueError): Cutout(size)

def test_half_of_the_operations_happen():
    "By default two passes, in each of which half of the images are left alone."
    aug, x = StrongView().aug, torch.rand(400, 3, 4, 4)
    used = aug.run(x, aug.draw)[1]
    assert used.shape == (2, 400) and ((used >= 0).sum(1) == 200).all() and used.min() == -1
    both = ((used >= 0).sum(0) == 2).float().mean()
    assert abs(both-.25) < .1

def test_cutout_comes_last():
    white = SimpleNamespace(view=torch.ones_like)
    v = StrongView(white, cutout=.5).view(torch.rand(50, 3, 16, 16))
    assert set(v.unique().tolist()) == {.5, 1.} and ((v == .5).flatten(1).any(1)).all()

def test_the_weak_view_comes_first():
    "Shift and flip are in the strong view: by the loader's part, with and without normalization, and as a batch transform of its own."
    x, weak, same = torch.randint(0, 256, (20, 3, 12, 12), dtype=torch.uint8), WeakView(1/4, flip=.5), SimpleNamespace(view=lambda o: o)
    f = IntToFloatTensor(), Normalize(torch.full((1, 3, 1, 1), .5), torch.full((1, 3, 1, 1), .25))
    def seeded(g):
        torch.manual_seed(0)
        return g()
    for fs, kw in ((f, dict(weak=weak)), (f[:1], dict(weak=weak)), ((weak, *f), {})):
        views = BatchViews(SimpleNamespace(after_batch=Pipeline(fs)), TensorImage(x), **kw)
        strong = seeded(lambda: views.strong(x, same))
        assert torch.allclose(strong, seeded(lambda: views(x)), atol=1e-6)
        plain = BatchViews(SimpleNamespace(after_batch=Pipeline(fs[-2:])), TensorImage(x), weak=False)
        assert not torch.allclose(strong, plain(x), atol=.1)

# --- on photographs, against torchvision's transforms of one image: views of both have the same distribution

@pytest.fixture(scope='module')
def photos(): return photo_parts()

def sign(): return 2*np.random.randint(2)-1
def shear(im, *deg): return TF.affine(im, 0, [0, 0], 1, [float(np.degrees(np.arctan(o))) for o in deg], center=[0, 0])
def move(im, dx, dy): return TF.affine(im, 0, [dx, dy], 1, [0, 0])

def blend(f): return lambda im, m: (f(im.float()/255, 1-.95*m)*255).round().to(torch.uint8) # On integers, torchvision cuts fractions off

# Operation → torchvision's, of an image and a magnitude from 0 to 1: FixMatch's ranges
OPS = dict(
    autocontrast=lambda im, m: TF.autocontrast(im), brightness=blend(TF.adjust_brightness), color=blend(TF.adjust_saturation),
    contrast=blend(TF.adjust_contrast), equalize=lambda im, m: TF.equalize(im), posterize=lambda im, m: TF.posterize(im, 8-round(4*m)),
    sharpness=blend(TF.adjust_sharpness), solarize=lambda im, m: TF.solarize(im, 256*(1-m)) if m>1/256 else im, identity=lambda im, m: im,
    rotate=lambda im, m: TF.rotate(im, 30*m*sign()), shear_x=lambda im, m: shear(im, .3*m*sign(), 0), shear_y=lambda im, m: shear(im, 0, .3*m*sign()),
    translate_x=lambda im, m: move(im, .3*S*m*sign(), 0), translate_y=lambda im, m: move(im, 0, .3*S*m*sign()))

def theirs(photos, name, top=1.): return torch.stack([OPS[name](im, np.random.uniform(0, top)) for im in photos])
def ours(photos, name, **kw): return (RandAugment(1, 1., ops=(name,), mode='nearest', **kw).view(photos.float()/255)*255).round().to(torch.uint8)

def test_every_operation_is_here(): assert list(OPS) == list(PAPER.pool)

FIXED = ['autocontrast', 'equalize', 'identity']
moved = pytest.mark.parametrize('name', [o for o in OPS if o not in FIXED])

@moved
def test_operation(photos, name):
    "Of one photograph, so that views differ by their magnitudes alone"
    assert least_p(ours(one_image(photos), name), theirs(one_image(photos), name)) > .01

@moved
def test_the_test_sees_another_range(photos, name):
    "Magnitudes that are 30 % smaller have another distribution, and the traits tell."
    assert least_p(ours(one_image(photos), name, magnitude=(0., .7)), theirs(one_image(photos), name)) < .01

@pytest.mark.parametrize('name', FIXED)
def test_operations_without_magnitude_are_equal(photos, name):
    assert (ours(photos, name).int()-theirs(photos, name).int()).abs().max() <= (name == 'autocontrast')
