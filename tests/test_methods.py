"""The relatives: targets, weights and losses against the oracle, whole steps, which view feeds which part, that each one learns from unlabeled
images, and what it keeps."""
import copy, math, numpy as np, oracle, oracle_methods as om, pandas as pd, pickle, pytest, torch, warnings
from fastai.vision.all import Callback, DataLoader, DataLoaders, load_learner, set_seed
from fastai_mixmatch.all import *
from fastai_mixmatch.methods import fairness_loss, kl_loss, quarter_turns
from helpers import IL, METHODS, SMALL, At, core_dls, method_learner, method_of, train, validated
from torch import nn
from pathlib import Path
from types import SimpleNamespace
import torch.nn.functional as F

B, BU, C, N = 6, 40, 5, 120

methods = pytest.mark.parametrize('name', list(METHODS))

# --- against the oracle, on given logits

class Seat:
    "As much of a learner as losses ask for: the oracle's logits are compared, and no network could be made to give them"
    def __init__(self, pct=.3, model=None): self.pct_train,self.model = pct,model

def alone(m, pct=.3, model=None):
    "A method with nothing around it but what its losses ask for, in the step of a batch of `BU` images"
    m.dl,m.learn = SimpleNamespace(pool=range(N), bs=BU, rank=0, world=1),Seat(pct, model)
    m.step = Step(Batch(None, None, (), (), None, None, None, None))
    return m

def logits(seed, n, scale=3.): return np.random.default_rng(seed).normal(size=(n, C)) * scale + np.linspace(0, 2, C)

def onehot(seed, n=B): return np.eye(C)[np.random.default_rng(seed).integers(0, C, n)]

def t64(*os): return [torch.tensor(o, dtype=torch.float64) for o in os]

def close(a, b, tol=1e-9): np.testing.assert_allclose(np.asarray(a.detach() if hasattr(a, 'detach') else a, dtype=float), b, rtol=tol, atol=tol)

PAIRS = {'fix': (lambda: FixMatch(threshold=.9), lambda: om.FixMatch(.9)), 'fix default': (FixMatch, om.FixMatch), 'uda': (UDA, om.UDA),
    'flex': (lambda: FlexMatch(threshold=.8), lambda: om.FlexMatch(N, C, .8)), 'flex default': (FlexMatch, lambda: om.FlexMatch(N, C)),
    'free': (lambda: FreeMatch(momentum=.7, fairness=.3), lambda: om.FreeMatch(C, .7, .3)), 'free default': (FreeMatch, lambda: om.FreeMatch(C)),
    'free clipped': (lambda: FreeMatch(momentum=.3, clip=.6), lambda: om.FreeMatch(C, .3, clip=.6)),
    'soft': (lambda: SoftMatch(momentum=.7), lambda: om.SoftMatch(C, .7)), 'soft default': (SoftMatch, lambda: om.SoftMatch(C)),
    'ada': (lambda: AdaMatch(threshold=.8, interpolate=False), lambda: om.AdaMatch(.8)), 'ada default': (lambda: AdaMatch(interpolate=False), om.AdaMatch)}

@pytest.mark.parametrize('pair', list(PAIRS))
def test_sequence_against_oracle(pair):
    "Weights of the guesses, both losses, and what adapts, over a sequence of batches that grow surer."
    m,o = alone(PAIRS[pair][0]()),PAIRS[pair][1]()
    rates = []
    for t in range(12):
        x,w,s,y = logits(t, B),logits(100+t, BU, .5+.4*t),logits(200+t, BU),onehot(t)
        m.step.batch.idx = torch.tensor(np.random.default_rng(300+t).permutation(N)[:BU])
        lx,lu = m.losses(*t64(np.concatenate([x, w, s]), y))
        wm,wl = o.step(w, s, x=x) if pair.startswith('ada') else o.step(w, s, m.step.batch.idx.numpy())
        close(lx, oracle.cross_entropy(x, y))
        close(lu, wl)
        close(m.step.notes['mask_rate'], wm.mean())
        close(m.step.guess, oracle.softmax(w))
        rates.append(wm.mean())
    assert min(rates)<max(rates) or 'default' in pair
    for a,b in (('tau','tau'),('p_model','p'),('hist','h'),('mean','mu'),('var','var'),('p_x','px'),('p_u','pu')):
        if hasattr(o, b) and a in m.averages: close(m.learned[a], getattr(o, b))
    if pair.startswith('flex'): assert m.learned.picked.tolist()==[C if v is None else v for v in o.picked.values()]
    if pair=='free clipped': assert m.learned.tau==.6

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
    x, y = logits(0, 5000, 1.), onehot(1, 5000) # Of all confidences, so that each threshold parts them in its own way
    close(alone(UDA(tsa=schedule), t).labeled_loss(*t64(x, y)), om.tsa_loss(x, y, t, schedule))

@pytest.mark.parametrize('unsure', [0, 1, 3])
def test_annealing_of_a_few(unsure):
    "The mean is over the images that are not yet sure enough; 0, and not nan, where there is none; a tie is sure enough (UDA, eq. 2)."
    x,y = np.tile([9., 0, 0, 0], (6, 1)),np.eye(4)[[0]*6]
    x[:unsure] = np.arange(unsure)[:,None]*[-.1, 0, 0, 0] + [-1., 0, 0, 0]
    got = alone(UDA(tsa='linear'), 0.).labeled_loss(*t64(x, y))
    close(got, om.tsa_loss(x, y, 0., 'linear'))
    assert (got>0)==(unsure>0)
    assert alone(UDA(tsa='linear'), 0.).labeled_loss(*t64(np.zeros((6, 4)), y))==0

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

