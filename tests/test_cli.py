"The commands, in real processes: help, mistakes, a training that is stopped and goes on, broken files."
import csv, html, inspect, io, json, os, re, shlex, shutil, signal, subprocess, sys, tempfile, time
from subprocess import PIPE
from contextlib import contextmanager
from functools import cache
import numpy as np, pandas as pd, pytest
from pathlib import Path
from PIL import Image
import timm, torch
from fastai.vision.all import CancelFitException, PILImageBW
from safetensors.torch import load_file
from fastai_mixmatch import cli, collect, plan, program
from fastai_mixmatch.checkpoint import read_checkpoint
from fastai_mixmatch.collect import survey
from fastai_mixmatch.files import lock_folder
from fastai_mixmatch.lists import ImageList
from fastai_mixmatch.predictor import load_predictor
from fastai_mixmatch.samples import sample_photos
from helpers import IL, X, Y, At, core_learner, ctrl_c_at, forks, opened, own_env

def start(*args):
    return forks().start('-m', 'fastai_mixmatch', *args, stdout=PIPE, stderr=PIPE, env=own_env(PYTHONUNBUFFERED='1'))

def run(*args):
    "Exit code, output, errors"
    p = start(*args)
    out,err = p.communicate()
    return p.returncode,out,err

@pytest.fixture(scope='module')
def photos(tmp_path_factory): return sample_photos(tmp_path_factory.mktemp('my photos'), 60, 16)

SMALL = '--model','small_cnn','--size','32'

@pytest.fixture(scope='module')
def trained(photos, tmp_path_factory):
    "A training that was stopped by Ctrl-C and started again, with what both told"
    out = tmp_path_factory.mktemp('cli')/'my run'
    args = 'train',photos/'labels.csv',*SMALL,'--scratch','--epochs','12','--out',out
    p = start(*args)
    lines = []
    while not any('epoch 3/' in o for o in lines): # In the middle
        lines.append(p.stdout.readline())
        assert p.poll() is None or lines[-1], ''.join(lines)+p.stderr.read()
    p.send_signal(signal.SIGINT)
    text,err = p.communicate(timeout=300)
    return out, (p.returncode, ''.join(lines)+text, err), run(*args), [str(o) for o in args]

@pytest.fixture
def main(capsys):
    "A command in this process: exit code, output, errors"
    def call(*args):
        capsys.readouterr()
        try: rc = cli.main([str(o) for o in args])
        except SystemExit as e: rc = e.code # Help, and mistakes that need no library
        return rc, *capsys.readouterr()
    return call

# --- a training

def test_ctrl_c_and_the_same_command(trained, main):
    out,(rc,text,err),(rc2,text2,err2),args = trained
    assert rc==130 and 'Traceback' not in err and 'the same command continues' in err
    assert rc2==0 and f"predict '{out}' FOLDER" in text2, err2
    first = int(re.search(r'epoch (\d+)/12', text2)[1])
    assert 3 <= first <= 6 # It goes on where it was
    assert re.search(r'accuracy [\d.]+% on 4 validation images \(±49 points\)', text2)
    assert load_predictor(out/'predictor.safetensors').classes == ['ball','diamond','star','tent']
    steps = json.loads(main(*args, '--json')[1])['steps']
    assert steps == 12*3 # Of 45 unlabeled images in batches of 16

def test_other_settings_are_refused(trained, main):
    out,*_,args = trained
    rc,text,err = main(*args, '--lr', '0.5')
    assert rc==1 and 'lr is 0.5, and was None' in err and 'Traceback' not in err

def test_budget(photos, tmp_path, main, clock):
    args = 'train',photos/'labels.csv','--model','small_cnn','--size','16','--bs','4' # Few images are read in a step
    rc,text,err = main(*args, '--minutes', '1', '--out', tmp_path/'run', '--json')
    made,end = json.loads((tmp_path/'run'/'plan.json').read_text()),json.loads(text)
    assert rc==0 and end['steps'] == sum(made['steps']) and len(made['steps']) == made['epochs'] > 5
    assert 40 < end['seconds'] < 60-made['after']+2 # All of what the report leaves

def test_too_few_minutes_are_told_with_how_many_it_takes(photos, tmp_path, main, clock):
    "In the numbers that were measured"
    rc,_,err = main('train', photos/'labels.csv', '--model', 'small_cnn', '--size', '16', '--minutes', '0.24', '--out', tmp_path/'run')
    told = re.search(r'a training has 0.24 minutes, enough for (\d+) steps of [\d.]+ s; give ([\d.]+) \(--minutes\), or a smaller --size, --bs or --model\n', err)
    assert rc==1 and told and int(told[1])<20 and float(told[2])>.24, err

@pytest.mark.parametrize('valid', [0, 40, 2000])
def test_the_minutes_that_are_told_are_enough(valid):
    il = ImageList.from_arrays(np.concatenate([X]*3), np.concatenate([Y]*3), img_cls=PILImageBW)
    learn = core_learner(il[:20].dataloaders(il[20:20+valid] if valid else None, bs=16), il[-3000:], bs=16)
    def planned(minutes, each): return plan.planned(dict(minutes=minutes), learn, 60*minutes-20, each)
    for each in (.001,.02,.3):
        with pytest.raises(ValueError) as e: planned(.5, each)
        assert planned(float(re.search(r'give ([\d.e+]+) ', str(e.value))[1]), each)['epochs']>=2

@pytest.mark.nightly
def test_the_budget_holds_over_pieces(photos, tmp_path, main, clock):
    "Stopped twice in the first epoch and once later: what was used before counts, with all starts"
    args,at = ('train',photos/'labels.csv','--model','small_cnn','--size','16','--bs','4','--minutes','1','--out',tmp_path/'run'),[]
    def steps(): return json.loads((tmp_path/'run'/'plan.json').read_text())['steps']
    for clock.stop in (4.5,6.5,25):
        rc,_,err = main(*args)
        assert rc==130, err
        at.append(len(steps()))
        spent = json.loads((tmp_path/'run'/'plan.json').read_text())['spent']
        assert 0 <= clock.t-spent < 1, 'all that the clock has shown'
    print(at)
    assert at[:2]==[1,1] and at[2]>1, at
    assert main(*args)[0]==0 and clock.t < 62

def test_what_needs_no_images_is_told_before_they_are_opened(photos, weights, tmp_path, main):
    "Minutes that the start and a report take, weights of another network, a folder without any, a file of something else"
    (tmp_path/'empty').mkdir()
    (tmp_path/'odd.pth').write_text('weights')
    start = 'train',photos/'labels.csv','--out',tmp_path/'run'
    for says,*args in (('--minutes must be more than 0.', '--minutes', '0.05'), ('belong to another network', '--model', 'resnet34', '--weights', weights),
                       ('no weights file', '--weights', tmp_path/'empty'), ('odd.pth is not a file of weights', '--weights', tmp_path/'odd.pth')):
        with opened(photos) as images: rc,_,err = main(*start, *args)
        assert rc==1 and says in err and not images, (args, err)

PRETRAINED = '--model','test_resnet','--size','32','--epochs','1','--weights'

@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    "A file of weights, which were never trained, of timm's smallest ResNet"
    f = tmp_path_factory.mktemp('weights')/'test_resnet.pth'
    torch.manual_seed(0)
    torch.save(timm.create_model('test_resnet').state_dict(), f)
    return f

class Slow:
    "A slow machine: by the clock, each image that a network looks at takes `each` seconds"
    def __init__(self, clock, each): self.clock,self.each = clock,each
    def __call__(self, module, inputs, output):
        if isinstance(module, torch.nn.Conv2d) and module.in_channels==3: self.clock.t += self.each*len(inputs[0])

@contextmanager
def slow(clock, each):
    hook = torch.nn.modules.module.register_module_forward_hook(Slow(clock, each))
    try: yield
    finally: hook.remove()

@pytest.mark.nightly
def test_the_start_is_fitted_once(photos, weights, tmp_path, main):
    "And read by each later command"
    out = tmp_path/'run'
    args = 'train',photos/'labels.csv',*PRETRAINED,weights,'--out',out
    with opened(out, '.tmp') as written:
        rc,text,err = main(*args)
        assert rc==0 and (out/'start.pt').is_file(), err
        assert 'looking at 61 images with the frozen network\n' in text and text.count('to beat: accuracy ')==2
        said = re.search(r'\ncomparison  (.*the best baseline, [\d.]+%.*)\n', text)[1]
        assert re.search('(±|up to )49 points', said) and said in (out/'report.html').read_text()
        made = {o: (out/o).read_bytes() for o in ('predictor.safetensors','start.pt')}
        (out/'predictor.safetensors').unlink() # As if it was stopped at the very end
        assert main(*args)[0]==0 and {o: (out/o).read_bytes() for o in made}==made
        assert all(main(o, out)[0]==0 for o in ('report','next'))
    assert sum('start.pt' in o.name for o in written)==1

