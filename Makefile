# make demo   make test   make test-all   make test-matrix   make lint   make docs   make bench   make reproduce SOURCE=…
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check

.PHONY: demo test test-all test-matrix docs bench reproduce lint format clean

demo: $(VENV)/.demo
	$(BIN)/alljax study --config=configs/quickstart.py --workdir=runs/quickstart

# Real input and comparisons with other libraries compile as users do; all other tests compile cheaply (tests/conftest.py).
# Tests on real input are skipped with a message where it is missing (CONTRIBUTING.md).
test: $(VENV)/.dev
	$(BIN)/pytest -m "not long and not system and not optimized and not eight_devices" -n 2 --dist=loadfile $(PYTEST_ARGUMENTS)
	ALLJAX_TEST_DEVICES=8 $(BIN)/pytest -m "eight_devices and not long" -n 2 --dist=loadfile
	ALLJAX_TEST_OPTIMIZE=1 $(BIN)/pytest -m "optimized and not long and not system" -n 2 --dist=loadfile

# Also kills processes, runs Slurm, Chromium and LaTeX where they are installed, and measures at full scale.
test-all: test
	$(BIN)/pytest -m "long or system" $(PYTEST_ARGUMENTS)

# Python 3.11 to 3.13, each with the lowest and the newest versions of the dependencies; five minutes per environment.
test-matrix: | $(BIN)/pip
	$(PIP_INSTALL) uv
	PATH=$(CURDIR)/$(BIN):$$PATH tests/matrix.sh $(MATRIX)

# site/index.html; warnings, and links to pages or sections that do not exist, are errors.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Beside PyTorch, ONNX Runtime and Keras: docs/explanation/performance.md. BENCH_ARGUMENTS="--parts=features --quick"
bench: $(VENV)/.dev
	$(BIN)/python tests/benchmarks/bench.py $(BENCH_ARGUMENTS)

# The paper on the complete C-NMC, also with subjects held out, and a summary to be pasted into an issue.
# VARIANT=small,both needs no download; ARGUMENTS=--config.data.allow_partial=true accepts a copy without some files.
VARIANT ?= both
WORKDIR ?= runs/reproduce
reproduce: $(VENV)/.demo
	$(if $(SOURCE),,$(error give the images: make reproduce SOURCE=C-NMC_Leukemia.zip))
	$(BIN)/alljax study --config=configs/paper.py:$(VARIANT) --workdir="$(WORKDIR)" --config.data.source="$(SOURCE)" $(ARGUMENTS)
	cat "$(WORKDIR)/summary.md"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/count_lines.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs site

# The stamps record a finished installation; a newer pyproject.toml repeats it.
$(VENV)/.dev: pyproject.toml | $(BIN)/pip
	$(PIP_INSTALL) --editable '.[demo,dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml | $(BIN)/pip
	$(PIP_INSTALL) --editable '.[docs]'
	touch $@

$(VENV)/.demo: pyproject.toml | $(BIN)/pip
	$(PIP_INSTALL) --editable '.[demo]'
	touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "alljax needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "this Python has no venv; on Debian or Ubuntu: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
