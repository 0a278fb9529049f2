# Needs Python 3.11 to 3.13 and make, nothing else: the environment is made in .venv, with the versions of constraints.txt.
# Nothing of ours is installed into it (the name `datasets` would collide with another package): run from this folder.
#
#   make demo     the whole system on this machine, ending in a table, a curve and a recommendation
#   make test     lint, types and the whole test suite
#   make lint     ruff and mypy alone
#   make install  the environment alone, without the face renderer and the test tools (what a cluster's nodes need)
#   make bench    installs what tests/benchmarks needs too
#   make clean    removes .venv, the tools' caches and what the demo made (never your own packs and results)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := demo
.DELETE_ON_ERROR:
.PHONY: demo test lint install bench clean

demo: $(VENV)/faces.stamp
	@$(BIN)/python -m search demo

# In two processes, shared out by tests/conftest.py. The closing line of pytest is the last line printed.
test: lint
	@$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

install: $(VENV)/core.stamp

bench: $(VENV)/bench.stamp

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis packs/demo results/demo

# A stamp is written when its step has succeeded, so that an interrupted installation is taken up again.
$(VENV)/made.stamp:
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 14) or sys.exit(f"Python 3.11, 3.12 or 3.13 is needed, but $(PYTHON) is {v[0]}.{v[1]}: try make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Lists the dependencies of pyproject.toml, one a line, and keeps the old file where they are the same: an edit to the
# linter's settings then installs nothing again.
$(VENV)/%.txt: pyproject.toml $(VENV)/made.stamp
	@$(BIN)/python -c 'import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; e = sys.argv[1]; print(*(p["dependencies"] if e == "core" else p["optional-dependencies"][e]), sep="\n")' $* > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(VENV)/core.stamp: $(VENV)/core.txt constraints.txt
	@echo "Installing the packages into $(VENV) (some minutes, once)"
	@$(PIP_INSTALL) -r $(VENV)/core.txt
	@touch $@

$(VENV)/faces.stamp: $(VENV)/core.stamp $(VENV)/faces.txt
	@echo "Installing the face renderer into $(VENV)"
	@$(PIP_INSTALL) -r $(VENV)/core.txt -r $(VENV)/faces.txt
	@touch $@

$(VENV)/dev.stamp: $(VENV)/faces.stamp $(VENV)/formats.txt $(VENV)/dev.txt
	@echo "Installing the test tools into $(VENV)"
	@$(PIP_INSTALL) -r $(VENV)/core.txt -r $(VENV)/formats.txt -r $(VENV)/dev.txt
	@touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp $(VENV)/bench.txt
	@echo "Installing the benchmarks' tools into $(VENV)"
	@$(PIP_INSTALL) -r $(VENV)/core.txt -r $(VENV)/bench.txt
	@touch $@

# Kept: they say what is installed.
.PRECIOUS: $(VENV)/%.txt
