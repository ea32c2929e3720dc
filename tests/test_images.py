"One file, array or picture: opened as it is said, or an error that names it."
import io, numpy as np, os, pytest, torch, torchvision, warnings
from fastai_mixmatch import images
from fastai.vision.all import (CategoryBlock, DataBlock, DataLoaders, GrandparentSplitter, IntToFloatTensor, PILImage, Pipeline, TfmdLists, ToTensor,
    TransformBlock, load_image, parent_label)
from fastai_mixmatch.images import ImagePipe, as_image, item_name
from fastai_mixmatch.pool import ItemPipe
from fastai_mixmatch.sources import get_item
from fastai_mixmatch.streams import LabeledDL, unlabeled_dl
from PIL import ImageFile
from torch.utils.data import ConcatDataset
from helpers import *

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

@pytest.mark.parametrize('item', [Image.fromarray((X[0].astype(np.uint16) * 200)), 'no_such_file.png', b'no image',
    X[0].astype(int), X[0] / 16 * 300, np.zeros((2, 5, 7)), object()], ids=range(7))
def test_as_image_names_what_it_cannot_open(item):
    with pytest.raises(ImageError, match='cannot read image'): as_image(item)

@pytest.mark.parametrize('make', [
    lambda f: Image.fromarray(RGB(X[0])).convert('CMYK').save(f + '.jpg'), lambda f: Image.fromarray(X[0]).convert('P').save(f + '.png'),
    lambda f: Image.fromarray(X[0]).convert('1').save(f + '.png'),
    lambda f: Image.fromarray(RGB(X[0])).convert('RGBA').save(f + '.png'), lambda f: Image.fromarray(X[0]).convert('LA').save(f + '.png'), lambda f: Image.fromarray(X[0]).save(f + '.gif'),
    lambda f: Image.fromarray(X[0]).save(f + '.gif', save_all=True, append_images=[Image.fromarray(X[1])]),
    lambda f: Image.fromarray(X[0]).save(f + '.bmp'), lambda f: Image.fromarray(X[0]).save(f + '.tif'),
    lambda f: Image.fromarray(X[0]).save(f + '.webp'), lambda f: Image.fromarray(X[0]).save(f + '.JPEG')], ids=['cmyk', 'palette', 'bits', 'rgba', 'la', 'gif', 'animated', 'bmp', 'tif', 'webp', 'JPEG'])
def test_unusual_files_work(tmp_path, make):
    make(str(tmp_path / 'x'))
    x, = unlabeled_dl(tmp_path, digit_dls()).pool.load().x
    want = torch.tensor(X[0])[None]
    if len(x.unique()) == 2: want = (want > 127) * 255                # one bit
    assert x.shape == (1, 8, 8) and (x.float() - want.float()).abs().mean() < 25

# --- files that mean harm

def test_formats_are_a_list_of_names(tmp_path, monkeypatch):
    "Not what is content decides but what is allowed: no reader of PostScript, of vector graphics or of a new plugin is started"
    from PIL import EpsImagePlugin
    started = []
    monkeypatch.setattr(EpsImagePlugin, 'EpsImageFile', lambda *args, **kw: started.append(1))
    monkeypatch.setitem(Image.OPEN, 'EPS', (lambda *args: started.append(1), lambda prefix: True))
    (tmp_path/'cat.png').write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n')
    for item in (tmp_path/'cat.png', (tmp_path/'cat.png').read_bytes()):
        for cls in (PILImage, PILImageBW, PILImageShown):
            with pytest.raises(ImageError, match='cannot identify'): as_image(item, cls)
    pipe = ItemPipe(digit_dls().train)
    with pytest.raises(ImageError, match='cat.png.*cannot identify'): pipe(tmp_path/'cat.png')
    report = ImageList.from_folder(tmp_path).verify(progress=False)
    assert report.readable.tolist() == [False] and not started
    assert not {'EPS', 'PS', 'WMF', 'PSD', 'FITS', 'HDF5'} & set(images.FORMATS)

