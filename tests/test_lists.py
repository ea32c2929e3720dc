"Which images there are, which are labeled, and which cannot be read."
import errno, json, numpy as np, os, pickle, pytest, re, torch
from fastcore.basics import defaults
from fastai.vision.all import PILImage, RandomResizedCrop, image2tensor, parent_label
from fastai_mixmatch.files import atomic_write
from fastai_mixmatch.lists import Files, usual_workers
from fastai_mixmatch.sources import as_items
from fastai_mixmatch.streams import UnlabeledDL
from helpers import *

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

def test_a_split_is_written_whole_or_not(tmp_path, monkeypatch):
    "On a full disk the split of before stays"
    f = Split([1], 3).save(tmp_path / 's.json')
    def full(fd): raise OSError('No space left')
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space'): Split([2], 3).save(f)
    assert Split.load(f) == Split([1], 3) and os.listdir(tmp_path) == ['s.json']

def test_draws_balanced_or_not():
    for n in (10, 37, 500): assert np.ptp(np.bincount(Y[draw_labeled(Y, n)])) <= 1
    assert len(set(draw_labeled(Y, 1797, balanced=False))) == 1797
    counts = np.bincount(np.concatenate([Y[draw_labeled(Y, 10, seed=s, balanced=False)] for s in range(50)]))
    assert counts.min() > 20, 'a random draw takes from all classes'

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

@pytest.mark.parametrize('workers', [0, 2])
def test_verify_lists_every_file(folder, workers, capsys):
    il = ImageList(folder.files)
    report = il.verify(num_workers=workers)
    problems = {Path(n).name: (r, p) for n,r,p in zip(report['name'], report.readable, report.problem)}
    assert set(problems)==set(folder.bad)|set(folder.odd), 'no more and no less'
    for k,v in folder.bad.items(): assert not problems[k][0] and v in problems[k][1], (k, problems[k])
    for k,v in folder.odd.items(): assert problems[k][0] and v in problems[k][1], (k, problems[k])
    said = f"images: {len(il)}, unreadable: {len(folder.bad)}, shown differently by a viewer: {len(folder.odd)}"
    assert said in capsys.readouterr().out
    good = il.readable(report)
    assert len(good)==len(il)-len(folder.bad) and not len([o for o in good.verify().readable if not o])

def test_files(folder, tmp_path):
    il = ImageList.from_folder(folder/'unlabeled')
    assert isinstance(il.items, Files) and list(il)==sorted((o for o in folder.files if not o.is_dir() or o.name!='folder.png'), key=lambda o: o.name)
    assert il[3]==il.items[3]==list(il)[3] and isinstance(il[3], Path) and il[-1]==list(il)[-1]
    assert list(il[2:9:3])==list(il)[2:9:3] and list(il[[5,1]])==[il[5],il[1]] and list(il[np.arange(len(il))%2==0])==list(il)[::2]
    with pytest.raises(IndexError): il[len(il)]
    (tmp_path/'a/b').mkdir(parents=True); (tmp_path/'.hidden').mkdir()
    for o in ('a/1.png', 'a/b/2.JPG', '0.png', '.no.png', '.hidden/3.png', 'a/4.txt'): (tmp_path/o).touch()
    (tmp_path/'a/loop').symlink_to(tmp_path); (tmp_path/'z.png').symlink_to(tmp_path/'0.png')
    names = lambda **kw: [o.relative_to(tmp_path).as_posix() for o in ImageList.from_folder(tmp_path, **kw)]
    assert names()==['0.png','a/1.png','a/b/2.JPG','z.png']
    assert names(recurse=False)==['0.png','z.png'] and names(folders=['a'])==['a/1.png','a/b/2.JPG'] and names(folders=['.'])==['0.png','z.png']
    assert ImageList.from_folder(tmp_path).items.linked and not ImageList.from_folder(tmp_path/'a', recurse=False).items.linked

def test_a_link_to_a_folder_whose_name_begins_as_this_one(tmp_path):
    "It leads elsewhere: only a folder above, or the same, is a loop"
    (tmp_path/'photo/cats').mkdir(parents=True); (tmp_path/'photos').mkdir()
    (tmp_path/'photo/cats/0.png').touch()
    for name,to in dict(cats='photo/cats', all='photo', up='.', self='photos').items(): (tmp_path/'photos'/name).symlink_to(tmp_path/to)
    assert [o.relative_to(tmp_path).as_posix() for o in ImageList.from_folder(tmp_path/'photos')]==['photos/all/cats/0.png','photos/cats/0.png']

def test_errors_of_a_file_name_it(tmp_path):
    "And not the temporary file, which nobody knows; other errors stay as they are"
    for f in (tmp_path, tmp_path/('x'*250)):
        with pytest.raises(OSError, match=re.escape(f"'{f}'")) as e: Split([0], 1).save(f)
        assert '.tmp' not in str(e.value) and e.value.errno in (errno.EISDIR, errno.ENAMETOOLONG) and type(e.value) in (IsADirectoryError, OSError)
    def elsewhere():
        with atomic_write(tmp_path/'a'): open(tmp_path/'b')
    with pytest.raises(FileNotFoundError, match=re.escape(f"'{tmp_path/'b'}'")): elsewhere()
    old = os.umask(0o027)
    try: Split([0], 1).save(tmp_path/'a')
    finally: os.umask(old)
    assert (tmp_path/'a').stat().st_mode&0o777==0o640 and not [*tmp_path.glob('.*')], 'who may read it is as for any new file'

