"Any object of any program is described in a moment, without running its code, and alike in the next process."
import functools, itertools, json, numpy as np, os, pandas as pd, pytest, subprocess, sys, threading, time, torch, types, weakref
from fastai.vision.all import Callback
from fastai_mixmatch.describe import Unknown, plain
from fastai_mixmatch.fingerprint import differences
from collections import OrderedDict
from helpers import forks
from pathlib import Path
from torch import nn
from unittest.mock import MagicMock

def raises(*names):
    def fail(self, *args, **kw): raise RuntimeError('its code was called')
    return {n: fail for n in names}
def liar(base=object, *args, **space): return type('Liar', (base,), space)(*args)

class Slow:
    def __getattr__(self, n): time.sleep(5)
class Endless:
    def __getattr__(self, n): return Endless()
class Meta(type):
    def __getattr__(cls, n): raise RuntimeError('its code was called')

def itself():
    o = types.SimpleNamespace(a=[1])
    o.o, o.l = o, [o]
    o.l.append(o.l)
    return o

LIARS = dict( # chkstyle: ignore-node (one case a line)
    names=lambda: liar(**raises('__getattr__')),
    all_names=lambda: liar(**raises('__getattribute__')),
    slow=Slow, endless=Endless, mock=MagicMock,
    its_class=lambda: liar(__class__=property(lambda self: dict)),
    no_class=lambda: liar(__class__=property(raises('f')['f'])),
    its_dict=lambda: liar(__dict__=property(raises('f')['f'])),
    iterates=lambda: liar(list, [1, 2], **raises('__iter__', '__len__', '__getitem__', '__eq__')),
    forever=lambda: liar(list, [1, 2], __iter__=lambda self: itertools.count()),
    long=lambda: liar(list, [1, 2], __len__=lambda self: 10**12),
    items=lambda: liar(dict, dict(a=1), **raises('items', '__iter__', 'keys', '__getitem__')),
    equal=lambda: liar(**raises('__eq__', '__hash__', '__bool__', '__repr__', '__str__', '__reduce__')),
    text=lambda: liar(str, 'a', **raises('__str__', '__repr__', '__eq__', '__len__', 'startswith')),
    number=lambda: liar(int, 3, **raises('__int__', '__repr__', '__index__')),
    key=lambda: {liar(**raises('__str__', '__repr__')): 1},
    meta=lambda: Meta('M', (), {}), of_meta=lambda: Meta('M', (), {})(),
    dead=lambda: weakref.proxy(Slow()), itself=itself, big=lambda: 10**100000,
    nested=lambda: functools.reduce(lambda a, _: [a], range(10**5), []),
    lazy=lambda: nn.LazyLinear(3))

@pytest.mark.parametrize('name', LIARS)
def test_code_of_objects_is_not_called(name):
    "As an argument, in a list, captured, as a value of a class, and used by a function"
    o = LIARS[name]()
    class Holds(Callback):
        held = o
        def __init__(self, o): self.o = o
        def after_batch(self, x=o): return o
    start, u = time.perf_counter(), Unknown()
    a, b = (json.dumps([plain(Holds(o), u, 'holds'), plain([o], u, 'list'), u.used()]) for u in (u, Unknown()))
    assert a == b and ' at 0x' not in a and time.perf_counter()-start < 3

def test_large_values_take_a_moment(tmp_path):
    "What is too large is named, and what comes after it still described. Nothing is copied as a whole"
    class O:
        def __init__(self, i): self.i, self.l = i, [i]
    large = dict(tensor=torch.empty(2**30), map=np.memmap(tmp_path/'m', 'uint8', 'w+', shape=(10*2**30,)), list=[1]*10**7,
        objects=[O(i) for i in range(10**5)],
        expanded=torch.zeros(1).expand(10**10), frame=pd.DataFrame(dict(a=np.arange(5*10**6))), bytes=bytes(2*10**9),
        dag=functools.reduce(lambda a, _: [a, a], range(40), [1]), small=[3])
    start, u = time.perf_counter(), Unknown()
    res = plain(large, u, 'x')
    assert time.perf_counter()-start < 5 and res['small'] == [3] and list(u) == [f'x.{k}' for k in large if k != 'small']
    again = Unknown()
    assert plain(large, again, 'x') == res and again == u
    assert plain(list(range(10**6))) != plain([*range(10**6-1), 0]) and plain('a'*10**6) != plain('a'*(10**6-1)+'b')

