"The learner that the factory gives is an ordinary fastai learner: every use of one, on real digits."
import numpy as np, os, pty, pytest, re, subprocess, sys, textwrap, torch, traceback, warnings
import matplotlib.pyplot as plt
from fastai.vision.all import (Callback, ClassificationInterpretation, CrossEntropyLossFlat, DataLoaders, FocalLossFlat, Image, ImageDataLoaders,
    LabelSmoothingCrossEntropy, Learner, Normalize, PILImage, PILImageBW, ProgressCallback, Resize, accuracy, get_image_files, load_learner, noop)
from fastai.vision.models.xresnet import xresnet18
from fastai_mixmatch.all import EMA, ImageList, MixMatch, digits_arrays, draw_labeled, mixmatch_learner, small_cnn, wrn
from functools import partial
from pathlib import Path
from torch import nn
from torchvision.models import resnet18
import torch.nn.functional as F

X,Y = digits_arrays()
RGB = np.stack([X] * 3, -1)
IL = ImageList.from_arrays(X, Y, img_cls=PILImageBW)
SMALL = partial(small_cnn, width=8)

def digit_dls(bs=20, n=20, valid=60, **kw): return IL[:200].split(n)[0].dataloaders(IL[1700:1700 + valid] if valid else None, bs=bs, **kw)

def learner(dls=None, unlabeled=None, arch=SMALL, bs=32, quiet=True, **kw):
    "A learner that takes 4 steps an epoch."
    learn = mixmatch_learner(digit_dls() if dls is None else dls, IL[200:328] if unlabeled is None else unlabeled, arch, bs=bs, **kw)
    if quiet: learn.remove_cb(ProgressCallback), setattr(learn, 'logger', noop)
    return learn

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

def weights(learn): return {k: v.detach().clone() for k, v in learn.model.state_dict().items()}
def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
def tensors(o): return [t.clone() for t in o] if o is not None else None
def copied(d): return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in d.items()}
def opt_state(learn): return [copied(learn.opt.state[p]) for p in learn.opt.all_params().itemgot(0)]
def trust_state(learn): return copied(vars(learn.mix_match.trust))
def equal(a, b):
    if isinstance(a, torch.Tensor): return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(equal, a, b))
    return a == b

class At(Callback):
    "Call `f` at an event of training batch `n`."
    def __init__(self, event, f, n=1, order=100):
        self.order, self.f, self.n = order, f, n
        setattr(self, event, self.go)
    def go(self):
        if self.learn.iter == self.n and self.learn.training: self.f(self.learn)

# --- schedules

def everything(learn):
    ema = learn.ema
    return dict(model=weights(learn), avg=tensors(ema.avg), raw=tensors(ema.raw), n=ema.n, active=ema.active, trust=trust_state(learn),
        opt=opt_state(learn), loss=learn.loss_func)

def test_lr_find_moves_nothing():
    "Before the first fit, a second time, and after a fit."
    learn = learner()
    learn.create_opt()
    loss, metrics, dls = learn.loss_func, list(learn.metrics), learn.dls
    for _ in range(2):
        before = everything(learn)
        res = learn.lr_find(num_it=20, show_plot=False)
        assert 0 < res.valley < 10 and len(learn.recorder.lrs) > 10
        assert equal(before, everything(learn))
    learn.fit(1)
    before = everything(learn)
    assert before['n'] == 4 and before['trust']['n'] == 4
    learn.lr_find(num_it=20, show_plot=True)
    assert equal(before, everything(learn))
    assert learn.loss_func is loss and list(learn.metrics) == metrics and learn.dls is dls
    learn.fit(1)
    assert learn.ema.n == 8 and learn.mix_match.trust.n == 8

def test_lr_find_takes_its_steps():
    "fastai counts them in labeled batches: there may be fewer labels than a batch, or more labeled batches than unlabeled ones."
    learn = learner(digit_dls(bs=64), IL[200:264])
    learn.lr_find(num_it=30, stop_div=False, show_plot=False)
    assert len(learn.recorder.lrs) == 30
    learn = learner(digit_dls(bs=2, n=100), IL[200:264])
    learn.lr_find(num_it=30, stop_div=False, show_plot=False)
    assert len(learn.recorder.lrs) == 30

