"Images of four and five channels, and of 16 bits, from files to the predictor: nothing is clipped, dropped or refused."
import numpy as np, pytest, random, torch
from fastai.vision.all import (CategoryBlock, DataBlock, GrandparentSplitter, Image, ImageDataLoaders, PILImage, Resize, TensorImage, TransformBlock,
    aug_transforms, get_files, image2tensor, noop, parent_label, set_seed)
from fastai_mixmatch.all import *
from fastai_mixmatch.images import as_image
from fastai_mixmatch.streams import LabeledDL, unlabeled_dl
from helpers import SMALL, validated

N = dict(labeled=12, test=24, unlabeled=64)

def deep(c, rng, shape=(16, 16)):
    "16 bits: the classes differ in their low eight bits alone"
    return (rng.integers(0, 256, shape)*256 + rng.integers(0, 90, shape)+160*c).astype(np.uint16)

def low(x): return (x%256).astype(np.uint16)*257

def gray16(f, c, rng, ext='.png'): Image.fromarray(low(deep(c, rng))).save(f.with_suffix(ext))
def rgba(f, c, rng):
    "The classes differ in the fourth channel alone"
    x = rng.integers(0, 255, (16, 16, 4))
    x[..., 3] = rng.integers(0, 90, (16, 16))+160*c
    Image.fromarray(x.astype(np.uint8)).save(f.with_suffix('.png'))
def five(f, c, rng):
    x = deep(0, rng, (5, 16, 18))
    x[4] = low(deep(c, rng, (16, 18)))
    np.save(f.with_suffix('.npy'), x)
def last(f, c, rng):
    "The same with channels last, as floats"
    x = rng.random((16, 18, 5)).astype(np.float32)
    x[..., 4] = (rng.random((16, 18))+2*c)/3
    np.save(f.with_suffix('.npy'), x)

KINDS = dict(png16=(gray16, ImageStack, 1), tiff16=(lambda *a: gray16(*a, '.tif'), ImageStack, 1), rgba=(rgba, ImageStack, 4),
    npy=(five, ImageStack, 5), npy_last=(last, ImageStack, 5))

@pytest.fixture(params=KINDS)
def case(request, tmp_path):
    "A folder of images of one kind, the class that opens them, and their channels"
    write, cls, channels = KINDS[request.param]
    rng = np.random.default_rng(0)
    for part, n in N.items():
        for i in range(n):
            f = tmp_path/part/('' if part == 'unlabeled' else 'ab'[i%2])/f'{i:03d}'
            f.parent.mkdir(parents=True, exist_ok=True)
            write(f, i%2, rng)
    return tmp_path, cls, channels

def files_of(folder, *parts): return sorted(get_files(folder, folders=parts), key=lambda o: o.name)

def lists(folder, cls): return [ImageList(fs := files_of(folder, o), labels=[parent_label(f) for f in fs], img_cls=cls) for o in ('labeled', 'test')]

TFMS = dict(plain={}, resize=dict(item_tfms=Resize(12), batch_tfms=WeakView(1/8)),
    presizing=dict(item_tfms=Resize(14), batch_tfms=aug_transforms(size=12, max_lighting=0, max_warp=0)))

# By commit each kind of file, and each kind of array in memory with whatever makes views: 16 bits as TIFF and channels last are read as the others
ENDS = [pytest.param(k, t, m, marks=pytest.mark.nightly if k in ('tiff16','npy_last') and t!='plain' else ()) for k in KINDS
        for t,m in (('plain', MixMatch), ('presizing', MixMatch), ('resize', FixMatch))]

