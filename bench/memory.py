"""Is memory flat, and what does a pool of a million files cost? Over 2000 steps, over 20 fits in one process, over a
million hard links.

Resident memory is read from /proc (Linux). Growth is the largest value in the second half less the largest in the
first half (after a tenth for warming up); flat means below `--tolerance` MB. The files are links to a few hundred
real PNG files of 32×32 pixels in color, in folders of 1000; in memory they would take 3 GB, so they are read as they
are needed. Their cost runs from the finished `DataLoaders` to the first batch of a fit: its time, and how far memory
rises at most. Each row is a process of its own.

    python bench/memory.py                                # everything: 2000 steps, 20 fits, 1 000 000 files
    python bench/memory.py --files 10000 --steps 200      # smaller
"""
import gc, multiprocessing, os, re, tempfile, time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import Callback, CancelFitException, Image, ImageDataLoaders, PILImage, PILImageBW
from fastai_mixmatch.all import *
from common import append, begin, parser

def status(key):
    "Memory of this process in MB: 'VmRSS' now, 'VmHWM' the most since `forget_most`"
    return int(re.search(rf'{key}:\s+(\d+)', Path('/proc/self/status').read_text())[1])/1024

def forget_most(): Path('/proc/self/clear_refs').write_text('5')

# --- is it flat?

