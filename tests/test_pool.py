"Read as the labeled set is; decoded once where that is enough."
import re, collections, numpy as np, pandas as pd, pickle, pytest, random, torch, torchvision, warnings
from fastai.vision.all import (CategoryBlock, DataBlock, ImageBlock, PILImage, Pipeline, RandomResizedCrop, RandTransform,
    TfmdDL, Transform, parent_label)
from fastai_mixmatch import pool as pool_module
from fastai_mixmatch.cache import KeptDL
from fastai_mixmatch.distributed import warn_once
from fastai_mixmatch.pool import ArrayPool, ItemPipe, LabelIndex, Pool, known_source
from fastai_mixmatch.rng import rng_state, same_state
from fastai_mixmatch.streams import LabeledDL, check_labels, unlabeled_dl
from helpers import *
from torch.utils.data import ConcatDataset

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
    il = ImageList.from_folder(root/'unlabeled')
    assert pickle.loads(pickle.dumps(il.problem))(0) == il.problem(0), 'what verifies'
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
        assert sum((Count.reads - first).values()) == (0 if cache else 2 * 2 * N), 'two epochs, two reads each: nobody knows that they give the same'

@pytest.mark.parametrize('workers', [0, 1])
def test_broken_file_of_a_streamed_pool_is_named(tmp_path, workers):
    d = png(tmp_path / 'u')
    BROKEN['truncated_png'](d / 'zz')
    assert 'zz.png' in message_of(lambda: list(unlabeled_dl(d, digit_dls(num_workers=workers))))
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter('always')
        xs = torch.cat([x[0] for x, _ in unlabeled_dl(d, digit_dls(), on_error='skip')])
    assert len(xs) == 13 and any('skipped' in str(o.message) and 'zz.png' in str(o.message) for o in w), 'another image takes its place'

# --- what is not known to be the same each time is random

class Rare(Transform):
    "Inverts one image in a hundred, with a generator of its own"
    split_idx = 0
    def __init__(self, p=.01): self.rng, self.p = np.random.default_rng(0), p
    def encodes(self, o: PILImageBW): return PILImageBW(o.point(lambda v: 255 - v)) if self.rng.random() < self.p else o

class Secret(Pairs):
    "The same in a dataset of one's own"
    rng = np.random.default_rng(0)
    def __getitem__(self, i): return Image.fromarray(255 - self.x[i] if self.rng.random() < .01 else self.x[i])

def test_randomness_that_cannot_be_seen(root, capsys):
    for n in range(20):
        dl = unlabeled_dl(root / 'unlabeled', from_folder(root, item_tfms=Rare()), k=2)
        assert dl.pool.random and dl.pool.k == 2 and not dl.cache
    assert 'pass `cache=True` if they do' in capsys.readouterr().out
    for u in (Secret(UX), Subset(Secret(UX), range(9)), torch.utils.data.ConcatDataset([Secret(UX), UX])): assert unlabeled_dl(u, from_folder(root)).pool.random
    il = ImageList(files(root), tfms=[Rare()], img_cls=PILImageBW)
    assert unlabeled_dl(il, from_folder(root)).pool.random
    assert LabeledDL(from_folder(root, item_tfms=Rare())).pool.random
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=lambda p: get_image_files(p / 'labeled'),
        get_x=Pipeline([lambda o: np.asarray(Image.open(o)), lambda x: 255 - x]), get_y=parent_label)
    assert LabeledDL(block.dataloaders(root, bs=8, num_workers=0)).pool.random, 'a function that gives an image'

def test_what_is_known(root, capsys):
    "Files, arrays, datasets of libraries and fastai's own transforms are decoded once"
    import torchvision
    tv = torchvision.datasets.ImageFolder(root / 'labeled')
    for u in (root / 'unlabeled', files(root), UX, list(UX), KINDS['tfmd_lists'](root), KINDS['datasets'](root), TensorDataset(grey(UX)), Subset(list(UX), range(9)), tv):
        pool = unlabeled_dl(u, from_folder(root)).pool
        assert not pool.random, type(u)
    tv.transform = torchvision.transforms.Compose([torchvision.transforms.RandomHorizontalFlip()])
    assert unlabeled_dl(tv, from_folder(root)).pool.random
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=lambda p: [o.name for o in (p / 'labeled').rglob('*.png')],
        get_x=lambda o: next((root / 'labeled').rglob(o)), get_y=lambda o: o[0])
    assert not LabeledDL(block.dataloaders(root, bs=8, num_workers=0)).pool.random, 'a function that gives a path'
    assert not LabeledDL(from_folder(root, item_tfms=[Resize(8)])).pool.random
    assert not capsys.readouterr().out

