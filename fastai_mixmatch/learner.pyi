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

    Parameters
    ----------
    dls
        Of the labeled images, with any batch size
    unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    method
        Such as `MixMatch()`, which is the default
    ema
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained
        Pretrained weights? For architecture functions and timm names
    weights
        Pretrained weights: file or state dict; default: downloaded
    model_args
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd
        Default weight decay; not on biases and norms
    loss_func
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics
        Metrics on the validation set
    opt_func
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter
        Parameter groups; default: those of `arch`
    cbs
        More callbacks
    checkpoint
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    bs
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache
        Keep decoded images in memory, also labeled and validation ones? Default: if they fit into 2 GB. Or a folder for the unlabeled ones
    on_error
        'raise' or 'skip' unreadable images
    steps
        Batches in an epoch; default: one pass
    weak
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    path
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir
        Subdirectory to save and load models
    wd_bn_bias
        Apply weight decay to normalization and bias parameters
    train_bn
        Train frozen normalization layers
    moms
        Default momentum for schedulers
    default_cbs
        Include default `Callback`s"""

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

    Parameters
    ----------
    dls
        Of the labeled images, with any batch size
    unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    k
        Views whose predictions are averaged for a guess
    T
        Temperature of sharpening
    alpha
        Mixing: λ ~ Beta(α, α); 0 for none
    adapt
        Count unlabeled images less until the network predicts the labeled ones well? False: the paper's step
    band
        With `adapt`: for 2, corrects classes guessed over twice, or under half, as often as labeled
    prior
        Class frequencies of unlabeled images: `(n_classes,)`, 'uniform' or 'labeled'; default: see `band`
    lambda_u
        Weight of the unlabeled loss; with `adapt` a tenth of it for each class beyond the first, at most all
    ramp
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache
        Keep decoded images in memory, also labeled and validation ones? Default: if they fit into 2 GB. Or a folder for the unlabeled ones
    on_error
        'raise' or 'skip' unreadable images
    steps
        Batches in an epoch; default: one pass
    weak
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained
        Pretrained weights? For architecture functions and timm names
    weights
        Pretrained weights: file or state dict; default: downloaded
    model_args
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd
        Default weight decay; not on biases and norms
    loss_func
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics
        Metrics on the validation set
    opt_func
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter
        Parameter groups; default: those of `arch`
    cbs
        More callbacks
    checkpoint
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir
        Subdirectory to save and load models
    wd_bn_bias
        Apply weight decay to normalization and bias parameters
    train_bn
        Train frozen normalization layers
    moms
        Default momentum for schedulers
    default_cbs
        Include default `Callback`s"""

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

    Parameters
    ----------
    dls
        Of the labeled images, with any batch size
    unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    ks
        Strong views of an unlabeled image
    T
        Temperature of sharpening
    alpha
        Mixing: λ ~ Beta(α, α)
    anchor
        Weight of the unmixed strong view
    rotation
        Weight of the rotation task, not ramped, and counted in `loss_x`; 0 for none
    momentum
        Weight of the old class frequencies of guesses in an update
    strong
        What makes strong views; default: `StrongView()`
    lambda_u
        Weight of the unlabeled loss
    ramp
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache
        Keep decoded images in memory, also labeled and validation ones? Default: if they fit into 2 GB. Or a folder for the unlabeled ones
    on_error
        'raise' or 'skip' unreadable images
    steps
        Batches in an epoch; default: one pass
    weak
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained
        Pretrained weights? For architecture functions and timm names
    weights
        Pretrained weights: file or state dict; default: downloaded
    model_args
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd
        Default weight decay; not on biases and norms
    loss_func
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics
        Metrics on the validation set
    opt_func
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter
        Parameter groups; default: those of `arch`
    cbs
        More callbacks
    checkpoint
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir
        Subdirectory to save and load models
    wd_bn_bias
        Apply weight decay to normalization and bias parameters
    train_bn
        Train frozen normalization layers
    moms
        Default momentum for schedulers
    default_cbs
        Include default `Callback`s"""

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

    Parameters
    ----------
    dls
        Of the labeled images, with any batch size
    unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    lambda_u
        Weight of the unlabeled loss
    ramp
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache
        Keep decoded images in memory, also labeled and validation ones? Default: if they fit into 2 GB. Or a folder for the unlabeled ones
    on_error
        'raise' or 'skip' unreadable images
    steps
        Batches in an epoch; default: one pass
    weak
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained
        Pretrained weights? For architecture functions and timm names
    weights
        Pretrained weights: file or state dict; default: downloaded
    model_args
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd
        Default weight decay; not on biases and norms
    loss_func
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics
        Metrics on the validation set
    opt_func
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter
        Parameter groups; default: those of `arch`
    cbs
        More callbacks
    checkpoint
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir
        Subdirectory to save and load models
    wd_bn_bias
        Apply weight decay to normalization and bias parameters
    train_bn
        Train frozen normalization layers
    moms
        Default momentum for schedulers
    default_cbs
        Include default `Callback`s"""

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

    Parameters
    ----------
    dls
        Of the labeled images, with any batch size
    unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    threshold
        Minimum confidence of a guess that is trained on
    ks
        Strong views; 0: learn on the weak view itself
    strong
        What makes strong views; default: `StrongView()`
    lambda_u
        Weight of the unlabeled loss
    ramp
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache
        Keep decoded images in memory, also labeled and validation ones? Default: if they fit into 2 GB. Or a folder for the unlabeled ones
    on_error
        'raise' or 'skip' unreadable images
    steps
        Batches in an epoch; default: one pass
    weak
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained
        Pretrained weights? For architecture functions and timm names
    weights
        Pretrained weights: file or state dict; default: downloaded
    model_args
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd
        Default weight decay; not on biases and norms
    loss_func
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics
        Metrics on the validation set
    opt_func
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter
        Parameter groups; default: those of `arch`
    cbs
        More callbacks
    checkpoint
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir
        Subdirectory to save and load models
    wd_bn_bias
        Apply weight decay to normalization and bias parameters
    train_bn
        Train frozen normalization layers
    moms
        Default momentum for schedulers
    default_cbs
        Include default `Callback`s"""

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

    Parameters
    ----------
    dls
        Of the labeled images, with any batch size
    unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    threshold
        Minimum confidence of a guess that is trained on
    ks
        Strong views; 0: learn on the weak view itself
    strong
        What makes strong views; default: `StrongView()`
    lambda_u
        Weight of the unlabeled loss
    ramp
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache
        Keep decoded images in memory, also labeled and validation ones? Default: if they fit into 2 GB. Or a folder for the unlabeled ones
    on_error
        'raise' or 'skip' unreadable images
    steps
        Batches in an epoch; default: one pass
    weak
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained
        Pretrained weights? For architecture functions and timm names
    weights
        Pretrained weights: file or state dict; default: downloaded
    model_args
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd
        Default weight decay; not on biases and norms
    loss_func
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics
        Metrics on the validation set
    opt_func
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter
        Parameter groups; default: those of `arch`
    cbs
        More callbacks
    checkpoint
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir
        Subdirectory to save and load models
    wd_bn_bias
        Apply weight decay to normalization and bias parameters
    train_bn
        Train frozen normalization layers
    moms
        Default momentum for schedulers
    default_cbs
        Include default `Callback`s"""

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

    Parameters
    ----------
    dls
        Of the labeled images, with any batch size
    unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    momentum
        Weight of the old averages in an update
    fairness
        Weight of the fairness loss, relative to that of the unlabeled loss
    clip
        Largest global threshold, such as 0.95; default: none
    ks
        Strong views; 0: learn on the weak view itself
    strong
        What makes strong views; default: `StrongView()`
    lambda_u
        Weight of the unlabeled loss
    ramp
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache
        Keep decoded images in memory, also labeled and validation ones? Default: if they fit into 2 GB. Or a folder for the unlabeled ones
    on_error
        'raise' or 'skip' unreadable images
    steps
        Batches in an epoch; default: one pass
    weak
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained
        Pretrained weights? For architecture functions and timm names
    weights
        Pretrained weights: file or state dict; default: downloaded
    model_args
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd
        Default weight decay; not on biases and norms
    loss_func
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics
        Metrics on the validation set
    opt_func
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter
        Parameter groups; default: those of `arch`
    cbs
        More callbacks
    checkpoint
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir
        Subdirectory to save and load models
    wd_bn_bias
        Apply weight decay to normalization and bias parameters
    train_bn
        Train frozen normalization layers
    moms
        Default momentum for schedulers
    default_cbs
        Include default `Callback`s"""

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

    Parameters
    ----------
    dls
        Of the labeled images, with any batch size
    unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    momentum
        Weight of the old averages in an update
    n_sigma
        The Gaussian's standard deviation is that of the confidence, divided by this
    uniform
        Align guesses to uniform class frequencies before their confidence is read?
    ks
        Strong views; 0: learn on the weak view itself
    strong
        What makes strong views; default: `StrongView()`
    lambda_u
        Weight of the unlabeled loss
    ramp
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache
        Keep decoded images in memory, also labeled and validation ones? Default: if they fit into 2 GB. Or a folder for the unlabeled ones
    on_error
        'raise' or 'skip' unreadable images
    steps
        Batches in an epoch; default: one pass
    weak
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained
        Pretrained weights? For architecture functions and timm names
    weights
        Pretrained weights: file or state dict; default: downloaded
    model_args
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd
        Default weight decay; not on biases and norms
    loss_func
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics
        Metrics on the validation set
    opt_func
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter
        Parameter groups; default: those of `arch`
    cbs
        More callbacks
    checkpoint
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir
        Subdirectory to save and load models
    wd_bn_bias
        Apply weight decay to normalization and bias parameters
    train_bn
        Train frozen normalization layers
    moms
        Default momentum for schedulers
    default_cbs
        Include default `Callback`s"""

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

    Parameters
    ----------
    dls
        Of the labeled images, with any batch size
    unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    threshold
        A guess counts if its confidence is at least this fraction of the mean confidence on labeled images
    interpolate
        Interpolate labeled logits with those of a batch of labeled images alone?
    ks
        Strong views; 0: learn on the weak view itself
    strong
        What makes strong views; default: `StrongView()`
    lambda_u
        Weight of the unlabeled loss
    ramp
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache
        Keep decoded images in memory, also labeled and validation ones? Default: if they fit into 2 GB. Or a folder for the unlabeled ones
    on_error
        'raise' or 'skip' unreadable images
    steps
        Batches in an epoch; default: one pass
    weak
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained
        Pretrained weights? For architecture functions and timm names
    weights
        Pretrained weights: file or state dict; default: downloaded
    model_args
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd
        Default weight decay; not on biases and norms
    loss_func
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics
        Metrics on the validation set
    opt_func
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter
        Parameter groups; default: those of `arch`
    cbs
        More callbacks
    checkpoint
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir
        Subdirectory to save and load models
    wd_bn_bias
        Apply weight decay to normalization and bias parameters
    train_bn
        Train frozen normalization layers
    moms
        Default momentum for schedulers
    default_cbs
        Include default `Callback`s"""

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

    Parameters
    ----------
    dls
        Of the labeled images, with any batch size
    unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    T
        Temperature of sharpening
    tsa
        Training-signal annealing: 'linear', 'log' or 'exp'
    threshold
        Minimum confidence of a guess that is trained on
    ks
        Strong views; 0: learn on the weak view itself
    strong
        What makes strong views; default: `StrongView()`
    lambda_u
        Weight of the unlabeled loss
    ramp
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache
        Keep decoded images in memory, also labeled and validation ones? Default: if they fit into 2 GB. Or a folder for the unlabeled ones
    on_error
        'raise' or 'skip' unreadable images
    steps
        Batches in an epoch; default: one pass
    weak
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained
        Pretrained weights? For architecture functions and timm names
    weights
        Pretrained weights: file or state dict; default: downloaded
    model_args
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd
        Default weight decay; not on biases and norms
    loss_func
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics
        Metrics on the validation set
    opt_func
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter
        Parameter groups; default: those of `arch`
    cbs
        More callbacks
    checkpoint
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir
        Subdirectory to save and load models
    wd_bn_bias
        Apply weight decay to normalization and bias parameters
    train_bn
        Train frozen normalization layers
    moms
        Default momentum for schedulers
    default_cbs
        Include default `Callback`s"""

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
