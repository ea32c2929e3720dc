"What the benchmarks share: the machine's description, and results files that say how they were made."
import json, os, platform, subprocess, sys, time
from pathlib import Path

results = Path(__file__).resolve().parent/'results'

def cpu_name():
    "Model name of the processor"
    try: lines = Path('/proc/cpuinfo').read_text().splitlines()
    except FileNotFoundError: return platform.processor()
    return next((o.split(':', 1)[1].strip() for o in lines if o.startswith('model name')), platform.processor())

def provenance(command=None):
    "Command, commit, versions and hardware"
    import fastai, numpy, torch, torchvision, fastai_mixmatch
    git = lambda *a: subprocess.run(['git', *a], capture_output=True, text=True, cwd=results).stdout.strip()
    return dict(command=command or 'python ' + ' '.join(sys.argv), commit=git('rev-parse', '--short', 'HEAD') + ('+changes' if git('status', '--porcelain', '--', '*.py', '*.ipynb') else ''),
        date=time.strftime('%Y-%m-%d'), python=platform.python_version(), torch=torch.__version__, torchvision=torchvision.__version__, fastai=fastai.__version__,
        numpy=numpy.__version__, fastai_mixmatch=fastai_mixmatch.__version__, cpu=cpu_name(), cores=os.cpu_count(), threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None)

def save(name, rows, **extra):
    "Write `rows` and where they come from to `results/name.json`"
    results.mkdir(exist_ok=True)
    f = results/f'{name}.json'
    f.write_text(json.dumps(dict(provenance(), **extra, rows=rows), indent=1)+'\n')
    return f

def digits(_=None):
    "scikit-learn's handwritten digits, 500 drawn for testing: training images `(1297,8,8)` in uint8, labels, test images, labels"
    import numpy as np
    from fastai_mixmatch.reproduce import load_digits_lists
    return [np.asarray(o) for il in load_digits_lists() for o in (il.items, il.labels)]

def mnist(path):
    "MNIST of an .npz file: training images `(N,28,28)` in uint8, labels, test images, labels"
    import numpy as np
    d = np.load(path)
    return [d[k] for k in ('x_train','y_train','x_test','y_test')]
