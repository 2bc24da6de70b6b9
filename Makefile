# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
SOURCES := pyproject.toml constraints.txt

.PHONY: demo test check docs clean

demo: $(VENV)/.demo-installed
	$(BIN)/medprior demo --out demo-out

test: $(VENV)/.test-installed check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

check: $(VENV)/.test-installed
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

docs: $(VENV)/bin/python
	$(PIP) mkdocs
	$(BIN)/mkdocs build --strict --site-dir build/docs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "medprior needs Python 3.11 or newer; $(PYTHON) is older. Set PYTHON=python3.11 (or newer)."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-installed: $(VENV)/bin/python $(SOURCES)
	@echo "Installing medprior and its pinned requirements into $(VENV) (some minutes: PyTorch is large)"
	$(PIP) -e .
	@touch $@

$(VENV)/.test-installed: $(VENV)/bin/python $(SOURCES)
	@echo "Installing medprior, its tests and their pinned requirements into $(VENV)"
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.demo-installed

clean:
	rm -rf $(VENV) demo-out out .pytest_cache .mypy_cache .ruff_cache .hypothesis
