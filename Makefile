# make demo and make test each set up everything on a fresh clone: .venv with the pinned packages and the extension.
# Needed: Python >= 3.11 with headers and venv, a C++ compiler, make. CUDA is compiled, too, if an nvcc fits torch.
#
#   make demo PYTHON=python3.12    another Python
#   SOMVAE_EXT_CUDA=0 make test    CPU only, even if there is an nvcc

PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin

NATIVE := $(filter-out csrc/simt/%,$(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'))
CHROMIUM := $(shell for name in chromium chromium-browser google-chrome; do command -v $$name && break; done)
AXE := python_tests/browser/node_modules/.package-lock.json
FORMATTED = $(shell find csrc python_tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: build demo test test-all pytest lint docs coverage bench clean

build: .venv/built

demo: build
	$(BIN)/somvae fit digits --preset ordered --out demo --overwrite
	$(BIN)/somvae report demo

# PATH is set because the tests call cmake, and the build that they try out calls ninja. One worker runs all tests of a
# file, because they share what they build and train; python_tests/conftest.py says which files come first.
PYTEST = PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile \
	--no-loadscope-reorder

test: lint pytest

pytest: build
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

# The browser tests check accessibility with axe-core. If it cannot be fetched, these checks are skipped.
ifneq ($(and $(CHROMIUM),$(shell command -v npm)),)
pytest test-all: $(AXE)
endif

$(AXE): python_tests/browser/package-lock.json
	-npm ci --prefix python_tests/browser

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(FORMATTED)

# The documentation is built into build/docs. A warning is an error.
docs: build
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs

# Coverage is measured with a separate build of the library, in build/coverage.
coverage: .venv/packages
	PATH="$(BIN):$$PATH" $(BIN)/python .ci/measure_coverage.py

bench: build
	$(BIN)/somvae bench --quick --overwrite --out build/bench

clean:
	rm -rf .venv build demo *.egg-info somvae_ext/*.so .pytest_cache .hypothesis .mypy_cache .ruff_cache \
		python_tests/browser/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/built: .venv/packages setup.py pyproject.toml $(NATIVE)
	@echo "Building the extension, which takes a few minutes the first time."
	PATH="$(BIN):$$PATH" $(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/packages: constraints.txt
	@$(MAKE) --no-print-directory prerequisites
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --requirement constraints.txt
	@touch $@

# Says in one sentence what is missing, before anything is downloaded.
define need
	@( $(1) ) >/dev/null 2>&1 || { echo "somvae_ext: $(2)" >&2; exit 1; }
endef

.PHONY: prerequisites
prerequisites:
	$(call need,command -v $(PYTHON),Python 3.11 or newer is needed and '$(PYTHON)' was not found; name yours with 'make PYTHON=...'.)
	$(call need,$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))',Python 3.11 or newer is needed and '$(PYTHON)' is older; name another with 'make PYTHON=...'.)
	$(call need,$(PYTHON) -c 'import ensurepip$(comma) venv',$(PYTHON) lacks the venv module; on Debian 'apt install python3-venv' brings it.)
	$(call need,test -e "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h",$(PYTHON) lacks its headers (Python.h); on Debian 'apt install python3-dev' brings them.)
	$(call need,for c in $${CXX:-c++ g++ clang++}; do command -v $$c && exit; done; exit 1,a C++ compiler is needed and none was found (CXX$(comma) c++$(comma) g++$(comma) clang++); on Debian 'apt install g++' brings one.)

comma := ,
