# Two commands do all the set-up on a machine with Python, pip and make: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
PACKAGE ?= -e .
BIN = $(VENV)/bin

.PHONY: demo test test-clusters test-processors test-generic quick lowest chaos fuzz lint docs notebooks constraints clean

demo: $(VENV)/package  ## match 48 views of known photographs on an embedded cluster
	$(BIN)/parimg demo demo

test: $(VENV)/installed  ## the whole test suite, on real clusters, which are timed and so have the machine to themselves
	$(BIN)/pytest -n 2 -m "not cluster" $(PYTEST_ARGS)
	$(BIN)/pytest -m "cluster and not daemons" $(PYTEST_ARGS)

test-clusters: $(VENV)/installed  ## on Slurm and SSH servers that the tests start; tests/setup-machine.sh installs them
	$(BIN)/pytest -n 2 --dist loadfile -m daemons $(PYTEST_ARGS) tests/clusters

test-processors: test-generic  ## the kernels as on other processors: lesser ones, and an emulated aarch64 where there is qemu
	$(BIN)/python tests/processors/run_kernel_tests.py nehalem zen3 -- -n 2
	$(BIN)/python tests/processors/emulate_aarch64.py $(VENV).aarch64

test-generic: $(VENV)/installed  ## the part of it for every change: as on any x86-64, and compiled for processors that are not here
	$(BIN)/python tests/processors/run_kernel_tests.py generic -- -n 2 -m "not slow"
	$(BIN)/python tests/processors/compile_kernels.py

quick: $(VENV)/installed  ## what takes no cluster and no long compilation
	$(BIN)/pytest -n 2 -q -m "not cluster and not slow" tests

lowest:  ## `make quick` with the lowest versions that pyproject.toml allows, on the oldest Python that has wheels of them
	rm -rf $(VENV).lowest && $(PYTHON) -m venv $(VENV).lowest && $(VENV).lowest/bin/pip install --quiet uv
	$(VENV).lowest/bin/uv pip install --quiet --python $(VENV).lowest/bin/python --resolution lowest-direct -e '.[dev,notebooks]'
	$(VENV).lowest/bin/pytest -n 2 -q -m "not cluster and not slow" -W default tests

chaos: $(VENV)/installed  ## ten minutes of jobs in which everything dies; a failed seed again by PARIMG_CHAOS_SEED=N
	PARIMG_CHAOS_SECONDS=600 $(BIN)/python -m pytest tests/end_to_end/test_chaos.py -k random

fuzz: $(VENV)/installed  ## 10 000 damaged files through every task
	PARIMG_FUZZ_FILES=10000 $(BIN)/python -m pytest tests/end_to_end/test_fuzz.py

lint: $(VENV)/installed  ## style, types, dead code, layers, spelling of names
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/vulture
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/installed  ## docs/_build/html; warnings are errors
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(PACKAGE)'[docs]'
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

notebooks: $(VENV)/installed  ## run the notebooks in place
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb

constraints:  ## pin what a new environment gets today
	rm -rf $(VENV).pins && $(PYTHON) -m venv $(VENV).pins
	$(VENV).pins/bin/pip install --quiet --disable-pip-version-check '.[dev,notebooks,docs,dashboard,remote,benchmarks]'
	$(VENV).pins/bin/pip freeze --exclude parimg > constraints.txt
	rm -rf $(VENV).pins

clean:
	rm -rf $(VENV) demo docs/_build

$(VENV)/package: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(PACKAGE)
	touch $@

$(VENV)/installed: $(VENV)/package
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(PACKAGE)'[dev,notebooks]'
	touch $@
