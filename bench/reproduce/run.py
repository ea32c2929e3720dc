"""A training, and what is written of it: one row of the results file of its experiment.

The training is timed without its evaluations, and without the minutes between a cut and the next start; on a CPU in
seconds of the processor, so that other work beside it does not count. Images per second are labeled and
unlabeled images, however many views are made of them. A training that was cut off goes on where it was: its
checkpoints are in a folder beside the results, and are removed when its row is written.
"""
import dataclasses, math, re, shutil, statistics, time
from pathlib import Path

import pandas as pd, torch
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import (
    Callback, DataLoaders, Normalize, Tensor, cifar_stats, default_device, first, ifnone, nn, risinstance, set_seed)
from fastai_mixmatch.all import *

from common import append, read, results
from reproduce.data import MemoryDL, load_data
from reproduce.experiments import arch_name, experiments

class Clock(Callback):
    "Seconds spent in training, over all starts"
    order = 60
    def __init__(self, timer=time.perf_counter): self.timer,self.seconds,self.start = timer,0.,None
    def before_train(self): self.start = self.timer()
    def now(self):
        "Seconds up to this moment"
        return self.seconds + (0. if self.start is None else self.timer()-self.start)
    def after_train(self): self.seconds,self.start = self.now(),None
    def state_dict(self): return dict(seconds=self.now())
    def load_state_dict(self, state):
        self.seconds,self.start = state['seconds'],self.timer() if self.start else None

def make_learner(exp, labeled, rest, test, device=None, fast=False, **kwargs):
    "The learner of one variant, with a `Clock`; `fast`: on the fast path, with CUDA graphs unless 'eager' or 'bf16'"
    tfms = [Normalize.from_stats(*cifar_stats)] if exp.data=='cifar10' else None
    dl = labeled.dataloaders(bs=exp.bs, batch_tfms=tfms, device=device).train
    device = torch.device(device or default_device())
    dls = DataLoaders(dl, MemoryDL(test, dl), device=device)
    stream = {k: v for k,v in exp.args.items() if k not in exp.method.settings()}
    method = exp.method(**{k: v for k,v in exp.args.items() if k not in stream})
    timer = time.process_time if device.type=='cpu' else time.perf_counter
    learn = ssl_learner(dls, rest, exp.arch, method=method, lr=exp.lr, wd=exp.wd, bs=exp.ubs, **stream,
                        ema=EMA(exp.ema, exp.warmup) if exp.ema else None, cbs=Clock(timer), **kwargs)
    graphs = fast is True and device.type=='cuda' and 'reduce-overhead'
    return learn.to_fast(bf16=fast=='bf16' or None, compile=graphs) if fast else learn.add_cb(ChannelsLast())

def train(learn, exp):
    "Train for about `exp.steps` steps, in whole epochs; gives the method and the number of epochs"
    method = first(learn.cbs, risinstance(SemiSupervised))
    epochs = max(1, round(exp.steps/len(method.dl)))
    getattr(learn, exp.fit)(epochs)
    return method,epochs

# --- what came out

def predictions(learn):
    "Output and labels of each validation batch; images as plain tensors, for a compiled network"
    with torch.no_grad(): return [(learn.model(x.as_subclass(Tensor)), y) for x,y in learn.dls.valid]

def final_accuracies(learn):
    "Accuracy on the validation set of the averaged weights, and of the trained ones (twice, where nothing is averaged)"
    def acc():
        learn.model.eval()
        right = [(p.argmax(1)==y).float() for p,y in predictions(learn)]
        return torch.cat(right).mean().item()
    ema = getattr(learn, 'ema', None)
    if ema is None: return (acc(),)*2
    ema.resume()
    raw = acc()
    ema.average()
    return acc(), raw

def outcome(learn, method, epochs):
    "Accuracies, curves and speed of a training"
    acc,raw = final_accuracies(learn)
    curves = pd.DataFrame(learn.report.rows).drop(columns='epoch').astype(float).round(5)
    steps,seconds = epochs*len(method.dl),learn.clock.seconds
    last = curves.accuracy[-20:].tolist()
    return dict(
        accuracy=round(acc, 5), median_last=round(statistics.median(last), 5), n_last=len(last),
        accuracy_without_ema=round(raw, 5), steps=steps, epochs=epochs, seconds=round(seconds, 2),
        images_per_s=round(steps*(method.labeled_dl.bs+method.dl.bs)/seconds, 1),
        curves={k: [None if math.isnan(o) else o for o in v] for k,v in curves.to_dict('list').items()})

