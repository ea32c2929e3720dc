"Further heads: they learn, and the model, its file and its optimizer are as if there were none."
import copy, pytest, torch
from fastai.vision.all import CancelStepException, Learner, load_learner, set_seed
from fastai_mixmatch.all import *
from fastai_mixmatch.heads import Heads, last_linear
from helpers import IL, SMALL, Callback, CpuPrecision, Scaled, alike, core_dls, method_learner, quiet, same, state_of, train
from torch import nn

def heads_of(learn): return next(o for o in learn.cbs if isinstance(o, Heads))

def test_the_model_is_as_it_was(tmp_path):
    "Keys, parameter groups, hooks, scripts, files: those of a learner without heads; and outputs do not change."
    learn,plain = method_learner(ReMixMatch(ks=1), 60),method_learner(PiModel(), 60)
    train(learn), train(plain)
    assert list(state_of(learn))==list(state_of(plain)) and [type(o) for o in learn.model.modules()]==[type(o) for o in plain.model.modules()]
    assert [len(g) for g in learn.opt.param_lists]==[len(g) for g in plain.opt.param_lists]
    assert not any(o._forward_hooks or o._forward_pre_hooks for o in learn.model.modules())
    x = torch.rand(4, 1, 8, 8)
    learn.model.eval()
    assert torch.allclose(torch.jit.script(learn.model)(x), learn.model(x), atol=1e-6)
    f = learn.save((tmp_path/'m').absolute())
    plain.load(f.with_suffix(''))
    assert same(state_of(learn), state_of(plain))
    learn.path = tmp_path
    learn.export('l.pkl')
    assert torch.equal(load_learner(tmp_path/'l.pkl').model.eval()(x), learn.model(x))
    copy.deepcopy(learn.model)

def test_the_head_learns():
    "After some epochs it tells the quarter by which an image is turned, well above one in four times."
    set_seed(0)
    learn = quiet(ssl_learner(core_dls(), IL[200:456], SMALL, ReMixMatch(ks=1, lambda_u=1.), bs=32, lr=1e-2))
    hits = []
    class Note(Callback):
        order,run_valid = 22,False
        def after_loss(self):
            m = self.learn.re_mix_match
            hits.append((m.head('rotation')[-32:].argmax(1)==self.turns).float().mean().item())
        def after_pred(self): self.turns = self.learn.yb[-1]
    learn.fit(12, cbs=Note())
    assert sum(hits[-16:])/16>.4 and sum(hits[:4])/4<.4, hits

def test_a_second_fit_goes_on():
    learn = method_learner(ReMixMatch(ks=1), 60)
    train(learn)
    nets,before = heads_of(learn).nets,copy.deepcopy(heads_of(learn).state_dict())
    train(learn)
    after = heads_of(learn).state_dict()
    assert heads_of(learn).nets is nets and not alike(dict(before['nets']), dict(after['nets']))
    heads_of(learn).load_state_dict(before)
    assert alike(dict(heads_of(learn).nets.state_dict()), dict(before['nets']))

def test_models_without_a_last_linear_layer():
    conv = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 8), nn.Flatten())
    with pytest.raises(ValueError, match='of 10 outputs.*without heads'): train(method_learner(ReMixMatch(ks=1), 60, arch=conv))
    train(method_learner(ReMixMatch(ks=1, rotation=0), 60, arch=conv))

def test_the_last_layer_is_the_one_that_runs_last():
    "However layers are registered: here the first one registered makes the logits."
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head,self.neck = nn.Linear(10, 10),nn.Linear(64, 10)
        def forward(self, x): return self.head(self.neck(x.flatten(1)).relu())
    net = Net()
    assert last_linear(net, torch.zeros(2, 1, 8, 8), 10)[0] is net.head and not net.head._forward_pre_hooks
    learn = method_learner(ReMixMatch(ks=1), 60, arch=net)
    train(learn)
    assert heads_of(learn).nets['rotation'].in_features==10

def test_heads_are_declared_and_asked():
    class Idle(PiModel): heads = dict(turn=4)
    class Unknown(PiModel):
        def losses(self, pred, y): return self.head('turn').mean(), pred.mean()
    with pytest.raises(RuntimeError, match=r"declares the head 'turn' and did not use it"): train(method_learner(Idle(), 60))
    with pytest.raises(AttributeError, match=r"uses the head 'turn', which it does not declare"): train(method_learner(Unknown(), 60))

def test_in_a_plain_learner():
    learn = quiet(Learner(core_dls(), SMALL(1, 10), loss_func=nn.CrossEntropyLoss(), cbs=ReMixMatch(Unlabeled(IL[200:264], bs=32), ks=1)))
    learn.fit(1)
    assert heads_of(learn).nets['rotation'].out_features==4

def test_heads_of_methods_in_turn():
    "Each method asks its own heads, whichever came last to the learner"
    class One(PiModel):
        heads = dict(turn=4)
        def losses(self, pred, y):
            assert self.head('turn').shape==(len(pred),4)
            return super().losses(pred, y)
    class Other(One): pass
    unlabeled = IL[520:580]
    learn,one,other = Learner(core_dls(), SMALL(1, 10)),One(unlabeled),Other(unlabeled)
    for o in (one, other, one): train(learn, cbs=o)
    nets = {cb.method: cb.nets for cb in learn.cbs if isinstance(cb, Heads)}
    assert {*nets}=={one,other} and nets[one] is not nets[other]

