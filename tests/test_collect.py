"From what people have to `dls, unlabeled`: tables, folders, exports, and what is refused."
import contextlib, json, re, shutil, sys, unicodedata, numpy as np, pandas as pd, pytest, torch
from pathlib import Path
from types import SimpleNamespace
from helpers import opened
from PIL import Image, ImageDraw
from functools import partial
from fastai.vision.all import L, PILImage, first, get_image_files
from fastai_mixmatch.collect import collect, deal, each_fold, hash_bits, loaders, look_at, near_duplicates, near_pairs, setback, survey, thumb, verdict
from fastai_mixmatch.images import PILImageShown, as_image
from fastai_mixmatch.learner import mixmatch_learner
from fastai_mixmatch.models import small_cnn
from fastai_mixmatch.samples import digits_sample, sample_photos
from fastai_mixmatch.tables import label_column, label_studio, one_label, refuse_labels

@pytest.fixture(scope='module')
def photos(tmp_path_factory): return sample_photos(tmp_path_factory.mktemp('photos'), 60, 16)

def answers(path, **kw): return pd.read_csv(path/'labels.csv', **kw)

def parts(found): return {o: len(found.of(o)) for o in ('labeled','valid','unlabeled')}

LABELED = dict(labeled=12, valid=4, unlabeled=45) # 60 pictures, a copy, and a broken one that is left out

# --- tables

def test_csv_gives_what_a_learner_takes(photos):
    c = collect(photos/'labels.csv', size=24, verbose=False)
    dls,unlabeled = c
    assert (len(dls.train_ds), len(dls.valid_ds), len(unlabeled)) == (12,4,45)
    assert list(dls.vocab) == ['ball','diamond','star','tent']
    assert dls.one_batch()[0].shape[1:] == (3,24,24)
    assert [o.name for o in c.survey.bad.file] == ['broken.jpg']

def test_rows_without_a_file_do_not_say_which_column_has_the_labels(photos):
    "A table to which rows with other names of columns were added"
    df = pd.read_csv(photos/'labels.csv')
    more = pd.DataFrame(dict(file=df.file[:3], label='ball'))
    pd.concat([df.set_axis(['photo','kind'], axis=1), more]).to_csv(photos/'both.csv', index=False)
    found = survey(photos/'both.csv')
    assert found.classes() == survey(photos/'labels.csv').classes()
    assert found.said == ["rows without 'photo': 3", "columns 'photo', 'kind'"]
    df.assign(label=None).to_csv(photos/'none.csv', index=False)
    assert '\nlabeled     0; 0 of them for validation\n' in repr(survey(photos/'none.csv'))

@pytest.mark.parametrize('blank', ['', 'NaN', 'None', ' ', 'nan'])
def test_blank_labels_are_unlabeled(photos, blank):
    df = answers(photos)
    lines = [f"{f},{blank if isinstance(l, float) else l}" for f,l in zip(df.file, df.label)]
    (photos/'blank.csv').write_text('\n'.join(['image,species',*lines]))
    found = survey(photos/'blank.csv')
    assert parts(found) == LABELED
    assert "columns 'image', 'species'" in found.notes

@pytest.mark.parametrize('kind', ['semicolons','tabs','no names','no extension','other case','bom','utf-16','sep=;','"sep=;"','sep=\t'])
def test_tables_as_people_save_them(photos, kind):
    df = answers(photos, keep_default_na=False)
    file = photos/('t.tsv' if kind=='tabs' else 't.csv')
    sep = {'semicolons': ';', 'tabs': '\t', 'sep=\t': '\t'}.get(kind, ';' if 'sep=' in kind else ',')
    if kind=='no extension': df['file'] = df.file.str[:-4]
    if kind=='other case': df['file'] = df.file.str.upper()
    df.to_csv(file, sep=sep, index=False, header=kind!='no names', encoding={'bom': 'utf-8-sig', 'utf-16': kind}.get(kind, 'utf-8'))
    if 'sep=' in kind: file.write_text(f'{kind}\n{file.read_text()}') # As Excel's first line
    assert parts(survey(file)) == LABELED

def test_a_table_of_no_known_encoding_is_refused(photos):
    (photos/'old.csv').write_bytes('file,label\nIMG_0000.jpg,Bär\n'.encode('cp1252'))
    with pytest.raises(ValueError, match="old.csv is not a table: 'utf-8' codec.*; save a sheet as 'CSV UTF-8', and unpack an archive$"): survey(photos/'old.csv')

def test_data_frame_with_missing_values_and_a_root(photos, tmp_path, monkeypatch):
    df = answers(photos)
    df['label'] = df.label.astype(object).where(df.label.notna(), None)
    assert parts(survey(df, root=photos)) == LABELED
    df['file'] = [str(photos/o) for o in df.file]
    monkeypatch.chdir(tmp_path)
    assert parts(survey(df)) == LABELED

def test_numbers_as_names_of_classes(photos):
    df = answers(photos)
    df['label'] = df.label.map(dict(ball=1, diamond=2, star=3, tent=4)) # Floats, because of the missing ones
    df.to_csv(photos/'numbers.csv', index=False)
    for o in (df, photos/'numbers.csv'): assert list(survey(o, root=photos).classes()) == ['1','2','3','4']

def test_a_sign_that_may_mean_no_label_is_named(photos):
    df = answers(photos)
    for sign in ('-', '?', -1, 'N/A', 'NULL', 'UNLABELED'):
        df.astype(object).fillna(sign).to_csv(photos/'signs.csv', index=False)
        assert f'{sign} counts as a class; empty these cells if it means no label' in survey(photos/'signs.csv').notes
    assert 'counts as a class' not in ' '.join(survey(photos/'labels.csv').notes)

def test_files_beside_a_table_of_labels_only(photos):
    df = answers(photos)
    df[df.label.notna()].to_csv(photos/'only.csv', index=False)
    found = survey(photos/'only.csv')
    assert parts(found) == LABELED and any('does not name' in o for o in found.notes)

def test_a_column_of_parts(photos):
    df = answers(photos)
    df['split'] = ['test' if i%3==0 else 'train' for i in range(len(df))]
    found = survey(df, root=photos)
    assert found.given and len(found.of('valid')) == sum(df.label.notna() & (df.split=='test'))

@pytest.mark.parametrize('given', [False, True])
def test_images_for_testing_are_never_unlabeled_ones(photos, given):
    "Nor those of a word that means nothing; named by the table, they are not beside it"
    df = answers(photos)
    df = df[df.label.notna()].assign(split=['train','valid','test','holdout']*4).sort_values('file')
    df.to_csv(photos/'split.csv', index=False)
    out = {*df.file[df.split.isin(['test','holdout'])]}
    found = survey(photos/'split.csv', unlabeled=photos if given else None)
    assert parts(found) == dict(labeled=4, valid=4, unlabeled=parts(survey(photos/'labels.csv'))['unlabeled']) and len(out)==8
    assert not out & {Path(o).name for o in found.df.file} and "rows whose 'split' is holdout: not read" in found.notes
    other = survey(photos/'split.csv', valid=df[df.split=='test'].assign(file=[photos/o for o in df.file[df.split=='test']]))
    assert {Path(o).name for o in other.of('valid').file} == {*df.file[df.split=='test']}
    assert not {*df.file[df.split!='train']} & {Path(o).name for o in other.of('unlabeled').file}

