"""Build the documentation site in _docs/ from the notebooks, their stored outputs, and the Markdown files.

    python tools/build_docs.py             # pages from stored outputs, then a strict build
    python tools/build_docs.py --execute   # execute every notebook first; a cell that fails fails the build

Each notebook is a page. An export cell appears as the signature and the parameters of what it defines, with its source
folded below. Formulas become MathML, so that pages need nothing from elsewhere. A stored error, a link to nothing, or a
warning of MkDocs is a failure."""
import argparse, ast, base64, fnmatch, io, json, os, re, shutil, subprocess, sys, textwrap, time, tokenize
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import arguments
from notebooks import run_all
from build_readme import _text, clean_text, colab, html_table, metadata, one_head, root, split_directives

extra_pages = {
    'docs/architecture.md': 'architecture.md', 'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changes.md'}
# A link to the first leads on the site to the second, a page that is made there
fuller = {'nbs/20_learner.ipynb#mixmatch_learner': 'arguments.md'}
# The order of the site: section → pages, or patterns of them, in order. A page belongs to the first that names it
sections = {
    'Start': ['start/*'],
    'Your own photographs': ['tutorials/10*'],
    'How-to': [
        'tutorials/15*', 'howto/few_classes*', 'howto/imbalance*', 'howto/wrong_labels*', 'tutorials/13*',
        'howto/look*',
        'howto/epochs*', 'howto/resume*', 'howto/gpus*', 'howto/speed*', 'howto/memory*', 'howto/predict*',
        'howto/deploy*', 'tutorials/1[1-4]*', 'tutorials/06*', 'howto/*'],
    'Understand': [
        'tutorials/04*', 'tutorials/0[1-3]*', 'methods/00*', 'methods/which*', 'tutorials/05*', 'tutorials/07*',
        'understand/*', 'tutorials/08*'],
    'Methods': ['methods/*'],
    'Reference': {
        '': ['arguments*', 'reference*', '20_*', '17_*', '16_*', '21_*'],
        'From files to predictions': ['3[0-5]_*', '29_*', '24_*'],
        'Images and batches': ['0[0-6]_*', '13_batch*', '27_*'],
        'Training': ['14_*', '1[0-2]_*', '07_*', '08_*', '09_*', '18_*', '19_*', '23_*', '25_*', '26_*',
                     '28_*', '83_*'],
        'Internals': ['13_finite*', '22_*', '8[0-9]_*']},
    'Develop': ['tutorials/*', 'architecture*', 'contributing*', 'changes*', '*']}
_exports = {'export', 'exports'}

def page_map():
    "Source file → page, both relative and with forward slashes"
    nbs = sorted(p.relative_to(root/'nbs') for p in (root/'nbs').glob('**/*.ipynb'))
    nbs = [p for p in nbs if not any(o[0] in '._' for o in p.parts)]
    return {f'nbs/{p.as_posix()}': p.with_suffix('.md').as_posix() for p in nbs} | extra_pages

# What a user calls: a page of the reference that defines something else before begins with a table of these
called = {
    '00_*': ['PILImageShown', 'ImageStack', 'remarks'],
    '01_lists*': ['ImageList', 'ImageList.from_folder', 'ImageList.from_df', 'ImageList.from_arrays', 'ImageList.split',
                  'ImageList.dataloaders', 'ImageList.verify', 'Split'],
    '01_sources*': ['as_items', 'overlap'], '02_*': ['Pool', 'as_pool'], '03_*': ['DiskCache', 'KeptDL', 'KeepValid'],
    '04_*': ['UnlabeledDL', 'LabeledDL', 'unlabeled_dl'], '05_*': ['WeakView', 'BatchViews'],
    '06_*': ['StrongView', 'RandAugment', 'Cutout', 'CTAugment'], '08_*': ['mixup', 'mixup_draws'],
    '10_arch*': ['make_model', 'build_arch'], '10_models*': ['wrn_28_2', 'wrn', 'small_cnn', 'load_weights'],
    '11_*': ['Heads'], '13_batch*': ['Unlabeled', 'Batch'], '18_*': ['EMA'], '19_*': ['FastAdam', 'FastSGD'],
    '20_*': ['mixmatch_learner', 'ssl_learner', 'factory', 'SemiSupervisedLearner.fine_tune'],
    '21_*': ['recipe', 'Learner.fit_cosine'], '23_*': ['Checkpoint', 'CheckpointError'],
    '24_*': ['save_predictor', 'load_predictor', 'Predictor'], '25_*': ['frozen_baseline', 'FrozenFeatures'],
    '26_*': ['plot_history', 'history', 'guess_counts', 'SemiSupervised.show_views', 'MixMatch.show_mixes',
             'show_guesses', 'on_pool'],
    '27_*': ['digits_sample', 'sample_photos', 'digits_lists', 'digits_arrays'], '28_*': ['Learner.to_fast'],
    '29_*': ['read_table', 'label_studio', 'folder_table', 'source_rows'],
    '30_*': ['collect', 'survey', 'each_fold', 'loaders', 'near_duplicates'], '31_*': ['plan_learner', 'fit_plan'],
    '32_*': ['label_next', 'label_issues', 'strangers', 'leave_out', 'near_duplicates_by_features', 'look'],
    '33_*': ['report', 'reliability', 'flat_map'],
    '34_cli*': ['check', 'train', 'predict', 'report', 'next_', 'export'],
    '35_*': ['predict_files', 'export_onnx', 'load_onnx', 'distill'], '22_*': ['settings', 'differences'],
    '80_*': ['rng_state', 'set_rng_state', 'kept_rng', 'seeded', 'varies'], '84_*': ['check_model', 'check_callbacks']}

