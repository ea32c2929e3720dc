"The documentation site builds from the stored outputs, strictly, and holds every page."
import ast, html, json, os, re, subprocess, sys
import pandas as pd
from filelock import FileLock
from pathlib import Path
from types import SimpleNamespace

import pytest

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))
import arguments, build_docs
from helpers import forks

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The site, built once for all processes that run tests"
    tmp = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ: tmp = tmp.parent
    with FileLock(tmp/'site.lock'):
        if not (tmp/'built').exists():
            build_docs.build(tmp/'proc', tmp/'site')
            (tmp/'built').touch()
    return tmp/'site'

def test_every_notebook_is_a_page(site):
    for page in build_docs.page_map().values(): assert (site/page).with_suffix('.html').stat().st_size>2000, page
    assert (site/'search/search_index.json').exists()

def test_only_a_notebook_that_installs_the_package_opens_in_colab(monkeypatch):
    monkeypatch.setattr(build_docs, 'metadata', lambda: dict(repository='https://github.com/o/r'))
    pages = build_docs.page_map()
    def opens(src): return 'Open in Colab' in build_docs.notebook_md(json.loads((root/src).read_text()), src, pages[src], pages)[0]
    assert [opens(f'nbs/{o}.ipynb') for o in ('start/02_five_minutes','tutorials/10_your_own_photographs','start/01_install')] == [True,True,False]

def test_a_table_wider_than_a_phone_is_shown_as_cards(site):
    wide = ['optimizer','learning_rate','[settings](x.md)','weight_decay','paper','minutes']
    md = '\n'.join([f"| recipe | {' | '.join(wide)} |", '|---'*7+'|', "| `a|b` | FastAdam | 0.002 |  | 0.02000000 | `int|None` | 12 |", '', 'text', ''])
    got = build_docs.cards(md)
    assert got.startswith('<div class="cards" markdown>\n\n| recipe | optimizer |') and got.endswith('</div>\n\ntext\n')
    assert '| `a|b` | FastAdam { data-label="optimizer" } | 0.002 { data-label="learning rate" } |  | ' in got and '| `int|None` { data-label="paper" } |' in got
    narrow = '| a | b |\n|---|---|\n| 1 | 2 |\n'
    for o in narrow, f'```text\n{md}```\n', build_docs.results(md): assert build_docs.cards(o)==o
    page = (site/'21_recipes.html').read_text()
    assert re.search('<div class="cards long">.*<td data-label="optimizer">', page, re.S) and 'data-label=' not in re.sub('<td data-label=', '', page)

@pytest.fixture(scope='module')
def search(site):
    """Function that gives the pages which a search finds, best first, as the site's own search ranks them

    That is lunr without stemming and without regard to length; words may go on; a page counts more than its parts, and more for more words.
    A word such as "own" that lunr leaves out of its index counts only where it is the beginning of another word."""
    from lunr import get_default_builder
    from lunr.stop_word_filter import WORDS
    index,b = json.loads((site/'search/search_index.json').read_text()),get_default_builder()
    for pipeline in b.pipeline,b.search_pipeline:
        for o in [o for o in pipeline._stack if getattr(o, 'label', '')!='stopWordFilter']: pipeline.remove(o)
    b._b = 0
    b.ref('location')
    for k,v in index['config']['fields'].items(): b.field(k, boost=v['boost'])
    def plain(o): return re.sub(index['config']['separator'], ' ', html.unescape(re.sub('<[^>]*>', ' ', o)))
    for d in index['docs']: b.add(dict(location=d['location'], title=plain(d['title']), text=plain(d['text']), tags=plain(' '.join(d.get('tags', [])))))
    index = b.build()
    def find(query):
        words,found = query.lower().split(),[]
        for o in index.search(' '.join(f'{w}*' for w in words)):
            page,_,part = o['ref'].partition('#')
            matched = {w for w in words if any(t.startswith(w) for t in o['match_data'].metadata)}
            share = len(matched)/len([w for w in words if w in matched or w not in WORDS])
            found.append((o['score']*(1+((not part)+share)**2), page))
        return list(dict.fromkeys(page for _,page in sorted(found, key=lambda o: -o[0]))) # Of equals, the first in the index
    return find

