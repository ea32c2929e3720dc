"The loop of all methods: fastai's callbacks and schedules in it, interrupts at every moment, and what is the user's stays the user's."
import copy, gc, json, math, numpy as np, os, pytest, signal, sys, time, torch, warnings, weakref
from fastai.callback.all import CSVLogger, EarlyStoppingCallback, GradientAccumulation, GradientClip, SaveModelCallback
from fastai.vision.all import (Callback, CancelBatchException, CancelEpochException, CancelFitException, ProgressCallback, Transform,
    CancelStepException, CancelTrainException, DataLoader, DataLoaders, Learner, RandomResizedCrop, Resize, accuracy, noop, set_seed)
from fastai_mixmatch.all import *
from helpers import (IL, NAMES, SCRIPT, SMALL, At, X, alike, column_of, copied, core_dls, core_learner, forks, in_group, interrupt, method_learner,
    own_env, quiet, row_of, same, state_of, tensors, train, validated)
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import PIPE
from torch import nn

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

# --- fastai's callbacks

def test_save_model_callback():
    "The best epoch is kept, and what is saved are the averages."
    learn, epochs = core_learner(), []
    class Note(Callback):
        order = 55
        def after_epoch(self): epochs.append((row_of(self.learn)['accuracy'], state_of(self.learn), tensors(self.learn.ema.avg)))
    learn.fit(4, 1e-2, cbs=[Note(), SaveModelCallback(monitor='accuracy', fname='best')])
    best = max(range(4), key=lambda i: epochs[i][0])
    accs = [e[0] for e in epochs]
    assert same(state_of(learn), epochs[accs.index(max(accs))][1]) and len(set(accs)) > 1
    names = [k for k, _ in [*learn.model.named_parameters(), *learn.model.named_buffers()]]
    for _, w, avg in epochs: assert alike(avg, [w[k] for k in names if w[k].is_floating_point()])
    assert validated(learn)['accuracy'] == pytest.approx(accs[best])
    learn.fit(1)

def test_early_stopping():
    learn = core_learner(lr=0.)
    learn.fit(6, 0., cbs=EarlyStoppingCallback(monitor='accuracy', patience=2))
    assert len(learn.recorder.values) == 3 and learn.ema.active
    learn.fit(1)

def test_gradient_clip():
    norms = []
    learn = core_learner(adapt=False, ramp=0)
    learn.add_cb(At('before_step', lambda l: norms.append(math.sqrt(sum(p.grad.pow(2).sum().item() for p in l.model.parameters()))), order=50))
    learn.fit(1, cbs=GradientClip(1e-3))
    assert norms[0] == pytest.approx(1e-3, rel=1e-2)

def test_gradient_accumulation():
    "Optimizer steps are counted in labeled images, and the average counts optimizer steps."
    steps = []
    class Count(Callback):
        order = 100
        def after_step(self): steps.append(1)
    learn = core_learner()
    learn.fit(3, cbs=[GradientAccumulation(40), Count()])
    assert learn.train_iter == 12 and len(steps) == 6 and learn.ema.n == 6
    assert np.isfinite(learn.recorder.values[-1]).all()

@pytest.mark.parametrize('to', ['to_fp16', 'to_bf16', 'to_channelslast'])
def test_precision_on_a_cpu(to):
    learn = getattr(core_learner(), to)()
    if torch.cuda.is_available(): return learn.fit(1)
    with pytest.warns(UserWarning, match='works on CUDA only; on cpu this trains in float32'): learn.fit(1)
    assert learn.ema.n == 4 and np.isfinite(learn.recorder.values[0]).all()
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        learn.get_preds()
    assert not any('works on CUDA only' in str(w.message) for w in ws)
    learn.to_fp32().fit(1)

def test_channelslast_without_amp():
    learn = core_learner()
    learn.to_contiguous()
    learn = learn.to_channelslast(use_amp=False)
    learn.fit(1)
    assert any(p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) for p in learn.model.parameters()) and learn.ema.n == 4

# --- schedules

def opt_state(learn): return [copied(learn.opt.state[p]) for p in learn.opt.all_params().itemgot(0)]

def learned(learn): return {k: v.clone() for k,v in learn.mix_match.learned.items()}

def everything(learn):
    ema = learn.ema
    return dict(model=state_of(learn), avg=tensors(ema.avg), raw=tensors(ema.raw), n=ema.n, active=ema.active, learned=learned(learn),
        opt=opt_state(learn), loss=learn.loss_func)

def test_lr_find_moves_nothing():
    "Before the first fit, a second time, and after a fit."
    learn = core_learner()
    learn.create_opt()
    loss, metrics, dls = learn.loss_func, list(learn.metrics), learn.dls
    for _ in range(2):
        before = everything(learn)
        res = learn.lr_find(num_it=20, show_plot=False)
        assert 0 < res.valley < 10 and len(learn.recorder.lrs) > 10
        assert alike(before, everything(learn))
    learn.fit(1)
    before = everything(learn)
    assert before['n'] == 4 and before['learned'].keys() == {'known', 'seen'}
    learn.lr_find(num_it=20, show_plot=True)
    assert alike(before, everything(learn))
    assert learn.loss_func is loss and list(learn.metrics) == metrics and learn.dls is dls
    learn.fit(1)
    assert learn.ema.n == 8 and not alike(before['learned'], learned(learn))

