"Everything a user needs: `from fastai_mixmatch.all import *`"
from fastai_mixmatch.images import *
from fastai_mixmatch.lists import *
from fastai_mixmatch.sources import *
from fastai_mixmatch.pool import *
from fastai_mixmatch.cache import *
from fastai_mixmatch.streams import *
from fastai_mixmatch.views import *
from fastai_mixmatch.targets import *
from fastai_mixmatch.mixup import *
from fastai_mixmatch.losses import *
from fastai_mixmatch.batch import *
from fastai_mixmatch.semi import *
from fastai_mixmatch.mixmatch import MixMatch  # chkstyle: ignore
from fastai_mixmatch.report import Report  # chkstyle: ignore
from fastai_mixmatch.ema import *
from fastai_mixmatch.models import *
from fastai_mixmatch.optim import *
from fastai_mixmatch.arch import *
from fastai_mixmatch.learner import *
from fastai_mixmatch.recipes import *
from fastai_mixmatch.samples import *
from fastai_mixmatch.collect import collect, near_duplicates, survey  # chkstyle: ignore
from fastai_mixmatch.inspect import *
from fastai_mixmatch.frozen import frozen_baseline  # chkstyle: ignore
from fastai_mixmatch.choose import label_issues, label_next, leave_out, strangers  # chkstyle: ignore
from fastai_mixmatch.summary import report  # chkstyle: ignore
from fastai_mixmatch.augment import RandAugment, Cutout, CTAugment, StrongView  # chkstyle: ignore
from fastai_mixmatch.methods import *
from fastai_mixmatch.checkpoint import Checkpoint, CheckpointError  # chkstyle: ignore
from fastai_mixmatch.speed import *
from fastai_mixmatch.predictor import Predictor, PredictorError, load_predictor, save_predictor  # chkstyle: ignore
from fastai_mixmatch.export import (distill, export_onnx, load_onnx, OnnxPredictor, Prediction,  # chkstyle: ignore
    predict_files)
