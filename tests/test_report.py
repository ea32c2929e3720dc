"What a training tells: the results table, for people, files and graphs; how the guesses spread; what was left out."
import math, numpy as np, pandas as pd, pytest, torch
import matplotlib.pyplot as plt
from fastai.callback.all import CSVLogger, ShowGraphCallback
from fastai.callback.tensorboard import TensorBoardCallback
from fastai.vision.all import Callback, CategoryBlock, DataBlock, ImageBlock, IndexSplitter, PILImageBW
from fastai_mixmatch.all import *
from fastai_mixmatch.sources import class_name
from torch import nn
from helpers import IL, NAMES, SMALL, At, X, Y, core_dls, core_learner, from_folder, interrupt, method_learner, row_of, train

@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

def test_results_table(root):
    learn = core_learner()
    metrics = list(learn.metrics)
    learn.fit(2)
    assert list(learn.recorder.metric_names) == NAMES
    assert [len(v) for v in learn.recorder.values] == [8, 8]
    d = row_of(learn)
    assert 0 < d['loss_x'] and 0 < d['loss_u'] < 1 and .1 <= d['confidence'] <= 1 and 0 <= d['guess_acc'] <= 1
    assert len(learn.metrics) == 1 and learn.metrics[0] is metrics[0] and learn.recorder.metrics is learn.metrics
    assert dict(zip(NAMES[1:-1], learn.final_record, strict=True)) == d
    learn = core_learner(from_folder(root), root / 'unlabeled', bs=25)
    learn.fit(1)
    assert 'guess_acc' not in learn.recorder.metric_names and 'confidence' in learn.recorder.metric_names

def IL_str():
    il = ImageList.from_arrays(X, [str(y) for y in Y], img_cls=PILImageBW)
    return il[:200].split(20)[0].dataloaders(il[1700:1760], bs=20)

def test_guess_acc_is_that_of_the_guesses():
    "Also where only some unlabeled images have a label."
    hits = []
    labels = [str(y) if i % 2 else None for i, y in enumerate(Y[200:328])]
    un = ImageList.from_arrays(X[200:328], labels, img_cls=PILImageBW)
    learn = core_learner(IL_str(), un, lr=0.)
    class Note(Callback):
        order,run_valid = 25,False
        def after_loss(self):
            step = learn.mix_match.step
            known = step.batch.truth>=0
            hits.append((step.guess.argmax(1)==step.batch.truth)[known])
    learn.add_cb(Note())
    learn.fit(1)
    hits = torch.cat(hits)
    assert len(hits) == 64
    assert row_of(learn)['guess_acc'] == pytest.approx(hits.float().mean().item())

# --- fastai's loggers

def test_csv_logger():
    learn = core_learner()
    learn.fit(2, cbs=CSVLogger())
    df = pd.read_csv(learn.path / 'history.csv')
    assert list(df.columns) == NAMES and len(df) == 2 and df.loss_u.notna().all()

def test_csv_logger_after_an_interrupt():
    "In plain fastai the next fit logs to itself without end."
    learn = core_learner(noisy=True, cbs=CSVLogger())
    with pytest.raises(KeyboardInterrupt): learn.fit(2, cbs=At('after_loss', interrupt))
    learn.fit(2)
    assert len(learn.csv_logger.read_log()) == 2
    with learn.no_bar(): learn.fit(1)
    learn.fit(3)
    assert len(learn.csv_logger.read_log()) == 3

def test_show_graph(capsys):
    learn = core_learner(noisy=True, cbs=ShowGraphCallback())
    learn.fit(2)
    learn.lr_find(num_it=6, show_plot=False)
    assert learn.show_graph.nb_batches == [4, 8]

def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    learn = core_learner()
    learn.fit(2, cbs=TensorBoardCallback(tmp_path / 'tb', trace_model=True, log_preds=False))
    acc = EventAccumulator(str(tmp_path / 'tb')).Reload()
    assert {'train_loss', 'valid_loss', 'accuracy', 'loss_u', 'guess_acc'} <= set(acc.Tags()['scalars'])
    assert len(acc.Scalars('loss_u')) == 2

def test_tensorboard_with_predictions(tmp_path):
    learn = core_learner()
    learn.fit(1, cbs=TensorBoardCallback(tmp_path / 'tb', n_preds=4))
    plt.close('all')
    assert list((tmp_path / 'tb').iterdir())