def test_lr_find_puts_back_what_is_changed_in_place():
    "What a strong view learns, and a tensor that a method writes into"
    class Writes(FixMatch):
        def fresh(self): return dict(count=torch.zeros(3))
        def targets(self, q, q_x):
            self.learned.count += 1
            return super().targets(q, q_x)
    learn = quiet(method_learner(Writes(strong=StrongView(CTAugment()))))
    learn.lr_find(num_it=6, show_plot=False)
    assert not learn.writes.learned.count.any() and (learn.writes.strong.aug.weights==1).all()

def test_lr_find_takes_its_steps():
    "fastai counts them in labeled batches: there may be fewer labels than a batch, or more labeled batches than unlabeled ones."
    learn = core_learner(core_dls(bs=64), IL[200:264])
    learn.lr_find(num_it=30, stop_div=False, show_plot=False)
    assert len(learn.recorder.lrs) == 30
    learn = core_learner(core_dls(bs=2, n=100), IL[200:264])
    learn.lr_find(num_it=30, stop_div=False, show_plot=False)
    assert len(learn.recorder.lrs) == 30

def test_lr_find_has_the_full_weight():
    learn, seen = core_learner(adapt=False, lambda_u=7.), []
    learn.lr_find(num_it=10, show_plot=False)
    with learn.added_cbs(At('after_loss', lambda l: seen.append(l.mix_match.weight()), n=0)): learn.lr_find(num_it=6, show_plot=False)
    assert seen and set(map(float, seen)) == {7.}

@pytest.mark.parametrize('fit', ['fit', 'fit_one_cycle', 'fit_flat_cos', 'fit_sgdr'])
def test_schedules(fit):
    learn = core_learner(adapt=False)
    start = state_of(learn)
    getattr(learn, fit)(*((2, 1) if fit == 'fit_sgdr' else (3,)))
    assert learn.train_iter == 12 and learn.ema.n == 12
    assert not any(torch.equal(start[k], v) for k, v in state_of(learn).items() if v.is_floating_point())
    assert len(learn.recorder.values) == 3 and all(np.isfinite(v).all() for v in learn.recorder.values)
    assert column_of(learn, 'lambda_u') == pytest.approx([75 * (e * 4 + 1.5) / 12 for e in range(3)])

def test_second_fit_goes_on():
    "From the trained weights, not from the averages, and the averages go on: in two fits and in one, the same."
    batches = []
    class Same(Callback):
        "Fix what is drawn, and note what is trained."
        order, run_valid = 200, False
        def before_batch(self):
            g = torch.Generator().manual_seed(len(batches) % 8)
            self.learn.xb, self.learn.yb = (torch.rand(64, 1, 8, 8, generator=g),), (torch.eye(10)[:10].repeat(2, 1), torch.full((44, 10), .1))
            batches.append(1)
    def run(fits):
        learn = core_learner(arch=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), adapt=False, ramp=0, cbs=Same())
        with torch.no_grad():
            for p in learn.model.parameters(): p.fill_(.01)
        for n in fits: learn.fit(n, 1e-2)
        learn.ema.resume()
        return state_of(learn), tensors(learn.ema.avg), learn.ema.n
    one, two = run([2]), run([1, 1])
    assert one[2] == two[2] == 8
    for a, b in zip([*one[0].values(), *one[1]], [*two[0].values(), *two[1]]): assert torch.allclose(a, b, atol=1e-6)

# --- interrupts

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
    learn = core_learner()
    loss, metrics, dls, logger = learn.loss_func, list(learn.metrics), learn.dls, learn.logger
    loaders = list(dls.loaders)
    learn.fit(1)
    n = learn.ema.n
    with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=cb)
    assert learn.loss_func is loss and list(learn.metrics) == metrics and learn.dls is dls and dls.loaders == loaders and learn.logger is logger
    assert learn.mix_match.fitting is None and learn.report.columns is None and cb not in learn.cbs
    assert learn.ema.active and alike(learn.ema.tensors(), learn.ema.avg)
    learn.export(tmp_path / 'm.pkl')
    p = learn.predict(X[0])[2]
    assert torch.isfinite(p).all() and learn.get_preds()[0].shape == (60, 10)
    n = learn.ema.n
    learn.fit(1)
    assert learn.ema.n == n + 4 and list(learn.recorder.metric_names) == NAMES and [*row_of(learn)] == NAMES[1:-1]

@pytest.mark.parametrize('bar', [True, False])
def test_csv_logger_after_an_interrupt(bar, tmp_path):
    "fastai's logger stays in place when a fit is cut off, and calls itself in the next one where no progress bar stands between"
    learn = core_learner(noisy=True, cbs=CSVLogger(tmp_path/'h.csv'))
    if not bar: learn.remove_cb(ProgressCallback)
    for end in (KeyboardInterrupt, RuntimeError):
        def stop(learn): raise end('x')
        with pytest.raises(end): learn.fit(2, cbs=At('after_batch', stop))
        learn.fit(2)
        assert len((tmp_path/'h.csv').read_text().splitlines()) == 3