def test_many_functions():
    "Of one name, and those that hold each other; those beyond the limit are named once, by their package"
    def made(i):
        space = dict(__name__='generated')
        exec(f'def g(): return {i}\ndef f(): return g()', space)
        return space['f']
    def both(a, b):
        def f(): return a, b
        return f
    start = time.perf_counter()
    for fs in ([made(i) for i in range(5000)], functools.reduce(lambda f, _: both(f, f), range(40), 1)):
        u = Unknown()
        for i, f in enumerate(fs if type(fs) is list else [fs]): u.add(f'generated.f{i}', f)
        code, _ = u.used()
        assert len(json.dumps(code)) < 10**6
    u = Unknown()
    for i in range(20000): u.add(f'generated.{i}', made(i))
    code, _ = u.used()
    assert set(u) == {'the rest of generated'} and 5000 < len(code) < 20000 and time.perf_counter()-start < 20

def program(text, **space):
    space = dict(functools=functools, Callback=Callback, torch=torch, np=np, __name__='__main__', **space)
    exec(text, space)
    u = Unknown()
    return json.dumps([plain(space['mine'], u, 'mine'), u.used()]), list(u)

EDITS = dict( # chkstyle: ignore-node (one case a line)
    cached=('@functools.cache\ndef g(x):\n  "A"\n  return 1\ndef mine(x): return g(x)', 'return 1', 'return 2'),
    cached_method=('class mine:\n  @functools.lru_cache\n  def f(self): return 1', 'return 1', 'return 2'),
    setter=('class mine:\n  @property\n  def p(self): pass\n  @p.setter\n  def p(self, v): self.q = 1', 'q = 1', 'q = 2'),
    part=('class mine:\n  def f(self, k): pass\n  g = functools.partialmethod(f, 1)', '(f, 1)', '(f, 2)'),
    dispatched=('class mine:\n  @functools.singledispatchmethod\n  def f(self, x): return 1', 'return 1', 'return 2'),
    descriptor=('class D:\n  def __init__(self, k): self.k = k\n  def __get__(self, o, t): return self.k\nclass mine: d = D(1)', 'D(1)', 'D(2)'),
    keys=('mine = {1: 1, "1": 2}', '1: 1', '1: 3'),
    objects=('class K: pass\nmine = {K(): 1, K(): 2}', ': 1', ': 3'),
    records=('mine = np.array([(1, "a")]*30, dtype=[("x", int), ("y", object)])', '"a"', '"b"'),
    compiled=('@torch.compile\ndef mine(x): return x*2', 'x*2', 'x*3'),
    network=('class N(torch.nn.Module):\n  def forward(self, x): return x*2\nmine = torch.compile(N())', 'x*2', 'x*3'),
    table=('class T(dict):\n  def f(self): return 1\nmine = T(a=1)', 'return 1', 'return 2'),
    factory=('import collections\ndef f(): return 1.\nmine = [collections.defaultdict(f)]', '1.', '2.'),
    limited=('import collections\nmine = collections.deque([1], maxlen=3)', '=3', '=4'),
    counts=('import collections\nclass C(collections.Counter): pass\nmine = C(a=1)\nmine.k = 1', 'k = 1', 'k = 2'),
    word=('class W(str):\n  def f(self): return 1.\nmine = W("a")', '1.', '2.'),
    number=('class F(float): pass\nmine = F(3)\nmine.k = 1', 'k = 1', 'k = 2'),
    dtype=('mine = torch.ones(2)', '(2)', '(2).double()'), array=('mine = np.ones(2, "uint8")', 'uint8', 'int32'),
    long_array=('mine = np.zeros(200, "int32")', 'int32', 'float32'), scalar=('mine = np.float32(1)', '32', '16'),
    kind=('from fastai.vision.all import TensorImage, TensorMask\nmine = [TensorImage(torch.ones(2))]', '[TensorImage', '[TensorMask'),
    no_name=('import collections\nmine = collections.defaultdict(functools.partial(float, 1))', 'float, 1', 'float, 2'),
    bound_property=('class O:\n  k = 1\n  def __call__(self, o): return self.k\nclass mine(Callback): p = property(O())', 'k = 1', 'k = 2'),
    empty=('mine = torch.ones(0, 2)', '0, 2', '0, 3'),
    frame=('import pandas as pd\nmine = pd.DataFrame(dict(a=[1]))', '[1]', '["1"]'),
    meta=('class M(type(Callback)): k = 1\nclass C(Callback, metaclass=M): pass\nmine = C()', 'k = 1', 'k = 2'),
    meta_method=('class M(type(Callback)):\n  @property\n  def k(cls): return 1.\nclass mine(metaclass=M): pass', '1.', '2.'),
    static=('class mine(Callback): act = staticmethod(torch.relu)', 'relu', 'tanh'),
    getter=('import operator\nclass mine(Callback): k = property(operator.itemgetter(1))', '(1)', '(2)'),
    abstract=('class mine(Callback): _abcd = 1', '= 1', '= 2'),
    attribute=('def mine(x): return x\nmine.k = 1', 'k = 1', 'k = 2'),
    bound=('mine = [1.].count', '1.', '2.'),
    pair=('mine = [(1, 2)]', '(1, 2)', '[1, 2]'), group=('mine = [{1, 2}]', '{1, 2}', '[1, 2]'), frozen=('mine = {1}', '{1}', 'frozenset({1})'),
    long_pair=('mine = tuple(range(99))', 'tuple', 'list'), nan=('mine = [float("nan")]', 'float("nan")', '"nan"'),
    slots=('class S:\n  __slots__ = "__a", "b"\n  def __init__(self): self.__a = 1\nmine = S()', '__a = 1', '__a = 2'))

