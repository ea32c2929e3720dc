"""Run the README: every ```python block, in order, in one namespace, in the folder demo/.

A block that ends with an expression shows its value, as a notebook does. The first error stops the run and names its
line of the README."""
import argparse, ast, linecache, os, re, sys, time, traceback, types
from pathlib import Path

root = Path(__file__).resolve().parent.parent
_fence = re.compile(r'^(?P<indent> {0,3})(?P<ticks>`{3,}|~{3,})(?P<info>.*)$')

def blocks(text):
    "The ```python blocks of a Markdown text, as (line number of the first line of code, code)"
    res, ticks, keep, start, code = [], None, False, 0, []
    for i, line in enumerate(text.split('\n'), 1):
        m = _fence.match(line)
        if ticks is None and m: ticks, keep, start, code = m['ticks'], m['info'].strip()=='python', i+1, []
        elif ticks is not None and m and m['ticks'].startswith(ticks) and not m['info'].strip():
            if keep: res.append((start, '\n'.join(code)))
            ticks = None
        elif ticks is not None: code.append(line)
    if ticks is not None: raise ValueError(f'line {start-1}: this code block is never closed')
    return res

def show(value):
    "Print `value` as a notebook's output, in text"
    md = getattr(value, '_repr_markdown_', None)
    text = md() if callable(md) and not isinstance(value, type) else None
    if text is None:
        try: from IPython.lib.pretty import pretty
        except ImportError: pretty = repr
        text = pretty(value)
    print(text, flush=True)

def run_block(code, line, fname, ns):
    "Run one block, which begins at line `line` of `fname`, in namespace `ns`, and show its last expression's value"
    tree = ast.parse('\n'*(line-1)+code, fname)
    shown = tree.body and isinstance(tree.body[-1], ast.Expr) and not code.rstrip().endswith(';')
    last = tree.body.pop() if shown else None
    exec(compile(tree, fname, 'exec'), ns)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), fname, 'eval'), ns)
        if value is not None: show(value)

def failed_line(e, fname):
    "The line of `fname` at which the exception `e` left it, or None"
    if isinstance(e, SyntaxError) and e.filename==fname: return e.lineno
    lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename==fname]
    return lines[-1] if lines else None

def main(readme, folder):
    readme, folder = Path(readme).resolve(), Path(folder).resolve()
    os.environ['MPLBACKEND'] = 'Agg'
    if not readme.exists(): sys.exit(f'{readme} does not exist')
    try: todo = blocks(readme.read_text(encoding='utf-8'))
    except ValueError as e: sys.exit(f'{readme.name}, {e}')
    if not todo: sys.exit(f'{readme} has no ```python block: nothing was run')
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    # A module of its own as __main__, so that what a block defines can be pickled, as in a notebook
    sys.modules['__main__'] = mod = types.ModuleType('__main__')
    start = time.perf_counter()
    for line, code in todo:
        try: run_block(code, line, str(readme), mod.__dict__)
        except (Exception, SystemExit) as e:
            linecache.checkcache()
            traceback.print_exception(e)
            sys.exit(f'{readme.name}, line {failed_line(e, str(readme)) or line}: {type(e).__name__}: {e}')
        finally: sys.stdout.flush()
    seconds = time.perf_counter()-start
    print(f'\n{readme.name}: {len(todo)} blocks ran in {seconds:.0f} s; what they wrote is in '
          f'{os.path.relpath(folder, root)}/')

if __name__=='__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--readme', default=root/'README.md', help='the Markdown file')
    parser.add_argument('--folder', default=root/'demo', help='where to run it')
    main(**vars(parser.parse_args()))
