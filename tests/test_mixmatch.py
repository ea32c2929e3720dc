"""MixMatch. Whole training steps, with inputs, draws and initial weights given; priors.

First the oracle is proven: against PyTorch's autograd and AdamW, in code of this file that shares nothing with the package. Then the package's
learner, with its real callbacks and fastai's real training loop, is compared to the oracle in every weight and buffer after every step."""
import copy, math, numpy as np, oracle, pandas as pd, pytest, torch, warnings
from fastai.vision.all import Adam, Callback, CancelFitException, CrossEntropyLossFlat, DataLoader, DataLoaders, Learner
from fastai_mixmatch import mixmatch as module
from fastai_mixmatch.all import *
from helpers import IL, SMALL, Y
from numeric import TOL, arr, bn_net, each_dtype, rng, split_state, tens
from torch import nn
from types import SimpleNamespace
import torch.nn.functional as F

B, BU, K, C, SHAPE, LR, WD, T = 6, 5, 3, 5, (2, 9, 6), 2e-3, .02, .5
LABELS = [min(i % 7, C-1) for i in range(30)] # Not as many of each class, so that a prior taken from them can be told from a uniform one
PRIOR = (np.bincount(LABELS, minlength=C)+1) / (len(LABELS)+C) # By Laplace's rule

class Given:
    "Inputs and draws of step `t`: always the same, in float32's values so that both precisions get the same numbers."
    def __init__(self, t, k=K):
        r = rng(100 + t)
        n = B + k * BU
        f = lambda a: a.astype(np.float32).astype(np.float64)
        self.x, self.us = f(r.normal(size=(B, *SHAPE))), [f(r.normal(size=(BU, *SHAPE))) for _ in range(k)]
        self.y, self.lam, self.perm = np.eye(C)[r.integers(0, C, B)], f(1 - r.beta(.75, .75, n) * .5), r.permutation(n)

def decay_of(p): return lambda name: WD if p[name].ndim > 1 else 0.

def oracle_run(model, spec, steps, weight, adapt=False):
    "Parameters and buffers, and the values on the way, after each of `steps`; `weight` is a function of the step."
    p, b = split_state(model)
    opt, out, adapt, averaged = {}, [], oracle.Adapt(PRIOR) if adapt else None, dict(p)
    for t in range(steps):
        g = Given(t)
        p, b, opt, info = oracle.mixmatch_step(spec, p, b, opt, g.x, g.y, g.us, g.lam, g.perm, T=T, weight=weight(t), lr=LR, wd=decay_of(p),
            adapt=adapt, averaged=averaged if adapt else None)
        averaged = oracle.ema_update(averaged, p, t)
        out.append(({**p, **b}, info))
    return out

def same(got, want, tol):
    assert set(got) == set(want)
    for k in want: np.testing.assert_allclose(np.asarray(got[k], dtype=np.float64), want[k], rtol=0, atol=tol, err_msg=k)

def moved(model, want):
    "The comparison means something only if every weight went somewhere."
    p, _ = split_state(model)
    for k in p: assert np.abs(p[k] - want[k]).max() > 1e-4, k

# --- the oracle against autograd

def adamw(m):
    "fastai's Adam in PyTorch's words; weight decay on kernels only."
    groups = [dict(params=[q for q in m.parameters() if (q.ndim > 1) == kernel], weight_decay=WD * kernel) for kernel in (True, False)]
    return torch.optim.AdamW(groups, lr=LR, betas=(.9, .99), eps=1e-5)

def torch_step(m, opt, g, weight, T):
    "MixMatch in a dozen lines of plain PyTorch."
    x, y, us, lam, perm = (torch.tensor(np.array(a)) for a in (g.x, g.y, g.us, g.lam, g.perm))
    with torch.no_grad():
        q = copy.deepcopy(m)(us.flatten(0, 1)).softmax(1).view(len(us), BU, C).mean(0) ** (1 / T)
        q = q / q.sum(1, keepdim=True)
    xs, ys = torch.cat([x, *us]), torch.cat([y, *[q] * len(us)])
    xs, ys = xs * lam[:, None, None, None] + xs[perm] * (1 - lam)[:, None, None, None], ys * lam[:, None] + ys[perm] * (1 - lam)[:, None]
    z = m(xs)
    lx, lu = F.cross_entropy(z[:B], ys[:B]), F.mse_loss(z[B:].softmax(1), ys[B:])
    opt.zero_grad()
    (lx + weight * lu).backward()
    opt.step()
    return lx.item(), lu.item()