# --- classes

def skewed(n=500, ratio=100, seed=0):
    "Unlabeled digits whose class frequencies fall by `ratio`"
    keep = np.random.default_rng(seed).random(len(Y)) < (1/ratio)**(Y/9)
    keep[:200] = False
    return IL[np.flatnonzero(keep)[:n]]

def test_imbalance_and_unknown_classes():
    "Labels of four classes only; unlabeled images of all ten, 100 to 1"
    il = IL[:200]
    il = il[[i for i in range(200) if Y[i]<4]].split(16)[0]
    il = ImageList(il.items, labels=il.labels, img_cls=PILImageBW)
    learn = train(mixmatch_learner(il.dataloaders(bs=16), skewed(), arch=SMALL), 3)
    rows,counts = learn.report.rows,learn.report.guess_counts
    assert all(math.isfinite(v) for r in rows for k,v in r.items() if k.startswith(('loss','lambda','conf')))
    assert len(counts)==3 and all(len(o)==4 and sum(o)==len(learn.mix_match.dl.pool) for o in counts)
    hist = guess_counts(learn)
    assert hist.shape==(3,4) and list(hist.columns)==['0','1','2','3'] and hist.sum(axis=1).eq(len(learn.mix_match.dl.pool)).all()

def test_classes_without_guesses_are_named():
    learn = mixmatch_learner(IL[:200].split(20)[0].dataloaders(bs=10), IL[200:400], arch=SMALL)
    class Blind(Callback):
        "Makes classes 3 and 7 impossible"
        order = 5
        def before_batch(self):
            with torch.no_grad(): self.learn.model[-1].bias[[3,7]] = -1e4
    learn.add_cb(Blind())
    learn.mix_match.adapt = False
    with pytest.warns(UserWarning, match=r'none of 200 guesses took class .*\b3\b.*\b7\b'): train(learn, 1)

# --- what methods say

def test_columns_of_a_method():
    "`mask_rate` is between 0 and 1, and the mean over the images of the epoch; two fits make two tables."
    learn,seen = method_learner(FixMatch(threshold=.3), n=60),[]
    class Note(Callback):
        order,run_valid = 25,False
        def after_loss(self): seen.append((self.learn.fix_match.step.guess.amax(1)>=.3).float().mean().item())
    train(learn, 2, cbs=Note())
    rows = learn.report.rows
    assert list(rows[0]) == [*NAMES[:-2], 'mask_rate', 'guess_acc'] and [o['epoch'] for o in rows] == [0, 1]
    n = len(seen)//2
    for r,o in zip(rows, (seen[:n], seen[n:])): assert r['mask_rate'] == pytest.approx(np.mean(o), abs=1e-6)
    train(learn)
    assert len(learn.report.rows) == len(learn.report.guess_counts) == 1

def test_notes_are_numbers_or_tensors():
    class Notes(PiModel):
        columns = 'one','two'
        def losses(self, pred, y):
            self.note(one=1, two=torch.tensor([1.,3.]))
            return super().losses(pred, y)
    row = train(method_learner(Notes(), n=60)).report.rows[-1]
    assert row['one'] == 1 and row['two'] == 2

def test_a_baseline_has_no_columns():
    learn = train(method_learner(Supervised(), n=60))
    assert list(learn.recorder.metric_names) == [*NAMES[:4], 'time'] and not learn.report.guess_counts
    assert learn.report.rows and all(list(o) == NAMES[:4] for o in learn.report.rows), 'a row of results has no losses of unlabeled images'

def test_metrics_on_training_batches():
    "`train_metrics` are those of the labeled images: with weights that stand still, of all of them, as often as each is seen."
    learn = core_learner(arch=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), lr=0., unlabeled=IL[200:264], weak=False, adapt=False, alpha=0.)
    learn.recorder.train_metrics,hits = True,[]
    class Note(Callback):
        order,run_valid = 60,False
        def after_batch(self): hits.append((self.pred.argmax(1)==self.y).float().mean().item())
    learn.fit(1, 0., cbs=Note())
    assert [*learn.recorder.metric_names] == ['epoch','train_loss','train_accuracy','valid_loss','valid_accuracy','time'], 'no column of the method stands there twice'
    row = row_of(learn)
    assert all(learn.report.rows[0][k] is not None for k in NAMES[4:-1]) and [o.name for o in learn.metrics] == ['accuracy']
    assert row['train_accuracy'] == pytest.approx(np.mean(hits)) and 0 <= row['valid_accuracy'] <= 1

