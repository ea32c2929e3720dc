"Decoded images on disk: taken when they are right, made again, with a line that says so, when they are not."
import fcntl, json, os, numpy as np, pytest, random, re, subprocess, sys, time, torch
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from fastai.vision.all import Image, ImageDataLoaders, PILImage, PILImageBW, ProgressCallback, RandomResizedCrop, Resize, Transform, noop, set_seed
from fastai_mixmatch import pool as pool_module
from fastai_mixmatch.all import ImageList, mixmatch_learner, small_cnn
from fastai_mixmatch.cache import DiskCache
from fastai_mixmatch.images import ImageError
from fastai_mixmatch.streams import UnlabeledDL
from helpers import forks

N, R = 70, np.random.default_rng(0)
PIX = R.integers(0, 256, (N, 12, 12), dtype=np.uint8)

@pytest.fixture
def root(tmp_path):
    for part, k in (('labeled', 20), ('valid', 4), ('unlabeled', N)):
        for i in range(k):
            f = tmp_path/part/str(i%2)/f'{i:02d}.png'
            f.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PIX[i]).save(f)
    return tmp_path

def dls(root, **kw): return ImageDataLoaders.from_folder(root, train='labeled', valid='valid', img_cls=PILImageBW, bs=10, num_workers=0, **kw)

def load(root, unlabeled=None, cache=None, on_error='raise', workers=0, **kw):
    u, cache = root/'unlabeled' if unlabeled is None else unlabeled, root/'kept' if cache is None else cache
    return UnlabeledDL(u, dls(root, **kw), cache=cache, on_error=on_error).pool.load(workers)

@pytest.fixture
def made(monkeypatch):
    "How often a pool was decoded"
    made, old = [], pool_module.Pool.decode
    def decode(self, *args): made.append(self.kind); return old(self, *args)
    monkeypatch.setattr(pool_module.Pool, 'decode', decode)
    return made

def again(root, made, capsys, why, **kw):
    "Decoded again, with a line that says why, to what a pool in memory holds; and then no more."
    capsys.readouterr(); made.clear()
    got, out = load(root, **kw), capsys.readouterr().out
    assert made == ['unlabeled'] and out.count('\n') == 1 and str(root/'kept') in out and why in out
    assert torch.equal(got.x, load(root, cache=True, **kw).x)
    made.clear()
    assert torch.equal(load(root, **kw).x, got.x) and not made and not capsys.readouterr().out

@pytest.mark.parametrize('kind', ['folder', 'str', 'list', 'ImageList'])
def test_second_time_nothing_is_decoded(root, made, capsys, kind):
    d = root/'unlabeled'
    u = dict(folder=d, str=str(d), list=sorted(d.glob('*/*.png')), ImageList=ImageList.from_folder(d, label_func=lambda o: o.parent.name, img_cls=PILImageBW))[kind]
    a, b = load(root, u), load(root, u, cache=str(root/'kept'))
    assert made == ['unlabeled'] and not capsys.readouterr().out
    assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and a.kept == b.kept and a.x.shape == (N, 1, 12, 12)
    assert torch.equal(a.x, load(root, u, cache=True).x) and sorted(os.listdir(root/'kept')) == ['images.json', 'images.npy']
    assert b.has_labels == (kind == 'ImageList') and b.image_name(3) == a.image_name(3)

def test_by_a_learner(root, made):
    "In a learner: the second one, as from a second start of the program, trains on the same images."
    def run():
        set_seed(0)
        learn = mixmatch_learner(dls(root), root/'unlabeled', arch=small_cnn, cache=root/'kept')
        learn.remove_cb(ProgressCallback); learn.logger = noop
        learn.fit(1)
        return torch.stack(learn.recorder.losses), learn.mix_match.dl.pool
    (a, _), (b, pool) = run(), run()
    assert torch.equal(a, b) and made.count('unlabeled') == 1
    before = (root/'kept'/'images.npy').read_bytes()
    pool.x.zero_()
    assert (root/'kept'/'images.npy').read_bytes() == before, 'the file does not follow the tensor'

def touch(root): os.utime(root/'unlabeled/0/00.png', (0, 0))
def rewrite(root): Image.fromarray(PIX[9]).save(root/'unlabeled/0/00.png')
def add(root): Image.fromarray(PIX[9]).save(root/'unlabeled/0/new.png')
def remove(root): (root/'unlabeled/0/00.png').unlink()

@pytest.mark.parametrize('change', [touch, rewrite, add, remove])
def test_other_files(root, made, capsys, change):
    load(root); change(root)
    again(root, made, capsys, 'other files')

def test_other_transforms(root, made, capsys):
    load(root)
    again(root, made, capsys, 'other files, labels or transforms', item_tfms=Resize(8))
    again(root, made, capsys, 'other files, labels or transforms', item_tfms=Resize(8, method='squish'))
    again(root, made, capsys, 'other files, labels or transforms')

