"What tests share: digits in every form, learners of them, and callbacks that look and stop."
import atexit, collections, io, itertools, math, numpy as np, os, pandas as pd, pytest, signal, sys, time, torch, warnings
from fastai.vision.all import (Callback, Categorize, DataLoaders, Datasets, Image, ImageDataLoaders, ItemGetter, L,
    Path, PILImageBW, ProgressCallback, Resize, TfmdLists, ToTensor, get_image_files, noop, set_seed)
from fastai_mixmatch.all import *
from fastai_mixmatch.describe import Unknown
from fastai_mixmatch.distributed import warn_once
from contextlib import contextmanager, nullcontext
from fastai.callback.fp16 import MixedPrecision
from functools import cache, partial
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler, TensorDataset

sys.path.append(str(Path(__file__).parent.parent/'tools'))
from forks import Server # chkstyle: ignore

torch.set_num_threads(1)

X, Y = digits_arrays()

N = 50                                            # unlabeled images: two batches of 25

UX, UY = X[200:200 + N], Y[200:200 + N]

SMALL = partial(small_cnn, width=8)

RGB = lambda x: np.repeat(x[..., None], 3, -1)

class Pairs(Dataset):
    "A map-style dataset of `(f(image), label)`, or of images alone."
    def __init__(self, x, y=None, f=noop): self.x, self.y, self.f = x, y, f
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return self.f(self.x[i]) if self.y is None else (self.f(self.x[i]), self.y[i])

class Stream(IterableDataset):
    "The items of a map-style dataset, one after the other, `passes` times."
    def __init__(self, ds, passes=1): self.ds, self.passes = ds, passes
    def __iter__(self): return (self.ds[i] for _ in (range(self.passes) if self.passes else itertools.count()) for i in range(len(self.ds)))

class SizedStream(Stream):
    def __len__(self): return len(self.ds)

class Seen(Callback):
    "Keep the raw batches that reach the method, before it makes views of them."
    order = 19
    def before_fit(self):
        self.raw, self.ys, draw = [], [], self.mix_match.draw
        def seen(raw, truth):
            self.raw.append([o.clone() for o in raw])
            self.ys.append(truth)
            return draw(raw, truth)
        self.mix_match.draw = seen
    def after_fit(self): vars(self.mix_match).pop('draw', None)
    @property
    def x(self): return torch.cat([r[0] for r in self.raw])

def write(x, folder, names):
    for o, n in zip(x, names): (folder / n).parent.mkdir(parents=True, exist_ok=True), Image.fromarray(o).save(folder / n)

@pytest.fixture(scope='session')
def root(tmp_path_factory):
    "Digits as PNG files: 20 labeled, 50 unlabeled (in subfolders, with a text file among them), 30 to validate on."
    d = tmp_path_factory.mktemp('digits')
    for part, idx in dict(labeled=draw_labeled(Y[:200], 20), valid=range(300, 330)).items(): write(X[idx := list(idx)], d / part, [f'{Y[i]}/{i}.png' for i in idx])
    write(UX, d / 'unlabeled', [f'{"ab"[i % 2]}/{i:03d}.png' for i in range(N)])
    (d / 'unlabeled' / 'notes.txt').write_text('no image')
    return d

def from_folder(root, img_cls=PILImageBW, bs=25, **kw): return ImageDataLoaders.from_folder(root, train='labeled', valid='valid', img_cls=img_cls, bs=bs, num_workers=0, **kw)

def tensor_dls(dtype=torch.float32):
    f = lambda x: grey(x) / 255 if dtype.is_floating_point else grey(x)
    idx = draw_labeled(Y[:200], 20)
    return DataLoaders(DataLoader(TensorDataset(f(X[idx]), torch.tensor(Y[idx])), 25), DataLoader(TensorDataset(f(X[300:330]), torch.tensor(Y[300:330])), 25))

def learner(dls, unlabeled, arch=SMALL, **kw):
    learn = mixmatch_learner(dls, unlabeled, arch, cbs=Seen(), **kw)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn

def fitted(*args, epochs=1, **kw):
    learn = learner(*args, **kw)
    learn.fit(epochs, 2e-3)
    assert all(torch.isfinite(p).all() for p in learn.model.parameters())
    return learn

def bag(x): return collections.Counter(o.numpy().tobytes() for o in x)

