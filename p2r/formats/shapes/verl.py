"""verl: a prompt of turns, and the answer in `reward_model`."""

from __future__ import annotations

from p2r.formats.shapes import Shape, chat
from p2r.formats.values import Raw


def matches(record: Raw) -> bool:
    """Return whether the record has turns and a reward model with the reference answer."""
    model = record.get("reward_model")
    return isinstance(model, dict) and "ground_truth" in model and chat.matches(record)


def unify(record: Raw) -> Raw:
    """Return the record with the keys of Video-R1."""
    return {"solution": record["reward_model"]["ground_truth"], **chat.unify(record)}


SHAPE = Shape(
    name="verl",
    keys="prompt and reward_model",
    example={
        "prompt": [{"role": "user", "content": "<video>How many?"}],
        "videos": [{"video": "v.mp4"}],
        "reward_model": {"style": "rule", "ground_truth": "4"},
    },
    matches=matches,
    unify=unify,
    order=0,
)
