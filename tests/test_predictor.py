"A predictor gives what the learner gave, and no file makes it run code, hang, take memory, or use weights that were changed."
import errno, json, numpy as np, os, pandas as pd, pickle, pytest, time, torch, tracemalloc
from copy import deepcopy
from fastai.vision.all import (CategoryBlock, CrossEntropyLossFlat, DataBlock, DihedralItem, FlipItem, Image, ImageDataLoaders, IndexSplitter,
    IntToFloatTensor, Normalize, PILImageBW, RandomResizedCrop, RandomResizedCropGPU, Resize, ResizeMethod, TensorImageBW, Transform,
    TransformBlock, aug_transforms)
from fastai_mixmatch.all import *
from fastai_mixmatch.files import sha256_of
from fastai_mixmatch.predictor import read_file, to_bytes
from functools import partial
from pathlib import Path
from PIL import ImageOps
from safetensors.torch import load as read_tensors, load_file, save as tensor_bytes
from torch import nn
from helpers import IL, SMALL, X, Y, core_dls as digit_dls, core_learner as learner
from torchvision.models import resnet18

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    d = digits_sample(tmp_path_factory.mktemp('digits')/'d', 20)
    for f in [*sorted((d/'unlabeled').iterdir())[50:], *[f for i,f in enumerate(sorted(d.glob('test/*/*'))) if i%10]]: f.unlink()
    return d

@pytest.fixture(scope='module')
def good(tmp_path_factory):
    "A file, its tensors and metadata"
    f = tmp_path_factory.mktemp('good')/'p.safetensors'
    save_predictor(learner(arch=partial(small_cnn, width=4)), f)
    _, meta, b = read_file(f)
    return b, read_tensors(b), {k: v for k, v in meta.items() if k != 'sha256'}

def dls_of(folder, **kw): return ImageDataLoaders.from_folder(folder, train='labeled', valid='test', bs=20, num_workers=0, **kw)

def both(learn, items, **kw):
    save_predictor(learn, 'p.safetensors')
    pred = load_predictor('p.safetensors', **kw)
    with learn.no_bar(): return [(pred.predict(o), learn.predict(o)) for o in items]

def agree(a, b): return a[0] == str(b[0]) and int(a[1]) == int(b[1]) and torch.allclose(a[2], b[2], atol=1e-5)

TFMS = dict(plain=dict(img_cls=PILImageBW), squish=dict(img_cls=PILImageBW, item_tfms=Resize(12, method=ResizeMethod.Squish)),
    pad=dict(item_tfms=Resize((10, 8), method='pad', pad_mode='zeros'), batch_tfms=Normalize.from_stats([.4]*3, [.3]*3)),
    presizing=dict(item_tfms=Resize(16), batch_tfms=[*aug_transforms(size=8, do_flip=False), Normalize.from_stats([.4]*3, [.3]*3)]),
    gray_in_color=dict(img_cls=PILImageBW, batch_tfms=Normalize.from_stats([.4]*3, [.3]*3)), cropped=dict(item_tfms=RandomResizedCrop((8, 12))),
    oblong=dict(item_tfms=Resize(16), batch_tfms=aug_transforms(size=(8, 12))),
    crop=dict(item_tfms=Resize((20, 12)), batch_tfms=aug_transforms(size=8, min_scale=.75)),
    valid_scale=dict(item_tfms=Resize(16), batch_tfms=[RandomResizedCropGPU(8, valid_scale=.5)]),
    same_size=dict(img_cls=PILImageBW, batch_tfms=aug_transforms()), flipped_items=dict(item_tfms=[Resize(8), FlipItem(), DihedralItem()]))

@pytest.mark.parametrize('name', TFMS)
def test_agrees_with_the_learner(name, folder):
    learn = learner(dls_of(folder, **TFMS[name]), folder/'unlabeled')
    learn.fit(1)
    for a, b in both(learn, sorted((folder/'unlabeled').iterdir())[:5], arch=None): assert agree(a, b)

def half(f): return PILImageBW(PILImageBW.create(f).crop((0, 0, 8, 4)))
def same(f): return PILImageBW.create(f)
class Upright(PILImageBW):
    "Differs from its base for turned files alone"
    @classmethod
    def create(cls, f): return PILImageBW(ImageOps.exif_transpose(PILImageBW.create(f)))