def test_strangers_are_left_out(photos, weights, tmp_path, main):
    out,args = tmp_path/'run',('train',photos/'labels.csv',*PRETRAINED,weights,'--leave-out-strangers','--out',tmp_path/'run')
    rc,text,err = main(*args)
    n = len(pd.read_csv(out/'strangers.csv'))
    assert rc==0 and 0<n<45 and f'strangers left out: {n}; see ' in text, err
    made = json.loads((out/'plan.json').read_text())
    assert len(made['left_out'])==n and f'{45-n} unlabeled' in (out/'report.html').read_text()
    assert main(*args)[0]==0 and main('next', out, '--n', '2')[0]==0 # It is read again without them
    assert 'only published weights, not those of a training' in main('train', photos/'labels.csv', *SMALL, '--epochs', '1', '--leave-out-strangers', '--out', tmp_path/'none')[2]

def test_a_saved_dataset_from_train_to_next(photos, tmp_path, main):
    datasets = pytest.importorskip('datasets', reason='Hugging Face `datasets` is not installed')
    df = pd.read_csv(photos/'labels.csv')[lambda d: d.file!='broken.jpg']
    rows = dict(image=[Image.open(photos/o) for o in df.file], label=[o if isinstance(o, str) else None for o in df.label])
    ds = datasets.Dataset.from_dict(rows)
    ds.save_to_disk(tmp_path/'saved')
    out = tmp_path/'run'
    rc,text,err = main('train', tmp_path/'saved', *SMALL, '--epochs', '1', '--out', out)
    assert rc==0 and (out/'report.html').is_file(), err
    rc,text,err = main('next', out, '--n', '2')
    assert rc==0 and re.fullmatch(r'(train\[\d+\]  typical of \d+ images\n){2}', text)
    assert main('predict', out, f'hf:{tmp_path}/saved', '--out', tmp_path/'p.csv')[0]==0
    assert pd.read_csv(tmp_path/'p.csv').file.tolist()==[f'train[{i}]' for i in range(len(ds))]

@pytest.mark.nightly
def test_frozen_rows_that_take_too_long_are_left_out(weights, tmp_path, main, clock):
    "On a slow machine, where a training of small batches fits into the time"
    photos = sample_photos(tmp_path/'photos', 300, 16)
    args = [o for o in PRETRAINED if o not in ('--epochs','1')]
    with slow(clock, .5): rc,text,err = main('train', photos/'labels.csv', *args, weights, '--bs', '2', '--minutes', '9.8', '--out', tmp_path/'run')
    assert rc==0 and 'no accuracy to beat: 301 images with the frozen network would take 02:32, more than' in text, text+err
    assert 'to beat: accuracy' not in text and json.loads((tmp_path/'run'/'plan.json').read_text())['frozen']=={}

@pytest.mark.parametrize('pretrained, steps, lr, want', [(True, [5], None, 5e-4), (True, None, None, 2.5e-4), (False, None, None, 1e-3), (True, None, .1, .1)])
def test_a_short_training_takes_a_smaller_rate(pretrained, steps, lr, want):
    "Twice 5 steps, or with a budget about 20: a quarter or half of the rate for 40 and more, unless one is given"
    learn,got = core_learner(unlabeled=IL[200:280], bs=16, lr=1e-3),[]
    def note(learn):
        got.append(learn.param_scheduler.scheds['lr'](.25).max()) # The largest
        raise CancelFitException
    learn.add_cb(At('before_batch', note, n=0))
    plan.fit_plan(learn, dict(args=dict(seed=0, lr=lr), pretrained=pretrained, steps=steps, epochs=2))
    assert got==[pytest.approx(want)]

@pytest.mark.nightly
def test_a_short_budget_is_read_back(photos, weights, tmp_path, main, clock):
    "The rate of few steps is that of the plan, also in the process that made the plan"
    args = [o for o in PRETRAINED if o not in ('--epochs','1')]
    with slow(clock, .05): rc,text,err = main('train', photos/'labels.csv', *args, weights, '--minutes', '6', '--out', tmp_path/'run')
    made = json.loads((tmp_path/'run'/'plan.json').read_text())
    assert rc==0 and made['epochs']*2*made['steps'][0]<40, err
    rc,text,err = main('next', tmp_path/'run', '--n', '2')
    assert rc==0 and len(text.splitlines())==2, err

def test_a_label_a_class_and_none_to_validate_on(photos, tmp_path, main):
    (photos/'few.csv').write_text('file,label\nIMG_0001.jpg,ball\nIMG_0002.jpg,star\n')
    rc,text,err = main('train', photos/'few.csv', *SMALL, '--epochs', '1', '--out', tmp_path/'run')
    (photos/'few.csv').unlink()
    assert rc==0 and '\nno image to validate on\n' in text and 'There are no validation images' in (tmp_path/'run'/'report.html').read_text(), err

@pytest.mark.nightly # By commit: what is said, and going on
def test_each_fold(photos, tmp_path, main):
    out = tmp_path/'run'
    rc,text,err = main('train', photos/'labels.csv', *SMALL, '--epochs', '1', '--folds', '3', '--each-fold', '--out', out, '--json')
    end = json.loads(text)
    assert rc==0 and end['validated_on']==16 and len(end['folds'])==3 # Every label is asked about once
    assert all((out/o/'predictor.safetensors').is_file() for o in ('.','fold1','fold2'))
    assert abs(end['accuracy']*16-round(end['accuracy']*16))<1e-6

@pytest.mark.nightly
def test_each_fold_says_once_what_is_common(photos, tmp_path, main):
    with opened(photos, 'broken.jpg') as once: survey(photos/'labels.csv', progress=False)
    with opened(photos, 'broken.jpg') as looks: rc,text,err = main('train', photos/'labels.csv', *SMALL, '--epochs', '1', '--folds', '3', '--each-fold', '--out', tmp_path/'run')
    assert rc==0 and all(text.count(o)==1 for o in ('images      62', 'unreadable', 'duplicates  1', 'note: columns', 'Ctrl-C', '6 of them at a time for validation')), text
    assert re.findall(r'fold (\d) of 3: accuracy [\d.]+% on (\d) val', text)==[('1','6'),('2','5'),('3','5')] and 'may be off' not in text and '--each-fold' not in text
    with opened(photos, 'broken.jpg') as again:
        assert main('train', photos/'labels.csv', *SMALL, '--epochs', '1', '--folds', '3', '--each-fold', '--out', tmp_path/'run')[0]==0, 'it goes on'
    assert once==looks==again!=[]
    rc,text,err = main('next', tmp_path/'run'/'fold1', '--n', '1')
    assert rc==0 and 'trained on' not in err, err

@pytest.mark.nightly
def test_weights_are_fetched_for_the_first_fold(photos, tmp_path, main, monkeypatch):
    monkeypatch.setattr('timm.models._builder.load_pretrained', lambda *args, **kwargs: None) # There is no network: weights stay as they are
    rc,text,err = main('train', photos/'labels.csv', '--model', 'test_resnet', '--size', '32', '--epochs', '1', '--folds', '2', '--each-fold', '--out', tmp_path/'run')
    assert rc==0 and text.count('fetching the weights of test_resnet, once')==1, err

def test_each_fold_needs_a_label_in_each(photos, tmp_path, main):
    args = 'train',photos/'labels.csv',*SMALL,'--epochs','1','--each-fold','--out',tmp_path/'run'
    rc,text,err = main(*args, '--folds', '20')
    assert rc==1 and 'more --folds than labels' in err and not (tmp_path/'run').exists()

# --- images that moved, labels that were added

def test_moved_images_and_added_labels(photos, tmp_path, main):
    "A training goes on where its images are now; of other labels it says what to do; reading it goes on with them, and as validation images that it never saw"
    old,new,out = tmp_path/'old',tmp_path/'new',tmp_path/'run'
    shutil.copytree(photos, old)
    args = *SMALL,'--epochs','2','--out',out
    with ctrl_c_at('open', validated_in(out)): assert main('train', old/'labels.csv', *args)[0]==130
    old.rename(new)
    rc,text,err = main('next', out)
    assert rc==1 and f'no file or folder {old}/labels.csv; name its new place: --source for next and report, or train it with --out {out}' in err.replace('`', ''), err
    for command in ('next','report'):
        rc,text,err = main(command, out, '--source', new/'labels.csv', '--out', tmp_path/f'told-{command}')
        assert rc==0 and 'trained on' not in err and (command=='next' or f'train {new}/labels.csv' in (tmp_path/f'told-{command}').read_text()), err
    rc,text,err = main('train', new/'labels.csv', *args)
    assert rc==0 and 'epoch 2/2' in text and f'train {new}/labels.csv' in (out/'report.html').read_text(), err
    assert main('next', out, '--n', '1')[0]==0 and '--n must be 1 or more; got 0' in main('next', out, '--n', '0')[2]
    held = json.loads((out/'plan.json').read_text())['valid']
    label(new, 'ball', 7)
    rc,text,err = main('train', new/'labels.csv', *args)
    assert rc==1 and 'Checkpoint' not in err and 'epoch' not in text, err
    now,was = re.search(r'images is (\d+) unlabeled, .*, and was (\d+) unlabeled, ', err).groups()
    assert int(now)==int(was)-7 and f'`train` with another --out, and --weights {out} to build on it' in err
    for command in ('next','report'):
        rc,text,err = main(command, out)
        assert rc==0 and err.startswith(f'note: {out} (trained on 46 unlabeled, 12 labeled, 4 valid (') and 'now there are 39 unlabeled, 19 labeled, 4 valid' in err
        assert f'`train` with another --out, and --weights {out})\n' in err
    assert 'now there are 39 unlabeled' in (out/'report.html').read_text() and 'Accuracy on 4 validation images' in (out/'report.html').read_text()
    again = tmp_path/'again'
    more = 'train',new/'labels.csv',*SMALL,'--epochs','1','--out',again,'--weights',out
    assert all(main(*o)[0]==0 for o in (more, ('next',again), more))
    assert json.loads((again/'plan.json').read_text())['valid']==held
    rc,text,err = main('train', new/'labels.csv', *SMALL, '--epochs', '1', '--out', tmp_path/'all', '--weights', out)
    assert f'note: validation images are those of {out}, which has not seen them\n' in text and '4 of them for validation' in text
    label(new, 'moon', 2)
    rc,text,err = main('next', out)
    assert rc==1 and err==f'fastai-mixmatch next: {out} has other classes than the labels now: moon; `train` with another --out\n'