@pytest.mark.parametrize('weight', [0., 1., 75.])
def test_oracle_agrees_with_autograd(weight):
    m, spec = bn_net(torch.float64)
    m0 = copy.deepcopy(m)
    opt = adamw(m)
    for t, (want, info) in enumerate(oracle_run(m, spec, 4, lambda t: weight)):
        lx, lu = torch_step(m, opt, Given(t), weight, T)
        np.testing.assert_allclose([lx, lu], [info['loss_x'], info['loss_u']], rtol=0, atol=1e-12)
        same({k: v.numpy() for k, v in m.state_dict().items()}, want, 1e-10)
        for k, q in m.named_parameters(): np.testing.assert_allclose(q.grad.numpy(), info['grads'][k], rtol=0, atol=1e-10, err_msg=k)
    moved(m0, want)

def test_oracle_gradients_by_differences():
    "And once with no library at all: slopes measured by moving single weights."
    m, spec = bn_net(torch.float64)
    p, b = split_state(m)
    g = Given(0)
    def loss(p):
        z, *_ = oracle.forward(spec, p, b, mx)
        return oracle.cross_entropy(z[:B], my[:B]) + 5 * oracle.l2(z[B:], my[B:])
    mx, my = oracle.make_batch(spec, p, b, g.x, g.y, g.us, g.lam, g.perm, T)
    grads = oracle.mixmatch_step(spec, p, b, {}, g.x, g.y, g.us, g.lam, g.perm, T=T, weight=5.)[3]['grads']
    for k in p:
        i = tuple(rng(1).integers(0, s) for s in p[k].shape)
        e = 1e-6
        hi, lo = copy.deepcopy(p), copy.deepcopy(p)
        hi[k][i] += e
        lo[k][i] -= e
        assert abs((loss(hi) - loss(lo)) / (2 * e) - grads[k][i]) < 1e-7, k

# --- the package against the oracle

class Snapshots(Callback):
    "State of the model after every training step, and the one used for validation."
    order = 200
    def __init__(self): self.steps, self.valid = [], None
    def _state(self): return {k: v.detach().clone().numpy() for k, v in self.learn.model.state_dict().items()}
    def before_batch(self):
        if not self.training and self.valid is None: self.valid = self._state()
    def after_loss(self): self.learn.loss = self.learn.loss.float()     # fastai's meter of the loss takes nothing else; gradients come from `loss_grad`
    def after_batch(self):
        if self.training: self.steps.append(self._state())

def taking_floats(net_and_spec, dtype):
    "The package reads images as float32; a net in float64 has to take these (where they are only checked, or validated)."
    net_and_spec[0].register_forward_pre_hook(lambda m, x: tuple(o.to(dtype) for o in x))
    return net_and_spec

def given_method(monkeypatch, dtype, given=Given, draws=True, **kw):
    "A MixMatch that works on the given inputs and draws; `calls` is a list of the batches it was called on."
    class GivenMixMatch(MixMatch):
        calls = []
        def make_batch(self, b):
            g = given(len(self.calls))
            self.calls.append(b)
            own = Batch(tens(g.x, dtype), tens(g.y, dtype), tuple(tens(u, dtype) for u in g.us), (), b.idx, b.x_idx, b.truth, b.raw)
            return super().make_batch(own)
    def mixup_draws(n, alpha, *args, **kwargs):
        g = given(len(GivenMixMatch.calls)-1)
        assert n == len(g.lam), (n, len(g.lam))
        return tens(g.lam, dtype), torch.tensor(g.perm)
    if draws: monkeypatch.setattr(module, 'mixup_draws', mixup_draws)
    return GivenMixMatch(**kw)