def test_a_transform_that_changed_under_its_name(root, made, capsys):
    "What it is called is the same, what it does is not, if only to image 5, which is none of those that are read again"
    def tfm(by):
        def shrink(im:PILImage): return im.point(lambda v: v//by) if np.array_equal(im, PIX[5]) else im
        return Transform(shrink)
    load(root, item_tfms=tfm(2))
    again(root, made, capsys, 'other files, labels or transforms', item_tfms=tfm(3))

def flip(f, at=1000): b = bytearray(f.read_bytes()); b[at] ^= 1; f.write_bytes(b)
def cut(f): os.truncate(f, f.stat().st_size-1)
def empty(f): f.write_bytes(b'')
def gone(f): f.unlink()
def other(f): f.write_text('[]')
def swap(f):
    meta = json.loads(f.read_text()); meta['kept'].reverse(); f.write_text(json.dumps(meta))
def lose(f):
    meta = json.loads(f.read_text()); del meta['y']; f.write_text(json.dumps(meta))

@pytest.mark.parametrize('name, damage', [('npy', flip), ('npy', cut), ('npy', empty), ('npy', gone), ('json', cut), ('json', empty), ('json', gone), ('json', other), ('json', swap), ('json', lose)])
def test_damage(root, made, capsys, name, damage):
    load(root)
    damage(root/'kept'/f'images.{name}')
    again(root, made, capsys, 'decoded again')

def test_interrupted(root, made, monkeypatch, capsys):
    "Ctrl-C while it is made leaves nothing of it, and what was there before."
    read = pool_module.Pool.read
    def stop(self, i):
        if i == 40: raise KeyboardInterrupt
        return read(self, i)
    for old in (False, True):
        if old: load(root); touch(root)
        with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
            m.setattr(pool_module.Pool, 'read', stop)
            load(root)
        assert sorted(os.listdir(root/'kept')) == (['images.json', 'images.npy'] if old else [])
    again(root, made, capsys, 'other files')

def test_a_crash_between_the_two_files(root, made, capsys):
    "New images beside an old description"
    load(root)
    old = (root/'kept/images.json').read_text()
    touch(root); rewrite(root); load(root)
    (root/'kept/images.json').write_text(old)
    again(root, made, capsys, 'other files')

def test_skipped_images_stay_skipped(root, made):
    (root/'unlabeled/0/00.png').write_bytes(b'no image')
    with pytest.raises(ImageError, match='00.png'): load(root)
    with pytest.warns(UserWarning): a = load(root, on_error='skip')
    made.clear()
    with pytest.warns(UserWarning): b = load(root, on_error='skip')
    assert not made and len(b) == N-1 and b.kept == a.kept and b.skipped == a.skipped and '00.png' in b.skipped[0] and torch.equal(a.x, b.x)
    with pytest.raises(ImageError, match='00.png'): load(root)

def test_by_workers(root, monkeypatch):
    "Decoded by two processes, in batches that do not come out even, with an unreadable image: the same."
    monkeypatch.setattr(pool_module.time, 'perf_counter', iter(range(0, 10**6, 100)).__next__) # So that decoding counts as slow
    (root/'unlabeled/1/65.png').write_bytes(b'no image')
    a, b = (load(root, on_error='skip', workers=w, cache=c) for w, c in ((2, root/'kept'), (0, True)))
    assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and a.kept == b.kept and a.skipped == b.skipped and len(a) == N-1

@pytest.mark.parametrize('workers', [0, 2])
def test_reading_draws_no_number(root, monkeypatch, workers):
    "Decoded here, by processes or taken from the disk: what is drawn afterwards is the same. fastai's Resize draws two numbers for an image."
    monkeypatch.setattr(pool_module.time, 'perf_counter', iter(range(0, 10**6, 100)).__next__) # So that decoding counts as slow
    for cache in (True, root/'kept', root/'kept'):
        pool = UnlabeledDL(root/'unlabeled', dls(root, item_tfms=Resize(8)), cache=cache).pool
        before = random.getstate()
        pool.load(workers)
        assert random.getstate()==before

def test_refused(root):
    with pytest.raises(ValueError, match='random'): load(root, item_tfms=RandomResizedCrop(8))
    with pytest.raises(ValueError, match="'folder'.*leave `cache` out"): load(root, PIX, cache='folder')
    assert not (root/'folder').exists()
    (root/'file').write_text('')
    with pytest.raises(OSError, match='file'): load(root, cache=root/'file')
    assert (root/'file').read_text() == ''

# --- what a stranger, a kill or another program can do

def test_every_pixel_is_looked_at(root, made, capsys):
    "Other pixels with the old checksum's value, or anywhere: found"
    for at in (200, 5000, 128+N*144-1):
        load(root)
        flip(root/'kept/images.npy', at)
        again(root, made, capsys, 'damaged')

def forge(f):
    "Another array of the right size"
    np.save(f, np.zeros((N, 1, 12, 12), np.uint8))
def reshape(f): np.save(f, np.load(f).reshape(N, 1, 144, 1))
def huge(f):
    "A header that claims more than there is"
    with open(f, 'r+b') as o: np.lib.format.write_array_header_1_0(o, dict(descr='|u1', fortran_order=False, shape=(2**40, 1, 12, 12)))
def objects(f): np.save(f, np.array([dict()], dtype=object))

@pytest.mark.parametrize('damage', [forge, reshape, huge, objects])
def test_forged(root, made, capsys, damage):
    load(root)
    damage(root/'kept/images.npy')
    again(root, made, capsys, 'decoded again')

def pipe(f): f.unlink(); os.mkfifo(f)
def device(f): f.unlink(); f.symlink_to('/dev/zero')
def deep(f): f.write_text('['*10**5)
def meta(**kw):
    "Another description, whose digest and checksum fit"
    def change(f):
        o = {**json.loads(f.read_text()), **kw}
        o['check'] = DiskCache.check(None, np.load(f.with_suffix('.npy')), o)
        f.write_text(json.dumps(o))
    return change

@pytest.mark.parametrize('name, damage', [('npy', pipe), ('json', pipe), ('npy', device), ('json', device), ('json', deep), ('json', meta(y=[])), ('json', meta(y=['a']*N)),
    ('json', meta(kept=[10**6]*N)), ('json', meta(kept=[0])), ('json', meta(kept='x'*N)), ('json', meta(skipped=5))])
def test_planted_content(root, made, capsys, name, damage):
    "A pipe would be waited for, a device read for ever; a description may hold anything"
    load(root)
    damage(root/'kept'/f'images.{name}')
    again(root, made, capsys, 'decoded again')

def test_planted_names_are_safe_to_print(root, made):
    load(root)
    meta(skipped=['\x1b[2J\nx.png'])(root/'kept/images.json')
    assert load(root).skipped==['\\x1b[2J\\nx.png']

def test_planted_links(root, made):
    "Names of temporary files cannot be guessed, and a link in the place of the file is replaced, not followed"
    victim = root/'victim'
    victim.write_text('mine')
    (root/'kept').mkdir()
    for o in ('images.npy', 'images.json', f'images.{os.getpid()}.bin.tmp'): (root/'kept'/o).symlink_to(victim)
    load(root)
    assert victim.read_text() == 'mine' and not (root/'kept/images.npy').is_symlink()

def test_a_cut_map_is_noticed(root, monkeypatch):
    "A pool larger than memory is mapped: cut while it is in use, the stream says so before it reads"
    monkeypatch.setattr(pool_module, 'CACHE_LIMIT', 100)
    load(root)
    dl = UnlabeledDL(root/'unlabeled', dls(root), cache=root/'kept', bs=10)
    dl.pool.load()
    assert dl.pool.disk.map is not None and dl.pool.x.data_ptr() == dl.pool.disk.map.ctypes.data
    stream = iter(dl)
    next(stream)
    os.truncate(root/'kept/images.npy', 200)
    with pytest.raises(OSError, match='was cut short while in use; delete'): next(stream)

def test_what_fits_is_read_into_memory(root):
    pool = load(root)
    x = pool.x.clone()
    os.truncate(root/'kept/images.npy', 0)
    assert pool.disk.map is None and torch.equal(pool.x, x)

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_cache import load, pool_module
read = pool_module.Pool.read
def stop(self, i):
    if i == 40: os.kill(os.getpid(), signal.SIGKILL)
    return read(self, i)
pool_module.Pool.read = stop
load(Path({root!r}))
"""

def test_a_kill_leaves_nothing_for_ever(root, made):
    code = KILLED.format(tests=os.path.dirname(__file__), root=str(root))
    assert forks().run('-c', code).returncode == -9
    assert len(left := os.listdir(root/'kept')) == 1 and left[0].endswith('.tmp')
    load(root)
    assert sorted(os.listdir(root/'kept')) == ['images.json', 'images.npy']

def test_two_programs_at_once(root, made):
    "The second waits for the first, and takes what that has made"
    load(root, cache=True)
    (root/'kept').mkdir()
    made.clear()
    fd = os.open(root/'kept', os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(load, root) for _ in range(2)]
        time.sleep(1)
        assert not made and not any(o.done() for o in jobs)
        os.close(fd)
        a, b = (o.result() for o in jobs)
    assert torch.equal(a.x, b.x) and made == ['unlabeled']

LIMITED = '''
import resource, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from test_cache import load
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
load(Path(sys.argv[2]))
'''
@pytest.mark.nightly
def test_no_room_names_the_file(root):
    "A limit on the size of files stands for a full disk"
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', LIMITED, str(Path(__file__).parent), str(root)], capture_output=True, text=True)
    assert res.returncode and re.search(r"OSError: \[Errno 27\] .*images\.npy", res.stderr), res.stderr
    assert not [*(root/'kept').glob('*.npy')] and not [*(root/'kept').glob('.*.tmp')]
