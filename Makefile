# Two commands a newcomer needs, and what developers run besides. VENV=DIR puts the environment elsewhere.
VENV ?= .venv
PY = $(VENV)/bin/python

.PHONY: demo test lint

demo: $(VENV)/base  ## install, then watch the shipped clip: dashboard on http://127.0.0.1:8765/
	$(PY) -m stream --demo

test: $(VENV)/test  ## install with the test extra, then run the suite
	$(PY) -m pytest

lint: $(VENV)/test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(PY):
	python3 -m venv $(VENV)

$(VENV)/base: pyproject.toml | $(PY)
	$(PY) -m pip install -q -e .
	touch $@

$(VENV)/test: pyproject.toml | $(PY)
	$(PY) -m pip install -q -e '.[test]'
	touch $@ $(VENV)/base
