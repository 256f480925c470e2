# PYTHON=python3.13 make … takes that one; otherwise the best supported Python on this machine.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
# Real weights and photographs, if they are there.
DATA ?= ../shared/data
REAL_ARCHIVE ?= $(DATA)/mobilenet_v2_1.0_224.tgz
# A file's tests share what is made once for them. More processes would want more memory than many a machine has. Files
# with few tests take longest: by default they would come last, and one process would wait.
IN_PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest $(IN_PARALLEL)
# The groups of setup.cfg's markers.
LONG := slow or faults or fuzz or consumers or browser

# Compiled modules spare each of the many processes that tests start a fifth of a second.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-all prove lint format docs consumers fuzz bench pins environment

help:  ## list what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

environment:
	@scripts/environment.sh $(VENV) dev "150 packages, 700 MB (2.4 GB on disk)" "$(PYTHON)"

demo:  ## build modules, load one in TensorFlow, and show it photographs (at most 2 minutes)
	@scripts/environment.sh .venv-demo tensorflow "70 packages, 600 MB (1.9 GB on disk)" "$(PYTHON)"
	@.venv-demo/bin/python scripts/demo.py --real-archive $(REAL_ARCHIVE) --photographs $(DATA)/images --output-dir $(DEMO)

test: environment  ## prove the main promises (at most 5 minutes on two cores)
	$(PYTEST) -m "not ($(LONG) or prove)"

test-long: environment  ## run the other tests, and print what each group took
	$(PYTEST) -m "($(LONG)) and not prove"

test-all: test test-long  ## run both

# In a cache folder of its own, so that the environments are made anew.
prove: export HUBEXPORT_CACHE_DIR := $(CURDIR)/build/prove
prove: environment  ## set up all old and new TensorFlows, and run the tests that are too heavy for every change
	rm -rf $(HUBEXPORT_CACHE_DIR)
	time $(BIN)/python -m tests.environments
	$(PYTEST) -m prove
	rm -rf $(HUBEXPORT_CACHE_DIR)

lint: environment  ## check style, imports and types
	$(BIN)/python -m black --check --diff --quiet .
	$(BIN)/python -m isort --check .
	$(BIN)/python -m flake8
	$(BIN)/python -m mypy

format: environment  ## rewrite the code in the project's style
	$(BIN)/python -m isort .
	$(BIN)/python -m black .

docs:  ## build the documentation's site in build/site
	@scripts/environment.sh .venv-docs docs "50 packages (290 MB on disk)" "$(PYTHON)"
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

consumers: environment  ## set up old and new TensorFlows, and load the modules in each
	$(BIN)/python -m tests.environments
	$(PYTEST) -m consumers

fuzz: environment  ## damage an input of every reader in 5,000 ways, and count what the readers make of it
	$(BIN)/python -m tests.fuzzing

bench: environment  ## measure against baselines that each script names
	$(BIN)/python scripts/benchmark_build.py
	$(BIN)/python scripts/benchmark_build.py --variant resnet_v2_50
	$(BIN)/python scripts/benchmark_build.py --memory
	$(BIN)/python scripts/benchmark_build.py --variant all
	$(BIN)/python scripts/benchmark_inference.py
	$(BIN)/python scripts/benchmark_inference.py --variant mobilenet_v3_large_100_224 inception_v3 inception_resnet_v2 resnet_v2_50 vgg_16
	$(BIN)/python scripts/benchmark_load.py
	$(BIN)/python scripts/benchmark_convert.py $(REAL_ARCHIVE)
	$(BIN)/python scripts/benchmark_deploy.py
	$(BIN)/python scripts/benchmark_verify.py
	$(BIN)/hubexport build --variant mobilenet_v2_075_192 --checkpoint synthetic --output-dir $(DEMO) --overwrite
	$(BIN)/python scripts/benchmark_evaluate.py $(DEMO)/google/imagenet/mobilenet_v2_075_192/classification/2
	$(BIN)/python scripts/benchmark_release.py
	$(BIN)/python scripts/benchmark_release.py --scale
	$(BIN)/hubexport release --checkpoint synthetic --checks structure.digests --output-dir $(DEMO)/dist
	$(BIN)/python scripts/benchmark_serve.py $(DEMO)/dist

pins:  ## write today's package versions to constraints/, for PYTHON
	scripts/pin.sh "$(PYTHON)"
