# make demo   sets up, trains on real data in all three modes, compares with plain Keras, draws demo/loss.png
# make test   sets up, runs the linters and all tests, by two processes (WORKERS=0: by one)
# make soak   the fault suite in its long form, MINUTES of it; goes on where the last call stopped
# make lint | bench | clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
MINUTES ?= 120
SUITES ?= kernels writers price transport step fit dropin search xla
SOURCES := $(wildcard csrc/* elephas_fast/_core.p* elephas_fast/*.pxi) CMakeLists.txt pyproject.toml

# Where no Java is installed, the one that tools/java_from_pip.sh made is used.
ifeq ($(shell command -v java 2>/dev/null)$(JAVA_HOME),)
export JAVA_HOME := $(abspath $(VENV))/java
endif
export PATH := $(abspath $(BIN)):$(PATH)
export PYSPARK_PYTHON := $(abspath $(BIN))/python
export TF_CPP_MIN_LOG_LEVEL := 3

.PHONY: demo test soak lint bench clean

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py --out demo

test: lint
	$(BIN)/python -m pytest tests -q -n $(WORKERS)

soak: $(VENV)/.ready
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy elephas_fast benchmarks
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror csrc/*.hpp csrc/*.cpp tests/sanitizers/*.hpp tests/sanitizers/*.cpp
	$(BIN)/cython-lint elephas_fast/_core.pyx elephas_fast/_core.pxd elephas_fast/_arguments.pxi elephas_fast/_pushes.pxi elephas_fast/_shared.pxi

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks.peers.install elephas-7.3.0 torch
	mkdir -p build/bench
	for suite in $(SUITES); do $(BIN)/python -m benchmarks $$suite --json build/bench/$$suite.json || exit 1; done
	$(BIN)/python -m benchmarks.report $(SUITES:%=build/bench/%.json)

$(VENV)/.ready: $(SOURCES)
	tools/system.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e '.[dev,plot]'
	command -v java >/dev/null 2>&1 || test -x "$$JAVA_HOME/bin/java" || tools/java_from_pip.sh $(BIN)/python $(VENV)/java
	touch $@

clean:
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache
