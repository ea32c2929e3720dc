"Whatever holds the unlabeled images, training reads all of them, once an epoch, exactly as it reads the labeled ones."
import itertools, numpy as np, pytest, random, torch, warnings
from fastai.callback.data import WeightedDL
from fastai.vision.all import (Callback, CategoryBlock, DataBlock, DataLoader as FastaiDL, ImageBlock, IntToFloatTensor,
    Normalize, PILImage, Pipeline, RandomResizedCrop, RandTransform, TensorImage, aug_transforms)
from fastai_mixmatch.rng import rng_state, set_rng_state
from fastai_mixmatch.streams import IterableDL, LabeledDL, UnlabeledDL, unlabeled_dl
from fastai_mixmatch.views import BatchViews
from torch.utils.data import WeightedRandomSampler, default_collate
from helpers import *

@pytest.mark.parametrize('kind', KINDS)
def test_kinds_grey(root, kind): check_kind(root, kind, KINDS[kind], from_folder(root), grey(UX))

@pytest.mark.parametrize('kind', RGB_KINDS)
def test_kinds_rgb(root, kind): check_kind(root, kind, RGB_KINDS[kind], from_folder(root, PILImage), rgb(UX))

@pytest.mark.parametrize('kind', ['folder', 'column', 'datasets', 'torch_tensor', 'array_float', 'tensor', 'iterable_len'])
def test_kinds_pass_through_the_labeled_item_transforms(root, kind):
    "Resized by the same `Resize`: the tensor of the labeled set's own pipeline, for each image."
    dls = from_folder(root, item_tfms=Resize(12))
    expected = torch.stack([dls.train.after_item((PILImageBW.create(f),))[0] for f in files(root)])
    assert expected.shape == (N, 1, 12, 12) and not torch.equal(expected[0, 0, :8, :8], grey(UX)[0, 0])
    check_kind(root, kind, KINDS[kind], dls, torch.Tensor(expected.float()).to(torch.uint8))

def test_batch_transforms_for_images_leave_plain_tensors_alone():
    "fastai's `IntToFloatTensor` and `Normalize` act on `TensorImage` only, on both streams alike."
    dl = FastaiDL(Pairs(grey(UX).float(), UY), bs=4, after_batch=Pipeline([IntToFloatTensor(), Normalize.from_stats([.5], [.2], cuda=False)]))
    x = grey(UX[:4]).float()
    view = BatchViews(dl, x, weak=False)
    assert torch.equal(view(x), x)
    view = BatchViews(dl, TensorImage(x), weak=False)
    a = view(x)
    assert torch.allclose(a, (x / 255 - .5) / .2) and torch.equal(a, view(x)), 'a view must not change the batch that it is made of'

@pytest.mark.parametrize('kw', [dict(), dict(cache=False), dict(item_tfms=RandomResizedCrop(8, min_scale=.5))], ids=['cached', 'streamed', 'random items'])
def test_labels_of_unlabeled_images_never_reach_training(root, kw):
    tfms, kw = kw.get('item_tfms'), {k: v for k, v in kw.items() if k != 'item_tfms'}
    def run(labels):
        set_seed(7)
        learn = fitted(from_folder(root, item_tfms=tfms), ImageList(files(root), labels=labels), epochs=2, **kw)
        return learn, weights(learn)
    (none, w), (right, w1), (wrong, w2) = run(None), run(list(map(str, UY))), run([str((i + 1) % 10) for i in UY])
    assert equal(w, w1) and equal(w, w2)
    assert 'guess_acc' not in none.recorder.metric_names
    accs = [column_of(o, 'guess_acc') for o in (right, wrong)]
    assert accs[0] != accs[1] and all(0 <= o <= 1 for a in accs for o in a)

def test_guess_acc_is_the_accuracy_of_the_guesses(root):
    "The column against the guesses themselves, half of the labels missing."
    learn = learner(from_folder(root), ImageList(files(root), labels=[str(y) if y < 5 else None for y in UY]))
    hits = []
    class Spy(Callback):
        run_valid = False
        def after_loss(self):
            q, truth = self.mix_match.step.guess, self.mix_match.step.batch.truth
            hits.append((q.argmax(1) == truth)[truth >= 0])
    learn.fit(1, 2e-3, cbs=Spy())
    assert sum(map(len, hits)) == (UY < 5).sum() and row_of(learn)['guess_acc'] == pytest.approx(torch.cat(hits).float().mean().item())