@pytest.mark.parametrize('beside', [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_the_loop_with_a_table_of_own_names(photos, tmp_path, main, beside):
    "Train, next, fill in, add to the table, train: the columns are those of the table, and names mean the same files, also in folders that have some in common"
    own,out = tmp_path/'Meine Bäume',tmp_path/'run'
    for part in 'ab': shutil.copytree(photos, own/part)
    df = pd.read_csv(photos/'labels.csv')
    (own/'a'/'broken.jpg').unlink(), (own/'b'/'broken.jpg').unlink()
    tables = [df.assign(file=f'{o}/'+df.file)[df.file!='broken.jpg'] for o in 'ab']
    tables[1].label = None
    pd.concat(tables).rename(columns=dict(file='Foto', label='Baumart')).to_csv(own/'labels.csv', index=False)
    args = 'train',own/'labels.csv',*SMALL,'--epochs','1'
    assert main(*args, '--out', out)[0]==0
    todo = (own if beside else tmp_path)/'next.csv'
    assert main('next', out, '--n', '5', '--out', todo)[0]==0
    more = pd.read_csv(todo)
    assert list(more.columns)==['Foto','Baumart','reason'] and more.Baumart.isna().all() and len(more)==5
    assert all((todo.parent/o).is_file() and o.startswith('Meine Bäume/')!=beside for o in more.Foto)
    more.assign(Baumart='ball').to_csv(todo, index=False)
    labels = (own/'labels.csv').read_bytes()
    for command in ('next','report'):
        rc,_,err = main(command, out, '--out', own/'a'/'..'/'labels.csv')
        assert rc==1 and 'labels.csv is there already, and would be lost; name another' in err and (own/'labels.csv').read_bytes()==labels
    alone = survey(todo, unlabeled=own)
    assert alone.classes()=={'ball': 5} and "columns 'Foto', 'Baumart'" in alone.notes
    pd.concat([pd.read_csv(own/'labels.csv'), pd.read_csv(todo)]).to_csv(own/'labels.csv', index=False)
    rc,text,err = main(*args, '--out', tmp_path/'again', '--weights', out)
    assert rc==0 and re.search(r'labeled +21: ', text) and 'are not there' not in text, text+err

def test_next_says_what_it_does(trained, main, tmp_path):
    "On the standard error, as the other output is a list of files; not where that was not wanted"
    rc,text,err = main('next', trained[0], '--n', '3')
    assert rc==0 and len(text.splitlines())==3 and all(' of ' in o for o in text.splitlines())
    assert 'looking at 61 images\n' in err
    assert all('looking' not in main('next', trained[0], '--n', '3', o)[2] for o in ('--quiet','--json'))
    rc,text,err = main('report', trained[0], '--out', tmp_path/'r.html')
    assert text==f"{tmp_path/'r.html'}\n" and 'writing the report' in err

@pytest.mark.nightly # By commit: images that moved, with added labels
def test_images_named_with_their_folder_move(photos, tmp_path, main):
    "Held out are the same images, though the table names them otherwise now"
    old,new,out,table = tmp_path/'old',tmp_path/'new',tmp_path/'run',tmp_path/'table'/'labels.csv'
    shutil.copytree(photos, old)
    table.parent.mkdir()
    df = pd.read_csv(photos/'labels.csv')
    def name_in(folder): df.assign(file=[f'{folder}/{o}' for o in df.file]).to_csv(table, index=False)
    name_in(old)
    args = 'train',table,*SMALL,'--epochs','1','--out',out
    assert main(*args)[0]==0
    old.rename(new)
    name_in(new)
    (out/'report.html').unlink()
    rc,text,err = main(*args)
    assert rc==0 and 'fit 1 is complete' in text and 'on 4 validation images' in text, err
    rc,text,err = main('next', out, '--n', '1')
    assert rc==0 and 'trained on' not in err

@pytest.mark.nightly # By commit: strangers are left out
def test_strangers_stay_left_out_where_their_folder_is_named_otherwise(photos, weights, tmp_path, main, monkeypatch):
    here,out = tmp_path/'here',tmp_path/'run'
    shutil.copytree(photos, here)
    df = pd.read_csv(here/'labels.csv')
    df[df.label.notna()].to_csv(here/'labels.csv', index=False)
    (tmp_path/'more').mkdir()
    for o in df.file[df.label.isna()]: shutil.move(here/o, tmp_path/'more'/o)
    def args(more): return 'train',here/'labels.csv','--unlabeled',more,*PRETRAINED,weights,'--leave-out-strangers','--out',out
    monkeypatch.chdir(tmp_path)
    assert main(*args('more'))[0]==0 and len(pd.read_csv(out/'strangers.csv'))
    (tmp_path/'more').rename(tmp_path/'other')
    rc,text,err = main(*args(tmp_path/'other'))
    assert rc==0 and 'fit 1 is complete' in text, err

def label(folder, name, n):
    "Fill in `n` more labels"
    df = pd.read_csv(folder/'labels.csv')
    df.loc[df.index[df.label.isna()][:n],'label'] = name
    df.to_csv(folder/'labels.csv', index=False)

@pytest.mark.nightly # As above
def test_strangers_stay_left_out_when_labels_were_added(photos, weights, tmp_path, main):
    here,out = tmp_path/'here',tmp_path/'run'
    shutil.copytree(photos, here)
    assert main('train', here/'labels.csv', *PRETRAINED, weights, '--leave-out-strangers', '--out', out)[0]==0
    gone = {Path(o).name for o in pd.read_csv(out/'strangers.csv').file}
    label(here, 'ball', 9)
    left = {Path(o).name for o in cli._open_run(out)[0].mix_match.unlabeled.source.items}
    df = pd.read_csv(here/'labels.csv')
    assert left=={*df.file[df.label.isna()]}-gone-{'broken.jpg'} and gone & {*df.file[df.label.isna()]}

@pytest.mark.parametrize('moved', [pytest.param(False, marks=pytest.mark.nightly), True])
def test_export_needs_no_images(trained, photos, tmp_path, main, moved):
    pytest.importorskip('onnxscript')
    out = tmp_path/'run'
    shutil.copytree(trained[0], out)
    if moved: (out/'plan.json').write_text((out/'plan.json').read_text().replace(str(photos), '/gone'))
    assert main('export', out)[0]==0
    (out/'model.onnx').unlink()
    assert main('export', out/'predictor.safetensors')[0]==0, 'beside the file'
    for o in ('model.onnx','predictor.safetensors'): assert main('predict', out/o, photos/'IMG_0001.jpg', '--out', tmp_path/f'{o}.csv')[0]==0
    a,b = (pd.read_csv(tmp_path/f'{o}.csv') for o in ('model.onnx','predictor.safetensors'))
    assert a['class'].equals(b['class']) and abs(a.probability-b.probability).max()<1e-3
    assert f'there is no predictor {tmp_path}/predictor' in main('export', tmp_path)[2]

@pytest.mark.nightly # By commit: the budget over pieces
def test_a_count_of_steps_of_an_epoch_that_goes_on(photos, tmp_path, main, clock):
    "With a budget, epochs have other lengths: the count belongs to the epoch that goes on"
    args,clock.stop = ('train',photos/'labels.csv','--model','small_cnn','--size','16','--bs','4','--minutes','1','--out',tmp_path/'run'),14
    assert main(*args)[0]==130
    steps = json.loads((tmp_path/'run'/'plan.json').read_text())['steps']
    rc,text,err = main(*args)
    epoch,done,all = map(int, re.search(r'continues in epoch (\d+) of \d+, after (\d+) of (\d+) batches', text).groups())
    assert rc==0 and epoch>1 and 0<done<=all==steps[epoch-1]!=steps[0], text+err

def test_other_images_before_the_first_checkpoint(photos, tmp_path, main):
    "The plan alone tells that they are others"
    args = *SMALL,'--epochs','1','--out',tmp_path/'run'
    with ctrl_c_at('os.mkdir', 'checkpoints'): assert main('train', photos/'labels.csv', *args)[0]==130
    other = sample_photos(tmp_path/'other', 60, 20, seed=1)
    rc,text,err = main('train', other/'labels.csv', *args)
    assert rc==1 and 'holds a training with other settings: images is ' in err

# --- a training of somebody else, or one that goes on

READ_ONLY = """
import os, sys
from pathlib import Path
run = os.path.abspath(sys.argv[1])
def inside(o): return isinstance(o, (str,bytes,Path)) and os.path.abspath(os.fsdecode(o)).startswith(run)
def deny(event, args):
    writes = event=='open' and type(args[2]) is int and args[2]&(os.O_WRONLY|os.O_RDWR|os.O_CREAT)
    if (writes or event in ('os.mkdir','os.rename','os.remove','os.chmod')) and inside(args[0]): raise PermissionError(13, 'Permission denied', args[0])
sys.addaudithook(deny)
access = os.access
os.access = lambda o, mode: not (mode&os.W_OK and inside(o)) and access(o, mode)
from fastai_mixmatch.cli import main
sys.exit(main(sys.argv[2:]))
"""

def read_only(folder, *args):
    "A command in a process that cannot write into `folder`"
    p = forks().start('-c', READ_ONLY, str(folder), *map(str, args), stdout=PIPE, stderr=PIPE, env=own_env())
    out,err = p.communicate()
    return p.returncode,out,err

def traces(folder): return {o: (o.stat().st_mtime_ns, o.stat().st_size) for o in [folder, *folder.rglob('*')]}

@pytest.mark.nightly
def test_a_training_is_read_where_nothing_can_be_written(photos, weights, tmp_path):
    out,own = tmp_path/'run',tmp_path/'own'
    own.mkdir()
    assert run('train', photos/'labels.csv', *PRETRAINED, weights, '--out', out)[0]==0
    shutil.rmtree(out/'features')
    before = traces(out)
    for name,file in dict(report='r.html', next='n.csv', predict='p.csv').items():
        rc,text,err = read_only(out, name, out, *[photos/'IMG_0001.jpg']*(name=='predict'), '--out', own/file)
        assert rc==0 and (own/file).is_file(), err
        assert ('features are not kept' in err)==(name!='predict')
    for name in ('report','export'):
        rc,text,err = read_only(out, name, out)
        assert rc==1 and 'features' not in err and '--out must name a file in a folder that can be written; got' in err, err
    assert traces(out)==before

def test_a_training_is_read_while_it_goes_on(photos, tmp_path, main):
    "Nothing before its first checkpoint; then the averaged weights of that, as all commands say, and the training does not notice"
    out,now = tmp_path/'run',tmp_path/'now'
    args = [str(o) for o in ('train',photos/'labels.csv',*SMALL,'--epochs','3000','--out',out)]
    def until_epochs():
        p = start(*args)
        while not re.search(r'epoch \d+/', p.stdout.readline()): assert p.poll() is None
        return p
    p = until_epochs()
    assert 'no checkpoint yet' in main('next', out)[2] and 'no checkpoint yet' in main('predict', out, photos)[2]
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=300)
    p = until_epochs()
    p.send_signal(signal.SIGSTOP) # It holds its folder, and leaves the processor to the commands
    state = read_checkpoint(next((out/'checkpoints').glob('fit1-*')))
    says = f"(as saved in epoch {state['epoch']+1} of 3000: the training goes on, or was stopped)"
    for name,*more in (('report','--out',f'{now}.html'), ('next','--n','1'), ('export','--out',f'{now}.onnx'), ('predict',photos/'IMG_0001.jpg','--out',f'{now}.csv')):
        if name=='export': pytest.importorskip('onnxscript')
        rc,text,err = main(name, out, *more)
        assert rc==0 and f'note: {out} {says}' in err, err
    assert says in now.with_suffix('.html').read_text()
    learn = cli._open_run(out)[0]
    p.send_signal(signal.SIGCONT)
    assert learn.ema.active and learn.train_iter==state['step'] and len(learn.report.rows)==state['epoch']
    while not re.search(r'epoch \d+/', p.stdout.readline()): assert p.poll() is None
    p.send_signal(signal.SIGINT)
    assert 'Checkpoint: interrupted' in p.communicate(timeout=300)[0]

# --- stopped, and in the way

def validated_in(run):
    "Tells the file of an image to validate on, once the training in `run` has begun"
    @cache
    def names(): return json.loads((run/'plan.json').read_text())['valid']
    return lambda file: (run/'checkpoints').is_dir() and Path(file).name in names()

def test_ctrl_c_at_each_stage(photos, tmp_path, main):
    "Before the training, before its first step, while it validates, and after it: the same command ends it"
    out = tmp_path/'run'
    args = 'train',photos/'labels.csv','--model','small_cnn','--size','16','--epochs','1','--out',out
    for stage in (('open','.plan.json.'), ('os.mkdir','checkpoints'), ('open',validated_in(out)), ('open','.predictor.'), ('os.remove','.report.')):
        with ctrl_c_at(*stage): rc,text,err = main(*args)
        told = [o for o in err.splitlines() if not o.startswith('note:')]
        assert rc==130 and told==['fastai-mixmatch train: stopped; the same command continues'], (stage, err)
    assert main(*args)[0]==0 and not [*out.rglob('*.tmp')] # Nothing half written
    with ctrl_c_at('open', '.model.onnx.'): assert main('export', out)==(130, '', 'fastai-mixmatch export: stopped\n')
    assert not (out/'model.onnx').exists()

@pytest.mark.skipif(sys.platform=='win32', reason='Windows has no limit on the size of a file')
def test_a_full_disk_is_one_sentence(photos, weights, tmp_path, main):
    import resource
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limit[1])) # A file of more fails in the middle
    try: rc,text,err = main('train', photos/'labels.csv', *PRETRAINED, weights, '--out', tmp_path/'run')
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert rc==1 and err.startswith('fastai-mixmatch train: [Errno ') and err.count('\n')==1
    assert sorted(o.name for o in (tmp_path/'run').iterdir())==['lock']