def test_what_is_missing_is_named(photos, tmp_path):
    df = answers(photos)
    df.loc[0,'file'] = 'gone.jpg'
    assert any('gone.jpg' in o for o in survey(df, root=photos).notes)
    with pytest.raises(FileNotFoundError, match='no column names files'): survey(df, root=tmp_path)
    with pytest.raises(FileNotFoundError, match='no file or folder'): survey(tmp_path/'none.csv')
    with pytest.raises(ValueError, match="no column 'kind'"): survey(photos/'labels.csv', label='kind')
    for text in ('', '\ufeff', '\n\n', 'file,label\n', '\ufefffile,label', '\n,\n'):
        (tmp_path/'empty.csv').write_text(text, encoding='utf-8')
        with pytest.raises(ValueError, match='empty.csv has no rows; give one for each image$'): survey(tmp_path/'empty.csv')
    df['other'] = df.label
    with pytest.raises(ValueError, match='which column'): survey(df.rename(columns=dict(label='coarse')), root=photos)

def test_rows_with_more_cells_than_names_are_refused(photos, tmp_path):
    "As of the table that `next` wrote, added at the end of another; what is too much may be part of a label"
    (tmp_path/'labels.csv').write_text((photos/'labels.csv').read_text()+'IMG_0000.jpg,ball,typical\n')
    with pytest.raises(ValueError, match="labels.csv is not a table: .* fields in line .*, saw 3; give each row as many cells$"): survey(tmp_path/'labels.csv', root=photos)

@pytest.mark.parametrize('blank,says,unlabeled', [(0, 'the unlabeled images are those of', 2), (1, 'left out: 2 images of', 1)])
def test_images_that_a_table_does_not_name_are_told(blank, says, unlabeled, tmp_path):
    "They are the unlabeled ones where the table has none, and otherwise left out"
    put(tmp_path, *(f'{i}.jpg' for i in range(8)))
    df = pd.DataFrame(dict(file=[f'{i}.jpg' for i in range(6)], label=['x','y']*3))
    df.loc[df.index<blank,'label'] = None
    df.to_csv(tmp_path/'labels.csv', index=False)
    found = survey(tmp_path/'labels.csv')
    assert f"{says} {tmp_path} that labels.csv does not name" in found.notes and len(found.of('unlabeled'))==unlabeled

def test_names_whose_folder_is_not_there_are_told(tmp_path):
    "And refused where another row has a better claim to the file: its label would be that of another picture"
    put(tmp_path, *(f'b/{i}.jpg' for i in range(6)))
    df = pd.DataFrame(dict(file=[f'a/{i}.jpg' for i in range(4)]+['b/4.jpg','5'], label=['x','y']*3))
    df.to_csv(tmp_path/'labels.csv', index=False)
    assert f"files found in other folders: 4, such as a/0.jpg: {Path('b/0.jpg')}" in survey(tmp_path/'labels.csv').notes
    for home in ('b','/elsewhere/b','B',r'C:\b'): # The last folder is that of the file
        df.assign(file=[f'{home}/{i}.jpg' for i in range(6)]).to_csv(tmp_path/'labels.csv', index=False)
        assert not [o for o in survey(tmp_path/'labels.csv').notes if 'other folders' in o], home
    df.assign(file=[*df.file[:4],'b/4.jpg','b/0.jpg'], label=['x','y']*2+[None]*2).to_csv(tmp_path/'labels.csv', index=False)
    with pytest.raises(FileNotFoundError, match="a/0.jpg is not there, and .*0.jpg, of its name, is another row's"): survey(tmp_path/'labels.csv')

def test_validation_images_that_the_source_holds_too(photos):
    known = answers(photos)[lambda d: d.label.notna()]
    known[::4].to_csv(photos/'held.csv', index=False)
    found = survey(photos/'labels.csv', valid=photos/'held.csv')
    assert found.given and sorted(o.name for o in found.of('valid').file) == sorted(known.file[::4])
    assert not {*known.file[::4]} & {o.name for o in found.of('labeled').file}

def test_a_letter_and_its_accent_are_the_letter_with_it(tmp_path):
    (tmp_path/'u').mkdir()
    for i in range(8): Image.new('L', (9,9), 20*i).save(tmp_path/(f'grün {i}.png' if i<6 else f'u/{i}.png'))
    rows = [f"grün {i}.PNG,{'süß' if i%2 else 'saür'}" for i in range(6)]
    (tmp_path/'t.csv').write_text('\n'.join(['file,label', *(unicodedata.normalize('NFD', o) if i<3 else o for i,o in enumerate(rows)), ',', ',']), 'utf-8')
    found = survey(tmp_path/'t.csv')
    assert found.classes() == {'saür': 3, 'süß': 3} and len(found.of('unlabeled')) == 2 and not any('not there' in o for o in found.notes)

def test_mistakes_that_say_what_to_do(photos, tmp_path):
    df = answers(photos)
    named = df.set_index('file').rename(columns=dict(label='what'))
    assert parts(survey(named, root=photos)) == LABELED # Names in the index
    with pytest.raises(ValueError, match='idxmax'): survey(df[['file']].assign(ball=0, star=1), root=photos)
    with pytest.raises(TypeError, match='data frame.*got dict'): survey(dict(zip(df.file, df.label)), root=photos)
    with pytest.raises(ValueError, match='per_class'): survey(photos/'labels.csv', per_class=-1)
    for kw,says in ((dict(size='32'), "`size` must be a whole number from 2 to 4096; got '32'"), (dict(size=1), 'got 1'), (dict(size=2.5), 'got 2.5'), (dict(size=4097), 'got 4097'),
                    (dict(bs='8'), "`bs` must be a whole number from 1 to 64; got '8'"), (dict(bs=0), 'got 0')):
        with pytest.raises(ValueError, match=re.escape(says)+'$'): collect(photos/'labels.csv', verbose=False, **kw)
    assert collect(photos/'labels.csv', verbose=False, size=(24,32))
    with pytest.raises(FileNotFoundError, match='no image in'): survey(photos/'labels.csv', unlabeled=tmp_path)
    (tmp_path/'a.zip').write_bytes(b'PK\3\4\xff\xfe')
    with pytest.raises(ValueError, match='unpack an archive'): survey(tmp_path/'a.zip')
    (tmp_path/'IMG_1.HEIC').write_bytes(b'\0\0\0\x18ftypheic'+bytes(50))
    assert survey(tmp_path).bad.error[0]=='cannot identify it as an image; convert it to JPEG, or `pip install pillow-heif` for HEIC'

def test_names_as_label_studio_writes_them(tmp_path):
    for i in range(6): Image.new('L', (9,9), 20*i).save(tmp_path/f'Foto ({i}).jpg')
    rows = [f"/data/upload/3/1a2b3c4d-Foto_{i}.jpg,{'ab'[i%2]}" for i in range(6)]
    (tmp_path/'t.csv').write_text('\n'.join(['image,choice',*rows]))
    assert survey(tmp_path/'t.csv').classes() == dict(a=3, b=3)
    (tmp_path/'t.csv').write_text('\n'.join(['image,choice',*rows[1:], '/data/upload/3/1a2b3c4d-Foto_0.jpg,"{""choices"": [""a"",""b""]}"']))
    with pytest.raises(ValueError, match='a label is a list'): survey(tmp_path/'t.csv')

@pytest.mark.parametrize('column, held', [('is_valid','yes'),('valid','1'),('split','dev')])
def test_other_words_for_validation(photos, column, held):
    df = answers(photos)
    df[column] = [held if i%3==0 else '0' for i in range(len(df))]
    found = survey(df, root=photos)
    assert found.given and len(found.of('valid')) == sum(df.label.notna() & (df[column]==held))
    found = survey(df.rename(columns={column: 'split'}).replace({held: 'later'}), root=photos)
    assert "rows whose 'split' is later, 0: labeled" in found.notes

