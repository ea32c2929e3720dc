"The relatives: targets, weights and losses against the oracle, whole steps, that each one learns from unlabeled images, and the adaptive state."
import copy, math, numpy as np, oracle, oracle_methods as om, pandas as pd, pickle, pytest, torch
from fastai.vision.all import Callback, L, Learner, PILImageBW, CrossEntropyLossFlat, SGD, set_seed
from fastai_mixmatch import callback
from fastai_mixmatch.all import *
from fastai_mixmatch.methods import TwoHeads, fairness_loss, kl_loss, quarter_turns
from torch import nn
from pathlib import Path
from types import SimpleNamespace
import torch.nn.functional as F

B, BU, C, N = 6, 40, 5, 120

IL = ImageList.from_arrays(*digits_arrays(), img_cls=PILImageBW)

def open_to(cls, **defaults): return lambda **k: cls(**(defaults | k))

ALL = dict(mixup=MixUpLabeled, entropy=EntropyMin, pi=PiModel, vat=VAT, mean_teacher=MeanTeacher, ict=ICT, pseudo=open_to(PseudoLabel, threshold=.2),
    fix=open_to(FixMatch, mu=1, threshold=.2), uda=open_to(UDA, mu=1, threshold=.2), flex=open_to(FlexMatch, mu=1), free=open_to(FreeMatch, mu=1),
    soft=open_to(SoftMatch, mu=1), remix=open_to(ReMixMatch, ks=2))
methods = pytest.mark.parametrize('name', list(ALL))

def data(n=200, labels=20, bs=16):
    labeled, rest = IL[500:500+n].split(labels, seed=0)
    return labeled.dataloaders(IL[:100], bs=bs), rest

def learner(method, n=200, arch=small_cnn, **kw):
    set_seed(0)
    dls, rest = data(n)
    return ssl_learner(dls, rest, arch, method=method, **kw)

def fit(learn, epochs=1, **kw):
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs, **kw)
    return learn

def cb_of(learn): return next(c for c in learn.cbs if isinstance(c, SemiSupervised))

# --- against the oracle, on given logits

def alone(m, pct=.3):
    "A method with nothing around it but what its losses ask for."
    m.meters, m.truth = L('loss_x', 'loss_u', 'lambda_u', 'confidence', *m._columns).map(callback.Meter), torch.full((BU,), -1)
    m.dl, m.learn = SimpleNamespace(pool=range(N), bs=BU), SimpleNamespace(pct_train=pct)
    return m

def logits(seed, n, scale=3.): return np.random.default_rng(seed).normal(size=(n, C)) * scale + np.linspace(0, 2, C)

def onehot(seed, n=B): return np.eye(C)[np.random.default_rng(seed).integers(0, C, n)]

def t64(*os): return [torch.tensor(o, dtype=torch.float64) for o in os]

def close(a, b, tol=1e-9): np.testing.assert_allclose(np.asarray(a.detach() if hasattr(a, 'detach') else a, dtype=float), b, rtol=tol, atol=tol)

PAIRS = {'fix': (lambda: FixMatch(threshold=.9), lambda: om.FixMatch(.9)), 'fix default': (FixMatch, om.FixMatch), 'uda': (UDA, om.UDA),
    'flex': (lambda: FlexMatch(threshold=.8), lambda: om.FlexMatch(N, C, .8)), 'flex default': (FlexMatch, lambda: om.FlexMatch(N, C)),
    'free': (lambda: FreeMatch(momentum=.7, fairness=.3), lambda: om.FreeMatch(C, .7, .3)), 'free default': (FreeMatch, lambda: om.FreeMatch(C)),
    'soft': (lambda: SoftMatch(momentum=.7), lambda: om.SoftMatch(C, .7)), 'soft default': (SoftMatch, lambda: om.SoftMatch(C))}

@pytest.mark.parametrize('pair', list(PAIRS))
def test_sequence_against_oracle(pair):
    "Weights of the guesses, both losses, and what adapts, over a sequence of batches that grow surer."
    m, o = alone(PAIRS[pair][0]()), PAIRS[pair][1]()
    rates = []
    for t in range(12):
        x, w, s, y = logits(t, B), logits(100+t, BU, .5+.4*t), logits(200+t, BU), onehot(t)
        m.idx = torch.tensor(np.random.default_rng(300+t).permutation(N)[:BU])
        before = m.meters[4].total
        lx, lu = m.losses(*t64(np.concatenate([x, w, s]), y))
        wm, wl = o.step(w, s, m.idx.numpy())
        close(lx, oracle.cross_entropy(x, y))
        close(lu, wl)
        close(m.meters[4].total - before, wm.mean())
        close(m.meters[3].total/m.meters[3].count, m.meters[3]())
        rates.append(wm.mean())
    assert min(rates) < max(rates) or 'default' in pair
    for a, b in (('tau', 'tau'), ('p_model', 'p'), ('hist', 'h'), ('mean', 'mu'), ('var', 'var')):
        if hasattr(o, b) and a in m._adaptive: close(getattr(m, a), getattr(o, b))
    if pair.startswith('flex'): assert m.picked.tolist() == [C if v is None else v for v in o.picked.values()]