pretrained = 'tutorials/15_pretrained' if (root/'nbs/tutorials/15_pretrained.ipynb').exists() else 'arguments'

@pytest.mark.parametrize('query, page', [
    ('confusion', 'howto/look'), ('top losses', 'howto/look'), ('Label Studio', '29_tables'), ('CSV', 'tutorials/10_your_own_photographs'),
    ('pretrained', pretrained), ('own data', 'tutorials/10_your_own_photographs'), ('my own data', 'tutorials/10_your_own_photographs'), ('custom data', 'tutorials/10_your_own_photographs'), ('predict folder', 'howto/predict'), ('imbalanced', 'howto/imbalance'),
    ('resume', 'howto/resume'), ('wrong labels', 'howto/wrong_labels'), ('install', 'start/01_install'), ('mixmatch_learner', 'arguments'),
    ('epoch', 'howto/epochs'), ('onnx', 'howto/deploy'), ('TTA', 'howto/predict'), ('GPU', 'howto/gpus'), ('memory', 'howto/memory'), ('class weights', 'howto/imbalance'),
    ('custom method', 'tutorials/06_your_own_method'), ('own method', 'tutorials/06_your_own_method'), ('new method', 'tutorials/06_your_own_method'), ('my own method', 'tutorials/06_your_own_method'), ('which method', 'methods/which'), ('label next', 'tutorials/13_label_next'), ('terminal', '34_cli'),
    ('kill', 'howto/resume'), ('few labels', 'howto/few_classes'), ('learning rate', 'howto/epochs'), ('lr_find', 'howto/epochs'),
    ('mixed precision', 'howto/speed'), ('Colab', 'start/01_install'), ('hyperparameter', 'tutorials/06_your_own_method'), ('unbalanced', 'howto/imbalance'), ('imbalance', 'howto/imbalance'),
    ('balanced accuracy', 'howto/imbalance'), ('continue training', 'howto/resume'), ('train longer', 'howto/resume'), ('confusion matrix', 'howto/look'), ('spreadsheet', 'tutorials/10_your_own_photographs'), ('blank labels', 'tutorials/10_your_own_photographs'),
    ('Ctrl-C', 'howto/resume'), ('duplicates', '30_collect'), ('CUDA out of memory', 'howto/memory'), ('FastAPI', 'tutorials/14_web_page'), ('label studio export', '29_tables'),
    ('grayscale', '00_images'), ('multi-label', '29_tables'), ('object detection', '29_tables'), ('segmentation', '29_tables'), ('class imbalance', 'howto/imbalance'),
    ('embeddings', '32_choose'), ('unknown class', '32_choose'), ('save model', 'howto/deploy'), ('cross validation', '30_collect'),
    ('k-fold', '30_collect'), ('reproducible', 'understand/01_promises'), ('early stopping', 'howto/epochs'), ('speed up', 'howto/speed'), ('slow', 'howto/speed'),
    ('quick start', 'start/02_five_minutes'), ('data augmentation', 'tutorials/01_augmentation'), ('huggingface', '29_tables'),
    ('resnet50', pretrained if pretrained!='arguments' else '20_learner'), ('windows', 'start/01_install'),
    ('overfit', 'howto/epochs'), ('batch size', 'howto/epochs'), ('wandb', 'howto/look'), ('callbacks', 'howto/look'), ('low accuracy', 'howto/look'), ('seed', 'understand/01_promises'), ('freeze', pretrained),
    ('fine tune', pretrained), ('offline', pretrained), ('download weights', pretrained), ('num_workers', 'howto/speed'), ('training time', 'howto/speed'), ('pseudo labels', 'methods/02_pseudo_label'),
    ('semi-supervised', 'methods/00_map'), ('threshold', 'methods/11_fixmatch'), ('domain shift', 'methods/15_adamatch'), ('loss nan', '13_finite'), ('baseline', '25_frozen'), ('self training', '25_frozen'),
    ('distillation', 'tutorials/12_phone'), ('test time augmentation', 'howto/predict'), ('image size', 'tutorials/10_your_own_photographs'), ('resize', 'tutorials/10_your_own_photographs'), ('transforms', '05_views'),
    ('hyperparameters', 'tutorials/06_your_own_method'), ('how many labels', 'howto/few_classes'), ('requirements', 'start/01_install'), ('validation set', '30_collect'), ('uncertain images', 'tutorials/13_label_next'), ('export onnx', 'howto/deploy')])