def test_heads_are_trained_as_the_last_group():
    "With its learning rates and its weight decay, which biases do not have: here no gradient moves the head."
    class Still(Supervised):
        heads = dict(turn=4)
        def losses(self, pred, y): return self.loss_x(pred[:len(y)], y) + 0*self.head('turn').sum(), pred.new_zeros(())
    class Note(Callback):
        order,run_valid = 22,False
        def before_fit(self): self.rates = []
        def before_step(self):
            if not self.rates: self.start = copy.deepcopy(heads_of(self.learn).nets['turn'])
            self.rates.append(self.opt.hypers[-1]['lr'])
    note = Note()
    learn = quiet(method_learner(Still(), 60, wd=.5, cbs=note))
    learn.fit_one_cycle(2, 1e-2)
    end,rates = heads_of(learn).nets['turn'],torch.tensor(note.rates, dtype=torch.float64)
    assert len(set(note.rates))>2
    torch.testing.assert_close(end.weight, note.start.weight*(1-.5*rates).prod().float())
    assert torch.equal(end.bias, note.start.bias) and note.start.bias.abs().min()>0

def test_heads_see_the_images_that_are_trained_on():
    "Not those of a guess, although it comes after the forward pass."
    sizes = []
    class Late(PiModel):
        heads = dict(turn=4)
        def losses(self, pred, y):
            self.guess(self.step.batch.weak[0])
            sizes.append((len(pred), len(self.head('turn'))))
            return super().losses(pred, y)
    train(method_learner(Late(), 60))
    assert sizes and all(a==b for a,b in sizes)

@pytest.mark.parametrize('event', ['after_backward', 'after_step', 'after_batch', 'after_epoch'])
def test_a_copy_of_the_network_in_the_middle_of_a_fit(event, tmp_path):
    "As of a callback that keeps the best one, or writes it"
    learn,kept = method_learner(ReMixMatch(ks=1), 60, arch=SMALL),[]
    class Keep(Callback): order = 30
    def keep(self):
        kept.append(copy.deepcopy(self.learn.model))
        torch.save(self.learn.model, tmp_path/'net.pt')
    setattr(Keep, event, keep)
    train(learn, cbs=Keep())
    kept.append(torch.load(tmp_path/'net.pt', weights_only=False))
    assert same(kept[-2].state_dict(), kept[-1].state_dict()) and (same(kept[-1].state_dict(), state_of(learn)) or event!='after_epoch')
    at = learn.heads.features
    for o in kept[-2:]:
        with torch.enable_grad(): o.train()(torch.rand(4, 1, 8, 8))
    assert learn.heads.features is at, 'the copy is not that network'
    train(learn, cbs=Callback(after_epoch=lambda self: save_predictor(self.learn, tmp_path/'p.safetensors')))
    load_predictor(tmp_path/'p.safetensors')

# --- mixed precision

def test_heads_under_mixed_precision():
    "Scaled by powers of two, a training is that without a scaler, which leaves out the same steps: heads get neither infinite nor wrongly scaled gradients"
    def run(*cbs):
        set_seed(3)
        learn = method_learner(ReMixMatch(ks=1), 60, cbs=cbs)
        return train(learn, 4)
    learn = run(CpuPrecision(init_scale=2.**104, growth_interval=2), Scaled())
    scales,_,skipped = zip(*learn.scaled.seen)
    assert 2<=sum(skipped)<len(skipped)//2 and len(set(scales))>2
    class Leave(Callback):
        order,run_valid = 10,False
        def before_backward(self): self.learn.loss_grad = self.loss_grad*2.**20 # As `CpuPrecision` does
        def before_step(self):
            if skipped[self.train_iter]: raise CancelStepException
    plain = run(Leave())
    assert same(state_of(learn), state_of(plain)) and alike(heads_of(learn).state_dict(), heads_of(plain).state_dict())

def test_a_head_that_overflows_alone():
    "Its step is left out and the scale halved, until its gradients are finite; the model steps meanwhile"
    class Apart(nn.Linear):
        def forward(self, x): return super().forward(x.detach())
    class Steep(Supervised):
        heads = dict(turn=lambda n: Apart(n, 4))
        def losses(self, pred, y): return self.loss_x(pred[:len(y)], y) + 2.**16*self.head('turn').square().mean(), pred.new_zeros(())
    moved = []
    class Note(Callback):
        run_valid = False
        def parts(self): return [torch.cat([p.detach().flatten() for p in o.parameters()]) for o in (self.model, heads_of(self.learn).nets)]
        def before_batch(self): self.was = self.parts()
        def after_batch(self): moved.append([not torch.equal(a, b) for a,b in zip(self.was, self.parts())])
    learn = train(method_learner(Steep(), 60, cbs=[CpuPrecision(init_scale=2.**95, growth_interval=1000), Scaled(), Note()]), 4)
    model,head = zip(*moved)
    scales,_,skipped = zip(*learn.scaled.seen)
    n = head.index(True)
    assert n>=2 and all(head[n:]) and all(model) and not any(skipped) and scales==tuple(2.**(95-min(i+1, n)) for i in range(len(scales)))
    assert all(p.isfinite().all() for p in heads_of(learn).nets.parameters())