def test_pseudo_label_against_oracle():
    x, u, y = logits(0, B), logits(1, BU), onehot(2)
    lx, lu = alone(PseudoLabel(threshold=.9)).losses(*t64(np.concatenate([x, u]), y))
    m, want = om.FixMatch(.9).step(u, u)
    close(lx, oracle.cross_entropy(x, y))
    close(lu, want)
    assert 0 < m.mean() < 1

@pytest.mark.parametrize('schedule', ['linear', 'log', 'exp'])
@pytest.mark.parametrize('t', [0., .3, .8, 1.])
def test_annealing_against_oracle(schedule, t):
    x, y = logits(0, 50), onehot(1, 50)
    close(alone(UDA(tsa=schedule), t).labeled_loss(*t64(x, y)), om.tsa_loss(x, y, t, schedule))

def test_consistency_losses_against_oracle():
    x, a, b, y = logits(0, B), logits(1, BU), logits(2, BU), onehot(3)
    q, p = oracle.softmax(b), oracle.softmax(a)
    close(alone(PiModel()).losses(*t64(np.concatenate([x, a, b]), y))[1], oracle.l2(a, q))
    close(alone(EntropyMin(T=.3)).losses(*t64(np.concatenate([x, a]), y))[1], oracle.l2(a, oracle.sharpen(p, .3)))
    for m in (MeanTeacher(), ICT()): close(alone(m).losses(*t64(np.concatenate([x, a]), y, q))[1], oracle.l2(a, q))
    v = alone(VAT())
    lx, lu = v.losses(*t64(np.concatenate([x, a, b]), y))
    close(lx, oracle.cross_entropy(x, y) + .06*oracle.entropy(p).mean())
    close(lu, om.kl(p, b))
    close(kl_loss(*t64(b, p)), om.kl(p, b))
    for m in (PiModel(), EntropyMin(), FixMatch(ks=2)):
        z = np.concatenate([x] + [a]*2 + ([b] if isinstance(m, FixMatch) else [])) if not isinstance(m, EntropyMin) else np.concatenate([x, a])
        close(alone(m).losses(*t64(z, y))[0], oracle.cross_entropy(x, y))

def test_only_one_side_learns():
    "Targets carry no gradient: the Pi-model's second view, the weak views of the confident methods."
    x, a, b, y = logits(0, B), logits(1, BU), logits(2, BU), onehot(3)
    for m, frozen in ((PiModel(), slice(B+BU, None)), (FixMatch(threshold=.3), slice(B, B+BU)), (UDA(threshold=.3), slice(B, B+BU)),
            (SoftMatch(), slice(B, B+BU))):
        z, = t64(np.concatenate([x, a, b]))
        z.requires_grad_()
        alone(m).losses(z, *t64(y))[1].backward()
        assert not z.grad[:B].any() and not z.grad[frozen].any() and z.grad[B:].any()