def text(f): return str(f)
def turned(f): return f.parent/f'{(int(f.stem)+1)%200:04d}.png'

@pytest.mark.parametrize('opening, says', [([same], 'the transform same cannot be stored'), ([half], 'the transform half cannot be stored'),
    ([Upright.create], 'the transform .*create cannot be stored'), ([turned, PILImageBW.create], 'would not give what'),
    ([text, PILImageBW.create], None)], ids=['a function', 'a part', 'a class', 'another file', 'a text'])
def test_files_opened_in_a_way_of_their_own(opening, says, tmp_path):
    "What the loaders do to a file before it is an image, a predictor does not know: written are only those that open it alike"
    files = [tmp_path/f'{i:04d}.png' for i in range(200)]
    for f, x in zip(files, X): Image.fromarray(x).save(f)
    image = TransformBlock(type_tfms=opening, batch_tfms=IntToFloatTensor)
    block = DataBlock((image, CategoryBlock), get_y=lambda f: Y[int(f.stem)], splitter=IndexSplitter(range(160, 200)))
    learn = learner(block.dataloaders(files, bs=10, num_workers=0), files)
    learn.fit(1)
    if not says: assert all(agree(*o) for o in both(learn, files[:5]))
    else:
        with pytest.raises(PredictorError, match=says): save_predictor(learn, 'p.safetensors')
        assert not Path('p.safetensors').exists()

def test_architectures(folder):
    "Found again by name: with arguments, of torchvision, or passed where there is no name."
    for arch, kw in ((wrn(10, 1), {}), (resnet18, {}), ('resnet18', {}), (lambda i, o: small_cnn(i, o, width=4), dict(arch=lambda i, o: small_cnn(i, o, width=4)))):
        learn = learner(dls_of(folder, item_tfms=Resize(32)), folder/'unlabeled', arch)
        for a, b in both(learn, sorted((folder/'unlabeled').iterdir())[:1], **kw): assert agree(a, b)
    with pytest.raises(PredictorError, match='pass `arch`'): load_predictor('p.safetensors')
    with pytest.raises(PredictorError, match='do not fit'): load_predictor('p.safetensors', arch=SMALL)

def bn(m): return [o for o in m.modules() if isinstance(o, nn.BatchNorm2d)]

def eps(m):
    for o in bn(m): o.eps = 1.
def slope(m):
    for o in m.modules():
        if isinstance(o, nn.LeakyReLU): o.negative_slope = .9
def hook(m): m.register_forward_hook(lambda m, i, o: o*2)

@pytest.mark.parametrize('change', [eps, slope, hook])
def test_a_network_changed_by_hand(change):
    "Is refused where its name would build another one; without a name, a sample tells that `arch` is another one"
    learn = learner()
    change(learn.model)
    learn.fit(1)
    with pytest.raises(PredictorError, match='other settings'): save_predictor(learn, 'p.safetensors')
    assert not list(Path().iterdir())
    learn.arch_spec = None
    save_predictor(learn, 'p.safetensors')
    with learn.no_bar(): want = learn.predict(IL[1701])
    assert agree(load_predictor('p.safetensors', arch=deepcopy(learn.model)).predict(IL[1701]), want)
    with pytest.raises(PredictorError, match='other settings'): load_predictor('p.safetensors', arch=SMALL)

def test_refuses_what_was_changed(good):
    "Any byte, any length, and a file with a good checksum that is not the one that was meant."
    b, rng = good[0], np.random.default_rng(0)
    for i in [0, 3, 8, *rng.integers(9, len(b), 60), len(b)-1]:
        c = bytearray(b); c[i] ^= 1 << int(rng.integers(8))
        Path('x').write_bytes(bytes(c))
        with pytest.raises(PredictorError): load_predictor('x')
    for c in (b[:-1], b[:100], b[:8], b'', b+b'0', b[:8]+b' '*(len(b)-8)):
        Path('x').write_bytes(c)
        with pytest.raises(PredictorError): load_predictor('x')
    Path('x').write_bytes(b)
    load_predictor('x', sha256=sha256_of([b]))
    with pytest.raises(PredictorError, match='not the file that was meant'): load_predictor('x', sha256='0'*64)
    with pytest.raises(PredictorError): load_predictor('no such file')