def test_one_training_in_a_folder(photos, tmp_path, main):
    with lock_folder(tmp_path/'run'): rc,text,err = main('train', photos/'labels.csv', *SMALL, '--out', tmp_path/'run')
    assert rc==1 and 'in use by process' in err and not (tmp_path/'run'/'plan.json').exists()

@pytest.mark.parametrize('command', ['train x --out FILE/run', 'predict r x --out FOLDER', 'next r --out FOLDER/gone/n.csv', 'export r --out FILE/m.onnx',
                                     'train x --out FOLDER/new/run', 'report r --out FOLDER/r.html'])
def test_places_are_refused_before_the_work(command, tmp_path, main, monkeypatch):
    (tmp_path/'FILE').touch()
    (tmp_path/'FOLDER').mkdir()
    monkeypatch.chdir(tmp_path)
    def refuse(*args, **kw): raise PermissionError('not yours')
    if command[0] in 'tr' and 'FOLDER' in command: monkeypatch.setattr(tempfile, 'TemporaryFile', refuse) # As in a folder of somebody else
    name,*_,out = command.split()
    rc,text,err = main(*command.split())
    what = 'folder' if name=='train' else 'file in a folder'
    assert (rc, text, err)==(1, '', f"fastai-mixmatch {name}: --out must name a {what} that can be written; got '{out}'\n")
    assert not list((tmp_path/'FOLDER').iterdir())

