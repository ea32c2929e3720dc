"""Do the defaults hold on data nobody tuned for? MixMatch against the supervised baseline.

Over data sets, numbers of labels and budgets; with the same network, labeled images, views, average, schedule and
number of steps for both. Accuracy is of the final averaged weights, on test images that nothing was chosen on. Can be
stopped and started again: what is in the results file is not run twice.

    python bench/defaults.py --data mnist-10k.npz --seeds 5            # everything
    python bench/defaults.py --sets digits --seeds 1 --budgets 500     # a part
"""
import time
from functools import partial

import numpy as np, torch
from fastai.vision.all import PILImageBW, set_seed
from fastai_mixmatch.all import *

from common import append, begin, parser, read
from reproduce.data import load_arrays

def long_tail(path, ratio=30):
    "MNIST's unlabeled images with class frequencies falling by `ratio` from 0 to 9; labels and test stay balanced"
    x,y,xt,yt = load_arrays('mnist', path)
    keep = np.random.default_rng(0).random(len(y)) < (1/ratio)**(y/9)
    return x, y, xt, yt, keep

def pairs(_, n=(6000,2000)):
    "Two digits side by side, 100 classes: no mix of two images looks like an image"
    x,y,xt,yt = load_arrays('digits')
    r = np.random.default_rng(0)
    def join(x, y, n):
        a,b = r.integers(0, len(x), n),r.integers(0, len(x), n)
        return np.concatenate([x[a],x[b]], 2), y[a]*10+y[b]
    return *join(x, y, n[0]), *join(xt, yt, n[1])

# Data of a path, batch size, width of `small_cnn`, numbers of labels
sets = dict(
    digits=(lambda _: load_arrays('digits'), 64, 16, (20,100,500)),
    mnist=(partial(load_arrays, 'mnist'), 32, 8, (20,100,500)),
    mnist_long_tail=(long_tail, 32, 8, (20,100,500)),
    pairs=(pairs, 64, 16, (200,1000)))

def run(name, path, labels, budget, seed, method):
    "One training; its row"
    load,bs,width,_ = sets[name]
    x,y,xt,yt,*keep = load(path)
    il = ImageList.from_arrays(x, y, img_cls=PILImageBW)
    split = il.choose(labels, seed=seed)
    labeled,rest = il[split.labeled],il[[i for i in split.rest if not keep or keep[0][i]]]
    set_seed(seed)
    m = MixMatch() if method=='MixMatch' else Supervised()
    learn = ssl_learner(labeled.dataloaders(bs=bs), rest, partial(small_cnn, width=width), method=m)
    per_epoch = -(-len(rest)//bs)
    epochs,start = max(1, round(budget/per_epoch)),time.perf_counter()
    with learn.no_logging(): learn.fit_one_cycle(epochs)
    learn.model.eval()
    m.view.weak = None
    with torch.no_grad(): out = torch.cat([learn.model(m.view(b)) for b in torch.from_numpy(xt)[:,None].split(1000)])
    acc = (out.argmax(1).numpy()==yt).mean()
    return dict(set=name, labels=labels, budget=budget, steps=epochs*per_epoch, batch=bs, seed=seed, method=method,
                accuracy=round(float(acc), 4), seconds=round(time.perf_counter()-start, 1))

def main():
    p = parser(__doc__, seeds=5)
    p.add_argument('--data', default='mnist-10k.npz', help='MNIST as an .npz with x_train, y_train, x_test, y_test')
    p.add_argument('--out', default='defaults', help='another results file')
    p.add_argument('--sets', nargs='+', default=list(sets))
    p.add_argument('--labels', nargs='+', type=int, help='default: those of the set')
    p.add_argument('--budgets', nargs='+', type=int, default=[500,1500,5000])
    a = begin(p)
    done = {(r['set'], r['labels'], r['budget'], r['seed'], r['method']) for r in read(a.out)}
    cells = [(name, labels, budget, seed, method) for seed in range(*a.seeds) for budget in a.budgets for name in a.sets
             for labels in a.labels or sets[name][3] for method in ('supervised','MixMatch')]
    for name,labels,budget,seed,method in cells:
        if (name, labels, budget, seed, method) in done: continue
        row = run(name, a.data, labels, budget, seed, method)
        append(a.out, row)
        print(row, flush=True)

if __name__=='__main__': main()
