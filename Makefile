# make demo    a whole tree on this machine: centre, province, city, county, a test lecture
# make test    everything that CI runs: style, types, import contract, all tests
# make check   the quick part of it: no browser, no processes, SQLite only
# make bench   what a node costs on this machine, as a table
# make lock    resolve requirements-dev.lock anew
# make clean   remove .venv and caches

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input

.PHONY: demo test check bench lint lock clean
.DEFAULT_GOAL := demo

# Bytecode is made ahead: a machine may be told to keep none (PYTHONDONTWRITEBYTECODE), and then each
# of the many processes of a demo or a test would compile everything anew.
COMPILE := $(BIN)/python -m compileall -q relay media schedule web

demo: $(VENV)/.runtime
	@$(COMPILE)
	@$(BIN)/terrace demo $(ARGS)

test: lint
	@.ci/system-packages
	@$(COMPILE) tests
	@$(BIN)/pytest -n 2 $(ARGS)

check: lint
	@$(BIN)/pytest --ignore=tests/live --ignore=tests/chaos -m "not postgresql and not programs" $(ARGS)

bench: $(VENV)/.dev
	@$(BIN)/python -m tests.bench $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@said=$$($(BIN)/lint-imports) || { echo "$$said"; exit 1; }

# The stamps make a second run start at once. The demo takes the locked versions too, so that what
# was tested is what runs.
$(VENV)/.runtime: pyproject.toml requirements-dev.lock | $(VENV)/.created
	@echo "Installing Terrace into $(VENV) (a minute at first) ..."
	@$(PIP) install --constraint requirements-dev.lock --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml requirements-dev.lock | $(VENV)/.created
	@echo "Installing Terrace and its development tools into $(VENV) (a minute at first) ..."
	@$(PIP) install --requirement requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.created:
	@PYTHON="$(PYTHON)" .ci/make-venv "$(VENV)"
	@touch $@

# Resolved in an empty environment, so that nothing of this machine gets in. No addresses of package
# indexes stand in the file: pip's own configuration says where from.
lock:
	@rm -rf build/lock && PYTHON="$(PYTHON)" .ci/make-venv build/lock
	@build/lock/bin/python -m pip -qq --disable-pip-version-check install ".[dev]"
	@{ echo "# Exact versions for development, tests and the demo. Written by: make lock"; \
	   build/lock/bin/python -m pip --disable-pip-version-check freeze --all --exclude terrace --exclude pip; \
	 } > build/lock/requirements && mv build/lock/requirements requirements-dev.lock
	@rm -rf build *.egg-info

clean:
	@rm -rf $(VENV) build *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +
