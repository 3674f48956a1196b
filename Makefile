# Every target works on a fresh checkout with Python 3.11 or newer and make; `make` alone explains.

PYTHON ?= python3.11 python3.12 python3.13 python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_CONSTRAINT=$(CURDIR)/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

SERVE_EXTRAS := onnx,litert,build
DEV_EXTRAS := onnx,litert,ray,build,train,plot,simulate,dev
LOCK_EXTRAS := $(DEV_EXTRAS),edgetpu
SERVE_STAMP := $(VENV)/.serve-installed
DEV_STAMP := $(VENV)/.dev-installed
GPU_VENV := .venv-gpu
GPU_STAMP := $(GPU_VENV)/.installed
GPU_TOOLS := onnx psutil pytest pytest-asyncio
PROTO := mnv4serve/v1/classifier.proto

.DEFAULT_GOAL := help
.PHONY: help serve test test-gpu check lint types layers size protos format proto bench evaluate peers soak wheel lock clean

help:  ## Explain what there is
	@echo 'mnv4serve: the most accurate MobileNetV4 that answers within your budget.'
	@echo
	@echo 'Start here:'
	@echo '  make serve                          installs, builds, measures this machine, then serves'
	@echo '  make serve ARGS="--port 8080"       ARGS passes flags on; see them with ARGS=--help'
	@echo '  curl --data-binary @models/examples/golf_ball.jpg "http://127.0.0.1:8000/classify?budget_ms=5"'
	@echo
	@echo 'Targets:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'Variables:'
	@echo '  ARGS                flags for serve, test (pytest) and bench'
	@echo '  PYTHON              the interpreter .venv is made with; the first of 3.11, 3.12, 3.13 by default'
	@echo '  LOADTESTS_PHOTOS    folder of JPEGs for bench and soak; the example picture by default'

# ---- environments: one .venv, two stamps, so that serving does not wait for the test tools

$(BIN)/python:
	@for candidate in $(PYTHON); do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo 'mnv4serve needs Python 3.11 or newer: install it, or name one: make PYTHON=/path/to/python3.11' >&2; \
	  exit 1; \
	fi; \
	if ! $$found -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$found has no venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV)

