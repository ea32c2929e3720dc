"The average of the weights: one a learner, in the model however training ends."
import pytest, re, torch
from fastai.vision.all import Callback, Learner
from fastai_mixmatch.all import EMA, guess_labels
from fastai_mixmatch.ema import ema_decay
from helpers import core_dls, core_learner as learner, in_group, same, state_of as weights

def test_two_are_refused():
    "A second one would take the first one's averages for trained weights"
    with pytest.raises(ValueError, match='two `EMA` callbacks.*`ema=EMA'): learner(cbs=EMA(0.9))
    learn = learner()
    with pytest.raises(ValueError, match='keep one'): learn.add_cb(EMA(0.9))
    with pytest.raises(ValueError, match='keep one'): learn.fit(1, cbs=EMA(0.9))
    learn.fit(1)
    assert learner(ema=EMA(0.9)).ema.decay == 0.9 and not hasattr(learner(ema=None), 'ema')

def test_two_are_refused_by_a_plain_learner():
    "When it is made, and at the next fit where one was added later"
    make = lambda *cbs: Learner(core_dls(), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), cbs=cbs)
    with pytest.raises(ValueError, match='two `EMA` callbacks'): make(EMA(), EMA())
    learn = make(EMA())
    learn.add_cb(EMA())
    with pytest.raises(ValueError, match='two `EMA` callbacks'): learn.fit(1)

@pytest.mark.parametrize('event', ['after_pred', 'after_backward', 'after_step', 'before_validate', 'after_epoch'])
@pytest.mark.parametrize('error', [KeyboardInterrupt, ZeroDivisionError])
def test_averages_are_in_the_model_however_it_ends(event, error):
    class Stop(Callback):
        order = 46
        def stop(self):
            if self.learn.train_iter >= 2: raise error('x')
    setattr(Stop, event, Stop.stop)
    learn = learner()
    with pytest.raises(error): learn.fit(2, cbs=Stop())
    assert learn.ema.active and all(torch.equal(a, b) for a, b in zip(learn.ema.tensors(), learn.ema.avg))
    n = learn.ema.n
    learn.fit(1)
    assert learn.ema.n == n + 4

def test_state_goes_on():
    "Averages and trained weights, loaded into another learner, give the same next epoch"
    a = learner(); a.fit(1)
    b = learner(); b.fit(1)
    b.model.load_state_dict(a.model.state_dict())
    b.ema.load_state_dict({k: [t.clone() for t in v] if isinstance(v, list) else v for k, v in a.ema.state_dict().items()})
    for learn in (a, b): learn.ema.resume()
    assert same(weights(a), weights(b)) and a.ema.n == b.ema.n == 4

def test_a_changed_model_trains_on_after_a_validation_in_the_middle():
    "The new average begins like any other: a validation puts the trained weights back"
    learn, seen = learner(), []
    learn.fit(1)
    next(learn.model.parameters()).data += 1
    class Look(Callback):
        def after_batch(self):
            if seen or not self.training: return
            self.learn.validate()
            seen.append(self.learn.ema.active)
    learn.fit(1, cbs=Look())
    assert seen == [False]

def test_shared_weights_are_averaged_once():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Linear(2, 2); self.b = self.a
    ema = EMA()
    ema.learn = type('L', (), dict(model=Tied()))()
    assert len(ema.tensors()) == 2

def test_decay():
    "0.1 at the first update, then longer and longer memory, up to the largest; without warm-up that from the start on."
    assert [ema_decay(t) for t in (0, 1, 8)] == [1/10, 2/11, 9/18] and ema_decay(8989) < .999 and ema_decay(10**6) == .999
    assert ema_decay(1, .15) == .15 and ema_decay(0, .15) == .1 and ema_decay(0, .9, warmup=False) == .9

