# The daily commands. PYTHON names the interpreter that makes .venv: make repro PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
FAULTS ?= 20
FLIPS ?= 200
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# As the user wrote them: make would expand a $ in them.
override DATA := $(value DATA)
override TITLES := $(value TITLES)
override AGAINST := $(value AGAINST)
quoted = $(if $(1),'$(subst ','\'',$(1))')

# The presets that the README compares. DATA is a dump; without it, they use params.yaml's source.
SOURCE = $(if $(DATA),$(or $(shell PATH=$(call quoted,$(PATH)) python benchmarks/source.py $(call quoted,$(DATA))),$(error No arguments for DATA)))

# Every target with a description.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*  \#\# .*/\1/p' $(MAKEFILE_LIST))

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

repro: $(VENV)/installed  ## run the pipeline with params.yaml as it is, and print the metrics
	dvc repro
	@python stages/show.py

show: $(VENV)/installed  ## print the metrics of the last run
	@python stages/show.py

report: $(VENV)/report  ## write report.html, one page on the run; TITLES is a file with the books' titles, AGAINST another run
	python stages/report.py $(if $(TITLES),--titles $(call quoted,$(TITLES))) $(if $(AGAINST),--against $(call quoted,$(AGAINST)))

compare: $(VENV)/installed  ## say whether run B is better than A: revisions, experiments, folders, groups of seeds; default: HEAD, workspace
	@python stages/compare.py $(call quoted,$(or $(A),HEAD)) $(call quoted,$(or $(B),workspace)) $(COMPARE)

seeds: $(VENV)/installed  ## run N seeds (5) with CHANGES (-S …) on DATA as experiments RUNS-0, …; print mean and interval
	@python stages/seeds.py $(RUNS) $(if $(N),-n $(N)) $(SOURCE) $(CHANGES)

plots: $(VENV)/report  ## draw the plots into dvc_plots, without a network; RUNS="HEAD faster" lays runs over each other
	@python stages/plots.py $(RUNS)

experiments: $(VENV)/installed  ## list the experiments since ten commits ago, best on the validation users first
	@python stages/experiments.py

goodreads: $(VENV)/installed  ## run on the real dump (620 MB), as an experiment that changes params.yaml in the workspace
	dvc exp run -S fetch.source=goodreads

notebook: $(VENV)/installed  ## run with the course notebook's params, as close to it as its code gets
	dvc exp run $(SOURCE) -S sasrec.init_std=1.0 -S filter_reindex.same_day_order=book_idx -S evaluation.padding=false -S train.keep=last -S sasrec.dropout_rate=0.5 -S sasrec.init=normal -S train.loss=bce -S train.num_negatives=1 -S train.lr=0.001 -S train.warmup_steps=0 -S train.schedule=constant

default: $(VENV)/installed  ## run with params.yaml as it is, as an experiment
	dvc exp run $(SOURCE)

best: $(VENV)/installed  ## run with the most accurate params that we found
	dvc exp run $(SOURCE) -S sasrec.max_len=100 -S sasrec.hidden_units=64 -S sasrec.num_heads=2 -S sasrec.dropout_rate=0.4 -S train.num_negatives=4096 -S train.window=random -S train.lr=0.002 -S train.warmup_steps=100 -S train.num_epochs=50

published: $(VENV)/installed  ## run with the SASRec paper's protocol, for its own data sets
	dvc exp run $(SOURCE) -S filter_reindex.min_ratings=1 -S split.protocol=leave_one_out -S split.num_validation_users=5000 -S evaluation.num_user_sample=null -S sasrec.norm_first=true -S sasrec.dropout_rate=0.5 -S train.num_negatives=4096 -S train.negatives=in_batch -S train.weight_decay=0.1 -S train.lr=0.002 -S train.warmup_steps=200 -S train.num_epochs=20

published-full: $(VENV)/installed  ## the same for few items and long histories, such as MovieLens'
	dvc exp run $(SOURCE) -S filter_reindex.min_ratings=1 -S split.protocol=leave_one_out -S split.num_validation_users=5000 -S evaluation.num_user_sample=null -S sasrec.norm_first=true -S sasrec.max_len=200 -S sasrec.hidden_units=128 -S sasrec.num_heads=2 -S sasrec.dropout_rate=0.4 -S train.num_negatives=4096 -S train.window=random -S train.lr=0.002 -S train.warmup_steps=100 -S train.num_epochs=40

presets: $(VENV)/installed  ## compare the presets and the steps between them on DATA, with three seeds each; takes an hour
	python benchmarks/presets.py $(call quoted,$(DATA)) $(PRESETS)

frontier: $(VENV)/report  ## draw accuracy against seconds of training for some presets on DATA; takes twenty minutes
	python benchmarks/frontier.py $(call quoted,$(DATA))

export: $(VENV)/export  ## write models/sasrec.onnx, if onnxruntime gives PyTorch's scores for the held-out users
	python stages/export.py

serve: $(VENV)/serve  ## serve a page to try the model, on this machine; TITLES is a file with the books' titles, SERVE further options
	sasrec serve $(if $(TITLES),--titles $(call quoted,$(TITLES))) $(SERVE)

