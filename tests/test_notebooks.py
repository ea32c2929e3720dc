"""Every notebook runs from top to bottom in a process of its own, and was stored with its outputs.

`make nightly` runs those that train longest on what other pages and tests run by commit, and `make docs` runs all."""
import ast, base64, importlib, inspect, io, json, re, sys
from pathlib import Path

import pytest
from PIL import Image

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))
from notebooks import lighter, run
from helpers import forks
notebooks = sorted(p for p in root.glob('nbs/**/*.ipynb') if not any(o[0] in '._' for o in p.relative_to(root).parts))
# What trains long comes first, so that no process has it left at the end
long = '02_five_minutes','32_choose','09_changing_things','04_streams'
notebooks.sort(key=lambda o: long.index(o.stem) if o.stem in long else len(long))
nb_ids = [p.relative_to(root/'nbs').as_posix() for p in notebooks]

# Run by night only, and what runs the same by commit
BY_NIGHT = { # chkstyle: ignore-node (one page a line)
    'index': 'test_repository runs the README, in one epoch',
    '14_semi': 'test_semi', '23_checkpoint': 'test_checkpoint', '26_inspect': 'test_looking', '30_collect': 'test_collect',
    '33_summary': 'test_summary', '34_cli': 'test_cli', '35_export': 'test_export',
    '17_methods': 'test_learns trains each method in a third of the steps, and test_methods compares targets, weights and losses with formulas written again',
    'methods/': 'test_learns and test_methods; the pages `00_map` and `which` run by commit',
    '83_distributed': 'test_distributed, without `torchrun`',
    'howto/deploy': 'test_predictor and test_export', 'howto/predict': 'test_export', 'tutorials/11_batch_job': 'test_export',
    'tutorials/12_phone': 'test_export', 'tutorials/14_web_page': 'test_predictor',
    'howto/few_classes': 'test_mixmatch and test_choose', 'howto/imbalance': 'test_mixmatch, test_losses and test_frozen',
    'howto/look': 'test_looking', 'howto/resume': 'test_checkpoint', 'howto/speed': 'test_models and test_learner',
    'howto/wrong_labels': 'test_choose', 'start/03_you_asked': 'test_learner, test_mixmatch and test_choose',
    'tutorials/03_sharpening': 'test_targets', 'tutorials/06_your_own_method': 'test_own_method', 'tutorials/07_from_fixmatch': 'test_learns',
    'tutorials/10_your_own_photographs': 'test_cli', 'tutorials/13_label_next': 'the page `32_choose`',
    'tutorials/15_pretrained': 'test_learner, test_frozen, test_cli and the page `25_frozen`, with smaller networks',
    'understand/01_promises': 'the tests that it names'}

def is_nightly(name): return name.startswith((*BY_NIGHT,)) and Path(name).stem not in ('00_map','which')

