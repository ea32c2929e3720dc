"The command: `python bench/reproduce --list`"
import argparse, shlex, sys
from pathlib import Path

if __name__=='__main__': sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from common import results
from reproduce.data import load_data
from reproduce.experiments import archs, experiments
from reproduce.run import run

about = '''Every experiment of the article, and the ablations of the paper. Each training adds a row to the results
file of its experiment. A training whose row is there is not repeated, and one that was cut off goes on: start the same
command again.'''

def parser():
    "The command line"
    p = argparse.ArgumentParser(prog='python bench/reproduce', description=about)
    add = p.add_argument
    add('name', nargs='?', choices=list(experiments), help='experiment', metavar='NAME')
    add('--list', action='store_true', help='list experiments and variants')
    add('--data', help='folder or file of the data; default: download (digits need none)')
    add('--seed', type=int, nargs='+', default=[0], help='one seed or several')
    add('--out', default=results, help='folder of the results')
    add('--labels', type=int, help='number of labeled images')
    add('--only', '--recipe', nargs='+', metavar='VARIANT', help='variants to run; default: those of the experiment')
    add('--steps', type=int, help='optimizer steps')
    add('--arch', choices=list(archs), help='network')
    add('--bs', type=int, help='labeled images in a batch')
    add('--ubs', type=int, help='unlabeled images in a batch')
    add('--limit', type=int, help='use only so many images, to try a command')
    add('--every', help="how often to save, as in '5min' or '500 steps'")
    add('--device', help='cpu, cuda, ...')
    add('--fast', nargs='?', const=True, choices=('eager','bf16'), default=False,
        help='the fast path: on CUDA, bfloat16 and CUDA graphs; "eager" without the graphs; "bf16" bfloat16 on any device')
    add('--threads', type=int, help='CPU threads')
    return p

def describe(name, exp):
    "What `--list` says of an experiment"
    labels,variants = ', '.join(map(str, exp.labels)) or 'all',', '.join(filter(None, exp.variants)) or 'one'
    return f"{name:20} {exp.about}\n{'':20} labels: {labels}; steps: {exp.steps}; variants: {variants}"

def main(args=None):
    "Run experiments from the command line"
    args = sys.argv[1:] if args is None else args
    p = parser()
    a = p.parse_args(args)
    if a.list:
        for k,o in experiments.items(): print(describe(k, o))
        return
    if a.name is None: p.error('name an experiment, or use --list')
    exp = experiments[a.name]
    names = a.only or exp.default or list(exp.variants)
    if unknown := [o for o in names if o not in exp.variants]:
        known = ', '.join(filter(None, exp.variants)) or 'none'
        p.error(f"{a.name} has no variant {', '.join(unknown)}; there are {known}")
    if a.labels and a.labels not in exp.labels and not a.limit:
        p.error(f"{a.name} is for {', '.join(map(str, exp.labels)) or 'all'} labels; got {a.labels}")
    if a.threads: torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    data,command = load_data(exp.data, a.data, a.limit),shlex.join(['python','bench/reproduce',*args])
    over = dict(steps=a.steps, bs=a.bs, ubs=a.ubs, arch=archs.get(a.arch))
    for seed in a.seed:
        for variant in names:
            print(f"{a.name} {variant} seed {seed}", flush=True)
            res = run(a.name, variant, data, seed, a.out, a.labels, a.limit, command, a.device, a.fast, a.every, **over)
            print(f"accuracy {res['accuracy']:.2%}, median of the last {res['n_last']} {res['median_last']:.2%}, "
                  f"{res['steps']} steps in {res['seconds']:.0f} s", flush=True)

if __name__=='__main__': main()
