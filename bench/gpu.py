"""A training step of WRN-28-2 on a GPU: the package, its fast path, and a plain PyTorch loop in float32 and in
bfloat16, each against the time that its activations need to cross the memory; and whether the fast path's steps wait
for the host.

Resumable: rows that `results/gpu.jsonl` holds are not run again. Ten minutes at most: what does not fit is left for
the next start. Without a GPU it says so and ends with status 2; `--small` runs tiny sizes on any device, and writes
nothing.

    python bench/gpu.py                       # everything, results/gpu.jsonl
    python bench/gpu.py --floor               # the counts of bytes only, results/gpu_floor.jsonl; needs no GPU
    python bench/gpu.py --device cpu --small  # does every line run?
"""
import sys, time
import torch, torch.nn.functional as F
from fastai.vision.all import Callback, nn, set_seed
from fastai_mixmatch.all import *
from fastai_mixmatch.models import WideBlock
from fastai_mixmatch.views import shift_draws, shift_flip
from common import append, begin, parser, read
from speed import loaders

# --- the floor

def activation_bytes(arch=wrn_28_2, size=32, train=192, guess=128, width=2, fused=False):
    """Bytes of activations that a step moves, at `width` bytes a number, counted layer by layer: `train` images
    forward and backward, `guess` images forward only. Every kernel reads its inputs and writes its output once,
    through a memory without a cache:

    - convolution: forward reads the input, writes the output; backward reads the output's gradient twice and the input
      once (for the gradients of input and of weights), and writes the input's gradient;
    - batch norm with the activation after it: forward reads the input twice (statistics first), writes the output;
      backward reads input and gradient twice (sums first), and writes a gradient;
    - the sum at the end of a block: reads the shortcut; backward adds two gradients: two reads, one write.

    `fused`: all between two convolutions happens while these read and write, so that convolutions are all that
    counts."""
    model,n = arch(3, 10).to('meta'),dict(forward=0, backward=0)
    def count(forward, backward): n['forward'] += forward; n['backward'] += backward
    def conv(m, x, y): count(x[0].numel()+y.numel(), 2*y.numel()+2*x[0].numel())
    def norm(m, x, y): count(3*x[0].numel(), 5*x[0].numel())
    def add(m, x, y): count(y.numel(), 3*y.numel())
    for m in model.modules():
        if isinstance(m, nn.Conv2d): m.register_forward_hook(conv)
        elif isinstance(m, nn.BatchNorm2d) and not fused: m.register_forward_hook(norm)
        elif isinstance(m, WideBlock) and not fused: m.register_forward_hook(add)
    model(torch.empty(1, 3, size, size, device='meta'))
    return width*((train+guess)*n['forward'] + train*n['backward'])

def floors(batches, tb_s):
    "Least milliseconds of a step at each batch size, at a bandwidth of `tb_s` TB/s"
    rows = []
    for b in batches:
        for what,width in (('bfloat16', 2), ('float32', 4)):
            gb = [activation_bytes(train=3*b, guess=2*b, width=width, fused=o)/1e9 for o in (False, True)]
            ms = [round(o/tb_s, 2) for o in gb]
            rows.append(dict(format=what, labeled=b, unlabeled=2*b, gb=round(gb[0], 2), ms=ms[0],
                             gb_fused=round(gb[1], 2), ms_fused=ms[1], tb_s=tb_s))
    return rows

# --- the rivals

