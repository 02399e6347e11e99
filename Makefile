# Everything runs from .venv, which `make install` makes; every other target depends on it.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help install serve pull test test-fast check format bench bench-peers clean

help:            ## what can be made
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

install: $(STAMP)  ## make .venv with the pinned versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; found no '$(PYTHON)'. Set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

pull: $(STAMP)   ## fetch, verify and import the default weights (once)
	$(BIN)/polymath pull

serve: $(STAMP)  ## fetch what is missing and serve on 127.0.0.1:8000
	$(BIN)/polymath pull --quiet
	$(BIN)/polymath serve

test: $(STAMP)   ## the whole suite, on the real weights
	$(BIN)/polymath pull --quiet
	$(BIN)/pytest

test-fast: $(STAMP)  ## hermetic: tiny random models, no weights, no network
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile -m "not weights and not gpu and not slow"

check: $(STAMP)  ## format, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## measure on the real weights; writes bench/results/
	$(BIN)/polymath pull --quiet
	$(BIN)/python -m bench.run

bench-peers: $(STAMP)  ## the same load on other servers; installs each of them once
	$(BIN)/polymath pull --quiet
	$(BIN)/python -m bench.peers.run

clean:           ## remove the virtual environment and caches (not the weights)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
