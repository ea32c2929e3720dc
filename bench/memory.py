"""Is memory flat, and what does a pool of a million files cost? Over 2000 steps, over 20 fits in one process, over a million hard links.

Resident memory is read from /proc (Linux). Growth is the largest value in the second half less the largest in the first half (after a tenth for
warming up); flat means below `--tolerance` MB. The files are links to a few hundred real PNG files of 32×32 pixels in color, in folders of 1000; in
memory they would take 3 GB, so they are read as they are needed. Their cost runs from the finished `DataLoaders` to the first batch of a fit: its
time, and how far memory rises at most. Each row is a process of its own.

    python bench/memory.py                                # everything: 2000 steps, 20 fits, 1 000 000 files
    python bench/memory.py --files 10000 --steps 200      # smaller
"""
import argparse, gc, multiprocessing, os, re, tempfile, time, warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import Callback, CancelFitException, Image, ImageDataLoaders, PILImage, PILImageBW
from sklearn.datasets import load_digits
from fastai_mixmatch.all import *
from common import save

def status(key):
    "Memory of this process in MB: 'VmRSS' now, 'VmHWM' the most since `forget_most`"
    return int(re.search(rf'{key}:\s+(\d+)', Path('/proc/self/status').read_text())[1])/1024

def forget_most(): Path('/proc/self/clear_refs').write_text('5')

def digits():
    d = load_digits()
    return ImageList.from_arrays((d.images*255/16).round().astype(np.uint8), d.target, img_cls=PILImageBW)

# --- is it flat?

def growth(sizes):
    n,sizes = len(sizes),sizes[len(sizes)//10:]
    half = len(sizes)//2
    return dict(n=n, growth_mb=round(max(sizes[half:])-max(sizes[:half]), 2), end_mb=round(sizes[-1], 1))

def in_memory(path, **kwargs):
    il = digits()
    return mixmatch_learner(il[:200].split(20)[0].dataloaders(il[1700:], bs=16), il[200:840], arch=small_cnn, **kwargs)

def from_files(path, **kwargs):
    if not (path/'digits').exists(): digits_sample(path/'digits', 20)
    dls = ImageDataLoaders.from_folder(path/'digits', train='labeled', valid='test', img_cls=PILImageBW, bs=16, num_workers=2)
    return mixmatch_learner(dls, sorted((path/'digits/unlabeled').iterdir())[:640], arch=small_cnn, cache=False, checkpoint=path/'steps', every='100 steps', **kwargs)

class Note(Callback):
    "Memory after each step"
    run_valid,in_checkpoint = False,False
    def __init__(self): self.sizes = []
    def after_batch(self): self.sizes.append(status('VmRSS'))

def over_steps(make, n, path):
    learn,note = make(path),Note()
    with learn.no_logging(): learn.fit(-(-n//len(learn.mix_match.dl)), cbs=note)
    return dict(what='steps', pool=make.__name__, **growth(note.sizes))

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
    il = digits()
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

given = {'folder': (lambda o: o, False), '`ImageList.from_folder`': (ImageList.from_folder, False), 'folder, with checkpoints': (lambda o: o, True),
         'list of `Path`': (paths, False), 'list of texts': (names, False)}

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
    learn = mixmatch_learner(dls, make(path/'unlabeled') if pool is None else pool, arch=small_cnn, checkpoint=path/'files' if checkpoints else None)
    with learn.no_logging(): learn.fit(1, cbs=begun)
    seconds,cpu = (round(b-a, 2) for a,b in zip(start, begun.at))
    return dict(what='files', pool=kind, n=len(learn.mix_match.dl.pool), in_memory=learn.mix_match.dl.cache, first_batch_s=seconds, cpu_s=cpu,
                most_mb=round(status('VmHWM')-before, 1), list_itself_mb=None if pool is None else round(before-empty, 1))

# --- all

def alone(f, *args):
    "`f(*args)` in a process of its own"
    with ProcessPoolExecutor(1, multiprocessing.get_context('fork')) as p: return p.submit(f, *args).result()

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--steps', type=int, default=2000); p.add_argument('--fits', type=int, default=20); p.add_argument('--files', type=int, default=1_000_000)
    p.add_argument('--tolerance', type=float, default=10., help='MB of growth that still counts as flat'); p.add_argument('--threads', type=int, default=1)
    p.add_argument('--path', type=Path, help='folder for the files, left as it is afterwards; default: a temporary one')
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    warnings.simplefilter('ignore')
    with tempfile.TemporaryDirectory() as tmp:
        path = a.path or Path(tmp)
        if a.files and not (path/'unlabeled').exists(): write_links(path, a.files)
        jobs = [partial(over_steps, make, a.steps, path) for make in (in_memory, from_files)]*bool(a.steps) + [partial(over_fits, a.fits, path)]*bool(a.fits)
        jobs += [partial(first_batch, path, kind) for kind in given]*bool(a.files)
        rows = []
        for job in jobs: rows.append(alone(job)); print(rows[-1], flush=True)
    for r in rows:
        if 'growth_mb' in r: r['flat'] = r['growth_mb']<a.tolerance
    print(save('memory', rows, tolerance_mb=a.tolerance))

if __name__=='__main__': main()
