# `make` alone lists the targets. `tuneline` and `dvc` do the work; the targets only set up and call them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python

.PHONY: help setup run test test-slow check ui bench bench-prepare bench-training bench-kill bench-faults clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup: ## make .venv from requirements.lock (every other target does this first); EXTRAS=search adds libraries
	@scripts/setup.sh

run: setup ## from raw data to a registered model: rebuild what is stale, gate, register
	@$(PY) -m tuneline exec -- python flows/run.py

test: setup ## run the tests (minutes); ARGS=--durations=20 lists the slowest
	@$(PY) -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder $(ARGS)

test-slow: setup ## run the long tests: the whole built-in corpus, kills, fresh clones
	@$(PY) -m pytest -q -m slow --numprocesses auto --maxprocesses 2 --dist loadscope $(ARGS)

check: setup ## check lint, format and types
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m pyright

ui: setup ## serve the MLflow UI and the Prefect UI on loopback, until Ctrl-C
	@$(PY) -m tuneline ui

bench: setup ## measure where the time of a run goes
	@$(PY) benchmarks/run.py

bench-kill: setup ## kill -9 during fine-tuning, then compare the weights
	@$(PY) benchmarks/kill.py $(ARGS)

bench-faults: setup ## kill every stage, fill disks, damage files; check what the next run makes
	@$(PY) benchmarks/faults.py $(ARGS)

bench-training: setup ## compare fine-tuning with other trainers
	@$(PY) benchmarks/training.py $(ARGS)

bench-prepare: setup ## measure speed and correctness of data preparation
	@$(PY) benchmarks/prepare.py $(ARGS)

clean: ## remove caches that can be made or fetched again; never the registry, data or DVC's cache
	@rm -rf .pytest_cache .ruff_cache .hypothesis work/scores work/models
	@find src flows tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