def test_is_a_safetensors_file():
    learn = learner()
    digest = save_predictor(learn, 'p.safetensors')
    other, own = load_file('p.safetensors'), learn.model.state_dict()
    assert other.keys() - own.keys() == {'sample.image', 'sample.probs'} and all(torch.equal(other[k].cpu(), v.cpu()) for k, v in own.items())
    assert digest == sha256_of([Path('p.safetensors').read_bytes()])

# --- forged files: a good checksum, and whatever the writer liked

def forged(good, change=None, tensors=None, **meta):
    m = json.loads(json.dumps(dict(good[2], **meta)))
    if change: change(m)
    Path('x').write_bytes(to_bytes(dict(good[1], **(tensors or {})), m))

def refused(match='', bound=2.):
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(PredictorError, match=match): load_predictor('x')
        assert time.process_time()-start < bound and tracemalloc.get_traced_memory()[1] < 1e8
    finally: tracemalloc.stop()

SPECS = [dict(source='os', name='system', args={}), dict(source='fastai_mixmatch', name='partial', args={}), dict(source='torchvision', name='get_model_weights', args={}),
    dict(source='timm', name='hf-hub:somebody/model', args={}), dict(source='torchvision', name='resnet18', args=dict(weights='DEFAULT')),
    dict(source='timm', name='resnet18', args=dict(checkpoint_path='weights.pkl')), dict(source='timm', name='resnet18', args=dict(pretrained_cfg=dict(file='weights.pkl')))]

@pytest.mark.parametrize('spec', SPECS, ids=str)
def test_names_no_code(spec, good):
    "An architecture is looked up in three places, and nothing else."
    forged(good, arch=spec)
    refused('no architecture|asks for other weights', 5)

@pytest.mark.parametrize('name, args', [('small_cnn', dict(width=3000)), ('small_cnn', dict(width=10**7)), ('wrn_28_2', {}), ('small_cnn', dict(width='8')), ('small_cnn', dict(width=-1)),
    ('small_cnn', dict(nothing=1)), ('WideResNet', dict(depth=6*10**6+4, width=1)), ('resnet152', {})], ids=str)
def test_large_networks_are_not_built(name, args, good):
    forged(good, arch=dict(source='torchvision' if 'resnet' in name else 'fastai_mixmatch', name=name, args=args))
    refused(bound=8)

META = dict(classes=[[], ['a'], 'abcdefghij', [1]*10, None], mode=['P', None, ['L'], 'RGB', 'PILImageShown'],
    shape=[[1, 8], [1, 8, 8, 8], [1, -8, 8], [1, 8, 10**9], '188', None],
    format=[1, None, '2'], arch=[3, [], dict(source='x')], tfms=[None, {}, []])
@pytest.mark.parametrize('key, value', [(k, v) for k, vs in META.items() for v in vs], ids=str)
def test_wrong_metadata(key, value, good):
    forged(good, **{key: value})
    refused()

def test_what_a_file_says_is_safe_to_print(good):
    "It could write on a terminal, or turn the direction of what follows"
    forged(good, format='\x1b[31m\u202e\ud800\n')
    with pytest.raises(PredictorError) as e: load_predictor('x')
    assert str(e.value).isprintable() and r'\x1b[31m\u202e\ud800\n' in str(e.value)

TFM = dict(divide=[0, -1, 'x', float('nan'), [1]], mean=[[.5], [float('nan')], 'x'], std=[[0.], [1e-30], [float('inf')], [.5, .5]],
    items=['x', [['Resize']], [['Invert', {}]], [['Resize', dict(size=10**9, method='squish', pad_mode='zeros')]], [['Resize', dict(size=8, other=1)]], [['Resize', dict(size=8, method=[1], pad_mode='zeros')]]],
    batch=[[['AffineCoordTfm', dict(size=10**6, mode='bilinear', pad_mode='zeros', align_corners=None)]], None])
@pytest.mark.parametrize('key, value', [(k, v) for k, vs in TFM.items() for v in vs], ids=str)
def test_wrong_transforms(key, value, good):
    def change(m):
        m['tfms'][key] = value
        if key in ('mean', 'std'): m['tfms'].setdefault('std', None); m['tfms'][dict(mean='std', std='mean')[key]] = [.5]
    forged(good, change)
    refused()

