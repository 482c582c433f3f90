# `make demo` and `make test` set up everything that they need in .venv; python3 (3.11 or newer), git and make suffice.
# PIP_FLAGS is passed to every `pip install`, for an index of CPU builds of torch, say.

PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt

.PHONY: demo test lint venv

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

venv: $(STAMP)

# torch comes first and alone: resolved together with the rest, pip may take another build of it than the one at hand.
# deepinv comes without torchvision, whose build on PyPI does not load beside a torch without CUDA; the tests do without.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "wavdiff needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e ".[dev,faces,evaluation,hub,shards,tensorboard]"
	$(PIP_INSTALL) --no-deps deepinv natsort h5py
	touch $@
