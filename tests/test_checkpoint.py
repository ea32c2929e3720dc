"Killed, damaged, starved of disk space, started with other settings: a training continues to the same bits, or says why not."
import copy, datetime as dt, gc, hashlib, importlib.util, io, json, math, numpy as np, os, pandas as pd, pickle, pytest, random, re, resource, shutil
import signal, sys, tempfile, time, torch, warnings, weakref, zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from fastai.callback.all import CSVLogger, EarlyStoppingCallback, GradientAccumulation, GradientClip, ReduceLROnPlateau, ShortEpochCallback
from fastai.vision.all import (SGD, AttrDict, Callback, DataLoaders, Normalize, OptimWrapper, PILImageBW, RandomCrop, RandomResizedCrop,
    TensorImage, WeightedDL, accuracy, aug_transforms, noop, ranger, set_seed)
from fastai_mixmatch.all import *
from fastai_mixmatch.checkpoint import loader_rngs, training_state, write_checkpoint
from fastai_mixmatch.files import lock_folder, sha256_of
from fastai_mixmatch.rng import rng_state, set_rng_state
from fastai_mixmatch.streams import PoolDL, Walk
from functools import cache, partial
from pathlib import Path
from re import RegexFlag
from subprocess import PIPE
from helpers import IL, METHODS as ALL, SMALL, X, Y, CpuPrecision, Scaled, core_dls as digit_dls, core_learner as learner, forks, method_of, not_held, quiet, representatives
from torch import nn

root = Path(__file__).resolve().parent.parent

def faults_module():
    sys.path.insert(0, str(root/'bench'))
    try:
        spec = importlib.util.spec_from_file_location('faults', root/'bench/faults.py')
        mod = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(mod)
    finally: sys.path.remove(str(root/'bench'))
    return mod

digest = faults_module().digest

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

@pytest.fixture
def all_settings(): "For tests that compare all that a fit depends on"

@pytest.fixture(autouse=True)
def _quick(request):
    if 'all_settings' not in request.fixturenames: request.getfixturevalue('quick_settings')

class Stop(Callback):
    "An interrupt after training step `n`"
    order, in_checkpoint = 2000, False
    def __init__(self, n): self.n, self.seen = n, 0
    def after_batch(self):
        if not self.learn.training: return
        self.seen += 1
        if self.learn.train_iter == self.n: raise KeyboardInterrupt

def result(learn):
    "Everything that a training leaves, without the time that it took"
    state = training_state(learn)
    rows = [{k: v for k, v in o.items() if k != 'time'} for o in learn.report.rows]
    for k in ('elapsed', 'rngs'): state.pop(k)
    state['cbs'] = {k: {n: v for n, v in o.items() if n not in ('start_epoch', 'log', 'labeled', 'unlabeled', 'rows')} for k, o in state['cbs'].items()}
    return dict({k: digest(v) for k, v in state.items()}, rows=digest(rows), rngs=digest(rng_state(loader_rngs(learn.dls))))

def first_method(learn): return next(o for o in learn.cbs if isinstance(o, SemiSupervised))

def program(make, n=None, fit=lambda learn: learn.fit_one_cycle(3), seed=3):
    "All of a program from its seed on; stopped after step `n`"
    set_seed(seed)
    learn = make()
    if n: learn.add_cb(Stop(n))
    try: fit(learn)
    except KeyboardInterrupt: assert n
    else: assert not n, 'was not stopped'
    return learn

def both(make, n, **kw):
    "Results without and with an interruption after step `n`; `make` takes the arguments for checkpoints"
    whole = program(make, **kw)
    program(partial(make, checkpoint='cp', every='3 steps'), n, **kw)
    assert list(Path('cp').glob('fit*.pt'))
    learn = program(partial(make, checkpoint='cp', every='3 steps'), **kw)
    return result(whole), result(learn)

@cache
def whole():
    "What the usual program leaves without an interruption"
    return result(program(learner))

def stopped():
    "The folder `cp` of the usual program, stopped after step 7"
    made = stopped_folder()
    shutil.copytree(made.name, 'cp')

@cache
def stopped_folder():
    d = tempfile.TemporaryDirectory()
    program(partial(learner, checkpoint=d.name, every='2 steps'), 7)
    return d

def files(folder='cp'): return sorted(Path(folder).glob('fit*.pt'), key=lambda o: o.name)

# --- real kills

def test_killed(tmp_path):
    "SIGKILL in a step, in validation and in a checkpoint's writing; with workers; in the second of two fits; a full disk and damaged files between."
    r = forks().run('-W', 'ignore', root/'bench/faults.py', '--small', tmp_path/'rows.json', env={**os.environ, 'PYTHONPATH': str(root)})
    assert r.returncode == 0, r.stdout + r.stderr
    rows = {o['program']: o for o in json.loads((tmp_path/'rows.json').read_text())}
    for row in rows.values(): assert row['wrong'] == [] and row['beyond_bound'] == 0 and row['detected'] == row['damaged'], row
    assert [(rows[o]['kills'], rows[o]['damaged'], rows[o]['full']) for o in ('memory', 'workers', 'fits')] == [(5, 1, 1), (1, 1, 0), (2, 0, 0)]
    assert all(any(o['lost']) for o in rows.values())

# --- the same bits, whatever is trained

def torch_loaders(**kw):
    x, y = torch.tensor(X[:20]/16.).float()[:, None], torch.tensor(Y[:20])
    ds = torch.utils.data.TensorDataset(x, y)
    g = torch.Generator().manual_seed(5)
    dls = DataLoaders(torch.utils.data.DataLoader(ds, 8, sampler=torch.utils.data.RandomSampler(ds, generator=g)), torch.utils.data.DataLoader(ds, 8))
    dls.vocab = list(range(10))
    un = torch.utils.data.TensorDataset(torch.tensor(X[200:300]/16.).float()[:, None])
    return learner(dls, un, loss_func=nn.CrossEntropyLoss(), **kw)

def weighted(**kw):
    dls = digit_dls()
    dls.train = WeightedDL(dls.train_ds, bs=20, wgts=np.arange(1., 21), after_item=dls.train.after_item, after_batch=dls.train.after_batch, num_workers=0)
    return learner(dls, **kw)

class Odd(nn.Module):
    "A buffer that is not saved with the weights, and a weight without a gradient in the second half"
    def __init__(self, ni, no):
        super().__init__()
        self.net, self.late = SMALL(ni, no), nn.Parameter(torch.ones(1))
        self.register_buffer('n', torch.zeros(1), persistent=False)
    def forward(self, x):
        if self.training: self.n += 1
        return self.net(x) * self.late if self.n < 12 else self.net(x)

class Noisy(Callback):
    "A method of somebody's own draws random numbers and keeps a number"
    def before_fit(self): self.level = 0.
    def after_loss(self):
        if self.learn.training:
            self.level += random.random() + np.random.rand()
            self.learn.loss_grad = self.learn.loss_grad * (1 + self.level/100)

CASES = dict(ranger=dict(opt_func=ranger, k=3, ema=None), adamw=dict(opt_func=partial(OptimWrapper, opt=torch.optim.AdamW), prior='uniform', adapt=False),
    accumulation=dict(cbs=lambda: [GradientAccumulation(100), GradientClip]),
    trackers=dict(cbs=lambda: [ReduceLROnPlateau(patience=1, min_delta=1.), EarlyStoppingCallback(patience=3)]),
    odd=dict(arch=Odd), noisy=dict(cbs=Noisy))

@pytest.mark.parametrize('name', CASES)
@pytest.mark.filterwarnings('ignore')
def test_same_bits(name, all_settings):
    kw = {k: v for k, v in CASES[name].items() if k != 'cbs'}
    cbs = CASES[name].get('cbs', lambda: [])
    def make(**o): return learner(cbs=cbs(), **kw, **o)
    a, b = both(make, 8)
    assert a == b

@pytest.mark.parametrize('make', [torch_loaders, weighted, lambda **o: learner(digit_dls(valid=0), metrics=[], **o),
    lambda **o: learner(digit_dls(item_tfms=RandomResizedCrop(8, min_scale=0.5)), IL[200:328], **o),
    lambda **o: ssl_learner(digit_dls(), IL[200:328], SMALL, bs=32, method=Supervised(), **o)], ids=['torch', 'weighted', 'no validation', 'random items', 'supervised'])
@pytest.mark.filterwarnings('ignore')
def test_same_bits_of_other_data(make):
    a, b = both(make, 7)
    assert a == b

@pytest.mark.parametrize('name', [*ALL, 'CTAugment'])
@pytest.mark.filterwarnings('ignore')
def test_same_bits_of_every_method(name):
    "With what each of them adapts: thresholds, averages, remembered guesses, a second head, learned magnitudes."
    method = ALL.get(name, lambda **o: FixMatch(threshold=.2, strong=StrongView(CTAugment()), **o))
    a, b = both(lambda **o: ssl_learner(digit_dls(), IL[200:328], SMALL, bs=32, method=method(), **o), 7, fit=two_epochs)
    assert a == b

@pytest.mark.filterwarnings('ignore')
def test_same_bits_of_heads_between_steps():
    "Their gradients of an unfinished accumulation, too"
    a, b = both(lambda **o: ssl_learner(digit_dls(), IL[200:328], SMALL, bs=32, method=ReMixMatch(), cbs=GradientAccumulation(100), **o), 7)
    assert a == b