def test_lr_find_has_the_full_weight():
    learn, seen = learner(adapt=False, lambda_u=7.), []
    learn.lr_find(num_it=10, show_plot=False)
    with learn.added_cbs(At('after_loss', lambda l: seen.append(l.mix_match.weight()), n=0)): learn.lr_find(num_it=6, show_plot=False)
    assert seen and set(map(float, seen)) == {7.}

@pytest.mark.parametrize('fit', ['fit', 'fit_one_cycle', 'fit_flat_cos', 'fit_sgdr'])
def test_schedules(fit):
    learn = learner(adapt=False)
    start = weights(learn)
    getattr(learn, fit)(*((2, 1) if fit == 'fit_sgdr' else (3,)))
    assert learn.train_iter == 12 and learn.ema.n == 12
    assert not any(torch.equal(start[k], v) for k, v in weights(learn).items() if v.is_floating_point())
    assert len(learn.recorder.values) == 3 and all(np.isfinite(v).all() for v in learn.recorder.values)
    i = learn.recorder.metric_names.index('lambda_u') - 1
    assert [v[i] for v in learn.recorder.values] == pytest.approx([75 * (e * 4 + 1.5) / 12 for e in range(3)])

def test_second_fit_goes_on():
    "From the trained weights, not from the averages, and the averages go on: in two fits and in one, the same."
    batches = []
    class Same(Callback):
        "Fix what is drawn, and note what is trained."
        order, run_valid = 200, False
        def before_batch(self):
            g = torch.Generator().manual_seed(len(batches) % 8)
            self.learn.xb, self.learn.yb = (torch.rand(64, 1, 8, 8, generator=g),), (torch.eye(10)[:10].repeat(2, 1), torch.full((44, 10), .1))
            batches.append(1)
    def run(fits):
        learn = learner(arch=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), adapt=False, ramp=0, cbs=Same())
        with torch.no_grad():
            for p in learn.model.parameters(): p.fill_(.01)
        for n in fits: learn.fit(n, 1e-2)
        learn.ema.resume()
        return weights(learn), tensors(learn.ema.avg), learn.ema.n
    one, two = run([2]), run([1, 1])
    assert one[2] == two[2] == 8
    for a, b in zip([*one[0].values(), *one[1]], [*two[0].values(), *two[1]]): assert torch.allclose(a, b, atol=1e-6)

def test_freeze_unfreeze_fine_tune():
    dls = IL[:200].split(20)[0].dataloaders(IL[1700:1710], bs=4)
    learn = learner(dls, IL[200:208], resnet18, bs=4, pretrained=False)
    assert len(learn.splitter(learn.model)) > 1
    learn.freeze()
    body = lambda: [p.detach().clone() for m in learn.model[0].modules() if isinstance(m, nn.Conv2d) for p in m.parameters()]
    a = body()
    learn.fit_one_cycle(1)
    learn.ema.resume()
    assert equal(a, body())
    learn.unfreeze()
    learn.fit(1)
    assert not any(torch.equal(x, y) for x, y in zip(a, body()))
    learn.fine_tune(1, freeze_epochs=1)
    assert learn.ema.n == 4 * 2

def random_pretrained(monkeypatch):
    "torchvision's pretrained weights without the download."
    from torchvision.models._api import WeightsEnum
    fresh = resnet18(weights=None).state_dict()
    monkeypatch.setattr(WeightsEnum, 'get_state_dict', lambda self, *args, **kw: fresh)
    return fresh

