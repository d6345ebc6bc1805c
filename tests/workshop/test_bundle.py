"""The bundle of a course: its files, and wheels that are made from installed packages."""

import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from p2r.errors import UserError
from p2r.runs import open_run
from p2r.workshop.bundle import project_files, write_bundle
from p2r.workshop.wheels import check_lock, installed_closure, read_lock, write_wheel

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "project"
    (folder / "notebooks" / "source").mkdir(parents=True)
    (folder / "notebooks" / "source" / "00_a.py").write_text("# %%\n")
    (folder / "Makefile").write_text("install:\n\techo $(EXTRAS) $$PIP_NO_INDEX\n")
    for made in (".venv/lib/x", "runs/r/recipe.yaml", "p2r/__pycache__/x.pyc", "build/old"):
        (folder / made).parent.mkdir(parents=True)
        (folder / made).write_text("made")
    return folder


def test_a_bundle_has_the_project_a_run_and_a_page_to_start_with(project, tmp_path):
    run = open_run(tmp_path / "run", "tiny1")
    run.path("sft.jsonl").write_text("{}\n")
    said: list[str] = []
    target = tmp_path / "bundle"
    size = write_bundle(project, target, run, wheels=False, say=said.append)
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == {
        *("Makefile", "notebooks/source/00_a.py", "START.md", "install.sh"),
        *(f"prebuilt/workshop/{name}" for name in ("recipe.yaml", "environment.json", "sft.jsonl")),
    }
    assert said[-1].startswith("bundle: ") and size > 1000 and "kB" in said[-1]
    installed = subprocess.run(["sh", target / "install.sh"], capture_output=True, text=True)
    assert "notebooks,app 1" in installed.stdout
    with pytest.raises(UserError, match="no notebooks/source"):
        write_bundle(tmp_path, target)


def test_the_bundle_of_this_project_has_the_models_and_no_made_files():
    files = project_files(ROOT)
    assert "p2r/playground/models/teacher/model.safetensors" in files
    assert "requirements.lock" in files
    assert not any(name.startswith((".venv", "runs/", "build/")) for name in files)


def test_a_wheel_of_an_installed_package_can_be_imported(tmp_path):
    package = distribution("jiwer")
    wheel = write_wheel(package, tmp_path)
    assert wheel.name == f"jiwer-{package.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        record = opened.read(f"jiwer-{package.version}.dist-info/RECORD").decode()
    assert "jiwer/__init__.py" in names and len(record.splitlines()) == len(names)
    assert not any(name.startswith(("..", "/")) or name.endswith("INSTALLER") for name in names)
    code = "import sys, jiwer; print(jiwer.__file__); print('rapidfuzz' in sys.modules)"
    paths = f"import sys; sys.path.insert(0, {str(wheel)!r}); "
    shown = subprocess.run([sys.executable, "-c", paths + code], capture_output=True, text=True)
    assert str(wheel) in shown.stdout
    before = wheel.stat().st_mtime_ns
    assert write_wheel(package, tmp_path) == wheel and wheel.stat().st_mtime_ns == before


def test_the_wheels_are_those_of_the_lock_with_all_requirements():
    packages = installed_closure(["jupyterlab", "setuptools"])
    names = {package.name.lower().replace("_", "-") for package in packages}
    assert {"jupyterlab", "jupyter-server", "tornado", "setuptools"} <= names
    lock = read_lock(ROOT / "requirements.lock")
    check_lock(packages, lock)
    with pytest.raises(UserError, match=r"jupyterlab .* \(locked: 0\.1\)"):
        check_lock(packages, {**lock, "jupyterlab": "0.1"})
    with pytest.raises(UserError, match="not-there is not installed"):
        installed_closure(["not-there"])


@pytest.mark.parametrize("name", ["decord", "plotly"])  # decord's own tag names Python 3.6
def test_a_wheel_fits_this_python(name, tmp_path):
    wheel = write_wheel(distribution(name), tmp_path)
    assert not parse_wheel_filename(wheel.name)[3].isdisjoint(sys_tags())