def same_images(a, b): return a.shape == b.shape and a.dtype == b.dtype and bag(a) == bag(b)

def grey(x): return torch.tensor(x)[:, None]

def rgb(x): return torch.tensor(RGB(x)).permute(0, 3, 1, 2).contiguous()

def files(root): return sorted(get_image_files(root / 'unlabeled'), key=lambda o: o.name)

def weights(learn): return [p.detach().clone() for p in learn.model.state_dict().values()]

def equal(a, b): return len(a) == len(b) and all(map(torch.equal, a, b))

def read_array(o): return np.asarray(Image.open(o)) if isinstance(o, Path) else o

def invert(a): return 255 - a

def tfmd(root): return TfmdLists(files(root), [PILImageBW.create])

def dsets(root): return Datasets(list(zip(files(root), map(str, UY))), [[ItemGetter(0), PILImageBW.create], [ItemGetter(1), Categorize]])

def column(root): return pd.DataFrame(dict(f=[o.relative_to(root).as_posix() for o in files(root)])).f

KINDS = dict( # chkstyle: ignore-node (one case a line)
    folder=lambda r: r / 'unlabeled',
    folder_str=lambda r: str(r / 'unlabeled'),
    paths=files,
    strs=lambda r: [str(o) for o in files(r)],
    file_array=lambda r: np.array([str(o) for o in files(r)]),
    fastai_L=lambda r: L(files(r)),
    file_bytes=lambda r: [o.read_bytes() for o in files(r)],
    il_folder=lambda r: ImageList.from_folder(r / 'unlabeled'),
    il_df=lambda r: ImageList.from_df(pd.DataFrame(dict(f=column(r))), r),
    il_arrays=lambda r: ImageList.from_arrays(UX),
    il_own_tfms=lambda r: ImageList(files(r), tfms=[Resize(8)], k=3, img_cls=PILImageBW),
    il_own_tfms_arrays=lambda r: ImageList.from_arrays(UX, tfms=Resize(8), img_cls=PILImageBW),
    column=column,
    tfmd_lists=tfmd,
    datasets=dsets,
    datasets_no_label=lambda r: Datasets(files(r), [[PILImageBW.create]]),
    fastai_dl=lambda r: from_folder(r).test_dl(files(r)),
    fastai_dl_labels=lambda r: dsets(r).dataloaders(bs=8, after_item=ToTensor).train,
    torch_dl=lambda r: DataLoader(Pairs([Image.fromarray(o) for o in UX])),
    torch_dl_subset=lambda r: DataLoader(Pairs([Image.fromarray(o) for o in X[:400]]), sampler=SubsetRandomSampler(range(200, 200 + N))),
    torch_pil_label=lambda r: Pairs(UX, UY, Image.fromarray),
    torch_pil=lambda r: Pairs(UX, None, Image.fromarray),
    torch_array=lambda r: Pairs(UX),
    torch_tensor=lambda r: Pairs(grey(UX)),
    torch_tensor_label=lambda r: Pairs(grey(UX), torch.tensor(UY)),
    torch_float_label=lambda r: Pairs(grey(UX) / 255, torch.tensor(UY)),
    tensor_dataset=lambda r: TensorDataset(grey(UX), torch.tensor(UY)),
    subset=lambda r: Subset(Pairs(X, Y, Image.fromarray), range(200, 200 + N)),
    subset_of_subset=lambda r: Subset(Subset(Pairs(X, Y), range(100, 400)), range(100, 100 + N)),
    iterable=lambda r: Stream(Pairs(UX, UY, Image.fromarray)),
    iterable_len=lambda r: SizedStream(Pairs(UX, UY, Image.fromarray)),
    iterable_infinite=lambda r: Stream(Pairs(grey(UX)), passes=0),
    array=lambda r: UX,
    array_float=lambda r: UX / 255,
    nchw=lambda r: UX[:, None],
    nhwc=lambda r: UX[..., None],
    tensor=lambda r: torch.tensor(UX),
    tensor_nchw_float=lambda r: grey(UX) / 255,
    arrays=lambda r: list(UX),
    tensors=lambda r: list(grey(UX)),
    pil_images=lambda r: [Image.fromarray(o) for o in UX])