def test_addresses_of_files(photos):
    df = answers(photos)
    for to in (photos.as_uri(), 'file:///home/me/my%20photos', 'file://localhost/x'):
        assert parts(survey(df.assign(file=[f'{to}/{o}' for o in df.file]), root=photos)) == LABELED

def test_classes_that_differ_by_little_are_named(photos, tmp_path):
    df = answers(photos)
    known = df.index[df.label.notna()]
    df.loc[known[0],'label'] = df.label[known[0]].upper()
    note = f"{[df.label[known[0]], df.label[known[0]].lower()]} are several classes; if they mean one, write them alike"
    assert note in survey(df, root=photos).notes
    assert not any('write them alike' in o for o in survey(photos/'labels.csv').notes)
    put(tmp_path, *(f'{c}/{i}.jpg' for c in ('red ball','red_ball ','-1','1') for i in range(2)))
    assert [o for o in survey(tmp_path).notes if 'alike' in o]==["['red ball', 'red_ball '] are several classes; if they mean one, write them alike"]

def test_too_many_folds_are_refused_before_any_training(photos):
    df = answers(photos)
    few = df[df.label.notna()].groupby('label').head(1).file.tolist()[:3]
    df['label'] = df.label.where(df.file.isin(few) | (df.file==df.file[df.label.eq('ball')].iloc[1]))
    with pytest.raises(ValueError, match='more `folds` than labels'): each_fold(df, None, folds=3, root=photos) # Two count
    split = ['valid' if i%4==0 else 'train' for i in range(len(df))]
    with pytest.raises(ValueError, match='labels form no folds'): each_fold(answers(photos).assign(split=split), None, root=photos)

def test_validation_images_without_a_label_are_refused(photos):
    (photos/'blank.csv').write_text('file,label\nIMG_0001.jpg,\nIMG_0002.jpg,\n')
    with pytest.raises(ValueError, match='no image of `valid`, .*blank.csv, has a label'): survey(photos/'labels.csv', valid=photos/'blank.csv', progress=False)

def test_a_class_without_validation_image_is_named(photos):
    df = answers(photos)
    only = df.index[df.label.eq('ball')][1:]
    df.loc[only,'label'] = None
    assert 'classes without a validation image: 1, such as ball' in survey(df, root=photos).notes
    assert not any('without a validation image' in o for o in survey(photos/'labels.csv').notes)

def test_folds_name_files(photos):
    "Not pairs of file and label"
    def make(dls, u): return SimpleNamespace(no_bar=contextlib.nullcontext, get_preds=lambda: (torch.eye(4)[[0]*len(dls.valid_ds)], [0]*len(dls.valid_ds)))
    df = each_fold(photos/'labels.csv', make, folds=2, size=16, verbose=False)
    assert sorted(Path(o).name for o in df.file)==sorted(answers(photos).dropna().file)

def test_sixteen_bits_are_read_as_the_predictor_reads_them(tmp_path):
    "They are trained on like all others; floats, whose range nobody knows, are not"
    put(tmp_path, *(f'labeled/{c}/{i}.jpg' for c in 'ab' for i in range(4)), 'unlabeled/x.jpg')
    deep = (np.linspace(0, 65535, 64*64).reshape(64,64)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path/'unlabeled/deep.png')
    Image.fromarray(deep.astype(np.float32)).save(tmp_path/'unlabeled/float.tif')
    found = survey(tmp_path)
    assert found.bad.file.map(lambda o: o.name).tolist()==['float.tif'] and 'no known range' in found.bad.error.iloc[0]
    x = np.asarray(loaders(found, size=64).unlabeled.img_cls.create(tmp_path/'unlabeled/deep.png'))
    assert x.shape==(64,64,3) and abs(x[...,0]-deep/257).max()<=1

# --- tables and folders as programs write them

@pytest.mark.parametrize('names', [['file','label','photographer'], ['file','label']])
def test_a_separator_at_the_end_of_each_line(photos, names):
    "Is no column: each cell is that of the name above it. A table of R, whose first line is shorter, is another"
    rows = answers(photos).dropna().head(12)
    cells = [[f, y, 'ann'][:len(names)] for f,y in zip(rows.file, rows.label)]
    for end,head in (',',names), ('',names), ('',names[1:]):
        text = '\n'.join([','.join(head), *(','.join(o)+end for o in cells)])
        (photos/'odd.csv').write_text(text)
        try: assert survey(photos/'odd.csv').classes()==rows.label.value_counts().to_dict()
        finally: (photos/'odd.csv').unlink()

def test_a_blank_cell_of_the_part_is_an_image_to_train_on(photos):
    df = answers(photos)
    df['split'] = None
    df.loc[df.index[df.label.notna()][:4],'split'] = 'valid'
    assert len(survey(df, root=photos).of('valid'))==4

def test_a_folder_is_one_class_however_its_accent_is_written(tmp_path):
    for i,name in enumerate((unicodedata.normalize(o, 'é') for o in ('NFC','NFD'))):
        f = tmp_path/'labeled'/name/f'{i}.png'
        f.parent.mkdir(parents=True)
        Image.new('L', (8,8), 40*i).save(f)
    (tmp_path/'labeled'/'e').mkdir()
    for i in range(2): Image.new('L', (8,8), 150+40*i).save(tmp_path/'labeled'/'e'/f'{i}.png')
    assert survey(tmp_path).classes()=={unicodedata.normalize('NFC', 'é'): 2, 'e': 2}

# --- what is refused

def test_names_in_brackets_are_no_lists():
    refuse_labels(['[old] chair','{new} chair','[old] chair','table'])
    with pytest.raises(ValueError, match='a label is a list'): refuse_labels(['["ball", "star"]','tent'])

@pytest.mark.parametrize('sep', ['|',';',',',' | ','; '])
def test_a_label_and_one_with_another_are_several(sep):
    "Also where no image has the other alone"
    with pytest.raises(ValueError, match=rf"holds several, such as 'a{re.escape(sep)}b'; if it is one, write it without '{re.escape(sep.strip())}'.*MultiCategoryBlock"):
        refuse_labels(['a',f'a{sep}b','c'])

@pytest.mark.parametrize('labels, says', [(['1,5','2,25','3,1','4,7'], "numbers, such as 1,5; 2,25; 3,1"), (['1','1,5','12,5','13,5','-1,5'], 'numbers'), (['10%','20%','30 %'], 'numbers, such as 10%; 20%'),
                                          (['2,5%','1,5 %'], 'numbers'), (['1','2','1,2'], "several, such as '1,2'"), (['a','b','a, b'], "several, such as 'a, b'")])
def test_numbers_as_people_write_them(labels, says):
    "Decimal commas and percentages; but `1,2` beside `1` and `2` are two labels, as `a, b` beside `a` and `b` are"
    with pytest.raises(ValueError, match=says): refuse_labels(labels*9)

def test_words_that_are_labels_themselves_are_noted(photos):
    df = answers(photos)
    df.loc[df.index[df.label.eq('ball')][0],'label'] = 'star tent'
    note = 'star tent counts as one class, though its words are labels, too'
    assert note in survey(df, root=photos).notes
    assert note not in survey(df.replace('star tent', 'star red'), root=photos).notes and 'though' not in ' '.join(survey(photos/'labels.csv').notes)

