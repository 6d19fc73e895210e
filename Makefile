# make demo   the demo experiment: sets up .venv, trains and evaluates every method, draws every figure
# make test   format, lint, types, unit, parity, workflow and fault tests
# make test-cluster   a real Slurm on this machine      make bench   the engine against its peers
.DEFAULT_GOAL := demo
.PHONY: demo test test-cluster test-environments bench bench-gpu lint format schema environments lock clean

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Everything after `fetch` works offline; telemetry of libraries is off.
export HF_HUB_DISABLE_TELEMETRY := 1

$(BIN)/matryobench: envs/requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(BIN)/matryobench
	snakemake --cores all --configfile config/demo.yaml
	@echo "report: $(CURDIR)/results/demo/report.html   tables: $(CURDIR)/results/demo/tables"

lint: $(BIN)/matryobench
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check Snakefile workflow/rules
	snakemake --lint --configfile config/demo.yaml
	matryobench schema --check
	python tools/make_environments.py --check

test: lint
	pytest tests -n 2 --dist loadfile --ignore tests/cluster

# A real one-node Slurm from Debian's packages; skips, saying why, without them or not as root.
test-cluster: $(BIN)/matryobench
	pytest tests/cluster

# Every rule through --sdm conda, and every environment installed by pip; needs a package index and 2 GB in TMPDIR.
test-environments: $(BIN)/matryobench
	pytest tests/environments/whole_run.py tests/environments

# The engine against its peers on this machine; needs quiet cores.
bench: $(BIN)/matryobench
	python tests/benchmarks/run.py

bench-gpu: $(BIN)/matryobench
	python tests/benchmarks/gpu.py

format: $(BIN)/matryobench
	ruff format .
	ruff check --fix-only .
	snakefmt Snakefile workflow/rules
	matryobench schema

schema: $(BIN)/matryobench
	matryobench schema

# envs/<stage>.yaml from pyproject.toml and the lock.
environments: $(BIN)/matryobench
	python tools/make_environments.py

# Resolves pyproject.toml anew in a fresh environment and writes the exact pins, here and in the stages' environments.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet "torch==2.13.0" "setuptools==84.2.1"
	build/lock/bin/pip install --quiet ".[dev]" "soupsieve<3"  # 3 needs Python 3.11.5
	(echo "# All that a matryobench environment consists of, exactly; made by \`make lock\` from pyproject.toml."; \
	build/lock/bin/pip freeze --all | grep -v -e '^pip==' -e '^matryobench' | sed 's/+cpu//') > envs/requirements.txt
	build/lock/bin/python tools/make_environments.py

clean:
	rm -rf results/demo .snakemake build
