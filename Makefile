# `make demo` and `make test` are all that a newcomer needs. Both install what they need into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
WORKERS ?= 2

.PHONY: demo test lint types smoke studies gallery programs bench clean

demo: $(VENV)/.installed  ## grow a small language model and compare it with training from nothing
	$(BIN)/warmstart study bert2bert --scale demo --out runs/demo

test: $(VENV)/.installed-test programs  ## everything the tests need, and the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/warmstart catalog --docs docs --check

types: $(VENV)/.installed-dev
	$(BIN)/mypy

smoke: $(VENV)/.installed  ## every study at smoke scale
	for study in $$(cd warmstart/recipes && ls */*.yaml); do \
	  slug=$$(basename $$study .yaml); \
	  $(BIN)/warmstart study $$slug --scale smoke --fresh --out runs/smoke/$$slug || exit 1; \
	done

studies: $(VENV)/.installed  ## every study at laptop scale, into results/
	for study in $$(cd warmstart/recipes && ls */*.yaml); do \
	  slug=$$(basename $$study .yaml); \
	  $(BIN)/warmstart study $$slug --scale laptop --out runs/laptop/$$slug --results results || exit 1; \
	done

gallery: $(VENV)/.installed  ## docs/gallery.md and its figures, from the study files and results
	$(BIN)/warmstart catalog --docs docs

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/throughput.py

programs:  ## a headless browser for the report's test, a speech synthesiser; without them (and without apt) their tests are left out
	@wanted=""; \
	command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || wanted="$$wanted chromium"; \
	command -v espeak-ng >/dev/null 2>&1 || wanted="$$wanted espeak-ng"; \
	[ -z "$$wanted" ] || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$wanted >/dev/null; } || \
	  echo "not found, so that their tests are left out:$$wanted"

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("warmstart needs Python >= 3.11; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install --upgrade --constraint constraints.txt setuptools wheel
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[test]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[test,dev]'
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
