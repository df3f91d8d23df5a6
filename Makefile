# Every target makes the virtual environment .venv first when it is missing or out of date.
#   make run ARGS="--dataset ml-1m"     arguments for the lessons
#   make lab LAB_ARGS="--no-browser"    arguments for JupyterLab
#   make test PYTHON=/opt/python3.12/bin/python3.12    a Python of your choice
#   make lock LOCK_ARGS=--upgrade       newer versions of everything in requirements.lock
.DEFAULT_GOAL := help
.PHONY: help run test test-long test-browser test-triton gpu-check lab exercises-copy doctor slides site kit lint lock clean FORCE

ARGS ?=
LAB_ARGS ?=
LOCK_ARGS ?=
SLIDES_ARGS ?=
SITE_ARGS ?=
KIT_ARGS ?=
GPU_ARGS ?=
PYTHON ?=
# GiB that must be free before anything is installed (torch is the largest part).
NEED_GB ?= 3

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
CODE = $(wildcard conftest.py ss4rec_lib tests tools results benchmarks workflow docs notebooks workshop)
CHROMIUM ?= $(firstword $(foreach name,chromium chromium-browser google-chrome google-chrome-stable,\
    $(shell command -v $(name))))
# Of the two workers, one does the tests of a module, or the runs of a lesson (tests/conftest.py).
TESTS := $(PY) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder
UV = $(or $(wildcard $(VENV)/bin/uv),uv)
LAB := --config tools/jupyter_server_config.py --ServerApp.root_dir=. \
    --LabApp.default_url=/lab/tree/notebooks/00_tour.ipynb
# JupyterLab refuses to start for root, the user of most containers, unless this is given.
ALLOW_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