def called_first(page, names):
    "`names`, (name, line, anchor), of a page: how many a user calls, and all of them, those first"
    first = next((v for k,v in called.items() if fnmatch.fnmatch(page, k)), [])
    if lost := set(first)-{n for n,*_ in names}: raise ValueError(f"{page} does not define {', '.join(sorted(lost))}")
    return len(first), sorted(names, key=lambda o: first.index(o[0]) if o[0] in first else len(first))

def with_called(md, page, names):
    "`md` of `page`, with a table of what a user calls, before the first heading below its title"
    n,names = called_first(page, names)
    if not n: return md
    rows = [f'| [`{k}`](#{a}) | {cell_md(line)} |' for k,line,a in names[:n]]
    table = '\n'.join(['| What you call | |', '|---|---|', *rows])
    return re.sub(r'^##', lambda m: f'{table}\n\n{m[0]}', md, count=1, flags=re.M)

# What a reader may look for, where the titles of a page do not say it: the site's search finds these first
keywords = {
    # The search leaves out `own`, but finds a longer word that begins with it
    'tutorials/10*': ['own data', 'own_data', 'custom data', 'my data', 'own images', 'my images', 'folder', 'CSV',
                      'blank', 'image size', 'resize'],
    'tutorials/06*': ['custom method', 'new method', 'write a method', 'own_method', 'custom loss', 'hyperparameters'],
    'methods/08*': ['what is MixMatch'], 'tutorials/04*': ['how it works'], 'tutorials/01*': ['data augmentation'],
    'methods/which*': ['which method', 'compare methods'], 'methods/00*': ['semi-supervised learning'],
    'methods/02*': ['pseudo labels'], 'methods/11*': ['threshold'],
    'methods/15*': ['domain shift', 'domain adaptation'],
    'start/01*': ['Colab', 'Kaggle', 'Windows', 'macOS', 'requirements', 'dependencies'],
    'start/02*': ['quick start', 'getting started', 'tutorial'],
    'howto/wrong_labels*': ['wrong labels', 'label noise'],
    'howto/few*': ['few labels', 'few classes', 'how many labels'],
    'howto/look*': ['wandb', 'logging', 'callbacks', 'low accuracy', 'bad results'],
    'howto/epochs*': ['learning rate', 'lr_find', 'steps', 'early stopping', 'overfitting', 'batch size'],
    'howto/speed*': ['mixed precision', 'bfloat16', 'speed up', 'slow', 'training time', 'num_workers'],
    'tutorials/13*': ['label next', 'active learning', 'uncertainty'],
    '34_cli*': ['terminal', 'command line'],
    'tutorials/15*': ['pretrained', 'transfer learning', 'timm', 'resnet50', 'vit', 'fine tune', 'freeze', 'unfreeze',
                      'download weights', 'offline', 'proxy'],
    'howto/deploy*': ['ONNX', 'production', 'serve', 'save model', 'load model', 'export model'],
    'howto/predict*': ['inference', 'batch prediction', 'test time augmentation'],
    'howto/imbalance*': ['class weights', 'class imbalance', 'long tail', 'unbalanced', 'balanced accuracy'],
    'howto/resume*': ['checkpoint', 'Ctrl-C', 'kill', 'continue training', 'train longer'],
    '00_*': ['grayscale', '16 bit', 'medical images', 'satellite'],
    '29_tables*': ['Label Studio', 'huggingface', 'multi-label', 'multiple labels', 'object detection', 'segmentation',
                   'regression'],
    '30_*': ['cross validation', 'k-fold', 'test set', 'validation split'],
    '05_views*': ['transforms'], '13_finite*': ['NaN', 'loss is NaN'], '25_*': ['baseline', 'self training'],
    'tutorials/12*': ['distillation', 'small network'],
    '32_*': ['embeddings', 'outliers', 'unknown class'], 'howto/memory*': ['out of memory'],
    'understand/*': ['reproducible', 'deterministic', 'seed'], 'howto/gpus*': ['distributed', 'DDP'],
    'arguments*': ['mixmatch_learner', 'arguments', 'parameters', 'batch size']}

