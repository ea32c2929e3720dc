"""Run notebooks, each in a process of its own.

    python tools/notebooks.py                                      # every notebook
    python tools/notebooks.py --save nbs/20_learner.ipynb          # keep the outputs

Importing the libraries takes longer than most notebooks. So each is run by a fork of a process that has imported them;
the package itself is imported by the notebook."""
import base64, glob, io, json, os, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from forks import STDOUT, Server

root = Path(__file__).resolve().parent.parent

def run(server, path, save=False):
    "Run a notebook in a fork of `server`: exit status, output, seconds"
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        args = __file__,'--here',*['--save']*save,Path(path).absolute()
        p = server.start(*args, cwd=root, stdout=out, stderr=STDOUT)
        try: p.wait()
        finally: p.kill()
        out.seek(0)
        return p.returncode, out.read().decode(errors='replace'), round(time.monotonic()-start, 1)

def run_all(paths, at_once=None, save=False):
    "Path, exit status, output and seconds of each notebook as it ends, as many at once as there are processors"
    n = min(at_once or len(os.sched_getaffinity(0)), len(paths))
    free = SimpleQueue()
    servers = [Server() for _ in range(n)]
    for o in servers: free.put(o)
    def one(path):
        server = free.get()
        try: return path, *run(server, path, save)
        finally: free.put(server)
    threads = ThreadPoolExecutor(n)
    try:
        for o in as_completed([threads.submit(one, o) for o in paths]): yield o.result()
    finally:
        threads.shutdown(cancel_futures=True)
        for o in servers: o.close()

def lighter(png):
    "The same pixels in fewer bytes: without transparency that nothing uses, and with a palette for up to 256 colors"
    from PIL import Image
    im = Image.open(io.BytesIO(png))
    if im.mode!='RGBA' or im.getchannel('A').getextrema()!=(255,255): return png
    im,out = im.convert('RGB'),io.BytesIO()
    if im.getcolors(256): im = im.convert('P', palette=Image.Palette.ADAPTIVE)
    im.save(out, 'PNG', optimize=True)
    return out.getvalue()

def lighten(path):
    "Store the pictures of a notebook in fewer bytes"
    nb = json.loads(Path(path).read_text(encoding='utf-8'))
    for data in [o['data'] for c in nb['cells'] for o in c.get('outputs', []) if 'image/png' in o.get('data', {})]:
        data['image/png'] = base64.b64encode(lighter(base64.b64decode(''.join(data['image/png'])))).decode()
    Path(path).write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True)+'\n', encoding='utf-8')

def run_here(path, save):
    "Run a notebook in this process, which ends with it, whatever it has left running"
    from nbdev.config import get_config
    from nbdev.test import test_nb
    ok,_ = test_nb(path, skip_flags=get_config(root).tst_flags.split(), basepath=root, save=save)
    if save: lighten(path)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(not ok)

def main():
    given,save = [o for o in sys.argv[1:] if o not in ('--save','--here')],'--save' in sys.argv
    if '--here' in sys.argv: run_here(given[0], save)
    paths = [Path(o) for o in given or sorted(glob.glob(f'{root}/nbs/**/*.ipynb', recursive=True))]
    failed = 0
    for path,status,out,seconds in run_all(paths, save=save):
        print(f'{path.absolute().relative_to(root)}  {seconds:.0f} s', flush=True)
        if not status: continue
        failed += 1
        print(out, f'{path} failed', sep='\n', flush=True)
    sys.exit(min(failed, 1))

if __name__=='__main__': main()
