"Fast optimizers take the steps of slow ones."
import pytest, torch
from copy import deepcopy
from fastai.vision.all import Adam
from fastai_mixmatch.all import small_cnn
from fastai_mixmatch.optim import FastAdam, FastOptimizer, FastSGD
from helpers import core_learner as learner
from torch import nn

def pair(wd=5e-4, momentum=0.9, **kw):
    torch.manual_seed(0)
    ours = small_cnn(1, 10)
    theirs = deepcopy(ours)
    ps = list(theirs.parameters())
    groups = [dict(params=[p for p in ps if p.ndim > 1], weight_decay=wd), dict(params=[p for p in ps if p.ndim == 1], weight_decay=0)]
    sgd = torch.optim.SGD(groups, lr=0.03, momentum=momentum, nesterov=momentum > 0)
    return ours, theirs, FastSGD(ours.parameters(), lr=0.03, wd=wd, mom=momentum, **kw), sgd

def step(models, opts):
    gs = [torch.randn_like(p) for p in models[0].parameters()]
    for m, opt in zip(models, opts):
        for p, g in zip(m.parameters(), gs): p.grad = g.clone()
        opt.step(); opt.zero_grad()

@pytest.mark.parametrize('kw', [dict(), dict(wd=0.), dict(wd=.1, momentum=.5), dict(momentum=0.)], ids=str)
def test_nesterov_to_the_bit(kw):
    ours, theirs, a, b = pair(**kw)
    for i in range(10):
        a.set_hyper('lr', .03/(i+1))
        for g in b.param_groups: g['lr'] = .03/(i+1)
        step((ours, theirs), (a, b))
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters()))

def test_state_goes_on():
    ours, theirs, a, _ = pair()
    for _ in range(3): step((ours,), (a,))
    theirs.load_state_dict(ours.state_dict())
    b = FastSGD(theirs.parameters(), lr=.03)
    b.load_state_dict(deepcopy(a.state_dict()))
    step((ours, theirs), (a, b))
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters()))

def test_norms_do_not_decay():
    "Without gradients' help, kernels shrink and scales stay"
    net = small_cnn(1, 10)
    before = [p.detach().clone() for p in net.parameters()]
    opt = FastSGD(net.parameters(), lr=.1, mom=0., wd=.5)
    for p in net.parameters(): p.grad = torch.zeros_like(p)
    opt.step()
    for p, q in zip(net.parameters(), before): assert torch.allclose(p, q*(.95 if p.ndim > 1 else 1))

def test_trains_in_a_learner():
    "Schedules, frozen groups, and a second fit"
    learn = learner(opt_func=FastSGD, lr=.03, splitter=lambda m: [list(m[:2].parameters()), list(m[2:].parameters())])
    learn.freeze()
    kernels = [p for p in learn.model[:2].parameters() if p.ndim > 1]
    before = [p.detach().clone() for p in kernels]
    learn.fit_one_cycle(1)
    assert kernels and all(torch.equal(p, q) for p, q in zip(kernels, before))
    learn.unfreeze()
    learn.fit_one_cycle(1)
    assert not any(torch.equal(p, q) for p, q in zip(kernels, before))
    assert 'grad_avg' in learn.opt.state[kernels[0]]

@pytest.mark.parametrize('later', ['network', 'gradients', 'state'])
def test_the_order_in_memory_does_not_matter(later):
    "A network whose channels come to lie last, gradients of another order, and a state that was saved with the other one"
    torch.manual_seed(0)
    ours, last, state = small_cnn(3, 10), dict(memory_format=torch.channels_last), None
    theirs = deepcopy(ours)
    a, b = FastAdam(ours.parameters(), lr=.1), Adam(theirs.parameters(), lr=.1, mom=.9, sqr_mom=.99, wd=.01)
    for i in range(4):
        if i == 2 and later == 'network': ours.to(**last)
        if i == 2 and later == 'state': ours.to(**last); a = FastAdam(ours.parameters(), lr=.1); a.load_state_dict(deepcopy(state))
        gs = [torch.randn_like(p) for p in theirs.parameters()]
        for p, q, g in zip(ours.parameters(), theirs.parameters(), gs): p.grad, q.grad = g.clone(), g.clone()
        if i > 1 and later == 'gradients':
            for p in ours.parameters(): p.grad = p.grad.contiguous(**last) if p.ndim == 4 else p.grad
        a.step(); b.step()
        state = a.state_dict()
    assert any(p.ndim == 4 and not p.is_contiguous() for p in ours.parameters()) == (later != 'gradients')
    for p, q in zip(ours.parameters(), theirs.parameters()): torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)

@pytest.mark.parametrize('cls', [FastAdam, FastSGD])
def test_a_state_of_another_network_is_refused(cls):
    "Its averages would be read past their ends"
    big, small = small_cnn(3, 10), small_cnn(3, 10, width=4)
    a, b = (cls(m.parameters(), lr=.1) for m in (big, small))
    for m, opt in ((big, a), (small, b)):
        for p in m.parameters(): p.grad = torch.ones_like(p)
        opt.step()
    with pytest.raises(ValueError, match='of other shapes than the weights'): a.load_state_dict(b.state_dict())

@pytest.mark.parametrize('opt', [FastAdam, FastSGD])
@pytest.mark.parametrize('mom', [1., 2, -.1, float('nan')])
def test_a_momentum_that_cannot_be(opt, mom):
    "Also one that a schedule sets, as `fit_one_cycle(1, moms=(2, 3, 2))`"
    p = nn.Parameter(torch.ones(2, 2))
    o = opt([p], lr=.1)
    p.grad = torch.ones(2, 2)
    o.set_hyper('mom', mom)
    with pytest.raises(ValueError, match=r'momentum must be in \[0,1\); got'): o.step()
    assert torch.equal(p, torch.ones(2, 2))

def test_an_optimizer_of_your_own_needs_no_momentum():
    class Plain(FastOptimizer):
        def __init__(self, params, lr, wd=0.): super().__init__(params, [], lr=lr, wd=wd)
        def move(self, ps, grads, h):
            for p, g in zip(ps, grads): p.sub_(h['lr']*g)
    p = nn.Parameter(torch.ones(2, 2))
    o = Plain([p], lr=.5)
    p.grad = torch.ones(2, 2)
    o.step()
    assert torch.equal(p, torch.full((2, 2), .5))

def test_the_second_momentum_is_checked_too():
    p = nn.Parameter(torch.ones(2, 2))
    o = FastAdam([p], lr=.1, sqr_mom=1.5)
    p.grad = torch.ones(2, 2)
    with pytest.raises(ValueError, match="got {'sqr_mom': 1.5}"): o.step()

OUT = dict(lr=(-1e-3, float('nan'), float('inf')), wd=(-.1, float('nan')), eps=(-1., float('inf')))
@pytest.mark.parametrize('opt,name,value', [(o, k, v) for o in (FastAdam, FastSGD) for k in OUT if (o, k)!=(FastSGD, 'eps') for v in OUT[k]])
def test_hyperparameters_that_cannot_be(opt, name, value):
    "Given to the optimizer, or set later; nothing has moved"
    p = nn.Parameter(torch.ones(2, 2))
    o = opt([p], **{'lr': .1, name: value})
    p.grad = torch.ones(2, 2)
    with pytest.raises(ValueError, match=f"lr, wd and eps must be finite and at least 0, .*; got {{'{name}': {value}}}"): o.step()
    o.set_hyper(name, .1)
    o.step()
    o.set_hyper(name, value)
    before = p.detach().clone()
    with pytest.raises(ValueError, match=f"got {{'{name}'"): o.step()
    assert torch.equal(p, before)