def test_entropy_carries_no_gradient_through_its_target():
    "The slope is that of the distance to a sharpened guess that stands still; and a sharp guess that moved along would have another."
    x,u,y = logits(0, B),logits(1, BU),onehot(2)
    z, = t64(np.concatenate([x, u]))
    z.requires_grad_()
    alone(EntropyMin(T=.3)).losses(z, *t64(y))[1].backward()
    close(z.grad[B:], oracle.d_l2(u, oracle.sharpen(oracle.softmax(u), .3)))
    w, = t64(u)
    w.requires_grad_()
    l2_loss(w, sharpen(w.softmax(1), .3)).backward()
    assert (w.grad-z.grad[B:]).abs().max()>1e-4

def test_adamatch_interpolates():
    "The labeled logits lie between those of the joint and those of the separate batch, by a draw for each number."
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, C)).double()
    m = alone(AdaMatch(), model=net)
    x,y,im = *t64(logits(0, B), onehot(1)),torch.randn(B, 3, 2, 2, dtype=torch.double)
    m.step.batch.x = im
    torch.manual_seed(3)
    got = m.labeled_loss(x, y)
    torch.manual_seed(3)
    r = torch.rand(B, C, dtype=torch.double).numpy()
    own = net(im).detach().numpy()
    close(got, oracle.cross_entropy(x.numpy()+r*(own-x.numpy()), y.numpy()))
    assert abs(float(got)-oracle.cross_entropy(x.numpy(), y.numpy()))>1e-3

def test_defixmatch_against_oracle():
    "FixMatch's loss on unlabeled images, less the same on the labeled ones, whose labels are learned in both views."
    x,w,s,xs,y = logits(0, B),logits(1, BU),logits(2, BU),logits(3, B),onehot(4)
    lx,lu = alone(DeFixMatch(threshold=.6)).losses(*t64(np.concatenate([x, w, s, xs]), y))
    close(lx, (oracle.cross_entropy(x, y)+oracle.cross_entropy(xs, y))/2, 1e-6)
    close(lu, om.defix(.6, x, w, s, xs), 1e-6)
    assert abs(om.defix(.6, x, w, s, xs)-om.FixMatch(.6).step(w, s)[1])>1e-2

def test_noisy_student_against_oracle():
    x,s1,s2,t,y = logits(0, B),logits(1, BU),logits(2, BU),logits(3, BU),onehot(4)
    q, = t64(oracle.softmax(t))
    m = alone(NoisyStudent(trained=nn.Identity(), ks=2))
    lx,lu = m.losses(*t64(np.concatenate([x, s1, s2]), y), q, q)
    close(lx, oracle.cross_entropy(x, y))
    close(lu, (oracle.cross_entropy(s1, q.numpy())+oracle.cross_entropy(s2, q.numpy()))/2)

def test_remixmatch_against_oracle(monkeypatch):
    "Aligned by the guesses of the steps before, sharpened; what is mixed with what; the anchor; the turned view."
    m = alone(ReMixMatch(ks=2, momentum=.6))
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, C)).double()
    m.learn.model,m.class_counts = net,torch.tensor([3, 1, 4, 2, 2])
    drawn,p,real = {},np.full(C, 1/C),mixup_draws
    def draws(n, *a, **kw):
        drawn['lam'],drawn['perm'] = real(n, *a, **kw)
        return drawn['lam'],drawn['perm']
    monkeypatch.setattr('fastai_mixmatch.mixup.mixup_draws', draws)
    for t in range(4):
        g = np.random.default_rng(t)
        x,w,s1,s2 = (g.normal(size=(k, 3, 2, 2)) for k in (B, BU, BU, BU))
        y = onehot(t)
        b = Batch(*t64(x, y), tuple(t64(w)), tuple(t64(s1, s2)), None, None, None, None)
        xs,(ys,yu,q,r) = m.make_batch(b)
        with torch.no_grad(): guess = oracle.softmax(net(torch.tensor(w)).numpy())
        want = oracle.sharpen(oracle.align(guess, np.array([3, 1, 4, 2, 2])/12, p), .5)
        p = .6*p+.4*guess.mean(axis=0)
        close(q, want); close(m.step.guess, want)
        mx,my = oracle.mixup(np.concatenate([x, w, s1, s2]), np.concatenate([y, want, want, want]), drawn['lam'].double().numpy(), drawn['perm'].numpy())
        n = len(mx)
        close(xs[:n], mx, 1e-6); close(torch.cat([ys, yu]), my, 1e-6); close(xs[n:n+BU], s1)
        for a,o,k in zip(s1, xs[n+BU:], r): close(o, np.rot90(a, int(k), (1, 2)))
        z,turns = logits(t, len(xs)),logits(50+t, len(xs))[:, :4]
        m.head = lambda name: torch.tensor(turns)
        lx,lu = m.losses(torch.tensor(z), ys, yu, q, r)
        close(lx, oracle.cross_entropy(z[:B], ys.numpy()) + .5*oracle.cross_entropy(turns[n+BU:], np.eye(4)[r]), 1e-6)
        close(lu, oracle.cross_entropy(z[B:n], yu.numpy()) + .5/1.5*oracle.cross_entropy(z[n:n+BU], q.numpy()))