def test_pretrained(monkeypatch):
    "The body has those weights and starts frozen; images are normalized, in the learner's loaders and not in the user's."
    fresh = random_pretrained(monkeypatch)
    il = ImageList.from_arrays(RGB, Y)
    dls = il[:200].split(20)[0].dataloaders(il[1700:1710], bs=10)
    before = [list(dl.after_batch.fs) for dl in dls.loaders]
    learn = learner(dls, il[200:232], resnet18, bs=8, pretrained=True)
    assert torch.equal(learn.model[0][0].weight, fresh['conv1.weight'])
    assert [list(dl.after_batch.fs) for dl in dls.loaders] == before and not any(isinstance(f, Normalize) for f in dls.after_batch.fs)
    assert all(any(isinstance(f, Normalize) for f in dl.after_batch.fs) for dl in learn.dls.loaders)
    assert learn.dls is not dls and learn.dls.vocab == dls.vocab and learn.opt.frozen_idx > 0
    seen = []
    learn.add_cb(At('after_pred', lambda l: seen.append(l.xb[0].min().item())))
    learn.fine_tune(1)
    assert min(seen) < -1.5
    learn = learner(learn.dls, il[200:232], resnet18, bs=8, pretrained=True)
    assert len([f for f in learn.dls.after_batch.fs if isinstance(f, Normalize)]) == 1

# --- looking and predicting

@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    path = tmp_path_factory.mktemp('digits')
    for name, idxs in dict(labeled=draw_labeled(Y[:200], 20), unlabeled=range(200, 264), valid=range(1700, 1740)).items():
        for i in idxs:
            f = path / name / (str(Y[i]) if name != 'unlabeled' else '') / f'{i}.png'
            f.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(X[i]).save(f)
    return path

def folder_dls(path, **kw): return ImageDataLoaders.from_folder(path, train='labeled', valid='valid', item_tfms=Resize(8), bs=10, num_workers=0, **kw)

def test_predict_file(folders):
    learn = learner(folder_dls(folders), folders / 'unlabeled')
    learn.fit(1)
    f = get_image_files(folders / 'valid')[0]
    cat, i, probs = learn.predict(f)
    assert cat == learn.dls.vocab[i] and probs.shape == (10,) and probs.sum().item() == pytest.approx(1, abs=1e-5)
    want = learn.model.eval()(next(iter(learn.dls.test_dl([f])))[0].as_subclass(torch.Tensor)).softmax(1)[0]
    assert torch.allclose(probs, want, atol=1e-6)

@pytest.mark.parametrize('item', [X[1700], Image.fromarray(X[1700])], ids=['uint8', 'PIL'])
def test_predict_array(item):
    learn = learner()
    learn.fit(1)
    assert torch.allclose(learn.predict(item)[2], learn.get_preds()[0][0], atol=1e-5)

def test_get_preds_and_test_dl(folders):
    learn = learner(folder_dls(folders), folders / 'unlabeled')
    learn.fit(1)
    metrics = list(learn.metrics)
    preds, ys = learn.get_preds()
    assert preds.shape == (40, 10) and ys.shape == (40,)
    train, _ = learn.get_preds(ds_idx=0)
    assert train.shape == (20, 10)
    files = get_image_files(folders / 'valid').sorted()
    again, none = learn.get_preds(dl=learn.dls.test_dl(files))
    order = [files.index(f) for f in learn.dls.valid_ds.items]
    assert none is None and torch.allclose(preds, again[order], atol=1e-6)
    assert list(learn.metrics) == metrics
    loss, acc = learn.validate()
    assert acc == pytest.approx((preds.argmax(1) == ys).float().mean().item())
    assert learn.tta(n=2)[0].shape == (40, 10)

def test_show_batch_and_results(folders):
    for bs in (10, 64): # also with a batch larger than all labels
        learn = learner(ImageDataLoaders.from_folder(folders, train='labeled', valid='valid', item_tfms=Resize(8), bs=bs, num_workers=0), folders / 'unlabeled')
        learn.dls.show_batch(max_n=4)
        learn.fit(1)
        learn.show_results(max_n=4)
        assert len(plt.get_fignums()) >= 2
        plt.close('all')

def test_interpretation():
    learn = learner()
    learn.fit(1)
    interp = ClassificationInterpretation.from_learner(learn)
    assert interp.confusion_matrix().sum() == 60
    interp.plot_confusion_matrix()
    interp.plot_top_losses(4)
    assert interp.top_losses(4)[0].shape == (4,)
    plt.close('all')

# --- saving

