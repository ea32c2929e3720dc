"Guesses and sharpening: against the float64 oracle, and what holds for every input; guessing leaves no trace in the model."
import copy, numpy as np, oracle, pytest, random, torch
from fastai_mixmatch import targets
from hypothesis import assume, given, settings, strategies as st
from numeric import arr, bn_net, close, dists, dtypes, each_dtype, probs, rng, seeds, split_state, temps, tens
from torch import nn

# --- the paper's formulas

@each_dtype
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
    close(targets.guess_labels(m, iter(us)), want, dtype)

@each_dtype
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

@each_dtype
def test_align(dtype):
    p, prior, pm = probs((9, 6), dtype), probs((6,), dtype, 5., 1), probs((6,), dtype, 5., 2)
    close(targets.align(p, prior, pm), oracle.align(arr(p), arr(prior), arr(pm)), dtype)

def test_laplace():
    "Laplace's rule by hand: 3, 0 and 1 labels count as 4, 1 and 2 of 7"
    torch.testing.assert_close(targets.laplace(torch.tensor([3, 0, 1])), torch.tensor([4/7, 1/7, 2/7], dtype=torch.float64))

def test_align_divides_by_no_zero():
    "Frequencies below a millionth count as one: a class that was never guessed can be, and one that has no label is not ruled out."
    p = torch.tensor([[.9, .1], [.5, .5]], dtype=torch.float64)
    for prior, pm in (([.5, .5], [1., 0.]), ([1., 0.], [.5, .5]), ([1., 1e-9], [1e-8, 1.])):
        want = oracle.align(arr(p), np.maximum(prior, 1e-6), np.maximum(pm, 1e-6))
        close(targets.align(p, tens(prior, torch.float64), tens(pm, torch.float64)), want, torch.float64)

@each_dtype
@pytest.mark.parametrize('shape', [(7,), (5, 3), (2, 3, 4)])
def test_entropy(dtype, shape):
    "Over the last axis, whatever comes before it; 0 log 0 is 0."
    p = probs(shape, dtype)
    close(targets.entropy(p), oracle.entropy(arr(p)), dtype)
    hot = torch.eye(shape[-1], dtype=dtype)
    assert torch.equal(targets.entropy(hot), torch.zeros(shape[-1], dtype=dtype))

# --- sharpening

@given(dists(), temps)
def test_sharpened_rows_are_distributions(p, T):
    q = targets.sharpen(p, T)
    before = p.clone()
    assert q.shape == p.shape and q.dtype == p.dtype and torch.equal(p, before)
    assert torch.isfinite(q).all() and (q >= 0).all() and (q <= 1 + 1e-6).all()
    assert (q.sum(-1) - 1).abs().max() < 1e-6
    assert (q[p == 0] == 0).all()

@given(dists(), temps)
def test_sharpening_keeps_the_order(p, T):
    q = targets.sharpen(p, T)
    less, diff = p[:, :, None] < p[:, None], q[:, :, None] - q[:, None]
    assert (diff[less] <= 0).all()
    tied = p[:, :, None] == p[:, None]
    assert (diff[tied] == 0).all()
    apart = (p[:, :, None] * 1.01 < p[:, None]) & (q[:, None] > 1e-20)      # really apart, and not both rounded to 0
    assert (diff[apart] < 0).all()

@given(dists(dtype=torch.float64), st.floats(.05, .95))
def test_sharpening_sharpens(p, T):
    "Below 1 the largest gains and the entropy falls; above 1 the contrary."
    ent = lambda q: torch.special.entr(q).sum(-1)
    q, r = targets.sharpen(p, T), targets.sharpen(p, 1 / T)
    assert (q.max(-1)[0] >= p.max(-1)[0] - 1e-12).all() and (r.max(-1)[0] <= p.max(-1)[0] + 1e-12).all()
    assert (ent(q) <= ent(p) + 1e-12).all() and (ent(r) >= ent(p) - 1e-12).all()

@given(dists())
def test_temperature_one_is_the_identity(p): torch.testing.assert_close(targets.sharpen(p, 1), p, rtol=0, atol=1e-6 if p.dtype == torch.float32 else 1e-12)

@given(dists(dtype=torch.float64), st.floats(.2, 2), st.floats(.2, 2))
def test_temperatures_multiply(p, a, b):
    torch.testing.assert_close(targets.sharpen(targets.sharpen(p, a), b), targets.sharpen(p, a * b), rtol=0, atol=1e-10)