# Linux wheels of torch on PyPI carry gigabytes of CUDA, so PyTorch's CPU index is tried first. The
# alarm bounds the probe as a whole, name look-up included.
$(SERVE_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	@torch=$$(grep '^torch==' constraints.txt); \
	if $(BIN)/python -c "import sys; from importlib.metadata import version; sys.exit('torch==' + version('torch').split('+')[0] != '$$torch')" 2>/dev/null; then \
	  exit 0; \
	fi; \
	if [ "$$(uname -s)" = Linux ] && $(BIN)/python -c 'import signal, urllib.request; signal.alarm(3); urllib.request.urlopen("$(TORCH_CPU_INDEX)/torch/", timeout=3)' >/dev/null 2>&1; then \
	  echo "Installing $$torch from PyTorch's CPU index"; \
	  $(PIP) install --no-deps --index-url $(TORCH_CPU_INDEX) $$torch && exit 0; \
	fi; \
	echo "Installing $$torch"; \
	$(PIP) install $$torch
	@echo 'Installing mnv4serve with what serves and builds (once; a minute or two)'
	@$(PIP) install --editable '.[$(SERVE_EXTRAS)]'
	@touch $@

$(DEV_STAMP): $(SERVE_STAMP)
	@echo 'Installing the test tools (once)'
	@$(PIP) install --editable '.[$(DEV_EXTRAS)]'
	@touch $@

# An environment of its own: the CUDA builds install the same import packages as those for CPUs.
$(GPU_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@test -x $(GPU_VENV)/bin/python || $(BIN)/python -m venv $(GPU_VENV)
	@echo 'Installing PyTorch and ONNX Runtime with CUDA into $(GPU_VENV) (once; several gigabytes)'
	@PIP_CONSTRAINT=$(CURDIR)/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	  $(GPU_VENV)/bin/python -m pip install --editable '.[gpu]' $(GPU_TOOLS)
	@touch $@

# ---- what a user runs

serve: $(SERVE_STAMP)  ## Serve on http://127.0.0.1:8000 and gRPC 9000
	@$(BIN)/mnv4serve serve $(ARGS)

bench: $(DEV_STAMP)  ## Measure latency, overhead and throughput on this machine
	@$(BIN)/python -m loadtests.bench $(ARGS)

evaluate: $(DEV_STAMP)  ## Compare routing policies: simulated, on stub devices, on real models
	@$(BIN)/python -m loadtests.evaluate $(ARGS)

peers: $(DEV_STAMP)  ## Measure beside mosec, Triton, BentoML, LitServe, MLServer, Ray Serve and Starlette
	@$(BIN)/python -m loadtests.peers $(ARGS)

soak: $(DEV_STAMP)  ## Send 10,000 mixed requests and look for leaks
	@$(BIN)/python -m loadtests.soak $(ARGS)

# ---- what a developer runs

test: $(DEV_STAMP)  ## Run the tests
	@$(BIN)/python -m pytest $(ARGS)

test-gpu:  ## Certify the GPU backends on this machine's NVIDIA GPU
	@nvidia-smi >/dev/null 2>&1 || { echo 'make test-gpu needs an NVIDIA GPU and its driver: nvidia-smi finds none' >&2; exit 1; }
	@$(MAKE) --no-print-directory $(GPU_STAMP)
	@$(GPU_VENV)/bin/mnv4serve doctor --backend cuda
	@# What PyTorch warns of while it compiles must not become an error that it gives up on.
	@$(GPU_VENV)/bin/python -m pytest -W default tests/gpu $(ARGS)

check: lint types layers size protos  ## Run everything that needs no test run

lint: $(DEV_STAMP)  ## Lint and formatting (ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(DEV_STAMP)  ## Types (mypy --strict)
	@$(BIN)/mypy

layers: $(DEV_STAMP)  ## Imports go downwards only (import-linter)
	@$(BIN)/lint-imports

size:  ## No file over 300 lines
	@find mnv4serve -name '*.py' -not -path '*/v1/*' | xargs awk \
	  'FNR == 301 {print FILENAME ": over 300 lines, split it"; bad = 1} END {exit bad}'

protos: $(DEV_STAMP)  ## Generated gRPC code is up to date
	@rm -rf build/protos && mkdir -p build/protos
	@$(call generate,build/protos)
	@for file in $$(cd build/protos && find . -name '*.py*'); do \
	  cmp -s build/protos/$$file $$file || { echo "$$file is out of date: run make proto" >&2; exit 1; }; \
	done

format: $(DEV_STAMP)  ## Format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

proto: $(DEV_STAMP)  ## Generate mnv4serve/v1 from protos/
	@$(call generate,.)

generate = $(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) $(PROTO)

wheel: $(DEV_STAMP)  ## Build dist/*.whl, models included
	@$(PIP) wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

# Resolves every extra together, without the pins in force, and writes the new pins. `gpu` stays
# out: it installs the same import package as `onnx`.
lock: $(BIN)/python  ## Pin the newest allowed versions in constraints.txt
	@mkdir -p build
	@$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --report build/lock.json \
	  '.[$(LOCK_EXTRAS)]' hatchling
	@$(BIN)/python -c 'import json; \
	  found = [item["metadata"] for item in json.load(open("build/lock.json"))["install"]]; \
	  pins = {m["name"].lower().replace("_", "-"): m["version"].split("+")[0] for m in found}; \
	  skip = ("mnv4serve", "nvidia-", "cuda-", "triton"); \
	  lines = [f"{n}=={v}" for n, v in sorted(pins.items()) if not n.startswith(skip)]; \
	  print("# Made by `make lock`; every extra but gpu.", *lines, sep="\n")' > build/constraints.txt
	@mv build/constraints.txt constraints.txt
	@echo "constraints.txt: $$(grep -c == constraints.txt) pins"

clean:  ## Remove the environment and everything built
	@rm -rf $(VENV) $(GPU_VENV) build dist results .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
