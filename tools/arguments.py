"""The site's page about every argument of `mixmatch_learner`, and `fastai_mixmatch/learner.pyi`, which editors read.

    python tools/arguments.py            # write the stub; `make export` does
    python tools/arguments.py --check    # fail where the stub is not what the code gives

Both are made from the code: signatures, and the comments of parameters. Editors need a stub, as they cannot see
signatures made by a call. It repeats the shared arguments for each function: a `TypedDict` that all unpack (PEP 692)
would say them once, but it has no defaults, and editors that complete by jedi (0.20.1 was tried) do not read it. What a
function does and an argument means, the stub does not repeat: docstrings and comments of the modules say it, and `help`
and a notebook's Shift-Tab print it."""
import argparse, inspect, re, sys, warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from build_readme import root

# Groups of arguments: the first whose source has an argument shows it. Source, and the page that says more
groups = {
    'Images, network, training': ('ssl_learner', '20_learner.md'),
    'The unlabeled images': ('Unlabeled', '13_batch.md'),
    'MixMatch': ('MixMatch', 'methods/08_mixmatch.md'),
    "fastai's `Learner`": ('Learner', 'https://docs.fast.ai/learner.html#learner')}
# Arguments with a page of their own
more = dict(arch='10_arch.md', pretrained='tutorials/15_pretrained.md', weights='tutorials/15_pretrained.md',
    model_args='10_arch.md', ema='18_ema.md',
    opt_func='19_optim.md', checkpoint='howto/resume.md', every='howto/resume.md', steps='howto/epochs.md',
    mu='howto/epochs.md', bs='howto/epochs.md', cache='howto/memory.md', loss_x='howto/imbalance.md',
    prior='howto/imbalance.md', weak='05_views.md', unlabeled='01_sources.md', band='howto/imbalance.md',
    cbs='https://docs.fast.ai/callback.core.html',
    metrics='https://docs.fast.ai/metrics.html', adapt='16_mixmatch.md', T='07_targets.md', alpha='08_mixup.md',
    strong='06_augment.md')
intro = '''# `mixmatch_learner`: every argument

> All arguments of `mixmatch_learner`, in one table for each group

Two arguments are enough. The others have defaults:

```python
learn = mixmatch_learner(dls, 'photos/unlabeled')
learn = mixmatch_learner(dls, 'photos/unlabeled', resnet18, pretrained=True, bs=64, checkpoint='run1')
```

`help(mixmatch_learner)` prints the same list, and a notebook shows it if you press Shift-Tab. If you misspell an
argument, the error suggests the right name. The whole signature:'''

def public():
    "Everything that `from fastai_mixmatch.all import *` gives, and the module `learner`"
    warnings.filterwarnings('ignore', category=FutureWarning)
    from fastai_mixmatch import all as names, learner
    return names, learner

def factories():
    "Name and function of each learner of a method; `mixmatch_learner` first"
    _,learner = public()
    found = [o for o in learner.__all__ if o.endswith('_learner')]
    return {k: getattr(learner, k) for k in sorted(found, key=lambda o: (o!='mixmatch_learner', o=='ssl_learner', o))}

def others():
    "Names of the methods that have no factory"
    names,_ = public()
    made = {k.removesuffix('_learner').replace('_', '') for k in factories()}
    found = [k for k,o in vars(names).items() if isinstance(o, type) and issubclass(o, names.SemiSupervised)]
    return [k for k in found if k not in ('SemiSupervised','Confident') and k.lower() not in made]

def said(f):
    "What the docstring of `f` says about each parameter"
    return dict(re.findall(r'^(\w+)\n    (.*)', f.__doc__, re.M))

def value(v):
    "A default as code; a float such as 0.015625 or 0.9921875 as a person writes it, `1/64` or `1-1/128`"
    n = v.as_integer_ratio()[1] if isinstance(v, float) else 0
    if 16<=n<=1024 and v in (1/n, 1-1/n): return f'1/{n}' if v==1/n else f'1-1/{n}'
    return '' if v is inspect.Parameter.empty else getattr(v, '__name__', repr(v))

def hint(p):
    "Type of parameter `p` as code, such as `int | None`, without modules"
    text = '' if p.annotation is p.empty else inspect.formatannotation(p.annotation).replace('NoneType', 'None')
    text = re.sub(r'Optional\[(.*)\]', r'\1 | None', text)
    text = re.sub(r'Union\[(.*)\]', lambda m: m[1].replace(', ', ' | '), text)
    return re.sub(r'\b(?:\w+\.)+(?=\w)', '', text)

def kind(p):
    "Type of parameter `p`, without `None`"
    return hint(p).replace(' | None', '')

def wrapped(head, args, width=88):
    "A signature in lines of at most `width`, broken between arguments"
    lines = [head]
    for i,o in enumerate(args):
        o += ', ' if i+1<len(args) else ')'
        if len(lines[-1]+o.rstrip())>width and lines[-1].strip(): lines.append('    ')
        lines[-1] += o
    return '\n'.join(o.rstrip() for o in lines)+(')' if not args else '')

