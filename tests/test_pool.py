"Read as the labeled set is; decoded once where that is enough."
import collections, itertools, json, numpy as np, os, pandas as pd, pickle, pytest, random, torch, warnings
from helpers import *

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

def test_data_frame_labeled_set(root):
    "Names in a column are completed as the labeled set's `ColReader` completes them."
    fs = sorted((root / 'labeled').rglob('*.png'))
    df = pd.DataFrame(dict(name=[o.with_suffix('').relative_to(root).as_posix() for o in fs], label=[o.parent.name for o in fs]))
    dls = ImageDataLoaders.from_df(df, root, suff='.png', valid_pct=.2, bs=8, seed=3, y_block=CategoryBlock(vocab=list('0123456789')))
    df_u = pd.DataFrame(dict(name=[o.with_suffix('').relative_to(root).as_posix() for o in files(root)]))
    dl = unlabeled_dl(df_u.name, dls, bs=50)
    assert same_images(next(iter(dl))[0][0], rgb(UX))
    dl = unlabeled_dl(df_u.name.map(lambda o: str(root / o) + '.png'), dls, bs=50)
    assert same_images(next(iter(dl))[0][0], rgb(UX))
    valid = [o for o in dls.valid_ds.items.name]
    assert overlap(ImageList([root / f'{o}.png' for o in valid] + files(root)), dls) == len(valid) == 4

def test_own_transforms_of_the_labeled_set(root):
    "What the labeled set does beside opening a file is done to unlabeled files and arrays too."
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=lambda p: get_image_files(p / 'labeled'),
        get_x=Pipeline([read_array, invert]), get_y=parent_label)
    dls = block.dataloaders(root, bs=25, num_workers=0)
    for u in (files(root), UX): assert same_images(next(iter(unlabeled_dl(u, dls, bs=N)))[0][0], grey(255 - UX))

def test_labels_are_matched_by_name(root):
    "Other order, unknown classes, no label: the index is that of the labeled set, or -1."
    dls = from_folder(root)
    ys = lambda u: unlabeled_dl(u, dls, bs=N).pool.load().y.tolist()
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

def test_memory_mapped_arrays_are_not_copied(root, tmp_path, monkeypatch):
    np.save(tmp_path / 'x.npy', RGB(UX))
    x = np.load(tmp_path / 'x.npy', mmap_mode='r')
    monkeypatch.setattr(pool_module, 'CACHE_LIMIT', 100)
    dl = unlabeled_dl(x, from_folder(root, PILImage), bs=N)
    assert isinstance(dl.pool, ArrayPool) and dl.pool.x.data_ptr() == x.ctypes.data
    assert same_images(next(iter(dl))[0][0].contiguous(), rgb(UX))
    assert ImageList(x)[10:].items.ctypes.data == x[10:].ctypes.data

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
    assert not unlabeled_dl(root / 'unlabeled', from_folder(root, item_tfms=Resize(12))).pool.random
    assert unlabeled_dl(photos / 'unlabeled', from_folder(photos, item_tfms=Resize(12))).pool.random
    class Rarely(Transform):
        split_idx = 0
        def encodes(self, o: PILImageBW): return o.transpose(Image.FLIP_LEFT_RIGHT) if random.random() < .2 else o
    assert unlabeled_dl(root / 'unlabeled', from_folder(root, item_tfms=Rarely())).pool.random

@pytest.mark.parametrize('k', [1, 2, 3])
def test_random_item_transforms_give_k_reads(photos, k):
    learn = fitted(from_folder(photos, item_tfms=RandomResizedCrop(8), bs=8), photos / 'unlabeled', bs=22, k=k)
    assert all(len(o) == k and len({v.numpy().tobytes() for v in o}) == k for o in learn.seen.raw)

def test_pools_pickle(root, photos):
    "Worker processes that are spawned, as on macOS, get the pool by pickle."
    dls = from_folder(root)
    for kind in ('folder', 'il_own_tfms', 'torch_tensor_label', 'datasets_no_label', 'iterable_len'):
        pool = unlabeled_dl(KINDS[kind](root), dls).pool
        new = pickle.loads(pickle.dumps(pool))
        assert torch.equal(next(iter(new))[0][0], next(iter(pool))[0][0]), kind
    pool = LabeledDL(dls).pool
    assert torch.equal(pickle.loads(pickle.dumps(pool))[3][0][0], pool[3][0][0])

@pytest.mark.parametrize('cache,limit,kept', [(True, 0, True), (False, 2**30, False), (None, N * 64, True), (None, N * 64 - 1, False)])
def test_what_is_kept_in_memory(root, monkeypatch, cache, limit, kept):
    "The argument decides; without it, the bytes of the decoded images against `CACHE_LIMIT`."
    monkeypatch.setattr(pool_module, 'CACHE_LIMIT', limit)
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

@pytest.mark.parametrize('workers', [0, 1])
def test_broken_file_of_a_streamed_pool_is_named(tmp_path, workers):
    d = png(tmp_path / 'u')
    BROKEN['truncated_png'](d / 'zz')
    assert 'zz.png' in message_of(lambda: list(unlabeled_dl(d, digit_dls(), num_workers=workers)))
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter('always')
        xs = torch.cat([x[0] for x, _ in unlabeled_dl(d, digit_dls(), num_workers=0, on_error='skip')])
    assert len(xs) == 13 and any('skipped' in str(o.message) and 'zz.png' in str(o.message) for o in w), 'another image takes its place'
