# Each target does the set-up that it needs, in .venv of this folder; a second call finds it done.
#   make demo [MODEL=name|path]   the whole way on a small web of its own
#   make test                     the tests; make soak: the long ones; make lint: linter and type checker
#   make clean                    removes .venv and everything that was built

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test soak lint clean

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

# An OpenVINO folder or an ONNX file runs as it is; names and .pt files are Ultralytics' business and need torch.
needs_torch = $(if $(MODEL),$(if $(filter shipped %.onnx %.xml,$(MODEL))$(wildcard $(MODEL)/*.xml),,yes))

demo: $(VENV)/$(if $(needs_torch),torch,demo).stamp
	$(BIN)/cortex demo $(if $(MODEL),--model '$(MODEL)')

# Two at a time, each with a Spark of its own; the tests of a file stay together, and share what it sets up.
test: $(VENV)/test.stamp
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

soak: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m soak

lint: $(VENV)/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/demo.stamp: extras = demo
$(VENV)/torch.stamp: extras = demo,torch
$(VENV)/test.stamp: extras = dev,torch

$(VENV)/%.stamp: $(BIN)/python pyproject.toml constraints.txt
	@echo 'installing cortex_spark[$(extras)] into $(VENV) (once)'
	@$(INSTALL) '.[$(extras)]'
	@touch $@

$(BIN)/python:
	@for python in python3.11 python3.12 python3.13 python3; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        $$python -m venv $(VENV) && exit 0; \
	        rm -rf $(VENV); echo "$$python cannot make a virtual environment: install its venv module (Debian: apt install python3-venv)." >&2; exit 1; \
	    fi; \
	done; \
	echo 'Cortex needs Python 3.11 or newer, and there is none on the PATH: install one.' >&2; exit 1