@pytest.mark.parametrize('labels', [['0%','100%'], ['1,000 m','2,5 m'], ['R&B|Soul','Pop'], ['tree|oak','tree|pine','fruit|apple'], ['Mantis','Mantis, praying','Crane, bird'], ['red apple','red','blue'], ['a;','b']])
def test_classes_whose_names_hold_a_sign(labels): refuse_labels(labels*10)

@pytest.mark.parametrize('task, labels', [('MultiCategoryBlock', ['ball|star','ball','star','tent|ball']), ('RegressionBlock', ['0.5','1.25','3','4.5']),
                                          ('MultiCategoryBlock', ['ball, star','ball','star','star']), ('RegressionBlock', [.5,1.25,3.,4.5]),
                                          ('MultiCategoryBlock', [['ball','star'],['ball'],['star'],['tent']])])
def test_other_tasks_are_refused(photos, task, labels):
    df = pd.DataFrame(dict(file=[f'IMG_{i:04d}.jpg' for i in range(40)], label=labels*10))
    with pytest.raises(ValueError, match=task): survey(df, root=photos)

def test_boxes_and_rows_with_several_labels_are_refused(photos):
    df = pd.DataFrame(dict(file=['IMG_0000.jpg']*2, label=['ball','star']))
    with pytest.raises(ValueError, match="is labeled 'ball' and 'star'; keep one"): survey(df, root=photos)
    with pytest.raises(ValueError, match='detector'): survey(df.assign(xmin=0, ymin=1, xmax=2, ymax=3), root=photos)

def test_a_misspelt_argument_gets_a_suggestion():
    with pytest.raises(TypeError, match='collect has no argument `per_clas`; did you mean `per_class`'): collect('photos', per_clas=3)

def test_nothing_to_train_on(photos):
    df = answers(photos)
    with pytest.raises(ValueError, match='has a label'): collect(df.assign(label=None), root=photos, verbose=False)
    with pytest.raises(ValueError, match='all of the'): collect(df[df.label.notna()], root=photos, verbose=False)
    half = df[df.label.notna() | (df.file=='broken.jpg')]
    with pytest.raises(ValueError, match=re.escape('all of the 16 images that can be read (1 cannot) have labels; ')): collect(half, root=photos, verbose=False)
    with pytest.raises(ValueError, match='all of the 16 images have labels; '): collect(df[df.label.notna()], root=photos, verbose=False)
    bad = df.assign(label=['ball' if o=='broken.jpg' else None for o in df.file])
    with pytest.raises(ValueError, match=re.escape('none of the 61 images that can be read (1 cannot) has a label to train on')): collect(bad, root=photos, verbose=False)
    with pytest.raises(ValueError, match='two classes'): collect(df.assign(label=['x',None]*31), root=photos, verbose=False)

# --- Label Studio

def task(name, *choices, kind='choices', by='kind', **kw):
    "A task with all that Label Studio 1.x writes"
    when,key = '2026-01-01T09:30:00.123456Z',kind
    result = [dict(value={key: [o]}, id='Xy1', from_name=by, to_name='image', type=kind, origin='manual') for o in choices]
    done = dict(id=7, completed_by=1, result=result, was_cancelled=False, ground_truth=False, created_at=when, updated_at=when,
                draft_created_at=when, lead_time=3.2, prediction={}, result_count=1, unique_id='5b2e', import_id=None, last_action=None, bulk_created=False,
                task=1, project=4, updated_by=1, parent_prediction=None, parent_annotation=None, last_created_by=None)
    return dict(id=1, annotations=[{**done, **kw}] if choices else [], file_upload=name.rpartition('/')[2], drafts=[],
                predictions=[], data=dict(image=name), meta={}, created_at=when, updated_at=when, inner_id=1, total_annotations=len(choices),
                cancelled_annotations=0, total_predictions=0, comment_count=0, unresolved_comment_count=0, last_comment_updated_at=None,
                project=4, updated_by=1, comment_authors=[])

def test_label_studio_export(photos):
    df = answers(photos)
    names = ['/data/upload/1/0a1b2c3d-{}', '/data/local-files/?d=photos/{}', 'https://example.com/{}?x=1']
    tasks = [task(names[i%3].format(f), *([] if isinstance(l, float) else [l])) for i,(f,l) in enumerate(zip(df.file, df.label))]
    (photos/'export.json').write_text(json.dumps(tasks))
    found = survey(photos/'export.json')
    assert parts(found) == LABELED and not any('other folders' in o for o in found.notes)
    twice = task(f'/data/upload/1/ffffffff-{df.file[0]}', 'ball')
    (photos/'twice.json').write_text(json.dumps([*tasks, twice])) # Uploaded again
    assert len(survey(photos/'twice.json').df)
    (photos/'twice.json').unlink()
    flat = [dict(image=t['data']['image'], id=1, annotator=1, annotation_id=7, created_at='', updated_at='', lead_time=2., kind=t['annotations'][0]['result'][0]['value']['choices'][0]) for t in tasks if t['annotations']]
    (photos/'min.json').write_text(json.dumps(flat))
    assert parts(survey(photos/'min.json')) == LABELED # The others are the files beside it

def test_the_last_annotation_counts_and_cancelled_ones_do_not(tmp_path):
    t = task('a.jpg', 'ball', created_at='2026-01-01')
    t['annotations'] += task('a.jpg', 'star', created_at='2026-02-01')['annotations'] + task('a.jpg', 'tent', created_at='2026-03-01', was_cancelled=True)['annotations']
    (tmp_path/'e.json').write_text(json.dumps([t]))
    assert label_studio(tmp_path/'e.json').label.tolist() == ['star','ball'], 'the newest first'

def test_annotators_who_disagree_are_counted(photos):
    "What most of them chose counts, the newest where none has more; who chose nothing has no vote about the others' dispute"
    def votes(name, *labels):
        tasks = [task(name, o, created_at=f'2026-01-0{9-i}', completed_by=i) for i,o in enumerate(labels)] # The newest first
        return {**tasks[0], 'annotations': [o for t in tasks for o in t['annotations']]}
    tasks = [votes(f'IMG_000{i}.jpg', *o) for i,o in enumerate((['ball','star','star'], ['ball','star'], ['tent','tent'], ['star']))]
    tasks += [task(f'IMG_000{i}.jpg', 'ball') for i in (4,5)]
    (photos/'e.json').write_text(json.dumps(tasks))
    found = survey(photos/'e.json')
    assert found.df.label.dropna().tolist()==['star','ball','tent','star','ball','ball']
    assert 'images on which annotators disagree: 2; what most chose counts, or else the newest' in found.notes

def test_annotators_of_a_minimal_export(photos):
    "JSON-MIN has a record for each annotation: those of one task are votes, and tasks of two exports with the same number stay apart"
    def records(i, *labels, name=None):
        return [dict(image=name or f'/data/upload/1/0a1b2c3d-IMG_{i:04d}.jpg', camera='x', id=i, kind=o, annotator=n, annotation_id=9*i+n, created_at=f'2026-01-0{9-n}', updated_at='',
                     lead_time=2.) for n,o in enumerate(labels)]
    flat = [o for i,v in enumerate((['ball','star','star'], ['ball','star'], ['tent','tent'], ['star'], ['ball'], ['star'])) for o in records(i, *v)]
    flat += records(0, 'tent', name='IMG_0006.jpg')
    (photos/'min.json').write_text(json.dumps(flat[::-1]))
    found = survey(photos/'min.json', label='kind')
    assert {o.name: l for o,l in found.df[['file','label']].values if l}=={f'IMG_000{i}.jpg': o for i,o in enumerate(['star','ball','tent','star','ball','star','tent'])}
    assert 'images on which annotators disagree: 2; what most chose counts, or else the newest' in found.notes

