# `make demo` and `make test` set up everything they need in .venv; nothing else is touched.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.PHONY: setup demo test parity lint slow docs topologies skypilot demo-processes browser notebook mutants nano golden clean

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
export JAX_PLATFORMS ?= cpu

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "make: no Python 3.11 or newer found; install one or set PYTHON=" >&2; exit 2; fi
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

demo: setup
	$(BIN)/sgtr run configs/demo.yaml

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Comparison with transformers and peft, which are never a run-time dependency.
.venv/.parity: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,parity]"
	touch $@

parity: .venv/.parity
	$(BIN)/python -m pytest -q -m parity

# libtpu compiles for TPU slices that are not here.
.venv/.topology: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,topology]"
	touch $@

slow: .venv/.topology
	ALLOW_MULTIPLE_LIBTPU_LOAD=1 $(BIN)/python -m pytest -q -n 2 -m slow

# Every program of docs/tpu-bounds.md compiles and fits (twenty minutes).
topologies: .venv/.topology
	ALLOW_MULTIPLE_LIBTPU_LOAD=1 $(BIN)/python -m pytest -q -m topologies

.venv/.docs: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,docs]"
	touch $@

# The site; a broken link or a page that is not in the menu is an error.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir site

# In an environment of its own: it wants older versions of packages that Inspect AI shares with it.
.venv/skypilot/.ready: .venv/.ready
	$(BIN)/python -m venv .venv/skypilot
	.venv/skypilot/bin/python -m pip install --quiet --disable-pip-version-check skypilot==0.14.1
	touch $@

# SkyPilot reads its job file.
skypilot: .venv/skypilot/.ready
	$(BIN)/python -m pytest -q -m skypilot

.venv/.browser: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,browser]"
	touch $@

# The demo on two and on four processes gives the table of one (`make demo` before it; twenty minutes).
demo-processes: setup
	$(BIN)/python -m pytest -q -m demo_processes

# The report page, the demo's too if it is there, in the headless Chromium of this machine.
browser: .venv/.browser
	$(BIN)/python -m pytest -q -m browser

# The demo part of the Colab notebook, from the first cell to the last figure.
notebook: setup
	$(BIN)/python -m pytest -q -m notebook

# Whether the tests of fifteen modules find faults that are put into them (docs/checks.md; `make mutants ONLY=loss` for one).
.venv/.mutants: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,mutants]"
	touch $@

mutants: .venv/.mutants
	$(BIN)/python tests/mutants.py $(ONLY)

# The demo model's weights and tokenizer, from nothing (half an hour on two CPU cores).
nano: setup
	$(BIN)/python -m sgtr_jax.finetune.make_nano --out sgtr_jax/nano/model

# The reference results that the tests compare with when torch is not installed.
golden: .venv/.parity
	$(BIN)/python tests/golden/make.py

clean:
	rm -rf .venv runs .mutants