def test_search_finds_the_right_page_first(search, query, page): assert search(query)[0]==f'{page}.html', search(query)[:5]

def test_search_finds_the_argument_too(search): assert search('batch size')[1]=='arguments.html'

def test_search_finds_the_api(site):
    docs = json.loads((site/'search/search_index.json').read_text())['docs']
    found = {d['location'] for d in docs if d['title']=='mixmatch_learner'}
    assert '20_learner.html#mixmatch_learner' in found

def test_reference_names_every_public_definition(site):
    "Against the modules' `__all__`"
    text = (site/'reference.html').read_text()
    for f in (root/'fastai_mixmatch').glob('[a-z]*.py'):
        src = f.read_text()
        names = re.search(r'^__all__ = \[(.*?)\]', src, re.M|re.S)
        public = set(re.findall(r"'(\w+)'", names[1])) if names else set()
        for node in ast.parse(src).body:
            if getattr(node, 'name', None) in public and ast.get_docstring(node): assert f'<code>{node.name}</code>' in text, f'{f.name}: {node.name}'

def test_pages_need_nothing_from_elsewhere(site):
    for f in site.rglob('*.html'):
        for url in re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="([^"]+)"', f.read_text()):
            if 'rel="canonical"' in url: continue
            assert not re.match(r'(https?:)?//', html.unescape(url)), f'{f.name} loads {url}'

def lost_links(site):
    "Links of the site that lead to no page, or to no place on it"
    texts = {f.resolve(): f.read_text() for f in site.rglob('*.html')}
    places = {f: {html.unescape(o) for o in re.findall(r'\s(?:id|name)="([^"]+)"', text)} for f,text in texts.items()}
    for f,text in texts.items():
        if f.name=='404.html': continue # Its links are those of the server's root
        for url in set(re.findall(r'<a\s[^>]*href="([^"]+)"', text)):
            to,_,anchor = html.unescape(url).partition('#')
            if re.match(r'[a-z][a-z0-9+.-]*:', to): continue
            page = (f.parent/to).resolve() if to else f
            if page.is_dir(): page /= 'index.html'
            if page not in texts and not page.exists() or anchor and page in texts and anchor not in places[page]: yield f'{f.name}: {url}'

def test_every_link_and_anchor_leads_somewhere(site): assert not sorted(lost_links(site))

def test_a_lost_anchor_is_noticed(tmp_path):
    "One with capitals, in a table, where MkDocs may not look"
    (tmp_path/'b.html').write_text('<h2 id="photographs-pretrained">P</h2>')
    (tmp_path/'a.html').write_text('<table><td><a href="b.html#Photographs,-pretrained">x</a> <a href="b.html#photographs-pretrained">y</a> <a class="z" href="c.html">z</a></td></table>')
    assert sorted(lost_links(tmp_path))==['a.html: b.html#Photographs,-pretrained', 'a.html: c.html']

def test_formulas_and_pictures(site):
    text = (site/'tutorials/04_step_by_step.html').read_text()
    assert '<math' in text and '$' not in re.sub(r'<(pre|code|script)\b.*?</\1>', '', text, flags=re.S)
    for f in site.rglob('*.html'):
        for src in re.findall(r'<img[^>]+src="([^"]+)"', f.read_text()): assert (f.parent/src).exists(), f'{f.name}: {src}'