@pytest.mark.parametrize('case, tfms, method', ENDS, indirect=['case'])
def test_end_to_end(case, tfms, method, tmp_path):
    "Lists, training on what only the last bits or the last channel tells, predictor, and files through all of them"
    folder, cls, channels = case
    set_seed(0)
    train, test = lists(folder, cls)
    assert train.verify(progress=False).empty
    dls = train.dataloaders(test, bs=8, **TFMS[tfms])
    learn = ssl_learner(dls, files_of(folder, 'unlabeled'), SMALL, method=method(), bs=8, lr=1e-2)
    learn.logger = noop
    assert learn.model[0][0].in_channels == channels
    with learn.no_bar(): learn.fit_one_cycle(6)
    assert validated(learn)['accuracy'] > .85
    save_predictor(learn, tmp_path/'p.safetensors')
    pred = load_predictor(tmp_path/'p.safetensors')
    with learn.no_bar(): p = learn.get_preds(dl=dls.test_dl(test.items))[0]
    for o in (learn, pred):
        rows = list(predict_files(o, test.items))
        assert [r.label for r in rows] == [dls.vocab[i] for i in p.argmax(1)] and not any(r.error for r in rows)
        np.testing.assert_allclose([r.probability for r in rows], p.max(1)[0], atol=1e-5)
    assert pred.predict(test.items[0])[0] == learn.predict(test.items[0])[0]

def test_folders_of_pictures(case):
    "fastai's own way to read folders, and a folder as unlabeled images"
    folder, cls, channels = case
    if channels == 5: pytest.skip('no picture files')
    dls = ImageDataLoaders.from_folder(folder, train='labeled', valid='test', img_cls=cls, bs=8, num_workers=0)
    learn = mixmatch_learner(dls, folder/'unlabeled', SMALL, bs=8)
    assert len(learn.mix_match.dl.pool) == N['unlabeled'] and learn.mix_match.dl.pool.shape == (channels, 16, 16)
    dls.show_batch(max_n=2)
    learn.mix_match.show_views(2)

def test_own_reader(case):
    "A user's function that reads arrays is used for the unlabeled files, too; a predictor says what it cannot store"
    folder, cls, channels = case
    if channels != 5: pytest.skip('no arrays')
    def read(f): return TensorImage(ImageStack.create(f).as_subclass(torch.Tensor)/255)
    block = DataBlock((TransformBlock(type_tfms=read), CategoryBlock), get_items=lambda p: files_of(p, 'labeled', 'test'),
        get_y=parent_label, splitter=GrandparentSplitter('labeled', 'test'))
    dls = block.dataloaders(folder, bs=8, num_workers=0)
    learn = mixmatch_learner(dls, files_of(folder, 'unlabeled'), SMALL, bs=8)
    learn.logger = noop
    with learn.no_bar(): learn.fit(1)
    rows = list(predict_files(learn, files_of(folder, 'test')))
    with learn.no_bar(): p = learn.get_preds()[0]
    assert sorted(r.probability for r in rows) == pytest.approx(sorted(p.max(1)[0].tolist()), abs=1e-5)
    with pytest.raises(PredictorError, match='open a TensorImage; a predictor opens .*`ImageStack`'): save_predictor(learn, folder/'p')

def test_what_is_no_image(tmp_path):
    for x, says in ((np.zeros((2, 3, 4, 5)), 'must be'), (np.full((8, 8), -1), 'run from -1'), (np.full((8, 8), np.nan), 'run from nan'), (np.full((8, 8), 70000), 'to 70000'),
                    (np.array([[object()]]), 'Python objects')):
        np.save(tmp_path/'x.npy', x, allow_pickle=True)
        with pytest.raises(ImageError, match=says): as_image(tmp_path/'x.npy', ImageStack)
    np.save(tmp_path/'x.npy', np.zeros((1, 10**4+1, 10**4), np.uint8))
    with pytest.raises(ImageError, match='10000×10001 pixels'): as_image(tmp_path/'x.npy', ImageStack)

def test_no_bit_is_lost(tmp_path):
    x = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(x).save(tmp_path/'x.png'); Image.fromarray(x).save(tmp_path/'x.tif'); np.save(tmp_path/'x.npy', x)
    for name in ('x.png', 'x.tif', 'x.npy'):
        got = np.asarray(as_image(tmp_path/name, ImageStack)).reshape(256, 256)
        assert got.dtype == np.float32 and np.array_equal((got*257).round(), x)

