"What is said about the unlabeled images, and the arguments of methods."
import copy, inspect, pickle, pytest, re
from fastai.vision.all import Learner
from fastai_mixmatch.all import *
from helpers import IL, SMALL, core_dls, core_learner

@pytest.mark.parametrize('make, message', [
    (lambda: FixMatch(treshold=.9), 'FixMatch has no argument `treshold`; did you mean `threshold`?'),
    (lambda: MixMatch(lamda_u=1), 'did you mean `lambda_u`?'),
    (lambda: mixmatch_learner(core_dls(), IL[200:264], SMALL, alhpa=1), 'mixmatch_learner has no argument `alhpa`; did you mean `alpha`?'),
    (lambda: ssl_learner(core_dls(), IL[200:264], SMALL, metric=None), 'did you mean `metrics`?'),
    (lambda: mixmatch_learner(core_dls(), IL[200:264], SMALL, batch_size=4), 'has no argument `batch_size`; did you mean `bs`?'),
    (lambda: ssl_learner(core_dls(), IL[200:264], SMALL, weight_decay=.1), 'has no argument `weight_decay`; did you mean `wd`?'),
    (lambda: mixmatch_learner(core_dls(), IL[200:264], SMALL, epochs=4), 'mixmatch_learner has no argument `epochs`; a fit takes it: `learn.fit_one_cycle.10.`$'),
    (lambda: Unlabeled(IL[200:264], stepz=3), 'Unlabeled has no argument `stepz`; did you mean `steps`?'),
    (lambda: MixMatch(IL, zzz=1), 'has no argument `zzz`$')])
def test_misspelt_arguments(make, message):
    with pytest.raises(TypeError, match=message.replace('?', r'\?')): make()

def test_settings_of_the_stream_are_given_once():
    with pytest.raises(TypeError, match='`bs` belongs in your `Unlabeled`'): mixmatch_learner(core_dls(), Unlabeled(IL[200:264]), SMALL, bs=8)
    assert mixmatch_learner(core_dls(), Unlabeled(IL[200:264], bs=8), SMALL).mix_match.dl.bs==8

def test_other_images_keep_the_settings():
    learn = core_learner(unlabeled=IL[200:264], bs=8)
    learn.mix_match.unlabeled = IL[300:400]
    assert learn.mix_match.unlabeled.bs==8
    learn.mix_match.unlabeled = Unlabeled(IL[300:400], bs=9)
    assert learn.mix_match.unlabeled.bs==9

def test_copies_and_files():
    "A copy has the images, a file has not; both have the settings."
    u = Unlabeled(IL[200:264], bs=8, on_error='skip')
    assert copy.deepcopy(u).source is u.source and copy.deepcopy(u).bs==8
    v = pickle.loads(pickle.dumps(u))
    assert v.source is None and v.bs==8 and v.on_error=='skip'

@pytest.mark.parametrize('mu', [0, -1, 1.5])
def test_bad_multiples(mu):
    with pytest.raises(ValueError, match='mu, unlabeled images for each labeled one'): Unlabeled(mu=mu)

@pytest.mark.parametrize('make', [mixmatch_learner, fixmatch_learner, remixmatch_learner, adamatch_learner, ssl_learner])
def test_help_names_every_argument(make):
    "The signature has a line with a type for each, before Python 3.13, too; the docstring the comment of the method, the stream or the learner."
    params, (first, *shown) = inspect.signature(make).parameters, str(inspect.signature(make)).split(',\n')
    names, lines = list(params), make.__doc__.split('\n')
    assert first.startswith('(dls: ') and [re.match(r'    (\w+): |    (\*)$', o)[0].strip(' :') for o in shown]==[*names[1:3], '*', *names[3:]]
    for n in names:
        at = lines.index(n)
        assert params[n].annotation not in (object, inspect.Parameter.empty), n
        assert n in vars(Learner) or lines[at+1].strip() or n in inspect.signature(Learner).parameters, n
    assert {'dls','unlabeled','arch','bs','mu','lr','checkpoint'}<=set(names)
