"""What tests/test_distributed.py runs in each of two processes that are to differ.

    torchrun --nproc_per_node 2 tests/ranks_run.py FOLDER nothing images labels killed

Process 1 differs in each of these in turn; 'killed' and 'stopped' are done to it in training.
"""
import importlib, os, signal, sys
from pathlib import Path
from fastai.vision.all import (ActivationStats, BnFreeze, CancelFitException, Callback, CSVLogger, EarlyStoppingCallback, GradientAccumulation, GradientClip,
    PILImageBW, ReduceLROnPlateau, set_seed)
from fastai_mixmatch.all import *
from fastai_mixmatch.distributed import same_on_all

SIGNALS = dict(killed='SIGKILL', stopped='SIGSTOP')

class Strike(Callback):
    "Send this process a signal in its third step"
    def __init__(self, file, sig): self.file,self.sig = file,getattr(signal, sig)
    def before_batch(self):
        if not (self.learn.training and self.learn.train_iter==2): return
        self.file.touch()
        os.kill(os.getpid(), self.sig)

class Cancels(Callback):
    "Ends the fit after two steps"
    def before_batch(self):
        if self.learn.training and self.learn.train_iter==2: raise CancelFitException

class Noise(Callback):
    "A callback of the program"
    def __init__(self, strength): self.strength = strength

class Threshold(Callback): "A callback of the program with the name of a setting"

def callbacks(folder, what, rank):
    "Those of a process; what differs is as arguments of fastai's callbacks, or only one process has it"
    if what in SIGNALS: return Strike(folder/what, SIGNALS[what]) if rank else None
    return dict(accumulation=GradientAccumulation([8,16][rank]), clip=GradientClip([1.,.001][rank]), plateau=ReduceLROnPlateau(factor=[10,2][rank]),
        only=BnFreeze() if rank else None, early=None if rank else EarlyStoppingCallback(), canceled=Cancels() if rank else None, name=Threshold(),
        logs=[GradientClip(1.), Noise(rank)]+[CSVLogger(folder/'log.csv'), ActivationStats()]*(1-rank)).get(what)

def folders(folder, what, other):
    "Where a process keeps checkpoints, if at all"
    if what=='checkpoint': return None if other else folder/'only'
    if what in ('nothing','again'): return folder/'run'
    if what=='folder': return folder/('missing' if other else 'alone')
    if what!='file': return None
    if not other: return folder/'run'
    (folder/'empty').mkdir()
    (folder/'empty/lock').touch()
    return folder/'empty'

def learner(folder, rank, what):
    "A learner that differs in process 1"
    X,Y = digits_arrays()
    X,Y,other = X[:160].copy(),Y[:160].copy(),what if rank else ''
    if other=='images': X[90] = 0
    if other=='labels': Y[3] = (Y[3]+1)%10
    set_seed(rank if what not in ('nothing','again') else 0)
    il,n = ImageList.from_arrays(X, Y, img_cls=PILImageBW),100 if other=='number' else 160
    method = FixMatch(threshold=.9 if other=='name' else .95)
    return ssl_learner(il[:40].dataloaders(il[120:], bs=8), il[40:n], small_cnn, method=method, bs=16, cbs=callbacks(folder, what, rank),
                       checkpoint=folders(folder, what, other))

def numbers(rank):
    "What is said of values that differ by process, in turn"
    def said(**kw):
        try: same_on_all(kw)
        except RuntimeError as e: return str(e)
        return ''
    return '\n'.join(said(**o) for o in ({'globals.__main__.rank': rank}, {'globals.__main__.K': [rank+1]}, {'globals.__main__.rank': 1-rank}, {'lambda_u': rank}))

def main(folder, *whats):
    rank = int(os.environ['RANK'])
    importlib.import_module('fastai.distributed') # Gives a learner its `distrib_ctx`
    for what in whats:
        learn,lr = learner(folder, rank, what),3e-3 if rank and what=='lr' else 2e-3
        try:
            with learn.no_logging(), learn.distrib_ctx(sync_bn=False, cpu=True):
                if what=='numbers': said = numbers(rank)
                else:
                    learn.fit(1, lr)
                    said = f'{learn.train_iter} steps'
        except RuntimeError as e: said = str(e)
        (folder/f'{what} {rank}').write_text(said)
    os._exit(0) # Who is left alone doesn't wait for the other

if __name__=='__main__': main(Path(sys.argv[1]), *sys.argv[2:])
