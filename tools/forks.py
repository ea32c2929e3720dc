"""Start Python programs as forks of a process that has imported the libraries, which takes longer than most programs.

    server = Server()
    p = server.start('-c', 'print(input())', stdin=PIPE)      # as subprocess.Popen([sys.executable, '-c', …], …)
    r = server.run('program.py', 'an argument', cwd='/tmp')   # as subprocess.run

The package itself is imported by each program. A program is a process of its own, in a session of its own: signals,
exit status and what is done at its end are those of Python. But its seed of hashes and numpy's random state are those
of all others."""
import atexit, gc, importlib, io, json, os, re, runpy, select, signal, socket, subprocess, sys, types, warnings
import threading
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from threading import Thread

# What Triton says at the end of a process whose objects were frozen: they are no leaks
frozen = re.compile(r'^(nanobind: | - leaked | - \.\.\. skipped|See https://nanobind).*\n?', re.M)
libraries = ('matplotlib.pyplot','nbdev.test','safetensors.torch','sklearn.datasets','sklearn.discriminant_analysis',
             'timm','torch','torchvision.transforms.v2','fastai.vision.all')

# --- the side that asks

class Server:
    "A process that has imported the libraries"
    def __init__(self):
        self.sock,other = socket.socketpair()
        env = {'OMP_NUM_THREADS': '1', **os.environ, 'MPLBACKEND': 'agg'}
        with other:
            self.process = subprocess.Popen([sys.executable, __file__, str(other.fileno())], pass_fds=[other.fileno()],
                                            env=env, stdin=DEVNULL, start_new_session=True)

    def start(self, *args, **kwargs): return Program(self.sock, list(map(str, args)), **kwargs)

    def run(self, *args, input=None, timeout=None, **kwargs):
        "Exit status, output and errors of a program, when it has ended"
        p = self.start(*args, **{'stdin': PIPE if input else DEVNULL, 'stdout': PIPE, 'stderr': PIPE, **kwargs})
        try: out,err = p.communicate(input, timeout)
        finally: p.kill()
        return subprocess.CompletedProcess(args, p.returncode, out, err)

    def close(self):
        self.sock.close()
        self.process.wait()

class Program:
    "As much of `subprocess.Popen` as one needs, with text in its pipes"
    def __init__(self, sock, args, cwd=None, env=None, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL):
        self.args,self.returncode,self.stderr = args,None,None
        text = json.dumps(dict(args=args, cwd=str(cwd or os.getcwd()), env=dict(os.environ if env is None else env)))
        theirs = [self.end('stdin', stdin, 1), self.end('stdout', stdout, 0)]
        theirs.append(os.dup(theirs[1]) if stderr==STDOUT else self.end('stderr', stderr, 0))
        self.status,status = os.pipe()
        theirs.append(status)
        socket.send_fds(sock, [len(text.encode()).to_bytes(8, 'big')], theirs)
        sock.sendall(text.encode())
        for o in theirs: os.close(o)
        self.pid = self.told()

    def end(self, name, what, mine):
        "The program's end of a file or pipe; of a pipe, number `mine` of its ends is kept under `name`"
        setattr(self, name, None)
        if what==DEVNULL: return os.open(os.devnull, os.O_RDWR)
        if what!=PIPE: return os.dup(what if isinstance(what, int) else what.fileno())
        ends = os.pipe()
        setattr(self, name, open(ends[mine], 'rw'[mine]))
        return ends[1-mine]

    def told(self):
        "A number from the process that waits for the program: its id, then its exit status"
        b = os.read(self.status, 8)
        if not b: raise RuntimeError('the process that has imported the libraries has ended')
        return int.from_bytes(b, 'big', signed=True)

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self.status], [], [], timeout)[0]: raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self.told()
            os.close(self.status)
        return self.returncode

    def poll(self):
        try: return self.wait(0)
        except subprocess.TimeoutExpired: return None

    def communicate(self, input=None, timeout=None):
        "Write `input`, read all that the program says, and wait for its end"
        said = {}
        def read(name, f): said[name] = f.read()
        readers = [Thread(target=read, args=(k,f), daemon=True) for k in ('stdout','stderr') if (f := getattr(self, k))]
        for o in readers: o.start()
        if self.stdin:
            try:
                with self.stdin: self.stdin.write(input or '')
            except BrokenPipeError: pass
        self.wait(timeout)
        for o in readers: o.join(timeout)
        if 'stderr' in said: said['stderr'] = frozen.sub('', said['stderr'])
        return said.get('stdout'),said.get('stderr')

    def send_signal(self, sig):
        if self.poll() is None: os.kill(self.pid, sig)
    def kill(self): self.send_signal(signal.SIGKILL)

