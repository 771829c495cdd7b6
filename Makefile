# vqad: `make help` lists the targets. Nothing here needs an active environment.
SHELL := bash
# -p: neither BASH_ENV, nor functions, options or CDPATH that the user exports
.SHELLFLAGS := -peu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# -- settings a person gives ----------------------------------------------------------------------------------------
PROFILE ?=
DATASET ?=
DATA_ROOT ?=
SEED ?=
SEEDS ?=
PERCEPTUAL ?=
JOBS ?=
DEVICES ?=
NETWORKS ?=
LAB_ARGS ?=
FORMATS ?=
PYTHON ?=
PYTEST_ARGS ?=
MINUTES ?=
FLIPS ?=
ifeq ($(MAKELEVEL),0)
$(foreach s,PROFILE DATASET DATA_ROOT SEED SEEDS PERCEPTUAL JOBS DEVICES NETWORKS LAB_ARGS FORMATS PYTHON PYTEST_ARGS MINUTES FLIPS,$(if $(value $(s)),\
  $(if $(filter environment,$(origin $(s))),$(info note      $(s)=$(value $(s)) comes from the environment))))
endif
# as they were typed, and through the environment: make keeps its hands off a $, the shell off quotes and backticks
$(foreach setting,PROFILE DATASET DATA_ROOT SEED SEEDS PERCEPTUAL JOBS NETWORKS MINUTES FLIPS,\
  $(eval override export $(setting) := $$(value $(setting))))

# -- the environment: .venv from the lock, or PYTHON=python3 for one that is already active --------------------------
ifeq ($(PYTHON),)
# .venv holds all that is needed; in your own environment PYTHONPATH may be how vqad_lib is found
unexport PYTHONPATH PYTHONHOME
  PY := .venv/bin/python
  ENVIRONMENT := .venv/.ready
  EXTRAS := .venv/.ready-extra
  MUTATION := .venv/.ready-stress
else
  PY := $(PYTHON)
  ENVIRONMENT :=
  EXTRAS :=
  MUTATION :=
endif
BASE_PYTHON := $(firstword $(foreach p,python3.11 python3.12 python3.13 python3 python,$(shell \
  $(p) -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(p))))

# a MODULE as `python -m` runs it, in this project's environment and not the user's; `python -m vqad_lib` needs no help
OWN = $(PY) -m vqad_lib.pipeline.environment

DERIVED := data/derived
export VQAD_ROOT := $(CURDIR)
export VQAD_DEVICES = $(DEVICES)
export VQAD_FIGURE_FORMATS = $(FORMATS)

.PHONY: help paper results fidelity measured ablation ablated beyond extended test smoke nbval stress test-latest audit lint data lab report bench own-images clean lock notebooks
.DEFAULT_GOAL := help

## help: list the targets and settings
help:
	@sed -n 's/^## //p' Makefile
	@echo
	@echo 'Settings: PROFILE=smoke|demo|workstation|paper  DATA_ROOT=FOLDER'
	@echo '          DATASET=auto|synthetic|folder|ucsd_ped2|ucsd_ped1|cuhk_avenue|shanghaitech|mvtec_ad'
	@echo '          SEED=N  SEEDS=N (training seeds)  PERCEPTUAL=imagenet|hed|random|none|FILE'
	@echo '          JOBS=N (notebooks at a time)  DEVICES=N (for each of them)  PYTHON=python3 (your environment)'
	@echo '          FORMATS=png,pdf (figures as PDF too)'
	@echo '          NETWORKS=auto|trained|random (of make bench)  LAB_ARGS=--port=N (options of JupyterLab)'
	@echo '          MINUTES=N FLIPS=1 (of make own-images)  PYTEST_ARGS="..." (of make test, for unit and integration tests)'

# into .venv, and what the lock says: of the user's pip only where packages come from
PIP_OF = env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_CONSTRAINT -u PIP_NO_BINARY -u PIP_ONLY_BINARY \
  -u PIP_NO_DEPS -u PIP_DRY_RUN $(1)/bin/python -m pip install --disable-pip-version-check --no-user
PIP := $(call PIP_OF,.venv)
HAS_PYTHON = test -n "$(BASE_PYTHON)" || { echo 'error: no Python 3.11 to 3.13 with venv found; install one, or give PYTHON=' >&2; exit 1; }

.venv/.ready: requirements.lock pyproject.toml
	@$(HAS_PYTHON)
	@echo 'setup     making .venv and installing the locked packages (about 6.5 GB on Linux, 2 to 6 minutes)'
	@test -x .venv/bin/python || $(BASE_PYTHON) -m venv .venv
	@$(PIP) --quiet --require-hashes -r requirements.lock \
	  & pid=$$!; start=$$SECONDS; while kill -0 $$pid 2>/dev/null; do sleep 1; \
	  (( (SECONDS - start) % 20 )) || echo "setup     $$((SECONDS - start)) s, installed so far: $$(du -sh .venv | cut -f1)B of about 6.5 GB"; done; wait $$pid
	@$(PIP) --quiet --no-deps --no-build-isolation -e .
	@touch $@

