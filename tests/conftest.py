"""One thread, no display, and the same random examples at every run; no GPU, whose sums have no fixed order.

`FASTAI_MIXMATCH_CUDA=0 pytest tests/test_cuda.py` lets the tests of CUDA see the first GPU."""
import os
os.environ['CUDA_VISIBLE_DEVICES'] = os.environ.get('FASTAI_MIXMATCH_CUDA', '')
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')
os.environ.pop('PYTHONDONTWRITEBYTECODE', None) # Else each process that a test starts compiles the package again

import numpy as np, pytest, random, signal, torch
from hypothesis import HealthCheck, Phase, settings
from helpers import folder, photos, root # chkstyle: ignore (fixtures, which pytest finds by name)

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler) # A shell's background job ignores Ctrl-C, and so would what it starts
settings.register_profile('fixed', derandomize=True, deadline=None, database=None, max_examples=40, print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
settings.register_profile('once', settings.get_profile('fixed'), phases=[Phase.explicit, Phase.generate]) # No search for a smaller example
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'fixed'))

@pytest.fixture(autouse=True)
def _seeded():
    "Every test starts from the same random state, so that its result does not depend on the ones before it."
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_flush_denormal(False) # A command that a test runs in this process may have set it
