"Whatever holds the unlabeled images, training reads all of them, once an epoch, exactly as it reads the labeled ones."
import collections, itertools, json, numpy as np, pandas as pd, pickle, pytest, random, torch, warnings
from fastai.callback.data import WeightedDL
from fastai.vision.all import (Callback, Categorize, CategoryBlock, DataBlock, DataLoader as FastaiDL, DataLoaders, Datasets, Image, ImageBlock,
    ImageDataLoaders, IntToFloatTensor, ItemGetter, L, Normalize, Path, PILImage, PILImageBW, Pipeline, ProgressCallback, RandomResizedCrop,
    RandTransform, Resize, TensorImage, TfmdLists, ToTensor, Transform, aug_transforms, get_image_files, image2tensor, noop, parent_label, set_seed)
from fastai_mixmatch import data
from fastai_mixmatch.all import ImageList, digits_arrays, mixmatch_learner, small_cnn
from fastai_mixmatch.data import ArrayPool, LabeledDL, Split, UnlabeledDL, draw_labeled, overlap
from fastai_mixmatch.views import BatchViews
from functools import partial
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler, TensorDataset, WeightedRandomSampler

X,Y = digits_arrays()
N = 50                                            # unlabeled images: two batches of 25
UX, UY = X[200:200 + N], Y[200:200 + N]
SMALL = partial(small_cnn, width=8)
RGB = lambda x: np.repeat(x[..., None], 3, -1)

# --- what the tests share

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
    def before_fit(self): self.raw, self.ys = [], []
    def before_batch(self):
        if self.training: self.raw.append([o.clone() for o in self.xb[0]]), self.ys.append(self.yb[0])
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

# --- every kind of `unlabeled`

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

@pytest.mark.parametrize('kind', KINDS)
def test_kinds_grey(root, kind): check_kind(root, kind, KINDS[kind], from_folder(root), grey(UX))

@pytest.mark.parametrize('kind', RGB_KINDS)
def test_kinds_rgb(root, kind): check_kind(root, kind, RGB_KINDS[kind], from_folder(root, PILImage), rgb(UX))

@pytest.mark.parametrize('kind', ['folder', 'column', 'datasets', 'torch_tensor', 'array_float', 'tensor', 'iterable_len'])
def test_kinds_pass_through_the_labeled_item_transforms(root, kind):
    "Resized by the same `Resize`: the tensor of the labeled set's own pipeline, for each image."
    dls = from_folder(root, item_tfms=Resize(12))
    expected = torch.stack([dls.train.after_item((PILImageBW.create(f),))[0] for f in files(root)])
    assert expected.shape == (N, 1, 12, 12) and not torch.equal(expected[0, 0, :8, :8], grey(UX)[0, 0])
    check_kind(root, kind, KINDS[kind], dls, torch.Tensor(expected.float()).to(torch.uint8))

@pytest.mark.parametrize('dtype', [torch.float32, torch.uint8])
def test_labeled_set_of_tensors(dtype):
    "Where PyTorch loaders of tensors are the labeled set, unlabeled tensors are used as they are."
    expected = grey(UX) / 255 if dtype.is_floating_point else grey(UX)
    dls = tensor_dls(dtype)
    if dtype == torch.uint8:
        with pytest.raises(TypeError, match='needs floats'): learner(dls, expected)
        return
    for u in (expected, expected.numpy(), TensorDataset(expected, torch.tensor(UY)), Pairs(expected.numpy(), UY), ImageList(expected),
              SizedStream(TensorDataset(expected))):
        learn = fitted(dls, u)
        assert same_images(learn.seen.x, expected)

def test_batch_transforms_for_images_leave_plain_tensors_alone():
    "fastai's `IntToFloatTensor` and `Normalize` act on `TensorImage` only, on both streams alike."
    dl = FastaiDL(Pairs(grey(UX).float(), UY), bs=4, after_batch=Pipeline([IntToFloatTensor(), Normalize.from_stats([.5], [.2], cuda=False)]))
    x = grey(UX[:4]).float()
    view = BatchViews(dl, x, weak=False)
    assert torch.equal(view(x), x)
    view = BatchViews(dl, TensorImage(x), weak=False)
    a = view(x)
    assert torch.allclose(a, (x / 255 - .5) / .2) and torch.equal(a, view(x)), 'a view must not change the batch that it is made of'

