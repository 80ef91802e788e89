# Everything runs in a virtual environment inside the clone. Two commands to know: make demo, make test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help demo test test-slow lint format table clean

help:
	@echo "make demo       environment, generated sample, a training of a few minutes, evaluation"
	@echo "make test       the test suite (fast part); make test-slow: the long tests, too"
	@echo "make lint       ruff, mypy and the direction of imports; make format: rewrite to the house style"
	@echo "make table      the README's table of three attentions x three seeds on the sample"
	@echo "make clean      remove the environment and caches (data and runs stay)"

# The stamps are newer than the requirements when nothing has to be installed.
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
	@echo "Next: open report.html of the run's folder above, or point the same command at your own clips (README.md)."

# Files, not tests, go side by side: the trainings that a file's tests share are done once.
PYTEST := "$(BIN)/python" -m pytest --numprocesses auto --dist loadfile

test: $(VENV)/.dev
	$(PYTEST)

test-slow: $(VENV)/.dev
	$(PYTEST) -m "not gpu"

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
