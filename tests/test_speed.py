"The fast path: the plain path's numbers, bfloat16 where it should be and only there, and no step that asks the device for a number."
import copy, pytest, sys, time, torch
from fastai.vision.all import (SGD, Callback, CancelBatchException, CancelEpochException, CancelFitException, CancelTrainException, DataLoader,
    DataLoaders, ProgressCallback, nn, set_seed)
from fastai_mixmatch.all import MixMatch, ReMixMatch, digits_arrays, small_cnn, ssl_learner
from fastai_mixmatch.speed import compile_whole
from helpers import column_of
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import TensorDataset

X, Y = map(torch.from_numpy, digits_arrays())
X = X[:, None].float()/255

def learner(to=lambda o: o, n=100, method=None, **kw):
    "20 labeled digits, `n` unlabeled ones, weak views and all draws of seed 0"
    set_seed(0)
    dls = DataLoaders(DataLoader(TensorDataset(X[:20], Y[:20]), bs=20), DataLoader(TensorDataset(X[20:60], Y[20:60]), bs=20))
    dls.c = 10
    learn = ssl_learner(dls, X[100:100+n], small_cnn, method=method or MixMatch(), **kw)
    return to(learn)

def fit(learn, epochs=1, **kw):
    set_seed(1)
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs, **kw)
    return learn

def weights(learn): return torch.cat([p.detach().flatten() for p in learn.model.state_dict().values() if p.is_floating_point()])
def losses(learn): return torch.stack([torch.as_tensor(o) for o in learn.recorder.losses])

@pytest.mark.parametrize('to', [lambda o: o.to_fast(), lambda o: o.to_contiguous() or o], ids=['fast', 'contiguous'])
def test_same_numbers(to):
    """On the same draws, to 1e-5: each weight after a step of its gradient's length (Adam's first step is one of its sign, and makes a difference between
    0 and nearly 0 as long as any), and the losses of ten steps. What is recorded and validated is a number on the host."""
    a, b = [fit(learner(o, n=20, opt_func=SGD), lr=1.) for o in (lambda o: o, to)]
    assert len(losses(a)) == 1 and (weights(a)-weights(b)).abs().max() < 1e-5
    a, b = fit(learner(), 2), fit(learner(to), 2)
    assert len(losses(a)) == 10 and (losses(a)-losses(b)).abs().max() < 1e-4
    for o in ('train_loss','valid_loss'): assert column_of(a, o) == pytest.approx(column_of(b, o), abs=1e-3)

