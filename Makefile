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
PYTHON ?=
PYTEST_ARGS ?=
ifeq ($(MAKELEVEL),0)
$(foreach s,PROFILE DATASET DATA_ROOT SEED SEEDS PERCEPTUAL JOBS DEVICES NETWORKS LAB_ARGS PYTHON PYTEST_ARGS,$(if $(value $(s)),\
  $(if $(filter environment,$(origin $(s))),$(info note      $(s)=$(value $(s)) comes from the environment))))
endif
# as they were typed, and through the environment: make keeps its hands off a $, the shell off quotes and backticks
$(foreach setting,PROFILE DATASET DATA_ROOT SEED SEEDS PERCEPTUAL JOBS NETWORKS,\
  $(eval override export $(setting) := $$(value $(setting))))

# -- the environment: .venv from the lock, or PYTHON=python3 for one that is already active --------------------------
ifeq ($(PYTHON),)
# .venv holds all that is needed; in your own environment PYTHONPATH may be how vqad_lib is found
unexport PYTHONPATH PYTHONHOME
  PY := .venv/bin/python
  ENVIRONMENT := .venv/.ready
  EXTRAS := .venv/.ready-extra
else
  PY := $(PYTHON)
  ENVIRONMENT :=
  EXTRAS :=
endif
BASE_PYTHON := $(firstword $(foreach p,python3.11 python3.12 python3 python,$(shell \
  $(p) -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $(p))))

# a MODULE as `python -m` runs it, in this project's environment and not the user's; `python -m vqad_lib` needs no help
OWN = $(PY) -m vqad_lib.workflow.environment

DERIVED := data/derived
# when this sitting began; `paper` sets it anew, `make results` by itself is a sitting too
VQAD_STARTED ?= $(shell date +%s)
export VQAD_STARTED := $(VQAD_STARTED)
export VQAD_ROOT := $(CURDIR)
export VQAD_DEVICES = $(DEVICES)

.PHONY: help paper results fidelity measured test smoke nbval check-resume lint data lab report bench clean lock notebooks
.DEFAULT_GOAL := help

## help: list the targets and settings
help:
	@sed -n 's/^## //p' Makefile
	@echo
	@echo 'Settings: PROFILE=smoke|demo|paper  DATASET=auto|ucsd_ped2|synthetic|folder  DATA_ROOT=FOLDER'
	@echo '          SEED=N  SEEDS=N (training seeds)  PERCEPTUAL=imagenet|random|none|FILE'
	@echo '          JOBS=N (notebooks at a time)  DEVICES=N (for each of them)  PYTHON=python3 (your environment)'
	@echo '          NETWORKS=auto|trained|random (of make bench)  LAB_ARGS=--port=N (options of JupyterLab)'
	@echo '          PYTEST_ARGS="..." (of make test, for unit and integration tests)'

# into .venv, and what the lock says: of the user's pip only where packages come from
PIP := env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_CONSTRAINT -u PIP_NO_BINARY -u PIP_ONLY_BINARY \
  -u PIP_NO_DEPS -u PIP_DRY_RUN .venv/bin/python -m pip install --disable-pip-version-check --no-user

.venv/.ready: requirements.lock pyproject.toml
	@test -n "$(BASE_PYTHON)" || { echo 'error: no Python 3.11 or 3.12 with venv found; install one, or give PYTHON=' >&2; exit 1; }
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
# -jN of the command line or of MAKEFLAGS in the environment; JOBS= goes before it, and -j alone would start all at once
SLOTS = $(if $(JOBS),,$(filter-out -j,$(filter -j%,$(MAKEFLAGS))))
paper fidelity: $(ENVIRONMENT)
	@started=$$(date +%s); \
	 $(PY) -m vqad_lib choose --profile="$$PROFILE" --dataset="$$DATASET" --data-root="$$DATA_ROOT" \
	   --seed="$$SEED" --seeds="$$SEEDS" --perceptual="$$PERCEPTUAL" --jobs="$(if $(SLOTS),$(SLOTS:-j%=%),$$JOBS)"; \
	 jobs=$$(sed -n 's/^override JOBS := //p' $(DERIVED)/run.mk); results=$$(sed -n 's/^override RESULTS := //p' $(DERIVED)/run.mk); \
	 VQAD_STARTED=$$started VQAD_JOBS=$$jobs $(MAKE) --no-print-directory $(if $(SLOTS),,-j$$jobs) $(GOAL); \
	 seconds=$$(( $$(date +%s) - started )); \
	 echo "finished  $$(( seconds / 60 )) min $$(( seconds % 60 )) s; open reports/$$results/index.html"

ifneq ($(wildcard $(DERIVED)/run.mk),)
ifneq ($(filter results report measured,$(MAKECMDGOALS)),)
include $(DERIVED)/run.mk
endif
endif

