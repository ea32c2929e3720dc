"Broken files, classes that are rare or unknown, numbers that are not finite, and long runs: said, counted, survived."
import gc, math, os, sys, time, warnings, weakref
from contextlib import nullcontext
from functools import partial

import numpy as np, pytest, torch
from fastai.callback.fp16 import MixedPrecision
from fastai.vision.all import Callback, DataLoader, DataLoaders, Image, ImageDataLoaders, L, Path, PILImage, PILImageBW, Resize, ResizeMethod
from fastai_mixmatch.all import *
from fastai_mixmatch.fingerprint import describe_items
from helpers_data import folder, most

X,Y = digits_arrays()
IL = ImageList.from_arrays(X, Y, img_cls=PILImageBW)
SMALL = partial(small_cnn, width=8)

def quiet(learn, *args, **kw):
    with learn.no_logging(), learn.no_bar(): learn.fit(*args, **kw)
    return learn

# --- files

def learner(folder, workers=0, files=None, img_cls=PILImage, plain=False, **kw):
    tfms = None if plain else Resize(8, ResizeMethod.Squish)
    dls = ImageDataLoaders.from_folder(folder.path, train='labeled', valid='labeled', bs=8, item_tfms=tfms, num_workers=workers, img_cls=img_cls)
    return mixmatch_learner(dls, folder.files if files is None else files, arch=SMALL, **kw)

