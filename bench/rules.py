"""Methods that `candidates.py` compares, by name.

`Adapted` is the package's default rule, found as the best of about 25. The others were removed after the comparison: a row
of `results/candidates.jsonl` names the commit that holds its rule. There the default of today is called `Opening`, and
`MixMatch` of commit 3fa485c and earlier is the rule that it replaced.
"""
from functools import partial
from fastai_mixmatch.all import *

made = dict(Supervised=Supervised, Adapted=MixMatch, Prior=partial(MixMatch, prior='labeled'), Paper=partial(MixMatch, adapt=False),
            FixMatch=FixMatch, FreeMatch=FreeMatch)

def make(name): return made[name]()
