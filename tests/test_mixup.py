"Mixing: against the float64 oracle, and what holds for every input."
import numpy as np, oracle, pytest, torch
from fastai_mixmatch import mixup
from hypothesis import given, strategies as st
from numeric import arr, close, dtypes, each_dtype, mixes, probs, rng, seeds, tens

# --- the paper's formulas

@each_dtype
@pytest.mark.parametrize('shape', [(11, 3, 5, 4), (2, 1, 8, 8), (1, 1, 3, 3), (6, 7)])
def test_mixup(dtype, shape):
    r, n = rng(), shape[0]
    x, y = tens(r.normal(size=shape), dtype), probs((n, 4), dtype)
    lam, perm = tens(r.uniform(.5, 1, n), dtype), r.permutation(n)
    mx, my = mixup.mixup(x, y, .75, lam=lam, perm=torch.tensor(perm))
    wx, wy = oracle.mixup(arr(x), arr(y), arr(lam), perm)
    close(mx, wx, dtype)
    close(my, wy, dtype)

@each_dtype
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
    n = 300_000        # As many as tell a phase that is nearly uniform from one that is
    lam, perm = mixup.mixup_draws(n, alpha, dtype=torch.float64)
    cdf = lambda v: beta.cdf(v, alpha, alpha) - beta.cdf(1 - np.asarray(v), alpha, alpha)
    assert kstest(arr(lam), cdf).pvalue > 1e-3
    assert lam.unique().numel() > n / 2            # one draw a sample, not one a batch
    assert abs(np.corrcoef(np.arange(n), perm.numpy())[0, 1]) < .03 and abs(np.corrcoef(arr(lam), perm.numpy())[0, 1]) < .03

# --- properties

alphas = st.one_of(st.sampled_from([1e-30, 1e-6, 1e-3, 100., 1e6]), st.floats(.05, 10))

@given(st.integers(1, 40), alphas, seeds, dtypes)
def test_draws(n, alpha, seed, dtype):
    torch.manual_seed(seed)
    lam, perm = mixup.mixup_draws(n, alpha, dtype=dtype)
    assert lam.shape == perm.shape == (n,) and lam.dtype == dtype and perm.dtype == torch.int64
    assert torch.isfinite(lam).all() and (lam >= .5).all() and (lam <= 1).all()
    assert perm.sort()[0].tolist() == list(range(n))
    torch.manual_seed(seed)
    lam2, perm2 = mixup.mixup_draws(n, alpha, dtype=dtype)
    assert torch.equal(lam, lam2) and torch.equal(perm, perm2)

@given(st.integers(1, 40), seeds)
def test_alpha_zero_is_the_identity(n, seed):
    torch.manual_seed(seed)
    x, y = torch.randn(n, 2, 3, 4), torch.rand(n, 3)
    lam, perm = mixup.mixup_draws(n, 0)
    assert (lam == 1).all() and perm.sort()[0].tolist() == list(range(n))
    torch.manual_seed(seed)
    assert torch.equal(mixup.mixup_draws(n, 0)[1], torch.randperm(n, generator=torch.Generator().manual_seed(seed)))
    after = torch.get_rng_state()
    torch.manual_seed(seed)
    torch.randperm(n)
    assert torch.equal(after, torch.get_rng_state()), 'shares are drawn that nothing needs'
    for alpha in (0, 0.):
        mx, my = mixup.mixup(x, y, alpha)
        assert torch.equal(mx, x) and torch.equal(my, y)


def wide(v, x): return v.view(-1, *[1] * (x.ndim - 1))

@given(mixes(), st.floats(.5, 1))
def test_one_lam_keeps_means(mix, lam):
    "With one lam for all, a shuffle takes from the mean what it gives."
    x, y, _, perm = mix
    mx, my = mixup.mixup(x, y, .75, lam=torch.full((len(x),), lam, dtype=x.dtype), perm=perm)
    torch.testing.assert_close(mx.mean(0), x.mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(my.mean(0), y.mean(0), rtol=0, atol=1e-12)

@given(mixes())
def test_own_lams_weigh_the_means(mix):
    "With one lam each, item j counts `lam_j` in its own place and `1 - lam_i` in the place i that drew it: these weights sum to the batch's size."
    x, y, lam, perm = mix
    mx, my = mixup.mixup(x, y, .75, lam=lam, perm=perm)
    w = lam.clone()
    for i, j in enumerate(perm.tolist()): w[j] += 1 - lam[i]
    assert abs(w.sum().item() - len(x)) < 1e-12
    torch.testing.assert_close(mx.sum(0), (wide(w, x) * x).sum(0), rtol=0, atol=1e-11)
    torch.testing.assert_close(my.sum(0), (w[:, None] * y).sum(0), rtol=0, atol=1e-11)
    torch.testing.assert_close(my.sum(1), torch.ones(len(y), dtype=y.dtype), rtol=0, atol=1e-12)

@given(mixes())
def test_mixed_lie_between_and_nearer_their_own(mix):
    x, y, lam, perm = mix
    mx, my = mixup.mixup(x, y, .75, lam=lam, perm=perm)
    for m, a in ((mx, x), (my, y)):
        b = a[perm]
        e = 1e-12
        assert (m >= torch.minimum(a, b) - e).all() and (m <= torch.maximum(a, b) + e).all()
        assert ((m - a).abs() <= (m - b).abs() + e).all()

@given(mixes())
def test_mixing_changes_no_input(mix):
    before = [t.clone() for t in mix]
    x, y, lam, perm = mix
    mixup.mixup(x, y, .75, lam=lam, perm=perm)
    assert all(torch.equal(a, b) for a, b in zip(mix, before))
    same = torch.arange(len(x))
    mx, my = mixup.mixup(x, y, .75, lam=lam, perm=same)
    torch.testing.assert_close(mx, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(my, y, rtol=0, atol=1e-12)

@pytest.mark.parametrize('kw', [dict(lam=torch.ones(3)), dict(perm=torch.arange(3)), dict(lam=torch.ones(5), perm=torch.arange(4))])
def test_wrong_lengths(kw):
    with pytest.raises(ValueError): mixup.mixup(torch.zeros(4, 1, 2, 2), torch.zeros(4, 2), .75, **kw)

def test_bad_mixes():
    with pytest.raises(ValueError): mixup.mixup(torch.zeros(4, 1, 2, 2), torch.zeros(3, 2), .75)
    with pytest.raises(ValueError, match='alpha'): mixup.mixup_draws(4, -.1)
    with pytest.raises(ValueError, match='alpha'): mixup.mixup_draws(4, float('nan'))
    with pytest.raises(TypeError, match='float'): mixup.mixup(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, 2), .75)

@pytest.mark.parametrize('given', ['lam', 'perm'])
def test_one_of_both_is_drawn(given):
    "The other is taken as given"
    x, y, own = torch.rand(9, 1, 4, 4), torch.rand(9, 3).softmax(1), dict(lam=torch.linspace(.5, 1, 9), perm=torch.arange(9).flip(0))
    torch.manual_seed(4)
    drawn = dict(zip(('lam', 'perm'), mixup.mixup_draws(9, .75)))
    torch.manual_seed(4)
    got = mixup.mixup(x, y, .75, **{given: own[given]})
    for a, b in zip(got, mixup.mixup(x, y, .75, **{**drawn, given: own[given]})): assert torch.equal(a, b)
