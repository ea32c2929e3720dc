"The callbacks that users add, interrupts at every moment, numbers that are not finite, and the average of the weights."
import math, numpy as np, os, pandas as pd, pytest, signal, subprocess, sys, time, torch, warnings
import matplotlib.pyplot as plt
from fastai.callback.all import CSVLogger, EarlyStoppingCallback, GradientAccumulation, GradientClip, SaveModelCallback, ShowGraphCallback
from fastai.callback.tensorboard import TensorBoardCallback
from fastai.vision.all import (Callback, CancelBatchException, CancelEpochException, CancelFitException, CancelStepException, CancelTrainException,
    DataLoaders, Learner, ProgressCallback, accuracy, noop, set_seed)
from fastai_mixmatch.all import EMA, MixMatch
from pathlib import Path
from test_learner import IL, NAMES, SCRIPT, SMALL, At, X, digit_dls, equal, learner, same, tensors, torch_sets, weights
from torch import nn

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

# --- fastai's callbacks

def test_save_model_callback():
    "The best epoch is kept, and what is saved are the averages."
    learn, epochs = learner(), []
    class Note(Callback):
        order = 55
        def after_epoch(self): epochs.append((self.recorder.values[-1][2], weights(self.learn), tensors(self.learn.ema.avg)))
    learn.fit(4, 1e-2, cbs=[Note(), SaveModelCallback(monitor='accuracy', fname='best')])
    best = max(range(4), key=lambda i: epochs[i][0])
    accs = [e[0] for e in epochs]
    assert same(weights(learn), epochs[accs.index(max(accs))][1]) and len(set(accs)) > 1
    names = [k for k, _ in [*learn.model.named_parameters(), *learn.model.named_buffers()]]
    for _, w, avg in epochs: assert equal(avg, [w[k] for k in names if w[k].is_floating_point()])
    assert learn.validate()[1] == pytest.approx(accs[best])
    learn.fit(1)

def test_early_stopping():
    learn = learner(lr=0.)
    learn.fit(6, 0., cbs=EarlyStoppingCallback(monitor='accuracy', patience=2))
    assert len(learn.recorder.values) == 3 and learn.ema.active
    learn.fit(1)

def test_csv_logger():
    learn = learner()
    learn.fit(2, cbs=CSVLogger())
    df = pd.read_csv(learn.path / 'history.csv')
    assert list(df.columns) == NAMES and len(df) == 2 and df.loss_u.notna().all()

def test_csv_logger_after_an_interrupt():
    "In plain fastai the next fit logs to itself without end."
    learn = learner(quiet=False, cbs=CSVLogger())
    with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=At('after_loss', interrupt))
    learn.fit(2)
    assert len(learn.csv_logger.read_log()) == 2
    with learn.no_bar(): learn.fit(1)
    learn.fit(3)
    assert len(learn.csv_logger.read_log()) == 3

def test_show_graph(capsys):
    learn = learner(quiet=False, cbs=ShowGraphCallback())
    learn.fit(2)
    learn.lr_find(num_it=6, show_plot=False)
    assert learn.show_graph.nb_batches == [4, 8]

def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    learn = learner()
    learn.fit(2, cbs=TensorBoardCallback(tmp_path / 'tb', trace_model=True, log_preds=False))
    acc = EventAccumulator(str(tmp_path / 'tb')).Reload()
    assert {'train_loss', 'valid_loss', 'accuracy', 'loss_u', 'guess_acc'} <= set(acc.Tags()['scalars'])
    assert len(acc.Scalars('loss_u')) == 2

def test_tensorboard_with_predictions(tmp_path):
    learn = learner()
    learn.fit(1, cbs=TensorBoardCallback(tmp_path / 'tb', n_preds=4))
    plt.close('all')
    assert list((tmp_path / 'tb').iterdir())

def test_gradient_clip():
    norms = []
    learn = learner(adapt=False, ramp=0)
    learn.add_cb(At('before_step', lambda l: norms.append(math.sqrt(sum(p.grad.pow(2).sum().item() for p in l.model.parameters()))), order=50))
    learn.fit(1, cbs=GradientClip(1e-3))
    assert norms[0] == pytest.approx(1e-3, rel=1e-2)

def test_gradient_accumulation():
    "Optimizer steps are counted in labeled images, and the average counts optimizer steps."
    steps = []
    class Count(Callback):
        order = 100
        def after_step(self): steps.append(1)
    learn = learner()
    learn.fit(3, cbs=[GradientAccumulation(40), Count()])
    assert learn.train_iter == 12 and len(steps) == 6 and learn.ema.n == 6
    assert np.isfinite(learn.recorder.values[-1]).all()