def code_of(path): return [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type']=='code']

def test_there_are_notebooks(): assert notebooks

@pytest.mark.parametrize('path', [pytest.param(o, id=n, marks=pytest.mark.nightly if is_nightly(n) else ()) for o,n in zip(notebooks, nb_ids)])
def test_notebook(path):
    rc,out,_ = run(forks(), path)
    assert rc==0, f'{path.relative_to(root)} failed:\n{out}'

@pytest.mark.parametrize('path', [pytest.param(o, id=n) for o,n in zip(notebooks, nb_ids) if is_nightly(n)])
def test_a_nightly_notebook_calls_what_there_is(path):
    "By commit: every class and function of the package that a page calls is there, and takes these arguments"
    from fastai_mixmatch import all as package
    theirs,called,known = vars(importlib.import_module('fastai.vision.all')),0,dict(vars(package))
    for o in re.findall(r'#\| default_exp (\w+)', '\n'.join(code_of(path))): # A room's page calls what is private, too
        room = importlib.import_module(f'fastai_mixmatch.{o}')
        known |= {k: v for k,v in vars(room).items() if getattr(v, '__module__', '')==room.__name__}
    for src in code_of(path):
        for o in ast.walk(ast.parse(''.join(l for l in src.splitlines(True) if l[0] not in '!%'))):
            if isinstance(o, ast.ImportFrom) and o.module.startswith('fastai_mixmatch.'):
                for a in o.names: assert a.name=='*' or hasattr(importlib.import_module(o.module), a.name), f'{a.name} is not in {o.module}'
            if not isinstance(o, ast.Call) or not isinstance(o.func, ast.Name) or o.func.id in theirs or o.func.id not in known: continue
            f,called = known[o.func.id],called+1
            if any(isinstance(a, ast.Starred) for a in o.args) or any(k.arg is None for k in o.keywords): continue
            if isinstance(f, type) and issubclass(f, Exception): continue # They take a text
            sig = inspect.signature(f.__init__ if isinstance(f, type) and type(f) is not type else f) # A metaclass hides that of the class
            try: sig.bind(*[None]*('self' in sig.parameters), *o.args, **{k.arg: k.value for k in o.keywords})
            except TypeError as e: pytest.fail(f'{ast.unparse(o)}: {e}')
    assert called

@pytest.mark.parametrize('path', notebooks, ids=nb_ids)
def test_outputs_are_stored(path):
    cells = [c for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type']=='code']
    outputs = [o for c in cells for o in c['outputs']]
    assert outputs, 'no stored output: execute the notebook and save it'
    assert not [o for o in outputs if o['output_type']=='error']
    texts = [o for out in outputs for o in (out.get('text', ''), *out.get('data', {}).values()) if not isinstance(o, dict)]
    for debris in ('<progress', '\u2588', '\r'): assert not any(debris in ''.join(o) for o in texts), f'a progress bar ({debris!r}) is stored'

def test_a_failing_cell_fails(tmp_path):
    cell = dict(cell_type='code', execution_count=None, id='a', metadata={}, outputs=[], source=['one = 1\n', 'assert one==2, "one is not two"'])
    nb = dict(cells=[cell], metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')), nbformat=4, nbformat_minor=5)
    (tmp_path/'fails.ipynb').write_text(json.dumps(nb))
    rc,out,_ = run(forks(), tmp_path/'fails.ipynb')
    assert rc!=0 and 'one is not two' in out

def test_stored_pictures_are_light(tmp_path):
    "The same pixels as a palette of up to 256 colors; a picture that is transparent somewhere stays as it is"
    def nb_of(src):
        cell = dict(cell_type='code', execution_count=None, id='a', metadata={}, outputs=[], source=src)
        return dict(cells=[cell], metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')), nbformat=4, nbformat_minor=5)
    file,made = tmp_path/'picture.ipynb',tmp_path/'picture.png'
    file.write_text(json.dumps(nb_of(['from PIL import Image\n', 'im = Image.linear_gradient("L").convert("RGBA")\n', f'im.save({str(made)!r})\n', 'im'])))
    rc,out,_ = run(forks(), file, save=True)
    assert rc==0, out
    data, = [o['data'] for o in json.loads(file.read_text())['cells'][0]['outputs'] if 'image/png' in o.get('data', {})]
    kept = Image.open(io.BytesIO(base64.b64decode(data['image/png'])))
    assert kept.mode=='P' and kept.convert('RGB').tobytes()==Image.open(made).convert('RGB').tobytes()
    clear,many = Image.new('RGBA', (9,9), (0,0,0,0)),Image.effect_noise((99,99), 99).convert('RGBA')
    many.putdata([(i%256, i//256, 0, 255) for i in range(99*99)])
    def stored(im): out = io.BytesIO(); im.save(out, 'PNG'); return out.getvalue()
    assert lighter(stored(clear))==stored(clear)
    small = Image.open(io.BytesIO(lighter(stored(many))))
    assert small.mode=='RGB' and small.tobytes()==many.convert('RGB').tobytes()
