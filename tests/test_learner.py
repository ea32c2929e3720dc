"The learner that the factory gives is an ordinary fastai learner: every use of one, on real digits."
import numpy as np, os, pty, pytest, re, textwrap, torch, warnings
import matplotlib.pyplot as plt
from fastai.vision.all import (ClassificationInterpretation, CrossEntropyLossFlat, DataLoaders, FocalLossFlat, Image,
    ImageDataLoaders, LabelSmoothingCrossEntropy, Normalize, PILImage, PILImageBW, Resize, get_image_files,
    load_learner, noop)
from fastai.vision.models.xresnet import xresnet18
from fastai_mixmatch.all import *
from fastai_mixmatch.distributed import lost
from fastai_mixmatch.frozen import linear_head
from fastai_mixmatch.heads import last_linear
from fastai_mixmatch.learner import linear_start
from helpers import IL, NAMES, RGB, SCRIPT, SMALL, At, X, Y, alike, core_dls, core_learner, forks, own_env, quiet, row_of, same, state_of, torch_sets, validated
from pathlib import Path
from torch import nn
from torchvision.models import mobilenet_v3_small, resnet18
import torch.nn.functional as F

RGB3 = RGB(X)
@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

# --- schedules

def test_freeze_unfreeze_fine_tune():
    dls = IL[:200].split(20)[0].dataloaders(IL[1700:1710], bs=4)
    learn = core_learner(dls, IL[200:208], resnet18, bs=4, pretrained=False)
    assert len(learn.splitter(learn.model)) > 1
    learn.freeze()
    body = lambda: [p.detach().clone() for m in learn.model[0].modules() if isinstance(m, nn.Conv2d) for p in m.parameters()]
    a = body()
    learn.fit_one_cycle(1)
    learn.ema.resume()
    assert alike(a, body())
    learn.unfreeze()
    learn.fit(1)
    assert not any(torch.equal(x, y) for x, y in zip(a, body()))
    learn.fine_tune(1, freeze_epochs=1)
    assert learn.ema.n == 4 * 2

def random_pretrained(monkeypatch, arch=resnet18):
    "torchvision's pretrained weights without the download."
    from torchvision.models._api import WeightsEnum
    fresh = arch(weights=None).state_dict()
    monkeypatch.setattr(WeightsEnum, 'get_state_dict', lambda self, *args, **kw: fresh)
    return fresh

def test_pretrained(monkeypatch):
    "The body has those weights, and learns from the first step; images are normalized, in the learner's loaders and not in the user's."
    fresh = random_pretrained(monkeypatch)
    il = ImageList.from_arrays(RGB3, Y)
    dls = il[:200].split(20)[0].dataloaders(il[1700:1710], bs=10)
    before = [list(dl.after_batch.fs) for dl in dls.loaders]
    learn = core_learner(dls, il[200:232], resnet18, bs=8, pretrained=True)
    assert torch.equal(learn.model[0][0].weight, fresh['conv1.weight'])
    assert [list(dl.after_batch.fs) for dl in dls.loaders] == before and not any(isinstance(f, Normalize) for f in dls.after_batch.fs)
    assert all(any(isinstance(f, Normalize) for f in dl.after_batch.fs) for dl in learn.dls.loaders)
    assert learn.dls is not dls and learn.dls.vocab == dls.vocab and learn.opt is None and learn.lr == 1e-3
    seen = []
    learn.add_cb(At('after_pred', lambda l: seen.append(l.xb[0].min().item())))
    fits = []
    learn.add_cb(At('after_batch', lambda l: fits.append({o['lr'] for o in l.opt.hypers}))) # One epoch a fit
    learn.fine_tune(1)
    assert min(seen) < -1.5 and len(fits)==1 and len(fits[0])==1 # One fit, one rate
    learn.fine_tune(1, freeze_epochs=1, lr_mult=10)
    assert len(fits)==3 and len(fits[2])==3 # As fastai does
    learn = core_learner(learn.dls, il[200:232], resnet18, bs=8, pretrained=True)
    assert len([f for f in learn.dls.after_batch.fs if isinstance(f, Normalize)]) == 1

