.DEFAULT_GOAL := help
.PHONY: help venv demo test test-unit test-image-python test-golden test-netns test-compose lint fmt golden image bench bench-footprint lock engine clean

PYTEST = .venv/bin/pytest

help: ## list what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

venv: .venv/.stamp ## make .venv/bin/paraglider, and what its development needs

demo: .venv/.stamp ## balance 300 real connections over three backends, show where they went, take all down
	@.ci/demo

test: .venv/.stamp ## check the code, set up what the tests need, and run them all
	@.ci/test

test-unit: .venv/.stamp ## the tests that need neither root nor network
	@$(PYTEST) tests/unit

test-image-python: .venv/.stamp ## the unit and golden tests in the image's Python, with coverage
	@.ci/engine && image/build && .ci/unit

test-golden: .venv/.stamp ## the rules of named cases, against files
	@$(PYTEST) tests/golden

test-netns: .venv/.stamp ## real rules and packets in throwaway network namespaces
	@.ci/tools && $(PYTEST) tests/netns

test-compose: .venv/.stamp ## the image and the demos, in containers
	@.ci/tools && .ci/engine && $(PYTEST) tests/compose

lint: .venv/.stamp ## what CI says about style and types
	@.ci/lint

fmt: .venv/.stamp ## put the Python code into the one format
	@.venv/bin/ruff check --fix --quiet . && .venv/bin/ruff format .

golden: .venv/.stamp ## write the golden files anew, to be read in the diff
	@GOLDEN=write $(PYTEST) tests/golden

image: ## build the container image `paraglider`
	@.ci/engine && image/build

bench: .venv/.stamp ## measure
	@.ci/tools && .venv/bin/python -m bench

bench-footprint: .venv/.stamp ## as root: what the container takes at rest, and how soon it serves
	@.ci/engine && image/build && .venv/bin/python -m bench.footprint

lock: .venv/.stamp ## pin the newest versions of what pyproject.toml asks for
	@.ci/lock

engine: ## start a Docker engine where none answers; as root, install one first
	@.ci/engine

clean: ## remove what was built; images stay
	@rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	@find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.stamp: requirements.lock pyproject.toml .ci/venv
	@.ci/venv
