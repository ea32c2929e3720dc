"""The table of the README: test accuracy on handwritten digits with 20 and 50 labels, supervised, MixMatch, and MixMatch that is told that the digits come equally often.

The code is the README's, on the same folders of PNG files, for as many epochs; a seed also draws which images are
labeled. Can be stopped and started again: what is in the results file is not run twice.

    python bench/digits.py --seeds 5
    python bench/digits.py --seeds 5 --epochs 60  # as in earlier tables
"""
import tempfile, time
from functools import partial
from pathlib import Path

import pandas as pd
from fastai.vision.all import ImageDataLoaders, PILImageBW, aug_transforms, set_seed
from fastai_mixmatch.all import *

from common import append, begin, parser, read

def learner(path, method):
    "The README's learner, or the same without its unlabeled images"
    tfms = aug_transforms(do_flip=False, max_rotate=10, min_zoom=0.9, max_lighting=0, max_warp=0.1, p_affine=1,
                          pad_mode='zeros')
    dls = ImageDataLoaders.from_folder(path, train='labeled', valid='test', img_cls=PILImageBW, bs=32, num_workers=0,
                                       batch_tfms=tfms)
    unlabeled = ImageList.from_df(pd.read_csv(path/'unlabeled.csv'), path/'unlabeled', label_col='digit')
    arch = partial(small_cnn, width=32, depth=2, stages=2, mean=True)
    if method!='supervised': return mixmatch_learner(dls, unlabeled, arch, lr=4e-3, prior='uniform' if 'prior' in method else None)
    return ssl_learner(dls, unlabeled, arch, method=Supervised(), lr=4e-3)

def run(labels, seed, method, epochs):
    "One training; its row"
    with tempfile.TemporaryDirectory() as d:
        path = digits_sample(Path(d)/'digits', labels, seed=seed)
        set_seed(seed)
        learn,start = learner(path, method),time.perf_counter()
        with learn.no_logging(): learn.fit_one_cycle(epochs)
        accuracy = learn.report.rows[-1]['accuracy']
    return dict(labels=labels, method=method, seed=seed, epochs=epochs, accuracy=round(accuracy, 4),
                seconds=round(time.perf_counter()-start, 1))

def main():
    p = parser(__doc__, threads=2, seeds=5)
    p.add_argument('--labels', type=int, nargs='+', default=[20,50])
    p.add_argument('--epochs', type=int, default=15)
    a = begin(p)
    done = {(r['labels'], r['method'], r['seed'], r['epochs']) for r in read('digits')}
    for labels in a.labels:
        for seed in range(*a.seeds):
            for method in ('supervised','MixMatch',"MixMatch, prior='uniform'"):
                if (labels, method, seed, a.epochs) in done: continue
                row = run(labels, seed, method, a.epochs)
                append('digits', row)
                print(row, flush=True)

if __name__=='__main__': main()
