"""Digests of the weights that every method reaches on fixed seeds; `python bench/digests.py [file.jsonl]` adds a row.

A change of the code that means to hold the behavior gives the same digests on the same machine and versions.
"""
import json, os, sys, tempfile, warnings
os.environ['OMP_NUM_THREADS'] = '1'
from functools import partial
from fastai.vision.all import *
from fastai_mixmatch.all import *
from fastai_mixmatch.files import array_bytes, sha256_of
from common import append

NAMES = ('Supervised','MixMatch','EntropyMin','PiModel','VAT','MeanTeacher','ICT','MixUpLabeled','PseudoLabel',
         'FixMatch','UDA','FlexMatch','FreeMatch','SoftMatch','ReMixMatch','AdaMatch','DeFixMatch','NoisyStudent')

def digest(model):
    "First 16 digits of the SHA-256 of all weights and buffers of a network"
    return sha256_of(b for k,v in model.state_dict().items() for b in (k.encode(), array_bytes(v)))[:16]

def run(name, path, batch_tfms=None, **kw):
    "Digest and accuracy of method `name` after 40 steps"
    set_seed(7, reproducible=False)
    dls = ImageDataLoaders.from_folder(path, train='labeled', valid='test', img_cls=PILImageBW, bs=16, num_workers=0,
                                       batch_tfms=batch_tfms)
    unlabeled = ImageList.from_folder(path/'unlabeled')[:640]
    arch = partial(small_cnn, width=8)
    if name=='NoisyStudent': kw['trained'] = arch(1, 10)
    learn = ssl_learner(dls, unlabeled, arch, method=globals()[name](**kw), lr=4e-3)
    with learn.no_bar(), learn.no_logging():
        steps = 40 if 'Match' not in name or name in ('MixMatch','ReMixMatch') else 6
        learn.fit_one_cycle(1 if steps==40 else 7)
    return dict(digest=digest(learn.model), accuracy=round(learn.report.rows[-1]['accuracy'], 4))

def main(file=None):
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as d:
        path = digits_sample(Path(d)/'digits')
        res = {n: run(n, path) for n in NAMES if n in globals()}
        res['MixMatch plain'] = run('MixMatch', path, adapt=False)
        res['MixMatch prior'] = run('MixMatch', path, prior='uniform')
        res['MixMatch random views'] = run('MixMatch', path, batch_tfms=aug_transforms(size=8, do_flip=False))
        res['FixMatch random views'] = run('FixMatch', path, batch_tfms=aug_transforms(size=8, do_flip=False))
    print(json.dumps(res, indent=1))
    if file: append(file, dict(methods=res))

if __name__=='__main__': main(*sys.argv[1:])
