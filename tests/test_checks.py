"What can be known before training is said before it, in one sentence."
import pytest, torch
from fastai.callback.mixup import CutMix, MixUp
from fastai.losses import CrossEntropyLossFlat, FocalLossFlat
from fastai_mixmatch.all import *
from helpers import IL, SMALL, X, core_dls, core_learner
from torch import nn

UX = X[200:230]
digit_dls,learner = core_dls,core_learner

class Count(nn.Module):
    "Counts forward passes with gradient: training steps"
    def __init__(self, model): super().__init__(); self.model,self.steps = model,0
    def forward(self, x): self.steps += torch.is_grad_enabled(); return self.model(x)

def refused(exc, *words, dls=None, unlabeled=None, n=(1, 10), model=None, **kw):
    "Making or fitting the learner raises exactly `exc`, with all `words`, before any training step"
    model = Count(model or SMALL(*n))
    with pytest.raises(exc) as e: learner(dls, UX if unlabeled is None else unlabeled, model, **kw).fit(1)
    assert e.type is exc and model.steps==0
    for w in words: assert str(w) in str(e.value), (w, str(e.value))

def test_batch_norm_over_one_image():
    dls = digit_dls()
    refused(ValueError, 'batch norm', 'larger batch', dls=dls, bs=1, k=1)
    refused(ValueError, 'batch norm', dls=dls, unlabeled=UX[:1], k=1)
    learner(dls, bs=1).fit(1)                                         # two views: two images
    learner(digit_dls(bs=1)).fit(1)
    learner(dls, arch=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), bs=1, k=1).fit(1)

LOSSES = dict(indices=(nn.NLLLoss(), 'fails: '), fastais=(CrossEntropyLossFlat(), 'fails: '), focal=(FocalLossFlat(), 'fails: '), each=(nn.CrossEntropyLoss(reduction='none'), r'gives torch.Size([1])'),
    number=(lambda p, y: 1., 'gives 1.0'), few=(labeled_loss(weight=[1., 2.]), '10 classes need as many weights'))
@pytest.mark.parametrize('name', LOSSES)
def test_labeled_losses_of_another_form(name):
    "Most losses take class indices, and these have probabilities"
    loss, words = LOSSES[name]
    refused(ValueError, '`loss_x` must make one number', '(B,10)', words, 'labeled_loss(weight=', loss_x=loss)

def test_a_labeled_loss_that_would_not_be_used():
    with pytest.raises(ValueError, match="tsa anneals cross entropy; loss_x must be 'ce'; got"): UDA(tsa='linear', loss_x='focal')
    assert UDA(loss_x='focal') and UDA(tsa='linear')

@pytest.mark.parametrize('n_out', [1, 9, 11])
def test_model_of_another_width(n_out): refused(ValueError, f'(1, {n_out})', '(1, 10)', 'one output for each class', n=(1, n_out))

def test_model_output_of_another_kind():
    class Two(nn.Module):
        def __init__(self): super().__init__(); self.m = SMALL(1, 10)
        def forward(self, x): return self.m(x), x
    refused(ValueError, 'tuple', '(1, 10)', model=Two())
    refused(ValueError, '(1, 10, 1)', '(1, 10)', model=nn.Sequential(SMALL(1, 10), nn.Unflatten(1, (10, 1))))

def test_two_methods_in_one_learner():
    refused(ValueError, 'a learner trains with one method; this one has FixMatch and MixMatch', 'Leave one out', cbs=FixMatch(IL[200:264]))
    learn = learner()
    with pytest.raises(ValueError, match='one method'): learn.add_cb(FixMatch(IL[200:264]))
    learn.fit(1)

@pytest.mark.parametrize('kw', [dict(bs=16.), dict(mu=2.), dict(steps=2.5), dict(bs='16'), dict(steps=0)])
def test_stream_settings_are_whole_numbers(kw):
    (k,v), = kw.items()
    for f in (Unlabeled, lambda **kw: learner(**kw)):
        with pytest.raises(ValueError, match=f"{k}, .* must be a whole number of at least 1; got {v!r}"): f(**kw)

def test_batch_size_is_given_once():
    "`mu` would do nothing beside `bs`"
    for f in (Unlabeled, lambda **kw: learner(**kw)):
        with pytest.raises(ValueError, match="give `bs` or `mu`.*'bs': 8, 'mu': 2"): f(bs=8, mu=2)

def test_learning_rate_of_zero_is_kept(): assert learner(lr=0).lr == 0

def test_settings_of_a_stream_without_images():
    with pytest.raises(ValueError, match=r'`unlabeled` is Unlabeled\(bs=3.*; pass a folder'): learner(unlabeled=Unlabeled(bs=3))

@pytest.mark.parametrize('cls', [MixUp, CutMix])
def test_callbacks_that_mix(cls): refused(ValueError, f'{cls.__name__} exchanges the images and labels of a batch', 'Leave it out', 'MixUpLabeled', cbs=cls())

def test_labels_of_torchvision_are_counted_as_they_are_trained():
    "`targets` are what stands in the files; `target_transform` says what is learned"
    from fastai_mixmatch.checks import label_indices
    from torchvision.datasets import FakeData
    ds = FakeData(6, (3, 8, 8), 3, target_transform=lambda y: 2-y)
    ds.targets = [2-ds[i][1] for i in range(6)]
    assert label_indices(ds)==[ds[i][1] for i in range(6)]!=ds.targets
