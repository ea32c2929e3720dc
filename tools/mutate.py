"""Change the package's code in one place at a time: does a test notice? The places where none does are listed.

    python tools/mutate.py                     # every module below, into bench/results/mutants.jsonl
    python tools/mutate.py targets mixup       # some of them
    python tools/mutate.py --sample 40         # at most 40 of each, drawn at random

The mutants are cosmic-ray's. They are run here and not by its command, because a start of Python with fastai takes
longer than the tests: a process that has imported the libraries is forked for each mutant, imports the package from a
copy in which one module is changed, and runs that module's quick tests until one fails. A mutant that hangs counts as
found. Some survivors compute the same as the code; tests/survivors.md says why, for those that were looked at."""
import argparse, ast, difflib, importlib, os, random, shutil, sys, tempfile, time, warnings
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root/'bench')]

# A module's quick tests: files of tests/, and which of their tests (`-k` of pytest)
quick = dict(
    mixmatch=('test_mixmatch.py', ''),
    mixup=('test_mixup.py', ''),
    losses=('test_losses.py', ''),
    ema=('test_ema.py test_mixmatch.py', 'ema or average or oracle'),
    targets=('test_targets.py', ''),
    augment=('test_augment.py', ''),
    semi=('test_semi.py', 'not moment'),
    methods=('test_methods.py', 'not measured'))
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

def mutants(code):
    "Every mutant of a module: operator, line, that line before and after, and the module's code"
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator
    seen = {code}
    for name in operators:
        operator,n = get_operator(f'core/{name}')(),0
        while (new := mutate_code(code, operator, n)) is not None:
            n += 1
            if new in seen or not counts(code, new): continue
            seen.add(new)
            yield name, *changed(code, new), new

def changed(old, new):
    "Number of the first line that differs, and what it was and is"
    lines = [o for o in difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm='')][2:]
    line = int(lines[0].split()[1].split(',')[0][1:])
    return line, *(next((o[1:].strip() for o in lines[1:] if o[0]==sign), '') for sign in '-+')

def counts(old, new):
    "Is a mutant one of what the code does, and can it be compiled?"
    line,was,_ = changed(old, new)
    if was.startswith(('__all__','raise ')) or 'Error(' in was: return False # Messages are tested where they are raised
    try: ast.parse(new)
    except SyntaxError: return False
    return True

def outcome(folder, module, code, tests, timeout):
    "'killed', 'survived' or 'timeout': what becomes of a mutant, in a fork of this process"
    file = folder/f'fastai_mixmatch/{module}.py'
    file.write_text(code, encoding='utf-8')
    pid = in_fork(lambda: run_tests(folder, tests))
    end = time.monotonic()+timeout
    while time.monotonic()<end:
        done,status = os.waitpid(pid, os.WNOHANG)
        if done: return 'killed' if status else 'survived'
        time.sleep(.02)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return 'timeout'

def in_fork(f):
    "Call `f` in a fork of this process; the id of the fork, whose exit status is what `f` gives"
    pid = os.fork()
    if not pid:
        code = 1
        try: code = int(f() or 0)
        finally: os._exit(code)
    return pid

def write(row):
    "Put a module's row in the place of its earlier one"
    from common import append
    append('mutants', row, instead=lambda r: r['module']==row['module'])

def run_tests(folder, tests):
    "Run `tests` on the copy in `folder`, in a process that has not imported the package; the exit status"
    import pytest
    assert 'fastai_mixmatch' not in sys.modules
    quiet = os.open(os.devnull, os.O_WRONLY)
    for fd in (1,2): os.dup2(quiet, fd)
    os.chdir(folder)
    sys.path[:0] = [str(folder),str(folder/'tests')]
    sys.dont_write_bytecode = True
    files,names = tests
    options = ['-x', '-q', '-n', '0', '-p', 'no:cacheprovider']
    if names: options += ['-k', names]
    return pytest.main([*options, *[f'tests/{o}' for o in files.split()]])

def copy(folder):
    "What the tests need, in `folder`"
    skip = shutil.ignore_patterns('__pycache__')
    for name in ('fastai_mixmatch','tests','bench'): shutil.copytree(root/name, folder/name, ignore=skip)
    shutil.copy(root/'pyproject.toml', folder)

def run(module, sample=None):
    "Try all mutants of a module; a row for the results"
    code = (root/f'fastai_mixmatch/{module}.py').read_text(encoding='utf-8')
    with tempfile.TemporaryDirectory() as d:
        folder = Path(d)/'copy'
        copy(folder)
        start = time.monotonic()
        if outcome(folder, module, code, quick[module], 600)!='survived':
            sys.exit(f'the tests of {module} ({" ".join(quick[module])}) fail without a mutant')
        timeout = 3*(time.monotonic()-start)+10
        found,survivors,every = 0,[],list(mutants(code))
        n = min(len(every), sample or len(every))
        for name,line,was,now,new in random.Random(0).sample(every, n):
            if outcome(folder, module, new, quick[module], timeout)!='survived': found += 1
            else:
                survivors.append({'line': line, 'operator': name, 'was': was, 'is': now})
                print(f'{module}.py:{line}: {was}  →  {now}', flush=True)
    seconds = round(time.monotonic()-start)
    print(f'{module}: {found} of {n} mutants were found in {seconds} s', flush=True)
    return dict(module=module, mutants=n, of=len(every), killed=found, seconds=seconds, survivors=survivors)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('modules', nargs='*', metavar='MODULE', help=f"of {', '.join(quick)}; default: all")
    p.add_argument('--sample', type=int, help='at most so many mutants of a module')
    a = p.parse_args()
    if unknown := set(a.modules)-set(quick):
        p.error(f"no quick tests for {', '.join(sorted(unknown))}: add them to `quick`")
    os.environ['OMP_NUM_THREADS'] = '1'
    os.environ.setdefault('MPLBACKEND', 'Agg')
    warnings.simplefilter('ignore')
    for o in libraries: importlib.import_module(o)
    for module in a.modules or quick:
        row = run(module, a.sample)
        os.waitpid(in_fork(lambda: write(row)), 0) # No later mutant may find the package imported

if __name__=='__main__': main()