@pytest.mark.parametrize('n', [1, 4, 11])
def test_same_bits_at_any_step(n):
    "Also before the first checkpoint, and at the ends of epochs."
    program(partial(learner, checkpoint='cp', every='2 steps'), n)
    assert result(program(partial(learner, checkpoint='cp', every='2 steps'))) == whole()

@pytest.mark.parametrize('every', ['1 epoch', '0.001s'])
def test_every(every):
    program(partial(learner, checkpoint='cp', every=every), 9)
    assert files()[-1].name.split('.')[0] == ('fit1-000000008' if every == '1 epoch' else 'fit1-000000009')
    assert result(program(partial(learner, checkpoint='cp', every=every))) == whole()

def test_every_set_later():
    learn = learner(checkpoint='cp')
    learn.checkpoint.every = '1 step'
    learn.fit(1)
    assert len([o for o in files() if 'end' not in o.name]) == 1
    with pytest.raises(ValueError, match="`every` must be such as .*got 'soon'"): learn.checkpoint.every = 'soon'

def test_other_number_of_workers():
    "The generators of the streams belong to the batch, not to the worker."
    def make(workers, **o): return learner(digit_dls(item_tfms=RandomResizedCrop(8, min_scale=0.5), num_workers=workers), IL[200:328], **o)
    fit = lambda learn: learn.fit(2)
    whole = program(partial(make, 0), fit=fit)
    program(partial(make, 2, checkpoint='cp', every='3 steps'), 5, fit=fit)
    learn = program(partial(make, 0, checkpoint='cp', every='3 steps'), fit=fit)
    assert result(learn)['model'] == result(whole)['model']

class Stream(torch.utils.data.IterableDataset):
    def __len__(self): return 128
    def __iter__(self):
        self.at = getattr(self, 'next_at', 0)
        self.next_at = 0
        while self.at < 128:
            self.at += 1
            yield torch.tensor(X[199+self.at])[None]/255

class StateStream(Stream):
    def state_dict(self): return dict(at=self.at)
    def load_state_dict(self, s): self.next_at = s['at']

class ShardedStream(StateStream):
    "As the streaming datasets of the Hugging Face Hub: a part is another object, so that its own position stands still"
    def shard(self, num_shards, index): return type(self)()

@pytest.mark.parametrize('cls', [Stream, StateStream, ShardedStream])
@pytest.mark.filterwarnings('ignore:`loss_func`')
def test_iterable_dataset(cls):
    "Exact with a state of its own; without one, a warning says what happens."
    x, y = torch.tensor(X[:20]/255.).float()[:, None], torch.tensor(Y[:20])
    ds = torch.utils.data.TensorDataset(x, y)
    def make(**o):
        dls = DataLoaders(torch.utils.data.DataLoader(ds, 20, shuffle=True), torch.utils.data.DataLoader(ds, 20))
        return learner(dls, cls(), loss_func=nn.CrossEntropyLoss(), **o)
    whole = program(make)
    program(partial(make, checkpoint='cp', every='1 steps'), 6)
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        learn = program(partial(make, checkpoint='cp', every='1 steps'))
    said = [o for o in ws if 'with a new pass' in str(o.message)]
    if cls is StateStream: assert result(learn) == result(whole) and not said
    else: assert len(said) == 1 and len(learn.recorder.losses) == len(whole.recorder.losses) == 12

# --- fits

def test_complete_fit_returns_at_once(capsys):
    make = partial(learner, checkpoint='cp')
    whole = program(make)
    expected = result(whole)
    set_seed(3)
    learn = make()
    learn.add_cb(stop := Stop(None))
    learn.fit_one_cycle(3)
    assert stop.seen == 0 and learn.recorder.values == whole.recorder.values and result(learn) == expected
    assert 'fit 1 is complete (3 epochs, 12 steps)' in capsys.readouterr().out
    learn.fit(1)
    assert stop.seen == 4

def test_tta_is_no_fit():
    "Nor are `validate` and `get_preds`, before a fit or after it"
    def run(**o):
        set_seed(3)
        learn = learner(**o)
        ps = [learn.tta(n=2)[0]]
        learn.fit(1)
        ps += [learn.tta(n=2)[0], learn.get_preds()[0]]
        learn.validate()
        learn.fit(1)
        return learn, ps
    a, ps = run()
    for _ in range(2):
        b, qs = run(checkpoint='cp', every='2 steps')
        assert all(map(torch.equal, ps, qs)) and result(a) == result(b) and b.checkpoint.fits == 2
        assert {o.name.split('.')[0] for o in files()} == {'fit1-end', 'fit2-000000004', 'fit2-end'}

EVENTS = ['before_fit','before_epoch','before_train','before_batch','after_pred','after_loss','before_backward','after_step','after_batch','after_train','before_validate',
    'after_validate','after_epoch','after_fit']

def two_epochs(learn): learn.fit_one_cycle(2)

def parts(learn):
    res = result(learn)
    res.pop('learn') # `final_record` is what `validate` gave
    return res

@cache
def unasked(): return parts(program(learner, fit=two_epochs))

# By commit at one event of each kind: before anything, around a step before and after the weights move, on either side of the validation, at the end
ASKED = 'before_fit','before_batch','after_loss','after_batch','after_train','after_validate','after_fit'

@pytest.mark.parametrize('event,how', [*(pytest.param(o, 'validate', marks=() if o in ASKED else pytest.mark.nightly) for o in EVENTS), ('after_batch', 'get_preds'),
    pytest.param('after_epoch', 'get_preds', marks=pytest.mark.nightly)])
def test_validation_inside_a_fit(event, how):
    "Wherever a callback asks for one: the fit goes on as it was, is stopped and continued, and the answer is right"
    class Ask(Callback):
        order, asking, in_checkpoint = 30, False, False
        def ask(self):
            if self.asking or event in EVENTS[3:9] and not (self.training and self.learn.train_iter in (2, 6)): return
            self.asking = True
            res = getattr(self.learn, how)()
            self.asking = False
            if how == 'validate': assert len(res) >= 2 and 0 < res[0] < 5 and 0 <= res[1] <= 1
            else: assert len(res[0]) == len(res[1]) == 60
    setattr(Ask, event, Ask.ask)
    fit,expected = two_epochs,dict(unasked())
    asked = program(lambda: learner(cbs=Ask()), fit=fit)
    if how == 'get_preds' or event == 'after_fit': expected['rngs'] = parts(asked)['rngs'] # A loader draws
    assert parts(asked) == expected and len(asked.recorder.values) == len(asked.report.rows) == 2
    make = lambda: learner(cbs=Ask(), checkpoint='cp', every='3 steps')
    for n in (5, None): again = program(make, n, fit)
    assert parts(again) == expected

@pytest.mark.parametrize('stops', [pytest.param((2,), marks=pytest.mark.nightly), pytest.param((0, 3), marks=pytest.mark.nightly), (2, 0, 3)], ids=str)
def test_several_fits(stops, all_settings):
    "`fine_tune` and a third fit; `lr_find` between them is no fit. The last case stops in the first of them and then in the third"
    def make(**o): return learner(splitter=lambda m: [list(m[:3].parameters()), list(m[3:].parameters())], **o)
    def run(stop=(), **o):
        set_seed(1)
        learn = make(**o)
        learn.fit(1, cbs=Stop(stop[0]) if stop[0:1] else None)
        learn.fine_tune(1, cbs=Stop(stop[1]) if stop[1:2] else None)
        with learn.no_bar(): learn.lr_find(num_it=4, show_plot=False)
        learn.fit_one_cycle(1, cbs=Stop(stop[2]) if stop[2:3] else None)
        return learn
    whole = run()
    with pytest.raises(KeyboardInterrupt): run(stops, checkpoint='cp', every='1 steps')
    if len(stops) > 1:
        with pytest.raises(KeyboardInterrupt): run((0, 0, 3), checkpoint='cp', every='1 steps')
    assert result(run(checkpoint='cp', every='1 steps')) == result(whole)
    assert {o.name.split('.')[0].split('-')[0] for o in files() if 'end' in o.name} == {'fit1', 'fit2', 'fit3', 'fit4'}

def test_interrupted_in_one_session():
    "The same call continues, and so does another after it."
    whole = program(learner, fit=lambda learn: (learn.fit(2), learn.fit(1)))
    set_seed(3)
    learn = learner(checkpoint='cp', every='1 steps')
    for n in (3, 6):
        with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=Stop(n))
    learn.fit(2)
    learn.fit(1)
    assert result(learn) == result(whole)

def test_error_is_no_end():
    class Fail(Callback):
        in_checkpoint = False
        def after_epoch(self): raise ZeroDivisionError('x')
    learn = learner(checkpoint='cp', every='1 epoch')
    with pytest.raises(ZeroDivisionError): learn.fit(1, cbs=Fail())
    assert [o.name[:14] for o in files()] == ['fit1-000000004']

def test_early_stop_is_an_end():
    make = lambda **o: learner(cbs=EarlyStoppingCallback(monitor='accuracy', patience=1), **o)
    fit = lambda learn: learn.fit(6, 0.)
    whole = program(make, fit=fit)
    program(partial(make, checkpoint='cp', every='1 steps'), 5, fit=fit)
    for _ in range(2): assert result(program(partial(make, checkpoint='cp', every='1 steps'), fit=fit)) == result(whole)
    assert len(whole.recorder.values) < 6

