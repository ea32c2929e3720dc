"The paper's formulas: the package against the float64 numpy oracle, to 1e-6 in float32 and 1e-10 in float64."
import numpy as np, oracle, pytest, torch
from fastai_mixmatch import losses, mixup, targets
from torch import nn

TOL = {torch.float32: 1e-6, torch.float64: 1e-10}
dtypes = pytest.mark.parametrize('dtype', list(TOL), ids=['f32', 'f64'])

def rng(seed=0): return np.random.default_rng(seed)
def tens(a, dtype): return torch.tensor(np.asarray(a), dtype=dtype)
def arr(t): return t.detach().double().numpy()

def probs(shape, dtype, conc=1., seed=0):
    "Random rows on the simplex as a tensor; the oracle is given the values as rounded to `dtype`."
    return tens(rng(seed).dirichlet(np.full(shape[-1], conc), shape[:-1]), dtype)

def close(got, want, dtype, scale=1.):
    "Same shape, type kept, and no element further than the tolerance."
    assert got.dtype == dtype, got.dtype
    assert tuple(got.shape) == np.shape(want), (got.shape, np.shape(want))
    np.testing.assert_allclose(arr(got), want, rtol=0, atol=TOL[dtype] * scale)

def bn_net(dtype, n_in=2, n_out=5):
    "A net of every layer kind that the oracle knows, and its description."
    m = nn.Sequential(nn.Conv2d(n_in, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(.1),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), nn.LeakyReLU(.1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, n_out))
    m[8].weight.data.mul_(4)    # guesses far from uniform, so that a wrong one is seen
    spec = [('conv', '0', 1), ('bn', '1'), ('leaky', '', .1), ('conv', '3', 2), ('bn', '4'), ('leaky', '', .1), ('pool', ''), ('linear', '8')]
    for i in (1, 4):
        m[i].running_mean.uniform_(-1, 1)
        m[i].running_var.uniform_(.5, 2)
        m[i].weight.data.uniform_(.5, 2)
        m[i].bias.data.uniform_(-1, 1)
    return m.to(dtype), spec

def split_state(m):
    "Parameters and buffers by name, as numpy."
    g = lambda it: {k: v.detach().cpu().numpy().astype(np.float64 if v.is_floating_point() else np.int64) for k, v in it}
    return g(m.named_parameters()), g(m.named_buffers())

# --- targets

@dtypes
@pytest.mark.parametrize('k', [1, 2, 4])
@pytest.mark.parametrize('train', [True, False])
def test_guess(dtype, k, train):
    m, spec = bn_net(dtype)
    m.train(train)
    p, b = split_state(m)
    us = [tens(rng(i).normal(size=(7, 2, 9, 6)), dtype) for i in range(k)]
    z, *_ = oracle.forward(spec, p, b, np.concatenate([arr(u) for u in us]), train)
    want = oracle.guess(z.reshape(k, 7, 5))
    assert want.std() > .02
    close(targets.guess_labels(m, us), want, dtype)
    close(targets.guess_labels(m, tuple(us)), want, dtype)
    close(targets.guess_labels(m, torch.stack(us)), want, dtype)

@dtypes
@pytest.mark.parametrize('C', [2, 10, 1000])
@pytest.mark.parametrize('T', [.01, .1, .5, 1., 2.])
def test_sharpen(dtype, C, T):
    "Below T = 0.1 the tolerance is divided by T as the rounding of `log p` is."
    p = probs((16, C), dtype)
    scale = max(1, .1 / T)
    close(targets.sharpen(p, T), oracle.sharpen(arr(p), T), dtype, scale)
    p3 = probs((2, 3, C), dtype, .2)
    close(targets.sharpen(p3, T), oracle.sharpen(arr(p3), T), dtype, scale)

def test_sharpen_by_hand():
    "Squares of (.6, .3, .1) are (.36, .09, .01), which sum to .46."
    close(targets.sharpen(torch.tensor([.6, .3, .1], dtype=torch.float64), .5), np.array([.36, .09, .01]) / .46, torch.float64)

