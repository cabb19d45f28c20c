# What a person types. `make` alone says what there is.
SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
MANIFEST ?= examples/two-regions.yaml
# The data center the drill switches off, and the load it does it under.
DC ?= chengdu-1
ARGS ?=

.PHONY: help up down build test drill chaos bench lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

up: build ## build and run everything of examples/two-regions.yaml until Ctrl-C
	$(TARGET)/release/dujiang up -f $(MANIFEST) $(ARGS)

down: ## stop what `up --detach` or a killed `up` left running
	$(TARGET)/release/dujiang down $(ARGS)

build: ## the release binaries, and PostgreSQL if it is missing
	@scripts/install-deps up
	cargo build --release --locked -p dujiang-cli -p dujiang-bank --bins

test: ## all tests, and what they need if it is missing
	@scripts/install-deps test
	@scripts/test $(ARGS)

# Strict: a figure beyond its limit is a failure, too.
drill: build ## kill a data center under load and prove that nothing acknowledged is lost
	TARGET=$(TARGET) scripts/drill dc-loss $(DC) --strict $(ARGS)

chaos: ## break networks, disks, clocks and processes in every way, into docs/fault-matrix.md
	@scripts/install-deps chaos
	cargo build --locked -p dujiang-cli -p dujiang-bank -p dujiang-lists -p dujiang-lab --bins
	$(TARGET)/debug/chaos $(ARGS)

bench: build ## the figures, each beside its peer's in the same run
	@scripts/install-deps bench
	bench/run $(ARGS)

lint: ## format and lints, as .ci/run demands them
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

clean: ## what was built; platforms' data is `dujiang down --purge`
	cargo clean