def test_data_frame_labeled_set(root):
    "Names in a column are completed as the labeled set's `ColReader` completes them."
    fs = sorted((root / 'labeled').rglob('*.png'))
    df = pd.DataFrame(dict(name=[o.with_suffix('').relative_to(root).as_posix() for o in fs], label=[o.parent.name for o in fs]))
    dls = ImageDataLoaders.from_df(df, root, suff='.png', valid_pct=.2, bs=8, seed=3, y_block=CategoryBlock(vocab=list('0123456789')))
    df_u = pd.DataFrame(dict(name=[o.with_suffix('').relative_to(root).as_posix() for o in files(root)]))
    dl = UnlabeledDL(df_u.name, dls, bs=50)
    assert same_images(next(iter(dl))[0][0], rgb(UX))
    dl = UnlabeledDL(df_u.name.map(lambda o: str(root / o) + '.png'), dls, bs=50)
    assert same_images(next(iter(dl))[0][0], rgb(UX))
    valid = [o for o in dls.valid_ds.items.name]
    assert overlap(ImageList([root / f'{o}.png' for o in valid] + files(root)), dls) == len(valid) == 4

def test_own_transforms_of_the_labeled_set(root):
    "What the labeled set does beside opening a file is done to unlabeled files and arrays too."
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=lambda p: get_image_files(p / 'labeled'),
        get_x=Pipeline([read_array, invert]), get_y=parent_label)
    dls = block.dataloaders(root, bs=25, num_workers=0)
    for u in (files(root), UX): assert same_images(next(iter(UnlabeledDL(u, dls, bs=N)))[0][0], grey(255 - UX))

# --- labels of the unlabeled set

@pytest.mark.parametrize('kw', [dict(), dict(cache=False), dict(item_tfms=RandomResizedCrop(8, min_scale=.5))], ids=['cached', 'streamed', 'random items'])
def test_labels_of_unlabeled_images_never_reach_training(root, kw):
    tfms, kw = kw.get('item_tfms'), {k: v for k, v in kw.items() if k != 'item_tfms'}
    def run(labels):
        set_seed(7)
        learn = fitted(from_folder(root, item_tfms=tfms), ImageList(files(root), labels=labels), epochs=2, **kw)
        return learn, weights(learn)
    (none, w), (right, w1), (wrong, w2) = run(None), run(list(map(str, UY))), run([str((i + 1) % 10) for i in UY])
    assert equal(w, w1) and equal(w, w2)
    assert 'guess_acc' not in none.recorder.metric_names
    col = right.recorder.metric_names.index('guess_acc') - 1
    accs = [[v[col] for v in o.recorder.values] for o in (right, wrong)]
    assert accs[0] != accs[1] and all(0 <= o <= 1 for a in accs for o in a)

def test_labels_are_matched_by_name(root):
    "Other order, unknown classes, no label: the index is that of the labeled set, or -1."
    dls = from_folder(root)
    ys = lambda u: UnlabeledDL(u, dls, bs=N).pool.load().y.tolist()
    names = dict(zip(range(10), 'jihgfedcba'))
    ds = Pairs(UX, 9 - UY, Image.fromarray)
    ds.classes = list('9876543210')
    assert ys(ds) == UY.tolist() and ys(Subset(ds, range(N))) == UY.tolist()
    ds.classes = [f'{i} - name' for i in range(10)]               # nothing in common: indices
    ds.y = UY
    assert ys(ds) == UY.tolist()
    assert ys(ImageList.from_arrays(UX, [names[i] for i in UY])) == [-1] * N
    assert ys(ImageList.from_arrays(UX, [str(i) if i < 5 else None for i in UY])) == [i if i < 5 else -1 for i in UY]
    ds = Datasets(list(range(N)), [[lambda i: PILImageBW.create(UX[i])], [lambda i: 'x' if UY[i] == 0 else str(UY[i]), Categorize]])
    assert ys(ds) == [i or -1 for i in UY], 'the vocabulary is not that of the labeled set'
    for y in (np.float64(.5), torch.tensor([1., 2]), None, 'zzz', -3): assert set(ys(Pairs(UX, [y] * N, Image.fromarray))) == {-1}

