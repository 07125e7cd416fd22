# Everything a developer types.  `make` alone prints this list.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
BESIDE := --numprocesses 4 --dist worksteal
EXTRAS := chain dashboard data dev graphql otel
RUN := chain dashboard data graphql
COMPILE := .venv-lock/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header

# Where it is set, each of a thousand processes would compile each library anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup setup-servers demo run test check prove bench lock clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/installed ## Make .venv with everything in it (again only when the lock changes)

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which with make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

setup-servers: setup ## Install the servers the tests run (PostgreSQL, RabbitMQ), if they are missing
	$(BIN)/python -m tests.servers install

demo: setup ## Run the demo: a few thousand usage events, priced and delivered
	$(BIN)/hareline demo $(ARGS)

run: setup ## Run a worker, the scheduler and the console in this terminal, reloading on change
	$(BIN)/hareline dev $(ARGS)

test: setup ## Run the tests, on servers of their own; one of them: make test ARGS="tests/unit -k settings"
	$(BIN)/python -m tests.servers test $(ARGS)

check: setup ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

prove: export HARELINE_TEST_PROMTOOL := required
prove: setup-servers ## Run the long campaigns and state machines, the tests ten times in a row, and the road on newer RabbitMQs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.prove.lock
	$(MAKE) --no-print-directory test ARGS="-rP tests/campaigns"
	$(MAKE) --no-print-directory test ARGS="tests/browser"
	HARELINE_TEST_ITEMS=10000 $(MAKE) --no-print-directory test ARGS="tests/acceptance/test_flows.py -k many_items"
	set -e; export HARELINE_TEST_ROADS=all; for round in 1 2 3 4 5 6 7 8 9 10; do echo "round $$round"; $(MAKE) --no-print-directory test; done
	HARELINE_TEST_EXAMPLES=1000 $(MAKE) --no-print-directory test ARGS="$(BESIDE) --timeout 3600 -k 'model_says'"
	set -e; for version in 4.0 4.3; do echo "RabbitMQ $$version"; \
		export HARELINE_TEST_RABBITMQ=$$version; $(BIN)/python -m tests.servers install; \
		$(MAKE) --no-print-directory test ARGS="$(BESIDE) tests/integration tests/conformance tests/acceptance"; done

bench: setup-servers ## Measure against Dramatiq alone and Celery; writes benchmarks/results.json
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.prove.lock
	$(BIN)/python -m benchmarks $(ARGS)

lock: ## Resolve the newest versions pyproject.toml allows: of development, of the image (run), of make prove and bench
	test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv; }
	$(COMPILE) --upgrade $(EXTRAS:%=--extra %) --group lock -o requirements.lock
	$(COMPILE) --constraint requirements.lock $(RUN:%=--extra %) --group lock -o requirements.run.lock
	$(COMPILE) --constraint requirements.lock --all-extras --group lock --group prove -o requirements.prove.lock

clean: ## Remove what the other targets made
	rm -rf .venv .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .hareline dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
