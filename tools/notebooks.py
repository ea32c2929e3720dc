"""Run notebooks, each in a process of its own.

    python tools/notebooks.py                                      # every notebook
    python tools/notebooks.py --save nbs/20_learner.ipynb          # keep the outputs

Importing the libraries takes longer than most notebooks. So a process that has imported them runs each notebook in a
fork of itself; the package itself is imported by the notebook."""
import glob, importlib, json, os, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

root = Path(__file__).resolve().parent.parent
libraries = 'matplotlib.pyplot','nbdev.test','sklearn.datasets','timm','torch','fastai.vision.all'

class Runner:
    "Runs notebooks one after the other: call it with a path"
    def __init__(self, save=False):
        env = {'OMP_NUM_THREADS': '1', **os.environ, 'MPLBACKEND': 'agg'}
        args = [sys.executable, __file__, '--serve', *['--save']*save]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.server = subprocess.Popen(args, cwd=root, env=env, **pipes)

    def __call__(self, path):
        "Exit status, output, and seconds"
        print(Path(path).absolute(), file=self.server.stdin, flush=True)
        answer = self.server.stdout.readline()
        if not answer: raise RuntimeError(f'the process that runs the notebooks ended with {self.server.wait()}')
        return json.loads(answer)

    def close(self):
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()

def run_all(paths, at_once=None, save=False):
    "Path, exit status, output and seconds of each notebook as it ends, as many at once as there are processors"
    n = min(at_once or len(os.sched_getaffinity(0)), len(paths))
    free = SimpleQueue()
    runners = [Runner(save) for _ in range(n)]
    for o in runners: free.put(o)
    def run(path):
        runner = free.get()
        try: return path, *runner(path)
        finally: free.put(runner)
    threads = ThreadPoolExecutor(n)
    try:
        for o in as_completed([threads.submit(run, o) for o in paths]): yield o.result()
    finally:
        threads.shutdown(cancel_futures=True)
        for o in runners: o.close()

def serve(save):
    "Answer each path on standard input by a line of JSON"
    for o in libraries: importlib.import_module(o)
    for line in sys.stdin: print(json.dumps(in_fork(line.rstrip('\n'), save)), flush=True)

def in_fork(path, save):
    "Run a notebook in a fork of this process: exit status, output, seconds"
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        pid = os.fork()
        if not pid:
            status = 1
            try: status = run(path, out, save)
            finally: os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        return status, out.read().decode(errors='replace'), round(time.monotonic()-start, 1)

def run(path, out, save):
    "Run a notebook, its output to the file `out`; the exit status"
    from nbdev.config import get_config
    from nbdev.test import test_nb
    for fd in (1,2): os.dup2(out.fileno(), fd)
    ok,_ = test_nb(path, skip_flags=get_config(root).tst_flags.split(), basepath=root, save=save)
    sys.stdout.flush()
    sys.stderr.flush()
    return int(not ok)

def main():
    given,save = [o for o in sys.argv[1:] if o!='--save'],'--save' in sys.argv
    paths = [Path(o) for o in given or sorted(glob.glob(f'{root}/nbs/**/*.ipynb', recursive=True))]
    failed = 0
    for path,status,out,seconds in run_all(paths, save=save):
        print(f'{path.absolute().relative_to(root)}  {seconds:.0f} s', flush=True)
        if not status: continue
        failed += 1
        print(out, f'{path} failed', sep='\n', flush=True)
    sys.exit(min(failed, 1))

if __name__=='__main__': serve('--save' in sys.argv) if '--serve' in sys.argv else main()
