"""The experiments as data: what is trained, on what, for how long, in which variants.

The lengths of the article's two runs without unlabeled images are ours: what we know of them is the accuracy and, for
all labels, the time; 78 200 steps are 100 passes over all images. The small ablations have the paper's algorithm,
with its T, K, α and λ; ours, and the same in every row, are the network, the batches, the length, a one-cycle
schedule, and a ramp of λ over the whole run.
"""
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Callable

import torch
from fastai.vision.all import ConvLayer, nn
from fastai_mixmatch.all import *
from fastai_mixmatch.batch import refuse_unless

# --- MixMatch taken apart

class Ablation(MixMatch):
    """MixMatch with parts taken away (MixMatch, table 4); `mix` says which images are mixed with which

    'all': all with all. 'separate': labeled with labeled, unlabeled with unlabeled. 'labeled', 'unlabeled': only
    these, among themselves. 'none': no image. `ema_guess`: the averaged weights guess.
    """
    mix:str = 'all'
    ema_guess:bool = False
    def check(self):
        super().check()
        modes = 'all','separate','labeled','unlabeled','none'
        refuse_unless(self.mix in modes, f"mix must be one of {', '.join(modes)}", self.mix)

    def partners(self, n, total, device):
        "Index of each image's partner, and whether it is mixed at all, both `(total,)`; the first `n` are labeled"
        perm = torch.randperm(total, device=device)
        if self.mix=='all': return perm, torch.ones(total, device=device)
        perm = torch.cat([torch.randperm(n, device=device), n+torch.randperm(total-n, device=device)])
        on = torch.zeros(total, device=device)
        if self.mix in ('separate','labeled'): on[:n] = 1
        if self.mix in ('separate','unlabeled'): on[n:] = 1
        return perm, on

    def make_batch(self, b):
        q = sharpen(self.guess(b.weak, by='teacher' if self.ema_guess else 'model', then=self.aligned), self.T)
        xs,ys = torch.cat([b.x, *b.weak]),torch.cat([b.y, *[q]*self.k])
        lam,_ = mixup_draws(len(xs), self.alpha, xs.device, xs.dtype)
        perm,on = self.partners(len(b.y), len(xs), xs.device)
        xs,ys = mixup(xs, ys, self.alpha, 1-on*(1-lam), perm)
        return xs, (ys[:len(b.y)], ys[len(b.y):])

ablations = {
    'MixMatch': {},
    'K=1': dict(k=1),
    'K=3': dict(k=3),
    'K=4': dict(k=4),
    'T=1': dict(T=1.),
    'EMA guesses': dict(ema_guess=True),
    'no MixUp': dict(mix='none'),
    'MixUp labeled only': dict(mix='labeled'),
    'MixUp unlabeled only': dict(mix='unlabeled'),
    'MixUp separately': dict(mix='separate'),
    'ICT': dict(mix='unlabeled', T=1., ema_guess=True)} # Interpolation Consistency Training: the last row of that table

# --- networks

def article_cnn(n_in, n_out):
    """The article's network for MNIST: two convolutions of stride 2, *one* batch norm, average pooling, a linear
    layer

    With batch norm after each convolution, as in fastai's `ConvLayer`, the same training generalizes clearly worse.
    """
    conv = partial(ConvLayer, stride=2, norm_type=None)
    return nn.Sequential(conv(n_in, 64), conv(64, 128), nn.BatchNorm2d(128), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(128, n_out))

class Residual(nn.Sequential):
    "Layers whose output is added to their input"
    def forward(self, x): return x + super().forward(x)