def test_diagrams_scroll_on_a_phone():
    "Drawn blocks are marked; commands and code with the name of its language stay as they are"
    drawn = build_docs.diagrams('a\n\n    x ─┐\n    yy ┴─► z\n\nb')
    assert drawn=='a\n\n<div class="output" markdown>\n\n```text\nx ─┐\nyy ┴─► z\n```\n\n</div>\n\nb'
    assert build_docs.diagrams('```text\nx ─┐\nyy ┴─► z\n```')==drawn[3:-2]
    for o in ('a\n\n    python x.py\n\nb', '```python\n    s = "─"\n```'): assert build_docs.diagrams(o)==o

@pytest.mark.parametrize('md, colored', [
    ('a\n\n    f(x) # y\n\nb', 'a\n\n```python\nf(x) # y\n```\n\nb'), ('```\nimport a\n\nf()\n```', '```python\nimport a\n\nf()\n```\n'),
    ('```\npip install x\n```', None), ('- a\n\n    word\n', None), ('    labels.csv   file,label\n', None), ('```text\nf()\n```', None)])
def test_python_is_colored(md, colored):
    "Where it is not said what a block holds, Python is found; everything else stays as it is"
    assert build_docs.diagrams(md)==(colored or md)

def _cell(src, kind='markdown', **kwargs): return dict(cell_type=kind, source=src, **kwargs)

@pytest.mark.parametrize('cell, message', [
    (_cell('[a](nowhere.ipynb)'), 'nowhere.ipynb'), (_cell('f()', 'code', outputs=[dict(output_type='error', ename='E', evalue='bad')]), 'stored error: E: bad')])
def test_what_fails_the_build(cell, message):
    with pytest.raises(ValueError, match=message): build_docs.notebook_md(dict(cells=[cell]), 'nbs/x.ipynb', 'x.md', {})

def test_mkdocs_warning_fails_the_build(site, tmp_path):
    "With the settings of the site, of which this is one page"
    settings = json.loads((site.parent/'proc/mkdocs.yml').read_text())
    settings.update(INHERIT=os.path.relpath(root/'docs/mkdocs.yml', tmp_path), nav=[{'Home': 'index.md'}])
    (tmp_path/'mkdocs.yml').write_text(json.dumps(settings))
    (tmp_path/'pages').mkdir()
    (tmp_path/'pages/index.md').write_text('# Home\n\n[a](#nothing-of-that-name) [b](08_learner.md)\n')
    r = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '-f', tmp_path/'mkdocs.yml', '-d', tmp_path/'site'], text=True, capture_output=True,
                       env=os.environ | dict(NO_MKDOCS_2_WARNING='1'))
    assert r.returncode!=0 and 'nothing-of-that-name' in r.stderr and '08_learner.md' in r.stderr

def test_definition():
    src = '@patch\ndef f(self:Learner,\n    n:int=6, # Images\n    *args, **kw # More\n)->dict: # Plain\n    "Do it"\n    return 1'
    (name, node, fn), = build_docs.definitions(src)
    md = build_docs.definition_md(name, node, fn, src)
    assert '### Learner.f { #learner-f }' in md and '| `n` | `int` | `6` | Images |' in md and '| *returns* | `dict` | | Plain |' in md and 'Do it' in md

def test_definition_in_one_line():
    "The comment of a line with all parameters says what is returned"
    src = 'def f(a, n:int=2)->int: # The sum\n    "Add"\n    return a+n'
    (name, node, fn), = build_docs.definitions(src)
    md = build_docs.definition_md(name, node, fn, src)
    assert '| `n` | `int` | `2` |  |' in md and '| *returns* | `int` | | The sum |' in md

def test_heads_of_tables_are_breakable():
    "After `_` and `/` and in two long words in the head of a table, but not in its rows, in code, or in the address of a link"
    assert build_docs.breakable('| train_loss | a |\n|---|---|\n| b_c | 1 |')=='| train\\_<wbr>loss | a |\n|---|---|\n| b_c | 1 |'
    assert build_docs.breakable('| f1_score | accuracy | confidence |\n|---|---|---|')=='| f1\\_<wbr>score | accu&shy;racy | confi&shy;dence |\n|---|---|---|'
    assert build_docs.breakable('| images/s |\n|---|')=='| images/<wbr>s |\n|---|'
    for o in ('| [a](b_c.html) | d |\n|---|---|\n', '| `b_c` | accuracy |\n|---|---|\n', 'a_b | c\n', '| x_y |\n\n'): assert build_docs.breakable(o)==o

