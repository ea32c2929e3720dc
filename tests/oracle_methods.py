"""The relatives of MixMatch in float64 numpy, written from their papers, to check the package against. Numpy and the MixMatch oracle only; loops where they are
clearer. Each stateful method is a class with one `step(weak, strong, ...)` -> (weights of the guesses, unlabeled loss)."""
import numpy as np
from oracle import align, f64, sharpen, softmax

def log_softmax(z):
    z = f64(z)
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

def weighted_ce(z, target, m):
    "Mean over all images, counted or not, of weight times cross entropy; `target` holds classes or probabilities."
    lp, total = log_softmax(z), 0.
    for i in range(len(lp)): total -= m[i] * (lp[i, target[i]] if np.ndim(target) == 1 else (f64(target[i]) * lp[i]).sum())
    return total / len(lp)

def kl(p, z): return (f64(p) * (np.log(np.maximum(p, 1e-300)) - log_softmax(z))).sum(axis=1).mean()

class FixMatch:
    def __init__(self, tau=.95): self.tau = tau
    def step(self, weak, strong, idx=None):
        q = softmax(weak)
        m = np.array([float(max(r) >= self.tau) for r in q])
        return m, weighted_ce(strong, q.argmax(axis=1), m)

class UDA(FixMatch):
    def __init__(self, tau=.8, T=.4): self.tau, self.T = tau, T
    def step(self, weak, strong, idx=None):
        q = softmax(weak)
        m = np.array([float(max(r) >= self.tau) for r in q])
        return m, weighted_ce(strong, sharpen(q, self.T), m)

def tsa_loss(z, y, t, schedule):
    "Training-signal annealing: only labeled images whose class has less probability than the threshold."
    C = y.shape[1]
    a = dict(linear=t, log=1 - np.exp(-t * 5), exp=np.exp((t - 1) * 5))[schedule]
    eta, kept = a * (1 - 1 / C) + 1 / C, []
    for p, o, lp in zip(softmax(z), y, log_softmax(z)):
        c = o.argmax()
        if p[c] < eta: kept.append(-lp[c])
    return sum(kept) / max(1, len(kept))

class FlexMatch:
    "Algorithm 1: thresholds come from what was picked before this batch."
    def __init__(self, n, C, tau=.95): self.tau, self.C, self.picked = tau, C, {i: None for i in range(n)}
    def thresholds(self):
        sigma = np.array([sum(v == c for v in self.picked.values()) for c in range(self.C)], dtype=float)
        unused = sum(v is None for v in self.picked.values())
        beta = sigma / max(sigma.max(), unused)
        return self.tau * beta / (2 - beta)
    def step(self, weak, strong, idx):
        q, th = softmax(weak), self.thresholds()
        m = np.array([float(r.max() >= th[r.argmax()]) for r in q])
        for r, i in zip(q, idx):
            if r.max() >= self.tau: self.picked[int(i)] = int(r.argmax())
        return m, weighted_ce(strong, q.argmax(axis=1), m)

class FreeMatch:
    def __init__(self, C, momentum=.999, w_f=.001, clip=None):
        self.C, self.mom, self.w_f, self.tau, self.p, self.h = C, momentum, w_f, 1 / C, np.full(C, 1 / C), np.full(C, 1 / C)
        self.clip = np.inf if clip is None else clip
    def step(self, weak, strong, idx=None):
        q, k = softmax(weak), self.mom
        self.tau = min(self.clip, k * self.tau + (1 - k) * q.max(axis=1).mean())
        self.p = k * self.p + (1 - k) * q.mean(axis=0)
        self.h = k * self.h + (1 - k) * np.bincount(q.argmax(axis=1), minlength=self.C) / len(q)
        th = self.p / self.p.max() * self.tau
        m = np.array([float(r.max() >= th[r.argmax()]) for r in q])
        return m, weighted_ce(strong, q.argmax(axis=1), m) + self.w_f * self.fairness(softmax(strong)[m > 0])
    def fairness(self, s):
        if not len(s): return 0.
        norm = lambda a: a / a.sum()
        h = np.bincount(s.argmax(axis=1), minlength=self.C) / len(s)
        b = norm(np.array([p / f if f > 0 else 0. for p, f in zip(s.mean(axis=0), h)]))
        return (norm(self.p / self.h) * np.log(b + 1e-12)).sum()

class SoftMatch:
    def __init__(self, C, momentum=.999, n_sigma=2.): self.C, self.mom, self.n, self.p, self.mu, self.var = C, momentum, n_sigma, None, 1 / C, 1.
    def step(self, weak, strong, idx=None):
        q, k = softmax(weak), self.mom
        self.p = q.mean(axis=0) if self.p is None else k * self.p + (1 - k) * q.mean(axis=0)
        conf = align(q, np.full(self.C, 1 / self.C), self.p).max(axis=1)
        self.mu, self.var = k * self.mu + (1 - k) * conf.mean(), k * self.var + (1 - k) * conf.var(ddof=1)
        m = np.array([1. if c >= self.mu else np.exp(-(c - self.mu) ** 2 / (2 * self.var / self.n ** 2)) for c in conf])
        return m, weighted_ce(strong, q.argmax(axis=1), m)

class AdaMatch:
    "Guesses moved by the ratio of running class frequencies of labeled and unlabeled predictions; a threshold relative to the labeled confidence."
    def __init__(self, tau=.9, momentum=.999): self.tau, self.mom, self.px, self.pu = tau, momentum, None, None
    def step(self, weak, strong, x):
        q, qx, k = softmax(weak), softmax(x), self.mom
        self.px = qx.mean(axis=0) if self.px is None else k * self.px + (1 - k) * qx.mean(axis=0)
        self.pu = q.mean(axis=0) if self.pu is None else k * self.pu + (1 - k) * q.mean(axis=0)
        q = align(q, self.px, self.pu)
        level = self.tau * np.mean([max(r) for r in qx])
        m = np.array([float(max(r) >= level) for r in q])
        return m, weighted_ce(strong, q, m)

def defix(tau, x, weak, strong, x_strong):
    "Debiased FixMatch, eq. 5: the unlabeled loss, less its value on the labeled images."
    return FixMatch(tau).step(weak, strong)[1] - FixMatch(tau).step(x, x_strong)[1]