def test_interrupted_lr_find():
    learn = core_learner()
    learn.fit(1)
    before = state_of(learn), learned(learn)
    class Stop(Callback):
        order = 100
        def after_batch(self):
            if self.learn.train_iter == 5: raise KeyboardInterrupt
    learn.add_cb(Stop())
    with pytest.raises(KeyboardInterrupt): learn.lr_find(num_it=20, show_plot=False)
    learn.remove_cb(Stop)
    assert same(before[0], state_of(learn)) and alike(before[1], learned(learn)) and not hasattr(learn, 'lr_finder')
    learn.fit(1)
    assert learn.ema.n == 8

@pytest.mark.parametrize('event', TRAIN)
def test_interrupt_of_a_plain_learner(event):
    "Which is not told; everything is put right by the next validation or fit."
    learn = Learner(core_dls(), SMALL(1, 10), metrics=accuracy, cbs=[MixMatch(Unlabeled(IL[200:328], bs=32)), EMA()])
    quiet(learn)
    loss, metrics = learn.loss_func, list(learn.metrics)
    with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=At(event, interrupt))
    assert validated(learn)['valid_loss'] == pytest.approx(float(loss(*learn.get_preds(act=noop))), rel=1e-4)
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
    env = own_env()
    p = forks().start('-c', code, stdout=PIPE, stderr=PIPE, env=env)
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

@pytest.mark.nightly # As `interrupts.py`, with fewer cases
def test_interrupt_at_any_line():
    "A part of what `python tests/interrupts.py` does: wherever a fit is interrupted, the learner can be exported, trained and asked again."
    here = Path(__file__).parent
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join([str(here.parent), str(here)]))
    res = forks().run('-W', 'ignore', here/'interrupts.py', '7', '40', env=env, timeout=900)
    assert res.returncode == 0, res.stdout + res.stderr
    assert int(res.stdout.splitlines()[-1].split()[0]) > 30 and ' 0 wrong' in res.stdout

def test_grad_after_interrupt():
    "An interrupt between the start and the end of `no_grad` leaves gradients off; the next fit needs them."
    learn = core_learner()
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
    learn = core_learner()
    loss = learn.loss_func
    learn.fit(2, cbs=At(event, stop, n=2))
    assert learn.loss_func is loss and learn.ema.active and len(learn.metrics) == 1
    if ex in (CancelBatchException, CancelStepException): assert learn.ema.n == 6
    n = learn.ema.n
    learn.fit(1)
    assert learn.ema.n == n + 4

def test_error_in_a_callback():
    def fail(learn): raise RuntimeError('oh')
    learn = core_learner()
    loss = learn.loss_func
    for order in (5, 100):
        with pytest.raises(RuntimeError, match='oh'): learn.fit(1, cbs=At('after_pred', fail, order=order))
        assert learn.loss_func is loss and len(learn.metrics) == 1 and learn.ema.active
    learn.fit(1)

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
    learn, states = core_learner(arch=nn.Sequential(Counter(), SMALL(1, 10))), []
    states.append(state_of(learn))
    class Note(Callback):
        order = 100
        def after_step(self): states.append(state_of(self.learn))
    learn.fit(2, cbs=Note())
    avg = {k: v.double() for k, v in states[0].items()}
    for t, s in enumerate(states[1:]):
        d = min(.999, (1 + t) / (10 + t))
        for k in avg: avg[k] = d * avg[k] + (1 - d) * s[k].double() if s[k].is_floating_point() else s[k]
    assert len(states) == 9 and learn.ema.n == 8
    got = state_of(learn)
    for k in avg: assert torch.allclose(got[k].double(), avg[k].double(), atol=1e-5), k
    assert got['0.seen'].item() not in (0, 8) and any(k.endswith('num_batches_tracked') and v == 8 for k, v in got.items())
    assert any(k.endswith('running_mean') and not torch.equal(v, states[-1][k]) for k, v in got.items())

def test_no_average():
    for ema in (None, 0):
        learn = core_learner(ema=ema)
        assert not hasattr(learn, 'ema')
        learn.fit(1)

@pytest.mark.parametrize('event', ['before_batch', 'after_batch', 'after_pred', 'after_loss', 'before_step', 'after_step'])
def test_predicting_in_mid_epoch(event):
    "Predictions are the average's, and training goes on with the trained weights: the same fit with and without."
    def run(peek):
        set_seed(0)
        learn, preds = core_learner(arch=nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), []
        def look(l):
            rng, state = torch.get_rng_state(), {o: getattr(l, o) for o in ('dl', 'xb', 'yb', 'pred', 'iter', 'n_iter')}
            state.update({o: getattr(l, o) for o in ('loss', 'loss_grad', 'loss_func') if hasattr(l, o)})
            avg, raw = tensors(l.ema.avg), state_of(l)
            preds.append((l.get_preds(inner=True)[0], avg))
            for o, v in state.items(): setattr(l, o, v)
            l.model.train()
            l.training = True
            assert same(raw, state_of(l))
            torch.set_rng_state(rng)
        learn.fit(2, cbs=At(event, look) if peek else None)
        return state_of(learn), preds
    (a, _), (b, preds) = run(False), run(True)
    assert len(preds) == 2 and same(a, b)
    w, bias = preds[1][1]
    x = torch.tensor(X[1700:1760] / 255, dtype=torch.float32).flatten(1)
    assert torch.allclose(preds[1][0], (x @ w.T + bias).softmax(1), atol=1e-5)

