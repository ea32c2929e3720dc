"Broken files, classes that are rare or unknown, numbers that are not finite, and long runs: said, counted, survived."
import time, warnings
from functools import partial

import pytest
from fastai.vision.all import ImageDataLoaders, Path, PILImage, PILImageBW, Resize, ResizeMethod
from fastai_mixmatch.all import *
from fastai_mixmatch.fingerprint import describe_items
from fastai_mixmatch.lists import Files
from fastai_mixmatch.sources import as_items
from helpers import most

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
    names = [f'{i//1000:03d}/image_{i:07d}.png' for i in range(10_000)]
    files = Files(tmp_path, names)
    text, size = most(lambda: describe_items(files))
    assert size<20*len(names)
    for o in ([tmp_path/o for o in names], list(map(Path, names))): assert describe_items(o)==text
    assert describe_items(as_items([str(tmp_path/o) for o in names]))=={**text, 'opening': ['PILImage']} # A list that opens them
    assert text!=describe_items(Files(tmp_path, names[::-1])) and text['']==10_000
