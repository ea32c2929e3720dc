# Two commands do everything on a machine with Python >= 3.10 and make: `make demo` and `make test`.
# Both install the package and its tools into .venv first; a second run reuses what is there.
# An environment of yours, `make test VENV=/path`, is used as it is: nothing is installed into it, unless there is none.
PYTHON ?= python3
VENV ?= .venv
# The environment's interpreter, by an absolute path: `make demo` changes folder.
PY = $(abspath $(VENV))/bin/python
STAMP = $(VENV)/.installed
ifeq ($(origin VENV),file)
READY = $(STAMP)
else
READY = given
endif

.DEFAULT_GOAL = help
.PHONY: help given demo test nightly lint bench export readme docs site dist clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(READY)  ## run the README's code, from a few labels to a trained classifier, in demo/
	@"$(PY)" tools/run_readme.py

test: $(READY)  ## run the tests, and the notebooks: all but what `make nightly` runs
	@"$(PY)" -m pytest $(or $(ARGS),-n auto --maxprocesses 8 --dist worksteal)

nightly: $(READY)  ## what takes hours: more cases and notebooks, fits interrupted at every line, trainings killed, mutants
	@"$(PY)" -m pytest -m nightly
	@OMP_NUM_THREADS=1 "$(PY)" tests/interrupts.py
	@OMP_NUM_THREADS=1 "$(PY)" bench/faults.py
	@OMP_NUM_THREADS=1 "$(PY)" tools/mutate.py --known
	@OMP_NUM_THREADS=1 "$(PY)" tools/mutate.py

lint: $(READY)  ## ruff for real errors, chkstyle for style
	@"$(PY)" -m ruff check .
	@"$(VENV)/bin/chkstyle"

bench: $(READY)  ## measure speed on this CPU, into bench/results/
	@OMP_NUM_THREADS=1 "$(PY)" bench/speed.py $(ARGS)

export: $(READY)  ## write the modules from the notebooks, what editors read, and clean the notebooks
	@env -u IN_TEST "$(VENV)/bin/nbdev-export"
	@"$(VENV)/bin/nbdev-clean"
	@"$(PY)" -W ignore tools/arguments.py

readme: $(READY)  ## write README.md from nbs/index.ipynb and its stored outputs
	@"$(PY)" tools/build_readme.py

docs: $(READY)  ## execute every notebook and build the site in _docs/; strict
	@"$(PY)" -W ignore::FutureWarning tools/build_docs.py --execute

site: $(READY)  ## build the site from stored outputs, in less than a minute
	@"$(PY)" -W ignore::FutureWarning tools/build_docs.py

dist: $(READY)  ## build the wheel and the sdist in dist/
	@rm -rf build dist
	@"$(PY)" -m build --no-isolation

clean:  ## remove builds, caches and the demo's folder; the environment stays
	@rm -rf build dist demo _docs _proc .pytest_cache .hypothesis .ruff_cache *.egg-info
	@find fastai_mixmatch tests tools nbs -name __pycache__ -prune -exec rm -rf {} +

given:
	@test -x "$(PY)" || "$(MAKE)" --no-print-directory "$(STAMP)"

$(STAMP): settings.ini setup.py pyproject.toml
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "make: no '$(PYTHON)' here. Install Python 3.10 or newer, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "make: '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1), 3.10 or newer is needed: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "make: '$(PYTHON)' has no venv module. Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@"$(PY)" -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv "$(VENV)"
	@echo "Installing the package and its tools into $(VENV), once (PyTorch is a large download)"
	@"$(PY)" -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	@touch "$@"
