# `make` alone lists what there is. Everything is installed into .venv, from hashed files in requirements/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
WHEEL_VENV := build/wheel-venv
QUICK := not slow and not browser
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# $(call install,PYTHON,NAME): install requirements/NAME.txt; hashes are checked, the output is the errors alone.
packages = $$(grep -c '^[a-z].*==' requirements/$(1).txt) packages
install = echo "Installing $(call packages,$(2)) ($(2)) …"; $(1) -m pip install -qq --require-hashes -r requirements/$(2).txt
editable = $(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .

.PHONY: help setup demo demo-sso test quick check lint types layers docs bench lab wheel-test requirements format lock clean chromium servers

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name line; do \
		printf '  make %-13s %s\n' "$$name" "$$line"; done

setup: $(STAMPS)/dev chromium servers ## Install all that development needs: .venv; Chromium and servers by apt-get, if missing

demo: $(STAMPS)/demo ## Serve the demo on http://localhost:8000
	@exec $(BIN)/sessile demo

demo-sso: $(STAMPS)/dev ## Serve single sign-on: a real provider and two applications, on http://localhost:8000
	@exec $(BIN)/sessile demo --sso

test: setup ## Pass every test: the browser's and those against the built wheel too
	@$(BIN)/python -m pytest -n $(WORKERS)
	@$(MAKE) wheel-test

quick: $(STAMPS)/dev servers ## Check style and layers, run the fast tests: under a minute
	@$(BIN)/ruff check --quiet .
	@$(MAKE) layers
	@HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -q -n $(WORKERS) -m "$(QUICK)"

check: $(STAMPS)/dev servers lint layers types ## Check style, layers and types, run all tests but the browser's, build the docs strictly
	@$(BIN)/python -m pytest -q -n $(WORKERS) -m "not browser"
	@$(MAKE) docs

lint: $(STAMPS)/dev ## Check format and style
	@$(BIN)/ruff format --quiet --check . || { echo "Run 'make format'." >&2; exit 1; }
	@$(BIN)/ruff check .

layers: $(STAMPS)/dev ## Check that each module imports only what lies below it
	@$(BIN)/lint-imports --no-logo

types: $(STAMPS)/dev ## Check the types of the package with pyright and mypy, both strict
	@$(BIN)/pyright
	@$(BIN)/mypy

docs: $(STAMPS)/dev ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "Built site/index.html"

bench: $(STAMPS)/bench ## Measure Sessile beside its peers; writes benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks

lab: $(STAMPS)/dev servers ## Kill, freeze and cut off real servers, audit every answer; writes the table in docs/explanation/failure-lab.md
	@$(BIN)/python -m tests.failure --write

wheel-test: $(STAMPS)/dev servers $(WHEEL_VENV)/stamp ## Build the wheel, install it alone, run the fast tests against it
	@rm -rf build/wheel
	@$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . > build/wheel.log || { cat build/wheel.log; exit 1; }
	@$(WHEEL_VENV)/bin/python -m pip install -qq --no-deps --force-reinstall build/wheel/*.whl
	@$(WHEEL_VENV)/bin/python -c 'import sys, sessile; print("Testing", sessile.__file__); sys.exit("site-packages" not in sessile.__file__)'
	@$(WHEEL_VENV)/bin/python -m pytest -n $(WORKERS) -m "$(QUICK) and not tree"

requirements: $(STAMPS)/dev ## Write docs/requirements.md from the tests
	@$(BIN)/python tools/requirements_page.py

format: $(STAMPS)/dev ## Format the source and mend what can be mended
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lock: $(STAMPS)/dev ## Write requirements/*.txt anew from requirements/*.in (asks the registry for the newest)
	@for name in dev test demo bench; do \
		echo "requirements/$$name.txt"; \
		constraint=(); [[ $$name = dev ]] || constraint=(-c requirements/dev.txt); \
		UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
			--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate "$${constraint[@]}" \
			requirements/$$name.in --output-file requirements/$$name.txt; \
	done

clean: ## Remove all that these commands made
	rm -rf $(VENV) build dist site .demo .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

chromium servers:
	@tools/system $@

$(STAMPS)/venv:
	@PYTHON="$(PYTHON)" tools/system python
	@echo "Making $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/demo: requirements/demo.txt pyproject.toml | $(STAMPS)/venv
	@$(call install,$(BIN)/python,demo)
	@$(editable)
	@touch $@

$(STAMPS)/dev: requirements/dev.txt pyproject.toml | $(STAMPS)/venv
	@$(call install,$(BIN)/python,dev)
	@$(editable)
	@touch $@

$(STAMPS)/bench: requirements/bench.txt $(STAMPS)/dev
	@$(call install,$(BIN)/python,bench)
	@touch $@

$(WHEEL_VENV)/stamp: requirements/test.txt | $(STAMPS)/venv
	@rm -rf $(WHEEL_VENV)
	@$(PYTHON) -m venv $(WHEEL_VENV)
	@$(call install,$(WHEEL_VENV)/bin/python,test)
	@touch $@
