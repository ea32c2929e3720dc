"Batched views against torchvision's per-image transforms on photographs: views of both have the same distribution."
import numpy as np, pytest, torch, torchvision.transforms.v2 as T, torchvision.transforms.v2.functional as TF
from fastai_mixmatch.all import RandAugment, WeakView
from fastai_mixmatch.augment import spaces
from scipy.stats import ks_2samp
from sklearn.datasets import load_sample_images

N, S = 600, 32

@pytest.fixture(scope='module')
def photos():
    "Random parts of two photographs, uint8 `(N,3,32,32)`; a third of them with little contrast"
    r = np.random.default_rng(0)
    ims = [o[::4, ::4] for o in load_sample_images().images]
    cut = lambda im: (lambda y, x: im[y:y+S, x:x+S])(r.integers(0, im.shape[0]-S), r.integers(0, im.shape[1]-S))
    x = np.stack([cut(ims[i % 2]) for i in range(N)])
    x[::3] = x[::3]//2 + 50
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()

def traits(x):
    "Numbers that tell views apart, `(N,)` each: light, contrast, color, edges, black parts, different values, where the light is"
    x = x.double()/255 if x.dtype == torch.uint8 else x.double()
    ramp = torch.linspace(-1, 1, x.shape[-1], dtype=torch.double)
    edges = lambda d: x.diff(dim=d).abs().mean((1, 2, 3))
    mean = lambda o: o.double().mean((1, 2, 3))
    return dict(mean=mean(x), std=x.std((1, 2, 3)), colors=x.std(1).mean((1, 2)), rows=edges(2), columns=edges(3), black=mean(x < 1e-3),
        levels=torch.tensor([len(o.unique()) for o in x]), leaning=mean(x*ramp), standing=mean(x*ramp[:, None]), corner=mean(x[:, :, :8, :8]))

def least_p(a, b):
    "Smallest p-value of the traits' two-sample Kolmogorov-Smirnov tests, times their number"
    a, b = traits(a), traits(b)
    return min((ks_2samp(a[k], b[k]).pvalue, k) for k in a)[0]*len(a)

def sign(): return 2*np.random.randint(2)-1
def shear(im, *deg): return TF.affine(im, 0, [0, 0], 1, [float(np.degrees(np.arctan(o))) for o in deg], center=[0, 0])
def move(im, dx, dy): return TF.affine(im, 0, [dx, dy], 1, [0, 0])

def blend(f): return lambda im, m: (f(im.float()/255, 1-.95*m)*255).round().to(torch.uint8) # On integers, torchvision cuts fractions off

# Operation → torchvision's, of an image and a magnitude from 0 to 1: FixMatch's ranges
OPS = dict(
    autocontrast=lambda im, m: TF.autocontrast(im), brightness=blend(TF.adjust_brightness), color=blend(TF.adjust_saturation),
    contrast=blend(TF.adjust_contrast), equalize=lambda im, m: TF.equalize(im), posterize=lambda im, m: TF.posterize(im, 8-round(4*m)),
    sharpness=blend(TF.adjust_sharpness), solarize=lambda im, m: TF.solarize(im, 256*(1-m)) if m>1/256 else im, identity=lambda im, m: im,
    rotate=lambda im, m: TF.rotate(im, 30*m*sign()), shear_x=lambda im, m: shear(im, .3*m*sign(), 0), shear_y=lambda im, m: shear(im, 0, .3*m*sign()),
    translate_x=lambda im, m: move(im, .3*S*m*sign(), 0), translate_y=lambda im, m: move(im, 0, .3*S*m*sign()))

def theirs(photos, name, top=1.): return torch.stack([OPS[name](im, np.random.uniform(0, top)) for im in photos])
def ours(photos, name, **kw): return (RandAugment(1, 1., ops=(name,), mode='nearest', **kw).view(photos.float()/255)*255).round().to(torch.uint8)

def test_every_operation_is_here(): assert list(OPS) == list(spaces['paper'].pool)

FIXED = ['autocontrast', 'equalize', 'identity']
moved = pytest.mark.parametrize('name', [o for o in OPS if o not in FIXED])
def one_image(photos): return photos[1:2].expand(N, -1, -1, -1)

@moved
def test_operation(photos, name):
    "Of one photograph, so that views differ by their magnitudes alone"
    assert least_p(ours(one_image(photos), name), theirs(one_image(photos), name)) > .01

@moved
def test_the_test_sees_another_range(photos, name):
    "Magnitudes that are 30 % smaller have another distribution, and the traits tell."
    assert least_p(ours(one_image(photos), name, magnitude=(0., .7)), theirs(one_image(photos), name)) < .01

@pytest.mark.parametrize('name', FIXED)
def test_operations_without_magnitude_are_equal(photos, name):
    assert (ours(photos, name).int()-theirs(photos, name).int()).abs().max() <= (name == 'autocontrast')

def weak_theirs(photos, flip=.5):
    t = T.Compose([T.RandomCrop(S, padding=4, padding_mode='reflect'), T.RandomHorizontalFlip(flip)])
    return torch.stack([t(im) for im in photos])

@pytest.mark.parametrize('images', [lambda o: o, one_image], ids=['many images', 'one image'])
def test_shift_and_flip(photos, images):
    x = images(photos)
    assert least_p(WeakView(1/8, flip=.5).view(x), weak_theirs(x)) > .01

def test_the_test_sees_another_shift_or_flip(photos):
    x = one_image(photos)
    assert least_p(WeakView(3/32, flip=.5).view(x), weak_theirs(x)) < .01
    assert least_p(WeakView(1/8, flip=.3).view(x), weak_theirs(x)) < .01

def test_views_of_one_image_are_the_same_ones(photos):
    "Drawn often enough, both give all 162 views of an image, pixel for pixel, and no others."
    x = photos[1:2]
    views = lambda v: {o.numpy().tobytes() for o in v}
    a, b = views(WeakView(1/8, flip=.5).view(x, 2500)), views(weak_theirs(x.expand(2500, -1, -1, -1)))
    assert len(a) == 9*9*2 and a == b
