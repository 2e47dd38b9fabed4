PYTHON ?= python3
BIN := .venv/bin

REPEAT ?= 1
RECORDED_SCENES := barriers dam-break falling-drop lava-lamp rayleigh-taylor rising-bubbles filling channel
RECORDED_METHODS := auto multigrid coarse-iterated coarse-learned jacobi

.PHONY: help venv demo test test-gpu lint bench recordings report thumbnails clean

help:
	@echo "make demo    open the simulator"
	@echo "make test    run all tests (window tests are skipped, with a reason, where they cannot run)"
	@echo "make lint    check style and formatting"
	@echo "make bench   the benchmark frames through every preconditioner, into runs/bench"
	@echo "make report  RESULTS.md and its figures, from the results in assets/reference"
	@echo "make recordings  frames of all scenes by method into assets/reference, REPEAT=1 names them: under six minutes"
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

# Files are copied at the end, so that none says of its commit that the working tree had changes.
recordings: venv
	@set -e; rm -rf runs/recordings; \
	record() { name=$$1; shift; $(BIN)/python -m app record --out "runs/recordings/$$name" "$$@"; }; \
	for scene in $(RECORDED_SCENES); do \
	  for method in $(RECORDED_METHODS); do \
	    record "$$scene-$$method" --scene "$$scene" --frames 200 --precond "$$method"; \
	  done; \
	done; \
	for method in $(RECORDED_METHODS); do \
	  record "dam-break-maze-painted-$$method" --replay assets/sessions/maze-painted --precond "$$method"; \
	done; \
	for method in coarse-monomial hmatrix; do \
	  record "dam-break-$$method" --scene dam-break --frames 200 --precond "$$method"; \
	done; \
	for method in coarse-iterated coarse-learned; do \
	  record "dam-break-$$method-anew" --scene dam-break --frames 200 --precond "$$method" --no-reuse-setup; \
	done; \
	for run in runs/recordings/*; do \
	  cp "$$run/run.yaml" "assets/reference/recording-$$(basename "$$run")-$(REPEAT).yaml"; \
	done

report: venv
	$(BIN)/python -m app report $(ARGS)

thumbnails: venv
	$(BIN)/python -m app.commands.thumbnails

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
