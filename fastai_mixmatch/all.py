"Everything a user needs: `from fastai_mixmatch.all import *`"
from .images import *
from .lists import *
from .sources import *
from .pool import *
from .cache import *
from .streams import *
from .views import *
from .targets import *
from .mixup import *
from .losses import *
from .batch import *
from .semi import *
from .mixmatch import *
from .report import Report  # chkstyle: ignore
from .ema import *
from .models import *
from .optim import *
from .arch import *
from .learner import *
from .recipes import *
from .samples import *
from .collect import collect, near_duplicates, survey  # chkstyle: ignore
from .inspect import *
from .frozen import frozen_baseline  # chkstyle: ignore
from .choose import label_issues, label_next, leave_out, strangers  # chkstyle: ignore
from .summary import report  # chkstyle: ignore
from .augment import RandAugment, Cutout, CTAugment, StrongView  # chkstyle: ignore
from .methods import *
from .checkpoint import Checkpoint, CheckpointError  # chkstyle: ignore
from .speed import *
from .predictor import Predictor, PredictorError, load_predictor, save_predictor  # chkstyle: ignore
from .export import (distill, export_onnx, load_onnx, OnnxPredictor, Prediction,  # chkstyle: ignore
    predict_files)