@given(dists(), st.sampled_from([1e-4, 1e-8, 1e-20, 1e-37, 1e-45, 1e-300]))
def test_temperature_zero_is_one_hot(p, T):
    "Where one class leads by a thousandth; and even shares where several are equal."
    top = p.max(-1, keepdim=True)[0]
    assume(((p == top) | (p < top * .999)).all())
    q = targets.sharpen(p, T)
    want = (p == top).to(p.dtype)
    torch.testing.assert_close(q, want / want.sum(-1, keepdim=True), rtol=0, atol=1e-4)

@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_hot_without_overflow(half):
    "Smallest and largest numbers of each type, at temperatures whose powers would leave it."
    tiny = torch.finfo(half).tiny
    p = torch.tensor([[1. - tiny, tiny, 0., 0.], [.5, .25, .25, 0.], [tiny, 0, 0, 0]], dtype=half)
    for T in (1e-3, 1e-6, 1e-12):
        want = torch.eye(4, dtype=torch.float64 if half == torch.float64 else torch.float32)[[0, 0, 0]]
        torch.testing.assert_close(targets.sharpen(p, T), want, rtol=0, atol=1e-30)

@pytest.mark.parametrize('T', [0, 0., -1, -.5, float('nan'), float('inf')])
def test_bad_temperatures(T):
    with pytest.raises(ValueError, match='T'): targets.sharpen(torch.tensor([.5, .5]), T)

# --- guessing leaves no trace

class Inplace(nn.Module):
    "A layer with buffers of its own, one changed in place and one replaced at every forward, whatever the mode."
    def __init__(self):
        super().__init__()
        self.register_buffer('seen', torch.zeros(()))
        self.register_buffer('last', torch.zeros(3))
        self.register_buffer('none', None)
    def forward(self, x):
        self.seen += len(x)
        self.last = x.detach().flatten()[:3].clone()
        return x

class Bang(nn.Module):
    "The identity; fails on demand, after the layers before it have run."
    fail = False
    def forward(self, x):
        if self.fail: raise RuntimeError('bang')
        return x

class Frozen(nn.Sequential):
    "A part that stays in eval mode whatever the model is told."
    def train(self, mode=True): return super().train(False)

def conv(o=4, i=2): return nn.Conv2d(i, o, 3, padding=1)
def head(i=4): return nn.Sequential(Bang(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, 3))

def plain(): return nn.Sequential(conv(), nn.ReLU(), head())
def bn(): return nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), head(), nn.BatchNorm1d(3))
def average(): return nn.Sequential(conv(), nn.BatchNorm2d(4, momentum=None), head())
def untracked(): return nn.Sequential(conv(), nn.BatchNorm2d(4, track_running_stats=False), nn.BatchNorm2d(4, affine=False), head())
def instance(): return nn.Sequential(conv(), nn.InstanceNorm2d(4, track_running_stats=True, affine=True), nn.ReLU(), head())
def spectral(): return nn.Sequential(nn.utils.spectral_norm(conv()), nn.ReLU(), nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)), head())
def frozen(): return nn.Sequential(Frozen(conv(), nn.BatchNorm2d(4), nn.ReLU()), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), head())
def own(): return nn.Sequential(conv(), Inplace(), nn.BatchNorm2d(4), head())
def group(): return nn.Sequential(conv(), nn.GroupNorm(2, 4), nn.ReLU(), head())

KINDS = {f.__name__: f for f in (plain, bn, average, untracked, instance, spectral, frozen, own, group)}
kinds = st.sampled_from(list(KINDS))

def make(kind, seed=0, dtype=torch.float32, steps=2):
    "A model of `kind` that has been trained a little: running statistics, gradients, one parameter frozen."
    torch.manual_seed(seed)
    m = KINDS[kind]().to(dtype).train()
    for _ in range(steps): m(torch.randn(5, 2, 6, 7, dtype=dtype) * 2 + 1).square().mean().backward()
    next(m.parameters()).requires_grad_(False)
    return m

def flags(mod):
    "Everything simple that a module carries: modes, momenta, `track_running_stats`."
    return {k: v for k, v in vars(mod).items() if isinstance(v, (bool, int, float, str, type(None)))}