@pytest.mark.parametrize('minimal', [False, True])
def test_boxes_beside_choices_are_left_out_and_counted(photos, minimal):
    names,said = ['IMG_0000.jpg','IMG_0001.jpg','IMG_0002.jpg'],[]
    tasks = [task(o, *(['ball'] if i else [])) for i,o in enumerate(names)]
    box = task('', 'x', kind='rectanglelabels')['annotations'][0]
    tasks[0]['annotations'] = [box]
    tasks[1]['annotations'][0]['result'] += box['result']
    if minimal:
        done = [dict(boxes=[dict(x=1, y=2)]), dict(boxes=[dict(x=1, y=2)], kind='ball'), dict(kind='ball')]
        tasks = [dict(dict(image=o, id=i), **done[i], annotator=1) for i,o in enumerate(names)]
    (photos/'e.json').write_text(json.dumps(tasks))
    df = label_studio(photos/'e.json', said.append)
    assert [*map(one_label, df['kind' if minimal else 'label'])]==[None,'ball','ball']
    assert said==[f"annotations with {'boxes' if minimal else 'rectanglelabels'}, left out beside choices: 2"]
    assert survey(photos/'e.json').classes()==dict(ball=2)
    (photos/'e.json').write_text(json.dumps(tasks[:1]))
    with pytest.raises(ValueError, match='detector'): survey(photos/'e.json')

def test_annotations_without_a_choice_are_no_labels(tmp_path):
    tasks = [task('a.jpg', 'ball'), *(task('b.jpg', 'x') for _ in range(4))]
    for t,value in zip(tasks[1:], ({}, None, dict(text=['blurred']), dict(choices=[]))): t['annotations'][0]['result'][0].update(value=value)
    tasks[3]['annotations'][0]['result'][0]['type'] = 'textarea' # A comment
    (tmp_path/'e.json').write_text(json.dumps(tasks))
    assert label_studio(tmp_path/'e.json').label.dropna().tolist() == ['ball']

def test_several_controls_are_told_apart(photos):
    "Class and quality, each a single choice: `label` names the one that counts, and the error all"
    tasks = [task(f'IMG_{i:04d}.jpg', *(['ball','star'][i%2:][:1] if i<8 else [])) for i in range(16)]
    for i in (0,1,2,5,9): tasks[i]['annotations'] = [dict(result=sum([o['result'] for t in (tasks[i], task('', *['sharp','dim'][:1+(i==5)], by='light')) for o in t['annotations']], []))]
    tasks[12]['annotations'] = None
    (photos/'two.json').write_text(json.dumps(tasks), encoding='utf-8-sig')
    with pytest.raises(ValueError, match="which column holds the labels. `label=` may be 'kind', 'light'$"): survey(photos/'two.json')
    found = survey(photos/'two.json', label='kind')
    assert found.classes()==dict(ball=4, star=4) and len(found.of('unlabeled'))==8
    with pytest.raises(ValueError, match=r"a label is a list, \['sharp', 'dim'\].*MultiCategoryBlock"): survey(photos/'two.json', label='light')
    with pytest.raises(ValueError, match="no column 'quality'; `label` may be 'image', 'kind', 'light'"): survey(photos/'two.json', label='quality')

def test_an_export_of_nothing_but_brackets(tmp_path):
    (tmp_path/'e.json').write_text('['*30000+']'*30000)
    with pytest.raises(ValueError, match='e.json is not a JSON file: '): survey(tmp_path/'e.json')

@pytest.mark.parametrize('kind, text', [('rectanglelabels','detector'), ('rating','RegressionBlock'), ('taxonomy','MultiCategoryBlock')])
def test_label_studio_of_other_tasks(tmp_path, kind, text):
    (tmp_path/'e.json').write_text(json.dumps([task('a.jpg', 'x', kind=kind)]))
    with pytest.raises(ValueError, match=text): label_studio(tmp_path/'e.json')
    (tmp_path/'bad.json').write_text('{}')
    with pytest.raises(ValueError, match='list of tasks'): label_studio(tmp_path/'bad.json')

# --- folders

def put(root, *names):
    for i,o in enumerate(names):
        (root/o).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40,48,3), dtype=np.uint8)).save(root/o)
    return root

LAYOUTS = dict(
    halves=['labeled/cat/1.jpg','labeled/cat/2.jpg','labeled/dog/3.jpg','labeled/dog/4.jpg','unlabeled/5.jpg','unlabeled/sub/6.jpg'],
    british=['Labelled/cat/1.jpg','Labelled/cat/2.jpg','Labelled/dog/3.jpg','Labelled/dog/4.jpg','Unlabelled/5.jpg','Unlabelled/6.jpg'],
    sibling=['cat/1.jpg','cat/2.jpg','dog/3.jpg','dog/x/4.jpg','unlabeled/5.jpg','unlabeled/6.jpg'],
    inside=['train/cat/1.jpg','train/cat/2.jpg','train/dog/3.jpg','train/dog/4.jpg','train/unlabeled/5.jpg','train/unlabeled/6.jpg'],
    loose=['cat/1.jpg','cat/2.jpg','dog/3.jpg','dog/4.jpg','5.jpg','6.jpg'])

@pytest.mark.parametrize('layout', LAYOUTS)
def test_folders(tmp_path, layout):
    found = survey(put(tmp_path, *LAYOUTS[layout]))
    assert found.classes() == dict(cat=2, dog=2) and len(found.of('unlabeled')) == 2

def test_a_folder_that_is_not_read_is_named(photos, tmp_path):
    "Beside `labeled`, other folders are no classes; nobody should miss their images"
    for part in ('labeled/a','labeled/b','unlabeled','rest/old','Peter'):
        (tmp_path/part).mkdir(parents=True)
        shutil.copy(photos/f'IMG_000{len(part)%5}.jpg', tmp_path/part)
    found = survey(tmp_path, progress=False)
    assert len(found.df)==3 and 'folders not read beside labeled ones: Peter, rest' in found.notes
    for o in ('rest','Peter'): shutil.rmtree(tmp_path/o)
    assert not any('not read' in o for o in survey(tmp_path, progress=False).notes)

def test_one_image_is_one(photos, tmp_path):
    for c in 'ab': (tmp_path/c).mkdir(), shutil.copy(photos/f'IMG_000{"ab".index(c)}.jpg', tmp_path/c)
    shutil.copy(photos/'IMG_0002.jpg', tmp_path/'a')
    assert any(o.startswith('an accuracy on 1 image may') for o in survey(tmp_path, progress=False).notes)

def test_unlabeled_folder_with_the_same_parent(tmp_path):
    put(tmp_path, *LAYOUTS['halves'])
    found = survey(tmp_path/'labeled')
    assert len(found.of('unlabeled')) == 2 and 'unlabeled' in found.notes[0]
    assert len(survey(tmp_path/'labeled', unlabeled=tmp_path/'unlabeled'/'sub').of('unlabeled')) == 1

def test_test_folder_is_left_alone_beside_valid(tmp_path):
    put(tmp_path, *LAYOUTS['halves'], 'valid/cat/7.jpg', 'test/cat/8.jpg')
    assert [o.name for o in survey(tmp_path).of('valid').file] == ['7.jpg']

# --- validation

def test_folds_deal_out_each_label_once():
    y = ['a']*11+['b']*5+['c']*2+['d']
    p = deal(y, 5, seed=3)
    assert p[-1]==-1 and all(p.count(i) in (3,4) for i in range(5))
    for c in 'abc':
        n = [sum(k==i and l==c for k,l in zip(p, y)) for i in range(5)]
        assert max(n)-min(n) <= 1 and max(n) < y.count(c)