def embedding(learn, n=400, seed=0):
    """Map of `n` validation images by the features before the last linear layer: PCA to 50 dimensions, then t-SNE to
    2

    Lists `x` and `y`, the predicted class `guess`, its `confidence`, and the label `truth`.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    last,feats = [o for o in learn.model.modules() if isinstance(o, nn.Linear)][-1],[]
    hook = last.register_forward_pre_hook(lambda m,i: feats.append(i[0].float().cpu()))
    learn.model.eval()
    try:
        p,y = map(torch.cat, zip(*[(p.softmax(1), y) for p,y in predictions(learn)]))
    finally: hook.remove()
    f,(conf,guess) = torch.cat(feats)[:n].numpy(),p[:n].cpu().max(1)
    flat = PCA(min(50, *f.shape), random_state=seed).fit_transform(f)
    xs,ys = TSNE(2, init='pca', random_state=seed).fit_transform(flat).astype(float).round(1).T.tolist()
    conf = conf.double().numpy().round(3)
    return dict(x=xs, y=ys, guess=guess.tolist(), confidence=conf.tolist(), truth=y[:n].cpu().tolist())

# --- a training and its row

def state_folder(out, *parts):
    "Where a training of these `parts` keeps its checkpoints: beside the folder of the results, in plain letters"
    name = re.sub(r'[^a-zA-Z0-9.]+', '-', '-'.join(map(str, filter(None, parts))))
    return Path(out).with_name(Path(out).name+'-unfinished')/name

def is_of(row, exp):
    "Has `row` the network, batches and steps of `exp`? An experiment's steps become whole epochs"
    asked = dict(arch=arch_name(exp.arch), bs=exp.bs, ubs=exp.ubs)
    epochs = max(1, round(exp.steps*row['epochs']/row['steps']))
    return {k: row['settings'][k] for k in asked}==asked and epochs==row['epochs']

def run(name, variant='', data=None, seed=0, out=results, labels=None, limit=None, command=None, device=None,
        fast=False, every=None, **over):
    """Train a variant of an experiment and add its row to `out/<name>.jsonl`; where it is there, read it

    `data`: folder or file, or training and test `ImageList`. `seed`: which images are labeled, and all other chance.
    `labels`: number of labels. `limit`: use only so many images. `every`: how often to save. `over`: fields of
    `Experiment` to change.
    """
    exp,file = experiments[name].variant(variant),Path(out)/f'{name}.jsonl'
    n = ifnone(labels, first(exp.labels)) if exp.labels else None
    exp = dataclasses.replace(exp, **{k: v for k,v in over.items() if v is not None})
    same = dict(variant=variant, labels=n, seed=seed, limit=limit)
    if row := first(o for o in read(file) if {k: o[k] for k in same}==same and is_of(o, exp)): return row
    train_list,test = data if isinstance(data, tuple) else load_data(exp.data, data, limit)
    split = train_list.choose(n, seed=seed) if n else None
    labeled,rest = train_list.split(split) if split else (train_list,train_list)
    set_seed(seed)
    size = f'{exp.steps}x{exp.bs}+{exp.ubs}'
    parts = variant, n and f'{n}-labels', f'seed{seed}', limit and f'limit{limit}', arch_name(exp.arch), size
    folder = state_folder(out, name, *parts)
    learn = make_learner(exp, labeled, rest, test, device, fast, checkpoint=folder, every=every or '1min')
    method,epochs = train(learn, exp)
    weights = list(learn.model.parameters())
    settings = dict(exp.settings(), parameters=sum(p.numel() for p in weights), device=str(weights[0].device),
                    fast='fast_path' in learn.__dict__)
    append(file, dict(
        experiment=name, **same, **outcome(learn, method, epochs), settings=settings,
        map=embedding(learn, exp.embed) if exp.embed else None, train_images=len(train_list), test_images=len(test),
        split=split and dataclasses.asdict(split)), command=command)
    shutil.rmtree(folder, ignore_errors=True)
    return read(file)[-1]