def trace(m):
    "Copy of all there is to see of a model and of the random generators."
    ten = lambda t: None if t is None else (t.detach().clone(), t.dtype)
    mods = dict(m.named_modules())
    params = {k: (*ten(p), id(p), p.data_ptr(), p._version, p.requires_grad, ten(p.grad), id(p.grad)) for k, p in m.named_parameters()}
    buffers = {(k, n): ten(b) for k, o in mods.items() for n, b in o._buffers.items()}
    hooks = [len(getattr(o, h)) for o in mods.values() for h in ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks')]
    rng = torch.get_rng_state().clone(), np.random.get_state()[1].copy(), random.getstate()
    return dict(params=params, buffers=buffers, state={k: ten(v) for k, v in m.state_dict().items()}, flags={k: flags(o) for k, o in mods.items()},
        modules=[(k, id(o)) for k, o in mods.items()], hooks=hooks, rng=rng, grad=torch.is_grad_enabled())

def alike(a, b):
    if torch.is_tensor(a): return torch.equal(a, b)
    if isinstance(a, np.ndarray): return np.array_equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)): return len(a) == len(b) and all(map(alike, a, b))
    return a == b

def check_trace(a, b):
    for k in a: assert alike(a[k], b[k]), f'{k} changed'

def views(seed, k, n=4, dtype=torch.float32):
    return list(torch.tensor(np.random.default_rng(seed).normal(size=(k, n, 2, 6, 7)) * 2 + 1, dtype=dtype))

def test_the_trace_sees():
    "The check above can fail: an ordinary forward in training mode is seen by it, for every kind that has something to move."
    for kind in KINDS:
        m = make(kind)
        a = trace(m)
        with torch.no_grad(): m(views(0, 1)[0])
        assert alike(a, trace(m)) == (kind in ('plain', 'group')), kind
    m = make('bn')
    a = trace(m)
    torch.rand(1)
    assert not alike(a, trace(m))
    m = make('bn')
    a = trace(m)
    m[1].track_running_stats = False
    assert not alike(a, trace(m))

@settings(max_examples=120)
@given(kinds, st.integers(1, 3), st.integers(2, 5), st.booleans(), seeds, dtypes)
def test_guessing_leaves_no_trace(kind, k, n, train, seed, dtype):
    m = make(kind, seed % 7, dtype).train(train)
    u = views(seed, k, n, dtype)
    u0 = [t.clone() for t in u]
    a = trace(m)
    p = targets.guess_labels(m, u)
    check_trace(a, trace(m))
    assert not p.requires_grad and p.dtype == dtype and p.shape == (n, 3) and (p.sum(1) - 1).abs().max() < 1e-5
    assert all(map(torch.equal, u, u0))
    # and it is the guess of a model just like it in the same mode
    z = make(kind, seed % 7, dtype).train(train)(torch.cat(u)).detach()
    np.testing.assert_allclose(p.double().numpy(), oracle.guess(z.double().numpy().reshape(k, n, 3)), rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-10)
    with torch.no_grad(): check_trace({**a, 'grad': False}, (targets.guess_labels(m, u), trace(m))[1])

@pytest.mark.parametrize('kind', list(KINDS))
@pytest.mark.parametrize('train', [True, False])
def test_failing_guesses_leave_no_trace(kind, train):
    "A model that raises half way, one of the wrong output, and an interrupt."
    m = make(kind).train(train)
    bang = next(o for o in m.modules() if isinstance(o, Bang))
    u = views(0, 2)
    Bang.fail = True
    try:
        a = trace(m)
        with pytest.raises(RuntimeError, match='bang'): targets.guess_labels(m, u)
        check_trace(a, trace(m))
    finally: Bang.fail = False
    class Stop(BaseException): pass
    def stop(*_): raise Stop
    h = bang.register_forward_hook(stop)
    a = trace(m)
    with pytest.raises(Stop): targets.guess_labels(m, u)
    check_trace(a, trace(m))
    h.remove()
    body = nn.Sequential(*list(m)[:-2 if kind == 'bn' else -1]).train(train)
    a = trace(body)
    with pytest.raises(ValueError, match=r'\('): targets.guess_labels(body, u)      # (B, C, H, W) instead of (B, C)
    check_trace(a, trace(body))
    targets.guess_labels(m, u)      # and it still guesses