# other people's networks, for comparisons; without them the rest is measured all the same
.venv/.ready-extra: requirements-extra.lock .venv/.ready
	@echo 'setup     adding MONAI and Anomalib to .venv, for comparisons (about 0.4 GB, half a minute)'
	@$(PIP) --quiet --require-hashes -r requirements-extra.lock \
	  && touch $@ || echo 'note      could not add them; their rows will be left out' >&2

# -- results ---------------------------------------------------------------------------------------------------------
## paper: rebuild every table and figure; picks profile and data by itself, goes on where it stopped
paper: GOAL := results
## fidelity: measure what each choice of docs/fidelity.md does to the numbers; trains some twenty networks more
fidelity: GOAL := measured
## ablation: what each part contributes: trains the VQ-GAN with one part changed at a time (ten networks or more a scheme)
ablation: GOAL := ablated
## beyond: what section 6.1 leaves as future work: density in two passes, restoration studied; trains some dozen networks
beyond: GOAL := extended
# -jN of the command line or of MAKEFLAGS in the environment; JOBS= goes before it, and -j alone would start all at once
SLOTS = $(if $(JOBS),,$(filter-out -j,$(filter -j%,$(MAKEFLAGS))))
# one process: `configure` becomes the make behind --, and keeps this checkout for it
paper fidelity ablation beyond: $(ENVIRONMENT)
	@$(PY) -m vqad_lib configure --profile="$$PROFILE" --dataset="$$DATASET" --data-root="$$DATA_ROOT" \
	  --seed="$$SEED" --seeds="$$SEEDS" --perceptual="$$PERCEPTUAL" --jobs="$(if $(SLOTS),$(SLOTS:-j%=%),$$JOBS)" \
	  -- $(MAKE) --no-print-directory $(if $(SLOTS),,-j{jobs}) $(GOAL)

# its rules are written by `configure` from notebooks/notebooks.yaml, where what each notebook needs stands; a stage is
# executed if it has no manifest, and `configure` deletes those that do not hold any more
M = $(DERIVED)/$(RESULTS)/manifests
STAGE = @$(PY) -m vqad_lib stage
# Anomalib is added for the stage that asks for it, and never for the smoke profile
EXTRAS_FOR_STAGES = $(if $(filter-out smoke,$(PROFILE)),$(EXTRAS))
ifneq ($(filter results measured ablated extended,$(MAKECMDGOALS)),)
include $(DERIVED)/run.mk
manifests = $(1:%=$(M)/%.json)
FINISHED = @s=$$(( $$(date +%s) - $(STARTED) )); echo "finished  $$((s / 60)) min $$((s % 60)) s;
results: $(call manifests,$(STAGES_OF_PAPER))
	@$(PY) -m vqad_lib report
	$(FINISHED) open reports/$(RESULTS)/index.html"
measured: $(call manifests,$(STAGES_OF_FIDELITY))
	$(FINISHED) see reports/$(RESULTS)/tables/fidelity.csv; make report puts it on the page"
ablated: $(call manifests,$(STAGES_OF_ABLATION))
	$(FINISHED) see reports/$(RESULTS)/tables/ablation.csv; make report puts it on the page"
extended: $(call manifests,$(STAGES_OF_BEYOND))
	$(FINISHED) see reports/$(RESULTS)/tables/two_pass.csv and restoration_*.csv; make report puts it on the page"
endif

## report: build the page anew from the tables and figures that are there
report: $(ENVIRONMENT)
	@$(PY) -m vqad_lib report

## bench: measure seconds, images per second and memory, beside other libraries
bench: $(ENVIRONMENT) $(EXTRAS)
	@$(PY) -m vqad_lib bench --profile="$$PROFILE" --dataset="$$DATASET" --data-root="$$DATA_ROOT" \
	  --seed="$$SEED" --perceptual="$$PERCEPTUAL" --networks="$$NETWORKS"

## own-images: fit a detector to the normal images of DATA_ROOT (without: of the walkway), measure it on the others
own-images: $(ENVIRONMENT)
	@$(PY) -m vqad.own_images --profile="$$PROFILE" --dataset="$$DATASET" --data-root="$$DATA_ROOT" --seed="$$SEED" \
	  --minutes="$$MINUTES" --flips="$$FLIPS" --perceptual="$$PERCEPTUAL"

## data: download UCSD Ped2 (resumes, verifies, extracts safely) into data/raw
data: $(ENVIRONMENT)
	@$(PY) -m vqad_lib.data.download

## lab: explore the last run in JupyterLab
lab: $(ENVIRONMENT)
	@$(PY) -m vqad_lib lab --profile="$$PROFILE" --dataset="$$DATASET" --data-root="$$DATA_ROOT" \
	  --seed="$$SEED" --perceptual="$$PERCEPTUAL" -- $(LAB_ARGS)

