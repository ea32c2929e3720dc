"""Rules in the place of MixMatch's trust, by name.

`Default` is the rule that came out best of about 25. The others were removed after the comparison: a row of
`results/candidates.jsonl` names the commit that holds its rule.
"""
from functools import partial
import torch
from fastai_mixmatch.all import *

class Default(MixMatch):
    """λu is 7.5 for each class beyond the first, at most the paper's 75. Mixing shares and λu are scaled by what the
    network knows of the labeled images: the running mean probability of their labels, unmixed, from 0 at chance to 1
    where all are known, squared. The averaged weights guess, and a class may be guessed up to `band` times as often,
    or as seldom, as it is labeled.
    """
    band:float = 2.
    averages = dict(known=.95, seen=.95)

    def prepared(self):
        super().prepared()
        if self.adapt: self.lambda_u = min(75., 7.5*(len(self.class_counts)-1))

    def make_batch(self, b):
        q = sharpen(self.guess((*b.weak, b.x) if self.adapt else b.weak), self.T)
        xs,ys = torch.cat([b.x, *b.weak]),torch.cat([b.y, *[q]*self.k])
        lam,perm = mixup_draws(len(xs), self.alpha, xs.device, xs.dtype)
        if self.adapt: lam = 1 - self.trusted*(1-lam)
        xs,ys = mixup(xs, ys, self.alpha, lam, perm)
        return xs, (ys[:len(b.y)], ys[len(b.y):])

    def guess(self, views, by='model', then=None):
        if not self.adapt: return super().guess(views, by, self.held)
        *us,x = views
        model = self.learn.ema.averaged() if hasattr(self.learn, 'ema') else self.learn.model
        p = guess_labels(model, [torch.cat([*us, x])])
        px,p = p[-len(x):],p[:-len(x)].view(self.k, -1, p.shape[1]).mean(0)
        c = p.shape[1]
        known = self.average('known', (px*self.step.batch.y).sum(1).mean(), 1/c)
        self.trusted = ((known-1/c)/(1-1/c)).clamp(0, 1)**2
        self.step.guess = self.held(p)
        return self.step.guess

    def held(self, p):
        "Guesses `(B_u,n_classes)` whose class frequencies stay within the band, or at the prior"
        seen,f = self.average('seen', p.mean(0)),self.frequencies.to(p)
        to = f if self.prior is not None else seen.clamp(f/self.band, f*self.band)
        return align(p, to/to.sum(), seen)

    def weight(self):
        w = SemiSupervised.weight(self)
        return w*self.trusted if self.adapt else w

made = dict(Supervised=Supervised, MixMatch=MixMatch, Plain=partial(MixMatch, adapt=False), Default=Default,
            DefaultB15=partial(Default, band=1.5), DefaultB3=partial(Default, band=3.),
            DefaultPrior=partial(Default, prior='labeled'), FixMatch=FixMatch, FreeMatch=FreeMatch)

def make(name): return made[name]()
