"""Speed on a CPU, against code that is written here: views, training loops, import, decoding, number formats, predictions,
the command `check`, and the report.

Rivals take turns in one process, so that what else the machine does weighs on all of them; what counts is the ratio
within a turn, its median and spread. Times are of the processor, in one thread (with worker processes: of all of them
together): time that other work took is not in them.

    python bench/speed.py                    # everything, into results/speed.jsonl
    python bench/speed.py --only views loop  # some of it; the rows of other groups stay
"""
import contextlib, io, os, statistics, subprocess, sys, tempfile, time
from types import SimpleNamespace
import torch, torch.nn.functional as F
from fastai.vision.all import (
    Adam, DataLoader, DataLoaders, IntToFloatTensor, Learner, Normalize, Path, Pipeline, Resize, TensorImage,
    aug_transforms, imagenet_stats, noop, np, parent_label, set_seed, tensor)
from PIL import Image, ImageEnhance, ImageOps
from torchvision.models import mobilenet_v3_small
from fastai_mixmatch.all import *
from fastai_mixmatch.choose import look
from fastai_mixmatch.learner import SemiSupervisedLearner
from fastai_mixmatch.streams import UnlabeledDL
from fastai_mixmatch.views import shift_draws, shift_gather
from common import append, begin, parser
from bare import bare

def with_children():
    "Seconds of processor time of this process and of its children that have ended"
    return sum(os.times()[:4])

def turns(rivals, n, warm=False, clock=time.process_time):
    """Seconds of processor time of each rival in each of `n` turns, after one that does not count

    `warm`: each after a call that does not count either.
    """
    secs = {k: [] for k in rivals}
    for i in range(n+1):
        for k,f in list(rivals.items())[::(-1)**i]: # Each as often first as last
            if warm: f()
            t = clock(); f(); t = clock()-t
            if i: secs[k].append(t)
    return secs

def row(group, what, secs, against, **kw):
    "A row of the results: how many times longer `what` takes than `against`"
    q = [a/b for a,b in zip(secs[what], secs[against])]
    ratios = {k: round(f(q), 3) for k,f in dict(ratio=statistics.median, ratio_min=min, ratio_max=max).items()}
    return dict(group=group, what=what, against=against, **ratios, turns=len(q), **kw)

# --- views: two weak views of 32x32x3 uint8 images as normalized floats

mean, std = [.4914, .4822, .4465], [.2470, .2435, .2616]
MEAN, STD = tensor(mean).view(1, 3, 1, 1), tensor(std).view(1, 3, 1, 1)

def numpy_views(x):
    "One image after the other: pad, cut, flip, normalize in floats"
    m,s = (np.array(o, dtype=np.float32)[:,None,None] for o in (mean, std))
    out = []
    for _ in range(2):
        for im in x.numpy():
            dy,dx = np.random.randint(0, 9, 2)
            im = np.pad(im, ((0,0),(4,4),(4,4)), mode='reflect')[:,dy:dy+32,dx:dx+32]
            if np.random.rand()<.5: im = im[...,::-1]
            out.append(torch.from_numpy((im.astype(np.float32)/255-m)/s))
    return torch.stack(out).chunk(2)

def normalized(im):
    "A PIL image as normalized floats `(3,H,W)`"
    return torch.from_numpy(np.array(im)).permute(2, 0, 1).contiguous().float().div(255).sub(MEAN[0]).div(STD[0])

def pil_views(x):
    "One image after the other, as PIL images"
    out = []
    ims = [Image.fromarray(o) for o in x.permute(0, 2, 3, 1).numpy()]
    for _ in range(2):
        for im in ims:
            im = Image.fromarray(np.pad(np.asarray(im), ((4,4),(4,4),(0,0)), mode='reflect'))
            dy,dx = np.random.randint(0, 9, 2)
            im = im.crop((dx, dy, dx+32, dy+32))
            out.append(normalized(ImageOps.mirror(im) if np.random.rand()<.5 else im))
    return torch.stack(out).chunk(2)

def batch_views(x):
    "Plain batch code: floats, padded, one indexing for each view"
    x = F.pad((x.float()/255-MEAN)/STD, (4,)*4, mode='reflect')
    b,at,res = len(x),torch.arange(32),[]
    for _ in range(2):
        dy,dx,flip = torch.randint(0, 9, (b,1)),torch.randint(0, 9, (b,1)),torch.rand(b, 1)<.5
        rows,cols = dy+at,dx+torch.where(flip, 31-at, at)
        res.append(x[torch.arange(b)[:,None,None],:,rows[:,:,None],cols[:,None,:]].permute(0, 3, 1, 2).contiguous())
    return res

