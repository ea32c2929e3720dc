"""Change the package's code in one place at a time: does a test notice? The places where none does are listed.

    python tools/mutate.py                     # every module below, into bench/results/mutants.jsonl
    python tools/mutate.py targets mixup       # some of them
    python tools/mutate.py --again             # only those that survived last time, by all tests, however long
    python tools/mutate.py --sample 40         # at most 40 of each, drawn at random
    python tools/mutate.py --known             # the mistakes named in `known`, each by the test that was written for it

The mutants are cosmic-ray's. They are run here and not by its command, because a start of Python with fastai takes
longer than the tests. A process imports the package from a copy, runs the module's quick tests once, and notes which
lines each of them reaches. For each mutant it forks, puts the changed code into the functions that hold the old one,
and runs the tests that reach the changed line, the quickest first, for 10 s or until one fails. What only an import
runs (settings of a class, decorators) cannot be changed so: a mutant of it is tried in a process that imports the
package anew, by the quickest of all tests, too. A mutant that hangs counts as found. tests/survivors.md says of those
that survive why they may."""
import argparse, ast, difflib, gc, importlib, inspect, json, os, random, resource, shutil, sys, tempfile, time, warnings
from itertools import accumulate
from pathlib import Path
from types import CodeType, FunctionType

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root/'bench')]

# A module's quick tests: files of tests/, and which of their tests (`-k` of pytest)
quick = dict(
    mixmatch=('test_mixmatch.py', ''),
    mixup=('test_mixup.py', ''),
    losses=('test_losses.py', ''),
    ema=('test_ema.py test_semi.py', 'ema or average or by_hand or mid_epoch or canceled or lr_find or goes_on'),
    targets=('test_targets.py', ''),
    semi=('test_semi.py test_methods.py', 'test_semi and not any_line and not ctrl_c and not memory and not (interrupt '
        'and 100) or oracle or settings or views_of or augmentation_that or teacher or turns_the or judges'),
    methods=('test_methods.py', 'not measured'),
    augment=('test_augment.py', ''))
libraries = 'torch','fastai.vision.all','hypothesis','pandas','pytest','sklearn.datasets' # What forks find imported

# One replacement for each operator; more of them would die of the same tests
operators = '''
    ReplaceBinaryOperator_Add_Sub ReplaceBinaryOperator_Sub_Add ReplaceBinaryOperator_Mul_Div
    ReplaceBinaryOperator_Div_Mul ReplaceBinaryOperator_Pow_Mul ReplaceBinaryOperator_FloorDiv_Mul
    ReplaceBinaryOperator_Mod_Mul ReplaceComparisonOperator_Eq_NotEq ReplaceComparisonOperator_NotEq_Eq
    ReplaceComparisonOperator_Lt_LtE ReplaceComparisonOperator_LtE_Lt ReplaceComparisonOperator_Gt_GtE
    ReplaceComparisonOperator_GtE_Gt ReplaceComparisonOperator_Lt_Gt ReplaceComparisonOperator_Gt_Lt
    ReplaceComparisonOperator_Is_IsNot ReplaceComparisonOperator_IsNot_Is ReplaceUnaryOperator_Delete_USub
    ReplaceUnaryOperator_Delete_Not AddNot ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr
    ReplaceOrWithAnd NumberReplacer RemoveDecorator ZeroIterationForLoop'''.split()

