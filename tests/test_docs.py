"The documentation site builds from the stored outputs, strictly, and holds every page."
import ast, html, json, os, re, subprocess, sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))
import build_docs

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The built site"
    tmp = tmp_path_factory.mktemp('docs')
    build_docs.build(tmp/'proc', tmp/'site')
    return tmp/'site'

def test_every_notebook_is_a_page(site):
    for page in build_docs.page_map().values(): assert (site/page).with_suffix('.html').stat().st_size>2000, page
    assert (site/'search/search_index.json').exists()

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

def test_formulas_and_pictures(site):
    text = (site/'tutorials/04_step_by_step.html').read_text()
    assert '<math' in text and '$' not in re.sub(r'<(pre|code|script)\b.*?</\1>', '', text, flags=re.S)
    for f in site.rglob('*.html'):
        for src in re.findall(r'<img[^>]+src="([^"]+)"', f.read_text()): assert (f.parent/src).exists(), f'{f.name}: {src}'

def _cell(src, kind='markdown', **kwargs): return dict(cell_type=kind, source=src, **kwargs)

@pytest.mark.parametrize('cell, message', [
    (_cell('[a](nowhere.ipynb)'), 'nowhere.ipynb'), (_cell('f()', 'code', outputs=[dict(output_type='error', ename='E', evalue='bad')]), 'stored error: E: bad')])
def test_what_fails_the_build(cell, message):
    with pytest.raises(ValueError, match=message): build_docs.notebook_md(dict(cells=[cell]), 'nbs/x.ipynb', 'x.md', {})

def test_mkdocs_warning_fails_the_build(tmp_path):
    build_docs.write_pages(tmp_path)
    with open(tmp_path/'pages/index.md', 'a') as f: f.write('\n[a](08_learner.md#nothing-of-that-name)\n')
    r = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '-f', tmp_path/'mkdocs.yml', '-d', tmp_path/'site'], text=True, capture_output=True,
                       env=os.environ | dict(NO_MKDOCS_2_WARNING='1'))
    assert r.returncode!=0 and 'nothing-of-that-name' in r.stderr

def test_definition():
    src = '@patch\ndef f(self:Learner,\n    n:int=6, # Images\n    *args, **kw # More\n)->dict: # Plain\n    "Do it"\n    return 1'
    (name, node, fn), = build_docs.definitions(src)
    md = build_docs.definition_md(name, node, fn, src)
    assert '### Learner.f { #learner-f }' in md and '| `n` | `int` | `6` | Images |' in md and '| *returns* | `dict` | | Plain |' in md and 'Do it' in md

def test_a_folder_of_notebooks_is_a_section():
    pages = {'nbs/index.ipynb': 'index.md', 'nbs/tutorials/01_a.ipynb': 'tutorials/01_a.md', 'nbs/methods/01_b.ipynb': 'methods/01_b.md', 'nbs/00_c.ipynb': '00_c.md', 'docs/d.md': 'd.md'}
    nav = {}
    for src,page in pages.items(): nav.setdefault(build_docs.section(src), []).append({'T': page})
    assert build_docs.navigation(nav)==[{'Home': 'index.md'}, {'Tutorials': [{'T': 'tutorials/01_a.md'}]}, {'Methods': [{'T': 'methods/01_b.md'}]},
                                        {'Reference': 'reference.md'}, {'Package': [{'T': '00_c.md'}]}, {'Project': [{'T': 'd.md'}]}]

def test_angle_brackets(): assert build_docs.escape('a<b, in `x/<c>/`, <d>')=='a&lt;b, in `x/<c>/`, &lt;d>'

def test_one_head():
    assert build_docs.one_head('| method | a | b |\n| --- | --- | --- |\n| k |  |  |\n| x | 1 | 2 |')=='| k | a | b |\n| --- | --- | --- |\n| x | 1 | 2 |'
    assert build_docs.one_head('|  | a | b |\n| --- | --- | --- |\n| k |  |  |\n| x | 1 | 2 |')=='| k | a | b |\n| --- | --- | --- |\n| x | 1 | 2 |'