RESIZE, GPU = dict(size=8, method='squish', pad_mode='zeros'), dict(size=8, ratio=[.75, 1.3], mode='bilinear', valid_scale=.5)
VALUES = [('Resize', dict(RESIZE, method='evil')), ('Resize', dict(RESIZE, pad_mode='evil')), ('Resize', dict(RESIZE, size='8')), ('Resize', dict(RESIZE, size=True)),
    ('RandomResizedCrop', dict(size=8, val_xtra=1e9)), ('RandomResizedCrop', dict(size=8, val_xtra=float('nan'))), ('CropPad', dict(size=[8, 0], pad_mode='zeros')),
    ('RandomResizedCropGPU', dict(GPU, mode='evil')), ('RandomResizedCropGPU', dict(GPU, ratio=[1])), ('RandomResizedCropGPU', dict(GPU, valid_scale=0)),
    ('fastai.vision.augment.Resize', RESIZE), ('__class__', {}), (['Resize'], RESIZE)]
@pytest.mark.parametrize('name, kw', VALUES, ids=str)
def test_every_value_of_a_transform_is_checked(name, kw, good):
    forged(good, lambda m: m['tfms'].update(items=[[name, kw]]))
    refused('no predictor has it|unhashable')

COSTLY = dict(items=dict(items=[['Resize', dict(RESIZE, size=[4096, 4096])]]), batch=dict(batch=[['AffineCoordTfm', dict(size=4096, mode='bilinear', pad_mode='zeros', align_corners=None)]]),
    many=dict(items=[['Resize', dict(RESIZE, size=[4096, 4096])]]*20+[['Resize', RESIZE]]), mean=dict(mean=[0.]*10**5, std=[1.]*10**5), std=dict(mean=[0.], std=[1.]*100))
@pytest.mark.parametrize('name', COSTLY)
def test_what_would_make_much_of_a_small_image(name, good):
    "Refused before any of it is made"
    forged(good, lambda m: m['tfms'].update(COSTLY[name]))
    refused('another size than its sample|enlarge images too much|statistics do not fit|more transforms than')

@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers(bad, good):
    k = next(k for k, v in good[1].items() if v.ndim == 4)
    v = good[1][k].clone(); v[0, 0, 0, 0] = bad
    forged(good, tensors={k: v})
    refused('NaN or infinity')

def test_other_sample(good):
    forged(good, tensors={'sample.probs': good[1]['sample.probs'].flip(0)})
    refused('other settings')
    for v in (torch.zeros(3, 8, 8), torch.zeros(1, 9, 9)):
        forged(good, tensors={'sample.image': v})
        refused()

def test_only_regular_files_and_short_headers(good):
    os.mkfifo('fifo')
    for f in ('fifo', '.', '/dev/zero'):
        with pytest.raises(PredictorError): load_predictor(f)
    with open('x', 'wb') as f:
        f.write((200*2**20).to_bytes(8, 'little'))
        f.truncate(300*2**20)
    refused('it was not written by `save_predictor`: .*header too large')
    deep = b'{"__metadata__":' + b'['*10**6
    Path('x').write_bytes(len(deep).to_bytes(8, 'little')+deep)
    refused()

def test_other_files_say_what_they_are(good):
    "An ONNX file, a picture, a pickle, text; and safetensors of somebody else"
    for b in (b'\x08\n\x12\x07pytorch\x1a'+bytes(99), b'\x89PNG\r\n\x1a\n'+bytes(99), pickle.dumps(dict(a=1)), b'some text that is long enough'):
        Path('x').write_bytes(b)
        refused('x cannot be used as a predictor: it was not written by `save_predictor`')
        refused('; copy it again, or delete it and run the same `train`$')
    Path('x').write_bytes(tensor_bytes(dict(good[1])))
    refused('it holds tensors, but not what `save_predictor` adds$')
    with pytest.raises(PredictorError, match='No such file or directory: .absent.$'): load_predictor('absent')

# --- writing

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
    with pytest.raises(PredictorError, match='cannot write p.safetensors/p: .*exists: .p.safetensors'): save_predictor(learn, 'p.safetensors/p')
    learn.model[-1].bias.data += float('nan')
    with pytest.raises(PredictorError, match='NaN'): save_predictor(learn, 'p.safetensors')
    assert Path('p.safetensors').read_bytes()==before

class Invert(Transform):
    def encodes(self, x: PILImageBW): return PILImageBW.create(255-np.asarray(x))

class Darken(Transform):
    order = 20
    def encodes(self, x: TensorImageBW): return x/2