@pytest.mark.parametrize('arch', ['resnet18', resnet18])
def test_without_internet_it_says_what_to_pass(monkeypatch, arch):
    "Networks of timm and of torchvision; one sentence, in place of that of a library"
    def offline(*args, **kwargs): raise OSError('no route')
    monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', offline)
    monkeypatch.setattr('timm.models._builder.load_pretrained', offline)
    dls = ImageList.from_arrays(RGB3, Y)[:200].split(20)[0].dataloaders(bs=10)
    with pytest.raises(OSError, match=r'the weights of resnet18 cannot be downloaded \(no route\); pass `weights=`$'):
        core_learner(dls, RGB3[200:232], arch, bs=8, pretrained=True)

def test_a_file_that_a_network_of_your_own_lacks():
    "Nothing was to be downloaded: the error stays as it is"
    def own(n_in, n_out): return open('mine.pth')
    with pytest.raises(FileNotFoundError, match="directory: 'mine.pth'$"): core_learner(core_dls(), RGB3[200:232], own)

def test_pretrained_without_statistics_of_fastai(monkeypatch):
    "fastai lists statistics for some of torchvision's networks; all of them expect ImageNet's."
    from fastai.vision.learner import model_meta
    assert mobilenet_v3_small not in model_meta
    random_pretrained(monkeypatch, mobilenet_v3_small)
    dls = ImageList.from_arrays(RGB3, Y)[:200].split(20)[0].dataloaders(bs=10)
    learn = core_learner(dls, RGB3[200:232], mobilenet_v3_small, bs=8, pretrained=True)
    norm, = [f for f in learn.dls.after_batch.fs if isinstance(f, Normalize)]
    assert norm.mean.flatten().tolist()==pytest.approx([.485,.456,.406])

def test_networks_of_torchvision_are_made_without_a_word(recwarn):
    "fastai asks those that it does not list for `pretrained`, which torchvision calls deprecated"
    for arch in (mobilenet_v3_small, resnet18): core_learner(ImageList.from_arrays(RGB3, Y)[:200].split(20)[0].dataloaders(bs=10), RGB3[200:232], arch, bs=8)
    assert not [o for o in recwarn if 'pretrained' in str(o.message) or 'weight' in str(o.message)]

@pytest.mark.parametrize('classes', [2, 3])
def test_a_network_starts_as_the_linear_classifier_on_its_features(classes):
    "The guesses of the logistic regression, as sure as it is on features of mean length; nothing but the last layer and no draw moves."
    few = [i for i in range(200) if Y[i] < classes]
    il = ImageList.from_arrays(RGB3[few], Y[few])
    learn = core_learner(il.dataloaders(il, bs=8), il, small_cnn(3, classes, width=8), bs=8, weak=WeakView(0.))
    before, draws = {k: v.clone() for k, v in learn.model.state_dict().items()}, torch.get_rng_state()
    linear_start(learn)
    assert torch.equal(torch.get_rng_state(), draws)
    pool = learn.mix_match.labeled_dl.pool
    x, y = zip(*map(pool.read, range(len(pool))))
    h = last_linear(learn.model, learn.mix_match.view(torch.stack(x).as_subclass(pool.cls)))[1]
    want = linear_head(F.normalize(h).numpy(), np.array(y)).predict_proba(F.normalize(h).numpy())
    with torch.no_grad(): got = learn.model[-1](F.normalize(h) * h.norm(dim=1).mean()).softmax(1)
    np.testing.assert_allclose(got, want, atol=1e-3)
    assert (got.argmax(1) == torch.tensor(y)).float().mean() > .9
    assert [k for k, v in learn.model.state_dict().items() if not torch.equal(v, before[k])] == list(before)[-2:]

def test_a_trained_head_in_a_file_is_kept(monkeypatch):
    random_pretrained(monkeypatch)
    dls = ImageList.from_arrays(RGB3, Y)[:200].split(20)[0].dataloaders(None, bs=10)
    make = lambda **kw: core_learner(dls, RGB3[200:232], resnet18, bs=8, **kw).model
    a = make(pretrained=True)
    with torch.no_grad(): a[1][-1].weight.add_(1)
    b = make(weights=a.state_dict())
    assert torch.equal(a[1][-1].weight, b[1][-1].weight)

