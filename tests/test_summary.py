"The report of a training: what it says is right, it opens in a real browser without an error, and nothing in it can run code."
import json, numpy as np, pandas as pd, pytest, re, shutil, subprocess, torch
from contextlib import contextmanager
from fastai.vision.all import Image, ImageDataLoaders, Path, PILImage, Resize, set_seed
from fastai_mixmatch import summary
from fastai_mixmatch.all import *
from fastai_mixmatch.frozen import frozen_baseline
from fastai_mixmatch.summary import Tiles, flat_map, reliability, report
from helpers import SMALL
from html.parser import HTMLParser
from types import SimpleNamespace

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
EVIL = 'a<b>&"\'</script><script>throw 1'

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "Folder of colored pictures, of a class with an evil name, too; a learner on them; and its report"
    tmp, r = tmp_path_factory.mktemp('report'), np.random.default_rng(0)
    evil = EVIL.replace('/', '∕')
    for part, n in (('labeled', 6), ('unlabeled', 9), ('test', 7)):
        for c, name in enumerate(('red', 'green', evil)):
            for i in range(n):
                x = r.normal(100, 20, (16, 20, 3))+60*np.eye(3)[c]
                f = tmp/part/(name if part!='unlabeled' else '')/f'{c}_{i}.png'
                f.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(f)
    shutil.copy(tmp/'unlabeled'/'0_3.png', tmp/'test'/'red'/'copy.png')
    shutil.copy(tmp/'labeled'/'red'/'0_0.png', tmp/'labeled'/'green'/'wrong.png')
    set_seed(0)
    dls = ImageDataLoaders.from_folder(tmp, train='labeled', valid='test', img_cls=PILImage, item_tfms=Resize(16), bs=9, num_workers=0)
    learn = ssl_learner(dls, tmp/'unlabeled', SMALL)
    with learn.no_bar(), learn.no_logging(): learn.fit(3)
    net = small_cnn(3, 3, width=8)
    file = report(learn, tmp/'pages'/'report.html', arch=net, others=dict(supervised=.5), title=f'Title {EVIL}', note='seed 0 '+'/a-long-folder/of-some-name'*4)
    return tmp, learn, net, file

def data(page): return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])

def section(page, title): return re.search(rf'<h2>{title}</h2>(.*?)</section>', page, re.S)[1]

def browse(file, *args, script=''):
    "What a browser shows of `file`, after `script`, and what it says on its console"
    if not BROWSER: pytest.skip('no browser is installed: tried chromium, chromium-browser, google-chrome, chrome')
    copy = file.with_name('browsed.html')
    copy.write_text(file.read_text()+(f'<script>{script}</script>' if script else ''))
    r = subprocess.run([BROWSER, '--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', '--virtual-time-budget=4000',
                        *args, f'file://{copy}'], capture_output=True, text=True, timeout=120)
    return r.stdout, [o for o in r.stderr.splitlines() if 'CONSOLE' in o]

def test_it_opens_in_a_browser_without_an_error(made):
    dom, says = browse(made[3], '--dump-dom')
    assert not says and 'What to label next' in dom

@contextmanager
def at_once():
    "Without a look of any network at an image"
    asked = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(lambda *args: asked.append(1))
    try: yield
    finally: hook.remove()
    assert not asked

def test_a_folder_that_cannot_be_made_is_found_first(made):
    with at_once(), pytest.raises(OSError, match='page.html'): report(made[1], made[3]/'page.html'/'report.html')

def test_a_file_of_the_user_is_not_replaced(made, tmp_path):
    "Told before the work; an earlier report makes room"
    own, old = tmp_path/'page.html', shutil.copy(made[3], tmp_path)
    own.write_text('<!doctype html><title>Mine</title>')
    assert report(made[1], old)==Path(old)
    with at_once(), pytest.raises(FileExistsError, match='page.html is there already, and would be lost'): report(made[1], own)
    assert 'Mine' in own.read_text()

def test_the_browser_would_tell_an_error(made):
    assert any('broken' in o for o in browse(made[3], '--dump-dom', script='throw new Error("broken")')[1])

def test_keys_go_through_the_map_and_filters_hide(made):
    keys = 'const c = document.getElementById("map"), go = k => c.dispatchEvent(new KeyboardEvent("keydown", {key: k}))\n'
    dom, says = browse(made[3], '--dump-dom', script=keys+'go("ArrowRight"); go("ArrowRight"); go("ArrowLeft")')
    first = data(made[3].read_text())['t'][0]
    assert not says and re.search(r'id="say"[^>]*>(.*?)</p>', dom)[1].startswith(first.split(':')[0]) and 'class="t s0"' in dom
    hide = 'document.querySelector("#side input").click(); go("ArrowRight")'
    dom, says = browse(made[3], '--dump-dom', script=keys+hide)
    assert not says and ': unlabeled' in re.search(r'id="say"[^>]*>(.*?)</p>', dom)[1]