def test_declared_to_be_the_same(root):
    "`cache=True` on what is not known: looked at more often, then accepted"
    dls = from_folder(root, item_tfms=Rare(0.))
    dl = unlabeled_dl(root / 'unlabeled', dls, cache=True)
    assert dl.cache and not dl.pool.random
    with pytest.raises(ValueError, match='cache=True.*random'): unlabeled_dl(root / 'unlabeled', from_folder(root, item_tfms=Rare(.2)), cache=True)
    assert unlabeled_dl(Pairs(UX), from_folder(root), cache=True).cache

def test_making_a_pool_draws_nothing(root):
    for tfm in (RandomResizedCrop(8), Rare(), Resize(8)):
        pipe = ItemPipe(from_folder(root, item_tfms=tfm).train)
        before = rng_state()
        Pool(files(root), pipe)
        assert same_state(before, rng_state())

def test_validation_sets_that_are_kept(root):
    assert KeptDL.can(from_folder(root).valid) and KeptDL.can(from_folder(root, item_tfms=[Resize(8), RandomResizedCrop(8)]).valid)
    tfm = Rare()
    tfm.split_idx = None
    assert not KeptDL.can(from_folder(root, item_tfms=tfm).valid)
    assert KeptDL.can(from_folder(root, item_tfms=Rare()).valid), 'it is not applied in validation'

class OwnDL(TfmdDL):
    rng = random.Random(0)
    def create_item(self, i):
        x, y = super().create_item(i)
        return (PILImageBW.create(np.asarray(x)*0) if self.rng.random() < .05 else x), y

def seldom(base, *args, **kw):
    "A dataset of class `base` that blanks every twentieth image or so, by a generator of its own"
    class Seldom(base):
        rng = random.Random(0)
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return (x*0 if self.rng.random() < .05 else x), y
        def __getitems__(self, idxs): return [self[i] for i in idxs]
    return Seldom(*args, **kw)

def test_subclasses_may_do_anything(root):
    "Datasets with a transform of their own, a loader of files or of items, a random transform made of a function: not known"
    td = TensorDataset(grey(UX)/255., torch.tensor(UY))
    for ds in (seldom(Subset, td, range(40)), seldom(ConcatDataset, [td]), seldom(TensorDataset, *td.tensors)):
        assert not known_source(ds) and not known_source(Subset(ds, range(5)))
        dls = DataLoaders(DataLoader(ds, 10), DataLoader(td, 10))
        assert LabeledDL(dls).pool.random and not LabeledDL(dls).cache
    assert known_source(Subset(td, range(9))) and known_source(ConcatDataset([td]))
    folder = torchvision.datasets.ImageFolder
    assert known_source(folder(root/'labeled')) and not known_source(folder(root/'labeled', loader=lambda f: Image.open(f)))
    assert KeptDL.can(from_folder(root).valid) and not KeptDL.can(OwnDL(from_folder(root).valid_ds, bs=8, num_workers=0, after_item=[ToTensor()]))
    tfm = RandTransform(enc=lambda x: x, p=1.)
    tfm.split_idx = None
    assert not KeptDL.can(from_folder(root, item_tfms=tfm).valid)

# --- labels that mean nothing

def test_labels_that_are_no_class_are_named(root):
    dls = from_folder(root)
    with pytest.warns(UserWarning, match='not classes of `dls`: bird, fish;') as w: dl = unlabeled_dl(ImageList.from_arrays(UX[:3], ['bird', 'fish', '3']), dls)
    assert len(w) == 1 and dl.pool.load().y.tolist() == [-1, -1, 3]
    ds = Pairs(UX, UY, Image.fromarray)
    ds.classes = ['cat', *'123456789']
    with pytest.warns(UserWarning, match='not classes of `dls`: cat;'): dl = unlabeled_dl(ds, dls)
    ds.classes = ['cat', 'dog']
    with pytest.warns(UserWarning, match='cat, dog.*their numbers are taken as those of `dls`'): dl = unlabeled_dl(ds, dls)
    assert dl.pool[3][1] == UY[3] and LabelIndex(['a', 'b'], ['cat', 'dog'])(0, (None, 1)) == 1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        unlabeled_dl(ImageList.from_arrays(UX[:3], [None, '', '3']), dls)
        unlabeled_dl(root / 'unlabeled', dls)

