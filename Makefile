# `make` alone prints what there is. The work is done by `tuneline` and `dvc`; this file only sets up and names it.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python

.PHONY: help setup run test test-slow check ui bench bench-prepare bench-training bench-kill bench-faults clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup: ## make .venv from requirements.lock (every other target does this first)
	@scripts/setup.sh

run: setup ## from raw data to a registered model: rebuild what is stale, gate, register
	@$(PY) -m tuneline exec -- python flows/run.py

test: setup ## the tests (minutes)
	@$(PY) -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder $(ARGS)

test-slow: setup ## the long tests: the built-in corpus whole, kills, fresh clones
	@$(PY) -m pytest -q -m slow --numprocesses auto --maxprocesses 2 --dist loadscope $(ARGS)

check: setup ## lint, format and types
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m pyright

ui: setup ## the MLflow UI and the Prefect UI, on loopback, until Ctrl-C
	@$(PY) -m tuneline ui

bench: setup ## where the time of a whole run goes
	@$(PY) benchmarks/run.py

bench-kill: setup ## kill -9 in the middle of fine-tuning, then the same weights
	@$(PY) benchmarks/kill.py $(ARGS)

bench-faults: setup ## kills in every stage, full disks, damaged files: what a run says, and what the next one makes
	@$(PY) benchmarks/faults.py $(ARGS)

bench-training: setup ## fine-tuning beside what else does it
	@$(PY) benchmarks/training.py $(ARGS)

bench-prepare: setup ## how fast and how right the preparation of data is
	@$(PY) benchmarks/prepare.py $(ARGS)

clean: ## remove what tools cache and what can be fetched again; never the registry, data or DVC's cache
	@rm -rf .pytest_cache .ruff_cache .hypothesis work/scores work/models
	@find src flows tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