def with_keywords(page, md):
    "`md` of `page`, below what the search should know about it; the first page has no list of pages beside it"
    words = [o for k,v in keywords.items() if fnmatch.fnmatch(page, k) for o in v]
    head = [f'tags: {json.dumps(words)}']*bool(words) + ['hide: [navigation]']*(page=='index.md')
    return '\n'.join(['---', *head, '---', '', md]) if head else md

# --- prose

def mathml(tex, block=False):
    "A formula as MathML"
    from latex2mathml.converter import convert
    m = convert(tex, display='block' if block else 'inline')
    if left := re.findall(r'>\s*(\\[^<]+)', m):
        raise ValueError(f"{', '.join(left)} in the formula {tex!r} cannot be shown as MathML")
    return f'\n<div class="formula">{m}</div>\n' if block else f'<span>{m}</span>'

def prose(md, src, page, pages):
    """Markdown of the file `src` as it stands on `page`: links lead to pages, formulas are MathML

    `ValueError` for a link to nothing.
    """
    def link(m):
        url,hash_,anchor = m[2].partition('#')
        if not url or re.match(r'[a-z][a-z0-9+.-]*:', url): return m[0]
        path = os.path.normpath(os.path.join(os.path.dirname(src), url)).replace(os.sep, '/')
        here = os.path.dirname(page) or '.'
        if path.startswith('docs/images/') and (root/path).exists():
            return m[1]+os.path.relpath(path.removeprefix('docs/'), here).replace(os.sep, '/')+m[3]
        if path not in pages: raise ValueError(f"{src} links to {url}, which is no page of the site")
        made = fuller.get(path+hash_+anchor)
        to = os.path.relpath(made or pages[path], here).replace(os.sep, '/')
        return f"{m[1]}{to}{'' if made else hash_+anchor}{m[3]}"
    def text(s):
        s = re.sub(r'(\]\()([^)\s]+)(\))', link, s)
        s = re.sub(r'\$\$(.+?)\$\$', lambda m: mathml(m[1], True), s, flags=re.S)
        return re.sub(r'(?<![\\$\w])\$([^$\n]+?)\$(?!\w)', lambda m: mathml(m[1]), s)
    parts = re.split(r'(^```.*?^```|`[^`\n]+`)', diagrams(md), flags=re.M|re.S)
    return ''.join(p if i%2 else text(p) for i,p in enumerate(parts))

scrolling = '<div class="output" markdown>\n\n```text\n{}\n```\n\n</div>\n'

def diagrams(md):
    """`md` with its diagrams marked, so that on a phone they scroll and their lines are not broken, and with the name
    of the language at blocks of Python that have none, so that they are colored"""
    def block(was, text, kind=''):
        code = textwrap.dedent(text).rstrip()
        if re.search('[─-╿►▼]', code): return scrolling.format(code)
        return f'```python\n{code}\n```\n' if not kind and is_python(code) else was
    def fenced(s):
        kind,text = re.match('```(.*?)\n(.*)```', s, re.S).groups()
        return block(s, text, kind) if kind in ('','text') else s
    def plain(s): return re.sub(r'(?:^ {4}.*(?:\n|\Z))+', lambda m: block(m[0], m[0]), s, flags=re.M)
    parts = re.split(r'(^```.*?^```)', md, flags=re.M|re.S)
    return ''.join(fenced(p) if i%2 else plain(p) for i,p in enumerate(parts))

