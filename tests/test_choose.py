"Planted cases: what to label next, wrong labels, strangers, duplicates; and what one look at all images gives."
import numpy as np, pytest, torch, warnings
from fastai.vision.all import Learner, load_learner, set_seed
from fastai_mixmatch.all import *
from fastai_mixmatch.choose import *
from helpers import Pairs, SMALL, Stream, X, Y, PILImageBW, tensor_dls
from sklearn.neighbors import NearestNeighbors

def unit(x): return x/np.linalg.norm(x, axis=1, keepdims=True)

def blobs(sizes, d=8, spread=.05, seed=0):
    "Points around orthogonal directions, and the number of the direction of each"
    r, y = np.random.default_rng(seed), np.repeat(np.arange(len(sizes)), sizes)
    return unit(np.eye(d)[y] + spread*r.normal(size=(len(y), d))), y

@pytest.fixture(scope='module')
def learn():
    set_seed(0)
    il = ImageList.from_arrays(X/255, Y, img_cls=PILImageBW)
    dls = il[:200].split(50)[0].dataloaders(il[1700:], bs=25)
    learn = ssl_learner(dls, il[200:500], SMALL)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(6)
    return learn

@pytest.fixture(scope='module')
def seen(learn): return look(learn)

# --- one look

def test_a_look_is_what_validation_sees(learn, seen):
    p, y = learn.get_preds()
    np.testing.assert_allclose(seen['valid'].p, p, atol=1e-5)
    assert seen['valid'].y.tolist()==y.tolist() and seen['unlabeled'].y.tolist()==Y[200:500].tolist()
    u = seen['unlabeled']
    np.testing.assert_allclose(np.linalg.norm(u.x, axis=1), 1, atol=1e-5)
    assert [len(seen[k]) for k in ('labeled', 'unlabeled', 'valid')]==[50, 300, 97]

def test_loaders_of_pytorch(tmp_path):
    "They know neither classes nor files: images go by their positions, classes by their numbers"
    learn = ssl_learner(tensor_dls(), torch.tensor(X[400:460]/255.).float()[:,None], SMALL)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    seen = look(learn)
    assert [len(seen[k]) for k in ('labeled', 'unlabeled', 'valid')]==[20, 60, 30] and seen['valid'].p.shape==(30, 10)
    assert len(label_next(learn, 3))==3 and len(label_issues(learn))<20 and len(strangers(learn))
    assert '<td' in report(learn, tmp_path/'report.html').read_text()

def test_a_look_changes_nothing(learn):
    state = {k: v.clone() for k, v in learn.model.state_dict().items()}
    learn.model.train()
    before = torch.get_rng_state()
    look(learn, thumb=8)
    assert learn.model.training and torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(v, state[k]) for k, v in learn.model.state_dict().items())

def test_thumbs_are_the_images(learn):
    t = look(learn, thumb=8)['unlabeled'].thumbs
    assert len(t)==300 and t[5].shape==(8, 8, 3)
    assert np.corrcoef(t[5][..., 0].ravel(), X[205].ravel())[0, 1]>.99

def test_images_that_cannot_be_read_keep_their_positions(tmp_path, learn):
    from PIL import Image
    for i in range(6): Image.fromarray(X[i]).save(tmp_path/f'{i}.png')
    (tmp_path/'2.png').write_bytes(b'no image')
    old = learn.mix_match.unlabeled
    try:
        learn.mix_match.unlabeled = Unlabeled(tmp_path, on_error='skip')
        with pytest.warns(UserWarning, match='skipped'): u = look(learn, arch=SMALL(1, 10))['unlabeled']
        assert u.idx.tolist()==[0, 1, 3, 4, 5] and u.x.shape[0]==5
        assert [o.rsplit('/', 1)[-1] for o in u.names]==['0.png', '1.png', '3.png', '4.png', '5.png']
    finally: learn.mix_match.unlabeled = old