def plain_dls():
    "Any labeled data will do, since the inputs are given: they only have to have the right form."
    r = rng(5)
    items = [(tens(r.normal(size=SHAPE), torch.float32), torch.tensor(o)) for o in LABELS]
    dls = DataLoaders(DataLoader(items, bs=B, shuffle=True, drop_last=True), DataLoader(items, bs=10))
    dls.c = C
    dls.vocab = list('abcde')
    return dls

def pool(steps): return tens(rng(6).normal(size=(B * steps, *SHAPE)), torch.float32)

def package_run(model, make, method, steps=3, **kw):
    "Train for at least `steps` steps; `make(dls, unlabeled, model, method, cbs, **kw)` gives the learner."
    snap = Snapshots()
    learn = make(plain_dls(), pool(steps), model, method, [snap], **kw)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, LR, wd=WD)
    assert len(snap.steps) >= steps
    return learn, snap

def by_callbacks(dls, unlabeled, model, method, cbs, ema=True):
    method.unlabeled = unlabeled
    return Learner(dls, model, loss_func=CrossEntropyLossFlat(), opt_func=Adam, cbs=[method, *([EMA(decay=.999)] if ema else []), *cbs])

def by_factory(dls, unlabeled, model, method, cbs): return ssl_learner(dls, unlabeled, model, method, cbs=cbs) # Its optimizer is `FastAdam`

def by_fast(*args): return by_factory(*args).to_fast()

@each_dtype
@pytest.mark.parametrize('make', [by_callbacks, by_factory, by_fast])
@pytest.mark.parametrize('ramp', [0, 4, .5])
@pytest.mark.parametrize('adapt', [False, True])
def test_whole_steps(monkeypatch, dtype, make, ramp, adapt):
    "Also with the ramp in steps and as a fraction, and with the weight, the mixing and the class frequencies held back while the labels are not known."
    m, spec = taking_floats(bn_net(dtype), dtype)
    m0 = copy.deepcopy(m)
    method = given_method(monkeypatch, dtype, k=K, T=T, alpha=.75, lambda_u=75., ramp=ramp, adapt=adapt)
    _, snap = package_run(m, make, method)
    n = len(snap.steps)
    assert len(method.calls) == n
    length = ramp * n if isinstance(ramp, float) else ramp
    want = oracle_run(m0, spec, n, lambda t: 75 * oracle.linear_ramp(t, length), adapt)
    # Float32 is compared after one step: rounding grows from step to step, and a wrong formula shows in the first
    for t in range(n if dtype == torch.float64 else 1): same(snap.steps[t], want[t][0], TOL[dtype])
    moved(m0, want[0][0])

@each_dtype
@pytest.mark.parametrize('make', [by_callbacks, by_factory, by_fast])
def test_validation_is_of_the_average(monkeypatch, dtype, make):
    "The weights and buffers with which an epoch is validated, and those left after training, are the oracle's average over all steps."
    m, spec = taking_floats(bn_net(dtype), dtype)
    m0 = copy.deepcopy(m)
    method = given_method(monkeypatch, dtype, k=K, T=T, alpha=.75, lambda_u=75., ramp=0, adapt=False)
    learn, snap = package_run(m, make, method, steps=4)
    p, b = split_state(m0)
    def average(states):
        avg = {**p, **b}
        for t, s in enumerate(states): avg = oracle.ema_update(avg, {k: np.asarray(v, dtype=avg[k].dtype) for k, v in s.items()}, t)
        return avg
    avg = average(snap.steps)
    same(snap.valid, avg, TOL[dtype])
    same({k: v.numpy() for k, v in learn.model.state_dict().items()}, avg, TOL[dtype])
    if dtype == torch.float64: same(snap.valid, average([s for s, _ in oracle_run(m0, spec, len(snap.steps), lambda t: 75.)]), 1e-10)
    assert max(np.abs(snap.valid[k] - snap.steps[-1][k]).max() for k in avg) > 1e-4

