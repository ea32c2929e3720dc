# Written by tools/arguments.py from the code: for editors, which cannot see signatures made by a call.
from pathlib import Path
from typing import Any, Callable, Optional, Union
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastcore.foundation import L
from numpy import ndarray
from pandas import Series
from torch import Tensor
from torch.nn import Module
from torch.utils.data import Dataset
from .batch import Unlabeled
from .checkpoint import Checkpoint
from .ema import EMA
from .semi import SemiSupervised

def ssl_learner(
    dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ...,
    *,
    method: SemiSupervised | None = None,
    ema: float | EMA | None = 0.999,
    pretrained: bool = False,
    weights: str | Path | dict | None = None,
    model_args: dict | None = None,
    lr: float | None = None,
    wd: float = 0.02,
    loss_func: Optional[Callable] = None,
    metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ...,
    splitter: Optional[Callable] = None,
    cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    every: str = '5min',
    bs: int | None = None,
    mu: int | None = None,
    cache: bool | str | Path | None = None,
    on_error: str = 'raise',
    steps: int | None = None,
    weak: Union[Callable, bool, None] = None,
    path: str | Path | None = None,
    model_dir: str | Path = 'models',
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95),
    default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled`

    `help(ssl_learner)` says what each argument means"""

def mixmatch_learner(
    dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ...,
    *,
    k: int = 2,
    T: float = 0.5,
    alpha: float = 0.75,
    adapt: bool = True,
    band: float = 2.0,
    prior: str | list | Tensor | None = None,
    lambda_u: float = 75.0,
    ramp: float | int = 1.0,
    loss_x: Union[str, Callable] = 'ce',
    bs: int | None = None,
    mu: int | None = 1,
    cache: bool | str | Path | None = None,
    on_error: str = 'raise',
    steps: int | None = None,
    weak: Union[Callable, bool, None] = None,
    ema: float | EMA | None = 0.999,
    pretrained: bool = False,
    weights: str | Path | dict | None = None,
    model_args: dict | None = None,
    lr: float | None = None,
    wd: float = 0.02,
    loss_func: Optional[Callable] = None,
    metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ...,
    splitter: Optional[Callable] = None,
    cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    every: str = '5min',
    path: str | Path | None = None,
    model_dir: str | Path = 'models',
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95),
    default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with MixMatch (arXiv 1905.02249): guess, sharpen, mix

    `help(mixmatch_learner)` says what each argument means"""

def remixmatch_learner(
    dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ...,
    *,
    ks: int = 8,
    T: float = 0.5,
    alpha: float = 0.75,
    anchor: float = 0.5,
    rotation: float = 0.5,
    momentum: float = 0.9921875,
    strong: Optional[Callable] = None,
    lambda_u: float = 1.5,
    ramp: float | int = 0.015625,
    loss_x: Union[str, Callable] = 'ce',
    bs: int | None = None,
    mu: int | None = 1,
    cache: bool | str | Path | None = None,
    on_error: str = 'raise',
    steps: int | None = None,
    weak: Union[Callable, bool, None] = None,
    ema: float | EMA | None = 0.999,
    pretrained: bool = False,
    weights: str | Path | dict | None = None,
    model_args: dict | None = None,
    lr: float | None = None,
    wd: float = 0.02,
    loss_func: Optional[Callable] = None,
    metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ...,
    splitter: Optional[Callable] = None,
    cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    every: str = '5min',
    path: str | Path | None = None,
    model_dir: str | Path = 'models',
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95),
    default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with ReMixMatch (arXiv 1911.09785): MixMatch with distribution alignment, augmentation anchoring, and a rotation task

    `help(remixmatch_learner)` says what each argument means"""

def mean_teacher_learner(
    dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ...,
    *,
    lambda_u: float = 50.0,
    ramp: float | int = 0.4,
    loss_x: Union[str, Callable] = 'ce',
    bs: int | None = None,
    mu: int | None = 1,
    cache: bool | str | Path | None = None,
    on_error: str = 'raise',
    steps: int | None = None,
    weak: Union[Callable, bool, None] = None,
    ema: float | EMA | None = 0.999,
    pretrained: bool = False,
    weights: str | Path | dict | None = None,
    model_args: dict | None = None,
    lr: float | None = None,
    wd: float = 0.02,
    loss_func: Optional[Callable] = None,
    metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ...,
    splitter: Optional[Callable] = None,
    cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    every: str = '5min',
    path: str | Path | None = None,
    model_dir: str | Path = 'models',
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95),
    default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with Mean Teacher (arXiv 1703.01780): follow the average of the weights; needs the `EMA` callback

    `help(mean_teacher_learner)` says what each argument means"""

def fixmatch_learner(
    dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ...,
    *,
    threshold: float = 0.95,
    ks: int = 1,
    strong: Optional[Callable] = None,
    lambda_u: float = 1.0,
    ramp: float | int = 0,
    loss_x: Union[str, Callable] = 'ce',
    bs: int | None = None,
    mu: int | None = 7,
    cache: bool | str | Path | None = None,
    on_error: str = 'raise',
    steps: int | None = None,
    weak: Union[Callable, bool, None] = None,
    ema: float | EMA | None = 0.999,
    pretrained: bool = False,
    weights: str | Path | dict | None = None,
    model_args: dict | None = None,
    lr: float | None = None,
    wd: float = 0.02,
    loss_func: Optional[Callable] = None,
    metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ...,
    splitter: Optional[Callable] = None,
    cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    every: str = '5min',
    path: str | Path | None = None,
    model_dir: str | Path = 'models',
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95),
    default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with FixMatch (arXiv 2001.07685): guess on a weak view; learn confident guesses on a strong one

    `help(fixmatch_learner)` says what each argument means"""

def flexmatch_learner(
    dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ...,
    *,
    threshold: float = 0.95,
    ks: int = 1,
    strong: Optional[Callable] = None,
    lambda_u: float = 1.0,
    ramp: float | int = 0,
    loss_x: Union[str, Callable] = 'ce',
    bs: int | None = None,
    mu: int | None = 7,
    cache: bool | str | Path | None = None,
    on_error: str = 'raise',
    steps: int | None = None,
    weak: Union[Callable, bool, None] = None,
    ema: float | EMA | None = 0.999,
    pretrained: bool = False,
    weights: str | Path | dict | None = None,
    model_args: dict | None = None,
    lr: float | None = None,
    wd: float = 0.02,
    loss_func: Optional[Callable] = None,
    metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ...,
    splitter: Optional[Callable] = None,
    cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    every: str = '5min',
    path: str | Path | None = None,
    model_dir: str | Path = 'models',
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95),
    default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with FlexMatch (arXiv 2110.08263): FixMatch with a threshold for each class, lower while it is seldom guessed

    `help(flexmatch_learner)` says what each argument means"""

def freematch_learner(
    dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ...,
    *,
    momentum: float = 0.999,
    fairness: float = 0.001,
    clip: float | None = None,
    ks: int = 1,
    strong: Optional[Callable] = None,
    lambda_u: float = 1.0,
    ramp: float | int = 0,
    loss_x: Union[str, Callable] = 'ce',
    bs: int | None = None,
    mu: int | None = 7,
    cache: bool | str | Path | None = None,
    on_error: str = 'raise',
    steps: int | None = None,
    weak: Union[Callable, bool, None] = None,
    ema: float | EMA | None = 0.999,
    pretrained: bool = False,
    weights: str | Path | dict | None = None,
    model_args: dict | None = None,
    lr: float | None = None,
    wd: float = 0.02,
    loss_func: Optional[Callable] = None,
    metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ...,
    splitter: Optional[Callable] = None,
    cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    every: str = '5min',
    path: str | Path | None = None,
    model_dir: str | Path = 'models',
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95),
    default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with FreeMatch (arXiv 2205.07246): thresholds that follow the network's confidence, and a fairness loss

    `help(freematch_learner)` says what each argument means"""

def softmatch_learner(
    dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ...,
    *,
    momentum: float = 0.999,
    n_sigma: float = 2.0,
    uniform: bool = True,
    ks: int = 1,
    strong: Optional[Callable] = None,
    lambda_u: float = 1.0,
    ramp: float | int = 0,
    loss_x: Union[str, Callable] = 'ce',
    bs: int | None = None,
    mu: int | None = 7,
    cache: bool | str | Path | None = None,
    on_error: str = 'raise',
    steps: int | None = None,
    weak: Union[Callable, bool, None] = None,
    ema: float | EMA | None = 0.999,
    pretrained: bool = False,
    weights: str | Path | dict | None = None,
    model_args: dict | None = None,
    lr: float | None = None,
    wd: float = 0.02,
    loss_func: Optional[Callable] = None,
    metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ...,
    splitter: Optional[Callable] = None,
    cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    every: str = '5min',
    path: str | Path | None = None,
    model_dir: str | Path = 'models',
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95),
    default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with SoftMatch (arXiv 2301.10921): each guess is weighted by a Gaussian of its confidence, with no threshold

    `help(softmatch_learner)` says what each argument means"""

def adamatch_learner(
    dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ...,
    *,
    threshold: float = 0.9,
    interpolate: bool = True,
    ks: int = 1,
    strong: Optional[Callable] = None,
    lambda_u: float = 1.0,
    ramp: float | int = 0.5,
    loss_x: Union[str, Callable] = 'ce',
    bs: int | None = None,
    mu: int | None = 7,
    cache: bool | str | Path | None = None,
    on_error: str = 'raise',
    steps: int | None = None,
    weak: Union[Callable, bool, None] = None,
    ema: float | EMA | None = 0.999,
    pretrained: bool = False,
    weights: str | Path | dict | None = None,
    model_args: dict | None = None,
    lr: float | None = None,
    wd: float = 0.02,
    loss_func: Optional[Callable] = None,
    metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ...,
    splitter: Optional[Callable] = None,
    cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    every: str = '5min',
    path: str | Path | None = None,
    model_dir: str | Path = 'models',
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95),
    default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with AdaMatch (arXiv 2106.04732): guesses aligned to labeled predictions, and a threshold relative to their confidence

    `help(adamatch_learner)` says what each argument means"""

def uda_learner(
    dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ...,
    *,
    T: float = 0.4,
    tsa: str | None = None,
    threshold: float = 0.8,
    ks: int = 1,
    strong: Optional[Callable] = None,
    lambda_u: float = 1.0,
    ramp: float | int = 0,
    loss_x: Union[str, Callable] = 'ce',
    bs: int | None = None,
    mu: int | None = 7,
    cache: bool | str | Path | None = None,
    on_error: str = 'raise',
    steps: int | None = None,
    weak: Union[Callable, bool, None] = None,
    ema: float | EMA | None = 0.999,
    pretrained: bool = False,
    weights: str | Path | dict | None = None,
    model_args: dict | None = None,
    lr: float | None = None,
    wd: float = 0.02,
    loss_func: Optional[Callable] = None,
    metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ...,
    splitter: Optional[Callable] = None,
    cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    every: str = '5min',
    path: str | Path | None = None,
    model_dir: str | Path = 'models',
    wd_bn_bias: bool = False,
    train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95),
    default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with Unsupervised data augmentation (arXiv 1904.12848): FixMatch with soft, sharpened targets

    `help(uda_learner)` says what each argument means"""

def comments(o) -> Any: ...

def with_arguments(f: Callable, sources, doc: str, but=(), **defaults) -> Any: ...

def factory(method: type) -> Any: ...

class KeepNorm(Callback):
    r"""Batch norms keep their pretrained statistics"""

def linear_start(learn: Learner) -> Any: ...

def own_dls(dls, add_tfms: bool = False) -> Any: ...

def batch_channels(dls) -> Any: ...

class SemiSupervisedLearner(Learner):
    r"""A `Learner` whose callbacks tidy up however a fit ends"""

class NoBar:
    r"""A progress bar that draws nothing"""

def tell_epoch(m) -> Any: ...

class TidyProgress(ProgressCallback):
    r"""fastai's progress bars where they can be drawn, elsewhere a line of text an epoch"""