def test_all_folds_are_read_once(photos, capsys):
    "The survey is printed once, for all of them, and each fold is what `fold` gives"
    with opened(photos) as once: survey(photos/'labels.csv')
    assert len({*once})==62
    capsys.readouterr()
    seen = []
    def make(dls, u):
        seen.append({o[0] for o in dls.valid_ds.items})
        return SimpleNamespace(no_bar=contextlib.nullcontext, get_preds=lambda: (torch.eye(4)[[0]*len(dls.valid_ds)], [0]*len(dls.valid_ds)))
    with opened(photos, 'broken.jpg') as looks: each_fold(photos/'labels.csv', make, folds=3, size=16) # Which no training opens
    text = capsys.readouterr().out
    assert len(looks)==sum(o.name=='broken.jpg' for o in once) and text.count('images      62')==1 and '; 6 of them at a time for validation' in text and 'may be off' not in text
    assert seen==[{*survey(photos/'labels.csv', folds=3, fold=i, check=False).of('valid').file} for i in range(3)]

def test_strangers_of_a_fold_stay_in_it(photos):
    found = survey(photos/'labels.csv', fold=None)
    a = found.take(1)
    a.df.loc[a.df.part=='unlabeled','error'] = 'left out'
    assert len(found.take(2).of('unlabeled'))==45 and len(found.of('valid'))==4

def test_folds_by_argument_and_bad_ones(photos):
    sets = [set(survey(photos/'labels.csv', folds=4, fold=i, check=False).of('valid').file) for i in range(4)]
    assert len(set.union(*sets)) == 16 == sum(map(len, sets))
    with pytest.raises(ValueError, match='fold'): survey(photos/'labels.csv', folds=4, fold=4)

def test_small_validation_set_is_not_believed(photos):
    assert any('may be off by 49 points' in o for o in survey(photos/'labels.csv').notes)
    assert not any('may be off' in o for o in survey(photos/'labels.csv', valid=photos/'answers.csv').notes if 'points' in o and '49' in o)
    given = survey(photos/'labels.csv', valid=pd.read_csv(photos/'answers.csv')[:30]).notes
    assert any(o.endswith('points: label more') for o in given), 'not to name `valid`, which was named'

def test_keep_few_labels(tmp_path):
    found = survey(digits_sample(tmp_path/'d', n_labeled=50)/'labeled', unlabeled=tmp_path/'d'/'unlabeled', per_class=2, check=False)
    assert set(found.classes().values()) == {2} and len(found.df) == 50+1247

# --- pictures

def test_copies_are_found_and_others_are_not(photos):
    files = L(photos.glob('*.jpg')).sorted()
    assert {o.name for pair in near_duplicates(files) for o in pair[:2]} == {'copy.jpg', answers(photos)[lambda d: d.label.notna()].file.iloc[-1]}
    assert len(near_duplicates([*files[:9], *files[:9]])) == 9, 'each pair once'

@pytest.mark.parametrize('scale, quality', [(1,30), (.5,80), (.75,60), (2,90)])
def test_hash_of_a_changed_copy(photos, tmp_path, scale, quality):
    far = []
    for f in sorted(photos.glob('IMG_00*.jpg')):
        im = Image.open(f)
        im.resize([round(o*scale) for o in im.size]).save(tmp_path/'x.jpg', quality=quality)
        a,b = hash_bits([thumb(im), thumb(Image.open(tmp_path/'x.jpg').convert('RGB'))])
        far.append((a!=b).sum())
    assert np.mean(np.array(far)<=8) >= .95

def test_pairs_are_those_of_a_plain_loop():
    h = np.random.default_rng(0).random((300,16))>.5
    want = [(i,j,int((h[i]!=h[j]).sum())) for i in range(300) for j in range(i+1, 300) if (h[i]!=h[j]).sum()<min(3, (h[i]|h[j]).sum()/4)]
    assert near_pairs(h, threshold=2) == want and len(want) > 50

def flat(i, kind):
    "A drawing of one form on a plain ground, or nothing but the ground"
    r = np.random.default_rng(i)
    im = Image.new('RGB', (96,96), tuple(r.integers(150, 256, 3).tolist()))
    at,side = r.integers(5, 70, 2),int(r.integers(6, 20))
    if kind!='ground': getattr(ImageDraw.Draw(im), kind)((*at.tolist(), *(at+side).tolist()), fill=tuple(r.integers(0, 150, 3).tolist()))
    return im

def test_flat_pictures_are_no_duplicates(tmp_path):
    "A hash that says nothing matches nothing; a copy of a drawing is still found"
    ims = [flat(i, ('ellipse','rectangle','ground')[i%3]) for i in range(120)]
    h = hash_bits([thumb(o) for o in ims])
    assert not [o for o in near_pairs(h) if {o[0]%3, o[1]%3}=={2}], 'two plain grounds'
    near = [(i,j) for i in range(120) for j in range(i) if (h[i]!=h[j]).sum()<=8]
    assert len(near)>1000 and len(near_pairs(h))<len(near)/20
    again = hash_bits([thumb(o.resize((160,160))) for o in ims])
    found = {i for i,j,_ in near_pairs(h, again) if i==j and i%3<2}
    assert len(found)>=.85*80

def test_photographs_are_read_as_shown(tmp_path):
    "Also where none of them is turned: one to predict may be"
    put(tmp_path, *LAYOUTS['halves'])
    dls,unlabeled = collect(tmp_path, verbose=False)
    assert unlabeled.img_cls is PILImageShown and type(dls.train_ds[0][0]) is PILImageShown

def test_a_learner_of_collected_images_takes_what_fastai_takes(tmp_path):
    "Names, paths, bytes, arrays, pictures of PIL: the same answer"
    put(tmp_path, *LAYOUTS['halves'])
    dls,unlabeled = collect(tmp_path, size=16, verbose=False)
    learn = mixmatch_learner(dls, unlabeled, partial(small_cnn, width=4))
    f = first(get_image_files(tmp_path))
    im = PILImageShown.create(f)
    with learn.no_bar(): ps = [learn.predict(o)[2] for o in (f, str(f), f.read_bytes(), im, PILImage.create(f), np.array(im))]
    assert all(torch.equal(o, ps[0]) for o in ps)

# --- Hugging Face

class StoredImages(list):
    "What `collect` uses of a `datasets.Dataset`"
    def __init__(self, rows, features): super().__init__(rows); self.features = features
    def with_format(self, kind): return self
    def cast_column(self, name, feature):
        assert not feature.decode
        return self

def test_stored_images_with_named_classes(photos):
    Image_,ClassLabel = type('Image', (), dict(__init__=lambda self, decode=True: setattr(self, 'decode', decode))),type('ClassLabel', (), dict(names=['ball','star']))
    def row(i, y): return dict(image=dict(path=None, bytes=(photos/f'IMG_{i:04d}.jpg').read_bytes()), label=y)
    train = StoredImages([row(i, [0,1,-1,None][i%4]) for i in range(16)], dict(image=Image_(), label=ClassLabel()))
    test = StoredImages([row(i, i%2) for i in range(20, 24)], train.features)
    found = survey(dict(train=train, test=test))
    assert parts(found) == dict(labeled=8, valid=4, unlabeled=8) and found.classes() == dict(ball=4, star=4)
    assert len(loaders(found, size=16).unlabeled) == 8

