"What leaves the house: predictions of many files, ONNX files, and small networks taught by large ones."
import itertools, json, multiprocessing, numpy as np, pickle, pytest, subprocess, sys, torch, torchvision
from fastai.vision.all import (CropPad, Image, ImageDataLoaders, Normalize, Path, PILImage, PILImageBW, Pipeline,
    RandomResizedCrop, RandomResizedCropGPU, Resize, ResizeMethod, TensorImage, ToTensor, Transform, aug_transforms, load_learner)
from fastai_mixmatch.all import *
from fastai_mixmatch import export
from fastai_mixmatch.export import resizing
from fastai_mixmatch.images import ImagePipe
from fastai_mixmatch.rng import rng_state, same_state
from functools import partial
from sklearn.datasets import load_sample_images
from torch import nn
from helpers import IL, SMALL, X, broken_files, core_learner, representatives, tensor_dls

STATS = [.4]*3, [.3]*3

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    "Real photographs: cuttings of a temple and a flower, in all sizes, as JPEG files; some gray, with a palette, or large"
    d, rng = tmp_path_factory.mktemp('photos'), np.random.default_rng(0)
    for i in range(72):
        im, c = load_sample_images().images[i%2], ('temple', 'flower')[i%2]
        h, w = rng.integers(40, 420), rng.integers(40, 600)
        y, x = rng.integers(0, im.shape[0]-h+1), rng.integers(0, im.shape[1]-w+1)
        f = d/('labeled' if i < 8 else 'test' if i < 28 else 'unlabeled')/('' if i >= 28 else c)/f'{i:03d}.{"jpg" if i%5 else "png"}'
        f.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(im[y:y+h, x:x+w]).convert({5: 'P', 10: 'L', 15: 'RGBA'}.get(i%20, 'RGB')).save(f)
    return d

def photo_dls(d, **kw): return ImageDataLoaders.from_folder(d, train='labeled', valid='test', bs=8, num_workers=0, **kw)

TFMS = dict(crop=dict(item_tfms=Resize(32)), oblong=dict(item_tfms=Resize((24, 40))), squish=dict(item_tfms=Resize(32, method=ResizeMethod.Squish)),
    pad=dict(item_tfms=Resize(32, method=ResizeMethod.Pad, pad_mode='zeros')), gray=dict(img_cls=PILImageBW, item_tfms=Resize(32)),
    presizing=dict(item_tfms=Resize(96), batch_tfms=[*aug_transforms(size=32), Normalize.from_stats(*STATS)]),
    gpu_crop=dict(item_tfms=Resize((96, 64)), batch_tfms=[RandomResizedCropGPU(32, valid_scale=.8), Normalize.from_stats(*STATS)]))

# By night, as their steps have tests of their own by commit: `Resize` to any shape, cropping and squishing, in `test_quick_reading_gives_the_same_bits`, and
# transforms of batches in `test_resizing_as_matrices`
BY_NIGHT = 'oblong','squish','gpu_crop'

@pytest.fixture(scope='module', params=[pytest.param(o, marks=pytest.mark.nightly if o in BY_NIGHT else ()) for o in TFMS])
def learn(request, photos):
    learn = core_learner(photo_dls(photos, **TFMS[request.param]), photos/'unlabeled', bs=8)
    learn.fit(1)
    return learn

@pytest.fixture(scope='module')
def exported(learn, tmp_path_factory):
    "The ONNX file of `learn`, and the weights of before it was written"
    for o in ('onnx','onnxscript','onnxruntime'): pytest.importorskip(o)
    f,before = tmp_path_factory.mktemp('onnx')/'p.onnx',[o.clone() for o in learn.model.state_dict().values()]
    export_onnx(learn, f)
    return f,before

def files_of(photos): return sorted((photos/'unlabeled').iterdir())

def wanted(learn, files):
    with learn.no_bar(): return learn.get_preds(dl=learn.dls.test_dl(files, num_workers=0))[0]

def agree(rows, p, vocab, tol=1e-5):
    top, idx = p.topk(2)
    assert [o.label for o in rows] == [str(vocab[i]) for i in idx[:, 0]] and not any(o.error for o in rows)
    np.testing.assert_allclose([(o.probability, o.margin) for o in rows], torch.stack([top[:, 0], top[:, 0]-top[:, 1]], 1), atol=tol)

# --- many files