test: $(VENV)/dev  ## run the tests but the long ones, on two cores
	python -m pytest -n 2 --dist worksteal -m "not long"

test-long: $(VENV)/dev  ## run the long tests: the tutorial, verify's own runs, Ctrl-C of several processes
	python -m pytest -n 2 --dist worksteal -m long

test-spark: $(VENV)/spark $(VENV)/dev  ## run the tests of the engines, on Spark too; needs Java
	python -m pytest tests/interactions/test_engines.py tests/dump/test_shards.py tests/dump/test_formats.py

fuzz: $(VENV)/dev  ## parse a hundred thousand made-up lines, new ones each time; takes some minutes
	FUZZ_LINES=100000 python -m pytest -q -s tests/dump/test_fuzz.py

heal: $(VENV)/installed  ## remove damaged files from DVC's cache, and make them again
	python checks/heal.py

verify: $(VENV)/installed  ## check twice that a clone of HEAD gives the outputs of dvc.lock
	python checks/verify.py

verify-cpus: $(VENV)/installed  ## check that emulated processors give the same bits; needs qemu-user, takes five minutes
	python checks/verify_cpus.py

verify-arm: $(VENV)/installed  ## compare with an emulated ARM processor; needs qemu-user and 5 GB, takes ten minutes
	python checks/verify_arm.py

bench: $(VENV)/installed  ## compare every stage with the plain algorithm, at Goodreads' size; takes half an hour
	python benchmarks/bench.py $(BENCH)

bench-peers: $(VENV)/installed  ## compare training and ranking with other libraries' SASRec, on made-up histories or DATA; takes an hour and 5 GB
	python benchmarks/peers.py $(if $(DATA),--data $(call quoted,$(DATA))) $(PEERS)

growth: $(VENV)/report  ## measure the data stages at 1, 3 and 10 times Goodreads' size; takes half an hour and 20 GB
	python benchmarks/growth.py

profile: $(VENV)/installed  ## print the time of each operator of a training step
	python benchmarks/profile_step.py

faults: $(VENV)/dev  ## interrupt and kill every script at many moments, fill its disk, flip bits of its outputs; takes twenty minutes
	FAULTS=$(FAULTS) FLIPS=$(FLIPS) python -m pytest -q -s -o timeout=0 tests/core/test_interrupts.py tests/pipeline/test_faults.py tests/pipeline/test_damage.py

lint: $(VENV)/dev  ## check the style, the types and the order of the wings
	ruff check . && ruff format --check . && mypy && PYTHONPATH=stages lint-imports

params: $(VENV)/installed  ## write docs/params.md from the code
	python checks/params_page.py

audit: $(VENV)/audit  ## check the pinned packages for known vulnerabilities
	python checks/audit.py $(AUDIT)

sbom: $(VENV)/audit  ## list the installed packages in sbom.json, in CycloneDX's format
	cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file sbom.json $(VENV)/bin/python

# What a run of the pipeline does not need comes with the first target that does.
EXTRAS := $(addprefix $(VENV)/,audit dev export report serve spark)
$(EXTRAS): $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(@F)]'
	touch $@

# pip would compile with one core. It fails for the templates of some packages, which are no Python; so does pip, in silence.
COMPILE_ALL = $(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name one: make repro PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[pipeline]'
	$(COMPILE_ALL)
	touch $@

# Every build tool needs a digest here, so setuptools is installed first and builds the rest without isolation.
locked:  ## make .venv from constraints.hashes.txt alone, with all extras, as CI does
	$(PYTHON) -m venv $(VENV)
	sed -n '/^setuptools==/,/[^\\]$$/p' constraints.hashes.txt > $(VENV)/build.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/build.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --no-build-isolation --use-pep517 -r constraints.hashes.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(COMPILE_ALL)
	touch $(VENV)/installed $(EXTRAS)

COMPILE = uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --no-header --no-emit-index-url

constraints:  ## pin the newest versions that pyproject.toml admits, with their digests; needs uv
	{ sed -n '/^#/p' constraints.txt; $(COMPILE) --upgrade pyproject.toml; } > constraints.new
	{ sed -n '/^#/p' constraints.hashes.txt; $(COMPILE) --generate-hashes --constraint constraints.new pyproject.toml; } > constraints.hashes.new
	mv constraints.new constraints.txt
	mv constraints.hashes.new constraints.hashes.txt

# The files that the stages write and git ignores, by name, because other files in these folders are the user's.
WRITTEN := data/params_checked.txt data/interim/reviews.parquet data/interim/rejected.parquet \
  $(addprefix data/processed/,users.parquet books.parquet interactions.parquet) \
  $(addprefix data/split/,train.safetensors validation.safetensors evaluation.safetensors) \
  data/evaluation/ranks.parquet \
  $(addprefix models/,sasrec.safetensors sasrec.json sasrec.onnx) \
  $(addprefix models/sasrec/,model.json weights.safetensors books.parquet transitions.parquet README.md)

clean:  ## remove the environment and the stages' outputs; DVC's cache stays
	test ! -e .venv/installed || rm -rf .venv
	rm -rf data/raw/reviews.json.gz .arm/root .arm/packages .arm/made_of.json  # the first is a folder if the dump is several files
	rm -f $(WRITTEN)
