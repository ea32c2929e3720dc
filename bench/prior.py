"""Is it worth to say the true class frequencies of a skewed pool? MixMatch with its default and with `prior=` of the truth.

Two classes of digits, 15 labels each, 80 or 90 % of the pool in one of them (the tasks of `candidates.py`, seeds that no rule was chosen on).
`accuracy` counts the classes of the test set alike, `as_pool` as the pool has them. One JSON line a run goes to `results/prior.jsonl`.

    python bench/prior.py
"""
import contextlib, io, warnings
from functools import partial
import numpy as np
from fastai.vision.all import PILImageBW, set_seed
from fastai_mixmatch.all import *
from candidates import task
from common import append, read

def run(name, seed, told):
    (x,y),(u,uy),(xt,yt),_ = task(name, seed)
    lists = [ImageList.from_arrays(*o, img_cls=PILImageBW) for o in ((x, y),(u, uy),(xt, yt))]
    share = np.bincount(uy, minlength=2)/len(uy)
    set_seed(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        learn = mixmatch_learner(lists[0].dataloaders(lists[2], bs=30), lists[1], partial(small_cnn, width=16), lr=4e-3,
                                 **(dict(prior=share.tolist()) if told else {}))
        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(16)
            p,y = learn.get_preds()
    right,w = (p.argmax(1)==y).numpy(),share[y.numpy()]
    return dict(task=name, seed=seed, prior='true' if told else None, accuracy=round(right.mean(), 4), as_pool=round((right*w).sum()/w.sum(), 4))

def main():
    warnings.simplefilter('ignore')
    done = {(o['task'],o['seed'],o['prior']) for o in read('prior')}
    for name in 'halves_80_15','halves_90_15':
        for seed in range(7, 11):
            for told in False,True:
                if (name,seed,'true' if told else None) not in done: append('prior', run(name, seed, told))

if __name__=='__main__': main()