@pytest.mark.parametrize('ext', ['jpg', 'png', 'gif', 'bmp', 'dib', 'tif', 'webp', 'ppm', 'jp2', 'avif'])
def test_formats_that_are_opened(tmp_path, ext):
    Image.fromarray(RGB(X[3])).resize((16,16)).save(tmp_path/f'x.{ext}')
    assert as_image(tmp_path/f'x.{ext}').size == (16,16)
    assert ItemPipe(digit_dls().train)(tmp_path/f'x.{ext}').shape == (1,16,16)

def test_photographs_of_an_iphone(tmp_path, monkeypatch):
    "HEIC is opened where `pillow-heif` is installed, with the size that it claims looked at first; elsewhere it is no image"
    pytest.importorskip('pillow_heif', reason='pillow-heif is not installed')
    Image.fromarray(RGB(X[3])).resize((64,48)).save(tmp_path/'x.heic')
    assert as_image(tmp_path/'x.heic').size == (64,48)
    monkeypatch.setattr(images, 'MAX_PIXELS', 64*48-1)
    with pytest.raises(ImageError, match='x.heic.*64×48 pixels'): as_image(tmp_path/'x.heic')
    monkeypatch.delitem(Image.OPEN, 'HEIF')
    with pytest.raises(ImageError, match='x.heic.*cannot identify'): as_image(tmp_path/'x.heic')

@pytest.mark.parametrize('ext', ['jpg', 'png', 'gif', 'bmp', 'dib', 'tif', 'webp', 'ppm', 'jp2', 'ico'])
def test_no_format_decodes_what_is_too_large(tmp_path, monkeypatch, ext):
    "Some are decoded as they are opened: they are not among those that are read"
    Image.fromarray(RGB(X[3])).resize((16,16)).save(tmp_path/f'x.{ext}')
    loaded = []
    monkeypatch.setattr(Image.Image, 'load', lambda self: loaded.append(1))
    monkeypatch.setattr(images, 'MAX_PIXELS', 255)
    with pytest.raises(ImageError, match='16×16 pixels|cannot identify'): as_image(tmp_path/f'x.{ext}')
    assert not loaded

def test_size_is_looked_at_before_decoding(tmp_path, monkeypatch):
    loaded = []
    (tmp_path/'x.jpg').write_bytes(claimed(13000))
    monkeypatch.setattr(Image.Image, 'load', lambda self: loaded.append(1))
    for cls in (PILImage, PILImageShown):
        with pytest.raises(ImageError, match='13000×13000 pixels'), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            as_image(tmp_path/'x.jpg', cls)
    assert not loaded
    monkeypatch.undo()
    monkeypatch.setattr(images, 'MAX_PIXELS', 63)
    Image.fromarray(X[0]).save(tmp_path/'y.png')
    with pytest.raises(ImageError, match='8×8 pixels'): as_image(tmp_path/'y.png')
    monkeypatch.setattr(images, 'MAX_PIXELS', 64)
    assert as_image(tmp_path/'y.png').size == (8,8)

def test_what_to_do_about_a_large_picture(tmp_path, monkeypatch):
    "Also where Pillow has a limit of its own, which is as large as 13400×13400 pixels"
    way = 'Make it smaller, or in Python set `fastai_mixmatch.images.MAX_PIXELS`'
    for size,says in ((13000, f'it has 13000×13000 pixels, more than 100000000. {way}'), (14000, f'Image size (196000000 pixels) exceeds limit .*{way} and `PIL.Image.MAX_IMAGE_PIXELS`')):
        (tmp_path/'x.jpg').write_bytes(claimed(size))
        with warnings.catch_warnings(), pytest.raises(ImageError, match=says.replace('(', r'\(').replace(')', r'\)')+'$'):
            warnings.simplefilter('ignore')
            as_image(tmp_path/'x.jpg')
    monkeypatch.setattr(images, 'MAX_PIXELS', 10**9)
    monkeypatch.setattr('PIL.Image.MAX_IMAGE_PIXELS', 10**9)
    assert images.open_file(tmp_path/'x.jpg').size==(14000,14000)

