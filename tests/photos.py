"Parts of two photographs, and whether two ways to augment them give views of the same distribution."
import numpy as np, torch
from scipy.stats import ks_2samp
from sklearn.datasets import load_sample_images

N, S = 600, 32

def photo_parts():
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

def one_image(photos): return photos[1:2].expand(N, -1, -1, -1)
