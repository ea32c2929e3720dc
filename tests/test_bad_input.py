"Whatever is wrong with the input is said before the first training step: what was passed, and what to do."
import numpy as np, os, pandas as pd, pytest, re, torch, warnings
from fastai.vision.all import (Categorize, CategoryBlock, DataBlock, DataLoaders, Datasets, Image, ImageBlock, ImageDataLoaders,
    IntToFloatTensor, ItemGetter, MaskBlock, MultiCategoryBlock, Path, PILImage, PILImageBW, PointBlock, ProgressCallback,
    RandomResizedCrop, RegressionBlock, Resize, TfmdLists, ToTensor, noop)
from fastai_mixmatch.all import ImageList, Unlabeled, digits_arrays, mixmatch_learner, small_cnn
from fastai_mixmatch.images import ImageError
from fastai_mixmatch.streams import unlabeled_dl
from helpers import BROKEN, FLOAT, IL, digit_dls, png
from functools import partial
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

X,Y = digits_arrays()
UX = X[200:230]
RGB = lambda x: np.repeat(x[..., None], 3, -1)
SMALL = partial(small_cnn, width=8)

class Count(nn.Module):
    "Counts forward passes with gradient: training steps."
    def __init__(self, model): super().__init__(); self.model, self.steps = model, 0
    def forward(self, x): self.steps += torch.is_grad_enabled(); return self.model(x)

def tensor_dls(y=None, x=None, bs=10):
    x, y = torch.tensor(X[:20])[:, None] / 255 if x is None else x, torch.arange(20) % 10 if y is None else y
    return DataLoaders(DataLoader(list(zip(x, y)), bs), DataLoader(list(zip(x, y)), bs))

def learner(dls=None, unlabeled=None, arch=SMALL, **kw):
    learn = mixmatch_learner(digit_dls() if dls is None else dls, UX if unlabeled is None else unlabeled, arch, **kw)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn

def refused(exc, *words, dls=None, unlabeled=None, n=(1, 10), model=None, **kw):
    "Making the learner or fitting it raises exactly `exc`, with all `words` in its message, before any training step."
    model = Count(model or SMALL(*n))
    with pytest.raises(exc) as e: learner(dls, unlabeled, model, **kw).fit(1)
    assert e.type is exc and model.steps == 0
    for w in words: assert str(w) in str(e.value), (w, str(e.value))
    return str(e.value)

# --- no unlabeled images

class Empty(IterableDataset):
    def __iter__(self): return iter(())

@pytest.mark.parametrize('make', [lambda p: [], lambda p: p / 'empty', lambda p: str(p / 'empty'), lambda p: p / 'text only',
    lambda p: X[:0], lambda p: torch.zeros(0, 1, 8, 8), lambda p: IL[:0],
    lambda p: pd.Series([], dtype=str), lambda p: Subset(IL, []), lambda p: DataLoader(list(UX[:0])) ], ids=range(10))
def test_no_unlabeled_images(tmp_path, make):
    (tmp_path / 'empty').mkdir(), (tmp_path / 'text only').mkdir()
    (tmp_path / 'text only' / 'x.txt').write_text('x')
    u = make(tmp_path)
    msg = refused(ValueError, 'no unlabeled images', unlabeled=u)
    assert str(u) in msg if isinstance(u, (str, Path)) else type(u).__name__ in msg

def test_nothing_passed():
    with pytest.raises(ValueError, match='`unlabeled` is None; pass a folder'): mixmatch_learner(digit_dls(), None, SMALL)
    with pytest.raises(ValueError, match=r'`unlabeled` is Unlabeled\(bs=3.*pass a folder'): mixmatch_learner(digit_dls(), Unlabeled(bs=3), SMALL)
    refused(ValueError, 'no unlabeled images', 'iterable', unlabeled=Empty(), steps=2)
    refused(ValueError, 'without a length', '`steps`', 'number of batches', unlabeled=Empty())