A, B = 1/(255*STD), -MEAN/STD
def gather_views(x):
    "One gather of uint8, and a fused conversion"
    return [shift_gather(x, *shift_draws(len(x), (4,4), .5)).float().mul_(A).add_(B) for _ in range(2)]

def views(a):
    rows = []
    dl = SimpleNamespace(after_batch=Pipeline([IntToFloatTensor(), Normalize.from_stats(mean, std, cuda=False)]))
    for b in (64, 448):
        x = torch.randint(0, 256, (b, 3, 32, 32), dtype=torch.uint8)
        ours = BatchViews(dl, TensorImage(x[:4]), WeakView(flip=.5))
        fs = {'BatchViews': lambda x: ours.views(x, 2), 'uint8 gather': gather_views, 'plain batch code': batch_views}
        if b==64: fs |= {'numpy, image by image': numpy_views, 'PIL, image by image': pil_views}
        n = 512//b # Enough for the clock, and for what one turn leaves in the caches of the next
        secs = turns({k: lambda f=f: [f(x) for _ in range(n)] for k,f in fs.items()}, a.runs*2, warm=True)
        secs = {k: [o/n for o in v] for k,v in secs.items()}
        for k in fs:
            rate = dict(images_s=round(b/statistics.median(secs[k])), images_s_best=round(b/min(secs[k])))
            rows.append(row('views', k, secs, 'BatchViews', batch=b, **rate))
    return rows

# --- strong views: two RandAugment operations and cutout; fastai's own transforms

def enhance(f): return lambda im, m: f(im).enhance(1-.95*m)
def affine(at, pixels=1):
    "Change coefficient number `at` of the identity"
    def f(im, m):
        c = [1,0,0,0,1,0]; c[at] += .3*m*pixels*random_sign()
        return im.transform(im.size, Image.AFFINE, c, resample=Image.BILINEAR)
    return f
def random_sign(): return 2*np.random.randint(2)-1
ops = [
    lambda im, m: im,
    lambda im, m: ImageOps.autocontrast(im),
    lambda im, m: ImageOps.equalize(im),
    lambda im, m: ImageOps.posterize(im, 8-round(4*m)),
    lambda im, m: ImageOps.solarize(im, 256*(1-m)),
    lambda im, m: im.rotate(30*m*random_sign(), resample=Image.BILINEAR),
    *map(enhance, (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Sharpness)),
    *(affine(*o) for o in ((1,), (3,), (2,32), (5,32)))]

def pil_strong(x):
    "Image by image: shift and flip, two operations of fourteen, each with probability 1/2, cutout, normalized floats"
    out = []
    for im in x.permute(0, 2, 3, 1).numpy():
        im = np.pad(im, ((4,4),(4,4),(0,0)), mode='reflect')
        dy,dx = np.random.randint(0, 9, 2)
        im = Image.fromarray(im).crop((dx, dy, dx+32, dy+32))
        if np.random.rand()<.5: im = ImageOps.mirror(im)
        for _ in range(2):
            if np.random.rand()<.5: im = ops[np.random.randint(len(ops))](im, np.random.rand())
        a,(cy,cx) = np.array(im),np.random.randint(0, 32, 2)
        a[max(cy-8,0):cy+8,max(cx-8,0):cx+8] = 127
        out.append(normalized(a))
    return torch.stack(out)