@pytest.mark.parametrize('to', ['to_fp16', 'to_bf16', 'to_channelslast'])
def test_precision_on_a_cpu(to):
    learn = getattr(learner(), to)()
    if torch.cuda.is_available(): return learn.fit(1)
    with pytest.warns(UserWarning, match='works on CUDA only; on cpu this trains in float32'): learn.fit(1)
    assert learn.ema.n == 4 and np.isfinite(learn.recorder.values[0]).all()
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        learn.get_preds()
    assert not any('works on CUDA only' in str(w.message) for w in ws)
    learn.to_fp32().fit(1)

def test_channelslast_without_amp():
    learn = learner()
    learn.to_contiguous()
    learn = learn.to_channelslast(use_amp=False)
    learn.fit(1)
    assert any(p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) for p in learn.model.parameters()) and learn.ema.n == 4

# --- interrupts

def interrupt(learn): raise KeyboardInterrupt

class InValidation(Callback):
    def __init__(self, event, order):
        self.order, self.always = order, event == 'before_validate'
        setattr(self, event, self.go)
    def go(self):
        if not self.learn.training or self.always: raise KeyboardInterrupt

TRAIN = ['before_batch', 'after_pred', 'after_loss', 'before_backward', 'after_backward', 'before_step', 'after_step', 'after_batch']
MOMENTS = [(At(e, interrupt, order=o), f'{e} {o}') for e in TRAIN for o in (-100, 15, 100)]
MOMENTS += [(InValidation(e, o), f'validation {e} {o}') for e in ('before_validate', 'before_batch', 'after_pred', 'after_loss', 'after_validate') for o in (-100, 100)]
MOMENTS += [(Callback(**{e: interrupt}), e) for e in ('before_fit', 'before_epoch', 'before_train', 'after_train', 'after_epoch')]

@pytest.mark.parametrize('cb', [c for c, _ in MOMENTS], ids=[i for _, i in MOMENTS])
def test_interrupt(cb, tmp_path):
    learn = learner()
    loss, metrics, dls, logger = learn.loss_func, list(learn.metrics), learn.dls, learn.logger
    loaders = list(dls.loaders)
    learn.fit(1)
    n = learn.ema.n
    with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=cb)
    assert learn.loss_func is loss and list(learn.metrics) == metrics and learn.dls is dls and dls.loaders == loaders and learn.logger is logger
    assert learn.mix_match.labeled is None and learn.mix_match.columns is None and cb not in learn.cbs
    assert learn.ema.active and equal(learn.ema.tensors(), learn.ema.avg)
    learn.export(tmp_path / 'm.pkl')
    p = learn.predict(X[0])[2]
    assert torch.isfinite(p).all() and learn.get_preds()[0].shape == (60, 10)
    n = learn.ema.n
    learn.fit(1)
    assert learn.ema.n == n + 4 and list(learn.recorder.metric_names) == NAMES and len(learn.recorder.values[0]) == 8

def test_interrupted_lr_find():
    learn = learner()
    learn.fit(1)
    before, n = weights(learn), learn.mix_match.trust.n
    class Stop(Callback):
        order = 100
        def after_batch(self):
            if self.learn.train_iter == 5: raise KeyboardInterrupt
    learn.add_cb(Stop())
    with pytest.raises(KeyboardInterrupt): learn.lr_find(num_it=20, show_plot=False)
    learn.remove_cb(Stop)
    assert same(before, weights(learn)) and learn.mix_match.trust.n == n and not hasattr(learn, 'lr_finder')
    learn.fit(1)
    assert learn.ema.n == 8

@pytest.mark.parametrize('event', TRAIN)
def test_interrupt_of_a_plain_learner(event):
    "Which is not told; everything is put right by the next validation or fit."
    learn = Learner(digit_dls(), SMALL(1, 10), metrics=accuracy, cbs=[MixMatch(IL[200:328], bs=32), EMA()])
    learn.remove_cb(ProgressCallback).logger = noop
    loss, metrics = learn.loss_func, list(learn.metrics)
    with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=At(event, interrupt))
    assert len(learn.validate()) >= 2 and learn.loss_func is loss
    n = learn.ema.n
    learn.fit(1)
    assert learn.ema.n == n + 4 and learn.loss_func is loss and list(learn.metrics) == metrics
    assert list(learn.recorder.metric_names) == NAMES and learn.ema.active