def test_folder_missing(tmp_path):
    refused(FileNotFoundError, 'no folder', tmp_path / 'nowhere', unlabeled=tmp_path / 'nowhere')
    (tmp_path / 'f.png').write_bytes(b'')
    refused(NotADirectoryError, tmp_path / 'f.png', 'expected a folder', unlabeled=tmp_path / 'f.png')

@pytest.mark.parametrize('u,words', [
    (3, ['int', 'folder', 'list of files', 'ImageList']), ((o for o in UX), ['generator']), ({'a.png': 1}, ['dict']), (pd.DataFrame(dict(f=['a.png'], y=[1])), ['data frame', "df['f']"]),
    (digit_dls(), ['DataLoaders', '.train_ds'])], ids=['int', 'generator', 'dict', 'data frame', 'dls'])
def test_unlabeled_of_no_known_kind(u, words): refused(TypeError, *words, unlabeled=u)

# --- files that cannot be read

@pytest.mark.parametrize('kind', BROKEN)
@pytest.mark.parametrize('item_tfms', [None, Resize(8)], ids=['', 'resized'])
def test_broken_file_is_named(tmp_path, kind, item_tfms):
    "The last file of the folder, which is not looked at before all are decoded."
    d = png(tmp_path / 'u')
    BROKEN[kind](d / 'zz')
    bad, = (o for o in os.listdir(d) if o.startswith('zz'))
    msg = refused(ImageError, d / bad, '1 of 13 unlabeled images cannot be read', "on_error='skip'", unlabeled=d, dls=digit_dls(item_tfms=item_tfms))
    if kind == 'sixteen_bit': assert 'more than 8 bits' in msg and 'convert' in msg
    learn = learner(digit_dls(item_tfms=item_tfms), d, on_error='skip')
    learn.fit(1)
    assert len(learn.mix_match.dl.pool) == 12 and len(learn.mix_match.dl.pool.skipped) == 1 and bad in learn.mix_match.dl.pool.skipped[0]

def test_all_broken_files_are_listed(tmp_path, capsys):
    d = png(tmp_path / 'u', 20)
    for i, f in enumerate(BROKEN.values()): f(d / f'x{i}')
    for i in range(8): (d / f'y{i}.png').write_text('no')
    msg = refused(ImageError, '15 of 35 unlabeled images cannot be read', 'and 5 more', unlabeled=d)
    assert all(f'x{i}.' in msg for i in range(7)) and len(msg.splitlines()) < 15
    learn = learner(unlabeled=d, on_error='skip')
    learn.fit(1)
    assert 'skipped 15 unreadable' in capsys.readouterr().out

def test_first_file_broken(tmp_path):
    d = png(tmp_path / 'u')
    BROKEN['text'](d / '!first')
    for kw in (dict(), dict(cache=False)): refused(ImageError, '!first.png', unlabeled=d, **kw)
    for f in d.iterdir(): f.write_text('none of them')
    with pytest.warns(UserWarning, match='skipped'): refused(ValueError, 'none of the 13 unlabeled images can be read', unlabeled=d, on_error='skip')

def test_lists_name_what_is_missing(tmp_path):
    d = png(tmp_path / 'u')
    (d / 'folder.png').mkdir()
    for bad in ('gone.png', 'folder.png'):
        msg = refused(ImageError, d / bad, unlabeled=[*sorted(d.glob('0*.png')), d / bad])
        assert ('FileNotFound' in msg) == (bad == 'gone.png')
    assert len(unlabeled_dl(d, digit_dls()).items) == 12, 'a folder named like an image is not an image'
    refused(ImageError, 'gone.png', unlabeled=pd.Series(['gone.png']))

@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='root can read every file')
def test_file_without_permission(tmp_path):
    d = png(tmp_path / 'u')
    (d / '03.png').chmod(0)
    refused(ImageError, '03.png', 'Permission', unlabeled=d)