def test_pictures_of_other_modes(tmp_path):
    "Colors of a palette are not its indices, one bit is black or white, floats are scaled; integers of no known range are refused"
    x = np.arange(64, dtype=np.uint8).reshape(8, 8)*4
    pal = Image.fromarray(np.stack([x, x.T, 255-x], 2)).convert('P', palette=Image.ADAPTIVE, colors=7)
    pal.save(tmp_path/'p.png')
    Image.fromarray(x).save(tmp_path/'x.gif')
    Image.fromarray((x>99).astype(np.uint8)*255).convert('1').save(tmp_path/'one.png')
    Image.fromarray(x.astype(np.float32)/255).save(tmp_path/'f.tif')
    np.save(tmp_path/'bool.npy', x>99)
    want = {'p.png': np.asarray(pal.convert('RGB')).transpose(2, 0, 1), 'one.png': (x>99)[None]*255, 'bool.npy': (x>99)[None]*255, 'f.tif': x[None]}
    for name, o in want.items(): np.testing.assert_allclose(np.asarray(as_image(tmp_path/name, ImageStack)), o, atol=1e-4)
    assert (np.asarray(as_image(tmp_path/'x.gif', ImageStack))[0]==x).all()
    for dtype in ('int64', 'uint64'):
        np.save(tmp_path/'i.npy', x.astype(dtype))
        with pytest.raises(ImageError, match=f'its pixels are {dtype}.*Convert them to uint8 or uint16'): as_image(tmp_path/'i.npy', ImageStack)

@pytest.mark.parametrize('shape', [(40, 5, 8, 8), (40, 8, 8)])
@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
def test_arrays_are_scaled_as_the_labeled_ones(shape, dtype):
    "An array, a list of its images and a tensor"
    x = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    if dtype == 'float32': x = x.astype(np.float32)/255
    il = ImageList(list(x), labels=list('ab')*20, img_cls=ImageStack)
    for u in (x, list(x), torch.tensor(x), ImageList(x, img_cls=ImageStack)):
        dls = il.dataloaders(il[:8], bs=8)
        a, b = LabeledDL(dls).pool, unlabeled_dl(u, dls).pool
        assert all(torch.equal(a.read(i)[0], b.read(i)[0]) for i in (0, 39)) and a.read(0)[0].max() > 200

@pytest.mark.parametrize('split_idx', [0, 1])
@pytest.mark.parametrize('method', ['crop', 'squish'])
def test_a_stack_is_resized_as_a_picture(method, split_idx):
    "The same part of it, at random in training, in the middle at validation; a part shifted by a pixel is 4 levels off"
    x = np.add.outer(4*np.arange(24), 4*np.arange(37)).astype(np.uint8)
    tfm,size = Resize((12,14), method=method),(12,14)
    for seed in range(3):
        got = []
        for o in (ImageStack.create(np.stack([x]*3)), PILImage.create(np.stack([x]*3, -1))):
            random.seed(seed)
            got.append(tfm(o, split_idx=split_idx))
        a,b = got[0].float(),image2tensor(got[1]).float()
        assert a.shape[1:]==b.shape[1:]==size and (a-b).abs().max()<1.5

@pytest.mark.parametrize('dtype', ['int8','int16','int32','uint32','int64'])
def test_whole_numbers_of_unknown_range_are_refused(dtype, tmp_path):
    "0 to 199 may be of 8 bits or of 16"
    np.save(tmp_path/'a.npy', np.arange(80).reshape(5, 4, 4).astype(dtype))
    with pytest.raises(ImageError, match=f'its pixels are {dtype}: 8 or 16 bits.*uint8 or uint16'): as_image(tmp_path/'a.npy', ImageStack)

def test_pages_are_no_channels(tmp_path):
    pages = [Image.fromarray(np.full((16, 16), i, np.uint8)) for i in range(4)]
    pages[0].save(tmp_path/'pages.tif', save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match='pages.tif.*several frames; save them as one `.npy` file'): as_image(tmp_path/'pages.tif', ImageStack)