@pytest.mark.parametrize('kind', list(KINDS))
def test_training_goes_on_as_if_nothing_had_been_guessed(kind):
    "The step after a guess is bit for bit the step without one; also for what a trace cannot show."
    def step(guess):
        m = make(kind)
        opt = torch.optim.SGD([p for p in m.parameters() if p.requires_grad], .1)
        if guess: targets.guess_labels(m, views(1, 2))
        opt.zero_grad()
        m(views(2, 1)[0]).square().mean().backward()
        opt.step()
        return m.state_dict()
    a, b = step(False), step(True)
    assert alike(a, b)

@pytest.mark.parametrize('kind', ['bn', 'instance', 'spectral', 'frozen', 'own'])
def test_aliases_of_buffers_stay(kind):
    "An average of buffers holds on to the tensors themselves: the model's are the same ones after guessing. (Not where the model itself replaces one.)"
    m = make(kind)
    held = {k: b for k, b in m.named_buffers() if not k.endswith('last')}
    targets.guess_labels(m, views(1, 2))
    now = dict(m.named_buffers())
    assert all(now[k] is held[k] for k in held)

@pytest.mark.parametrize('out, said', [(lambda x: (x, x), r'got \(a tensor \(4, 2, 6, 7\) of'), (lambda x: x, r'shape \(4, C\) for 4 images; got a tensor \(4, 2, 6, 7\) of torch.float32'),
    (lambda x: x.flatten(1)[1:], r'got a tensor \(3, 84\) of')])
def test_outputs_that_are_no_logits(out, said):
    class Net(nn.Module):
        def forward(self, x): return out(x)
    with pytest.raises(ValueError, match=said): targets.guess_labels(Net(), views(0, 1))

def test_frozen_stats_alone():
    "The context manager by itself: gradients flow inside, batch statistics are used, and it can be entered again inside itself."
    m, x = make('bn'), views(0, 1)[0]
    ref = copy.deepcopy(m)(x)
    m.zero_grad()
    a = trace(m)
    with targets.frozen_stats(m):
        z = m(x)
        with targets.frozen_stats(m): m(x)
        m(x)
    torch.testing.assert_close(z, ref)
    check_trace(a, trace(m))
    z.sum().backward()
    assert m[3].weight.grad is not None

@given(kinds.filter(lambda k: k not in ('own', 'average')), seeds)
def test_guesses_know_no_order_of_views(kind, seed):
    m, u = make(kind, dtype=torch.float64), views(seed, 3, dtype=torch.float64)
    p = targets.guess_labels(m, u)
    torch.testing.assert_close(targets.guess_labels(m, u[::-1]), p, rtol=0, atol=1e-10)
    torch.testing.assert_close(targets.guess_labels(m, torch.stack(u)), p, rtol=0, atol=1e-10)
    torch.testing.assert_close(targets.guess_labels(m, [t.flip(0) for t in u]), p.flip(0), rtol=0, atol=1e-10)

@given(kinds, seeds, st.integers(1, 4))
def test_one_view_is_a_softmax(kind, seed, k):
    "K=1 is the model's own probabilities, and repeating a view changes nothing."
    m, (u,) = make(kind, dtype=torch.float64), views(seed, 1, dtype=torch.float64)
    want = make(kind, dtype=torch.float64)(u).detach().softmax(1)
    torch.testing.assert_close(targets.guess_labels(m, [u]), want, rtol=0, atol=1e-10)
    torch.testing.assert_close(targets.guess_labels(m, [u] * k), want, rtol=0, atol=1e-10)

@given(kinds, seeds)
def test_eval_mode_guesses_each_image_alone(kind, seed):
    "With running statistics no image knows of another; with the batch's own it does."
    m, u = make(kind, dtype=torch.float64).eval(), views(seed, 2, 4, torch.float64)
    both = targets.guess_labels(m, u)
    alone = torch.cat([targets.guess_labels(m, [t[i:i + 1] for t in u]) for i in range(4)])
    if kind == 'untracked': assert (both - alone).abs().max() > 1e-6
    else: torch.testing.assert_close(both, alone, rtol=0, atol=1e-10)

def test_guess_under_autocast():
    "Guesses are float32 even where the model computes in bfloat16, and sum to 1 as such."
    m = make('bn')
    with torch.autocast('cpu', torch.bfloat16): p = targets.guess_labels(m, views(0, 2))
    assert p.dtype == torch.float32 and (p.sum(1) - 1).abs().max() < 1e-6

@pytest.mark.parametrize('u', [[], (), torch.zeros(0, 4, 2, 6, 7)])
def test_no_views(u):
    with pytest.raises(ValueError): targets.guess_labels(make('plain'), u)
