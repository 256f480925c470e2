PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
DOCS_VENV := .venv-docs
REAL_ARCHIVE ?= ../shared/data/mobilenet_v2_1.0_224.tgz
# A file's tests share what is made once for them. More processes would want more memory than many a machine has. Files
# with few tests take longest, those of the consumers: by default they would come last, and one process would wait.
IN_PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test lint format consumers docs bench

help:  ## list what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/ready  ## build a module from made-up weights and load it with hub.Module
	$(BIN)/hubexport build --variant mobilenet_v2_075_192 --checkpoint synthetic --output_dir $(DEMO) --overwrite
	$(BIN)/python scripts/demo.py $(DEMO)/google/imagenet/mobilenet_v2_075_192

test: $(VENV)/ready  ## run all tests; consumers whose Python is not there are reported
	$(BIN)/python -m pytest $(IN_PARALLEL)

lint: $(VENV)/ready  ## check style, imports and types
	$(BIN)/python -m black --check --diff --quiet .
	$(BIN)/python -m isort --check .
	$(BIN)/python -m flake8
	$(BIN)/python -m mypy

format: $(VENV)/ready  ## rewrite the code in the project's style
	$(BIN)/python -m isort .
	$(BIN)/python -m black .

consumers: $(VENV)/ready  ## set up old and new TensorFlows, and load the modules in each
	$(BIN)/python -m tests.environments
	$(BIN)/python -m pytest $(IN_PARALLEL) -m consumers

$(DOCS_VENV)/ready: setup.cfg
	$(PYTHON) -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet '.[docs]'
	touch $@

docs: $(DOCS_VENV)/ready  ## build the documentation's site in build/site
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

bench: demo  ## measure builds, modules, conversions, verifications, evaluations, releases and a server, against baselines that they name
	$(BIN)/python scripts/benchmark_build.py
	$(BIN)/python scripts/benchmark_build.py --variant all
	$(BIN)/python scripts/benchmark_inference.py
	$(BIN)/python scripts/benchmark_convert.py $(REAL_ARCHIVE)
	$(BIN)/python scripts/benchmark_verify.py
	$(BIN)/python scripts/benchmark_evaluate.py $(DEMO)/google/imagenet/mobilenet_v2_075_192/classification/2
	$(BIN)/python scripts/benchmark_release.py
	$(BIN)/python scripts/benchmark_release.py --scale
	$(BIN)/hubexport release --checkpoint synthetic --verify structure.digests --output_dir $(DEMO)/dist
	$(BIN)/python scripts/benchmark_serve.py $(DEMO)/dist