def test_model_changed_by_hand():
    learn = core_learner()
    learn.fit(1)
    with torch.no_grad(): [p.add_(1) for p in learn.model.parameters()]
    w, first = state_of(learn), []
    learn.fit(1, cbs=At('before_batch', lambda l: first.append(state_of(l)), n=0))
    assert same(w, first[0]) and learn.ema.n == 4

# --- learners of other makers, other data

def test_plain_learner():
    learn = Learner(core_dls(), SMALL(1, 10), metrics=accuracy, cbs=[MixMatch(Unlabeled(IL[200:328], bs=32)), EMA()])
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2)
    assert list(learn.recorder.metric_names) == NAMES and learn.ema.n == 8

def test_callback_added_later():
    learn = Learner(core_dls(), SMALL(1, 10), metrics=accuracy)
    quiet(learn)
    learn.fit(1)
    learn.add_cb(MixMatch(Unlabeled(IL[200:328], bs=32))).add_cb(EMA())
    learn.fit(1)
    assert list(learn.recorder.metric_names) == NAMES and learn.train_iter == 4
    learn.remove_cb(MixMatch)
    learn.fit(1)
    assert learn.train_iter == 1 and list(learn.recorder.metric_names) == NAMES[:4] + NAMES[-1:]

def test_exchanged_data():
    "Other unlabeled images, and larger ones in both sets."
    learn, seen = core_learner(), []
    learn.fit(1)
    learn.mix_match.unlabeled = IL[200:264]
    learn.fit(1)
    assert learn.train_iter == 2
    learn.dls = core_dls(item_tfms=Resize(12))
    learn.add_cb(At('after_pred', lambda l: seen.append(l.xb[0].shape)))
    learn.fit(1)
    assert seen[0][1:] == (1, 12, 12)

def test_gradients_reach_every_parameter():
    seen = []
    learn = core_learner(cbs=At('before_step', lambda l: seen.append({n: p.grad.abs().sum().item() for n, p in l.model.named_parameters()}), n=3), adapt=False, ramp=0)
    learn.fit(1)
    assert len(seen[0]) == len(list(learn.model.parameters())) and all(g > 0 for g in seen[0].values())
    assert row_of(learn)['loss_u'] > 0

# --- long runs

MEMORY = SCRIPT + '''
import json, os
dls = il[:200].split(20)[0].dataloaders(bs=16)
learn, sizes = mixmatch_learner(dls, il[200:840], partial(small_cnn, width=8)), []
class Note(Callback):
    run_valid = False
    def after_batch(self):
        if self.train_iter % 40 != 39: return
        with open('/proc/self/statm') as f: sizes.append(int(f.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20)
with learn.no_bar(), learn.no_logging(): learn.fit(10, cbs=Note())
print(json.dumps(sizes))
'''

@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_memory_is_flat_over_steps():
    "Resident memory in MB, in a process of its own: what the tests before left behind is not counted"
    p = forks().start('-c', MEMORY, stdout=PIPE, stderr=PIPE, env=own_env())
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err
    sizes = json.loads(out.splitlines()[-1])
    assert len(sizes) == 10 and max(sizes[3:]) - sizes[2] < 8, sizes

def test_learners_are_freed():
    def fit():
        learn = core_learner()
        learn.fit(1)
        return [weakref.ref(o) for o in (learn, learn.model, learn.mix_match, learn.mix_match.dl, learn.ema)]
    refs = sum([fit() for _ in range(3)], [])
    gc.collect()
    assert not [o() for o in refs if o() is not None]

# --- what is the user's

class Swaps(Learner):
    "Counts how often its loss function is set"
    swaps = None
    def __setattr__(self, k, v):
        if k=='loss_func' and self.swaps is not None: self.swaps.append(v)
        super().__setattr__(k, v)

def own_loss(pred, y): return nn.functional.cross_entropy(pred, y)

ENDS = dict(whole=None, interrupt=KeyboardInterrupt, error=RuntimeError, fit=CancelFitException, epoch=CancelEpochException, batch=CancelBatchException)

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('end', ENDS)
def test_the_loss_is_swapped_once_a_fit(end):
    "It is the user's in validation and after every end, also in a plain `Learner`, which tells its callbacks of no interrupt."
    seen,lossy = [],[]
    def stop(learn): raise ENDS[end]('x')
    class Look(Callback):
        order = 200
        def after_loss(self): (lossy if self.training else seen).append(float(self.loss) - float(own_loss(self.pred, self.y)))
    for cls in (Swaps, Learner):
        learn = quiet(cls(core_dls(), SMALL(1, 10), loss_func=own_loss, cbs=[MixMatch(Unlabeled(IL[200:328], bs=32), adapt=False, ramp=0), EMA(), Look()]))
        learn.swaps = []
        try: learn.fit(2, cbs=At('after_pred', stop) if ENDS[end] else None)
        except (KeyboardInterrupt, RuntimeError): pass
        if cls is Swaps and end not in ('interrupt','error'):
            assert len(learn.swaps)==2 and learn.swaps[0].own is own_loss and learn.swaps[1] is own_loss
        learn.validate()
        assert learn.loss_func is own_loss or end in ('interrupt','error')
        learn.fit(1)
        assert learn.loss_func is own_loss
    assert seen and max(map(abs, seen)) < 1e-6 and max(map(abs, lossy)) > 1e-3

