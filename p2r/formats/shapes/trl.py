"""TRL: a conversational prompt, and the answer as `completion`."""

from __future__ import annotations

from p2r.formats.shapes import Shape, chat
from p2r.formats.values import Raw


def matches(record: Raw) -> bool:
    """Return whether prompt and completion are lists of turns."""
    turns = (record.get("prompt"), record.get("completion"))
    return all(isinstance(t, list) and t and isinstance(t[0], dict) for t in turns)


def unify(record: Raw) -> Raw:
    """Return the record with the keys of Video-R1."""
    rest = {key: value for key, value in record.items() if key not in ("prompt", "completion")}
    return chat.unify({**rest, "messages": [*record["prompt"], *record["completion"]]})


SHAPE = Shape(
    name="TRL",
    keys="prompt and completion",
    example={
        "prompt": [{"role": "user", "content": "How many?"}],
        "completion": [{"role": "assistant", "content": "4"}],
        "videos": ["v.mp4"],
    },
    matches=matches,
    unify=unify,
    order=0,
)
