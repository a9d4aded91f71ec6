# make lab-nat    build the home-router lab, prove every layer, leave it running
# make test       everything that this repository promises, checked
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-bench labs test nightly soak fuzz images bench clean
SHELL := /bin/sh
WIRELAB := .venv/bin/wirelab

help: ## show what can be done
	@echo "make lab-NAME     bring the lab NAME up, prove it, leave it running (make lab-nat)"
	@echo "make down-NAME    take it down"
	@echo "make labs         list the labs"
	@echo "make setup        only install what is missing"
	@echo "make test         check everything: style, types, import rules, unit tests, live labs"
	@echo "make nightly      the long forms of the tests: some 800 kills, 30 labs at once, 500 times up and down, all labs and twins in containers"
	@echo "make soak         verify all labs 20 times (RUNS=20) and compare the verdicts"
	@echo "make fuzz         hostile lab files, captures and command lines, guided by coverage (RUNS=100000 PART=labs)"
	@echo "make images     build the container images for --backend docker; only what changed (NAMES='host router')"
	@echo "make bench        measure everything beside the kernel alone, ip by hand, and Mininet (PART=up ROUNDS=5)"
	@echo "make clean        remove the environment and caches"

setup: ## install what is missing: system packages (sudo where needed), Python packages into .venv
	@tools/setup.sh

setup-dev:
	@tools/setup.sh dev

setup-bench:
	@tools/setup.sh bench

labs: setup ## list the labs
	@$(WIRELAB) labs

lab-%: setup
	@tools/lab.sh $(WIRELAB) "$*"

down-%: setup
	@$(WIRELAB) down "$*"

test: setup-dev
	@tools/test.sh

nightly: setup-dev ## the long forms of the tests; figures go to artefacts/nightly.jsonl
	@mkdir -p artefacts
	@NIGHTLY=1 FIGURES=artefacts/nightly.jsonl .venv/bin/python -m pytest -n 2 tests/live/test_kill_anywhere.py tests/live/test_fail_for_real.py
	@NIGHTLY=1 .venv/bin/python -m pytest -n 2 tests/docker/test_backend.py tests/live/test_verify_all.py
	@NIGHTLY=1 FIGURES=artefacts/nightly.jsonl .venv/bin/python -m pytest -n 0 tests/live/test_many.py

soak: setup ## verify all labs 20 times (RUNS=20) and compare the verdicts
	@.venv/bin/python tools/soak.py "$${RUNS:-20}"

fuzz: ## 100,000 hostile lab files, captures and command lines each (RUNS=100000, PART=labs|captures|words)
	@tools/setup.sh fuzz
	@.venv/bin/python tools/fuzz.py --runs "$${RUNS:-100000}" $(PART)

images: ## build the container images; only what changed
	@tools/setup.sh images
	@.venv/bin/python tools/images.py $(NAMES)


bench: setup-bench ## measure everything side by side in one run; PART=up only that part, ROUNDS=5
	@.venv/bin/python -m bench $(PART) --rounds "$${ROUNDS:-5}"

clean: ## remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info artefacts
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
