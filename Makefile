# The two commands: `make demo` runs the main job on real input, `make test` proves the code. Both set everything up first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST_ARGS ?=

.PHONY: help setup demo test check generate control-plane bench bench-tap bench-operator bench-drift bench-rollouts bench-time-to-page bench-cardinality fuzz soak lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(STAMP) ## the virtual environment, with Triton from its wheel

$(STAMP): pyproject.toml constraints.txt scripts/setup
	@PYTHON="$(PYTHON)" VENV="$(VENV)" scripts/setup
	@touch $@

demo: setup ## train a VAE on real digits, bundle it, serve it on Triton behind the tap, measure it
	@$(BIN)/python examples/digits/demo.py

test: setup check ## everything: style, types, import contracts, unit, golden and wire tests
	@scripts/test-programs
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup ## style, types and import contracts only
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

generate: setup ## CRDs and other files made from the types
	@$(BIN)/python scripts/generate

control-plane: ## a real Kubernetes API server for the wire tests, built once from Debian's sources into the cache
	@scripts/control-plane/build

bench: setup ## Triton + tap against Triton, MLServer and KServe's ModelServer (about 10 minutes)
	@$(BIN)/python -m bench.serving

bench-tap: setup ## the tap against nginx and HAProxy (about 11 minutes)
	@$(BIN)/python -m bench.tap

bench-operator: setup ## hundreds of LatentModels on a real API server
	@$(BIN)/python -m bench.operator

bench-drift: setup ## drift detection: false alarms against the stated rate, cost, delay beside other libraries (an hour)
	@$(BIN)/python -m bench.drift_false_alarms
	@$(BIN)/python -m bench.drift_cost
	@$(BIN)/python -m bench.drift_traffic_cost
	@$(BIN)/python -m bench.drift_delay

bench-rollouts: setup ## good and bad versions through latentry up: what happened, who was harmed (about 15 minutes)
	@$(BIN)/python -m bench.rollouts

bench-time-to-page: setup ## faults against the project's alerts in real time (45 minutes)
	@$(BIN)/python -m bench.time_to_page

bench-cardinality: setup ## series that 50 models export (needs the digits bundle of `make demo`)
	@$(BIN)/python -m bench.cardinality

fuzz: setup ## the tap's observers, coverage-guided (10 minutes)
	@$(BIN)/python -m bench.fuzz_tap

soak: setup ## the tap under load for half an hour
	@$(BIN)/python -m bench.soak_tap

lock: setup ## renew constraints.txt from the packages now installed
	@(sed -n 1p constraints.txt; $(BIN)/pip freeze --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//' | sort -f) > constraints.new
	@mv constraints.new constraints.txt

clean: ## the virtual environment and everything made by runs
	rm -rf $(VENV) .latentry build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
