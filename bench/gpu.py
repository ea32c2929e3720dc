"""A training step of WRN-28-2 on a GPU: the package, its fast path, and a plain PyTorch loop in float32 and in bfloat16.

Resumable: rows that `results/gpu.json` holds are not run again. `--proof` runs tiny sizes on the CPU, and writes nothing.

    python bench/gpu.py
"""
import argparse, json, sys, time, warnings
import torch, torch.nn.functional as F
from fastai.vision.all import DataLoader, DataLoaders, set_seed
from fastai_mixmatch.all import *
from common import results, save

def step_times(f, steps, device):
    "Milliseconds a step of `f(steps)`, which trains, after a warm-up"
    sync = torch.cuda.synchronize if device.type=='cuda' else (lambda: None)
    f(max(2, steps//5)); sync()
    t = time.perf_counter(); f(steps); sync()
    return 1e3*(time.perf_counter()-t)/steps

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

def package(b, arch, device, fast, size):
    "`mixmatch_learner`, through its public interface"
    xl,yl = torch.rand(b, 3, size, size),torch.arange(b)%10
    def train(steps):
        dls = DataLoaders(DataLoader(list(zip(xl, yl)), bs=b), DataLoader(list(zip(xl[:8], yl[:8])), bs=8), device=device); dls.c = 10
        learn = mixmatch_learner(dls, torch.rand(b*steps, 3, size, size), arch=arch, weak=WeakView(flip=.5))
        learn.model.to(device)
        if fast: learn.to_fast()
        with learn.no_bar(), learn.no_logging(): learn.fit(1)
    return train

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--batches', type=int, nargs='+', default=[64, 256, 1024]); p.add_argument('--steps', type=int, default=100); p.add_argument('--proof', action='store_true')
    a = p.parse_args()
    if not a.proof and not torch.cuda.is_available(): sys.exit('no GPU: PyTorch finds no CUDA device here. `--proof` runs tiny sizes on the CPU.')
    warnings.simplefilter('ignore'); set_seed(0)
    device,arch,size = (torch.device('cpu'),small_cnn,8) if a.proof else (torch.device('cuda'),wrn_28_2,32)
    if a.proof: a.batches,a.steps = [10],4
    f = results/'gpu.json'
    rows = json.loads(f.read_text())['rows'] if f.exists() and not a.proof else []
    rivals = {'plain, float32': lambda b: plain(b, arch, device, False, size), 'plain, bfloat16': lambda b: plain(b, arch, device, True, size),
              'mixmatch_learner': lambda b: package(b, arch, device, False, size), 'mixmatch_learner, to_fast': lambda b: package(b, arch, device, True, size)}
    for b in a.batches:
        for what,make in rivals.items():
            if any(r['what']==what and r['labeled']==b for r in rows): continue
            ms = step_times(make(b), a.steps, device)
            rows.append(dict(what=what, labeled=b, unlabeled=2*b, ms_step=round(ms, 3), images_s=round(3e3*b/ms))); print(rows[-1], flush=True)
            if not a.proof: save('gpu', rows)

if __name__=='__main__': main()