def test_ctrl_c(tmp_path):
    "A real signal, at whatever moment it comes. fastai's `Recorder` drops one that comes while it reads a number (`except:`), so another may be needed."
    code = SCRIPT + f'''
loss = learn.loss_func
print('ready', flush=True)
try: learn.fit(100000)
except KeyboardInterrupt: print('interrupted', flush=True)
assert learn.loss_func is loss and learn.ema.active and learn.dls is dls and len(learn.metrics) == 1
learn.export({str(tmp_path / 'm.pkl')!r})
learn.fit(1); print(learn.predict(x[0])[2].sum().item())
print('done')
'''
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(Path(__file__).parent.parent))
    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    while p.stdout.readline().strip() != 'ready': assert p.poll() is None, p.stderr.read()
    time.sleep(.7)
    for _ in range(3):
        p.send_signal(signal.SIGINT)
        end = time.monotonic()+60
        while time.monotonic()<end and (line := p.stdout.readline().strip()) not in ('interrupted', ''): pass
        if line == 'interrupted': break
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err
    assert line == 'interrupted' and 'done' in out

def test_interrupt_at_any_line():
    "A part of what `python tests/interrupts.py` does: wherever a fit is interrupted, the learner can be exported, trained and asked again."
    here = Path(__file__).parent
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join([str(here.parent), str(here)]))
    res = subprocess.run([sys.executable, '-W', 'ignore', here/'interrupts.py', '7', '12'], capture_output=True, text=True, env=env, timeout=900)
    assert res.returncode == 0, res.stdout + res.stderr
    assert int(res.stdout.splitlines()[-1].split()[0]) > 100 and ' 0 wrong' in res.stdout

def test_grad_after_interrupt():
    "An interrupt between the start and the end of `no_grad` leaves gradients off; the next fit needs them."
    learn = learner()
    def off(learn):
        torch.set_grad_enabled(False)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=At('after_batch', off))
    assert torch.is_grad_enabled()
    learn.fit(1)

CANCEL = {ex: ['before_batch', 'after_pred', 'after_loss', 'before_step', 'after_batch'] for ex in (CancelTrainException, CancelEpochException, CancelFitException)}
CANCEL |= {CancelBatchException: ['before_batch', 'after_pred', 'after_loss', 'before_step'], CancelStepException: ['before_step']} # the events at which fastai takes them

@pytest.mark.parametrize('event,ex', [(e, ex) for ex, es in CANCEL.items() for e in es])
def test_canceled(event, ex):
    "fastai's own ways to skip a part; a skipped step does not count in the average."
    def stop(learn): raise ex
    learn = learner()
    loss = learn.loss_func
    learn.fit(2, cbs=At(event, stop, n=2))
    assert learn.loss_func is loss and learn.ema.active and len(learn.metrics) == 1
    if ex in (CancelBatchException, CancelStepException): assert learn.ema.n == 6
    n = learn.ema.n
    learn.fit(1)
    assert learn.ema.n == n + 4

def test_error_in_a_callback():
    def fail(learn): raise RuntimeError('oh')
    learn = learner()
    loss = learn.loss_func
    for order in (5, 100):
        with pytest.raises(RuntimeError, match='oh'): learn.fit(1, cbs=At('after_pred', fail, order=order))
        assert learn.loss_func is loss and len(learn.metrics) == 1 and learn.ema.active
    learn.fit(1)

# --- numbers that are not finite

def test_nan_in_an_image():
    "Names the part, and the learner can be used afterwards."
    train, valid, x = torch_sets()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    learn = learner(DataLoaders.from_dsets(train, valid, bs=10), x.clone(), net, alpha=0., adapt=False, ramp=0)
    learn.mix_match.dl.pool.x[:, 0, 3, 3] = float('nan') # NaN that is there from the start is refused earlier, when the learner is made
    loss = learn.loss_func
    with pytest.raises(FloatingPointError, match='loss is nan in epoch 0, batch 0.*weight 75.*look for NaN in the images'): learn.fit(1)
    assert learn.loss_func is loss
    assert all(torch.isfinite(p).all() for p in net.parameters())
    learn.mix_match.unlabeled = x
    learn.fit(1)
    assert np.isfinite(learn.recorder.values[0]).all()

def test_nan_in_a_labeled_image():
    train, valid, x = torch_sets()
    train.tensors[0][:, 0, 3, 3] = float('nan')
    learn = learner(DataLoaders.from_dsets(train, valid, bs=10), x, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), alpha=0., adapt=False)
    with pytest.raises(FloatingPointError, match='the labeled loss is nan'): learn.fit(1)

