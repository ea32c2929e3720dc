"Published trainings: the schedule, what decays, momentum, the average, and that each recipe trains."
import math
import numpy as np, pytest, torch
from fastai.vision.all import Callback, Learner, nn, noop, set_seed
from fastai_mixmatch.all import *
from helpers import IL, SMALL, At, interrupt, quiet, same, state_of

class Seen(Callback):
    "Weights, gradients and hyperparameters of each step"
    run_valid = in_checkpoint = False
    def __init__(self): self.lr,self.mom,self.grads,self.weights = [],[],[],[]
    def before_fit(self): self.take(self.weights, lambda p: p)
    def before_step(self):
        self.take(self.grads, lambda p: p.grad)
        for o in ('lr','mom'): getattr(self, o).append(self.learn.opt.hypers[0][o])
    def after_step(self): self.take(self.weights, lambda p: p)
    def take(self, to, f):
        to.append({n: f(p).detach().double().clone() for n,p in self.learn.model.named_parameters()})

def learner(name, steps=2, **kw):
    "The learner of a recipe: 20 labeled digits, batches of 8"
    method,args = published[name][0],{**recipe(name), 'steps': steps, **kw}
    set_seed(0)
    return quiet(factory(method)(IL[:200].split(20)[0].dataloaders(IL[1700:1720], bs=8), IL[200:300], SMALL, **args))

def trained(name, epochs=1, **kw):
    learn,seen = learner(name, **kw),Seen()
    with learn.no_bar(): getattr(learn, published[name][1])(epochs, cbs=seen)
    return learn,seen

# --- the schedule

@pytest.mark.parametrize('epochs, steps', [(1,7), (3,5)])
def test_schedule(epochs, steps):
    _,seen = trained('fixmatch', epochs, steps=steps)
    t,T = np.arange(epochs*steps, dtype=np.float64),epochs*steps
    np.testing.assert_allclose(seen.lr, 0.03*np.cos(7*np.pi*t/(16*T)), rtol=1e-12)
    assert set(seen.mom)=={0.9}

def test_end_of_schedule():
    assert cosine_decay(1., 0)==1 and cosine_decay(1., 1)==pytest.approx(math.sin(math.pi/16), rel=1e-12)
    half = math.cos(7*math.pi/32)
    assert cosine_decay(np.array([1.,2.]), .5).tolist()==pytest.approx([half,2*half])

def test_groups_and_own_rate():
    "A slice gives each group of parameters a rate, and all fall alike"
    split = lambda m: [list(m[:2].parameters()), list(m[2:].parameters())]
    learn = learner('fixmatch', splitter=split)
    rates = []
    class Rates(Callback):
        def before_step(self): rates.append([h['lr'] for h in self.learn.opt.hypers])
    with learn.no_bar(): learn.fit_cosine(1, lr=slice(.001, .1), cbs=Rates())
    np.testing.assert_allclose(rates, [[.001,.1], np.array([.001,.1])*math.cos(7*math.pi/32)], rtol=1e-12)

def test_later_epochs_only():
    learn,seen = learner('fixmatch', steps=2),Seen()
    with learn.no_bar(): learn.fit_cosine(4, start_epoch=3, cbs=seen)
    np.testing.assert_allclose(seen.lr[-2:], 0.03*np.cos(7*np.pi*np.array([6,7])/(16*8)), rtol=1e-12)

def test_momentum_after_one_cycle():
    learn = learner('fixmatch')
    with learn.no_bar():
        learn.fit_one_cycle(1)
        assert learn.opt.hypers[0]['mom']!=.9
        seen = Seen()
        learn.fit_cosine(1, reset_opt=True, cbs=seen)
    assert set(seen.mom)=={0.9}

# --- the optimizer, against float64

@pytest.mark.parametrize('kw', [{}, dict(train_bn=False), dict(wd_bn_bias=True)], ids=str)
def test_nesterov_and_decay(kw):
    "Kernels decay, norms and biases do not, whatever fastai's flags say"
    _,seen = trained('fixmatch', steps=4, **kw)
    for n in seen.weights[0]:
        w,buf = seen.weights[0][n],0.
        for lr,g,after in zip(seen.lr, (o[n] for o in seen.grads), (o[n] for o in seen.weights[1:])):
            g = g + 5e-4*w*(w.ndim>1)
            buf = 0.9*buf + g
            w = w - lr*(g + 0.9*buf)
            torch.testing.assert_close(after, w, rtol=1e-5, atol=1e-6)

def test_adam_and_decay():
    "MixMatch's comparison: TensorFlow's constants, and kernels shrunk by 0.02 times the learning rate"
    _,seen = trained('paper', steps=4)
    assert set(seen.lr)=={2e-3}
    for n in seen.weights[0]:
        w,m,v = seen.weights[0][n],0.,0.
        for t,(g,after) in enumerate(zip((o[n] for o in seen.grads), (o[n] for o in seen.weights[1:])), 1):
            w = w*(1-2e-3*0.02*(w.ndim>1))
            m,v = .9*m+.1*g, .999*v+.001*g*g
            w = w - 2e-3*(m/(1-.9**t))/((v/(1-.999**t)).sqrt()+1e-8)
            torch.testing.assert_close(after, w, rtol=1e-4, atol=2e-5)