def test_remixmatch_against_oracle(monkeypatch):
    "Aligned, sharpened targets, and what is mixed with what."
    m = alone(ReMixMatch(ks=2, rotation=0, momentum=.6))
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, C)).double()
    m.learn.model, m.class_counts = net, torch.tensor([3, 1, 4, 2, 2])
    drawn, p = {}, None
    real = mixup_draws
    def draws(n, *a, **kw):
        drawn['lam'], drawn['perm'] = real(n, *a, **kw)
        return drawn['lam'], drawn['perm']
    monkeypatch.setattr('fastai_mixmatch.mixup.mixup_draws', draws)
    for t in range(4):
        g = np.random.default_rng(t)
        x, w, s1, s2 = (g.normal(size=(k, 3, 2, 2)) for k in (B, BU, BU, BU))
        y = onehot(t)
        xs, (ys, yu, q, r) = m.make_batch(*t64(x, y), t64(w, s1, s2))
        with torch.no_grad(): guess = oracle.softmax(net(torch.tensor(w)).numpy())
        p = guess.mean(axis=0) if p is None else .6*p + .4*guess.mean(axis=0)
        want = oracle.sharpen(oracle.align(guess, np.array([3, 1, 4, 2, 2])/12, p), .5)
        close(q, want)
        mx, my = oracle.mixup(np.concatenate([x, w, s1, s2]), np.concatenate([y, want, want, want]), drawn['lam'].double().numpy(), drawn['perm'].numpy())
        close(xs[:-BU], mx, 1e-6); close(torch.cat([ys, yu]), my, 1e-6); close(xs[-BU:], s1)
        z = logits(t, len(xs))
        lx, lu = m.losses(torch.tensor(z), ys, yu, q, r)
        close(lx, oracle.cross_entropy(z[:B], ys.numpy()))
        close(lu, oracle.cross_entropy(z[B:-BU], yu.numpy()) + .5/1.5*oracle.cross_entropy(z[-BU:], q.numpy()))
    turns, r = logits(9, BU)[:, :4], torch.arange(BU) % 4
    m.rotation, m.head = .5, SimpleNamespace(take=lambda: torch.tensor(turns))
    lx, same = m.losses(torch.tensor(np.concatenate([z, z[-BU:]])), ys, yu, q, r)
    close(lx, oracle.cross_entropy(z[:B], ys.numpy()) + .5*oracle.cross_entropy(turns, np.eye(4)[r]), 1e-6)
    close(same, lu)

def test_quarter_turns():
    x = torch.arange(2*3*4*4.).view(2, 3, 4, 4).repeat(20, 1, 1, 1)
    v, r = quarter_turns(x)
    assert set(r.tolist()) == {0, 1, 2, 3}
    for a, b, k in zip(x, v, r): assert torch.equal(b, a.rot90(int(k), (1, 2)))
    v, r = quarter_turns(torch.rand(40, 1, 4, 6))
    assert v.shape == (40, 1, 4, 6) and set(r.tolist()) == {0, 2}

def test_fairness_without_guesses():
    z = torch.randn(8, C, requires_grad=True)
    loss = fairness_loss(z, torch.zeros(8), torch.full((C,), 1/C), torch.full((C,), 1/C))
    loss.backward()
    assert loss == 0 and not z.grad.any()

# --- in training

class Watch(Callback):
    "The unlabeled loss of each step, and the gradient of each loss alone at the last."
    order = 100
    def before_fit(self):
        self.lu, m = [], cb_of(self.learn)
        real = type(m).losses
        def losses(*a):
            lx, lu = real(m, *a)
            self.lu.append(lu.item())
            ps = list(self.learn.model.parameters())
            self.grads_x, self.grads = [torch.autograd.grad(o, ps, retain_graph=True, allow_unused=True) if o.requires_grad else None for o in (lx, lu)]
            return lx, lu
        m.losses = losses

@methods
def test_learns_from_unlabeled(name):
    "The unlabeled loss is above 0, and its gradient reaches every parameter: a Mean Teacher whose loss was 0 was published once."
    watch = Watch()
    learn = fit(learner(ALL[name](), cbs=watch), 2)
    m = cb_of(learn)
    assert all(math.isfinite(o) for o in watch.lu) and len(watch.lu) == 2*len(m.dl)
    if name == 'mixup': assert not any(watch.lu) and m.rows[-1]['loss_x'] > 0
    else:
        assert watch.lu[-1] != 0 and (watch.lu[-1] > 0 or name == 'free')
        for (n, p), gx, gu in zip(learn.model.named_parameters(), watch.grads_x, watch.grads):
            g = gx if '.second.' in n else gu # The rotation task is not ramped, and part of the other loss
            assert g is not None and (g.abs().sum() > 0 or 'bias' in n and name == 'mean_teacher'), n
    assert 0 <= learn.validate()[1] <= 1
    if isinstance(m, Confident): assert 0 < m.rows[-1]['mask_rate'] <= 1

@methods
def test_survives_what_learners_do(name, tmp_path):
    "`lr_find` moves no adaptive state; export and load; a second fit."
    learn = fit(learner(ALL[name]()))
    m = cb_of(learn)
    before = copy.deepcopy(m.state_dict()['adaptive'])
    learn.lr_find(num_it=6, show_plot=False)
    assert same_state(m.state_dict()['adaptive'], before)
    fit(learn)
    learn.path = tmp_path
    learn.export('l.pkl')
    from fastai.vision.all import load_learner
    other = load_learner(tmp_path/'l.pkl')
    assert other.predict(IL.items[0])[0] == learn.predict(IL.items[0])[0]

