"Numbers that are not finite: where they came from is said, at the first step, and the learner can be used afterwards."
import math, numpy as np, pytest, re, torch
from fastai.vision.all import Callback, DataLoader, DataLoaders
from fastai_mixmatch.all import *
from helpers import IL, SMALL, X, Y, CpuPrecision, Scaled, core_learner, row_of, torch_sets, train
from torch import nn

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

def test_nan_in_an_image():
    "Names the part, and the learner can be used afterwards."
    train, valid, x = torch_sets()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    learn = core_learner(DataLoaders.from_dsets(train, valid, bs=10), x.clone(), net, alpha=0., adapt=False, ramp=0)
    learn.mix_match.dl.pool.x[:, 0, 3, 3] = float('nan') # NaN that is there from the start is refused earlier, when the learner is made
    loss = learn.loss_func
    with pytest.raises(FloatingPointError, match='loss is nan in epoch 1, batch 1.*weight 75.*look for NaN in the images'): learn.fit(1)
    assert learn.loss_func is loss
    assert all(torch.isfinite(p).all() for p in net.parameters())
    learn.mix_match.unlabeled = x
    learn.fit(1)
    assert np.isfinite(learn.recorder.values[0]).all()

def test_nan_in_a_labeled_image():
    train, valid, x = torch_sets()
    train.tensors[0][:, 0, 3, 3] = float('nan')
    learn = core_learner(DataLoaders.from_dsets(train, valid, bs=10), x, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), alpha=0., adapt=False)
    with pytest.raises(FloatingPointError, match='the labeled loss is nan'): learn.fit(1)

@pytest.mark.parametrize('part', ['labeled', 'unlabeled'])
def test_the_part_is_named(part):
    class Broken(MixMatch):
        def losses(self, pred, y, q):
            lx,lu = super().losses(pred, y, q)
            return (lx*float('inf'), lu) if part=='labeled' else (lx, lu*float('nan'))
    learn = tensor_learner(method=Broken(adapt=False, ramp=0))
    with pytest.raises(FloatingPointError, match=f'the {part} loss is'): learn.fit(1)

def test_huge_learning_rate():
    learn = core_learner(adapt=False, ramp=0)
    learn.fit(1)
    learn.save('good')
    with pytest.raises(FloatingPointError, match=r'learning rate 1e\+30'): learn.fit(3, 1e30)
    learn.load('good')
    assert torch.isfinite(learn.get_preds()[0]).all()
    learn.fit(1, 1e-3)
    assert np.isfinite(learn.recorder.values[0]).all() and torch.isfinite(learn.get_preds()[0]).all()

class Poison(Callback):
    order = 5
    def __init__(self, n, f): self.n,self.f = n,f
    def before_batch(self):
        if self.training and self.train_iter==self.n: self.f(self.learn)

def tensor_learner(n=50, **kw):
    x,y = torch.tensor(X)[:,None]/255,torch.tensor(Y)
    dls = DataLoaders(DataLoader(list(zip(x[:40], y[:40])), bs=10), DataLoader(list(zip(x[40:60], y[40:60])), bs=10)); dls.c = 10
    method = kw.pop('method', None) or MixMatch(adapt=kw.pop('adapt', True))
    return ssl_learner(dls, x[100:100+n].clone(), SMALL, method, **kw)

def test_nan_in_an_input_names_the_image():
    learn = tensor_learner(cbs=Poison(2, lambda learn: learn.mix_match.dl.pool.x[:, 0, 0, 0].fill_(float('nan'))))
    learn.mix_match.dl.pool.items = [f'image {i}.png' for i in range(50)]
    with pytest.raises(FloatingPointError, match=r'(?s)unlabeled image image \d+.png.*holds NaN or infinity; .*in epoch 1, batch [34].*The unlabeled images of this batch:\nimage \d+.png'): train(learn, 1)

def test_nan_in_a_labeled_input():
    learn = tensor_learner()
    learn.mix_match.labeled_dl.pool.load()
    learn.mix_match.labeled_dl.pool.x[:, 0, 0, 0] = float('inf')
    with pytest.raises(FloatingPointError, match=r'labeled image .*holds NaN or infinity; '): train(learn, 1)