def test_an_exported_learner_has_no_images_to_look_at(learn, tmp_path):
    learn.export(tmp_path/'m.pkl')
    with pytest.raises(ValueError, match='no unlabeled images: set'): label_next(load_learner(tmp_path/'m.pkl'), 2)

def test_what_cannot_be_looked_at_is_said(learn):
    plain = Learner(learn.dls, learn.model)
    with pytest.raises(ValueError, match='no unlabeled images'): look(plain)
    with pytest.raises(TypeError, match='only `look`'): label_next(np.eye(3), 1, arch='x')
    old = learn.mix_match.unlabeled
    try:
        learn.mix_match.unlabeled = Stream(Pairs(X[:9]))
        with pytest.raises(TypeError, match='iterable'): look(learn)
    finally: learn.mix_match.unlabeled = old

# --- what to label next

def test_typicality_by_hand():
    x = np.random.default_rng(0).normal(size=(60, 4))
    d = NearestNeighbors(n_neighbors=21).fit(x).kneighbors(x)[0][:, 1:]
    np.testing.assert_allclose(typicality(x), 1/(d.mean(1)+1e-5))
    assert typicality(x[:1]).tolist()==[1.]

def test_typical_images_are_in_the_middle_of_different_blobs():
    x, y = blobs([60, 40, 30])
    i, size = typical(x, 3)
    assert y[i].tolist()==[0, 1, 2] and size.tolist()==[60, 40, 30]
    for k in range(3): assert i[k]==np.flatnonzero(y==k)[typicality(x[y==k]).argmax()]

def test_blobs_with_labels_wait_and_the_largest_comes_first():
    x, y = blobs([60, 40, 30])
    first = np.flatnonzero(y==0)[:1]
    rest = np.setdiff1d(np.arange(len(x)), first)
    got = [y[rest[i]] for i in typical(x[rest], 2, labeled=x[first])[0]]
    assert got==[1, 2]

def test_outliers_are_left_out_while_there_are_others():
    x, y = blobs([60, 40, 3])
    assert set(y[typical(x, 3)[0]])=={0, 1}

@pytest.mark.parametrize('n', [1, 7, 103, 200])
def test_nothing_is_chosen_twice(n):
    x, _ = blobs([60, 40, 3])
    i = typical(x, n)[0]
    assert len(set(i))==len(i)==min(n, len(x))

def test_as_many_as_asked_for_where_clusters_are_small():
    "Those of more than 5 images first"
    r = np.random.default_rng(0)
    x = np.concatenate([r.normal(0, .01, (10, 8)), r.normal(9, 3, (80, 8))])
    i,size = typical(x, 45)
    assert len(set(i))==45 and set(i[:10])==set(range(10)) and (size[10:]<=5).all()

def test_contested_ones_later(seen):
    u, lab = seen['unlabeled'], seen['labeled'].x
    early, late = [label_next(u.x, 5, labeled=lab, p=u.p, few=few) for few in (6, 5)]
    assert all('typical' in why for _, why in early) and all('contested' in why for _, why in late)
    top = np.sort(u.p, 1)
    assert [i for i, _ in late]==np.argsort(top[:, -1]-top[:, -2])[:5].tolist()
    assert label_next(seen, 3, by='contested')==label_next(u.x, 3, by='contested', p=u.p, names=u.names)

def test_a_single_image_is_one():
    x = np.eye(8)[[0]*7+[1]]
    assert {why for _, why in label_next(x, 8, labeled=np.eye(8)[2:3])} >= {'typical of 1 image', 'typical of 7 images'}

def test_questions_that_have_no_answer():
    with pytest.raises(ValueError, match='pass `p`'): label_next(np.eye(3), 1, by='contested')
    with pytest.raises(ValueError, match="'typical' or 'contested'"): label_next(np.eye(3), 1, by='random')
    with pytest.raises(ValueError, match="'cleanlab' or 'plain'"): label_issues((np.eye(2), [0, 1]), by='x')
    with pytest.raises(ValueError, match='no class has two'): cross_probs(np.eye(3), np.arange(3))

# --- wrong labels