def same_state(a, b):
    if isinstance(a, dict): return a.keys() == b.keys() and all(same_state(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

@methods
def test_state_dict(name):
    "Everything adaptive goes through a checkpoint, and the next step goes on from it."
    learn = fit(learner(ALL[name]()))
    m, other = cb_of(learn), cb_of(learner(ALL[name]()))
    sd = pickle.loads(pickle.dumps(m.state_dict()))
    assert set(sd['adaptive']) == set(m.adaptive()) and set(m._adaptive) - set(m.adaptive()) <= {'strong'}
    other.load_state_dict(sd)
    assert same_state(other.state_dict()['adaptive'], m.state_dict()['adaptive'])
    fit(learn)
    assert same_state(other.state_dict()['adaptive'], sd['adaptive'])
    with pytest.raises(ValueError, match='does not fit'): other.load_state_dict(dict(sd, adaptive={'no': 1}))

def test_augmentation_that_learns():
    "CTAugment's weights move in training, and are part of the state."
    ct = CTAugment()
    learn = fit(learner(FixMatch(mu=1, strong=StrongView(ct))))
    assert (ct.weights < 1).any() and torch.equal(cb_of(learn).state_dict()['adaptive']['strong']['__state__']['weights'], ct.weights)

def test_batch_sizes():
    dls, rest = data()
    set_seed(0)
    learn = fixmatch_learner(dls, rest, small_cnn, mu=3, threshold=.5, ema=None, lr=1e-3)
    assert learn.fix_match.dl.bs == 48 and learn.fix_match.threshold == .5 and learn.lr == 1e-3 and 'ema' not in learn.__dict__
    assert remixmatch_learner(dls, rest, small_cnn, ks=1, bs=10).re_mix_match.dl.bs == 10
    assert flexmatch_learner.__name__ == 'flexmatch_learner'

@pytest.mark.parametrize('workers', [None, 0, 2])
def test_positions(workers):
    "A batch comes with its positions in the pool, also where workers read ahead."
    dls, rest = data(60)
    dl = unlabeled_dl(rest, dls, bs=7, cache=workers is None, num_workers=workers)
    if workers is not None: dl.pool = callback.Pool(rest.items, dl.pipe)
    want = torch.tensor(rest.items)
    seen = []
    for (x,), _ in dl:
        assert torch.equal(x[:, 0], want[dl.now])
        seen += dl.now.tolist()
    assert sorted(seen) == list(range(len(rest)))

def test_teacher_is_the_average():
    "Its prediction is that of a copy of the model with the averages in it, with the batch's statistics; the model is as it was."
    learn = fit(learner(MeanTeacher()))
    m, model = cb_of(learn), learn.model
    learn.ema.resume()
    with torch.no_grad(): [p.add_(torch.randn_like(p)*.1) for p in model.parameters()]
    x, before = torch.rand(8, 1, 8, 8), copy.deepcopy(model.state_dict())
    model.train()
    got = m.teacher(x)
    twin = copy.deepcopy(model).train()
    ts = [t for t in [*twin.parameters(), *twin.buffers()] if t.is_floating_point()]
    with torch.no_grad():
        for t, a in zip(ts, learn.ema.avg): t.copy_(a)
        want = twin(x).softmax(1)
        assert torch.allclose(got, want, atol=1e-6) and not torch.allclose(got, model(x).softmax(1), atol=1e-3)
    model.load_state_dict(before)
    avg = [a.clone() for a in learn.ema.avg]
    m.teacher(x)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and all(map(torch.equal, avg, learn.ema.avg))

def test_teacher_needs_an_average():
    with pytest.raises(RuntimeError, match='needs a teacher'): fit(learner(MeanTeacher(), ema=None))

def test_worst_direction():
    "The perturbation has its length, and changes the prediction more than a random one of the same length."
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    m, u = VAT(), torch.randn(50, 1, 8, 8)
    m.learn = SimpleNamespace(model=net)
    q = net(u).softmax(1).detach()
    r = m.worst(u)
    length = 6*math.sqrt(64/3072)
    assert torch.allclose(r.flatten(1).norm(dim=1), torch.tensor(length), rtol=1e-4) and all(p.grad is None for p in net.parameters())
    rand = torch.randn_like(u)
    rand = rand/rand.flatten(1).norm(dim=1).view(-1, 1, 1, 1)*length
    assert kl_loss(net(u+r), q) > 1.5*kl_loss(net(u+rand), q)

def test_second_head():
    "It is trained, leaves the outputs alone, and is found in the state."
    learn = learner(ReMixMatch(ks=1))
    net = learn.model
    head = next(o for o in net.modules() if isinstance(o, TwoHeads))
    w = head.second.weight.clone()
    x = torch.rand(4, 1, 8, 8)
    net.eval()
    assert torch.equal(net(x), F.linear(net[:-1](x), head.weight, head.bias))
    fit(learn)
    learn.ema.resume()
    assert not torch.equal(w, head.second.weight) and head.more is None
    copy.deepcopy(net)
    with pytest.raises(ValueError, match='rotation=0'): learner(ReMixMatch(ks=1), arch=lambda i, o: nn.Sequential(nn.Conv2d(i, o, 8), nn.Flatten()))
    plain = fit(Learner(*(lambda dls, rest: (dls, small_cnn(1, 10), CrossEntropyLossFlat()))(*data()), opt_func=SGD, cbs=[ReMixMatch(data()[1], ks=1)]))
    assert any(p.shape == (4, 256) for g in plain.opt.param_lists for p in g)

# --- errors

@pytest.mark.parametrize('make, message', [(lambda: FixMatch(threshold=1.5), 'threshold'), (lambda: FixMatch(mu=0), 'mu'), (lambda: UDA(tsa='cos'), "tsa must be"),
    (lambda: ReMixMatch(ks=0), 'strong view'), (lambda: VAT(eps=0), 'above 0'), (lambda: FixMatch(ks=-1), 'ks')])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message): make()

def test_strong_needs_a_view():
    with pytest.raises(TypeError, match='strong'): FixMatch(strong=lambda x: x)

def test_images_outside_of_0_1():
    from fastai.vision.all import DataLoader, DataLoaders
    items = [(torch.randn(1, 8, 8), torch.tensor(i % 4)) for i in range(20)]
    dls = DataLoaders(DataLoader(items, bs=4), DataLoader(items, bs=4))
    dls.c = 4
    with pytest.raises(ValueError, match=r'strong views need images in \[0,1\]'): ssl_learner(dls, torch.randn(30, 1, 8, 8), small_cnn, method=FixMatch())

def test_flexmatch_needs_positions():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self): return iter([im for im in IL.items[:64]])
    dls, _ = data()
    with pytest.raises(ValueError, match='no positions'): fit(ssl_learner(dls, Stream(), small_cnn, method=FlexMatch(bs=16, steps=2)))

