"Everything a user needs: `from fastai_mixmatch.all import *`"
# chkstyle: skip
from .images import ImageError, ImageStack, PILImageShown
from .lists import ImageList, Split, draw_labeled
from .sources import overlap
from .views import *
from .targets import *
from .mixup import *
from .losses import *
from .batch import Batch, Step, Unlabeled
from .semi import *
from .mixmatch import *
from .report import Report
from .ema import EMA
from .models import *
from .optim import *
from .learner import *
from .recipes import *
from .samples import *
from .collect import collect, near_duplicates, survey
from .inspect import *
from .frozen import frozen_baseline
from .choose import label_issues, label_next, leave_out, strangers
from .summary import report
from .augment import RandAugment, Cutout, CTAugment, StrongView
from .methods import *
from .checkpoint import Checkpoint, CheckpointError
from .predictor import Predictor, PredictorError, load_predictor, save_predictor
from .export import distill, export_onnx, load_onnx, OnnxPredictor, Prediction, predict_files