def test_overlap_of_a_folder(folder, tmp_path):
    (tmp_path/'u').mkdir()
    for i in range(4): os.symlink(folder/'labeled/0'/f'{i}.png', tmp_path/'u'/f'{i}.png')
    os.link(folder/'labeled/1/0.png', tmp_path/'u/linked.png')
    dls = ImageDataLoaders.from_folder(folder.path, train='labeled', valid='labeled', bs=8)
    u = sorted((tmp_path/'u').iterdir())
    for o in (ImageList.from_folder(tmp_path/'u'), ImageList(u), ImageList(u[::-1]), as_items(list(map(str, u)))): assert overlap(o, dls)==4, 'links are followed'
    assert overlap(ImageList.from_folder(folder/'labeled'), dls)==8

def test_many_files_are_small(tmp_path):
    names = [f'{i//1000:03d}/image_{i:07d}.png' for i in range(200_000)]
    files, size = most(lambda: Files(tmp_path, names))
    assert size<80*len(names) and files[123_456]==tmp_path/names[123_456] and len(files)==200_000

def test_list_of_texts_is_not_turned_into_paths(folder):
    good = [str(o) for o in folder.files if o.name.startswith('good')]
    il = as_items(good)
    assert isinstance(il.items, Files) and list(il)==list(map(Path, good)) and il[::2].items[1]==Path(good[2])
    many = [f'/data/{i:07d}.png' for i in range(50_000)]
    assert most(lambda: as_items(many))[1]<80*len(many)
    dls = ImageDataLoaders.from_folder(folder.path, train='labeled', valid='labeled', bs=8, item_tfms=Resize(8))
    assert UnlabeledDL(good, dls).pool.image_name(3)==good[3]

@pytest.mark.parametrize('blank', [None, '', float('nan'), np.float32('nan')])
def test_blank_labels_are_no_class(blank):
    il = ImageList.from_arrays(X[:30], [*map(str, Y[:28]), blank, blank], img_cls=PILImageBW)
    for f in (il.choose, il.split, lambda n: il.dataloaders(bs=5), lambda n: il[:20].dataloaders(il[20:], bs=5)):
        with pytest.raises(ValueError, match='2 of (30|10) images have no label, the first is (28|8); leave them out'): f(10)
    some = il[[o==o and o not in ('', None) for o in il.labels]]
    assert ImageList(il.items, il.labels, [Resize(8)], img_cls=PILImageBW)[28][1] == -1
    assert len(some) == 28 and some.dataloaders(il[:5], bs=5).vocab == [*'0123456789']

def test_many_images_are_read_by_workers(): assert usual_workers(1000)==0 and usual_workers(1001)==min(8, defaults.cpus)

@pytest.mark.nightly # By commit: workers of a loader, in test_learner
def test_workers_that_read_images_for_an_unguarded_program(tmp_path):
    "One sentence, and no traceback of PyTorch's loader"
    for i in range(3): Image.fromarray(X[i]).save(tmp_path/f'{i}.png')
    (tmp_path/'program.py').write_text(f"import multiprocessing; multiprocessing.set_start_method('spawn', force=True)\n"
        f"from fastai_mixmatch.all import *\nImageList.from_folder({str(tmp_path)!r}).verify(num_workers=1, progress=False)")
    p = forks().run(tmp_path/'program.py', env=own_env(), timeout=300)
    lines = [o for o in p.stderr.splitlines() if o.strip()]
    assert p.returncode==1 and lines[-1].startswith('RuntimeError: a worker') and "put the training under `if __name__=='__main__':`" in lines[-1]
    assert p.stderr.count('Traceback')==1 and len(lines)<20

@pytest.mark.parametrize('workers', [0, 2])
def test_checking_draws_no_random_number(workers):
    il, before = ImageList.from_arrays(X[:9], img_cls=PILImageBW), torch.get_rng_state()
    il.verify(workers, progress=False)
    assert torch.equal(torch.get_rng_state(), before)

def test_a_list_that_was_checked_is_not_checked_again(monkeypatch):
    il = ImageList.from_arrays(X[:9], img_cls=PILImageBW)
    report = il.verify(progress=False)
    monkeypatch.setattr(ImageList, 'verify', None)
    assert len(il.readable(report))==9

def test_the_vocabulary_keeps_its_order():
    il = ImageList(X[:4], ['cat', 'ant', 'cat', 'ant'], vocab=['cat', 'ant'])
    dls = il.dataloaders(bs=2, num_workers=0)
    assert list(dls.vocab)==['cat', 'ant'] and [int(y) for _, y in dls.train_ds]==[0, 1, 0, 1]