def is_python(code):
    "Is `code` Python that does something? A command of a terminal, a list of files or a line of prose is not"
    try: found = ast.walk(ast.parse(code))
    except SyntaxError: return False
    return any(isinstance(o, (ast.Call,ast.Import,ast.ImportFrom)) for o in found)

# --- definitions

def comments(src):
    "Line number → comment"
    tokens = tokenize.generate_tokens(io.StringIO(src).readline)
    return {t.start[0]: t.string.lstrip('# ') for t in tokens if t.type==tokenize.COMMENT}

def definitions(src):
    "Name, node, and node of the parameters for each public definition of a cell"
    for node in ast.parse(src).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name[0]=='_': continue
        if isinstance(node, ast.ClassDef):
            init = [o for o in node.body if isinstance(o, ast.FunctionDef) and o.name=='__init__']
            yield node.name, node, init[0] if init else None
        else:
            patched = any('patch' in ast.unparse(o) for o in node.decorator_list)
            to = patched and node.args.args and node.args.args[0].annotation
            cls = re.sub(r'\W.*', '', ast.unparse(to)) if to else ''
            if ast.get_docstring(node): yield f'{cls}.{node.name}' if cls else node.name, node, node

def only_imports(src): return all(isinstance(o, (ast.Import,ast.ImportFrom)) for o in ast.parse(src).body)

def own_settings(node, notes):
    "Rows (name, type, default, meaning) of the annotated attributes of a class, which are its arguments"
    rows = [o for o in node.body if isinstance(o, ast.AnnAssign) and notes.get(o.lineno)]
    def code(o): return ast.unparse(o) if o else ''
    return [(o.target.id, code(o.annotation), code(o.value), notes[o.lineno]) for o in rows]

def parameters(fn, notes):
    "Rows (name, type, default, meaning) of a function's parameters"
    a = fn.args
    pos = a.posonlyargs+a.args
    pairs = list(zip(pos, [None]*(len(pos)-len(a.defaults))+a.defaults)) + list(zip(a.kwonlyargs, a.kw_defaults))
    pairs += [(o, None) for o in (a.vararg, a.kwarg) if o]
    rows = []
    for arg,default in pairs:
        if arg.arg in ('self', 'cls'): continue
        star = '*' if arg is a.vararg else '**' if arg is a.kwarg else ''
        kind,value = (ast.unparse(o) if o else '' for o in (arg.annotation, default))
        kind = re.sub(r'typing\.Annotated\[(\w+),.*', r'\1', kind) # What follows is for the command line
        rows.append((star+arg.arg, kind, value, notes.get(arg.lineno, '')))
    return rows

def cell_md(text): return escape(text.replace('|', '\\|'))

def escape(text):
    "Text without HTML: `<` is escaped, except between backticks, where Markdown does so"
    return ''.join(o if i%2 else o.replace('<', '&lt;') for i,o in enumerate(re.split(r'(`[^`\n]*`)', text)))

def definition_md(name, node, fn, src):
    "Heading, signature, docstring and parameters of a definition"
    notes,is_class = comments(src),isinstance(node, ast.ClassDef)
    if fn and fn.returns and fn.returns.end_lineno==fn.lineno: # In one line: its comment says what is returned
        back,notes = notes.get(fn.lineno, ''),{k: v for k,v in notes.items() if k!=fn.lineno}
    else: back = notes.get(fn.returns.end_lineno, '') if fn and fn.returns else ''
    rows = parameters(fn, notes) if fn else own_settings(node, notes)
    args = [n+('='+d if d else '') for n,_,d,_ in rows]
    if is_class and not (fn or rows): args = list(map(ast.unparse, node.bases))
    sig = arguments.wrapped(f"{'class ' if is_class else ''}{name}(", args)
    parts = [f'### {name} {{ #{anchor(name)} }}', f'```python\n{sig}\n```', escape(ast.get_docstring(node) or '')]
    if back or any(r[3] for r in rows):
        table = [f"| `{n}` | {f'`{t}`' if t else ''} | {f'`{d}`' if d else ''} | {cell_md(c)} |" for n,t,d,c in rows]
        if fn is node and fn.returns:
            table.append(f"| *returns* | `{ast.unparse(fn.returns)}` | | {cell_md(back)} |")
        head = '| parameter | type | default | |', '|---|---|---|---|'
        parts.append('\n'.join(['<div class="parameters" markdown>\n', *head, *table, '\n</div>']))
    return '\n\n'.join(o for o in parts if o)