class NoNumber(MixMatch):
    "Loses its guesses"
    def aligned(self, p): return super().aligned(p)*float('nan')

def test_nan_in_a_guess():
    with pytest.raises(FloatingPointError, match='the guesses are not finite; the labeled loss is nan in epoch 1, batch 1'):
        train(tensor_learner(method=NoNumber()))

def poison(learn):
    with torch.no_grad(): next(learn.model.parameters()).fill_(float('nan'))

def test_nan_in_mid_training_stops():
    learn = core_learner(unlabeled=IL[200:230], bs=10, cbs=Poison(4, poison))
    with pytest.raises(FloatingPointError) as e: learn.fit(3, 1e-3)
    assert re.search(r'the labeled loss is nan in epoch 2, batch 2', str(e.value)) and 'learning rate' in str(e.value) and 'unlabeled nan' in str(e.value)
    assert learn.train_iter == 4 and type(learn.loss_func).__name__ == 'CrossEntropyLossFlat'

@pytest.mark.parametrize('part,f', [('labeled', lambda x, u: (x / 0, u)), ('unlabeled', lambda x, u: (x, u * float('nan'))), ('total', lambda x, u: (x * 0 + 3e38, u * 0 + 3e38))])
def test_nan_says_which_part(part, f):
    learn = core_learner(bs=10, adapt=False, lambda_u=1., ramp=0)
    losses = learn.mix_match.losses
    learn.mix_match.losses = lambda *args: f(*losses(*args))
    with pytest.raises(FloatingPointError, match=f'the {part} loss is (nan|inf) in epoch 1, batch 1'): learn.fit(1)

def test_loss_that_explodes():
    with pytest.raises(FloatingPointError, match='the (labeled|unlabeled|total) loss is (nan|inf).*learning rate 1e'): core_learner(bs=10).fit(5, 1e30)

def test_learner_is_usable_after_nan():
    learn = core_learner(unlabeled=IL[200:230], bs=10, cbs=Poison(1, poison))
    with pytest.raises(FloatingPointError): learn.fit(1)
    with torch.no_grad():
        for p in learn.model.parameters(): p.normal_(0, .1)
        for b in learn.model.buffers():
            if b.is_floating_point(): b.fill_(1)
    learn.remove_cb(Poison)
    learn.opt = None
    learn.ema.forget()
    learn.fit(1, 1e-3)
    assert all(np.isfinite(row_of(learn)[o]) for o in ('train_loss','valid_loss'))

# --- what mixed precision skips

@pytest.mark.parametrize('enabled,when,fails', [(True, range(3, 6), False), (True, range(0, 200), True), (False, range(3, 6), True)])
def test_steps_that_the_scaler_skips_are_no_fault(enabled, when, fails):
    "Steps whose loss overflows; without a scaler, or where it is every step, that is a fault"
    learn = tensor_learner(300, bs=4, adapt=False, cbs=[CpuPrecision(enabled=enabled), Scaled()])
    losses = learn.mix_match.losses
    learn.mix_match.losses = lambda *args: (lambda x,u: (x*float('inf') if learn.train_iter in when else x, u))(*losses(*args))
    if fails:
        with pytest.raises(FloatingPointError): train(learn, 1)
        assert learn.train_iter==(49 if enabled else 3)
        return
    train(learn, 1)
    scales, _, skipped = zip(*learn.scaled.seen)
    assert skipped==tuple(i in when for i in range(75)) and scales[-1]==scales[0]/8
    assert all(torch.isfinite(p).all() for p in learn.model.parameters()) and learn.ema.n==75-3

def test_gradients_that_overflow_are_no_fault():
    "The scale grows every second step, until the scaled loss is infinite: that step is skipped, the scale halved, and training goes on"
    learn = train(tensor_learner(80, bs=4, cbs=[CpuPrecision(init_scale=2.**106, growth_interval=2), Scaled()]), 2)
    skipped = sum(o for *_, o in learn.scaled.seen)
    assert len(learn.scaled.seen)==learn.train_iter==40 and 5<=skipped<20 and learn.ema.n==40-skipped
    assert all(math.isfinite(o) for o in learn.recorder.losses) and all(torch.isfinite(p).all() for p in learn.model.parameters())
