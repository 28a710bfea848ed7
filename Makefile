# `make demo` and `make test` each do everything on a machine that has only Python 3.11 or later: they make .venv,
# install what is missing, and run. Another Python: `make demo PYTHON=python3.12`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

# PyTorch comes from where pip finds it. On Linux without an NVIDIA GPU its CPU build spares gigabytes of CUDA:
# `make demo TORCH_INDEX=<the address of PyTorch's index of CPU builds>`.
TORCH_INDEX ?=
TORCH_FLAGS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# Two processes, each with one thread of its own: tests of one file stay together and share what they trained. They keep
# the bytecode of what they import, even where the environment forbids it: all of torch is compiled once and not each time.
TEST_FLAGS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test check format clean

help:
	@echo "make demo    compress a network that reads digits, and show what came of it (about five minutes)"
	@echo "make test    run every test"
	@echo "make check   style, formatting and types, as CI checks them"
	@echo "make format  put the formatting right"
	@echo "make clean   remove .venv and all caches (not the results in runs/ and .compress/)"

demo: $(VENV)/installed
	$(BIN)/compress run pipelines/digits.yaml

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(TEST_FLAGS)

check: $(VENV)/installed-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pre-commit run --all-files

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "No Python found as '$(PYTHON)': install Python 3.11 or later, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "compress needs Python 3.11 or later, but '$(PYTHON)' is `$(PYTHON) --version 2>&1`; name another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps make a second call quick; a change of the dependencies in pyproject.toml installs again.
$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) (a minute or two, once)"
	$(PIP_INSTALL) $(TORCH_FLAGS) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing what the tests need"
	$(PIP_INSTALL) $(TORCH_FLAGS) --editable '.[dev]'
	@touch $@