@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16])
def test_half_is_sharpened_in_float32(half):
    p = probs((8, 10), torch.float32).to(half)
    close(targets.sharpen(p, .5), oracle.sharpen(arr(p), .5), torch.float32)

@dtypes
def test_align(dtype):
    p, prior, pm = probs((9, 6), dtype), probs((6,), dtype, 5., 1), probs((6,), dtype, 5., 2)
    close(targets.align(p, prior, pm), oracle.align(arr(p), arr(prior), arr(pm)), dtype)

# --- mixing

@dtypes
@pytest.mark.parametrize('shape', [(11, 3, 5, 4), (2, 1, 8, 8), (1, 1, 3, 3), (6, 7)])
def test_mixup(dtype, shape):
    r, n = rng(), shape[0]
    x, y = tens(r.normal(size=shape), dtype), probs((n, 4), dtype)
    lam, perm = tens(r.uniform(.5, 1, n), dtype), r.permutation(n)
    mx, my = mixup.mixup(x, y, .75, lam=lam, perm=torch.tensor(perm))
    wx, wy = oracle.mixup(arr(x), arr(y), arr(lam), perm)
    close(mx, wx, dtype)
    close(my, wy, dtype)

@dtypes
def test_mixup_draws_are_those_used(dtype):
    "With nothing given, images and targets are mixed by the same draws: those of `mixup_draws`."
    x, y = tens(rng().normal(size=(9, 2, 4, 4)), dtype), probs((9, 3), dtype)
    torch.manual_seed(3)
    lam, perm = mixup.mixup_draws(9, .75, dtype=dtype)
    torch.manual_seed(3)
    mx, my = mixup.mixup(x, y, .75)
    wx, wy = oracle.mixup(arr(x), arr(y), arr(lam), perm.tolist())
    close(mx, wx, dtype)
    close(my, wy, dtype)

@pytest.mark.parametrize('alpha', [.3, .75, 1., 4.])
def test_draws_follow_the_folded_beta(alpha):
    "`max(l, 1-l)` of Beta(alpha, alpha): the distribution function against the one of scipy, by Kolmogorov and Smirnov; every place equally likely."
    from scipy.stats import beta, kstest
    n = 20000
    lam, perm = mixup.mixup_draws(n, alpha, dtype=torch.float64)
    cdf = lambda v: beta.cdf(v, alpha, alpha) - beta.cdf(1 - np.asarray(v), alpha, alpha)
    assert kstest(arr(lam), cdf).pvalue > 1e-3
    assert lam.unique().numel() > n / 2            # one draw a sample, not one a batch
    assert abs(np.corrcoef(np.arange(n), perm.numpy())[0, 1]) < .03 and abs(np.corrcoef(arr(lam), perm.numpy())[0, 1]) < .03

# --- losses

@dtypes
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

@pytest.mark.parametrize('length', [0., .1, .5, 1., 3, 16384])
def test_ramp(length):
    for pct in [0., 1e-9, .05, .1, .3, .5, .999, 1., 2., 100., 16384., 1e6]:
        assert abs(losses.linear_ramp(pct, length) - oracle.linear_ramp(pct, length)) < 1e-10
        assert type(losses.linear_ramp(pct, length)) is float

def test_ramp_weight():
    "A float is a fraction of training, an integer a number of steps."
    for pct, step in [(0., 0), (.1, 50), (.4, 200), (1., 500)]:
        assert abs(losses.ramp_weight(.4, pct, step) - oracle.linear_ramp(pct, .4)) < 1e-10
        assert abs(losses.ramp_weight(200, pct, step) - oracle.linear_ramp(step, 200)) < 1e-10
        assert losses.ramp_weight(0, pct, step) == losses.ramp_weight(0., pct, step) == 1.
    assert losses.ramp_weight(1, .01, 5) == 1. and losses.ramp_weight(1., .01, 5) == .01      # one step, and the whole run