def test_a_pretrained_network_keeps_its_statistics_and_a_new_head_makes_its_own(monkeypatch):
    fresh = random_pretrained(monkeypatch)
    for k in fresh: # As if it had been trained
        if k.endswith('running_mean'): fresh[k].fill_(1e-3)
    dls = ImageList.from_arrays(RGB3, Y)[:200].split(20)[0].dataloaders(ImageList.from_arrays(RGB3, Y)[1700:1710], bs=10)
    stats = lambda net: {k: v.clone() for k, v in net.state_dict().items() if 'running' in k}
    for args, moves in ((None, 0), ({}, 44)):
        learn = core_learner(dls, RGB3[200:232], resnet18, bs=8, pretrained=True, model_args=args)
        assert [type(m) for m in learn.model[1]][-1] == nn.Linear and (len(learn.model[1]) == 3) == (args is None)
        assert args is None or learn.opt.frozen_idx > 0
        before = stats(learn.model)
        learn.fine_tune(1)
        learn.ema.resume()
        assert sum(not torch.equal(v, before[k]) for k, v in stats(learn.model).items()) == moves
    learn = core_learner(dls, RGB3[200:232], resnet18, bs=8)
    before = stats(learn.model)
    learn.fit(1)
    assert not any(torch.equal(v, before[k]) for k, v in stats(learn.model).items())

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
    learn = core_learner(folder_dls(folders), folders / 'unlabeled')
    learn.fit(1)
    f = get_image_files(folders / 'valid')[0]
    cat, i, probs = learn.predict(f)
    assert cat == learn.dls.vocab[i] and probs.shape == (10,) and probs.sum().item() == pytest.approx(1, abs=1e-5)
    want = learn.model.eval()(next(iter(learn.dls.test_dl([f])))[0].as_subclass(torch.Tensor)).softmax(1)[0]
    assert torch.allclose(probs, want, atol=1e-6)

@pytest.mark.parametrize('item', [X[1700], Image.fromarray(X[1700])], ids=['uint8', 'PIL'])
def test_predict_array(item):
    learn = core_learner()
    learn.fit(1)
    assert torch.allclose(learn.predict(item)[2], learn.get_preds()[0][0], atol=1e-5)

def test_get_preds_and_test_dl(folders):
    learn = core_learner(folder_dls(folders), folders / 'unlabeled')
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
    loss, acc = validated(learn).values()
    assert acc == pytest.approx((preds.argmax(1) == ys).float().mean().item())
    assert learn.tta(n=2)[0].shape == (40, 10)

def test_show_batch_and_results(folders):
    for bs in (10, 64): # also with a batch larger than all labels
        learn = core_learner(ImageDataLoaders.from_folder(folders, train='labeled', valid='valid', item_tfms=Resize(8), bs=bs, num_workers=0), folders / 'unlabeled')
        learn.dls.show_batch(max_n=4)
        learn.fit(1)
        learn.show_results(max_n=4)
        assert len(plt.get_fignums()) >= 2
        plt.close('all')

def test_interpretation():
    learn = core_learner()
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
    learn = core_learner()
    learn.fit(1)
    saved = state_of(learn)
    learn.save('a')
    learn.fit(1)
    assert not same(saved, state_of(learn))
    learn.load('a')
    assert same(saved, state_of(learn))
    first = []
    learn.add_cb(At('before_batch', lambda l: first.append(state_of(l)), n=0))
    learn.fit(1)
    assert same(saved, first[0]) and learn.ema.n == 4

def test_load_in_a_new_learner():
    learn = core_learner()
    learn.fit(1)
    f = learn.save(Path('a').absolute())
    other = core_learner()
    other.load(f.with_suffix(''))
    assert same(state_of(learn), state_of(other))
    assert torch.equal(learn.get_preds()[0], other.get_preds()[0])
    other.fit(1)

def python(code, *args):
    "Run `code` in a new Python process."
    return forks().run('-W', 'ignore', '-c', textwrap.dedent(code), *args, env=own_env(), timeout=120)

def test_export(folders, tmp_path):
    "Into a new process: the same predictions, no unlabeled data, and a clear error where it is to be trained."
    noise = np.random.default_rng(0).integers(0, 255, (3000, 8, 8), dtype=np.uint8)
    learn = core_learner(folder_dls(folders), np.stack([noise] * 3, -1), bs=1500)
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

