"""What a GPU asks for: no place mixes devices, and every method trains, on the fast path too, as on a CPU.

Where no GPU is to be seen, PyTorch's device without memory, `meta`, stands in while a learner is made, and the other
tests say why they are skipped.
"""
import pytest, torch
from fastai.vision.all import Normalize
from fastai_mixmatch.all import BatchViews, MixMatch, Supervised
from helpers import METHODS, UX, core_dls, core_learner, method_learner, quiet

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU to be seen; FASTAI_MIXMATCH_CUDA=0 shows one')

def test_a_learner_that_is_made_looks_at_images_on_the_device(monkeypatch):
    seen,views = set(),BatchViews.views
    monkeypatch.setattr(BatchViews, 'views', lambda self, x, k: seen.add(x.device.type) or views(self, x, k))
    dls = core_dls(batch_tfms=[Normalize.from_stats([.5], [.5], cuda=False)])
    dls.device = torch.device('meta')
    core_learner(dls, UX)
    assert seen=={'meta'}

def trained(learn, device='cuda'):
    learn.dls.to(device)
    quiet(learn).fit_one_cycle(2)
    assert all(p.device.type==device and p.isfinite().all() for p in learn.model.parameters())
    return learn

@cuda
@pytest.mark.parametrize('name', METHODS)
def test_every_method_trains(name): trained(method_learner(METHODS[name]()))

@cuda
def test_losses_are_those_of_the_cpu():
    "Without augmentation, for a GPU draws other views"
    a,b = [trained(method_learner(Supervised(), weak=False), o).recorder.losses[0].item() for o in ('cpu','cuda')]
    assert a==pytest.approx(b, rel=1e-3)

@cuda
@pytest.mark.parametrize('compile', (False, True, 'reduce-overhead'))
def test_fast_path(compile): trained(method_learner(MixMatch()).to_fast(compile=compile))

@cuda
def test_bfloat16_is_decided_where_a_fit_runs():
    "A learner is made, and `to_fast` called, while the network is still on the CPU"
    seen = set()
    learn = method_learner(MixMatch()).to_fast()
    conv = next(m for m in learn.model.modules() if isinstance(m, torch.nn.Conv2d))
    conv.register_forward_hook(lambda m, x, y: seen.add(y.dtype) if m.training else None)
    trained(learn)
    assert seen=={torch.bfloat16}
