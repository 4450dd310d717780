# The commands of this project. Needs Python 3.11 or newer and make; everything else is installed into .venv.

VENV := .venv
PY := $(VENV)/bin/python
MANAGE := $(PY) manage.py
WORKERS ?= 3
PYTEST ?=
CHAOS ?=
LOAD ?=

# Containers often disable compiled modules; then each of many processes would compile all of Django.
unexport PYTHONDONTWRITEBYTECODE

# The first Python that is new enough; PYTHON=/path/to/python overrides this.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# uv is many times faster than pip; without it, pip installs the same files with the same hashes.
define install
	@echo "installing $(1)"
	@uv=$$(command -v uv || echo $(VENV)/bin/uv); \
	test -x "$$uv" || $(PY) -m pip install --quiet --disable-pip-version-check --timeout 10 --retries 1 \
		--require-hashes -r requirements/uv.txt || true; \
	{ test -x "$$uv" && "$$uv" pip install --quiet --python $(PY) --require-hashes -r $(1); } \
	|| $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
endef

.DEFAULT_GOAL := help
.PHONY: help run demo test coverage bench load chaos lint types fmt hooks messages lock reset

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.local ## start everything and print the address and the logins (PORT=8000)
	@$(MANAGE) up

demo: $(VENV)/.local ## the same, with simulated editors and incoming submissions
	@$(MANAGE) up --demo

test: $(VENV)/.dev ## the whole suite; PYTEST="-k live -x" passes arguments on
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal $(PYTEST)

coverage: $(VENV)/.dev ## the whole suite with branch coverage; the report is also in .local/coverage/html
	@rm -rf .local/coverage && mkdir -p .local/coverage
	@$(PY) -m coverage run -m pytest -n $(WORKERS) --dist worksteal $(PYTEST)
	@$(PY) -m coverage combine --quiet
	@$(PY) -m coverage html --quiet
	@$(PY) -m coverage report

bench: $(VENV)/.dev ## the benchmarks, each beside its reference; BENCH="append read" chooses
	@$(PY) -m benchmarks $(BENCH)

load: $(VENV)/.dev ## the load test; LOAD=--quick is its short form
	@$(PY) -m benchmarks.load $(LOAD)

LONG_TESTS := $(addprefix tests/events/test_, \
		interleavings.py model.py crashes.py head.py conflicts.py search.py seals.py standby.py) \
	$(addprefix tests/realtime/test_, failover.py lost_end.py partition.py) tests/browser/test_fault_matrix.py \
	$(addprefix tests/backoffice/, \
		api/test_fuzz.py api/test_schemathesis.py api/test_json_everywhere.py imports/test_dialect.py imports/test_rows.py)

chaos: $(VENV)/.dev ## the fault test, and the long form of the tests that try to break the log; CHAOS=--quick: in short
	@$(PY) -m benchmarks.chaos $(CHAOS)
	@test -n "$(CHAOS)" || LONG=1 $(PY) -m pytest -n 0 $(LONG_TESTS)

lint: $(VENV)/.dev ## style, formatting, system checks (a test finds missing migrations, because that needs a database)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m tests.template_lint
	@$(MANAGE) check --fail-level WARNING

types: $(VENV)/.dev ## mypy
	@$(PY) -m mypy

fmt: $(VENV)/.dev ## fix style and formatting
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

hooks: $(VENV)/.dev ## install the git hooks: ruff and mypy at each commit, make lint before a push
	@$(PY) -m pre_commit install

messages: $(VENV)/.dev ## collect and compile the translations (needs GNU gettext)
	@for domain in django djangojs; do $(MANAGE) makemessages --domain $$domain --locale fr --no-location --no-obsolete \
		--ignore '.venv/*' --ignore '.local/*' --ignore 'tests/*' || exit 1; done
	@$(MANAGE) compilemessages --locale fr --ignore '.venv/*'

# One resolution for Linux and macOS, Python 3.11 and newer; the smaller sets are subsets of the largest.
COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-build \
	--no-emit-index-url --no-annotate --no-header $(LOCK)

lock: $(VENV)/.made ## compile requirements/*.txt from pyproject.toml; LOCK=--upgrade for newer versions
	@test -x $(VENV)/bin/uv || $(PY) -m pip install --quiet --require-hashes -r requirements/uv.txt
	@$(COMPILE) pyproject.toml --all-extras -o requirements/dev.txt
	@$(COMPILE) pyproject.toml --extra embedded -c requirements/dev.txt -o requirements/local.txt
	@$(COMPILE) pyproject.toml -c requirements/dev.txt -o requirements/base.txt
	@echo uv | $(COMPILE) - -o requirements/uv.txt

reset: $(VENV)/.local ## delete the embedded databases and the sample logins
	@$(MANAGE) up --reset

# -- the environment: created once, updated when a lock file changes --------------------------------------------------

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or set PYTHON to its path"; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) \
		|| uv venv --quiet --seed --clear $(VENV) \
		|| { echo "no virtual environment: install Python's venv module (Debian: apt install python3-venv)"; exit 1; }
	@$(PY) -c "import pathlib, site; pathlib.Path(site.getsitepackages()[0], 'backoffice.pth').write_text('$(CURDIR)')"
	@touch $@

$(VENV)/.local: requirements/local.txt | $(VENV)/.made
	$(call install,requirements/local.txt)
	@touch $@

$(VENV)/.dev: requirements/dev.txt | $(VENV)/.made
	$(call install,requirements/dev.txt)
	@touch $@ $(VENV)/.local