# --- files

def damaged(f, how):
    b = bytearray(f.read_bytes())
    if how == 'bit': b[len(b)//3] ^= 16
    f.write_bytes(dict(bit=bytes(b), cut=bytes(b[:-1]), empty=b'')[how])

@pytest.mark.parametrize('how', ['bit', 'cut', 'empty'])
def test_damaged_file(how):
    stopped()
    assert [o.name[:14] for o in files()] == ['fit1-000000004', 'fit1-000000006']
    damaged(files()[-1], how)
    with pytest.warns(UserWarning, match='fit1-000000006.* is damaged.*before it is used'): learn = program(partial(learner, checkpoint='cp', every='2 steps'))
    assert result(learn) == whole()
    assert [o.name.split('.')[0] for o in files()] == ['fit1-000000012', 'fit1-end']

def test_a_damaged_file_does_not_take_the_place_of_a_good_one():
    "Two good ones are kept beside it"
    stopped()
    damaged(files()[-1], 'cut')
    with pytest.warns(UserWarning, match='is damaged'), pytest.raises(KeyboardInterrupt):
        set_seed(3)
        learner(checkpoint='cp', every='1 step', cbs=Stop(5)).fit_one_cycle(3)
    assert [o.name[:14] for o in files()] == ['fit1-000000004', 'fit1-000000005']

@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir, partial(os.symlink, '/dev/zero')], ids=['pipe', 'folder', 'device'])
def test_what_is_no_file_is_no_checkpoint(make):
    "A pipe would be read for ever"
    Path('cp').mkdir()
    make(f'cp/fit1-000000003.{"0"*32}.pt')
    learn = learner(checkpoint='cp')
    learn.fit(1)
    assert learn.train_iter == 4

def test_a_lock_that_is_another_file():
    "A link to a file of the user, which would become the number of a process"
    Path('cp').mkdir()
    Path('notes').write_text('mine')
    os.link('notes', 'cp/lock')
    with pytest.raises(CheckpointError, match='cp/lock is a link to another file; delete it'): learner(checkpoint='cp').fit(1)
    assert Path('notes').read_text() == 'mine'
    os.unlink('cp/lock')
    learner(checkpoint='cp').fit(1)

def rezip(state):
    "The same file, compressed"
    src, dst = io.BytesIO(), io.BytesIO()
    torch.save(state, src)
    with zipfile.ZipFile(src) as a, zipfile.ZipFile(dst, 'w', zipfile.ZIP_DEFLATED) as b:
        for o in a.namelist(): b.writestr(o, a.read(o))
    return dst.getvalue()

def saved(state):
    f = io.BytesIO()
    torch.save(state, f)
    return f.getvalue()

def twice(state):
    "A file with two parts of one name: the first, which PyTorch reads, claims more than it holds"
    a, b = (zipfile.ZipFile(io.BytesIO(saved(o))) for o in (dict(state, more=bytearray(9)), state))
    with warnings.catch_warnings(), zipfile.ZipFile(res := io.BytesIO(), 'w') as z:
        warnings.simplefilter('ignore')
        for o in a.namelist(): z.writestr(o, a.read(o))
        z.writestr('archive/data.pkl', b.read('archive/data.pkl'))
    return res.getvalue()

def cased(state):
    "A file whose part PyTorch finds by its name in other letters"
    a = zipfile.ZipFile(io.BytesIO(saved(dict(state, more=bytearray(9)))))
    with zipfile.ZipFile(res := io.BytesIO(), 'w') as z:
        for o in a.namelist(): z.writestr(o.replace('data.pkl', 'DATA.pkl'), a.read(o))
    return res.getvalue()

def shared():
    "A list of 2^40 parts in a file of some bytes"
    o = [1]
    for _ in range(40): o = [o, o]
    return o
def itself():
    o = []
    o.append(o)
    return o

FORGED = dict(list=lambda s: saved([1]), empty=lambda s: saved({}), format=lambda s: saved(dict(format=3)),
    part=lambda s: saved({k: v for k, v in s.items() if k != 'opt'}), code=lambda s: saved(dict(s, opt=os.getpid)),
    kind=lambda s: saved(dict(s, rngs=[1])), number=lambda s: saved(dict(s, batch='3')), ended=lambda s: saved(dict(s, ended='x')),
    grads=lambda s: saved(dict(s, grads={})), settings=lambda s: saved(dict(s, settings=[])),
    epoch=lambda s: saved(dict(s, epoch=-1)), step=lambda s: saved(dict(s, step=-5)), pct=lambda s: saved(dict(s, pct=math.nan)),
    elapsed=lambda s: saved(dict(s, elapsed=math.inf)), share=lambda s: saved(dict(s, pct={})), cut=lambda s: saved(dict(s, cut=None)),
    much=lambda s: saved(dict(s, pct=1e9)), many=lambda s: saved(dict(s, step=10**300)), fit=lambda s: saved(dict(s, fit=9)),
    **{f'setting {v}': lambda s, v=v: saved(put(s, 'settings', value={**s['settings'], **v})) for v in (dict(k=torch.zeros(3)), dict(k=b'x'), dict(k={1}), {3: 1}, {(1, 2): 1})},
    **{f'shared {k}': lambda s, k=k: saved(dict(s, **{k: {**s[k], 'x': shared()}})) for k in ('settings', 'opt', 'cbs', 'learn', 'rngs')}, itself=lambda s: saved(put(s, 'settings', value={**s['settings'], 'k': itself()})),
    expanded=lambda s: saved(put(s, 'cbs', 'Recorder', value=dict(x={'__array__': [torch.zeros(1, dtype=torch.uint8).expand(10**11), '|u1', [10**11]]}))),
    world=lambda s: saved(dict(s, world=0)), threads=lambda s: saved(dict(s, threads=0)),
    text=lambda s: b'hello', pickle=lambda s: pickle.dumps(os.getpid), bomb=lambda s: rezip(dict(s, more=torch.zeros(10**7))),
    bytes=lambda s: saved(dict(s, more=bytearray(9))), twice=twice, cased=cased)
@pytest.mark.parametrize('i', range(5))
def test_forged_file(i):
    "A name that fits and a content that does not: as one that is damaged. A training goes past a fifth of the kinds, one after the other"
    stopped()
    good,kinds = torch.load(files()[-1], weights_only=True),list(FORGED)[i::5]
    for n,kind in enumerate(kinds, 10):
        b = FORGED[kind](copy.deepcopy(good))
        (Path('cp')/f'fit1-{n:09d}.{sha256_of([b])[:32]}.pt').write_bytes(b)
    with pytest.warns(UserWarning) as said: learn = program(partial(learner, checkpoint='cp', every='2 steps'))
    for n,kind in reversed([*enumerate(kinds, 10)]): assert any(re.search(f'(?s)cannot read the checkpoint cp/fit1-{n:09d}.*The checkpoint before it is used', str(o.message)) for o in said), kind
    assert result(learn) == whole()

def first_of(d): return next(iter(d))
def put(d, *keys, value):
    "A copy of nested data with another value"
    if not keys: return value
    d, k = copy.copy(d), keys[0]
    d[k] = put(d[k], *keys[1:], value=value)
    return d

OTHER = dict(weight=lambda s: put(s, 'model', first_of(s['model']), value=torch.zeros(3)), weights=lambda s: put(s, 'model', value={}), grads=lambda s: put(s, 'grads', value=s['grads'][:-1]),
    optimizer=lambda s: put(s, 'opt', value={}), average=lambda s: put(s, 'opt', 'state', 0, 'grad_avg', value=torch.zeros(3)), rngs=lambda s: put(s, 'rngs', 'torch', value=torch.zeros(3)),
    method=lambda s: put(s, 'cbs', 'MixMatch', value={}), few=lambda s: put(s, 'cbs', 'EMA', 'avg', value=s['cbs']['EMA']['avg'][:-1]),
    **{f'{k} {v}': lambda s, k=k, v=v: put(s, 'opt', 'hypers', '__L__', 0, k, value=v) for k in ('lr', 'eps') for v in ('x', [.1], None)},
    **{f'{k} is {v}': lambda s, k=k, v=v: put(s, 'opt', 'state', 0, k, value=v) for k in ('grad_avg', 'step') for v in ('x', [1], None)},
    number=lambda s: put(s, 'opt', 'state', 0, 'grad_avg', value=3), type=lambda s: put(s, 'opt', 'state', 0, 'grad_avg', value=s['opt']['state'][0]['grad_avg'].double()),
    hyper=lambda s: put(s, 'opt', 'hypers', '__L__', 0, value={'lr': .1}), hypers=lambda s: put(s, 'opt', 'hypers', '__L__', value=2*s['opt']['hypers']['__L__']),
    ema=lambda s: put(s, 'cbs', 'EMA', 'avg', 0, value=torch.zeros(3)), metrics=lambda s: put(s, 'metrics', 0, value=3),
    **{f'{stream} {i}': lambda s, stream=stream, i=i: put(s, 'cbs', 'MixMatch', stream, 'left', value=torch.tensor([0,i])) for stream in ('labeled','unlabeled') for i in (-1,10**9)})
