"""`benchmarks/gpu.py` on the CPU: the tiny shape, and only the packages that its script fetches."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# Runs the benchmark for each list of options, with one import of the libraries. Every package is
# hidden that is neither in the list of wheels nor on a machine with torch.
BARE_MACHINE = """
import importlib.metadata, importlib.machinery, json, re, runpy, sys
plain = lambda name: re.sub("[-_.]+", "-", name).lower()
allowed = {plain(name) for name in sys.argv.pop(1).split()}
hidden = {
    top
    for top, owners in importlib.metadata.packages_distributions().items()
    if not any(plain(owner) in allowed for owner in owners)
}
find = importlib.machinery.PathFinder.find_spec
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else find(name, path, target)
sys.meta_path = [Finder if f is importlib.machinery.PathFinder else f for f in sys.meta_path]
for options in json.loads(sys.argv.pop(1)):
    sys.argv = ["benchmarks/gpu.py", *options]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        print("exit code", end.code, flush=True)
"""
MACHINE = (
    "torch torchvision triton numpy sympy mpmath networkx setuptools pip jinja2 nvidia "
    "videop2r-workbench p2r"
)


def listed() -> list[str]:
    script = ROOT / "benchmarks" / "gpu_wheels.sh"
    done = subprocess.run(["bash", script, "--list"], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The results of the benchmark: `gpu.json`, `short.json` with a used-up budget, and `said`."""
    made = tmp_path_factory.mktemp("gpu")
    common = ["--shape", "tiny", "--device", "cpu", "--out"]
    runs = [[*common, str(made / "gpu.json")], [*common, str(made / "short.json"), "--budget", "1"]]
    allowed = " ".join([*listed(), MACHINE])
    done = subprocess.run(
        [sys.executable, "-c", BARE_MACHINE, allowed, json.dumps(runs)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made / "said").write_text(done.stdout)
    return made


@pytest.fixture(scope="module")
def codes(folder) -> list[str]:
    """The exit codes of both runs."""
    return re.findall(r"^exit code (\d+)$", (folder / "said").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def report(folder, codes) -> dict:
    said = (folder / "said").read_text()
    assert codes[0] == "0", said
    found = json.loads((folder / "gpu.json").read_text())
    return {**found, "said": said.partition("exit code")[0]}


def test_every_path_agrees_with_the_ordinary_one(report):
    paths = report["shapes"]["tiny"]["paths"]
    assert set(paths) == {
        "shared prompts",
        "checkpointing",
        "new adapters",
        "adapters, shared prompts",
        "adapters, checkpointing",
    }
    assert all(path["agrees"] and path["mean"] < 1e-4 for path in paths.values())


def test_parts_and_updates_are_measured(report):
    tiny = report["shapes"]["tiny"]
    assert tiny["parameters"] == 2_776_832
    assert all(value > 0 for value in tiny["parts"].values())
    for kind in ("adapters", "full"):
        assert tiny[kind]["tokens_per_s"] > 0 and tiny[kind]["estimated_gib"] > 0
    assert tiny["full"]["trained_parameters"] == tiny["parameters"]
    assert tiny["adapters"]["trained_parameters"] < tiny["parameters"]
    assert "agrees" in report["said"] and "estimate" in report["said"]


def test_a_budget_that_is_used_up_ends_the_work_with_a_result_file(folder, codes):
    shape = json.loads((folder / "short.json").read_text())["shapes"]["tiny"]
    assert "do not fit into the budget of 1 s" in shape["skipped"]
    assert codes[1:] == ["1"], "nothing was compared"


def test_the_wheels_are_locked():
    locks = (ROOT / "requirements.lock").read_text().lower()
    for name in listed():
        pattern = rf"^{re.sub('-', '[-_.]', name)}=="
        assert re.search(pattern, locks, re.MULTILINE), name


def test_the_real_shapes_are_those_of_the_hub(monkeypatch):
    import torch

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    for name, published in (("3b", 3_754_622_976), ("7b", 8_292_166_656)):
        model = gpu.build_model(
            gpu.config_of(gpu.SHAPES[name]), torch.device("meta"), torch.bfloat16
        )
        assert sum(p.numel() for p in model.parameters()) == published
        sections = model.config.text_config.rope_parameters
        assert sections["mrope_section"] == [16, 24, 24] and sections["rope_theta"] == 1e6


def test_a_path_that_differs_fails_the_run(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    good = {"shapes": {"tiny": {"paths": {"a": {"agrees": True}}}}}
    assert gpu.is_good(good)
    assert not gpu.is_good({"shapes": {"tiny": {"paths": {"a": {"agrees": False}}}}})
    assert not gpu.is_good({"shapes": {"tiny": {"failed": "error", **good["shapes"]["tiny"]}}})