@pytest.mark.skipif(sys.platform!='linux', reason='/proc is that of Linux')
@pytest.mark.parametrize('command', ['train x --out /proc/rr', 'export r --out /proc/x.onnx', 'next r --out /proc/n.csv'])
def test_a_place_where_not_even_root_can_write(command, main, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for o in 'xr': (tmp_path/o).mkdir()
    rc,text,err = main(*command.split())
    assert rc==1 and 'that can be written; got' in err and command.split()[-1] in err and 'tmp' not in err

def test_no_output_replaces_a_file_of_the_user(trained, photos, tmp_path, main):
    "Neither one that the command reads, nor one of another kind; an earlier output of the same command makes room"
    pytest.importorskip('onnxscript')
    own,run = tmp_path/'own',tmp_path/'run'
    shutil.copytree(photos, own)
    shutil.copytree(trained[0], run)
    (own/'page.html').write_text('<!doctype html><title>Mine</title>')
    (own/'net.onnx').write_bytes(b'\x08 a network of another program')
    (own/'notes.md').write_text('The columns are\nfile,class,probability,margin\n')
    (own/'mine.csv').write_text('file,class,probability,margin,checked by\nIMG_0001.jpg,round,0.5,0.2,me\n')
    (own/'bits').mkdir()
    (own/'bits'/'report.html').write_text('mine')
    before = {o: o.read_bytes() for o in [*own.rglob('*'), run/'plan.json', run/'predictor.safetensors'] if o.is_file()}
    here = 'predict',run,own/'IMG_0001.jpg','--out'
    for args in (['predict',run,own/'labels.csv','--out',own/'labels.csv'], [*here,own/'IMG_0002.jpg'], [*here,own/'notes.md'], [*here,own/'page.html'], [*here,own/'mine.csv'],
                 *[['export',run,'--out',o] for o in (own/'labels.csv', own/'net.onnx', run/'predictor.safetensors', run/'report.html')],
                 *[['report',run,'--out',o] for o in (own/'labels.csv', own/'page.html', run/'plan.json')], ['next',run,'--out',own/'notes.md'],
                 ['train',own/'labels.csv',*SMALL,'--epochs','1','--out',own/'bits']):
        rc,_,err = main(*args)
        assert rc==1 and 'is there already, and would be lost; name another' in err, (args, err)
    for o in ('model.onnx','predictor.safetensors'): shutil.copy(own/'net.onnx' if 'onnx' in o else run/o, own/'bits'/o)
    assert 'model.onnx is there already' in main('export', own/'bits'/'predictor.safetensors')[2], 'nor in the usual place'
    assert {o: o.read_bytes() for o in before}==before
    with open(own/'page.html', 'r+b') as f: f.truncate(2**31) # With a hole
    start = time.process_time()
    with pytest.raises(FileExistsError): program.refuse_place(own/'page.html', 'report')
    assert time.process_time()-start<.2, 'its start and its end tell enough'
    (own/'p.csv').write_text('') # As of `mktemp`
    (own/'q.csv').write_text('file,label,probability,margin,error\n') # What Python's `predictions` gives
    new = [*here,own/'p.csv'],['export',run,'--out',own/'mine.onnx'],['report',run,'--out',own/'r.html']
    for args in (*new, *new, [*here,own/'q.csv'], ['export',run], ['export',run], ['report',run]):
        rc,_,err = main(*args)
        assert rc==0, (args, err)
    rc,_,err = main('predict', run, own/'p.csv', '--out', own/'p.csv')
    assert rc==1 and 'p.csv is there already' in err and len(pd.read_csv(own/'p.csv'))==1
    plan = json.loads((run/'plan.json').read_text())
    (run/'plan.json').write_text(json.dumps(dict(plan, args=dict(plan['args'], source=str(own/'p.csv')))))
    rc,_,err = main(*here, own/'p.csv')
    assert rc==1 and 'p.csv is there already' in err, 'predictions that the user corrected, and trained on'

# --- predictions

def test_predictions_of_a_folder(trained, photos, tmp_path, main):
    rc,text,err = main('predict', trained[0], photos, '--out', tmp_path/'p.csv')
    df = pd.read_csv(tmp_path/'p.csv')
    assert rc==1 and err.count('unreadable')==1 and 'broken.jpg' in err and 'Traceback' not in err
    assert list(df.columns) == ['file','class','probability','margin'] and len(df)==62
    good = df[df['class'].notna()]
    assert len(good)==61 and good.probability.between(0, 1).all() and (good.margin<=good.probability).all()
    assert '61 of 62 images' in text

def test_predictions_of_deep_turned_and_transparent_images(photos, tmp_path, main):
    "What `check` can read, a classifier can, too, also one that was trained on 8 bits: it sees what a viewer shows"
    for i in range(12): # None of them is turned or transparent
        to = tmp_path/'plain'/(['labeled/a','labeled/b','unlabeled'][i%3])/f'{i}.jpg'
        to.parent.mkdir(parents=True, exist_ok=True)
        Image.open(photos/f'IMG_{i:04}.jpg').convert('RGB').save(to)
    rc,_,err = main('train', tmp_path/'plain', *SMALL, '--epochs', '1', '--bs', '4', '--out', tmp_path/'run')
    assert rc==0, err
    im = Image.open(photos/'IMG_0001.jpg').convert('L')
    x,exif,clear,new = np.asarray(im),Image.Exif(),im.convert('LA'),tmp_path/'new'
    new.mkdir()
    im.save(new/'a.png'), Image.fromarray(x.astype(np.uint16)*257).save(new/'deep.png')
    exif[274] = 6 # A viewer turns it by 90 degrees to the right
    im.transpose(Image.Transpose.ROTATE_90).save(new/'turned.png', exif=exif)
    clear.putalpha(Image.fromarray((x<250).astype(np.uint8)*255)), clear.save(new/'clear.png')
    assert main('check', new)[0]==0
    rc,text,err = main('predict', tmp_path/'run', new, '--out', tmp_path/'p.csv')
    p = pd.read_csv(tmp_path/'p.csv').set_index('file').drop(columns='margin')
    assert rc==0 and 'unreadable' not in err and len(p)==4, err
    assert p['class'].nunique()==1 and p.probability.max()-p.probability.min()<.02, p

def test_predictions_of_a_table_a_file_and_a_stream(trained, photos, tmp_path, main, monkeypatch):
    folder,one = trained[0],photos/'IMG_0000.jpg'
    pd.DataFrame(dict(picture=['IMG_0001','IMG_0002'])).to_csv(photos/'two.csv', index=False)
    rc,text,err = main('predict', folder, one, photos/'two.csv', '--out', tmp_path/'p.csv', '--json')
    assert rc==0 and json.loads(text)['images']==3
    monkeypatch.setattr(sys, 'stdin', typed(f'{one}\n{photos}/gone.jpg\n'))
    before = (tmp_path/'p.csv').read_text()
    for run,found in ((photos/'labels.csv', one), (folder, photos/'gone.csv'), (folder, photos/'gone')):
        assert main('predict', run, found, '--out', tmp_path/'p.csv')[0]==1
    assert (tmp_path/'p.csv').read_text()==before, 'a mistake leaves the file of an earlier call'
    assert '--bs must be 1 or more; got 0' in main('predict', folder, one, '--bs', '0', '--out', tmp_path/'p.csv')[2]
    (photos/'p.csv').write_text('file\n'+one.name+'\n')
    assert main('predict', folder, photos/'p.csv', '--out', tmp_path/'p.csv')[0]==0 and len(pd.read_csv(tmp_path/'p.csv'))==1
    rc,text,err = main('predict', folder/'predictor.safetensors', '-', '--out', '-')
    rows = list(csv.DictReader(text.splitlines()))
    assert rc==1 and len(rows)==2 and rows[0]['class'] and not rows[1]['class'] and 'gone.jpg' in err

def typed(text): return io.TextIOWrapper(io.BytesIO(text.encode(errors='surrogateescape')))

ODD = ['a b.jpg','ünï 漢.jpg','-dash.jpg',"quo'te\".jpg",'com,ma;semi.jpg',' lead.jpg','trail .jpg','100%.jpg','#hash?.jpg','[br]*.jpg','two\nlines.jpg']

def test_predictions_of_odd_names(trained, photos, tmp_path, main, monkeypatch):
    folder,run = tmp_path/'odd',trained[0]
    folder.mkdir()
    for o in ODD: shutil.copy(photos/'IMG_0001.jpg', folder/o)
    def told(*args):
        rc,text,err = main('predict', run, *args, '--out', tmp_path/'p.csv')
        assert rc==0, err
        return sorted(pd.read_csv(tmp_path/'p.csv').file)
    assert told(folder)==sorted(str(folder/o) for o in ODD)
    pd.DataFrame(dict(name=ODD)).to_csv(folder/'list.csv', index=False)
    assert told(folder/'list.csv')==sorted(str(folder/o) for o in ODD)
    lines = [o for o in ODD if '\n' not in o]
    (folder/'list.txt').write_text('\n'.join(lines)+'\n\n', 'utf-8')
    assert told(folder/'list.txt')==sorted(str(folder/o) for o in lines)
    monkeypatch.setattr(sys, 'stdin', typed(''.join(f'{folder/o}\n' for o in lines)))
    assert told('-')==sorted(str(folder/o) for o in lines)
    for end in ('\0',''): # As of `find -print0`, where lines are no names; the last may lack its end
        text = '\0'.join(str(folder/o) for o in sorted(ODD, key=lambda o: '\n' not in o))+end
        monkeypatch.setattr(sys, 'stdin', typed(text))
        (folder/'null.txt').write_text(text, 'utf-8')
        for o in ('-',folder/'null.txt'): assert told(o)==sorted(str(folder/o) for o in ODD)
    for name in ('list.txt','list.csv'):
        (folder/name).write_text((folder/name).read_text('utf-8'), 'utf-16') # As Windows redirects, and Excel saves
        assert told(folder/name)==sorted(str(folder/o) for o in (lines if name[-1]=='t' else ODD))

def test_names_are_taken_as_they_come():
    "Whatever the pieces: a name is there once its end is, bytes of a letter stay together, and NULs decide even after the first piece"
    class Pipe:
        def __init__(self, *parts): self.parts = [*parts]
        def read1(self): return self.parts.pop(0) if self.parts else b''
    pipe = Pipe('a.jpg\nü'.encode()[:-1], 'ü.jpg\r\n\nc'.encode()[1:], b'.jpg')
    names = cli._lines(pipe)
    assert (next(names), len(pipe.parts), [*names])==('a.jpg', 2, ['ü.jpg','c.jpg'])
    assert [*cli._lines(Pipe(b'one', b'\ntwo\0b\n', b'c\0'))]==['one\ntwo','b\nc']

@pytest.mark.skipif(sys.platform!='linux', reason='names that are no UTF-8 are those of Linux')
def test_predictions_of_a_name_that_is_no_text(trained, photos, tmp_path, main, monkeypatch):
    name = os.fsencode(tmp_path)+b'/caf\xe9.jpg'
    shutil.copy(photos/'IMG_0001.jpg', name)
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(name+b'\n')))
    for o in (tmp_path,'-'):
        assert main('predict', trained[0], o, '--out', tmp_path/'p.csv')[0]==0
        assert pd.read_csv(tmp_path/'p.csv').file.tolist()==[f'{tmp_path}/caf\\udce9.jpg']