def test_save_load():
    "A fit after a load starts from what was loaded."
    learn = learner()
    learn.fit(1)
    saved = weights(learn)
    learn.save('a')
    learn.fit(1)
    assert not same(saved, weights(learn))
    learn.load('a')
    assert same(saved, weights(learn))
    first = []
    learn.add_cb(At('before_batch', lambda l: first.append(weights(l)), n=0))
    learn.fit(1)
    assert same(saved, first[0]) and learn.ema.n == 4

def test_load_in_a_new_learner():
    learn = learner()
    learn.fit(1)
    f = learn.save(Path('a').absolute())
    other = learner()
    other.load(f.with_suffix(''))
    assert same(weights(learn), weights(other))
    assert torch.equal(learn.get_preds()[0], other.get_preds()[0])
    other.fit(1)

def python(code, *args, **kw):
    "Run `code` in a new Python process."
    env = dict(os.environ, OMP_NUM_THREADS='1', MPLBACKEND='Agg', PYTHONPATH=str(Path(__file__).parent.parent), PYTHONWARNINGS='ignore')
    return subprocess.run([sys.executable, '-c', textwrap.dedent(code), *map(str, args)], env=env, capture_output=True, text=True, timeout=120, **kw)

def test_export(folders, tmp_path):
    "Into a new process: the same predictions, no unlabeled data, and a clear error where it is to be trained."
    noise = np.random.default_rng(0).integers(0, 255, (3000, 8, 8), dtype=np.uint8)
    learn = learner(folder_dls(folders), np.stack([noise] * 3, -1), bs=1500)
    learn.fit(1)
    dls, loss, f = learn.dls, learn.loss_func, get_image_files(folders / 'valid')[0]
    probs = learn.predict(f)[2]
    learn.export(tmp_path / 'm.pkl')
    assert learn.dls is dls and learn.loss_func is loss
    size, model = (tmp_path / 'm.pkl').stat().st_size, sum(t.numel() * t.element_size() for t in learn.model.state_dict().values())
    assert size < model + 60_000, (size, model)
    assert learn.mix_match.dl.pool.nbytes > 500_000
    p = python('''
        import sys, torch
        from fastai.vision.all import load_learner
        learn = load_learner(sys.argv[1])
        print('probs', learn.predict(sys.argv[2])[2].tolist())
        assert len(learn.metrics) == 1 and learn.ema.avg is None and learn.mix_match.dl is None
        for _ in range(2):
            try: learn.fit(1)
            except ValueError as e: print('error', e)
        print('probs', learn.predict(sys.argv[2])[2].tolist())
        ''', tmp_path / 'm.pkl', f)
    assert p.returncode == 0, p.stderr
    for line in re.findall(r'probs \[(.*)\]', p.stdout): assert np.allclose([float(o) for o in line.split(',')], probs, atol=1e-6)
    assert p.stdout.count('probs') == 2 and p.stdout.count('no unlabeled images: set `learn.mix_match.unlabeled`') == 2
    learn.fit(1)

def test_loaded_learner_trains_again(folders, tmp_path):
    learn = learner(folder_dls(folders), folders / 'unlabeled')
    learn.fit(1)
    learn.export(tmp_path / 'm.pkl')
    learn = load_learner(tmp_path / 'm.pkl')
    learn.dls = folder_dls(folders)
    learn.mix_match.unlabeled = folders / 'unlabeled'
    learn.fit(1)
    assert len(learn.recorder.values[0]) == 7

def test_exchanged_data():
    "Other unlabeled images, and larger ones in both sets."
    learn, seen = learner(), []
    learn.fit(1)
    learn.mix_match.unlabeled = IL[200:264]
    learn.fit(1)
    assert learn.train_iter == 2
    learn.dls = digit_dls(item_tfms=Resize(12))
    learn.add_cb(At('after_pred', lambda l: seen.append(l.xb[0].shape)))
    learn.fit(1)
    assert seen[0][1:] == (1, 12, 12)

# --- the results table, and what is printed