@pytest.mark.parametrize('kind', ['files','pictures','texts'])
def test_hub_dataset(photos, kind):
    "Files or stored pictures, numbers with names or texts as labels, by the library itself"
    datasets = pytest.importorskip('datasets', reason='Hugging Face `datasets` is not installed')
    df = answers(photos)
    df = df[df.file!='broken.jpg']
    names = ['ball','diamond','star','tent']
    known = [not isinstance(o, float) for o in df.label]
    labels = [(o if kind=='texts' else names.index(o)) if k else (None if kind=='texts' else -1) for o,k in zip(df.label, known)]
    images = [Image.open(photos/o) if kind=='pictures' else str(photos/o) for o in df.file]
    ds = datasets.Dataset.from_dict(dict(image=images, label=labels)).cast_column('image', datasets.Image())
    if kind!='texts': ds = ds.cast_column('label', datasets.ClassLabel(names=names))
    assert parts(survey(ds)) == LABELED
    if kind=='texts':
        odd = ds.rename_column('label', 'kind')
        assert 'which feature holds labels? Name it, `label=`' in survey(odd).notes and parts(survey(odd, label='kind')) == LABELED
    held = [i for i,k in enumerate(known) if k][::2]
    train,test = ds.select([i for i in range(len(ds)) if i not in held]),ds.select(held)
    dls,unlabeled = collect(datasets.DatasetDict(train=train, test=test), verbose=False, size=16, bs=4)
    assert (len(dls.train_ds), len(dls.valid_ds), len(unlabeled)) == (8,8,45) and list(dls.vocab) == names
    assert dls.one_batch()[0].shape[1:] == (3,16,16) and next(iter(unlabeled))

@pytest.fixture
def hub(photos, tmp_path, monkeypatch):
    "A dataset of stored pictures, of which 16 have a label"
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    datasets = pytest.importorskip('datasets', reason='Hugging Face `datasets` is not installed')
    for o in ('huggingface_hub.constants','datasets.config'): monkeypatch.setattr(f'{o}.HF_HUB_OFFLINE', True) # Read before
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', tmp_path/'cache')
    df,names = answers(photos)[lambda d: d.file!='broken.jpg'],['ball','diamond','star','tent']
    rows = dict(image=[Image.open(photos/o) for o in df.file], label=[names.index(o) if isinstance(o, str) else -1 for o in df.label])
    kinds = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
    return datasets.Dataset.from_dict(rows, features=kinds)

def test_names_of_hub_datasets(hub, tmp_path):
    "`hf:` and a name, a saved dataset with or without it, an image folder with metadata"
    hub.save_to_disk(tmp_path/'saved')
    type(hub).from_dict(hub[:8], features=hub.features).save_to_disk(tmp_path/'part')
    for o in (tmp_path/'saved', str(tmp_path/'saved'), f'hf:{tmp_path/"saved"}'): assert parts(survey(o)) == LABELED
    found = survey(tmp_path/'saved')
    assert found.name(3) == 'train[3]' and str(loaders(found, size=16).unlabeled.items[0]).startswith('train[')
    folder = tmp_path/'folder'
    folder.mkdir()
    for i,o in enumerate(hub.select(range(40, 61))): o['image'].save(folder/f'{i}.png')
    pd.DataFrame(dict(file_name=[f'{i}.png' for i in range(21)], label=hub[40:61]['label'])).to_csv(folder/'metadata.csv', index=False)
    assert sum(survey(f'hf:{folder}').classes().values()) == 21
    with pytest.raises(OSError, match='nobody/nothing'): survey('hf:nobody/nothing')

def test_hub_dataset_with_holes(hub, photos):
    "No image, a lost file, damaged bytes: listed as unreadable, each by its place; a format that was set plays no part"
    import datasets
    whole,half = (photos/'IMG_0001.jpg').read_bytes(),(photos/'broken.jpg').read_bytes()
    images = [dict(bytes=whole, path=None), dict(bytes=half[:200], path='x/half.jpg'), None, dict(bytes=None, path='/gone.jpg'), None]
    odd = datasets.Dataset.from_dict(dict(image=images, label=[0,1,1,-1,0]), features=hub.features)
    found = survey(datasets.concatenate_datasets([hub, odd]))
    assert parts(found)==dict(LABELED, labeled=LABELED['labeled']+1)
    assert [found.name(i) for i in found.bad.index]==['train[62]','train[63]','/gone.jpg','train[65]']
    for o in (hub.with_format('torch'), hub.with_transform(lambda o: dict(image=[0]*len(o['image']), label=o['label']))):
        assert parts(survey(o))==LABELED

@pytest.mark.parametrize('text, column, values', [('MultiCategoryBlock','label',[[0,1]]), ('RegressionBlock','label',[.5,1.5,2.5]),
                                                  ('detection','objects',[dict(bbox=[[0,0,1,1]])])])
def test_hub_datasets_of_other_tasks(hub, text, column, values):
    ds = hub.remove_columns('label').add_column(column, (values*len(hub))[:len(hub)])
    with pytest.raises(ValueError, match=text): survey(ds)

def test_a_plain_folder_needs_no_datasets(hub_free, photos, tmp_path):
    "With `hf:` it is what it is without, with `unlabeled` and all; metadata make it a dataset"
    put(tmp_path/'pictures', 'train/a/1.png', 'train/a/2.png', 'train/b/3.png', 'train/b/4.png', 'test/a/5.png', 'unlabeled/6.png', 'train/unlabeled/7.png')
    assert parts(survey(f'hf:{tmp_path}/pictures'))==dict(labeled=4, valid=1, unlabeled=2)
    (tmp_path/'pictures'/'metadata.csv').write_text('file_name\n')
    with pytest.raises(ImportError, match='pip install datasets'): survey(f'hf:{tmp_path}/pictures')

def test_a_column_of_long_texts(photos, tmp_path):
    "No file has a name of 300 letters, and to ask for one is an error of some systems"
    df = pd.read_csv(photos/'labels.csv')
    df.insert(0, 'description', 'long text '*30)
    df.to_csv(photos/'long.csv', index=False)
    assert parts(survey(photos/'long.csv'))==LABELED

def test_a_training_below_its_baseline():
    "Told with what chance explains for so many validation images, and what to do"
    few,many = (verdict(np.float64(.35), .47, n) for n in (43, 400))
    assert few.startswith('12.0 points below the best baseline, 47.0%: no more than chance explains (±15 points); train longer (more epochs)')
    assert '47.0%: more than chance explains (±5 points); train longer' in many
    assert verdict(.5, .47, 43).endswith('3.0 points above the best baseline, 47.0%: no more than chance explains (±15 points)')

def test_a_training_that_did_harm():
    "Told beyond what chance explains for so many validation images, with what to do"
    assert setback([.53,.35], 16)==setback([.53,.5], 100)==setback([.35,.53], 100)==setback([], 100)==''
    text = setback([.2,.53,.35], 100)
    assert '53.0% before, 35.0% at its end' in text and 'smaller learning rate' in text and '--' not in text

@pytest.fixture
def hub_free(monkeypatch): monkeypatch.setitem(sys.modules, 'datasets', None)

def test_an_empty_column_is_none_of_labels(photos):
    df = answers(photos).rename(columns=dict(label='Klasse')).assign(Notiz=None)
    assert parts(survey(df, root=photos))==LABELED
    assert parts(survey(df.assign(Klasse=None)[['file','Klasse']], root=photos))==dict(labeled=0, valid=0, unlabeled=61)
    with pytest.raises(ValueError, match='which column'): survey(df.assign(Notiz='x'), root=photos)

