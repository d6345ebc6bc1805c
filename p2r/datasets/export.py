"""Data sets on their way out: to other formats, to a folder, to the hub."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from p2r.errors import UserError
from p2r.files.jsonlines import to_line
from p2r.formats import (
    BadRecord,
    OnBad,
    read_cases,
    read_questions,
    write_video_r1,
    write_videop2r,
)
from p2r.formats.rawrecords import NO_TRACE, BadValue, to_videop2r
from p2r.records import Case, Question
from p2r.runs import replacing

Format = Literal["video-r1", "videop2r", "p2r"]
FORMATS: tuple[Format, ...] = ("video-r1", "videop2r", "p2r")
EXPORTED = "data/train.jsonl"


def export_record(item: Question | Case) -> dict[str, str | list[str]]:
    """A record with the fields of the VideoP2R release: `options` a list, all others text, so that
    a column has one type in the whole set.
    """
    question = item.question if isinstance(item, Case) else item
    record = to_videop2r(item)
    record["problem_id"] = str(record["problem_id"])
    record["options"] = list(question.options)
    known = {k: v for k, v in record.items() if isinstance(v, str) or k == "options"}
    # Worlds of the playground and scores of a release stay with the records, as one text.
    if rest := {key: value for key, value in record.items() if key not in known}:
        if "meta" in known:
            rest["meta"] = known["meta"]
        known["meta"] = json.dumps(rest)
    return known


def read_items(path: Path, on_bad: OnBad | None = None) -> Iterator[Question | Case]:
    """The traces of a file or of a run's SFT set; its questions where it holds no traces.

    `on_bad` gets the bad records of a file; by default they are logged.
    """
    if (path / "recipe.yaml").is_file():
        from p2r.pipeline import read_kept
        from p2r.runs import Run
        from p2r.runs.recipe import load_recipe

        read_kept(Run(path, load_recipe(path / "recipe.yaml")), count=1)
        return read_cases(path / "sft.jsonl")
    return read_cases(path, on_bad) if _holds_traces(path) else read_questions(path, on_bad)


def _holds_traces(path: Path) -> bool:
    """Whether the first good record has a trace."""

    def stop(bad: BadRecord) -> None:
        if bad.reason == NO_TRACE:
            raise BadValue(bad.reason)

    try:
        return next(read_cases(path, stop), None) is not None
    except BadValue:
        return False


def convert(
    source: Path, target: Path, to: Format, parts: int = 1, strings: bool | None = None
) -> tuple[list[Path], int]:
    """Write a file, or a run's SFT set, in another format; returns the files and their records.

    `parts`, `strings`: of the VideoP2R release (see `p2r.formats.write_videop2r`).
    """
    if parts > 1 and to != "videop2r":
        raise UserError("only files of the VideoP2R release come in parts")
    count = 0

    def counted() -> Iterator[Question | Case]:
        nonlocal count
        for item in read_items(source):
            count += 1
            yield item

    if to == "videop2r":
        return write_videop2r(counted(), target, parts, strings), count
    if to == "video-r1":
        return [write_video_r1(counted(), target)], count
    with replacing(target) as lines:
        for item in counted():
            lines.write(to_line(item.model_dump(mode="json")))
    return [target], count


def push(source: Path, repository: str, *, folder: Path | None = None, private: bool = True) -> str:
    """Publish a set with its cards: `README.md`, `croissant.json` and `data/train.jsonl`.

    To the hub's dataset `repository`, with the token that `hf auth login` keeps; or, with `folder`,
    to that folder only, as the hub would get it. Returns where it is.
    """
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        _stage(source, staged, repository)
        if folder is not None:
            shutil.copytree(staged, folder, dirs_exist_ok=True)
            return str(folder)
        return _upload(staged, repository, private)


def _stage(source: Path, folder: Path, repository: str) -> None:
    from p2r.datasets.cardfacts import card_of
    from p2r.datasets.cards import write_card

    with replacing(folder / EXPORTED) as lines:
        lines.writelines(to_line(export_record(item)) for item in read_items(source))
    page, croissant = write_card(card_of(source, repository.rpartition("/")[2]), folder)
    page.rename(folder / "README.md")
    croissant.rename(folder / "croissant.json")


def _upload(staged: Path, repository: str, private: bool) -> str:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi()
    try:
        url = hub.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, repo_type="dataset", folder_path=staged)
    except (HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the hub refused {repository!r} ({reason}): check its name and `hf auth login`"
        ) from error
    except httpx.TransportError as error:
        raise UserError(
            f"the hub cannot be reached ({error}): nothing was lost, the same command tries again; "
            "--folder writes the set here"
        ) from error
    return str(url)