def test_says_what_it_cannot_store():
    for kw, name in ((dict(item_tfms=Invert()), 'Invert'), (dict(batch_tfms=Darken()), 'Darken')):
        with pytest.raises(PredictorError, match=f'{name}.*learn.export'): save_predictor(learner(digit_dls(**kw)), 'p.safetensors')
    assert not list(Path().iterdir())

def test_a_class_of_the_same_name_is_another():
    "A transform of the user's that is called as one of fastai's, or made from it"
    class Same(Transform):
        size, method, pad_mode = (8, 8), 'squish', 'zeros'
        def encodes(self, x: PILImageBW): return x
    class Derived(Resize): pass
    Same.__name__ = Derived.__name__ = 'Resize'
    for tfm in (Same(), Derived(8)):
        with pytest.raises(PredictorError, match="Resize cannot be stored.*fastai's own.*learn.export"): save_predictor(learner(digit_dls(item_tfms=tfm)), 'p.safetensors')

@pytest.mark.parametrize('tfm', [Resize, RandomResizedCrop])
def test_another_resampling_is_refused(tfm):
    "Also where the samples are not resized"
    with pytest.raises(PredictorError, match=f'{tfm.__name__} was made with other `resamples`'):
        save_predictor(learner(digit_dls(item_tfms=tfm(8, resamples=(Image.NEAREST,)*2))), 'p.safetensors')

def test_tied_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(1, 10, 3); self.b = self.a
        def forward(self, x): return self.b(x).mean((2, 3))
    learn = learner(arch=Tied())
    save_predictor(learn, 'p.safetensors')
    with learn.no_bar(): assert agree(load_predictor('p.safetensors', arch=Tied()).predict(IL[1701]), learn.predict(IL[1701]))

def test_several_at_once():
    learn = learner()
    save_predictor(learn, 'p.safetensors')
    state = torch.get_rng_state()
    pred = load_predictor('p.safetensors')
    assert torch.equal(state, torch.get_rng_state()), 'loading draws nothing'
    items = [np.asarray(o) for o in IL[1700:1705].items]
    assert torch.allclose(pred.probs(items), torch.stack([pred.predict(o)[2] for o in items]), atol=1e-6)
    assert pred.classes == list(map(str, range(10))) and json.dumps(pred.meta)

