# Everything happens in .venv, made again when pyproject.toml or constraints.txt changes; only `gpu` takes what is there.
PYTHON ?= python3
OUT ?= gpu-out
FIGURES ?= bench-out
MINUTES ?= 5
SEED ?= 1
INPUTS ?= 1000000000
BIN := .venv/bin
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

.PHONY: help demo test coverage test-kernel test-browser chromium lint docs package bench fuzz gpu
.NOTPARALLEL:

help:
	@echo "make demo         the experiment: unfreeze against bn_freeze(False)"
	@echo "make test         tests and doctests"
	@echo "make coverage     the lines that the tests run, all processes counted"
	@echo "make test-kernel  the kernel for GPUs in Triton's interpreter, on the CPU"
	@echo "make test-browser the pages of HTML in headless Chromium, which is installed where there is none"
	@echo "make lint         ruff, mypy, the order of the rooms"
	@echo "make docs         the pages, into site/"
	@echo "make package      wheel and sdist, into dist/, installed in an environment of their own and tried there"
	@echo "make bench        what everything costs beside its peers, into $(FIGURES)/"
	@echo "make fuzz         mutated files, for MINUTES=$(MINUTES) or INPUTS, from SEED=$(SEED)"
	@echo "make gpu          demo, tests and benchmarks on a CUDA device, into $(OUT)/, with the python3 that is there"

demo: .venv/.installed
	$(BIN)/freezeinspect demo

test: export OMP_NUM_THREADS = 1
test: .venv/.installed-test
	$(BIN)/pytest -n 2
	$(BIN)/pytest --doctest-modules freezeinspect --ignore freezeinspect/integrations --ignore freezeinspect/recorder/kernel.py

coverage: export OMP_NUM_THREADS = 1
coverage: .venv/.installed-test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --ignore tests/hostile  # what it runs must write no file, so it cannot be measured
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-kernel: .triton/.installed .venv/.installed-test
	PYTHONPATH=.triton $(BIN)/pytest tests/recorder/test_kernel.py

test-browser: export OMP_NUM_THREADS = 1
test-browser: .venv/.installed-test chromium
	CHROMIUM="$(CHROMIUM)" $(BIN)/pytest tests/browser

chromium: .venv/.installed-browser
	test -n "$(CHROMIUM)" \
	|| { apt-get update && apt-get install --yes --no-install-recommends chromium fonts-dejavu-core; } \
	|| $(BIN)/playwright install chromium \
	|| { echo "no Chromium, and none to be had: install one, or name it, as in make test-browser CHROMIUM=/path/to/it"; exit 1; }

lint: .venv/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict freezeinspect
	$(BIN)/lint-imports --no-logo

docs: export NO_MKDOCS_2_WARNING = 1
docs: .venv/.installed-docs
	$(BIN)/mkdocs build --strict --site-dir site

package: .venv/.installed-package
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	bash .ci/package dist

bench: .venv/.installed-bench chromium
	$(BIN)/python -m benchmarks "$(FIGURES)"

fuzz: .venv/.installed-test
	$(BIN)/python tests/hostile/fuzz.py $(MINUTES) $(SEED) $(INPUTS)

gpu:
	bash benchmarks/gpu.sh "$(OUT)"

# Beside .venv, not in it: where Triton is installed, torch.compile and torch.utils import it.
.triton/.installed: constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --upgrade --target .triton triton
	@touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable .
	@touch $@

.venv/.installed-%: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[$*]"
	@touch $@
