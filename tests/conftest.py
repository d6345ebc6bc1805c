"""Let subprocesses of the tests import `tests/helpers`, and apply p2r's patches.

`tests/helpers/sitecustomize.py` lets the subprocesses and the workers of pytest-xdist start faster.

Some tests import transformers, TRL or Gradio before a module of p2r that needs them patched.
"""

import atexit
import gc
import os
import re
import shutil
import tempfile
from pathlib import Path

from p2r.patches import gradio_start, torchvision_operators, trl_vllm

HELPERS = str(Path(__file__).parent / "helpers")
if HELPERS not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (HELPERS, os.environ.get("PYTHONPATH", "")))
    )

if "P2R_CACHE" not in os.environ:  # tests leave nothing in the user's cache folder
    os.environ["P2R_CACHE"] = tempfile.mkdtemp(prefix="p2r-cache-")
    atexit.register(shutil.rmtree, os.environ["P2R_CACHE"], ignore_errors=True)

if "P2R_TEST_PACKAGES" not in os.environ:  # see sitecustomize.py
    _shared = tempfile.mkdtemp(prefix="p2r-tests-")
    os.environ["P2R_TEST_PACKAGES"] = os.path.join(_shared, "packages.json")
    atexit.register(shutil.rmtree, _shared, ignore_errors=True)

torchvision_operators.apply()
trl_vllm.apply()
gradio_start.apply()  # as the command line does

# Files that take longest. They start first, so that both workers of `make test` end together. The
# first one uses two cores. The next ones often wait, so they run beside it.
LONGEST = (
    "training/test_distributed.py",
    "engines/test_ray_cluster.py",
    "judges/test_judge_ledger.py",
    "judges/test_judge_faults.py",
    "judges/test_judge_batches.py",
    "engines/test_crash_recovery.py",
    "video/test_decoders.py",
    "engines/test_server_engine.py",
    "pipeline/test_resume.py",
    "engines/test_vllm.py",
    "stages/test_demo.py",
    "test_notebooks.py",
    "training/test_memory.py",
    "browser/test_case_browser.py",
    "browser/test_browser_views.py",
    "browser/test_browser_reading.py",
    "browser/test_browser_safety.py",
    "training/test_tuning.py",
    "training/test_grpo.py",
    "export/test_stock_vllm.py",
    "cli/test_cli.py",
    "training/test_gpu_benchmark.py",
    "training/test_step.py",
    "training/test_sft.py",
    "training/test_preflight.py",
    "training/test_qwen3_vl.py",
    "stages/test_prompt_files.py",
    "browser/test_browser_launch.py",
    "datasets/test_data_sets.py",
    "training/test_lost_step.py",
    "training/test_validation.py",
    "export/test_lmms.py",
    "workshop/test_widgets_in_jupyterlab.py",
    "patches/test_patches.py",
    "test_install.py",
    "training/test_exactness.py",
)
_MARKS = re.compile(r"^pytestmark = (?:\[.*?^\]|.*?$)", re.MULTILINE | re.DOTALL)
_LEFT_OUT = re.compile(r"not \w+(?: and not \w+)*")


def pytest_ignore_collect(collection_path, config):
    """Do not import a file if `-m "not slow and …"` leaves out all of its tests."""
    expression = config.option.markexpr
    if collection_path.suffix != ".py" or not _LEFT_OUT.fullmatch(expression):
        return None
    marks = _MARKS.search(collection_path.read_text(encoding="utf-8"))
    names = re.findall(r"not (\w+)", expression)
    return True if marks and any(f"mark.{name}" in marks[0] for name in names) else None


def pytest_collection_modifyitems(items):
    """Move the files of `LONGEST` to the front."""
    tests = Path(__file__).parent
    places = {tests / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))


def pytest_collection_finish():
    """Let the garbage collector skip the imported modules: they are most objects of a worker."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(7_000, 10, 10)


def pytest_unconfigure():
    gc.unfreeze()