@pytest.mark.parametrize('cache,workers', [(True, 0), (False, 0), (False, 2)])
def test_skipped_files_are_counted_and_named(folder, cache, workers, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn = quiet(learner(folder, workers, cache=cache, on_error='skip'), 2)
    pool,out = learn.mix_match.dl.pool,capsys.readouterr().out
    assert learn.train_iter==2*len(learn.mix_match.dl)
    assert {k for k in folder.bad if any(k in o for o in pool.skipped)}==set(folder.bad)
    if cache: assert f'skipped {len(folder.bad)} unreadable' in out and f'{len(folder.bad)} unlabeled images that cannot be read were left out' in out.splitlines()[-1]
    else: assert f'{2*len(folder.bad)+extra(pool, folder)} times another image took the place' in out and 'empty.png' in out

def extra(pool, folder): return pool.n_replaced-2*len(folder.bad) # An unreadable file whose place the next one cannot take either counts again

@pytest.mark.parametrize('name', ['truncated.jpg', 'empty.png', 'folder.png', 'pipe.png', 'bomb.png', 'gone.png', 'deep.png', 'loop.png', 'unreadable.png'])
@pytest.mark.parametrize('cache,plain', [(True, False), (False, False), (False, True)])
def test_one_broken_file_is_named(folder, name, cache, plain):
    "With item transforms, and where files are read without them"
    files = [o for o in folder.files if o.name.startswith('good')][:20] + [folder/'unlabeled'/name]
    t = time.time()
    with pytest.raises((ImageError, OSError), match=name): quiet(learner(folder, files=files, cache=cache, plain=plain), 2)
    assert time.time()-t<20

def test_a_broken_file_with_workers_ends_at_once(folder):
    files = [o for o in folder.files if o.name.startswith('good')] + [folder/'unlabeled/truncated.jpg']
    learn = learner(folder, 2, files=files, cache=False)
    t = time.time()
    with pytest.raises((ImageError, OSError), match='truncated.jpg'): quiet(learn, 2)
    assert time.time()-t<20

def test_shown_images_in_training(folder):
    files = [o for o in folder.files if o.name.startswith('good')] + [folder/'unlabeled/deep.png', folder/'unlabeled/turned.jpg']
    learn = quiet(learner(folder, files=files, img_cls=PILImageShown), 1)
    i = files.index(folder/'unlabeled/deep.png')
    assert 100<learn.mix_match.dl.pool.x[i].float().mean()<140, 'scaled, not clipped'

# --- lists of files

def test_many_files_are_compared_without_a_copy(tmp_path):
    "Settings of a training name its images by a digest of their names, which is the same however they are given"
    names = [f'{i//1000:03d}/image_{i:07d}.png' for i in range(50_000)]
    files = Files(tmp_path, names)
    text, size = most(lambda: describe_items(files))
    assert size<20*len(names)
    for o in ([tmp_path/o for o in names], as_items([str(tmp_path/o) for o in names]), list(map(Path, names))): assert describe_items(o)==text
    assert text!=describe_items(Files(tmp_path, names[::-1])) and text['']==50_000

# --- classes

def skewed(n=500, ratio=100, seed=0):
    "Unlabeled digits whose class frequencies fall by `ratio`"
    keep = np.random.default_rng(seed).random(len(Y)) < (1/ratio)**(Y/9)
    keep[:200] = False
    return IL[np.flatnonzero(keep)[:n]]

def test_imbalance_and_unknown_classes():
    "Labels of four classes only; unlabeled images of all ten, 100 to 1"
    il = IL[:200]
    il = il[[i for i in range(200) if Y[i]<4]].split(16)[0]
    il = ImageList(il.items, labels=il.labels, img_cls=PILImageBW)
    learn = quiet(mixmatch_learner(il.dataloaders(bs=16), skewed(), arch=SMALL), 3)
    rows,counts = learn.mix_match.rows,learn.mix_match.guess_counts
    assert all(math.isfinite(v) for r in rows for k,v in r.items() if k.startswith(('loss','lambda','conf')))
    assert len(counts)==3 and all(len(o)==4 and sum(o)==len(learn.mix_match.dl.pool) for o in counts)
    hist = guess_counts(learn)
    assert hist.shape==(3,4) and list(hist.columns)==['0','1','2','3'] and hist.sum(axis=1).eq(len(learn.mix_match.dl.pool)).all()

def test_classes_without_guesses_are_named():
    learn = mixmatch_learner(IL[:200].split(20)[0].dataloaders(bs=10), IL[200:400], arch=SMALL)
    class Blind(Callback):
        "Makes classes 3 and 7 impossible"
        order = 5
        def before_batch(self):
            with torch.no_grad(): self.learn.model[-1].bias[[3,7]] = -1e4
    learn.add_cb(Blind())
    learn.mix_match.adapt = False
    with pytest.warns(UserWarning, match=r'none of 200 guesses took class .*\b3\b.*\b7\b'): quiet(learn, 1)

@pytest.mark.parametrize('given', [True, False], ids=['given', 'estimated'])
def test_prior_moves_the_guesses(given):
    "With the true frequencies of a skewed pool as prior, or as the labels show them, guesses have these frequencies more nearly than with even ones"
    u = skewed(600)
    true = np.bincount(u.labels, minlength=10)/len(u)
    if given: labeled = IL[:200].split(50)[0]
    else: labeled = IL[sum([np.flatnonzero(Y[:200]==c)[:n].tolist() for c,n in enumerate((true*50).round().clip(1).astype(int))], [])]
    def distance(prior):
        torch.manual_seed(0)
        learn = mixmatch_learner(labeled.dataloaders(bs=32), u, arch=SMALL, prior=prior)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with learn.no_logging(): learn.fit_one_cycle(8)
        guessed = np.array(learn.mix_match.guess_counts[-1])
        return np.abs(guessed/guessed.sum()-true).sum()
    assert distance(true if given else 'labeled')<0.75*distance('uniform')

# --- numbers

class Poison(Callback):
    order = 5
    def __init__(self, n, f): self.n,self.f = n,f
    def before_batch(self):
        if self.training and self.train_iter==self.n: self.f(self.learn)

def tensor_learner(n=50, **kw):
    x,y = torch.tensor(X)[:,None]/255,torch.tensor(Y)
    dls = DataLoaders(DataLoader(list(zip(x[:40], y[:40])), bs=10), DataLoader(list(zip(x[40:60], y[40:60])), bs=10)); dls.c = 10
    return mixmatch_learner(dls, x[100:100+n].clone(), arch=SMALL, **kw)

def test_nan_in_an_input_names_the_image():
    learn = tensor_learner(cbs=Poison(2, lambda learn: learn.mix_match.dl.pool.x[:, 0, 0, 0].fill_(float('nan'))))
    learn.mix_match.dl.pool.items = [f'image {i}.png' for i in range(50)]
    with pytest.raises(FloatingPointError, match=r'(?s)unlabeled image image \d+.png.*holds NaN or infinity; .*in epoch 0, batch [23].*The unlabeled images of this batch:\nimage \d+.png'): quiet(learn, 1)

def test_nan_in_a_labeled_input():
    learn = tensor_learner()
    learn.mix_match.labeled_dl.pool.load()
    learn.mix_match.labeled_dl.pool.x[:, 0, 0, 0] = float('inf')
    with pytest.raises(FloatingPointError, match=r'labeled image .*holds NaN or infinity; '): quiet(learn, 1)

def test_nan_in_a_guess(monkeypatch):
    from fastai_mixmatch import callback
    real = callback.guess_labels
    monkeypatch.setattr(callback, 'guess_labels', lambda *args: real(*args)*float('nan'))
    with pytest.raises(FloatingPointError, match='the guesses are not finite; the labeled loss is nan in epoch 0, batch 0'): quiet(tensor_learner(), 1)

class CpuPrecision(MixedPrecision):
    "fastai's mixed precision on the CPU: with PyTorch's own scaler, in float32; the loss is made so large that it overflows once it is scaled by 2**108"
    def before_fit(self): self.autocast, self.learn.scaler, self.scales = nullcontext(), torch.amp.GradScaler('cpu', **self.kwargs), L()
    def before_backward(self): self.learn.loss_grad = self.scaler.scale(self.loss_grad*2.**20)

class Scaled(Callback):
    "Scale, number of good steps since it grew, and whether the step was skipped, after each step"
    run_valid = False
    def __init__(self): self.seen = []
    def after_batch(self):
        s = self.learn.scaler.state_dict() or dict(scale=1., _growth_tracker=0)
        self.seen.append((s['scale'], s['_growth_tracker'], self.learn.cpu_precision.skipped))

@pytest.mark.parametrize('enabled,when,fails', [(True, range(3, 6), False), (True, range(0, 200), True), (False, range(3, 6), True)])
def test_steps_that_the_scaler_skips_are_no_fault(enabled, when, fails):
    "Steps whose loss overflows; without a scaler, or where it is every step, that is a fault"
    learn = tensor_learner(300, bs=4, adapt=False, cbs=[CpuPrecision(enabled=enabled), Scaled()])
    losses = learn.mix_match.losses
    learn.mix_match.losses = lambda *args: (lambda x,u: (x*float('inf') if learn.train_iter in when else x, u))(*losses(*args))
    if fails:
        with pytest.raises(FloatingPointError): quiet(learn, 1)
        assert learn.train_iter==(49 if enabled else 3)
        return
    quiet(learn, 1)
    scales, _, skipped = zip(*learn.scaled.seen)
    assert skipped==tuple(i in when for i in range(75)) and scales[-1]==scales[0]/8
    assert all(torch.isfinite(p).all() for p in learn.model.parameters()) and learn.ema.n==75-3

def test_gradients_that_overflow_are_no_fault():
    "The scale grows every second step, until the scaled loss is infinite: that step is skipped, the scale halved, and training goes on"
    learn = quiet(tensor_learner(80, bs=4, cbs=[CpuPrecision(init_scale=2.**106, growth_interval=2), Scaled()]), 2)
    skipped = sum(o for *_, o in learn.scaled.seen)
    assert len(learn.scaled.seen)==learn.train_iter==40 and 5<=skipped<20 and learn.ema.n==40-skipped
    assert all(math.isfinite(o) for o in learn.recorder.losses) and all(torch.isfinite(p).all() for p in learn.model.parameters())

# --- long runs

def resident():
    "Resident memory in MB"
    with open('/proc/self/statm') as f: return int(f.read().split()[1])*os.sysconf('SC_PAGE_SIZE')/2**20

@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_memory_is_flat_over_steps():
    learn,sizes = mixmatch_learner(IL[:200].split(20)[0].dataloaders(bs=16), IL[200:840], arch=SMALL),[]
    class Note(Callback):
        run_valid = False
        def after_batch(self):
            if self.train_iter%40==39: sizes.append(resident())
    quiet(learn, 10, cbs=Note())
    assert len(sizes)==10 and max(sizes[3:])-sizes[2]<8, sizes

def test_learners_are_freed():
    def fit():
        learn = quiet(tensor_learner(), 1)
        return [weakref.ref(o) for o in (learn, learn.model, learn.mix_match, learn.mix_match.dl, learn.ema)]
    refs = sum([fit() for _ in range(3)], [])
    gc.collect()
    assert not [o() for o in refs if o() is not None]