def growth(sizes):
    n,sizes = len(sizes),sizes[len(sizes)//10:]
    half = len(sizes)//2
    return dict(n=n, growth_mb=round(max(sizes[half:])-max(sizes[:half]), 2), end_mb=round(sizes[-1], 1))

def in_memory(path, **kwargs):
    train,test = digits_lists()
    labeled,_ = train[:200].split(20)
    return mixmatch_learner(labeled.dataloaders(test[:100], bs=16), train[200:840], arch=small_cnn, **kwargs)

def from_files(path, **kwargs):
    if not (path/'digits').exists(): digits_sample(path/'digits', 20)
    dls = ImageDataLoaders.from_folder(path/'digits', train='labeled', valid='test', img_cls=PILImageBW, bs=16,
                                       num_workers=2)
    files = sorted((path/'digits/unlabeled').iterdir())[:640]
    return mixmatch_learner(dls, files, arch=small_cnn, cache=False, checkpoint=path/'steps', every='100 steps',
                            **kwargs)

class Note(Callback):
    "Memory after each step"
    run_valid,in_checkpoint = False,False
    def __init__(self): self.sizes = []
    def after_batch(self): self.sizes.append(status('VmRSS'))

def over_steps(make, n, path):
    learn,note = make(path),Note()
    with learn.no_logging(): learn.fit(-(-n//len(learn.mix_match.dl)), cbs=note)
    return dict(what='steps', pool=make.__name__, **growth(note.sizes))

def wide_bare(n, path):
    "The same two forwards of as many images, and a backward, in plain PyTorch"
    model,sizes = wrn(10, 2)(3, 10),[]
    opt = torch.optim.AdamW(model.parameters())
    for _ in range(n):
        x,u = torch.rand(32, 3, 32, 32),torch.rand(64, 3, 32, 32)
        with torch.no_grad(): q = model(u).softmax(1)
        out = model(torch.cat([x, u]))
        loss = out[:32].square().mean()+(out[32:].softmax(1)-q).square().mean()
        opt.zero_grad(); loss.backward(); opt.step()
        sizes.append(status('VmRSS'))
    return sizes

def wide_mixmatch(n, path):
    "MixMatch with its defaults, WRN-10-2, 32 labeled and 2 × 32 unlabeled views of 32 × 32 pixels"
    x = np.random.default_rng(0).integers(0, 256, (1064,32,32,3), dtype=np.uint8)
    il,note = ImageList.from_arrays(x, np.arange(len(x))%10),Note()
    learn = mixmatch_learner(il[:64].dataloaders(il[64:128], bs=32), il[128:], wrn(10, 2), cbs=note)
    with learn.no_logging(): learn.fit(-(-n//len(learn.mix_match.dl)), 1e-3)
    return note.sizes

def at_real_size(loop, n, path):
    "Growth from the first tenth of the steps to the end, as a fraction"
    sizes = loop(n, path)
    start,end = max(sizes[:len(sizes)//10]),max(sizes[-len(sizes)//10:])
    return dict(what='wrn', pool='MixMatch' if loop is wide_mixmatch else 'bare PyTorch', n=len(sizes), start_mb=round(start), end_mb=round(end),
                growth=round(end/start-1, 3))

def over_fits(n, path):
    sizes = []
    for _ in range(n):
        learn = in_memory(path)
        with learn.no_logging(): learn.fit(1)
        del learn
        gc.collect()
        sizes.append(status('VmRSS'))
    return dict(what='fits', pool='in_memory', **growth(sizes))

# --- many files

def write_links(root, n, real=200):
    "`n` names of `real` PNG files of 32×32 pixels in color, in folders of 1000"
    il,_ = digits_lists()
    for i in range(real):
        x = np.repeat(np.kron(il.items[i], np.ones((4,4), dtype=np.uint8))[...,None], 3, -1)
        Image.fromarray(x).save(root/f'{i}.png')
    for i in range(n):
        d = root/'unlabeled'/f'{i//1000:04d}'
        if i%1000==0: d.mkdir(parents=True)
        os.link(root/f'{i%real}.png', d/f'image_{i:07d}.png')
    for i in range(20):
        d = root/'labeled'/str(il.labels[i])
        d.mkdir(parents=True, exist_ok=True)
        os.link(root/f'{i}.png', d/f'{i}.png')

def paths(folder): return [o for d in sorted(folder.iterdir()) for o in d.iterdir()]
def names(folder): return list(map(str, paths(folder)))

# What is given to the learner, and whether it writes checkpoints
given = {
    'folder': (lambda o: o, False),
    '`ImageList.from_folder`': (ImageList.from_folder, False),
    'folder, with checkpoints': (lambda o: o, True),
    'list of `Path`': (paths, False),
    'list of texts': (names, False)}

class Begun(Callback):
    "The time of the first batch, on the clock and of the processor; the fit ends there"
    order,in_checkpoint = 21,False
    def before_batch(self):
        self.at = time.perf_counter(),time.process_time()
        raise CancelFitException

def first_batch(path, kind):
    "Cost of a pool up to the first batch; what a list is itself is measured before"
    (make,checkpoints),begun = given[kind],Begun()
    dls = ImageDataLoaders.from_folder(path, train='labeled', valid='labeled', img_cls=PILImage, bs=64, num_workers=0)
    empty = status('VmRSS')
    pool = make(path/'unlabeled') if kind.startswith('list') else None
    gc.collect()
    forget_most()
    before,start = status('VmRSS'),(time.perf_counter(),time.process_time())
    source = make(path/'unlabeled') if pool is None else pool
    learn = mixmatch_learner(dls, source, arch=small_cnn, checkpoint=path/'files' if checkpoints else None)
    with learn.no_logging(): learn.fit(1, cbs=begun)
    seconds,cpu = (round(b-a, 2) for a,b in zip(start, begun.at))
    dl = learn.mix_match.dl
    return dict(what='files', pool=kind, n=len(dl.pool), in_memory=dl.cache, first_batch_s=seconds, cpu_s=cpu,
                most_mb=round(status('VmHWM')-before, 1),
                list_itself_mb=None if pool is None else round(before-empty, 1))

# --- all

def alone(f, *args):
    "`f(*args)` in a process of its own"
    with ProcessPoolExecutor(1, multiprocessing.get_context('fork')) as p: return p.submit(f, *args).result()

def main():
    p = parser(__doc__)
    p.add_argument('--steps', type=int, default=2000)
    p.add_argument('--wide', type=int, default=4000, help='steps of a WideResNet')
    p.add_argument('--fits', type=int, default=20)
    p.add_argument('--files', type=int, default=1_000_000)
    p.add_argument('--tolerance', type=float, default=10., help='MB of growth that still counts as flat')
    p.add_argument('--path', type=Path, help='folder for the files, left as it is afterwards; default: a temporary one')
    p.add_argument('--out', default='memory', help='another results file')
    a = begin(p)
    with tempfile.TemporaryDirectory() as tmp:
        path = a.path or Path(tmp)
        if a.files and not (path/'unlabeled').exists(): write_links(path, a.files)
        jobs = []
        if a.steps: jobs += [partial(over_steps, make, a.steps, path) for make in (in_memory, from_files)]
        if a.wide: jobs += [partial(at_real_size, loop, a.wide, path) for loop in (wide_mixmatch, wide_bare)]
        if a.fits: jobs.append(partial(over_fits, a.fits, path))
        if a.files: jobs += [partial(first_batch, path, kind) for kind in given]
        for job in jobs:
            row = alone(job)
            if 'growth_mb' in row: row.update(flat=row['growth_mb']<a.tolerance, tolerance_mb=a.tolerance)
            append(a.out, row, instead=lambda r: (r['what'], r['pool'])==(row['what'], row['pool']))
            print(row, flush=True)

if __name__=='__main__': main()
