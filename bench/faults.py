"""Killed, corrupted and starved of disk space: is the result still that of a training without interruption?

Each program trains once without a checkpoint. Then the same program runs with checkpoints, is ended by SIGKILL,
SIGTERM or Ctrl-C (at random times, and at chosen moments: within a step, in validation, in the writing of a
checkpoint, before and after its renaming), and started again until it ends. Its weights, buffers, averages,
optimizer, recorder, results table and generators are compared with those of the first run, bit by bit. Files are cut
and changed, and the disk is filled, between the starts. Of two processes that train together one is ended, and the
other has to end by itself; their results are compared with each other. A start is a process forked from one that has
only imported; the last of some runs is a new interpreter. A start that takes longer than `PATIENCE` seconds hangs.
In `meeting` one of two processes is ended before the first step, mostly before they have found each other; `named`
counts after how many of these the other one said which process is missing.

    python bench/faults.py                  # all programs; rows that the results file has are not run again
    python bench/faults.py FixMatch ddp     # some of them
"""
import argparse, hashlib, json, os, random, re, resource, signal, socket, subprocess, sys, tempfile, threading
import time, traceback, warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import *
from fastai_mixmatch.all import *
from fastai_mixmatch import files as files_module
from fastai_mixmatch.state import pack
from digests import NAMES

PATIENCE = 600
VERSION = 3 # Of the plan; rows of another one are run again
arch = partial(small_cnn, width=8)

# --- the programs, and what they leave

def memory(data, cbs, **kw):
    "Images in memory"
    dls = data['labeled'].dataloaders(data['valid'], bs=20)
    learn = mixmatch_learner(dls, data['rest'], arch, bs=32, cbs=cbs, **kw)
    learn.fit_one_cycle(3)
    return learn

def workers(data, cbs, **kw):
    "Files read by two worker processes, cut at random by the item transforms"
    dls = ImageDataLoaders.from_folder(data['path'], train='labeled', valid='test', img_cls=PILImageBW, bs=16,
                                       num_workers=2, item_tfms=RandomResizedCrop(8, min_scale=0.6))
    learn = mixmatch_learner(dls, data['path']/'unlabeled', arch, bs=32, cbs=cbs, **kw)
    learn.fit_one_cycle(2)
    return learn

def fits(data, cbs, **kw):
    "Three fits, one of them frozen, with an optimizer of PyTorch, accumulated gradients and a tracker"
    dls = data['labeled'].dataloaders(data['valid'], bs=20, batch_tfms=aug_transforms(size=8))
    split = lambda m: [params(m[:3]), params(m[3:])]
    cbs = [GradientAccumulation(64), ReduceLROnPlateau(patience=1), *cbs]
    learn = mixmatch_learner(dls, data['rest'], arch, bs=32, splitter=split, cbs=cbs,
                             opt_func=partial(OptimWrapper, opt=torch.optim.AdamW), **kw)
    learn.fine_tune(2, base_lr=1e-2)
    learn.fit(1, 1e-3)
    return learn

class Stream(torch.utils.data.IterableDataset):
    "Images in their order, from a stream that knows its position"
    def __init__(self, ds): self.ds,self.at,self.next = ds,0,0
    def __len__(self): return len(self.ds)
    def __iter__(self):
        self.at,self.next = self.next,0
        while self.at<len(self.ds):
            self.at += 1
            yield self.ds.items[self.at-1]
    def state_dict(self): return dict(at=self.at)
    def load_state_dict(self, s): self.next = s['at']

def iterable(data, cbs, **kw):
    "A stream of images"
    dls = data['labeled'].dataloaders(data['valid'], bs=20)
    learn = fixmatch_learner(dls, Stream(data['rest']), arch, bs=32, cbs=cbs, **kw)
    learn.fit_one_cycle(3)
    return learn

def ddp(data, cbs, **kw):
    "Two processes"
    dls = data['labeled'].dataloaders(data['valid'], bs=8)
    learn = mixmatch_learner(dls, data['rest'], arch, bs=16, cbs=cbs, **kw)
    moment('learner')
    with learn.distrib_ctx(sync_bn=False, cpu=True): learn.fit_one_cycle(2)
    return learn

def of_method(name, data, cbs, **kw):
    "Twelve steps of a method"
    own = dict(trained=arch(1, 10)) if name=='NoisyStudent' else dict(ks=2) if name=='ReMixMatch' else {}
    dls = data['labeled'].dataloaders(data['valid'], bs=20)
    learn = ssl_learner(dls, data['rest'][:192], arch, method=globals()[name](**own), bs=32, cbs=cbs, **kw)
    learn.fit_one_cycle(2)
    return learn