@pytest.mark.parametrize('kind', OTHER)
def test_parts_of_another_form(kind):
    "Of a checkpoint that is whole, but not of this network or program: one kind of error, which says what to do"
    stopped()
    b = saved(OTHER[kind](torch.load(files()[-1], weights_only=True)))
    (Path('cp')/f'fit1-000000009.{sha256_of([b])[:32]}.pt').write_bytes(b)
    with pytest.raises(CheckpointError, match='(?s)the newest checkpoint does not fit .*delete it'): program(partial(learner, checkpoint='cp', every='2 steps'))

@pytest.mark.parametrize('place, said', [(dict(batch=99), 'not a state of this fit: in epoch 2 of 3, after 99 of 4 batches'), (dict(epoch=10**12), 'and this fit has 3'),
    (dict(step=10**9), 'not a state of this fit'), (dict(epoch=0), 'not a state of this fit'), (dict(step=0), 'not a state of this fit'),
    (dict(step=7), 'not a state of this fit'), (dict(pct=.9), 'not a state of this fit'), (dict(pct=0.), 'not a state of this fit')])
def test_a_place_that_no_fit_has(place, said):
    stopped()
    b = saved(dict(torch.load(files()[-1], weights_only=True), **place))
    (Path('cp')/f'fit1-000000009.{sha256_of([b])[:32]}.pt').write_bytes(b)
    with pytest.raises(CheckpointError, match=said): program(partial(learner, checkpoint='cp', every='2 steps'))

class Lengths(Callback):
    "Epochs of other lengths, as a budget of minutes gives"
    order, run_valid, in_checkpoint = 94, False, False
    def before_epoch(self): first_method(self.learn).dl.steps = (6, 4, 2)[self.learn.epoch]

@pytest.mark.parametrize('n', [5, 8, 11])
def test_epochs_of_other_lengths(n):
    a, b = both(lambda **kw: learner(cbs=Lengths(), steps=6, **kw), n)
    assert a == b

def test_averages_of_another_type():
    "They come in that of the weights"
    stopped()
    s = torch.load(files()[-1], weights_only=True)
    b = saved(put(s, 'cbs', 'EMA', 'avg', 0, value=s['cbs']['EMA']['avg'][0].double()))
    (Path('cp')/f'fit1-000000009.{sha256_of([b])[:32]}.pt').write_bytes(b)
    assert result(program(partial(learner, checkpoint='cp', every='2 steps'))) == whole()

def test_a_forged_file_changes_nothing_but_what_training_does():
    "No attribute of the learner but two, no method of a callback, not whose it is"
    stopped()
    def forged(s):
        s = put(s, 'learn', value={**s['learn'], 'model': 3, 'fit': 'x'})
        return put(s, 'cbs', 'Recorder', value={**s['cbs']['Recorder'], 'learn': 3, 'run': False, 'after_batch': 'x'})
    b = saved(forged(torch.load(files()[-1], weights_only=True)))
    (Path('cp')/f'fit1-000000009.{sha256_of([b])[:32]}.pt').write_bytes(b)
    learn = program(partial(learner, checkpoint='cp', every='2 steps'))
    assert result(learn) == whole() and not {'model','fit'} & {k for k,v in vars(learn).items() if v in (3,'x')} and 'after_batch' not in vars(learn.recorder)

def test_a_single_damaged_file():
    "Nothing is said of a checkpoint before it, for there is none."
    program(partial(learner, checkpoint='cp', every='4 steps'), 5)
    damaged(*files(), 'cut')
    with pytest.warns(UserWarning, match='is damaged: .*name$'), pytest.raises(CheckpointError, match='none of the 1 checkpoints'): program(partial(learner, checkpoint='cp', every='4 steps'))

def test_nothing_to_load():
    "Never a silent start from zero, however often it is tried."
    stopped()
    for f in files(): damaged(f, 'cut')
    before = [o.read_bytes() for o in files()]
    for _ in range(2):
        with pytest.warns(UserWarning), pytest.raises(CheckpointError, match='none of the 2 checkpoints in cp can be read.*delete them'): program(partial(learner, checkpoint='cp', every='2 steps'))
    assert [o.read_bytes() for o in files()] == before

def test_damaged_second_fit_begins_again_from_the_first():
    fit = lambda learn: (learn.fit(1), learn.fit(2))
    whole = program(learner, fit=fit)
    def stopped(learn): learn.fit(1); learn.fit(2, cbs=Stop(3))
    with pytest.raises(KeyboardInterrupt):
        set_seed(3)
        stopped(learner(checkpoint='cp', every='2 steps'))
    damaged(files()[-1], 'bit')
    with pytest.warns(UserWarning, match='Fit 2 begins again, from the end of fit 1'): learn = program(partial(learner, checkpoint='cp', every='2 steps'), fit=fit)
    assert result(learn) == result(whole)

class SmallDisk(Callback):
    "From step `n` on, no file may grow beyond a few KB"
    order, in_checkpoint = 900, False
    def __init__(self, n): self.n = n
    def after_batch(self):
        if self.learn.training and self.learn.train_iter == self.n: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

@pytest.fixture
def limits():
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,)*2)
    signal.signal(signal.SIGXFSZ, old)

def test_full_disk(limits):
    "The older checkpoint is intact, nothing half written stays, and the message says what happened."
    with pytest.raises(CheckpointError, match='cannot write the checkpoint .*File too large.*Older ones are as they were'):
        program(partial(learner, checkpoint='cp', every='4 steps', cbs=SmallDisk(7)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,)*2)
    assert [o.name[:14] for o in files()] == ['fit1-000000004'] and len(list(Path('cp').iterdir())) == 2
    assert result(program(partial(learner, checkpoint='cp', every='4 steps'))) == whole()

def test_folder_that_cannot_be_written():
    Path('file').write_text('x')
    with pytest.raises(CheckpointError, match='cannot write checkpoints to file/cp'): program(partial(learner, checkpoint='file/cp'))
    Path('cp').mkdir()
    Path('cp/lock').symlink_to('/tmp/elsewhere')
    with pytest.raises(CheckpointError, match='cannot write checkpoints to cp'): program(partial(learner, checkpoint='cp'))
    assert not Path('/tmp/elsewhere').exists(), 'a planted link is not followed'

def test_half_written_files_are_cleared():
    program(partial(learner, checkpoint='cp', every='2 steps'), 3)
    (Path('cp')/'.fit1-000000004.77.pt.x.tmp').write_bytes(b'x')
    for o in ('notes.txt', 'notes.tmp'): (Path('cp')/o).write_text('mine')
    program(partial(learner, checkpoint='cp', every='2 steps'))
    assert sorted(o.name.split('.')[0] for o in Path('cp').iterdir()) == ['fit1-000000012', 'fit1-end', 'lock', 'notes', 'notes']

@pytest.mark.parametrize('n', range(1, 4))
def test_interrupt_while_writing(n, monkeypatch):
    "Ctrl-C stays Ctrl-C; a real signal, in the second checkpoint's bringing to the disk"
    fsync, seen = os.fsync, []
    signal.signal(signal.SIGINT, signal.default_int_handler) # A shell's background job ignores it
    def interrupted(fd):
        seen.append(fd)
        if len(seen) == n: os.kill(os.getpid(), signal.SIGINT)
        return fsync(fd)
    set_seed(3)
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', interrupted)
        with pytest.raises(KeyboardInterrupt): learner(checkpoint='cp', every='2 steps').fit_one_cycle(3)
    assert not list(Path('cp').glob('.*'))
    assert result(program(partial(learner, checkpoint='cp', every='2 steps'))) == whole()

def test_a_disk_that_drops_a_part_is_noticed(monkeypatch):
    "What is written is read back before it takes its name"
    real = open
    def short(file, mode='r', *args, **kwargs):
        f = real(file, mode, *args, **kwargs)
        if mode=='x+b':
            whole = f.write
            f.write = lambda b: whole(bytes(b)[:-700])
        return f
    with monkeypatch.context() as m:
        m.setattr('builtins.open', short)
        with pytest.raises(CheckpointError, match='cannot write the checkpoint cp/fit1-000000002'): learner(checkpoint='cp', every='2 steps').fit(1)
    assert not files() and not list(Path('cp').glob('.*'))

SCRIPT = """
import sys; sys.path.insert(0, {tests!r})
from test_checkpoint import *
signal.signal(signal.SIGINT, signal.default_int_handler)
class Wait(Callback):
    order, in_checkpoint = 900, False
    def after_pred(self):
        if self.training and self.train_iter == 5: print('in step 6', flush=True); sys.stdin.readline()
set_seed(3)
learn = learner(checkpoint='cp', every='1 epoch', cbs=Wait())
learn.fit_one_cycle(3)
print(json.dumps(result(learn)))
"""