@pytest.mark.parametrize('n,bs', [(50, 25), (50, 16), (49, 16), (17, 16), (5, 16), (2, 1), (1, 4)])
@pytest.mark.parametrize('cache', [True, False])
def test_a_pass_gives_each_image_once(root, n, bs, cache):
    "A last batch of one image joins the batch before it."
    dl = unlabeled_dl(UX[:n] if cache else files(root)[:n], from_folder(root), bs=bs)
    for _ in range(2):
        got = list(dl)
        assert len(got) == len(dl) and same_images(torch.cat([x[0] for x, _ in got]), grey(UX[:n]))
        assert min(map(len, [y for _, y in got])) > 1 or bs == 1 or n == 1
    if n > 16: assert not torch.equal(torch.cat([x[0] for x, _ in dl]), torch.cat([x[0] for x, _ in dl])), 'each pass has its own order'

@pytest.mark.parametrize('cache', [True, False])
def test_labeled_images_are_repeated_evenly(root, cache):
    "20 labels fill batches of 64, and after each 20 draws every image was drawn equally often."
    dl = LabeledDL(from_folder(root), bs=64, cache=cache)
    got = list(itertools.islice(dl, 10))
    assert {tuple(x.shape) for (x,), _ in got} == {(64, 1, 8, 8)}
    xs = torch.cat([x for (x,), _ in got])
    for i in range(0, 640, 20): assert len({o.numpy().tobytes() for o in xs[i:i + 20]}) == 20
    assert torch.bincount(torch.cat([y for _, y in got])).tolist() == [64] * 10

def test_labeled_order_is_the_loader_s_own(root):
    "Weights of a `WeightedDL` and of a PyTorch sampler hold."
    il = ImageList.from_arrays(X[:200], Y[:200], img_cls=PILImageBW)
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock(vocab=list(range(10)))), get_x=ItemGetter(0), get_y=ItemGetter(1),
        splitter=lambda o: (list(range(200)), []))
    w = np.where(Y[:200] == 3, 1., .1)
    dls = block.datasets(list(zip(il.items, il.labels))).weighted_dataloaders(w, bs=25, after_item=ToTensor())
    assert isinstance(dls.train, WeightedDL)
    expected = w[Y[:200] == 3].sum() / w.sum()
    share = lambda dls: (torch.cat([y for _, y in itertools.islice(LabeledDL(dls, bs=100), 20)]) == 3).float().mean().item()
    assert abs(share(dls) - expected) < .05 and expected > .3
    t = Pairs(grey(X[:200]).float() / 255, Y[:200])
    dls = DataLoaders(DataLoader(t, 25, sampler=WeightedRandomSampler(w, 200)), DataLoader(t, 25))
    assert abs(share(dls) - expected) < .05

def test_the_user_s_dls_is_left_alone(root):
    dls = from_folder(root, item_tfms=[Resize(8)], batch_tfms=[*aug_transforms(size=8), Normalize.from_stats([.5], [.2], cuda=False)], bs=7)
    def settings(f): return {k: v for k, v in vars(f).items() if not isinstance(f, RandTransform) and k in ('order', 'split_idx', 'size', 'mean', 'std')}
    def state():
        list(dls.train), list(dls.valid)              # fastai sets `split_idx` of the pipelines as it passes over the data
        loaders = [(id(dl), id(dl.dataset), dl.bs, len(dl), dl.n, dl.shuffle, dl.drop_last, dl.split_idx, dl.num_workers) for dl in dls.loaders]
        pipes = [(p.split_idx, [id(f) for f in p.fs], repr([settings(f) for f in p.fs])) for dl in dls.loaders
            for p in (dl.after_item, dl.before_batch, dl.after_batch)]
        return loaders, pipes, dls.path, dls.device, len(dls.train_ds), list(dls.vocab), dls.train_ds.tls[0].tfms.split_idx
    before, x0 = state(), [x.clone() for x, _ in dls.valid]
    learn = fitted(dls, root / 'unlabeled')
    assert learn.dls is dls and state() == before and all(map(torch.equal, x0, [x for x, _ in dls.valid]))
    assert next(iter(dls.train))[0].shape == (7, 1, 8, 8) and len(list(dls.train)) == len(dls.train)
    arr, t = UX.copy(), grey(UX)
    arr.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fitted(from_folder(root), arr), fitted(from_folder(root), t)
    assert torch.equal(t, grey(UX))

