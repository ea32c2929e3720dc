"The average of the weights: one a learner, in the model however training ends."
import pytest, torch
from fastai.vision.all import Callback
from fastai_mixmatch.all import EMA
from helpers import core_learner as learner, same, state_of as weights

def test_two_are_refused():
    "A second one would take the first one's averages for trained weights"
    with pytest.raises(ValueError, match='two `EMA` callbacks.*`ema=EMA'): learner(cbs=EMA(0.9))
    learn = learner()
    with pytest.raises(ValueError, match='keep one'): learn.add_cb(EMA(0.9))
    with pytest.raises(ValueError, match='keep one'): learn.fit(1, cbs=EMA(0.9))
    learn.fit(1)
    assert learner(ema=EMA(0.9)).ema.decay == 0.9 and not hasattr(learner(ema=None), 'ema')

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

def test_shared_weights_are_averaged_once():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Linear(2, 2); self.b = self.a
    ema = EMA()
    ema.learn = type('L', (), dict(model=Tied()))()
    assert len(ema.tensors()) == 2