def test_norms_do_not_decay():
    "Where gradients vanish, kernels alone shrink"
    learn = learner('fixmatch', wd=.5)
    learn.create_opt()
    learn.opt.set_hypers(wd=.5)
    before = [p.detach().clone() for p in learn.model.parameters()]
    assert {p.ndim>1 for p in before}=={True,False}
    for p in learn.model.parameters(): p.grad = torch.zeros_like(p)
    learn.opt.step()
    for p,q in zip(learn.model.parameters(), before): assert torch.equal(p, q) == (p.ndim<2 or not q.any())

# --- the average

@pytest.mark.parametrize('name', ['fixmatch','paper'])
def test_average_without_warmup(name):
    learn,seen = trained(name, steps=3)
    for n,p in learn.model.named_parameters(): # After a fit, the averages are in the model
        avg = seen.weights[0][n]
        for o in seen.weights[1:]: avg = .999*avg + .001*o[n]
        torch.testing.assert_close(p.double(), avg, rtol=1e-6, atol=1e-7)

# --- all of them

@pytest.mark.parametrize('name', published)
def test_each_trains(name):
    learn,seen = trained(name)
    assert len(seen.grads)==2 and all(torch.isfinite(o).all() for o in seen.weights[-1].values())
    method = next(o for o in learn.cbs if isinstance(o, published[name][0]))
    assert method.dl.bs==recipe(name)['mu']*8

def test_numbers():
    "Read in the authors' code and its scripts"
    for name in published:
        r = recipe(name)
        sgd,wd = published[name][1]=='fit_cosine', .2 if name=='mean_teacher' else .02
        assert (r['lr'],r['wd'],r['mu'])==((.03,5e-4,7) if sgd else (2e-3,wd,1)), name
        assert (r['opt_func'] is FastSGD)==sgd and (r['weak'].shift,r['weak'].flip)==(4/32,.5)
        assert r['ema'] is None if name=='article' else (r['ema'].decay,r['ema'].warmup)==(.999,False)
    made = {k: m(**{o: v for o,v in recipe(k).items() if o in m.settings()}) for k,(m,_) in published.items()}
    weights = dict(paper=75, mean_teacher=50, pi_model=20, vat=.3, ict=1000, pseudo_label=1, remixmatch=1.5, fixmatch=1)
    for k,v in weights.items(): assert made[k].lambda_u==v, k
    assert made['paper'].ramp==made['remixmatch'].ramp==2**20//64 and made['ict'].ramp==made['pi_model'].ramp==.4
    assert not made['paper'].adapt and made['fixmatch'].threshold==made['pseudo_label'].threshold==.95
    assert isinstance(made['remixmatch'].strong.aug, CTAugment) and made['uda'].T==.4

def test_nothing_is_shared():
    for name in published:
        a,b = recipe(name),recipe(name)
        assert a is not b and all(a[k] is not b[k] for k in ('ema','strong') if a.get(k) is not None)

@pytest.mark.parametrize('name, meant', [
    ('fixmach','fixmatch'), ('FixMatch','fixmatch'), ('mixmatch','paper'), ('MeanTeacher','mean_teacher'), ('',''), (None,'')])
def test_typos_are_refused(name, meant):
    with pytest.raises(ValueError, match='recipes are paper, ') as e: recipe(name)
    assert repr(name) in str(e.value) and (f"did you mean '{meant}'?" in str(e.value) or not meant)

def test_typos_of_changes_are_refused():
    with pytest.raises(TypeError, match='did you mean `threshold`'): learner('fixmatch', treshold=.5)

def test_any_learner_has_the_schedule():
    "`fit_cosine` asks for nothing of ours"
    dls = IL[:200].split(20)[0].dataloaders(IL[1700:1720], bs=10)
    learn = Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), loss_func=nn.CrossEntropyLoss(), lr=.1)
    learn.logger = noop
    with learn.no_bar(): learn.fit_cosine(2)
    assert learn.recorder.lrs==pytest.approx([.1*math.cos(7*math.pi*t/64) for t in range(4)])

@pytest.mark.parametrize('name', ['fixmatch','paper'])
def test_continues(name, tmp_path):
    "A training that was cut off goes on along the same schedule, to the same weights"
    class Stop(At): in_checkpoint = False
    def go(folder, *cbs):
        learn,seen = learner(name, steps=4, checkpoint=tmp_path/folder, every='2 steps'),Seen()
        with learn.no_bar(): getattr(learn, published[name][1])(2, cbs=[seen, *cbs])
        return learn,seen
    whole,a = go('whole')
    with pytest.raises(KeyboardInterrupt): go('cut', Stop('after_batch', interrupt, n=2))
    again,b = go('cut')
    assert 0<len(b.lr)<len(a.lr)==8
    assert b.lr==pytest.approx(a.lr[-len(b.lr):], rel=1e-12) and same(state_of(whole), state_of(again))