@each_dtype
def test_batch_and_losses(monkeypatch, dtype):
    "The two small methods that a step is made of, one by one."
    m, spec = taking_floats(bn_net(dtype), dtype)
    p, b = split_state(m)
    g = Given(0)
    r = rng(8)
    got = {}
    class Probe(Callback):
        order = 200
        def before_batch(self):
            mm = next(c for c in self.learn.cbs if isinstance(c, MixMatch))
            got['batch'] = self.learn.xb[0], self.learn.yb
            z, y, q = tens(r.normal(size=(B + K * BU, C)), dtype), tens(r.dirichlet(np.ones(C), B), dtype), tens(r.dirichlet(np.ones(C), K * BU), dtype)
            got['losses'] = mm.losses(z, y, q), (oracle.cross_entropy(arr(z)[:B], arr(y)), oracle.l2(arr(z)[B:], arr(q)))
            raise CancelFitException
    method = given_method(monkeypatch, dtype, k=K, T=T, alpha=.75, lambda_u=75., ramp=0, adapt=False)
    learn = by_callbacks(plain_dls(), pool(2), m, method, [Probe()], ema=False)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, LR)
    (x, (y, q)), (lo, wl) = got['batch'], got['losses']
    wx, wy = oracle.make_batch(spec, p, b, g.x, g.y, g.us, g.lam, g.perm, T)
    for a, w in [(x, wx), (y, wy[:B]), (q, wy[B:]), (lo[0], wl[0]), (lo[1], wl[1])]:
        assert tuple(a.shape) == np.shape(w) and not isinstance(a, tuple)
        np.testing.assert_allclose(arr(a), w, rtol=0, atol=TOL[dtype])

def test_reduces_to_supervised(monkeypatch):
    "K=1, alpha=0 and lambda_u=0 on a net without batch norm are ordinary training on the labels; with lambda_u they are not."
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), 7), nn.LeakyReLU(.1), nn.Linear(7, C)).double()
    one = lambda t: Given(t, k=1)
    def run(lambda_u):
        with monkeypatch.context() as mp:
            m = copy.deepcopy(net)
            m[0].register_forward_pre_hook(lambda m, x: (x[0].double(),))
            method = given_method(mp, torch.float64, one, draws=False, k=1, T=T, alpha=0., lambda_u=lambda_u, ramp=0, adapt=False)
            return package_run(m, by_callbacks, method, ema=False)[1].steps
    m = copy.deepcopy(net)
    opt = adamw(m)
    got, other = run(0.), run(75.)
    for t in range(3):
        g = one(t)
        opt.zero_grad()
        F.cross_entropy(m(torch.tensor(g.x)), torch.tensor(g.y.argmax(1))).backward()
        opt.step()
        same(got[t], {k: v.numpy() for k, v in m.state_dict().items()}, 1e-10)
    assert np.abs(other[2]['1.weight'] - got[2]['1.weight']).max() > 1e-5

# --- settings

def test_settings_of_the_paper():
    "Appendix B: two views, T = 0.5, alpha = 0.75, weight 75, which grows over the whole training."
    m = MixMatch()
    assert (m.k, m.T, m.alpha, m.lambda_u, m.ramp) == (2, .5, .75, 75., 1.) and (m.adapt, m.band, m.prior) == (True, 2., None)
    assert m.averages == dict(known=.95, seen=.95) and MixMatch(adapt=False).averages == {}
    assert MixMatch(adapt=False, prior='labeled').averages == dict(seen=.95)

@pytest.mark.parametrize('kw', [dict(T=0.), dict(T=-1.), dict(alpha=-.1), dict(band=.99), dict(prior='even')], ids=str)
def test_settings_that_are_none(kw):
    with pytest.raises(ValueError, match=next(iter(kw))): MixMatch(**kw)

def test_settings_at_the_ends():
    m = MixMatch(T=.01, alpha=0., band=1., prior='uniform')
    assert (m.T, m.alpha, m.band, MixMatch(T=2., prior='labeled').T) == (.01, 0., 1., 2.)