# Mistakes that no operator makes: module, code, what it becomes, and the test that must notice
known = {
    'a ramp in steps begins anew each epoch': ('semi', 'self.learn.pct_train, self.learn.train_iter',
        'self.learn.pct_train, self.learn.iter', 'test_semi.py::test_a_ramp_runs_over_the_epochs'),
    "CTAugment's decay is 0.9": ('augment', 'decay:float=0.99', 'decay:float=0.9',
        'test_augment.py::test_ctaugment_defaults'),
    'CTAugment is taught with shuffled labels': ('semi', 'F.one_hot(y, self.labeled_dl.c), self.sum_ranks',
        'F.one_hot(y[torch.randperm(len(y))], self.labeled_dl.c), self.sum_ranks',
        'test_augment.py::test_a_method_teaches_ctaugment_with_each_image_its_own_label'),
    'CTAugment takes the bins of its probe in reverse order': (
        'semi', 'aug.update(view.used,', 'aug.update(view.used.flip(1),',
        'test_augment.py::test_a_method_teaches_ctaugment_with_each_image_its_own_label'),
    "CTAugment's probe names the bins in reverse order": ('augment', 'return self.run(x, self.draw_uniform)',
        'v,used = self.run(x, self.draw_uniform)\n    return v,used.flip(1)',
        'test_augment.py::test_ctaugment_probe_says_what_it_did'),
    'ReMixMatch turns the weak view': ('methods', 'quarter_turns(v) if', 'quarter_turns(b.weak[0]) if',
        'test_methods.py::test_remixmatch_turns_the_strong_view'),
    'ReMixMatch shows labeled images weakly': ('methods', 'return self.view.strong(x, self.strong)',
        'return self.view(x)', 'test_methods.py::test_remixmatch_turns_the_strong_view'),
    "VAT's search moves the statistics of batch norm": ('methods', ', frozen_stats(model), ', ', ',
        'test_methods.py::test_the_search_leaves_no_trace'),
    "Mean Teacher's teacher sees the student's view": ('methods', "self.guess(b.weak[1], by='teacher')",
        "self.guess(b.weak[0], by='teacher')", 'test_methods.py::test_teachers_see_their_own_view'),
    "ICT's teacher is asked about the mixed image": ('methods', 'return torch.cat([b.x, u]), (b.y,q)',
        "return torch.cat([b.x, u]), (b.y,self.guess(u, by='teacher'))",
        'test_methods.py::test_teachers_see_their_own_view'),
    'the target of entropy minimization has a gradient': ('methods', "sharpen(self.guess(u, by='pred'), self.T)",
        "sharpen([self.guess(u, by='pred'),u.softmax(1)][1], self.T)",
        'test_methods.py::test_entropy_carries_no_gradient_through_its_target'),
    "RandAugment's operations always happen": ('augment', 'p:float=0.5', 'p:float=1.0',
        'test_augment.py::test_half_of_the_operations_happen'),
    'cutout comes before RandAugment': ('augment', 'return self.cutout.view(x) if self.cutout.size else x',
        'return self.aug.view(self.cutout.view(x))', 'test_augment.py::test_cutout_comes_last'),
    'a strong view has no shift and flip': ('views',
        'if self.weak is not None: x = self.weak.view(_bare(x))', 'pass',
        'test_augment.py::test_the_weak_view_comes_first'),
    'strong views are weak ones': ('semi', 'view.strong(o, aug)', 'view(o)',
        'test_methods.py::test_views_of_the_confident'),
    'FixMatch learns on the weak view': ('methods', 'for v in vs or [u]', 'for v in [u]',
        'test_methods.py::test_views_of_the_confident'),
    'guesses come from the strong view': ('methods', "self.guess(u, by='pred'), x.detach()",
        "self.guess(vs[0], by='pred'), x.detach()", 'test_methods.py::test_views_of_the_confident')}

# --- Mutants

def mutants(code):
    "Every mutant of a module: its operator, line, that line before and after, and the module's code"
    from cosmic_ray.ast import get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator
    seen,parts,line = {code},[o.get_code() for o in get_ast(code).children],0
    for i,part in enumerate(parts): # A statement alone is parsed sooner than its module
        for name in operators:
            operator,n = get_operator(f'core/{name}')(),0
            while (changed := mutate_code(part, operator, n)) is not None:
                n += 1
                new = ''.join([*parts[:i], changed, *parts[i+1:]])
                if new in seen: continue
                seen.add(new)
                at,was,now = difference(part, changed)
                if counts(was, code, new): yield dict(operator=name, line=line+at, was=was, now=now, code=new)
        line += part.count('\n')

def difference(old, new):
    "Number of the first line that differs, but for comments, and what it was and is"
    old,new = old.splitlines(),new.splitlines()
    _,i,end,k,_ = next(o for o in difflib.SequenceMatcher(None, old, new, False).get_opcodes() if o[0]!='equal')
    while i+1<end and old[i].strip()[:1] in ('','#'): i += 1
    return i+1, old[i].strip(), ''.join(new[k:k+1]).strip()