def test_confident_learning_by_hand():
    r = np.random.default_rng(0)
    p, y = r.dirichlet(np.ones(4), 200), r.integers(0, 4, 200)
    t = [np.mean([p[i, c] for i in range(200) if y[i]==c]) for c in range(4)]
    want = set()
    for i in range(200):
        sure = {p[i, c]: c for c in range(4) if p[i, c]>=t[c]}
        if sure and sure[max(sure)]!=y[i]: want.add(i)
    got = confident_issues(p, y)
    assert set(got)==want and len(got)==len(want)
    doubt = [p[i, y[i]]-max(p[i, c] for c in range(4) if c!=y[i]) for i in got]
    assert doubt==sorted(doubt)

def test_planted_wrong_labels_are_found():
    x, y = blobs([40, 40, 40], spread=.1)
    given, bad = y.copy(), np.arange(5, 120, 12)
    given[bad] = (given[bad]+1)%3
    df = label_issues((cross_probs(x, given), given), by='plain', classes='abc')
    assert set(df.file)==set(bad) and list(df.given)==['abc'[given[i]] for i in df.file]
    assert list(df.suggested)==['abc'[y[i]] for i in df.file] and (df.p<.5).all()
    assert not len(label_issues((cross_probs(x, y), y), by='plain'))

def test_nobody_judges_a_label_that_he_has_seen():
    "One image that contradicts its twin: a fit with both of them would be torn, one without it agrees with the twin"
    x, y = blobs([20, 20], spread=.01)
    y[0] = 1
    assert cross_probs(x, y)[0, 0]>.5

def test_the_only_image_of_a_class_is_not_judged():
    x, y = blobs([20, 20, 1])
    p = cross_probs(x, y, 5)
    assert p.shape==(41, 5) and np.isnan(p[-1]).all() and not np.isnan(p[:-1]).any()
    assert 40 not in confident_issues(p, y)

def test_cleanlab_agrees():
    pytest.importorskip('cleanlab', reason='cleanlab is not installed')
    x, y = blobs([40, 40, 40], spread=.1)
    given, bad = y.copy(), np.arange(5, 120, 12)
    given[bad] = (given[bad]+1)%3
    found = label_issues((cross_probs(x, given), given), by='cleanlab').file
    assert set(found)>=set(bad) and len(found)<=len(bad)+3

# --- strangers

@pytest.mark.parametrize('with_valid', [True, False])
def test_planted_strangers_are_found_and_left_out(with_valid):
    x, y = blobs([100, 100, 8], spread=.1)
    known = np.flatnonzero(y<2)
    lab, val, pool = known[::5], known[1::5], np.setdiff1d(np.arange(208), np.r_[known[::5], known[1::5]])
    df = strangers(x[pool], labeled=x[lab], valid=x[val] if with_valid else None)
    assert set(np.flatnonzero(y[pool]==2)) <= set(df.position) and len(df) <= 8+.15*len(pool)
    assert set(df.position[:8])==set(np.flatnonzero(y[pool]==2)) and df.score.is_monotonic_decreasing
    left = leave_out(list(map(str, range(len(pool)))), df)
    assert len(left)==len(pool)-len(df) and not set(map(str, df.position)) & set(map(str, left.items))

def test_an_image_is_not_its_own_neighbor():
    x = unit(np.random.default_rng(0).normal(size=(1500, 5)))
    want = NearestNeighbors(n_neighbors=2).fit(x).kneighbors(x)[0][:, 1]
    np.testing.assert_allclose(nearest(x, x, own=True), want, atol=1e-6)
    np.testing.assert_allclose(nearest(x, x), 0, atol=1e-6)

