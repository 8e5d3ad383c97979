# Everything happens in .venv; nothing else on the machine is touched or needed (Python 3.11, make).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FLOORS := .venv-floors

.PHONY: demo test lint floors clean

demo: $(STAMP)
	$(BIN)/labelferry demo demo-run

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not cuda" -n 2 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)

# The tests with every library at the lowest version that pyproject.toml allows.
floors:
	test -x $(FLOORS)/bin/python || $(PYTHON) -m venv $(FLOORS)
	$(PYTHON) .ci/floors.py > $(FLOORS)/floors.txt
	$(FLOORS)/bin/python -m pip install --quiet -c constraints.txt -c $(FLOORS)/floors.txt -e ".[dev]"
	$(FLOORS)/bin/python -m pytest -m "not slow and not cuda" -n 2 --dist loadfile -W ignore::DeprecationWarning

clean:
	rm -rf $(VENV) $(FLOORS) demo-run
