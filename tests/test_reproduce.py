"The reproductions: their command from beginning to end on small data, every data layout, what is written, and the ablations' mixing."
import shlex, shutil, signal, sys, tarfile, time
from pathlib import Path
from subprocess import PIPE, STDOUT

import numpy as np, pytest, torch
from PIL import Image

from fastai_mixmatch.all import EMA, Batch, ImageError, ImageList, draw_labeled, small_cnn, ssl_learner

bench = Path(__file__).resolve().parent.parent/'bench'
sys.path.append(str(bench))
from common import append, read
from reproduce.__main__ import main, parser
from reproduce.data import load_data
from reproduce.experiments import Ablation, archs, experiments
from reproduce.run import run
from reproduce.tables import counted, results_table
from helpers import forks

@pytest.fixture(scope='module')
def cifar(tmp_path_factory):
    "A folder like `URLs.CIFAR`'s, with three classes of noise around three colors"
    path,rng = tmp_path_factory.mktemp('cifar'),np.random.default_rng(0)
    for part,n in (('train',20),('test',6)):
        for c,color in enumerate(np.eye(3)*160):
            (path/part/f'class{c}').mkdir(parents=True)
            for i in range(n): Image.fromarray((rng.random((32,32,3))*90+color).astype(np.uint8)).save(path/part/f'class{c}'/f'{i:04d}.png')
    return path

small = ['--limit', '60', '--steps', '4', '--arch', 'small_cnn', '--bs', '6', '--ubs', '8', '--device', 'cpu']

@pytest.mark.parametrize('words', [
    ['cifar10-supervised'], ['cifar10-labels-only', '--labels', '9'], ['cifar10-mixmatch', '--labels', '9', '--recipe', 'article'],
    ['cifar10-mixmatch', '--labels', '9', '--recipe', 'paper'], ['cifar10-mixmatch', '--labels', '9', '--recipe', 'fast', '--fast'], ['ablation-cifar10', '--labels', '9', '--only', 'K=3', 'ICT'],
    pytest.param(['cifar10-methods', '--labels', '9', '--only', *experiments['cifar10-methods'].variants], marks=pytest.mark.nightly)], ids=lambda o: ' '.join(o[:5]))
def test_cifar_commands(words, cifar, tmp_path):
    main([*words, *small, '--data', str(cifar), '--out', str(tmp_path), '--seed', '3'])
    file = tmp_path/f'{words[0]}.jsonl'
    assert list(tmp_path.iterdir())==[file]
    rows = read(file)
    assert len(rows)==(len(words)-words.index('--only')-1 if '--only' in words else 1)
    for d in rows:
        assert d['experiment']==words[0] and d['seed']==3 and d['limit']==60 and d['train_images']==60
        assert 0<=d['accuracy']<=1 and d['median_last']==pytest.approx(np.median(d['curves']['accuracy'][-20:]), abs=1e-4)
        assert d['images_per_s']>0 and d['seconds']>0 and len(d['curves']['accuracy'])==d['epochs']
        assert shlex.split(d['command'])[:3]==['python','bench/reproduce',words[0]]
        for o in ('commit','date','python','torch','fastai','cpu','settings'): assert d[o], o
        if d['labels']: assert len(d['split']['labeled'])==9
    assert set(results_table(words[0], tmp_path).accuracy)=={'not yet run'}, 'a run with --limit is in no table'

