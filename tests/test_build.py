"The wheel and the sdist build, hold what they should, and install in an empty environment."
import os, re, shutil, subprocess, sys, tarfile, zipfile
from configparser import ConfigParser
from email import message_from_bytes
from pathlib import Path

import pytest

import fastai_mixmatch

root = Path(__file__).resolve().parent.parent
lib = 'fastai_mixmatch'
def shipped(settings):
    "The package's files; nbdev's index only where there is a site that it could link to"
    return [p for p in (root/lib).rglob('*.py') if p.name!='_modidx.py' or settings['site']]

tracked = ['settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'Makefile',
           lib, 'nbs', 'tests', 'tools', 'docs', 'bench']

def run(*args, cwd):
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'IN_TEST')}
    r = subprocess.run([str(o) for o in args], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    rc, out = r.returncode, r.stdout
    assert rc==0, f"{' '.join(map(str, args))}\n{out}"
    return out

@pytest.fixture(scope='module')
def dist(tmp_path_factory):
    "The sdist, built from a copy of the repository, and the wheel, built from that sdist"
    src = tmp_path_factory.mktemp('src')
    for name in tracked:
        p = root/name
        if p.is_dir(): shutil.copytree(p, src/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
        elif p.exists(): shutil.copy(p, src/name)
    out = tmp_path_factory.mktemp('dist')
    log = run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', out, src, cwd=src)
    return dict(wheel=next(out.glob('*.whl')), sdist=next(out.glob('*.tar.gz')), log=log)

@pytest.fixture(scope='module')
def settings():
    p = ConfigParser(interpolation=None)
    p.read(root/'settings.ini', encoding='utf-8')
    return p['DEFAULT']

def test_nothing_is_dropped(dist): assert 'defined outside of `pyproject.toml`' not in dist['log'] and '_MissingDynamic' not in dist['log']

def test_sdist(dist):
    with tarfile.open(dist['sdist']) as t: names = {n.split('/', 1)[1] for n in t.getnames() if '/' in n}
    assert {'settings.ini', 'setup.py', 'pyproject.toml', 'LICENSE', f'{lib}/__init__.py', 'tests/test_build.py', 'tools/run_readme.py',
            'bench/reproduce/__main__.py', 'bench/results/digits.jsonl'} <= names
    assert {p.relative_to(root).as_posix() for p in (root/'nbs').rglob('*.ipynb') if not any(o.startswith('.') for o in p.parts)} <= names
    assert not [n for n in names if n.endswith('.pyc') or '.venv' in n]

def test_wheel_files(dist, settings):
    with zipfile.ZipFile(dist['wheel']) as z: names = set(z.namelist())
    assert {p.relative_to(root).as_posix() for p in shipped(settings)} == {n for n in names if n.endswith('.py')}
    assert {n.split('/')[0] for n in names} == {lib, f'{lib}-{fastai_mixmatch.__version__}.dist-info'}
    assert [n for n in names if n.endswith('licenses/LICENSE')]

def test_wheel_keeps_the_lines(dist):
    "A traceback of an installed package shows the repository's lines"
    file = f'{lib}/semi.py'
    with zipfile.ZipFile(dist['wheel']) as z: installed = z.read(file).decode().splitlines()
    own = (root/file).read_text(encoding='utf-8').splitlines()
    changed = [(a, b) for a,b in zip(installed, own) if a!=b]
    assert len(installed)==len(own) and all(not a and b.lstrip().startswith('#') for a,b in changed) and changed

def test_wheel_is_small(dist): assert dist['wheel'].stat().st_size<=200_000

def test_wheel_has_what_editors_read(dist):
    with zipfile.ZipFile(dist['wheel']) as z: names = set(z.namelist())
    assert {f'{lib}/py.typed', f'{lib}/learner.pyi', f'{lib}/report.html'} <= names

def test_an_index_takes_it(dist): run(sys.executable, '-m', 'twine', 'check', '--strict', dist['wheel'], dist['sdist'], cwd=root)

def test_long_description(dist):
    "It is the README, without links to files that are not there on an index"
    with zipfile.ZipFile(dist['wheel']) as z:
        meta = message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith('dist-info/METADATA'))))
    text = meta.get_payload(decode=True).decode()
    assert meta['Description-Content-Type']=='text/markdown' and '# fastai_mixmatch' in text
    text = re.sub(r'^```.*?^```|`[^`\n]+`', '', text, flags=re.M|re.S)
    links = re.findall(r'\]\(([^)\s]+)\)', text)
    assert links and not [o for o in links if not re.match('https?:', o)]
    assert [o for o in meta.get_all('Project-URL') if o.startswith('Paper, https://arxiv.org')]

def test_wheel_metadata(dist, settings):
    with zipfile.ZipFile(dist['wheel']) as z:
        meta = message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith('dist-info/METADATA'))))
        entry = z.read(next(n for n in z.namelist() if n.endswith('entry_points.txt'))).decode()
    assert meta['Name']==lib and meta['Version']==fastai_mixmatch.__version__
    assert meta['Summary']==settings['description']
    assert meta['Requires-Python']==f">={settings['min_python']}"
    assert 'Apache-2.0' in (meta['License-Expression'] or meta['License'])
    assert settings['author'] in (meta['Author'] or meta['Author-email'])
    norm = lambda s: re.sub(r'\s', '', s).lower()
    requires = [norm(o) for o in meta.get_all('Requires-Dist')]
    assert [o for o in requires if ';' not in o]==[norm(o) for o in settings['requirements'].split()]
    assert [re.split(';', o)[0] for o in requires if re.search(r'''extra==["']dev["']''', o)]==[norm(o) for o in settings['dev_requirements'].split()]
    assert (f'{lib} = {lib}._modidx:d' in entry) == bool(settings['site'])

@pytest.fixture(scope='module')
def empty_env(dist, tmp_path_factory):
    "A new environment that holds the wheel and nothing else"
    env = tmp_path_factory.mktemp('env')
    run(sys.executable, '-m', 'venv', env, cwd=env)
    py = env/('Scripts' if os.name=='nt' else 'bin')/'python'
    run(py, '-m', 'pip', 'install', '--disable-pip-version-check', '--no-deps', '--no-index', dist['wheel'], cwd=env)
    return env, py

def test_installs_in_an_empty_environment(empty_env):
    env, py = empty_env
    out = run(py, '-c', f'import importlib.metadata as m; d = m.distribution("{lib}"); print(d.version, len(d.requires)); import {lib}; print({lib}.__file__)', cwd=env)
    version, n, file = out.split()
    assert version==fastai_mixmatch.__version__ and int(n) and Path(file).resolve().is_relative_to(env.resolve())

def test_every_module_imports_from_the_wheel(empty_env, settings):
    "With this environment's libraries lent to it, so that nothing is downloaded"
    env, py = empty_env
    site = Path(run(py, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=env).strip())
    lent = [p for p in sys.path if Path(p).name in ('site-packages', 'dist-packages')]
    assert lent
    (site/'lent.pth').write_text('\n'.join(lent)+'\n')
    code = f'''import importlib, pkgutil, {lib}
names = [m.name for m in pkgutil.walk_packages({lib}.__path__, '{lib}.')]
for o in names: importlib.import_module(o)
print({lib}.__file__, len(names))'''
    file, n = run(py, '-W', 'ignore', '-c', code, cwd=env).split()[-2:]
    assert Path(file).resolve().is_relative_to(env.resolve())
    assert int(n)==len([p for p in shipped(settings) if p.name!='__init__.py'])
