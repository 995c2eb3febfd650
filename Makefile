# `make demo` and `make test` set up .venv themselves; they need only Python 3.10+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check -qq

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test clean

demo: $(VENV)/with-experiments
	$(BIN)/python -m experiments.demo

test: $(VENV)/with-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# One stamp per extra: pip runs again only when pyproject.toml has changed.
$(VENV)/with-%: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv --upgrade-deps $(VENV)
	@echo "installing pgmpf_tf[$*] into $(VENV): a few minutes the first time"
	@$(PIP) install --editable ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV)
