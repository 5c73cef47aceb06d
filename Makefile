# `make serve` and `make test` work from a bare checkout: they make the virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install offline serve test check audit format

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

install: $(VENV)/.serve  ## make .venv with what serving needs
offline: $(VENV)/.offline  ## add what export, calibrate and evaluate need
serve: install  ## start the service on the embedded bundle, port 8000
	$(BIN)/oodgate serve

test: $(VENV)/.dev  ## run the tests
	$(BIN)/pytest

check: $(VENV)/.dev  ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(VENV)/.dev  ## look up the locked dependencies in the published advisories; needs the network
	PATH="$(CURDIR)/$(BIN):$$PATH" docker/audit.sh

format: $(VENV)/.dev  ## rewrite the sources in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The stamps are newer than pyproject.toml when nothing changed, and then the environment is reused.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.offline: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[offline]'
	@touch $@ $(VENV)/.serve

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.serve $(VENV)/.offline