def test_guess_acc_is_the_accuracy_of_the_guesses(root):
    "The column against the guesses themselves, half of the labels missing."
    learn = learner(from_folder(root), ImageList(files(root), labels=[str(y) if y < 5 else None for y in UY]))
    method, hits = learn.mix_match, []
    note = method.note_guesses
    def spy(q): note(q); hits.append((q.argmax(1) == method.truth)[method.truth >= 0])
    method.note_guesses = spy
    learn.fit(1, 2e-3)
    got = learn.recorder.values[-1][learn.recorder.metric_names.index('guess_acc') - 1]
    assert sum(map(len, hits)) == (UY < 5).sum() and got == pytest.approx(torch.cat(hits).float().mean().item())

# --- the streams

@pytest.mark.parametrize('n,bs', [(50, 25), (50, 16), (49, 16), (17, 16), (5, 16), (2, 1), (1, 4)])
@pytest.mark.parametrize('cache', [True, False])
def test_a_pass_gives_each_image_once(root, n, bs, cache):
    "A last batch of one image joins the batch before it."
    dl = UnlabeledDL(UX[:n] if cache else files(root)[:n], from_folder(root), bs=bs)
    for _ in range(2):
        got = list(dl)
        assert len(got) == len(dl) and same_images(torch.cat([x[0] for x, _ in got]), grey(UX[:n]))
        assert min(map(len, [y for _, y in got])) > 1 or bs == 1 or n == 1
    if n > 16: assert not torch.equal(torch.cat([x[0] for x, _ in dl]), torch.cat([x[0] for x, _ in dl])), 'each pass has its own order'

@pytest.mark.parametrize('cache', [True, False])
def test_labeled_images_are_repeated_evenly(root, cache):
    "20 labels fill batches of 64, and after each 20 draws every image was drawn equally often."
    dl = LabeledDL(from_folder(root), bs=64, cache=cache)
    got = list(itertools.islice(dl, 10))
    assert {tuple(x.shape) for (x,), _ in got} == {(64, 1, 8, 8)}
    xs = torch.cat([x for (x,), _ in got])
    for i in range(0, 640, 20): assert len({o.numpy().tobytes() for o in xs[i:i + 20]}) == 20
    assert torch.bincount(torch.cat([y for _, y in got])).tolist() == [64] * 10

def test_labeled_order_is_the_loader_s_own(root):
    "Weights of a `WeightedDL` and of a PyTorch sampler hold."
    il = ImageList.from_arrays(X[:200], Y[:200], img_cls=PILImageBW)
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock(vocab=list(range(10)))), get_x=ItemGetter(0), get_y=ItemGetter(1),
        splitter=lambda o: (list(range(200)), []))
    w = np.where(Y[:200] == 3, 1., .1)
    dls = block.datasets(list(zip(il.items, il.labels))).weighted_dataloaders(w, bs=25, after_item=ToTensor())
    assert isinstance(dls.train, WeightedDL)
    expected = w[Y[:200] == 3].sum() / w.sum()
    share = lambda dls: (torch.cat([y for _, y in itertools.islice(LabeledDL(dls, bs=100), 20)]) == 3).float().mean().item()
    assert abs(share(dls) - expected) < .05 and expected > .3
    t = Pairs(grey(X[:200]).float() / 255, Y[:200])
    dls = DataLoaders(DataLoader(t, 25, sampler=WeightedRandomSampler(w, 200)), DataLoader(t, 25))
    assert abs(share(dls) - expected) < .05
    dls = DataLoaders(DataLoader(t, batch_sampler=[[0, 1], [1, 2]]), DataLoader(t, 25))
    assert torch.cat([y for _, y in itertools.islice(LabeledDL(dls, bs=2), 4)]).tolist() == Y[[0, 1, 1, 2, 0, 1, 1, 2]].tolist()

