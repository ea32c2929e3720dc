"It learns: on handwritten digits with 20 labels, over five fixed seeds, held-out accuracy beats supervised training with as many steps."
import numpy as np, torch
from fastai.vision.all import set_seed
from fastai_mixmatch.all import Supervised, digits_lists, history, mixmatch_learner, small_cnn, ssl_learner

EPOCHS = 15

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
