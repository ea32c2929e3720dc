"""MixMatch in float64 numpy, written from the paper (arXiv 1905.02249), to check the package against. It imports nothing but numpy.

Symbols are the paper's: K views of an unlabeled image, temperature T, lam = max(l, 1-l), weight lambda_u. Every quantity has its own small function and,
for a whole training step, its own derivative by hand: nothing here is differentiated by a library."""
import numpy as np

f64 = lambda a: np.asarray(a, dtype=np.float64)

# --- targets

def softmax(z, axis=-1):
    e = np.exp(f64(z) - f64(z).max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)

def guess(logits):
    "Eq. 6: `logits` (K, B, C) of the K views -> (B, C), the mean of the K softmaxes."
    return softmax(logits).mean(axis=0)

def sharpen(p, T):
    "Eq. 7: `p**(1/T)`, renormalized. Dividing by the largest first cancels out, and lets T be tiny."
    a = (f64(p) / f64(p).max(axis=-1, keepdims=True)) ** (1 / T)
    return a / a.sum(axis=-1, keepdims=True)

def align(p, prior, p_model):
    "ReMixMatch (arXiv 1911.09785), section 3.1: p times the ratio of the labels' marginal to that of the guesses, renormalized."
    a = f64(p) * f64(prior) / f64(p_model)
    return a / a.sum(axis=-1, keepdims=True)

def entropy(p):
    "In nats, over the last axis; 0 log 0 is 0."
    p = f64(p)
    return -(p * np.log(np.where(p > 0, p, 1.))).sum(axis=-1)

class Adapt:
    """Not of the paper: what holds a step back while the labels are not known. Running averages with memory .95: of the labels' probability on unmixed
    labeled images, from chance on, and of the guesses' class frequencies."""
    def __init__(self, frequencies, band=2., given=False): self.f,self.band,self.given,self.known,self.seen = f64(frequencies),band,given,None,None

    def look(self, q, q_x, y):
        "Trust and aligned guesses, after the guesses `q` and the predictions `q_x` for labeled images of labels `y`"
        c = q.shape[1]
        self.known = .95*(1/c if self.known is None else self.known) + .05*(f64(q_x)*f64(y)).sum(1).mean()
        self.seen = q.mean(0) if self.seen is None else .95*self.seen + .05*q.mean(0)
        r = min(1., max(0., (self.known-1/c) / (1-1/c)))
        self.trust = r**2
        to = self.f
        if not self.given: to = np.array([min(max(s, f/self.band**r), f*self.band**r) for s, f in zip(self.seen, self.f)])
        return align(q, to/to.sum(), self.seen)

    def weight(self): return self.trust*min(1, (len(self.f)-1)/10)

# --- mixing

def mixup(x, y, lam, perm):
    "Eqs. 10 and 11, one `lam` >= 1/2 a sample; loops, so that no broadcasting rule is trusted."
    x, y, lam = f64(x), f64(y), f64(lam)
    assert (lam >= .5).all() and (lam <= 1).all() and sorted(perm) == list(range(len(x)))
    mx, my = np.empty_like(x), np.empty_like(y)
    for i, j in enumerate(perm):
        mx[i] = lam[i] * x[i] + (1 - lam[i]) * x[j]
        my[i] = lam[i] * y[i] + (1 - lam[i]) * y[j]
    return mx, my

# --- losses, each with its derivative with respect to the logits

def cross_entropy(z, y):
    "Eq. 3: the mean over the batch of `-sum_c y_c log softmax(z)_c`."
    z = f64(z)
    m = z.max(axis=-1, keepdims=True)
    logp = z - m - np.log(np.exp(z - m).sum(axis=-1, keepdims=True))
    return -(f64(y) * logp).sum(axis=-1).mean()

def d_cross_entropy(z, y): return (softmax(z) * f64(y).sum(axis=-1, keepdims=True) - f64(y)) / len(z)

def l2(z, q):
    "Eq. 4: squared distance of softmax and target, the mean over batch and classes."
    return ((softmax(z) - f64(q)) ** 2).mean()