def strong(a):
    rows = []
    norm = [IntToFloatTensor(), Normalize.from_stats(mean, std, cuda=False)]
    x = torch.randint(0, 64, (448, 3, 32, 32), dtype=torch.uint8)*3 # Little contrast, so that equalizing does something
    ours = BatchViews(SimpleNamespace(after_batch=Pipeline(norm)), TensorImage(x[:4]), WeakView(flip=.5))
    aug = StrongView()
    rate = lambda k,n: round(n/statistics.median(secs[k]))
    for b in (64, 448):
        fs = {'BatchViews.strong': lambda: ours.strong(x[:b], aug), 'PIL, image by image': lambda: pil_strong(x[:b])}
        secs = turns(fs, a.runs, warm=True)
        for k in secs: rows.append(row('strong', k, secs, 'BatchViews.strong', batch=b, views=1, images_s=rate(k, b)))
    dl = SimpleNamespace(after_batch=Pipeline([*norm, *aug_transforms(size=32, pad_mode='reflection')]))
    theirs,ours = Pipeline(dl.after_batch.fs, split_idx=0),BatchViews(dl, TensorImage(x[:4]))
    fastai = lambda k: [theirs((TensorImage(x[:64]),))[0] for _ in range(k)]
    for k in (1, 2):
        names = 'BatchViews, aug_transforms','fastai, aug_transforms'
        secs = turns({names[0]: lambda: ours.views(x[:64], k), names[1]: lambda: fastai(k)}, a.runs*2, warm=True)
        rows.append(row('strong', names[0], secs, names[1], batch=64, views=k, images_s=rate(names[0], 64)))
    return rows

# --- loops: the package's fit against a bare PyTorch loop

def digits(a):
    train,valid = digits_lists()
    labeled,rest = train.split(20)
    xl,xu,xv = (torch.from_numpy(np.stack(list(il.items))).float()[:,None]/255 for il in (labeled, rest, valid))
    yl,yv = tensor(labeled.labels),tensor(valid.labels)
    return versus('digits, small_cnn', xl, yl, xu, xv, yv, small_cnn, a.epochs, a.runs)

def wide(a):
    "Random images of 32x32x3: time does not depend on what they show"
    set_seed(0)
    x,y = torch.rand(64*a.steps+128, 3, 32, 32),torch.arange(64*a.steps+128)%10
    return versus('32x32x3, WRN-28-2', x[:64], y[:64], x[64:-64], x[-64:-56], y[-64:-56], wrn_28_2, 1, a.wide_runs)

def loaders(train, valid, bs, valid_bs, **kwargs):
    "`DataLoaders` of `(x, y)` tensors with ten classes"
    dls = DataLoaders(DataLoader(list(zip(*train)), bs=bs), DataLoader(list(zip(*valid)), bs=valid_bs), **kwargs)
    dls.c = 10
    return dls