# --- it learns

def measured(name):
    "Errors of `bench/results/methods.jsonl` on a set: a row for each seed, a column for each method"
    rows = pd.read_json(Path(__file__).resolve().parent.parent/'bench/results/methods.jsonl', lines=True, precise_float=True)
    rows = rows[rows.set == name]
    assert rows.steps.nunique() == 1 and not rows.duplicated(['seed','method']).any()
    return rows.pivot(index='seed', columns='method', values='error')

@pytest.mark.parametrize('name, seeds', [('digits', 5), ('mnist', 3)])
def test_measured(name, seeds):
    "In as many steps no method is worse than supervised training, beyond what the seeds differ by, and those that it is about are clearly better, pair by pair."
    err = measured(name)
    assert list(err.index) == list(range(seeds)) and not err.isna().any().any()
    assert set(err.columns) == {'Supervised','MixMatch','MixUpLabeled'} | {type(m()).__name__ for m in ALL.values()}
    worse = err.sub(err.Supervised, axis=0).drop(columns='Supervised')
    noise = 2*worse.std()/math.sqrt(seeds)
    assert (worse.mean() <= noise).all(), worse.mean()[worse.mean() > noise]
    for m in ('FixMatch','MixMatch','ReMixMatch','UDA'): assert worse[m].mean() + noise[m] < -.02 and (worse[m] < 0).all(), m

@pytest.mark.parametrize('cls', [FixMatch, UDA])
def test_beats_supervised(cls):
    "On digits with 20 labels, with as many steps; the table of all methods over five seeds is made by bench/methods.py."
    gains = []
    for seed in range(2):
        labeled, rest = IL[500:].split(20, seed=seed)
        acc = []
        for m in (Supervised(bs=64), cls(bs=64, threshold=.6, strong=StrongView(cutout=.25), ramp=.4)):
            set_seed(seed)
            learn = ssl_learner(labeled.dataloaders(IL[:500], bs=32), rest, small_cnn, method=m)
            with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(12)
            acc.append(learn.validate()[1])
        gains.append(acc[1]-acc[0])
    assert np.mean(gains) > 0, gains