methods = [o for o in NAMES if o!='MixMatch']
pairs = 'ddp','meeting' # Programs of two processes
programs = dict(memory=memory, workers=workers, fits=fits, iterable=iterable, ddp=ddp, meeting=ddp,
                **{o: partial(of_method, o) for o in methods})
steps = dict(dict(memory=30, workers=20, fits=10, iterable=30, ddp=20), **{o: 12 for o in methods}) # Of one fit

def make_data(path):
    "The digits, as arrays and as folders of files; the folders are made once"
    train,test = digits_lists()
    labeled,rest = train[:340].split(20)
    path = Path(path)
    if not (path/'unlabeled.csv').exists():
        digits_sample(path, 20)
        for f in sorted((path/'unlabeled').iterdir())[320:]: f.unlink()
        for f in sorted(path.glob('test/*/*'))[60:]: f.unlink()
    return dict(labeled=labeled, rest=rest, valid=test[:60], path=path)

def digest(o):
    "Digest of nested tensors, numbers and texts, to the last bit"
    h = hashlib.sha256()
    def add(o):
        if isinstance(o, Tensor): h.update(f'{o.dtype}{tuple(o.shape)}'.encode()+o.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(o, np.ndarray): add(torch.tensor(o.astype('int64') if o.dtype=='uint32' else o))
        elif isinstance(o, dict):
            for k in sorted(o, key=str): add(str(k)); add(o[k])
        elif isinstance(o, (list,tuple,L)): [add(v) for v in o]
        else: h.update(repr(o.item() if isinstance(o, np.generic) else o).encode())
        h.update(b';')
    add(o)
    return h.hexdigest()[:16]

def outcome(learn):
    "Digest of each part of a trained learner"
    rec,ema,method = learn.recorder,getattr(learn, 'ema', None),next(o for o in learn.cbs if isinstance(o, SemiSupervised))
    if num_distrib()>1: # Another process goes on with draws of its own
        return dict(weights=digest(learn.model.state_dict()), steps=learn.train_iter, epochs=len(learn.report.rows))
    rows = [{k: v for k,v in o.items() if k!='time'} for o in learn.report.rows]
    parts = dict(weights=learn.model.state_dict(), averages=ema and [ema.avg, ema.raw, ema.n, ema.active],
        optimizer=pack(learn.opt.state_dict()), losses=rec.losses, table=rows, recorder=rec.values,
        rates=[rec.lrs, getattr(rec, 'hps', None), rec.iters], learned={k: pack(v) for k,v in method.changed().items()},
        generators=[random.getstate(), np.random.get_state(), torch.get_rng_state(), learn.dls.train.rng.getstate()])
    return {k: digest(v) for k,v in parts.items()}

# --- the faults, in the process itself

sent,armed = [signal.SIGKILL],['']
def kill(*_): os.kill(os.getpid(), sent[0])

MOMENTS = 'start','data','learner','store','group','wrap','compare','begin' # Of 'meeting', in their order
def moment(what):
    if armed[0]==what: kill()

class Moments(Callback):
    "Moments of the start of a fit: before the model is wrapped, before processes are compared, before the first step"
    in_checkpoint = False
    def __init__(self, order, event, what): self.order,self.what = order,what; setattr(self, event, partial(moment, what))

def arm(fault):
    """Prepare `fault`, such as 'step:5:TERM': 'time:SECONDS', 'step:N', 'loss:N' (within a step), 'valid:EPOCH',
    'write:N:FRACTION', 'rename:N:before', 'rename:N:after', 'full:N' (disk), 'moment:WHICH'"""
    kind,*args = (fault or 'none').split(':')
    if args and args[-1] in ('KILL','TERM','INT'): sent[0] = getattr(signal, f'SIG{args.pop()}')
    class Killer(Callback):
        order,in_checkpoint = 900,False
        def at(self, what, n): return kind==what and n==int(args[0])
        def after_batch(self):
            if self.learn.training and self.at('step', self.learn.train_iter): kill()
        def after_loss(self):
            if self.learn.training and self.at('loss', self.learn.train_iter): kill()
            if not self.learn.training and self.at('valid', self.learn.epoch): kill()
    if kind=='time':
        timer = threading.Timer(float(args[0]), kill)
        timer.daemon = True
        timer.start()
    if kind in ('write','rename','full'): arm_writing(kind, *args)
    if kind!='moment': return [Killer()]
    armed[0],start = args[0],torch.distributed.init_process_group
    def group(*args, **kwargs):
        moment('store')
        start(*args, **kwargs)
        moment('group')
    torch.distributed.init_process_group = group
    return [Moments(10, 'before_fit', 'wrap'), Moments(23, 'before_fit', 'compare'), Moments(0, 'before_batch', 'begin')]

def arm_writing(kind, n, how=None):
    "Kill in the writing of checkpoint `n` of this process, or forbid files of more than a few KB from there on"
    n,count,write,replace = int(n),[0],files_module.atomic_write,os.replace
    class Part:
        "A file of which only a part is written before the kill"
        def __init__(self, f): self.f = f
        def __getattr__(self, k): return getattr(self.f, k)
        def write(self, b):
            n = int(len(b)*float(how))
            self.f.write(b[:n])
            self.f.flush()
            kill()
            self.f.write(b[n:])
    @contextmanager
    def new_write(file, mode):
        count[0] += 1
        if kind=='full' and count[0]==n:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000,)*2)
        with write(file, mode) as f: yield Part(f) if kind=='write' and count[0]==n else f
    def new_replace(a, b):
        if kind=='rename' and count[0]==n and how=='before': kill()
        replace(a, b)
        if kind=='rename' and count[0]==n and how=='after': kill()
    files_module.atomic_write,os.replace = new_write,new_replace