def test_the_user_s_dls_is_left_alone(root):
    dls = from_folder(root, item_tfms=[Resize(8)], batch_tfms=[*aug_transforms(size=8), Normalize.from_stats([.5], [.2], cuda=False)], bs=7)
    def settings(f): return {k: v for k, v in vars(f).items() if not isinstance(f, RandTransform) and k in ('order', 'split_idx', 'size', 'mean', 'std')}
    def state():
        list(dls.train), list(dls.valid)              # fastai sets `split_idx` of the pipelines as it passes over the data
        loaders = [(id(dl), id(dl.dataset), dl.bs, len(dl), dl.n, dl.shuffle, dl.drop_last, dl.split_idx, dl.num_workers) for dl in dls.loaders]
        pipes = [(p.split_idx, [id(f) for f in p.fs], repr([settings(f) for f in p.fs])) for dl in dls.loaders
            for p in (dl.after_item, dl.before_batch, dl.after_batch)]
        return loaders, pipes, dls.path, dls.device, len(dls.train_ds), list(dls.vocab), dls.train_ds.tls[0].tfms.split_idx
    before, x0 = state(), [x.clone() for x, _ in dls.valid]
    learn = fitted(dls, root / 'unlabeled')
    assert learn.dls is dls and state() == before and all(map(torch.equal, x0, [x for x, _ in dls.valid]))
    assert next(iter(dls.train))[0].shape == (7, 1, 8, 8) and len(list(dls.train)) == len(dls.train)
    arr, t = UX.copy(), grey(UX)
    arr.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fitted(from_folder(root), arr), fitted(from_folder(root), t)
    assert torch.equal(t, grey(UX))

def test_memory_mapped_arrays_are_not_copied(root, tmp_path, monkeypatch):
    np.save(tmp_path / 'x.npy', RGB(UX))
    x = np.load(tmp_path / 'x.npy', mmap_mode='r')
    monkeypatch.setattr(data, 'CACHE_LIMIT', 100)
    dl = UnlabeledDL(x, from_folder(root, PILImage), bs=N)
    assert isinstance(dl.pool, ArrayPool) and dl.pool.x.data_ptr() == x.ctypes.data
    assert same_images(next(iter(dl))[0][0].contiguous(), rgb(UX))
    assert ImageList(x)[10:].items.ctypes.data == x[10:].ctypes.data

# --- images of all sizes, few and many classes

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

@pytest.mark.parametrize('img_cls', [PILImage, PILImageBW])
@pytest.mark.parametrize('tfm', [lambda: Resize(16), lambda: Resize((12, 20), method='squish'), lambda: RandomResizedCrop(16)], ids=['crop', 'squish', 'random crop'])
def test_any_size_and_aspect_grey_or_color(photos, img_cls, tfm):
    tfm = tfm()
    dls = from_folder(photos, img_cls, item_tfms=tfm, bs=8)
    learn = fitted(dls, photos / 'unlabeled', bs=11)
    is_random, raw = getattr(tfm, 'method', '') != 'squish', learn.seen.raw     # in training, fastai's `Resize` crops at random
    assert {len(o) for o in raw} == {2 if is_random else 1} and sum(len(o[0]) for o in raw) == 44
    assert {tuple(v.shape[1:]) for o in raw for v in o} == {(3 if img_cls is PILImage else 1, *((12, 20) if getattr(tfm, 'method', '') == 'squish' else (16, 16)))}
    assert learn.mix_match.view.weak is not None, 'views need a random batch transform'
    if isinstance(tfm, RandomResizedCrop): assert np.mean([not torch.equal(a, b) for o in raw for a, b in zip(*o)]) > .9     # small pictures have few crops
    elif is_random: assert any(not torch.equal(a, b) for o in raw for a, b in zip(*o))
    else: assert same_images(learn.seen.x, torch.stack([torch.Tensor(dls.train.after_item((img_cls.create(f),))[0]) for f in get_image_files(photos / 'unlabeled')]))

def test_drawing_is_not_yet_random(root, photos):
    "`Resize` draws where to crop and takes all of a square image: read once, kept in memory. Of other shapes, it takes another part each time."
    assert not UnlabeledDL(root / 'unlabeled', from_folder(root, item_tfms=Resize(12))).pool.random
    assert UnlabeledDL(photos / 'unlabeled', from_folder(photos, item_tfms=Resize(12))).pool.random
    class Rarely(Transform):
        split_idx = 0
        def encodes(self, o: PILImageBW): return o.transpose(Image.FLIP_LEFT_RIGHT) if random.random() < .2 else o
    assert UnlabeledDL(root / 'unlabeled', from_folder(root, item_tfms=Rarely())).pool.random