def rows(params, docs, page):
    "A table of `params`; `page` says more where `more` names none"
    head = '| argument | type | default | meaning |', '|---|---|---|---|'
    lines = ['<div class="parameters arguments" markdown>\n', *head]
    for k,p in params.items():
        default = 'required' if p.default is p.empty else f'`{value(p.default)}`'
        t = ' or '.join(f'`{o}`' for o in kind(p).split(' | '))
        if not docs.get(k) or not kind(p): raise ValueError(f'the argument {k} has no comment or no type')
        text = ''.join(o if i%2 else o.replace('<', '&lt;') for i,o in enumerate(re.split(r'(`[^`]*`)', docs[k])))
        text = text.replace('|', '\\|')+('' if text[-1] in '.?' else '.')
        lines.append(f'| `{k}` | {t} | {default} | {text} [More]({more.get(k, page)}) |')
    return '\n'.join(lines+['\n</div>'])

def page():
    "Markdown about every argument of `mixmatch_learner`, and those of its relatives that are their own"
    from fastai.learner import Learner
    names,_ = public()
    fs = factories()
    shared = inspect.signature(fs['ssl_learner']).parameters
    left = dict(inspect.signature(fs['mixmatch_learner']).parameters)
    args = [k if p.default is p.empty else f'{k}={value(p.default)}' for k,p in left.items()]
    parts = [intro, f"```python\n{wrapped('mixmatch_learner(', args)}\n```"]
    def own(o): return set(inspect.signature(o).parameters)
    stream,plain = own(names.Unlabeled)|{'mu'},own(Learner)
    sources = dict(Unlabeled=stream, MixMatch=own(names.MixMatch)-shared.keys(), Learner=plain)
    sources['ssl_learner'] = own(fs['ssl_learner'])-stream-(plain-set(more)-{'lr','wd'})
    for group,(source,to) in groups.items():
        taken = {k: left.pop(k) for k in list(left) if k in sources[source] or k in ('dls','unlabeled','arch')}
        parts += [f'## {group}', rows(taken, said(fs['mixmatch_learner']), to)]
    if left: raise ValueError(f"no group has the arguments {', '.join(left)}")
    parts += ['## The other methods', f"""The functions below take the arguments above, plus the settings of their own \
method instead of MixMatch's. The other methods have no function: pass an object to `ssl_learner`, as in \
`ssl_learner(dls, unlabeled, arch, method=VAT())`. They are {', '.join(map('`{}`'.format, others()))}, and their \
settings are on the page about [methods](17_methods.md)."""]
    for k,f in list(fs.items())[1:-1]:
        ps = inspect.signature(f).parameters
        ps = {a: p for a,p in ps.items() if a not in shared or a=='mu' and p.default!=1}
        parts += [f'### {k}', f"{f.__doc__.splitlines()[0]}.", rows(ps, said(f), '17_methods.md')]
    return '\n\n'.join(parts)+'\n'

# --- what editors read

def stub():
    "Text of `learner.pyi`: what users call, with the signatures that the module makes while it is imported"
    _,learner = public()
    lines = ['# Made by tools/arguments.py',
             'from typing import Any, Callable',
             'from fastai.learner import Callback, DataLoaders, L, Learner, Path, Tensor, ndarray',
             'from pandas import Series', 'from torch.nn import Module', 'from torch.utils.data import Dataset',
             'from .batch import Unlabeled', 'from .checkpoint import Checkpoint', 'from .ema import EMA',
             'from .semi import SemiSupervised', '']
    def argument(k, p):
        text = hint(p)
        default = '' if p.default is p.empty else f' = {plain(p.default)}' if text else f'={plain(p.default)}'
        return k+(f': {text}' if text else '')+default
    def plain(v): return repr(v) if v is None or type(v) in (bool,int,float,str,tuple) else '...'
    def function(k, f):
        args,star = [],False
        for a,p in inspect.signature(f).parameters.items():
            if p.kind is p.KEYWORD_ONLY and not star: args,star = args+['*'],True
            args.append(argument(a, p))
        args = ',\n    '.join(args)
        return f'def {k}(\n    {args}) -> SemiSupervisedLearner: ...'
    for k in [o for o in learner.__all__ if o.endswith('_learner')]: lines += [function(k, getattr(learner, k)), '']
    lines += ['class SemiSupervisedLearner(Learner): ...', '',
              'def factory(method: type) -> Callable[..., SemiSupervisedLearner]: ...', '',
              'def __getattr__(name: str) -> Any: ...', '']
    return '\n'.join(lines)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--check', action='store_true', help='write nothing, fail where the file differs')
    file,text = root/'fastai_mixmatch/learner.pyi',stub()
    if not p.parse_args().check: file.write_text(text, encoding='utf-8')
    elif not file.exists() or file.read_text(encoding='utf-8')!=text:
        sys.exit(f'{file.name} is not what the code gives: make export')

if __name__=='__main__': main()
