# `make demo` and `make test` each set up all they need in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
# A level of the x86-64 instruction set for the tests: sse4.2, avx2 or avx512.
LEVEL ?=
STAMP := $(VENV)/.installed

.PHONY: demo compare test lint types unit slow clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo   install, write the sample corpus, run the whole pipeline, the report, a search"
	@echo "            and its best configuration, and print the results"
	@echo "make compare   install, write the sample corpus, and run every baseline beside the network"
	@echo "make test   install, then lint, types and the fast tests"
	@echo "make slow   the slow tests (killed runs, worker counts, second opinions)"
	@echo "make lint | types | unit   the parts of make test"
	@echo "make test LEVEL=avx2   the tests as on a processor with sse4.2, avx2 or avx512 only"
	@echo "make clean  remove the environment and the demo"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "fusionrec needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(DEMO)/corpus/truth.json: | $(STAMP)
	$(BIN)/fusionrec sample --songs 2000 --users 1000 --seed 0 --out $(DEMO)/corpus

DEMO_CONFIG = --config pipelines/configs/sample.yaml \
    --set source.root=$(DEMO)/corpus --set workspace=$(DEMO)/workspace

demo: $(STAMP) $(DEMO)/corpus/truth.json
	$(BIN)/fusionrec run $(DEMO_CONFIG)
	$(BIN)/fusionrec report $(DEMO_CONFIG) --set train.workers=0
	$(BIN)/fusionrec tune $(DEMO_CONFIG)
	$(BIN)/fusionrec run --config $(DEMO)/workspace/tune/best.yaml

compare: $(STAMP) $(DEMO)/corpus/truth.json
	$(BIN)/fusionrec compare $(DEMO_CONFIG)

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

PYTEST = $(if $(LEVEL),$(BIN)/python -m tests.processors.levels $(LEVEL)) $(BIN)/pytest

unit: $(STAMP)
	$(PYTEST) -m "not slow"

slow: $(STAMP)
	$(PYTEST) -m slow

clean:
	rm -rf $(VENV) $(DEMO)