NAMES = ['epoch', 'train_loss', 'valid_loss', 'accuracy', 'loss_x', 'loss_u', 'lambda_u', 'confidence', 'guess_acc', 'time']

def test_results_table(folders):
    learn = learner()
    metrics = list(learn.metrics)
    learn.fit(2)
    assert list(learn.recorder.metric_names) == NAMES
    assert [len(v) for v in learn.recorder.values] == [8, 8]
    d = dict(zip(NAMES[1:], learn.recorder.values[-1]))
    assert 0 < d['loss_x'] and 0 < d['loss_u'] < 1 and .1 <= d['confidence'] <= 1 and 0 <= d['guess_acc'] <= 1
    assert len(learn.metrics) == 1 and learn.metrics[0] is metrics[0] and learn.recorder.metrics is learn.metrics
    assert learn.final_record[2] == d['accuracy'] or learn.final_record[1] == d['accuracy']
    learn = learner(folder_dls(folders), folders / 'unlabeled')
    learn.fit(1)
    assert 'guess_acc' not in learn.recorder.metric_names and 'confidence' in learn.recorder.metric_names

def test_guess_acc_is_that_of_the_guesses():
    "Also where only some unlabeled images have a label."
    hits = []
    labels = [str(y) if i % 2 else None for i, y in enumerate(Y[200:328])]
    un = ImageList.from_arrays(X[200:328], labels, img_cls=PILImageBW)
    learn = learner(IL_str(), un, lr=0.)
    real = learn.mix_match.note_guesses
    def note(q):
        known = learn.mix_match.truth >= 0
        hits.append((q.argmax(1) == learn.mix_match.truth)[known])
        real(q)
    learn.mix_match.note_guesses = note
    learn.fit(1)
    hits = torch.cat(hits)
    assert len(hits) == 64
    assert learn.recorder.values[0][-1] == pytest.approx(hits.float().mean().item())

def IL_str():
    il = ImageList.from_arrays(X, [str(y) for y in Y], img_cls=PILImageBW)
    return il[:200].split(20)[0].dataloaders(il[1700:1760], bs=20)

SCRIPT = '''
import warnings; warnings.simplefilter('ignore')
import matplotlib; matplotlib.use('Agg')
from fastai.vision.all import *
from fastai.vision.models.xresnet import xresnet18
from fastai_mixmatch.all import *
x,y = digits_arrays()
x = x/255
il = ImageList.from_arrays(x, y, img_cls=PILImageBW)
dls = il[:200].split(20)[0].dataloaders(il[1700:1760], bs=20)
learn = mixmatch_learner(dls, il[200:328], partial(small_cnn, width=8), bs=32)
'''

def test_output_is_a_line_an_epoch():
    "Where it is neither a terminal nor a notebook: no bars and none of their remains, also after `no_bar`."
    p = python(SCRIPT + '''
print('begin')
learn.fit(2)
print('quiet')
learn.validate(); learn.get_preds(); learn.predict(x[0]); learn.lr_find(num_it=10); learn.show_results()
with learn.no_logging(): learn.fit(1)
print('again')
with learn.no_bar(), learn.no_logging(): learn.fit(1)
learn.fit_one_cycle(1)
ClassificationInterpretation.from_learner(learn)
''')
    assert p.returncode == 0, p.stderr
    assert '\r' not in p.stdout and '█' not in p.stdout and '%' not in p.stdout and '%' not in p.stderr
    lines = p.stdout[p.stdout.index('begin'):].splitlines()
    assert len(lines) == 8, lines
    assert lines[0] == 'begin' and lines[4] == 'quiet' and lines[5] == 'again'
    assert lines[1].split() == lines[6].split() == NAMES and lines[2].split()[0] == '0' and lines[3].split()[0] == '1' and len(lines[3].split()) == 10

def test_bars_in_a_terminal():
    main, child = pty.openpty()
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(Path(__file__).parent.parent), TERM='xterm', COLUMNS='150')
    p = subprocess.Popen([sys.executable, '-c', SCRIPT + 'learn.fit(2)'], stdin=child, stdout=child, stderr=child, env=env, close_fds=True)
    os.close(child)
    out = b''
    while True:
        try: b = os.read(main, 65536)
        except OSError: break
        if not b: break
        out += b
    os.close(main)
    out = out.decode(errors='replace')
    assert p.wait(60) == 0, out
    assert '█' in out and '100.00%' in out and 'loss_u' in out

