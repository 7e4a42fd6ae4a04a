# The daily commands. PYTHON names the interpreter that makes .venv: make repro PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test fuzz lint verify verify-cpus bench profile goodreads constraints clean

repro: $(VENV)/installed  ## run the pipeline with params.yaml as it is
	dvc repro

goodreads: $(VENV)/installed  ## the real dump (620 MB), as an experiment: params.yaml is changed in the workspace
	dvc exp run -S fetch.source=goodreads

test: $(VENV)/installed  ## run the tests
	python -m pytest

fuzz: $(VENV)/installed  ## try a hundred thousand made-up lines on the parser, others each time; takes some minutes
	FUZZ_LINES=100000 python -m pytest -q -s tests/test_fuzz.py

verify: $(VENV)/installed  ## check that a clone of HEAD gives what dvc.lock says, twice
	python checks/verify.py

verify-cpus: $(VENV)/installed  ## check that emulated processors give the same bits; needs qemu-user, takes five minutes
	python checks/verify_cpus.py

bench: $(VENV)/installed  ## compare every stage with the plain algorithm, at Goodreads' size; takes half an hour
	python benchmarks/bench.py $(BENCH)

profile: $(VENV)/installed  ## show where a training step's time goes, by operator
	python benchmarks/profile_step.py

lint: $(VENV)/installed  ## check the style
	ruff check . && ruff format --check .

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name one: make repro PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

constraints:  ## pin the newest versions that pyproject.toml admits; needs uv
	{ sed -n '/^#/p' constraints.txt; uv pip compile --quiet --universal --upgrade --python-version 3.11 --all-extras --no-annotate --no-header --no-emit-index-url pyproject.toml; } > constraints.new
	mv constraints.new constraints.txt

clean:  ## remove the environment and what the stages wrote; DVC's cache stays
	rm -rf $(VENV) data/raw data/interim data/processed data/split models
