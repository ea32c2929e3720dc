"""Every method on the same data, network, labels, views, average, schedule and number of steps: error and time.

Error is that of the final averaged weights on test images that nothing was chosen on. Arguments that depart from a
method's defaults are in `methods` below, with one set for all data; they were chosen on other seeds and on the
unlabeled images of the digits. Can be stopped and started again: what is in the results file is not run twice.

    python bench/methods.py --sets digits --seeds 5                          # 20 labels
    python bench/methods.py --sets mnist --data mnist-10k.npz --seeds 3      # 100 labels

A row is there twice where a paper's recipe has a name: `settings` is "ours", or the recipe, in as many steps. A recipe's
optimizer, schedule, ratio of images and ramp are the paper's for CIFAR-10. The views are those of the other rows, since
nobody flips digits, and so is the average: after so few steps a paper's would hold the weights of the start.
"""
import contextlib, io, itertools, time
from functools import partial

import torch
from fastai.vision.all import PILImageBW, set_seed
from fastai_mixmatch.all import *
from fastai_mixmatch.semi import method_of

from common import append, begin, parser, read
from reproduce.data import load_arrays

def strong(method, **kwargs):
    "Maker of a method with a strong view: half of an image of 8×8 pixels hides the digit, a quarter does not"
    return lambda: method(strong=StrongView(cutout=0.25), **kwargs)

methods = dict(
    Supervised=Supervised,
    MixUpLabeled=MixUpLabeled,
    EntropyMin=partial(EntropyMin, lambda_u=10.),
    PseudoLabel=partial(PseudoLabel, threshold=0.8),
    PiModel=PiModel,
    MeanTeacher=MeanTeacher,
    VAT=VAT,
    ICT=ICT,
    MixMatch=MixMatch,
    ReMixMatch=strong(ReMixMatch, ks=2, ramp=1.),
    UDA=strong(UDA, threshold=0.6, ramp=0.4),
    FixMatch=strong(FixMatch, threshold=0.6, ramp=0.4),
    FlexMatch=strong(FlexMatch, threshold=0.8, ramp=0.4),
    FreeMatch=strong(FreeMatch, momentum=0.95, ramp=0.4),
    SoftMatch=strong(SoftMatch, momentum=0.95, ramp=0.4),
    AdaMatch=strong(AdaMatch, threshold=0.8, ramp=0.4),
    DeFixMatch=strong(DeFixMatch, threshold=0.6, ramp=0.4))
recipes = {published[k][0].__name__: k for k in published if k!='article'} # Method → its paper's recipe

# Labels, batch size of labeled and of unlabeled images, epochs, width of `small_cnn`
sets = dict(digits=(20, 32, 64, 12, 16), mnist=(100, 32, 64, 10, 8))

def learner(name, path, seed, method, settings):
    "Learner, test images and labels"
    labels,bs,bs_u,_,width = sets[name]
    x,y,xt,yt = load_arrays(name, path if name=='mnist' else None)
    labeled,rest = ImageList.from_arrays(x, y, img_cls=PILImageBW).split(labels, seed=seed)
    set_seed(seed)
    given = labeled.dataloaders(bs=bs),rest,partial(small_cnn, width=width)
    with contextlib.redirect_stdout(io.StringIO()):
        if settings=='ours': return ssl_learner(*given, method=methods[method](), bs=bs_u),xt,yt
        make,theirs = factory(published[settings][0]),recipe(settings)
        if published[settings][0].ks: theirs.setdefault('strong', StrongView(cutout=0.25))
        learn = make(*given, **{**theirs, 'ema': 0.999, 'weak': None}, steps=-(-len(rest)//bs_u))
    return learn,xt,yt

def error(learn, m, x, y):
    "Share of wrong predictions for images `(N,H,W)`"
    learn.model.eval()
    like = torch.zeros(4, *learn.dls.train.one_batch()[0].shape[1:], dtype=torch.uint8).as_subclass(m.view.cls)
    view = BatchViews(learn.dls.train, like, weak=False)
    with torch.no_grad(): out = torch.cat([learn.model(view(b)) for b in torch.from_numpy(x)[:,None].split(1000)])
    return float((out.argmax(1).numpy()!=y).mean())

def run(name, path, seed, method, settings):
    "One training; its row"
    (learn,xt,yt),epochs = learner(name, path, seed, method, settings),sets[name][3]
    m,fit = method_of(learn),'fit_one_cycle' if settings=='ours' else published[settings][1]
    start,cpu = time.perf_counter(),time.process_time()
    with learn.no_logging(): getattr(learn, fit)(epochs)
    s,c,last = time.perf_counter()-start,time.process_time()-cpu,learn.report.rows[-1]
    told = {k: round(last[k], n) for k,n in (('loss_u',5),('mask_rate',3),('guess_acc',3)) if last.get(k) is not None}
    return dict(
        set=name, labels=sets[name][0], seed=seed, method=method, settings=settings, steps=epochs*len(m.dl),
        error=round(error(learn, m, xt, yt), 4), seconds=round(s, 1), cpu_seconds=round(c, 1),
        images_per_s=round(epochs*len(m.dl)*m.dl.bs/c), **told)

def main():
    p = parser(__doc__, seeds=5)
    p.add_argument('--data', default='mnist-10k.npz', help='MNIST as an .npz with x_train, y_train, x_test, y_test')
    p.add_argument('--out', default='methods', help='another results file')
    p.add_argument('--sets', nargs='+', default=list(sets))
    p.add_argument('--methods', nargs='+', default=list(methods))
    a = begin(p)
    done = {(r['set'], r['seed'], r['method'], r['settings']) for r in read(a.out)}
    ways = [(o, s) for o in a.methods for s in ('ours',recipes.get(o)) if s]
    for seed,name,way in itertools.product(range(*a.seeds), a.sets, ways):
        if (name, seed, *way) in done: continue
        row = run(name, a.data, seed, *way)
        append(a.out, row)
        print(row, flush=True)

if __name__=='__main__': main()
