"""The data sets: scikit-learn's digits, which need no file, MNIST and CIFAR-10.

The last two are read from the folders that `untar_data(URLs.MNIST)` and `untar_data(URLs.CIFAR)` leave, from a tar
file of such folders, or from an `.npz` file with the arrays `x_train`, `y_train`, `x_test` and `y_test`.
"""
import io, tarfile
from pathlib import Path

import numpy as np
from fastai.vision.all import (
    Image, PILImage, PILImageBW, Pipeline, TensorCategory, URLs, image_extensions, parent_label, progress_bar,
    untar_data)
from fastai_mixmatch.all import *
from fastai_mixmatch.distributed import has_bars
from fastai_mixmatch.sources import class_names
from fastai_mixmatch.pool import ItemPipe, as_pool

# Where each is found: its URL, the names of the training and of the test folder, how its images are opened
sources = dict(mnist=(URLs.MNIST, ('training','testing'), PILImageBW), cifar10=(URLs.CIFAR, ('train','test'), PILImage))

# --- files, arrays

def load_npz(path, img_cls=PILImageBW):
    "Training and test `ImageList` of the images in an `.npz` file"
    d = np.load(path)
    if missing := {'x_train','y_train','x_test','y_test'} - set(d.files):
        raise ValueError(f"{path} has no array {', '.join(sorted(missing))}; it has {', '.join(d.files)}")
    return tuple(ImageList.from_arrays(d[f'x_{o}'], d[f'y_{o}'], img_cls=img_cls) for o in ('train','test'))

def folder_files(path, parts):
    "Names, labels and paths of the images in `path/<part>/<class>/`, for each of `parts`, in the order of the names"
    if missing := [o for o in parts if not (Path(path)/o).is_dir()]:
        raise FileNotFoundError(f"{path} has no folder {' and no folder '.join(missing)}; expected {parts[0]}/<class>/ "
                                f"and {parts[1]}/<class>/ with the images in them")
    lists = [ImageList.from_folder(Path(path)/o, label_func=parent_label) for o in parts]
    return [([str(f) for f in il.items], il.labels, list(il.items)) for il in lists]

def tar_files(path, parts):
    "Names, labels and bytes of the images in a tar file of such folders, at any depth"
    rows = {o: [] for o in parts}
    with tarfile.open(path) as t:
        for m in t:
            place = Path(m.name).parts[-3:]
            if not m.isfile() or len(place)<3 or place[0] not in rows: continue
            if Path(m.name).suffix.lower() not in image_extensions: continue
            rows[place[0]].append((m.name, place[1], t.extractfile(m).read()))
    if not all(rows.values()):
        found = ' and '.join(f'{len(v)} images in {k}/<class>/' for k,v in rows.items())
        raise ValueError(f"{path} holds {found}; expected some in both")
    return [tuple(zip(*sorted(o))) for o in rows.values()]

def decode(names, labels, files, img_cls=PILImage):
    "`ImageList` of one array: `files` (paths or bytes), all of one size, decoded into memory"
    mode,xs = img_cls._open_args.get('mode', 'RGB'),[]
    if len(names)>2000:
        print(f"decoding {len(names)} images", flush=True)
        if has_bars(): files = progress_bar(files, leave=False)
    for name,o in zip(names, files):
        try:
            with Image.open(io.BytesIO(o) if isinstance(o, bytes) else o) as im: xs.append(np.asarray(im.convert(mode)))
        except Exception as e: raise ImageError(f"cannot read image {name}: {type(e).__name__}: {e}") from e
        if xs[-1].shape!=xs[0].shape:
            raise ValueError(f"{name} is {xs[-1].shape} pixels, {names[0]} {xs[0].shape}; expected images of one size")
    return ImageList.from_arrays(np.stack(xs), labels, img_cls=img_cls)

# --- all of them by name

def load_data(name, path=None, limit=None):
    """Training and test `ImageList` of 'digits', 'mnist' or 'cifar10'

    `path` is a folder or a file; by default the data is downloaded. `limit`: only so many training and test images,
    as many of each class; no other is decoded. `ValueError` for a file that is not one.
    """
    def chosen(labels):
        return range(len(labels)) if limit is None or limit>=len(labels) else draw_labeled(labels, limit)
    if name=='digits': return tuple(o[chosen(o.labels)] for o in digits_lists())
    url,parts,img_cls = sources[name]
    path = Path(path) if path else untar_data(url)
    if not path.exists(): raise FileNotFoundError(f"no file or folder {path}; leave `--data` out to download {name}")
    if path.suffix=='.npz': return tuple(o[chosen(o.labels)] for o in load_npz(path, img_cls))
    if not path.is_dir() and not tarfile.is_tarfile(path):
        raise ValueError(f"{path} is neither a folder, an .npz file nor a tar file")
    files = (folder_files if path.is_dir() else tar_files)(path, parts)
    train,test = (decode(*[[c[i] for i in chosen(cols[1])] for c in cols], img_cls) for cols in files)
    return train, ImageList(test.items, labels=test.labels, img_cls=img_cls, vocab=train.vocab)

def load_arrays(name, path=None):
    "Training images in uint8, their labels, test images, their labels, of a data set by name"
    return [np.asarray(o) for il in load_data(name, path) for o in (il.items, il.labels)]

# --- test batches

class MemoryDL:
    "Batches `(x, y)` of all images of `il`, decoded once and on the device, with the transforms of `train_dl`"
    def __init__(self, il, train_dl, bs=500): # A divisor of 10 000: one size to compile for
        pipe = ItemPipe(train_dl)
        self.dataset,self.bs,self.cls = il,bs,pipe.cls
        self.pool = as_pool(il, pipe, class_names(train_dl.dataset)).load()
        self.after = Pipeline(train_dl.after_batch.fs, split_idx=1)

    def __len__(self): return -(-len(self.pool)//self.bs)

    def __iter__(self):
        for x,y in zip(self.pool.x.split(self.bs), self.pool.y.split(self.bs)):
            yield self.after((x.clone().as_subclass(self.cls), TensorCategory(y)))

    def to(self, device):
        self.pool.x,self.pool.y = self.pool.x.to(device),self.pool.y.to(device)
        return self