@pytest.mark.parametrize('name', ['1.weight', 'sample.image', 'sample.probs', 'more'])
@pytest.mark.parametrize('arch', [None, partial(small_cnn, width=4)])
def test_a_file_of_holes_is_not_read(name, arch, good):
    "Its header claims gigabytes for one tensor, which a sparse file has without a disk"
    b, n = good[0], int.from_bytes(good[0][:8], 'little')
    header = json.loads(b[8:8+n])
    end, more = 0, 2**30
    name = name if 'sample' in name or name == 'more' else next(k for k in header if k.endswith('0.weight'))
    header.pop(name, None)
    for o in header.values(): # One after the other, as the format asks
        if 'data_offsets' in o: o['data_offsets'] = [end, end := end+int(np.subtract(*o['data_offsets'][::-1]))]
    header[name] = dict(dtype='F32', shape=[more//4] if name != 'sample.image' else [1, 2**16, more//2**18], data_offsets=[end, end+more])
    text = json.dumps(header).encode()
    with open('x', 'wb') as f:
        f.write(len(text).to_bytes(8, 'little')+text)
        f.truncate(8+len(text)+end+more)
    tracemalloc.start()
    try:
        with pytest.raises(PredictorError, match='do not fit the network|its sample is not an image'): load_predictor('x', arch)
        assert tracemalloc.get_traced_memory()[1] < 1e7
    finally: tracemalloc.stop()

def test_a_small_file_that_claims_a_large_network(good):
    "Whose header is that of a large one, and whose bytes are few"
    with torch.device('meta'): net = small_cnn(1, 10, width=2000)
    header = {k: dict(dtype='F32', shape=list(v.shape), data_offsets=[0, 9]) for k, v in net.state_dict().items()}
    header |= {'sample.image': dict(dtype='F32', shape=[1, 8, 8], data_offsets=[0, 9]), 'sample.probs': dict(dtype='F32', shape=[10], data_offsets=[0, 9])}
    meta = dict(good[2], arch=dict(source='fastai_mixmatch', name='small_cnn', args=dict(width=2000)))
    header['__metadata__'] = dict(fastai_mixmatch=json.dumps(meta))
    text = json.dumps(header).encode()
    Path('x').write_bytes(len(text).to_bytes(8, 'little')+text+bytes(9))
    refused('it was not written by `save_predictor`')

@pytest.mark.parametrize('args', [dict(depth=10**7), dict(img_size=[10**5, 32])])
def test_a_small_file_with_huge_arguments(good, args):
    "timm works in Python before it makes a first weight"
    pytest.importorskip('timm', reason='timm is not installed')
    forged(good, arch=dict(source='timm', name='vit_tiny_patch16_224', args=args))
    refused('its network is huge')

def test_a_small_file_with_huge_buffers(good):
    "Which a file of weights does not hold"
    pytest.importorskip('timm', reason='timm is not installed')
    args = dict(img_size=400, window_size=100, embed_dim=8, depths=[1]*4, num_heads=[1]*4)
    forged(good, arch=dict(source='timm', name='swin_tiny_patch4_window7_224', args=args))
    refused('its network is too large')

def test_lazy_layers():
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.LazyLinear(10)
        def forward(self, x): return self.head(self.body(x))
    net = Lazy(); net(torch.zeros(1, 1, 8, 8))
    learn = learner(arch=net)
    save_predictor(learn, 'p.safetensors')
    with learn.no_bar(): assert agree(load_predictor('p.safetensors', arch=Lazy()).predict(IL[1701]), learn.predict(IL[1701]))

def square(im): return type(im)(im.crop((0, 0, *[min(im.size)]*2)))

@pytest.mark.parametrize('late,kept', [(square, False), (Resize((8, 16)), True)], ids=['square', 'Resize'])
def test_what_the_loaders_do_after_opening_is_no_secret(late, kept, tmp_path):
    "Done twice it gives the same, so opened images alone do not tell; fastai's own are stored"
    for i in range(40): Image.fromarray(np.concatenate([X[i], 255-X[i]], 1)).save(tmp_path/f'{i}.png')
    block = DataBlock((TransformBlock(type_tfms=[PILImageBW.create, late], batch_tfms=IntToFloatTensor), CategoryBlock), get_y=lambda f: str(Y[int(f.stem)]),
        splitter=IndexSplitter(range(20, 40)), item_tfms=Resize(8))
    dls = block.dataloaders([tmp_path/f'{i}.png' for i in range(40)], bs=10, num_workers=0)
    learn = learner(dls)
    if kept:
        for a, b in both(learn, [tmp_path/'1.png', tmp_path/'30.png']): assert agree(a, b)
    else:
        with pytest.raises(PredictorError, match='the transform square cannot be stored.*learn.export'): save_predictor(learn, 'p.safetensors')

def test_labels_in_a_table(folder):
    "Rows of a data frame, as `from_df` and `from_csv` read them"
    files = sorted(folder.glob('*/*/*.png'))
    df = pd.DataFrame(dict(name=[str(f.relative_to(folder)) for f in files], y=[f.parent.name for f in files]))
    learn = learner(ImageDataLoaders.from_df(df, folder, valid_pct=.5, bs=20, num_workers=0), folder/'unlabeled')
    for a, b in both(learn, files[:3]): assert agree(a, b)

class Odd(CrossEntropyLossFlat):
    def decodes(self, x): return x.argmin(-1)

def test_a_loss_that_decodes_otherwise_is_refused():
    with pytest.raises(PredictorError, match='does not give the likeliest class'): save_predictor(learner(arch=SMALL, loss_func=Odd()), 'p.safetensors')

class Careful(CrossEntropyLossFlat):
    "As the likeliest class, unless the second is likely, too"
    def decodes(self, x): return torch.where(x[:,1]>.4, 1, x.argmax(-1))

def test_a_loss_with_a_threshold_is_refused_whatever_the_images_are(folder):
    "Sample images alone may all be clear"
    learn = learner(arch=SMALL, loss_func=Careful())
    with torch.no_grad(): learn.model[-1].weight.zero_(); learn.model[-1].bias.zero_()[2] = 9. # All are class 2
    for f in (lambda: save_predictor(learn, 'p.safetensors'), lambda: list(predict_files(learn, sorted(folder.glob('*/*/*.png'))[:3]))):
        with pytest.raises(PredictorError, match='does not give the likeliest class'): f()
