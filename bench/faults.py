"""Killed, corrupted and starved of disk space: is the result still that of a training without interruption?

Each program trains once without a checkpoint. Then the same program runs with checkpoints, is killed with SIGKILL (at random times, and at
chosen moments: within a step, in validation, in the writing of a checkpoint, before and after its renaming), and started again until it ends.
Its weights, buffers, averages, optimizer, recorder, results table and generators are compared with those of the first run, bit by bit. Files
are cut and changed, and the disk is filled, between the starts. A start is a process forked from one that has only imported; the last of
each run is a new interpreter.

    python bench/faults.py
"""
import argparse, hashlib, json, os, random, resource, signal, subprocess, sys, tempfile, threading, time, traceback, warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import *
from fastai_mixmatch.all import *
from fastai_mixmatch import checkpoint as checkpoint_module
from fastai_mixmatch.state import pack

# --- the programs, and what they leave

def memory(data, checkpoint, cbs, every):
    "Images in memory"
    dls = data['labeled'].dataloaders(data['valid'], bs=20)
    learn = mixmatch_learner(dls, data['rest'], partial(small_cnn, width=8), bs=32, cbs=cbs, checkpoint=checkpoint, every=every)
    learn.fit_one_cycle(3)
    return learn

def workers(data, checkpoint, cbs, every):
    "Files read by two worker processes, cut at random by the item transforms"
    dls = ImageDataLoaders.from_folder(data['path'], train='labeled', valid='test', img_cls=PILImageBW, bs=16, num_workers=2, item_tfms=RandomResizedCrop(8, min_scale=0.6))
    learn = mixmatch_learner(dls, data['path']/'unlabeled', partial(small_cnn, width=8), bs=32, cbs=cbs, checkpoint=checkpoint, every=every)
    learn.fit_one_cycle(2)
    return learn

def fits(data, checkpoint, cbs, every):
    "Two fits, one of them frozen, with an optimizer of PyTorch, accumulated gradients and a tracker"
    dls = data['labeled'].dataloaders(data['valid'], bs=20, batch_tfms=aug_transforms(size=8))
    split = lambda m: [params(m[:3]), params(m[3:])]
    learn = mixmatch_learner(dls, data['rest'], partial(small_cnn, width=8), bs=32, splitter=split, opt_func=partial(OptimWrapper, opt=torch.optim.AdamW),
                             cbs=[GradientAccumulation(64), ReduceLROnPlateau(patience=1), *cbs], checkpoint=checkpoint, every=every)
    learn.fine_tune(2, base_lr=1e-2)
    return learn

programs = dict(memory=memory, workers=workers, fits=fits)

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
    rec,ema = learn.recorder,learn.ema
    rows = [{k: v for k,v in o.items() if k!='time'} for o in learn.report.rows]
    parts = dict(weights=learn.model.state_dict(), averages=[ema.avg, ema.raw, ema.n, ema.active], optimizer=pack(learn.opt.state_dict()), losses=rec.losses,
        rates=[rec.lrs, rec.hps, rec.iters], recorder=rec.values, table=rows, learned=pack(dict(learn.mix_match.learned)),
        generators=[random.getstate(), np.random.get_state(), torch.get_rng_state(), learn.dls.train.rng.getstate()])
    return {k: digest(v) for k,v in parts.items()}

# --- the faults, in the process itself

def kill(*_): os.kill(os.getpid(), signal.SIGKILL)

def arm(fault):
    "Prepare `fault`: 'time:SECONDS', 'step:N', 'loss:N' (within a step), 'valid:EPOCH', 'write:N:FRACTION', 'rename:N:before', 'rename:N:after', 'full:N' (disk)"
    kind,*args = (fault or 'none').split(':')
    class Killer(Callback):
        order,in_checkpoint = 2000,False
        def after_batch(self):
            if kind=='step' and self.learn.training and self.learn.train_iter==int(args[0]): kill()
        def after_loss(self):
            if kind=='loss' and self.learn.training and self.learn.train_iter==int(args[0]): kill()
            if kind=='valid' and not self.learn.training and self.learn.epoch==int(args[0]): kill()
    if kind=='time':
        timer = threading.Timer(float(args[0]), kill)
        timer.daemon = True
        timer.start()
    if kind in ('write','rename','full'): arm_writing(kind, *args)
    return Killer()

def arm_writing(kind, n, how=None):
    "Kill in the writing of checkpoint `n` of this process, or forbid files of more than a few KB from there on"
    n,count,write,replace = int(n),[0],checkpoint_module.atomic_write,os.replace
    class Part:
        "A file of which only a part is written before the kill"
        def __init__(self, f): self.f = f
        def __getattr__(self, k): return getattr(self.f, k)
        def write(self, b):
            self.f.write(b[:int(len(b)*float(how))])
            self.f.flush()
            kill()
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
    checkpoint_module.atomic_write,os.replace = new_write,new_replace

def child(name, data, checkpoint, fault, every, out):
    "Run a program in this process"
    torch.set_num_threads(1)
    warnings.simplefilter('ignore'); warnings.filterwarnings('always', '.*(damaged|written)')
    data = make_data(data)
    class Progress(Callback):
        "A line for each step, and whether it could be lost"
        order,in_checkpoint = 1500,False
        def after_batch(self):
            if self.learn.training: os.write(log, f'{self.learn.checkpoint.fits if checkpoint else 0} {self.learn.train_iter}\n'.encode())
    log = os.open(f'{out}.log', os.O_WRONLY|os.O_CREAT|os.O_APPEND)
    os.write(log, b'start\n')
    set_seed(7)
    start = time.perf_counter()
    learn = programs[name](data, checkpoint or None, [Progress(), arm(fault)], every)
    Path(out).write_text(json.dumps(dict(outcome(learn), seconds=time.perf_counter()-start)))

