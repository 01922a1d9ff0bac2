# Everything a contributor or a user runs. `make` prints this list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OPA := .tools/opa
S3 := .tools/versitygw
UPSTREAM ?=
PARTS ?=
export PATH := $(CURDIR)/.tools:$(PATH)
export PYTHONDONTWRITEBYTECODE :=
# Images of Python set it; each of the many processes of a test run would compile every module anew.

.PHONY: help setup demo serve test lint types policy unit bench clean

help: ## Print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: pyproject.toml
	@echo "== Python environment (.venv)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet --compile-bytecode --editable . --group dev
	@touch $@

$(OPA): $(VENV)/.ready
	@echo "== Open Policy Agent (.tools/opa)"
	@$(BIN)/python -m regate_adapters.opa.install --into .tools

$(S3): $(VENV)/.ready
	@echo "== An S3 server for the tests (.tools/versitygw)"
	@$(BIN)/python -m regate_adapters.testing.s3 --into .tools

setup: $(VENV)/.ready $(OPA) ## Make the virtual environment and obtain OPA

demo: setup ## Two tenants ask the same question of one shared store
	@$(BIN)/regate demo

serve: upstream setup ## Run the gateway before a real backend: make serve UPSTREAM=http://host:port/v1
	@$(BIN)/regate serve --upstream $(UPSTREAM)

.PHONY: upstream
upstream:
	@test -n "$(UPSTREAM)" || { echo "say which backend: make serve UPSTREAM=http://127.0.0.1:11434/v1"; exit 2; }

test: setup ## Everything that CI runs
	@$(MAKE) --no-print-directory -j2 lint types policy $(S3)
	@$(MAKE) --no-print-directory unit

lint: setup ## ruff and the import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-cache

types: setup ## mypy, strict
	@$(BIN)/mypy

policy: setup ## opa fmt, check and test with full coverage
	@$(BIN)/python policy-tests/run.py

unit: setup $(S3) ## pytest, with as few open files as a shell usually allows
	@ulimit -S -n 1024; $(BIN)/python -m pytest -q -n $$($(BIN)/python -c 'import os; print(min(4, os.cpu_count() + 1))') --dist loadfile --no-loadscope-reorder

.PHONY: gcs
GCS := .tools/fake-gcs-server
$(GCS): $(VENV)/.ready
	@echo "== An emulator of Google Cloud Storage (.tools/fake-gcs-server), which takes minutes"
	@$(BIN)/python -m tests.gcs_emulator
gcs: setup $(GCS) ## The tests of Google Cloud Storage before an emulator, which is compiled first
	@$(BIN)/python -m pytest -q -k "google or gcs" tests/adapters/files

.PHONY: fleet
FLEET_TESTS ?= tests/e2e
fleet: setup ## PostgreSQL, Redis, two gateways of two workers each, and the API's tests against them: make fleet FLEET_TESTS=path
	@ulimit -S -n 1024; $(BIN)/python -m pytest -q --fleet $(FLEET_TESTS)

bench: setup ## Decisions, overhead, retrieval quality, 100,000 vectors: make bench PARTS="policy vectors"
	@$(BIN)/python -m bench $(PARTS)

.PHONY: peers
peers: setup ## Install LiteLLM beside, in .venv-peers, for: make bench PARTS=peers
	@test -x .venv-peers/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-peers
	@VIRTUAL_ENV="$(CURDIR)/.venv-peers" $(BIN)/uv pip install --quiet 'litellm[proxy]>=1.80,<2'

.PHONY: scale
scale: setup ## What grows with what is stored, with tenants, with time: make scale PARTS="stores tenants"
	@$(BIN)/python -m bench.scale $(PARTS)

.PHONY: faults
faults: setup ## Break everything in turn under load: lost, doubled, leaked, time to recover: make faults PARTS="opa postgres"
	@ulimit -S -n 4096 2>/dev/null; $(BIN)/python -m bench.faults $(PARTS)

.PHONY: prove
N ?= 100000
SEED ?=
prove: setup ## Random policies: every store against OPA, N decisions on each: make prove N=100000 SEED=1
	@$(BIN)/python -m regate_adapters.testing.proof --decisions $(N) $(if $(SEED),--seed $(SEED))

.PHONY: engines
DECISIONS ?= 20000
engines: setup ## Try every vector engine that can be had (Maven and Go for two of them), and write docs/engine-table.md
	@ulimit -S -n 4096 2>/dev/null; $(BIN)/python -m tests.engines --into .tools --decisions $(DECISIONS)
	@ulimit -S -n 4096 2>/dev/null; $(BIN)/python -m pytest -q --engines tests/adapters/vector

.PHONY: crash
ROUNDS ?= 10
crash: setup ## Kill the gateway at every commit, and amid many requests: make crash ROUNDS=10 (about ten minutes)
	@CRASH_EVERY=1 CRASH_ROUNDS=$(ROUNDS) $(BIN)/pytest -q -s tests/e2e/test_crash.py

CLIENTS := .venv-clients
NODE_CLIENTS := .tools/clients-node

$(CLIENTS)/.ready: tests/clients/requirements.txt $(VENV)/.ready
	@echo "== Python clients (.venv-clients)"
	@test -x $(CLIENTS)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(CLIENTS)
	@VIRTUAL_ENV="$(CURDIR)/$(CLIENTS)" $(BIN)/uv pip install --quiet --requirement $<
	@touch $@

$(NODE_CLIENTS)/.ready: tests/clients/heavy/package.json
	@echo "== Node clients (.tools/clients-node)"
	@mkdir -p $(NODE_CLIENTS) && cp $< $(NODE_CLIENTS)/
	@npm install --prefix $(NODE_CLIENTS) --no-package-lock --no-audit --no-fund --no-engine-strict --loglevel=error
	@touch $@

.PHONY: clients openresponses
clients: setup $(CLIENTS)/.ready $(NODE_CLIENTS)/.ready ## The clients too heavy for every run: LangChain's own tests, CrewAI, openai for Node, Go and Java, AI SDK, Codex, a real engine (needs npm)
	@REGATE_PYTHON="$(CURDIR)/$(BIN)/python" $(CLIENTS)/bin/python -m pytest -q -W default --disable-warnings --confcutdir tests/clients tests/clients/heavy
	@$(BIN)/pytest -q tests/adapters/mcp/test_server_everything.py

SUITE ?=
openresponses: setup $(NODE_CLIENTS)/.ready ## Run a local copy of the Open Responses acceptance tests: make openresponses SUITE=path
	@test -n "$(SUITE)" || { echo "say where the copy is: make openresponses SUITE=path"; exit 2; }
	@PYTHONPATH=. $(BIN)/python -m tests.clients.openresponses $(SUITE)

clean: ## Remove what the commands above made
	rm -rf $(VENV) $(CLIENTS) .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