def test_two_classes_and_a_thousand(photos):
    learn = fitted(from_folder(photos, item_tfms=Resize(8)), photos / 'unlabeled')
    assert learn.mix_match.labeled_dl.c == 2 and learn.model(torch.zeros(1, 1, 8, 8)).shape == (1, 2)
    x = np.random.default_rng(0).integers(0, 256, (1000, 6, 6), dtype=np.uint8)
    il = ImageList.from_arrays(x, range(1000), img_cls=PILImageBW)
    learn = fitted(il.dataloaders(il[:20], bs=64), il[::20], bs=25)
    assert learn.mix_match.labeled_dl.c == 1000 and learn.mix_match.class_counts.tolist() == [1] * 1000 and len(learn.seen.raw) == 2

@pytest.mark.parametrize('size', [(1, 1), (1, 9), (9, 2)])
def test_tiny_images(size):
    x = np.random.default_rng(0).integers(0, 256, (40, *size), dtype=np.uint8)
    il = ImageList.from_arrays(x, np.arange(40) % 2, img_cls=PILImageBW)
    learn = fitted(il[:10].dataloaders(il[10:20], bs=5), il[20:], bs=10)
    assert same_images(learn.seen.x, torch.tensor(x[20:])[:,None]) and learn.train_iter == 2

@pytest.mark.parametrize('kind', ['folder', 'il_own_tfms', 'torch_pil_label', 'tfmd_lists', 'iterable_len'])
def test_streaming_by_workers_gives_what_is_cached(root, kind):
    dls = from_folder(root)
    a = next(iter(unlabeled_dl(KINDS[kind](root), dls, bs=N)))
    dl = unlabeled_dl(KINDS[kind](root), dls, bs=20)
    dl.num_workers = 2
    for _ in range(2):
        got = list(dl)
        assert [len(y) for _, y in got] == [20, 20, 10] and same_images(torch.cat([x[0] for x, _ in got]), a[0][0])
        pairs = lambda x, y: sorted((o.numpy().tobytes(), int(i)) for o, i in zip(x, y))
        assert pairs(torch.cat([x[0] for x, _ in got]), torch.cat([y for _, y in got])) == pairs(a[0][0], a[1]), 'labels stay with their images'

def test_streaming_the_labeled_set_by_workers(root):
    dl = LabeledDL(from_folder(root), bs=30, cache=False)
    dl.num_workers = 2
    got = list(itertools.islice(dl, 4))
    assert same_images(torch.cat([x for (x,), _ in got])[:20], LabeledDL(from_folder(root)).pool.load().x)

def test_an_epoch_of_steps_goes_on_where_the_last_ended(root):
    "An iterable without length and 2 batches an epoch: the next epoch continues; at its end the data start again."
    learn = fitted(from_folder(root), Stream(Pairs(grey(UX))), epochs=3, steps=1, bs=20)
    order = lambda x: [o.numpy().tobytes() for o in x]
    got = [order(r[0]) for r in learn.seen.raw]
    want = order(grey(UX))
    assert [len(o) for o in got] == [20, 20, 10] and sum(got, []) == want
    learn.fit(1)
    assert order(learn.seen.raw[0][0]) == want[:20]
    dl = unlabeled_dl(SizedStream(Pairs(grey(UX))), from_folder(root), bs=49)
    assert [len(y) for _, y in dl] == [49], 'no batch of one image'

# --- epochs of as many steps as one asks for