@pytest.mark.parametrize('name', EDITS)
def test_an_edit_is_noticed(name):
    "And nothing else: no documentation, no address"
    text, old, new = EDITS[name]
    assert old in text
    a, b, c = program(text), program(text.replace('"A"', '"B"')), program(text.replace(old, new))
    assert a == b and a[0] != c[0] and ' at 0x' not in a[0] and a[1] == ['__main__.mine.f.dispatcher.2.0.2.1']*(name == 'dispatched')

ALIKE = dict( # chkstyle: ignore-node (one case a line)
    tuple=[(1, 2), ['tuple', 1, 2], ['<tuple>', 1, 2], ['<<tuple>', 1, 2]], set=[{1}, ['set', 1], ['<set>', 1], frozenset({1}), ['<frozenset>', 1]],
    nan=[float('nan'), 'float nan', 'nan', '<nan>', '<<nan>'], tensor=[torch.ones(1), ['torch.float32 (1,)', [1.]], ['<torch.float32 (1,)>', [1.]]],
    keys=[{1: 2}, {'1': 2}, {'<1>': 2}, {1.: 2}])

@pytest.mark.parametrize('name', ALIKE)
def test_no_value_passes_for_one_of_another_kind(name):
    "Whatever texts a program has; and what differs is shown as what it is"
    texts = [json.dumps(plain([o])) for o in ALIKE[name]]
    assert len(set(texts)) == len(texts), texts
    first, second = ALIKE[name][:2]
    assert differences(dict(x=plain(first)), dict(x=plain(second)))

def test_a_tuple_is_shown_as_one():
    def shown(a, b): return differences(dict(x=plain(a)), dict(x=plain(b)))['x']
    assert shown((1, 2), [1, 2]) == 'x: tuple[1, 2] then, [1, 2] now' and shown((), {1}) == 'x: tuple[] then, set[1] now'
    assert shown(['tuple', 1], ['set', 1]) == 'x: ["tuple", 1] then, ["set", 1] now'

def test_what_each_start_has_anew_is_named():
    "The time, a temporary folder; locks and the like, with what holds them in another package"
    import concurrent.futures, datetime, tempfile
    held = dict(start=time.time(), now=datetime.datetime.now(), day=datetime.date.today(), folder=tempfile.mkdtemp(),
        lock=threading.Lock(), config=types.ModuleType('config'), pool=concurrent.futures.ThreadPoolExecutor(1), rows=(i for i in 'ab'))
    u = Unknown()
    plain(dict(held, then=datetime.date(2020, 1, 1), rate=1e9), u, 'x')
    assert list(u) == [f'x.{k}' for k in held]

def test_installed_beside_the_program(tmp_path, monkeypatch):
    "`pip install --target` into the program's folder: a record names what it installed, whole"
    (tmp_path/'o.dist-info').mkdir()
    (tmp_path/'o.dist-info/RECORD').write_text('ownership/__init__.py,,\nsix.py,,\n')
    for n, file in dict(ownership='ownership/__init__.py', six='six.py', own='own.py', fastaiden='fastaiden.py', deep_own='x.py').items():
        n = n.replace('deep_own', 'a.b.c.d.e.f.g.h.i.j.k.l.m')
        mod = types.ModuleType(n)
        mod.__file__ = str(tmp_path/file)
        monkeypatch.setitem(sys.modules, n, mod)
        exec('def f(): return 1', vars(mod))
        assert isinstance(plain(mod.f), str) == (n in ('ownership', 'six')), n