def test_remixmatch_without_turns():
    "No turned image goes through the network, and no loss of turns is added; one unlabeled image is enough."
    m = alone(ReMixMatch(ks=1, rotation=0.))
    m.learn.model,m.class_counts = nn.Sequential(nn.Flatten(), nn.Linear(12, C)).double(),torch.ones(C)
    g,y = np.random.default_rng(0),onehot(0)
    x,w,s = (g.normal(size=(n, 3, 2, 2)) for n in (B, 2, 2))
    xs,(ys,yu,q,r) = m.make_batch(Batch(*t64(x, y), tuple(t64(w)), tuple(t64(s)), None, None, None, None))
    assert len(xs)==B+2+2+2 and r is None and m.aligned(q[:1]).shape==(1,C)
    z = logits(1, len(xs))
    close(m.losses(torch.tensor(z), ys, yu, q, r)[0], oracle.cross_entropy(z[:B], ys.numpy()))

def test_a_tie_counts():
    "A guess as confident as the threshold counts, wherever there is one: it is what a guess counts from."
    half,quarter = torch.tensor([[.5, .25, .25, 0]]*4),torch.full((4, 4), .25)
    assert FixMatch(threshold=.5).targets(half, None)[1].tolist()==[1]*4
    m = alone(FlexMatch(threshold=.5))
    m.step.batch.idx = torch.arange(4)
    m.learned.picked = torch.zeros(N, dtype=torch.long) # Class 0 is picked most: its threshold is the full one
    m.learned.picked[:4] = 1
    assert m.targets(half, None)[1].tolist()==[1]*4 and m.learned.picked[:4].tolist()==[0]*4
    assert alone(FreeMatch(momentum=.5)).targets(quarter, None)[1].tolist()==[1]*4
    both = torch.tensor([[.5, .5], [.5, .5]])
    assert alone(AdaMatch(threshold=.5)).targets(both, torch.eye(2))[1].tolist()==[1, 1]

@pytest.mark.parametrize('make', [lambda: SoftMatch(momentum=.7), lambda: SoftMatch(momentum=.7, uniform=False), lambda: AdaMatch(threshold=.8),
                                  lambda: FreeMatch(momentum=.7)])
def test_two_processes_are_one(make):
    "Two processes with the same batch weigh and learn what one does with the batch twice."
    one,two = alone(make()),alone(make())
    two.dl.world,two.mean_ranks = 2,lambda o: o
    for t in range(3):
        q,q_x = (torch.tensor(oracle.softmax(logits(t+k, n, 1.))) for k,n in ((0,BU),(9,B)))
        (_,a),(_,b) = one.targets(torch.cat([q, q]), torch.cat([q_x, q_x])),two.targets(q, q_x)
        close(a[:BU], b.numpy())
        for k in one.averages: close(one.learned[k], two.learned[k].numpy())

def test_softmatch_of_a_few():
    "One image has no deviation, of two it is the unbiased one; where all are equally sure, each counts fully."
    q, = t64([[.7, .2, .1], [.4, .5, .1]])
    m = alone(SoftMatch(momentum=0., uniform=False))
    assert m.targets(q[:1], None)[1].tolist()==[1.] and m.learned.var==0
    m.targets(q, None)
    close(m.learned.var, np.var([.7, .5], ddof=1))
    assert m.targets(q[[0,0]], None)[1].tolist()==[1., 1.]

def test_a_method_that_declares_no_threshold_takes_every_guess():
    w,s,x,y = logits(0, BU),logits(1, BU),logits(2, B),onehot(3)
    lu = alone(Confident()).losses(*t64(np.concatenate([x, w, s]), y))[1]
    close(lu, oracle.cross_entropy(s, np.eye(C)[w.argmax(1)]))

def test_losses_are_means_over_the_strong_views():
    w,s1,s2,x,y = *(logits(i, BU) for i in range(3)),logits(3, B),onehot(4)
    lu = alone(FixMatch(threshold=.6, ks=2)).losses(*t64(np.concatenate([x, w, s1, s2]), y))[1]
    close(lu, (om.FixMatch(.6).step(w, s1)[1]+om.FixMatch(.6).step(w, s2)[1])/2)

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

def test_fairness_of_a_class_that_is_never_chosen():
    "The strong views choose classes 0 and 1, never 2: it takes no part in the sum, whatever its probability (FreeMatch, eq. 11)."
    z,m = np.array([[3., 1, 0], [2, 1, 1], [0, 2, 1.5], [0, 0, 9]]),np.array([1., 1, 1, 0])
    o = om.FreeMatch(3)
    o.p,o.h = np.array([.5, .3, .2]),np.array([.6, .3, .1])
    for k in (m, np.array([0, 0, 1., 0])): # Three images count, or a single one
        close(fairness_loss(*t64(z, k, o.p, o.h)), o.fairness(oracle.softmax(z)[k>0]))
    o.p,o.h = np.array([.6, .3, .1]),np.array([.7, .3, 0])
    s = oracle.softmax(z)[:3].mean(0)/[2/3, 1/3, 1]
    a,b = np.array([.6/.7, 1, 0]),np.array([s[0], s[1], 0])
    close(fairness_loss(*t64(z, m, o.p, o.h)), (a/a.sum()*np.log(b/b.sum()+1e-12)).sum())

# --- which view feeds what