M := $(DERIVED)/$(RESULTS)/manifests
COMMON := $(DERIVED)/run.json profiles/$(PROFILE).yaml notebooks/stages.yaml $(shell find vqad_lib data/paper -name '*.py' -o -name '*.j2' -o -name '*.css' -o -name '*.csv')
STAGE = @$(PY) -m vqad_lib stage
AUTOENCODERS := vqvae vqgan
PRIORS := pixelsnail gpt2
STAGES := 00_data 01_architecture
manifests = $(1:%=$(M)/%.json)

$(M)/00_data.json $(M)/01_architecture.json: $(M)/%.json: notebooks/%.ipynb $(COMMON)
	$(STAGE) $*

# one rule per network: $(1) split, $(2) autoencoder, $(3) prior, $(4) replicate: empty, or seeds after the first
with = $(if $(1),_replicate$(1))
define autoencoder_rule
STAGES += 02_train_autoencoder_$(2)_$(1)$(call with,$(4))
$(M)/02_train_autoencoder_$(2)_$(1)$(call with,$(4)).json: notebooks/02_train_autoencoder.ipynb $$(COMMON)
	$$(STAGE) 02_train_autoencoder -p autoencoder=$(2) -p protocol=$(1) $(if $(4),-p replicate=$(4))
endef
define combination_rule
STAGES += 03_train_prior_$(2)_$(3)_$(1)$(call with,$(4)) 04_score_$(2)_$(3)_$(1)$(call with,$(4))
SCORED$(if $(4),_again,_$(1)) += 04_score_$(2)_$(3)_$(1)$(call with,$(4))
$(M)/03_train_prior_$(2)_$(3)_$(1)$(call with,$(4)).json: notebooks/03_train_prior.ipynb $(M)/02_train_autoencoder_$(2)_$(1)$(call with,$(4)).json $$(COMMON)
	$$(STAGE) 03_train_prior -p autoencoder=$(2) -p prior=$(3) -p protocol=$(1) $(if $(4),-p replicate=$(4)) --needs 02_train_autoencoder_$(2)_$(1)$(call with,$(4))
$(M)/04_score_$(2)_$(3)_$(1)$(call with,$(4)).json: notebooks/04_score.ipynb $(M)/03_train_prior_$(2)_$(3)_$(1)$(call with,$(4)).json $$(COMMON)
	$$(STAGE) 04_score -p autoencoder=$(2) -p prior=$(3) -p protocol=$(1) $(if $(4),-p replicate=$(4)) --needs 03_train_prior_$(2)_$(3)_$(1)$(call with,$(4))
endef
define replicate_rules
$(foreach s,$(PROTOCOLS),$(foreach a,$(AUTOENCODERS),$(eval $(call autoencoder_rule,$(s),$(a),,$(1)))))
$(foreach s,$(PROTOCOLS),$(foreach a,$(AUTOENCODERS),$(foreach p,$(PRIORS),$(eval $(call combination_rule,$(s),$(a),$(p),$(1))))))
endef
$(call replicate_rules,)
$(foreach r,$(REPLICATES),$(call replicate_rules,$(r)))
SCORED := $(foreach s,$(PROTOCOLS),$(SCORED_$(s)))

# one rule per page of results: $(1) notebook, $(2) the stages before it
define results_rule
STAGES += $(1)
$(M)/$(1).json: notebooks/$(1).ipynb $(call manifests,$(2)) $$(COMMON)
	$$(STAGE) $(1) --needs $(2)
endef
$(eval $(call results_rule,05_threshold_sweeps,$(SCORED_paper)))
$(eval $(call results_rule,06_results,$(SCORED) $(SCORED_again)))
$(eval $(call results_rule,07_regenerations,$(AUTOENCODERS:%=02_train_autoencoder_%_paper)))
$(eval $(call results_rule,09_restorations,$(SCORED_paper)))
# Anomalib is added for this stage alone, and never for the smoke profile; once it is there, the stage is looked at again
ANOMALIB := $(or $(if $(filter-out smoke,$(PROFILE)),$(EXTRAS)),$(wildcard $(shell $(PY) -c \
  'import sysconfig; print(sysconfig.get_path("purelib"))' 2>/dev/null)/anomalib/__init__.py))
$(M)/11_baselines.json: $(ANOMALIB)
$(eval $(call results_rule,11_baselines,$(SCORED) $(SCORED_again)))
$(eval $(call results_rule,12_claims,$(SCORED) $(SCORED_again)))

# Tables 3 and 4, Figure 5. $(1) latent dimension, $(2) codebook size; one may be that of the profile's own networks.
# They come after the scores, for the other tables need those and are what most people wait for
define capacity_rule
STAGES += 10_capacity_train_$(1)_$(2)
CAPACITY_TRAINED += 10_capacity_train_$(1)_$(2)
$(M)/10_capacity_train_$(1)_$(2).json: notebooks/10_capacity_train.ipynb $(M)/03_train_prior_vqgan_gpt2_paper.json $$(COMMON) | $(call manifests,$(SCORED))
	$$(STAGE) 10_capacity_train -p latent_dim=$(1) -p codebook_size=$(2) --needs 03_train_prior_vqgan_gpt2_paper