def test_all_ways_give_what_the_learner_gives(learn, photos):
    "The learner, the same after `load_learner`, the predictor and its file: to 1e-5, on photographs of all sizes."
    files = files_of(photos)
    p, vocab = wanted(learn, files), learn.dls.vocab
    save_predictor(learn, 'p.safetensors')
    learn.export(Path('p.pkl').absolute())
    for o in (learn, load_predictor('p.safetensors'), Path('p.safetensors'), load_learner('p.pkl')): agree(list(predict_files(o, files, bs=7)), p, vocab)

@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('where, error', [('transform',AttributeError), ('open',MemoryError)])
def test_only_a_file_is_called_unreadable(photos, monkeypatch, workers, where, error):
    "A mistake in a transform, or no memory left, is no row: it stops the work as what it is"
    def fail(*args, **kw): raise error('not the file')
    class Odd(Transform):
        def encodes(self, o:PILImage): return fail() if armed else o
    armed = False
    learn = core_learner(photo_dls(photos, item_tfms=[Resize(32),Odd()]), photos/'unlabeled', bs=8)
    armed = where=='transform'
    if where=='open': monkeypatch.setattr(Image, 'open', fail)
    with pytest.raises(error, match='not the file'): list(predict_files(learn, files_of(photos), bs=5, num_workers=workers))

@pytest.mark.parametrize('workers', [0, 2])
def test_broken_files_are_rows(photos, tmp_path, workers):
    "Damaged files, pipes, folders and links to nowhere: each a row that says why, in its place, and the others are right."
    (tmp_path/'bad').mkdir()
    broken_files(tmp_path/'bad')
    learn = core_learner(photo_dls(photos, item_tfms=Resize(32)), photos/'unlabeled', bs=8)
    good = files_of(photos)
    files = [o for pair in itertools.zip_longest(good, sorted((tmp_path/'bad').iterdir())) for o in pair if o]
    rows = list(predict_files(learn, iter(files), bs=5, num_workers=workers))
    assert [o.file for o in rows] == files
    agree([o for o in rows if o.file in good], wanted(learn, good), learn.dls.vocab)
    bad = [o for o in rows if o.file not in good and o.file.name != 'whole.jpg']
    assert bad and all(o.label is o.probability is o.margin is None and 'cannot read image' in o.error for o in bad)
    assert 'FileNotFoundError' in next(o.error for o in bad if o.file.name == 'gone.png')

def test_reads_no_further_than_it_must(photos):
    learn, asked = core_learner(photo_dls(photos, item_tfms=Resize(32)), photos/'unlabeled', bs=8), []
    files = files_of(photos)
    def endless():
        for i in itertools.count():
            asked.append(i)
            yield files[i%len(files)]
    for workers in (0, 2):
        asked.clear()
        rows = predict_files(learn, endless(), bs=4, num_workers=workers)
        assert not asked
        assert len(list(itertools.islice(rows, 50))) == 50 and len(asked) <= 52+4*(2*workers+1)
        rows.close()
    for p in multiprocessing.active_children(): p.join(10)
    assert not multiprocessing.active_children()

def test_bytes_arrays_and_pictures(photos):
    learn = core_learner(photo_dls(photos, item_tfms=Resize(32)), photos/'unlabeled', bs=8)
    files = files_of(photos)
    ims = [Image.open(o).convert('RGB') for o in files]
    p = wanted(learn, files)
    for items in (map(str, files), ims, map(np.array, ims), [o.read_bytes() for o in files]): agree(list(predict_files(learn, items)), p, learn.dls.vocab)

def test_images_of_several_sizes():
    "Without `Resize`: those of one shape share a batch, and the order is kept."
    learn = core_learner()
    items = [np.asarray(Image.fromarray(X[i]).resize((8+i%3, 8))) for i in range(20)]
    one = [wanted(learn, [o]) for o in items]
    agree(list(predict_files(learn, items, bs=9)), torch.cat(one), learn.dls.vocab)

def test_leaves_generators_alone_and_takes_nothing():
    learn = core_learner()
    state = rng_state()
    assert list(predict_files(learn, [])) == [] and len(list(predict_files(learn, list(X[:5])))) == 5
    assert same_state(state, rng_state())

def test_what_reads_can_be_sent_to_a_worker(learn, photos):
    "Worker processes that are spawned, as on macOS, get it by pickle"
    read = export._parts(learn)[0]
    assert all(torch.equal(pickle.loads(pickle.dumps(read))(f), read(f)) for f in files_of(photos)[:3])