def anchor(name): return name.replace('.', '-').lower()

def folded(src): return '??? note "Source"\n' + '\n'.join('    '+o for o in ['```python', *src.split('\n'), '```'])

# --- pages

def output_md(out, name, pictures, say=str):
    "A stored output as Markdown; a picture is added to `pictures`; `say` leads the links of text to pages"
    if out['output_type']=='error':
        raise ValueError(f"{name} has a stored error: {out.get('ename')}: {out.get('evalue')}")
    if out['output_type']=='stream':
        return console(at_home(clean_text(_text(out['text'])))) if out.get('name')!='stderr' else ''
    data = {k: v if isinstance(v, dict) else _text(v) for k,v in out.get('data', {}).items()}
    data |= {k: at_home(v) for k,v in data.items() if k.startswith('text/')}
    if 'text/markdown' in data: return say(data['text/markdown'])
    if 'image/png' in data:
        f = f'{Path(name).stem}_{len(pictures)}.png'
        pictures[f] = png = base64.b64decode(data['image/png'])
        wide = '{ .wide }'*(int.from_bytes(png[16:20], 'big')>1000) # Pixels; too wide to be read on a phone as a whole
        return f'![Figure {len(pictures)}]({f}){wide}'
    table = one_head(html_table(data['text/html'])) if 'text/html' in data else None
    txt = clean_text(data.get('text/plain', ''))
    if table and re.match(r'\| epoch \|', table): return results(table)
    return table or console('' if re.fullmatch(r'<[\w.]+( object)?( at 0x[0-9a-f]+)?>', txt) else txt)

def at_home(txt):
    "Text without the temporary folder in which a page ran: a reader's files are in a folder of theirs"
    return re.sub(r'(?:/\w+)*/tmp/tmp\w+/', '', txt)

def console(txt):
    "What a cell printed: results tables as Markdown tables, other text as it is, with long sentences in several lines"
    parts,lines = [],txt.split('\n') if txt else []
    while lines:
        n = table_rows(lines)
        if n: parts.append(results_md(lines[:n]))
        else:
            n = next((i for i in range(1, len(lines)) if table_rows(lines[i:])), len(lines))
            text = '\n'.join(map(wrapped_line, lines[:n])).strip('\n')
            words = '' if in_columns(lines[:n]) else ' words' # Lines may be broken
            if text: parts.append(f'<div class="output{words}" markdown>\n\n```text\n{text}\n```\n\n</div>')
        del lines[:n]
    return '\n\n'.join(parts)

def in_columns(lines):
    "Are `lines` a table: does one of three or more columns follow another? A name and what it means are no table"
    many = [len(re.findall(r'\S {2,}(?=\S)', o))>1 for o in lines]
    return any(a and b for a,b in zip(many, many[1:]))

def table_rows(lines):
    "How many of the first `lines` are a results table of fastai, printed as text"
    if not re.match(r'\s*epoch\s+train_loss', lines[0]): return 0
    n = len(lines[0].split())
    return 1+next((i for i,o in enumerate(lines[1:]) if not re.match(r'\s*\d', o) or len(o.split())!=n), len(lines)-1)

def results_md(lines):
    "A results table as a Markdown table"
    rows = [f"| {' | '.join(o.split())} |" for o in lines]
    rows.insert(1, '|---'*len(lines[0].split())+'|')
    return results('\n'.join(rows))

def breakable(md):
    "`md` whose heads of tables may be broken after `_` and `/` and in two long words: more tables fit on a phone"
    def head(m):
        if re.search(r'\]\(|`', m[0]): return m[0]
        words = re.sub(r'(?<=[a-z0-9])_(?=[a-z])', r'\\_<wbr>', m[0])
        words = re.sub(r'(?<=[a-z])/(?=[a-z])', '/<wbr>', words)
        return re.sub('accu(?=racy)|confi(?=dence)', r'\g<0>&shy;', words)
    return re.sub(r'^\|.*\|\n(?=\|[-:| ]+\|$)', head, md, flags=re.M)