# --- the side that forks

def read_all(sock, n):
    "`n` bytes"
    b = b''
    while len(b)<n: b += sock.recv(n-len(b))
    return b

def serve(sock):
    "Fork for each program that is asked for; returns what is asked in a fork, and never else"
    for o in libraries: importlib.import_module(o)
    gc.freeze() # Or a fork would look for garbage in all of them at its end, for two seconds
    signal.signal(signal.SIGCHLD, signal.SIG_IGN) # Nobody waits for those who wait
    while True:
        size,fds,*_ = socket.recv_fds(sock, 8, 4)
        if not size: os._exit(0)
        job = json.loads(read_all(sock, int.from_bytes(size, 'big')))
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sock.close()
            if not watched(fds.pop()): return job,fds
        for o in fds: os.close(o)

def watched(status):
    "Fork again: `False` in the fork. This process writes the id of that one, and its exit status when it has ended"
    if not (pid := os.fork()): return os.close(status)
    os.closerange(0, status)
    def tell(n): os.write(status, n.to_bytes(8, 'big', signed=True))
    tell(pid)
    tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)

def become(args, cwd, env, fds):
    "Make of this process what `python` with `args` would be when it has read them; gives what it is to run"
    os.setsid()
    for i,o in enumerate(fds): os.dup2(o, i); os.close(o)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    through = 'PYTHONUNBUFFERED' in env
    def text(fd, **kw):
        return io.TextIOWrapper(open(fd, 'wb', 0 if through else -1, closefd=False), write_through=through, **kw)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)
    sys.stdout = sys.__stdout__ = text(1, line_buffering=os.isatty(1))
    sys.stderr = sys.__stderr__ = text(2, line_buffering=True, errors='backslashreplace')
    while args[0]=='-W':
        warnings.simplefilter(args[1])
        args = args[2:]
    kind,args = (args[0],args[1:]) if args[0] in ('-c','-m') else ('',args)
    sys.argv = ['-c',*args[1:]] if kind=='-c' else args
    file = Path(args[0], '__main__.py') if not kind and Path(args[0]).is_dir() else Path(args[0])
    first = {'-c': '', '-m': os.getcwd()}.get(kind, str(file.resolve().parent))
    sys.path[:1] = [first, *filter(None, env.get('PYTHONPATH', '').split(os.pathsep))]
    return kind,args[0] if kind else str(file)

def run_as(kind, what):
    "Run a program as `python` does"
    if kind=='-m': return runpy.run_module(what, run_name='__main__', alter_sys=True)
    main = types.ModuleType('__main__')
    if not kind: main.__file__ = what
    sys.modules['forks'],sys.modules['__main__'] = sys.modules['__main__'],main
    exec(compile(what if kind else Path(what).read_text(), '<string>' if kind else what, 'exec'), vars(main))

def status_of(run, *args):
    "Exit status of `run(*args)`, negative for a signal; what it raises is shown as `python` shows it"
    try: run(*args)
    except SystemExit as e:
        if e.code is None or isinstance(e.code, int): return (e.code or 0) & 255
        print(e.code, file=sys.stderr)
        return 1
    except BaseException as e:
        sys.last_exc,sys.last_type,sys.last_value,sys.last_traceback = e,type(e),e,e.__traceback__
        sys.excepthook(type(e), e, e.__traceback__)
        return -signal.SIGINT if isinstance(e, KeyboardInterrupt) else 1
    return 0

def leave(status):
    "End as `python` does: threads, `atexit`, what is not yet written. Taking all modules apart, 0.8 s, is left out"
    threading._shutdown()
    atexit._run_exitfuncs()
    for o in filter(None, (sys.stdout, sys.stderr)):
        try: o.flush()
        except (OSError,ValueError): status = 120
    if status<0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)

if __name__=='__main__':
    job,fds = serve(socket.socket(fileno=int(sys.argv[1])))
    leave(status_of(run_as, *become(**job, fds=fds)))