def test_a_column_of_labels_to_be_filled_in_is_that_of_the_labels(photos):
    "As in what `next` writes, or an export of Label Studio before anybody chose: the other column is none of labels"
    df = answers(photos)[['file']].assign(label=None, reason=['typical of 3 images','typical of 4 images']*31)
    assert parts(survey(df, root=photos))==dict(labeled=0, valid=0, unlabeled=61)
    df.to_csv(photos/'next.csv', index=False)
    assert "columns 'file', 'label'" in survey(photos/'next.csv').notes
    (photos/'new.json').write_text(json.dumps([dict(data=dict(image=o, camera='ab'[i%2]), annotations=[]) for i,o in enumerate(df.file)]))
    assert parts(survey(photos/'new.json'))==dict(labeled=0, valid=0, unlabeled=61)
    with pytest.raises(ValueError, match="which column holds the labels.*'label', 'label'"):
        survey(pd.DataFrame([[o,'a','b'] for o in df.file], columns=['file','label','label']), root=photos)

@pytest.mark.parametrize('name, values', [('id', range(62)), ('nr', range(1, 63)), (None, range(62)), (None, ['x','y']*31), ('id', [f'{i}.0' for i in range(62)])])
def test_a_column_that_counts_is_none_of_labels(photos, name, values):
    "An index that pandas wrote, whatever it holds, and numbers of the rows"
    df = answers(photos).rename(columns=dict(label='Art'))
    df.insert(0, name or '', values)
    df.to_csv(photos/'counted.csv', index=False)
    assert parts(survey(photos/'counted.csv'))==LABELED
    if name: assert parts(survey(df, root=photos))==LABELED
    df.assign(Art=None).to_csv(photos/'todo.csv', index=False)
    assert parts(survey(photos/'todo.csv'))==dict(labeled=0, valid=0, unlabeled=61)
    df.assign(Ort='x').to_csv(photos/'asks.csv', index=False)
    with pytest.raises(ValueError, match="which column holds the labels. `label=` may be 'Art', 'Ort'$"): survey(photos/'asks.csv')

def test_a_column_that_counts_may_be_the_labels(photos, tmp_path):
    "Where no other is there, or its name says so; and numbers of rows are no names of files beside names with an extension"
    df = answers(photos).assign(label=range(62))
    for o in (df, df.rename(columns=dict(label='age'))):
        with pytest.raises(ValueError, match='the labels are numbers'): survey(o, root=photos)
    assert len(survey(df[:4].assign(note=['a','b']*2), root=photos).classes())==4
    put(tmp_path, *(f'{i}.png' for i in range(6)))
    pd.DataFrame(dict(file=[f'{5-i}.png' for i in range(6)], Art=['a','b']*3)).to_csv(tmp_path/'t.csv')
    found = survey(tmp_path/'t.csv')
    assert found.columns==('file','Art') and {o.name: l for o,l in found.df[['file','label']].values}['0.png']=='b'
    assert label_column(pd.DataFrame(dict(file=[], a=[])), 'file')=='a'

def test_a_table_in_the_folder_is_named(photos, tmp_path):
    found = survey(photos)
    assert f'{photos}/labels.csv is not read; to use its labels, name it, not its folder' in found.notes
    assert not [o for o in survey(photos/'labels.csv').notes if 'not read' in o]
    (tmp_path/'pictures').mkdir()
    for o in (photos/'labels.csv', *photos.glob('IMG_000*')): shutil.copy(o, tmp_path/('pictures' if o.suffix=='.jpg' else ''))
    found = survey(tmp_path)
    assert [*found.classes()]==['pictures'] and any('labels.csv is not read' in o for o in found.notes), 'one folder of images, taken for a class'

def test_duplicates_with_two_labels_come_first(photos, tmp_path):
    photos = Path(shutil.copytree(photos, tmp_path/'photos'))
    df = answers(photos)
    files = df.file[df.label.notna()].tolist()
    for i,(label,part) in enumerate((('ball','ball'), ('ball','tent'), ('star',None))):
        shutil.copy(photos/files[i], photos/f'zz{i}.jpg')
        df.loc[df.file==files[i],'label'] = label
        df.loc[len(df)] = dict(file=f'zz{i}.jpg', label=part)
    found = survey(df.drop(df.index[df.file=='copy.jpg']), root=photos)
    assert 'duplicates with two labels: 1, named first; correct one of each' in found.notes
    first,*others = found.twins()
    assert re.fullmatch(rf'{files[1]} \((labeled|valid) ball\) and zz1.jpg \((labeled|valid) tent\)', first) and len(others)==2
    assert others[1].endswith('zz2.jpg (unlabeled)') and not [o for o in survey(photos/'labels.csv').notes if 'two labels' in o]

def test_a_file_that_is_not_there_is_told_so(tmp_path):
    put(tmp_path, 'a/1.png', 'a/2.png', 'b/3.png', 'b/4.png', '5.png')
    (tmp_path/'6.png').symlink_to('nowhere.png')
    assert survey(tmp_path).bad.error.tolist()==['it is a link to a file that is not there']
    assert look_at([tmp_path/'7.png'], progress=False).error[0]=='it is not there'

@pytest.mark.parametrize('mode', ['LAB','CMYK','YCbCr','RGBA'])
def test_what_a_training_can_read_is_not_called_unreadable(mode, tmp_path):
    "Pillow converts LAB to RGB, but not to gray"
    x = np.random.default_rng(0).integers(0, 255, (30, 40, len(mode)), dtype=np.uint8)
    Image.frombytes(mode, (40, 30), x.tobytes()).save(tmp_path/'x.tif')
    assert as_image(tmp_path/'x.tif', PILImageShown).size==(40,30)
    assert look_at([tmp_path/'x.tif'], progress=False).error[0] is None

def test_no_memory_is_no_broken_file(photos, monkeypatch):
    def fail(*args, **kwargs): raise MemoryError
    monkeypatch.setattr(Image.Image, 'load', fail)
    with pytest.raises(MemoryError): survey(photos/'labels.csv')

def test_without_datasets(hub_free):
    with pytest.raises(ImportError, match='pip install datasets'): survey('hf:owner/name')

@pytest.mark.parametrize('name', ['NA', 'null', 'n/a'])
def test_a_class_that_pandas_takes_for_blank(photos, name):
    "Such as Namibia, beside DE and FR"
    df = answers(photos).replace(dict(label=dict(ball=name)))
    df.to_csv(photos/'na.csv', index=False)
    assert set(survey(photos/'na.csv').classes()) == {name,'diamond','star','tent'}

def test_images_for_testing_are_not_for_validation(photos):
    df = answers(photos)
    df['split'] = [('train','val','test')[i%3] for i in range(len(df))]
    found = survey(df, root=photos)
    assert len(found.of('valid')) == sum(df.label.notna() & (df.split=='val'))
    assert len(found.good) < len(survey(photos/'labels.csv').good)

def test_unknown_words_beside_train_are_not_read(photos):
    df = answers(photos)
    df['split'] = [('train','val','holdout')[i%3] for i in range(len(df))]
    found = survey(df, root=photos)
    assert "rows whose 'split' is holdout: not read" in found.notes
    assert len(found.of('labeled')) == sum(df.label.notna() & (df.split=='train'))

def test_rows_marked_as_unlabeled_are(photos):
    "With images for validation or without"
    df = answers(photos)
    df['split'] = ['unlabeled' if i%2 else 'train' for i in range(len(df))]
    found = survey(df, root=photos)
    assert len(found.of('labeled'))+len(found.of('valid')) == sum(df.label.notna() & (df.split=='train'))
