"""One thread, no display, and the same random examples at every run; no GPU, whose sums have no fixed order.

`FASTAI_MIXMATCH_CUDA=0 pytest tests/test_cuda.py` lets the tests of CUDA see the first GPU."""
import os
os.environ['CUDA_VISIBLE_DEVICES'] = os.environ.get('FASTAI_MIXMATCH_CUDA', '')
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')
os.environ.pop('PYTHONDONTWRITEBYTECODE', None) # Else each process that a test starts compiles the package again

import gc, pytest, random, signal
from hypothesis import HealthCheck, Phase, settings

signal.signal(signal.SIGINT, signal.default_int_handler) # A shell's background job ignores Ctrl-C, and so would what it starts
settings.register_profile('fixed', derandomize=True, deadline=None, database=None, max_examples=40, print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
settings.register_profile('once', settings.get_profile('fixed'), phases=[Phase.explicit, Phase.generate]) # No search for a smaller example
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'fixed'))

def pytest_configure(config):
    "Fixtures for all; a process that only hands out tests to others imports no library"
    if getattr(config.option, 'numprocesses', None) and not hasattr(config, 'workerinput'): return
    config.pluginmanager.import_plugin('helpers')

# Files whose tests, or what these need first, take long: they come first, so that no process has one of them left at the end
FIRST = [f'test_{o}.py' for o in ('distributed','notebooks','checkpoint','cli','reproduce','learner','docs','build')]

def pytest_collection_modifyitems(items):
    items.sort(key=lambda o: FIRST.index(o.path.name) if o.path.name in FIRST else len(FIRST))

def pytest_collection_finish():
    "Libraries and tests are no garbage: looking for some among them takes a twentieth of the time"
    gc.collect()
    gc.freeze()

@pytest.fixture(autouse=True)
def _seeded():
    "Every test starts from the same random state, so that its result does not depend on the ones before it."
    import numpy as np, torch
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_flush_denormal(False) # A command that a test runs in this process may have set it
