# Everything runs in a virtual environment, .venv. Two commands to know: make demo, make test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help demo test test-slow fuzz lint format table clean

help:
	@echo "make demo       set up .venv, draw the sample, train for a few minutes, evaluate, write a report"
	@echo "make test       run the fast tests; make test-slow: the long ones, too"
	@echo "make fuzz       damage what the program reads and kill its scripts, for MINUTES=10"
	@echo "make lint       run ruff and mypy, and check the direction of imports; make format: reformat the code"
	@echo "make table      measure three attentions with three seeds each on the sample"
	@echo "make clean      remove .venv and caches (data and runs stay)"

# Stamps: newer than the requirements if nothing has to be installed.
$(VENV)/.core: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x "$(BIN)/python" || $(PYTHON) -m venv $(VENV)
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch "$@"

$(VENV)/.dev: requirements-dev.txt $(VENV)/.core
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch "$@"

demo: $(VENV)/.core
	"$(BIN)/python" Demo_AFEW_Attention.py --dataset sample --at_type 1
	"$(BIN)/python" Demo_AFEW_Attention.py --dataset sample --at_type 1 -e
	@echo
	@echo "Next: open report.html in the folder of the run above, or train on your own clips (README.md)."

# Files, not tests, run in parallel: the tests of a file share trainings.
PYTEST := "$(BIN)/python" -m pytest --numprocesses auto --dist loadfile

test: $(VENV)/.dev
	$(PYTEST)

test-slow: $(VENV)/.dev
	$(PYTEST) -m "not gpu"

# Another SEED damages in other ways.
MINUTES ?= 10
SEED    ?= 0

fuzz: $(VENV)/.dev
	OMP_NUM_THREADS=1 "$(BIN)/python" -m tests.fuzz --minutes $(MINUTES) --seed $(SEED)

lint: $(VENV)/.dev
	"$(BIN)/python" -m ruff check .
	"$(BIN)/python" -m ruff format --check .
	"$(BIN)/python" -m mypy
	"$(BIN)/lint-imports" --no-logo --no-cache

format: $(VENV)/.dev
	"$(BIN)/python" -m ruff check --fix .
	"$(BIN)/python" -m ruff format .

table: $(VENV)/.core
	"$(BIN)/python" benchmarks/sample_table.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
