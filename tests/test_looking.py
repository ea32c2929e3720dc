"What shows in a notebook while a learner trains: fastai's live plot draws our losses, with and without bars."
import pytest, sys
from fastai.callback import progress
from fastai.callback.progress import ShowGraphCallback
from fastai.vision.all import error_rate
from fastprogress.fastprogress import NBMasterBar, NBProgressBar
from fastai_mixmatch.all import *
from fastai_mixmatch.samples import digits_lists
from helpers import SMALL, forks, own_env

@pytest.mark.parametrize('bars', [False, True])
@pytest.mark.parametrize('method', [MixMatch, FixMatch])
def test_live_plot(method, bars, monkeypatch):
    graphs = []
    if bars:
        monkeypatch.setattr(sys.stdout, 'isatty', lambda: True) # As on a terminal
        monkeypatch.setattr(progress, 'master_bar', NBMasterBar)
        monkeypatch.setattr(progress, 'progress_bar', NBProgressBar)
        for o in ('show','on_iter_end'): monkeypatch.setattr(NBMasterBar, o, lambda self: None) # Outside of a notebook there is nothing to write to
        monkeypatch.setattr(NBMasterBar, 'update_graph', lambda self, o, *a: graphs.append([(len(x), len(y)) for x,y in o]))
    train,test = digits_lists(100)
    labeled,rest = train.split(20)
    learn = ssl_learner(labeled.dataloaders(test, bs=10), rest[:128], SMALL, method=method(), cbs=ShowGraphCallback(), bs=32)
    learn.fit(2)
    assert len(graphs)==2*bars
    for n,g in enumerate(graphs, 1): # Iterations and losses of training, and an average loss for each validation
        assert g==[(learn.train_iter//2*n,)*2, (n,n)]

def test_a_first_run_warns_of_nothing_that_cannot_be_mended(tmp_path):
    code = """
import numpy as np
from fastai.vision.all import *
from fastai_mixmatch.all import *
from fastai_mixmatch.samples import digits_lists
warnings.simplefilter('default') # What fastai and timm say when they are imported is not ours
train,test = digits_lists()
set_seed(0)
labeled,rest = train.split(100) # With 50, one draw of weights in about 30 is worth a warning
learn = mixmatch_learner(labeled.dataloaders(test, bs=25), rest, partial(small_cnn, width=16))
with learn.no_bar(): learn.fit_one_cycle(8)
"""
    r = forks().run('-W', 'ignore', '-c', code, env=own_env(), cwd=tmp_path)
    assert r.returncode==0, r.stderr
    ours = [o for o in r.stderr.splitlines() if 'Warning' in o]
    assert not ours, ours

def test_history_of_learners_with_other_metrics():
    "What all have is drawn; a column that one lacks is refused by name"
    train,test = digits_lists(60)
    labeled,rest = train.split(20)
    def fitted(**kw):
        learn = ssl_learner(labeled.dataloaders(test, bs=10), rest[:128], SMALL, bs=32, **kw)
        learn.fit(1)
        return learn
    wrong,none = fitted(metrics=error_rate),fitted(metrics=[], method=Supervised())
    assert plot_history(wrong)[0].get_ylabel()=='error_rate'
    for learns in (dict(a=wrong, b=none), dict(b=none, a=wrong)): assert plot_history(learns)[0].get_ylabel()=='valid_loss'
    with pytest.raises(ValueError, match="column of every results table, such as train_loss, valid_loss.*'error_rate'"):
        plot_history(dict(a=wrong, b=none), 'error_rate')
    axs = plot_history(dict(b=none, a=wrong)) # Only the second learner guesses: it has one color in both
    assert {o.get_color() for o in axs[1].lines}=={axs[0].lines[1].get_color()} and axs[1].get_ylabel()=='confidence, accuracy'
