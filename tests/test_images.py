"One file, array or picture: opened as it is said, or an error that names it."
import collections, itertools, json, numpy as np, os, pandas as pd, pickle, pytest, random, torch, warnings
from helpers_data import *

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