def test_numbers_of_a_column_with_gaps(root):
    "Are floats: 3.0 is class '3', also where the classes themselves are such, and nan is no label"
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for dls in (from_folder(root), ImageList.from_arrays(X[:20], Y[:20].astype(float), img_cls=PILImageBW).dataloaders(bs=10)):
            for y in ([3., float('nan'), 1.], [np.float32(3), None, np.float64(1)], [3, '', '1']):
                pool = unlabeled_dl(ImageList(list(UX[:3]), labels=y, img_cls=PILImageBW), dls).pool.load()
                assert pool.y.tolist() == [3, -1, 1] and pool.has_labels
        assert unlabeled_dl(Pairs(UX, UY.astype(np.float32), Image.fromarray), from_folder(root), cache=True).pool.load().y.tolist() == UY.tolist()
    with pytest.warns(UserWarning, match='^unlabeled images have labels that are not classes of `dls`: 0.5, 77;'): assert unlabeled_dl(ImageList.from_arrays(UX[:2], [.5, 77.]), from_folder(root)).pool.load().y.tolist() == [-1, -1]

@pytest.mark.parametrize('make', [lambda x, y: TensorDataset(grey(x), torch.tensor(y)), Pairs, lambda x, y: SizedStream(Pairs(x, y))])
def test_numbers_that_are_no_class_are_named(make):
    "A dataset knows its labels, and no names of classes; what is known only when an image is read is told then, once"
    few = ImageList.from_arrays(X[Y < 8][:100], Y[Y < 8][:100], img_cls=PILImageBW).dataloaders(bs=10)
    with pytest.warns(UserWarning) as w:
        dl = unlabeled_dl(make(UX, UY), few, bs=25)
        ys = torch.cat([y for _ in range(2) for _, y in dl])
    said = [str(o.message) for o in w if 'not classes' in str(o.message)]
    assert len(said) == 1 and re.search('not classes of `dls`: [89]; `dls` has 0, 1, 2, 3, 4, 5, 6, 7; they count as unknown', said[0])
    assert set(ys.tolist()) == {-1, *range(8)}

@pytest.mark.parametrize('name', ['unlabeled', 'Unlabelled', 'unsup', 'un-labeled', 'no_label', 'unlabeled_images', 'unlab2', 'test_unlabelled', '2 not labeled'])
def test_a_class_of_unlabeled_images_is_noticed(tmp_path, name):
    for part in ('a', 'b', name): write(UX[:8], tmp_path, [f'{part}/{i}.png' for i in range(8)])
    dls = ImageDataLoaders.from_folder(tmp_path, valid_pct=.2, bs=4, img_cls=PILImageBW)
    warn_once.cache_clear()
    with pytest.warns(UserWarning, match=f"a class '{name}'") as said: assert check_labels(dls) == check_labels(dls) == 3
    assert len(said)==1 and 'dls' not in str(said[0].message)

# --- dictionaries, several datasets, folders of something else

class Dicts(Dataset):
    "Items as of Hugging Face `datasets`"
    def __init__(self, label='label', names=None): self.label, self.features = label, names and {label: collections.namedtuple('ClassLabel', 'names')(names)}
    def __len__(self): return N
    def __getitem__(self, i): return {'image': Image.fromarray(UX[i]), self.label: int(UY[i])}

@pytest.mark.parametrize('label', ['label', 'labels'])
def test_dictionaries(root, label):
    dls = from_folder(root)
    pool = unlabeled_dl(Dicts(label), dls, cache=True).pool.load()
    assert torch.equal(pool.x, grey(UX)) and pool.y.tolist() == UY.tolist()
    pool = unlabeled_dl(Dicts(label, list('9876543210')), dls, cache=True).pool.load()
    assert pool.y.tolist() == (9 - UY).tolist()
    pool = unlabeled_dl([dict(image=o) for o in UX], dls).pool.load()
    assert torch.equal(pool.x, grey(UX)) and not pool.has_labels
    assert len(list(unlabeled_dl(Stream(Dicts(label)), dls, bs=25, steps=2))) == 2
    with pytest.raises((TypeError, ImageError), match="a dictionary of jpg, cls; expected its image under 'image'"): unlabeled_dl([dict(jpg=UX[0], cls=1)], dls)

