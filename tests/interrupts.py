"""Interrupt a fit at every line that it runs, each in a process of its own, and use the learner afterwards.

`python tests/interrupts.py [part] [parts] [all]`: lines of the package and of fastai, or of everything that a fit runs.
A trace function raises where Python is about to run a line, a few places more than where it takes a signal. Two of these are left out:
generators that are being closed, where Python itself drops whatever is raised, and locks of other libraries between their release and the end of `with`.
"""
import fastai, fastai_mixmatch, os, random, sys, tempfile, time
from pathlib import Path
from fastai.basics import *
from helpers import SCRIPT

ours = tuple(str(Path(o.__file__).parent)+os.sep for o in (fastai_mixmatch, fastai))
locks = ('/beartype/', '/threading.py')
known = {'_maybe_item': "fastai's Recorder: `except:` around `t.item()`"}

def where(frame): return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name

def callers(frame):
    "Names of the functions that run, the innermost first"
    while frame:
        yield frame.f_code.co_name
        frame = frame.f_back

def lines_run(learn, everything):
    "Lines that a fit runs, with how often"
    seen = {}
    def note(frame, what, arg):
        if what in ('line','call'): seen[where(frame)] = seen.get(where(frame), 0)+1
        return note
    sys.settrace(note)
    learn.fit(2)
    sys.settrace(None)
    return {k: n for k,n in sorted(seen.items()) if not any(o in k[0] for o in locks) and (everything or k[0].startswith(ours))}

def interrupted(learn, d, place, nth, folder):
    "What is wrong with `learn` after its fit was interrupted when it came to `place` for the `nth` time"
    hits, closing, swallowed = 0, [], False
    def trace(frame, what, arg):
        nonlocal hits, swallowed
        if what in ('line','call') and where(frame)==place:
            hits += 1
            if hits==nth:
                sys.settrace(None)
                swallowed = any(o in known for o in callers(frame))
                raise KeyboardInterrupt
        return trace
    sys.unraisablehook = closing.append
    loss, dls, n_metrics, wrong = learn.loss_func, learn.dls, len(learn.metrics), []
    sys.settrace(trace)
    try:
        learn.fit(2)
        sys.settrace(None)
        if hits>=nth and not closing and not swallowed: wrong.append('the fit went on')
    except KeyboardInterrupt: pass
    if learn.loss_func is not loss: wrong.append('loss_func')
    if not learn.ema.active: wrong.append('averages')
    if learn.dls is not dls: wrong.append('dls')
    if len(learn.metrics)!=n_metrics: wrong.append('metrics')
    learn.export(folder/f'{os.getpid()}.pkl')
    learn.fit(1)
    if not learn.predict(d[0])[2].isfinite().all(): wrong.append('predictions')
    return wrong

def in_a_process(f, timeout=60):
    "Exit status of `f` in a fork of this process: 0 if it returned nothing"
    pid = os.fork()
    if not pid:
        code = 1
        try:
            if res := f(): print(res, flush=True)
            else: code = 0
        except BaseException as e: print(repr(e)[:300], flush=True)
        finally: os._exit(code)
    end = time.monotonic()+timeout
    while time.monotonic()<end:
        done,status = os.waitpid(pid, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        time.sleep(.002)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return 'hangs'

def main(part=0, parts=1, everything=''):
    space = {}
    exec(SCRIPT, space)
    learn, d = space['learn'], space['x']
    learn.logger = noop
    learn.fit(1)
    places = list(lines_run(learn, everything).items())[int(part)::int(parts)]
    rnd, n, bad = random.Random(0), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for place,count in places:
            for nth in sorted({1, rnd.randint(1, count)}):
                n += 1
                if res := in_a_process(partial(interrupted, learn, d, place, nth, Path(folder))):
                    bad += 1
                    print(f"{'/'.join(place[0].split('/')[-2:])}:{place[1]} in {place[2]}, time {nth} of {count}: {res}", flush=True)
    print(f"{n} interrupts at {len(places)} lines, {bad} wrong")
    sys.exit(bad>0)

if __name__=='__main__': main(*sys.argv[1:])
