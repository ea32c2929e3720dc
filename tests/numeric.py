"What the tests of formulas share: tensors and arrays of random numbers, tolerances, and strategies for hypothesis."
import numpy as np, pytest, torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

TOL = {torch.float32: 1e-6, torch.float64: 1e-10}
each_dtype = pytest.mark.parametrize('dtype', list(TOL), ids=['f32', 'f64'])

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

# --- strategies

dtypes = st.sampled_from([torch.float32, torch.float64])
temps  = st.floats(.05, 3)
seeds  = st.integers(0, 2**32 - 1)

@st.composite
def dists(draw, dtype=None, min_c=2, max_c=12):
    "Rows of probabilities: any, spiky, with zeros, with ties; never a row of zeros."
    dt, n, c = dtype or draw(dtypes), draw(st.integers(1, 5)), draw(st.integers(min_c, max_c))
    a = draw(hnp.arrays(np.float64, (n, c), elements=st.one_of(st.just(0.), st.just(1.), st.floats(1e-30, 1))))
    a[np.arange(n), draw(hnp.arrays(np.int64, n, elements=st.integers(0, c - 1)))] += .5
    return torch.tensor(a / a.sum(1, keepdims=True), dtype=dt)

@st.composite
def mixes(draw):
    "Images, targets, lam and shuffle, in float64."
    n, c, shape = draw(st.integers(1, 9)), draw(st.integers(2, 6)), draw(st.sampled_from([(1, 3, 3), (3, 2, 5), (4,)]))
    r = np.random.default_rng(draw(seeds))
    t = torch.tensor
    return t(r.normal(size=(n, *shape)) * 10), t(r.dirichlet(np.ones(c), n)), t(1 - r.beta(.5, .5, n) / 2), t(r.permutation(n))
