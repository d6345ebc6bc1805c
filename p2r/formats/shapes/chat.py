"""Chats: `conversations` (LLaVA, ShareGPT) and `messages` (OpenAI, ms-swift, LLaMA-Factory)."""

from __future__ import annotations

from typing import Any

from p2r.formats.media import MEDIA_KEYS
from p2r.formats.shapes import Shape, rename
from p2r.formats.shapes.plain import IDS
from p2r.formats.values import BadValue, Raw, blank, literal

TURNS = ("conversations", "messages", "prompt", "conversation", "dialog", "dialogue")
_ASKS = ("human", "user")
_ANSWERS = ("gpt", "assistant", "model", "bot")


def matches(record: Raw) -> bool:
    """Return whether the record holds a list of turns."""
    return _turns(record) is not None


def _turns(record: Raw) -> tuple[str, list[Raw]] | None:
    """Return the key of the turns and the turns; None if there are none."""
    for key in TURNS:
        value = record.get(key)
        if isinstance(value, str) and value.lstrip().startswith("[{"):
            value = literal(value)
        if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
            return key, value
    return None


def unify(record: Raw) -> Raw:
    """Return the record with the keys of Video-R1.

    The user's turn is the question, the answer's turn the solution. A system turn is left out.
    A chat of several questions is refused: the later ones depend on the earlier ones.
    """
    found = _turns(record)
    assert found is not None
    key, turns = found
    asked: list[str] = []
    answered: list[str] = []
    files: Raw = {}
    for turn in turns:
        role = str(turn.get("from") or turn.get("role")).lower()
        content = turn.get("value") if "value" in turn else turn.get("content")
        text, media = _read(content)
        if role in _ASKS:
            asked.append(text)
            files |= media
        elif role in _ANSWERS:
            answered.append(text)
        elif role not in ("system", "tool"):
            raise BadValue(f"a turn of the chat has the unknown role {role!r}")
    if len(asked) != 1 or len(answered) > 1:
        raise BadValue(
            f"a chat of {len(asked)} questions and {len(answered)} answers: give one question "
            "per record"
        )
    unified = {name: value for name, value in record.items() if name != key}
    unified = rename(unified, {"problem_id": IDS, "data_source": ("source",)})
    unified["problem"] = asked[0].strip()
    if all(blank(record.get(name)) for name in MEDIA_KEYS):
        unified |= files
    if answered:
        said = {"solution": answered[0]}
        if "<think>" in answered[0]:
            said["output"] = answered[0]
        unified |= {key: text for key, text in said.items() if blank(unified.get(key))}
    return unified


def _read(content: Any) -> tuple[str, Raw]:
    """Return the text of a turn and its media by key. A turn is a text or a list of parts."""
    if isinstance(content, str):
        return content, {}
    if not isinstance(content, list):
        raise BadValue("a turn of the chat has no text")
    texts: list[str] = []
    files: Raw = {}
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = _kind_of(part) if isinstance(part, dict) else None
        if kind == "text":
            texts.append(str(part.get("text", "")))
        elif kind in ("video", "image", "video_url", "image_url"):
            name = kind.removesuffix("_url")
            texts.append(f"<{name}>")
            values = [part[k] for k in (kind, name, "path", "url") if not blank(part.get(k))]
            if values:
                files.setdefault(f"{name}s", []).append({**part, "path": values[0]})
        else:
            raise BadValue(f"a turn of the chat has a part of the unknown type {kind!r}")
    return "\n".join(texts), files


def _kind_of(part: Raw) -> Any:
    """Return the type of a part: "text", "video", "image" …; a part without one is named by key."""
    kind = part.get("type")
    if kind is None:
        kind = next((name for name in ("text", "video", "image") if name in part), None)
    return kind.removeprefix("input_") if isinstance(kind, str) else kind


SHAPE = Shape(
    name="chat",
    keys="conversations or messages",
    example={
        "id": "1",
        "video": "v.mp4",
        "conversations": [
            {"from": "human", "value": "<video>\nWhat?\nA. x\nB. y"},
            {"from": "gpt", "value": "B"},
        ],
    },
    matches=matches,
    unify=unify,
)
