"Candidate rules: subclasses of `MixMatch`, by name"
import math, torch, torch.nn.functional as F
from fastai.vision.all import *
from fastai_mixmatch.all import *
from fastai_mixmatch.callback import SemiSupervised, MixMatch, Supervised, Trust

class Plain(MixMatch):
    "The paper's: λ 75, no hold, no trust"
    def __init__(self, **kw): super().__init__(adapt=False, **kw)

class SupMix(Supervised):
    "Labels alone, mixed"
    def make_batch(self, x, y, us):
        x,y = mixup(x, y, .75)
        return x, (y,)

class Rule(MixMatch):
    "Parts to be switched on one by one"
    _adaptive = (*MixMatch._adaptive,'pi','p_model')
    def __init__(self, scaled=True, both=False, ema=False, hold=None, warm=0., adjust=False, defix=0., ada=False, mom=.95, umix=True, **kw):
        super().__init__(adapt=False, **kw)
        store_attr('scaled,both,ema,hold,warm,adjust,defix,ada,mom,umix')

    def check_classes(self):
        super().check_classes()
        c = len(self.class_counts)
        if self.scaled: self.lambda_u = min(75., 7.5*(c-1))
        self.px = (self.class_counts.float()/self.class_counts.sum()) # Labels' frequencies

    def warming(self): return self.learn.pct_train < self.warm

    def weight(self):
        if self.searching: return self.lambda_u
        t = (self.learn.pct_train-self.warm)/(1-self.warm)
        return 0. if t<0 else self.lambda_u*min(1., t/self.ramp if self.ramp else 1.)

    def guess(self, us):
        p = self.teacher(torch.cat(us)).view(len(us), -1, len(self.px)).mean(0) if self.ema and self.learn.train_iter>20 else guess_labels(self.learn.model, us)
        if self.pi is None: self.pi = self.px.clone()
        if self.hold in ('em','counts') and self.warming(): # Class frequencies of the pool, by EM, while only labels train
            r = p*(self.pi/self.px) if self.hold=='em' else p
            self.pi = self.pi.lerp((r/r.sum(1, keepdim=True)).mean(0), 1-self.mom)
        self.moving('p_model', p.mean(0), self.mom)
        target = {None: None, 'em': self.pi, 'counts': self.pi, 'labels': self.px, 'true': getattr(self, 'pu', None)}[self.hold]
        if target is not None and not self.warming(): p = align(p, target, self.p_model)
        self.note_guesses(p)
        return sharpen(p, self.T)

    def make_batch(self, x, y, us):
        q = self.guess(us)
        n = len(y)
        xs,ys = torch.cat([x, *us]),torch.cat([y, *[q]*self.k])
        if not self.umix:
            xm,ym = mixup(x, y, self.alpha)
            xm,ym = torch.cat([xm, *us]),torch.cat([ym, *[q]*self.k])
        else: xm,ym = mixup(xs, ys, self.alpha)
        if self.warming(): # Labels alone, mixed
            xm,ym = (x,y) if not self.both else mixup(x, y, self.alpha)
        if self.both: xm = torch.cat([xm, x])
        return xm, (ym[:n], ym[n:], y)

    def losses(self, pred, y, q, clean):
        n,m = len(y),len(y)+len(q)
        u = pred[n:m]
        if self.adjust and len(q): u = u + (self.pi/self.px).clamp(min=1e-3).log()
        lx = soft_cross_entropy(pred[:n], y)
        if self.both: lx = (lx + soft_cross_entropy(pred[m:], clean))/2
        return lx, l2_loss(u, q) if len(q) else pred.new_zeros(())

    def note(self, yu):
        ok = yu[(yu>=0)&(yu<len(self.px))]
        true = torch.bincount(torch.as_tensor(ok), minlength=len(self.px)).float(); true /= true.sum()
        return dict(pi_error=round(float((self.pi-true).abs().sum()/2), 3), px_error=round(float((self.px-true).abs().sum()/2), 3))

R = lambda **kw: partial(Rule, **kw)
made = dict(Supervised=Supervised, MixMatch=MixMatch, Plain=Plain, SupMix=SupMix,
    PlainL7=partial(Plain, lambda_u=7.5), PlainL15=partial(Plain, lambda_u=15.), PlainL37=partial(Plain, lambda_u=37.5), PlainA0=partial(Plain, alpha=0.), PlainT1=partial(Plain, T=1.),
    Scaled=R(), Both=R(both=True), Ema=R(ema=True), EM=R(hold='em', warm=.25), EMBoth=R(hold='em', warm=.25, both=True), Counts=R(hold='counts', warm=.25, both=True),
    EMAdj=R(hold='em', warm=.25, both=True, adjust=True), WarmBoth=R(warm=.25, both=True), Labels=R(hold='labels', both=True), NoUmix=R(umix=False),
    FixMatch=FixMatch, FreeMatch=FreeMatch)
def make(name): return made[name]()