def test_datasets_that_cannot_read(tmp_path):
    "A dataset that opens files itself: named where its files are known, numbered where not, and skipped when asked."
    d = png(tmp_path / 'u')
    BROKEN['empty'](d / 'zz')
    fs = sorted(d.iterdir())
    class Files(Dataset):
        def __init__(self, known):
            self.fs = fs
            if known: self.samples = [(str(f), 0) for f in fs]
        def __len__(self): return len(self.fs)
        def __getitem__(self, i): return Image.open(self.fs[i]), 0
    for u, name in ((Files(True), 'zz.png'), (Files(False), 'number 12 of Files'), (TfmdLists(fs, [PILImageBW.create]), 'zz.png'),
                    (Datasets(fs, [[PILImageBW.create]]), 'zz.png'), (Subset(Files(True), range(1, 13)), 'zz.png')):
        refused(ImageError, name, 'cannot read image', unlabeled=u, cache=True)
        dl = unlabeled_dl(u, digit_dls(), on_error='skip')
        dl.pool.load()
        assert len(dl.pool) == len(u) - 1
    class FileStream(IterableDataset):
        def __iter__(self): return iter([fs[0], fs[-1], *fs[1:-1]])
        def __len__(self): return len(fs)
    with pytest.raises(ImageError, match='zz.png'): list(unlabeled_dl(FileStream(), digit_dls()))
    with pytest.warns(UserWarning, match='zz.png'): got = list(unlabeled_dl(FileStream(), digit_dls(), on_error='skip'))
    assert sum(len(y) for _, y in got) >= 12

@pytest.mark.parametrize('which', ['first', 'last'])
@pytest.mark.parametrize('cache', [None, False])
def test_broken_labeled_file_is_named(tmp_path, which, cache):
    for i in range(20): png(tmp_path / f'l/{i % 2}', 6)
    bad = tmp_path / ('l/0/00.png' if which == 'first' else 'l/1/05.png')
    fs = sorted((tmp_path / 'l').rglob('*.png'))
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=lambda _: fs, get_y=lambda o: o.parent.name, splitter=lambda o: (list(range(12)), []))
    dls = block.dataloaders(tmp_path, bs=4, num_workers=0)
    bad.write_bytes(bad.read_bytes()[:70])
    if which == 'last' and cache is False:
        with pytest.raises(ImageError, match=str(bad)): learner(dls, cache=cache).fit(9)
    else:
        msg = refused(ImageError, bad, dls=dls, n=(1, 2), cache=cache)
        assert "on_error='skip'" not in msg, 'that is for unlabeled images'

def test_on_error_is_checked(): refused(ValueError, 'on_error', "'raise' or 'skip'", "'ignore'", on_error='ignore')

def test_one_pixel_among_others(tmp_path):
    d = png(tmp_path / 'u')
    Image.fromarray(X[0][:1, :1]).save(d / 'zz.png')
    learner(digit_dls(item_tfms=Resize(8)), d).fit(1)
    refused(ValueError, 'different sizes', d / 'zz.png', '(1, 1, 1)', '(1, 8, 8)', 'Resize', unlabeled=d)

# --- channels and sizes

def test_sizes_that_differ_from_the_labeled():
    refused(ValueError, '(1, 8, 8)', '(1, 9, 9)', 'labeled images are', 'Resize', unlabeled=np.zeros((9, 9, 9), np.uint8))
    refused(ValueError, '(1, 8, 8)', '(1, 9, 9)', 'Resize', unlabeled=[np.zeros((9, 9), np.uint8)] * 9)
    refused(ValueError, 'different sizes', 'number 5', '(1, 7, 7)', '(1, 8, 8)', 'Resize', unlabeled=[*UX[:5], np.zeros((7, 7), np.uint8)])
    for cache in (None, False):
        il = ImageList([*X[:30]], labels=list(Y[:30]), img_cls=PILImageBW)
        dls = il.dataloaders(bs=8)
        dls.train_ds.tls[0].items[20] = (np.zeros((5, 5), np.uint8), 0)
        if cache is None: refused(ValueError, 'different sizes', 'labeled', '(1, 5, 5)', 'Resize', dls=dls)