def test_settings():
    e = EMA()
    assert (e.decay, e.warmup, e.order, e.n, e.avg, e.raw, e.active, e.skip) == (.999, True, 45, 0, None, None, False, False)
    assert EMA(0.).decay == 0. and not e.in_train and not e.run_valid
    learn = learner()
    learn.validate()
    assert learn.ema.avg is None, 'nothing was trained that could be averaged'
    for decay in (-.1, 1., 1.5):
        with pytest.raises(ValueError, match='decay'): EMA(decay)
        with pytest.raises(ValueError, match=re.escape(f'decay must be in [0,1); got {decay}')): learn.ema.decay = decay
    assert learn.ema.decay == .999

def test_without_warmup_in_training():
    "The recursion written out"
    states = []
    class Note(Callback):
        order = 100
        def after_step(self): states.append(weights(self.learn))
    learn = learner(ema=EMA(.5, warmup=False))
    avg = weights(learn)
    learn.fit(1, cbs=Note())
    for s in states: avg = {k: .5*v + .5*s[k] if v.is_floating_point() else s[k] for k, v in avg.items()}
    got = weights(learn)
    assert len(states) == 4 and all(torch.allclose(got[k], v, atol=1e-6) for k, v in avg.items())

def test_buffers_are_averaged_over_processes(monkeypatch):
    "Not parameters, which are the same in all; not where the averages are in the model; not in one process"
    learn = learner()
    learn.fit(1)
    e = learn.ema
    before = [a.clone() for a in e.avg]
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda t: t.mul_(2).add_(2*torch.arange(1., len(t)+1))) # What comes from the other process
    e.resume()
    e.sync_buffers()
    assert all(map(torch.equal, before, e.avg))
    with in_group(learn, 0, 2):
        e.average()
        e.sync_buffers()
        assert all(map(torch.equal, before, e.avg))
        e.resume()
        e.sync_buffers()
    isbuf = [not isinstance(d[n], torch.nn.Parameter) for d, n in e.slots]
    assert any(isbuf) and not all(isbuf) and all(torch.equal(a, b) for a, b, o in zip(before, e.avg, isbuf) if not o)
    moved = torch.cat([(b-a).flatten() for a, b, o in zip(before, e.avg, isbuf) if o])
    assert torch.allclose(moved, torch.arange(1., len(moved)+1), atol=1e-4)

def test_state_before_the_first_fit():
    e = learner().ema
    assert e.state_dict() == dict(avg=None, raw=None, n=0)
    e.load_state_dict(e.state_dict())
    assert e.avg is None and e.raw is None and not e.active

def test_a_network_asked_with_averages_has_its_own_weights_after():
    "Also where it fails; before the first average, and while the averages are in it, it is asked as it is"
    learn = learner()
    assert learn.ema.averaged() is learn.model
    learn.fit(1)
    assert learn.ema.active and learn.ema.averaged() is learn.model
    learn.ema.resume()
    raw, x = weights(learn), torch.rand(4, 1, 8, 8)
    net = learn.ema.averaged()
    assert net is not learn.model
    learn.model.eval()
    with torch.no_grad():
        got, own = net(x), learn.model(x)
        with pytest.raises(Exception): net(x[:, :, 0])
    assert same(raw, weights(learn))
    learn.ema.average()
    with torch.no_grad(): assert torch.equal(learn.model(x), got) and not torch.equal(got, own)

def test_casts_of_other_weights_are_not_used():
    "Autocast keeps the casts of weights: those of the trained ones are not asked as averages, nor those of the averages trained"
    learn = learner()
    learn.fit(1)
    learn.ema.resume()
    for o in learn.ema.avg: o.mul_(2)
    model, x = learn.model.eval(), torch.rand(4, 1, 8, 8)
    def asked(*fs):
        "The last of several answers in one context"
        with torch.autocast('cpu', torch.bfloat16): return [f() for f in fs][-1].detach().float()
    def own(): return model(x)
    def averages(): return guess_labels(learn.ema.averaged(), [x])
    assert not torch.allclose(asked(own).softmax(1), asked(averages), atol=1e-2)
    assert torch.equal(asked(own, averages), asked(averages)) and torch.equal(asked(averages, own), asked(own))