def child(name, data, checkpoint, fault, every, out):
    "Run a program in this process"
    for s in (signal.SIGINT, signal.SIGTERM): # A shell's background job ignores one of them
        signal.signal(s, signal.default_int_handler if s==signal.SIGINT else signal.SIG_DFL)
    rank = int(os.environ.get('RANK', 0))
    fault,_,who = fault.partition('@')
    if rank!=int(who or 0): fault = ''
    torch.set_num_threads(1)
    start,begin = time.perf_counter(),[]
    cbs = arm(fault)
    moment('start')
    warnings.simplefilter('ignore'); warnings.filterwarnings('always', '.*(damaged|written)')
    data = make_data(data)
    moment('data')
    class Progress(Callback):
        "A line for each step, and whether it could be lost"
        order,in_checkpoint = 1500,False
        def before_batch(self): begin.append(time.perf_counter()-start)
        def after_batch(self):
            if self.learn.training and not rank: os.write(log, f'{self.learn.checkpoint.fits if checkpoint else 0} {self.learn.train_iter}\n'.encode())
    log = os.open(f'{out}.log', os.O_WRONLY|os.O_CREAT|os.O_APPEND)
    set_seed(7)
    learn = programs[name](data, [Progress(), *cbs], checkpoint=checkpoint or None, every=every)
    times = dict(seconds=time.perf_counter()-start, begin=first(begin))
    Path(f"{out}{rank or ''}").write_text(json.dumps(dict(outcome(learn), **times)))

# --- starting them

def forked(args, f, **env):
    "Run `child(*args)` in a forked process that writes to `f`; its id"
    if pid := os.fork(): return pid
    rc = 1
    try:
        os.environ.update(env)
        for fd in (1,2): os.dup2(f.fileno(), fd)
        sys.stdout = sys.stderr = f
        child(*args)
        rc = 0
    except BaseException as e:
        traceback.print_exc()
        if isinstance(e, KeyboardInterrupt): rc = 130
    finally:
        f.flush()
        os._exit(rc)

