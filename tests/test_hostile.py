"Broken files, classes that are rare or unknown, numbers that are not finite, and long runs: said, counted, survived."
import gc, math, os, sys, time, warnings, weakref
from contextlib import nullcontext
from functools import partial

import numpy as np, pytest, torch
from fastai.callback.fp16 import MixedPrecision
from fastai.vision.all import Callback, DataLoader, DataLoaders, Image, ImageDataLoaders, L, Path, PILImage, PILImageBW, Resize, ResizeMethod
from fastai_mixmatch.all import *
from fastai_mixmatch.checkpoint import describe_items
from fastai_mixmatch.data import Files, ImageError, PILImageShown, as_image, as_items, item_name

X,Y = digits_arrays()
IL = ImageList.from_arrays(X, Y, img_cls=PILImageBW)
SMALL = partial(small_cnn, width=8)
RGB = np.repeat(X[:200,:,:,None], 3, -1)

def quiet(learn, *args, **kw):
    with learn.no_logging(), learn.no_bar(): learn.fit(*args, **kw)
    return learn

# --- files

def broken_files(d):
    "One of each kind of file that cannot be read; name → what the message says"
    Image.fromarray(RGB[0]).resize((64,64)).save(d/'whole.jpg')
    data = (d/'whole.jpg').read_bytes()
    (d/'truncated.jpg').write_bytes(data[:len(data)//2])
    (d/'empty.png').touch()
    (d/'text.png').write_text('not an image')
    (d/'folder.png').mkdir()
    os.mkfifo(d/'pipe.png')
    (d/'gone.png').symlink_to(d/'nowhere.png')
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8,8)*1000).save(d/'deep.png')
    Image.new('1', (20_000,20_000)).save(d/'bomb.png')
    (d/'loop.png').symlink_to(d/'loop.png')
    (d/'unreadable.png').symlink_to('/proc/self/mem') # An error of the device; permissions do not hold for root
    Path(os.fsdecode(bytes(d)+b'/\xff\xfe.png')).write_bytes(b'')
    return {'truncated.jpg': 'runcated', 'empty.png': 'cannot identify', 'text.png': 'cannot identify', 'folder.png': 'not a regular file', 'pipe.png': 'not a regular file',
            'gone.png': 'No such file', 'loop.png': 'symbolic links', 'unreadable.png': 'Input/output error', 'deep.png': 'more than 8 bits', 'bomb.png': 'decompression bomb', '\\udcff\\udcfe.png': 'cannot identify'}

def odd_files(d):
    "Files that can be read, with what is to be said about them"
    im = Image.fromarray(RGB[1]).resize((16,12))
    im.convert('CMYK').save(d/'cmyk.jpg')
    exif = Image.Exif(); exif[274] = 6
    im.save(d/'turned.jpg', exif=exif)
    im.convert('P').save(d/'palette.png', transparency=0)
    im.save(d/'moving.gif', save_all=True, append_images=[im.rotate(90), im.rotate(180)])
    im.resize((1,1)).save(d/'pixel.png')
    im.save(d/'jpeg.jpg'); (d/'jpeg.jpg').rename(d/'wrong extension.png')
    return {'cmyk.jpg': 'CMYK', 'turned.jpg': 'EXIF', 'palette.png': 'transparency', 'moving.gif': 'first of 3', 'pixel.png': 'single pixel'}

class Pool:
    "A folder, its unlabeled files, and what is wrong with them"
    def __init__(self, path, bad, odd): self.path,self.bad,self.odd,self.files = path,bad,odd,sorted((path/'unlabeled').iterdir())
    def __truediv__(self, o): return self.path/o

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    d = tmp_path_factory.mktemp('pool')
    for c in range(2):
        (d/'labeled'/str(c)).mkdir(parents=True)
        for i in range(4): Image.fromarray(RGB[10*c+i]).save(d/'labeled'/str(c)/f'{i}.png')
    (d/'unlabeled').mkdir()
    for i in range(100, 180): Image.fromarray(RGB[i]).save(d/'unlabeled'/f'good {i}.png')
    bad,odd = broken_files(d/'unlabeled'),odd_files(d/'unlabeled')
    return Pool(d, bad, odd)

@pytest.mark.parametrize('workers', [0, 2])
def test_verify_lists_every_file(folder, workers, capsys):
    il = ImageList(folder.files)
    report = il.verify(num_workers=workers)
    problems = {Path(n).name: (r, p) for n,r,p in zip(report['name'], report.readable, report.problem)}
    assert set(problems)==set(folder.bad)|set(folder.odd), 'no more and no less'
    for k,v in folder.bad.items(): assert not problems[k][0] and v in problems[k][1], (k, problems[k])
    for k,v in folder.odd.items(): assert problems[k][0] and v in problems[k][1], (k, problems[k])
    assert f"{len(folder.bad)} of {len(il)} images cannot be read, {len(folder.odd)} are read otherwise" in capsys.readouterr().out
    good = il.readable(report)
    assert len(good)==len(il)-len(folder.bad) and not len([o for o in good.verify().readable if not o])

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

def test_names_can_be_printed(folder, capsys):
    name = item_name(folder/os.fsdecode(b'\xff.png'))
    print(name)
    assert name.encode('utf-8') and '\\udcff.png' in capsys.readouterr().out