def counts(was, old, new):
    "Is a mutant another program, as to what it does and not says, that can be compiled?"
    if was.startswith(('__all__','raise ')) or 'Error(' in was: return False # Messages are tested where they are raised
    try: return ast.dump(ast.parse(new))!=ast.dump(ast.parse(old)) # 1e30 and 1e30+1 are one number
    except SyntaxError: return False

def swaps(old, new):
    "Pairs of functions' code, old and new, that differ in two compiled modules; None where what an import runs differs"
    inner = lambda code: [o for o in code.co_consts if isinstance(o, CodeType)]
    own = lambda code: (code.co_code, code.co_names, repr([o for o in code.co_consts if not isinstance(o, CodeType)]))
    if old==new: return []
    function = old.co_flags & inspect.CO_OPTIMIZED
    if not function and own(old)!=own(new) or len(inner(old))!=len(inner(new)): return None
    below = [swaps(*o) for o in zip(inner(old), inner(new))]
    if None in below: return None
    return [(old,new)]*bool(function) + sum(below, [])

def lines_of(code, line):
    "Lines whose tests can notice a change of `line`: its statement's, then those of what is around it, from within"
    first = lambda o: min([o.lineno, *[d.lineno for d in getattr(o, 'decorator_list', ())]])
    around = [o for o in ast.walk(ast.parse(code)) if isinstance(o, ast.stmt) and first(o)<=line<=o.end_lineno]
    for o in sorted(around, key=first, reverse=True):
        body = getattr(o, 'body', None)
        start,end = body[0].lineno if body else o.lineno,o.end_lineno+1
        header = body and not isinstance(o, (ast.FunctionDef,ast.ClassDef)) # Of an `if`, say
        if header: start,end = o.lineno,max(start, o.lineno+1)
        yield set(range(start, end))

# --- Processes

