"It learns: on handwritten digits with 20 labels, over five fixed seeds, held-out accuracy beats supervised training with as many steps."
import numpy as np, pytest, torch
from fastai.vision.all import set_seed
from fastai_mixmatch.all import *
from functools import partial
from helpers import method_of, validated

EPOCHS,SMALL = 15,partial(small_cnn, width=16)

@pytest.mark.nightly
def test_beats_supervised():
    train, test = digits_lists()
    better, gains = 0, []
    for seed in range(5):
        labeled, rest = train.split(20, seed=seed)
        dls = labeled.dataloaders(test, bs=64)
        acc = []
        for make in (lambda: ssl_learner(dls, rest, small_cnn, method=Supervised()), lambda: mixmatch_learner(dls, rest, small_cnn)):
            set_seed(seed)
            learn = make()
            with learn.no_logging(): learn.fit_one_cycle(EPOCHS)
            acc.append(validated(learn)['accuracy'])
        gains.append(acc[1]-acc[0])
        better += acc[1] > acc[0]
        h = history(learn)
        assert (h.loss_u > 0).all()
        assert h.guess_acc.iloc[-1] > 0.6 > h.guess_acc.iloc[0]
    assert better >= 4, gains
    assert np.mean(gains) > 0.05, gains

def test_unlabeled_loss_reaches_every_parameter():
    train, _ = digits_lists()
    labeled, rest = train.split(20)
    learn = mixmatch_learner(labeled.dataloaders(bs=64), rest, small_cnn)
    with learn.no_logging(): learn.fit_one_cycle(2)
    cb,model = learn.mix_match,learn.model.train()
    us,_ = cb.sample_views(64)
    q = torch.eye(10)[torch.randint(0, 10, (64,))]
    _,loss_u = cb.losses(model(torch.cat(us)), torch.zeros(0, 10), torch.cat([q]*cb.k))
    learn.zero_grad()
    loss_u.backward()
    assert loss_u > 0
    for name, p in model.named_parameters(): assert p.grad is not None and p.grad.abs().sum() > 0, name

# With the settings of the page on methods, where few guesses of a short training would count
EACH = dict(MixMatch=MixMatch, EntropyMin=partial(EntropyMin, lambda_u=10.), PiModel=PiModel, VAT=VAT, MeanTeacher=MeanTeacher, ICT=ICT,
    MixUpLabeled=MixUpLabeled, PseudoLabel=partial(PseudoLabel, threshold=.6), FixMatch=partial(FixMatch, threshold=.6, ramp=.4),
    UDA=partial(UDA, threshold=.6, ramp=.4), FlexMatch=partial(FlexMatch, threshold=.8, ramp=.4), FreeMatch=partial(FreeMatch, momentum=.95, ramp=.4),
    SoftMatch=partial(SoftMatch, momentum=.95, ramp=.4), AdaMatch=AdaMatch, DeFixMatch=partial(DeFixMatch, threshold=.6, ramp=.4),
    ReMixMatch=partial(ReMixMatch, ks=2, ramp=1.), NoisyStudent=lambda: NoisyStudent(trained=teacher()))

@pytest.mark.parametrize('name', EACH)
def test_learns(name):
    """A short fit on 20 labels tells far more digits than chance, and the last guesses are better than the first. The labels alone teach 80% in as many
    steps, and confident guesses on strong views more. The student's teacher has seen half of these steps"""
    train,test = digits_lists()
    labeled,rest = train.split(20, seed=0)
    set_seed(0)
    learn = ssl_learner(labeled.dataloaders(test, bs=32), rest[:640], SMALL, EACH[name](), mu=2, ema=.99)
    with learn.no_logging(), learn.no_bar(): learn.fit_one_cycle(8, 5e-3)
    rows,m = learn.report.rows,method_of(learn)
    least,loss = .6 if name=='NoisyStudent' else .81 if isinstance(m, Confident) and m.ks else .72,'loss_x' if m.guesses else 'train_loss'
    assert rows[-1]['accuracy']>max(least, rows[0]['accuracy']+.2), [o['accuracy'] for o in rows]
    assert rows[-1][loss]<rows[0][loss] and (not m.guesses or rows[-1]['guess_acc']>=rows[0]['guess_acc']-.02)
    if isinstance(m, NoisyStudent): assert rows[-1]['loss_u']<rows[0]['loss_u']

def teacher():
    "A network that has learned the labels alone"
    train,test = digits_lists()
    labeled,rest = train.split(20, seed=0)
    learn = ssl_learner(labeled.dataloaders(test, bs=32), rest[:320], SMALL, Supervised(), ema=None)
    with learn.no_logging(), learn.no_bar(): learn.fit_one_cycle(4, 5e-3)
    return learn.model
