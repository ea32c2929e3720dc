"A predictor gives what the learner gave, and no file makes it run code or use weights that were changed."
import errno, json, numpy as np, os, pytest, torch
from fastai.vision.all import ImageDataLoaders, Normalize, PILImageBW, Resize, ResizeMethod, Transform
from fastai_mixmatch.all import *
from pathlib import Path
from helpers import IL, SMALL, core_dls as digit_dls, core_learner as learner
from torchvision.models import resnet18

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return digits_sample(tmp_path_factory.mktemp('digits')/'d', 20)

def dls_of(folder, **kw): return ImageDataLoaders.from_folder(folder, train='labeled', valid='test', bs=20, num_workers=0, **kw)

def both(learn, items, **kw):
    save_predictor(learn, 'p.safetensors')
    pred = load_predictor('p.safetensors', **kw)
    with learn.no_bar(): return [(pred.predict(o), learn.predict(o)) for o in items]

def agree(a, b): return a[0] == str(b[0]) and int(a[1]) == int(b[1]) and torch.allclose(a[2], b[2], atol=1e-5)

@pytest.mark.parametrize('kw', [dict(img_cls=PILImageBW), dict(img_cls=PILImageBW, item_tfms=Resize(12, method=ResizeMethod.Squish)),
    dict(item_tfms=Resize((10, 8), method='pad', pad_mode='zeros'), batch_tfms=Normalize.from_stats([.4]*3, [.3]*3))], ids=['plain', 'squish', 'pad and normalize'])
def test_agrees_with_the_learner(kw, folder):
    learn = learner(dls_of(folder, **kw), folder/'unlabeled')
    learn.fit(1)
    for a, b in both(learn, sorted((folder/'unlabeled').iterdir())[:5], arch=None): assert agree(a, b)

def test_architectures(folder):
    "Found again by name: with arguments, of torchvision, or passed where there is no name."
    for arch, kw in ((wrn(10, 1), {}), (resnet18, {}), (lambda i, o: small_cnn(i, o, width=4), dict(arch=lambda i, o: small_cnn(i, o, width=4)))):
        learn = learner(dls_of(folder, item_tfms=Resize(8)), folder/'unlabeled', arch)
        for a, b in both(learn, sorted((folder/'unlabeled').iterdir())[:1], **kw): assert agree(a, b)
    with pytest.raises(PredictorError, match='pass `arch`'): load_predictor('p.safetensors')
    with pytest.raises(PredictorError, match='do not fit'): load_predictor('p.safetensors', arch=SMALL)

def test_refuses_what_was_changed():
    "Any byte, any length, and a file with a good checksum that is not the one that was meant."
    learn = learner()
    digest = save_predictor(learn, 'p.safetensors')
    b = Path('p.safetensors').read_bytes()
    rng = np.random.default_rng(0)
    for i in [0, 3, 8, *rng.integers(9, len(b), 60), len(b)-1]:
        c = bytearray(b); c[i] ^= 1 << int(rng.integers(8))
        Path('x').write_bytes(bytes(c))
        with pytest.raises(PredictorError): load_predictor('x')
    for c in (b[:-1], b[:100], b'', b+b'0'):
        Path('x').write_bytes(c)
        with pytest.raises(PredictorError): load_predictor('x')
    load_predictor('p.safetensors', sha256=digest)
    learn.model[-1].bias.data += 1
    save_predictor(learn, 'y')
    with pytest.raises(PredictorError, match='another file'): load_predictor('y', sha256=digest)

def test_is_a_safetensors_file():
    safetensors = pytest.importorskip('safetensors.torch', reason='the safetensors package, with which the file is compared, is not installed')
    learn = learner()
    save_predictor(learn, 'p.safetensors')
    other = safetensors.load_file('p.safetensors')
    assert other.keys() == learn.model.state_dict().keys()
    assert all(torch.equal(other[k].cpu(), v.cpu()) for k, v in learn.model.state_dict().items())

def test_names_no_code():
    "An architecture is looked up in three places, and nothing else."
    learn = learner()
    save_predictor(learn, 'p.safetensors')
    from fastai_mixmatch.predictor import load_tensors, save_tensors
    tensors, meta = load_tensors('p.safetensors')
    for spec in (dict(source='os', name='system', args={}), dict(source='fastai_mixmatch', name='partial', args={}), dict(source='torchvision', name='get_model_weights', args={})):
        save_tensors(tensors, dict(meta, arch=spec), 'x')
        with pytest.raises(ValueError, match='no architecture'): load_predictor('x')
    for spec in (dict(source='timm', name='hf-hub:somebody/model', args={}), dict(source='torchvision', name='resnet18', args=dict(weights='DEFAULT')),
        dict(source='timm', name='resnet18', args=dict(checkpoint_path='weights.pkl')), dict(source='timm', name='resnet18', args=dict(pretrained_cfg=dict(file='weights.pkl')))):
        save_tensors(tensors, dict(meta, arch=spec), 'x')
        with pytest.raises(ValueError, match='no architecture|asks for other weights'): load_predictor('x')

def test_writes_all_or_nothing(monkeypatch):
    learn = learner()
    save_predictor(learn, 'p.safetensors')
    before = Path('p.safetensors').read_bytes()
    learn.model[-1].bias.data += 1
    def full(fd): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', full)
        with pytest.raises(PredictorError, match='cannot write p.safetensors: .*No space left'): save_predictor(learn, 'p.safetensors')
    assert Path('p.safetensors').read_bytes()==before and [o.name for o in Path().iterdir()]==['p.safetensors']
    with pytest.raises(PredictorError, match='cannot write no folder/p'): save_predictor(learn, 'no folder/p')

class Invert(Transform):
    def encodes(self, x: PILImageBW): return PILImageBW.create(255-np.asarray(x))

def test_says_what_it_cannot_store():
    learn = learner(digit_dls(item_tfms=Invert()))
    with pytest.raises(PredictorError, match='Invert.*learn.export'): save_predictor(learn, 'p.safetensors')
    assert not Path('p.safetensors').exists()

def test_several_at_once():
    learn = learner()
    save_predictor(learn, 'p.safetensors')
    pred = load_predictor('p.safetensors')
    items = [np.asarray(o) for o in IL[1700:1705].items]
    assert torch.allclose(pred.probs(items), torch.stack([pred.predict(o)[2] for o in items]), atol=1e-6)
    assert pred.classes == list(map(str, range(10))) and json.dumps(pred.meta)