class Watched:
    "What a method asked its network in a step: input and output of each call"
    def __init__(self, learn):
        self.calls,net = [],learn.model
        net.register_forward_hook(lambda m, x, y: self.calls.append((x[0].detach().clone(), torch.is_grad_enabled(), m.training)))

def one_step(method, change=None, bs=8, **kw):
    """Input, targets and losses of the first step of `method`, with views that depend on nothing drawn: the weak view of an image is itself, a strong one
    its negative. `change(batch)` may move one of them."""
    class Negative:
        def view(self, x): return 1-x
    class Given(type(method)):
        def make_batch(self, b):
            if change is not None: change(b)
            kept.update(batch=b)
            torch.manual_seed(1)
            kept['made'] = super().make_batch(b)
            return kept['made']
        def losses(self, *a):
            torch.manual_seed(2)
            kept['losses'] = super().losses(*a)
            return kept['losses']
    kept = {}
    method.__class__ = Given
    if method.ks: method.strong = Negative()
    set_seed(0)
    learn = method_learner(method, 60, arch=NoNorm, bs=bs, weak=False, lr=0., **kw)
    kept['watched'] = Watched(learn)
    def stop(l): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): train(learn, cbs=At('after_loss', stop, n=0, order=30))
    kept['lx'],kept['lu'] = map(float, kept['losses'])
    return SimpleNamespace(**kept, learn=learn)

def NoNorm(n_in, n_out):
    "A network whose output for an image depends on no other, and is far from even"
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, n_out))
    net[3].weight.data.mul_(8)
    return net

def negate(name, i):
    def f(b):
        v = list(getattr(b, name))
        v[i] = v[i].roll(3, -1)
        setattr(b, name, tuple(v))
    return f

def near(a, b): return a.shape==b.shape and torch.allclose(a, b, atol=1e-6)

SURE = dict(fix=lambda: FixMatch(threshold=0.), uda=lambda: UDA(threshold=0.), free=FreeMatch, soft=SoftMatch, flex=lambda: FlexMatch(threshold=0.),
    ada=lambda: AdaMatch(threshold=0., interpolate=False), defix=lambda: DeFixMatch(threshold=0.), student=METHODS['student'])

@pytest.mark.parametrize('name', SURE)
def test_views_of_the_confident(name):
    "The network gets weak views and strong ones where they belong; the guess hangs on the weak view alone, the loss on both, the labeled loss on neither."
    a,weak,strong = (one_step(SURE[name](), f) for f in (None, negate('weak', 0), negate('strong', 0)))
    assert a.lx==weak.lx==strong.lx and a.lu not in (weak.lu, strong.lu)
    x,b = a.made[0],a.batch
    assert near(b.strong[0], 1-b.weak[0]), 'the strong view is what `strong` makes of the image'
    want = [b.x, *([] if name=='student' else b.weak), *b.strong, *([1-b.raw.float()/255] if name=='defix' else [])]
    assert near(x, torch.cat(want))
    model = a.learn.model if name!='student' else method_of(a.learn).trained
    with torch.no_grad(): asked = model(b.weak[0]).softmax(1)
    if name=='student': assert torch.allclose(a.made[1][1], asked, atol=1e-6) and torch.equal(strong.made[1][1], a.made[1][1])
    z = a.learn.model(torch.cat(want))
    n,u = len(b.x),len(b.weak[0])
    if name=='fix': assert a.lu==pytest.approx(F.cross_entropy(z[n+u:n+2*u], asked.argmax(1)).item(), rel=1e-5)
    if name=='student': assert a.lu==pytest.approx(soft_cross_entropy(z[n:], asked).item(), rel=1e-5)

def test_remixmatch_turns_the_strong_view():
    "Labeled images are shown strongly, the guess is of the weak view, the anchor and the turned images are the strong one."
    a = one_step(ReMixMatch(ks=2, alpha=0.))
    (x,(*_,r)),b = a.made,a.batch
    n,u = len(b.x),len(b.weak[0])
    assert near(b.x, 1-b.raw.float()/255), 'a strong view of the labeled images'
    assert torch.equal(x[:n], b.x) and torch.equal(x[n:n+u], b.weak[0]) and torch.equal(x[n+3*u:n+4*u], b.strong[0])
    assert len(r)==u and len(set(r.tolist()))>1
    for o,s,k in zip(x[n+4*u:], b.strong[0], r): assert torch.equal(o, s.rot90(int(k), (1, 2)))
    assert torch.equal(a.watched.calls[-2][0], b.weak[0]), 'the guess'

def test_teachers_see_their_own_view():
    "Mean Teacher's teacher sees the second view and the student the first; ICT's is asked about images before they are mixed."
    a = one_step(MeanTeacher(), change=negate('weak', 1))
    b = a.batch
    assert not torch.equal(*b.weak) and torch.equal(a.made[0], torch.cat([b.x, b.weak[0]]))
    want = a.learn.model(b.weak[1]).softmax(1)
    assert torch.allclose(a.made[1][1], want, atol=1e-5) and not torch.allclose(a.made[1][1], a.learn.model(b.weak[0]).softmax(1), atol=1e-3)
    ict = ICT(alpha=1.)
    ict.k = 2 # The method has no use for a second view, which feeds nothing
    a = one_step(ict, negate('weak', 1))
    u,q = a.made[0][len(a.batch.x):],a.made[1][1]
    torch.manual_seed(1)
    lam,perm = mixup_draws(len(u), 1.)
    with torch.no_grad(): p = a.learn.model(a.batch.weak[0]).softmax(1)
    _,want = mixup(a.batch.weak[0], p, 1., lam, perm)
    with torch.no_grad(): mixed = a.learn.model(u).softmax(1)
    assert torch.allclose(q, want, atol=1e-5) and (q-mixed).abs().max()>1e-2

