# Two commands are enough on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1

.PHONY: install demo runtimes test lint clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "installed: $(VENV)/bin/lowwatt --help"

# Runtimes that the tests compare with. Where there is no wheel of one, its tests skip.
RUNTIMES := $(VENV)/.runtimes
runtimes: $(RUNTIMES)

$(RUNTIMES): $(STAMP)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt --group runtimes || echo "without other runtimes: their tests skip"
	@touch $@

demo: install
	$(VENV)/bin/lowwatt produce recipes/demo.yaml --out demo

test: install runtimes
	$(VENV)/bin/python -m pytest

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) build demo runs