def versus(what, xl, yl, xu, xv, yv, arch, epochs, runs):
    dls = loaders((xl,yl), (xv,yv), 64, 500)
    def learner():
        with contextlib.redirect_stdout(io.StringIO()): return mixmatch_learner(dls, xu, arch=arch, ema=0.999)
    learns,nets = [[make() for _ in range(runs+1)] for make in (learner, lambda: arch(xl.shape[1], 10))] # Not timed
    def ours():
        learn = learns.pop()
        with learn.no_logging(): learn.fit_one_cycle(epochs)
    secs = turns({what: ours, 'bare PyTorch': lambda: bare(nets.pop(), xl, yl, xu, xv, yv, epochs)}, runs)
    steps = epochs*-(-len(xu)//64)
    ms = lambda k: round(1e3*statistics.median(secs[k])/steps, 1)
    return [row('loop', what, secs, 'bare PyTorch', steps=steps, ms_step=ms(what), ms_step_bare=ms('bare PyTorch'))]

def loop(a): return digits(a) + wide(a)

# --- start-up, decoding, number formats

def imports(a):
    env = dict(os.environ, OMP_NUM_THREADS='1')
    env.pop('PYTHONDONTWRITEBYTECODE', None) # Compiled once, as installed libraries are
    python = sys.executable, '-W', 'ignore', '-c'
    def start(mod): return lambda: subprocess.run([*python, f'import {mod}'], check=True, env=env)
    names = ['fastai_mixmatch.all', 'fastai.vision.all']
    secs = turns({k: start(k) for k in names}, a.runs, clock=with_children)
    ours,fastai = (round(statistics.median(secs[k]), 2) for k in names)
    return [row('imports', names[0], secs, names[1], cpu_s=ours, cpu_s_fastai=fastai)]

def pil_loop(files, x, start=0, step=1):
    "Every `step`th of `files`, decoded into `x`"
    for i in range(start, len(files), step):
        with Image.open(files[i]) as im: x[i] = torch.from_numpy(np.array(im.convert('RGB'))).permute(2, 0, 1)
    return x

def pil_workers(files, x, n=2):
    "The same by `n` processes, into shared memory"
    ps = [torch.multiprocessing.get_context('fork').Process(target=pil_loop, args=(files, x, k, n)) for k in range(n)]
    for p in ps: p.start()
    for p in ps: p.join()
    return x

def write_jpeg(file, size, rng, grain=4):
    "Smooth noise in color, of `size` pixels a side or `(width, height)`, with a draw every `grain` pixels"
    w,h = size if isinstance(size, tuple) else (size,size)
    x = rng.integers(0, 256, (h//grain, w//grain, 3), dtype=np.uint8)
    Image.fromarray(x).resize((w, h)).save(file, quality=90)

def decode(a):
    "JPEG files to one tensor, by one process and by two"
    rows,r = [],np.random.default_rng(0)
    for size,n in ((32, a.images), (256, a.images//8)):
        with tempfile.TemporaryDirectory() as d:
            d = Path(d)
            for i in range(n): write_jpeg(d/f'{i:05d}.jpg', size, r)
            files = sorted(d.glob('*.jpg'))
            dls = ImageList(files[:100], labels=[i%10 for i in range(100)]).dataloaders(bs=50)
            for workers,times in ((0, 1), (2, 30)): # Workers are used where decoding takes more than two seconds
                rows.append(decoded(files*times, dls, size, workers, min(a.runs, 3) if workers else a.runs))
    return rows

def decoded(files, dls, size, workers, runs):
    "The row of one way to decode"
    def ours(): return UnlabeledDL(files, dls).pool.load(workers).x
    def pil():
        x = torch.empty((len(files), 3, size, size), dtype=torch.uint8).share_memory_()
        return (pil_workers if workers else pil_loop)(files, x)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert torch.equal(ours(), pil())
        clock = with_children if workers else time.process_time
        secs = turns({'Pool.load': ours, 'PIL loop': pil}, runs, clock=clock)
    if workers and 'decoding' not in out.getvalue():
        raise RuntimeError('all were decoded in two seconds, so that no workers were used: pass more `--images`')
    rate,rate_pil = (round(len(files)/statistics.median(secs[k])) for k in ('Pool.load','PIL loop'))
    return row('decode', 'Pool.load', secs, 'PIL loop', pixels=size, processes=workers or 1, images=len(files),
               images_per_cpu_s=rate, images_per_cpu_s_pil=rate_pil)

def formats(a):
    "Training steps of WRN-28-2 at 16 + 2*16 images, as `to_fast` sets them"
    set_seed(0)
    n = 16*a.steps
    x,y = torch.rand(n+32, 3, 32, 32),torch.arange(n+32)%10
    ways = {
        'float32, channels last': noop,
        'float32, contiguous': lambda o: o.to_contiguous(),
        'bfloat16': lambda o: o.to_fast(bf16=True),
        'float32, compiled': lambda o: o.to_fast(compile=True),
        'bfloat16, compiled': lambda o: o.to_fast(bf16=True, compile=True)}
    if a.no_compile: ways = {k: to for k,to in ways.items() if 'compiled' not in k}
    learns,rows = {},[]
    for k,to in ways.items():
        dls = loaders((x[:16],y[:16]), (x[-16:],y[-16:]), 16, 16)
        learns[k] = mixmatch_learner(dls, x[16:-16], arch=wrn_28_2, weak=WeakView(flip=.5))
        to(learns[k])
        def fit(o=learns[k]):
            with o.no_logging(), o.no_bar(): o.fit(1)
        t = time.process_time()
        try: fit()
        except Exception as e: # Such as a compiler that is not there
            rows.append(dict(group='formats', what=k, not_run=f'{type(e).__name__}: {str(e).splitlines()[0][:120]}'))
            del learns[k]
        else: learns[k] = fit,time.process_time()-t
    secs = turns({k: f for k,(f,_) in learns.items()}, a.wide_runs)
    for k,(_,first) in learns.items():
        ms = round(1e3*statistics.median(secs[k])/a.steps, 1)
        rows.append(row('formats', k, secs, next(iter(ways)), ms_step=ms, first_fit_cpu_s=round(first, 1)))
    return rows

# --- predict: files through a network, against a loader and a loop that are written here

class PilSet:
    "Dataset of what fastai's `Resize` makes of a square photograph"
    def __init__(self, files, size): self.files,self.size = files,size
    def __len__(self): return len(self.files)
    def __getitem__(self, i):
        im = Image.open(self.files[i]).convert('RGB').resize((self.size,self.size), Image.BILINEAR)
        return torch.from_numpy(np.array(im)).permute(2, 0, 1)

def bare_predict(model, files, size, workers):
    "Largest probability and its class for each file"
    m,s,res = tensor([.485,.456,.406])[:,None,None],tensor([.229,.224,.225])[:,None,None],[]
    with torch.no_grad():
        for x in torch.utils.data.DataLoader(PilSet(files, size), 64, num_workers=workers):
            res += zip(*[o.tolist() for o in model((x.float()/255-m)/s).softmax(1).max(1)])
    return res

def predict(a):
    "Photographs of 256 pixels, sized to 128, through a small network; by one process, and with two workers"
    set_seed(0)
    rows,r,n = [],np.random.default_rng(0),a.images//4
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        for i in range(n): write_jpeg(d/f'{i:05d}.jpg', 256, r)
        files = sorted(d.glob('*.jpg'))
        dls = ImageList(files[:100], labels=[i%10 for i in range(100)]).dataloaders(ImageList(files[:100],
            labels=[0]*100), bs=50, item_tfms=Resize(128), batch_tfms=Normalize.from_stats(*imagenet_stats))
        learn = ssl_learner(dls, files, mobilenet_v3_small, method=Supervised(), ema=None)
        save_predictor(learn, d/'p.safetensors')
        pred,model = load_predictor(d/'p.safetensors'),learn.model.eval()
        for workers in (0, 2):
            ways = {'predict_files, learner': lambda: list(predict_files(learn, files, num_workers=workers)),
                    'predict_files, predictor': lambda: list(predict_files(pred, files, num_workers=workers)),
                    'loader and loop': lambda: bare_predict(model, files, 128, workers)}
            got,want = ([o[i] for o in ways[k]()] for k,i in (('predict_files, learner',2), ('loader and loop',0)))
            assert np.allclose(got, want, atol=1e-5)
            secs = turns(ways, a.runs, clock=with_children)
            rows += [row('predict', k, secs, 'loader and loop', pixels=256, workers=workers, images=n,
                         images_per_cpu_s=round(n/statistics.median(secs[k]))) for k in list(ways)]
    return rows

# --- an evening's commands: looking at a folder, and the report

PIL_FOLDER = """
import sys
from pathlib import Path
from PIL import Image
for f in Path(sys.argv[1]).rglob('*.jpg'): Image.open(f).convert('RGB')
"""

def write_photos(folder, n):
    "`n` JPEG files of 400x300 pixels in ten folders: smooth noise in color"
    r = np.random.default_rng(0)
    for k in range(10): (folder/f'{k}').mkdir()
    for i in range(n): write_jpeg(folder/f'{i%10}'/f'{i:05d}.jpg', (400,300), r, grain=20)

def check(a):
    "The command `check`, its start and its search for near duplicates included, against a loop that decodes each file"
    n,wall = a.images*25,dict(check=[], loop=[])
    with tempfile.TemporaryDirectory() as d:
        write_photos(Path(d), n)
        def run(k, *args):
            t = time.time()
            subprocess.run([sys.executable, *args, d], check=True, stdout=subprocess.DEVNULL)
            wall[k].append(round(time.time()-t, 1))
        ways = dict(check=lambda: run('check', '-m', 'fastai_mixmatch', 'check'),
                    loop=lambda: run('loop', '-c', PIL_FOLDER))
        secs = turns(ways, min(a.runs, 3), clock=with_children)
    return [row('check', 'check', secs, 'loop', images=n, seconds=wall['check'][1:], seconds_loop=wall['loop'][1:])]

def report_html(a):
    "The report of a training with many images, against what it starts with: their features and small pictures"
    n = a.images*5//2
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        write_photos(d, n)
        il = ImageList.from_folder(d, parent_label)
        valid,(labeled,rest) = il[:n//25],il[n//25:].split(n//25)
        dls = labeled.dataloaders(valid, item_tfms=Resize(128), batch_tfms=Normalize.from_stats(*imagenet_stats))
        learn = mixmatch_learner(dls, rest, mobilenet_v3_small, steps=5)
        with learn.no_bar(), learn.no_logging(): learn.fit(1)
        ways = {'report': lambda: report(learn, d/'report.html'), 'its features': lambda: look(learn, thumb=96)}
        secs = turns(ways, min(a.runs, 3), clock=with_children)
        size = (d/'report.html').stat().st_size
    q = [round(x-y, 1) for x,y in zip(secs['report'], secs['its features'])]
    return [row('report', 'report', secs, 'its features', images=n, cpu_s_after_features=q, bytes=size)]

# --- what was changed because of a measurement: the way before against the way now

class EachImage:
    "Dataset for decoding that sends a tensor for each image"
    def __init__(self, pool): self.pool = pool
    def __len__(self): return len(self.pool.items)
    def __getitem__(self, i): return self.pool.read(i)

def tried(a):
    set_seed(0)
    rows,x = [],torch.rand(192, 1, 8, 8)
    nets = [small_cnn(1, 10) for _ in range(2)]
    nets[0].to(memory_format=torch.channels_last)
    step = lambda m: lambda: [m(x).sum().backward() for _ in range(5)]
    secs = turns({'contiguous': step(nets[1]), 'channels last': step(nets[0])}, a.runs, warm=True)
    rows.append(row('tried', 'contiguous', secs, 'channels last', of='step of small_cnn, 192 images'))
    names = "fastai's dispatch",'events that a callback has'
    labeled,rest = digits_lists()[0].split(20)
    learns = [mixmatch_learner(labeled.dataloaders(), rest, arch=small_cnn) for _ in names]
    learns[0].__class__ = type('Dispatching', (SemiSupervisedLearner,), dict(__call__=Learner.__call__))
    for o in learns: o.logger = noop
    with contextlib.redirect_stdout(io.StringIO()):
        secs = turns({k: lambda o=o: o.fit(3) for k,o in zip(names, learns)}, a.runs*3, warm=True)
    rows.append(row('tried', names[0], secs, names[1], of='a fit of digits, small_cnn'))
    ps = [list(wrn_28_2().parameters()) for _ in range(2)]
    for p in ps[0]+ps[1]: p.grad = torch.randn_like(p)
    opts = {'Adam of fastai': Adam(ps[0], 2e-3), 'FastAdam': FastAdam(ps[1], 2e-3)}
    secs = turns({k: o.step for k,o in opts.items()}, a.runs, warm=True)
    rows.append(row('tried', 'Adam of fastai', secs, 'FastAdam', of='step of the optimizer, WRN-28-2'))
    with tempfile.TemporaryDirectory() as d:
        write_jpeg(Path(d)/'0.jpg', 32, np.random.default_rng(0))
        files = [Path(d)/'0.jpg']*a.images*15
        dls = ImageList(files[:100], labels=[i%10 for i in range(100)]).dataloaders(bs=50)
        def each():
            pool = UnlabeledDL(files, dls).pool
            x = torch.empty((len(files), *pool.shape), dtype=torch.uint8)
            dl = torch.utils.data.DataLoader(EachImage(pool), batch_size=64, num_workers=2, collate_fn=list)
            for i,(o,_) in enumerate(o for b in dl for o in b): x[i] = o
        ways = {'a tensor for each image': each, 'shared memory': lambda: UnlabeledDL(files, dls).pool.load(2)}
        with contextlib.redirect_stdout(io.StringIO()): secs = turns(ways, min(a.runs, 3), clock=with_children)
    rows.append(row('tried', 'a tensor for each image', secs, 'shared memory', of='decoding by two workers, 32 pixels'))
    return rows

suite = dict(views=views, strong=strong, loop=loop, tried=tried, imports=imports, decode=decode, formats=formats,
             predict=predict, check=check, report=report_html)

def main():
    p = parser(__doc__)
    p.add_argument('--only', nargs='+', choices=list(suite), default=list(suite))
    p.add_argument('--runs', type=int, default=7)
    p.add_argument('--epochs', type=int, default=15)
    p.add_argument('--wide-runs', type=int, default=5)
    p.add_argument('--steps', type=int, default=6)
    p.add_argument('--images', type=int, default=2000)
    p.add_argument('--no-compile', action='store_true', help='leave out compiled networks, which take minutes')
    p.add_argument('--out', default='speed', help='another results file')
    a = begin(p)
    for name in a.only:
        rows,load = suite[name](a),round(os.getloadavg()[0], 1)
        for r in rows: print(r, flush=True)
        append(a.out, *[dict(r, load=load) for r in rows], instead=lambda r: r['group']==name)

if __name__=='__main__': main()
