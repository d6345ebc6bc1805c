"""Make wheels of installed packages, to install the same versions without network."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, parse_tag, sys_tags
from packaging.utils import canonicalize_name

from p2r.errors import UserError

# Files of `.dist-info` that pip writes when it installs; a wheel has none of them.
_OF_PIP = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
_ANY_PYTHON = re.compile(rb"^#!.*python[\w.]*")


def read_lock(file: Path) -> dict[str, str]:
    """Return the version of each package in `requirements.lock`, by its canonical name."""
    lines = file.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(";")[0].split("==") for line in lines if "==" in line)
    return {canonicalize_name(name.strip()): version.strip() for name, version in pairs}


def installed_closure(requirements: Iterable[str]) -> list[Distribution]:
    """Return the installed packages that requirements need, with all their own requirements.

    Raises `UserError` if one is not installed.
    """
    found: dict[tuple[str, str], Distribution] = {}
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        asked, extra_of_parent = waiting.pop()
        if asked.marker and not asked.marker.evaluate({"extra": extra_of_parent}):
            continue
        for extra in ("", *asked.extras):
            key = (canonicalize_name(asked.name), extra)
            if key in found:
                continue
            try:
                found[key] = distribution(asked.name)
            except PackageNotFoundError as error:
                raise UserError(
                    f"{asked.name} is not installed, so it has no wheel: run `make install`"
                ) from error
            waiting += [(Requirement(text), extra) for text in found[key].requires or ()]
    by_name = {name: found[name, extra] for name, extra in found}
    return [by_name[name] for name in sorted(by_name)]


def check_lock(packages: Iterable[Distribution], lock: dict[str, str]) -> None:
    """Raise `UserError` if an installed version is not the locked one."""
    wrong = [
        f"{package.name} {package.version} (locked: {locked})"
        for package in packages
        if (locked := lock.get(canonicalize_name(package.name)))
        and package.version.partition("+")[0] != locked.partition("+")[0]
    ]
    if wrong:
        raise UserError(f"other versions than the lock: {', '.join(wrong)}: run `make install`")


def write_wheel(package: Distribution, folder: Path) -> Path:
    """Write the wheel of an installed package and return its path. An existing one is kept."""
    if package.files is None:
        raise UserError(f"{package.name} has no list of its files: install it again with pip")
    info = next(Path(f).parts[0] for f in package.files if Path(f).parts[0].endswith(".dist-info"))
    stem = info.removesuffix(".dist-info")
    path = folder / f"{stem}-{_tags(package)}.whl"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    record = []
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
        for name, file in sorted(_members(package, info, stem)):
            content = file.read_bytes()
            if f"{stem}.data/scripts/" in name:
                content = _ANY_PYTHON.sub(b"#!python", content)
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (file.stat().st_mode & 0o777 | 0o100000) << 16
            wheel.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record.append(f'"{name}",sha256={digest.decode()},{len(content)}\n')
        wheel.writestr(f"{info}/RECORD", "".join([*record, f"{info}/RECORD,,\n"]))
    os.replace(draft, path)
    return path


def _tags(package: Distribution) -> str:
    """Return the tags of a wheel's name, for example `cp311-cp311-manylinux_2_28_x86_64`."""
    lines = (package.read_text("WHEEL") or "Tag: py3-none-any").splitlines()
    tags: set[Tag] = set()
    for line in lines:
        if line.startswith("Tag:"):
            tags |= parse_tag(line.removeprefix("Tag:").strip())
    if tags.isdisjoint(sys_tags()):  # such as decord, whose own tag names Python 3.6
        tags = {Tag("py3", "none", tag.platform) for tag in tags}
    parts = ({tag.interpreter for tag in tags}, {tag.abi for tag in tags})
    platforms = {tag.platform for tag in tags}
    return "-".join(".".join(sorted(each)) for each in (*parts, platforms))


def _members(package: Distribution, info: str, stem: str) -> Iterator[tuple[str, Path]]:
    """Yield the name in the wheel and the path of every file of a package."""
    commands = {entry.name for entry in package.entry_points if entry.group.endswith("_scripts")}
    for listed in package.files or ():
        file = Path(os.path.normpath(str(listed.locate())))
        name = str(listed)
        if name.endswith(".pyc") or (name.startswith(info) and file.name in _OF_PIP):
            continue
        if not file.is_file():
            raise UserError(f"{file} of {package.name} is missing: install it again with pip")
        if not name.startswith(".."):
            yield name, file
            continue
        place = file.relative_to(sys.prefix)
        if place.parts[0] != "bin":
            yield f"{stem}.data/data/{place}", file
        elif file.name not in commands:  # pip writes the commands of a package itself
            yield f"{stem}.data/scripts/{file.name}", file
