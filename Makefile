# One environment in .venv; a stamp file marks each set of extras that is installed.
# Options of a program go into ARGS: make train ARGS="--config.seeds=3"

PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
CONFIG ?= configs/pricing.py
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
TABLE := p2p_sac_jax/environments/data/orange_juice.csv
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
BENCH := .venv-bench

.DEFAULT_GOAL := help
.PHONY: help setup train resume test test-all style lint calibrate network \
  bench bench-peers bench-gpu evidence clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

setup: $(VENV)/stamp-run ## install the package and what runs need

train: $(VENV)/stamp-run ## train in a new folder runs/NNN (CONFIG, ARGS)
	@exec $(BIN)/python -m launch.train --config=$(CONFIG) --runs=runs $(ARGS)

resume: $(VENV)/stamp-run ## continue the last numbered folder in runs/ (ARGS)
	@last=$$(ls -d runs/[0-9]*/run.json 2>/dev/null | sort -t/ -n -k2 | tail -n 1); \
	last=$${last%/run.json}; \
	test -n "$$last" || { echo "nothing to resume: runs/ is empty" >&2; exit 2; }; \
	echo "workdir: $$last"; \
	exec $(BIN)/python -m launch.train --workdir="$$last" $(ARGS)

test: style ## style and tests: minutes (ARGS)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-all: lint ## what make test leaves out: types and thorough tests
	$(BIN)/python -m pytest -n 2 --dist loadfile \
	  -m "thorough and not evidence and not accelerator" $(ARGS)

style: $(VENV)/stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style ## style and types
	$(BIN)/basedpyright

calibrate: $(VENV)/stamp-calibrate ## derive the market table from scanner data (ARGS)
	$(BIN)/python -m launch.calibrate $(or $(ARGS),--check --output=$(TABLE))

network: $(VENV)/stamp-run,network ## five peers on this machine, one byzantine (ARGS)
	$(BIN)/python -m examples.network_demo $(ARGS)

bench: $(VENV)/stamp-run ## time training, see docs/benchmark.md (ARGS)
	$(BIN)/python -m benchmarks.bench $(ARGS)

bench-peers: $(BENCH)/stamp ## time it beside other SAC implementations (ARGS)
	$(BENCH)/bin/python -m benchmarks.bench_peers $(ARGS)

bench-gpu: $(VENV)/stamp-test,cuda $(BENCH)/stamp ## all checks and timings of a GPU
	bash benchmarks/bench_gpu.sh $(BIN)/python $(BENCH)/bin/python

evidence: $(VENV)/stamp-run ## recompute docs/evidence: hours, resumable (ARGS)
	$(BIN)/python -m benchmarks.evidence $(ARGS)

clean: ## remove the environments and all caches; runs/ stays
	rm -rf $(VENV) $(BENCH) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .jax_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The part after "stamp-" names the extras to install.
$(VENV)/stamp-%: setup.cfg pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) --constraint constraints.txt --editable '.[$*]'
	@touch $@

# PyTorch conflicts with two kinds of pins, see benchmarks/baselines/requirements.txt.
$(BENCH)/stamp: setup.cfg pyproject.toml constraints.txt benchmarks/baselines/requirements.txt
	@$(MAKE) --no-print-directory VENV=$(BENCH) $(BENCH)/bin/pip
	grep -Ev '^(mpmath|nvidia-)' constraints.txt > $(BENCH)/constraints.txt
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint $(BENCH)/constraints.txt --editable . \
	  --requirement benchmarks/baselines/requirements.txt
	@touch $@

# Debian without python3-venv has no ensurepip; the system's pip takes its place.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
