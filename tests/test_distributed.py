"Two real processes on the CPU train together as one would: the same steps, nothing seen twice, everything that adapts equal."
import importlib.util, itertools, json, os, socket, tarfile, time
from pathlib import Path
from subprocess import STDOUT
from types import SimpleNamespace

import numpy as np, pytest, torch
from fastai.vision.all import PILImageBW
from torch.utils.data import IterableDataset, get_worker_info
from fastai_mixmatch import distributed
from fastai_mixmatch.all import ImageList, digits_sample
from fastai_mixmatch.distributed import meet
from fastai_mixmatch.streams import LabeledDL, PoolDL, Walk, unlabeled_dl
from helpers import forks, on_rank

root = Path(__file__).resolve().parent.parent
needs_accelerate = pytest.mark.skipif(importlib.util.find_spec('accelerate') is None, reason='accelerate is not installed: pip install -e .[dev]')

def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    mod = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mod)
    return mod

run = load(root/'tests/distributed_run.py')
example = load(root/'examples/train_distributed.py')

N = 310 # Unlabeled images of the folder that can be read

def two(script, *args, wait=120, **kwargs):
    """Start a script in two processes, without `torchrun`, which would end the second with the first. An exchange
    waits for `wait` seconds: longer than a loaded machine lets a process rest; no time is measured, only that there is an end"""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1',
               'MASTER_PORT': str(s.getsockname()[1]), 'MIXMATCH_TIMEOUT': str(wait)}
    return [forks().start(f'tests/{script}', *args, cwd=root, env={**env, 'RANK': str(r), 'LOCAL_RANK': str(r)}, **kwargs) for r in range(2)]

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    tmp = tmp_path_factory.mktemp('distributed')
    digits_sample(tmp/'digits', 40, n_test=201)
    for f in sorted((tmp/'digits/unlabeled').iterdir())[N:]: f.unlink()
    (tmp/'digits/unlabeled/broken.png').write_bytes(b'no image')
    return tmp

@pytest.fixture(scope='module')
def end(folder):
    "Statuses and output of the two processes, and seconds from their results to their end"
    with open(folder/'said.txt', 'w') as f: both = two('distributed_run.py', folder, stdout=f, stderr=STDOUT)
    try: rcs = [o.wait(timeout=600) for o in both]
    finally:
        for o in both: o.kill()
    said = (folder/'said.txt').read_text()
    assert (folder/'1.pt').exists(), said
    return rcs, said, time.time()-(folder/'0.pt').stat().st_mtime

@pytest.fixture(scope='module')
def both(folder, end):
    "What the two processes noted"
    return [torch.load(folder/f'{r}.pt', weights_only=False) for r in range(2)]

@pytest.fixture(scope='module')
def one(): return run.given(0, 1)

def same(a, b): return len(a)==len(b) and all(torch.equal(x, y) for x,y in zip(a, b))

@needs_accelerate
def test_two_processes_step_as_one(both, one):
    a,b = [o['given'] for o in both]
    assert one['steps']==a['steps']==b['steps']==22
    two = (np.array(a['losses'])+b['losses'])/2
    assert np.abs(two[:20]-one['losses'][:20]).max()<1e-4 and np.ptp(one['losses'])>0.05
    for i,j,k in zip(one['seen'], a['seen'], b['seen']): assert i==j+k, 'a global batch is cut in two, in order'
    # After the two last steps rounding has been amplified by Adam; what depends on the weights agrees as they do
    assert max(float((p-q).abs().max()) for p,q in zip(one['params'], a['params']))<1e-3
    for k in ('frequencies','known'): assert torch.allclose(one[k], a[k], atol=1e-3), k
    for col in ('loss_x','loss_u','lambda_u','confidence','guess_acc','valid_loss','accuracy'):
        assert a['rows'][0][col]==pytest.approx(one['rows'][0][col], abs=5e-3), col