def test_views_of_the_pi_model():
    "The guess is of the second view, which gets no gradient; the loss hangs on both."
    a,first,second = (one_step(PiModel(), f) for f in (None, negate('weak', 0), negate('weak', 1)))
    assert a.lu==pytest.approx(0) and first.lu==pytest.approx(second.lu, rel=.5) and min(first.lu, second.lu)>1e-4 and a.lx==first.lx==second.lx

# --- VAT

def bumpy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))

def test_worst_direction_is_that_of_float64():
    "In float32 and at pixel scale, at the default `xi`; at the 1e-6 of others the direction found is noise."
    net,u = bumpy(),torch.rand(50, 1, 8, 8)
    def worst(net, u, d, **kw):
        m = VAT(**kw)
        m.learn = Seat(model=net)
        torch.manual_seed(1)
        return m.worst(u).double().flatten(1)
    exact = copy.deepcopy(net).double()
    torch.manual_seed(1)
    d = torch.randn_like(u).double().flatten(1)
    d = d/d.norm(dim=1, keepdim=True)
    x = u.double().flatten(1)
    p = exact(x.view_as(u)).softmax(1).detach()
    want = [] # The power iteration itself: the Hessian of KL at 0, in float64, times d
    for xi,di,pi in zip(x, d, p):
        J = torch.autograd.functional.jacobian(lambda o: exact(o[None])[0], xi.view(1, 8, 8)).reshape(10, 64)
        want.append(J.T@((torch.diag(pi)-pi[:,None]*pi)@(J@di)))
    want = torch.stack(want)
    cos = lambda a: F.cosine_similarity(a, want).mean().item()
    assert cos(worst(net, u, d))>.99 and cos(worst(net, u, d, xi=1e-6))<.9
    with torch.autocast('cpu', torch.bfloat16): assert cos(worst(net, u, d))>.99

def test_worst_direction():
    "The perturbation has its length, and changes the prediction more than a random one of the same length."
    net = bumpy()
    m, u = VAT(), torch.randn(50, 1, 8, 8)
    m.learn = Seat(model=net)
    q = net(u).softmax(1).detach()
    r = m.worst(u)
    length = 6*math.sqrt(64/3072)
    assert torch.allclose(r.flatten(1).norm(dim=1), torch.tensor(length), rtol=1e-4) and all(p.grad is None for p in net.parameters())
    rand = torch.randn_like(u)
    rand = rand/rand.flatten(1).norm(dim=1).view(-1, 1, 1, 1)*length
    assert kl_loss(net(u+r), q) > 1.5*kl_loss(net(u+rand), q)

def test_the_search_compares_like_with_like():
    "Both predictions of the search are made in training mode: those by a batch's own statistics differ from those by the running ones without any perturbation"
    modes, m = [], alone(VAT(), model=SMALL(1, C).train())
    m.learn.model.register_forward_hook(lambda net, *_: modes.append(net.training))
    m.worst(torch.rand(4, 1, 8, 8))
    assert modes==[True, True]

def test_vat_adds_the_perturbation():
    m = alone(VAT(), model=bumpy())
    x,u = torch.rand(3, 1, 8, 8),torch.rand(1, 1, 8, 8) # One unlabeled image is enough
    torch.manual_seed(4)
    r = m.worst(u)
    torch.manual_seed(4)
    got,_ = m.make_batch(Batch(x, torch.eye(3), (u,), (), None, None, None, None))
    assert r.norm()>0 and torch.equal(got, torch.cat([x, u, u+r]))

def test_worst_direction_of_a_sure_network():
    "The gradient is below 1e-30, whose square float32 does not hold, and the perturbation has its full length; without any gradient there is none."
    net,u = bumpy(),torch.rand(20, 1, 8, 8)
    net[3].bias.data = torch.tensor([55.] + [0.]*9)
    m = alone(VAT(), model=net)
    assert torch.allclose(m.worst(u).flatten(1).norm(dim=1), torch.tensor(6*math.sqrt(64/3072)), rtol=1e-4)
    net[1].weight.data.zero_()
    assert torch.equal(m.worst(u), torch.zeros_like(u))

def test_worst_direction_of_one_pixel():
    "Where the network looks at one pixel alone, that one is moved, by the full length."
    class Look(nn.Module):
        def forward(self, x): return torch.stack([x[:,0,3,5], -x[:,0,3,5]], 1)
    r = alone(VAT(), model=Look()).worst(torch.rand(20, 1, 8, 8))
    assert torch.allclose(r[:,0,3,5].abs(), torch.tensor(6*math.sqrt(64/3072)), rtol=1e-4) and (r!=0).sum()==20

def test_the_search_leaves_no_trace():
    "Neither in the statistics of batch norm, nor in gradients, nor in modes; and the search itself normalizes by the batch, as training does."
    net = SMALL(1, 10).train()
    net(torch.rand(8, 1, 8, 8))
    m,before = VAT(),copy.deepcopy(net.state_dict())
    m.learn = Seat(model=net)
    r = m.worst(torch.rand(20, 1, 8, 8))
    assert all(torch.equal(v, before[k]) for k,v in net.state_dict().items()) and net.training and r.norm()>0
    assert all(p.grad is None for p in net.parameters())

