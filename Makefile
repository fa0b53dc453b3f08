# make train HEAD=gru SEED="0 1 2" runs reelbank train HEAD=gru SEED='0 1 2' in an environment that it makes first.
.DEFAULT_GOAL := help
.PHONY: help setup lock another-python demo extract pretrain train sweep evaluate fuse svm compare anomaly scores report reproduce predict runs stores inspect verify remove import export doctor test lint bench clean

BIN := .venv/bin
# Versions of the packages: as they were tested (versions/tested.txt), the newest that pyproject allows, or the lowest. An
# environment that is there keeps its Python and its versions, until PYTHON= or VERSIONS= say otherwise.
own_python := $(shell cat .venv/python 2> /dev/null)
PYTHON ?= $(or $(own_python),python3)
VERSIONS = $(or $(shell cat .venv/versions 2> /dev/null),tested)
ifneq ($(words $(VERSIONS)) $(filter-out tested newest lowest,$(VERSIONS)),1 )
$(error VERSIONS=$(VERSIONS): choose tested, newest or lowest)
endif
LOCK := $(if $(filter newest,$(VERSIONS)),,versions/$(VERSIONS).txt)
READY := .venv/made-with-$(VERSIONS)
LONG =

# What is given on make's command line goes to the command, which refuses what it does not know; of the environment,
# where a ROOT or a T may stand for other reasons, only what is listed for the target.
environment_extract := DATASET RECIPE ROOT LISTS CSV CLASSES STREAM EXTRACTOR WEIGHTS NODE CROPS T CLIP STRIDE FLOW SEED DEVICE WORKERS BANK
environment_pretrain := DATASET ROOT LISTS CSV CLASSES STREAM EXTRACTOR WEIGHTS SPLIT CLIP FLOW SEED DEVICE WORKERS BANK
environment_train := DATASET RECIPE STREAM EXTRACTOR STORE HEAD LAYERS HIDDEN SPLIT SEED CLASSES T DEVICE WORKERS BANK
environment_sweep := $(environment_train)
environment_reproduce := SYSTEM DATASET ROOT LISTS CSV CLASSES DEVICE WORKERS BANK
quote = '$(subst ','\'',$1)'
given := $(foreach name,$(.VARIABLES),$(if $(filter command line,$(origin $(name))),$(name)))
given := $(filter-out PYTHON VERSIONS LONG MAKE% -%,$(given))
listed = $(foreach name,$(or $(environment_$@),BANK),$(if $(filter environment,$(origin $(name))),$(name)))
options = $(foreach name,$(sort $(given) $(listed)),$(name)=$(call quote,$($(name))))

help: ## this list
	@echo "make TARGET [NAME=value ...]"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' Makefile | expand -t 14
	@echo "All options of a target: $(BIN)/reelbank extract --help"

# Given through the environment, our constraints take the place of those in the machine's own pip configuration.
$(READY): pyproject.toml $(LOCK) $(if $(filter $(own_python),$(PYTHON)),,another-python)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python " + sys.version.split()[0] \
		+ "; Reelbank needs Python 3.11 or newer. Name one: make setup PYTHON=python3.12")'
	rm -rf .venv
	$(PYTHON) -m venv .venv
	@echo $(VERSIONS) > .venv/versions
	@echo $(PYTHON) > .venv/python
	@echo "Installing the packages into .venv, $(VERSIONS) versions: minutes, and about 6 GB with torch for CUDA"
	@PIP_CONSTRAINT=$(or $(LOCK),/dev/null) PIP_BUILD_CONSTRAINT=$(or $(LOCK),/dev/null) \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' || { echo "The installation of the" \
		"$(VERSIONS) versions failed, see above. Try again: make setup. The tested versions: make setup VERSIONS=tested" >&2; exit 1; }
	@touch $@

another-python:

setup: $(READY) ## make the environment (.venv); the other targets do it themselves; VERSIONS=tested|newest|lowest

