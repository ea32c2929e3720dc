"""What tests/test_distributed.py runs in each of two processes, and in one process to compare with.

    torchrun --nproc_per_node 2 tests/distributed_run.py FOLDER

It ends with an error of one process, on purpose.
"""
import contextlib, importlib, io, os, random, sys, warnings
from pathlib import Path
from types import SimpleNamespace
import numpy as np, torch
from fastai.vision.all import Callback, ImageDataLoaders, PILImageBW
from torch import nn
from fastai_mixmatch import mixmatch, views
from fastai_mixmatch.all import *
from fastai_mixmatch.views import shift_draws

X,Y = digits_arrays()

def no_norm(n_in, n_out):
    "A network without batch norm, whose output for an image does not depend on the batch"
    return nn.Sequential(nn.Conv2d(n_in, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, n_out))

class Draws:
    "The same random numbers for an image of a global batch, however many processes it is cut for: each part has a generator of its own"
    _stateattrs = ('mine', 'rank', 'world') # Differ by process: no settings
    def __init__(self, rank, world, parts=2): self.mine,self.step,self.call = range(parts) if world==1 else [rank],0,0
    def generators(self):
        self.call += 1
        return [torch.Generator().manual_seed(self.step*1000+self.call*10+r) for r in self.mine]
    def shift(self, n, max_shift, flip=0., device=None):
        if n==1 or n%len(self.mine): return shift_draws(n, max_shift, flip, device) # The check of the model, on one image
        n //= len(self.mine)
        rows = [[*(torch.randint(-m, m+1, (n,), generator=g) for m in max_shift), torch.rand(n, generator=g)<flip] for g in self.generators()]
        return tuple(map(torch.cat, zip(*rows)))
    def mixup(self, n, alpha, device=None, dtype=None):
        parts,n = len(self.mine),n//len(self.mine)
        lam,perm = torch.empty(parts*n),torch.empty(parts*n, dtype=torch.long)
        b = n//3 # Labeled images, first views, second views
        for r,g in enumerate(self.generators()):
            places = torch.arange(n)//b*(b*parts) + r*b + torch.arange(n)%b
            lam[places] = 0.5+torch.rand(n, generator=g)/2
            perm[places] = places[torch.randperm(n, generator=g)]
        return lam,perm

class Watch(Callback):
    "Notes what happens in each step; one seed for the order of the pool"
    order,run_valid = 21,False
    def __init__(self, draws): self.draws,self.seen,self.losses = draws,[],[]
    def before_train(self):
        torch.manual_seed(self.learn.epoch+1000*self.learn.mix_match.dl.rank)
        self.draws.step,self.draws.call = self.learn.train_iter,0
    def after_batch(self): self.draws.step,self.draws.call = self.draws.step+1,0 # The next batch is drawn after this
    def after_loss(self): self.losses.append(self.learn.loss.item())
    def after_pred(self): self.seen.append(self.learn.mix_match.dl.now.tolist())

def state(learn):
    params,learned = [p.detach().clone() for p in learn.model.parameters()],learn.mix_match.learned
    return dict(params=params, buffers=[b.clone() for b in learn.model.buffers()], avg=[o.clone() for o in learn.ema.avg],
                frequencies=learned.seen, known=learned.known, rows=learn.report.rows,
                device_loaders=[type(o).__name__ for o in learn.dls.loaders], wrapped=type(learn.model).__name__)