HARD = [os.fsdecode(o) for o in (b'caf\xe9.jpg',b'car\rriage.jpg',b'both\r\n.jpg',b'two\nlines.jpg',b'\\udce9.jpg',b'"q"\xff,.jpg')]

def test_predictions_as_lines_of_json(trained, photos):
    "With `--out -` and `--json`: an object a line for each image on the standard output, and one for all on the other"
    rc,text,err = run('predict', trained[0], photos, '--json', '--out', '-')
    rows = [json.loads(o) for o in text.splitlines()]
    assert rc==1 and len(rows)==62 and all(list(o)==['file','class','probability','margin','error'] for o in rows)
    bad = [o for o in rows if o['error']]
    assert len(bad)==1 and bad[0]['class'] is None and bad[0]['file'].endswith('broken.jpg')
    *_,end = err.splitlines()
    assert json.loads(end)['images']==62 and err.count('unreadable')==2
    rc,text,err = run('predict', trained[0], photos/'IMG_0001.jpg', '--out', '-')
    assert rc==0 and text.startswith('file,class,') and len(text.splitlines())==2 and '1 of 1 image in' in err

@pytest.mark.skipif(sys.platform=='win32', reason='Windows has no pseudo-terminals')
@pytest.mark.parametrize('options, shown', [([], True), (['--quiet'], False), (['--json'], False)])
def test_progress_of_predictions(trained, photos, tmp_path, options, shown):
    "On a terminal: how many of all, how fast, and the time left; nothing where it is asked for, or where no terminal is"
    ours,theirs = os.openpty()
    args = 'predict',trained[0],photos,'--out',tmp_path/'p.csv',*options
    p = forks().start('-W', 'ignore', '-m', 'fastai_mixmatch', *args, stdout=PIPE, stderr=theirs, env=own_env())
    os.close(theirs)
    p.communicate()
    text = b''
    while chunk := _read(ours): text += chunk
    os.close(ours)
    assert bool(re.search(r'\d+ of 62 images, \d+ a second, \d\d:\d\d left', text.decode()))==shown
    assert ' a second,' not in run(*args)[2]

def _read(fd):
    try: return os.read(fd, 4096)
    except OSError: return b'' # The other side is closed

def test_messages_name_options_that_there_are():
    "Arguments that only Python has are left out, with the words around them"
    for text,want in {
            'If not, label more or pass class frequencies as `prior`': 'If not, label more',
            'as the network learns its labels, or along `ramp`: train longer': 'as the network learns its labels: train longer',
            "remove them, or pass `on_error='skip'`:\nx": 'remove them:\nx', 'or pass `per_class`': 'or pass --per-class'}.items():
        assert cli._options(text)==want

@pytest.mark.nightly
def test_train_on_from_a_network_trained_from_scratch(photos, tmp_path, main):
    "With all its weights, head and batch norms, and images as it knows them"
    args = 'train',photos/'labels.csv','--model','resnet18','--size','32','--epochs','1','--scratch'
    assert main(*args, '--out', tmp_path/'one')[0]==0
    rc,text,err = main(*args, '--weights', tmp_path/'one', '--lr', '1e-9', '--out', tmp_path/'two')
    assert rc==0, err
    one,two = (load_file(tmp_path/o/'predictor.safetensors') for o in ('one','two'))
    same = [k for k in one if k in two and 'running' not in k and one[k].dtype==torch.float32 and torch.allclose(one[k], two[k], atol=1e-4)]
    assert len(same)>50 and '1.8.weight' in same, same

def test_the_evening_of_the_readme(photos, tmp_path, main, monkeypatch):
    "Its commands as they stand there, on drawn photographs, with a small network in place of one that is downloaded"
    text = (Path(__file__).resolve().parent.parent/'README.md').read_text(encoding='utf-8').split('## From the terminal')[1]
    lines = re.search('```sh\n(.*?)```', text, re.S)[1].splitlines()
    assert [o.split()[1] for o in lines]==['check','train','predict','next','export']
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, 'photos')
    shutil.copytree(photos, 'new_photos')
    for line in lines:
        args = [dict(photos='photos/labels.csv').get(o, o) for o in shlex.split(line.split('#')[0])[1:]]
        if args[0]=='train': args = [*args[:2],*SMALL,'--epochs','1']
        if args[0]=='export': pytest.importorskip('onnxruntime')
        rc,out,err = main(*args)
        assert rc==(args[0] in ('check','predict')), f'{line}: {err}' # One file is broken
    assert all(Path(o).stat().st_size for o in ('run/report.html','predictions.csv','run/model.onnx'))

def test_a_harmful_training_is_told(trained, photos, tmp_path, main):
    "A network that was trained is trained on with labels that are wrong"
    out,more = tmp_path/'run',sample_photos(tmp_path/'more', 100, 100, seed=1)
    df = pd.read_csv(photos/'labels.csv')
    names = sorted(df.label.dropna().unique())
    df.assign(label=df.label.map(dict(zip(names, np.roll(names, 1))))).to_csv(photos/'wrong.csv', index=False)
    rc,text,err = main('train', photos/'wrong.csv', '--valid', more/'labels.csv', *SMALL, '--weights', trained[0], '--epochs', '8', '--out', out)
    (photos/'wrong.csv').unlink()
    assert rc==0, err
    got = re.search(r'\nworse       (the training did harm: .* by another method)\n', text)
    page = (out/'report.html').read_text()
    assert got and got[1] in page
    assert '<code>--leave-out-strangers</code>' in page and 'leave_out(' not in page and 'arch=' not in page, 'options, not arguments'

def test_the_command_in_a_report_can_be_typed(trained):
    "Names with spaces are quoted"
    page = html.unescape((trained[0]/'report.html').read_text())
    program_,*told = shlex.split(re.search('fastai-mixmatch train [^<]*', page)[0])
    (_,args,_),(_,typed,_) = program.given(told),program.given(trained[-1])
    assert ' ' in args['source'] and args==dict(typed, out='run')

def rows_of(file):
    with open(file, newline='', encoding='utf-8') as f: return list(csv.DictReader(f))

@pytest.mark.skipif(sys.platform!='linux', reason='such names are those of Linux')
def test_names_come_back_from_what_is_written(trained, photos, tmp_path):
    "Line ends, and bytes that are no UTF-8, in real processes: a CSV and lists of names mean the same files again"
    folder,out = tmp_path/'hard',trained[0]
    folder.mkdir()
    for o in HARD: shutil.copy(photos/'IMG_0001.jpg', folder/o)
    def told(file):
        rc,text,err = run('predict', out, file, '--json', '--out', '-')
        assert rc==0, err
        return sorted(json.loads(o)['file'] for o in text.splitlines())
    assert run('predict', out, folder, '--out', folder/'p.csv')[0]==0
    assert len(rows_of(folder/'p.csv'))==len(pd.read_csv(folder/'p.csv'))==len(HARD)
    assert told(folder/'p.csv')==sorted(str(folder/o) for o in HARD)
    lines = [o for o in HARD if '\n' not in o]
    for end in ('\n','\r\n'): # As `ls` and as Windows write lists
        (folder/'p.txt').write_bytes(os.fsencode(''.join(o+end for o in lines)))
        assert told(folder/'p.txt')==sorted(str(folder/o) for o in lines)

@pytest.mark.skipif(sys.platform!='linux', reason='such names are those of Linux')
def test_hard_names_and_labels_from_check_to_next(photos, tmp_path, main):
    "A label of two lines: five lines stay five. Hard names: the report is written, and the list to label means the same files"
    folder,known = tmp_path/'own',[f'IMG_{i:04d}.jpg' for i in range(6)]
    folder.mkdir()
    for i,o in enumerate([*known, *HARD]): shutil.copy(photos/f'IMG_{i:04d}.jpg', folder/o)
    (folder/'labels.csv').write_text('file,label\n'+''.join('%s,"%s"\n'%(o, ('a','b\nc')[i%2]) for i,o in enumerate(known)))
    text = main('check', folder/'labels.csv')[1]
    assert r'3 of each of a, b\nc;' in text and [o.split()[0] for o in text.splitlines()][:5]==['images','labeled','unlabeled','unreadable','duplicates']
    assert all(o.startswith('note: ') for o in text.splitlines()[5:])
    rc,text,err = main('train', folder/'labels.csv', '--model', 'small_cnn', '--size', '16', '--bs', '2', '--epochs', '1', '--out', tmp_path/'run')
    assert rc==0 and 'caf' in (tmp_path/'run'/'report.html').read_text('utf-8'), err
    rc,text,err = main('next', tmp_path/'run', '--n', '9', '--out', folder/'next.csv')
    assert rc==0 and len(text.splitlines())==6
    with open(folder/'next.csv', newline='') as f: (folder/'done.csv').write_text(f.read().replace(',,', ',a,'), newline='')
    found = survey(folder/'done.csv', check=False).df
    assert sorted(map(str, found.file[found.label=='a']))==sorted(str(folder/o) for o in HARD)

