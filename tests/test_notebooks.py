"Every notebook runs from top to bottom in a process of its own, and was stored with its outputs."
import base64, io, json, sys
from pathlib import Path

import pytest
from PIL import Image

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))
from notebooks import lighter, run
from helpers import forks
notebooks = sorted(p for p in root.glob('nbs/**/*.ipynb') if not any(o[0] in '._' for o in p.relative_to(root).parts))
# What trains long comes first, so that no process has it left at the end
long = 'index','17_methods','35_export','83_distributed','10_your_own_photographs','15_pretrained','13_label_next','14_semi','30_collect','06_your_own_method','01_promises'
notebooks.sort(key=lambda o: long.index(o.stem) if o.stem in long else len(long))
nb_ids = [p.relative_to(root/'nbs').as_posix() for p in notebooks]

def test_there_are_notebooks(): assert notebooks

@pytest.mark.parametrize('path', notebooks, ids=nb_ids)
def test_notebook(path):
    rc,out,_ = run(forks(), path)
    assert rc==0, f'{path.relative_to(root)} failed:\n{out}'

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