@pytest.mark.parametrize('k', [1, 2, 3])
def test_random_item_transforms_give_k_reads(photos, k):
    learn = fitted(from_folder(photos, item_tfms=RandomResizedCrop(8), bs=8), photos / 'unlabeled', bs=22, k=k)
    assert all(len(o) == k and len({v.numpy().tobytes() for v in o}) == k for o in learn.seen.raw)

def test_two_classes_and_a_thousand(photos):
    learn = fitted(from_folder(photos, item_tfms=Resize(8)), photos / 'unlabeled')
    assert learn.mix_match.labeled_dl.c == 2 and learn.model(torch.zeros(1, 1, 8, 8)).shape == (1, 2)
    x = np.random.default_rng(0).integers(0, 256, (1000, 6, 6), dtype=np.uint8)
    il = ImageList.from_arrays(x, range(1000), img_cls=PILImageBW)
    learn = fitted(il.dataloaders(il[:20], bs=64), il[::20], bs=25)
    assert learn.mix_match.labeled_dl.c == 1000 and learn.mix_match.class_counts.tolist() == [1] * 1000 and len(learn.seen.raw) == 2

@pytest.mark.parametrize('size', [(1, 1), (1, 9), (9, 2)])
def test_tiny_images(size):
    x = np.random.default_rng(0).integers(0, 256, (40, *size), dtype=np.uint8)
    il = ImageList.from_arrays(x, np.arange(40) % 2, img_cls=PILImageBW)
    fitted(il[:10].dataloaders(il[10:20], bs=5), il[20:], bs=10)

# --- memory or streaming

@pytest.mark.parametrize('kind', ['folder', 'il_own_tfms', 'torch_pil_label', 'tfmd_lists', 'iterable_len'])
def test_streaming_by_workers_gives_what_is_cached(root, kind):
    dls = from_folder(root)
    a = next(iter(UnlabeledDL(KINDS[kind](root), dls, bs=N)))
    dl = UnlabeledDL(KINDS[kind](root), dls, bs=20, num_workers=2)
    for _ in range(2):
        got = list(dl)
        assert [len(y) for _, y in got] == [20, 20, 10] and same_images(torch.cat([x[0] for x, _ in got]), a[0][0])
        pairs = lambda x, y: sorted((o.numpy().tobytes(), int(i)) for o, i in zip(x, y))
        assert pairs(torch.cat([x[0] for x, _ in got]), torch.cat([y for _, y in got])) == pairs(a[0][0], a[1]), 'labels stay with their images'

def test_streaming_the_labeled_set_by_workers(root):
    got = list(itertools.islice(LabeledDL(from_folder(root), bs=30, cache=False, num_workers=2), 4))
    assert same_images(torch.cat([x for (x,), _ in got])[:20], LabeledDL(from_folder(root)).pool.load().x)

def test_pools_pickle(root, photos):
    "Worker processes that are spawned, as on macOS, get the pool by pickle."
    dls = from_folder(root)
    for kind in ('folder', 'il_own_tfms', 'torch_tensor_label', 'datasets_no_label', 'iterable_len'):
        pool = UnlabeledDL(KINDS[kind](root), dls).pool
        new = pickle.loads(pickle.dumps(pool))
        assert torch.equal(next(iter(new))[0][0], next(iter(pool))[0][0]), kind
    pool = LabeledDL(dls).pool
    assert torch.equal(pickle.loads(pickle.dumps(pool))[3][0][0], pool[3][0][0])

@pytest.mark.parametrize('cache,limit,kept', [(True, 0, True), (False, 2**30, False), (None, N * 64, True), (None, N * 64 - 1, False)])
def test_what_is_kept_in_memory(root, monkeypatch, cache, limit, kept):
    "The argument decides; without it, the bytes of the decoded images against `CACHE_LIMIT`."
    monkeypatch.setattr(data, 'CACHE_LIMIT', limit)
    learn = fitted(from_folder(root), root / 'unlabeled', cache=cache)
    pool = learn.mix_match.dl.pool
    assert learn.mix_match.dl.cache == kept == (pool.x is not None)
    assert pool.nbytes == N * 64 and same_images(learn.seen.x, grey(UX))
    assert (learn.mix_match.labeled_dl.pool.x is not None) == (cache if cache is not None else 20 * 64 <= limit)