def narrow_resnet(n_in, n_out, width=32):
    """Three stages, each of a convolution with pooling and a residual block of two: fast on one CPU core

    A thinner relative of David Page's ResNet-9 for DAWNBench (2018). With images of 32 × 32 pixels it
    needs two thirds of the multiplications of a WRN-10-2.
    """
    def conv(ni, nf, *pool):
        return nn.Sequential(nn.Conv2d(ni, nf, 3, padding=1, bias=False), *pool, nn.BatchNorm2d(nf), nn.LeakyReLU(0.1))
    layers,ni = [conv(n_in, width//2)],width//2
    for nf in (width, 2*width, 4*width):
        layers += [conv(ni, nf, nn.MaxPool2d(2)), Residual(conv(nf, nf), conv(nf, nf))]
        ni = nf
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(ni, n_out))

archs = dict(wrn_28_2=wrn_28_2, wrn_10_2=wrn(10, 2), small_cnn=small_cnn, article_cnn=article_cnn,
             narrow_resnet=narrow_resnet)

def arch_name(f):
    "Name of an architecture and of its arguments"
    if not isinstance(f, partial): return f.__name__
    return f"{f.func.__name__}({', '.join(f'{k}={v}' for k,v in f.keywords.items())})"

# --- experiments

@dataclass
class Experiment:
    "A data set, a number of labels, a method and a schedule, in one or several variants"
    about:str # One line for `--list`
    data:str # 'digits', 'mnist' or 'cifar10'
    labels:tuple # Numbers of labels, the usual one first; empty: all images are labeled
    steps:int # Optimizer steps
    method:type=MixMatch # Callback
    args:dict=field(default_factory=dict) # Its arguments
    arch:Callable=wrn_28_2 # Function of `(n_in, n_out)`
    bs:int=64 # Labeled images in a batch
    ubs:int=64 # Unlabeled images in a batch
    lr:float=2e-3 # Largest learning rate
    wd:float=0.02 # Decoupled weight decay
    ema:float|None=0.999 # Decay of the average of the weights
    warmup:bool=True # Shorter memory of the average in the first steps?
    fit:str='fit_one_cycle' # The learner's method that trains: its schedule
    embed:int=0 # Test images whose map is kept
    variants:dict=field(default_factory=lambda: {'': {}}) # Name → what differs
    default:tuple=() # Variants that run unless others are asked for; empty: all

    def variant(self, name):
        "This experiment with what the variant `name` changes"
        if name not in self.variants:
            raise ValueError(f"no variant {name!r}; there are {', '.join(map(repr, self.variants))}")
        over = dict(self.variants[name])
        if 'recipe' in over: over = {**of_recipe(over.pop('recipe'), over.pop('args', {})), **over}
        return replace(self, args={**self.args, **over.pop('args', {})}, **over)

    def settings(self):
        "The fields that a training depends on, as plain values"
        args = {k: v if isinstance(v, (int,float,str,type(None))) else repr(v) for k,v in self.args.items()}
        fields = {o: getattr(self, o) for o in ('bs','ubs','lr','wd','ema','warmup','fit')}
        return dict(method=self.method.__name__, **args, arch=arch_name(self.arch), **fields)

def of_recipe(name, args):
    "Fields of an `Experiment` that trains by the recipe `name`; `args` change the method's arguments"
    (method,fit),r = published[name],recipe(name)
    ema,fields = r.pop('ema'),{o: r.pop(o) for o in ('lr','wd')}
    if ema: fields['warmup'] = ema.warmup
    return dict(fields, method=method, fit=fit, ubs=64*r.pop('mu'), ema=ema and ema.decay, args={**r, **args})

def arguments(variants, **fields): return {k: dict(fields, args=v) for k,v in variants.items()}

labels = (500,250,1000,2000,4000)
weak = dict(weak=WeakView(4/32, flip=0.5))
plain = dict(adapt=False, k=2, T=0.5, alpha=0.75, lambda_u=75.)
small = {**plain, 'ramp': 1., 'weak': WeakView(1/8)}
recipes = {method: name for name,(method,_) in published.items() if name!='article'}
relatives = (Supervised, MixUpLabeled, EntropyMin, PseudoLabel, PiModel, MeanTeacher, VAT, ICT, MixMatch, ReMixMatch,
             UDA, FixMatch, FlexMatch, FreeMatch, SoftMatch, AdaMatch, DeFixMatch)

def by_recipe(method):
    "The variant of a method: its recipe, or its defaults"
    return dict(recipe=recipes[method]) if method in recipes else dict(method=method, ubs=64*method.mu)

experiments = {}
experiments['mnist-sharpening'] = Experiment(
    'sharpened guesses against plain ones, neither mixup nor augmentation (article)', 'mnist', (500,), 4690,
    args=dict(adapt=False, k=1, alpha=0., lambda_u=10., ramp=800, weak=False), arch=article_cnn, ubs=128, lr=3e-3,
    wd=1e-4, ema=None, embed=400,
    variants=arguments({'T=1': dict(T=1.), 'T=0.5': dict(T=0.5)}))
experiments['cifar10-supervised'] = Experiment('all 50 000 labels (article)', 'cifar10', (), 78200, Supervised, weak)
experiments['cifar10-labels-only'] = Experiment(
    'the labeled images alone (article)', 'cifar10', labels, 20000, Supervised, weak)
experiments['cifar10-mixmatch'] = Experiment(
    'MixMatch, with the recipe of the article, of the paper, or the defaults in a short run (fast)', 'cifar10', labels,
    154800, args=weak, default=('article',),
    variants=dict(article=dict(recipe='article'), paper=dict(recipe='paper', steps=2**20), fast=dict(steps=60000)))
experiments['cifar10-methods'] = Experiment(
    'MixMatch and its relatives, each by its recipe; by the defaults where there is none', 'cifar10', (250,40,4000),
    2**20, args=weak, default=('FixMatch',), variants={o.__name__: by_recipe(o) for o in relatives})
experiments['cifar10-cpu'] = Experiment(
    'what some hours of one CPU core give, with a narrow network and `--fast bf16`', 'cifar10',
    (500,4000), 50000, args=weak, arch=narrow_resnet, bs=32, ubs=32, default=('Supervised','MixMatch'),
    variants={o.__name__: dict(method=o, ubs=32*o.mu) for o in relatives} |
             dict(article=dict(recipe='article', ubs=32), paper=dict(recipe='paper', ubs=32)))
experiments['cifar10-cpu-all'] = replace(
    experiments['cifar10-cpu'], about='all 50 000 labels, as `cifar10-cpu` trains', method=Supervised, labels=(),
    default=(), variants={'': {}})
experiments['ablation-cifar10'] = Experiment(
    "the paper's table 4", 'cifar10', (250,4000), 2**20, variants=arguments(ablations, recipe='paper', method=Ablation))
experiments['ablation-mnist'] = Experiment(
    "the paper's table 4 on MNIST, a small network", 'mnist', (100,), 618, Ablation, small, partial(small_cnn, width=8),
    bs=32, ubs=32, variants=arguments(ablations))
experiments['ablation-digits'] = Experiment(
    "the paper's table 4 on 8×8 digits, a small network", 'digits', (20,), 400, Ablation, small, small_cnn,
    bs=32, ubs=32, variants=arguments(ablations))
experiments['mixup-digits'] = replace(
    experiments['ablation-digits'], about='how much mixing: α of Beta(α, α), on 8×8 digits', method=MixMatch,
    variants=arguments({f'α={o:g}': dict(alpha=float(o)) for o in (0,0.2,0.75,1,10,100)}))