# --- starting them

def forked(args, f):
    "Run `child(*args)` in a forked process that writes to `f`; its exit status"
    pid = os.fork()
    if pid: return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    rc = 1
    try:
        for fd in (1,2): os.dup2(f.fileno(), fd)
        sys.stdout = sys.stderr = f
        child(*args)
        rc = 0
    except BaseException: traceback.print_exc()
    finally:
        f.flush()
        os._exit(rc)

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
        with open(f'{self.out}.txt', 'w+', buffering=1) as f: # By lines: a kill leaves what was printed
            if fresh: rc = subprocess.run([sys.executable, '-W', 'ignore', __file__, '--child', *args], stdout=f, stderr=subprocess.STDOUT, timeout=600).returncode
            else: rc = forked(args, f)
        self.text = Path(f.name).read_text()
        if fault: self.faults.append((fault, rc))
        return rc

    def outcome(self): return json.loads(self.out.read_text())
    def files(self): return sorted(Path(self.checkpoint).glob('*.pt'), key=lambda o: o.name)

    def lost(self):
        "Steps between the last one that a start made and the first one of the next start"
        runs = [[tuple(map(int, o.split())) for o in part.split('\n') if o] for part in (self.folder/'out.json.log').read_text().split('start\n')[1:]]
        res,reached = [],runs[0][-1] if runs[0] else None
        for r in runs[1:]:
            res.append(reached[1]-r[0][1]+1 if r and reached and reached[0]==r[0][0] else 0)
            reached = r[-1] if r else reached
        return res

def same(a, b):
    "Names of the parts that differ"
    return [k for k in a if k!='seconds' and a[k]!=b[k]]

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
    row = dict(program=name, seed=seed, every=every, kills=0, damaged=0, full=0, detected=0)
    for f in [*faults, '']:
        if f.startswith('damage'):
            if len(t.files())<2 or hurt: continue
            damage(newest(t.files()), f.split(':')[1], rng)
            hurt = True; row['damaged'] += 1
            continue
        rc = t.start(f, fresh=fresh and not f)
        found = hurt and 'is damaged' in t.text
        bounds.append(int(every.split()[0])*(1+hurt)); row['detected'] += found
        hurt = hurt and not found and rc==-signal.SIGKILL # Killed before it could look
        if rc==-signal.SIGKILL: row['kills'] += 1
        elif f.startswith('full') and rc==1 and 'cannot write the checkpoint' in t.text: row['full'] += 1
        elif rc: raise RuntimeError(t.text)
        if rc==0: break
    lost = t.lost()
    beyond = sum(n>b for n,b in zip(lost, bounds[1:]))
    return dict(row, starts=len(bounds), lost=lost, most_lost_steps=max(lost, default=0), beyond_bound=beyond, wrong=same(expected, t.outcome()))

def plan(name, seconds, rng, n):
    "A program's faults: chosen moments, damaged files, and random times"
    last = dict(memory=30, workers=20, fits=10)[name]
    early,late = f'loss:{rng.randrange(2, last//2)}',f'step:{last-rng.randrange(1, 4)}' # In order: a fault at a step that has passed would never come
    between = [f'write:1:{rng.random():.2f}', f'write:2:{rng.random():.2f}', 'rename:1:before', 'damage:cut', 'valid:0', f'rename:{rng.randrange(1, 3)}:after', 'full:1', 'damage:bit',
               *[f'time:{rng.uniform(0, seconds/4):.2f}' for _ in range(n)]]
    return [early, *rng.sample(between, len(between)), late]

small = dict(memory=['write:1:.5','loss:7','rename:1:before','valid:1','damage:cut','full:1','step:29'], workers=['loss:6','damage:bit'], fits=['step:3','rename:2:after'])

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--child', nargs=6); p.add_argument('--seeds', type=int, default=6); p.add_argument('--times', type=int, default=3)
    p.add_argument('--programs', nargs='+', default=list(programs)); p.add_argument('--small', metavar='FILE', help='a few faults of each program; writes the rows to FILE')
    a = p.parse_args()
    if a.child: return child(*a.child)
    from common import append
    rows = []
    with tempfile.TemporaryDirectory() as d:
        for name in a.programs:
            base = Trial(name, f'{d}/{name}', f'{d}/digits', checkpoint=False)
            if base.start(): raise RuntimeError(base.text)
            expected = base.outcome()
            for seed in range(1 if a.small else a.seeds):
                rng = random.Random(seed)
                faults = small[name] if a.small else plan(name, expected['seconds'], rng, a.times)
                every = '3 steps' if a.small else f'{rng.randrange(2, 6)} steps'
                rows.append(trial(name, f'{d}/{name}{seed}', f'{d}/digits', expected, faults, seed, every, fresh=not a.small or name=='memory'))
                print(rows[-1], flush=True)
                if not a.small: append('faults', rows[-1], instead=lambda r: (r['program'], r['seed'])==(name, seed))
    if a.small: Path(a.small).write_text(json.dumps(rows))
    wrong,beyond = sum(bool(r['wrong']) for r in rows),sum(r['beyond_bound'] for r in rows)
    print(f"{sum(r['kills'] for r in rows)} kills, {wrong} wrong, {beyond} lost more than allowed")
    sys.exit(bool(wrong or beyond))

if __name__=='__main__': main()