def test_a_pool_in_memory_is_read_once(root):
    class Count(Pairs):
        reads = collections.Counter()
        def __getitem__(self, i): self.reads[i] += 1; return super().__getitem__(i)
    for cache in (True, False):
        Count.reads.clear()
        learn = learner(from_folder(root), Count(UX, None, Image.fromarray), cache=cache)
        learn.fit(1)
        first = Count.reads.copy()
        learn.fit(2)
        assert sum((Count.reads - first).values()) == (0 if cache else 2 * N)

def test_an_epoch_of_steps_goes_on_where_the_last_ended(root):
    "An iterable without length and 2 batches an epoch: the next epoch continues; at its end the data start again."
    learn = fitted(from_folder(root), Stream(Pairs(grey(UX))), epochs=3, steps=1, bs=20)
    order = lambda x: [o.numpy().tobytes() for o in x]
    got = [order(r[0]) for r in learn.seen.raw]
    want = order(grey(UX))
    assert [len(o) for o in got] == [20, 20, 10] and sum(got, []) == want
    learn.fit(1)
    assert order(learn.seen.raw[0][0]) == want[:20]
    dl = UnlabeledDL(SizedStream(Pairs(grey(UX))), from_folder(root), bs=49)
    assert [len(y) for _, y in dl] == [49], 'no batch of one image'

# --- splits

def test_splits_are_the_same_on_every_machine(tmp_path):
    "The indices of seed 0, as numbers: what differs here would differ between machines or versions."
    assert draw_labeled(Y, 20) == [93, 253, 351, 364, 548, 655, 657, 732, 744, 919, 981, 999, 1078, 1244, 1270, 1293, 1337, 1360, 1461, 1637]
    assert draw_labeled(Y, 13) == [375, 378, 574, 656, 738, 744, 910, 1031, 1237, 1244, 1304, 1317, 1482]
    assert draw_labeled(Y, 8, balanced=False) == [82, 530, 788, 861, 995, 1047, 1552, 1729]
    assert draw_labeled((9 - Y).tolist(), 13) == [334, 346, 539, 675, 701, 782, 919, 1046, 1192, 1280, 1306, 1309, 1475], 'classes in their order, not in that of the images'
    for labels in (Y.tolist(), list(map(str, Y)), torch.tensor(Y)): assert draw_labeled(labels, 20) == draw_labeled(Y, 20)
    assert draw_labeled(Y, 20, seed=1) != draw_labeled(Y, 20)
    il = ImageList([Path('/a/b') / f'{c}/{i}.png' for c in 'xy' for i in range(4)], labels=list('xxxxyyyy'))
    assert (il.choose(3), il.digest()) == (Split([3, 4, 5], 8, '10f9da9995543457', 0, True), '10f9da9995543457')
    f = il.choose(3).save(tmp_path / 's.json')
    assert json.loads(f.read_text()) == dict(format=1, labeled=[3, 4, 5], total=8, digest='10f9da9995543457', seed=0, balanced=True)
    elsewhere = ImageList([Path('/c') / f'{c}/{i}.png' for c in 'xy' for i in range(4)], labels=il.labels)
    for o in (il, elsewhere, ImageList(elsewhere.items, labels=il.labels, root='/c')):
        a, b = o.split(f)
        assert ([o.items.index(p) for p in a.items], a.labels, len(b)) == ([3, 4, 5], list('xyy'), 5) and not set(a.items) & set(b.items)

def test_a_split_of_other_images_is_refused(tmp_path):
    names = [f'{i}.png' for i in range(10)]
    il = ImageList(names, labels=[0, 1] * 5, root='.')
    f = il.choose(4).save(tmp_path / 's.json')
    for other in (il[:9], il[::-1], ImageList([*names[:9], 'x.png'], labels=il.labels, root='.'), ImageList(names, labels=il.labels, root='..')):
        with pytest.raises(ValueError, match='made for 10 other images') as e: other.split(f)
        assert il.digest() in str(e.value) and other.digest() in str(e.value)
    (tmp_path / 'no.json').write_text('{"format": 2}')
    with pytest.raises(ValueError, match='not a split'): il.split(tmp_path / 'no.json')
    assert il.split(np.int64(4))[0].items == il.split(4)[0].items == il.split(f)[0].items