def cards(md, width=340):
    "`md` where each cell of a table wider than a phone, `width` pixels, names its column: there a row becomes a card"
    def plain(cell): return re.sub(r'\[([^]]*)\]\([^)]*\)|<[^>]*>|[`*\\]', r'\1', cell).strip()
    def table(m):
        if m[1]: return m[0] # In a frame of its own
        lines = m[2].strip().split('\n')
        rows = [[o.strip() for o in re.split(bar, r)[1:-1]] for r in lines]
        words = [max(len(w) for o in col for w in re.split(r'[\s-]', plain(o))) for col in zip(*rows)]
        if sum(5.6*n+7 for n in words)<=width: return m[0]
        names = [re.sub('["{}<>_]', ' ', plain(o)) for o in rows[0]]
        def cell(o, i): return f'{o} {{ data-label="{names[i]}" }}' if i and o and names[i] else o
        body = [f"| {' | '.join(cell(o, i) for i,o in enumerate(r))} |" for r in rows[2:]]
        long = ' long'*any(len(plain(o))>40 for r in rows[2:] for o in r[1:])
        return f'<div class="cards{long}" markdown>\n\n' + '\n'.join([*lines[:2], *body]) + '\n\n</div>\n'
    bar = r'(?<!\\)\|(?=(?:[^`]*`[^`]*`)*[^`]*$)' # Not one in code
    parts = re.split(r'(^```.*?^```)', md, flags=re.M|re.S)
    tables = r'(<div class="\w+" markdown>\n+)?((?:^\|.*\|\n)(?:^\|[-:| ]+\|\n)(?:^\|.*\|(?:\n|\Z))+)'
    return ''.join(p if i%2 else re.sub(tables, table, p, flags=re.M) for i,p in enumerate(parts))

def results(table): return f'<div class="results" markdown>\n\n{table}\n\n</div>'

def wrapped_line(line, width=84):
    "A sentence in lines of at most `width`; a line with columns stays as it is"
    if len(line)<=width or '  ' in line.strip(): return line
    return textwrap.fill(line, width, subsequent_indent='    ', break_long_words=False, break_on_hyphens=False)

def notebook_md(nb, src, page, pages):
    "Markdown of a notebook, {file: picture}, and (name, line, anchor) of what it defines"
    parts,pictures,names = [],{},[]
    def say(md): return prose(md, src, page, pages)
    for cell in nb['cells']:
        code,directives = split_directives(_text(cell['source']))
        if not code or {'hide','default_exp'} & set(directives) or directives.get('include')=='false': continue
        if cell['cell_type']=='markdown':
            text = prose(code, src, page, pages)
            parts.append(re.sub(r'^(#.*) -$', r'\1', text, flags=re.M)) # nbdev's mark of a heading over a name
        elif cell['cell_type']=='code':
            if _exports & set(directives):
                for name,node,fn in definitions(code):
                    parts.append(definition_md(name, node, fn, code))
                    names.append((name, (ast.get_docstring(node) or '').split('\n')[0], anchor(name)))
                if not only_imports(code): parts.append(folded(code))
            elif directives.get('echo')!='false' and 'hide_input' not in directives:
                parts.append(f'```python\n{code}\n```')
            if directives.get('output')!='false' and 'hide_output' not in directives:
                outputs = [o for o in (output_md(o, src, pictures, say) for o in cell.get('outputs', [])) if o]
                parts += outputs
                names += shown('\n\n'.join(outputs))
    code = '\n'.join(_text(c['source']) for c in nb['cells'] if c['cell_type']=='code')
    if (repository := metadata()['repository']) and parts and '!pip install' in code: # Needs nothing
        parts.insert(1, f'[Open in Colab]({colab(repository, src)})')
    return '\n\n'.join(parts)+'\n', pictures, names

def shown(md):
    "Name, first line and anchor of what an output documents under a heading; a factory is made by a call, not by `def`"
    return [(name, line, anchor(name)) for name,line in re.findall(r'^### (\w+)\n\n(.*)', md, re.M)]

def title(md): return re.search(r'^# (.+)', md, re.M)[1].strip().replace('`', '')

def navigation(titles):
    """MkDocs' `nav` of the `titles` of pages, `{page: title}`, in the order of `sections`

    `ValueError` for a page that no section names.
    """
    left = {k: v for k,v in titles.items() if k!='index.md'}
    def pages(patterns):
        found = [o for p in patterns for o in sorted(left) if fnmatch.fnmatch(o, p)]
        return [{left.pop(o): o} for o in dict.fromkeys(found)]
    def part(o):
        if isinstance(o, list): return pages(o)
        return [p for k,v in o.items() for p in ([{k: pages(v)}] if k else pages(v))]
    nav = [{'Home': 'index.md'}, *({k: part(v)} for k,v in sections.items())]
    if left: raise ValueError(f"no section of the site names {', '.join(left)}: see `sections` of tools/build_docs.py")
    return nav

