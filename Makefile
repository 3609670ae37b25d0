# The same targets for people and for CI.  PYTHON=python3.12 make venv  picks another interpreter.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help venv demo test bench evidence clean

help:
	@echo "make venv    create .venv with the pinned packages"
	@echo "make demo    compare every method on real questions, about 10 minutes"
	@echo "make test    lint, format check, types, tests"
	@echo "make bench   side-by-side benchmarks against public peers"
	@echo "make evidence  how often the statistics claim what is not so, on known truths"
	@echo "make clean   remove caches and environments; runs/ is kept"

venv: .venv/stamp

.venv/stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Tunewise needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make venv PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@

demo: venv
	$(BIN)/tunewise demo

test: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Peers live in .venv-peers, together with Tunewise, so that both sides use the same torch and transformers, and so
# that their pins never meet ours.  make bench BENCH=--quick  only proves that everything runs.
BENCH ?=
PEERS := .venv-peers/bin/python

bench: .venv-peers/stamp
	$(PEERS) benchmarks/lora.py --workload shared unshared full soft-prompt nlupp $(BENCH)
	$(PEERS) benchmarks/scoring.py --workload trec banking77 clinc150 $(BENCH)
	$(PEERS) benchmarks/generating.py $(BENCH)
	$(PEERS) benchmarks/ceiling.py $(BENCH)

EVIDENCE := claims bounds grouped intervals searching curves

evidence: venv
	@set -e; for name in $(EVIDENCE); do echo "== $$name"; $(BIN)/python benchmarks/evidence/$$name.py; done

.venv-peers/stamp: pyproject.toml constraints.txt benchmarks/constraints.txt benchmarks/llama.sh
	$(PYTHON) -m venv .venv-peers
	$(PEERS) -m pip install -c constraints.txt -c benchmarks/constraints.txt -e . accelerate lm-eval peft trl
	bash benchmarks/llama.sh $(PEERS)
	@touch $@

clean:
	rm -rf .venv .venv-peers build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