def test_the_loss_after_an_interrupt():
    "The factory's learner has the user's loss, no column of ours and gradients, at once."
    for error in (KeyboardInterrupt, RuntimeError):
        def stop(learn): raise error('x')
        learn = core_learner(loss_func=(own := nn.CrossEntropyLoss()))
        with pytest.raises(error): learn.fit(2, cbs=At('after_loss', stop))
        assert learn.loss_func is own and len(learn.metrics)==1 and torch.is_grad_enabled() and learn.mix_match.fitting is None

def test_settings_of_a_loss_reach_it():
    "What callbacks set on the loss of a fit is set on the user's loss."
    learn = core_learner(loss_func=(own := nn.CrossEntropyLoss()))
    def set_it(l): l.loss_func.note = 1
    learn.fit(1, cbs=At('before_batch', set_it))
    assert learn.loss_func is own and own.note==1

class Noise(Callback):
    "Adds 7 to the labeled images"
    run_valid = False
    def __init__(self): self.shapes = []
    def before_batch(self):
        self.shapes.append((tuple(self.x.shape), tuple(self.y.shape)))
        self.learn.xb = (self.x+7,)

@pytest.mark.parametrize('change', [lambda x, y: (x.flip(0), y.flip(0)), lambda x, y: (x[1:], y[1:])])
def test_defixmatch_refuses_other_labels(change):
    "It makes strong views of the images that were drawn, and these are of others now"
    class Changing(Callback):
        order = 10
        def before_batch(self):
            if not self.training: return
            x, y = change(self.xb[0], self.yb[0])
            self.learn.xb, self.learn.yb = (x,), (y,)
    quiet(method_learner(FixMatch(), cbs=Changing())).fit(1)
    with pytest.raises(ValueError, match='another callback has changed the labels'): quiet(method_learner(DeFixMatch(), cbs=Changing())).fit(1)

def test_own_before_batch():
    "A callback of the default order sees an ordinary labeled batch; what it makes of it is what the method trains on."
    noise,seen = Noise(),[]
    def look(l): seen.append((l.xb[0][:20].mean().item(), l.xb[0][20:].mean().item(), l.mix_match.step.batch.x.mean().item()))
    learn = core_learner(alpha=0., adapt=False, cbs=[noise, At('before_batch', look, order=30)])
    learn.fit(1)
    assert set(noise.shapes)=={((20,1,8,8), (20,))}
    (x,u,b), = seen
    assert 7 <= x <= 8 and 0 <= u <= 1 and x==pytest.approx(b)

@pytest.mark.parametrize('order', [-100, 100])
def test_a_callback_that_cannot_tidy_up_keeps_none_from_it(order):
    class Bad(Callback):
        def after_batch(self): raise KeyboardInterrupt
        def tidy(self): raise ZeroDivisionError('mine')
    Bad.order = order
    learn = core_learner(checkpoint='cp')
    loss, metrics = learn.loss_func, list(learn.metrics)
    with pytest.raises(ZeroDivisionError, match='mine'): learn.fit(1, cbs=Bad())
    assert learn.loss_func is loss and list(learn.metrics) == metrics and learn.checkpoint.this_fit is learn.mix_match.fitting is None
    learn.fit(1)
    assert len(learn.report.rows) == 1

@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError])
def test_no_old_file_after_an_interrupt(error):
    "`SaveModelCallback` loads its best file where a fit ends well; after an interrupt the last weights stay, as in a plain `Learner`."
    learn = core_learner()
    learn.save('model')
    learn.fit(1)
    last = []
    def stop(l):
        last.append([p.detach().clone() for p in l.model.parameters()])
        raise error('x')
    with pytest.raises(error): learn.fit(4, cbs=[SaveModelCallback(monitor='accuracy', fname='model'), At('after_step', stop, n=2, order=-90)])
    learn.ema.resume()
    assert all(map(torch.equal, last[0], learn.model.parameters()))

def test_a_method_belongs_to_one_learner():
    "A second one is refused, before anything is changed; the first trains on."
    method = MixMatch()
    first = quiet(ssl_learner(core_dls(), IL[200:328], SMALL, method, bs=32))
    first.fit(1)
    before = learned(first)
    with pytest.raises(ValueError, match='this MixMatch belongs to another learner.*make a new one'):
        ssl_learner(core_dls(), IL[200:328], SMALL, method, bs=32)
    first.fit(1)
    assert not alike(before, learned(first))

