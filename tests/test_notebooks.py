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
long = 'index','02_five_minutes','09_changing_things','look','04_streams','26_inspect','32_choose'
notebooks.sort(key=lambda o: long.index(o.stem) if o.stem in long else len(long))
nb_ids = [p.relative_to(root/'nbs').as_posix() for p in notebooks]

def is_nightly(name):
    """`17_methods` and the pages of methods train each method on digits; by commit runs their map. There `test_learns` trains every method with the
    settings of `17_methods`, in a third of the steps, and each has to learn; test_methods compares targets, weights and losses with formulas written
    again. `tutorials/15_pretrained` trains a pretrained network, and `howto/imbalance` the same twice more: test_learner, test_frozen and test_cli
    train smaller ones, and `25_frozen` asks this one. `prior`, weights of classes in `labeled_loss`, and `frozen_baseline` by balanced accuracy have
    tests in test_mixmatch, test_losses and test_frozen. Of `howto/deploy`, `howto/predict`, `tutorials/12_phone` and `tutorials/13_label_next`,
    predictors, ONNX, `distill` and `label_next` have theirs in test_predictor, test_export, test_choose and test_cli, and run on the pages
    `24_predictor` and `32_choose`. `tutorials/10_your_own_photographs` goes the way of the commands in Python: test_cli trains on the same
    photographs. The classes of `tutorials/06_your_own_method` train in
    test_own_method. Pages of rooms that train longest have the tests of their rooms: `14_semi`, `23_checkpoint`, `30_collect`, `33_summary`, `34_cli` and
    `35_export`; what `start/03_you_asked`, `howto/few_classes` and `understand/01_promises` show has tests in test_learner, test_mixmatch, test_choose and
    those that the last one names.
    `tutorials/07_from_fixmatch` trains FixMatch once more, and `howto/speed` measures steps of three networks, which test_models and
    test_learner make. `83_distributed` starts the example by `torchrun`, and test_distributed without it, which is quicker"""
    rooms = '14_semi','17_methods','23_checkpoint','30_collect','33_summary','34_cli','35_export','83_distributed'
    others = *rooms,'methods/','howto/deploy','howto/few_classes','howto/imbalance','howto/predict','howto/speed','start/03_you_asked','understand/01_promises'
    tutorials = '06_your_own_method','07_from_fixmatch','10_your_own_photographs','12_phone','13_label_next','15_pretrained'
    return name.startswith((*others,*(f'tutorials/{o}' for o in tutorials))) and Path(name).stem not in ('00_map','which')

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