def test_neighbors_have_a_say():
    "An image's score is the mean of its own and of that of the unlabeled images like it, or its distance if that is extreme"
    x, y = blobs([60]*3, spread=.2)
    lab, val, pool = np.arange(0, 120, 4), np.arange(1, 120, 4), np.setdiff1d(np.arange(180), np.r_[0:120:4, 1:120:4])
    score, usual = strangeness(x[pool], x[lab], y[lab], x[val])
    alone, far = relative(x[pool], x[lab], y[lab]), [nearest(x[i], x[lab]) for i in (pool, val)]
    d = np.linalg.norm(x[:,None]-x[pool], axis=2)
    def mean(i, s, n): return (s+alone[d[i].argsort()[n:n+5]].mean())/2 # The nearest of the pool's images is each itself
    odd = [[mean(i, s, n) for i,s in zip(*o)] for o,n in (((pool, alone), 1), ((val, relative(x[val], x[lab], y[lab])), 0))]
    def scaled(v, u, q): return (np.array(v)-np.median(u))/(np.quantile(u, q)-np.median(u))
    for got,o,f in zip((score, usual), odd, far):
        np.testing.assert_allclose(got, np.maximum(scaled(o, odd[1], .95), scaled(f, far[1], .975)), rtol=1e-4, atol=1e-6)

@pytest.mark.parametrize('labels', [3, 10])
def test_far_strangers_of_any_kind_are_found(labels):
    "Alone or in a group, in any direction"
    x, y = blobs([80]*3, d=16, spread=.1)
    lab, r = np.concatenate([np.flatnonzero(y==c)[:labels] for c in range(3)]), np.random.default_rng(1)
    rest = np.setdiff1d(np.arange(240), lab)
    val, pool = rest[::3], np.setdiff1d(rest, rest[::3])
    out = np.concatenate([unit(r.normal(size=(5, 16))), unit(np.eye(16)[[9]*8]+.05*r.normal(size=(8, 16)))])
    found = strangers(np.concatenate([x[pool], out]), labeled=x[lab], y=y[lab], valid=x[val])
    assert set(range(len(pool), len(pool)+13)) <= set(found.position) and len(found) < 13+.2*len(pool)

def test_a_learner_trains_without_strangers(learn, seen):
    df = strangers(seen, share=.2)
    clean = leave_out(learn.mix_match.unlabeled.source, df)
    assert 0<len(df)<300 and len(ssl_learner(learn.dls, clean, SMALL).mix_match.dl.items)==300-len(df)

# --- duplicates

def test_planted_duplicates_are_found():
    r = np.random.default_rng(0)
    x = r.normal(size=(1200, 32))+3
    x[[7, 1100]] = x[[300, 40]]+.02*r.normal(size=(2, 32))
    df = near_duplicates_by_features(x)
    assert {tuple(o) for o in df[['a', 'b']].values}=={(7, 300), (40, 1100)} and (df.similarity>.99).all()

def test_duplicates_name_both_kinds(seen):
    u, v = seen['unlabeled'], seen['valid']
    both = dict(unlabeled=u, valid=v.__class__(**{**vars(v), 'x': np.concatenate([u.x[:1], v.x[1:]])}))
    df = near_duplicates_by_features(both, same=.99999)
    assert (u.names[0], v.names[0], 'unlabeled and valid') in df[['a', 'b', 'where']].itertuples(index=False, name=None)

@pytest.mark.parametrize('n', [0, -3])
@pytest.mark.parametrize('by', ['typical', 'contested'])
def test_no_number_of_images_to_label(n, by):
    with pytest.raises(ValueError, match='`n` must be at least 1'): label_next(np.eye(4), n, by, p=np.eye(4))

def test_many_strangers_are_told():
    "With few known images the threshold is rough; a pool as the labels are has few"
    set_seed(0)
    x = torch.nn.functional.normalize(torch.randn(300, 16)).numpy()
    near = torch.nn.functional.normalize(torch.tensor([1.]+[0]*15)+.1*torch.randn(300, 16)).numpy()
    with pytest.warns(UserWarning, match='of 300 images seem strange beside 10 known ones: look at them, or label more'):
        strangers(x, labeled=near[:20], y=np.arange(20)%2, valid=near[20:30])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        strangers(near[60:], labeled=near[:20], y=np.arange(20)%2, valid=near[20:60])