def test_what_cannot_be_asked(photos):
    for o in (3, None, nn.Linear(1, 1)):
        with pytest.raises(TypeError, match='learner, a predictor, or'): predict_files(o, [])
    with pytest.raises(TypeError, match='do not open images'): predict_files(core_learner(tensor_dls(), torch.rand(30, 1, 8, 8)), [])

@pytest.mark.parametrize('cls', [PILImage, PILImageBW, PILImageShown])
def test_quick_reading_gives_the_same_bits(cls, tmp_path):
    "Against fastai's `Resize` and `ToTensor`, for sizes drawn at random and pictures of every mode."
    rng, f = np.random.default_rng(1), tmp_path/'x.png'
    for i in range(120):
        w, h, a, b = (int(o) for o in rng.integers(1, 90, 4))
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)).convert(('RGB', 'L', 'P', 'RGBA', '1', 'LA')[i%6]).save(f)
        r = [Resize((a, b), method=('crop', 'squish')[i%2])] if i%5 else []
        fs = Pipeline([*r, ToTensor()], split_idx=1)
        pipe = ImagePipe(cls, fs)
        assert pipe.quick and torch.equal(quick := pipe(f), want := fs(cls.create(f))) and type(quick) is type(want)
    assert not ImagePipe(cls, Pipeline([Resize(8), ToTensor()], split_idx=0)).quick, 'in training it crops at random'

# --- ONNX

NETS = dict(wrn=wrn(10, 1), small_cnn=SMALL, resnet18=torchvision.models.resnet18, mobilenet=torchvision.models.mobilenet_v3_small,
            timm='test_resnet', timm_vit='test_vit', lite0='tf_efficientnet_lite0')
SLOW = {'wrn', 'mobilenet', 'timm_vit', 'lite0', 'resnet18', 'small_cnn'} # Up to half a minute each, or exported by other tests

@pytest.fixture
def onnx():
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    return pytest.importorskip('onnx')

@pytest.mark.parametrize('name', representatives(NETS, NETS.keys()-SLOW))
def test_networks_as_onnx(onnx, name, photos):
    if isinstance(NETS[name], str): pytest.importorskip('timm')
    size = 160 if 'vit' in name else 64
    learn = core_learner(photo_dls(photos, item_tfms=Resize(size), batch_tfms=Normalize.from_stats(*STATS)), photos/'unlabeled', NETS[name], bs=8, ema=None)
    opened = export_onnx(learn, 'p.onnx')
    files = files_of(photos)
    agree(list(predict_files(opened, files, bs=5)), wanted(learn, files), learn.dls.vocab, 1e-4)

def test_onnx_as_the_learner(learn, exported, photos):
    "All ways to size images, on 44 of mixed shapes; read again from the file, and the learner is as it was."
    files, (file, before) = files_of(photos), exported
    assert len(files) == 44 and len({PILImage.create(o).size for o in files}) > 40
    opened = load_onnx(file)
    agree(list(predict_files(opened, files)), wanted(learn, files), learn.dls.vocab, 1e-4)
    assert opened.predict(files[0])[0] == str(learn.predict(files[0])[0]) and opened.classes == list(learn.dls.vocab)
    assert all(map(torch.equal, before, learn.model.state_dict().values()))

def test_onnx_says_what_it_takes(onnx):
    from onnxruntime import InferenceSession
    learn = core_learner()
    export_onnx(learn, 'p.onnx')
    onnx.checker.check_model(onnx.load('p.onnx'), full_check=True)
    s = InferenceSession('p.onnx')
    (x,), (y,), about = s.get_inputs(), s.get_outputs(), s.get_modelmeta().custom_metadata_map
    assert (x.name, x.type, x.shape[1:], y.name, y.shape[1:]) == ('images', 'tensor(uint8)', [1, 8, 8], 'probs', [10]) and isinstance(x.shape[0], str)
    assert json.loads(about['classes']) == list(map(str, range(10)))
    assert json.loads(about['fastai_mixmatch'])['tfms']['items'] == []
    want = wanted(learn, list(X[:70]))
    for n in (1, 2, 70): np.testing.assert_allclose(s.run(None, dict(images=X[:n, None]))[0], want[:n], atol=1e-4)