# --- what a learner can be made of

def test_plain_learner():
    learn = Learner(digit_dls(), SMALL(1, 10), metrics=accuracy, cbs=[MixMatch(IL[200:328], bs=32), EMA()])
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2)
    assert list(learn.recorder.metric_names) == NAMES and learn.ema.n == 8

def test_callback_added_later():
    learn = Learner(digit_dls(), SMALL(1, 10), metrics=accuracy)
    learn.remove_cb(ProgressCallback).logger = noop
    learn.fit(1)
    learn.add_cb(MixMatch(IL[200:328], bs=32)).add_cb(EMA())
    learn.fit(1)
    assert list(learn.recorder.metric_names) == NAMES and learn.train_iter == 4
    learn.remove_cb(MixMatch)
    learn.fit(1)
    assert learn.train_iter == 1 and list(learn.recorder.metric_names) == NAMES[:4] + NAMES[-1:]

def torch_sets():
    x = torch.tensor(X / 255, dtype=torch.float32)[:, None]
    idx = draw_labeled(Y[:200], 20)
    return torch.utils.data.TensorDataset(x[idx], torch.tensor(Y[idx])), torch.utils.data.TensorDataset(x[1700:], torch.tensor(Y[1700:])), x[200:328]

def test_fastai_loaders_of_torch_sets():
    train, valid, x = torch_sets()
    dls = DataLoaders.from_dsets(train, valid, bs=10)
    learn = learner(dls, x)
    learn.fit(1)
    assert learn.train_iter == 4
    assert learn.get_preds()[0].shape == (97, 10)

def test_torch_loaders():
    train, valid, x = torch_sets()
    dls = DataLoaders(*[torch.utils.data.DataLoader(o, batch_size=10) for o in (train, valid)])
    learn = learner(dls, x)
    learn.fit(1)
    assert learn.train_iter == 4
    assert 0 <= learn.validate()[1] <= 1
    learn.lr_find(num_it=10, show_plot=False)

def test_pretrained_with_torch_loaders(monkeypatch):
    random_pretrained(monkeypatch)
    train, valid, x = torch_sets()
    dls = DataLoaders(*[torch.utils.data.DataLoader(o, batch_size=10) for o in (train, valid)])
    with pytest.warns(UserWarning, match='not normalized'): learn = learner(dls, x, resnet18, pretrained=True)
    assert learn.dls is dls

def test_without_validation_set():
    train, _, x = torch_sets()
    one = [digit_dls(valid=0), DataLoaders(digit_dls().train), DataLoaders(torch.utils.data.DataLoader(train, batch_size=10)),
        DataLoaders.from_dsets(train, bs=10)]
    for dls in one:
        n = len(dls.loaders)
        learn = learner(dls, x if dls in one[2:] else IL[200:328])
        learn.fit(1)
        assert len(dls.loaders) == n and learn.train_iter > 1
        assert len(learn.recorder.values[0]) == len(learn.recorder.metric_names) - 2
        assert learn.recorder.values[0][1] is None

def test_fewer_labels_than_a_batch():
    dls = digit_dls(bs=64)
    assert len(dls.train) == 0
    learn = learner(dls)
    learn.fit(1)
    assert learn.train_iter == 4 and np.isfinite(learn.recorder.values[0]).all() and len(dls.train) == 0

def fn_arch(n_in, n_out): return nn.Sequential(nn.Flatten(), nn.Linear(n_in * 64, n_out))