def test_mnist_layouts(tmp_path):
    rng = np.random.default_rng(0)
    x,y = rng.integers(0, 256, (24,28,28), dtype=np.uint8),np.arange(24)%2
    for part,s in (('training',slice(0,16)),('testing',slice(16,24))):
        for i,(a,b) in enumerate(zip(x[s], y[s])):
            (tmp_path/part/str(b)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(a).save(tmp_path/part/str(b)/f'{i:02d}.png')
    np.savez(tmp_path/'m.npz', x_train=x[:16], y_train=y[:16], x_test=x[16:], y_test=y[16:])
    folders,arrays = load_data('mnist', tmp_path),load_data('mnist', tmp_path/'m.npz')
    for a,b in zip(folders, arrays):
        key = lambda il: sorted((np.asarray(il.open(i)).tobytes(), str(il.labels[i])) for i in range(len(il)))
        assert key(a)==key(b)

def test_tar_is_as_folders(cifar, tmp_path):
    with tarfile.open(tmp_path/'c.tar.xz', 'w:xz') as t:
        for part in ('test','train'): t.add(cifar/part, part)
    for a,b in zip(load_data('cifar10', cifar), load_data('cifar10', tmp_path/'c.tar.xz')):
        assert list(a.labels)==list(b.labels)
        assert all((np.asarray(a.open(i))==np.asarray(b.open(i))).all() for i in range(len(a)))

@pytest.mark.parametrize('tar', [False, True])
def test_only_what_is_needed_is_decoded(tar, cifar, tmp_path):
    "A broken image is no trouble where it is not chosen, and is named where it is"
    path = shutil.copytree(cifar, tmp_path/'c')
    il = ImageList.from_folder(path/'train', label_func=lambda o: o.parent.name)
    broken = next(il.items[i] for i in range(len(il)) if i not in draw_labeled(il.labels, 6))
    broken.write_bytes(b'no image')
    if tar:
        with tarfile.open(tmp_path/'c.tar', 'w') as t: t.add(path, '.')
        path = tmp_path/'c.tar'
    train,test = load_data('cifar10', path, limit=6)
    assert sorted(train.labels)==['class0']*2+['class1']*2+['class2']*2 and len(test)==6
    with pytest.raises(ImageError, match=f'{broken.parent.name}/{broken.name}'): load_data('cifar10', path)

def test_images_of_several_sizes(cifar, tmp_path):
    path = shutil.copytree(cifar, tmp_path/'c')
    Image.new('RGB', (8,8)).save(path/'test/class1/0003.png')
    with pytest.raises(ValueError, match=r'class1/0003.png is \(8, 8, 3\)'): load_data('cifar10', path)

@pytest.mark.parametrize('make, words', [
    (lambda p: None, 'no file or folder'), (lambda p: p.mkdir(), 'training/<class>/'), (lambda p: p.write_text('x'), 'neither a folder'),
    (lambda p: np.savez(open(p, 'wb'), x=[1]), 'neither a folder')])
def test_bad_data(make, words, tmp_path):
    make(tmp_path/'d')
    with pytest.raises((ValueError, FileNotFoundError), match=words): load_data('mnist', tmp_path/'d')

@pytest.mark.parametrize('words, message', [(['nothing'], 'invalid choice'), ([], 'name an experiment'), (['mnist-sharpening', '--only', 'T=2'], 'no variant T=2'),
                                            (['cifar10-supervised', '--labels', '5'], 'all labels')])
def test_bad_command(words, message, capsys):
    with pytest.raises(SystemExit): main(words)
    assert message in capsys.readouterr().err

def test_result_is_not_made_twice(tmp_path):
    a = run('mixup-digits', 'α=0', out=tmp_path, steps=20)
    assert run('mixup-digits', 'α=0', out=tmp_path, steps=20)==a and read(tmp_path/'mixup-digits.jsonl')==[a]
    b = run('mixup-digits', 'α=0', out=tmp_path/'again', steps=20)
    assert b['curves']==a['curves'] and b['accuracy']==a['accuracy'], 'the same seed gives the same result'

@pytest.mark.nightly
def test_other_steps_or_batches_are_another_training(tmp_path):
    "The row of 20 steps was once printed as that of 60"
    asked = dict(steps=60),dict(steps=120),dict(steps=120, ubs=16)
    first,second,third = [run('mixup-digits', 'α=0', out=tmp_path, **o) for o in asked]
    assert second['steps']>first['steps'] and third['settings']['ubs']==16
    assert run('mixup-digits', 'α=0', out=tmp_path, steps=60)==first, 'that of before is found'
    rows = read(tmp_path/'mixup-digits.jsonl')
    assert len(rows)==3
    table = results_table('mixup-digits', tmp_path)
    assert list(table.loc['α=0'].steps)==sorted({o['steps'] for o in rows})

def test_another_network_is_in_no_table(tmp_path):
    run('mixup-digits', 'α=0', out=tmp_path, steps=5, arch=archs['article_cnn'])
    assert len(read(tmp_path/'mixup-digits.jsonl'))==1 and len(counted('mixup-digits', tmp_path))==0
    assert set(results_table('mixup-digits', tmp_path).accuracy)=={'not yet run'}

@pytest.mark.parametrize('mix, on', [('all', (1,1)), ('separate', (1,1)), ('labeled', (1,0)), ('unlabeled', (0,1)), ('none', (0,0))])
def test_what_is_mixed(mix, on):
    "Against the paper's description of each row: who is blended with whom"
    class Nines(Ablation):
        def guess(self, *args, **kwargs): return torch.eye(10)[[9]*10]  # every unlabeled target is class 9
    cb = Nines(mix=mix, adapt=False, alpha=5.)
    x,u,y = torch.zeros(12,1,8,8),torch.ones(10,1,8,8),torch.eye(10)[[0]*12]
    xs,(yx,yu) = cb.make_batch(Batch(x, y, (u,u), (), None, None, None, x))
    share = torch.cat([yx,yu])[:,9]  # how much of an unlabeled image is in each mix
    assert torch.allclose(xs[:,0,0,0], share, atol=1e-6)
    across = ((share[:12]>0).any() or (share[12:]<1-1e-6).any()).item()
    assert across==(mix=='all')
    perm,mixed = cb.partners(12, 32, 'cpu')
    assert sorted(perm.tolist())==list(range(32))
    assert mixed.tolist()==[on[0]]*12+[on[1]]*20

def test_ema_guesses():
    "The guess is that of the averaged weights, and leaves model and average alone"
    train,_ = load_data('digits')
    labeled,rest = train.split(20)
    seen = []
    class Seen(Ablation):
        def guess(self, views, **kwargs):
            p,learn = super().guess(views, **kwargs),self.learn
            if learn.ema.avg is None: return p
            sd = {k: v.clone() for k,v in learn.model.state_dict().items()}
            for t,a in zip(learn.ema.tensors(), learn.ema.avg): t.copy_(a)
            with torch.no_grad(): mean = learn.model(torch.cat(views)).softmax(1).view(2, -1, 10).mean(0)  # batch norm sees both views
            learn.model.load_state_dict(sd)
            seen.append(torch.allclose(mean, p, atol=1e-5))
            return p
    method = Seen(ema_guess=True, T=1., adapt=False)
    learn = ssl_learner(labeled.dataloaders(bs=12), rest, small_cnn, method=method, bs=100, ema=EMA(0.5))
    with learn.no_logging(): learn.fit(1)
    assert len(seen)>5 and all(seen)

def test_command_line_in_a_process(tmp_path):
    r = forks().run('-W', 'ignore', bench/'reproduce', '--list', cwd=tmp_path)
    assert r.returncode==0, r.stderr
    for k in experiments: assert k in r.stdout

@pytest.mark.nightly
def test_killed_and_started_again(tmp_path):
    "The command goes on where it was killed, to the same numbers"
    def start(out):
        return forks().start('-W', 'ignore', bench/'reproduce', 'ablation-digits', '--only', 'T=1', '--steps', '200',
                             '--every', '10steps', '--threads', '1', '--out', out, cwd=tmp_path, stdout=PIPE, stderr=STDOUT)
    whole = start('whole')
    text = whole.communicate(timeout=300)[0]
    assert whole.returncode==0, text
    p,deadline = start('cut'),time.time()+300
    while len(list((tmp_path/'cut-unfinished').rglob('*.pt')))<2 and p.poll() is None and time.time()<deadline: time.sleep(.01)
    assert p.poll() is None, f'ended before it could be killed:\n{p.communicate()[0]}'
    p.send_signal(signal.SIGKILL); p.wait()
    assert not (tmp_path/'cut').exists(), 'no results yet'
    p = start('cut')
    text = p.communicate(timeout=300)[0]
    assert p.returncode==0 and 'continu' in text, text
    (a,),(b,) = (read(tmp_path/o/'ablation-digits.jsonl') for o in ('whole','cut'))
    assert a['accuracy']==b['accuracy'] and a['curves']==b['curves'] and a['split']==b['split']
    assert not list(tmp_path.rglob('*.pt')), 'the checkpoints of a finished run are removed'

# --- results files

def test_rows_are_added_and_replaced(tmp_path):
    f = tmp_path/'new/e.jsonl'
    assert read(f)==[]
    append(f, dict(a=1, name='α'), command='python x.py')
    append(f, dict(a=2), dict(a=3))
    assert [r['a'] for r in read(f)]==[1,2,3] and read(f)[0]['name']=='α' and read(f)[0]['command']=='python x.py'
    append(f, dict(a=4), instead=lambda r: r['a']<3)
    assert [r['a'] for r in read(f)]==[3,4]
    assert all(r[k] for r in read(f) for k in ('command','date','python','torch','fastai','cpu','threads'))
    assert list(f.parent.iterdir())==[f]

def test_committed_results():
    "Every line is a run that says where it comes from; names of files are plain"
    files = sorted((bench/'results').rglob('*'))
    assert len(files)>9
    for f in files:
        assert f.suffix=='.jsonl' and f.name.isascii() and '=' not in f.name, f.name
        for row in read(f):
            assert {'command','commit','date','python','torch','cpu'} <= row.keys(), f.name

def test_commands_of_stored_rows_are_those_of_today():
    "Their files are there, and their experiments take the arguments"
    root = Path(__file__).parent.parent
    commands = {r['command'] for f in (root/'bench/results').glob('*.jsonl') for r in read(f) if 'command' in r}
    for c in commands:
        python,file,*args = shlex.split(c)
        assert python=='python' and (root/file.rstrip(',')).exists(), c
        if file=='bench/reproduce':
            a = parser().parse_args(args)
            assert {*(a.only or ())}<={*experiments[a.name].variants}, c