def ended(pid, end):
    "Exit status of a process, `None` if it does not end before `end`"
    while time.monotonic()<end:
        done,status = os.waitpid(pid, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        time.sleep(.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return str(s.getsockname()[1])

DEATHS = {-signal.SIGKILL: 'KILL', -signal.SIGTERM: 'TERM', 130: 'INT'}

class Trial:
    "A program that is started until it ends"
    def __init__(self, name, folder, data, every='4 steps', checkpoint=True):
        self.name,self.folder,self.data,self.every = name,Path(folder),data,every
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint,self.out,self.faults = self.folder/'checkpoint' if checkpoint else '',self.folder/'out.json',[]

    def start(self, fault='', fresh=False):
        "Run once, in a forked process or a new interpreter; gives its exit status"
        args = [str(o) for o in (self.name, self.data, self.checkpoint, fault, self.every, self.out)]
        self.out.unlink(missing_ok=True)
        with open(f'{self.out}.log', 'a') as f: f.write('start\n') # A start may be killed before it writes anything
        with open(f'{self.out}.txt', 'w+', buffering=1) as f: # By lines: a kill leaves what was printed
            end,new = time.monotonic()+PATIENCE,[sys.executable, '-W', 'ignore', __file__, '--child', *args]
            if self.name in pairs: rc = self.two(args, f, end)
            elif fresh: rc = subprocess.run(new, stdout=f, stderr=subprocess.STDOUT).returncode
            else: rc = ended(forked(args, f), end)
        self.text = Path(f.name).read_text()
        if fault: self.faults.append((fault, rc))
        return rc

    def two(self, args, f, end):
        "Run two processes; the exit status of that which was ended, else of the first"
        limit = '60' if self.name=='ddp' else '20'
        env = dict(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port(), MIXMATCH_TIMEOUT=limit)
        pids = [forked(args, f, RANK=str(r), LOCAL_RANK=str(r), **env) for r in range(2)]
        rcs = [ended(o, end) for o in pids]
        if None in rcs: return None
        return first([o for o in rcs if o in DEATHS] + [o for o in rcs if o] + [0])

    def outcome(self):
        res = json.loads(self.out.read_text())
        if self.name not in pairs: return res
        other = json.loads(Path(f'{self.out}1').read_text())
        return dict(res, weights='the same' if res['weights']==other['weights'] else 'differ')
    def files(self): return sorted(Path(self.checkpoint).glob('*.pt'), key=lambda o: o.name)

    def runs(self):
        "The steps of each start: epoch and number"
        return [[tuple(map(int, o.split())) for o in part.split('\n') if o] for part in Path(f'{self.out}.log').read_text().split('start\n')[1:]]

    def lost(self):
        "Steps between the last one that a start made and the first one of the next start"
        runs = self.runs()
        res,reached = [],runs[0][-1] if runs[0] else None
        for r in runs[1:]:
            res.append(reached[1]-r[0][1]+1 if r and reached and reached[0]==r[0][0] else 0)
            reached = r[-1] if r else reached
        return res

def same(a, b):
    "Names of the parts that differ"
    return [k for k in a if k not in ('seconds','begin') and a[k]!=b[k]]

def named(fault, text):
    "Does the process that is left say which one is missing?"
    dead = fault.split('@')[1]
    return bool(re.search(rf'process {1-int(dead)} (ends|found no).* process {dead}\b', text))

def damage(file, how, rng):
    "Cut a file, empty it, or change a bit"
    b = bytearray(file.read_bytes())
    if how=='bit': b[rng.randrange(len(b))] ^= 1<<rng.randrange(8)
    elif how=='cut': b = b[:rng.randrange(1, len(b))]
    else: b = b''
    file.write_bytes(bytes(b))

def newest(files): return sorted(files, key=lambda o: (o.name.split('.')[0], o.stat().st_mtime))[-1]

def trial(name, folder, data, expected, faults, seed, every, fresh=True):
    "Run a program through `faults`, then to its end; a row for the table"
    t,rng,hurt,bounds = Trial(name, folder, data, every),random.Random(seed),False,[]
    saved,owed = False,0 # Did the last start that made a step end with a save?
    row = dict(program=name, seed=seed, every=every, kills=0, signals={}, damaged=0, full=0, detected=0, hangs=0,
               version=VERSION)
    for f in [*faults, '']:
        if f.startswith('damage'):
            if len(t.files())<2 or hurt: continue
            damage(newest(t.files()), f.split(':')[1], rng)
            hurt = True; row['damaged'] += 1
            continue
        rc = t.start(f, fresh=fresh and not f)
        found,sig = hurt and 'is damaged' in t.text,DEATHS.get(rc)
        row['detected'] += found
        bounds.append(max(owed, int(every.split()[0])*(hurt+(not saved))))
        owed = 0 if t.runs()[-1] else bounds[-1] # A start that made no step leaves its loss to the next
        hurt = hurt and not found and bool(sig) # Ended before it could look
        if sig:
            row['kills'],row['signals'][sig] = row['kills']+1,row['signals'].get(sig, 0)+1
            if name=='meeting': row['named'] = row.get('named', 0)+named(f, t.text)
        elif rc is None: row['hangs'] += 1
        elif f.startswith('full') and rc==1 and 'cannot write the checkpoint' in t.text: row['full'] += 1
        elif rc: raise RuntimeError(f'{name}, {f}: ended with {rc}\n{t.text}')
        if t.runs()[-1]: saved = 'interrupted after step' in t.text
        if rc==0: break
    lost = t.lost()
    beyond = sum(n>b for n,b in zip(lost, bounds[1:]))
    return dict(row, starts=len(bounds), lost=lost, most_lost_steps=max(lost, default=0), beyond_bound=beyond,
                wrong=same(expected, t.outcome()) if rc==0 else ['no end'])

def plan(name, outcome, rng, n):
    "A program's faults: chosen moments, damaged files, and random times"
    def signed(f): return f if f.startswith(('damage','full')) else f"{f}:{rng.choice(['KILL','TERM','INT'])}"
    if name=='meeting':
        faults = [f'moment:{o}' for o in MOMENTS]+[f'time:{rng.uniform(0, outcome["begin"]):.2f}' for _ in range(n)]
        return [f'{signed(f)}@{rng.randrange(2)}' for f in faults]
    last,seconds = steps[name],outcome['seconds']
    early,late = f'loss:{rng.randrange(2, last//2)}',f'step:{last-rng.randrange(1, 4)}' # In order, or they never come
    between = [f'write:1:{rng.random():.2f}', f'write:2:{rng.random():.2f}', 'rename:1:before', 'damage:cut', 'valid:0',
               f'rename:{rng.randrange(1, 3)}:after', 'full:1', 'damage:bit',
               *[f'time:{rng.uniform(0, seconds/4):.2f}' for _ in range(n)]]
    if name=='ddp': between = ['valid:0', f'step:{last//2}', f'loss:{last//2+2}', 'write:1:.5']
    if name in methods: between = rng.sample(between, 4)+[f'step:{last//2}']
    faults = [early, *rng.sample(between, len(between)), late]
    return [signed(f)+f'@{rng.randrange(2)}'*(name=='ddp') for f in faults]

small = dict(memory=['write:1:.5','loss:7','rename:1:before','valid:1','damage:cut','full:1','step:29'], workers=['loss:6','damage:bit'], fits=['step:3','rename:2:after'])

def rows_of(name, d, a):
    "Rows of one program, each when it is there"
    from common import read, results_file
    had = {o['seed'] for o in read(results_file('faults')) if (o['program'],o.get('version'))==(name,VERSION)}
    seeds = range(1) if a.small else [s for s in range(1 if name in methods else a.seeds) if s not in had]
    if not seeds: return
    base = Trial(name, f'{d}/{name}', f'{d}/digits', checkpoint=False)
    if base.start(): raise RuntimeError(base.text)
    expected = base.outcome()
    for seed in seeds:
        rng = random.Random(f'{name} {seed}')
        faults = small[name] if a.small else plan(name, expected, rng, a.times)
        every = '3 steps' if a.small else f'{rng.randrange(2, 6)} steps'
        yield trial(name, f'{d}/{name}{seed}', f'{d}/digits', expected, faults, seed, every, name=='memory' or name=='workers' and not a.small)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('programs', nargs='*', help=f"of {', '.join(programs)}; default: all")
    p.add_argument('--child', nargs=6, help=argparse.SUPPRESS)
    p.add_argument('--seeds', type=int, default=2, help='of programs other than the methods')
    p.add_argument('--times', type=int, default=3)
    p.add_argument('--small', metavar='FILE', help='a few faults of some programs; writes the rows to FILE')
    a = p.parse_args()
    if a.child: return child(*a.child)
    from common import append
    rows = []
    with tempfile.TemporaryDirectory() as d:
        make_data(f'{d}/digits')
        for name in a.programs or (small if a.small else programs):
            for row in rows_of(name, d, a):
                rows.append(row)
                print(row, flush=True)
                if not a.small: append('faults', row, instead=lambda r: (r['program'],r['seed'])==(name,row['seed']))
    if a.small: Path(a.small).write_text(json.dumps(rows))
    wrong,beyond,hangs = sum(bool(r['wrong']) for r in rows),sum(r['beyond_bound'] for r in rows),sum(r['hangs'] for r in rows)
    print(f"{sum(r['kills'] for r in rows)} kills, {wrong} wrong, {hangs} hang, {beyond} lost more than allowed")
    sys.exit(bool(wrong or beyond or hangs))

if __name__=='__main__': main()