@pytest.mark.parametrize('heads', [False, True])
def test_loaded_learner_predicts_with_augmentation(folders, tmp_path, heads):
    "`tta` sends the events of a fit, but needs no unlabeled images; with a method that has a head of its own, and without"
    learn = quiet((remixmatch_learner if heads else mixmatch_learner)(folder_dls(folders), folders / 'unlabeled', SMALL, bs=32))
    learn.fit(1)
    files = get_image_files(folders / 'valid').sorted()
    want = learn.tta(dl=learn.dls.test_dl(files), n=2)[0]
    learn.export(tmp_path / 'm.pkl')
    again = load_learner(tmp_path / 'm.pkl')
    for _ in range(2): assert torch.allclose(again.tta(dl=again.dls.test_dl(files), n=2)[0], want, atol=1e-5)
    with pytest.raises(ValueError, match='no unlabeled images'): again.fit(1)
    assert torch.allclose(again.tta(dl=again.dls.test_dl(files), n=2)[0], want, atol=1e-5)

def test_loaded_learner_trains_again(folders, tmp_path):
    learn = core_learner(folder_dls(folders), folders / 'unlabeled')
    learn.fit(1)
    learn.export(tmp_path / 'm.pkl')
    learn = load_learner(tmp_path / 'm.pkl')
    learn.dls = folder_dls(folders)
    learn.mix_match.unlabeled = folders / 'unlabeled'
    learn.fit(1)
    assert [*row_of(learn)] == NAMES[1:-2], 'of these images no label is known'

# --- what is printed

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
    before,lines = p.stdout[:p.stdout.index('begin')].splitlines(),p.stdout[p.stdout.index('begin'):].splitlines()
    assert before[-1] == 'MixMatch: an epoch is 4 steps of 20 labeled + 32 unlabeled images', 'said when the learner is made'
    assert len(lines) == 8, lines
    assert lines[0] == 'begin' and lines[4] == 'quiet' and lines[5] == 'again'
    assert lines[1].split() == lines[6].split() == NAMES and lines[2].split()[0] == '0' and lines[3].split()[0] == '1' and len(lines[3].split()) == 10

@pytest.mark.nightly
@pytest.mark.parametrize('start, copies', [('spawn', 100), pytest.param('forkserver', 1, marks=pytest.mark.nightly)])
def test_workers_that_import_an_unguarded_program(start, copies, tmp_path):
    "One sentence, and no traceback of a worker; also where more is sent than a pipe holds, and the parent would wait for the dead worker"
    code = SCRIPT.replace('bs=20)', 'bs=20, num_workers=1)').replace('il[200:328]', f'list((x[200:328]*255).astype(np.uint8))*{copies}').replace('bs=32', 'bs=32, cache=False')
    (tmp_path / 'program.py').write_text(f"import multiprocessing; multiprocessing.set_start_method({start!r}, force=True)" + code + 'learn.fit(1)')
    p = forks().run(tmp_path / 'program.py', env=own_env(), timeout=300)
    lines = [o for o in p.stderr.splitlines() if o.strip()]
    assert p.returncode == 1 and "put the training under `if __name__=='__main__':`" in lines[-1] and lines[-1].startswith('RuntimeError: a worker')
    assert p.stderr.count('Traceback') == p.stderr.count('put the training under') == 1 and len(lines) < 20

def test_arguments_that_would_do_nothing():
    "`every` without a folder is a warning, since the folder may be left out for a while; `model_args` of a function an error"
    with pytest.warns(UserWarning, match="every='1 epoch'` does nothing"): core_learner(every='1 epoch')
    with pytest.raises(TypeError, match='`ps` of `model_args` needs an architecture function'): core_learner(model_args=dict(ps=.2))

def test_a_timeout_in_one_process_keeps_its_message():
    assert lost(RuntimeError('timeout of a disk')) is None

def test_labels_of_one_class_give_no_linear_start():
    il = ImageList.from_arrays(RGB3[:40], ['a']*40)
    learn = core_learner(ImageList.from_arrays(RGB3[:40], list('ab')*20).dataloaders(il[:8], bs=8), il, small_cnn(3, 2, width=8), bs=8)
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    learn.mix_match.labeled_dl.pool.y.fill_(1)
    linear_start(learn)
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())

def test_bars_in_a_terminal():
    main, child = pty.openpty()
    p = forks().start('-c', SCRIPT + 'learn.fit(2)', stdin=child, stdout=child, stderr=child, env=own_env(TERM='xterm', COLUMNS='150'))
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