@pytest.mark.parametrize('shared', [EMA, partial(Checkpoint, 'cp'), CTAugment])
def test_what_remembers_a_training_belongs_to_one_learner(shared):
    "As in a loop over folds that makes it, or a recipe, before the loop: the second learner is refused, the first trains on"
    o = shared()
    where = {EMA: lambda: dict(ema=o), CTAugment: lambda: dict(method=FixMatch(strong=StrongView(o)))}.get(shared, lambda: dict(checkpoint=o))
    make = lambda: quiet(ssl_learner(core_dls(), IL[200:328], SMALL, bs=32, **where()))
    first = make()
    first.fit(1)
    with pytest.raises(ValueError, match=f'this {type(o).__name__} belongs to another learner.*make a new one'): make().fit(1)
    assert getattr(o, 'learn', first) is first
    before = state_of(first)
    first.fit(1)
    assert not alike(before, state_of(first))

@dataclass
class Kept:
    "A strong view that is compared by value, so that it has no hash"
    p:float = .5
    def view(self, x): return x
    def state_dict(self): return dict(p=self.p)
    def load_state_dict(self, s): self.p = s['p']

def test_a_strong_view_without_a_hash():
    o = Kept()
    make = lambda: quiet(ssl_learner(core_dls(), IL[200:328], SMALL, method=FixMatch(strong=o), bs=32))
    learn = make()
    learn.fit(1)
    assert learn.train_iter==4
    with pytest.raises(ValueError, match='this Kept belongs to another learner'): make()

@pytest.mark.parametrize('method', [MixMatch, partial(ReMixMatch, ks=2)], ids=['MixMatch','ReMixMatch'])
def test_a_copy_trains_alike(method):
    "Streams that are made again at a fit draw nothing; after a fit it goes on with the trained weights, the averages, the heads and what was learned"
    def fitted(learn):
        set_seed(1)
        learn.fit(1)
        return state_of(learn)
    learn = quiet(ssl_learner(core_dls(), IL[200:328], SMALL, method=method(), bs=32))
    other = copy.deepcopy(learn)
    assert same(fitted(learn), fitted(other))
    assert same(fitted(copy.deepcopy(learn)), fitted(learn))

def test_copy_of_a_learner():
    "It keeps the unlabeled images, trains by itself, with averages of its own, and leaves the first one alone."
    learn = core_learner()
    learn.fit(1)
    other = copy.deepcopy(learn)
    before, averages = state_of(learn), learned(learn)
    assert other.mix_match.unlabeled.source is not None
    other.fit(1)
    assert len(other.mix_match.dl.pool)==128 and not alike(learned(other), averages) and alike(learned(learn), averages)
    assert same(before, state_of(learn)) and not same(before, state_of(other))
    learn.fit(1)

# --- the base by itself

def test_settings_of_the_base():
    m = SemiSupervised()
    assert (m.lambda_u, m.ramp, m.k, m.ks, m.mu, m.strong, m.guesses, m.order, m.run_valid) == (1., 0, 1, 0, 1, None, True, 20, False)
    assert (m.averages, m.columns, m.heads, m.world, m.fitting, m.step) == ({}, (), {}, 1, None, None) and m.loss_x is soft_cross_entropy
    for kw in (dict(lambda_u=-.1), dict(ramp=1.5), dict(ramp=-1)):
        with pytest.raises(ValueError): SemiSupervised(**kw)
    assert SemiSupervised(lambda_u=0.).lambda_u == 0.
    assert (MixMatch(k=1).k, FixMatch(ks=0).strong, type(FixMatch(ks=1).strong)) == (1, None, StrongView)
    for make in (lambda: MixMatch(k=0), lambda: MixMatch(k=1.5), lambda: FixMatch(ks=-1), lambda: FixMatch(ks=1.)):
        with pytest.raises(ValueError, match=r'ks?: expected a whole number of \w+ views.*; got'): make()
    with pytest.raises(ValueError, match='FixMatch.strong: expected an object with a method `view`.*got <built-in function len>'): FixMatch(strong=len)
    assert FixMatch(ks=0, strong=len).strong is len, 'not asked'

def test_a_copy_of_a_trained_method_is_no_new_one():
    "It would bring what it has learned; a copy of one that never trained, or of a learner, may"
    def make(o): return quiet(ssl_learner(core_dls(), IL[200:328], SMALL, method=o, bs=32))
    method = MixMatch()
    first = make(copy.deepcopy(method))
    first.fit(1)
    make(copy.deepcopy(method))
    for o in (copy.deepcopy(first.mix_match), copy.deepcopy(first).mix_match):
        with pytest.raises(ValueError, match='this MixMatch belongs to another learner; make a new one'): make(o)
    copy.deepcopy(first).fit(1)

def test_joined_ranks():
    "Both streams are told; no fewer images than processes."
    learn = core_learner()
    m = learn.mix_match
    m.dl.device = m.labeled_dl.device = 'its own'
    m.join_ranks()
    assert (m.dl.rank, m.world, m.dl.device, m.labeled_dl.device) == (0, 1, 'its own', 'its own')
    for rank,world in ((0,2), (1,128)):
        with in_group(learn, rank, world): m.join_ranks()
        assert [(o.rank, o.world, o.device) for o in (m.dl, m.labeled_dl)] == [(rank, world, torch.device('cpu'))]*2
    with in_group(learn, 1, 129), pytest.raises(ValueError, match='128 unlabeled images cannot be divided among 129 processes'): m.join_ranks()