def test_a_page_begins_with_what_a_user_calls(site, monkeypatch):
    "Before its first heading, and on the page of all names; a name that is not there fails the build"
    page = (site/'30_collect.html').read_text()
    head = page[page.index('<h1'):page.index('<h2')]
    assert re.findall(r'<a href="#(\w+)"><code>', head)[:2]==['collect','survey'] and 'from any source' in head
    names = (site/'reference.html').read_text()
    assert names.index('30_collect.html#collect"') < names.index('30_collect.html#look_at"')
    monkeypatch.setattr(build_docs, 'called', {'x*': ['b']})
    names = [('a', 'An <a>', 'a'), ('b', 'A | b', 'b')]
    assert build_docs.with_called('# X\n\nText\n\n### a\n\n### b', 'x.md', names)==(
        '# X\n\nText\n\n| What you call | |\n|---|---|\n| [`b`](#b) | A \\| b |\n\n### a\n\n### b')
    assert build_docs.with_called('# Y', 'y.md', names)=='# Y'
    with pytest.raises(ValueError, match='x.md does not define b'): build_docs.with_called('# X', 'x.md', names[:1])

def test_navigation(monkeypatch):
    "Pages stand where the first pattern that names them says, in the order of the patterns; none is left out"
    monkeypatch.setattr(build_docs, 'sections', {'First': ['b/2*', 'b/*'], 'Then': {'': ['c*'], 'Inside': ['d*']}})
    titles = {f'{o}.md': o for o in ('index','b/1','b/2','c','d1','d2')}
    assert build_docs.navigation(titles)==[{'Home': 'index.md'}, {'First': [{'b/2': 'b/2.md'}, {'b/1': 'b/1.md'}]},
                                           {'Then': [{'c': 'c.md'}, {'Inside': [{'d1': 'd1.md'}, {'d2': 'd2.md'}]}]}]
    with pytest.raises(ValueError, match='names e.md'): build_docs.navigation(titles | {'e.md': 'e'})

def test_order_of_the_site(site):
    tabs = re.findall(r'md-tabs__link">\s*(.*?)\s*</a>', (site/'index.html').read_text())
    assert tabs==['Home','Start','Your own photographs','How-to','Understand','Methods','Reference','Develop']

def test_every_argument_is_on_the_page(site):
    import inspect
    from fastai_mixmatch.learner import mixmatch_learner
    text = (site/'arguments.html').read_text()
    for k in inspect.signature(mixmatch_learner).parameters: assert f'<td><code>{k}</code></td>' in text, k
    for row in re.findall(r'<tr>(.*?)</tr>', text, re.S):
        cells = re.findall(r'<td>(.*?)</td>', row, re.S)
        assert not cells or len(cells)==4 and all(cells), row

def test_the_first_page_leads_to_the_arguments(site):
    "To the site's page; the README, which has no such page, leads to the notebook"
    assert 'href="arguments.html"' in re.search('<article.*</article>', (site/'index.html').read_text(), re.S)[0]
    assert '](nbs/20_learner.ipynb#mixmatch_learner)' in (root/'README.md').read_text()

def test_defaults_as_a_person_writes_them():
    assert [arguments.value(o) for o in (1/64, 1-1/128, .95, .5, 75., 'ce')]==['1/64','1-1/128','0.95','0.5','75.0',"'ce'"]

def test_methods_without_a_function_are_named():
    assert 'VAT' in arguments.others() and 'FixMatch' not in arguments.others()
    assert '`VAT`' in arguments.page() and 'ssl_learner(dls, unlabeled, arch, method=VAT())' in arguments.page()