@pytest.mark.parametrize('n,sig', [(1, 'SIGINT'), (2, 'SIGINT'), (1, 'SIGTERM')])
def test_signals(n, sig):
    "In a real process: the first one lets the step end and saves it, a second one ends the fit at once; either goes on to the same bits"
    sig = getattr(signal, sig)
    def start():
        return forks().start('-W', 'ignore', '-c', SCRIPT.format(tests=str(root/'tests')), stdin=PIPE, stdout=PIPE, stderr=PIPE,
            env={**os.environ, 'PYTHONPATH': str(root)})
    p = start()
    while 'in step 6' not in (line := p.stdout.readline()): assert line, p.stderr.read()
    for _ in range(n):
        p.send_signal(sig)
        time.sleep(.5)
    out, err = p.communicate('\n', timeout=120)
    assert p.returncode == -sig and ('KeyboardInterrupt' in err) == (sig == signal.SIGINT), err
    assert ('interrupted after step 6' in out) == (n == 1)
    assert [o.name[:14] for o in files()] == ['fit1-000000004', 'fit1-000000006'][:3-n]
    out, err = start().communicate('\n', timeout=120)
    assert f'after {2 if n == 1 else 4} of 4 batches' in out, err
    assert json.loads(out.splitlines()[-1]) == whole()

def test_sigterm_reaches_what_a_fit_starts():
    "A process forked in a fit dies of the signal, as ever; afterwards, and where the user has a handler, nothing of ours stands in"
    ends = []
    class Fork(Callback):
        in_checkpoint = False
        def after_batch(self):
            if pid := os.fork(): return ends.append(os.waitpid(pid, 0)[1])
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)
    mine, usual = lambda *_: None, signal.getsignal(signal.SIGTERM)
    try:
        for handler in (signal.SIG_DFL, mine):
            signal.signal(signal.SIGTERM, handler)
            learner(checkpoint=f'cp{handler is mine}', cbs=Fork()).fit(1)
            assert signal.getsignal(signal.SIGTERM) is handler
    finally: signal.signal(signal.SIGTERM, usual)
    n = len(ends)//2
    assert n >= 4 and ends == [signal.SIGTERM]*n + [7*256]*n

def test_ctrl_c_in_validation():
    "Is raised at once: what is held from the end of the epoch's training is saved, and the program goes on with the validation"
    class Press(Callback):
        order, in_checkpoint = 900, False
        def __init__(self, epoch, event): setattr(self, event, partial(self.press, epoch))
        def press(self, epoch):
            if self.learn.epoch == epoch and not self.learn.training: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for epoch, event, last in ((0, 'before_validate', 4), (1, 'after_pred', 8), (1, 'after_epoch', 8), (2, 'after_loss', 12)):
        set_seed(3)
        learn = learner(checkpoint='cp', every='9 hours', cbs=Press(epoch, event))
        with pytest.raises(KeyboardInterrupt): learn.fit_one_cycle(3)
        assert files()[-1].name.startswith(f'fit1-{last:09d}') and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert learn.train_iter == last
    assert result(program(partial(learner, checkpoint='cp', every='9 hours'))) == whole()

def test_ctrl_c_while_the_clock_is_read(clock):
    "Between two steps, when it was just decided that there is nothing to do: the next step is the last"
    learn,clock.stop = learner(checkpoint='cp', every='1min'),.7
    with pytest.raises(KeyboardInterrupt): learn.fit_one_cycle(3)
    assert clock.t<2 and 1<learn.train_iter<6
    assert len(list(Path('cp').glob('fit1-*.pt')))==1

def test_ctrl_c_in_a_print(monkeypatch, capfd):
    "Python lets no second `print` into one that a signal came in: the message goes to the standard error, and what is held is saved"
    class Press(io.RawIOBase):
        armed = False
        def writable(self): return True
        def write(self, b):
            if self.armed:
                self.armed = False
                signal.raise_signal(signal.SIGINT)
            return len(b)
    class Says(Callback):
        order, in_checkpoint = 900, False
        def after_epoch(self):
            press.armed = True
            print('x'*100, flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    set_seed(3)
    learn,press = learner(checkpoint='cp', every='9 hours', cbs=Says()),Press()
    with monkeypatch.context() as m:
        m.setattr(sys, 'stdout', io.TextIOWrapper(io.BufferedWriter(press)))
        with pytest.raises(KeyboardInterrupt): learn.fit_one_cycle(3)
    assert files()[-1].name.startswith('fit1-000000004') and 'Checkpoint: interrupted after step 4' in capfd.readouterr().err
    assert result(program(partial(learner, checkpoint='cp', every='9 hours'))) == whole()

TRAINING = ['before_batch', 'after_pred', 'after_loss', 'before_backward', 'after_backward', 'before_step', 'after_step', 'after_batch']
MOMENTS = ['before_fit', 'before_epoch', 'before_train', *TRAINING, 'after_train', 'before_validate', *[f'valid {o}' for o in ('before_batch', 'after_pred', 'after_loss', 'after_batch')],
    'after_validate', 'after_epoch', 'after_fit']

class Interrupt(Callback):
    "Ctrl-C at one moment of the second epoch, once: the signal, or what Python makes of it"
    in_checkpoint = False
    def __init__(self, moment, order, real):
        valid, _, event = moment.rpartition(' ')
        self.order, self.real, self.training_only, self.valid, self.done = order, real, event in TRAINING, bool(valid), False
        setattr(self, event, partial(self.now, event))
    def now(self, event):
        learn = self.learn
        if self.done or (self.training_only and (learn.epoch != 1 or learn.training == self.valid or not self.valid and learn.iter != 1)): return
        if event not in ('before_fit', 'after_fit') and learn.epoch != 1: return
        self.done = True
        if not self.real: raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

def learners_state(learn):
    "What is as before after any fit"
    own,method,ema = vars(learn),first_method(learn),learn.ema
    users = dict(loss=learn.loss_func, metrics=list(learn.metrics), logger=learn.logger, dls=learn.dls, loaders=list(learn.dls.loaders), cbs=list(learn.cbs))
    hooks = [len(d) for m in learn.model.modules() for d in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)]
    averages = ema.avg is None or ema.active and all(map(torch.equal, ema.tensors(), ema.avg))
    return dict(users, hooks=hooks, averages=averages, dl=own.get('dl'), xb=own.get('xb', (None,)), pred=own.get('pred'), grad=torch.is_grad_enabled(), awake=method.run,
        handlers=[signal.getsignal(o) for o in (signal.SIGINT, signal.SIGTERM)], fitting=[method.fitting, method.step, learn.in_fit, learn.lock.locked()])

# One of each kind by commit: before the first step, in a step before the weights move and after it, between training and validation,
# in validation, after an epoch, after the last
EACH_KIND = 'before_fit','after_pred','after_step','after_train','valid after_loss','after_epoch','after_fit'

@pytest.mark.parametrize('moment', representatives(MOMENTS, EACH_KIND))
def test_ctrl_c_at_every_event(moment):
    "Before and after our callbacks, with and without a checkpoint: the learner is as after a normal end, and fits again, with a checkpoint to the same bits"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for folder, order, real in ((None, 3000, True), ('cp', -2000, False), ('cp', 3000, True)):
        shutil.rmtree('cp', ignore_errors=True)
        set_seed(3)
        learn = learner(**dict(checkpoint=folder, every='2 steps') if folder else {})
        before = learners_state(learn)
        with pytest.raises(KeyboardInterrupt): learn.fit_one_cycle(3, cbs=Interrupt(moment, order, real))
        assert learners_state(learn) == before, (folder, order, real)
        assert folder is None or learn.checkpoint.this_fit is None and (learn.checkpoint.fits == 1) == (moment == 'after_fit' and order > 1000)
        learn.get_preds()
        if learn.ema.avg is None or folder is None or learn.checkpoint.fits: learn.fit(1)
        else:
            learn.fit_one_cycle(3)
            assert result(learn) == whole(), (folder, order, real)
        assert learners_state(learn) == before

LONG = """
import sys; sys.path.insert(0, {tests!r})
from test_checkpoint import *
from fastai_mixmatch import checkpoint as checkpoint_module
from fastai_mixmatch.rng import kept_rng
class Long(Callback):
    in_checkpoint = False
    def before_step(self):
        if 'step' in sys.argv and self.train_iter == 2: self.learn.get_preds(dl=forever)
    def after_loss(self):
        if 'metric' in sys.argv and not self.training and self.epoch: self.wait()
    def after_epoch(self):
        if 'epoch' in sys.argv and not self.epoch: self.learn.get_preds(dl=forever)
    def wait(self):
        print('waits', flush=True)
        while True: time.sleep(.1)
class Forever(list):
    def __getitem__(self, i):
        if i > 3: Long().wait()
        return super().__getitem__(i)
set_seed(3)
learn = learner(checkpoint='cp', every='9 hours', cbs=Long())
with kept_rng(): forever = learn.dls.test_dl(IL[:8], num_workers=0, bs=2)
forever.dataset = Forever(list(forever.dataset))
checkpoint_module._patience = 2
if len(sys.argv) < 2: learn.remove_cb(Long)
learn.fit_one_cycle(3)
print(json.dumps(result(learn)))
"""

@pytest.mark.parametrize('where,saved', [('metric', 8), ('epoch', 4), ('step', 0)])
def test_sigterm_ends_whatever_takes_long(where, saved):
    "In a real process: an endless validation, or predictions between epochs, cost nothing; within a step the process ends after `_patience`"
    def start(*args):
        return forks().start('-W', 'ignore', '-c', LONG.format(tests=str(root/'tests')), *args, stdout=PIPE, stderr=PIPE,
            env={**os.environ, 'PYTHONPATH': str(root)})
    p = start(where)
    while 'waits' not in (line := p.stdout.readline()): assert line, p.stderr.read()
    p.send_signal(signal.SIGTERM)
    out, err = p.communicate(timeout=60)
    assert p.returncode == -signal.SIGTERM, err
    assert f'interrupted after step {saved}' in out if saved else not files()
    out, err = start().communicate(timeout=120)
    assert (f'fit 1 continues in epoch {saved//4} of 3, after 4 of 4' in out) == (saved > 0), err
    assert json.loads(out.splitlines()[-1]) == whole()

