"""Strong views of a batch, one thread: ours against torchvision v2's functions, image by image, and on slices that share a magnitude.

v2 takes whole batches, but one magnitude a call; each image of ours has its own. Time of the processor, median of the turns:

    python bench/augment_ops.py    # → results/speed_augment.jsonl
"""
import statistics, time
import torch, torchvision.transforms.v2.functional as TF
from math import atan, degrees
from random import choice, random
from fastai_mixmatch.all import RandAugment
from common import append

def shear(x, *m): return TF.affine(x, 0, [0,0], 1, [degrees(atan(.3*o)) for o in m], center=[0,0])
def move(x, h, v): return TF.affine(x, 0, [round(.3*h*x.shape[-1]),round(.3*v*x.shape[-2])], 1, [0,0])
V2 = dict(autocontrast=lambda x, m: TF.autocontrast(x), brightness=lambda x, m: TF.adjust_brightness(x, 1-.95*m),
          color=lambda x, m: TF.adjust_saturation(x, 1-.95*m), contrast=lambda x, m: TF.adjust_contrast(x, 1-.95*m),
          equalize=lambda x, m: TF.equalize(x), posterize=lambda x, m: TF.posterize(x, 8-round(4*m)),
          sharpness=lambda x, m: TF.adjust_sharpness(x, 1-.95*m), solarize=lambda x, m: TF.solarize(x, 1-m),
          identity=lambda x, m: x, rotate=lambda x, m: TF.rotate(x, 30*m), shear_x=lambda x, m: shear(x, m, 0),
          shear_y=lambda x, m: shear(x, 0, m), translate_x=lambda x, m: move(x, m, 0), translate_y=lambda x, m: move(x, 0, m))

def image_by_image(x):
    def one(im):
        for _ in range(2):
            if random()<.5: im = V2[choice([*V2])](im, random())
        return im
    return torch.stack([one(im) for im in x])

def shared(x, aug):
    "The passes of `aug`, each operation at one magnitude for its slice"
    for _ in range(2):
        x = x[torch.randperm(len(x))]
        for o,s,e in aug.slices(len(x)): x[s:e] = V2[aug.pool[o]](x[s:e], random())
    return x

def ms(f, turns, inner):
    "Milliseconds of processor time of a call, in each turn"
    res = []
    for _ in range(turns+1):
        t = time.process_time()
        for _ in range(inner): f()
        res.append((time.process_time()-t)/inner*1000)
    return res[1:]

def main(turns=15):
    torch.set_num_threads(1)
    aug,rows = RandAugment(mode='nearest'),[] # As torchvision's default
    for shape in ((64,3,32,32),(16,3,96,96)):
        x = torch.rand(shape)
        strong = {'RandAugment': lambda: aug.view(x), 'v2, image by image': lambda: image_by_image(x),
                  'v2, shared magnitudes': lambda: shared(x, aug)}
        for k,f in strong.items(): rows.append(dict(what='strong view', by=k, shape=shape, ms=ms(f, turns, 5)))
        m = torch.rand(len(x))
        for op,f in aug.ranges.colors.items():
            for by,g in (('RandAugment', lambda: f(x, m)),('v2, shared magnitudes', lambda: V2[op](x, .5))):
                rows.append(dict(what=op, by=by, shape=shape, ms=ms(g, turns, 5)))
    for r in rows: r.update(ms=round(statistics.median(r['ms']), 3), ms_min=round(min(r['ms']), 3))
    append('speed_augment', *rows, instead=lambda r: True)
    for r in rows: print(r)

if __name__=='__main__': main()
