"""Tables and pictures, made from results files.

What nobody has run yet is in the tables as well, and says so. Runs that were only to try a command, with `--limit` or
another network, are left out.
"""
from pathlib import Path

import numpy as np, pandas as pd
from fastai.vision.all import ifnone, plt

from common import read, results
from reproduce.experiments import arch_name, experiments

columns = 'experiment','variant','labels','seed','accuracy','median_last','steps','limit','settings'

def counted(name, out=results):
    "Data frame with a row for each training of an experiment, with all images and its own network"
    rows = [o for o in read(Path(out)/f'{name}.jsonl') if o['limit'] is None]
    rows = [o for o in rows if o['settings']['arch']==arch_name(experiments[name].variant(o['variant']).arch)]
    return pd.DataFrame(rows, columns=None if rows else columns)

def mean_std(xs):
    "Mean and standard deviation, in percent; nothing where nothing was measured"
    if not len(xs := xs.astype(float).dropna()): return ''
    return f'{100*xs.mean():.1f}' + (f' ± {100*xs.std():.1f}' if len(xs)>1 else '')

def results_table(name, out=results):
    "Test accuracy of an experiment, by variant, labels and steps: mean ± standard deviation over seeds, in percent"
    df,exp = counted(name, out),experiments[name]
    shown = {'accuracy': 'accuracy', 'median of last': 'median_last', 'without EMA': 'accuracy_without_ema'}
    def rows(variant, n):
        o = df[(df.variant==variant) & (df.labels.isna() if n is None else df.labels==n)]
        head = {'variant': variant or name, 'labels': n or 'all'}
        none = {**head, **dict.fromkeys(shown, ''), 'accuracy': 'not yet run', 'seeds': '', 'steps': ''}
        made = [{**head, **{k: mean_std(g[v]) for k,v in shown.items()}, 'seeds': len(g), 'steps': steps}
                for steps,g in o.groupby('steps')]
        return made or [none]
    found = [rows(v, n) for v in exp.variants for n in exp.labels or (None,)]
    return pd.DataFrame(sum(found, [])).set_index('variant')

# The paper's table 4: errors on CIFAR-10 with 250 labels, in percent, of one training each. Its five trainings of
# MixMatch with other labels differ by a standard deviation of 0.87.
table4 = {
    'MixMatch': 11.80, 'K=1': 17.09, 'K=3': 11.55, 'K=4': 12.45, 'T=1': 27.83, 'EMA guesses': 11.86, 'no MixUp': 39.11,
    'MixUp labeled only': 32.16, 'MixUp unlabeled only': 12.35, 'MixUp separately': 12.26, 'ICT': 38.60}

def orderings(df):
    """Which orderings of the paper's table 4 hold in `df`, of `counted`

    Differences to MixMatch are taken between trainings with the same seed, so with the same labels, in points of
    accuracy, with the half width of their 95% confidence interval over seeds (Student's t). Where zero lies inside
    it, they are within the noise.
    """
    from scipy.stats import t
    acc = 100*df.pivot_table(index='seed', columns='variant', values='accuracy').reindex(columns=list(table4))
    def row(v):
        d = (acc[v]-acc['MixMatch']).dropna()
        n,theirs = len(d),table4['MixMatch']-table4[v]
        head = dict(variant=v, paper=f'{theirs:+.1f}', seeds=n)
        if n<2: return {**head, 'here': 'not yet run', 'ordering': ''}
        mean,half = d.mean(),t.ppf(.975, n-1)*d.std()/n**.5
        verdict = 'within noise' if abs(mean)<=half else 'holds' if mean*theirs>0 else 'reversed'
        return {**head, 'here': f'{mean:+.1f} ± {half:.1f}', 'ordering': verdict}
    rows = [row(o) for o in table4 if o!='MixMatch']
    return pd.DataFrame(rows).set_index('variant')[['paper','here','seeds','ordering']]

def show_map(m, ax=None, title=''):
    "Draw a map, of `embedding`: color is the predicted class, and the less sure a prediction, the larger its point"
    ax = ifnone(ax, plt.gca())
    size = 4+40*(1-np.array(m['confidence']))
    ax.scatter(m['x'], m['y'], c=m['guess'], cmap='tab10', s=size, linewidths=0, antialiased=False)
    ax.set(title=title, xticks=[], yticks=[])
    return ax