def d_l2(z, q):
    p = softmax(z)
    g = 2 * (p - f64(q)) / p.size
    return p * (g - (g * p).sum(axis=-1, keepdims=True))

def linear_ramp(pct, length): return 1. if length == 0 else min(1., pct / length)

# --- what moves the weights

def ema_decay(t, decay=.999, warmup=True): return min(decay, (1 + t) / (10 + t)) if warmup else decay

def ema_update(avg, new, t, decay=.999, warmup=True):
    "Average two dicts of arrays at update number `t`, counted from 0; integers are copied."
    d = ema_decay(t, decay, warmup)
    return {k: (d * avg[k] + (1 - d) * new[k]) if np.asarray(new[k]).dtype.kind == 'f' else new[k] for k in new}

def adam_step(w, g, state, lr, wd=0., beta1=.9, beta2=.99, eps=1e-5):
    "One step of Adam with decoupled weight decay on one array. `state` is (m, v, t), of which t steps were done; returns new array and state."
    m, v, t = state
    t = t + 1
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    w = w * (1 - lr * wd)
    return w - lr * (m / (1 - beta1 ** t)) / (np.sqrt(v / (1 - beta2 ** t)) + eps), (m, v, t)

# --- a small convolutional network; each layer is (kind, name, options), arrays are found as `name.weight` and so on

def conv_fwd(x, w, stride):
    "3 by 3 convolution, padding 1, no bias: the sum of nine shifted products."
    xp = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    H, W = (x.shape[2] - 1) // stride + 1, (x.shape[3] - 1) // stride + 1
    y = np.zeros((len(x), len(w), H, W))
    for i in range(3):
        for j in range(3): y += np.einsum('bihw,oi->bohw', xp[:, :, i:i + stride * H:stride, j:j + stride * W:stride][:, :, :H, :W], w[:, :, i, j])
    return y, (xp, w, stride)

def conv_bwd(dy, cache):
    xp, w, s = cache
    dw, dxp = np.zeros_like(w), np.zeros_like(xp)
    H, W = dy.shape[2:]
    for i in range(3):
        for j in range(3):
            sl = (slice(None), slice(None), slice(i, i + s * H, s), slice(j, j + s * W, s))
            dw[:, :, i, j] = np.einsum('bohw,bihw->oi', dy, xp[sl][:, :, :H, :W])
            dxp[sl] += np.einsum('bohw,oi->bihw', dy, w[:, :, i, j])
    return dxp[:, :, 1:-1, 1:-1], dw

def bn_fwd(x, p, b, name, train, momentum=.1, eps=1e-5):
    "Batch norm over all axes but the second; returns also the running statistics as they are after the batch."
    c = lambda a: a.reshape(1, -1, *[1] * (x.ndim - 2))
    axes = tuple(i for i in range(x.ndim) if i != 1)
    rm, rv, nb = (b[f'{name}.{o}'] for o in ('running_mean', 'running_var', 'num_batches_tracked'))
    if not train: mu, var, new = rm, rv, {}
    else:
        mu, var, n = x.mean(axis=axes), x.var(axis=axes), x.size / x.shape[1]
        new = {f'{name}.running_mean': (1 - momentum) * rm + momentum * mu, f'{name}.num_batches_tracked': nb + 1,
            f'{name}.running_var': (1 - momentum) * rv + momentum * var * n / (n - 1)}
    xh = (x - c(mu)) / np.sqrt(c(var) + eps)
    return c(p[f'{name}.weight']) * xh + c(p[f'{name}.bias']), (xh, c(p[f'{name}.weight']), np.sqrt(c(var) + eps), axes), new

def bn_bwd(dy, cache):
    "Derivative through the batch's own mean and variance."
    xh, w, sd, axes = cache
    dxh = dy * w
    mean = lambda a: a.mean(axis=axes, keepdims=True)
    return (dxh - mean(dxh) - xh * mean(dxh * xh)) / sd, (dy * xh).sum(axis=axes), dy.sum(axis=axes)