# --- in training

class Watch(Callback):
    "The unlabeled loss of each step, and the gradient of each loss alone at the last"
    order,run_valid = 100,False
    def before_fit(self): self.lu = []
    def after_loss(self):
        step,ps = method_of(self.learn).step,list(self.learn.model.parameters())
        self.lu.append(step.loss_u.item())
        self.grads_x,self.grads = [torch.autograd.grad(o, ps, retain_graph=True, allow_unused=True) if o.requires_grad else None
                                   for o in (step.loss_x, step.loss_u)]

@methods
@pytest.mark.filterwarnings('ignore')
def test_learns_from_unlabeled(name):
    "The unlabeled loss is above 0, and its gradient reaches every parameter: a Mean Teacher whose loss was 0 was published once."
    watch = Watch()
    learn = train(method_learner(METHODS[name](), mu=1, cbs=watch), 2)
    m = method_of(learn)
    assert all(math.isfinite(o) for o in watch.lu) and len(watch.lu)==2*len(m.dl)
    if name=='mixup': assert not any(watch.lu) and not m.guesses
    else:
        assert watch.lu[-1]!=0 and (watch.lu[-1]>0 or name in ('free','defix'))
        for (n,p),g in zip(learn.model.named_parameters(), watch.grads):
            assert g is not None and (g.abs().sum()>0 or 'bias' in n and name=='mean_teacher'), n
    assert 0<=validated(learn)['accuracy']<=1
    if isinstance(m, Confident): assert 0<learn.report.rows[-1]['mask_rate']<=1

@methods
@pytest.mark.filterwarnings('ignore', 'error:You are shadowing')
def test_survives_what_learners_do(name, tmp_path):
    "`lr_find` moves nothing that adapts; export and load; a second fit, without fastai's warning of a name that is taken"
    learn = train(method_learner(METHODS[name](), 100, mu=1))
    before = copy.deepcopy(method_of(learn).state_dict()['learned'])
    with learn.no_bar(), learn.no_logging(): learn.lr_find(num_it=6, show_plot=False)
    assert same_state(method_of(learn).state_dict()['learned'], before)
    train(learn)
    learn.path = tmp_path
    learn.export('l.pkl')
    other = load_learner(tmp_path/'l.pkl')
    assert other.predict(IL.items[0])[0]==learn.predict(IL.items[0])[0]

def same_state(a, b):
    if isinstance(a, dict): return a.keys()==b.keys() and all(same_state(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a==b

@methods
@pytest.mark.filterwarnings('ignore')
def test_state_dict(name):
    "All that adapts goes through a file, and the next step goes on from it."
    learn = train(method_learner(METHODS[name](), 100, mu=1))
    m,other = method_of(learn),method_of(method_learner(METHODS[name](), 100, mu=1))
    sd = pickle.loads(pickle.dumps(m.state_dict()))
    assert set(sd['learned'])==set(m.changed()) and set(m.averages)<=set(sd['learned'])
    other.load_state_dict(sd)
    assert same_state(other.state_dict()['learned'], m.state_dict()['learned'])
    train(learn)
    assert same_state(other.state_dict()['learned'], sd['learned'])
    if m.averages: assert not same_state(m.state_dict()['learned'], sd['learned'])
    with pytest.raises(ValueError, match='does not fit'): other.load_state_dict(dict(sd, method='Another'))

def test_augmentation_that_learns():
    "CTAugment's weights move in training, and are part of the state."
    ct = CTAugment()
    learn = train(method_learner(FixMatch(strong=StrongView(ct)), mu=1))
    assert (ct.weights<1).any() and 'strong' in method_of(learn).state_dict()['learned']
    other = method_of(method_learner(FixMatch(strong=StrongView(CTAugment())), mu=1))
    other.load_state_dict(method_of(learn).state_dict())
    assert torch.equal(other.strong.aug.weights, ct.weights)

def test_the_average_judges_what_ctaugment_did():
    "In evaluation mode, as in the authors' code: the network in training, or with weights of its own, would be always right"
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))
        def forward(self, x):
            y = 1-x[:,0,0,0] if self.training else x[:,0,0,0]
            return torch.stack([y, 1-y], 1)*self.w
    seen,ct = [],CTAugment()
    ct.update = lambda used, p, y, total: seen.append((p[:,0], used))
    ct.probe = lambda x: (x, torch.zeros(2, len(x)))
    learn = method_learner(FixMatch(strong=StrongView(ct)), mu=1)
    m,net = method_of(learn),Net()
    x = torch.tensor([0.,1.,1.]).view(3,1,1,1).expand(3,1,8,8)
    m.view = SimpleNamespace(strong=lambda x, aug: aug.view(x))
    learn.model,learn.ema.avg,learn.ema.slots = net.train(),[torch.full((1,), 5.)],[(net._parameters,'w')]
    m.teach(x, torch.tensor([1,0,0]))
    assert torch.allclose(seen[0][0], torch.tensor([-5.,5.,5.]).sigmoid()) and net.training and net.w==0