def test_averages_are_over_processes():
    m = core_learner(adapt=False, prior='uniform').mix_match
    m.mean_ranks = lambda t: (t+3.)/2
    assert m.average('seen', torch.tensor(1.)) == 2. and m.average('seen', torch.tensor(3.)) == pytest.approx(.95*2+.05*3)

def test_views_of_several_reads():
    "Where an image is read several times, each view is of its own read, from the first on again; of one read, all views."
    learn, seen = core_learner(adapt=False, weak=False), []
    def look(l):
        m = l.mix_match
        black, white = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.full((4, 1, 8, 8), 255, dtype=torch.uint8)
        for raw in ([black, white], [white], [white, black, black]):
            real, calls = m.view.views, []
            m.view.views = lambda *a: calls.append(a) or real(*a)
            m.draw(raw, torch.zeros(4))
            del m.view.views
            assert (3 in [k for _, k in calls]) == (len(raw)==1), 'all views of one read are made at once'
            seen.append([o.mean().item() for o in m.step.batch.weak])
            assert torch.equal(m.step.batch.idx, m.dl.now)
        raise CancelFitException
    learn.mix_match.k = 3
    learn.fit(1, cbs=At('before_batch', look, n=0, order=15))
    assert seen == [[0, 1, 0], [1, 1, 1], [1, 0, 0]]

def test_callbacks_that_were_taken_out_come_back():
    "They are told that the fit begins, and nothing counts as replaced."
    learn = core_learner()
    learn.remove_cbs([Report])
    learn.mix_match.dl.pool.n_replaced = 5
    learn.fit(1)
    assert list(learn.recorder.metric_names) == NAMES and len(learn.report.rows) == 1 and learn.mix_match.dl.pool.n_replaced == 0

def test_streams_are_made_once():
    "And again where images, loaders or their transforms are others"
    learn = core_learner()
    m, made = learn.mix_match, []
    def again():
        m.prepare()
        made.append(m.dl)
        return len(made) > 1 and made[-1] is not made[-2]
    assert not again() and not again()
    m.unlabeled = IL[200:264]
    assert again() and not again() and len(m.dl.pool) == 64
    learn.dls.train.after_item.add(Transform(noop))
    assert again() and not again()
    learn.dls = core_dls(bs=10)
    assert again() and not again() and m.labeled_dl.bs == 10

def test_settings_that_are_changed_between_fits_count():
    "Of the stream, of how many views the method needs; what they must be is checked as in the beginning"
    learn = train(core_learner(core_dls(item_tfms=RandomResizedCrop(8))))
    m = learn.mix_match
    assert (m.dl.bs,m.dl.pool.k)==(32,2)
    m.unlabeled.bs,m.k = 16,3
    train(learn)
    assert (m.dl.bs,m.dl.pool.k,len(m.dl))==(16,3,8)
    m.unlabeled = Unlabeled(m.unlabeled.source, mu=3)
    assert train(learn).mix_match.dl.bs==60
    m.mu = 2
    assert train(learn).mix_match.dl.bs==40
    m.unlabeled.steps = 0 # It would have no end
    with pytest.raises(ValueError, match='steps, batches in an epoch, must be a whole number of at least 1; got 0'): train(learn)
    m.unlabeled.steps,m.lambda_u = None,-1
    with pytest.raises(ValueError, match='MixMatch.lambda_u: expected a finite weight of at least 0; got -1'): train(learn)

def test_strong_views_are_checked_where_there_are_any():
    "They need images in [0,1]; weak ones do not."
    items = [(torch.randn(1, 8, 8), torch.tensor(i%4)) for i in range(20)]
    dls = DataLoaders(DataLoader(items, bs=4), DataLoader(items, bs=4))
    dls.c = 4
    make = lambda ks: ssl_learner(dls, torch.randn(30, 1, 8, 8), SMALL, FixMatch(ks=ks))
    with pytest.raises(ValueError, match=r'expected values in \[0,1\] for strong views; normalize in `batch_tfms`.*from -'): make(1)
    make(0)

@pytest.mark.parametrize('cache', [True, False])
def test_a_pool_is_read_at_the_start_if_it_is_kept(cache):
    learn, calls = core_learner(cache=cache), []
    pool = learn.mix_match.dl.pool
    pool.load = calls.append
    learn.fit(1)
    assert bool(learn.mix_match.dl.cache)==cache and len(calls)==cache

def test_every_loader_shares_its_order_on_any_device(monkeypatch):
    learn, seen = core_learner(), []
    monkeypatch.setattr('fastai_mixmatch.semi.on_any_device', seen.append)
    learn.fit(1)
    assert [*map(id, seen)]==[*map(id, learn.dls.loaders)] and len(seen)==2

def test_weak_views_that_were_added_are_said(capsys):
    for weak, said in ((None, True), (False, False)):
        core_learner(weak=weak)
        assert ('so views are made with WeakView' in capsys.readouterr().out)==said

def test_the_labeled_part_is_left_after_the_loss():
    "Metrics of training and other callbacks see labeled images alone, with labels and outputs as the loader and a plain learner give them."
    learn, seen = core_learner(adapt=False), []
    learn.fit(1, cbs=At('after_loss', lambda l: seen.append((len(l.xb[0]), l.pred.shape, l.y.shape, l.y.dtype)), n=0))
    assert seen==[(20, (20, 10), (20,), torch.int64)]

