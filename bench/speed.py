"""Speed on a CPU, against code that is written here: views, training loops, import, decoding, number formats.

Rivals take turns in one process, so that what else the machine does weighs on all of them; what counts is the ratio within a turn,
its median and spread. Times are of the processor, in one thread: time that other work took is not in them.

    python bench/speed.py                    # everything, results/speed.json
    python bench/speed.py --only views loop  # some of it
"""
import argparse, os, statistics, subprocess, sys, tempfile, time, warnings
from types import SimpleNamespace
import torch, torch.nn.functional as F
from fastai.vision.all import DataLoader, DataLoaders, IntToFloatTensor, Normalize, Path, Pipeline, TensorImage, np, set_seed, tensor
from PIL import Image, ImageOps
from fastai_mixmatch.all import *
from common import save
from digits_speed import bare, data

def turns(rivals, n, warm=False):
    "Seconds of processor time of each rival in each of `n` turns, after one that does not count; `warm`: after a call that does not count either"
    secs = {k: [] for k in rivals}
    for i in range(n+1):
        for k,f in rivals.items():
            if warm: f()
            t = time.process_time(); f(); t = time.process_time()-t
            if i: secs[k].append(t)
    return secs

def row(group, what, secs, against, **kw):
    q = [a/b for a,b in zip(secs[what], secs[against])]
    return dict(group=group, what=what, against=against, ratio=round(statistics.median(q), 3), ratio_min=round(min(q), 3), ratio_max=round(max(q), 3),
                turns=len(q), **kw)

# --- views: two weak views of 32x32x3 uint8 images as normalized floats

mean, std = [.4914, .4822, .4465], [.2470, .2435, .2616]
MEAN, STD = tensor(mean).view(1, 3, 1, 1), tensor(std).view(1, 3, 1, 1)

def numpy_views(x):
    "One image after the other: pad, cut, flip, normalize in floats"
    m,s,out = np.array(mean, dtype=np.float32)[:,None,None],np.array(std, dtype=np.float32)[:,None,None],[]
    for _ in range(2):
        for im in x.numpy():
            dy,dx = np.random.randint(0, 9, 2)
            im = np.pad(im, ((0,0),(4,4),(4,4)), mode='reflect')[:,dy:dy+32,dx:dx+32]
            if np.random.rand()<.5: im = im[...,::-1]
            out.append(torch.from_numpy((im.astype(np.float32)/255-m)/s))
    return torch.stack(out).chunk(2)

def pil_views(x):
    "One image after the other, as PIL images"
    out,t = [],lambda im: torch.from_numpy(np.array(im)).permute(2, 0, 1).contiguous().float().div(255).sub(MEAN[0]).div(STD[0])
    ims = [Image.fromarray(o) for o in x.permute(0, 2, 3, 1).numpy()]
    for _ in range(2):
        for im in ims:
            im = Image.fromarray(np.pad(np.asarray(im), ((4,4),(4,4),(0,0)), mode='reflect'))
            dy,dx = np.random.randint(0, 9, 2)
            im = im.crop((dx, dy, dx+32, dy+32))
            out.append(t(ImageOps.mirror(im) if np.random.rand()<.5 else im))
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
        fs = {'BatchViews': lambda: ours.views(x, 2), 'uint8 gather': lambda: gather_views(x), 'plain batch code': lambda: batch_views(x),
              **({'numpy, image by image': lambda: numpy_views(x), 'PIL, image by image': lambda: pil_views(x)} if b==64 else {})}
        secs = turns(fs, a.runs*4, warm=True)
        for k in fs: rows.append(row('views', k, secs, 'BatchViews', batch=b, images_s=round(b/statistics.median(secs[k])), images_s_best=round(b/min(secs[k]))))
    return rows

# --- loops: the package's fit against a bare PyTorch loop

def digits(a):
    labeled, rest, valid = data()
    as_t = lambda il: torch.from_numpy(np.stack(list(il.items))).float()[:,None]/255
    return versus('digits, small_cnn', as_t(labeled), tensor(labeled.labels), as_t(rest), as_t(valid), tensor(valid.labels), small_cnn, a.epochs, a.runs)

def wide(a):
    "Random images of 32x32x3: time does not depend on what they show"
    set_seed(0)
    x,y = torch.rand(64*a.steps+128, 3, 32, 32),torch.arange(64*a.steps+128)%10
    return versus('32x32x3, WRN-28-2', x[:64], y[:64], x[64:-64], x[-64:-56], y[-64:-56], wrn_28_2, 1, a.wide_runs)

