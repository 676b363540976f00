# make demo   train LeNet-5 on the embedded digits
# make test   the whole test suite; make longtest  the runs that train for minutes besides
# make lint   ruff and mypy
# make bench  nbconv beside other engines; make track  every kernel beside its stored baseline
# make fuzz     random networks, damaged files and killed runs for MINUTES (10)
# make gputest and make bench-gpu  the same on an NVIDIA GPU: what needs one, and nbconv beside PyTorch

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

MINUTES ?= 10

.DELETE_ON_ERROR:
.PHONY: demo test longtest quicktest fuzz lint format bench track gputest bench-gpu clean

demo: $(VENV)/plot.stamp
	$(BIN)/nbconv train --data digits --model lenet5 --output lenet.safetensors --plot lenet-curves.png

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest

longtest: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m long

quicktest: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -x -m "not slow and not long"

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m tests.fuzz all --minutes $(MINUTES)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/bench.stamp
	$(BIN)/nbconv bench --output benchmarks/results

track: $(VENV)/bench.stamp
	$(BIN)/python -m pytest benchmarks --benchmark-compare

gputest: $(VENV)/dev.stamp $(VENV)/cuda13.stamp
	$(BIN)/python -m pytest -m gpu

bench-gpu: $(VENV)/cuda13.stamp $(VENV)/peers.stamp
	$(BIN)/nbconv bench --gpu --output benchmarks/results

clean:
	rm -rf $(VENV)

# The package is installed editable, so sources may change; only pyproject.toml asks for another installation.
$(VENV)/%.stamp: pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
