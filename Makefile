# make setup    an environment in .venv with everything; done again only when what it needs has changed
# make run      train on the shipped reviews, show the scores, ask the model two sentences
# make test     all tests, in less than 10 minutes on two cores
# make test-deep   the long forms of the harnesses too
# make check    format, lint, types, and the tests that need no training run
# make bench    the accuracy table of RESULTS.md, written into benchmarks/results/
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := setup
.PHONY: setup run test test-deep lint check bench clean

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The build's tools go into the environment, so that the next build compiles only what has changed.
MISSING = $(foreach tool,cmake ninja,$(if $(shell command -v $(tool)),,$(tool)))
# One thread a test process: two of them share two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

setup: $(READY)

$(READY): pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/echoic/kernels/csrc/* src/echoic/kernels/csrc/*/*)
	@test -n "$(PYTHON)" || { echo "echoic needs Python 3.11 or newer; name one with make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) scikit-build-core nanobind $(MISSING)
	SKBUILD_BUILD_DIR=$(VENV)/build $(PIP) --no-build-isolation -e '.[dev]'
	@$(BIN)/python -c 'from importlib.util import find_spec as find; exit(not find("echoic.kernels._native"))' || \
		echo "echoic works without its native core, slower; ECHOIC_REQUIRE_NATIVE=1 make says why it did not build" >&2
	@touch $@

run: setup
	@$(BIN)/echoic demo

test: setup
	@$(PYTEST)

test-deep: setup
	@ECHOIC_DEEP=1 $(PYTEST)

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

check: lint
	@$(PYTEST) --ignore=tests/cli --ignore=tests/contracts

bench: setup
	$(BIN)/python benchmarks/accuracy.py all
	$(BIN)/python benchmarks/results.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