@pytest.mark.parametrize('width', [1280, 390])
def test_the_page_is_not_wider_than_the_screen(made, width):
    script = 'document.title = innerWidth + " " + document.documentElement.scrollWidth'
    dom, _ = browse(made[3], '--dump-dom', f'--window-size={width},900', script=script)
    inner, wide = map(int, re.search(r'<title>(\d+) (\d+)</title>', dom).groups())
    assert wide<=inner

@pytest.mark.parametrize('width', [1280, 390])
def test_what_a_table_shows_has_room(made, width):
    "Its caption is not pressed into the width of two narrow columns"
    script = 'document.body.append("caption: "+document.querySelector("caption").getBoundingClientRect().width)'
    dom,_ = browse(made[3], '--dump-dom', f'--window-size={width},900', script=script)
    assert float(re.search(r'caption: ([\d.]+)', dom)[1])>=min(400, width-80)

@pytest.mark.parametrize('width', [1280, 390])
def test_numbers_beside_a_chart_are_whole(width, tmp_path):
    "0.0829 is wider than the room to the left of the axis: it may leave the chart, but not the screen"
    body = '<section>'+summary._beside({k: summary._chart({'a': [.3316,.1]}, k) for k in ('Losses','Parts')})+'</section>'
    (tmp_path/'page.html').write_text(Path(summary.__file__).with_name('report.html').read_text().replace('/*body*/', body).replace('/*data*/', '{}'))
    script = """document.title = JSON.stringify([...document.querySelectorAll('.charts text')].map(o => { const svg = o.closest('svg')
        const edge = getComputedStyle(svg).overflow=='visible' ? 0 : svg.getBoundingClientRect().left
        return [o.textContent, o.getBoundingClientRect().left-edge] }))"""
    dom,says = browse(tmp_path/'page.html', '--dump-dom', f'--window-size={width},900', script=script)
    places = json.loads(re.search(r'<title>(.*?)</title>', dom)[1])
    assert not says and [o for o,_ in places].count('0.0829')==2 and not [o for o in places if o[1]<0]

@pytest.mark.parametrize('n', [2, 10, 43])
def test_the_confusion_matrix_on_a_phone(n, tmp_path):
    "In a frame of 390 pixels: the page is no wider, and the last column is there, at once or after scrolling in its box, which shows that there is more"
    r = np.random.default_rng(0)
    y, classes = r.integers(0, n, 300), [f'Natural-Yoghurt-of-Strawberries-{i}' for i in range(n)]
    body = summary._confusion(SimpleNamespace(seen=dict(valid=SimpleNamespace(y=y, guess=np.roll(y, 1))), classes=classes))
    page = Path(summary.__file__).with_name('report.html').read_text().replace('/*body*/', body).replace('/*data*/', '{}')
    assert len(set(re.findall('>(Natural-Y…[^<]*)<', body)))==n, 'names that differ at their ends stay apart'
    (tmp_path/'inner.html').write_text(page)
    frame, script = tmp_path/'frame.html', """
        const d = document.querySelector('iframe').contentDocument, box = d.querySelector('.wide'), root = d.documentElement
        const right = () => Math.max(...[...box.querySelectorAll('rect, text')].map(o => o.getBoundingClientRect().right))
        const before = right(), size = parseFloat(getComputedStyle(box).backgroundSize.split(',')[2])
        box.scrollLeft = 1e5
        document.title = JSON.stringify([root.clientWidth, root.scrollWidth, before, right(), box.getBoundingClientRect().right, size])"""
    frame.write_text(f'<body><iframe src="inner.html" style="width:390px;height:900px"></iframe><script>onload = () => {{ {script} }}</script>')
    dom, says = browse(frame, '--dump-dom', '--allow-file-access-from-files')
    width, wide, before, after, edge, shade = json.loads(re.search(r'<title>(.*?)</title>', dom)[1])
    assert not says and wide<=width<=390 and after<=edge+1 and shade>5
    assert (before<=edge+1)==(n<43)

def test_long_names_keep_their_end(made):
    "Below a picture; a pointer on it shows all of it"
    assert summary._shown('/a/Juice/Tropicana-Golden-Grapefruit_014.jpg')=='<span title="/a/Juice/Tropicana-Golden-Grapefruit_014.jpg">Juice/<wbr>Tropicana…_014.jpg</span>'
    assert summary._shown(f'{EVIL}/0_1.png').endswith('/<wbr>0_1.png</span>') and '<script>' not in summary._shown(EVIL)
    shown = re.findall('<figcaption><span title="([^"]*)">(.*?)</span>', made[3].read_text())
    assert len(shown)>20 and all(a.endswith(b.split('<wbr>')[-1]) and Path(a).is_file() for a,b in shown if '&' not in a and ' ' not in a)