def test_predictions_that_are_stopped(trained, photos, tmp_path, main):
    with ctrl_c_at('open', 'IMG_0003.jpg'): rc,text,err = main('predict', trained[0], photos, '--num-workers', '0', '--bs', '1', '--out', tmp_path/'p.csv')
    assert rc==130 and f"stopped after 3 images, which {tmp_path/'p.csv'} holds" in err and len(pd.read_csv(tmp_path/'p.csv'))==3

# --- looking

def test_check(photos, main):
    rc,text,err = main('check', photos/'labels.csv')
    assert rc==1 and [o.split()[0] for o in text.splitlines()[:5]] == ['images','labeled','unlabeled','unreadable','duplicates']
    assert 'broken.jpg' in text and 'copy.jpg' in text
    d = json.loads(main('check', photos/'labels.csv', '--json')[1])
    assert any('--valid' in o for o in d['notes']) and not any('`valid' in o for o in d['notes']), 'options, as in the text'
    assert d['images']==62 and d['classes']==dict(ball=4, diamond=4, star=4, tent=4) and list(d['unreadable'])==['broken.jpg']
    assert (d['labeled'],d['training'],d['valid'])==(16,12,4) and f"labeled     {d['labeled']}:" in text, 'the same count in both'
    rc,said,_ = main('check', photos/'labels.csv', '--quiet')
    assert rc==1 and 'broken.jpg' in said and main('check', photos/'labels.csv', '--quiet', '--json')[0]==1
    rows = pd.read_json(Path(__file__).resolve().parent.parent/'bench/results/choose.jsonl', lines=True)
    p = rows.precision[(rows.what=='twice') & (rows.by=='hash 8')]
    assert f'note: in trials with photographs, {100*p.min():.0f} to {100*p.max():.0f}% of duplicates were right\n' in text and len(p)==2

def test_check_says_what_train_will_refuse(photos, tmp_path, main):
    "All labels are there, or one class only, as in a folder above the folders of the classes"
    for c,i in (('ball',0),('ball',1),('star',2),('star',3)): (tmp_path/'set'/c).mkdir(parents=True, exist_ok=True); shutil.copy(photos/f'IMG_000{i}.jpg', tmp_path/'set'/c)
    for source,says in ((tmp_path/'set', 'keep few of the labels by --per-class'), (tmp_path, 'all of the 4 images have labels')):
        rc,text,_ = main('check', source)
        assert rc==0 and [o for o in text.splitlines() if o.startswith('note: `train` will stop:') and says in o], text
        assert any(says in o for o in json.loads(main('check', source, '--json')[1])['notes'])
    assert 'will stop' not in main('check', photos/'labels.csv')[1]

def test_weights_are_said_to_be_fetched(photos, tmp_path, main, monkeypatch):
    "Before it takes long, and not for weights in a file; an error names options, as `--model` for Python's `arch`"
    def offline(*args, **kwargs): raise OSError('no route')
    with monkeypatch.context() as m:
        m.setattr('torchvision.models._api.load_state_dict_from_url', offline)
        rc,text,err = main('train', photos/'labels.csv', '--epochs', '1', '--out', tmp_path/'a')
        assert rc==1 and text.splitlines()[-1]=='fetching the weights of resnet18, once; or pass --weights' and 'cannot be downloaded (no route); pass --weights or --scratch' in err
    torch.save(dict(w=torch.zeros(3)), tmp_path/'w.pth')
    rc,text,err = main('train', photos/'labels.csv', '--epochs', '1', '--out', tmp_path/'b', '--weights', tmp_path/'w.pth')
    assert rc==1 and 'fetching' not in text and 'that --model names' in err

def test_check_of_many_shows_the_first(photos, tmp_path, main):
    "Ten of each kind, how many more there are, and all of them as JSON"
    for i in range(14): shutil.copy(photos/'IMG_0000.jpg', tmp_path/f'copy {i}.jpg')
    for i in range(12): (tmp_path/f'broken {i}.jpg').write_text('no image')
    (tmp_path/'labels.csv').write_text('file,label\ncopy 0.jpg,ball\ncopy 1.jpg,ball\n')
    text = main('check', tmp_path/'labels.csv')[1]
    assert len(re.findall('^duplicate: copy', text, re.M))==len(re.findall('^unreadable: broken', text, re.M))==7, 'three are in the five lines'
    d = json.loads(main('check', tmp_path/'labels.csv', '--json')[1])
    assert len(d['unreadable'])==12 and f"duplicate: {len(d['duplicates'])-10} more; --json names all" in text and 'unreadable: 2 more; --json names all' in text

def test_no_duplicates_need_no_remark(photos, tmp_path, main):
    for i in range(4): shutil.copy(photos/f'IMG_000{i}.jpg', tmp_path)
    (tmp_path/'labels.csv').write_text('file,label\nIMG_0000.jpg,ball\nIMG_0001.jpg,star\n')
    assert 'in trials' not in main('check', tmp_path/'labels.csv')[1]

def test_a_list_of_no_names(trained, tmp_path, main):
    (tmp_path/'none.txt').touch()
    rc,text,err = main('predict', trained[0], tmp_path/'none.txt', '--out', tmp_path/'p.csv')
    assert rc==1 and f'there is no image in {tmp_path}/none.txt' in err and not (tmp_path/'p.csv').exists()

# --- use and misuse

@pytest.mark.parametrize('name', cli.commands)
def test_help_names_every_argument(name, capsys):
    with pytest.raises(SystemExit) as e: cli.main([name, '--help'])
    text = capsys.readouterr().out
    assert e.value.code==0 and text.startswith(f'usage: fastai-mixmatch {name}') and 'NoneType' not in text
    assert name not in ('check','train') or 'hf:owner/name' in text
    assert 'None:' not in text # It cannot be typed
    for o in re.findall(r'^  (--[\w-]+)(?: \([^)]*\))?(.*)$', text, re.M): assert len(o[1].strip())>5, o

@pytest.mark.parametrize('name', cli.commands)
def test_quiet_leaves_warnings_and_its_help_says_so(name, capsys):
    with pytest.raises(SystemExit): cli.main([name, '--help'])
    assert '--quiet Print only errors and warnings' in ' '.join(capsys.readouterr().out.split())

def test_program(main):
    p = subprocess.run([sys.executable, '-m', 'fastai_mixmatch', '--help'], text=True, capture_output=True, env=own_env())
    assert p.returncode==0 and all(f'  {o} ' in p.stdout for o in cli.commands) and p.stderr==''
    rc,text,err = main('trian', 'x')
    assert rc==2 and 'did you mean train?' in err
    assert main()[0]==2

MISTAKES = {'no file or folder': ['check','nowhere.csv'], 'did you mean resnet18?': ['train','LABELS','--model','resnet81'],
    'did you mean fixmatch?': ['train','LABELS','--method','fixmach'], 'not the folder of a training': ['report','empty'], 'folder nowhere; `train` makes': ['report','nowhere'],
    'no predictor': ['predict','empty','empty'], 'file or folder x.jpg': ['predict','empty','x.jpg'], 'no column': ['check','LABELS','--label','kind'], 'or folder nowhere.pth': ['train','LABELS','--weights','nowhere.pth'],
    'from 2 to 4096; got 0': ['train','LABELS','--size','0'], '--bs must be 1 or more; got -1': ['train','LABELS','--bs','-1'], 'is not a table: ': ['check','IMAGE'],
    'empty.csv has no rows': ['check','empty.csv'], 'heads.csv has no rows': ['check','heads.csv'], '--size must be a whole number from 2 to 4096; got 1': ['train','LABELS','--model','small_cnn','--size','1'], 'from 2 to 4096; got 100000': ['train','LABELS','--model','small_cnn','--size','100000'], '--bs must be a whole number from 1 to 64': ['train','LABELS','--model','small_cnn','--bs','9999'], 'no image in': ['check','empty'], 'has a label to train on': ['train','nolabel.csv'],
    'two classes at least': ['train','onelabel.csv'], 'keep few of the labels by --per-class': ['train','all.csv'], 'not a list of tasks': ['check','bad.json'], '--folds must be 2 or more, and --fold less': ['check','LABELS','--fold','7'],
    'no file or folder gone.csv': ['check','LABELS','--valid','gone.csv'], 'or folder gone': ['check','LABELS','--unlabeled','gone'],
    'is damaged': ['report','broken'], 'of no training': ['report','foreign'], 'of no training: TypeError': ['predict','listed','.'], "of no training: KeyError('args'); `train` with another --out": ['train','LABELS','--out','foreign'],
    'w.safetensors is not a file of weights': ['train','LABELS','--weights','w.safetensors'], ', and finite; got inf': ['train','LABELS','--minutes','inf'],
    'file or folder gone': ['check','LABELS','--root','gone'], 'p.safetensors is there already, and would be lost': ['predict','p.safetensors','IMAGE','--out','p.safetensors'], 'not a file of weights': ['train','LABELS','--model','small_cnn','--size','16','--epochs','1','--weights','LABELS'],
    'no file or folder hf:': ['check','hf:'], '--num-workers must be 0 or more': ['check','gone.csv','--num-workers','-1'],
    'next.csv is there already, and would be lost': ['next','empty','--out','next.csv'], 'plan.json is there already, and would be lost': ['export','broken','--out','broken/../broken/plan.json'], 'labels form no folds': ['train','LABELS','--each-fold','--valid','LABELS']}

