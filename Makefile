# Each target sets up .venv itself, with what it needs: only Python 3.10+ must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check -qq

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test test-all test-backends test-jax test-torch test-beside features docs \
	clean

demo: $(VENV)/with-experiments
	$(BIN)/python -m experiments.demo

# A worker needs up to 5 GB. What is left is stolen from the slower one, test by test.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal \
	--durations=15

test: $(VENV)/with-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

# Every architecture too, instead of one of each family.
test-all: $(VENV)/with-test
	$(PYTEST) -m ""

# On JAX and on PyTorch, each in an environment without TensorFlow; then beside it:
# whether masks are the same, files, launchers. TESTS and BESIDE select some of them.
ANYWHERE := tests/backends tests/training tests/scores tests/budgets tests/methods \
	tests/exporting/test_writing.py tests/exporting/formats/test_torch_program.py \
	tests/test_compaction.py tests/test_compaction_own.py tests/test_profiling.py
test-backends: test-jax test-torch test-beside

test-jax test-torch: TESTS ?= $(ANYWHERE)
test-jax test-torch: test-%: $(VENV)-%/ready
	KERAS_BACKEND=$* $(VENV)-$*/bin/python -m pytest $(TESTS)

test-beside: BESIDE ?= tests/training/test_agreement.py tests/test_backends.py \
	tests/exporting/test_writing.py
test-beside: $(VENV)-jax/ready $(VENV)-torch/ready $(VENV)/with-test
	$(BIN)/python -m pytest -m "" $(BESIDE)

# What works on which backend, for docs/backends.md: the outcomes of marked tests.
FEATURES := -m feature --features=experiments/results/backends_
features: $(VENV)-jax/ready $(VENV)-torch/ready $(VENV)/with-test
	$(BIN)/python -m pytest $(FEATURES)tensorflow.json
	KERAS_BACKEND=jax $(VENV)-jax/bin/python -m pytest $(FEATURES)jax.json $(ANYWHERE)
	KERAS_BACKEND=torch $(VENV)-torch/bin/python -m pytest $(FEATURES)torch.json \
		$(ANYWHERE)

# Not the package itself, which would bring TensorFlow: it is run from here.
$(VENV)-%/ready: pyproject.toml
	@test -x $(VENV)-$*/bin/python || $(PYTHON) -m venv --upgrade-deps $(VENV)-$*
	@echo "installing $* into $(VENV)-$*: a few minutes the first time"
	@$(VENV)-$*/bin/pip --disable-pip-version-check -qq install --group $*
	@touch $@

# Runs the guides; a warning is an error.
docs: $(VENV)/with-docs
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going \
		--jobs auto --quiet docs build/docs
	@echo "Open build/docs/index.html in a browser."

# One stamp per extra: pip runs again only when pyproject.toml has changed.
$(VENV)/with-%: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv --upgrade-deps $(VENV)
	@echo "installing pgmpf_tf[$*] into $(VENV): a few minutes the first time"
	@$(PIP) install --editable ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-jax $(VENV)-torch build