def test_nothing_of_a_fit_is_kept():
    "Neither its state, nor the lock, nor a handler of signals; a handler of the user's stays"
    refs = []
    class Look(Callback):
        in_checkpoint = False
        def after_batch(self): refs.append(weakref.ref(self.learn.checkpoint.this_fit))
    mine = lambda *_: None
    old = signal.signal(signal.SIGINT, mine)
    try:
        learn = learner(checkpoint='cp', cbs=Look())
        learn.fit(1)
        assert signal.getsignal(signal.SIGINT) is mine
    finally: signal.signal(signal.SIGINT, old)
    gc.collect()
    assert refs[0]() is None and learn.checkpoint.this_fit is None
    lock_folder('cp').close()

class Evil:
    def __reduce__(self): return os.mkdir, ('pwned',)

def test_runs_no_code():
    "A file made by somebody else, with the right checksum in its name."
    program(partial(learner, checkpoint='cp', every='2 steps'), 3)
    for write in (lambda f: torch.save(dict(format=1, a=Evil()), f), lambda f: pickle.dump(Evil(), f)):
        for o in files(): o.unlink()
        with open('x', 'wb') as f: write(f)
        b = Path('x').read_bytes()
        Path(f'cp/fit1-000000008.{hashlib.sha256(b).hexdigest()[:32]}.pt').write_bytes(b)
        with pytest.warns(UserWarning), pytest.raises(CheckpointError, match='can be read'): program(partial(learner, checkpoint='cp', every='2 steps'))
    assert not Path('pwned').exists()

def test_plain_data_only():
    "What is saved is tensors, numbers and texts, and a new interpreter reads it without this package."
    program(partial(learner, checkpoint='cp', every='2 steps'), 3)
    def leaves(o):
        if isinstance(o, dict):
            for k, v in o.items(): yield k; yield from leaves(v)
        elif isinstance(o, (list, tuple)):
            for v in o: yield from leaves(v)
        else: yield o
    state = torch.load(files()[-1], weights_only=True)
    assert {type(o) for o in leaves(state)} <= {torch.Tensor, int, float, str, bool, type(None)}

@pytest.mark.parametrize('x', [torch.arange(10)[::3][:1], torch.zeros(0, 3), torch.ones(1).expand(4), torch.arange(6).view(2, 3).t()], ids=str)
def test_tensors_of_any_stride(x, tmp_path):
    "Written, read back and compared"
    file = write_checkpoint(dict(x=x), tmp_path, 'fit1-000000001')
    assert torch.equal(torch.load(file)['x'], x)

# --- settings

def changed(**kw):
    k = dict(seed=0, bs=20, n=20, un=IL[200:328], il=IL)
    k.update({o: kw.pop(o) for o in list(kw) if o in k})
    dls = k['il'][:200].split(k['n'], seed=k['seed'])[0].dataloaders(IL[1700:1760], bs=k['bs'])
    return learner(dls, k['un'], **kw)

@pytest.fixture(scope='module')
def changed_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('changed')/'cp'
    program(partial(changed, checkpoint=folder, every='3 steps'), 5)
    return folder

RELABELED = ImageList.from_arrays(X, (Y+1)%10, img_cls=PILImageBW)
@pytest.mark.parametrize('kw, names', [(dict(k=3), ['k: 2 then, 3 now']), (dict(seed=1), ['labeled images']), (dict(n=30), ['labeled images']), (dict(bs=10), ['labeled batch size: 20 then, 10 now']),
    (dict(un=IL[201:329]), ['unlabeled images']), (dict(un=IL[200:296]), ['unlabeled images', 'batches in an epoch: 4 then']), (dict(alpha=0.5), ['alpha: 0.75 then, 0.5 now']),
    (dict(arch=partial(small_cnn, width=4)), ['model.0', 'initial weights']), (dict(opt_func=SGD), ['optimizer']), (dict(ema=0.9), ['ema.decay: 0.999 then, 0.9 now']), (dict(il=RELABELED), ['labeled images']),
    (dict(wd=0.1), ['wd: ']), (dict(lr=1e-3), ['schedule of lr']), (dict(cbs=GradientClip(0.1)), ['callbacks']), (dict(adapt=False), ['adapt: true then, false now'])], ids=lambda o: o[0] if isinstance(o, list) else '')
def test_changed_setting(kw, names, changed_folder):
    shutil.copytree(changed_folder, 'cp')
    with pytest.raises(CheckpointError) as e: program(partial(changed, checkpoint='cp', every='3 steps', **kw))
    for name in names: assert name in str(e.value)
    assert 'override=True' in str(e.value)

def test_changed_transforms():
    "With their arguments, also those that fastai composes; what they draw is no setting."
    def views(deg=10, size=12, mean=0.5):
        tfms = [*aug_transforms(do_flip=False, max_rotate=deg), Normalize.from_stats([mean], [0.2], cuda=False)]
        dls = IL[:200].split(20, seed=0)[0].dataloaders(IL[1700:1760], bs=20, item_tfms=RandomCrop(size), batch_tfms=tfms)
        return learner(dls, IL[200:328], checkpoint='cp', every='3 steps')
    program(views, 5)
    for kw, text in ((dict(deg=15), 'Warp.aff_fs: .*"max_deg": 10.0.* then, .*"max_deg": 15.0.* now'),
                     (dict(size=10), r'RandomCrop.size: tuple\[12, 12\] then, tuple\[10, 10\] now'), (dict(mean=0.25), 'Normalize.mean')):
        with pytest.raises(CheckpointError, match=text): program(partial(views, **kw))
    assert program(views).train_iter == 12

def test_interrupted_and_fitted_again_in_one_session():
    "What fastai's transforms drew last is no setting"
    dls = IL[:200].split(20, seed=0)[0].dataloaders(IL[1700:1760], bs=20, batch_tfms=aug_transforms(do_flip=False))
    class Once(Callback):
        order,in_checkpoint,at = 2000,False,3
        def after_batch(self):
            if not self.learn.training or self.learn.train_iter!=self.at: return
            self.at = None
            raise KeyboardInterrupt
    learn = learner(dls, IL[200:328], checkpoint='cp', every='1 step', cbs=Once())
    with pytest.raises(KeyboardInterrupt): quiet(learn).fit(1)
    learn.fit(1)
    assert learn.train_iter==len(method_of(learn).dl)

def test_changed_fit(all_settings):
    program(partial(learner, checkpoint='cp', every='3 steps'), 4)
    for fit, text in ((lambda o: o.fit_one_cycle(4), 'epochs: 3 then, 4 now'), (lambda o: o.fit(3), 'schedule of lr'), (lambda o: o.fit_one_cycle(3, 1e-2), 'schedule of lr')):
        with pytest.raises(CheckpointError, match=text): program(partial(learner, checkpoint='cp', every='3 steps'), fit=fit)
    with pytest.raises(CheckpointError, match='method: "MixMatch" then, "Supervised" now'):
        program(lambda: ssl_learner(digit_dls(), IL[200:328], SMALL, bs=32, method=Supervised(), checkpoint='cp'))

def test_a_reset_optimizer_is_another_fit():
    "Only from the second fit on: the first begins with a new one"
    def fit(learn, n=None, **kw):
        learn.fit(1)
        learn.fit(2, cbs=Stop(n) if n else None, **kw)
    with pytest.raises(KeyboardInterrupt):
        set_seed(3)
        fit(learner(checkpoint='cp', every='2 steps'), 3)
    again = partial(program, partial(learner, checkpoint='cp', every='2 steps'))
    with pytest.raises(CheckpointError, match=r'settings\. initial moments \(`reset_opt`\): "\w+" then, "\w+" now\. Use'): again(fit=partial(fit, reset_opt=True))
    def first(learn): learn.fit(1, reset_opt=True); learn.fit(2)
    assert result(again(fit=first)) == result(program(learner, fit=fit))

def test_override():
    "Weights and averages are kept; with other images the epoch begins again."
    program(partial(changed, checkpoint='cp', every='1 steps'), 6)
    with pytest.warns(UserWarning, match='alpha.*training continues'): learn = program(partial(changed, checkpoint=Checkpoint('cp', override=True), alpha=0.5))
    assert len(learn.recorder.losses) == 12 and learn.ema.n == 12
    for f in files(): f.unlink()
    program(partial(changed, checkpoint='cp', every='1 steps'), 6)
    with pytest.warns(UserWarning, match='unlabeled images'): learn = program(partial(changed, checkpoint=Checkpoint('cp', override=True), un=IL[200:456]))
    assert learn.train_iter == 24 and learn.ema.n == 6 + 16 and len(learn.recorder.values) == 3