def versus(what, xl, yl, xu, xv, yv, arch, epochs, runs):
    dls = DataLoaders(DataLoader(list(zip(xl, yl)), bs=64), DataLoader(list(zip(xv, yv)), bs=500)); dls.c = 10
    learn = []
    def ours():
        learn[:] = [mixmatch_learner(dls, xu, arch=arch, ema=0.999)]
        with learn[0].no_logging(): learn[0].fit_one_cycle(epochs)
    secs = turns({what: ours, 'bare PyTorch': lambda: bare(xl, yl, xu, xv, yv, epochs, arch=arch)}, runs)
    steps = epochs*-(-len(xu)//64)
    ms = lambda k: round(1e3*statistics.median(secs[k])/steps, 1)
    return [row('loop', what, secs, 'bare PyTorch', steps=steps, ms_step=ms(what), ms_step_bare=ms('bare PyTorch'))]

def loop(a): return digits(a) + wide(a)

# --- start-up, decoding, number formats

def imports(a):
    def start(mod):
        t = os.times(); subprocess.run([sys.executable, '-W', 'ignore', '-c', f'import {mod}'], check=True, env=dict(os.environ, OMP_NUM_THREADS='1')); u = os.times()
        return u.children_user+u.children_system-t.children_user-t.children_system
    names = ['fastai_mixmatch.all', 'fastai.vision.all']
    secs = {k: [] for k in names}
    for i in range(a.runs+1):
        for k in names:
            t = start(k)
            if i: secs[k].append(t)
    return [row('import', names[0], secs, names[1], cpu_s=round(statistics.median(secs[names[0]]), 2), cpu_s_fastai=round(statistics.median(secs[names[1]]), 2))]

def decode(a):
    "JPEG files to one tensor, in one process"
    with tempfile.TemporaryDirectory() as d:
        d,r = Path(d),np.random.default_rng(0)
        for i in range(a.images): Image.fromarray(r.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((32, 32)).save(d/f'{i:05d}.jpg', quality=90)
        files = sorted(d.glob('*.jpg'))
        items = [(f, i%10) for i,f in enumerate(files[:100])]
        dls = ImageList([f for f,_ in items], labels=[y for _,y in items]).dataloaders(bs=50)
        def ours(): return UnlabeledDL(files, dls, num_workers=0).pool.load(0).x
        def pil():
            x = torch.empty((len(files), 3, 32, 32), dtype=torch.uint8)
            for i,f in enumerate(files):
                with Image.open(f) as im: x[i] = torch.from_numpy(np.array(im.convert('RGB'))).permute(2, 0, 1)
            return x
        assert torch.equal(ours(), pil())
        secs = turns({'Pool.load': ours, 'PIL loop': pil}, a.runs)
        return [row('decode', 'Pool.load', secs, 'PIL loop', images=a.images, images_s=round(a.images/statistics.median(secs['Pool.load'])),
            images_s_pil=round(a.images/statistics.median(secs['PIL loop'])))]

def formats(a):
    "A supervised step of WRN-28-2 on 16 images"
    x,y = torch.rand(16, 3, 32, 32),torch.arange(16)%10
    m,cl = wrn_28_2(),wrn_28_2().to(memory_format=torch.channels_last)
    def step(m, x, bf16=False):
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16): loss = F.cross_entropy(m(x), y)
        loss.backward()
    fs = {'float32': lambda: step(m, x), 'float32, channels last': lambda: step(cl, x.to(memory_format=torch.channels_last)), 'bfloat16': lambda: step(m, x, True)}
    rows = []
    try:
        fast = torch.compile(m); step(fast, x); fs['float32, compiled'] = lambda: step(fast, x)
    except Exception as e: rows.append(dict(group='formats', what='float32, compiled', not_run=f'{type(e).__name__}: {str(e).splitlines()[0][:120]}'))
    secs = turns(fs, a.runs)
    return [row('formats', k, secs, 'float32', ms=round(1e3*statistics.median(secs[k]), 1)) for k in fs] + rows

suite = dict(views=views, loop=loop, imports=imports, decode=decode, formats=formats)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--only', nargs='+', choices=list(suite), default=list(suite)); p.add_argument('--runs', type=int, default=7); p.add_argument('--epochs', type=int, default=5)
    p.add_argument('--wide-runs', type=int, default=3); p.add_argument('--steps', type=int, default=3); p.add_argument('--images', type=int, default=2000)
    a = p.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    for name in a.only:
        t = time.perf_counter(); rows = suite[name](a)
        for r in rows: print(r, flush=True)
        save(f'speed_{name}', rows, seconds=round(time.perf_counter()-t), load=[round(o, 1) for o in os.getloadavg()])

if __name__=='__main__': main()
