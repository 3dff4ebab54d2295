# An index of what can be done here. `make help` lists it.
.DEFAULT_GOAL := help
.PHONY: help up down build images test soak check lint generate bench fuzz

help: ## List these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

up: ## Install what is missing, build, start Berth on this machine and deploy an example
	@scripts/up

down: ## Stop Berth on this machine; the data stays
	@scripts/down

build: ## Build the release program, target/release/berth
	@cargo build --release --locked -p cli

images: ## Build the base images from Debian packages
	@images/build

test: ## Set up this machine for the tests and run them all
	@scripts/test

soak: ## Set up this machine, then try 200 random histories on each store, 200 kills of servers that share one, and 800 simulations
	@BERTH_SOAK_RUNS=200 scripts/test --run-ignored all -E 'test(history) + test(replicas) + test(simulation)'

check: ## Check the architecture's boundaries
	@cargo xtask check

lint: ## Check format and lints
	@cargo fmt --all --check && cargo clippy --workspace --all-targets --locked -- -D warnings

generate: ## Write the generated files: crds/*.yaml
	@cargo xtask generate

bench: ## Measure Berth beside its peers; writes bench/results/latest.json
	@scripts/bench

fuzz: ## Look for bytes that break the API server's parsers (FUZZ=name, FUZZ_SECONDS=60)
	@scripts/fuzz
