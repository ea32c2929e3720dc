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
    _adaptive = (*MixMatch._adaptive,'pi','p_model','q_model','c_lab','a_x')
    def __init__(self, scaled=True, both=False, ema=False, hold=None, warm=0., adjust=False, defix=0., ada=False, mom=.95, umix=True, bal=False, rel=0., xclean=False, mixramp=0., fit=None, band=0., **kw):
        super().__init__(adapt=False, **kw)
        store_attr('scaled,both,ema,hold,warm,adjust,defix,ada,mom,umix,bal,rel,xclean,mixramp,fit,band')

    def check_classes(self):
        super().check_classes()
        c = len(self.class_counts)
        if self.scaled: self.lambda_u = min(75., 7.5*(c-1))
        self.px = (self.class_counts.float()/self.class_counts.sum()) # Labels' frequencies

    def warming(self): return self.learn.pct_train < self.warm

    def weight(self):
        if self.searching: return self.lambda_u
        t = (self.learn.pct_train-self.warm)/(1-self.warm)
        w = 0. if t<0 else self.lambda_u*min(1., t/self.ramp if self.ramp else 1.)
        return w*self.known**self.fit[1] if self.fit else w

    def guess(self, us):
        p = self.teacher(torch.cat(us)).view(len(us), -1, len(self.px)).mean(0) if self.ema and self.learn.train_iter>20 else guess_labels(self.learn.model, us)
        if self.pi is None: self.pi = self.px.clone()
        if self.hold in ('em','counts') and self.warming(): # Class frequencies of the pool, by EM, while only labels train
            r = p*(self.pi/self.px) if self.hold=='em' else p
            self.pi = self.pi.lerp((r/r.sum(1, keepdim=True)).mean(0), 1-self.mom)
        self.moving('p_model', p.mean(0), self.mom)
        target = {None: None, 'em': self.pi, 'counts': self.pi, 'labels': self.px, 'true': getattr(self, 'pu', None)}[self.hold]
        if target is not None and not self.warming(): p = align(p, target, self.p_model)
        if self.band: # A class may be guessed up to `band` times as often, or as seldom, as it is labeled
            t = self.p_model.clamp(self.px/self.band, self.px*self.band)
            p = align(p, t/t.sum(), self.p_model)
        self.note_guesses(p)
        q = sharpen(p, self.T)
        self.moving('q_model', q.mean(0), self.mom)
        self.sure_w = torch.ones_like(q[:,0])
        return q

    def make_batch(self, x, y, us):
        q = self.guess(us)
        n = len(y)
        if self.fit: # How well the network knows the labeled images, clean
            pl = guess_labels(self.learn.model, [x])
            c = y.shape[1]
            known = (pl*y).sum(1) if self.fit[2]=='p' else (pl.argmax(1)==y.argmax(1)).float()
            self.known = ((self.moving('a_x', known.mean(), self.mom, 1/c)-1/c)/(1-1/c)).clamp(0, 1)
        if self.rel: # Guesses count that are about as sure as those for labeled images
            pl = guess_labels(self.learn.model, [x]) if not self.ema else self.teacher(x)
            c = self.moving('c_lab', pl.amax(1).mean(), self.mom)
            self.sure_w = (q.amax(1)>=self.rel*c).float()
        else: self.sure_w = torch.ones_like(q[:,0])
        xs,ys = torch.cat([x, *us]),torch.cat([y, *[q]*self.k])
        if not self.umix:
            xm,ym = mixup(x, y, self.alpha)
            xm,ym = torch.cat([xm, *us]),torch.cat([ym, *[q]*self.k])
        else:
            lam,perm = mixup_draws(len(xs), self.alpha, xs.device, xs.dtype)
            if self.xclean: lam[:n] = 1.
            if self.fit: lam = 1-self.known**self.fit[0]*(1-lam)
            if self.mixramp: lam = 1-min(1., self.learn.pct_train/self.mixramp)*(1-lam)
            xm,ym = mixup(xs, ys, self.alpha, lam, perm)
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
        if not len(q): return lx, pred.new_zeros(())
        lu = (u.softmax(-1)-q).square().mean(-1)
        if self.bal: lu = lu*(q@(self.px/self.q_model.clamp(min=1e-3))).clamp(max=10.)
        if self.rel: lu = lu*self.sure_w.repeat(self.k)
        lu = lu.mean()
        if self.defix: lu = lu - self.defix*l2_loss(pred[m:], sharpen(pred[m:].detach().softmax(-1), self.T))
        return lx, lu

    def note(self, yu):
        ok = yu[(yu>=0)&(yu<len(self.px))]
        true = torch.bincount(torch.as_tensor(ok), minlength=len(self.px)).float(); true /= true.sum()
        return dict(pi_error=round(float((self.pi-true).abs().sum()/2), 3), px_error=round(float((self.px-true).abs().sum()/2), 3))