def test_sizes_that_differ_in_a_streamed_pool(tmp_path):
    d = png(tmp_path / 'u')
    Image.fromarray(X[0][:5]).save(d / '04.png')
    with pytest.raises(ValueError, match=r'04\.png'): learner(unlabeled=d, cache=False).fit(1)
    class S(IterableDataset):
        def __iter__(self): return iter([*UX, X[0][:5]])
        def __len__(self): return 31
    with pytest.raises(ValueError, match='number 30 of S'): list(unlabeled_dl(S(), digit_dls(), bs=31))

def test_channels_that_differ_from_the_labeled():
    "Where images are opened, fastai's image class converts them; tensors are taken as they are."
    t = lambda x: torch.tensor(x)[:, None].float() / 255
    refused(ValueError, '(1, 8, 8)', '(3, 8, 8)', 'channels', dls=tensor_dls(), unlabeled=t(UX).expand(-1, 3, -1, -1))
    refused(ValueError, '(3, 8, 8)', '(1, 8, 8)', 'channels', dls=tensor_dls(x=t(X[:20]).expand(-1, 3, -1, -1)), unlabeled=t(UX), n=(3, 10))
    refused(TypeError, 'torch.float32', 'torch.uint8', 'convert', dls=tensor_dls(), unlabeled=UX)
    refused(TypeError, 'torch.float32', 'torch.float64', dls=tensor_dls(), unlabeled=UX[:, None] / 255)
    learner(unlabeled=RGB(UX)).fit(1)

@pytest.mark.parametrize('u,exc,words', [
    (np.zeros((9, 4, 8, 8), np.uint8), ValueError, ['(9, 4, 8, 8)', 'channels']), (np.zeros((9, 8, 8, 8, 1), np.uint8), ValueError, ['(9, 8, 8, 8, 1)']),
    (np.zeros((9, 64), np.uint8), ValueError, ['(9, 64)', '(N,H,W)']),
    (UX.astype(np.uint16), TypeError, ['uint16', "astype('uint8')"]), (UX.astype(int), TypeError, ['int64']), (UX.astype(float), ValueError, ['float', '255', '[0,1]']), (UX / 255 - .5, ValueError, ['-0.5']),
    (np.full((9, 8, 8), np.nan), ValueError, ['nan'])], ids=range(8))
def test_arrays_that_are_no_images(u, exc, words): refused(exc, *words, unlabeled=u)

def test_channels_last_in_labeled_tensors():
    "Else they would be trained on as images of 8 channels, 8 high and 3 wide"
    x = torch.rand(20, 8, 8, 3)
    dls = DataLoaders(*[DataLoader(TensorDataset(x, torch.arange(20)%10), 5) for _ in range(2)])
    refused(ValueError, '(channels, height, width)', '(8, 8, 3)', dls=dls, unlabeled=x)

def test_gray_arrays_opened_as_they_are():
    "By `PILImage.create` in the labeled set, which leaves an array gray; unlabeled ones become color"
    ds = Datasets(range(20), [[X.__getitem__, PILImage.create], [Y.__getitem__, Categorize]])
    dls = ds.dataloaders(bs=5, after_item=ToTensor, after_batch=IntToFloatTensor, num_workers=0)
    refused(ValueError, 'open both as `PILImage` or `PILImageBW`', '(1, 8, 8)', '(3, 8, 8)', dls=dls, unlabeled=list(X[20:40]))

# --- labels

def labeled(block, y, vocab=None, **kw):
    items = list(zip(X[:20], y))
    split = lambda o: (list(range(15)), list(range(15, 20)))
    return DataBlock((ImageBlock(PILImageBW), block), get_x=ItemGetter(0), get_y=ItemGetter(1), splitter=split).dataloaders(items, bs=5, **kw)