@pytest.mark.parametrize('part', ['labeled', 'unlabeled'])
def test_the_part_is_named(part, monkeypatch):
    real = MixMatch.losses
    def losses(self, pred, y, q):
        lx, lu = real(self, pred, y, q)
        return (lx * float('inf'), lu) if part == 'labeled' else (lx, lu * float('nan'))
    monkeypatch.setattr(MixMatch, 'losses', losses)
    learn = learner(adapt=False, ramp=0)
    with pytest.raises(FloatingPointError, match=f'the {part} loss is'): learn.fit(1)

def test_huge_learning_rate():
    learn = learner(adapt=False, ramp=0)
    learn.fit(1)
    learn.save('good')
    with pytest.raises(FloatingPointError, match=r'learning rate 1e\+30'): learn.fit(3, 1e30)
    learn.load('good')
    assert torch.isfinite(learn.get_preds()[0]).all()
    learn.fit(1, 1e-3)
    assert np.isfinite(learn.recorder.values[0]).all() and torch.isfinite(learn.get_preds()[0]).all()

# --- the average

class Counter(nn.Module):
    "A buffer of its own, as spectral norm and others have."
    def __init__(self):
        super().__init__()
        self.register_buffer('seen', torch.zeros(1))
    def forward(self, x):
        if self.training and torch.is_grad_enabled(): self.seen = self.seen + 1
        return x

def test_average_of_parameters_and_buffers():
    "The recursion written out; integer buffers stay as they are."
    learn, states = learner(arch=nn.Sequential(Counter(), SMALL(1, 10))), []
    states.append(weights(learn))
    class Note(Callback):
        order = 100
        def after_step(self): states.append(weights(self.learn))
    learn.fit(2, cbs=Note())
    avg = {k: v.double() for k, v in states[0].items()}
    for t, s in enumerate(states[1:]):
        d = min(.999, (1 + t) / (10 + t))
        for k in avg: avg[k] = d * avg[k] + (1 - d) * s[k].double() if s[k].is_floating_point() else s[k]
    assert len(states) == 9 and learn.ema.n == 8
    got = weights(learn)
    for k in avg: assert torch.allclose(got[k].double(), avg[k].double(), atol=1e-5), k
    assert got['0.seen'].item() not in (0, 8) and any(k.endswith('num_batches_tracked') and v == 8 for k, v in got.items())
    assert any(k.endswith('running_mean') and not torch.equal(v, states[-1][k]) for k, v in got.items())

def test_no_average():
    for ema in (None, 0):
        learn = learner(ema=ema)
        assert not hasattr(learn, 'ema')
        learn.fit(1)

@pytest.mark.parametrize('event', ['before_batch', 'after_batch', 'after_pred', 'after_loss', 'before_step', 'after_step'])
def test_predicting_in_mid_epoch(event):
    "Predictions are the average's, and training goes on with the trained weights: the same fit with and without."
    def run(peek):
        set_seed(0)
        learn, preds = learner(arch=nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), []
        def look(l):
            rng, state = torch.get_rng_state(), {o: getattr(l, o) for o in ('dl', 'xb', 'yb', 'pred', 'iter', 'n_iter')}
            state.update({o: getattr(l, o) for o in ('loss', 'loss_grad', 'loss_func') if hasattr(l, o)})
            avg, raw = tensors(l.ema.avg), weights(l)
            preds.append((l.get_preds(inner=True)[0], avg))
            for o, v in state.items(): setattr(l, o, v)
            l.model.train()
            l.training = True
            assert same(raw, weights(l))
            torch.set_rng_state(rng)
        learn.fit(2, cbs=At(event, look) if peek else None)
        return weights(learn), preds
    (a, _), (b, preds) = run(False), run(True)
    assert len(preds) == 2 and same(a, b)
    w, bias = preds[1][1]
    x = torch.tensor(X[1700:1760] / 255, dtype=torch.float32).flatten(1)
    assert torch.allclose(preds[1][0], (x @ w.T + bias).softmax(1), atol=1e-5)

def test_model_changed_by_hand():
    learn = learner()
    learn.fit(1)
    with torch.no_grad(): [p.add_(1) for p in learn.model.parameters()]
    w, first = weights(learn), []
    learn.fit(1, cbs=At('before_batch', lambda l: first.append(weights(l)), n=0))
    assert same(w, first[0]) and learn.ema.n == 4
