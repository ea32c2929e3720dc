"""Is memory flat, and what does a list of a million files cost? Over 2000 steps, over 20 fits in one process, over a million hard links.

Resident memory is read from /proc (Linux). Growth is the largest value in the second half less the largest in the first half (after a tenth for
warming up); flat means below `--tolerance` MB. The files are links to a few hundred real PNG files, in folders of 1000.

    python bench/memory.py                                # everything: 2000 steps, 20 fits, 1 000 000 files
    python bench/memory.py --files 10000 --steps 200      # smaller
"""
import argparse, gc, os, tempfile, time, warnings
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import Callback, Image, ImageDataLoaders, PILImage, PILImageBW
from sklearn.datasets import load_digits
from fastai_mixmatch.all import *
from common import save

def resident():
    "Resident memory in MB"
    with open('/proc/self/statm') as f: return int(f.read().split()[1])*os.sysconf('SC_PAGE_SIZE')/2**20

def digits():
    d = load_digits()
    return ImageList.from_arrays((d.images*255/16).round().astype(np.uint8), d.target, img_cls=PILImageBW)

def growth(sizes):
    sizes = sizes[len(sizes)//10:]
    half = len(sizes)//2
    return round(max(sizes[half:])-max(sizes[:half]), 2)

def learner():
    il = digits()
    return mixmatch_learner(il[:200].split(20)[0].dataloaders(il[1700:], bs=16), il[200:840], arch=small_cnn)

def over_steps(n):
    sizes = []
    class Note(Callback):
        run_valid = False
        def after_batch(self): sizes.append(resident())
    learn = learner()
    with learn.no_logging(): learn.fit(-(-n//len(learn.mix_match.dl)), cbs=Note())
    return dict(what='steps', n=len(sizes), growth_mb=growth(sizes), end_mb=round(sizes[-1], 1))

def over_fits(n):
    sizes = []
    for _ in range(n):
        learn = learner()
        with learn.no_logging(): learn.fit(1)
        del learn
        gc.collect()
        sizes.append(resident())
    return dict(what='fits', n=n, growth_mb=growth(sizes), end_mb=round(sizes[-1], 1))

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

def many_files(n):
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        write_links(tmp, n)
        dls = ImageDataLoaders.from_folder(tmp, train='labeled', valid='labeled', img_cls=PILImage, bs=64, num_workers=0)
        gc.collect()
        before,start = resident(),time.perf_counter()
        il = ImageList.from_folder(tmp/'unlabeled')
        listed,list_mb = time.perf_counter()-start,resident()-before
        learn = mixmatch_learner(dls, il, arch=small_cnn, cache=False)
        batch = next(iter(learn.mix_match.dl))
        first,all_mb = time.perf_counter()-start,resident()-before
        return dict(what='files', n=len(il), batch=len(batch[1]), list_s=round(listed, 2), first_batch_s=round(first, 2),
                    list_mb=round(list_mb, 1), with_first_batch_mb=round(all_mb, 1))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--steps', type=int, default=2000); p.add_argument('--fits', type=int, default=20); p.add_argument('--files', type=int, default=1_000_000)
    p.add_argument('--tolerance', type=float, default=10., help='MB of growth that still counts as flat'); p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    warnings.simplefilter('ignore')
    rows = []
    for f,n in ((many_files, a.files), (over_steps, a.steps), (over_fits, a.fits)):
        if n: rows.append(f(n)); print(rows[-1], flush=True)
    for r in rows:
        if 'growth_mb' in r: r['flat'] = r['growth_mb']<a.tolerance
    print(save('memory', rows, tolerance_mb=a.tolerance))

if __name__=='__main__': main()