def test_a_module_is_read_as_it_is(tmp_path, monkeypatch):
    "One that would be imported only when it is asked is not asked"
    import importlib.util
    (tmp_path/'late.py').write_text('raise RuntimeError("it was imported")')
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.find_spec('late')
    spec.loader = importlib.util.LazyLoader(spec.loader)
    mod = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'late', mod)
    spec.loader.exec_module(mod)
    program('def mine(): return late.value', late=mod)
    assert plain(mod) == 'late'

def test_a_module_that_the_program_made(monkeypatch):
    "Without a file; those of packages, and what is built in, are no part of the program"
    def using(name, a):
        mod = types.ModuleType(name)
        mod.a = a
        monkeypatch.setitem(sys.modules, name, mod)
        return program('def mine(): return config.a', config=mod)
    assert using('config', 1) == using('config', 1) != using('config', 2)
    for name in ('torch.config', 'itertools'):
        mod = sys.modules.get(name)
        assert using(name, 1) == using(name, 2) or mod
    assert isinstance(plain(sys), str) and plain(itertools.count, u := Unknown()) and not u

def home(name, file):
    mod = types.ModuleType(name)
    mod.__file__ = file
    exec('def f(x): return x', vars(mod))
    return mod

def test_what_packages_do_to_each_other_is_not_noted(monkeypatch, tmp_path):
    "Only functions of the program that stand in fastai, PyTorch or this package are"
    def found():
        u = Unknown()
        u.patches()
        return [k for k, _ in u.todo]
    assert found() == []
    theirs, own = home('theirs', f'{os.path.dirname(torch.__file__)}/../theirs.py'), home('owned', str(tmp_path/'owned.py'))
    for mod, names in (theirs, []), (own, ['torch.nn.functional.relu', 'fastai.losses.BaseLoss.decodes']):
        monkeypatch.setitem(sys.modules, mod.__name__, mod)
        monkeypatch.setattr(nn.functional, 'relu', mod.f)
        monkeypatch.setattr(sys.modules['fastai.losses'].BaseLoss, 'decodes', mod.f)
        assert found() == names
    monkeypatch.setattr(sys.modules['fastai_mixmatch.targets'], 'sharpen', eval('lambda p, T: p', {}))
    assert found() == names, 'made by `exec`, it names no module'

RESUMED = '''
import sys, time, functools, dataclasses, enum, threading, tempfile; sys.path.insert(0, 'tests')
from helpers import *
START, FOLDER, LOCK, NAMES = time.time(), tempfile.mkdtemp(), threading.Lock(), {'a', 'b', 'c'}
class Mode(enum.Enum): A = 1
@dataclasses.dataclass
class Config:
    rate: float = 1.
    names: list = dataclasses.field(default_factory=list)
@functools.cache
def factor(x): return 1.
config, table = Config(), {Mode.A: {Config: 1}, Mode: object()}
class Scales(Callback):
    def __init__(self, mode, config): self.mode, self.config = mode, config
    def after_loss(self): self.learn.loss_grad = self.learn.loss_grad*factor(1)*config.rate*len(NAMES)*(START>0)*bool(FOLDER and LOCK and table)
    def after_batch(self):
        if self.learn.train_iter == 4 and sys.argv[2] == 'stop': os._exit(3)
learn = method_learner(MixMatch(), 200, SMALL, checkpoint=sys.argv[1], every='1 step', cbs=[Scales(Mode.A, config)])
train(learn)
'''

def test_a_program_with_all_of_it_resumes(tmp_path):
    root = Path(__file__).resolve().parent.parent
    def start(how):
        env = {**os.environ, 'PYTHONHASHSEED': '2', 'PYTHONPATH': str(root)}
        args = '-c',RESUMED,str(tmp_path/'c'),how
        if how=='stop': return forks().run(*args, cwd=root, env=env) # Its seed of hashes is another one
        return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=root, env=env)
    assert start('stop').returncode == 3
    r = start('go on')
    assert r.returncode == 0 and 'fit 1 continues in epoch 1 of 1, after 3 of' in r.stdout, r.stdout+r.stderr

def test_the_order_of_names_counts():
    "The first of a dictionary's values, and the modules of a sequence, are others in another order"
    old,new = (dict(W=plain(o)) for o in (dict(a=1, b=2), dict(b=2, a=1)))
    assert differences(old, old)=={} and 'in the order b, a' in differences(old, new)['W']
    relu,pool = ('a', torch.nn.ReLU()), ('b', torch.nn.MaxPool2d(2))
    old,new = (plain(torch.nn.Sequential(OrderedDict(o))) for o in ([relu, pool], [pool, relu]))
    assert old['weights']!=new['weights']
