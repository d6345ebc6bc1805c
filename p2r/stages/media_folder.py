"""The media folder of a run, which the file `data_root` in the run folder names."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from p2r.errors import UserError
from p2r.files.media import media_exists
from p2r.records import Question
from p2r.runs import Run, kept_root, read_json, write_text

log = logging.getLogger(__name__)


def find_data_root(run: Run) -> Path:
    """Return the run's media folder, which an earlier stage has set."""
    root = kept_root(run.folder)
    if root is None:
        raise UserError(f"no media folder is set for run {run.folder}: pass --data-root FOLDER")
    return root


def claim_data_root(
    run: Run, given: Path | None, default: Path, asked: Iterable[Question] = ()
) -> Path:
    """Return the run's media folder and keep it at the first call.

    A run has one media folder, so that the browser finds the media of all cases. If the folder is
    gone, or no file of the questions `asked` is in it, `given` replaces it (see `move_data_root`).
    Raises `UserError` for a second folder.
    """
    root = kept_root(run.folder)
    if root is None:
        root = given or default
        _keep(run, root)
        return root
    asked = list(asked)
    gone = not root.is_dir() or (_paths(asked) and not _present(root, asked))
    if given is None or given.resolve() == root.resolve():
        if gone and not root.is_dir() and _paths(asked):
            raise UserError(
                f"the media folder {root} of run {run.folder} is gone: give its new place as "
                "--data-root"
            )
        return root
    if not gone:
        raise UserError(
            f"run {run.folder} has its media in {root}, not in {given}: give a --data-root that "
            "contains both, use another run folder, or add --move-data-root if the media moved"
        )
    _move(run, given, asked, len(_paths(asked)) / 2)
    return given


def move_data_root(run: Run, root: Path | None, questions: Path | None = None) -> None:
    """Make `root` the run's media folder, because the media moved.

    Raises `UserError` if no media file of `questions` is there (default: of the question files that
    the run used).
    """
    from p2r.formats import read_questions

    if root is None:
        raise UserError("--move-data-root needs the new media folder: pass --data-root FOLDER")
    kept = run.folder / "sources.json"
    sources = set(read_json(kept).values()) if kept.is_file() else set()
    files = [Path(file) for file in sorted(sources)] if questions is None else [questions]
    asked: list[Question] = []
    for file in files:
        try:
            asked += read_questions(file)
        except (ValueError, OSError) as error:  # a benchmark's own file, which its reader checks
            log.info("%s is not read for its media: %s", file, error)
    _move(run, root, asked, 1)


def _move(run: Run, root: Path, asked: list[Question], fewest: float) -> None:
    """Replace the media folder; raise `UserError` if fewer than `fewest` files are there."""
    paths = _paths(asked)
    missing = paths - _present(root, asked) if root.is_dir() else set()
    if missing and len(paths) - len(missing) < fewest:
        raise UserError(
            f"{len(missing)} of {len(paths)} media files are not in {root} (for example "
            f"{min(missing)}): pass the new folder of the media as --data-root. If the run needs "
            "only some of the files, add --move-data-root"
        )
    _keep(run, root)
    if missing:
        log.warning("%d of %d media files are not in %s", len(missing), len(paths), root)
    log.warning("the media folder of run %s is now %s", run.folder, root)


def _keep(run: Run, root: Path) -> None:
    if not root.is_dir():
        raise UserError(f"data root {root} is not a folder: pass the media folder as --data-root")
    inside = root.resolve().is_relative_to(run.folder.resolve())
    place = root.resolve().relative_to(run.folder.resolve()) if inside else root.resolve()
    write_text(run.folder / "data_root", f"{place}\n")


def _paths(asked: list[Question]) -> set[str]:
    return {medium.path for question in asked for medium in question.media}


def _present(root: Path, asked: list[Question]) -> set[str]:
    return {path for path in _paths(asked) if media_exists(root, path)}
