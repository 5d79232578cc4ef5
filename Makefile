# Each target sets up what it needs: a virtual environment with the pinned versions of constraints.txt.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= demo
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: demo test test-slow bench lint clean

# A dozen methods, of every family that a CNN can have; those that mask thousands of times are left out.
SHOWN  := random center edges gradcam gradcam_pp layercam ablationcam integrated_gradients guided_backprop occlusion lrp vebi

demo: $(VENV)/.installed  ## generate, train and score the default data set, and print the table
	mkdir -p $(DEMO)
	cd $(DEMO) && $(abspath $(BIN))/an8flower generate
	cd $(DEMO) && $(abspath $(BIN))/an8flower train
	cd $(DEMO) && $(abspath $(BIN))/an8flower score --rows 300 $(SHOWN:%=--method %)

test: $(VENV)/.test  ## everything that runs in minutes
	$(BIN)/python -m pytest

test-slow: $(VENV)/.test  ## training to the promised accuracies, large files, all archs
	$(BIN)/python -m pytest -m slow

MEASURED := rendering generation localisation training shortcut explainers memory conformance \
	faithfulness sanity certificate metric_conformance pages
bench: $(VENV)/.bench  ## measure, and write benchmarks/results/
	for each in $(MEASURED); do $(BIN)/python benchmarks/$$each.py || exit 1; done

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.bench: $(VENV)/.%: $(VENV)/.installed
	$(PIP) -e .[$*]
	touch $@
