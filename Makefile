# `make train HEAD=gru SEED="0 1 2"` creates the environment if needed, and runs `reelbank train HEAD=gru SEED="0 1 2"` in it.
.DEFAULT_GOAL := help
.PHONY: help setup lock another-python demo extract pretrain train sweep evaluate fuse svm compare anomaly scores report reproduce predict search runs stores inspect duplicates verify pack remove import export doctor test lint site bench gpu clean

# Values are passed on exactly as they were typed. make would expand $x or $(shell ...) in a value whenever it uses the variable
# or starts a command. So the variables of the command line are first replaced by plain text.
override given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
override given := $(filter-out MAKE% -%,$(given))
$(foreach name,$(given),$(eval override $(name) := $$(value $(name))))
# A new line in a value is passed through an environment variable, because in a recipe make would end the command there.
override define newline


endef
export REELBANK_NEWLINE := $(newline)
override quote = '$(subst $(newline),'"$$REELBANK_NEWLINE"',$(subst ','\'',$1))'

override BIN := .venv/bin
# Package versions: those that were tested (versions/tested.txt), the newest that pyproject.toml allows, or the lowest. An
# existing environment keeps its Python and its versions until PYTHON= or VERSIONS= selects others.
own_python := $(shell cat .venv/python 2> /dev/null)
ifeq ($(origin PYTHON),undefined)
PYTHON := $(or $(own_python),python3)
else
override PYTHON := $(value PYTHON)
endif
VERSIONS := $(or $(shell cat .venv/versions 2> /dev/null),tested)
ifneq ($(words $(VERSIONS)) $(filter-out tested newest lowest,$(VERSIONS)),1 )
$(error VERSIONS=$(VERSIONS): choose tested, newest or lowest)
endif
override LOCK := $(if $(filter newest,$(VERSIONS)),,versions/$(VERSIONS).txt)
override READY := .venv/made-with-$(VERSIONS)
LONG :=

# Variables set on make's command line are passed to the command, which rejects unknown ones. Environment variables such as ROOT
# or T may be set for other reasons, so only those listed here for a target are passed.
environment_extract := DATASET RECIPE ROOT LISTS CSV CLASSES STREAM EXTRACTOR WEIGHTS NODE CROPS T CLIP STRIDE FLOW SEED DEVICE WORKERS BANK BANKS
environment_pretrain := DATASET ROOT LISTS CSV CLASSES STREAM EXTRACTOR WEIGHTS SPLIT CLIP FLOW SEED DEVICE WORKERS BANK BANKS
environment_train := DATASET RECIPE STREAM EXTRACTOR STORE HEAD LAYERS HIDDEN SPLIT SEED CLASSES T DEVICE WORKERS BANK BANKS
environment_sweep := $(environment_train)
environment_import := BANK
environment_doctor := BANK
environment_reproduce := SYSTEM DATASET ROOT LISTS CSV CLASSES DEVICE WORKERS BANK BANKS
override listed = $(foreach name,$(or $(environment_$@),BANK BANKS),$(if $(filter environment,$(origin $(name))),$(name)))
override options = $(foreach name,$(sort $(filter-out PYTHON VERSIONS LONG,$(given)) $(listed)),$(name)=$(call quote,$(value $(name))))

help: ## print this list
	@echo "make TARGET [NAME=value ...]"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' Makefile | expand -t 14
	@echo "All options of a target: $(BIN)/reelbank extract --help"

# Constraints that are set in the environment replace those in the machine's pip configuration.
ifneq ($(own_python),$(PYTHON))
$(READY): another-python
endif
$(READY): pyproject.toml $(LOCK)
	@$(call quote,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info < (3, 11) and sys.argv[1] + " is Python " + sys.version.split()[0] \
		+ "; Reelbank needs Python 3.11 or newer. Select one: make setup PYTHON=python3.12")' $(call quote,$(PYTHON))
	rm -rf .venv
	$(call quote,$(PYTHON)) -m venv .venv
	@echo $(VERSIONS) > .venv/versions
	@printf '%s\n' $(call quote,$(PYTHON)) > .venv/python
	@echo "Installing the $(VERSIONS) package versions into .venv. This takes minutes, and about 6 GB with torch for CUDA."
	@PIP_CONSTRAINT=$(or $(LOCK),/dev/null) PIP_BUILD_CONSTRAINT=$(or $(LOCK),/dev/null) \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' || { echo "The installation of the" \
		"$(VERSIONS) versions failed, see above. Try again with: make setup. For the tested versions: make setup VERSIONS=tested" >&2; exit 1; }
	@touch $@

another-python:

setup: $(READY) ## create the environment .venv (the other targets do so if needed); VERSIONS=tested, newest or lowest

lock: ## write versions/*.txt: the newest and lowest versions that pyproject.toml allows; needs uv
	for name in tested lowest; do \
		echo 'hatchling>=1.27' | uv pip compile --quiet --universal --no-annotate --no-header --upgrade --all-extras \
			--python-version 3.11 $$(test $$name = tested || echo --resolution lowest-direct) \
			pyproject.toml - --output-file versions/$$name.txt || exit 1; \
	done