def test_wrapped_signature():
    long = arguments.wrapped('f(', [f'argument_{i}={i}' for i in range(20)])
    assert max(map(len, long.split('\n')))<=88 and len(long.split('\n'))>2 and ''.join(long.split()).endswith('argument_19=19)')
    assert arguments.wrapped('f(', [])=='f()' and arguments.wrapped('f(', ['a','b'])=='f(a, b)'

def test_angle_brackets(): assert build_docs.escape('a<b, in `x/<c>/`, <d>')=='a&lt;b, in `x/<c>/`, &lt;d>'

def test_one_head():
    assert build_docs.one_head('| method | a | b |\n| --- | --- | --- |\n| k |  |  |\n| x | 1 | 2 |')=='| k | a | b |\n| --- | --- | --- |\n| x | 1 | 2 |'
    assert build_docs.one_head('|  | a | b |\n| --- | --- | --- |\n| k |  |  |\n| x | 1 | 2 |')=='| k | a | b |\n| --- | --- | --- |\n| x | 1 | 2 |'

def test_table_of_a_grouped_index():
    df = pd.DataFrame(dict(a=[2,2,5], b=['x','y','x'], c=[1,2,3])).set_index(['a','b'])
    table = lambda o: build_docs.one_head(build_docs.html_table(o.to_html()))
    assert table(df)=='| a | b | c |\n| --- | --- | --- |\n| 2 | x | 1 |\n|  | y | 2 |\n| 5 | x | 3 |'
    assert table(df.reset_index(0)[['a']])=='| b | a |\n| --- | --- |\n| x | 2 |\n| y | 2 |\n| x | 5 |'
    assert table(df.unstack()).splitlines()[0]=='|  | c |  |'

def test_printed_results():
    "A results table becomes a table, and a long sentence several lines; what has columns stays"
    lines = ['   epoch  train_loss      time', '       0      1.0000     00:01', '       1      0.5000     00:01']
    md = build_docs.console('\n'.join(['MixMatch: '+'a word '*20, *lines, 'name      '+'x '*60]))
    assert '| epoch | train_loss | time |\n|---|---|---|\n| 0 | 1.0000 | 00:01 |\n| 1 | 0.5000 | 00:01 |\n' in md
    assert max(map(len, md.split('name')[0].split('\n')))<=84 and 'name      '+'x '*59 in md
    assert build_docs.console('') == ''
    def broken(txt): return '"output words"' in build_docs.console(txt) # On a phone
    named = 'images      202, from 84×97 to 169×174 pixels\nunreadable  1: broken.jpg: the file ends too early'
    assert broken(named) and broken('epoch 1/1  valid loss 1.352  accuracy 47.0%') and broken(f'{named}\nepoch 1/1  loss 1.3  00:00 left')
    assert not broken('a  b  c\n1  2  3') and not broken(f'{named}\na    b   c\n10   2   3')

def test_execute_stops_where_a_cell_fails(tmp_path, monkeypatch, capsys):
    "The progress names each notebook, and the end says what failed"
    cell = dict(cell_type='code', execution_count=None, id='a', metadata={}, outputs=[], source=['assert 1==2, "one is not two"'])
    nb = dict(cells=[cell], metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')), nbformat=4, nbformat_minor=5)
    (tmp_path/'fails.ipynb').write_text(json.dumps(nb))
    monkeypatch.setattr('notebooks.Server', lambda: SimpleNamespace(start=forks().start, close=lambda: None))
    monkeypatch.setattr(build_docs, 'page_map', lambda: {str(tmp_path/'fails.ipynb'): 'fails.md'})
    with pytest.raises(SystemExit, match='one is not two[^$]*fails.ipynb fails'): build_docs.execute()
    assert '  1/1  ' in capsys.readouterr().out

def test_temporary_folders_are_not_shown():
    out = dict(output_type='stream', name='stdout', text=['result in /tmp/tmpab_12/run/x.pt, not /tmp/mine\n'])
    assert 'result in run/x.pt, not /tmp/mine' in build_docs.output_md(out, 'a.ipynb', {})