def test_fewer_than_two_classes():
    refused(ValueError, 'at least 2 classes', 'has 1', dls=labeled(CategoryBlock, ['x'] * 20))
    refused(ValueError, 'at least 2 classes', dls=tensor_dls(torch.zeros(20, dtype=torch.long)))

def test_class_without_labels():
    refused(ValueError, '2 of 12 classes have no labeled image', 'ten', 'eleven', 'Label at least one', dls=labeled(CategoryBlock(vocab=[*map(str, range(10)), 'ten', 'eleven']), [str(i % 10) for i in range(20)]), n=(1, 12))
    refused(ValueError, '1 of 10 classes', '3', dls=tensor_dls(torch.tensor([0, 1, 2, 4, 5, 6, 7, 8, 9] * 2 + [0, 1])), unlabeled=FLOAT)
    for cache in (None, False): refused(ValueError, 'no labeled image: 4', dls=labeled(CategoryBlock(vocab=range(5)), [i % 4 for i in range(20)]), n=(1, 5), cache=cache)

@pytest.mark.parametrize('block,y,words', [
    (MultiCategoryBlock, [['a', 'b'], ['a']] * 10, ['multi-label', 'exactly one class', '`MultiCategoryBlock`']), (MultiCategoryBlock(encoded=True, vocab=['a', 'b']), [[0, 1], [1, 1]] * 10, ['multi-label']),
    (RegressionBlock, [.5, 1.5] * 10, ['regression', 'classes', '`RegressionBlock`']), (RegressionBlock(n_out=2), [[.5, 1.5]] * 20, ['regression']), (PointBlock, [[[1, 2]]] * 20, ['regression']),
    (MaskBlock, list(X[:20]), ['mask', 'PILMask', '`unet_learner`'])], ids=['multi', 'one hot', 'float', 'floats', 'points', 'mask'])
def test_labels_that_are_no_class(block, y, words): refused(TypeError, *words, dls=labeled(block, y))

@pytest.mark.parametrize('y,words', [(torch.rand(20), ['regression']), ([.5] * 20, ['regression']), (torch.eye(20), ['not supported']), (torch.eye(20).long(), ['multi-label']), (['cat'] * 20, ["'cat'", 'number the classes'])], ids=range(5))
def test_torch_labels_that_are_no_class(y, words): refused(TypeError, *words, dls=tensor_dls(y))

def test_label_that_is_no_index():
    for cache in (None, False): refused(ValueError, 'indices -1 to 9', 'expected 0 to 9', dls=tensor_dls(torch.tensor([-1] + list(range(10)) + [0] * 9)), unlabeled=FLOAT, cache=cache)

def test_dls_of_another_form():
    x = torch.zeros(20, 1, 8, 8)
    refused(ValueError, '(image, label)', dls=DataLoaders(DataLoader(TensorDataset(x), 5), DataLoader(TensorDataset(x), 5)))
    refused(ValueError, '(image, label)', dls=DataLoaders(DataLoader(TensorDataset(x, x, x), 5), DataLoader(TensorDataset(x, x, x), 5)))
    refused(ValueError, 'labeled training set is empty', dls=DataLoaders(DataLoader(TensorDataset(x[:0], x[:0]), 5), DataLoader(TensorDataset(x, x), 5)))
    refused(ValueError, '(64,)', '(channels, height, width)', dls=tensor_dls(x=torch.zeros(20, 64)))
    class Stream(IterableDataset):
        def __iter__(self): return iter(())
    refused(TypeError, 'Stream', 'repeated', dls=DataLoaders(DataLoader(Stream(), 5), DataLoader(TensorDataset(x, x), 5)))
    refused(TypeError, 'ToTensor', dls=DataLoaders(DataLoader([(Image.fromarray(X[0]), 0), (Image.fromarray(X[1]), 1)], 2), DataLoader([(Image.fromarray(X[0]), 0)], 2)))
    block = DataBlock((ImageBlock(PILImageBW), ImageBlock(PILImageBW), CategoryBlock), getters=[ItemGetter(0), ItemGetter(0), ItemGetter(1)])
    refused(ValueError, 'one image and one label', '2 inputs', dls=block.dataloaders(list(zip(X[:20], Y[:20])), bs=5))
    refused(TypeError, 'the model needs floats', 'IntToFloatTensor', dls=tensor_dls(x=torch.tensor(X[:20])[:, None]), unlabeled=UX)