@pytest.mark.parametrize('bad, says', [(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n', 'cannot identify'), (claimed(13000), '13000×13000 pixels')], ids=['script', 'large'])
def test_files_that_fastai_opens_are_looked_at_first(tmp_path, monkeypatch, bad, says):
    "Labeled or unlabeled, by itself, in a part or after a function that gives its path: refused before Pillow decodes it"
    for c in '01': png(tmp_path/c, 3)
    (tmp_path/'1/zz.png').write_bytes(bad)
    fs, opened = sorted(tmp_path.rglob('*.png')), []
    monkeypatch.setattr('fastai.vision.core.load_image', lambda fn, **kw: (opened.append(str(fn)), load_image(fn, **kw))[1])
    monkeypatch.setattr('torchvision.datasets.folder.pil_loader', lambda fn: (opened.append(str(fn)), PILImageBW.create(fn))[1])
    y = lambda o: Path(o).parent.name
    sets = Datasets(fs, [[PILImageBW.create], [y, Categorize]]), Datasets([str(o) for o in fs], [[lambda o: Path(o), PILImageBW.create], [y, Categorize]])
    for ds in sets:
        dls = DataLoaders.from_dsets(ds, bs=2, after_item=ToTensor, after_batch=IntToFloatTensor, num_workers=0)
        with pytest.raises(ImageError, match=f'zz.png.*{says}'): LabeledDL(dls).pool.load()
        parts = Subset(ds, range(2, 7)), ConcatDataset([Subset(ds, range(2)), ds])
        for u in (ds, TfmdLists(fs, [PILImageBW.create]), torchvision.datasets.ImageFolder(tmp_path), *parts):
            with pytest.raises(ImageError, match=f'zz.png.*{says}'), warnings.catch_warnings():
                warnings.simplefilter('ignore')
                unlabeled_dl(u, digit_dls()).pool.load()
    assert len(opened) and not any('zz.png' in o for o in opened)

@pytest.mark.parametrize('kind', ['fit', 'validate', 'predict', 'torch'])
def test_files_to_validate_on_are_looked_at_first(tmp_path, monkeypatch, kind):
    "And those of a test loader: by fastai and by torchvision"
    for part in ('train','valid'):
        for c in '01': png(tmp_path/part/c, 6)
    bad, opened = tmp_path/'valid/1/zz.png', []
    bad.write_bytes(claimed(13000))
    monkeypatch.setattr('PIL.ImageFile.ImageFile.load', lambda self: opened.append(1) if self.size[0] > 9999 else load(self))
    if kind == 'torch':
        tfm = torchvision.transforms.Compose([torchvision.transforms.Grayscale(), torchvision.transforms.ToTensor()])
        sets = [torchvision.datasets.ImageFolder(tmp_path/o, tfm) for o in ('train', 'valid')]
        dls, own = DataLoaders(*[torch.utils.data.DataLoader(o, 4) for o in sets]), dict(loss_func=torch.nn.CrossEntropyLoss())
    else: dls, own = ImageDataLoaders.from_folder(tmp_path, valid='valid', bs=4, img_cls=PILImageBW, num_workers=0), {}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn = core_learner(dls, sets[0] if kind == 'torch' else tmp_path/'train', bs=4, **own)
        with pytest.raises(ImageError, match='(?s)zz.png.*13000×13000 pixels'):
            dict(fit=lambda: learn.fit(2), torch=lambda: learn.fit(1), validate=learn.validate, predict=lambda: learn.predict(bad))[kind]()
    assert not opened

load = ImageFile.ImageFile.load

def damaged(data, n, rng):
    "`n` copies of a file, cut, flipped or overwritten"
    for i in range(n):
        b = bytearray(data)
        if i%3==0: b = b[:rng.integers(1, len(b))]
        else:
            for at in rng.integers(0, len(b), rng.integers(1, 9)): b[at] = rng.integers(0, 256)
        yield bytes(b)

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', ['tiff', 'tiff_lzw', 'png', 'jpeg', 'gif', 'bmp', 'webp', 'ppm', 'jpeg2000', 'avif'])
def test_damaged_files_are_rows(kind):
    "Whatever is wrong with a file, `verify` goes on, and reading it raises nothing but `ImageError`"
    f, (fmt, *compression) = io.BytesIO(), kind.split('_')
    Image.init()
    if fmt.upper() not in Image.SAVE: pytest.skip(f'this Pillow does not write {fmt}')
    Image.fromarray(RGB(X[5])).resize((24,24)).save(f, fmt, **dict(compression='tiff_lzw') if compression else {})
    il = ImageList(list(damaged(f.getvalue(), 2000, np.random.default_rng(0))))
    report = il.verify(progress=False)
    assert len(report) and set(report.columns) == {'position', 'name', 'readable', 'problem'}
    pipe, bad = ItemPipe(digit_dls().train), set(report.position[~report.readable])
    for i, item in enumerate(il):
        try: pipe(item, i)
        except ImageError: assert i in bad
        else: assert i not in bad or 'says of itself is damaged' in report.problem[report.position == i].item()

def test_any_error_of_reading_is_a_row(monkeypatch):
    errors = iter([SyntaxError('x'), TypeError('x'), KeyError(259), OverflowError('x'), RecursionError('x')]*2)
    def fail(*args, **kw): raise next(errors)
    monkeypatch.setattr(images, 'color_mode', fail)
    report = ImageList(list(X[:5])).verify(progress=False)
    assert report.readable.tolist() == [False]*5 and '259' in report.problem[2]
    monkeypatch.undo()
    monkeypatch.setattr('fastai_mixmatch.lists.remarks', fail)
    f = io.BytesIO()
    Image.fromarray(X[0]).save(f, 'png')
    assert ImageList([f.getvalue()]*3).verify(progress=False).readable.tolist() == [False]*3

def test_names_cannot_write_on_a_terminal(tmp_path, capsys):
    names = ['\x1b[2Jcat.png', 'a\nb.png', 'a\rb.png', 'r\u202egnp.png', 'ä ö.png']
    for o in names: (tmp_path/o).write_bytes(b'no image')
    report = ImageList.from_folder(tmp_path).verify()
    text = '\n'.join(report['name'])
    with pytest.warns(UserWarning) as w, pytest.raises(ValueError): unlabeled_dl(tmp_path, digit_dls(), on_error='skip')
    for t in [text.replace('\n', ''), *(str(o.message) for o in w)]: assert t.isprintable(), t
    assert r'\x1b[2Jcat.png' in text and r'a\nb.png' in text and 'ä ö.png' in text

@pytest.mark.parametrize('mode', ['L','P','RGBA','CMYK','I;16'])
@pytest.mark.parametrize('turn', [5,6,7,8])
def test_a_turned_tiff_is_read_as_its_bytes(tmp_path, mode, turn):
    "Pillow maps such files into memory, if they are not compressed, and then takes their width for their height"
    x = np.random.default_rng(0).integers(0, 255, (8, 12), dtype=np.uint8)
    im = Image.fromarray(x.astype(np.uint16)*257 if mode=='I;16' else x)
    (im if mode=='I;16' else im.convert(mode)).save(tmp_path/'x.tif', tiffinfo={274: turn})
    got, want = (np.asarray(as_image(o, PILImageShown)) for o in (tmp_path/'x.tif', (tmp_path/'x.tif').read_bytes()))
    assert got.shape == (12,8,3) and np.array_equal(got, want)
    assert np.array_equal(ImagePipe(PILImageShown, Pipeline([ToTensor()]))(tmp_path/'x.tif').permute(1,2,0), want)
    assert ImageStack.create(tmp_path/'x.tif').shape == ImageStack.create((tmp_path/'x.tif').read_bytes()).shape

@pytest.mark.parametrize('name', ['turned.jpg', 'clear.png', 'palette.png', 'deep.png'])
def test_an_opened_image_is_read_as_its_file(tmp_path, name):
    "Turned by EXIF, transparent, of a palette with transparency, of 16 bits"
    x = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    im, exif = Image.fromarray(x), Image.Exif()
    exif[274] = 6
    if name == 'turned.jpg': im.save(tmp_path/name, exif=exif)
    elif name == 'clear.png': Image.fromarray(np.dstack([x, x[..., :1]])).save(tmp_path/name)
    elif name == 'palette.png': im.convert('P').save(tmp_path/name, transparency=0)
    else: Image.fromarray(x[..., 0].astype(np.uint16)*257).save(tmp_path/name)
    with Image.open(tmp_path/name) as opened: got = np.asarray(as_image(opened, PILImageShown))
    assert np.array_equal(got, np.asarray(as_image(tmp_path/name, PILImageShown)))

class Deep(PILImage): _open_args = dict(mode='I;16')

@pytest.mark.parametrize('part', ['labeled', 'valid', 'predicted', 'torchvision'])
@pytest.mark.filterwarnings('ignore')
def test_sixteen_bits_are_clipped_nowhere(part, tmp_path):
    "Where fastai or torchvision would open a file, too; a class of 16 bits opens it as before"
    for i in range(24):
        f = tmp_path/('labeled' if i < 8 else 'valid' if i < 16 else 'unlabeled')/'ab'[i % 2]/f'{i}.png'
        f.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[i].astype(np.uint16)*257 if part in str(f) or part == 'torchvision' and 'labeled' in str(f) else X[i]).save(f)
    deep = tmp_path/'deep.png'
    Image.fromarray(X[0].astype(np.uint16)*257).save(deep)
    def run():
        if part == 'torchvision':
            tfm = torchvision.transforms.ToTensor()
            dls = DataLoaders(*[DataLoader(torchvision.datasets.ImageFolder(tmp_path/o, tfm), 8) for o in ('labeled', 'valid')])
            return fixmatch_learner(dls, torch.rand(16, 3, 8, 8), SMALL, mu=1, loss_func=torch.nn.CrossEntropyLoss())
        images_block = TransformBlock(type_tfms=PILImage.create)
        block = DataBlock((images_block, CategoryBlock), get_items=get_image_files, get_y=parent_label, splitter=GrandparentSplitter('labeled', 'valid'),
            batch_tfms=IntToFloatTensor)
        learn = fixmatch_learner(block.dataloaders(tmp_path, bs=8, num_workers=0), tmp_path/'unlabeled', SMALL, mu=1)
        learn.fit(1)
        learn.predict(deep if part == 'predicted' else tmp_path/'valid/a/8.png')
    with pytest.raises(ImageError, match='more than 8 bits'): run()
    ds = TfmdLists([deep], Deep.create)
    assert images.color_mode(Image.open(deep), Deep) == 'I;16' and get_item(ds, 0).mode == 'I;16'

def test_an_own_function_may_open_sixteen_bits(tmp_path):
    "Which then clips nothing, whatever the class of its images"
    for i in range(24):
        f = tmp_path/('labeled' if i < 8 else 'valid' if i < 16 else 'unlabeled')/'ab'[i % 2]/f'{i}.png'
        f.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[i].astype(np.uint16)*257).save(f)
    def whole(f): return PILImage.create((np.asarray(Image.open(f))//257).astype(np.uint8))
    block = DataBlock((TransformBlock(type_tfms=whole), CategoryBlock), get_items=get_image_files, get_y=parent_label,
        splitter=GrandparentSplitter('labeled', 'valid'), batch_tfms=IntToFloatTensor)
    learn = fixmatch_learner(block.dataloaders(tmp_path, bs=8, num_workers=0), tmp_path/'unlabeled', SMALL, mu=1)
    learn.fit(1)
    pool = learn.fix_match.dl.pool
    assert (np.asarray(pool.pipe(pool.items[0]))[0] == X[16]).all()
