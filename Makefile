PYTHON ?= python3
BIN := .venv/bin

.PHONY: help venv demo test test-gpu lint bench report thumbnails clean

help:
	@echo "make demo    open the simulator"
	@echo "make test    run all tests (window tests are skipped, with a reason, where they cannot run)"
	@echo "make lint    check style and formatting"
	@echo "make bench   the benchmark frames through every preconditioner, into runs/bench"
	@echo "make report  RESULTS.md and its figures, from the results in assets/reference"
	@echo "make thumbnails  the pictures of the scenes in the window's gallery"
	@echo "make venv    only create .venv"
	@echo "make clean   remove .venv and build leftovers"

venv: .venv/installed

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "$$($(PYTHON) --version) will not do: Python 3.10 to 3.13 is needed; name one, as in: make PYTHON=python3.12 venv"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[ic0]' 2>/dev/null || \
	  echo "ic0 will be missing from the list: building ilupp needs a C++ compiler; all else works"
	@touch $@

demo: venv
	$(BIN)/python -m app demo $(ARGS)

test: venv
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-gpu: venv
	$(BIN)/python -m pytest tests/gpu -rs $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: venv
	$(BIN)/python -m app bench --out runs/bench $(ARGS)

report: venv
	$(BIN)/python -m app report $(ARGS)

thumbnails: venv
	$(BIN)/python -m app.commands.thumbnails

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