# -- checks ----------------------------------------------------------------------------------------------------------
## test: style, unit tests, the smoke profile end to end, the committed notebooks under nbval
test: lint
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  echo 'note      no Chromium or Chrome on PATH: the tests of pages and of JupyterLab in a browser are skipped'
	@echo 'test      1/3 unit and integration tests (4 to 15 minutes)'
	@VQAD_DEVICES= $(OWN) pytest $(AT_A_TIME) --dist=worksteal $(PYTEST_ARGS) tests
	@echo 'test      2/3 the smoke profile end to end (4 to 12 minutes)'
	@$(MAKE) --no-print-directory smoke
	@echo 'test      3/3 the committed notebooks against their stored outputs (3 to 8 minutes)'
	@$(MAKE) --no-print-directory nbval

smoke: $(ENVIRONMENT)
	@$(MAKE) --no-print-directory paper PROFILE=smoke DATASET= DATA_ROOT= SEED= SEEDS= PERCEPTUAL=

# a process for each core, of 1 to 2 GB
AT_A_TIME = --numprocesses=auto --maxprocesses=4

# progress bars stay out of the notebooks; those of one notebook share a kernel
QUIET = VQAD_PROGRESS_FILE=/dev/null
nbval: $(ENVIRONMENT)
	@$(QUIET) $(OWN) pytest $(AT_A_TIME) --dist=loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=600 \
	  --nbval-kernel-startup-timeout=300 -p no:cacheprovider -p no:randomly notebooks

## stress: what takes too long for make test: broken input, kills, mutated code, the paper's sizes (8 GB)
stress: $(ENVIRONMENT) $(MUTATION)
	@$(OWN) tests.stress

.venv/.ready-stress: requirements-stress.lock .venv/.ready
	@echo 'setup     adding cosmic-ray and coverage to .venv'
	@$(PIP) --quiet --require-hashes -r requirements-stress.lock
	@touch $@

## test-latest: unit tests with the newest release of each package, in .venv-latest (6.5 GB); what we call must not be deprecated
LATEST = .venv-latest/bin/python
define DEPRECATED
error::DeprecationWarning:(vqad_lib|vqad|beyond|benchmarks)
error:.*deprecated:FutureWarning
endef
export DEPRECATED
test-latest:
	@$(HAS_PYTHON)
	@test -x $(LATEST) || $(BASE_PYTHON) -m venv .venv-latest
	@echo 'setup     the newest releases into .venv-latest (2 to 6 minutes)'
	@$(call PIP_OF,.venv-latest) --quiet --upgrade $$(sed 's/#.*//; s/==.*//' requirements.in)
	@$(call PIP_OF,.venv-latest) --quiet --no-deps --no-build-isolation -e .
	@$(LATEST) -m vqad_lib.pipeline.environment pytest $(AT_A_TIME) -o "filterwarnings=$$DEPRECATED" $(PYTEST_ARGS) tests/unit

## audit: ask PyPI for known faults of the locked packages (pip-audit, in .venv-audit); a package that it cannot ask about is named
audit:
	@$(HAS_PYTHON)
	@test -x .venv-audit/bin/pip-audit || { $(BASE_PYTHON) -m venv .venv-audit && $(call PIP_OF,.venv-audit) --quiet pip-audit; }
	@for lock in requirements*.lock; do echo "audit     $$lock"; \
	  .venv-audit/bin/pip-audit --progress-spinner=off --disable-pip --require-hashes -r $$lock || failed=1; done; test -z "$$failed"

## notebooks: after a smoke run, store what the tests compare its notebooks with, and in the notebooks what a real run shows
SHOWN = $(wildcard $(addprefix reports/,workstation/ucsd_ped2 demo/ucsd_ped2 demo_hed/ucsd_ped2 own_images/folder_magnetic_tile))
notebooks: smoke
	@rm -rf $(DERIVED)/executed
	@$(QUIET) $(OWN) nbconvert --log-level=WARN --ExecutePreprocessor.record_timing=False \
	  --to notebook --output-dir $(DERIVED)/executed --execute notebooks/*.ipynb
	@$(PY) tests/store_outputs.py compared $(DERIVED)/executed
	@$(PY) tests/store_outputs.py shown $(SHOWN)

## lint: ruff, both check and format
lint: $(ENVIRONMENT)
	@$(PY) -m ruff check . && $(PY) -m ruff format --check --quiet .

## lock: resolve requirements.in anew into requirements.lock, then the other two beside it (needs uv)
LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q
lock:
	@$(LOCK) requirements.in -o requirements.lock
	@$(LOCK) requirements-extra.in -c requirements.lock -o requirements-extra.lock
	@$(LOCK) requirements-stress.in -c requirements.lock -o requirements-stress.lock

## clean: delete what can be made again: trained networks, prepared frames, smoke results (not data/raw, .venv, make lab's copies)
clean:
	@test ! -d $(DERIVED) || find $(DERIVED) -mindepth 1 -maxdepth 1 ! -name lab ! -name run.lock -exec rm -rf {} +
	@rm -rf reports/smoke figures/smoke reports/*/*/notebooks/.working .pytest_cache .ruff_cache