def test_shown_images(folder):
    "Independent of Pillow's own way back: sizes, scale and background of images as a viewer shows them"
    read = lambda name, cls=PILImageShown: np.asarray(as_image(folder/'unlabeled'/name, cls))
    assert read('turned.jpg').shape==(16,12,3) and read('turned.jpg', PILImage).shape==(12,16,3)
    assert (read('deep.png')[...,0]==np.round(np.arange(64).reshape(8,8)*1000/257)).all()
    im = Image.open(folder/'unlabeled/palette.png')
    assert (read('palette.png')[np.asarray(im)==0]==255).all() and (np.asarray(im)==0).any()
    assert read('cmyk.jpg').shape==(12,16,3) and read('moving.gif').shape==(12,16,3)
    with pytest.raises(ValueError, match='range'): PILImageShown.create(Image.fromarray(np.ones((2,2), dtype=np.float32)))

def test_shown_images_in_training(folder):
    files = [o for o in folder.files if o.name.startswith('good')] + [folder/'unlabeled/deep.png', folder/'unlabeled/turned.jpg']
    learn = quiet(learner(folder, files=files, img_cls=PILImageShown), 1)
    i = files.index(folder/'unlabeled/deep.png')
    assert 100<learn.mix_match.dl.pool.x[i].float().mean()<140, 'scaled, not clipped'

# --- lists of files

def test_files(folder, tmp_path):
    il = ImageList.from_folder(folder/'unlabeled')
    assert isinstance(il.items, Files) and list(il)==sorted((o for o in folder.files if not o.is_dir() or o.name!='folder.png'), key=lambda o: o.name)
    assert il[3]==il.items[3]==list(il)[3] and isinstance(il[3], Path) and il[-1]==list(il)[-1]
    assert list(il[2:9:3])==list(il)[2:9:3] and list(il[[5,1]])==[il[5],il[1]] and list(il[np.arange(len(il))%2==0])==list(il)[::2]
    with pytest.raises(IndexError): il[len(il)]
    (tmp_path/'a/b').mkdir(parents=True); (tmp_path/'.hidden').mkdir()
    for o in ('a/1.png', 'a/b/2.JPG', '0.png', '.no.png', '.hidden/3.png', 'a/4.txt'): (tmp_path/o).touch()
    (tmp_path/'a/loop').symlink_to(tmp_path); (tmp_path/'z.png').symlink_to(tmp_path/'0.png')
    names = lambda **kw: [o.relative_to(tmp_path).as_posix() for o in ImageList.from_folder(tmp_path, **kw)]
    assert names()==['0.png','a/1.png','a/b/2.JPG','z.png']
    assert names(recurse=False)==['0.png','z.png'] and names(folders=['a'])==['a/1.png','a/b/2.JPG'] and names(folders=['.'])==['0.png','z.png']
    assert ImageList.from_folder(tmp_path).items.links.tolist()==[False,False,False,True]

def test_overlap_of_a_folder(folder, tmp_path):
    (tmp_path/'u').mkdir()
    for i in range(4): os.symlink(folder/'labeled/0'/f'{i}.png', tmp_path/'u'/f'{i}.png')
    os.link(folder/'labeled/1/0.png', tmp_path/'u/linked.png')
    learn = learner(folder, files=[o for o in folder.files if o.name.startswith('good')])
    u = sorted((tmp_path/'u').iterdir())
    for o in (ImageList.from_folder(tmp_path/'u'), ImageList(u), ImageList(u[::-1]), as_items(list(map(str, u)))): assert overlap(o, learn.dls)==4, 'links are followed'
    assert overlap(ImageList.from_folder(folder/'labeled'), learn.dls)==8

def test_many_files_are_small(tmp_path):
    names = [f'{i//1000:03d}/image_{i:07d}.png' for i in range(200_000)]
    files, size = most(lambda: Files(tmp_path, names))
    assert size<80*len(names) and files[123_456]==tmp_path/names[123_456] and len(files)==200_000

def most(f):
    "Most bytes that `f()` needs at one time, and its result"
    import tracemalloc
    tracemalloc.start()
    try: return f(), tracemalloc.get_traced_memory()[1]
    finally: tracemalloc.stop()

def test_many_files_are_compared_without_a_copy(tmp_path):
    "Settings of a training name its images by a digest of their names, which is the same however they are given"
    names = [f'{i//1000:03d}/image_{i:07d}.png' for i in range(50_000)]
    files = Files(tmp_path, names)
    text, size = most(lambda: describe_items(files))
    assert size<20*len(names)
    for o in ([tmp_path/o for o in names], as_items([str(tmp_path/o) for o in names]), list(map(Path, names))): assert describe_items(o)==text
    assert text!=describe_items(Files(tmp_path, names[::-1])) and text.startswith('50000, digest ')

def test_list_of_texts_is_not_turned_into_paths(folder):
    good = [str(o) for o in folder.files if o.name.startswith('good')]
    il = as_items(good)
    assert isinstance(il.items, Files) and list(il)==list(map(Path, good)) and il[::2].items[1]==Path(good[2])
    many = [f'/data/{i:07d}.png' for i in range(50_000)]
    assert most(lambda: as_items(many))[1]<80*len(many)
    learn = quiet(learner(folder, files=good), 1)
    assert learn.mix_match.dl.pool.image_name(3)==good[3]

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