def test_iterables_are_not_kept():
    class S(Empty):
        def __iter__(self): return iter(UX)
        def __len__(self): return len(UX)
    refused(ValueError, 'cache=True', 'iterable', 'leave `cache` out', unlabeled=S(), cache=True)

# --- settings

@pytest.mark.parametrize('kw,exc,words', [
    (dict(k=0), ValueError, ['k', 'at least 1', '0']), (dict(k=-2), ValueError, ['k', '-2']), (dict(k=1.5), ValueError, ['k', '1.5']),
    (dict(T=0), ValueError, ['T', 'above 0']), (dict(T=-1.), ValueError, ['T', '-1']), (dict(T=float('nan')), ValueError, ['T', 'nan']),
    (dict(alpha=-.1), ValueError, ['alpha', 'at least 0', '-0.1']), (dict(lambda_u=-1), ValueError, ['lambda_u', '-1']), (dict(lambda_u=float('nan')), ValueError, ['lambda_u', 'nan']),
    (dict(lambda_u=float('inf')), ValueError, ['finite', 'inf']), (dict(alpha='0.75'), ValueError, ['alpha must be a number', "'0.75'"]),
    (dict(T=[.5]), ValueError, ['T must be a number', '[0.5]']),
    (dict(ramp=1.5), ValueError, ['ramp', '1.5']), (dict(ramp=-.1), ValueError, ['ramp', '-0.1']), (dict(ramp=-5), ValueError, ['ramp', '-5']),
    (dict(ramp=True), ValueError, ['ramp', 'True']), (dict(ramp='all'), ValueError, ['ramp', 'all']),
    (dict(ramp=float('nan')), ValueError, ['ramp', 'nan']), (dict(bs=0), ValueError, ['batch size', '0']), (dict(bs=-3), ValueError, ['batch size', '-3']),
    (dict(ema=1.5), ValueError, ['1.5']), (dict(ema=-.5), ValueError, ['-0.5']),
    (dict(cache=True, dls=digit_dls(item_tfms=RandomResizedCrop(8))), ValueError, ['cache=True', 'random', 'batch_tfms']), (dict(steps=0), ValueError, ['steps', 'at least 1', '0']),
    ], ids=lambda o: ','.join(f'{k}={v}' for k, v in o.items() if k not in ('dls', 'unlabeled')) if isinstance(o, dict) else '')
def test_settings(kw, exc, words): refused(exc, *words, **kw)

def test_sizes_set_later():
    "Beside `bs`, the method's `mu` would do nothing"
    for mu, kw, says in ((3, dict(bs=32), 'give `bs` or `mu`'), (0, {}, 'at least 1; got 0'), (2.5, {}, 'at least 1; got 2.5')):
        learn = learner(digit_dls(), **kw)
        learn.mix_match.mu = mu
        with pytest.raises(ValueError, match=says): learn.fit(1)
    learn = learner(digit_dls())
    learn.mix_match.mu = 2
    learn.fit(1)
    assert learn.mix_match.dl.bs == 20

# --- images in both sets

def warned(f):
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter('always')
        f()
    return [str(o.message) for o in w if 'validation' in str(o.message)]