PIL_ONLY = """
import json, sys
for o in ('torch','fastai','fastai_mixmatch','torchvision'): sys.modules[o] = None
import numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession('p.onnx')
about = session.get_modelmeta().custom_metadata_map
recipe,classes = json.loads(about['preprocessing']),json.loads(about['classes'])
mode = recipe['open'].split()[-1]
def cut(im, left, top, w, h):
    box = max(left, 0), max(top, 0), min(left+w, im.width), min(top+h, im.height)
    new = Image.new(im.mode, (w, h)) # Padding by zeros
    new.paste(im.crop(box), (max(-left, 0), max(-top, 0)))
    return new
def done(im, do, w, h, **_):
    W,H = im.size
    if do=='resize': return im.resize((w, h), Image.BILINEAR)
    if do=='center': return cut(im, (W-w)//2, (H-h)//2, w, h)
    m = (min if do=='crop' else max)(W/w, H/h)
    w,h = int(m*w),int(m*h)
    return cut(im, int((W-w)/2), int((H-h)/2), w, h)
for line in sys.stdin:
    im = Image.open(line.strip()).convert(mode)
    for step in recipe['steps']: im = done(im, **step)
    x = np.array(im)
    x = x[None] if x.ndim==2 else x.transpose(2, 0, 1)
    assert list(x.shape)==recipe['input']['shape'][1:] and x.dtype==np.uint8
    print(json.dumps(session.run(None, dict(images=x[None]))[0][0].tolist()))
"""

def check_recipe(learn, files, folder):
    "A program with onnxruntime, numpy and Pillow alone gives what the learner gives, to 1e-4, on pictures of every size and mode"
    r = subprocess.run([sys.executable, '-c', PIL_ONLY], input='\n'.join(map(str, files)), text=True, capture_output=True, cwd=folder)
    got = [json.loads(o) for o in r.stdout.splitlines()]
    assert len(got)==len(files), r.stderr
    np.testing.assert_allclose(got, wanted(learn, files), atol=1e-4)

def test_the_recipe_is_all_that_pillow_needs(learn, exported, photos): check_recipe(learn, files_of(photos), exported[0].parent)

MORE = dict(crop_pad=dict(item_tfms=CropPad((48, 64))),
    random_crop=dict(item_tfms=RandomResizedCrop((40, 32))), two=dict(item_tfms=[Resize(50), CropPad(60)]))

@pytest.mark.parametrize('name', representatives(MORE, ('two',)))
def test_the_recipe_of_more_transforms(onnx, name, photos, tmp_path):
    learn = core_learner(photo_dls(photos, **MORE[name]), photos/'unlabeled', bs=8)
    learn.fit(1)
    export_onnx(learn, tmp_path/'p.onnx')
    check_recipe(learn, files_of(photos), tmp_path)

def test_a_learner_that_was_never_fitted(onnx, photos):
    "fastai's transforms of batches tell what they do at validation only after they have done it"
    learn = core_learner(photo_dls(photos, **TFMS['presizing']), photos/'unlabeled', bs=8)
    learn.dls.one_batch()
    files = files_of(photos)[:9]
    back = export_onnx(learn, 'p.onnx')
    agree(list(predict_files('p.onnx', files)), wanted(learn, files), learn.dls.vocab, 1e-4)
    save_predictor(learn, 'p.safetensors')
    export_onnx('p.safetensors', 'again.onnx')
    assert torch.allclose(load_onnx('again.onnx').probs(files), back.probs(files), atol=1e-4)

def test_the_recipe_says_what_the_network_does_itself(onnx, photos):
    learn = core_learner(photo_dls(photos, **TFMS['presizing']), photos/'unlabeled', bs=8)
    learn.fit(1)
    export_onnx(learn, 'p.onnx')
    said = json.loads({o.key: o.value for o in onnx.load('p.onnx').metadata_props}['preprocessing'])
    assert said['input']==dict(shape=['N',3,96,96], range=[0,255], dtype='uint8')
    inside = said['inside_the_network']
    assert inside['divide']==255 and inside['resize']==[32] and np.allclose([inside['mean'],inside['std']], STATS)
    assert [o['do'] for o in said['steps']]==['crop','resize'] and 'antialias' in said['steps'][1]['how'] and 'RGB' in said['open']