class Crop(RandTransform):
    "Draws from numpy's global generator"
    def encodes(self, o: PILImageBW): return PILImageBW(o.point(lambda v: v//2)) if np.random.rand() < .5 else o

@pytest.mark.parametrize('kw', [dict(), dict(cache=False), dict(cache=False, num_workers=2), dict(random=True), dict(random=True, num_workers=1)], ids=str)
def test_epochs_of_steps_walk_over_passes(root, kw):
    "Epochs of 3 batches of a pool of 5: five epochs see each image three times; taken up after any batch, the rest is the same"
    tfms = Crop() if kw.get('random') else None
    kw = {k: v for k, v in kw.items() if k != 'random'}
    workers = kw.pop('num_workers', 0)
    def make():
        dl = unlabeled_dl(root / 'unlabeled', from_folder(root, item_tfms=tfms), bs=10, steps=3, **kw)
        dl.num_workers = workers
        return dl
    def batches(dl, epochs):
        for epoch in range(epochs):
            for x, _ in dl: yield epoch, x[0].clone(), dl.now.tolist()
    torch.manual_seed(3)
    dl, whole, states = make(), [], []
    for b in batches(dl, 5): whole.append(b), states.append((dl.state_dict(), rng_state()))
    dl.load_state_dict(None)
    assert len(dl) == 3 and [e for e, *_ in whole] == [e for e in range(5) for _ in range(3)]
    seen = sum([idx for *_, idx in whole], [])
    for i in range(0, 150, 50): assert sorted(seen[i:i + 50]) == list(range(50))
    for at in (2, 7) if workers else (0, 1, 2, 3, 7, 11):
        state, rng = states[at]
        dl = make()
        dl.load_state_dict(state)
        set_rng_state(rng)
        got = list(batches(dl, 5 - at//3))
        assert [idx for *_, idx in got] == [idx for *_, idx in whole[at + 1:]]
        assert all(torch.equal(a, b) for (_, a, _), (_, b, _) in zip(got, whole[at + 1:]))
        assert [e for e, *_ in got] == [e - at//3 for e, *_ in whole[at + 1:]]
        dl.load_state_dict(None) # Ends the workers; the garbage collector would wait 5 s for each

def test_steps_of_a_learner(root):
    "An epoch of 5 steps on a pool of two batches, and of 1 step: both streams go on"
    learn = fitted(from_folder(root), root / 'unlabeled', epochs=2, steps=5)
    assert len(learn.seen.raw) == 10 and same_images(learn.seen.x, grey(np.concatenate([UX]*5)))
    learn = fitted(from_folder(root), root / 'unlabeled', epochs=4, steps=1)
    assert len(learn.seen.raw) == 4 and same_images(learn.seen.x, grey(np.concatenate([UX]*2)))
    learn = fitted(from_folder(root), UX[:4], epochs=1, steps=6, bs=4)
    assert len(learn.seen.ys) == 6, 'few unlabeled images, many labeled ones: an epoch is as long as one asks for'

def test_parts_of_steps(root, monkeypatch):
    "Two processes take halves of the batches that one would have"
    def seen(rank, world, bs):
        torch.manual_seed(0)
        dl = unlabeled_dl(root / 'unlabeled', from_folder(root), bs=bs, steps=4)
        dl.pool.load()
        on_rank(dl, rank, world, monkeypatch)
        return [dl.now.tolist() for _ in range(3) for _ in dl]
    one, a, b = seen(0, 1, 20), seen(0, 2, 10), seen(1, 2, 10)
    assert [x + y for x, y in zip(a, b)] == one and len(one) == 12

# --- iterable datasets with a position

class Resumed(IterableDataset):
    "Knows its position; what is left of a pass comes first"
    def __init__(self): self.at = 0
    def __len__(self): return 40
    def __iter__(self):
        for self.at in range(self.at + 1, 41): yield UX[self.at - 1]
        self.at = 0
    def state_dict(self): return dict(at=self.at)
    def load_state_dict(self, state): self.at = state['at']

@pytest.mark.parametrize('steps', [None, 4])
def test_taken_up_at_the_end_of_a_pass(root, steps):
    dl = unlabeled_dl(Resumed(), from_folder(root), bs=10, steps=steps)
    dl.items.at = 0
    assert len(list(dl)) == 4
    state = dl.state_dict()
    assert state['given'] == 4
    state['items'] = dict(at=40)
    dl = unlabeled_dl(Resumed(), from_folder(root), bs=10, steps=steps)
    dl.load_state_dict(state)
    assert not list(dl), 'nothing is left of that epoch'
    assert same_images(torch.cat([x[0] for x, _ in dl]), grey(UX[:40]))

def test_classes_of_streams(root):
    dls = from_folder(root)
    a, b = unlabeled_dl(UX, dls), unlabeled_dl(Resumed(), dls)
    assert (type(a), a.iterable, type(b), b.iterable) == (UnlabeledDL, False, IterableDL, True)
    assert type(unlabeled_dl(DataLoader(Resumed()), dls)) is IterableDL
    with pytest.raises(TypeError, match='use `IterableDL` or `unlabeled_dl`'): type(a)(Resumed(), dls)

def test_each_batch_has_its_own_random_numbers():
    "Item transforms draw by a seed for each batch, so that the images of the next one are not cut alike"
    class Plain(RandTransform):
        def encodes(self, x:PILImageBW): return PILImageBW.create(np.full((8,8), random.randrange(256), np.uint8))
    a,b,*_ = [views[0][:,0,0,0].tolist() for views,_ in UnlabeledDL(UX, core_dls(item_tfms=Plain(p=1.)), bs=10)]
    assert len(set(a))>1 and a!=b

def own_batches(b): return default_collate(b)

@pytest.mark.parametrize('make', [lambda x: torch.utils.data.DataLoader(x, 4, collate_fn=own_batches),
    lambda x: FastaiDL(x, bs=4, create_batch=own_batches), lambda x: FastaiDL(x, bs=4, before_batch=lambda b: b),
    lambda x: torch.utils.data.DataLoader(x, batch_sampler=[[0, 1], [1, 2]])], ids=['collate_fn','create_batch','before_batch','batch_sampler'])
def test_batches_made_in_its_own_way_are_refused(make, request):
    "The stream makes views of single images, so such a function would act in validation only, and batches of a sampler would be cut anew"
    pairs = [(torch.rand(1, 8, 8), i%2) for i in range(12)]
    with pytest.raises(ValueError, match=f'`{request.node.callspec.id}` of the labeled loader would not be used'): LabeledDL(DataLoaders(make(pairs)))
    assert LabeledDL(DataLoaders(torch.utils.data.DataLoader(pairs, 4))).c==2

OWN_CHOICE = dict(
    weights=lambda ds: torch.utils.data.DataLoader(ds, 8, sampler=WeightedRandomSampler([0.]*60+[1.]*20, 80)),
    positions=lambda ds: torch.utils.data.DataLoader(ds, 8, sampler=[0,1,2,3]),
    part=lambda ds: FastaiDL(ds, bs=8, n=20))
@pytest.mark.parametrize('kind', OWN_CHOICE)
def test_an_unlabeled_loader_that_chooses_its_images_is_refused(kind):
    ds = TensorDataset(torch.rand(80, 1, 8, 8), torch.zeros(80, dtype=torch.long))
    with pytest.raises(TypeError, match='chooses its images; pass a dataset'): UnlabeledDL(OWN_CHOICE[kind](ds), tensor_dls())
    assert len(UnlabeledDL(torch.utils.data.DataLoader(ds, 8, shuffle=True), tensor_dls()).items) == 80

@pytest.mark.parametrize('sampler', [SubsetRandomSampler(range(30)), SubsetRandomSampler(torch.arange(30)), [0, 1, 2, 3]], ids=['subset','tensor','positions'])
def test_a_labeled_loader_that_leaves_images_out_is_refused(sampler):
    "Or all labels of the dataset would count, those of validation images among them"
    ds = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40)%4)
    valid = torch.utils.data.DataLoader(ds, 10, sampler=SubsetRandomSampler(range(30, 40)))
    with pytest.raises(ValueError, match='leaves images out; load a `Subset`'): LabeledDL(DataLoaders(torch.utils.data.DataLoader(ds, 10, sampler=sampler), valid))
    with pytest.raises(ValueError, match='leaves images out; load a `Subset`'): LabeledDL(DataLoaders(FastaiDL(ds, bs=10, n=30), valid))
    for o in (dict(sampler=SubsetRandomSampler(range(40))), dict(sampler=WeightedRandomSampler(torch.ones(40), 80)), dict(shuffle=True)):
        assert LabeledDL(DataLoaders(torch.utils.data.DataLoader(ds, 10, **o), valid)).c==4

@pytest.mark.parametrize('name', ['unlabeled', 'no-label', '-1'])
def test_a_class_that_may_mean_no_label_is_named(name):
    dls = ImageList.from_arrays(X[:40], [name if y>4 else str(y) for y in Y[:40]], img_cls=PILImageBW).dataloaders(bs=10)
    with pytest.warns(UserWarning, match=f"the labeled set has a class '{name}'. If its images have no label"): LabeledDL(dls)

def test_images_of_another_range_are_named():
    with pytest.warns(UserWarning, match='labeled images reach 1, unlabeled ones 2..*: scale them alike'):
        UnlabeledDL(torch.rand(80, 1, 8, 8)*255, tensor_dls())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        UnlabeledDL(torch.rand(80, 1, 8, 8)*.01, tensor_dls())
