"Supplies from settings.ini, and from the package's `__version__`, what pyproject.toml lists as dynamic."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).resolve().parent
parser = ConfigParser(interpolation=None)
with open(root/'settings.ini', encoding='utf-8') as f: parser.read_file(f)
cfg = parser['DEFAULT']

init = (root/cfg['lib_name']/'__init__.py').read_text(encoding='utf-8')
version = re.search(r'''^__version__\s*=\s*['"]([^'"]+)['"]''', init, re.M)[1]

licenses = dict(apache2='Apache-2.0', mit='MIT', bsd3='BSD-3-Clause')
statuses = {'1': '1 - Planning', '2': '2 - Pre-Alpha', '3': '3 - Alpha', '4': '4 - Beta', '5': '5 - Production/Stable'}

# chkstyle: off
setup(
    name=cfg['lib_name'],
    version=version,
    author=cfg['author'],
    license=licenses[cfg['license']],
    keywords=cfg['keywords'].split(),
    classifiers=[
        f"Development Status :: {statuses[cfg['status']]}",
        f"Intended Audience :: {cfg['audience']}",
        'Programming Language :: Python :: 3 :: Only',
        'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    packages=find_packages(root, include=[cfg['lib_name'], cfg['lib_name']+'.*']),
    install_requires=cfg['requirements'].split(),
    extras_require={o: cfg[f'{o}_requirements'].split() for o in ('dev','onnx','hub')},
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': [f"{cfg['lib_name']} = {cfg['lib_name']}._modidx:d"]},
)
