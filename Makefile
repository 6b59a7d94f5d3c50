# Two commands a newcomer needs, and what developers run besides. VENV=DIR puts the environment elsewhere.
VENV ?= .venv
PY = $(VENV)/bin/python
LOCK = .ci/constraints.txt

DATA ?= data
RUN ?= run
DEVICE ?= cpu

.PHONY: demo test quick lint docs lock audit talk-weights

demo: $(VENV)/base  ## install, then watch the shipped clip: dashboard on http://127.0.0.1:8765/
	$(PY) -m stream --demo

test: $(VENV)/test  ## install with the test extra, then run the suite
	$(PY) -m pytest

quick: $(VENV)/test  ## the suite without the tests marked slow
	$(PY) -m pytest -m "not slow"

lint: $(VENV)/test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PY) .ci/prose.py

docs: $(VENV)-docs/done  ## build the site into build/site; fails on a dead link, a missing anchor or a broken docstring
	$(VENV)-docs/bin/sphinx-build -q -E -W --keep-going -c docs . build/site
	@echo "open build/site/index.html"

POOL = $(PY) -m engine.training.pools.pool --actors $(RUN)/ACTORS
FOOTAGE = $(PY) -m engine.training.film.footage --data $(DATA)

talk-weights: $(RUN)/ACTORS/done  ## pools and weights of the recipe `talk` in RUN, from DATA; goes on where it stood
	$(POOL) --mocap $(DATA)/mocap --out $(RUN)/MOCAP --sequences 4000 --seed 1
	$(POOL) --clean --lively --out $(RUN)/MADE_CLEAN --sequences 2000 --seed 2
	$(POOL) --split tune --lively --out $(RUN)/TUNE_LIVELY --sequences 96 --seed 5
	$(FOOTAGE) --clean --split train --out $(RUN)/FOOTAGE_CLEAN --sequences 2400 --seed 1
	$(FOOTAGE) --split tune --out $(RUN)/TUNE_FOOTAGE --sequences 128 --seed 7
	cd $(RUN) && $(abspath $(PY)) -m engine.train --recipe talk --device $(DEVICE) --out talk

$(RUN)/ACTORS/done: | $(VENV)/test
	$(PY) -m engine.training.generator.actors --data $(DATA) --out $(@D)
	touch $@

lock:  ## the newest versions that fit pyproject.toml, from a new environment; commit it once the suite passes with it
	python3 -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/pip install -q -e '.[test]'
	{ sed -n '/^#/p' $(LOCK); $(VENV)-lock/bin/pip freeze --exclude-editable | sed 's/+cpu$$//'; } > $(LOCK).new
	mv $(LOCK).new $(LOCK)

audit:  ## known vulnerabilities of what is locked; needs pypi.org, fails where a package could not be asked about
	python3 -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install -q pip-audit
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --no-deps -r $(LOCK)

$(PY):
	python3 -m venv $(VENV)

$(VENV)/base: pyproject.toml | $(PY)
	$(PY) -m pip install -q -e .
	touch $@

$(VENV)/test: pyproject.toml $(LOCK) | $(PY)
	$(PY) -m pip install -q -c $(LOCK) -e '.[test]'
	touch $@ $(VENV)/base

$(VENV)-docs/done: pyproject.toml $(LOCK)
	python3 -m venv $(VENV)-docs
	$(VENV)-docs/bin/pip install -q -c $(LOCK) -e '.[docs]'
	touch $@
