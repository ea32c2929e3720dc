"""What the benchmarks share: results files, and where a result comes from.

An experiment has one file of JSON lines in `results/`. Each line is a run: what came out, and the command, commit,
seed, hardware and versions that are needed to do it again. `pd.read_json(file, lines=True)` reads one, and so does
`read`.
"""
import argparse, json, os, platform, shlex, subprocess, sys, time, warnings
from pathlib import Path

from fastai_mixmatch.files import atomic_write

root = Path(__file__).resolve().parent.parent
results = root/'bench/results'

def cpu_name():
    "Model name of the processor"
    f = Path('/proc/cpuinfo')
    lines = f.read_text().splitlines() if f.exists() else []
    return next((o.split(':', 1)[1].strip() for o in lines if o.startswith('model name')), platform.processor())

def commit():
    "The commit that is checked out, with a mark where code differs from it; None outside a checkout"
    def git(*args): return subprocess.run(['git', *args], capture_output=True, text=True, cwd=root).stdout.strip()
    if not (root/'.git').exists(): return None
    changed = git('status', '--porcelain', '--untracked-files=no', '--', '*.py')
    return git('rev-parse', '--short', 'HEAD') + ('+changes' if changed else '')

def provenance(command=None):
    "Command (default: of this process), commit, versions and hardware"
    import fastai, numpy, torch, torchvision, fastai_mixmatch
    packages = dict(torch=torch, torchvision=torchvision, fastai=fastai, numpy=numpy, fastai_mixmatch=fastai_mixmatch)
    return dict(
        command=command or shlex.join(['python', *sys.argv]),
        commit=commit(),
        date=time.strftime('%Y-%m-%d'),
        python=platform.python_version(),
        **{k: o.__version__ for k,o in packages.items()},
        cpu=cpu_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None)

def results_file(name):
    "The file of the experiment `name`, or `name` itself where it is a path of such a file"
    return Path(name) if str(name).endswith('.jsonl') else results/f'{name}.jsonl'

def read(name):
    "Rows of an experiment or file; none where there is no file"
    f = results_file(name)
    return [json.loads(o) for o in f.read_text(encoding='utf-8').splitlines()] if f.exists() else []

def append(name, *rows, command=None, instead=None, made=None):
    """Add rows, each with its provenance, to a results file; they replace old ones for which `instead(row)` holds.
    `made`: the provenance, where it was taken before a long run."""
    f,made = results_file(name),made or provenance(command)
    f.parent.mkdir(parents=True, exist_ok=True)
    kept = [o for o in read(f) if not instead(o)] if instead else []
    text = ''.join(json.dumps(o, ensure_ascii=False)+'\n' for o in [*kept, *[dict(row, **made) for row in rows]])
    if instead:
        with atomic_write(f) as out: out.write(text.encode())
    else:
        with open(f, 'ab', buffering=0) as out: out.write(text.encode()) # One write: several processes may add rows
    return f

def parser(doc, threads=1, seeds=None):
    "The command line of a benchmark with the docstring `doc`; `seeds`: how many it runs by default"
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--threads', type=int, default=threads)
    if seeds:
        p.add_argument('--seeds', type=int, nargs='+', default=[seeds], help='how many, or with two numbers the range')
    return p

def begin(p, args=None):
    "Read the command line, and set threads and warnings as all benchmarks do"
    import torch
    a = p.parse_args(args)
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    warnings.simplefilter('ignore')
    return a
