"The methods of the page on own methods: they train. That with a projection head learns, each view feeds its branch, it resumes to the same bits, exports are plain."
import json
from pathlib import Path
import pytest, torch
from fastai.vision.all import Callback, load_learner, set_seed
from fastai_mixmatch.all import Batch, Step, StrongView, Supervised, WeakView, digits_lists, load_predictor, save_predictor, small_cnn, ssl_learner
from fastai_mixmatch.heads import Heads
from helpers import validated
from torch import nn

root = Path(__file__).resolve().parent.parent

def from_page(name, known={}):
    "Class `name` as the page defines it; `known` are classes that it needs"
    nb = json.loads((root/'nbs/tutorials/06_your_own_method.ipynb').read_text(encoding='utf-8'))
    source, = [s for c in nb['cells'] if c['cell_type'] == 'code' and (s := ''.join(c['source'])).startswith(f'class {name}(')]
    ns = {'__name__': __name__, **known}
    exec('from fastai.vision.all import *; from fastai_mixmatch.all import *', ns)
    exec(compile(source, f'{name} of the page', 'exec'), ns)
    return ns[name], source

SimMatch, source = from_page('SimMatch')

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

def make(method, seed=0, n=None, **kw):
    train, test = digits_lists()
    labeled, rest = train.split(20, seed=seed)
    set_seed(seed)
    return ssl_learner(labeled.dataloaders(test, bs=32, batch_tfms=WeakView()), rest[:n], small_cnn, method=method, bs=64, lr=4e-3, **kw)

def fit(learn, epochs, **kw):
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, **kw)
    return learn

def own(**kw): return SimMatch(strong=StrongView(cutout=.25), **kw)

def test_each_class_of_the_page_trains():
    "The page runs by night; its averages and its columns are used here, too"
    ns = {}
    for name in ('Sure','SureAt','Follow','Watched'): ns[name] = from_page(name, ns)[0]
    learns = {k: fit(make(f(), n=640), 4) for k,f in ns.items()}
    for o in learns.values(): assert all(0<=r['mask_rate']<=1 for r in o.report.rows) and any(r['loss_u']>0 for r in o.report.rows)
    levels = [o['level'] for o in learns['Watched'].report.rows]
    assert 0.1<levels[0]<levels[-1]<1 and learns['Watched'].watched.learned.level==learns['Follow'].follow.learned.level
    Forgot = type('Forgot', (ns['Follow'],), dict(columns=(*ns['Follow'].columns,'level')))
    with pytest.raises(Exception, match='did not use it'): fit(make(Forgot(), n=128), 1)
    Strong = type('Strong', (ns['Watched'],), dict(ks=1))
    assert fit(make(Strong(strong=StrongView(cutout=.25)), n=128), 1).report.rows

def test_short(): assert len(source.strip().splitlines()) <= 30

@pytest.mark.nightly
def test_learns():
    gains = []
    for seed in range(2):
        base, ours = [validated(fit(make(m, seed), 10))['accuracy'] for m in (Supervised(), own())]
        gains.append(ours-base)
    assert min(gains) > 0 and sum(gains)/len(gains) > .05, gains

def test_each_view_feeds_its_branch():
    learn = make(own(lambda_in=.5), n=64)
    seen = {}
    class Look(Callback):
        order = 22 # After the method and its report
        def after_batch(self):
            if not seen: seen.update(vars(learn.sim_match.step.batch))
    fit(learn, 1, cbs=Look())
    m, heads, model = learn.sim_match, learn.heads, learn.model.train()
    for o in model.modules():
        if isinstance(o, nn.modules.batchnorm._BatchNorm): o.eval() # Statistics of a batch would mix the views
    heads.before_fit()
    m.before_fit()
    def step(**changed):
        m.forget()
        m.step = Step(Batch(**{**seen, **changed}))
        xb, yb = m.make_batch(m.step.batch)
        xb = xb.clone().requires_grad_()
        loss_x, loss_u = m.losses(model(xb), *yb)
        sizes = [len(m.step.batch.x), 64, 64]
        return m.step.guess, loss_u, [g.abs().sum() for g in torch.autograd.grad(loss_u, xb)[0].split(sizes)]
    guess, loss, (x, weak, strong) = step()
    assert x == weak == 0 < strong
    flip = lambda o: (o[0].flip(-1),)
    other, loss_s, _ = step(strong=flip(seen['strong']))
    assert (other == guess).all() and loss_s != loss
    other, loss_w, _ = step(weak=flip(seen['weak']))
    assert (other != guess).any() and loss_w != loss
    assert step(x=seen['x'].flip(0))[1] != loss # Neighbors with wrong labels

class Stop(Callback):
    order, in_checkpoint = 2000, False
    def after_batch(self):
        if self.learn.training and self.learn.train_iter == 7: raise KeyboardInterrupt

def result(learn):
    m = learn.sim_match
    return [*learn.model.state_dict().values(), *learn.heads.nets.state_dict().values(), m.learned.p_u, *[torch.tensor(o['loss_u']) for o in learn.report.rows]]

def test_killed_and_continued():
    "The same weights, head, average and results table, bit by bit"
    whole = result(fit(make(own(), n=128), 4))
    with pytest.raises(KeyboardInterrupt): fit(make(own(), n=128, checkpoint='cp', every='3 steps'), 4, cbs=Stop())
    assert list(Path('cp').glob('fit*.pt'))
    again = result(fit(make(own(), n=128, checkpoint='cp', every='3 steps'), 4))
    assert len(whole) == len(again) and all(torch.equal(a, b) for a, b in zip(whole, again))

def test_exports_are_plain():
    learn, plain = fit(make(own(), n=128), 1), make(Supervised(), n=128)
    assert {k: v.shape for k, v in learn.model.state_dict().items()} == {k: v.shape for k, v in plain.model.state_dict().items()}
    plain.model.load_state_dict(learn.model.state_dict())
    items = list(digits_lists()[1].items[:8])
    save_predictor(learn, 'own.safetensors')
    save_predictor(plain, 'plain.safetensors')
    own_probs, plain_probs = [load_predictor(o).probs(items) for o in ('own.safetensors', 'plain.safetensors')]
    assert torch.equal(own_probs, plain_probs)
    learn.export('own.pkl')
    again = load_learner('own.pkl')
    assert not any(isinstance(o, Heads) and o.hook is not None for o in again.cbs)
    assert torch.allclose(again.get_preds(dl=learn.dls.valid)[0], plain.get_preds(dl=plain.dls.valid)[0], atol=1e-6)
