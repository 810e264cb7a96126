# make demo    index the sample corpus, serve it, ask three queries; ONCE=1 ends by itself,
#              PROFILE=tiny runs the vLLM profile on a synthetic corpus
# make test    lint, types, all tests
# make test-slow  kills of training workers, of a VLM segmenter and of Ray nodes, reindexing with an
#              engine: some minutes
# make lint    lint and types only
# make bench   the benchmarks, results in runs/bench
# make setup   create .venv with the pinned set (the others call it)

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint bench setup

$(VENV)/.installed: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock \
		--editable '.[dev]' --config-settings editable_mode=compat
	$(BIN)/ffrs doctor --fix
	touch $@

$(VENV)/.installed-vllm: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock \
		--editable '.[dev,cpu]' --config-settings editable_mode=compat
	$(BIN)/ffrs doctor --fix
	touch $@

setup: $(VENV)/.installed

demo: $(VENV)/.installed$(if $(filter tiny,$(PROFILE)),-vllm)
	$(BIN)/python -m jobs.demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.installed-vllm lint
	$(BIN)/pytest -q --durations=10 -m "not slow" -n 2

test-slow: $(VENV)/.installed-vllm
	$(BIN)/pytest -q --durations=10 -m slow

bench: setup
	mkdir -p runs/bench
	$(BIN)/python -m jobs.bench recall --json runs/bench/recall.json
	$(BIN)/python -m jobs.bench index --json runs/bench/index.json
