"""MixMatch in plain PyTorch: what the package's training loop is measured against, by `speed.py`.

It does the same work on the same data for the same steps: two weak views, guess by the averaged weights, alignment, sharpen, mix, one
forward and backward, AdamW with one-cycle, an average of the weights, validation after each epoch. And it is written to
be fast: fused AdamW, averages by one call, batch norm frozen once, and images that are channels last (as
its views happen to be).
"""
import copy, math
import torch, torch.nn.functional as F
from fastai.vision.all import nn
from fastai_mixmatch.all import *

def bare_views(x):
    "A weak view, as a plain loop would make it: pad, and one gather"
    b,c,h,w = x.shape
    m = round(h/8)
    xp = F.pad(x, (m,)*4, mode='reflect')
    dy,dx = torch.randint(0, 2*m+1, (b,1,1)),torch.randint(0, 2*m+1, (b,1,1))
    rows,cols = dy+torch.arange(h)[None,:,None],dx+torch.arange(w)[None,None,:]
    return xp[torch.arange(b)[:,None,None],:,rows,cols].permute(0,3,1,2)

def bare(model, xl, yl, xu, xv, yv, epochs, bs=64, k=2, T=0.5, alpha=0.75, lambda_u=75., lr=2e-3, wd=0.02):
    "MixMatch in plain PyTorch"
    avg = copy.deepcopy(model)
    for m in avg.modules():
        if isinstance(m, nn.BatchNorm2d): m.track_running_stats = False
    decayed,rest = [[p for p in model.parameters() if (p.ndim>1)==o] for o in (True, False)]
    groups = [dict(params=decayed, weight_decay=wd), dict(params=rest, weight_decay=0)]
    opt = torch.optim.AdamW(groups, lr=lr, eps=1e-5, fused=True)
    steps = epochs*-(-len(xu)//bs)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, lr, steps, pct_start=0.25, div_factor=25, final_div_factor=4e3,
                                                base_momentum=0.85, max_momentum=0.95)
    beta = torch.distributions.Beta(alpha, alpha)
    seen,known,t,order = None,torch.tensor(0.1),0,torch.zeros(0, dtype=torch.long)
    prior = (torch.bincount(yl, minlength=10).float()+1)/(len(yl)+10)
    ema,src = [[t for t in m.state_dict().values() if t.is_floating_point()] for m in (avg, model)]
    for _ in range(epochs):
        model.train(); avg.train()
        for idx in torch.randperm(len(xu)).split(bs):
            while len(order)<bs: order = torch.cat([order, torch.randperm(len(xl))])
            i,order = order[:bs],order[bs:]
            x,y = bare_views(xl[i]),F.one_hot(yl[i], 10).float()
            us = [bare_views(xu[idx]) for _ in range(k)]
            with torch.no_grad():
                p = avg(torch.cat(us+[x])).softmax(1)
                p,px = p[:-bs].view(k, -1, 10).mean(0),p[-bs:]
                t += 1
                seen = p.mean(0) if seen is None else seen.lerp(p.mean(0), 0.05)
                known = known.lerp((px*y).sum(1).mean(), 0.05)
                r = ((known-0.1)/0.9).clamp(0, 1)
                to = seen.clamp(prior/2**r, prior*2**r)
                q = p*to/to.sum()/seen
                q = (q/q.sum(1, keepdim=True))**(1/T); q = q/q.sum(1, keepdim=True)
            xs,ys = torch.cat([x]+us),torch.cat([y]+[q]*k)
            lam,perm = beta.sample((len(xs),)),torch.randperm(len(xs))
            lam = 1-r**2*(1-torch.maximum(lam, 1-lam))
            xs = lam[:,None,None,None]*xs + (1-lam)[:,None,None,None]*xs[perm]
            ys = lam[:,None]*ys + (1-lam)[:,None]*ys[perm]
            out = model(xs)
            weight = lambda_u*0.9*(t/steps)*r**2
            loss = F.cross_entropy(out[:bs], ys[:bs]) + weight*((out[bs:].softmax(1)-ys[bs:])**2).mean()
            opt.zero_grad(); loss.backward(); opt.step(); sched.step()
            if not math.isfinite(loss.item()): raise FloatingPointError(t)
            torch._foreach_lerp_(ema, src, 1-min(0.999, t/(9+t)))
        avg.eval()
        with torch.no_grad(): acc = (avg(xv).argmax(1)==yv).float().mean().item()
    return acc
