"""One label for each class, with FixMatch: how much depends on which image is labeled?

Images are ordered, class by class, by how prototypical they are: the mean probability of the true class by networks
that were trained on other images and all their labels. As in FixMatch (arXiv 2001.07685, section 4.4), this needs all
labels, and is no way to choose images; it only says whether they matter. There the order comes from five measures of
many networks (Carlini et al., arXiv 1910.13427), here from one of these measures, confidence. A set holds one image of
each class: from anywhere ('random'), or from the first ('prototypical') or last eighth of the order ('outliers').
Can be stopped and started again. The first row of the results is the order.

    python bench/one_label.py                                                    # digits
    python bench/one_label.py --name cifar10 --data cifar10.tar.xz --steps 100000
"""
import dataclasses, random

import torch
from fastai.vision.all import set_seed
from fastai_mixmatch.all import *

from common import append, begin, parser, read
from reproduce.data import MemoryDL, load_data
from reproduce.experiments import Experiment, experiments
from reproduce.run import final_accuracies, make_learner, train

args = dict(threshold=0.6, strong=StrongView(cutout=0.25), ramp=0.4) # As in bench/methods.py
tasks = dict(
    digits=Experiment('one label for each class', 'digits', (10,), 240, FixMatch, args, small_cnn, bs=32, ubs=64),
    cifar10=experiments['cifar10-methods'].variant('FixMatch'))
kinds = dict(random=(0,1), prototypical=(0,1/8), outliers=(7/8,1))

def trained(exp, labeled, rest, test, seed):
    "A learner after `exp.steps` steps"
    set_seed(seed)
    learn = make_learner(exp, labeled, rest, test)
    with learn.no_logging(): train(learn, exp)
    return learn

def prototypicality(exp, images, nets, steps):
    "For each image, the mean probability of its class by those of `nets` networks that did not train on it"
    total,count = torch.zeros(2, len(images))
    args = {k: v for k,v in exp.args.items() if k=='weak'}
    exp = dataclasses.replace(exp, method=Supervised, args=args, steps=steps, bs=64, ubs=64)
    for k in range(nets):
        order = random.Random(k//2).sample(range(len(images)), len(images))
        half = len(order)//2
        mine,other = (order[:half],order[half:])[::1-k%2*2]
        learn = trained(exp, images[mine], images[mine], images[other], k)
        learn.model.eval()
        for at,(x,y) in zip(torch.tensor(other).split(512), MemoryDL(images[other], learn.dls.train)):
            with torch.no_grad(): p = learn.model(x).softmax(1).cpu()
            total[at] += p[range(len(y)),y.as_subclass(torch.Tensor).cpu()]
            count[at] += 1
    return total/count

def draw(labels, scores, kind, seed):
    "Indices of one image of each class, in the part of the order that `kind` names"
    lo,hi = kinds[kind]
    rng,res = random.Random(seed),[]
    for c in sorted(set(labels)):
        own = sorted((i for i,o in enumerate(labels) if o==c), key=lambda i: -scores[i])
        res.append(rng.choice(own[int(lo*len(own)):max(1, int(hi*len(own)))]))
    return res

def main():
    p = parser(__doc__)
    p.add_argument('--name', default='digits', choices=list(tasks))
    p.add_argument('--data', help='file or folder of CIFAR-10')
    p.add_argument('--limit', type=int, help='only so many images, to try a command')
    p.add_argument('--sets', type=int, default=4, help='sets of images of each kind')
    p.add_argument('--trainings', type=int, default=1, help='trainings on each set')
    p.add_argument('--steps', type=int, help='optimizer steps of a training')
    p.add_argument('--nets', type=int, default=8, help='networks for the order')
    p.add_argument('--order_steps', type=int, default=300)
    p.add_argument('--kinds', nargs='+', default=list(kinds))
    p.add_argument('--out', default='one_label', help='another results file')
    a = begin(p)
    exp = tasks[a.name]
    if a.steps: exp = dataclasses.replace(exp, steps=a.steps)
    images,test = load_data(exp.data, a.data, a.limit)
    of = dict(data=a.name, limit=a.limit)
    rows = [r for r in read(a.out) if {k: r[k] for k in of}==of]
    order = next((r['prototypicality'] for r in rows if r['kind']=='order'), None)
    if order is None:
        order = [round(o, 4) for o in prototypicality(exp, images, a.nets, a.order_steps).tolist()]
        append(a.out, dict(kind='order', **of, nets=a.nets, order_steps=a.order_steps, prototypicality=order))
    done = {(r['kind'], r['set'], r['training']) for r in rows if r['kind']!='order'}
    for kind,i,training in [(k,i,t) for t in range(a.trainings) for i in range(a.sets) for k in a.kinds]:
        if (kind, i, training) in done: continue
        chosen = draw(list(images.labels), order, kind, i)
        rest = sorted(set(range(len(images)))-set(chosen))
        learn = trained(exp, images[chosen], images[rest], test, 100*i+training)
        row = dict(kind=kind, set=i, training=training, images=chosen, **of, steps=exp.steps,
                   accuracy=round(final_accuracies(learn)[0], 4), seconds=round(learn.clock.seconds, 1))
        append(a.out, row)
        print({k: v for k,v in row.items() if k!='images'}, flush=True)

if __name__=='__main__': main()