endef
pair = $(call $(1),$(firstword $(subst /, ,$(2))),$(lastword $(subst /, ,$(2))))
$(foreach v,$(CAPACITY),$(eval $(call pair,capacity_rule,$(v))))
$(eval $(call results_rule,10_capacity,$(CAPACITY_TRAINED)))

# times are taken when nothing else runs: after all other stages, whose ends it does not depend on otherwise
$(M)/08_seconds_per_image.json: | $(call manifests,$(STAGES))
$(eval $(call results_rule,08_seconds_per_image,$(SCORED_paper)))

export VQAD_STAGES := $(STAGES)
results: $(M)/report.json
	@:
$(M)/report.json: $(call manifests,$(STAGES)) $(wildcard vqad_lib/reporting/*.j2 vqad_lib/reporting/*.css)
	@$(PY) -m vqad_lib finish && touch $@

# the choices of docs/fidelity.md, not part of `results`. $(1) choice, $(2) split
define fidelity_rule
MEASURED += 13_fidelity_measure_$(1)_$(2)
$(M)/13_fidelity_measure_$(1)_$(2).json: notebooks/13_fidelity_measure.ipynb $(call manifests,$(SCORED_$(2))) $$(COMMON)
	$$(STAGE) 13_fidelity_measure -p choice=$(1) -p protocol=$(2) --needs $(SCORED_$(2))
endef
$(foreach f,$(FIDELITY),$(eval $(call pair,fidelity_rule,$(f))))
$(M)/13_fidelity.json: notebooks/13_fidelity.ipynb $(call manifests,$(MEASURED)) $(COMMON)
	$(STAGE) 13_fidelity --needs $(MEASURED)
measured: export VQAD_STAGES := $(filter 02_% 03_% 04_%,$(STAGES)) $(MEASURED) 13_fidelity
measured: $(M)/13_fidelity.json
	@echo 'fidelity  reports/$(RESULTS)/tables/fidelity.md; make report puts it on the page'

## report: build the page anew from the tables and figures that are there
report: $(ENVIRONMENT)
	@test -f $(DERIVED)/run.mk || { echo 'error: no run yet; make paper first' >&2; exit 1; }
	@$(PY) -m vqad_lib finish

## bench: measure seconds, images per second and memory, beside other libraries
bench: $(ENVIRONMENT) $(EXTRAS)
	@$(PY) -m vqad_lib bench --profile="$$PROFILE" --dataset="$$DATASET" --data-root="$$DATA_ROOT" \
	  --seed="$$SEED" --perceptual="$$PERCEPTUAL" --networks="$$NETWORKS"

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
	@echo 'test      1/3 unit and integration tests (about 4 minutes)'
	@VQAD_DEVICES= $(OWN) pytest $(PYTEST_ARGS) tests
	@echo 'test      2/3 the smoke profile end to end (about 4 minutes)'
	@$(MAKE) --no-print-directory smoke
	@echo 'test      3/3 the committed notebooks against their stored outputs (about 3 minutes)'
	@$(MAKE) --no-print-directory nbval

smoke: $(ENVIRONMENT)
	@$(MAKE) --no-print-directory paper PROFILE=smoke DATASET= DATA_ROOT= SEED= SEEDS= PERCEPTUAL=

# progress bars stay out of the notebooks
QUIET = VQAD_PROGRESS_FILE="$$PWD/$(DERIVED)/.progress"
nbval: $(ENVIRONMENT)
	@$(QUIET) $(OWN) pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=600 \
	  --nbval-kernel-startup-timeout=300 -p no:cacheprovider -p no:randomly notebooks

## check-resume: make paper killed in training and scoring and gone on with, against an unbroken run (about 10 minutes)
check-resume: $(ENVIRONMENT)
	@VQAD_SLOW=1 $(OWN) pytest tests/integration/test_make_resume.py

## notebooks: execute the committed notebooks with the smoke profile and store their outputs
notebooks: $(ENVIRONMENT)
	@$(QUIET) $(OWN) nbconvert --log-level=WARN --ExecutePreprocessor.record_timing=False \
	  --to notebook --inplace --execute notebooks/*.ipynb

## lint: ruff, both check and format
lint: $(ENVIRONMENT)
	@$(PY) -m ruff check . && $(PY) -m ruff format --check --quiet .

## lock: resolve requirements.in anew into requirements.lock, then requirements-extra.in beside it (needs uv)
LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q
lock:
	@$(LOCK) requirements.in -o requirements.lock
	@$(LOCK) requirements-extra.in -c requirements.lock -o requirements-extra.lock

## clean: delete what can be made again: trained networks, prepared frames, smoke results (not data/raw, .venv, make lab's copies)
clean:
	@test ! -d $(DERIVED) || find $(DERIVED) -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} +
	@rm -rf reports/smoke figures/smoke reports/*/*/notebooks/.working .pytest_cache .ruff_cache
