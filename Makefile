# Everything happens in .venv; nothing outside this folder is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Two cores have three workers: while one test waits, another computes.
PARALLEL := --numprocesses=3 --dist=worksteal --max-worker-restart=0
WORKSHOPS := benchmarks calibration export runtimes training
PIP    := $(BIN)/python -m pip
# Older ones than this cannot take some files with hashes and others without.
# Bytecode of what is imported is made then; that of all that is installed is half of the time.
INSTALL = PIP_CONSTRAINT= $(PIP) install --quiet 'pip>=26.3' && $(PIP) install --no-compile
# Each pin with its hashes: pip refuses any other file, and takes this project and torch without one.
export PIP_CONSTRAINT := $(CURDIR)/constraints-hashed.txt
export PIP_NO_REQUIRE_HASHES := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Bytecode is kept: pytest rewrites every test's assertions, which is half of what `quick` collects.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo help test tests quick dev gpu-check triton-check fleet-check lint attack soak docs demo-bundle results pins clean
SOAK_SECONDS ?= 600
.DEFAULT_GOAL := demo

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

demo: $(BIN)/python  ## track a synthetic clip on this CPU, from nothing
	$(INSTALL) --editable '.[cpu]'
	$(BIN)/relo-edge demo --output demo_out

test: $(BIN)/python  ## lint, type-check and run every test that this machine can run
	$(INSTALL) --editable '.[dev]'
	$(MAKE) --no-print-directory --jobs=2 lint tests

tests:
	$(BIN)/pytest $(PARALLEL)

quick: lint  ## the inner loop, after `make dev` or `make test`: lint, types and the tests that are not slow
	$(BIN)/pytest $(PARALLEL) -m 'not slow and not gpu'

dev: $(BIN)/python  ## an install that editors and type checkers can follow
	$(INSTALL) --editable '.[dev]' --config-settings editable_mode=strict

# The one command for a machine with a GPU; without one it says so. Needs no network where
# PYTHON has torch, onnx, onnxruntime, cuda-python, numpy, OpenCV, typer and pytest.
gpu-check:  ## GPU tests, then times and parity of every runtime, into benchmarks/results/
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) tests/gpu_check.py

# The wheel asks for NumPy 1; only the server in it is used, so its own requirements are left out.
triton-check: $(BIN)/python  ## the Triton client's tests on a real server, from a wheel of 55 MB
	$(INSTALL) --editable '.[dev]'
	$(INSTALL) --no-deps nvidia-pytriton
	$(BIN)/pytest tests/relo_edge/triton tests/examples -k tritonserver

fleet-check: $(BIN)/python  ## trackers on a local Ray cluster of two replicas, one of which is killed
	$(INSTALL) --editable '.[dev,fleet]'
	$(BIN)/pytest tests/relo_edge/fleet

# mypy sees the package as it installs: the core with the workshops inside it.
lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .types && mkdir -p .types/relo_edge
	ln -s $(CURDIR)/relo_edge/* $(addprefix $(CURDIR)/,$(WORKSHOPS)) .types/relo_edge/
	cd .types && ../$(BIN)/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p relo_edge

soak: $(BIN)/python  ## the loop behind track, then the live page: table and gate; exit 1 if it fails
	$(BIN)/python -m relo_edge.benchmarks.soak.run demo --seconds $(SOAK_SECONDS)

attack: $(BIN)/python  ## every hostile file that we know of, with a table of what was held
	$(BIN)/python tests/attack/run.py

docs: $(BIN)/python  ## the site, into docs/_build; a broken link or reference fails
	$(INSTALL) --editable '.[docs]'
	$(BIN)/python docs/make_cli_page.py
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build

demo-bundle: $(BIN)/python  ## the built-in bundle again, after a change of its weights or the exporter
	$(BIN)/python -c 'from relo_edge.export.demo import ship_demo_bundle; ship_demo_bundle()'

results:  ## README's table of measurements, from benchmarks/results
	$(BIN)/python -m relo_edge.benchmarks.report.readme_table

pins:  ## constraints-hashed.txt anew, after a change of constraints.txt; needs uv
	$(BIN)/python .ci/hash_pins.py

clean:  ## remove what make made
	rm -rf $(VENV) .types build dist *.egg-info demo_out docs/_build
