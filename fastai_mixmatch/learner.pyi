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

def ssl_learner(dls: DataLoaders, unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ..., *, method: SemiSupervised | None = None,
    ema: float | EMA | None = 0.999, pretrained: bool = False, weights: str | Path | dict | None = None,
    model_args: dict | None = None, lr: float | None = None, wd: float = 0.02,
    loss_func: Optional[Callable] = None, metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ..., splitter: Optional[Callable] = None, cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None, every: str = '5min', bs: int | None = None,
    mu: int | None = None, cache: bool | str | Path | None = None, on_error: str = 'raise',
    steps: int | None = None, weak: Union[Callable, bool, None] = None, path: str | Path | None = None,
    model_dir: str | Path = 'models', wd_bn_bias: bool = False, train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95), default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled`

    Parameters
    ----------
    dls : fastai.data.core.DataLoaders
        Of the labeled images, with any batch size
    unlabeled : str | pathlib.Path | list | fastcore.foundation.L | pandas.Series | torch.utils.data.dataset.Dataset | numpy.ndarray | fastai_mixmatch.batch.Unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch : Union[Callable, torch.nn.modules.module.Module, str]
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    method : fastai_mixmatch.semi.SemiSupervised | None
        Such as `MixMatch()`, which is the default
    ema : float | fastai_mixmatch.ema.EMA | None
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained : bool
        Pretrained weights? For architecture functions and timm names
    weights : str | pathlib.Path | dict | None
        Pretrained weights: file or state dict; default: downloaded
    model_args : dict | None
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr : float | None
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd : float
        Default weight decay; not on biases and norms
    loss_func : Optional[Callable]
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics : Union[Callable, list, NoneType]
        Metrics on the validation set
    opt_func : Callable
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter : Optional[Callable]
        Parameter groups; default: those of `arch`
    cbs : fastai.callback.core.Callback | list | None
        More callbacks
    checkpoint : str | pathlib.Path | fastai_mixmatch.checkpoint.Checkpoint | None
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every : str
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    bs : int | None
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu : int | None
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache : bool | str | pathlib.Path | None
        Keep decoded images, labeled and validation ones too, in memory? Default: where they fit. A folder: the unlabeled ones there
    on_error : str
        'raise' or 'skip' unreadable images
    steps : int | None
        Batches in an epoch; default: one pass
    weak : Union[Callable, bool, NoneType]
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    path : str | pathlib.Path | None
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir : str | pathlib.Path
        Subdirectory to save and load models
    wd_bn_bias : bool
        Apply weight decay to normalization and bias parameters
    train_bn : bool
        Train frozen normalization layers
    moms : tuple
        Default momentum for schedulers
    default_cbs : bool
        Include default `Callback`s"""

def mixmatch_learner(dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ..., *, k: int = 2, T: float = 0.5, alpha: float = 0.75,
    adapt: bool = True, band: float = 2.0, prior: str | list | Tensor | None = None, lambda_u: float = 75.0,
    ramp: float | int = 1.0, loss_x: Union[str, Callable] = 'ce', bs: int | None = None, mu: int | None = 1,
    cache: bool | str | Path | None = None, on_error: str = 'raise', steps: int | None = None,
    weak: Union[Callable, bool, None] = None, ema: float | EMA | None = 0.999, pretrained: bool = False,
    weights: str | Path | dict | None = None, model_args: dict | None = None, lr: float | None = None,
    wd: float = 0.02, loss_func: Optional[Callable] = None, metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ..., splitter: Optional[Callable] = None, cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None, every: str = '5min', path: str | Path | None = None,
    model_dir: str | Path = 'models', wd_bn_bias: bool = False, train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95), default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with MixMatch (arXiv 1905.02249): guess, sharpen, mix

    Parameters
    ----------
    dls : fastai.data.core.DataLoaders
        Of the labeled images, with any batch size
    unlabeled : str | pathlib.Path | list | fastcore.foundation.L | pandas.Series | torch.utils.data.dataset.Dataset | numpy.ndarray | fastai_mixmatch.batch.Unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch : Union[Callable, torch.nn.modules.module.Module, str]
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    k : int
        Views whose predictions are averaged for a guess
    T : float
        Temperature of sharpening
    alpha : float
        Mixing: λ ~ Beta(α, α); 0 for none
    adapt : bool
        Weigh unlabeled images by how well the labeled ones are learned? False: the paper's step
    band : float
        With `adapt`: largest ratio of guessed to labeled class frequency, and of the inverse
    prior : str | list | torch.Tensor | None
        Class frequencies of unlabeled images: `(n_classes,)`, 'uniform' or 'labeled'; default: see `band`
    lambda_u : float
        Weight of the unlabeled loss; with `adapt` a tenth of it for each class beyond the first, at most all
    ramp : float | int
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x : Union[str, Callable]
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs : int | None
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu : int | None
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache : bool | str | pathlib.Path | None
        Keep decoded images, labeled and validation ones too, in memory? Default: where they fit. A folder: the unlabeled ones there
    on_error : str
        'raise' or 'skip' unreadable images
    steps : int | None
        Batches in an epoch; default: one pass
    weak : Union[Callable, bool, NoneType]
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema : float | fastai_mixmatch.ema.EMA | None
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained : bool
        Pretrained weights? For architecture functions and timm names
    weights : str | pathlib.Path | dict | None
        Pretrained weights: file or state dict; default: downloaded
    model_args : dict | None
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr : float | None
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd : float
        Default weight decay; not on biases and norms
    loss_func : Optional[Callable]
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics : Union[Callable, list, NoneType]
        Metrics on the validation set
    opt_func : Callable
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter : Optional[Callable]
        Parameter groups; default: those of `arch`
    cbs : fastai.callback.core.Callback | list | None
        More callbacks
    checkpoint : str | pathlib.Path | fastai_mixmatch.checkpoint.Checkpoint | None
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every : str
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path : str | pathlib.Path | None
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir : str | pathlib.Path
        Subdirectory to save and load models
    wd_bn_bias : bool
        Apply weight decay to normalization and bias parameters
    train_bn : bool
        Train frozen normalization layers
    moms : tuple
        Default momentum for schedulers
    default_cbs : bool
        Include default `Callback`s"""

def remixmatch_learner(dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ..., *, ks: int = 8, T: float = 0.5, alpha: float = 0.75,
    anchor: float = 0.5, rotation: float = 0.5, momentum: float = 0.9921875,
    strong: Optional[Callable] = None, lambda_u: float = 1.5, ramp: float | int = 0.015625,
    loss_x: Union[str, Callable] = 'ce', bs: int | None = None, mu: int | None = 1,
    cache: bool | str | Path | None = None, on_error: str = 'raise', steps: int | None = None,
    weak: Union[Callable, bool, None] = None, ema: float | EMA | None = 0.999, pretrained: bool = False,
    weights: str | Path | dict | None = None, model_args: dict | None = None, lr: float | None = None,
    wd: float = 0.02, loss_func: Optional[Callable] = None, metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ..., splitter: Optional[Callable] = None, cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None, every: str = '5min', path: str | Path | None = None,
    model_dir: str | Path = 'models', wd_bn_bias: bool = False, train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95), default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with ReMixMatch (arXiv 1911.09785): MixMatch with distribution alignment, augmentation anchoring, and a rotation task

    Parameters
    ----------
    dls : fastai.data.core.DataLoaders
        Of the labeled images, with any batch size
    unlabeled : str | pathlib.Path | list | fastcore.foundation.L | pandas.Series | torch.utils.data.dataset.Dataset | numpy.ndarray | fastai_mixmatch.batch.Unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch : Union[Callable, torch.nn.modules.module.Module, str]
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    ks : int
        Strong views of an unlabeled image
    T : float
        Temperature of sharpening
    alpha : float
        Mixing: λ ~ Beta(α, α)
    anchor : float
        Weight of the unmixed strong view
    rotation : float
        Weight of the rotation task, not ramped, and counted in `loss_x`; 0 for none
    momentum : float
        Weight of the old class frequencies of guesses in an update
    strong : Optional[Callable]
        What makes strong views; default: `StrongView()`
    lambda_u : float
        Weight of the unlabeled loss
    ramp : float | int
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x : Union[str, Callable]
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs : int | None
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu : int | None
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache : bool | str | pathlib.Path | None
        Keep decoded images, labeled and validation ones too, in memory? Default: where they fit. A folder: the unlabeled ones there
    on_error : str
        'raise' or 'skip' unreadable images
    steps : int | None
        Batches in an epoch; default: one pass
    weak : Union[Callable, bool, NoneType]
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema : float | fastai_mixmatch.ema.EMA | None
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained : bool
        Pretrained weights? For architecture functions and timm names
    weights : str | pathlib.Path | dict | None
        Pretrained weights: file or state dict; default: downloaded
    model_args : dict | None
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr : float | None
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd : float
        Default weight decay; not on biases and norms
    loss_func : Optional[Callable]
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics : Union[Callable, list, NoneType]
        Metrics on the validation set
    opt_func : Callable
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter : Optional[Callable]
        Parameter groups; default: those of `arch`
    cbs : fastai.callback.core.Callback | list | None
        More callbacks
    checkpoint : str | pathlib.Path | fastai_mixmatch.checkpoint.Checkpoint | None
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every : str
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path : str | pathlib.Path | None
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir : str | pathlib.Path
        Subdirectory to save and load models
    wd_bn_bias : bool
        Apply weight decay to normalization and bias parameters
    train_bn : bool
        Train frozen normalization layers
    moms : tuple
        Default momentum for schedulers
    default_cbs : bool
        Include default `Callback`s"""

def mean_teacher_learner(dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ..., *, lambda_u: float = 50.0, ramp: float | int = 0.4,
    loss_x: Union[str, Callable] = 'ce', bs: int | None = None, mu: int | None = 1,
    cache: bool | str | Path | None = None, on_error: str = 'raise', steps: int | None = None,
    weak: Union[Callable, bool, None] = None, ema: float | EMA | None = 0.999, pretrained: bool = False,
    weights: str | Path | dict | None = None, model_args: dict | None = None, lr: float | None = None,
    wd: float = 0.02, loss_func: Optional[Callable] = None, metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ..., splitter: Optional[Callable] = None, cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None, every: str = '5min', path: str | Path | None = None,
    model_dir: str | Path = 'models', wd_bn_bias: bool = False, train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95), default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with Mean Teacher (arXiv 1703.01780): follow the average of the weights; needs the `EMA` callback

    Parameters
    ----------
    dls : fastai.data.core.DataLoaders
        Of the labeled images, with any batch size
    unlabeled : str | pathlib.Path | list | fastcore.foundation.L | pandas.Series | torch.utils.data.dataset.Dataset | numpy.ndarray | fastai_mixmatch.batch.Unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch : Union[Callable, torch.nn.modules.module.Module, str]
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    lambda_u : float
        Weight of the unlabeled loss
    ramp : float | int
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x : Union[str, Callable]
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs : int | None
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu : int | None
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache : bool | str | pathlib.Path | None
        Keep decoded images, labeled and validation ones too, in memory? Default: where they fit. A folder: the unlabeled ones there
    on_error : str
        'raise' or 'skip' unreadable images
    steps : int | None
        Batches in an epoch; default: one pass
    weak : Union[Callable, bool, NoneType]
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema : float | fastai_mixmatch.ema.EMA | None
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained : bool
        Pretrained weights? For architecture functions and timm names
    weights : str | pathlib.Path | dict | None
        Pretrained weights: file or state dict; default: downloaded
    model_args : dict | None
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr : float | None
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd : float
        Default weight decay; not on biases and norms
    loss_func : Optional[Callable]
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics : Union[Callable, list, NoneType]
        Metrics on the validation set
    opt_func : Callable
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter : Optional[Callable]
        Parameter groups; default: those of `arch`
    cbs : fastai.callback.core.Callback | list | None
        More callbacks
    checkpoint : str | pathlib.Path | fastai_mixmatch.checkpoint.Checkpoint | None
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every : str
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path : str | pathlib.Path | None
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir : str | pathlib.Path
        Subdirectory to save and load models
    wd_bn_bias : bool
        Apply weight decay to normalization and bias parameters
    train_bn : bool
        Train frozen normalization layers
    moms : tuple
        Default momentum for schedulers
    default_cbs : bool
        Include default `Callback`s"""

def fixmatch_learner(dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ..., *, threshold: float = 0.95, ks: int = 1,
    strong: Optional[Callable] = None, lambda_u: float = 1.0, ramp: float | int = 0,
    loss_x: Union[str, Callable] = 'ce', bs: int | None = None, mu: int | None = 7,
    cache: bool | str | Path | None = None, on_error: str = 'raise', steps: int | None = None,
    weak: Union[Callable, bool, None] = None, ema: float | EMA | None = 0.999, pretrained: bool = False,
    weights: str | Path | dict | None = None, model_args: dict | None = None, lr: float | None = None,
    wd: float = 0.02, loss_func: Optional[Callable] = None, metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ..., splitter: Optional[Callable] = None, cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None, every: str = '5min', path: str | Path | None = None,
    model_dir: str | Path = 'models', wd_bn_bias: bool = False, train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95), default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with FixMatch (arXiv 2001.07685): guess on a weak view; learn confident guesses on a strong one

    Parameters
    ----------
    dls : fastai.data.core.DataLoaders
        Of the labeled images, with any batch size
    unlabeled : str | pathlib.Path | list | fastcore.foundation.L | pandas.Series | torch.utils.data.dataset.Dataset | numpy.ndarray | fastai_mixmatch.batch.Unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch : Union[Callable, torch.nn.modules.module.Module, str]
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    threshold : float
        Least confidence of a guess that counts
    ks : int
        Strong views; 0: learn on the weak view itself
    strong : Optional[Callable]
        What makes strong views; default: `StrongView()`
    lambda_u : float
        Weight of the unlabeled loss
    ramp : float | int
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x : Union[str, Callable]
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs : int | None
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu : int | None
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache : bool | str | pathlib.Path | None
        Keep decoded images, labeled and validation ones too, in memory? Default: where they fit. A folder: the unlabeled ones there
    on_error : str
        'raise' or 'skip' unreadable images
    steps : int | None
        Batches in an epoch; default: one pass
    weak : Union[Callable, bool, NoneType]
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema : float | fastai_mixmatch.ema.EMA | None
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained : bool
        Pretrained weights? For architecture functions and timm names
    weights : str | pathlib.Path | dict | None
        Pretrained weights: file or state dict; default: downloaded
    model_args : dict | None
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr : float | None
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd : float
        Default weight decay; not on biases and norms
    loss_func : Optional[Callable]
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics : Union[Callable, list, NoneType]
        Metrics on the validation set
    opt_func : Callable
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter : Optional[Callable]
        Parameter groups; default: those of `arch`
    cbs : fastai.callback.core.Callback | list | None
        More callbacks
    checkpoint : str | pathlib.Path | fastai_mixmatch.checkpoint.Checkpoint | None
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every : str
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path : str | pathlib.Path | None
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir : str | pathlib.Path
        Subdirectory to save and load models
    wd_bn_bias : bool
        Apply weight decay to normalization and bias parameters
    train_bn : bool
        Train frozen normalization layers
    moms : tuple
        Default momentum for schedulers
    default_cbs : bool
        Include default `Callback`s"""

def flexmatch_learner(dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ..., *, threshold: float = 0.95, ks: int = 1,
    strong: Optional[Callable] = None, lambda_u: float = 1.0, ramp: float | int = 0,
    loss_x: Union[str, Callable] = 'ce', bs: int | None = None, mu: int | None = 7,
    cache: bool | str | Path | None = None, on_error: str = 'raise', steps: int | None = None,
    weak: Union[Callable, bool, None] = None, ema: float | EMA | None = 0.999, pretrained: bool = False,
    weights: str | Path | dict | None = None, model_args: dict | None = None, lr: float | None = None,
    wd: float = 0.02, loss_func: Optional[Callable] = None, metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ..., splitter: Optional[Callable] = None, cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None, every: str = '5min', path: str | Path | None = None,
    model_dir: str | Path = 'models', wd_bn_bias: bool = False, train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95), default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with FlexMatch (arXiv 2110.08263): FixMatch with a threshold for each class, lower while it is seldom guessed

    Parameters
    ----------
    dls : fastai.data.core.DataLoaders
        Of the labeled images, with any batch size
    unlabeled : str | pathlib.Path | list | fastcore.foundation.L | pandas.Series | torch.utils.data.dataset.Dataset | numpy.ndarray | fastai_mixmatch.batch.Unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch : Union[Callable, torch.nn.modules.module.Module, str]
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    threshold : float
        Least confidence of a guess that counts
    ks : int
        Strong views; 0: learn on the weak view itself
    strong : Optional[Callable]
        What makes strong views; default: `StrongView()`
    lambda_u : float
        Weight of the unlabeled loss
    ramp : float | int
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x : Union[str, Callable]
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs : int | None
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu : int | None
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache : bool | str | pathlib.Path | None
        Keep decoded images, labeled and validation ones too, in memory? Default: where they fit. A folder: the unlabeled ones there
    on_error : str
        'raise' or 'skip' unreadable images
    steps : int | None
        Batches in an epoch; default: one pass
    weak : Union[Callable, bool, NoneType]
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema : float | fastai_mixmatch.ema.EMA | None
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained : bool
        Pretrained weights? For architecture functions and timm names
    weights : str | pathlib.Path | dict | None
        Pretrained weights: file or state dict; default: downloaded
    model_args : dict | None
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr : float | None
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd : float
        Default weight decay; not on biases and norms
    loss_func : Optional[Callable]
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics : Union[Callable, list, NoneType]
        Metrics on the validation set
    opt_func : Callable
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter : Optional[Callable]
        Parameter groups; default: those of `arch`
    cbs : fastai.callback.core.Callback | list | None
        More callbacks
    checkpoint : str | pathlib.Path | fastai_mixmatch.checkpoint.Checkpoint | None
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every : str
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path : str | pathlib.Path | None
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir : str | pathlib.Path
        Subdirectory to save and load models
    wd_bn_bias : bool
        Apply weight decay to normalization and bias parameters
    train_bn : bool
        Train frozen normalization layers
    moms : tuple
        Default momentum for schedulers
    default_cbs : bool
        Include default `Callback`s"""

def freematch_learner(dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ..., *, momentum: float = 0.999, fairness: float = 0.001,
    clip: float | None = None, ks: int = 1, strong: Optional[Callable] = None, lambda_u: float = 1.0,
    ramp: float | int = 0, loss_x: Union[str, Callable] = 'ce', bs: int | None = None, mu: int | None = 7,
    cache: bool | str | Path | None = None, on_error: str = 'raise', steps: int | None = None,
    weak: Union[Callable, bool, None] = None, ema: float | EMA | None = 0.999, pretrained: bool = False,
    weights: str | Path | dict | None = None, model_args: dict | None = None, lr: float | None = None,
    wd: float = 0.02, loss_func: Optional[Callable] = None, metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ..., splitter: Optional[Callable] = None, cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None, every: str = '5min', path: str | Path | None = None,
    model_dir: str | Path = 'models', wd_bn_bias: bool = False, train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95), default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with FreeMatch (arXiv 2205.07246): thresholds that follow the network's confidence, and a fairness loss

    Parameters
    ----------
    dls : fastai.data.core.DataLoaders
        Of the labeled images, with any batch size
    unlabeled : str | pathlib.Path | list | fastcore.foundation.L | pandas.Series | torch.utils.data.dataset.Dataset | numpy.ndarray | fastai_mixmatch.batch.Unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch : Union[Callable, torch.nn.modules.module.Module, str]
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    momentum : float
        Weight of the old averages in an update
    fairness : float
        Weight of the fairness loss, relative to that of the unlabeled loss
    clip : float | None
        Largest global threshold, such as 0.95; default: none
    ks : int
        Strong views; 0: learn on the weak view itself
    strong : Optional[Callable]
        What makes strong views; default: `StrongView()`
    lambda_u : float
        Weight of the unlabeled loss
    ramp : float | int
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x : Union[str, Callable]
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs : int | None
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu : int | None
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache : bool | str | pathlib.Path | None
        Keep decoded images, labeled and validation ones too, in memory? Default: where they fit. A folder: the unlabeled ones there
    on_error : str
        'raise' or 'skip' unreadable images
    steps : int | None
        Batches in an epoch; default: one pass
    weak : Union[Callable, bool, NoneType]
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema : float | fastai_mixmatch.ema.EMA | None
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained : bool
        Pretrained weights? For architecture functions and timm names
    weights : str | pathlib.Path | dict | None
        Pretrained weights: file or state dict; default: downloaded
    model_args : dict | None
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr : float | None
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd : float
        Default weight decay; not on biases and norms
    loss_func : Optional[Callable]
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics : Union[Callable, list, NoneType]
        Metrics on the validation set
    opt_func : Callable
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter : Optional[Callable]
        Parameter groups; default: those of `arch`
    cbs : fastai.callback.core.Callback | list | None
        More callbacks
    checkpoint : str | pathlib.Path | fastai_mixmatch.checkpoint.Checkpoint | None
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every : str
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path : str | pathlib.Path | None
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir : str | pathlib.Path
        Subdirectory to save and load models
    wd_bn_bias : bool
        Apply weight decay to normalization and bias parameters
    train_bn : bool
        Train frozen normalization layers
    moms : tuple
        Default momentum for schedulers
    default_cbs : bool
        Include default `Callback`s"""

def softmatch_learner(dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ..., *, momentum: float = 0.999, n_sigma: float = 2.0,
    uniform: bool = True, ks: int = 1, strong: Optional[Callable] = None, lambda_u: float = 1.0,
    ramp: float | int = 0, loss_x: Union[str, Callable] = 'ce', bs: int | None = None, mu: int | None = 7,
    cache: bool | str | Path | None = None, on_error: str = 'raise', steps: int | None = None,
    weak: Union[Callable, bool, None] = None, ema: float | EMA | None = 0.999, pretrained: bool = False,
    weights: str | Path | dict | None = None, model_args: dict | None = None, lr: float | None = None,
    wd: float = 0.02, loss_func: Optional[Callable] = None, metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ..., splitter: Optional[Callable] = None, cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None, every: str = '5min', path: str | Path | None = None,
    model_dir: str | Path = 'models', wd_bn_bias: bool = False, train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95), default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with SoftMatch (arXiv 2301.10921): a Gaussian weight below the mean confidence, not a threshold

    Parameters
    ----------
    dls : fastai.data.core.DataLoaders
        Of the labeled images, with any batch size
    unlabeled : str | pathlib.Path | list | fastcore.foundation.L | pandas.Series | torch.utils.data.dataset.Dataset | numpy.ndarray | fastai_mixmatch.batch.Unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch : Union[Callable, torch.nn.modules.module.Module, str]
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    momentum : float
        Weight of the old averages in an update
    n_sigma : float
        Width of the Gaussian: the deviation / n_sigma
    uniform : bool
        Align guesses to uniform class frequencies before their confidence is read?
    ks : int
        Strong views; 0: learn on the weak view itself
    strong : Optional[Callable]
        What makes strong views; default: `StrongView()`
    lambda_u : float
        Weight of the unlabeled loss
    ramp : float | int
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x : Union[str, Callable]
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs : int | None
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu : int | None
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache : bool | str | pathlib.Path | None
        Keep decoded images, labeled and validation ones too, in memory? Default: where they fit. A folder: the unlabeled ones there
    on_error : str
        'raise' or 'skip' unreadable images
    steps : int | None
        Batches in an epoch; default: one pass
    weak : Union[Callable, bool, NoneType]
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema : float | fastai_mixmatch.ema.EMA | None
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained : bool
        Pretrained weights? For architecture functions and timm names
    weights : str | pathlib.Path | dict | None
        Pretrained weights: file or state dict; default: downloaded
    model_args : dict | None
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr : float | None
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd : float
        Default weight decay; not on biases and norms
    loss_func : Optional[Callable]
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics : Union[Callable, list, NoneType]
        Metrics on the validation set
    opt_func : Callable
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter : Optional[Callable]
        Parameter groups; default: those of `arch`
    cbs : fastai.callback.core.Callback | list | None
        More callbacks
    checkpoint : str | pathlib.Path | fastai_mixmatch.checkpoint.Checkpoint | None
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every : str
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path : str | pathlib.Path | None
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir : str | pathlib.Path
        Subdirectory to save and load models
    wd_bn_bias : bool
        Apply weight decay to normalization and bias parameters
    train_bn : bool
        Train frozen normalization layers
    moms : tuple
        Default momentum for schedulers
    default_cbs : bool
        Include default `Callback`s"""

def adamatch_learner(dls: DataLoaders,
    unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ..., *, threshold: float = 0.9, interpolate: bool = True,
    ks: int = 1, strong: Optional[Callable] = None, lambda_u: float = 1.0, ramp: float | int = 0.5,
    loss_x: Union[str, Callable] = 'ce', bs: int | None = None, mu: int | None = 7,
    cache: bool | str | Path | None = None, on_error: str = 'raise', steps: int | None = None,
    weak: Union[Callable, bool, None] = None, ema: float | EMA | None = 0.999, pretrained: bool = False,
    weights: str | Path | dict | None = None, model_args: dict | None = None, lr: float | None = None,
    wd: float = 0.02, loss_func: Optional[Callable] = None, metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ..., splitter: Optional[Callable] = None, cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None, every: str = '5min', path: str | Path | None = None,
    model_dir: str | Path = 'models', wd_bn_bias: bool = False, train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95), default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with AdaMatch (arXiv 2106.04732): guesses aligned to labeled predictions, and a threshold relative to their confidence

    Parameters
    ----------
    dls : fastai.data.core.DataLoaders
        Of the labeled images, with any batch size
    unlabeled : str | pathlib.Path | list | fastcore.foundation.L | pandas.Series | torch.utils.data.dataset.Dataset | numpy.ndarray | fastai_mixmatch.batch.Unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch : Union[Callable, torch.nn.modules.module.Module, str]
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    threshold : float
        Threshold, as a part of the mean confidence on labeled images
    interpolate : bool
        Interpolate labeled logits with those of a batch of labeled images alone?
    ks : int
        Strong views; 0: learn on the weak view itself
    strong : Optional[Callable]
        What makes strong views; default: `StrongView()`
    lambda_u : float
        Weight of the unlabeled loss
    ramp : float | int
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x : Union[str, Callable]
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs : int | None
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu : int | None
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache : bool | str | pathlib.Path | None
        Keep decoded images, labeled and validation ones too, in memory? Default: where they fit. A folder: the unlabeled ones there
    on_error : str
        'raise' or 'skip' unreadable images
    steps : int | None
        Batches in an epoch; default: one pass
    weak : Union[Callable, bool, NoneType]
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema : float | fastai_mixmatch.ema.EMA | None
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained : bool
        Pretrained weights? For architecture functions and timm names
    weights : str | pathlib.Path | dict | None
        Pretrained weights: file or state dict; default: downloaded
    model_args : dict | None
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr : float | None
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd : float
        Default weight decay; not on biases and norms
    loss_func : Optional[Callable]
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics : Union[Callable, list, NoneType]
        Metrics on the validation set
    opt_func : Callable
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter : Optional[Callable]
        Parameter groups; default: those of `arch`
    cbs : fastai.callback.core.Callback | list | None
        More callbacks
    checkpoint : str | pathlib.Path | fastai_mixmatch.checkpoint.Checkpoint | None
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every : str
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path : str | pathlib.Path | None
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir : str | pathlib.Path
        Subdirectory to save and load models
    wd_bn_bias : bool
        Apply weight decay to normalization and bias parameters
    train_bn : bool
        Train frozen normalization layers
    moms : tuple
        Default momentum for schedulers
    default_cbs : bool
        Include default `Callback`s"""

def uda_learner(dls: DataLoaders, unlabeled: str | Path | list | L | Series | Dataset | ndarray | Unlabeled,
    arch: Union[Callable, Module, str] = ..., *, T: float = 0.4, tsa: str | None = None,
    threshold: float = 0.8, ks: int = 1, strong: Optional[Callable] = None, lambda_u: float = 1.0,
    ramp: float | int = 0, loss_x: Union[str, Callable] = 'ce', bs: int | None = None, mu: int | None = 7,
    cache: bool | str | Path | None = None, on_error: str = 'raise', steps: int | None = None,
    weak: Union[Callable, bool, None] = None, ema: float | EMA | None = 0.999, pretrained: bool = False,
    weights: str | Path | dict | None = None, model_args: dict | None = None, lr: float | None = None,
    wd: float = 0.02, loss_func: Optional[Callable] = None, metrics: Union[Callable, list, None] = ...,
    opt_func: Callable = ..., splitter: Optional[Callable] = None, cbs: Callback | list | None = None,
    checkpoint: str | Path | Checkpoint | None = None, every: str = '5min', path: str | Path | None = None,
    model_dir: str | Path = 'models', wd_bn_bias: bool = False, train_bn: bool = True,
    moms: tuple = (0.95, 0.85, 0.95), default_cbs: bool = True) -> SemiSupervisedLearner:
    r"""A `Learner` that trains on the labeled `dls` and on `unlabeled` with Unsupervised data augmentation (arXiv 1904.12848): FixMatch with soft, sharpened targets

    Parameters
    ----------
    dls : fastai.data.core.DataLoaders
        Of the labeled images, with any batch size
    unlabeled : str | pathlib.Path | list | fastcore.foundation.L | pandas.Series | torch.utils.data.dataset.Dataset | numpy.ndarray | fastai_mixmatch.batch.Unlabeled
        Unlabeled images: folder, list of files, data frame column, dataset, array; or an `Unlabeled`
    arch : Union[Callable, torch.nn.modules.module.Module, str]
        Network: `resnet18` or the like, timm name, module, or function of `(n_in, n_out)`
    T : float
        Temperature of sharpening
    tsa : str | None
        Training-signal annealing: 'linear', 'log' or 'exp'
    threshold : float
        Least confidence of a guess that counts
    ks : int
        Strong views; 0: learn on the weak view itself
    strong : Optional[Callable]
        What makes strong views; default: `StrongView()`
    lambda_u : float
        Weight of the unlabeled loss
    ramp : float | int
        The weight grows up to this fraction (float) of the training, or for this many steps (int)
    loss_x : Union[str, Callable]
        Labeled loss: 'ce', 'focal', `labeled_loss(weight=…)`, or a function of logits and probabilities `(B,n_classes)`
    bs : int | None
        Unlabeled images in a batch; default: `mu` times the labeled ones
    mu : int | None
        Unlabeled images for each labeled one in a batch; default: the method's own, 1 or 7
    cache : bool | str | pathlib.Path | None
        Keep decoded images, labeled and validation ones too, in memory? Default: where they fit. A folder: the unlabeled ones there
    on_error : str
        'raise' or 'skip' unreadable images
    steps : int | None
        Batches in an epoch; default: one pass
    weak : Union[Callable, bool, NoneType]
        Batch view to add where `dls` has no random transform; default: `WeakView()`; False: none
    ema : float | fastai_mixmatch.ema.EMA | None
        Decay of the average of weights and buffers, or an `EMA`; None or 0 for none
    pretrained : bool
        Pretrained weights? For architecture functions and timm names
    weights : str | pathlib.Path | dict | None
        Pretrained weights: file or state dict; default: downloaded
    model_args : dict | None
        Arguments for building such a network, as in `vision_learner`: `dict(ps=0.2)`; default: a linear head, fitted first
    lr : float | None
        Learning rate; default: 0.002, or 0.001 with a head that was fitted first
    wd : float
        Default weight decay; not on biases and norms
    loss_func : Optional[Callable]
        Loss on the validation set; default: that of `dls`, or cross entropy
    metrics : Union[Callable, list, NoneType]
        Metrics on the validation set
    opt_func : Callable
        Optimizer: `FastAdam` is fastai's `Adam`, computed faster
    splitter : Optional[Callable]
        Parameter groups; default: those of `arch`
    cbs : fastai.callback.core.Callback | list | None
        More callbacks
    checkpoint : str | pathlib.Path | fastai_mixmatch.checkpoint.Checkpoint | None
        Folder for checkpoints, from which a second start continues; or a `Checkpoint`
    every : str
        How often to save one: '30s', '5min', '1 epoch', '500 steps'
    path : str | pathlib.Path | None
        Parent directory to save, load, and export models. Defaults to `dls` `path`
    model_dir : str | pathlib.Path
        Subdirectory to save and load models
    wd_bn_bias : bool
        Apply weight decay to normalization and bias parameters
    train_bn : bool
        Train frozen normalization layers
    moms : tuple
        Default momentum for schedulers
    default_cbs : bool
        Include default `Callback`s"""

def comments(o) -> Any:
    r"""Comments of the parameters of a function or settings of a class, by name"""

def with_arguments(f: Callable, sources, doc: str, but=(), **defaults) -> Any:
    r"""Show the arguments of `sources` as those of `f`"""

def factory(method: type) -> Any:
    r"""The factory of a method: its arguments and those of `ssl_learner` in one call"""

class KeepNorm(Callback):
    r"""Batch norms keep their pretrained statistics"""

def linear_start(learn: Learner) -> Any:
    r"""Start the last layer as a logistic regression on the features of the labeled images"""

def own_dls(dls, add_tfms: bool = False) -> Any:
    r"""The `DataLoaders` of a learner, without changing the user's"""

def batch_channels(dls) -> Any:
    r"""Channels of an image after the batch transforms of `dls`"""

class SemiSupervisedLearner(Learner):
    r"""A `Learner` whose callbacks tidy up however a fit ends"""

class NoBar:
    r"""A progress bar that draws nothing"""

def tell_epoch(m) -> Any:
    r"""Say how long an epoch of the method `m` is, where that was not said yet"""

class TidyProgress(ProgressCallback):
    r"""fastai's progress bars where they can be drawn, elsewhere a line of text an epoch"""
