# Everything goes through a Python environment: the active one if kvformer is installed in it from this folder, else .venv.
CONFIG ?=
ARGS ?=

ours := import importlib.util as u, os, sys; s = u.find_spec("kvformer"); \
  sys.exit(not (s and os.path.samefile(s.origin, "src/kvformer/__init__.py") and all(map(u.find_spec, ["snakemake", "mlflow", "torch"]))))
active := $(shell python -c '$(ours)' 2>/dev/null && echo yes)
python := $(if $(active),python,.venv/bin/python)
ready := $(if $(active),,.venv/.installed)
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help run test test-fast docs bench bench-scale style lint audit lock upgrade unlock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

run: $(ready) ## Run the study, or what is missing of it (CONFIG=file for another one, ARGS=... for snakemake)
	@test -z "$(CONFIG)" || test -f "$(CONFIG)" || { echo "CONFIG: $(CONFIG) is not a file" >&2; exit 2; }
	$(python) -m snakemake --cores all $(if $(CONFIG),--configfile "$(CONFIG)") $(ARGS)

test: $(ready) ## Run the tests (ARGS=... for pytest)
	$(python) -m pytest -n logical --maxprocesses 4 --dist loadfile $(ARGS)

test-fast: $(ready) ## Run the tests that are not slow: about a minute on two idle cores
	$(python) -m pytest -n logical --maxprocesses 4 --dist loadfile -m "not slow and not ci" $(ARGS)

docs: $(ready) ## Write the numbers of the documents from the committed results (ARGS=--check to compare only)
	$(python) -m tools.numbers $(ARGS)

bench: $(ready) ## Measure speed against the published formulation and the machine (ARGS=... for python -m benchmarks)
	$(python) -m benchmarks $(ARGS)

bench-scale: $(ready) ## Measure what 10,000 runs cost besides their training (ARGS=... for python -m benchmarks.scale)
	$(python) -m benchmarks.scale $(ARGS)

style: $(ready) ## Check style only
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m snakefmt --check Snakefile workflow

lint: style ## Check style, workflow, types, and which package imports which
	$(python) -m snakemake --lint
	$(python) -m mypy
	$(if $(active),,.venv/bin/)lint-imports --no-cache --no-logo

audit: $(ready) ## Look up known vulnerabilities of the versions in requirements.lock
	$(python) tools/audit.py

lock: $(ready) ## Write requirements.lock and environment.yml from pyproject.toml, keeping versions where possible
	$(python) tools/lock.py

upgrade: $(ready) ## As lock, but with the newest versions allowed
	$(python) tools/lock.py --upgrade

unlock: $(ready) ## Remove the lock that a killed snakemake left behind
	$(python) -m snakemake --unlock $(if $(CONFIG),--configfile "$(CONFIG)")

clean: ## Delete .venv and caches (results stay)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build src/*.egg-info

.venv/.installed: requirements.lock pyproject.toml
	@set -e; for candidate in python3 python3.11 python3.12 python3.13 python3.14; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' 2>/dev/null; then found=$$candidate; break; fi; done; \
	test -n "$$found" || { echo "kvformer needs Python 3.11.4 or newer as python3 or python3.x" >&2; exit 1; }; \
	echo "Installing into .venv (once, a few minutes)"; \
	test -x .venv/bin/python || "$$found" -m venv .venv
	.venv/bin/python -m pip install -r requirements.lock
	.venv/bin/python -m pip install --no-deps --no-build-isolation --editable .
	@touch .venv/.installed