def test_fastai_loaders_of_torch_sets():
    train, valid, x = torch_sets()
    dls = DataLoaders.from_dsets(train, valid, bs=10)
    learn = core_learner(dls, x)
    learn.fit(1)
    assert learn.train_iter == 4
    assert learn.get_preds()[0].shape == (97, 10)

def test_torch_loaders():
    train, valid, x = torch_sets()
    dls = DataLoaders(*[torch.utils.data.DataLoader(o, batch_size=10) for o in (train, valid)])
    learn = core_learner(dls, x)
    learn.fit(1)
    assert learn.train_iter == 4
    assert 0 <= validated(learn)['accuracy'] <= 1
    learn.lr_find(num_it=10, show_plot=False)

def test_pretrained_with_torch_loaders(monkeypatch):
    random_pretrained(monkeypatch)
    train, valid, x = torch_sets()
    dls = DataLoaders(*[torch.utils.data.DataLoader(o, batch_size=10) for o in (train, valid)])
    with pytest.warns(UserWarning, match='not normalized'): learn = core_learner(dls, x, resnet18, pretrained=True)
    assert learn.dls is dls

def test_without_validation_set():
    train, _, x = torch_sets()
    one = [core_dls(valid=0), DataLoaders(core_dls().train), DataLoaders(torch.utils.data.DataLoader(train, batch_size=10)),
        DataLoaders.from_dsets(train, bs=10)]
    for dls in one:
        n = len(dls.loaders)
        learn = core_learner(dls, x if dls in one[2:] else IL[200:328])
        learn.fit(1)
        assert len(dls.loaders) == n and learn.train_iter > 1
        assert len(learn.recorder.values[0]) == len(learn.recorder.metric_names) - 2
        assert row_of(learn)['valid_loss'] is None

def test_fewer_labels_than_a_batch():
    dls = core_dls(bs=64)
    assert len(dls.train) == 0
    learn = core_learner(dls)
    learn.fit(1)
    assert learn.train_iter == 4 and np.isfinite(learn.recorder.values[0]).all() and len(dls.train) == 0

def fn_arch(n_in, n_out): return nn.Sequential(nn.Flatten(), nn.Linear(n_in * 64, n_out))

@pytest.mark.parametrize('n_in', [1, 3])
@pytest.mark.parametrize('arch', ['module', fn_arch, wrn(10, 1), resnet18, 'test_resnet', xresnet18], ids=['module', 'function', 'wrn', 'resnet18', 'timm', 'xresnet18'])
def test_architectures(arch, n_in):
    if isinstance(arch, str) and arch != 'module': pytest.importorskip('timm')
    if arch == 'module': arch = small_cnn(n_in, 10, width=4)
    il = ImageList.from_arrays(X if n_in == 1 else RGB3, Y, img_cls=PILImageBW if n_in == 1 else PILImage)
    dls = il[:200].split(20)[0].dataloaders(il[1700:1710], bs=10)
    learn = core_learner(dls, il[200:232], arch, bs=16)
    learn.fit(1)
    assert np.isfinite(learn.recorder.values[0]).all()
    assert learn.get_preds()[0].shape == (10, 10)

class Strict(nn.Module):
    "Works with channels first only: always, or in training"
    def __init__(self, always, how):
        super().__init__()
        self.conv,self.norm,self.lin,self.always,self.how = nn.Conv2d(1, 8, 3, padding=1),nn.BatchNorm2d(8),nn.Linear(512, 10),always,how
    def forward(self, x):
        x = self.norm(self.conv(x)).relu()
        if not (self.always or self.training): return self.lin(x.flatten(1))
        if self.how=='assert': assert x.is_contiguous()
        return self.lin(x.view(len(x), -1))

@pytest.mark.parametrize('always', [True, False])
@pytest.mark.parametrize('how', ['assert', 'view'])
def test_networks_that_want_channels_first(always, how):
    net = Strict(always, how)
    learn = core_learner(arch=net)
    assert (net.norm.running_mean==0).all(), 'the look at it leaves no trace'
    learn.fit(1)
    assert learn.train_iter==4 and net.conv.weight.is_contiguous() and np.isfinite(learn.recorder.values[0]).all()