RGB_KINDS = dict( # chkstyle: ignore-node (one case a line)
    folder=lambda r: r / 'unlabeled',
    il_arrays=lambda r: ImageList.from_arrays(RGB(UX)),
    grey_array=lambda r: UX,
    grey_nchw_float=lambda r: UX[:, None] / 255,
    nhwc=lambda r: RGB(UX),
    nchw=lambda r: RGB(UX).transpose(0, 3, 1, 2),
    nhwc_float=lambda r: RGB(UX) / 255,
    tensor_nhwc=lambda r: torch.tensor(RGB(UX)),
    tensor_nchw=lambda r: rgb(UX),
    tensor_nchw_float=lambda r: rgb(UX).float() / 255,
    torch_tensor_label=lambda r: Pairs(rgb(UX), UY),
    torch_pil=lambda r: Pairs(UX, None, Image.fromarray),
    iterable=lambda r: SizedStream(Pairs(rgb(UX), UY)),
    rgba=lambda r: [Image.fromarray(o).convert('RGBA') for o in UX])

WITH_LABELS = {'datasets', 'fastai_dl_labels', 'torch_pil_label', 'torch_tensor_label', 'torch_float_label', 'tensor_dataset', 'subset', 'subset_of_subset', 'iterable', 'iterable_len'}

def check_kind(root, kind, make, dls, expected):
    steps = dict(steps=2) if kind in ('iterable', 'iterable_infinite') and not hasattr(make(root), '__len__') else {}
    learn = fitted(dls, make(root), **steps)
    assert len(learn.seen.raw) == 2
    assert same_images(learn.seen.x, expected)
    assert ('guess_acc' in learn.recorder.metric_names) == (kind in WITH_LABELS)

def photo(i, mode='RGB'):
    "A picture of its own size and aspect."
    rng = np.random.default_rng(i)
    h, w = rng.integers(5, 60, 2)
    return Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)).convert(mode)

@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    d = tmp_path_factory.mktemp('photos')
    for i in range(60):
        part = 'labeled' if i < 8 else 'valid' if i < 16 else 'unlabeled'
        f = d / part / ('x' if part == 'unlabeled' else 'cat' if i % 2 else 'dog') / f'{i}.{"jpg" if i % 3 else "png"}'
        f.parent.mkdir(parents=True, exist_ok=True)
        photo(i, 'RGB' if i % 4 else 'L').save(f)
    return d

IL = ImageList.from_arrays(X, Y, img_cls=PILImageBW)

FLOAT = torch.tensor(UX)[:, None] / 255

def digit_dls(n=20, valid=30, bs=10, **kw): return IL[:200].split(n)[0].dataloaders(IL[1700:1700 + valid] if valid else None, bs=bs, **kw)

def png(folder, n=12, size=8):
    "A folder of `n` good files."
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n): Image.fromarray(X[300 + i]).resize((size, size)).save(folder / f'{i:02d}.png')
    return folder

def truncated(f, ext, keep=.6):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(f.with_suffix(ext))
    f = f.with_suffix(ext)
    f.write_bytes(f.read_bytes()[:int(keep * f.stat().st_size)])

BROKEN = dict( # chkstyle: ignore-node (one case a line)
    empty=lambda f: f.with_suffix('.png').write_bytes(b''),
    truncated_png=lambda f: truncated(f, '.png'),
    truncated_jpeg=lambda f: truncated(f, '.jpg'),
    header_only=lambda f: truncated(f, '.png', .02),
    text=lambda f: f.with_suffix('.png').write_text('not an image'),
    sixteen_bit=lambda f: Image.fromarray((X[0].astype(np.uint16) * 200)).save(f.with_suffix('.png')),
    dangling_link=lambda f: f.with_suffix('.png').symlink_to('nowhere.png'))

def message_of(f):
    "Message of the `ImageError` of `f`; nothing of its traceback stays, which would keep workers alive."
    try: f()
    except ImageError as e: return str(e)

def claimed(size):
    "A small JPEG file that claims to be `size` pixels high and wide"
    f = io.BytesIO()
    Image.fromarray(X[0]).save(f, 'jpeg')
    data = bytearray(f.getvalue())
    at = data.index(b'\xff\xc0')+5
    data[at:at+4] = size.to_bytes(2, 'big')*2
    return bytes(data)