def test_dictionaries_of_files_not_yet_decoded(root):
    "As `datasets.Image(decode=False)` gives: bytes, or a path"
    dls,fs = from_folder(root),files(root)[:4]
    items = [dict(image=dict(bytes=None if i%2 else f.read_bytes(), path=str(f)), label=1) for i,f in enumerate(fs)]
    pool = unlabeled_dl(items, dls).pool
    assert all(np.array_equal(pool[i][0][0][0], read_array(f)) for i,f in enumerate(fs))

def test_labeled_dictionaries(root):
    "Not as pairs; as lists they are"
    for dls in (DataLoaders.from_dsets(Dicts(), Dicts(), bs=5), DataLoaders(DataLoader(Dicts(), 5), DataLoader(Dicts(), 5))):
        with pytest.raises(ValueError, match=r'it gives dict. Make it of dictionaries by `ImageList\(images, labels\).dataloaders'): check_labels(dls)
    ds = Dicts()
    il = ImageList([ds[i]['image'] for i in range(N)], labels=[ds[i]['label'] for i in range(N)], img_cls=PILImageBW)
    ldl = LabeledDL(il.dataloaders(il, bs=5))
    assert torch.equal(ldl.pool.load().x, grey(UX)) and ldl.pool.y.tolist() == UY.tolist()

def test_several_datasets(root):
    dls = from_folder(root)
    def part(a, b, classes=None):
        ds = Pairs(UX[a:b], UY[a:b], Image.fromarray)
        if classes: ds.classes = classes
        return ds
    cat = torch.utils.data.ConcatDataset
    for classes in (None, list('0123456789')):
        pool = unlabeled_dl(cat([part(0, 20, classes), part(20, 50, classes)]), dls, cache=True).pool.load()
        assert torch.equal(pool.x, grey(UX)) and pool.y.tolist() == UY.tolist()
    with pytest.raises(ValueError, match='number their classes differently'): unlabeled_dl(cat([part(0, 20, list('0123456789')), part(20, 50, list('9876543210'))]), dls)
    fs = files(root)
    u = cat([ImageList(fs[:20]), ImageList(fs[20:])])
    pool = unlabeled_dl(u, dls).pool
    assert not pool.random and torch.equal(pool.load().x, grey(UX)) and pool.image_name(30) == str(fs[30])
    assert overlap(cat([dls.valid_ds, ImageList(fs)]), dls) == 30

@pytest.mark.parametrize('ext', ['.npy', '.dcm', '.parquet'])
def test_a_folder_of_something_else(tmp_path, root, ext):
    (tmp_path / 'sub').mkdir()
    for i in range(40): (tmp_path / f'sub/{i}{ext}').write_bytes(b'1')
    (tmp_path / 'notes.txt').touch()
    for u in (tmp_path, str(tmp_path), ImageList.from_folder(tmp_path)):
        with pytest.raises(ValueError, match=rf'no unlabeled images in .*{tmp_path.name}; it holds 40 \{ext} files, 1 .txt files: pass them as an array'): unlabeled_dl(u, from_folder(root))

def test_files_beside_labeled_tensors_are_refused():
    "Nobody knows how a file becomes such a tensor"
    pipe = ItemPipe(torch.utils.data.DataLoader(TensorDataset(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))))
    assert pipe(np.ones((1, 8, 8), np.float32)).shape == pipe.shape
    with pytest.raises(TypeError, match=r'gives tensors \(1, 8, 8\), but unlabeled a.png is a .*Path: give it the same transform'): pipe(Path('a.png'))

def test_labels_in_bytes_are_named(root):
    "They are no text, so they match no class"
    for u in (ImageList(list(UX[:3]), labels=[b'1', b'2', b'1'], img_cls=PILImageBW), Pairs(UX[:3], [b'1', b'2', b'1'], Image.fromarray)):
        with pytest.warns(UserWarning, match="labels that are not classes of `dls`: b'1'.*count as unknown"):
            assert unlabeled_dl(u, from_folder(root), cache=True).pool.load().y.tolist() == [-1]*3