def test_override_with_more_epochs():
    "The schedule goes on at the part of the new training that is done"
    program(partial(learner, checkpoint='cp', every='1 steps'), 6)
    seen = []
    class First(Callback):
        order,in_checkpoint = 2000,False
        def before_batch(self):
            if self.learn.training: seen.append(self.learn.pct_train)
    with pytest.warns(UserWarning, match='epochs: 3 then, 6 now'):
        program(partial(learner, checkpoint=Checkpoint('cp', override=True), cbs=First()), fit=lambda learn: learn.fit_one_cycle(6))
    assert seen[0]==pytest.approx(6/24, abs=1/24) and len(seen)==18

# --- what callbacks do to the learner inside a fit

class Unfreezes(Callback):
    "After an epoch"
    def before_epoch(self):
        if self.epoch == 1: self.learn.unfreeze()

class SwitchesItselfOff(Callback):
    "After two steps, which count for much"
    def after_loss(self):
        if self.learn.training: self.learn.loss_grad = self.learn.loss_grad*9
    def after_step(self): self.run = self.learn.train_iter < 1

@pytest.mark.parametrize('cb', [Unfreezes, SwitchesItselfOff])
def test_what_a_callback_does_inside_a_fit_stays_done(cb):
    def fit(learn):
        learn.freeze()
        learn.fit(3)
    def make(**kw): return learner(cbs=cb(), splitter=lambda m: [list(o.parameters()) for o in (m[:4], m[4:])], **kw)
    whole, again = both(make, 9, fit=fit)
    assert whole == again

# --- one folder, one learner

@pytest.mark.parametrize('seed', [4, None])
def test_another_seed_is_another_run(seed):
    "Seeds in a loop that share a folder, and a program without a seed"
    program(partial(learner, checkpoint='cp'), fit=lambda learn: learn.fit(1))
    if seed: set_seed(seed)
    with pytest.raises(CheckpointError, match='initial weights: .*random numbers: .*seed .`set_seed`'): learner(checkpoint='cp').fit(1)
    if seed: set_seed(seed)
    with pytest.warns(UserWarning, match='training continues'): learner(checkpoint=Checkpoint('cp', override=True)).fit(1)

def test_two_learners_at_once():
    class Second(Callback):
        in_checkpoint = False
        def after_train(self):
            with pytest.raises(CheckpointError, match=f'cp is in use by process {os.getpid()}.*name another folder'): learner(checkpoint='cp').fit(1)
    learner(checkpoint='cp', cbs=Second()).fit(1)

@pytest.mark.parametrize('how', ['alive', 'killed', 'killed, with a worker'])
def test_two_programs_at_once(how):
    "A lock ends with its process, also where a forked child outlives that"
    fork = 'pid = os.fork()\nif pid==0: print("ready", flush=True); time.sleep(60)' if 'worker' in how else 'print("ready", flush=True)'
    code = f'import os, time\nfrom fastai_mixmatch.files import lock_folder\nf = lock_folder("cp")\n{fork}\ntime.sleep(60)'
    p = forks().start('-W', 'ignore', '-c', code, stdout=PIPE, env={**os.environ, 'PYTHONPATH': str(root)}) # In a session of its own
    try:
        assert p.stdout.readline() == 'ready\n'
        if how == 'alive':
            with pytest.raises(CheckpointError, match=f'in use by process {p.pid}'): learner(checkpoint='cp').fit(1)
        else:
            p.kill(); p.wait()
            learner(checkpoint='cp').fit(1)
    finally:
        with suppress(ProcessLookupError): os.killpg(p.pid, signal.SIGKILL)
        p.wait()

# --- what callbacks remember

@dataclass
class Best:
    value: float = 0.
    epochs: list = field(default_factory=list)

KINDS = dict(set=lambda v: {v}, frozenset=lambda v: frozenset([v]), deque=lambda v: deque([v], 3),
    counter=lambda v: Counter({v: 2}), ordered=lambda v: OrderedDict([(v, 1)]),
    default=lambda v: defaultdict(list, a=[v]), dataclass=lambda v: Best(float(v), [v]),
    frame=lambda v: pd.DataFrame(dict(a=[v, 1.5], b=['x', None])), series=lambda v: pd.Series([v], name='s'),
    array=lambda v: np.array([[v]], 'int16'), scalar=lambda v: np.float32(v),
    nested=lambda v: [dict(a={v: (v, deque([v]))})], path=lambda v: Path(str(v)), complex=lambda v: complex(v, 1), bytes=lambda v: bytes([v]),
    flag=lambda v: RegexFlag.A | RegexFlag.M, one_flag=lambda v: RegexFlag(2*v), attr=lambda v: AttrDict(a=v),
    image=lambda v: TensorImage(torch.tensor(v)), date=lambda v: dt.date(2026, 1, 1+v), moment=lambda v: dt.datetime(2026, 1, 1, v, tzinfo=dt.timezone.utc),
    hour=lambda v: dt.time(v, 30), gap=lambda v: dt.timedelta(v, 1, 1), stamp=lambda v: pd.Timestamp(v, tz='UTC'), pdgap=lambda v: pd.Timedelta(v, 'ns'),
    keys=lambda v: {np.int64(v): 1, dt.date(2026, 1, 1+v): 2, Path('a'): 3, (1, frozenset([v])): 4, '__path__': 5}, tag=lambda v: {'__path__': v}, one_key=lambda v: {np.str_('__path__'): v},
    dates=lambda v: pd.DataFrame(dict(a=[pd.Timestamp('2026-01-01'), pd.NaT], b=[dt.date(2026, 1, 1+v), None]), index=pd.date_range('2026', periods=2, freq=None)))

class Memory(Callback):
    def __init__(self, kind): self.kind = kind
    def before_fit(self): self.kept = None
    def after_epoch(self): self.kept = KINDS[self.kind](self.learn.epoch)

def test_memory_keeps_its_type(capsys):
    make = lambda **o: learner(cbs=[type(f'Memory{k}', (Memory,), {})(k) for k in KINDS], **o)
    program(partial(make, checkpoint='cp', every='3 steps'), 11)
    seen = []
    class Look(Callback):
        order, in_checkpoint = 2000, False
        def before_train(self):
            if not seen: seen.extend((o.kind, o.kept) for o in self.learn.cbs if isinstance(o, Memory))
    learn = program(partial(make, checkpoint='cp', every='3 steps'), fit=lambda learn: learn.fit_one_cycle(3, cbs=Look()))
    for got, epoch in ((dict(seen), 1), ({o.kind: o.kept for o in learn.cbs if isinstance(o, Memory)}, 2)):
        for k, f in KINDS.items():
            want = f(epoch)
            assert type(got[k]) is type(want), k
            if hasattr(want, 'to_csv'): assert want.equals(got[k]) and (want.dtypes == got[k].dtypes if k == 'series' else (want.dtypes == got[k].dtypes).all())
            else: assert got[k] == want and getattr(got[k], 'maxlen', 0) == getattr(want, 'maxlen', 0) and getattr(got[k], 'dtype', 0) == getattr(want, 'dtype', 0)

class Moves(Callback):
    "Its arguments are changed by training, and its state is no plain data as it is"
    def __init__(self, n=0, seen=None): self.n, self.seen = n, seen or []
    def after_batch(self):
        if self.learn.training: self.n += 1; self.seen.append(np.int64(self.n))

class Packed(Moves):
    def state_dict(self): return dict(n=np.int64(self.n), seen={dt.date(2026, 1, i): i for i in self.seen})
    def load_state_dict(self, s): self.n, self.seen = s['n'], list(s['seen'].values())

def test_arguments_that_move():
    "Of several fits with the same callback, too; the identity of a fit is what they were at its beginning"
    def fit(learn):
        for _ in range(2): learn.fit(2)
    make = lambda **o: learner(cbs=[Moves(), Packed()], **o)
    cbs = lambda learn: [(o.n, o.seen) for o in learn.cbs if isinstance(o, Moves)]
    whole = program(make, fit=fit)
    for n in (3, None): learn = program(partial(make, checkpoint='cp', every='3 steps'), n, fit=fit if n is None else lambda learn: (learn.fit(2), learn.fit(2)))
    assert cbs(learn) == cbs(whole) == [(16, list(range(1, 17)))]*2

@pytest.mark.parametrize('start, f', [(torch.ones(2), lambda v: v*2), (torch.ones(2), lambda v: v.mul_(2)), (np.ones(2), lambda v: v*2),
    ((1,), lambda v: (*v, len(v))), ('a', lambda v: v+'b')], ids=['tensor','in place','array','tuple','text'])
def test_arguments_that_a_step_changes_are_named(start, f):
    "A checkpoint holds numbers, lists, dictionaries and sets among the arguments of a callback; arguments that stay are not named"
    class Given(Callback):
        def __init__(self, v, other): self.v, self.other = v, other
        def before_batch(self): self.v = f(self.v)
    given = Given(copy.deepcopy(start), copy.deepcopy(start))
    assert not_held(lambda: learner(cbs=given, checkpoint='cp', every='1 steps').fit(1)) == [
        'a checkpoint does not hold v of Given, which a step changes; a training that goes on begins anew']

def test_an_argument_that_is_part_of_the_network_stays_so():
    "A copy of it would train apart after a new start"
    class Shrinks(Callback):
        def __init__(self, t): self.t = t
        def after_batch(self): self.t.mul_(.5)
    def make(**o):
        learn = learner(**o)
        learn.add_cb(Shrinks(next(learn.model.parameters()).data))
        return learn
    whole = program(make, fit=two_epochs)
    for n in (5, None): learn = program(partial(make, checkpoint='cp', every='2 steps'), n, fit=two_epochs)
    assert all(map(torch.equal, learn.model.state_dict().values(), whole.model.state_dict().values()))

