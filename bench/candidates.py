"""Rules that decide how far MixMatch believes its guesses, measured against `Supervised` on pools that are not like the labels.

Every rule is a subclass of `MixMatch`; a task is labels, a pool, a test set. Accuracy is that of the final averaged weights.
One JSON line a run is appended to `results/candidates.jsonl`; what is there is not run twice.

    python bench/candidates.py --rules Supervised MixMatch --tasks halves50 halves80 --seeds 3
    python bench/candidates.py --table
"""
import argparse, json, time, warnings
from functools import lru_cache
import numpy as np, torch
from fastai.vision.all import PILImageBW, set_seed
from fastai_mixmatch.all import *
from common import append, read
from reproduce.data import load_arrays
import rules as R

@lru_cache
def load(kind):
    "Training images, labels, test images, labels, with the labels of a task"
    x,y,xt,yt = load_arrays('digits')
    if kind=='halves': return x, (y>4)*1, xt, (yt>4)*1
    if kind=='parity': return x, y%2, xt, yt%2
    if kind=='pairs':
        r = np.random.default_rng(0)
        def join(x, y, n):
            a,b = r.integers(0, len(x), n),r.integers(0, len(x), n)
            return np.concatenate([x[a],x[b]], 2), y[a]*10+y[b]
        return *join(x, y, 4000), *join(xt, yt, 2000)
    return x, y, xt, yt

def pool_sizes(shape, c, free, n, r):
    "Images of each class in the pool"
    if shape=='like': return np.minimum(free, n//c)
    if shape=='all': return free
    if shape.startswith('tail'):
        w = float(shape[4:])**-(np.arange(c)/(c-1))
        r.shuffle(w)
        return np.maximum(1, (free.min()*w).round().astype(int))
    w = np.array([int(shape), 100-int(shape)])/100
    return (n*(w if r.random()<.5 else w[::-1])).round().astype(int)

def task(name, seed):
    "`(images, labels)` of the labeled part, the pool and the test set, and steps; names: kind_shape_labels a class[_steps]"
    kind,shape,per,*steps = name.split('_')
    x,y,xt,yt = load(kind)
    r,c,per = np.random.default_rng(seed),int(y.max())+1,int(per)
    if kind=='unseen': # A third of the pool is of four classes without labels
        lab = np.concatenate([r.permutation(np.flatnonzero(y==i))[:per] for i in range(6)])
        known,other = np.setdiff1d(np.flatnonzero(y<6), lab),np.flatnonzero(y>5)
        pool = np.concatenate([known, r.permutation(other)[:len(known)//2]])
        return (x[lab],y[lab]), (x[pool],y[pool]), (xt[yt<6],yt[yt<6]), int((steps or [320])[0])
    lab,free = [],[]
    for i in range(c):
        o = r.permutation(np.flatnonzero(y==i)); lab.append(o[:per]); free.append(o[per:])
    sizes = pool_sizes(shape, c, np.array([len(o) for o in free]), 600, r)
    pool = np.concatenate([o[:n] for o,n in zip(free, sizes)])
    lab = np.concatenate(lab)
    n = np.bincount(yt).min() # As many of each class
    test = np.concatenate([np.flatnonzero(yt==i)[:n] for i in range(c)]) if kind!='pairs' else np.arange(len(yt))
    return (x[lab],y[lab]), (x[pool],y[pool]), (xt[test],yt[test]), int((steps or [320])[0])

def run(rule, name, seed, bs=32):
    "One training"
    (x,y),(u,yu),(xt,yt),budget = task(name, seed)
    labeled,rest = ImageList.from_arrays(x, y, img_cls=PILImageBW),ImageList.from_arrays(u, yu, img_cls=PILImageBW)
    set_seed(seed)
    dls,method = labeled.dataloaders(bs=bs),R.make(rule)
    learn = ssl_learner(dls, rest, lambda n_in,n_out: small_cnn(n_in, n_out, width=16), method=method)
    epochs,start = max(1, round(budget*bs/len(rest))),time.perf_counter()
    with learn.no_logging(): learn.fit_one_cycle(epochs)
    learn.model.eval()
    method.view.weak = None
    def answers(x):
        parts = torch.from_numpy(x)[:,None].split(1000)
        with torch.no_grad(): return torch.cat([learn.model(method.view(b)) for b in parts]).argmax(1).numpy()
    last,g = (learn.report.rows or [{}])[-1],answers(u)
    res = dict(
        rule=rule, task=name, seed=seed, accuracy=float((answers(xt)==yt).mean()), pool_accuracy=float((g==yu).mean()),
        **{k: last.get(k) for k in ('confidence','guess_acc','lambda_u')}, steps=epochs*-(-len(rest)//bs),
        seconds=round(time.perf_counter()-start, 1))
    return {k: round(v, 4) if isinstance(v, float) else v for k,v in res.items()}

def table(rows):
    "Accuracy in per cent, mean over seeds, a line a task and a column a rule; difference from `Supervised` of the same seeds, and its standard error"
    tasks,names = [],[]
    for r in rows:
        if r['task'] not in tasks: tasks.append(r['task'])
        if r['rule'] not in names: names.append(r['rule'])
    acc = {(r['rule'],r['task'],r['seed']): r['accuracy']*100 for r in rows}
    seeds = sorted({r['seed'] for r in rows})
    def cell(n, t):
        a = [(acc[n,t,s], acc['Supervised',t,s]) for s in seeds if (n,t,s) in acc and ('Supervised',t,s) in acc]
        if not a: return ''
        m = np.array(a)
        d = m[:,0]-m[:,1]
        return f"{m[:,0].mean():.1f}" if n=='Supervised' else f"{d.mean():+.1f}±{d.std(ddof=1)/len(d)**.5 if len(d)>1 else 0:.1f}"
    w = max(len(t) for t in tasks)+1
    print(' '*w + ' '.join(f'{n[:13]:>13}' for n in names))
    for t in tasks: print(f'{t:<{w}}' + ' '.join(f'{cell(n,t):>13}' for n in names))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--rules', nargs='+'); p.add_argument('--tasks', nargs='+'); p.add_argument('--seeds', nargs='+', type=int, default=[3])
    p.add_argument('--out', default='candidates'); p.add_argument('--table', action='store_true')
    a = p.parse_args()
    torch.set_num_threads(1); torch.set_flush_denormal(True)
    warnings.simplefilter('ignore')
    rows = read(a.out)
    if a.table:
        def shown(r): return (not a.rules or r['rule'] in a.rules) and (not a.tasks or r['task'] in a.tasks)
        return table(list(filter(shown, rows)))
    done = {(r['rule'],r['task'],r['seed']) for r in rows}
    for seed in range(*a.seeds):
        for name in a.tasks:
            for rule in a.rules:
                if (rule,name,seed) in done: continue
                r = run(rule, name, seed)
                print(json.dumps(r), flush=True)
                append(a.out, r)

if __name__=='__main__': main()
