# Each target sets up what it needs: a virtual environment with the pinned versions of constraints.txt.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= demo
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test test-slow test-gpu bench bench-long ruler docs lint clean

demo: $(VENV)/.installed  ## the small audit, from nothing to its page
	mkdir -p $(DEMO)
	cd $(DEMO) && $(abspath $(BIN))/an8flower audit --quick

# Processes of one thread each are faster than one of two: nets and images are small; the third works while others wait.
# Bytecode is kept: without it each of many processes compiles the package and its tests anew.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

test: $(VENV)/.test  ## everything that runs in minutes
	$(PYTEST) -n 3 --dist loadfile

test-slow: $(VENV)/.test $(VENV)/.ray $(VENV)/.notebooks  ## training to the promised accuracies, large files, all archs, more examples
	$(PYTEST) -m "slow or hypothesis" --hypothesis-profile thorough

test-gpu: $(VENV)/.test  ## on a machine with a GPU
	$(BIN)/python -m pytest -m gpu

MEASURED := suite start quick_audit explainers memory localisation faithfulness sanity interventions gradient_penalty \
	conformance transformer_conformance metric_conformance pages
bench: $(VENV)/.bench  ## measure beside peers, in an hour, and write benchmarks/results/ and two pages of the manual
	for each in $(MEASURED); do $(BIN)/python benchmarks/$$each.py || exit 1; done

MEASURED_LONG := rendering generation planting exporting training self_explaining shortcut certificate plans inference \
	metric_table in_domain imputation by_hand pages
bench-long: $(VENV)/.bench  ## measure what trains networks and carries out plans: hours
	for each in $(MEASURED_LONG); do $(BIN)/python benchmarks/$$each.py || exit 1; done

ruler: $(VENV)/.installed  ## what was found wrong with scores, certificates and checks, measured anew: minutes
	$(BIN)/python benchmarks/ruler.py

docs: $(VENV)/.docs  ## the manual: pages made from the code, in place; then all of it into site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO) site build *.egg-info

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.bench $(VENV)/.docs $(VENV)/.ray $(VENV)/.notebooks: $(VENV)/.%: $(VENV)/.installed
	$(PIP) -e .[$*]
	touch $@