def broken_files(d):
    "One of each kind of file that cannot be read; name → what the message says"
    Image.fromarray(RGB(X[0])).resize((64,64)).save(d/'whole.jpg')
    data = (d/'whole.jpg').read_bytes()
    (d/'truncated.jpg').write_bytes(data[:len(data)//2])
    (d/'empty.png').touch()
    (d/'text.png').write_text('not an image')
    (d/'folder.png').mkdir()
    os.mkfifo(d/'pipe.png')
    (d/'gone.png').symlink_to(d/'nowhere.png')
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8,8)*1000).save(d/'deep.png')
    Image.new('1', (20_000,20_000)).save(d/'bomb.png')
    (d/'script.png').write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n')
    (d/'large.jpg').write_bytes(claimed(13000))
    (d/'line\nbreak.png').touch()
    (d/'loop.png').symlink_to(d/'loop.png')
    (d/'unreadable.png').symlink_to('/proc/self/mem') # An error of the device; permissions do not hold for root
    Path(os.fsdecode(bytes(d)+b'/\xff\xfe.png')).write_bytes(b'')
    return {'truncated.jpg': 'runcated', 'empty.png': 'cannot identify', 'text.png': 'cannot identify', 'folder.png': 'not a regular file', 'pipe.png': 'not a regular file',
            'gone.png': 'No such file', 'loop.png': 'symbolic links', 'unreadable.png': 'Input/output error', 'deep.png': 'more than 8 bits', 'bomb.png': 'decompression bomb', 'script.png': 'cannot identify', 'large.jpg': '13000×13000 pixels', 'line\\nbreak.png': 'cannot identify', '\\udcff\\udcfe.png': 'cannot identify'}

def odd_files(d):
    "Files that can be read, with what is to be said about them"
    im = Image.fromarray(RGB(X[1])).resize((16,12))
    im.convert('CMYK').save(d/'cmyk.jpg')
    exif = Image.Exif(); exif[274] = 6
    im.save(d/'turned.jpg', exif=exif)
    im.convert('P').save(d/'palette.png', transparency=0)
    im.save(d/'moving.gif', save_all=True, append_images=[im.rotate(90), im.rotate(180)])
    im.resize((1,1)).save(d/'pixel.png')
    im.save(d/'jpeg.jpg'); (d/'jpeg.jpg').rename(d/'wrong extension.png')
    return {'cmyk.jpg': 'CMYK', 'turned.jpg': 'EXIF', 'palette.png': 'transparency', 'moving.gif': 'first of 3', 'pixel.png': 'single pixel'}

class Folder:
    "A folder, its unlabeled files, and what is wrong with them"
    def __init__(self, path, bad, odd): self.path,self.bad,self.odd,self.files = path,bad,odd,sorted((path/'unlabeled').iterdir())
    def __truediv__(self, o): return self.path/o

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    d = tmp_path_factory.mktemp('pool')
    for c in range(2):
        (d/'labeled'/str(c)).mkdir(parents=True)
        for i in range(4): Image.fromarray(RGB(X[10*c+i])).save(d/'labeled'/str(c)/f'{i}.png')
    (d/'unlabeled').mkdir()
    for i in range(100, 180): Image.fromarray(RGB(X[i])).save(d/'unlabeled'/f'good {i}.png')
    bad,odd = broken_files(d/'unlabeled'),odd_files(d/'unlabeled')
    return Folder(d, bad, odd)

def most(f):
    "Result of `f()`, and most bytes that it needs at one time: in the best of three calls, as other tests' threads are counted, too"
    import tracemalloc
    def once():
        tracemalloc.start()
        try: return f(), tracemalloc.get_traced_memory()[1]
        finally: tracemalloc.stop()
    return min((once() for _ in range(3)), key=lambda o: o[1])

def not_held(f):
    "What `f()` warns that a checkpoint does not hold, also where a test before it had the same warning"
    warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as ws:
        warnings.simplefilter('always')
        f()
    return [o for o in (str(o.message) for o in ws) if 'a checkpoint does not hold' in o]

def representatives(names, kept):
    "Cases of a test: those that are `kept` run by commit, the others by night"
    return [pytest.param(o, marks=() if o in kept else pytest.mark.nightly) for o in names]

@pytest.fixture
def quick_settings(monkeypatch):
    """A fit with checkpoints compares less at its start, which takes longer than the few steps of a test: it does not search packages for patches.
    `test_fingerprint` tests that; other tests and all processes that tests start do it"""
    monkeypatch.setattr(Unknown, 'patches', lambda self: None)

