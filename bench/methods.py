"""Every method on the same data, network, labeled images, weak views, average, schedule and number of steps: error, time, images a second.

Error is that of the final averaged weights on test images that nothing was chosen on. Arguments that depart from a method's defaults are in `methods` below,
with one set for all data; they were chosen on other seeds and on the unlabeled images of the digits. Can be stopped and started again: what is in the results
file is not run twice.

    python bench/methods.py --sets digits --seeds 5                          # 20 labels
    python bench/methods.py --sets mnist --data mnist-10k.npz --seeds 3      # 100 labels
"""
import argparse, contextlib, io, json, time, warnings
from functools import partial
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import PILImageBW, set_seed
from fastai_mixmatch.all import *
from common import digits, mnist, provenance, results

strong = lambda: StrongView(cutout=0.25) # Half of an image of 8×8 pixels hides the digit
methods = dict(
    Supervised=Supervised, MixUpLabeled=MixUpLabeled, EntropyMin=partial(EntropyMin, lambda_u=10.), PseudoLabel=partial(PseudoLabel, threshold=0.8),
    PiModel=PiModel, MeanTeacher=MeanTeacher, VAT=VAT, ICT=ICT, MixMatch=MixMatch, ReMixMatch=lambda: ReMixMatch(ks=2, ramp=1., strong=strong()),
    UDA=lambda: UDA(threshold=0.6, strong=strong(), ramp=0.4), FixMatch=lambda: FixMatch(threshold=0.6, strong=strong(), ramp=0.4),
    FlexMatch=lambda: FlexMatch(threshold=0.8, strong=strong(), ramp=0.4), FreeMatch=lambda: FreeMatch(momentum=0.95, strong=strong(), ramp=0.4),
    SoftMatch=lambda: SoftMatch(momentum=0.95, strong=strong(), ramp=0.4))

# data, labels, batch size of labeled and of unlabeled images, epochs, width of `small_cnn`
sets = dict(digits=(digits, 20, 32, 64, 12, 16), mnist=(mnist, 100, 32, 64, 10, 8))

def learner(name, path, seed, method):
    "Learner, test images and labels, epochs"
    load,labels,bs,bs_u,epochs,width = sets[name]
    x,y,xt,yt = load(path)
    labeled,rest = ImageList.from_arrays(x, y, img_cls=PILImageBW).split(labels, seed=seed)
    set_seed(seed)
    m = method()
    m.bs = bs_u
    with contextlib.redirect_stdout(io.StringIO()): learn = ssl_learner(labeled.dataloaders(bs=bs), rest, partial(small_cnn, width=width), method=m)
    return learn,m,xt,yt,epochs

def error(learn, m, x, y):
    "Share of wrong predictions for images `(N,H,W)`"
    learn.model.eval()
    view = BatchViews(learn.dls.train, torch.zeros(4, *learn.dls.train.one_batch()[0].shape[1:], dtype=torch.uint8).as_subclass(m.view.cls), weak=False)
    with torch.no_grad(): out = torch.cat([learn.model(view(b)) for b in torch.from_numpy(np.asarray(x))[:,None].split(1000)])
    return float((out.argmax(1).numpy()!=y).mean())

def run(name, path, seed, method):
    "One training; its row"
    learn,m,xt,yt,epochs = learner(name, path, seed, methods[method])
    start,cpu = time.perf_counter(),time.process_time()
    with learn.no_logging(): learn.fit_one_cycle(epochs)
    s,c,h = time.perf_counter()-start,time.process_time()-cpu,m.rows[-1]
    steps,n = epochs*len(m.dl),epochs*len(m.dl.pool)
    some = lambda k,n: None if h.get(k) is None else round(h[k], n)
    return dict(set=name, labels=sets[name][1], seed=seed, method=method, steps=steps, error=round(error(learn, m, xt, yt), 4), seconds=round(s, 1),
                cpu_seconds=round(c, 1), images_per_s=round(n/c), loss_u=some('loss_u', 5), mask_rate=some('mask_rate', 3), guess_acc=some('guess_acc', 3))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', default='mnist-10k.npz', help='MNIST as an .npz with x_train, y_train, x_test, y_test'); p.add_argument('--out', default=str(results/'methods.json'))
    p.add_argument('--sets', nargs='+', default=list(sets)); p.add_argument('--methods', nargs='+', default=list(methods))
    p.add_argument('--seeds', nargs='+', type=int, default=[5], help='number of seeds, or with two numbers the range'); p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads); torch.set_flush_denormal(True)
    warnings.simplefilter('ignore')
    out = Path(a.out)
    old = json.loads(out.read_text()) if out.exists() else dict(rows=[])
    rows,made = old['rows'],old.get('made', [])
    now = provenance('python bench/methods.py, with the set, seed and method of each row')
    if now not in made: made.append(now)
    done = {(r['set'], r['seed'], r['method']) for r in rows}
    for seed in range(*a.seeds):
        for name in a.sets:
            for method in a.methods:
                if (name, seed, method) in done: continue
                rows.append(dict(run(name, a.data, seed, method), commit=now['commit']))
                print(rows[-1], flush=True)
                out.write_text(json.dumps(dict(made=made, not_yet_run=['CIFAR-10 on a GPU'], rows=rows), indent=1)+'\n')

if __name__=='__main__': main()