def test_batch_size_of_the_unlabeled():
    "Given, or `mu` times the labeled one; the argument's `mu` before the method's"
    size = lambda **kw: ssl_learner(core_dls(bs=4), IL[200:328], SMALL, MixMatch(), **kw).mix_match.dl.bs
    assert (size(), size(mu=3), size(bs=5)) == (4, 4*3, 5)
    assert ssl_learner(core_dls(bs=4), IL[200:328], SMALL, FixMatch()).fix_match.dl.bs == 4*7
    assert ssl_learner(core_dls(bs=4), IL[200:328], SMALL, FixMatch(), mu=2).fix_match.dl.bs == 4*2

def test_state_without_streams_leaves_their_places():
    "`streams=True` goes on where the epoch was, otherwise only what was learned is taken."
    a, b = core_learner(), core_learner()
    a.fit(1)
    b.fit(2)
    state, places = a.mix_match.state_dict(), lambda m: (m.labeled_dl.state_dict(), m.dl.state_dict())
    was = copy.deepcopy(places(b.mix_match))
    b.mix_match.load_state_dict(state)
    assert alike(was, places(b.mix_match)) and alike(learned(a), learned(b))
    assert state['method'] == 'MixMatch' and set(state) == {'method', 'learned', 'labeled', 'unlabeled'}

# --- methods of one's own

def test_what_is_not_declared_is_refused():
    class Notes(PiModel):
        columns = ('spread',)
        def losses(self, pred, y):
            self.note(**{self.what: pred.sum()})
            return super().losses(pred, y)
    for what,message in (('spread', None), ('sprawl', "uses the column 'sprawl', which it does not declare: `columns = .'sprawl',")):
        m = Notes()
        m.what = what
        if message is None: assert 'spread' in train(method_learner(m, 60)).report.rows[0]
        else:
            with pytest.raises(AttributeError, match=message): train(method_learner(m, 60))
    class Averages(PiModel):
        def losses(self, pred, y):
            self.average('mean', pred.mean())
            return super().losses(pred, y)
    with pytest.raises(AttributeError, match=r"uses the average 'mean', which it does not declare: `averages = dict\(mean=0.999\)`"):
        train(method_learner(Averages(), 60))

def test_what_is_forgotten_is_said():
    class Silent(SemiSupervised):
        def losses(self, pred, y): return self.loss_x(pred[:len(y)], y), pred[len(y):].mean()
    class Forgets(PiModel): columns = ('spread',)
    with pytest.raises(RuntimeError, match='Silent made no guess.*self.guess.*guesses = False'): train(method_learner(Silent(), 60))
    with pytest.raises(RuntimeError, match="Forgets declares the column 'spread' and did not use it: `self.note.spread="): train(method_learner(Forgets(), 60))
    class Remembers(PiModel):
        def losses(self, pred, y):
            self.last = pred.detach()
            return super().losses(pred, y)
    with pytest.raises(AttributeError, match='Remembers sets `self.last` in its step.*self.learned.last.*self.step.last'):
        train(method_learner(Remembers(), 60))
    class Still(Silent): guesses = False
    assert train(method_learner(Still(), 60)).train_iter>0

def test_averages_of_a_method():
    "The recursion written out, from a given start and from the first value; what was moved is in the state."
    class Mean(PiModel):
        averages,seen = dict(first=.5, given=.9),None
        def losses(self, pred, y):
            self.seen.append((pred.mean().item(), float(self.average('first', pred.mean())), float(self.average('given', pred.mean(), 2.))))
            return super().losses(pred, y)
    m = Mean()
    m.seen = []
    train(method_learner(m, 100))
    a,b = m.seen[0][0],2.
    for new,first,given in m.seen:
        a,b = .5*a+.5*new,.9*b+.1*new
        assert first==pytest.approx(a, abs=1e-5) and given==pytest.approx(b, abs=1e-5)
    assert set(m.state_dict()['learned'])=={'first','given'} and m.learned.first==pytest.approx(a, abs=1e-5)

@pytest.mark.parametrize('ramp', [6, .75])
def test_a_ramp_runs_over_the_epochs(ramp):
    "Six steps, and three quarters of eight steps, of two epochs: the same; a ramp that began anew each epoch would never be full."
    weights = []
    class Note(Callback):
        order,run_valid = 30,False
        def after_loss(self):
            step = self.learn.mix_match.step
            weights.append(float(step.weight))
            x, u, loss = (o.item() for o in (step.loss_x, step.loss_u, self.learn.loss))
            assert u>0 and loss==pytest.approx(x+weights[-1]*u, rel=1e-5)
    learn = core_learner(adapt=False, ramp=ramp, lambda_u=60., cbs=Note())
    learn.fit(2)
    assert weights==pytest.approx([0,10,20,30,40,50,60,60])

@pytest.mark.parametrize('weak, said', [(None, True), (WeakView(flip=0), False), (False, False)], ids=['default','given','none'])
def test_the_view_that_was_chosen_is_named_once(weak, said, capfd):
    "Where `weak=` says what views to make, nobody has to be told"
    core_learner(weak=weak)
    assert ('no random batch transform' in capfd.readouterr().out)==said