def plain(b, arch, device, bf16, size):
    "MixMatch in eager PyTorch: data on the device, AdamW, no extras"
    model = arch(3, 10).to(device); opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    x,u = (torch.rand(b, 3, size, size, device=device) for _ in range(2))
    y = F.one_hot(torch.arange(b, device=device)%10, 10).float()
    beta = torch.distributions.Beta(torch.tensor(.75, device=device), torch.tensor(.75, device=device))
    view = lambda x: shift_flip(x, *shift_draws(len(x), (size//8,)*2, .5, device))
    def train(steps):
        for _ in range(steps):
            us = [view(u), view(u)]
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                with torch.no_grad(): q = model(torch.cat(us)).float().softmax(1).view(2, b, 10).mean(0)**2
                q = q/q.sum(1, keepdim=True)
                xs,ys = torch.cat([view(x), *us]),torch.cat([y, q, q])
                lam = beta.sample((3*b,)); lam = torch.maximum(lam, 1-lam); perm = torch.randperm(3*b, device=device)
                xs = torch.lerp(xs[perm], xs, lam[:,None,None,None]); ys = torch.lerp(ys[perm], ys, lam[:,None])
                out = model(xs).float()
            loss = F.cross_entropy(out[:b], ys[:b]) + 75*((out[b:].softmax(1)-ys[b:])**2).mean()
            opt.zero_grad(); loss.backward(); opt.step()
    return train

def package(b, arch, device, size, to=None):
    "`mixmatch_learner`, through its public interface; `to`: arguments for `to_fast`"
    xl,yl = torch.rand(b, 3, size, size),torch.arange(b)%10
    learns = {}
    def train(steps, cbs=()):
        if steps not in learns:
            dls = loaders((xl,yl), (xl[:8],yl[:8]), b, 8, device=device)
            xu = (torch.rand(b*steps, 3, size, size)*255).byte().float()/255
            learns[steps] = learn = mixmatch_learner(dls, xu, arch=arch, weak=WeakView(flip=.5))
            learn.model.to(device)
            if to is not None: learn.to_fast(**to)
        learn = learns[steps]
        with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=cbs)
    return train

# --- measurements

class StepTimes(Callback):
    "When each training step of a fit ended, on the device's clock where it has one"
    order = 200
    def before_train(self): self.marks = []
    def after_batch(self):
        if self.training: self.marks.append(mark(next(self.model.parameters()).device))

def mark(device):
    "A moment: an event of the device's, or the host's time"
    if device.type!='cuda': return time.perf_counter()
    e = torch.cuda.Event(enable_timing=True); e.record()
    return e

def median_ms(marks):
    "Median of the times between moments, in milliseconds"
    if not isinstance(marks[0], float): torch.cuda.synchronize()
    ts = sorted(1e3*(b-a) if isinstance(a, float) else a.elapsed_time(b) for a,b in zip(marks, marks[1:]))
    return ts[len(ts)//2]

def step_ms(train, steps, device, own):
    "Milliseconds of a step of `train(steps)`, after a warm-up; `own`: it is a fit"
    train(steps if own else max(2, steps//5)) # A fit of as many steps, for a compiled network knows its own shapes only
    if own:
        times = StepTimes(); train(steps, [times])
        return median_ms(times.marks)
    marks = [mark(device)]
    for _ in range(steps): train(1); marks.append(mark(device))
    return median_ms(marks)

class Traced(Callback):
    "Profile steps `first` to `last` of a fit"
    order = 201
    def __init__(self, first, last): self.first,self.last,self.prof = first,last,None
    def after_batch(self):
        if not self.training: return
        if self.train_iter==self.first: self.prof = torch.profiler.profile(); self.prof.__enter__()
        elif self.train_iter==self.last: self.prof.__exit__(None, None, None)

WAITS = ('cudaStreamSynchronize','cudaDeviceSynchronize','cudaEventSynchronize',
         'aten::item','aten::_local_scalar_dense','aten::is_nonzero')

def waits(train, steps):
    "How often the host waits for the device in the steps in the middle of `train(steps)`, by what"
    t = Traced(2, steps-1); train(steps, [t])
    n = {e.key: e.count for e in t.prof.key_averages() if e.key in WAITS}
    return dict(steps=steps-3, waits=n)

def main():
    p = parser(__doc__, threads=torch.get_num_threads())
    p.add_argument('--batches', type=int, nargs='+', default=[64, 256, 1024])
    p.add_argument('--only', nargs='+', help='what to measure, as the rows name it; default: all')
    p.add_argument('--steps', type=int, default=60)
    p.add_argument('--device', default='cuda')
    p.add_argument('--small', action='store_true')
    p.add_argument('--floor', action='store_true')
    p.add_argument('--tb-s', type=float, default=4.3,
                   help='bandwidth for the floor, in TB/s: nine tenths of the 4.8 on the data sheet of an H200')
    p.add_argument('--minutes', type=float, default=10)
    a = begin(p)
    start,device = time.perf_counter(),torch.device(a.device)
    if a.floor: return print(append('gpu_floor', *floors(a.batches, a.tb_s), instead=lambda r: True))
    if device.type=='cuda' and not torch.cuda.is_available():
        print('no GPU: PyTorch finds no CUDA device here. `--device cpu --small` runs tiny sizes on the CPU, `--floor` '
              'only counts bytes.', file=sys.stderr)
        sys.exit(2)
    if device.type!='cuda' and not a.small: p.error(f'--device {a.device} is for --small: full sizes would take hours')
    set_seed(0)
    arch,size = (small_cnn,8) if a.small else (wrn_28_2,32)
    if a.small: a.batches,a.steps = [10],6
    fits = {'mixmatch_learner': None, 'to_fast': dict(bf16=True) if a.small else {}}
    if not a.small: fits |= {'to_fast, compiled': dict(compile=True),
                             'to_fast, CUDA graphs': dict(compile='reduce-overhead')}
    floor = {r['labeled']: r['ms'] for r in floors(a.batches, a.tb_s) if r['format']=='bfloat16'}
    done = [] if a.small else [(r['what'], r['labeled']) for r in read('gpu')]
    def add(**row):
        print(row, flush=True)
        if not a.small: append('gpu', dict(row, tb_s=a.tb_s))
    def todo(what, b):
        if (what, b) in done or a.only and what not in a.only: return False
        if time.perf_counter()-start < 60*a.minutes: return True
        sys.exit(f'{a.minutes:g} minutes are over; start again for {what} at {b}, and what comes after it')
    for b in a.batches:
        for what in ('plain, float32', 'plain, bfloat16', *fits):
            if not todo(what, b): continue
            own = what in fits
            if own: train = package(b, arch, device, size, fits[what])
            else: train = plain(b, arch, device, 'bfloat16' in what, size)
            ms = step_ms(train, a.steps, device, own)
            add(what=what, labeled=b, unlabeled=2*b, ms_step=round(ms, 3), images_s=round(3e3*b/ms),
                of_floor=round(floor[b]/ms, 3))
    if todo('waits of to_fast', a.batches[0]):
        train = package(a.batches[0], arch, device, size, fits['to_fast'])
        add(what='waits of to_fast', labeled=a.batches[0], **waits(train, max(6, a.steps//5)))

if __name__=='__main__': main()