@pytest.mark.parametrize('text', MISTAKES)
def test_mistakes_are_one_sentence(text, photos, tmp_path, monkeypatch, main):
    monkeypatch.chdir(tmp_path)
    for o in ('empty','broken','foreign','listed'): (tmp_path/o).mkdir()
    one = f"file,label\n{photos/'IMG_0000.jpg'},%s\n{photos/'IMG_0001.jpg'},\n"
    for k,v in {'empty.csv': '', 'heads.csv': 'file,label\n', 'nolabel.csv': one%'', 'onelabel.csv': one%'cat', 'all.csv': (one%'cat').replace('.jpg,\n', '.jpg,dog\n'), 'bad.json': '{"a": 1}', 'broken/plan.json': '{', 'foreign/plan.json': '{"name": "other"}', 'listed/plan.json': '[1]', 'w.safetensors': 'weights', 'p.safetensors': 'network', 'next.csv': 'file,label,reason\nx.jpg,cat,'}.items():
        (tmp_path/k).write_text(v)
    args = [dict(LABELS=photos/'labels.csv', IMAGE=photos/'IMG_0000.jpg').get(o, o) for o in MISTAKES[text]]
    rc,out,err = main(*args)
    told = [o for o in err.splitlines() if o.startswith('fastai-mixmatch')]
    assert rc==1 and len(told)==1 and text in told[0], err
    assert text in json.loads(main(*args, '--json')[1])['error']

@pytest.mark.parametrize('args, rc', [(['--help'], 0), (['train','--help'], 0), (['--version'], 0), (['chekc','.'], 2), (['train','.','--size','x'], 2), (['check','nowhere','--json'], 1), (['next','.','--out','nowhere/next.csv'], 1),
                                      (['next','.','--n','0'], 1), (['train','.','--epochs','-2'], 1), (['predict','.','.','--bs','0'], 1), (['train','.','--metod','x'], 2)])
def test_help_and_mistakes_need_no_library(args, rc):
    "They are told at once"
    code = f'import sys; sys.argv[1:] = {args}\nfrom fastai_mixmatch.__main__ import main\ntry: main()\nfinally: print([o for o in ("torch","fastai","pandas","numpy","PIL") if o in sys.modules])'
    p = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True, env=own_env())
    assert p.returncode==rc and p.stdout.endswith('[]\n') and 'Traceback' not in p.stderr, p.stdout+p.stderr
    assert rc!=1 or '--json' not in args or json.loads(p.stdout.splitlines()[0])=={'error': 'there is no file or folder nowhere'}

def test_a_closed_output_is_no_mistake(photos):
    "As of a job that nobody reads: `>&-`"
    code = "import os, sys; os.close(1); sys.stdout = sys.__stdout__ = None; from fastai_mixmatch.__main__ import main; sys.exit(main())" # As Python starts without one
    p = forks().run('-c', code, 'check', photos/'labels.csv', env=own_env())
    assert (p.returncode, p.stdout, p.stderr)==(1, '', ''), 'one file is broken'

@pytest.mark.parametrize('args', [['--help'],['train','--help'],['check','LABELS']])
def test_an_output_that_ends_early_is_no_mistake(args, photos):
    "As of `| head -1`: without a buffer, what follows the first line finds nobody"
    read,write = os.pipe()
    os.close(read)
    args = [photos/'labels.csv' if o=='LABELS' else o for o in args]
    p = forks().start('-m', 'fastai_mixmatch', *args, stdout=write, stderr=PIPE, env=own_env(PYTHONUNBUFFERED='1'))
    os.close(write)
    assert p.communicate(timeout=100)[1]=='' and p.returncode in (0,1) # argparse does not mind

@pytest.mark.parametrize('code', ['from fastai_mixmatch.all import *; from fastai.vision.all import *', pytest.param('from fastai_mixmatch import collect', marks=pytest.mark.nightly), pytest.param('import sys; sys.argv[1:] = ["export","."]; from fastai_mixmatch.__main__ import main; main()', marks=pytest.mark.nightly)])
def test_imports_are_quiet(code, tmp_path):
    "fastai calls what PyTorch warns of, and a user can do nothing about it"
    p = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True, env=own_env(), cwd=tmp_path)
    assert p.stderr=='' or p.stderr.count('\n')==1 and 'there is no predictor' in p.stderr

def test_heads_are_those_of_the_functions():
    for k,f in program.heads().items():
        a,b = ([(o.name, o.default, o.kind) for o in inspect.signature(o).parameters.values() if o.name!='kwargs'] for o in (f, cli.commands[k]))
        assert a==b and f.__doc__==cli.commands[k].__doc__

@pytest.mark.parametrize('args, says', [('train . --metod mixmatch', '--metod; did you mean --method?'), ('train --metod=mixmatch .', '--metod=mixmatch; did you mean --method?'),
    ('check . --per_class 5', '--per_class; did you mean --per-class?'), ('predict . . -out p.csv', '-out; did you mean --out?'), ('check my photos', 'photos')])
def test_a_misspelt_option_gets_a_suggestion(args, says, main):
    rc,text,err = main(*args.split())
    assert rc==2 and text=='' and 'Traceback' not in err and err.endswith(f'error: there is no argument {says}\n'), err

def test_wrong_use_is_2(capsys):
    with pytest.raises(SystemExit) as e: cli.main(['train'])
    assert e.value.code==2 and 'usage: fastai-mixmatch train' in capsys.readouterr().err

def test_stopped_while_libraries_are_imported():
    code = '''if 1:
        import sys
        class Stop:
            def find_spec(self, name, *args):
                if name=='fastai_mixmatch.cli': raise KeyboardInterrupt
        sys.meta_path.insert(0, Stop())
        sys.argv[1:] = ['check','.']
        from fastai_mixmatch.__main__ import main
        main()'''
    p = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True, env=own_env())
    assert (p.returncode, p.stdout, p.stderr) == (130, '', '')

@pytest.mark.parametrize('options, says', [('--size 1','--size must be a whole number from 2 to 4096; got 1'), ('--size 5000','--size must be a whole number from 2 to 4096; got 5000'),
    ('--bs 9999','--bs must be a whole number from 1 to 64; got 9999')])
def test_bad_numbers_are_refused_before_an_image_is_opened(options, says, photos, main, tmp_path):
    options = options.split()
    with opened(photos) as images: rc,_,err = main('train', photos/'labels.csv', '--model', 'small_cnn', *options, '--out', tmp_path/'run')
    assert rc==1 and says in err and err.count('\n')==1 and not images, err
    with pytest.raises(ValueError, match=says.replace('--', '`').replace(' must', '` must')), opened(photos) as images: collect.collect(photos/'labels.csv', **{options[0][2:]: int(options[1])})

def test_labels_are_counted_alike_by_check_training_and_page(trained):
    out,_,(_,text,_),_ = trained
    n,valid = map(int, re.search(r'labeled +(\d+): .*; (\d+) of them for validation', text).groups())
    assert f'{n-valid} labels for training' in (out/'report.html').read_text() and f', {valid} for validation; 4 classes' in (out/'report.html').read_text()

def test_a_suggestion_ends_the_sentence(photos, main):
    err = main('train', photos/'labels.csv', '--method', 'mixmach')[2]
    assert '?;' not in err and err.startswith('fastai-mixmatch train: no method mixmach; there are mixmatch, ') and err.endswith('; did you mean mixmatch?\n'), err
    assert not {'strongviews', 'confident', 'semisupervised'} & {*re.findall(r'\w+', err)}, 'bases train nothing'

@pytest.mark.parametrize('name, right', [('smallcnn','small_cnn'),('resnet81','resnet18'),('tf_efficientnet_lite','tf_efficientnet_lite0'),('resnet','resnet18')])
def test_a_misspelt_network_gets_a_suggestion(name, right):
    with pytest.raises((ValueError,ImportError), match=f'did you mean .*{right}'): plan.find_arch(name)