def test_override_keeps_new_arguments():
    make = lambda n, **o: learner(cbs=Moves(n), **o)
    program(partial(make, 0, checkpoint='cp', every='1 steps'), 4)
    with pytest.warns(UserWarning, match='moves.n: 0 then, 100 now'): learn = program(partial(make, 100, checkpoint=Checkpoint('cp', override=True)))
    assert learn.moves.n == 108

def test_a_network_of_a_callback_is_named():
    "Which a checkpoint does not hold; not the learner's own, or one without weights"
    class Own(Callback):
        def before_fit(self): self.head, self.whole, self.body, self.act = nn.Linear(2, 2), self.learn.model, self.learn.model[0], nn.ReLU()
    with pytest.warns(UserWarning, match='does not hold head of Own;'): learner(cbs=Own(), checkpoint='cp', every='1 steps').fit(1)

def test_weights_that_a_callback_holds_stay_those_of_the_network():
    "Gradients are clipped after a new start, too"
    class Clips(Callback):
        def __init__(self, more=()): self.more = more
        def before_fit(self): self.ps, self.named = [*self.model.parameters()], dict(self.model.named_parameters())
        def before_step(self): nn.utils.clip_grad_norm_([*self.ps, *self.named.values(), *self.more], 1e-3)
    make = lambda **o: learner(cbs=Clips(), opt_func=FastSGD, **o)
    whole = program(make)
    for n in (3, None): learn = program(partial(make, checkpoint='cp', every='1 steps'), n)
    assert all(a is b for a,b in zip(learn.clips.ps, learn.model.parameters(), strict=True))
    assert result(learn)==result(whole)

def test_what_is_not_remembered_is_named():
    class Handle: pass
    class Holds(Callback):
        def before_fit(self): self.handle, self.names, self.sparse = Handle(), {'a': [Handle()]}, torch.eye(2).to_sparse()
    assert not_held(lambda: learner(cbs=Holds(), checkpoint='cp', every='1 steps').fit(1)) == ["a checkpoint does not hold handle, names, sparse of Holds; if training changes that, give the callback `state_dict` and `load_state_dict`"]

@pytest.mark.parametrize('append', [False, True])
def test_csv_logger(append):
    "Every row once, under one header"
    def run(name, n=None, **o):
        def make(**o):
            learn = learner(cbs=CSVLogger(f'{name}.csv', append), **o)
            learn.path = Path('.')
            return learn
        for stop in ([n, None] if n else [None]): program(partial(make, **o), stop)
        return pd.read_csv(f'{name}.csv').drop(columns='time')
    whole = run('whole')
    for n in (7, 8): assert whole.equals(run(f'cut{n}', n, checkpoint=f'cp{n}', every='3 steps'))
    assert len(whole) == 3 and whole.equals(run('cut8', checkpoint='cp8', every='3 steps')), 'a complete fit'

# --- other fits

def test_no_epochs():
    def fit(learn): learn.fit(0); learn.fit(1); learn.fit(0)
    whole = program(learner, fit=fit)
    for _ in range(2): assert result(program(partial(learner, checkpoint='cp'), fit=fit)) == result(whole)

def test_short_epochs():
    "Are saved where they were cut"
    make = lambda **o: learner(cbs=ShortEpochCallback(.4), **o)
    whole = program(make)
    class Fail(Callback):
        in_checkpoint = False
        def before_validate(self):
            if self.learn.epoch == 1: raise ZeroDivisionError('x')
    with pytest.raises(ZeroDivisionError): program(partial(make, checkpoint='cp', every='1 epoch'), fit=lambda learn: learn.fit_one_cycle(3, cbs=Fail()))
    assert len(files()) == 2
    learn = program(partial(make, checkpoint='cp', every='1 epoch'))
    assert result(learn) == result(whole) and len(learn.recorder.values) == 3

def test_many_fits_do_not_pile_up():
    def fit(learn):
        for _ in range(7): learn.fit(1)
    whole = program(learner, fit=fit)
    program(partial(learner, checkpoint='cp'), fit=fit)
    assert len(files()) == 4
    with pytest.warns(UserWarning, match='result of fit 1 is not in cp.*that of fit 7 stands in its place'): learn = program(partial(learner, checkpoint='cp'), fit=fit)
    assert result(learn) == result(whole)
    learn.fit(1)
    assert learn.checkpoint.fits == 8

@pytest.mark.parametrize('error', [KeyboardInterrupt, ZeroDivisionError])
def test_tidy(error):
    "After an interrupt nothing of the fit is left, and it is not complete"
    class Fail(Callback):
        in_checkpoint = False
        def after_pred(self):
            if self.learn.train_iter == 6: raise error('x')
    set_seed(3)
    learn = learner(checkpoint='cp', every='1 epoch')
    n = len(learn.cbs)
    with pytest.raises(error): learn.fit(2, cbs=Fail())
    cp = learn.checkpoint
    assert cp.this_fit is None and cp.fits == 0 and len(learn.cbs) == n and [o.name[:14] for o in files()] == ['fit1-000000004']
    learn.fit(2)
    assert cp.fits == 1 and result(learn) == result(program(learner, fit=lambda learn: learn.fit(2)))

def test_needs_a_method():
    from fastai.vision.all import Learner
    learn = Learner(digit_dls(), SMALL(1, 10), cbs=Checkpoint('cp'))
    with pytest.raises(CheckpointError, match='needs a method of this package.*callbacks are TrainEvalCallback, .*Checkpoint. Make it with `ssl_learner`'): learn.fit(1)

def test_plain_learner():
    "The callbacks beside fastai's own `Learner` do as well."
    from fastai.vision.all import CrossEntropyLossFlat, Learner
    def make(**o):
        cbs = [MixMatch(Unlabeled(IL[200:328], bs=32)), EMA(), *([Checkpoint(o['checkpoint'], o['every'])] if o else [])]
        learn = Learner(digit_dls(), SMALL(1, 10), loss_func=CrossEntropyLossFlat(), metrics=accuracy, cbs=cbs)
        learn.remove_cb(learn.progress), setattr(learn, 'logger', noop)
        return learn
    a, b = both(make, 8)
    assert a == b

# --- generators

def test_generators_come_back():
    dls = digit_dls()
    s = rng_state(loader_rngs(dls))
    def draw(): return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(2).tolist(), [o.rng.random() for o in dls.loaders]
    a = draw()
    set_rng_state(torch.load(_saved(s), weights_only=True), loader_rngs(dls))
    assert draw() == a

def _saved(s):
    torch.save(s, 'rngs')
    return 'rngs'

def test_scaler_is_kept():
    "PyTorch's own, on the CPU: its scale and count of steps go on as if there had been no interruption, and so do the steps that it skips"
    def make(**o): return learner(cbs=[CpuPrecision(init_scale=2.**106, growth_interval=2), Scaled()], **o)
    whole = program(make)
    program(partial(make, checkpoint='cp', every='1 steps'), 8)
    saved = torch.load(files()[-1], weights_only=True)['scaler']
    learn = program(partial(make, checkpoint='cp', every='1 steps'))
    seen = whole.scaled.seen
    assert (saved['scale'], saved['_growth_tracker']) == seen[7][:2] and len({o[0] for o in seen}) > 1
    assert learn.scaled.seen == seen and len(seen) == 12 and 1 <= sum(o[2] for o in seen) < 8 and any(o[2] for o in seen[8:])
    assert result(learn) == result(whole)

def test_walk_is_one_pass():
    "Taken up at every position, the rest of a pass is what was left."
    dl = PoolDL(list_pool(), bs=4)
    whole = [b.tolist() for b in Walk(dl, dict(left=torch.arange(17), done=0, seed=0))]
    assert [len(b) for b in whole] == [4, 4, 4, 5]
    for n in range(5):
        w = Walk(dl, dict(left=torch.arange(17)[4*n:] if n < 4 else torch.arange(0), done=n, seed=0))
        assert [b.tolist() for b in w] == whole[n:]

def list_pool():
    dls = digit_dls()
    from fastai_mixmatch.pool import ItemPipe, Pool
    return Pool(IL[:17].items, ItemPipe(dls.train)).load()

@pytest.mark.parametrize('gone', [shutil.rmtree, lambda o: os.rename(o, 'moved')], ids=['deleted','moved'])
@pytest.mark.parametrize('taken', [True, False])
def test_a_folder_that_was_deleted_or_moved_during_a_training(gone, taken):
    "It is locked anew; not if another training has begun there"
    held = []
    class Replace(Callback):
        in_checkpoint = False
        def after_batch(self):
            if self.train_iter != 5 or held: return
            held.append(1)
            gone('cp')
            if taken: held.append(lock_folder('cp'))
    def fit(): program(lambda: learner(checkpoint='cp', every='1 steps', cbs=Replace()))
    if not taken:
        fit()
        assert (Path('cp')/'lock').exists() and list(Path('cp').glob('fit1-end*'))
    else:
        with pytest.raises(OSError, match='cp is in use by process .*name another folder'): fit()
        assert [o.name for o in Path('cp').iterdir()] == ['lock']