def in_fork(f, seconds=None):
    "What `f` gives in a fork of this process, from 0 to 255; 255 where it takes more than `seconds` of a CPU, or dies"
    pid = os.fork()
    if not pid:
        code = 255
        try:
            if seconds: resource.setrlimit(resource.RLIMIT_CPU, (seconds,seconds))
            code = int(f())
        finally: os._exit(code)
    end = time.monotonic() + (20*seconds if seconds else float('inf')) # Waits for ever, or on a busy machine
    while time.monotonic()<end:
        done,status = os.waitpid(pid, os.WNOHANG)
        if done: return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 255
        time.sleep(.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return 255

class Loop:
    "Plugin of pytest that calls `f` with the tests in the place of running them"
    def __init__(self, f): self.f = f
    def pytest_runtestloop(self, session):
        self.result = self.f(session.items)
        return True

def with_tests(folder, names, f, keep=False):
    """Import the package from `folder` and give what `f` makes of the tests that `names` selects for pytest; 1 where it
    came to nothing. `keep`: write what Python compiles?"""
    import pytest
    assert 'fastai_mixmatch' not in sys.modules
    quiet = os.open(os.devnull, os.O_WRONLY)
    for fd in (1,2): os.dup2(quiet, fd)
    os.chdir(folder)
    sys.path[:0] = [str(folder),str(folder/'tests')]
    sys.dont_write_bytecode = not keep # A mutant's would be taken for the next one's, written within a second
    loop = Loop(f)
    pytest.main(['-q', '-n', '0', '-p', 'no:cacheprovider', '--assert=plain', '--tb=native', *names], plugins=[loop])
    return getattr(loop, 'result', 1)

def first_failure(items):
    "Run tests until one fails: its number from 1, at most 255; 0 where none does"
    for i,(item,after) in enumerate(zip(items, [*items[1:],None])):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
        if item.session.testsfailed: return min(i+1, 255)
    return 0

def reached(items, file, tell):
    "Run all tests: for each its CPU seconds, and the lines of `file` that it reaches"
    res = {}
    for item,after in zip(items, [*items[1:],None]):
        lines,start = set(),time.process_time()
        def note(frame, event, arg):
            if frame.f_code.co_filename!=file: return
            lines.add(frame.f_lineno)
            return note
        sys.settrace(note)
        item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
        sys.settrace(None)
        if item.session.testsfailed: return tell(f'{item.nodeid} fails without a mutant')
        res[item.nodeid] = time.process_time()-start,lines
    return res

def functions(file):
    "All functions of `file`, by their code"
    res = {}
    for o in gc.get_objects():
        if isinstance(o, FunctionType) and o.__code__.co_filename==file: res.setdefault(o.__code__, []).append(o)
    return res

# --- A module

class Choice:
    """Chooses tests for a mutant: those near its line, and where only an import runs it, such as a setting that another
    class's code reads, others too; the last that noticed one there first, then the quickest"""
    def __init__(self, tests, code, seconds): self.tests,self.code,self.seconds,self.last = tests,code,seconds,{}
    def __call__(self, line, imported=False):
        near = lambda lines: [o for o,(_,reached) in self.tests.items() if lines & set(reached)]
        found = [near(o) for o in lines_of(self.code, line)]
        some = next(filter(None, found), list(self.tests))
        self.reached = any(found[:1]) # Is it run by a test, and not by an import alone?
        self.at = None if imported else tuple(some)
        names = self.quickest(some)
        if imported: names += self.quickest(o for o in self.tests if o not in some)
        return sorted(names, key=lambda o: o!=self.last.get(self.at))
    def quickest(self, some):
        "Of `some` tests those that there is time for, but one of them at least"
        names = sorted(some, key=lambda o: self.tests[o][0])
        ends = accumulate(self.tests[o][0] for o in names)
        return [o for o,end in zip(names, ends) if end<=self.seconds] or names[:1]
    def noticed(self, names, number):
        "Remember which of `names` failed; did any?"
        if 0<number<=len(names): self.last[self.at] = names[number-1]
        return number>0

def limit(tests, names): return int(2*sum(tests[o][0] for o in names)) + 5 # Seconds of a CPU

def show(file, mutant, tell): tell('{}:{line}: {was}  →  {now}'.format(file.name, **mutant))

def try_in_functions(items, file, todo, results, seconds, tell):
    "Write to `results` what tests reach, and which of `todo` live or die in forks of this process; 0 if all is well"
    tests = reached(items, str(file), tell)
    if not tests: return 1
    tell(f'{len(tests)} tests take {sum(o for o,_ in tests.values()):.0f} s')
    items,held = {o.nodeid: o for o in items},functions(str(file))
    code,dies = file.read_text(encoding='utf-8'),{}
    old,choice = compile(code, str(file), 'exec'),Choice(tests, code, seconds)
    gc.freeze()
    for i,mutant in enumerate(todo):
        if i%50==49: tell(f'{i+1} of {len(todo)}')
        pairs = swaps(old, compile(mutant['code'], str(file), 'exec'))
        names = choice(mutant['line'])
        if pairs is None or not choice.reached or not all(o in held for o,_ in pairs[:1]): continue # An import runs it
        def attempt():
            for a,b in pairs:
                for f in held.get(a, ()): f.__code__ = b
            return first_failure([items[o] for o in names])
        dies[i] = choice.noticed(names, in_fork(attempt, limit(tests, names)))
        if not dies[i]: show(file, mutant, tell)
    results.write_text(json.dumps([{k: (s,sorted(lines)) for k,(s,lines) in tests.items()}, dies]))
    return 0

def copy(folder):
    "What the tests need, in `folder`"
    skip = shutil.ignore_patterns('__pycache__')
    for name in ('fastai_mixmatch','tests','bench'): shutil.copytree(root/name, folder/name, ignore=skip)
    shutil.copy(root/'pyproject.toml', folder)

def run(module, todo, seconds, tell):
    "Those of the mutants `todo` of a module that survive its quick tests"
    with tempfile.TemporaryDirectory() as d:
        folder,results = Path(d)/'copy',Path(d)/'results.json'
        copy(folder)
        file = folder/f'fastai_mixmatch/{module}.py'
        code = file.read_text(encoding='utf-8')
        files,k = quick[module]
        names = [*(f'tests/{o}' for o in files.split()), *(['-k', k] if k else [])]
        f = lambda items: try_in_functions(items, file, todo, results, seconds, tell)
        if in_fork(lambda: with_tests(folder, names, f, True)): sys.exit(f'the tests of {module} fail without a mutant')
        tests,dies = json.loads(results.read_text())
        dies,choice = {int(k): v for k,v in dies.items()},Choice(tests, code, seconds)
        tell(f'{module}: {len(dies)} of {len(todo)} mutants were put into functions; {sum(dies.values())} were found')
        for i,mutant in enumerate(todo):
            if i in dies: continue
            file.write_text(mutant['code'], encoding='utf-8')
            names = choice(mutant['line'], True)
            failed = in_fork(lambda: with_tests(folder, names, first_failure), limit(tests, names)+30)
            dies[i] = choice.noticed(names, failed)
            if not dies[i]: show(file, mutant, tell)
        return [{k: o[k] for k in ('line','operator','was','now')} for i,o in enumerate(todo) if not dies[i]]

def run_known(tell):
    "Does the test of each of the `known` mistakes notice it? How many it does not"
    unseen = 0
    for what,(module,was,now,test) in known.items():
        with tempfile.TemporaryDirectory() as d:
            folder = Path(d)/'copy'
            copy(folder)
            file = folder/f'fastai_mixmatch/{module}.py'
            code = file.read_text(encoding='utf-8')
            if code.count(was)!=1: sys.exit(f'{module}.py has not once: {was}')
            died = []
            for new in (code, code.replace(was, now)):
                file.write_text(new, encoding='utf-8')
                died.append(in_fork(lambda: with_tests(folder, [f'tests/{test}'], first_failure), 600))
        if good := died[0]==0 and died[1]: tell(f'found: {what}')
        else: tell(f'NOT found: {what}, by {test}')
        unseen += not good
    return unseen

def write(row):
    "Put a module's row in the place of its earlier one"
    from common import append
    append('mutants', row, instead=lambda r: r['module']==row['module'])
    return 0

def last(module):
    "The module's row in the results"
    rows = [json.loads(o) for o in (root/'bench/results/mutants.jsonl').read_text(encoding='utf-8').splitlines()]
    return next(o for o in rows if o['module']==module)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('modules', nargs='*', metavar='MODULE', help=f"of {', '.join(quick)}; default: all")
    p.add_argument('--again', action='store_true', help='only what survived last time, by all tests')
    p.add_argument('--known', action='store_true', help='the mistakes named in this file')
    p.add_argument('--sample', type=int, help='at most so many mutants of a module')
    a = p.parse_args()
    if unknown := set(a.modules)-set(quick):
        p.error(f"no quick tests for {', '.join(sorted(unknown))}: add them to `quick`")
    os.environ.update(OMP_NUM_THREADS='1', HYPOTHESIS_PROFILE='once')
    os.environ.setdefault('MPLBACKEND', 'Agg')
    warnings.simplefilter('ignore')
    for o in libraries: importlib.import_module(o)
    out = os.fdopen(os.dup(1), 'w')
    def tell(o): print(o, file=out, flush=True)
    if a.known: sys.exit(run_known(tell))
    key = lambda o: (o['operator'],o['was'],o['now'])
    for module in a.modules or quick:
        start = sum(os.times()[:4])
        every = list(mutants((root/f'fastai_mixmatch/{module}.py').read_text(encoding='utf-8')))
        todo = random.Random(0).sample(every, a.sample) if a.sample and a.sample<len(every) else every
        n = len(todo)
        if a.again:
            row = last(module)
            n,old = row['mutants'],{key(o) for o in row['survivors']}
            todo = [o for o in every if key(o) in old]
        survivors = run(module, todo, 1e9 if a.again else 10, tell)
        row = dict(module=module, mutants=n, of=len(every), killed=n-len(survivors),
                   cpu_seconds=round(sum(os.times()[:4])-start), survivors=survivors)
        tell(f"{module}: {row['killed']} of {n} mutants were found; {row['cpu_seconds']} s of a CPU")
        in_fork(lambda: write(row)) # No later mutant may find the package imported

if __name__=='__main__': main()
