# Set-up is part of every target: the first call creates .venv and installs what is needed.
PYTHON ?= python3
DATA ?=
JOBS ?= 2
SAMPLE ?= 200
SEED ?= 0
MINUTES ?= 60
VENV := .venv
RUN := $(VENV)/bin/python
OPTIONAL := requirements-milvus.txt requirements-huggingface.txt requirements-kerashub.txt requirements-ray.txt

.PHONY: demo reproduce test test-slow mutants lint format clean browser

demo: $(VENV)/user  ## the whole path on the sample field, or on your images: make demo DATA=<source>
	$(RUN) -m benchmarks.demo $(if $(DATA),--data="$(DATA)")

reproduce: $(VENV)/user  ## the post's three steps, counted over 20 queries: a table and demo/report.html
	$(RUN) -m benchmarks.blog $(if $(DATA),--data="$(DATA)")

test: $(VENV)/developer browser  ## everything but the slow tests
	$(RUN) -m pytest -m "not slow" -n $(JOBS) --dist loadfile

test-slow: $(VENV)/developer  ## the slow tests alone
	$(RUN) -m pytest -m slow

# Tests of the page drive a Chromium: the one that is there, or else the system's package, or else Playwright's own.
browser: $(VENV)/developer
	@test -n "$$CHROMIUM" || command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  (test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq chromium >/dev/null) || \
	  $(RUN) -m playwright install chromium

mutants: $(VENV)/developer  ## would the tests notice? Changes the code at one place at a time; SAMPLE=0 for every place
	$(RUN) -m tests.mutants --sample=$(SAMPLE) --seed=$(SEED) --minutes=$(MINUTES) --jobs=$(JOBS)

lint: $(VENV)/developer
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/oxlint --deny-warnings web/static tests/page

format: $(VENV)/developer
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:  ## removes the environment and caches, never runs/ or demo/
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(VENV)/user: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed (TensorFlow has nothing for others): make PYTHON=python3.13 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/developer: requirements.txt requirements-dev.txt $(OPTIONAL) $(VENV)/user
	$(RUN) -m pip install --quiet -r requirements-dev.txt $(OPTIONAL:%=-r %)
	touch $@
