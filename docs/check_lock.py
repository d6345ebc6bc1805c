"""Find the packages of `requirements.lock` that have no wheel on another platform or Python.

    python docs/check_lock.py                                         all platforms and Pythons
    python docs/check_lock.py --platform linux-aarch64 --python 3.12  one of each
    python docs/check_lock.py --extras p2r,app                        some extras

For each platform, the requirements of p2r are followed through the metadata of the packages that
are installed here, with the markers of that platform. pip then looks for a wheel of each locked
version (`pip install --dry-run --no-deps --only-binary=:all: --platform …`). Nothing is installed,
and only metadata is downloaded. The exit code is 1 if a wheel is missing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
_GLIBC = range(5, 40)  # the minor versions of glibc 2 that wheels are built for
# Platform -> the markers of its Python, and the tags of its wheels.
PLATFORMS: dict[str, tuple[dict[str, str], list[str]]] = {
    "linux-x86_64": (
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
        [f"manylinux_2_{minor}_x86_64" for minor in _GLIBC]
        + ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64", "linux_x86_64"],
    ),
    "linux-aarch64": (
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
        [f"manylinux_2_{minor}_aarch64" for minor in _GLIBC]
        + ["manylinux2014_aarch64", "linux_aarch64"],
    ),
    "macos-arm64": (
        {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
        ["macosx_15_0_arm64"],
    ),
    "win-amd64": (
        {
            "sys_platform": "win32",
            "platform_system": "Windows",
            "platform_machine": "AMD64",
            "os_name": "nt",
        },
        ["win_amd64"],
    ),
}
ELSEWHERE = ("linux-aarch64", "macos-arm64", "win-amd64")
CHUNK = 40  # pins per call of pip
_MISSING = re.compile(r"No matching distribution found for ([\w.-]+)==")


def read_lock() -> dict[str, str]:
    """Return the locked version of every package, by its normalised name."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pins}


def read_requirements() -> dict[str, list[str]]:
    """Return the requirements of the package (key "p2r") and of each of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"p2r": project["dependencies"], **project["optional-dependencies"]}


def needed(requirements: Iterable[str], platform: str, python: str) -> set[str]:
    """Return the names of all packages that some requirements lead to on a platform."""
    markers = PLATFORMS[platform][0] | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found: set[tuple[str, str]] = set()
    left = [(text, "") for text in requirements]
    while left:
        text, extra = left.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(markers | {"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for each in ("", *requirement.extras):
            if (name, each) not in found:
                found.add((name, each))
                left += [(text, each) for text in _requires(name)]
    return {name for name, _ in found}


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # not installed here: its own requirements are unknown
        return []


def without_wheel(pins: dict[str, str], platform: str, python: str) -> list[str]:
    """Return the names of the pins for which pip finds no wheel."""
    names = sorted(pins)
    missing: list[str] = []
    for start in range(0, len(names), CHUNK):
        left = names[start : start + CHUNK]
        while left:
            lines = [f"{name}=={pins[name]}" for name in left]
            if (lost := _first_missing(lines, platform, python)) is None:
                break
            missing.append(lost)
            left.remove(lost)
    return missing


def _first_missing(lines: list[str], platform: str, python: str) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "pins.txt")
        listed.write_text("\n".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--no-deps", "--only-binary=:all:", "--quiet", "--target", f"{folder}/x"]
        command += [word for tag in PLATFORMS[platform][1] for word in ("--platform", tag)]
        command += ["--python-version", python, "--requirement", str(listed)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    if match := _MISSING.search(done.stderr):
        return canonicalize_name(match[1])
    raise SystemExit(f"pip failed: {done.stderr.strip()[-500:]}")


def report(
    platforms: Iterable[str], pythons: Iterable[str], extras: Iterable[str]
) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yield a line for each platform and Python, with the missing packages by extra."""
    lock, requirements = read_lock(), read_requirements()
    for platform in platforms:
        for python in pythons:
            groups = {name: needed(requirements[name], platform, python) for name in extras}
            names = set().union(*groups.values()) & lock.keys()
            missing = without_wheel({name: lock[name] for name in names}, platform, python)
            by_extra = {
                extra: lost
                for extra, group in groups.items()
                if (lost := [f"{name}=={lock[name]}" for name in missing if name in group])
            }
            yield f"{platform} Python {python}: {len(names)} packages", by_extra


def main() -> int:
    """Print the report; return 1 if a wheel is missing."""
    extras = [name for name in read_requirements() if not name.startswith("vllm")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--platform", action="append", choices=PLATFORMS, help="repeatable")
    parser.add_argument("--python", action="append", choices=PYTHONS, help="repeatable")
    parser.add_argument("--extras", default=",".join(extras), help="p2r: the package itself")
    given = parser.parse_args()
    chosen = given.platform or ELSEWHERE, given.python or PYTHONS, given.extras.split(",")
    failed = False
    for line, by_extra in report(*chosen):
        print(f"{line}, {'all have a wheel' if not by_extra else 'without a wheel:'}", flush=True)
        for extra, lost in by_extra.items():
            print(f"    {extra}: {', '.join(lost)}", flush=True)
        failed = failed or bool(by_extra)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