def write_pages(out):
    "Write all pages and mkdocs.yml to the folder `out`"
    pages,titles,refs = page_map(),{},[]
    shutil.rmtree(out, ignore_errors=True)
    for src,page in pages.items():
        f = out/'pages'/page
        f.parent.mkdir(parents=True, exist_ok=True)
        text = (root/src).read_text(encoding='utf-8')
        if src.endswith('.md'): md = prose(text, src, page, pages)
        else:
            md,pictures,names = notebook_md(json.loads(text), src, page, pages)
            for k,b in pictures.items(): (f.parent/k).write_bytes(b)
            if names: refs.append((title(md), page, called_first(page, names)[1]))
            md = with_called(md, page, names)
        f.write_text(with_keywords(page, breakable(cards(md))), encoding='utf-8')
        titles[page] = title(md)
    for page,md in {'reference.md': reference_md(refs), 'arguments.md': arguments.page()}.items():
        for to in re.findall(r'\]\(([\w/]+\.md)[#)]', md): # In a table MkDocs does not look
            if to not in pages.values(): raise ValueError(f'{page} links to {to}, which is no page of the site')
        (out/'pages'/page).write_text(with_keywords(page, md), encoding='utf-8')
        titles[page] = title(md)
    shutil.copy(root/'docs/style.css', out/'pages')
    shutil.copytree(root/'docs/images', out/'pages/images', ignore=shutil.ignore_patterns('index_*'))
    settings = dict(INHERIT=os.path.relpath(root/'docs/mkdocs.yml', out), nav=navigation(titles), **addresses())
    (out/'mkdocs.yml').write_text(json.dumps(settings, indent=1)) # JSON is YAML
    return pages

def addresses():
    "What `settings.ini` says about where the site and the repository are"
    cfg = metadata()
    return {k: cfg[o] for k,o in dict(site_url='site', repo_url='repository').items() if cfg[o]}

def reference_md(refs):
    "Every public name, with the place where it is explained; in the order of the site"
    parts = ['# All names', '> Every public name of the package, and what it is for']
    order = [p for patterns in sections['Reference'].values() for p in patterns]
    def place(ref): return next((i for i,p in enumerate(order) if fnmatch.fnmatch(ref[1], p)), len(order))
    for head,page,names in sorted(refs, key=place):
        rows = [f'| [`{n}`]({page}#{a}) | {cell_md(line)} |' for n,line,a in names]
        parts += [f'## {head}', '\n'.join(['| name | |', '|---|---|', *rows])]
    return '\n\n'.join(parts)+'\n'

def execute():
    "Execute every notebook, each in a process of its own, one on each core; exit where a cell fails"
    todo,start,took = [o for o in page_map() if o.endswith('.ipynb')],time.monotonic(),{}
    for path,status,out,took[path] in run_all([root/o for o in todo]):
        name,minutes = os.path.relpath(path, root),(time.monotonic()-start)/60
        print(f'{len(took):>3}/{len(todo)}  {name:<44}{took[path]:5.0f} s, {minutes:.1f} min in all', flush=True)
        if status: sys.exit(f'{out[-5000:]}\n{name} fails')
    slowest = sorted(took, key=took.get, reverse=True)[:10]
    print('slowest: '+', '.join(f'{o.stem} {took[o]:.0f} s' for o in slowest))

def build(proc, site):
    "Pages to `proc`, site to `site`; `CalledProcessError` where MkDocs is not content"
    write_pages(proc)
    env = os.environ | dict(NO_MKDOCS_2_WARNING='1')
    args = ['build', '--strict', '--quiet', '-f', proc/'mkdocs.yml', '-d', site]
    subprocess.run([sys.executable, '-m', 'mkdocs', *args], check=True, env=env)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--execute', action='store_true', help='execute every notebook first')
    a = p.parse_args()
    if a.execute: execute()
    build(root/'_proc', root/'_docs')
    print(f"{root/'_docs/index.html'}; its search needs a server: python -m http.server -d {root/'_docs'}")

if __name__=='__main__': main()