demo: $(READY) ## run all stages on a small generated data set; takes a few minutes; BANK=<folder>
	$(BIN)/reelbank extract DATASET=toy STREAM="rgb flow audio" $(options)
	$(BIN)/reelbank train DATASET=toy STREAM=rgb EXTRACTOR=torchvision:resnet18 HEAD=meanpool SPLIT=all $(options)
	$(BIN)/reelbank train DATASET=toy STREAM=flow EXTRACTOR=torchvision:resnet18 HEAD=meanpool SPLIT=all $(options)
	$(BIN)/reelbank train DATASET=toy STREAM=audio EXTRACTOR=vggish HEAD=meanpool SPLIT=all $(options)
	$(BIN)/reelbank train DATASET=toy STREAM=rgb EXTRACTOR=torchvision:resnet18 HEAD=reslstm SPLIT=all PATIENCE=3 $(options)
	$(BIN)/reelbank evaluate DATASET=toy $(options)
	$(BIN)/reelbank report DATASET=toy $(options)

extract: ## extract features from videos: DATASET ROOT STREAM EXTRACTOR WEIGHTS CROPS T ...; PLAN=1 only prints the plan
pretrain: ## train an extractor on the training part of a split: EXTRACTOR STREAM SPLIT ...; then use extract WEIGHTS=<hash>
train: ## train heads on a feature store: HEAD SPLIT SEED STORE RECIPE=<paper> LAYERS HIDDEN ...
sweep: ## train every combination of options: HEAD="gru lstm" HIDDEN="256 512" SEED="0 1 2" WORKERS=2
evaluate: ## print the accuracy of runs, over splits and seeds
fuse: ## combine the scores of runs: RUNS="hash hash" HOW=product, sum, logits, geometric or rank; WEIGHTS="1 1.5" or SEARCH=1
svm: ## train a linear SVM on the joined embeddings of runs: RUNS="hash hash" C=1, SVM_LAMBDA=0.01 or CV=5
compare: ## test whether one model is better than another, overall and in each class: RUNS="hash hash"
anomaly: ## detect videos that differ from normal ones: STORE=hash ABNORMAL="class class", or EACH=1
scores: ## convert score files from and to other tools: FILE=results.pkl LIST=videos.txt TO=scores.npz
report: ## write the results to one HTML page
reproduce: ## repeat the experiments of a paper and compare the numbers: SYSTEM=reslstm; PLAN=1 only prints the plan; QUICK=1 is shorter
search: ## find the nearest videos of a store (VIDEO=clip.mp4 or TEXT="a man opens a door")
predict: ## classify video files (VIDEOS=video.mp4 RUN=hash) or the videos of a store (STORE=hash RUN=hash)
runs: ## list the runs
stores: ## list the feature stores
inspect: ## show the recipe, coverage and failures of a store: STORE=hash
duplicates: ## list similar videos within and across training and test: STORE=hash SPLIT=1; COUNT=100 lists the most similar pairs
verify: ## read every byte of a store and list damaged videos: STORE=hash
pack: ## merge all files of a store into one: STORE=hash
remove: ## delete a store: STORE=hash YES=1
import: ## import features of other tools into a store
export: ## export the features of a store for other tools, one array per video
doctor: ## check this machine and suggest repairs
# Messages then show commands as `make extract`.
demo extract pretrain train sweep evaluate fuse svm compare anomaly scores report reproduce predict search runs stores inspect duplicates verify pack remove import export doctor: export REELBANK_RUN_BY := make
extract pretrain train sweep evaluate fuse svm compare anomaly scores report reproduce predict search runs stores inspect duplicates verify pack remove import export doctor: $(READY)
	@$(BIN)/reelbank $@ $(options)

test: $(READY) ## run the tests; tests on real data need REELBANK_TESTDATA; LONG=1 adds those that take minutes
	$(BIN)/python -m pytest $(if $(filter-out 0,$(LONG)),-m "")

lint: $(READY) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .lint && mkdir -p .lint/reelbank
	ln -s ../../reelbank.py .lint/reelbank/__init__.py
	ln -s ../../data ../../extract ../../heads ../../fusion .lint/reelbank/
	cd .lint && ../$(BIN)/mypy --config-file ../pyproject.toml -p reelbank

site: $(READY) ## build the documentation as a site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(READY) ## compare the speed with other tools; appends to benchmarks/bench.csv; VIDEO_FEATURES=<checkout of video_features>
	@$(if $(value VIDEO_FEATURES),VIDEO_FEATURES=$(call quote,$(value VIDEO_FEATURES))) $(BIN)/python benchmarks/bench.py

gpu: $(READY) ## run the tests that need a GPU and measure extraction on it; appends to benchmarks/gpu.csv
	$(BIN)/python benchmarks/gpu.py

clean: ## remove the environment and the caches, but not the bank
	rm -rf .venv .lint site .pytest_cache .mypy_cache .ruff_cache .hypothesis