@pytest.mark.parametrize('known, r', [(0., 0.), (.1, 0.), (.2, 0.), (.6, .5), (1., 1.)])
def test_trust(known, r):
    "How far the labels' probability is above chance, squared; worse than chance is no knowledge either."
    m, c = MixMatch(), 5
    m.learn, m.step = SimpleNamespace(), SimpleNamespace()
    m.guess = lambda views, by, then: then(torch.full((len(views), c), 1/c))
    m.average = lambda name, new, start=None: torch.tensor(known) if name == 'known' else new
    m.frequencies = torch.full((c,), 1/c)
    m.guesses_of(SimpleNamespace(x=torch.zeros(2, 1), y=torch.eye(c)[:2], weak=[torch.zeros(3, 1)]*2))
    assert float(m.step.trust) == pytest.approx(r**2, abs=1e-6)

@pytest.mark.parametrize('c, share', [(2, .1), (6, .5), (11, 1.), (31, 1.)])
def test_weight_by_number_of_classes(c, share):
    "The loss is a mean over classes: with fewer than eleven it is weighed down, with more it is not weighed up."
    m = MixMatch(lambda_u=60.)
    m.fitting, m.step, m.class_counts = SimpleNamespace(searching=True), SimpleNamespace(trust=torch.tensor(.25)), torch.ones(c)
    assert float(m.weight()) == pytest.approx(60*.25*share)
    assert m.full_weight == pytest.approx(60*share)
    m.adapt = False
    assert m.weight() == m.full_weight == 60.

def test_advice_to_pass_frequencies():
    "Who passed them is not told to"
    assert MixMatch().advice == ' or pass class frequencies as `prior`' and MixMatch(prior='uniform').advice is None

# --- priors

def skewed(n=500, ratio=100, seed=0):
    "Unlabeled digits whose class frequencies fall by `ratio`"
    keep = np.random.default_rng(seed).random(len(Y)) < (1/ratio)**(Y/9)
    keep[:200] = False
    return IL[np.flatnonzero(keep)[:n]]

@pytest.mark.parametrize('given', [True, False], ids=['given', 'estimated'])
def test_prior_moves_the_guesses(given):
    "With the true frequencies of a skewed pool as prior, or as the labels show them, guesses have these frequencies more nearly than with even ones"
    u = skewed(600)
    true = np.bincount(u.labels, minlength=10)/len(u)
    if given: labeled = IL[:200].split(50)[0]
    else: labeled = IL[sum([np.flatnonzero(Y[:200]==c)[:n].tolist() for c,n in enumerate((true*50).round().clip(1).astype(int))], [])]
    def distance(prior):
        torch.manual_seed(0)
        learn = mixmatch_learner(labeled.dataloaders(bs=32), u, arch=SMALL, prior=prior)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with learn.no_logging(): learn.fit_one_cycle(8)
        guessed = np.array(learn.report.guess_counts[-1])
        return np.abs(guessed/guessed.sum()-true).sum()
    assert distance(true if given else 'labeled')<0.75*distance('uniform')

@pytest.mark.parametrize('prior, want', [(None, [4, 1, 2]), ('labeled', [3, 0, 1]), ('uniform', [1, 1, 1]), ([0., 2., 2.], [0, 1, 1]), ([0., .25, .25], [0, 1, 1])], ids=str)
def test_priors(prior, want):
    "By Laplace's rule, as the labels show it, even, or given: then a class may have none."
    m = MixMatch(prior=prior)
    m.class_counts = torch.tensor([3, 0, 1])
    m.prepared()
    assert m.frequencies.tolist() == pytest.approx((np.array(want)/sum(want)).tolist())

@pytest.mark.parametrize('prior', [[.1]*9, [-.1]+[.1]*9, [0.]*10, [math.inf]+[.1]*9, 'even', {'0': 1.},
    pd.Series([.1]*10)]) # As of `value_counts`, in an order of its own
def test_priors_that_are_none(prior):
    with pytest.raises(ValueError, match='prior must'): mixmatch_learner(IL[:200].split(20)[0].dataloaders(bs=10), IL[200:300], SMALL, prior=prior)
