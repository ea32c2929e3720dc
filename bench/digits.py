"""The table of the README: test accuracy on handwritten digits with 20 and 50 labels, supervised and MixMatch, over seeds.

The code is the README's, on the same folders of PNG files, with as many epochs; a seed also draws which images are labeled.

    python bench/digits.py --seeds 5
"""
import argparse, tempfile, time, warnings
from functools import partial
from pathlib import Path
import pandas as pd, torch
from fastai.vision.all import ImageDataLoaders, PILImageBW, aug_transforms, set_seed
from fastai_mixmatch.all import *
from common import save

def run(folder, labels, seed, epochs):
    path = digits_sample(folder, labels, seed=seed)
    set_seed(seed)
    tfms = aug_transforms(do_flip=False, max_rotate=10, min_zoom=0.9, max_lighting=0, max_warp=0.1, p_affine=1, pad_mode='zeros')
    dls = ImageDataLoaders.from_folder(path, train='labeled', valid='test', img_cls=PILImageBW, bs=32, num_workers=0, batch_tfms=tfms)
    unlabeled = ImageList.from_df(pd.read_csv(path/'unlabeled.csv'), path/'unlabeled', label_col='digit')
    arch = partial(small_cnn, width=32, depth=2, stages=2, mean=True)
    learns = {'supervised': ssl_learner(dls, unlabeled, arch, method=Supervised(), lr=4e-3), 'MixMatch': mixmatch_learner(dls, unlabeled, arch, lr=4e-3)}
    for name,learn in learns.items():
        start = time.perf_counter()
        with learn.no_logging(): learn.fit_one_cycle(epochs)
        yield dict(labels=labels, method=name, seed=seed, accuracy=round(float(learn.recorder.values[-1][2]), 4), seconds=round(time.perf_counter()-start, 1))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', type=int, default=5); p.add_argument('--labels', type=int, nargs='+', default=[20,50])
    p.add_argument('--epochs', type=int, default=60); p.add_argument('--threads', type=int, default=2)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    warnings.simplefilter('ignore')
    rows = []
    with tempfile.TemporaryDirectory() as d:
        for labels in a.labels:
            for seed in range(a.seeds):
                for row in run(Path(d)/'digits', labels, seed, a.epochs):
                    rows.append(row); print(row, flush=True)
    print(save('digits', rows, epochs=a.epochs))

if __name__=='__main__': main()