def test_pooling_into_parts_that_overlap(onnx):
    "`small_cnn` on images of 12, 20 or 28 pixels ends with 3, 5 or 7 rows, of which it makes 2; images of five channels"
    from onnxruntime import InferenceSession
    for h, w, size in itertools.product(range(1, 9), (1, 5, 7), (1, 2, 3, (2, 3))):
        x = torch.randn(2, 3, h, w)
        assert torch.equal(export._max_pool(x, size), nn.functional.adaptive_max_pool2d(x, size))
    net = nn.Sequential(nn.AdaptiveMaxPool2d((2, 3)), nn.Flatten(), nn.Softmax(1))
    x = torch.randn(3, 5, 5, 7)
    s = InferenceSession(export.to_onnx(net, x, dict(classes=['a'])))
    for n in (1, 3): np.testing.assert_allclose(s.run(None, dict(images=x[:n].numpy()))[0], net(x[:n]), atol=1e-6)
    assert nn.functional.adaptive_max_pool2d is not export._max_pool

class Doubled(nn.Module):
    "Tells its batches apart: a file for another number of images would be wrong"
    def __init__(self, model): super().__init__(); self.model = model
    def forward(self, x): return self.model(x)*(2 if torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting() else 1)

def test_a_file_that_differs_is_not_written(onnx):
    learn = core_learner()
    export_onnx(learn, 'p.onnx')
    before = Path('p.onnx').read_bytes()
    learn.model = Doubled(learn.model)
    with pytest.raises(PredictorError, match=r'probabilities of 60 images differ by up to .* at most 0.0001'): export_onnx(learn, 'p.onnx')
    assert Path('p.onnx').read_bytes() == before and [o.name for o in Path().iterdir()] == ['p.onnx']

@pytest.mark.parametrize('learn', ['crop'], indirect=True)
def test_a_folder_that_is_not_there_is_made(onnx, learn, tmp_path):
    "As a report does, and a predictor"
    for f in (tmp_path/'a'/'b'/'x.onnx', tmp_path/'c'/'x.safetensors'):
        (export_onnx if f.suffix=='.onnx' else save_predictor)(learn, f)
        assert [o.name for o in f.parent.iterdir()]==[f.name]
    (tmp_path/'file').touch()
    with pytest.raises(OSError, match="file'$"): export_onnx(learn, tmp_path/'file'/'x.onnx')

def test_a_foreign_file(onnx):
    import onnx.helper as h
    g = h.make_graph([h.make_node('Identity', ['a'], ['b'])], 'g', *[[h.make_tensor_value_info(o, 1, [1])] for o in 'ab'])
    onnx.save(h.make_model(g, opset_imports=[h.make_opsetid('', 18)], ir_version=9), 'other.onnx')
    with pytest.raises(PredictorError, match='not written by `export_onnx`'): load_onnx('other.onnx')

def test_absent_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(ImportError, match='onnxscript is not installed.*pip install onnx onnxscript onnxruntime'): export_onnx(core_learner(), 'p.onnx')
    assert not list(Path().iterdir())

@pytest.mark.parametrize('tfms', [aug_transforms(size=(12, 20)), aug_transforms(size=30, pad_mode='zeros'),
    [RandomResizedCropGPU(9, valid_scale=.7)], aug_transforms(size=(5, 5), mode='nearest')], ids=range(4))
def test_resizing_as_matrices(tfms):
    "Larger and smaller, and by much smaller, where fastai averages areas first."
    fs = Pipeline(tfms, split_idx=1)
    for shape in ((3, 24, 16), (1, 60, 61)):
        x = TensorImage(torch.rand(4, *shape))
        a, b = resizing(fs, shape)
        assert torch.allclose(a@x@b, fs(x), atol=1e-5)

# --- a small network of a large one

def test_distill(tmp_path):
    teacher = core_learner()
    teacher.fit(2)
    before = [o.clone() for o in teacher.model.state_dict().values()]
    student = distill(teacher, partial(small_cnn, width=4), IL[200:328], strong=StrongView(cutout=.25), bs=32)
    student.remove_cb(student.progress); student.logger = lambda *o: None
    student.fit(2)
    assert all(map(torch.equal, before, teacher.model.state_dict().values())) and teacher.model is not student.noisy_student.trained
    assert sum(p.numel() for p in student.model.parameters()) < sum(p.numel() for p in teacher.model.parameters())/3
    assert {'loss_u', 'confidence'} <= set(student.report.rows[0])

def test_distill_refuses_other_classes():
    few = IL[[i for i in range(400) if int(IL.labels[i]) < 3]]
    few.vocab = list(range(3))
    with pytest.raises(ValueError, match="teacher knows the classes"): distill(core_learner(), SMALL, IL[200:328], few.dataloaders(bs=4))
