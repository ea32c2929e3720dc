"Losses and ramps: against the float64 oracle, and what holds for every input."
import numpy as np, oracle, pandas as pd, pytest, re, torch
from fastai_mixmatch import losses, mixup
from fastai_mixmatch.mixmatch import MixMatch
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numeric import arr, close, dtypes, each_dtype, mixes, probs, rng, seeds, tens
import torch.nn.functional as F

# --- the paper's formulas

@each_dtype
@pytest.mark.parametrize('n,C', [(1, 2), (13, 10), (4, 1000)])
@pytest.mark.parametrize('scale', [1., 30.])
def test_losses_and_their_gradients(dtype, n, C, scale):
    z, y = tens(rng().normal(size=(n, C)) * scale, dtype).requires_grad_(), probs((n, C), dtype)
    for f, g, dg in [(losses.soft_cross_entropy, oracle.cross_entropy, oracle.d_cross_entropy), (losses.l2_loss, oracle.l2, oracle.d_l2)]:
        out = f(z, y)
        want = g(arr(z), arr(y))
        close(out, want, dtype, max(1., want))        # beyond 1, to the tolerance relatively
        close(torch.autograd.grad(out, z)[0], dg(arr(z), arr(y)), dtype)

def test_losses_by_hand():
    z, y = torch.tensor([[0., 0.], [0., 0.]], dtype=torch.float64), torch.tensor([[1., 0.], [.5, .5]], dtype=torch.float64)
    close(losses.soft_cross_entropy(z, y), np.log(2), torch.float64)
    close(losses.l2_loss(z, y), .125, torch.float64)     # (.25 + .25 + 0 + 0) / 4

@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16])
def test_losses_of_half_are_float32(half):
    z, y = torch.randn(8, 10).mul(5).to(half), probs((8, 10), torch.float32)
    close(losses.soft_cross_entropy(z, y), oracle.cross_entropy(arr(z), arr(y)), torch.float32, 10)
    close(losses.l2_loss(z, y), oracle.l2(arr(z), arr(y)), torch.float32)

@pytest.mark.parametrize('length', [0., .1, .5, 1., 0, 3, 16384])
def test_ramp(length):
    for done in [0., 1e-9, .05, .1, .3, .5, .999, 1., 2., 100., 16384., 1e6]:
        got = losses.ramp_weight(length, done, done)
        assert abs(got - oracle.linear_ramp(done, length)) < 1e-10 and type(got) is float

def test_ramp_weight():
    "A float is a fraction of training, an integer a number of steps."
    for pct, step in [(0., 0), (.1, 50), (.4, 200), (1., 500)]:
        assert abs(losses.ramp_weight(.4, pct, step) - oracle.linear_ramp(pct, .4)) < 1e-10
        assert abs(losses.ramp_weight(200, pct, step) - oracle.linear_ramp(step, 200)) < 1e-10
        assert losses.ramp_weight(0, pct, step) == losses.ramp_weight(0., pct, step) == 1.
    assert losses.ramp_weight(1, .01, 5) == 1. and losses.ramp_weight(1., .01, 5) == .01      # one step, and the whole run

# --- properties

def logit_arrays(nc): return hnp.arrays(np.float64, nc, elements=st.floats(-1e4, 1e4)).map(torch.tensor)
logits = st.tuples(st.integers(1, 6), st.integers(2, 8)).flatmap(logit_arrays)

