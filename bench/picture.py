"""Write docs/images/photos.png, the picture of the first page: photographs with guesses.

Eight test images of the Grocery Store Dataset (MIT license, docs/images/photos-LICENSE.txt), each of another class, drawn at random; below each
the guess and its probability, green where it is right. `--predictor` is a file of `save_predictor`, of a network trained on `grocery/train`.
Without one, the guesses are those of logistic regression on the features of a frozen EfficientNet-Lite0 that saw 5 labels a class.

    python bench/picture.py --data-dir data --predictor run/predictor.safetensors
"""
import argparse, warnings
from pathlib import Path
import matplotlib
matplotlib.use('agg')
import matplotlib.pyplot as plt, numpy as np
from fastai.vision.all import Image, Resize, parent_label
from fastai_mixmatch.all import *
from fastai_mixmatch.frozen import FrozenFeatures, linear_head
from photos import folder, lite0

def guesses(root, files, predictor, labels=5, seed=0):
    "Guess and probability for each of `files`"
    if predictor: return [(o.label, o.probability) for o in predict_files(predictor, files)]
    labeled,_ = ImageList.from_folder(root/'train', parent_label).split(labels*43, seed=seed)
    dls = labeled.dataloaders(ImageList(files, [parent_label(o) for o in files]), bs=64, item_tfms=Resize(128))
    frozen = FrozenFeatures(dls, 'tf_efficientnet_lite0', lite0())
    head = linear_head(*frozen.labeled(dls.train_ds))
    p = head.predict_proba(frozen.unlabeled(files, dls))
    return [(frozen.classes[head.classes_[o.argmax()]], o.max()) for o in p]

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data-dir', default='data')
    p.add_argument('--predictor', help='a file of `save_predictor`')
    p.add_argument('--n', type=int, default=8, help='photographs')
    p.add_argument('--seed', type=int, default=0, help='which ones')
    a = p.parse_args()
    warnings.simplefilter('ignore')
    root = folder(a.data_dir, 'grocery')
    r = np.random.default_rng(a.seed)
    classes = sorted(o for o in (root/'test').iterdir() if o.is_dir())
    files = [sorted(o.iterdir())[r.integers(len(list(o.iterdir())))] for o in r.permutation(classes)[:a.n]]
    _,axs = plt.subplots(2, a.n//2, figsize=(7.5,4.3), dpi=72)
    for ax,f,(label,prob) in zip(axs.flat, files, guesses(root, files, a.predictor)):
        im = Image.open(f).convert('RGB')
        m = min(im.size)
        ax.imshow(im.crop([(im.width-m)//2, (im.height-m)//2, (im.width+m)//2, (im.height+m)//2]).resize((128,128)))
        right = label==parent_label(f)
        ax.set_title(f'{label.replace("-", " ")} {prob:.0%}', fontsize=12, color='#1a7f37' if right else '#cf222e')
        ax.axis('off')
    out = Path(__file__).resolve().parent.parent/'docs/images/photos.png'
    plt.gcf().set_layout_engine('constrained', h_pad=.1) # Titles keep away from the edge
    plt.savefig(out, facecolor='white')
    Image.open(out).convert('RGB').quantize(128).save(out, optimize=True)
    (out.parent/'photos-LICENSE.txt').write_text((root/'LICENSE').read_text())
    print(out, out.stat().st_size)

if __name__=='__main__': main()
