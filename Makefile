# `make demo` and `make test` each set up all they need in .venv first; only the tests' own
# packages wait for `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
# A level of the x86-64 instruction set for the tests: sse4.2, avx2 or avx512.
LEVEL ?=
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "fusionrec needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.11 ...")'

# make gpu measures on a GPU where the driver sees one, unless DEVICE=cpu. Only there does it have
# an environment of its own, with PyTorch's CUDA build.
DEVICE ?= auto
MINUTES ?= 10
ifneq ($(filter gpu,$(MAKECMDGOALS)),)
ifneq ($(DEVICE),cpu)
GPU_SEEN := $(shell nvidia-smi -L 2>/dev/null | grep '^GPU')
endif
endif
GPU_VENV := $(VENV)$(if $(GPU_SEEN),-gpu)
GPU_STAMP := $(if $(GPU_SEEN),$(GPU_VENV)/.installed,$(DEV_STAMP))

.PHONY: demo compare gpu docs test lint types unit slow clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo   install, write the sample corpus, run the whole pipeline, the report, a search"
	@echo "            and its best configuration, and print the results"
	@echo "make compare   install, write the sample corpus, and run every baseline beside the network,"
	@echo "            with a method of one's own and lists made elsewhere (examples/)"
	@echo "make gpu    install, and measure what only a GPU can show (DEVICE=cpu: the same, small)"
	@echo "make docs   install, and build the guide into site/, to be read from its index.html"
	@echo "make test   install, the tests' packages too, then lint, types and the fast tests"
	@echo "make slow   the slow tests (killed runs, worker counts, second opinions)"
	@echo "make lint | types | unit   the parts of make test"
	@echo "make test LEVEL=avx2   the tests as on a processor with sse4.2, avx2 or avx512 only"
	@echo "make clean  remove the environment, the demo and the built guide"

$(STAMP): pyproject.toml constraints.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# After the run's packages, never beside them: one pip at a time.
$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(DEMO)/corpus/truth.json: | $(STAMP)
	$(BIN)/fusionrec sample --songs 2000 --users 1000 --seed 0 --out $(DEMO)/corpus

DEMO_CONFIG = --config pipelines/configs/sample.yaml \
    --set source.root=$(DEMO)/corpus --set workspace=$(DEMO)/workspace

demo: $(STAMP) $(DEMO)/corpus/truth.json
	$(BIN)/fusionrec run $(DEMO_CONFIG) --set recommend.model=genre
	$(BIN)/fusionrec run $(DEMO_CONFIG)
	$(BIN)/fusionrec report $(DEMO_CONFIG) --set train.workers=0
	$(BIN)/fusionrec tune $(DEMO_CONFIG) --set recommend.model=genre
	$(BIN)/fusionrec run --config $(DEMO)/workspace/tune/best.yaml
	@echo "To look at it in a browser: fusionrec serve --workspace $(DEMO)/workspace"
	@echo "(docs/service.md says what that needs)"

# All that is compared unless asked otherwise, and the guide's method of one's own.
METHODS = random,popularity,hotttnesss,mlr,linear,mlp,cnn-mse,cnn-wpe,fusion,linear-features,blend,wmf,classes,popularity-oracle,mine:Nearest
LISTS = $(DEMO)/nearest.parquet

compare: $(STAMP) $(DEMO)/corpus/truth.json
	$(BIN)/fusionrec ingest $(DEMO_CONFIG)
	$(BIN)/fusionrec split $(DEMO_CONFIG) --set split.by=artist
	$(BIN)/fusionrec split $(DEMO_CONFIG)
	$(BIN)/python examples/nearest_lists.py $(DEMO)/workspace $(LISTS)
	PYTHONPATH=examples$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/fusionrec compare $(DEMO_CONFIG) \
	    --set 'compare.methods=[$(METHODS)]' --set 'compare.external={nearest songs: $(LISTS)}'

# A build for CPUs is called 2.13.0+cpu, which == would take as well, and prefer, where pip finds
# one; === is the very name.
$(VENV)-gpu/.installed: pyproject.toml constraints.txt
	$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)-gpu
	sed 's/^torch==/torch===/' constraints.txt > $(VENV)-gpu/constraints.txt
	$(VENV)-gpu/bin/python -m pip install --quiet --constraint $(VENV)-gpu/constraints.txt --editable '.[gpu]'
	$(VENV)-gpu/bin/python -c 'import sys, torch; sys.exit(not torch.version.cuda and "pip chose a build of PyTorch without CUDA: " + torch.__version__)'
	touch $@

gpu: $(GPU_STAMP)
	$(GPU_VENV)/bin/python benchmarks/gpu.py --device $(if $(GPU_SEEN),cuda,$(DEVICE)) --minutes $(MINUTES)

# Warnings fail it, as a link that leads nowhere.
docs: $(DEV_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test: lint types unit

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP)
	$(BIN)/mypy
	MYPYPATH=docs $(BIN)/mypy docs/hooks.py docs/made

PYTEST = $(if $(LEVEL),$(BIN)/python -m tests.processors.levels $(LEVEL)) $(BIN)/pytest

# In two processes: all tests that take Ray in one of them (tests/conftest.py).
TWO = --numprocesses 2

unit: $(DEV_STAMP)
	$(PYTEST) -m "not slow" $(TWO) --durations 20

slow: $(DEV_STAMP)
	$(PYTEST) -m slow $(TWO) --durations 30

clean:
	rm -rf $(VENV) $(VENV)-gpu $(DEMO) site