@given(logits, st.floats(-1e3, 1e3), seeds, dtypes)
def test_losses(z, shift, seed, dtype):
    "Finite at any logits, bounded as they should be, blind to what is added to all logits, and the usual cross entropy at one-hot targets."
    n, c = z.shape
    r = np.random.default_rng(seed)
    y = torch.tensor(r.dirichlet(np.ones(c), n))
    k = torch.tensor(r.integers(0, c, n))
    hot = F.one_hot(k, c).double()
    ce, l2 = losses.soft_cross_entropy(z, y), losses.l2_loss(z, y)
    assert ce.shape == l2.shape == () and 0 <= l2 <= 2 / c + 1e-12 and ce >= torch.special.entr(y).sum(1).mean() - 1e-9
    torch.testing.assert_close(losses.soft_cross_entropy(z + shift, y), ce, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(losses.l2_loss(z + shift, y), l2, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(losses.soft_cross_entropy(z, hot), F.cross_entropy(z, k), rtol=1e-12, atol=1e-12)
    z, y = z.to(dtype).requires_grad_(), y.to(dtype)
    for f in (losses.soft_cross_entropy, losses.l2_loss):
        g, = torch.autograd.grad(f(z, y), z)
        assert torch.isfinite(g).all() and g.sum(1).abs().max() < 1e-5
    assert losses.l2_loss(z, z.softmax(1)).abs() < 1e-12

@given(logits)
def test_l2_worst_case(z):
    "All mass on the wrong class is the most that eq. 4 can be: 2 / C."
    i = z.argmax(1)
    z = F.one_hot(i, z.shape[1]) * 1e4
    y = F.one_hot((i + 1) % z.shape[1], z.shape[1]).double()
    assert abs(losses.l2_loss(z.double(), y).item() - 2 / z.shape[1]) < 1e-12

@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_ramp_rises_once(a, b, length):
    f = lambda p: losses.ramp_weight(length, p, 0)
    lo, hi = sorted((a, b))
    assert 0 <= f(lo) <= f(hi) <= 1 and f(length) == f(1) == 1
    if length > 0: assert f(0) == 0

@pytest.mark.parametrize('ramp', [0, 1, 16384, 0., .5, 1.])
def test_good_ramps(ramp):
    MixMatch(ramp=ramp)
    at = 8192 if isinstance(ramp, int) else .25
    assert losses.ramp_weight(ramp, 1., 16384) == 1 and losses.ramp_weight(ramp, .25, 8192) == (min(1, at/ramp) if ramp else 1)

@pytest.mark.parametrize('ramp', [-1, -.1, 1.01, 3000., True, False, None, '0.5', 1j, torch.tensor(.5), float('nan'), float('inf')])
def test_bad_ramps(ramp):
    with pytest.raises(ValueError, match=r'MixMatch.ramp: expected a float from .* \(steps\); got '+re.escape(repr(ramp))): MixMatch(ramp=ramp)

# --- what the pieces reduce to

@given(mixes(), st.floats(0, 100))
def test_without_unlabeled_weight_the_loss_is_the_labeled_one(mix, w):
    "lambda_u=0, alpha=0 and one-hot targets: the gradient is that of ordinary cross entropy, and the unlabeled part gets none."
    x, y, _, _ = mix
    n, c = y.shape
    k = y.argmax(1)
    z = torch.randn(2 * n, c, dtype=torch.float64, requires_grad=True)
    mx, my = mixup.mixup(torch.cat([x, x]), torch.cat([F.one_hot(k, c).double(), y]), 0)
    assert torch.equal(mx[:n], x)
    lx, lu = losses.soft_cross_entropy(z[:n], my[:n]), losses.l2_loss(z[n:], my[n:])
    g0, = torch.autograd.grad(lx + 0. * losses.ramp_weight(.5, .5, 0) * lu, z, retain_graph=True)
    want, = torch.autograd.grad(F.cross_entropy(z[:n], k), z)
    torch.testing.assert_close(g0, want, rtol=0, atol=1e-12)
    gw, = torch.autograd.grad(lx + w * lu, z)
    g1 = oracle.d_l2(z.detach().numpy()[n:], my.numpy()[n:])
    np.testing.assert_allclose(gw[n:].numpy(), w * g1, rtol=0, atol=1e-10)

# --- other losses of labeled images

def focal(z, y, w, s, gamma):
    "In float64, one image and class after the other"
    total = norm = 0.
    for r, t in zip(oracle.softmax(z), np.asarray(y, dtype=np.float64)):
        for c, p in enumerate(r):
            total -= w[c]*((1-s)*t[c]+s/len(r))*(1-p)**gamma*np.log(p)
            norm += w[c]*t[c]
    return total/norm

@each_dtype
@pytest.mark.parametrize('gamma', [0., .5, 2., 5.])
@pytest.mark.parametrize('s', [0., .1])
@pytest.mark.parametrize('weighted', [False, True])
def test_labeled_loss(dtype, gamma, s, weighted):
    z, y = tens(rng().normal(size=(9, 6))*2, dtype), probs((9, 6), dtype)
    w = rng(1).uniform(.1, 3, 6) if weighted else np.ones(6)
    f = losses.labeled_loss('focal', gamma=gamma, smoothing=s, weight=torch.tensor(w) if weighted else None)
    close(f(z, y), focal(arr(z), arr(y), w, s, gamma), dtype, 10)
    assert torch.autograd.gradcheck(lambda o: f(o, y.double()), z.double().requires_grad_())

@pytest.mark.parametrize('kw', [dict(), dict(weight=torch.rand(7)+.1), dict(smoothing=.2), dict(weight=torch.rand(7)+.1, smoothing=.2)])
def test_labeled_loss_of_classes_is_torchs(kw):
    z, k = torch.randn(20, 7, dtype=torch.float64), torch.randint(7, (20,))
    want = F.cross_entropy(z, k, weight=kw['weight'].double() if 'weight' in kw else None, label_smoothing=kw.get('smoothing', 0.))
    torch.testing.assert_close(losses.labeled_loss(**kw)(z, F.one_hot(k, 7).double()), want, rtol=0, atol=1e-12)

@pytest.mark.parametrize('scale', [1e-6, 1e-3, 1e3])
def test_class_weights_are_relative(scale):
    "A weighted mean: the same factor on all weights changes nothing, however small it is."
    z, y, w = torch.randn(4, 3, dtype=torch.float64), probs((4, 3), torch.float64), torch.tensor([.2, 1., 3.], dtype=torch.float64)
    torch.testing.assert_close(losses.labeled_loss(weight=w*scale)(z, y), losses.labeled_loss(weight=w)(z, y), rtol=1e-5, atol=0)

def test_labeled_loss_at_the_ends():
    "Finite where the model is certain, right or wrong, and where no label has a weight; the default and one's own are passed through."
    z, y = torch.tensor([[500., -500], [-500, 500]]), torch.tensor([[1., 0], [1, 0]])
    for kw in (dict(gamma=.5), dict(gamma=2.), dict(weight=[0., 1.]), dict(smoothing=.1, gamma=2.)):
        zz = z.clone().requires_grad_()
        loss = losses.labeled_loss(**kw)(zz, y)
        loss.backward()
        assert loss.isfinite() and zz.grad.isfinite().all(), kw
    assert losses.labeled_loss() is losses.soft_cross_entropy and losses.labeled_loss(len) is len
    assert losses.labeled_loss('focal').keywords['gamma'] == 2.
    assert losses.labeled_loss('focal')(z.half(), y).dtype == torch.float32

@pytest.mark.parametrize('kw', [dict(kind='huber'), dict(smoothing=1.), dict(smoothing=-.1), dict(gamma=-1.), dict(weight=[1., -1.]), dict(weight=[1., -.5]),
    dict(weight=[0., 0.]), dict(weight=[1., float('inf')]), dict(weight=[1., float('nan')]),
    dict(kind=len, weight=[1., 2.]), dict(kind=len, smoothing=.1), dict(kind=len, gamma=0.)])
def test_bad_labeled_losses(kw):
    with pytest.raises(ValueError): losses.labeled_loss(**kw)

@pytest.mark.parametrize('weight', [dict(cat=2., dog=1.), {0: 1., 1: 2.}, 'balanced', ['1', '2'], [[1., 2.]], 3., {1., 2.}, [1., None], [1., -1.],
    pd.Series([2., 1.], [1, 0])], ids=str)
def test_class_weights_of_another_form(weight):
    with pytest.raises(ValueError, match='a finite number of at least 0 for each class, in the order of `dls.vocab`.*got '): losses.labeled_loss(weight=weight)
