"It learns: on handwritten digits with 20 labels, over five fixed seeds, held-out accuracy beats supervised training with as many steps."
import numpy as np, pytest, torch
from fastai.vision.all import set_seed
from fastai_mixmatch.all import *
from functools import partial
from helpers import method_of

EPOCHS = 15

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
            acc.append(learn.validate()[1])
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

@pytest.mark.parametrize('make', [lambda: MixMatch(), lambda: FixMatch(threshold=.6, ramp=.4), lambda: AdaMatch(), lambda: DeFixMatch(threshold=.6, ramp=.4),
    lambda: NoisyStudent(trained=teacher())], ids=['MixMatch','FixMatch','AdaMatch','DeFixMatch','NoisyStudent'])
def test_learns(make):
    "A short fit on 20 labels tells far more digits than chance, and the last guesses are better than the first."
    train,test = digits_lists()
    labeled,rest = train.split(20, seed=0)
    set_seed(0)
    learn = ssl_learner(labeled.dataloaders(test, bs=32), rest[:640], partial(small_cnn, width=16), make(), mu=2, ema=.99)
    with learn.no_logging(), learn.no_bar(): learn.fit_one_cycle(8, 5e-3)
    rows = learn.report.rows
    assert rows[-1]['accuracy']>max(.6, rows[0]['accuracy']+.2), [o['accuracy'] for o in rows]
    assert rows[-1]['guess_acc']>=rows[0]['guess_acc']-.02 and rows[-1]['loss_x']<rows[0]['loss_x']
    if isinstance(method_of(learn), NoisyStudent): assert rows[-1]['loss_u']<rows[0]['loss_u']

def teacher():
    "A network that has learned the labels alone"
    train,test = digits_lists()
    labeled,rest = train.split(20, seed=0)
    learn = ssl_learner(labeled.dataloaders(test, bs=32), rest[:320], partial(small_cnn, width=16), Supervised(), ema=None)
    with learn.no_logging(), learn.no_bar(): learn.fit_one_cycle(4, 5e-3)
    return learn.model
