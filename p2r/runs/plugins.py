"""Finds engines and quality filters by the names of their files, and checks names of plugins."""

from __future__ import annotations

from pathlib import Path

from p2r.files.user_code import split_spec

# The trackers that transformers 5.17 knows. The recipe cannot ask it: importing it takes seconds.
TRACKERS = (
    *("tensorboard", "trackio", "wandb", "mlflow", "comet_ml", "swanlab", "clearml", "neptune"),
    *("dvclive", "dagshub", "codecarbon", "azure_ml", "flyte", "kubeflow"),
)


def find_plugins(folder: str, function: str) -> list[str]:
    """Return the modules of a folder of `p2r` that define a function: engines, quality filters.

    A new engine or filter is one file. This reads the source, because the recipe must not import
    packages above it.
    """
    files = sorted((Path(__file__).parents[1] / folder).glob("*.py"))
    marked = [f for f in files if f"\ndef {function}(" in f.read_text(encoding="utf-8")]
    return [file.stem for file in marked if file.stem != "__init__"]


def check_engine(name: str) -> str:
    """Return the name of an engine. Raises `ValueError` for an unknown one."""
    known = find_plugins("engines", "make_engine")
    if name not in known:
        raise ValueError(f"no engine {name!r}: use one of {', '.join(known)}")
    return name


def check_trackers(names: str) -> str:
    """Return the trackers of `report_to`. Raises `ValueError` for an unknown one."""
    for name in names.split(","):
        if ":" in name:
            split_spec(name)
        elif name != "none" and name not in TRACKERS:
            raise ValueError(
                f"no tracker {name!r}: use none, {', '.join(TRACKERS)}, or a class of your own as "
                "FILE.py:CLASS or package.module:CLASS"
            )
    return names


def find_file(spec: str, folder: Path | None) -> str:
    """Return `FILE.py:NAME` with the absolute path of a file here or in `folder`, if it exists.

    A module, and a file that is nowhere, stay as they are: a run can be opened without them.
    """
    place, name = split_spec(spec)
    if place.endswith(".py"):
        for path in (Path(place), *([] if folder is None else [folder / place])):
            if path.is_file():
                return f"{path.resolve()}:{name}"
    return spec
