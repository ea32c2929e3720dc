"Supplies from settings.ini, and from the package's `__version__`, what pyproject.toml lists as dynamic."
import re, sys, tokenize
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

root = Path(__file__).resolve().parent
parser = ConfigParser(interpolation=None)
with open(root/'settings.ini', encoding='utf-8') as f: parser.read_file(f)
cfg = parser['DEFAULT']

init = (root/cfg['lib_name']/'__init__.py').read_text(encoding='utf-8')
version = re.search(r'''^__version__\s*=\s*['"]([^'"]+)['"]''', init, re.M)[1]

sys.path.insert(0, str(root/'tools'))
from build_readme import described # noqa: E402

repository,site = (cfg[o].rstrip('/') for o in ('repository','site'))
urls = dict(Homepage=site or repository, Documentation=site, Source=repository, Paper=cfg['paper'],
            Issues=repository and f'{repository}/issues', Changelog=repository and f'{repository}/blob/main/CHANGELOG.md')
licenses = dict(apache2='Apache-2.0', mit='MIT', bsd3='BSD-3-Clause')
statuses = {'1': '1 - Planning', '2': '2 - Pre-Alpha', '3': '3 - Alpha', '4': '4 - Beta', '5': '5 - Production/Stable'}

# nbdev's index of symbols, by which other projects link to these pages, is of use once there is a site to link to
index = {'nbdev': [f"{cfg['lib_name']} = {cfg['lib_name']}._modidx:d"]} if site else {}

class Build(build_py):
    def find_package_modules(self, package, package_dir):
        return [o for o in super().find_package_modules(package, package_dir) if index or o[1]!='_modidx']

    def build_module(self, module, module_file, package):
        "Comments on lines of their own, such as nbdev's marks of cells, are for the repository; a wheel keeps the lines"
        out,copied = super().build_module(module, module_file, package)
        lines = Path(out).read_text(encoding='utf-8').splitlines()
        for t in tokenize.generate_tokens(iter([o+'\n' for o in lines]).__next__):
            if t.type==tokenize.COMMENT and t.line.lstrip().startswith('#'): lines[t.start[0]-1] = ''
        Path(out).write_text('\n'.join(lines)+'\n', encoding='utf-8')
        return out, copied

# chkstyle: off
setup(
    cmdclass={'build_py': Build},
    name=cfg['lib_name'],
    version=version,
    author=cfg['author'],
    license=licenses[cfg['license']],
    keywords=cfg['keywords'].split(),
    long_description=described((root/'README.md').read_text(encoding='utf-8'), repository),
    long_description_content_type='text/markdown',
    project_urls={k: v for k,v in urls.items() if v},
    classifiers=[
        f"Development Status :: {statuses[cfg['status']]}",
        f"Intended Audience :: {cfg['audience']}",
        'Intended Audience :: Developers',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        *[f'Programming Language :: Python :: 3.{o}' for o in range(int(cfg['min_python'].split('.')[1]), 14)],
        'Framework :: Jupyter',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
        'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    packages=find_packages(root, include=[cfg['lib_name'], cfg['lib_name']+'.*']),
    install_requires=cfg['requirements'].split(),
    extras_require={o: cfg[f'{o}_requirements'].split() for o in ('dev','onnx','hub')},
    entry_points={'console_scripts': cfg['console_scripts'].split(), **index},
)