# --- the core: learners of four steps an epoch

NAMES = ['epoch','train_loss','valid_loss','accuracy','loss_x','loss_u','lambda_u','confidence','guess_acc','time']

def core_dls(bs=20, n=20, valid=60, **kw):
    "20 labeled digits and 60 to validate on"
    return IL[:200].split(n)[0].dataloaders(IL[1700:1700+valid] if valid else None, bs=bs, **kw)

def quiet(learn):
    "The same learner, without bar and table"
    if hasattr(learn, 'progress'): learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn

def core_learner(dls=None, unlabeled=None, arch=SMALL, bs=32, noisy=False, **kw):
    "A MixMatch learner that takes 4 steps an epoch"
    dls,unlabeled = core_dls() if dls is None else dls, IL[200:328] if unlabeled is None else unlabeled
    learn = mixmatch_learner(dls, unlabeled, arch, bs=bs, **kw)
    return learn if noisy else quiet(learn)

def method_learner(method, n=200, arch=small_cnn, bs=16, valid=100, **kw):
    "A learner of any method: 20 labeled digits, and `n`-20 unlabeled ones"
    set_seed(0)
    labeled,rest = IL[500:500+n].split(20, seed=0)
    return ssl_learner(labeled.dataloaders(IL[:valid], bs=bs), rest, arch, method=method, **kw)

def train(learn, epochs=1, **kw):
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs, **kw)
    return learn

def row_of(learn, epoch=-1):
    "An epoch of fastai's results table: values by the names of their columns, without those of the epoch and the time"
    return dict(zip(learn.recorder.metric_names[1:-1], learn.recorder.values[epoch]))

def column_of(learn, name): return [row_of(learn, i)[name] for i in range(len(learn.recorder.values))]

def validated(learn):
    "What `validate` gives, by name"
    return dict(zip(['valid_loss', *learn.metrics.attrgot('name')], learn.validate(), strict=True))

def method_of(learn): return next(o for o in learn.cbs if isinstance(o, SemiSupervised))

def state_of(learn): return {k: v.detach().clone() for k,v in learn.model.state_dict().items()}
def same(a, b): return a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)
def tensors(o): return None if o is None else [t.clone() for t in o]
def copied(d): return {k: v.clone() if isinstance(v, torch.Tensor) else v for k,v in d.items()}

def alike(a, b):
    "Equal, with tensors to the bit"
    if isinstance(a, torch.Tensor): return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict): return a.keys()==b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, (list,tuple)): return len(a)==len(b) and all(map(alike, a, b))
    return a==b

def torch_sets():
    "Labeled and validation set as tensors, and unlabeled images"
    x,i = torch.tensor(X/255, dtype=torch.float32)[:,None],draw_labeled(Y[:200], 20)
    return TensorDataset(x[i], torch.tensor(Y[i])), TensorDataset(x[1700:], torch.tensor(Y[1700:])), x[200:328]

class At(Callback):
    "Call `f` with the learner at `event` of training batch `n`"
    def __init__(self, event, f, n=1, order=100):
        self.order,self.f,self.n = order,f,n
        setattr(self, event, self.go)
    def go(self):
        if self.learn.iter==self.n and self.learn.training: self.f(self.learn)

def interrupt(learn): raise KeyboardInterrupt

# --- what a test looks at or stops from outside: files, the clock, other processes

_told = []

@cache
def _audit(): sys.addaudithook(lambda event, args: [f(event, args) for f in [*_told]])

@contextmanager
def events(f):
    "Call `f(event, args)` at Python's audit events in this process: files that are opened, renamed, … A hook stays until Python ends, so that there is one"
    _audit()
    pid,busy = os.getpid(),[]
    def here(*args):
        if busy or os.getpid()!=pid: return # `f` itself may open files
        busy.append(1)
        try: f(*args)
        finally: busy.clear()
    _told.append(here)
    try: yield
    finally: _told.remove(here)

@contextmanager
def opened(folder, end='.jpg'):
    "A list of the files below `folder` that are opened, as often as they are"
    res = []
    def note(event, args):
        if event=='open' and str(args[0]).startswith(str(folder)) and str(args[0]).endswith(end): res.append(Path(args[0]))
    with events(note): yield res