class Default(MixMatch):
    """The rule that is recommended, with the interface of MixMatch: `guess`, `weight`, mixing shares.

    λu is 7.5 for each class beyond the first, at most the paper's 75. Mixing shares and λu are scaled by what the network knows of the labeled
    images: the running mean probability of their labels, unmixed, 0 at chance and 1 where all are known, squared. Guesses come from the averaged
    weights, and a class may be guessed up to twice as often, or half as often, as it is labeled.
    """
    _adaptive = (*SemiSupervised._adaptive,'seen','known')
    def __init__(self, unlabeled=None, k=2, T=.5, alpha=.75, lambda_u=None, ramp=1., adapt=True, prior=None, band=2., **kwargs):
        super().__init__(unlabeled, k, T, alpha, ifnone(lambda_u, 0.), ramp, adapt, prior, **kwargs)
        self.own_lambda,self.band = lambda_u,band

    def check_classes(self):
        super().check_classes()
        if self.own_lambda is None: self.lambda_u = min(75., 7.5*(len(self.class_counts)-1))

    def predict(self, x):
        "Probabilities by the averaged weights, where there are such"
        return self.teacher(x) if getattr(self.learn, 'ema', None) else guess_labels(self.learn.model, [x])

    def make_batch(self, x, y, us):
        q = self.guess(us, x, y)
        xs,ys = torch.cat([x, *us]),torch.cat([y, *[q]*self.k])
        lam,perm = mixup_draws(len(xs), self.alpha, xs.device, xs.dtype)
        if self.adapt: lam = 1 - self.trusted*(1-lam)
        xs,ys = mixup(xs, ys, self.alpha, lam, perm)
        return xs, (ys[:len(y)], ys[len(y):])

    def guess(self, us, x, y):
        if self.adapt:
            p = self.predict(torch.cat([*us, x]))
            p,px = p[:-len(x)].view(self.k, -1, p.shape[1]).mean(0),p[-len(x):]
            c = p.shape[1]
            known = self.moving('known', (px*y).sum(1).mean(), .95, 1/c)
            self.trusted = ((known-1/c)/(1-1/c)).clamp(0, 1)**2
        else: p = guess_labels(self.learn.model, us)
        p = self.aligned(p, self.moving('seen', p.mean(0), .95))
        self.note_guesses(p)
        return sharpen(p, self.T)

    def aligned(self, p, seen):
        f = self.frequencies = self.frequencies.to(p)
        if self.prior is None and not self.adapt: return p
        to = f if self.prior is not None else seen.clamp(f/self.band, f*self.band)
        return align(p, to/to.sum(), seen)

    def weight(self):
        w = SemiSupervised.weight(self)
        return w*self.trusted if self.adapt else w

R = lambda **kw: partial(Rule, **kw)
made = dict(Supervised=Supervised, MixMatch=MixMatch, Plain=Plain, SupMix=SupMix,
    PlainL7=partial(Plain, lambda_u=7.5), PlainL15=partial(Plain, lambda_u=15.), PlainL37=partial(Plain, lambda_u=37.5), PlainA0=partial(Plain, alpha=0.), PlainT1=partial(Plain, T=1.),
    Scaled=R(), Both=R(both=True), Ema=R(ema=True), EM=R(hold='em', warm=.25), EMBoth=R(hold='em', warm=.25, both=True), Counts=R(hold='counts', warm=.25, both=True),
    EMAdj=R(hold='em', warm=.25, both=True, adjust=True), WarmBoth=R(warm=.25, both=True), Labels=R(hold='labels', both=True), NoUmix=R(umix=False),
    EmaBal=R(ema=True, bal=True), Bal=R(bal=True), EmaBoth=R(ema=True, both=True), EmaBothBal=R(ema=True, both=True, bal=True), Defix=R(ema=True, both=True, defix=1.),
    EmaEM=R(ema=True, hold='em', warm=.25), EmaLabels=R(ema=True, hold='labels'), EmaTrue=R(ema=True, hold='true'), EmaRel=R(ema=True, rel=.9), XClean=R(xclean=True), EmaX=R(ema=True, xclean=True), EmaXBal=R(ema=True, xclean=True, bal=True), EmaRamp=R(ema=True, mixramp=1.), EmaRamp5=R(ema=True, mixramp=.5), Ramp=R(mixramp=1.), EmaFit=R(ema=True, fit=(1,1,'a')), EmaFit4=R(ema=True, fit=(4,2,'a')), EmaFitP=R(ema=True, fit=(2,2,'p')), EmaFitP4=R(ema=True, fit=(4,2,'p')), FitP=R(fit=(2,2,'p')), EmaBand3=R(ema=True, fit=(2,2,'p'), band=3.), EmaBand2=R(ema=True, fit=(2,2,'p'), band=2.), Band3=R(fit=(2,2,'p'), band=3.), Band2=R(fit=(2,2,'p'), band=2.), EmaFit0=R(ema=True, fit=(2,0,'p')), EmaWarm=R(ema=True, warm=.25),
    Default=Default, DefaultB15=partial(Default, band=1.5), DefaultB3=partial(Default, band=3.), DefaultPrior=partial(Default, prior='labeled'),
    FixMatch=FixMatch, FreeMatch=FreeMatch)
def make(name): return made[name]()
