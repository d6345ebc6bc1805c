"""Convert a data set to another file format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from p2r.datasets.items import read_items
from p2r.errors import UserError
from p2r.files.atomic import replacing
from p2r.files.jsonlines import to_line
from p2r.formats import write_video_r1, write_videop2r
from p2r.formats.exports import EXPORTS, write_export
from p2r.records import Case, Question

Format = Literal[
    "video-r1", "videop2r", "p2r", "llama-factory", "ms-swift", "verl", "easyr1", "trl"
]
FORMATS: tuple[Format, ...] = get_args(Format)


def convert(
    source: Path, target: Path, to: Format, parts: int = 1, strings: bool | None = None
) -> tuple[list[Path], int]:
    """Write a file, or a run's SFT set, in another format; return the files and their records.

    `parts` and `strings` apply to the VideoP2R release (see `p2r.formats.write_videop2r`).
    """
    if parts > 1 and to != "videop2r":
        raise UserError("--parts needs --to videop2r: only this format has parts")
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
    if to in EXPORTS:
        return [write_export(counted(), target, to)], count
    with replacing(target) as lines:
        lines.writelines(to_line(item.model_dump(mode="json")) for item in counted())
    return [target], count