@contextmanager
def ctrl_c_at(event, name):
    "Ctrl-C when a file is about to be opened (or what else `event` says) the first time: by a part of its path, or a function that tells which"
    left,which = [1],name if callable(name) else lambda o: name in o
    def press(e, args):
        if e==event and left and which(str(args[0])):
            left.clear()
            signal.raise_signal(signal.SIGINT)
    with events(press): yield
    assert not left, f'no {event} of {name}'

class Ticks:
    "The machine's clock, which goes on by a fifth of a second when it is read: what else runs there plays no part. Ctrl-C when it shows `stop`"
    t,stop = 0.,math.inf
    def monotonic(self):
        self.t += .2
        if self.t>=self.stop:
            self.stop = math.inf
            signal.raise_signal(signal.SIGINT)
        return self.t

@pytest.fixture
def clock(monkeypatch):
    res = Ticks()
    monkeypatch.setattr(time, 'monotonic', res.monotonic)
    return res

@contextmanager
def in_group(learn, rank, world):
    "`learn` as in process `rank` of `world`. There are no others: PyTorch's own backend for tests stands for the network between them"
    from torch.testing._internal.distributed.fake_pg import FakeStore
    net = learn.model
    torch.distributed.init_process_group('fake', rank=rank, world_size=world, store=FakeStore())
    learn.model = DistributedDataParallel(net)
    try: yield
    finally:
        learn.model = net
        torch.distributed.destroy_process_group()

def on_rank(dl, rank, world, monkeypatch):
    "`dl` as process `rank` of `world`. PyTorch sends nothing: what process 0 would send is what this one drew, by the same seed"
    monkeypatch.setattr(torch.distributed, 'broadcast_object_list', noop)
    dl.rank,dl.world = rank,world
    return dl

SCRIPT = '''
import warnings; warnings.simplefilter('ignore')
import matplotlib; matplotlib.use('Agg')
from fastai.vision.all import *
from fastai_mixmatch.all import *
x,y = digits_arrays()
x = x/255
il = ImageList.from_arrays(x, y, img_cls=PILImageBW)
dls = il[:200].split(20)[0].dataloaders(il[1700:1760], bs=20)
learn = mixmatch_learner(dls, il[200:328], partial(small_cnn, width=8), bs=32)
'''

def own_env(**kw):
    "Environment for a Python process that imports this checkout"
    return dict(os.environ, OMP_NUM_THREADS='1', MPLBACKEND='Agg', PYTHONPATH=str(Path(__file__).parent.parent), **kw)

@cache
def forks():
    "A process that has imported the libraries, for all tests of this one: it starts Python programs as forks of itself"
    server = Server()
    atexit.register(server.close)
    return server

class CpuPrecision(MixedPrecision):
    "fastai's mixed precision on the CPU: PyTorch's own scaler, in float32; the loss overflows once it is scaled by 2**108"
    def before_fit(self):
        self.autocast,self.learn.scaler,self.scales = nullcontext(),torch.amp.GradScaler('cpu', **self.kwargs),L()
    def before_backward(self): self.learn.loss_grad = self.scaler.scale(self.loss_grad*2.**20)

class Scaled(Callback):
    "Scale, number of good steps since it grew, and whether the step was skipped, after each step"
    run_valid = False
    def __init__(self): self.seen = []
    def after_batch(self):
        s = self.learn.scaler.state_dict() or dict(scale=1., _growth_tracker=0)
        self.seen.append((s['scale'], s['_growth_tracker'], self.learn.cpu_precision.skipped))

def open_to(cls, **defaults): return lambda **k: cls(**{**defaults, **k})

def noisy_student(**kw):
    "With a teacher that was trained for no time at all, but always in the same way"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return NoisyStudent(**{'trained': small_cnn(1, 10), **kw})

METHODS = dict(mixup=MixUpLabeled, entropy=EntropyMin, pi=PiModel, vat=VAT, mean_teacher=MeanTeacher, ict=ICT,
    pseudo=open_to(PseudoLabel, threshold=.2), fix=open_to(FixMatch, threshold=.2), uda=open_to(UDA, threshold=.2), flex=FlexMatch, free=FreeMatch,
    soft=SoftMatch, remix=open_to(ReMixMatch, ks=2), ada=AdaMatch, defix=open_to(DeFixMatch, threshold=.2), student=noisy_student)