@pytest.mark.parametrize('n_in', [1, 3])
@pytest.mark.parametrize('arch', ['module', fn_arch, wrn(10, 1), resnet18, 'test_resnet', xresnet18], ids=['module', 'function', 'wrn', 'resnet18', 'timm', 'xresnet18'])
def test_architectures(arch, n_in):
    if isinstance(arch, str) and arch != 'module': pytest.importorskip('timm')
    if arch == 'module': arch = small_cnn(n_in, 10, width=4)
    il = ImageList.from_arrays(X if n_in == 1 else RGB, Y, img_cls=PILImageBW if n_in == 1 else PILImage)
    dls = il[:200].split(20)[0].dataloaders(il[1700:1710], bs=10)
    learn = learner(dls, il[200:232], arch, bs=16)
    learn.fit(1)
    assert np.isfinite(learn.recorder.values[0]).all()
    assert learn.get_preds()[0].shape == (10, 10)

def test_arch_of_a_wrong_kind():
    with pytest.raises(TypeError, match='arch'): learner(arch=3)
    with pytest.raises(ValueError, match='pretrained'): learner(arch=fn_arch, pretrained=True)
    with pytest.raises(ValueError, match=r'\(1, 9\).*\(1, 10\)'): learner(arch=nn.Sequential(nn.Flatten(), nn.Linear(64, 9))).fit(1)

class Halved(nn.Module):
    def forward(self, pred, y): return F.cross_entropy(pred, y) / 2

def test_other_loss_functions():
    "They are used on the validation set, and the user is told their name."
    for loss, name in [(Halved(), 'Halved'), (FocalLossFlat(), 'FocalLossFlat'), (CrossEntropyLossFlat(weight=torch.rand(10)), 'CrossEntropyLossFlat'),
                       (LabelSmoothingCrossEntropy(), 'LabelSmoothingCrossEntropy'), (nn.CrossEntropyLoss(label_smoothing=.1), 'CrossEntropyLoss')]:
        with pytest.warns(UserWarning, match=rf'`loss_func` \({name}\) is used on the validation set only'): learn = learner(loss_func=loss)
        assert learn.loss_func is loss
    learn = learner(loss_func=Halved(), lr=0.)
    learn.fit(1)
    got = learn.recorder.values[0][1]
    assert got == pytest.approx(F.cross_entropy(*learn.get_preds(act=noop)).item() / 2, rel=1e-4)
    for loss in (F.cross_entropy, nn.CrossEntropyLoss(), CrossEntropyLossFlat(), None):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            learner(loss_func=loss)

def test_classes_of_the_user_remain():
    dls = digit_dls()
    learn = learner(dls)
    assert learn.dls is dls and isinstance(learn.loss_func, CrossEntropyLossFlat)

# --- it learns from both

def test_gradients_reach_every_parameter():
    seen = []
    learn = learner(cbs=At('before_step', lambda l: seen.append({n: p.grad.abs().sum().item() for n, p in l.model.named_parameters()}), n=3), adapt=False, ramp=0)
    learn.fit(1)
    assert len(seen[0]) == len(list(learn.model.parameters())) and all(g > 0 for g in seen[0].values())
    assert dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[0]))['loss_u'] > 0

def test_no_reads_from_the_device(monkeypatch):
    "A training step outside of fastai's own meters asks for no value; a read of one would wait for a GPU."
    learn, reads = learner(), []
    mm, inside = learn.mix_match, []
    def wrap(f):
        def g(*args):
            inside.append(1)
            try: return f(*args)
            finally: inside.pop()
        return g
    monkeypatch.setattr(MixMatch, 'check_finite', lambda *args: None)
    monkeypatch.setattr(mm, 'make_batch', wrap(mm.make_batch))
    monkeypatch.setattr(mm, 'losses', wrap(mm.losses))
    monkeypatch.setattr(mm, 'weight', wrap(mm.weight))
    monkeypatch.setattr(learn.ema, 'update', wrap(learn.ema.update))
    for op in ('item', 'tolist', '__float__', '__bool__', '__int__', 'numpy', 'cpu', '__index__'):
        real = getattr(torch.Tensor, op)
        def spy(self, *args, real=real, op=op, **kw):
            if inside: reads.append((op, traceback.extract_stack(limit=2)[0]))
            return real(self, *args, **kw)
        monkeypatch.setattr(torch.Tensor, op, spy)
    learn.fit(1)
    assert reads == [] and learn.train_iter == 4