def given(rank, world):
    "22 steps of MixMatch with given draws, and 64 images of each kind in a step"
    random.seed(0); torch.manual_seed(rank)
    il = ImageList.from_arrays(X, Y, img_cls=PILImageBW)
    dls,draws = il[:80].dataloaders(il[1500:1700], bs=64//world),Draws(rank, world)
    learn = mixmatch_learner(dls, il[80:1488], arch=no_norm, cbs=Watch(draws))
    old = views.shift_draws,mixmatch.mixup_draws
    views.shift_draws,mixmatch.mixup_draws = draws.shift,draws.mixup
    try:
        with learn.no_logging(), shared(learn, world): learn.fit(1, 2e-3)
    finally: views.shift_draws,mixmatch.mixup_draws = old
    return dict(state(learn), losses=learn.watch.losses, seen=learn.watch.seen, steps=learn.train_iter)

def shared(learn, world):
    if world==1: return contextlib.nullcontext()
    importlib.import_module('fastai.distributed') # Gives a learner its `distrib_ctx`
    return learn.distrib_ctx(sync_bn=False, cpu=True)

def ordinary(rank, world, folder):
    "The public API: folders, batch norm, metrics, a fit after a fit, predictions"
    torch.manual_seed(rank); random.seed(rank); np.random.seed(rank)
    dls = ImageDataLoaders.from_folder(folder/'digits', train='labeled', valid='test', img_cls=PILImageBW, bs=20, num_workers=0)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        learn = mixmatch_learner(dls, folder/'digits/unlabeled', arch=small_cnn, on_error='skip', cbs=Watch(Draws(rank, world)))
        with shared(learn, world):
            learn.fit_one_cycle(2)
            learn.fit(1)
            res = learn.validate()
    learn.model.eval()
    xs,ys = zip(*[(x,y) for x,y in dls.valid])
    with torch.no_grad(): acc = (learn.model(torch.cat(xs).as_subclass(torch.Tensor)).argmax(1)==torch.cat(ys)).float().mean()
    return dict(state(learn), seen=learn.watch.seen, out=out.getvalue(), accuracy=float(acc), validated=dict(zip(['valid_loss',*learn.metrics.attrgot('name')], map(float, res))),
                skipped=learn.mix_match.dl.pool.skipped, marginals=learn.mix_match.learned.seen)

def broken(rank, folder):
    "An image that only the second process reads, when training has begun, and that cannot be read"
    random.seed(0); torch.manual_seed(0)
    dls = ImageDataLoaders.from_folder(folder/'digits', train='labeled', valid='test', img_cls=PILImageBW, bs=16, num_workers=0)
    files = sorted((folder/'digits/unlabeled').glob('*.png'))[:64]
    learn = mixmatch_learner(dls, files, arch=small_cnn, cache=False)
    class Spoil(Callback):
        order = 21
        def before_batch(self):
            if self.learn.mix_match.dl.rank==1 and self.learn.train_iter==1:
                learn.mix_match.dl.pool.items = [folder/'digits/no such file.png']*64
    with shared(learn, 2): learn.fit(2, cbs=Spoil())

class Cut(Exception): pass

def cut_off(rank, world, folder, stop=None):
    "Two epochs with a checkpoint every 5 steps; cut off after step `stop`"
    class Stop(Callback):
        order,in_checkpoint = 1001,False
        def after_batch(self):
            if self.learn.training and self.learn.train_iter==stop: raise Cut('cut off')
    random.seed(rank); np.random.seed(rank); torch.manual_seed(rank)
    il = ImageList.from_arrays(X, Y, img_cls=PILImageBW)
    watch = Watch(Draws(rank, world))
    watch.before_train = lambda: None
    learn = mixmatch_learner(il[:80].dataloaders(il[1500:1700], bs=64//world), il[80:1488], arch=no_norm, cbs=[watch,Stop()], checkpoint=folder/'cut', every='5 steps')
    with learn.no_logging(), shared(learn, world): learn.fit(2, 2e-3)
    return dict(state(learn), seen=learn.watch.seen, steps=learn.train_iter)

METHODS = dict({o.__name__: o for o in (MixUpLabeled,EntropyMin,PiModel,MeanTeacher,VAT,ICT)}, PseudoLabel=lambda: PseudoLabel(threshold=.2),
    UDA=lambda: UDA(threshold=.2), FixMatch=lambda: FixMatch(threshold=.2, strong=StrongView(CTAugment())),
    ReMixMatch=lambda: ReMixMatch(ks=1), DeFixMatch=lambda: DeFixMatch(threshold=.2),
    **{o.__name__: o for o in (FlexMatch,FreeMatch,SoftMatch,AdaMatch)})

def tensors(m): return {k: v for k,v in m.changed().items() if isinstance(v, torch.Tensor)}

def relatives(rank, world):
    "A few steps of every method, with batch norm: weights, and what adapts"
    random.seed(0)
    il,res = ImageList.from_arrays(X, Y, img_cls=PILImageBW),{}
    for name,make in METHODS.items():
        torch.manual_seed(rank)
        m = make()
        learn = ssl_learner(il[:40].dataloaders(il[1500:1520], bs=16), il[40:104], arch=small_cnn, method=m, mu=1)
        with learn.no_logging(), shared(learn, world): learn.fit(2)
        res[name] = dict(params=[p.detach().clone() for p in learn.model.parameters()], adaptive=tensors(m),
                         taught=getattr(getattr(m.strong, 'aug', None), 'weights', None), loss_u=learn.report.rows[-1].get('loss_u', 0.))
    return res

def adaptive(rank, world):
    "Weights of guesses for given batches of 24, of which each process has a part, the last one smaller; and what adapts"
    g,res = torch.Generator().manual_seed(0),{}
    for m in (FlexMatch(threshold=.6), FreeMatch(momentum=.7), SoftMatch(momentum=.7)):
        m.dl,masks = SimpleNamespace(pool=range(60), bs=24//world, rank=rank, world=world),[]
        for t in range(16):
            n = 24 if t<15 else 20
            q,idx = (torch.randn(n, 5, generator=g, dtype=torch.double)*(1+t/8)).softmax(1),torch.randperm(60, generator=g)[:n]
            mine = slice(rank*n//world, (rank+1)*n//world)
            m.step = Step(Batch(None, None, (), (), idx[mine], None, None, None))
            masks.append(m.targets(q[mine], None)[1])
        res[m.name] = dict(masks=masks, state=tensors(m))
    return res

def main(folder):
    warnings.simplefilter('ignore')
    rank = int(os.environ['RANK'])
    with contextlib.suppress(Cut): cut_off(rank, 2, folder, 12)
    parts = dict(given=given(rank, 2), ordinary=ordinary(rank, 2, folder), relatives=relatives(rank, 2), adaptive=adaptive(rank, 2))
    torch.save(parts, folder/f'{rank}.pt')
    broken(rank, folder)

if __name__=='__main__': # As a module, since what a program itself defines is compared by its code
    import distributed_run
    distributed_run.main(Path(sys.argv[1]))