def test_names_on_a_phone_stay_whole(tmp_path):
    "Up to about 16 letters a word, beside one that has to be broken; and the table of the classes is no wider than the screen"
    classes, y = ['Asparagus','Pomegranatejuice','Sour Cream','Donaudampfschifffahrtsgesellschaft'], np.arange(400)%4
    seen = dict(valid=SimpleNamespace(y=y, guess=(y+(np.arange(400)<300))%4), labeled=SimpleNamespace(y=y), unlabeled=SimpleNamespace(guess=y))
    p = SimpleNamespace(seen=seen, classes=classes)
    page = Path(summary.__file__).with_name('report.html').read_text().replace('/*data*/', '{}')
    (tmp_path/'inner.html').write_text(page.replace('/*body*/', summary._confusion(p)+summary._frequencies(p)))
    frame, script = tmp_path/'frame.html', """
        const d = document.querySelector('iframe').contentDocument, lines = {}, wide = [...d.querySelectorAll('.wide')].map(o => o.scrollWidth-o.clientWidth)
        for (const o of d.querySelectorAll('td:first-child')) for (const m of o.textContent.matchAll(/[A-Z]\\w+/g)) {
            const r = d.createRange()
            r.setStart(o.firstChild, m.index); r.setEnd(o.firstChild, m.index+m[0].length)
            lines[m[0]] = Math.max(lines[m[0]] || 0, r.getClientRects().length)
        }
        document.title = JSON.stringify([lines, wide.pop()])"""
    frame.write_text(f'<body><iframe src="inner.html" style="width:390px;height:3000px"></iframe><script>onload = () => {{ {script} }}</script>')
    dom, says = browse(frame, '--dump-dom', '--allow-file-access-from-files')
    lines, wide = json.loads(re.search(r'<title>(.*?)</title>', dom)[1])
    assert not says and wide==0 and lines.pop('Donaudampfschifffahrtsgesellschaft')>1
    assert lines==dict(Asparagus=1, Pomegranatejuice=1, Sour=1, Cream=1)

class Tags(HTMLParser):
    def __init__(self): super().__init__(); self.open, self.all = [], []
    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))
        if tag not in ('meta', 'input', 'br', 'wbr'): self.open.append(tag)
    def handle_startendtag(self, tag, attrs): self.all.append((tag, dict(attrs)))
    def handle_endtag(self, tag): assert self.open.pop()==tag

def test_the_page_is_well_formed_and_needs_nothing_else(made):
    page = made[3].read_text()
    t = Tags()
    t.feed(page.split('<!doctype html>')[1].replace('</body>', '', 0))
    assert t.open==[] and not re.search(r'(src|href)="(?!#)|@import|url\((?!data:)', page)
    assert page.count('<script')==2, 'a name has become code'
    assert all('aria-label' in a for tag, a in t.all if a.get('role')=='img')
    assert made[3].stat().st_size<1e6

def test_what_it_says_is_right(made):
    tmp, learn, net, file = made
    page, (p, y) = file.read_text(), learn.get_preds()
    beat = section(page, 'Rows to beat')
    for r in frozen_baseline(learn.dls, tmp/'unlabeled', net).itertuples(): assert f'{r.method}</td><td class="n">{r.accuracy:.1%}' in beat
    assert 'Frozen: a linear classifier' in beat and '<td class="v">_' not in section(page, 'Settings')
    assert '50.0%' in beat and f'{(p.argmax(1)==y).float().mean():.1%}' in beat
    m = np.zeros((3, 3), int)
    np.add.at(m, (y.numpy(), p.argmax(1).numpy()), 1)
    got = [int(o) for o in re.findall(r'taken for .*?: (\d+)</title>', section(page, 'Confusion matrix'), re.S)]
    assert got==m.ravel().tolist()
    assert f'{reliability(p, y)[1]:.3f}' in section(page, 'Reliability')
    assert 'copy.png' in section(page, 'Near duplicates') and 'wrong.png' in section(page, 'Suspected wrong labels')
    assert 'labeled green and red' in section(page, 'Near duplicates').split('</figure>')[0] or 'labeled red and green' in section(page, 'Near duplicates').split('</figure>')[0]
    assert section(page, 'What to label next').count('contested: ')==24
    assert 'seed 0' in section(page, 'Settings') and 'MixMatch' in section(page, 'Settings')