lock: ## find the newest and the lowest versions that pyproject allows, and write versions/*.txt; needs uv
	for name in tested lowest; do \
		echo 'hatchling>=1.27' | uv pip compile --quiet --universal --no-annotate --no-header --upgrade --all-extras \
			--python-version 3.11 $$(test $$name = tested || echo --resolution lowest-direct) \
			pyproject.toml - --output-file versions/$$name.txt || exit 1; \
	done

demo: $(READY) ## draw the toy data set, extract three streams, train heads, show what came out: offline, minutes; BANK=<folder>
	$(BIN)/reelbank extract DATASET=toy STREAM="rgb flow audio" $(options)
	$(BIN)/reelbank train DATASET=toy STREAM=rgb EXTRACTOR=torchvision:resnet18 HEAD=meanpool SPLIT=all $(options)
	$(BIN)/reelbank train DATASET=toy STREAM=flow EXTRACTOR=torchvision:resnet18 HEAD=meanpool SPLIT=all $(options)
	$(BIN)/reelbank train DATASET=toy STREAM=audio EXTRACTOR=vggish HEAD=meanpool SPLIT=all $(options)
	$(BIN)/reelbank train DATASET=toy STREAM=rgb EXTRACTOR=torchvision:resnet18 HEAD=reslstm SPLIT=all $(options)
	$(BIN)/reelbank evaluate DATASET=toy $(options)
	$(BIN)/reelbank report DATASET=toy $(options)

extract: ## videos -> feature stores: DATASET ROOT STREAM EXTRACTOR WEIGHTS CROPS T ...; PLAN=1 only says what it would do
pretrain: ## train an extractor on the training part of a split: EXTRACTOR STREAM SPLIT WIDTH ...; then extract with WEIGHTS=<hash>
train: ## feature store -> trained heads: HEAD SPLIT SEED STORE RECIPE=<paper> LAYERS HIDDEN ...
sweep: ## train every combination: HEAD="gru lstm" HIDDEN="256 512" SEED="0 1 2" WORKERS=2; one table, best chosen on validation
evaluate: ## accuracies of runs, over splits and seeds
fuse: ## join the scores of runs: RUNS="hash hash" HOW=product|sum|logits|geometric|rank WEIGHTS="1 1.5" or SEARCH=1
svm: ## a linear SVM on the joined embeddings of runs: RUNS="hash hash" C=1, SVM_LAMBDA=0.01 or CV=5
compare: ## is one model better than another? RUNS="hash hash": paired tests, and what each class gains
anomaly: ## what is unlike normal videos: STORE=hash ABNORMAL="class class", or EACH=1
scores: ## other tools' score files into ours and back: FILE=results.pkl LIST=videos.txt TO=scores.npz
report: ## one HTML page of results
reproduce: ## a published system, SYSTEM=reslstm: all it needs, and its tables beside ours; PLAN=1 only says what it would do; QUICK=1
predict: ## what runs say of videos: VIDEOS=video.mp4 RUN=hash, or of a store: STORE=hash
runs: ## list the runs
stores: ## list the feature stores
inspect: ## recipe, coverage and failures of a store: STORE=hash
verify: ## read every byte of a store: STORE=hash
remove: ## delete a store: STORE=hash YES=1
import: ## bring features of other tools into a store
export: ## features of a store, one array per video, for other tools
doctor: ## what works on this machine
extract pretrain train sweep evaluate fuse svm compare anomaly scores report reproduce predict runs stores inspect verify remove import export doctor: $(READY)
	@$(BIN)/reelbank $@ $(options)

test: $(READY) ## all tests; those on real data need REELBANK_TESTDATA; LONG=1: also those that take minutes
	$(BIN)/python -m pytest $(if $(filter-out 0,$(LONG)),-m "")

lint: $(READY) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .lint && mkdir -p .lint/reelbank
	ln -s ../../reelbank.py .lint/reelbank/__init__.py
	ln -s ../../data ../../extract ../../heads ../../fusion .lint/reelbank/
	cd .lint && ../$(BIN)/mypy --config-file ../pyproject.toml -p reelbank

bench: $(READY) ## ratios against named peers, each in one run
	for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean: ## remove the environment and caches; the bank stays
	rm -rf .venv .lint .pytest_cache .mypy_cache .ruff_cache .hypothesis