@needs_accelerate
@pytest.mark.parametrize('part', ['given', 'ordinary'])
def test_processes_stay_equal(both, part):
    a,b = [o[part] for o in both]
    for k in ('params','avg'): assert same(a[k], b[k]), k
    for k in ('frequencies','known'): assert torch.equal(a[k], b[k]), k
    assert a['rows'] and [{k: v for k,v in r.items() if k!='time'} for r in a['rows']]==[{k: v for k,v in r.items() if k!='time'} for r in b['rows']]
    assert a['wrapped']==b['wrapped']!='DistributedDataParallel' and a['device_loaders']==['TfmdDL', 'TfmdDL']

@needs_accelerate
def test_no_image_twice(both):
    a,b = [o['ordinary']['seen'] for o in both]
    assert len(a)==len(b)==3*(-(-N//40))
    for e in range(3):
        epoch = slice(e*len(a)//3, (e+1)*len(a)//3)
        assert sorted(itertools.chain(*a[epoch], *b[epoch]))==list(range(N))

@needs_accelerate
def test_metrics_are_those_of_the_whole_validation_set(both, one):
    for o in both:
        o = o['ordinary']
        assert o['rows'][-1]['accuracy']==o['validated']['accuracy']==pytest.approx(o['accuracy'], abs=1/202), 'fastai repeats an image where their number is odd'
        assert same(o['buffers'], both[0]['ordinary']['buffers']), 'running statistics of the average'
    assert both[0]['given']['rows'][-1]['accuracy']==pytest.approx(one['rows'][-1]['accuracy'], abs=1e-6), 'exact where it is even'

@needs_accelerate
def test_the_first_process_speaks(both):
    a,b = [o['ordinary'] for o in both]
    assert b['out']=='' and 'accuracy' in a['out'] and 'skipped 1 unreadable' in a['out']
    assert len(a['skipped'])==1 and 'broken.png' in a['skipped'][0]

@needs_accelerate
@pytest.mark.parametrize('name', list(run.METHODS))
def test_every_method(both, name):
    "Weights and what adapts are equal in both processes, though each has seen other images"
    a,b = [o['relatives'][name] for o in both]
    assert same(a['params'], b['params']) and a['adaptive'].keys()==b['adaptive'].keys()
    for k,v in a['adaptive'].items(): assert torch.equal(v, b['adaptive'][k]), k
    assert all(torch.isfinite(p).all() for p in a['params']) and a['loss_u']==b['loss_u'] and (name=='MixUpLabeled' or a['loss_u']!=0)
    if name=='FixMatch': assert (a['taught']<1).any() and torch.equal(a['taught'], b['taught'])

@needs_accelerate
@pytest.mark.parametrize('name', ['flex_match', 'free_match', 'soft_match'])
def test_what_adapts_is_that_of_one_process(both, name):
    "The weight of each guess, and the state, in two processes with half of each batch as in one with the whole"
    one,(a,b) = run.adaptive(0, 1)[name],[o['adaptive'][name] for o in both]
    for t,m in enumerate(one['masks']): assert torch.allclose(torch.cat([a['masks'][t], b['masks'][t]]), m, atol=1e-9)
    assert 0<torch.cat(one['masks']).mean()<1 and len(one['state'])
    for k,v in one['state'].items(): assert torch.allclose(a['state'][k], v, atol=1e-9) and torch.equal(a['state'][k], b['state'][k]), k

@needs_accelerate
def test_an_error_in_one_process_ends_both(end):
    rcs,out,seconds = end
    assert all(rcs) and 'cannot read image' in out and 'no such file.png' in out
    assert seconds<100, 'the other process must not wait for the group to time out'

@needs_accelerate
def test_the_example(tmp_path):
    "As the page on several processes starts it, there by `torchrun`"
    with open(tmp_path/'said', 'w') as f:
        both = two('../examples/train_distributed.py', '--epochs', '1', '--shards', '--path', tmp_path, stdout=f, stderr=STDOUT)
    try: rcs = [o.wait(timeout=600) for o in both]
    finally:
        for o in both: o.kill()
    said = (tmp_path/'said').read_text()
    assert rcs==[0,0], said
    last = json.loads([o for o in said.splitlines() if o.startswith('{')][-1])
    assert said.count('"processes": 2')==1 and last['steps']==len([*(tmp_path/'digits/unlabeled').iterdir()])//64 and 0<=last['accuracy']<=1

def test_a_loader_is_divided_on_any_device():
    "fastai would send the order as a tensor of CUDA, and divide by the number of images, which may be 0"
    class Fake(SimpleNamespace):
        def _broadcast(self, t, rank): raise AssertionError('this needs CUDA')
    assert distributed.on_any_device(Fake(dataset=[], dl=1)).get_idxs()==[]
    assert (distributed.own_loader(Fake(dl=1)), distributed.own_loader(2))==(1,2)

# --- processes that differ, or die

def ended(pair):
    "Wait for the end of the first of two processes, and end the second"
    try: assert pair[0].wait(timeout=1200)==0
    finally:
        for o in pair: o.kill(); o.wait()

@pytest.fixture(scope='module')
def differing(tmp_path_factory):
    "Folder of what the processes said, and the end of the first"
    folder = tmp_path_factory.mktemp('ranks')
    ended(two('ranks_run.py', folder, 'numbers', 'nothing', 'again', 'images', 'labels', 'number', 'lr', 'folder', 'file', 'checkpoint', 'accumulation', 'clip', 'plateau',
        'only', 'early', 'logs', 'name', 'killed'))
    return folder, (folder/'killed 0').read_text()

@pytest.fixture(scope='module')
def waiting(tmp_path_factory):
    "What the first of two processes says after a wait, for two pairs that wait at one time: the second stands still, or does something else"
    folder = tmp_path_factory.mktemp('waiting')
    pairs = {o: two('ranks_run.py', folder, o, wait=10) for o in ('stopped','canceled')}
    try:
        for o in pairs.values(): ended(o)
    finally:
        for o in sum(pairs.values(), []): o.kill()
    return {o: (folder/f'{o} 0').read_text() for o in pairs}

@needs_accelerate
@pytest.mark.parametrize('what, says', [
    ('nothing', '4 steps'), ('again', '4 steps'), ('images', 'unlabeled images.pixels: '),
    ('labels', 'labeled images.labels: '), ('number', 'unlabeled images: 120 in process 0; 60 in process 1'),
    ('lr', 'lr: [0.002] in process 0; [0.003] in process 1'), ('folder', 'process 1: the checkpoint folder '),
    ('file', 'process 1: cannot read the checkpoint '), ('checkpoint', 'checkpoint: true in process 0; false in process 1'),
    ('accumulation', '. gradient_accumulation.n_acc: 8 in process 0; 16 in process 1'), ('clip', '. gradient_clip.max_norm: 1.0 in process 0; 0.001 in process 1'),
    ('plateau', '. reduce_lr_on_plateau.factor: 10 in process 0; 2 in process 1'), ('only', '. bn_freeze: missing in process 0; '),
    ('early', 'early_stopping: "EarlyStoppingCallback" in process 0; missing in process 1'), ('logs', '4 steps'),
    ('name', '. threshold: 0.95 in process 0; 0.9 in process 1')])
def test_processes_compare_before_the_first_step(differing, what, says):
    folder,_ = differing
    a,b = [(folder/f'{what} {r}').read_text() for r in range(2)]
    assert a==b and says in a
    n = dict(images=1, labels=2).get(what) # Other labels are another number of each class
    if n: assert 'in process 0; ' in a and a.count('in process 1')==n, 'nothing else differs'
    if what=='labels': assert 'labels of a class: ' in a

@needs_accelerate
def test_a_killed_process_is_named(differing):
    assert 'process 0 ends, since it gets no answer from process 1' in differing[1]

@needs_accelerate
def test_a_process_that_stands_still_is_named(waiting):
    assert 'process 0 ends, since it gets no answer from process 1' in waiting['stopped']

@needs_accelerate
def test_processes_that_do_other_things_are_told_so(waiting):
    "One leaves the fit, and both wait for the other"
    assert 'process 0 ends, since all processes run, but wait for different things. Look for ' in waiting['canceled']

@pytest.mark.parametrize('rank, world, says', [(0, 2, 'process 0 found no process 1 within 1 seconds'), (0, 4, 'found no process 1, 2, 3 '), (2, 3, 'process 2 found no process 0 ')])
def test_who_does_not_come_is_named(rank, world, says, monkeypatch):
    "A process that dies before the others have heard of it; PyTorch would wait for half an hour"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    for k,v in dict(RANK=rank, WORLD_SIZE=world, MASTER_ADDR='127.0.0.1', MASTER_PORT=port, MIXMATCH_TIMEOUT=1).items(): monkeypatch.setenv(k, str(v))
    with pytest.raises(RuntimeError, match=says): meet(cpu=True)
    assert not torch.distributed.is_initialized()

@needs_accelerate
def test_a_process_knows_its_number(differing):
    "A global `rank` of the program is no difference; any other value is one, and so is a setting that happens to be 0 and 1"
    for r in range(2):
        own,*others = (differing[0]/f'numbers {r}').read_text().split('\n')
        assert own=='' and [o.split('same thing. ')[1].split(': ')[0] for o in others]==['globals.__main__.K','globals.__main__.rank','lambda_u']

def test_a_process_alone_meets_nobody():
    meet()
    assert not torch.distributed.is_initialized()

@pytest.mark.parametrize('error, says', [('', 'closed'), ('1/0', 'open')])
def test_a_program_ends_its_exchange(error, says):
    "Before Python ends, which would kill a thread that gives a tensor back, and with it the process; after an error at once"
    text = f"""
import atexit
from torch import distributed as dist
atexit.register(lambda: print('open' if dist.is_initialized() else 'closed'))
from fastai_mixmatch.distributed import bound_waits
dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
for _ in range(2): bound_waits()
{error}"""
    r = forks().run('-W', 'ignore', '-c', text, cwd=root)
    assert r.stdout.split()==[says] and r.returncode==bool(error), r.stderr

# --- sharding without processes

@pytest.fixture(scope='module')
def dls(): return ImageList.from_arrays(run.X, run.Y, img_cls=PILImageBW)[:40].dataloaders(bs=10)

class Plain:
    "As much of a pool as a walk over it needs"
    def __init__(self, n): self.x = range(n)
    def __len__(self): return len(self.x)

@pytest.mark.parametrize('n, bs, world', [(30,10,1), (31,5,2), (97,8,3), (64,8,8), (65,8,8), (71,8,8), (72,8,8), (5,8,4), (3,64,3), (1,8,1)])
def test_parts_of_an_epoch(n, bs, world, monkeypatch):
    "Together the processes see each image once, in as many steps as each other, none of them empty; the same as one with a large batch where that can be"
    parts = []
    for r in range(world):
        torch.manual_seed(0)
        dl = on_rank(PoolDL(Plain(n), bs), r, world, monkeypatch)
        parts.append([o.tolist() for o in Walk(dl)])
        assert len(parts[-1])==len(dl) and all(parts[-1])
    assert sorted(itertools.chain(*itertools.chain(*parts)))==list(range(n))
    torch.manual_seed(0)
    one = [o.tolist() for o in Walk(PoolDL(Plain(n), bs*world))]
    if n%(bs*world)>=world or n%(bs*world)<2: assert [sum(o, []) for o in zip(*parts)]==one
    else: assert len(parts[0])==len(one)-1

def test_labeled_draw_is_divided(dls, monkeypatch):
    def batches(rank, world, bs):
        dls.train.rng.seed(0)
        return [o.tolist() for o in itertools.islice(Walk(on_rank(LabeledDL(dls, bs=bs), rank, world, monkeypatch)), 30)]
    one,a,b = batches(0, 1, 20),batches(0, 2, 10),batches(1, 2, 10)
    assert [x+y for x,y in zip(a, b)]==one

class Numbers(IterableDataset):
    "Images whose first pixel is their number"
    def __init__(self, n, length=True): self.n = n; self.__class__.__len__ = (lambda self: self.n) if length else IterableDataset.__len__
    def images(self, numbers): return (np.full((8,8), i, dtype=np.uint8) for i in numbers)
    def __iter__(self): return self.images(range(self.n))

class Shards(Numbers):
    def __init__(self, n, numbers=None): super().__init__(n); self.numbers = range(n) if numbers is None else numbers
    def shard(self, num_shards, index): return Shards(self.n, self.numbers[index::num_shards])
    def __iter__(self): return self.images(self.numbers)

class Knowing(Numbers):
    "Knows its part by itself"
    sharded,rank,world = True,0,1
    def __iter__(self):
        info = get_worker_info()
        return self.images(range(self.rank*(info.num_workers if info else 1) + (info.id if info else 0), self.n, self.world*(info.num_workers if info else 1)))

@pytest.mark.parametrize('kind', [Numbers, Shards, Knowing])
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('world', [1, 2, 3])
def test_iterable_datasets_are_divided(kind, workers, world, dls, monkeypatch):
    seen,steps = [],set()
    for r in range(world):
        ds = kind(120)
        if kind is Knowing: ds.rank,ds.world = r,world
        dl = on_rank(unlabeled_dl(ds, dls, bs=10), r, world, monkeypatch)
        dl.num_workers = workers
        batches = [x[0][:,0,0,0].tolist() for x,_ in dl]
        steps.add(len(batches))
        assert len(batches)==len(dl)
        seen += sum(batches, [])
    assert len(seen)==len(set(seen))==120 and steps=={120//10//world}

def test_too_few_shards(dls, monkeypatch):
    dl = on_rank(unlabeled_dl(Shards(10, [1]), dls, bs=10, steps=2), 1, 2, monkeypatch)
    with pytest.raises(ValueError, match='to process 1 of 2'): list(dl)

@pytest.mark.parametrize('workers', [0, 2])
def test_tar_shards(folder, dls, monkeypatch, tmp_path, workers):
    "The files of the example: images out of tar files, each read by one reader, in as many steps as `steps` says"
    files = sorted((folder/'digits/unlabeled').glob('0*.png'))[:64]
    example.write_shards(files, tmp_path/'shards', 8)
    assert sum(len([n for n in tarfile.open(o).getnames() if n.endswith('.png')]) for o in (tmp_path/'shards').glob('*.tar'))==64
    want = {np.asarray(PILImageBW.create(f)).tobytes() for f in files}
    got = []
    for r in range(2):
        monkeypatch.setenv('RANK', str(r)); monkeypatch.setenv('WORLD_SIZE', '2') # What webdataset asks
        dl = on_rank(unlabeled_dl(example.read_shards(tmp_path/'shards'), dls, bs=8, steps=4), r, 2, monkeypatch)
        dl.num_workers = workers
        got += [x[0] for x,_ in dl]
        dl.load_state_dict(None) # Ends the workers
    assert len(got)==8 and {o.numpy().tobytes() for o in torch.cat(got)[:,0]}==want

@needs_accelerate
def test_checkpoint_of_two_processes_is_read_by_one(folder, end, capsys):
    "Both were cut off after step 12; one process goes on after step 10, with the images of the pool that had not been seen"
    assert [o.name[:14] for o in sorted((folder/'cut').glob('fit1-*.pt'))]==['fit1-000000005', 'fit1-000000010'], 'written once, by the first'
    one = run.cut_off(0, 1, folder)
    assert 'continues in epoch 1 of 2, after 10 of 22 batches' in capsys.readouterr().out
    assert len(one['seen'])==10+12+22 and one['steps']==44 # What the first process had noted is in its checkpoint: half of each of 10 batches
    before,first,second = (list(itertools.chain(*o)) for o in (one['seen'][:10], one['seen'][10:22], one['seen'][22:]))
    assert len(before)==10*32 and len(set(before+first))==10*32+12*64 and sorted(second)==list(range(1408))
    assert all(torch.isfinite(p).all() for p in one['params'])