def test_the_map_holds_every_image_at_its_place(made):
    d = data(made[3].read_text())
    assert [d['k'].count(i) for i in range(3)]==[19, 27, 22] and len(d['x'])==len(d['y'])==len(d['t'])==68
    assert min(d['x'])==0 and max(d['y'])==1 and EVIL.replace('/', '∕') in d['t'][-1]

def test_many_images_are_thinned_out(made, tmp_path):
    "On the map; and pictures are as small as `max_bytes` asks"
    page = report(made[1], tmp_path/'r.html', most=50, max_bytes=1).read_text()
    assert '--s: 24 ' in page and '--s: 96 ' in made[3].read_text()
    d = data(page)
    assert [d['k'].count(i) for i in range(3)]==[19, 9, 22] and '18 unlabeled images, drawn at random, are left out' in page
    assert 'No rows to beat' in page

def test_its_advice_names_no_option_of_a_command(made, tmp_path):
    "In Python there are epochs, and no `--minutes`"
    section_of = section(report(made[1], tmp_path/'r.html', others=dict(best=1.01), most=50).read_text(), 'Rows to beat')
    assert 'below the best baseline' in section_of and 'train longer (more epochs)' in section_of and '--minutes' not in section_of

def test_a_learner_that_was_never_fitted(made, tmp_path):
    learn = ssl_learner(made[1].dls, made[0]/'unlabeled', SMALL)
    assert 'holds no results of a fit' in report(learn, tmp_path/'new'/'r.html').read_text()

def test_pictures_fit_and_stay_what_they_are():
    r = np.random.default_rng(0)
    from fastai_mixmatch.choose import Looked
    thumbs = [np.full((40, 60, 3), o, np.uint8) for o in r.integers(0, 256, 500)]
    seen = dict(u=Looked([str(i) for i in range(500)], None, None, None, None, thumbs, None))
    t = Tiles(seen)
    for i in reversed(range(500)): assert t('u', i)==499-i
    assert t('u', 499)==0 and len(list(t.sheets(48, 70)))==2
    import io
    sheet = np.asarray(Image.open(io.BytesIO(list(t.sheets(48, 90))[1])).convert('L'))
    k = 450
    assert abs(int(sheet[(k//20%20)*48+24, k%20*48+24])-int(thumbs[499-k][0, 0, 0]))<8
    noise = [r.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(500)]
    t.seen['u'].thumbs[:] = noise
    side, css = t.css(300_000)
    assert side<64 and len(css)<330_000

def test_calibration_by_hand():
    r = np.random.default_rng(0)
    p, y = r.dirichlet(np.ones(4)/2, 500), r.integers(0, 4, 500)
    conf, right, want = p.max(1), p.argmax(1)==y, 0
    for lo in np.arange(10)/10:
        i = (conf>lo) & (conf<=lo+.1)
        if i.any(): want += i.mean()*abs(conf[i].mean()-right[i].mean())
    df, ece = reliability(p, y)
    assert np.isclose(ece, want) and df.n.sum()==500
    assert reliability(np.eye(2), [0, 1])[1]==0

def test_how_sure_the_lists_are(made):
    "What the page says about wrong labels, copies and strangers is what the results file holds"
    rows = pd.read_json(Path(__file__).resolve().parent.parent/'bench/results/choose.jsonl', lines=True)
    page = made[3].read_text()
    def told(title): return [*map(int, re.findall(r'(\d+)(?= to |%)', re.search('In trials.*?\\.', section(page, title))[0]))]
    def measured(**how):
        p = rows[(rows[[*how]]==pd.Series(how)).all(axis=1)].precision
        assert len(p)>1
        return [*map(round, 100*np.array([p.min(), p.max()]))]
    assert told('Suspected wrong labels')==measured(what='wrong')
    assert {*told('Near duplicates')}=={*measured(what='twice', by='hash 10 and features 0.4')}
    far,*near = told('Strangers')
    by = 'class, neighbors, nearest image'
    assert {far}=={*measured(what='strangers', by=by, kind='far')} and near==measured(what='strangers', by=by, kind='near')

def test_neighbors_stay_neighbors_and_seeds_repeat():
    r = np.random.default_rng(0)
    x = np.concatenate([r.normal(o, .1, (30, 80)) for o in (0, 3, 6)])
    xy = flat_map(x)
    d = np.linalg.norm(xy[:, None]-xy, axis=2)
    np.fill_diagonal(d, 9)
    assert ((d.argmin(1)//30)==np.arange(90)//30).all() and np.array_equal(xy, flat_map(x))
    for n in (2, 3, 7): assert np.isfinite(flat_map(x[:n])).all()
