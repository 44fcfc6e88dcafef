# Everything a developer types. Each target does its own set-up: environments under .venv-*/, results under build/.
# A second call does only what has changed, and needs no network.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
# environments and builds are shared between targets
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
# features of the wheel; `cargo test` has its own
FEATURES ?= python,gpu
# more arguments for pytest: make test ARGS="-k lstm -x"
ARGS ?=
LINUX := $(filter Linux,$(shell uname -s))
# manylinux_2_17 needs a linker that knows old glibcs: zig, from pip. Elsewhere the machine's own linker is right.
LINKER := $(if $(LINUX),--zig --compatibility manylinux_2_17,--compatibility off)
CARGO_HOME_DIR := $(or $(CARGO_HOME),$(HOME)/.cargo)
# no path of this machine in the binary
REMAP := --remap-path-prefix=$(CARGO_HOME_DIR)/registry/src=/crates --remap-path-prefix=$(CURDIR)=/seqcore
MATURIN = RUSTFLAGS="$${RUSTFLAGS:-} $(REMAP)" SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-1577836800} \
	PATH="$(CURDIR)/.venv-build/bin:$$PATH" .venv-build/bin/maturin
SOURCES := $(shell find src python build.rs Cargo.toml Cargo.lock pyproject.toml README.md LICENSE THIRD_PARTY.md \
	-type f ! -name '*.pyc' ! -name '*.so')

# tests meet the GPU as Mesa's software adapter; SEQCORE_GPU= (nothing) keeps the machine's own
LAVAPIPE := $(firstword $(wildcard /usr/share/vulkan/icd.d/lvp_icd*.json /etc/vulkan/icd.d/lvp_icd*.json \
	/usr/local/share/vulkan/icd.d/lvp_icd*.json))
SEQCORE_GPU ?= software
GPU_ENV := SEQCORE_GPU=$(SEQCORE_GPU) NODEVICE_SELECT=1 \
	$(if $(and $(filter software,$(SEQCORE_GPU)),$(LAVAPIPE)),VK_DRIVER_FILES=$(LAVAPIPE))
# pytest runs where the source tree is not importable, so that the installed wheel is what is tested
PYTEST = echo "== pytest" && mkdir -p build/run && cd build/run && $(GPU_ENV) PYTHONSAFEPATH=1
PYTEST_ARGS = -c ../../pyproject.toml --rootdir ../.. $(ARGS)
# what also runs on the oldest NumPy in `make test`; `make test-all` runs everything on it
BORDER := $(wildcard tests/test_tiny.py tests/contracts/test_arrays.py tests/contracts/test_bad_input.py)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- environments -----------------------------------------------------------------------------------------------

.PHONY: python
python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "seqcore needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "python3 lacks venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# requirements/NAME.txt is what .venv-NAME holds, besides the wheel; a changed list makes it anew
.venv-%/ready: requirements/%.txt | python
	@echo "== $(@D)"
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --disable-pip-version-check --quiet -r $<
	@touch $@
.PRECIOUS: .venv-%/ready