def forward(layers, p, b, x, train=True):
    "Logits, what the backward pass needs, and the buffers after the pass (a new dict: `b` stays as it is)."
    x, tape, nb = f64(x), [], dict(b)
    for kind, name, *o in layers:
        if kind == 'conv': x, c = conv_fwd(x, p[f'{name}.weight'], o[0])
        elif kind == 'bn':
            x, c, new = bn_fwd(x, p, b, name, train)
            nb.update(new)
        elif kind == 'leaky':
            c = np.where(x > 0, 1., o[0])
            x = x * c
        elif kind == 'pool':
            c = x.shape
            x = x.mean(axis=(2, 3))
        elif kind == 'flat':
            c = x.shape
            x = x.reshape(len(x), -1)
        elif kind == 'linear':
            c = x
            x = x @ p[f'{name}.weight'].T + p[f'{name}.bias']
        tape.append(c)
    return x, tape, nb

def backward(layers, p, tape, d):
    "Gradients of all parameters, given `d`, that of the logits."
    g = {}
    for (kind, name, *_), c in zip(layers[::-1], tape[::-1]):
        if kind == 'conv': d, g[f'{name}.weight'] = conv_bwd(d, c)
        elif kind == 'bn': d, g[f'{name}.weight'], g[f'{name}.bias'] = bn_bwd(d, c)
        elif kind == 'leaky': d = d * c
        elif kind == 'pool': d = np.broadcast_to(d[:, :, None, None], c) / (c[2] * c[3])
        elif kind == 'flat': d = d.reshape(c)
        elif kind == 'linear': g[f'{name}.weight'], g[f'{name}.bias'], d = d.T @ c, d.sum(axis=0), d @ p[f'{name}.weight']
    return g

# --- the training step of algorithm 1

def make_batch(layers, p, b, x, y, us, lam, perm, T=.5, adapt=None, averaged=None):
    """Guess with the statistics of the batch of all views, sharpen, and mix everything with one shuffle; buffers do not move. With `adapt`, the weights
    `averaged` guess, for labeled images, too; all mix as much less as the labels are known less."""
    z, _, _ = forward(layers, averaged or p, b, np.concatenate([f64(u) for u in us] + [f64(x)]*(adapt is not None)))
    n = len(us)*len(us[0])
    q = guess(z[:n].reshape(len(us), len(us[0]), -1))
    if adapt is not None:
        q = adapt.look(q, softmax(z[n:]), y)
        lam = 1 - adapt.trust * (1 - f64(lam))
    q = sharpen(q, T)
    return mixup(np.concatenate([f64(x), *[f64(u) for u in us]]), np.concatenate([f64(y), *[q] * len(us)]), lam, perm)

def mixmatch_step(layers, p, b, opt, x, y, us, lam, perm, T=.5, weight=75., lr=2e-3, wd=0., adapt=None, averaged=None, **kw):
    """One step. `p` and `b` are parameters and buffers by name, `opt` the state of Adam by name, `weight` is lambda_u times the ramp, `wd` a number
    or a function of the name. Returns new p, b, opt and a dict of everything on the way."""
    mx, my = make_batch(layers, p, b, x, y, us, lam, perm, T, adapt, averaged)
    if adapt is not None: weight = weight * adapt.weight()
    n = len(x)
    z, tape, nb = forward(layers, p, b, mx)
    lx, lu = cross_entropy(z[:n], my[:n]), l2(z[n:], my[n:])
    g = backward(layers, p, tape, np.concatenate([d_cross_entropy(z[:n], my[:n]), weight * d_l2(z[n:], my[n:])]))
    np_, no = {}, {}
    for k in p: np_[k], no[k] = adam_step(p[k], g[k], opt.get(k, (0., 0., 0)), lr, wd(k) if callable(wd) else wd, **kw)
    return np_, nb, no, dict(x=mx, y=my, logits=z, loss_x=lx, loss_u=lu, loss=lx + weight * lu, grads=g)