def test_batch_sizes():
    learn = fixmatch_learner(core_dls(bs=16), IL[200:328], SMALL, mu=3, threshold=.5, ema=None, lr=1e-3)
    assert learn.fix_match.dl.bs==48 and learn.fix_match.threshold==.5 and learn.lr==1e-3 and 'ema' not in learn.__dict__
    assert fixmatch_learner(core_dls(bs=5), IL[200:328], SMALL).fix_match.dl.bs==35, 'seven times the labeled ones'
    assert remixmatch_learner(core_dls(), IL[200:328], SMALL, ks=1, bs=10).re_mix_match.dl.bs==10
    assert flexmatch_learner.__name__=='flexmatch_learner'

def test_teacher_is_the_average():
    "Its prediction is that of a copy of the model with the averages in it, with the batch's statistics; the model is as it was."
    learn = train(method_learner(MeanTeacher()))
    m, model = method_of(learn), learn.model
    learn.ema.resume()
    with torch.no_grad(): [p.add_(torch.randn_like(p)*.1) for p in model.parameters()]
    x, before = torch.rand(8, 1, 8, 8), copy.deepcopy(model.state_dict())
    model.train()
    got = m.teacher([x])
    twin = copy.deepcopy(model).train()
    ts = [t for t in [*twin.parameters(), *twin.buffers()] if t.is_floating_point()]
    with torch.no_grad():
        for t, a in zip(ts, learn.ema.avg): t.copy_(a)
        want = twin(x).softmax(1)
        assert torch.allclose(got, want, atol=1e-6) and not torch.allclose(got, model(x).softmax(1), atol=1e-3)
    model.load_state_dict(before)
    avg = [a.clone() for a in learn.ema.avg]
    m.teacher([x])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and all(map(torch.equal, avg, learn.ema.avg))

def test_teacher_needs_an_average():
    with pytest.raises(RuntimeError, match='needs a teacher'): train(method_learner(MeanTeacher(), ema=None))

def test_noisy_teacher_stands_still():
    "It is asked in evaluation mode, and training moves nothing of it."
    teacher = small_cnn(1, 10)
    before = copy.deepcopy(teacher.state_dict())
    train(method_learner(NoisyStudent(trained=teacher)))
    assert all(torch.equal(v, before[k]) for k,v in teacher.state_dict().items())
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    with pytest.raises(ValueError, match='needs a trained network as `trained`'): NoisyStudent()
    learn = method_learner(Supervised())
    assert NoisyStudent(trained=learn).trained is learn.model
    with pytest.raises(ValueError, match='teacher and student are one network'): method_learner(NoisyStudent(trained=teacher), arch=teacher)

def test_labeled_loss_by_name():
    x,y = torch.randn(4, 3),torch.eye(3)[[0,1,2,0]]
    assert PiModel(loss_x='focal').loss_x(x, y)==labeled_loss('focal')(x, y) and PiModel().loss_x is soft_cross_entropy
    f = labeled_loss(weight=[1.,2.,3.])
    assert PiModel(loss_x=f).loss_x is f
    with pytest.raises(ValueError, match="'ce', 'focal' or a function; got 'huber'"): PiModel(loss_x='huber')
    train(method_learner(PiModel(loss_x='focal')))

# --- settings

PAPERS = { # chkstyle: ignore-node (one method a line)
    EntropyMin: dict(T=.5, lambda_u=75., ramp=1., k=1, ks=0, mu=1),
    PiModel: dict(k=2, lambda_u=10., ramp=.4, ks=0, mu=1),
    VAT: dict(eps=6., xi=1e-2, entropy=.06, lambda_u=.3, ramp=.4, k=1, ks=0),
    MeanTeacher: dict(k=2, lambda_u=50., ramp=.4, ks=0),
    ICT: dict(alpha=1., lambda_u=100., ramp=.25, k=1, ks=0),
    MixUpLabeled: dict(alpha=1., lambda_u=0., guesses=False),
    FixMatch: dict(threshold=.95, ks=1, k=1, mu=7, lambda_u=1., ramp=0, columns=('mask_rate',)),
    PseudoLabel: dict(threshold=.95, ks=0, mu=1, ramp=.4, lambda_u=1.),
    UDA: dict(threshold=.8, T=.4, tsa=None, ks=1, mu=7, lambda_u=1.),
    FlexMatch: dict(threshold=.95, ks=1, mu=7, lambda_u=1.),
    FreeMatch: dict(momentum=.999, fairness=.001, clip=None, ks=1, mu=7),
    SoftMatch: dict(momentum=.999, n_sigma=2., uniform=True, ks=1, mu=7),
    AdaMatch: dict(threshold=.9, interpolate=True, ramp=.5, averages=dict(p_x=.999, p_u=.999), mu=7),
    DeFixMatch: dict(threshold=.95, lambda_u=.5, mu=7),
    ReMixMatch: dict(ks=8, k=1, T=.5, alpha=.75, anchor=.5, rotation=.5, momentum=127/128, lambda_u=1.5, ramp=1/64, mu=1),
    Supervised: dict(lambda_u=0., guesses=False, k=1, ks=0, mu=1)}

@pytest.mark.parametrize('cls', PAPERS, ids=lambda o: o.__name__)
def test_settings_are_the_papers(cls):
    m = cls()
    assert {k: getattr(m, k) for k in PAPERS[cls]} == PAPERS[cls]

