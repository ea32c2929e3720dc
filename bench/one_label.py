"""One label for each class, with FixMatch: how much depends on which image is labeled?

Images are ordered, class by class, by how prototypical they are: the mean probability of the true class by networks that were trained on other images and all their
labels. As in FixMatch (arXiv 2001.07685, section 4.4), this needs all labels, and is no way to choose images; it only says whether they matter. There the order
comes from five measures of many networks (Carlini et al., arXiv 1910.13427), here from one of these measures, confidence. A set holds one image of each class: from
anywhere ('random'), from the first eighth of the order ('prototypical'), or from the last ('outliers'). Can be stopped and started again.

    python bench/one_label.py                                                    # digits
    python bench/one_label.py --name cifar10 --data cifar10.tar.xz --steps 100000 --out results/one_label_cifar10.json
"""
import argparse, dataclasses, json, random, warnings
from pathlib import Path
import torch
from fastai.vision.all import set_seed
from fastai_mixmatch.all import *
from fastai_mixmatch.reproduce import Experiment, MemoryDL, experiments, final_accuracies, load_data, make_learner
from common import provenance, results

args = dict(threshold=0.6, strong=StrongView(cutout=0.25), ramp=0.4) # As in bench/methods.py
tasks = dict(digits=Experiment('one label for each class', 'digits', (10,), 240, FixMatch, args, small_cnn, bs=32, ubs=64), cifar10=experiments['cifar10-methods'].variant('FixMatch'))
kinds = dict(random=(0,1), prototypical=(0,1/8), outliers=(7/8,1))

def trained(exp, labeled, rest, test, seed):
    "A learner after `exp.steps` steps"
    set_seed(seed)
    learn = make_learner(exp, labeled, rest, test)
    method = next(o for o in learn.cbs if isinstance(o, SemiSupervised))
    with learn.no_logging(): learn.fit_one_cycle(max(1, round(exp.steps/len(method.dl))))
    return learn

def prototypicality(exp, train, nets, steps):
    "For each image, the mean probability of its class by those of `nets` networks that did not train on it"
    total,count = torch.zeros(2, len(train))
    exp = dataclasses.replace(exp, method=Supervised, args={k: v for k,v in exp.args.items() if k=='weak'}, steps=steps, bs=64, ubs=64)
    for k in range(nets):
        order = random.Random(k//2).sample(range(len(train)), len(train))
        half = len(order)//2
        mine,other = (order[:half],order[half:])[::1-k%2*2]
        learn = trained(exp, train[mine], train[mine], train[other], k)
        learn.model.eval()
        batches = MemoryDL(train[other], learn.dls.train)
        with torch.no_grad(): total[other] += torch.cat([learn.model(x).softmax(1)[range(len(y)),y.as_subclass(torch.Tensor)].cpu() for x,y in batches])
        count[other] += 1
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
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--name', default='digits', choices=list(tasks)); p.add_argument('--data', help='file or folder of CIFAR-10'); p.add_argument('--limit', type=int, help='only so many images, to try a command')
    p.add_argument('--sets', type=int, default=4, help='sets of images of each kind'); p.add_argument('--trainings', type=int, default=1, help='trainings on each set')
    p.add_argument('--steps', type=int, help='optimizer steps of a training'); p.add_argument('--nets', type=int, default=8, help='networks for the order'); p.add_argument('--order_steps', type=int, default=300)
    p.add_argument('--kinds', nargs='+', default=list(kinds)); p.add_argument('--out', default=str(results/'one_label.json')); p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads); torch.set_flush_denormal(True)
    warnings.simplefilter('ignore')
    exp,out = tasks[a.name],Path(a.out)
    if a.steps: exp = dataclasses.replace(exp, steps=a.steps)
    train,test = load_data(exp.data, a.data, a.limit)
    old = json.loads(out.read_text()) if out.exists() else {}
    rows,scores = old.get('rows', []),old.get('prototypicality') or [round(o, 4) for o in prototypicality(exp, train, a.nets, a.order_steps).tolist()]
    save = lambda: out.write_text(json.dumps(dict(provenance(f'python bench/one_label.py --name {a.name}'), data=a.name, limit=a.limit, nets=a.nets, order_steps=a.order_steps,
                                                  prototypicality=scores, rows=rows))+'\n')
    save()
    done = {(r['kind'], r['set'], r['training']) for r in rows}
    for training in range(a.trainings):
        for i in range(a.sets):
            for kind in a.kinds:
                if (kind, i, training) in done: continue
                images = draw(list(train.labels), scores, kind, i)
                rest = sorted(set(range(len(train)))-set(images))
                learn = trained(exp, train[images], train[rest], test, 100*i+training)
                accuracy,seconds = final_accuracies(learn)[0],learn.clock.seconds
                rows.append(dict(kind=kind, set=i, training=training, images=images, steps=exp.steps, accuracy=round(accuracy, 4), seconds=round(seconds, 1)))
                print({k: v for k,v in rows[-1].items() if k!='images'}, flush=True)
                save()

if __name__=='__main__': main()