# Another project's environment must not leak into this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX PIP_TARGET PIP_PREFIX
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Jupyter, matplotlib and pip keep files under HOME; without a usable one they get a folder here.
ifneq ($(shell test -d "$$HOME" && test -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/.home
$(shell mkdir -p .home)
endif

# The stamp holds the folder it was made in: a moved checkout, or a Python that was removed
# underneath, makes the environment anew.
ifneq ($(shell $(PY) -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

run: $(STAMP) ## run the lessons on real data, print where they are and what they measured
	@$(PY) -m ss4rec_lib.cli lessons $(ARGS)

# The data set is fetched first, because no test reaches the network.
test: $(STAMP) ## the tests, the committed outputs of the core lessons included
	@$(PY) -m ss4rec_lib.cli data ml-100k
	@$(TESTS)

test-long: $(STAMP) ## what make test leaves out: deeper lessons, killed batches, benchmarks
	@$(PY) -m ss4rec_lib.cli data ml-100k
	@$(TESTS) -m long

# Looks for Chromium first: without one there is nothing to install.
test-browser: $(STAMP) ## the lessons clicked through in Chromium; pictures in dist/browser
	@if [ -z "$(CHROMIUM)" ]; then \
	    echo "skipped: no Chromium on PATH; make test-browser CHROMIUM=/path/to/it"; exit; fi; \
	$(PY) -c 'import playwright' 2>/dev/null || \
	    $(PY) -m pip install --quiet -c requirements.lock -e ".[browser]" || exit; \
	CHROMIUM=$(CHROMIUM) $(PY) -m pytest -m browser --durations 10 tests/browser

# Two runs: interpreted on the CPU, then compiled for GPUs that need not be here.
test-triton: $(STAMP) ## the GPU kernels in Triton's interpreter on the CPU; installs 1 GB
	@if [ "$$(uname)" != Linux ]; then echo "skipped: Triton has packages for Linux only"; exit; fi; \
	$(PY) -c 'import triton' 2>/dev/null || \
	    $(PY) -m pip install --quiet -c requirements.lock -e ".[triton]" || exit; \
	TRITON_INTERPRET=1 $(PY) -m pytest -n 2 --dist load -k triton tests/ssm tests/training && \
	$(PY) -m pytest tests/ssm/test_triton_compiles.py

gpu-check: $(STAMP) ## tests and measurements on a GPU, under 9 minutes: benchmarks/results/gpu.md
	@$(PY) benchmarks/gpu.py $(GPU_ARGS)

# Its root is the repository, so that links out of notebooks/ open. The configuration keeps widgets
# out of saved notebooks.
lab: $(STAMP) ## JupyterLab, opened on the tour
	@$(PY) -m jupyterlab $(LAB) $(ALLOW_ROOT) $(LAB_ARGS)

exercises-copy: $(STAMP) ## copies of the exercises in work/; an answer is never overwritten
	@$(PY) -m ss4rec_lib.cli exercises

# Installs nothing: it also says what is wrong where nothing is installed.
doctor: ## check in ten seconds whether this machine is ready for the lessons
	@$$($(PY) -c '' 2>/dev/null && echo $(PY) || echo $(or $(PYTHON),python3)) -m workshop.doctor

slides: $(STAMP) ## slides of the core lessons in dist/slides, to be shown without a network
	@$(PY) -m tools.make_slides $(SLIDES_ARGS)

# Nothing is executed: the pages show the committed outputs. A link that leads nowhere is an error.
site: $(STAMP) ## lessons, results and library reference as pages with search: dist/site
	@$(PY) -c 'import myst_nb, sphinx_book_theme' 2>/dev/null || \
	    $(PY) -m pip install --quiet -c requirements.lock -e ".[docs]"
	@$(PY) -m tools.make_site $(SITE_ARGS)

kit: $(STAMP) ## dist/kit: wheels, lessons and checkpoints for a room without a network
	@$(PY) -m tools.make_kit $(KIT_ARGS)

lint: $(STAMP) ## rules and formatting (ruff), types (pyright), spelling (codespell)
	@$(PY) -m ruff check $(CODE)
	@$(PY) -m ruff format --check $(CODE)
	@$(PY) -m pyright --pythonpath $(PY)
	@$(PY) -m codespell_lib

# Every extra but `gpu`, which can only be built beside an installed torch. The target does not depend
# on the environment: after a change of pyproject.toml, the old lock may not install any more.
lock: ## write requirements.lock again after a change of pyproject.toml
	@command -v $(UV) >/dev/null || { echo "error: uv not found; pip install uv" >&2; exit 1; }
	@$(UV) pip compile --quiet --universal --python-version 3.11 --annotation-style line \
	    --extra notebooks --extra peers --extra triton --extra batch --extra docs --extra browser \
	    --extra dev \
	    --custom-compile-command "make lock" $(LOCK_ARGS) pyproject.toml -o requirements.lock

clean: ## remove .venv, runs and caches; the data sets in data/ stay
	@rm -rf $(VENV) .home runs build dist .vendor .pytest_cache .ruff_cache .hypothesis
	@find . \( -path ./data -o -path ./.git \) -prune -o \
	    \( -name __pycache__ -o -name .ipynb_checkpoints -o -name '*.egg-info' \) -type d \
	    -exec rm -rf {} +

FORCE:

# One pip command for everything, with the versions of the lock file as constraints: what pip installs
# besides, such as NVIDIA's packages for a CUDA build of torch, is pinned by torch itself. The mark .installing tells an
# interrupted installation, which starts again from nothing, from an environment made by hand.
$(STAMP): pyproject.toml requirements.lock
	@python=; \
	for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	    if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	        >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "error: no Python 3.11 or newer with its venv module found (python3 is" \
	        "$$(python3 --version 2>&1 | head -n 1)); install Python 3.11, or: make PYTHON=/path/to/it" >&2; \
	    exit 1; \
	fi; \
	free=$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}'); \
	if [ "$$free" -lt $(NEED_GB) ]; then \
	    echo "error: the disk is full: $$free GiB are free here, installing needs $(NEED_GB) GiB" >&2; \
	    exit 1; \
	fi; \
	if [ -e $(VENV)/.installing ] || { [ -e $(STAMP) ] && [ "$$(cat $(STAMP))" != "$(CURDIR)" ]; } \
	    || { [ -e $(VENV) ] && ! $(PY) -c '' 2>/dev/null; }; then rm -rf $(VENV); fi; \
	mkdir -p $(VENV) && : > $(VENV)/.installing && rm -f $(STAMP); \
	echo "Installing into $(VENV) with $$python: once, some minutes (log: $(VENV)/install.log)"; \
	if "$$python" -m venv $(VENV) > $(VENV)/install.log 2>&1 \
	    && $(PY) -m pip install -c requirements.lock -e ".[notebooks,batch,dev]" \
	        >> $(VENV)/install.log 2>&1; then \
	    $(PY) -c 'import matplotlib.font_manager' >> $(VENV)/install.log 2>&1 || true; \
	    printf '%s\n' "$(CURDIR)" > $(STAMP) && rm -f $(VENV)/.installing; \
	elif grep -q 'No space left' $(VENV)/install.log; then \
	    echo "error: the disk is full: free some GiB and run make again" >&2; exit 1; \
	else \
	    echo "error: installing failed: $$(grep -i error $(VENV)/install.log | tail -n 1)" \
	        "(see $(VENV)/install.log)" >&2; exit 1; \
	fi