def test_settings_at_the_ends():
    "What is just allowed, and what just is not"
    good = [lambda: FixMatch(threshold=0.), lambda: FixMatch(threshold=1.), lambda: FixMatch(ks=0), lambda: FreeMatch(clip=1.), lambda: ReMixMatch(ks=1),
        lambda: ReMixMatch(lambda_u=.1), lambda: PiModel(lambda_u=0.), lambda: MixMatch(k=1), lambda: VAT(eps=.1, xi=.1)]
    bad = [lambda: FixMatch(threshold=-.01), lambda: FreeMatch(clip=0.), lambda: ReMixMatch(ks=0), lambda: ReMixMatch(lambda_u=0.),
        lambda: PiModel(lambda_u=-.1), lambda: MixMatch(k=0), lambda: MixMatch(k=1.), lambda: VAT(eps=1., xi=0.), lambda: VAT(eps=0., xi=1.)]
    for make in good: make()
    for make in bad:
        with pytest.raises(ValueError): make()
    assert ReMixMatch(rotation=0.).heads == {} and ReMixMatch().heads == dict(rotation=4)

# --- errors

@pytest.mark.parametrize('make, message', [(lambda: FixMatch(threshold=1.5), 'threshold'), (lambda: Unlabeled(mu=0), 'mu'), (lambda: UDA(tsa='cos'), "tsa must be"),
    (lambda: ReMixMatch(ks=0), 'strong views'), (lambda: VAT(eps=0), 'above 0'), (lambda: FixMatch(ks=-1), 'ks'), (lambda: FreeMatch(clip=2.), 'clip')])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message): make()

@pytest.mark.parametrize('make', [lambda: DeFixMatch(ks=0), lambda: NoisyStudent(trained=small_cnn(1, 10), ks=0)])
def test_methods_that_need_strong_views(make):
    "At once, in place of an error without a sentence in the first step"
    with pytest.raises(ValueError, match='ks: expected a whole number of strong views; some methods need one; got 0'): make()

@pytest.mark.parametrize('cls', [Supervised, MixUpLabeled])
@pytest.mark.parametrize('name', ['lambda_u', 'ramp'])
def test_no_weight_where_there_is_no_unlabeled_loss(cls, name):
    with pytest.raises(TypeError, match=f'`{name}` of {cls.__name__} is not an argument, as it .* or no use'): cls(**{name: 1})
    assert name not in cls.settings() and getattr(cls(), name) == 0

@pytest.mark.parametrize('make', [PseudoLabel, lambda **kw: FixMatch(**dict(dict(ks=0), **kw))])
def test_strong_without_strong_views(make):
    "It would be unused in silence"
    with pytest.warns(UserWarning, match='`strong` does nothing in a (PseudoLabel|FixMatch) with `ks=0`'): make(strong=StrongView())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        make(), make(ks=2, strong=StrongView())

@pytest.mark.parametrize('cls', [FreeMatch, SoftMatch])
def test_no_threshold_where_none_is_used(cls):
    with pytest.raises(TypeError, match=f'{cls.__name__} has no argument `threshold`'): cls(threshold=.9)

def test_strong_needs_a_view():
    with pytest.raises(ValueError, match='FixMatch.strong: expected .* `view`'): FixMatch(strong=lambda x: x)

@pytest.mark.parametrize('lo,hi', [(-1, 1), (0, 2)])
def test_images_outside_of_0_1(lo, hi):
    images = lambda *size: lo+(hi-lo)*torch.rand(*size)
    items = [(images(1, 8, 8), torch.tensor(i % 4)) for i in range(20)]
    dls = DataLoaders(DataLoader(items, bs=4), DataLoader(items, bs=4))
    dls.c = 4
    with pytest.raises(ValueError, match=r'expected values in \[0,1\] for strong views'): ssl_learner(dls, images(30, 1, 8, 8), small_cnn, FixMatch())

def test_flexmatch_needs_positions():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self): return iter(IL.items[:64])
    with pytest.raises(ValueError, match='no positions'): train(ssl_learner(core_dls(), Stream(), SMALL, FlexMatch(), bs=16, steps=2))

# --- what was measured

def measured(name):
    "Errors of `bench/results/methods.jsonl` on a set: a row for each seed, a column for each method"
    rows = pd.read_json(Path(__file__).resolve().parent.parent/'bench/results/methods.jsonl', lines=True, precise_float=True)
    rows = rows[(rows.set == name) & (rows.settings == 'ours')]
    assert rows.steps.nunique() == 1 and not rows.duplicated(['seed','method']).any()
    return rows.pivot(index='seed', columns='method', values='error')

@pytest.mark.parametrize('name, seeds', [('digits', 5), ('mnist', 3)])
def test_measured(name, seeds):
    "In as many steps no method is worse than supervised training, beyond what the seeds differ by, and those that it is about are clearly better, pair by pair."
    err = measured(name)
    assert list(err.index)==list(range(seeds)) and not err.isna().any().any()
    absent = ('student',) if name=='digits' else ('student','ada','defix')
    assert set(err.columns)>={'Supervised','MixMatch','MixUpLabeled'} | {type(m()).__name__ for k,m in METHODS.items() if k not in absent}
    worse = err.sub(err.Supervised, axis=0).drop(columns='Supervised')
    noise = 2*worse.std()/math.sqrt(seeds)
    assert (worse.mean()<=noise).all(), worse.mean()[worse.mean()>noise]
    for m in ('FixMatch','MixMatch','ReMixMatch','UDA'): assert worse[m].mean()+noise[m]<-.02 and (worse[m]<0).all(), m