def test_draws_balanced_or_not():
    for n in (10, 37, 500): assert np.ptp(np.bincount(Y[draw_labeled(Y, n)])) <= 1
    assert len(set(draw_labeled(Y, 1797, balanced=False))) == 1797
    counts = np.bincount(np.concatenate([Y[draw_labeled(Y, 10, seed=s, balanced=False)] for s in range(50)]))
    assert counts.min() > 20, 'a random draw takes from all classes'

# --- ImageList

def test_image_list_is_a_list(root):
    il = ImageList.from_folder(root / 'labeled', label_func=parent_label)
    assert len(il) == 20 and il.items == sorted(il.items) and il.labels == [o.parent.name for o in il.items] and list(il.vocab) == list('0123456789')
    mask = [i % 3 == 0 for i in range(20)]
    for idx in (slice(2, 9), slice(None, None, -1), mask, np.array(mask), torch.tensor(mask), [5, 1, 5], np.array([5, 1]), L(3, 4), range(4), []):
        want = np.arange(20)[list(idx) if not isinstance(idx, slice) else idx] if len(range(20)[idx] if isinstance(idx, slice) else list(idx)) else []
        sub = il[idx]
        assert type(sub) is ImageList and sub.vocab == il.vocab
        assert list(sub.items) == [il.items[i] for i in want] and sub.labels == [il.labels[i] for i in want]
    assert il[3] == il.items[3] and il[-1] == il.items[-1] and list(il) == list(il.items) and il.copy().labels == il.labels
    arr = ImageList.from_arrays(X[:20], Y[:20], img_cls=PILImageBW)
    sub = arr[mask][1:]
    assert np.array_equal(sub.items, X[:20][mask][1:]) and sub.labels == Y[:20][mask][1:].tolist() and sub.open(0).mode == 'L'

@pytest.mark.parametrize('own', [False, True])
def test_image_list_pickles(root, own):
    tfms = Resize(9) if own else None
    for il in (ImageList.from_folder(root / 'labeled', label_func=parent_label, tfms=tfms, k=2), ImageList.from_arrays(X[:9], Y[:9], tfms=tfms)):
        new = pickle.loads(pickle.dumps(il))
        assert type(new) is ImageList and len(new) == len(il) and new.labels == il.labels and new.vocab == il.vocab and new.digest() == il.digest()
        assert all(map(torch.equal, new[1][:-1], il[1][:-1])) if own else np.array_equal(new.open(1), il.open(1))

def test_k_augmentations_in_a_torch_loader(root):
    "Alone in PyTorch's DataLoader, by worker processes: k different views of each item, and its label."
    il = ImageList.from_folder(root / 'labeled', label_func=parent_label, tfms=RandomResizedCrop(16, min_scale=.3), k=3, img_cls=PILImageBW)
    for workers in (0, 2):
        got = list(DataLoader(il, batch_size=8, num_workers=workers))
        assert [len(o) for o in got] == [4] * 3
        views, ys = [torch.cat([b[i] for b in got]) for i in range(3)], torch.cat([b[3] for b in got])
        assert {(type(o), tuple(o.shape), o.dtype) for o in views} == {(torch.Tensor, (20, 1, 16, 16), torch.uint8)}
        assert all(len({v[i].numpy().tobytes() for v in views}) == 3 for i in range(20))
        assert [il.vocab[int(i)] for i in ys] == il.labels
    again = torch.cat([b[0] for b in DataLoader(il, batch_size=8, num_workers=2)])
    assert not torch.equal(views[0], again), 'every pass draws anew'
    assert [len(o) for o in il] == [4] * 20, 'a loop over the list gives the items that indexing gives'

def test_one_random_draw_is_one_view(root):
    "The views of `emit` are draws of the transforms that fastai makes of the same file."
    f, tfm = files(root)[0], RandomResizedCrop(16, min_scale=.3)
    set_seed(3)
    a = ImageList([f], tfms=tfm, k=2)[0]
    set_seed(3)
    b = [image2tensor(tfm(PILImage.create(f), split_idx=0)) for _ in range(2)]
    assert all(map(torch.equal, a, b))
