"""VSI-Bench: the data set and the scene name the video; some answers are measured."""

from __future__ import annotations

from p2r.formats.media import MEDIA_KEYS
from p2r.formats.shapes import Shape
from p2r.formats.shapes.plain import unify as unify_plain
from p2r.formats.values import Raw, blank

_MEASURED = {
    "object_abs_distance": "regression",
    "object_counting": "numerical",
    "object_size_estimation": "regression",
    "room_size_estimation": "regression",
}


def matches(record: Raw) -> bool:
    """Return whether the question has a type of VSI-Bench."""
    kind = str(record.get("question_type"))
    return isinstance(record.get("question"), str) and (kind in _MEASURED or "scene_name" in record)


def unify(record: Raw) -> Raw:
    """Return the record with the keys of Video-R1."""
    unified = unify_plain(record)
    if kind := _MEASURED.get(str(record.get("question_type"))):
        unified["problem_type"] = kind
    data_set, scene = record.get("dataset"), record.get("scene_name")
    if scene and all(blank(record.get(key)) for key in MEDIA_KEYS):
        unified["path"] = "/".join(str(part) for part in (data_set, f"{scene}.mp4") if part)
    return unified


SHAPE = Shape(
    name="VSI-Bench",
    keys="question with question_type, dataset and scene_name",
    example={
        "dataset": "arkitscenes",
        "scene_name": "41069025",
        "question_type": "object_counting",
        "question": "How many chairs?",
        "ground_truth": "4",
        "options": None,
    },
    matches=matches,
    unify=unify,
)
