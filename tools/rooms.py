"""Which room of the package uses which, read from the code, and which may not.

    python tools/rooms.py           # print the table, and whoever uses what the page forbids
    python tools/rooms.py --write   # put it into docs/architecture.md; tests/test_repository.py compares the two
"""
import argparse, ast, re
from pathlib import Path

root = Path(__file__).resolve().parent.parent
lib = root/'fastai_mixmatch'
page = root/'docs/architecture.md'
marks = '<!-- written by tools/rooms.py -->\n\n','\n\n<!-- end -->'

def rooms():
    "Modules that are written from a notebook, in reading order: {name: notebook}"
    found = {}
    for p in lib.glob('[a-z]*.py'):
        if m := re.search(r'File to edit: \S*?/(\w+)\.ipynb', p.read_text(encoding='utf-8')): found[p.stem] = m[1]
    return dict(sorted(found.items(), key=lambda o: o[1]))

def uses(name, names):
    "Rooms of `names` that the room `name` imports, anywhere in its code"
    found = set()
    for node in ast.walk(ast.parse((lib/f'{name}.py').read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): modules = [o.name for o in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = f"{lib.name}.{node.module or ''}".rstrip('.') if node.level else node.module
            modules = [f'{module}.{o.name}' for o in node.names] if module==lib.name else [module]
        else: continue
        found |= {o.removeprefix(f'{lib.name}.') for o in modules if o.startswith(f'{lib.name}.')}
    return [o for o in names if o in found]

def graph():
    "Each room and those that it uses, in reading order"
    names = rooms()
    return {o: uses(o, names) for o in names}

def circle(graph):
    "A list of rooms each of which uses the next, and the last the first; None where there is none"
    done = set()
    def visit(o, path):
        if o in path: return path[path.index(o):]
        if o in done: return None
        for used in graph[o]:
            if found := visit(used, [*path, o]): return found
        done.add(o)
    return next((found for o in graph if (found := visit(o, []))), None)

# Rooms that words in the page's column "what it must not touch" stand for; other words there are for readers
apart = {'lists': {'lists'}, 'targets': {'targets'}, 'the model': {'models','arch'},
         'loaders': {'pool','cache','streams'}, 'other methods': {'methods'},
         **dict.fromkeys(('the learner','training'), {'semi','mixmatch','methods','learner','recipes','checkpoint'}),
         **dict.fromkeys(('methods','which methods exist'), {'mixmatch','methods'})}

def reach(room, graph):
    "All rooms that `room` uses, directly or by others"
    found,todo = set(),[room]
    while todo:
        new = set(graph[todo.pop()])-found
        found |= new
        todo += new
    return found

def trespasses(graph):
    "Texts that say which room uses one that the page forbids it"
    res,text = [],page.read_text(encoding='utf-8').split(marks[0])[0]
    for room,words in re.findall(r'^\| `(\w+)` \| .* \| (.*) \|$', text, re.M):
        used,words = reach(room, graph),words.split(', ')
        bad = set.union(*(apart.get(o, set()) for o in words)) & used
        if words==['everything else']: bad = used-{'files','distributed'}
        res += [f'{room} uses {o}, and must not' for o in sorted(bad)]
    return res

def table():
    "The graph as a Markdown table: each room, and those that it uses"
    rows = [f"| `{o}` | {', '.join(f'`{u}`' for u in used) or 'none'} |" for o,used in graph().items()]
    return '\n'.join(['| module | uses |', '|---|---|', *rows])

def drawn():
    "The table that the page shows"
    return page.read_text(encoding='utf-8').split(marks[0])[1].split(marks[1])[0]

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--write', action='store_true', help='put the table into the page')
    a = p.parse_args()
    if not a.write: return print(table(), *trespasses(graph()), sep='\n')
    page.write_text(page.read_text(encoding='utf-8').replace(drawn(), table()), encoding='utf-8')

if __name__=='__main__': main()