def test_the_labeled_part_is_in_the_learner():
    "After the loss: 20 outputs, 20 labels as they were, and 20 views."
    shapes = []
    learn = core_learner(cbs=At('after_loss', lambda l: shapes.append((tuple(l.pred.shape), l.y.tolist(), tuple(l.x.shape))), order=30))
    learn.fit(1)
    (pred,y,x), = shapes
    assert pred == (20,10) and x == (20,1,8,8) and sorted(y) == sorted(Y[draw_labeled(Y[:200], 20)].tolist())

@pytest.mark.parametrize('key', ['loss_x','train_loss'])
def test_a_network_that_lost_what_it_learned_is_named(key):
    learn = method_learner(Supervised() if key=='train_loss' else MixMatch(), 60, arch=SMALL)
    def lost(*losses):
        learn.report.rows = [{key: o} for o in losses]
        return learn.report.lost()
    said, = lost(1.5, .0004, 3.5, 2.29)
    assert 'rose from 0.0004 to 2.3; guessing gives 2.3. Train again with a smaller learning rate' in said
    assert lost() == lost(2.3) == lost(2.5, 2.1) == lost(.01, 1.5) == lost(None) == [], 'no rows, one, learning, overfitting, unknown'
    train(learn, 2)
    assert learn.report.lost() == [], 'a real training'

def test_doubts_about_guesses():
    "Drift from the labels' frequencies and a weight near 0 are said once there are guesses enough; a given prior is believed."
    learn = core_learner(core_dls(n=100))
    learn.fit(1)
    learn.mix_match.class_counts = torch.full((10,), 10)
    report, even = learn.report, [100]*10
    def doubts(counts, weight=5.):
        report.guess_counts = [counts]
        report.sums['lambda_u'] = [weight, 1.]
        return report.doubts()
    assert doubts(even) == [] and doubts([9]*10) == [] and doubts([2]*9+[0]) == [], 'even, or too few to tell'
    drift, = doubts([400]+[66]*9)
    assert 'class 0 was guessed 4' in drift and 'prior' in drift
    missing, = doubts([0]+[111]*9)
    assert 'none of 999 guesses took class 0' in missing
    idle, = doubts(even, weight=.1)
    assert 'hardly counted: their weight was 0.1' in idle and 'of 67.5. ' in idle, 'with ten classes'
    learn.mix_match.adapt = False
    assert 'of 75. ' in doubts(even, weight=.1)[0]
    learn.mix_match.adapt, learn.mix_match.class_counts = True, torch.full((2,), 50)
    assert doubts([50]*2, weight=.2) == [] and 'of 7.5. ' in doubts([50]*2, weight=.1)[0], 'with two'
    drift, = doubts([320,80])
    assert 'class 0 was guessed 1.6' in drift and 'class 1 0.4 times' in drift, 'none of two classes can be guessed 1.75 times as often and more'
    learn.mix_match.class_counts = torch.full((3,), 5)
    assert doubts([60,16,14]) == [] and 'class 0 was guessed 2.3' in doubts([68,12,10])[0], 'a count of few classes varies less than its root'
    learn.mix_match.class_counts = torch.full((10,), 10)
    learn.opt.frozen_idx = 1
    assert doubts(even, weight=.1) == [], 'a warm-up of the head'
    learn.opt.frozen_idx = 0
    learn.mix_match.prior = 'uniform'
    assert doubts([400]+[66]*9) == []

def test_names_of_classes_are_safe_to_print(tmp_path):
    "As those of files: one could write on a terminal, or turn the direction of what follows"
    odd = ['a\x1b[31m', 'b\u202e', 'c', 'd\n']
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_x=lambda i: X[i], get_y=lambda i: odd[i%4], splitter=IndexSplitter(range(40, 60)))
    dls = block.dataloaders(list(range(60)), bs=10, num_workers=0)
    assert [class_name(dls, i) for i in range(4)]==['a\\x1b[31m','b\\u202e','c','d\\n'] and class_name(core_dls(), 3)=='3'