def test_unlabeled_images_of_the_validation_set(tmp_path, monkeypatch):
    "By path, whichever way it is written, and through links; the count is in the warning."
    for p, n in (('train/a', 4), ('train/b', 4), ('valid/a', 5), ('valid/b', 5), ('other', 7)): png(tmp_path / p, n)
    dls = ImageDataLoaders.from_folder(tmp_path, train='train', valid='valid', img_cls=PILImageBW, bs=4)
    v, other = sorted((tmp_path / 'valid').rglob('*.png')), sorted((tmp_path / 'other').glob('*.png'))
    (tmp_path / 'links').mkdir(), (tmp_path / 'linked').symlink_to(tmp_path / 'valid')
    for i, f in enumerate([*v[:3], *other]): (tmp_path / 'links' / f'{i}.png').symlink_to(f)
    monkeypatch.chdir(tmp_path)
    for u, n in ((other, 0), (v + other, 10), ([str(o) for o in v[:2]] + other, 2), (tmp_path / 'valid', 10), (tmp_path / 'links', 3), (tmp_path / 'linked', 10), (['valid/a/00.png', './other/../valid/b/01.png'] + other, 2),
                 (pd.Series(['valid/a/00.png', 'other/00.png']), 1), (dls.valid_ds, 10), (TfmdLists(v[:4] + other, [PILImageBW.create]), 4),
                 (Subset(dls.valid_ds, range(3)), 3), (dls.train_ds, 0)):
        got = warned(lambda: learner(dls, u))
        assert len(got) == (n > 0) and (n == 0 or re.match(rf'{n} unlabeled image', got[0]) and 'accuracy' in got[0]), (type(u), n, got)

def test_unlabeled_arrays_of_the_validation_set():
    "Identity of objects and datasets, equality of pixels for arrays."
    dls = digit_dls(valid=30)
    for u, n in ((X[1690:], 30), (X[1690:] / 255, 30), (X[1690:].astype(float) / 255, 30), (IL[1720:], 10), (X[200:230], 0),
                 (list(X[1729:]), 1), (torch.tensor(X[1700:1710])[:, None], 10)):
        assert len(got := warned(lambda: learner(dls, u))) == (n > 0) and (n == 0 or got[0].startswith(f'{n} '))
    ds = TensorDataset(torch.tensor(X)[:, None] / 255, torch.tensor(Y))
    dls = DataLoaders(DataLoader(Subset(ds, range(50)), 10), DataLoader(Subset(ds, range(50, 80)), 10))
    for u, n in ((ds, 30), (Subset(ds, range(70, 99)), 10), (Subset(ds, range(80, 99)), 0), (Subset(Subset(ds, range(10, 60)), range(45, 50)), 5)):
        assert len(got := warned(lambda: learner(dls, u))) == (n > 0) and (n == 0 or got[0].startswith(f'{n} '))

# --- model, batch size, loss

def test_nan_in_images():
    x = torch.tensor(X[:20])[:, None] / 255
    u = FLOAT.clone()
    x[11, 0, 3, 3], u[7, 0, 3, 3] = float('inf'), float('nan')
    refused(ValueError, 'unlabeled image number 7', 'NaN', dls=tensor_dls(), unlabeled=u)
    refused(ValueError, 'unlabeled image number 7', 'NaN', dls=tensor_dls(), unlabeled=list(u))
    refused(ValueError, 'labeled image number 11', 'NaN', dls=tensor_dls(x=x), unlabeled=FLOAT)

def test_dls_without_validation_set():
    learn = learner(digit_dls(valid=0))
    learn.fit(2)
    assert learn.train_iter == 2 * len(learn.mix_match.dl) and learn.predict(X[0])[2].shape == (10,)
    ds = TensorDataset(torch.tensor(X[:20])[:, None] / 255, torch.arange(20) % 10)
    learner(DataLoaders(DataLoader(ds, 10)), torch.tensor(UX)[:, None] / 255).fit(1)