build/wheels/built: .venv-build/ready $(SOURCES)
	@echo "== wheel ($(FEATURES))"
	@rm -rf $(@D) && mkdir -p $(@D)
	@$(MATURIN) build --quiet --locked --release --strip $(LINKER) --features $(FEATURES) --out $(@D)
	@.venv-build/bin/python tools/wheel.py seal $(@D)/*.whl
	@touch $@

# entries that make panics and failing allocations to order: never shipped
build/wheels-testing/built: .venv-build/ready $(SOURCES)
	@echo "== wheel ($(FEATURES),testing)"
	@rm -rf $(@D) && mkdir -p $(@D)
	@$(MATURIN) build --quiet --locked --release --strip $(LINKER) --features $(FEATURES),testing --out $(@D)
	@touch $@

# the second line is for what the wheel itself requires; it is silent where that is there
define install
	@echo "== installing the wheel into $(1)"
	@$(1)/bin/python -m pip install --disable-pip-version-check --quiet --force-reinstall --no-deps $(2)/*.whl
	@$(1)/bin/python -m pip install --disable-pip-version-check --quiet $(2)/*.whl
	@$(1)/bin/python -m pip check >/dev/null
	@touch $(1)/installed
endef
.venv-demo/installed: .venv-demo/ready build/wheels/built
	$(call install,.venv-demo,build/wheels)
.venv-test/installed: .venv-test/ready build/wheels/built
	$(call install,.venv-test,build/wheels)
.venv-check/installed: .venv-check/ready build/wheels/built
	$(call install,.venv-check,build/wheels)
.venv-testing/installed: .venv-testing/ready build/wheels-testing/built
	$(call install,.venv-testing,build/wheels-testing)

# --- a first look -----------------------------------------------------------------------------------------------

DEMO := build/demo
.PHONY: demo
demo: .venv-demo/installed ## train a character model on Python's own sources for a minute, then let it write
	@.venv-demo/bin/seqcore info
	@mkdir -p $(DEMO)
	@echo "== training for a minute on the sources of Python's standard library"
	@# Python becomes the command: what stands between, as xargs would, ends at Ctrl-C before the command has saved
	@.venv-demo/bin/python -c 'import os, pathlib, sys, sysconfig; \
	  files = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")); \
	  os.execv(sys.argv[1], [*sys.argv[1:], *files])' .venv-demo/bin/seqcore lm train --hidden 256 --layers 2 --batch 50 \
	  --bptt 64 --dropout 0.2 --lr 2e-3 --minutes 1 --seed 1 --device auto \
	  --overwrite --log $(DEMO)/losses.jsonl --out $(DEMO)/model.safetensors
	@echo "== what it writes"
	@.venv-demo/bin/seqcore lm generate $(DEMO)/model.safetensors --prompt "def " --temperature 0.8 --length 400 \
	  --seed 1
	@printf '%s\n' '' '== what to try next' \
	  '  longer, then it writes better; Ctrl-C saves and says how to go on:' \
	  '    .venv-demo/bin/seqcore lm train YOUR.txt --minutes 10 --out mine.safetensors' \
	  '  another beginning, and bolder (above 1) or safer (towards 0) choices:' \
	  '    .venv-demo/bin/seqcore lm generate $(DEMO)/model.safetensors --prompt "class " --temperature 0.5' \
	  '  the same on a GPU:  --device gpu;   what this machine has:  .venv-demo/bin/seqcore info' \
	  '  does it agree with PyTorch?  make test'

# --- tests ------------------------------------------------------------------------------------------------------

.PHONY: test
test: driver test-rust test-python test-testing test-numpy ## all tests but the long ones, against the installed wheel
	@echo "== make test: passed"

.PHONY: test-all
test-all: driver test-rust test-models test-sweep .venv-test/installed build/numpy-lowest/ready test-testing ## the long sweeps too, the team under a model checker, everything on the oldest NumPy
	@$(PYTEST) ../../.venv-test/bin/pytest $(PYTEST_ARGS) --all ../../tests
	@$(PYTEST) PYTHONPATH=$(CURDIR)/build/numpy-lowest ../../.venv-test/bin/pytest $(PYTEST_ARGS) ../../tests
	@echo "== make test-all: passed"

.PHONY: driver
driver:
ifneq ($(LINUX),)
ifeq ($(wildcard /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json),)
	@echo "No Vulkan driver here: GPU tests will be skipped. For a software one, on Debian and Ubuntu:"
	@echo "  sudo apt-get install mesa-vulkan-drivers libvulkan1"
endif
endif

.PHONY: test-rust test-rust-alone test-rust-gpu
test-rust: test-rust-alone test-rust-gpu
test-rust-alone:
	@echo "== cargo test"
	@cargo test --locked -- --show-output | $(PYTHON) tools/rust_skips.py
test-rust-gpu:
	@echo "== cargo test --features gpu,testing"
	@$(GPU_ENV) cargo test --locked --features gpu,testing -- --show-output | $(PYTHON) tools/rust_skips.py

# every order in which the team's threads can meet
.PHONY: test-models
test-models:
	@echo "== the thread team under loom"
	@RUSTFLAGS="--cfg loom" cargo test --locked --release --target-dir target/loom --lib models:: -- --test-threads=1

# exp, ln, sigmoid and tanh of every float32
.PHONY: test-sweep
test-sweep:
	@echo "== every float32"
	@cargo test --locked --release --lib every_number -- --ignored --nocapture

.PHONY: test-python
test-python: .venv-test/installed
	@$(PYTEST) ../../.venv-test/bin/pytest $(PYTEST_ARGS) ../../tests

# tests that need panics and failing allocations to order run on a wheel of their own, in an environment of its own
.PHONY: test-testing
test-testing: $(if $(shell grep -rlsE 'mark\.testing\b' tests --include='test_*.py'),.venv-testing/installed)
ifneq ($(shell grep -rlsE 'mark\.testing\b' tests --include='test_*.py'),)
	@$(PYTEST) ../../.venv-testing/bin/pytest $(PYTEST_ARGS) --testing \
	  $(addprefix ../../,$(shell grep -rlsE 'mark\.testing\b' tests --include='test_*.py'))
endif

# from 3.13 on the oldest NumPy that has wheels is newer than 2.0
build/numpy-lowest/ready: .venv-test/ready
	@echo "== oldest NumPy"
	@rm -rf $(@D)
	@.venv-test/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --target $(@D) \
	  "$$(.venv-test/bin/python -c 'import sys; v = sys.version_info; \
	    print("numpy==2.0.0" if v < (3, 13) else "numpy==2.1.0" if v < (3, 14) else "numpy==2.3.2")')"
	@touch $@

.PHONY: test-numpy
ifneq ($(BORDER),)
test-numpy: .venv-test/installed build/numpy-lowest/ready
	@$(PYTEST) PYTHONPATH=$(CURDIR)/build/numpy-lowest ../../.venv-test/bin/pytest $(PYTEST_ARGS) $(addprefix ../../,$(BORDER))
else
test-numpy:
endif

# --- checks -----------------------------------------------------------------------------------------------------

.PHONY: check
check: check-format check-lint check-types check-walls check-generated docs check-size ## format, lint, types, import graph, stub, notices, docs (make -k check: all of them)
	@echo "== make check: passed"

.PHONY: check-format
check-format: .venv-check/ready
	cargo fmt --check
	.venv-check/bin/ruff format --check .

# no panic in the library: only tests may unwrap
.PHONY: check-lint
check-lint: .venv-check/ready
	cargo clippy --quiet --locked --all-targets -- -D warnings
	cargo clippy --quiet --locked --all-targets --features $(FEATURES) -- -D warnings
	cargo clippy --quiet --locked --lib --features $(FEATURES) -- -D clippy::unwrap_used -D clippy::expect_used -D clippy::panic
	.venv-check/bin/ruff check .

.PHONY: check-types
check-types: .venv-check/installed
	.venv-check/bin/mypy
	cd build && ../.venv-check/bin/python -m mypy.stubtest seqcore._core

.PHONY: check-walls
check-walls: .venv-check/installed
	PYTHONPATH=python .venv-check/bin/lint-imports
	@$(PYTEST) ../../.venv-check/bin/pytest $(PYTEST_ARGS) -q ../../tests/contracts/test_walls.py

.PHONY: check-generated
check-generated:
	$(PYTHON) tools/stubs.py --check
	$(PYTHON) tools/third_party.py --check

.PHONY: check-size
check-size:
	@$(PYTHON) tools/sizes.py
	@$(PYTHON) tools/cited.py --strict

.PHONY: docs
docs: .venv-check/ready ## the site, under site/
	NO_MKDOCS_2_WARNING=1 .venv-check/bin/mkdocs build --quiet --strict

# --- making -----------------------------------------------------------------------------------------------------

.PHONY: stubs
stubs: ## write python/seqcore/_core.pyi from the Rust sources
	@$(PYTHON) tools/stubs.py

.PHONY: notices
notices: ## write THIRD_PARTY.md from Cargo.lock
	@$(PYTHON) tools/third_party.py

.PHONY: wheel
wheel: build/wheels/built ## the wheel and the source distribution, checked, under dist/
	@rm -rf dist && mkdir -p dist && cp build/wheels/*.whl dist/
	@$(MATURIN) sdist --out dist 2>&1 | tail -n 1
	@.venv-build/bin/python tools/wheel.py check dist/*.whl
	@.venv-build/bin/abi3audit --strict --summary dist/*.whl
	@ls -l dist

.PHONY: bench
bench: .venv-test/installed ## ratios to PyTorch on this machine, one thread and all (BENCH=benches/FILE.py for one table)
	@for table in $(or $(BENCH),$(filter-out benches/paired.py,$(sort $(wildcard benches/*.py benches/parity/*.py)))); do \
	  for threads in 1 0; do echo "== $$table --threads $$threads"; .venv-test/bin/python $$table --threads $$threads; done; \
	done

.PHONY: clean
clean: ## remove everything that can be made again
	rm -rf .venv .venv-* build dist site target .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