def test_arch_of_a_wrong_kind():
    with pytest.raises(TypeError, match='arch'): core_learner(arch=3)
    with pytest.raises(ValueError, match='pretrained'): core_learner(arch=fn_arch, pretrained=True)
    with pytest.raises(ValueError, match=r'must give \(1, 10\).*a tensor \(1, 9\)'): core_learner(arch=nn.Sequential(nn.Flatten(), nn.Linear(64, 9))).fit(1)

class Halved(nn.Module):
    def forward(self, pred, y): return F.cross_entropy(pred, y) / 2

def test_other_loss_functions():
    "They are used on the validation set, and the user is told their name."
    for loss, name in [(Halved(), 'Halved'), (FocalLossFlat(), 'FocalLossFlat'), (CrossEntropyLossFlat(weight=torch.rand(10)), 'CrossEntropyLossFlat'),
                       (LabelSmoothingCrossEntropy(), 'LabelSmoothingCrossEntropy'), (nn.CrossEntropyLoss(label_smoothing=.1), 'CrossEntropyLoss')]:
        with pytest.warns(UserWarning, match='`loss_func` is used on the validation set only.*pass it as `loss_x`'): learn = core_learner(loss_func=loss)
        assert learn.loss_func is loss
    learn = core_learner(loss_func=Halved(), lr=0.)
    learn.fit(1)
    assert row_of(learn)['valid_loss'] == pytest.approx(F.cross_entropy(*learn.get_preds(act=noop)).item() / 2, rel=1e-4)
    for loss in (F.cross_entropy, nn.CrossEntropyLoss(), CrossEntropyLossFlat(), None):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            core_learner(loss_func=loss)

def test_classes_of_the_user_remain():
    dls = core_dls()
    learn = core_learner(dls)
    assert learn.dls is dls and isinstance(learn.loss_func, CrossEntropyLossFlat)

def test_default_network_warns_of_large_images():
    x = (np.arange(12*72*72*3)%251).reshape(12, 72, 72, 3).astype(np.uint8)
    il = ImageList.from_arrays(x, np.arange(12)%2)
    with pytest.warns(UserWarning, match='`wrn_28_2` is made for images of 32×32 pixels; at 72×72 a CPU takes seconds a step.*resnet18'):
        mixmatch_learner(il[:4].dataloaders(bs=2), il[4:])

def test_a_warning_shows_the_users_line(tmp_path):
    "In a script: of what makes the learner, and of a fit, through fastai's own calls; no line of this package is printed"
    file = tmp_path/'script.py'
    file.write_text(textwrap.dedent("""
        from fastai.vision.all import *
        from fastai_mixmatch.all import *
        x = (np.arange(80*8*8*3)%251).reshape(80, 8, 8, 3).astype(np.uint8)
        il = ImageList.from_arrays(x, np.arange(80)%2)
        loss = CrossEntropyLossFlat(weight=torch.ones(2))
        learn = mixmatch_learner(il[:4].dataloaders(bs=2), il[4:], partial(small_cnn, width=4), loss_func=loss, every='1min')
        with learn.no_bar(): learn.fit(1, 1e-9)
        """).lstrip())
    p = forks().run('-W', 'default', file, env=own_env(), timeout=120)
    shown = re.findall(r'(\S+):(\d+): UserWarning: (.*)\n  (.*)', p.stderr)
    make,fit = file.read_text().splitlines()[-2:]
    assert p.returncode==0 and [(f, n, line) for f,n,_,line in shown]==2*[(str(file), '6', make)]+[(str(file), '7', fit)], p.stderr
    assert [o[2].split()[0] for o in shown[:2]]==["`every='1min'`", '`loss_func`'] and 'hardly counted' in shown[2][2]

def test_every_room_warns_at_the_users_line():
    rooms = {o.name: o.read_text() for o in (Path(__file__).parent.parent/'fastai_mixmatch').glob('*.py')}
    assert [k for k,o in rooms.items() if 'warnings.warn(' in o and k not in ('distributed.py','cli.py')]==[], '`from .distributed import warn`' # The program prints notes

@pytest.mark.parametrize('make', [mixmatch_learner, lambda dls, u, arch: frozen_baseline(dls, u, arch)], ids=['learner','frozen'])
def test_a_misspelt_network_gets_a_suggestion(make):
    pytest.importorskip('timm')
    with pytest.raises(ValueError, match="timm has no network 'resnet19'; did you mean resnet18"): make(core_dls(), IL[200:264], 'resnet19')