class Types(Callback):
    "Types of what the layers give, and of what leaves the network"
    order = 200
    def before_fit(self):
        self.conv, self.seen = set(), []
        self.hook = next(m for m in self.model.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(lambda m, x, y: self.conv.add(y.dtype))
    def after_batch(self): self.seen += [self.pred.dtype, self.loss.dtype, *[o.dtype for o in self.yb if o.is_floating_point()]]
    def after_fit(self): self.hook.remove()

def test_bf16():
    "Convolutions in bfloat16, in the guess too; all else in float32; losses within 2 % of float32's."
    t = Types()
    half = fit(learner(lambda o: o.to_fast(bf16=True), cbs=t), 2)
    assert t.conv == {torch.bfloat16} and set(t.seen) == {torch.float32}
    assert {p.dtype for p in half.model.parameters()} | {o.dtype for o in half.ema.avg} == {torch.float32}
    full = fit(learner(lambda o: o.to_fast(bf16=False), cbs=t), 2)
    assert t.conv == {torch.float32}
    d = (losses(half)-losses(full)).abs()/losses(full)
    assert 0 < d.max() < .02

@pytest.mark.parametrize('event', ['before_batch', 'after_pred', 'after_loss', 'before_step'])
@pytest.mark.parametrize('error', [CancelBatchException, KeyboardInterrupt])
def test_bf16_ends_however_a_batch_ends(event, error):
    def stop(self):
        if self.learn.training: raise error
    learn = learner(lambda o: o.to_fast(bf16=True))
    cb = Callback(**{event: stop})
    cb.order = 100
    learn.add_cb(cb)
    try: fit(learn)
    except KeyboardInterrupt: assert error is KeyboardInterrupt
    assert not torch.is_autocast_enabled('cpu')

@pytest.mark.parametrize('event', ['before_batch', 'after_pred', 'after_loss'])
@pytest.mark.parametrize('error', [CancelTrainException, CancelEpochException, CancelFitException])
def test_bf16_ends_with_what_is_canceled(event, error):
    "After each epoch of a training in which a callback cancels more than a batch"
    on = []
    def stop(self):
        if self.learn.training: raise error
    learn = learner(lambda o: o.to_fast(bf16=True))
    cb = Callback(**{event: stop, 'after_epoch': lambda self: on.append(torch.is_autocast_enabled('cpu'))})
    cb.order = 100 if event=='before_batch' else -100
    fit(learn.add_cb(cb), 2)
    assert not torch.is_autocast_enabled('cpu') and not any(on)

def test_to_fast_anew():
    "The last call counts"
    t = Types()
    fit(learner(lambda o: o.to_fast(bf16=True).to_fast(bf16=False), cbs=t))
    assert t.conv=={torch.float32}

class Numbers(TorchDispatchMode):
    "Counts where a number is asked for"
    n = 0
    def counts(self, f, args): return '_local_scalar_dense' in str(f)
    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        self.n += self.counts(f, args)
        return f(*args, **(kwargs or {}))

class Constants(Numbers):
    "Counts where a number for each class, kept on the host, is taken to the device"
    def counts(self, f, args): return '_to_copy' in str(f) and args[0].shape==(10,)

class InSteps(Callback):
    "`Numbers` in training steps from the second on, with all that happens after them"
    order, on = -100, False
    def __init__(self, what=Numbers): self.what = what
    def before_fit(self): self.numbers = self.what()
    def leave(self):
        if self.on: self.numbers.__exit__(None, None, None)
        self.on = False
    def before_batch(self):
        self.leave()
        if self.training and self.train_iter: self.numbers.__enter__(); self.on = True
    def after_train(self): self.leave()

class Reads(TorchFunctionMode):
    "Counts calls that read values of a tensor, also those that are no operation on a CPU"
    n,names = 0,{'item','tolist','numpy','cpu','__float__','__bool__','__int__','__index__'}
    def __torch_function__(self, f, types, args=(), kwargs=None):
        self.n += getattr(f, '__name__', '') in self.names
        return f(*args, **(kwargs or {}))

class Asks(MixMatch):
    "Reads a number of the device in each step"
    def weight(self): return 1. if self.step.trust>2 else 0.

@pytest.mark.parametrize('what', [Numbers, Reads])
@pytest.mark.parametrize('ask', [False, True])
def test_a_step_asks_for_no_number(monkeypatch, ask, what):
    """On a GPU each is a wait. On a CPU only, the losses are looked at in each of the four steps (by `tolist`), and `one_hot` of PyTorch, which is replaced
    here, checks labels."""
    monkeypatch.setattr(torch.nn.functional, 'one_hot', lambda y, c: torch.eye(c)[y])
    learn = learner(lambda o: o.to_fast(bf16=True), method=Asks() if ask else MixMatch(), cbs=InSteps(what), cache=True)
    fit(learn)
    assert learn.in_steps.numbers.n == 4*ask + 4*(what is Reads)

@pytest.mark.parametrize('method', [MixMatch(), MixMatch(adapt=False, prior='labeled'), ReMixMatch()])
def test_a_step_copies_no_constant(method):
    "A copy to a GPU is a wait, too"
    learn = fit(learner(cbs=InSteps(Constants), method=method))
    assert learn.in_steps.numbers.n==0

def test_compile_takes_a_mode(monkeypatch):
    modes = []
    monkeypatch.setattr(torch, 'compile', lambda f, mode=None: modes.append(mode) or f)
    learner(lambda o: o.to_fast()); learner(lambda o: o.to_fast(compile=True)); learner(lambda o: o.to_fast(compile='reduce-overhead'))
    assert modes == [None, 'reduce-overhead']

def test_the_whole_network_is_one_graph():
    "`nn.Module.compile` compiles nothing of an `nn.Sequential`, and says nothing."
    sizes,model = [],small_cnn(1, 10)
    keys,x = list(model.state_dict()),torch.rand(4, 1, 8, 8)
    want = model.eval()(x)
    compile_whole(model, backend=lambda graph, _: sizes.append(len(graph.graph.nodes)) or graph)
    assert torch.allclose(model(x), want) and len(sizes)==1 and sizes[0]>20
    assert list(model.state_dict())==keys and copy.deepcopy(model)._compiled_call_impl is None

def test_bars_move_ten_times_a_second(monkeypatch):
    "To show the loss is to wait for the device. With a clock that stands still: at the very first batch, and at the end of each pass."
    drawn = []
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True) # As on a terminal
    monkeypatch.setattr(time, 'monotonic', lambda: 5.)
    monkeypatch.setattr(ProgressCallback, 'after_batch', lambda self: drawn.append((self.training, self.iter)))
    learn = learner()
    with learn.no_logging(): learn.fit(2)
    assert drawn == [(True, 0), (True, 4), (False, 1), (True, 4), (False, 1)]
