"""Compares a learner's function with p2r's, and shows the first input where they differ."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-5
_SHOWN = 200  # most characters of a value in a message


@dataclass(frozen=True)
class Example:
    """One input of a function. `about` says in a few words what is special about it."""

    about: str
    arguments: tuple[Any, ...]


def compare(
    function: Callable[..., Any],
    reference: Callable[..., Any],
    examples: Sequence[Example],
    names: Sequence[str],
) -> Callable[..., Any]:
    """Print "passed" if both functions agree on all examples, otherwise the first difference.

    Returns the function to go on with: the learner's if it passed, otherwise p2r's, so that the
    rest of a notebook works. `names` are the names of the arguments in messages.
    """
    if is_p2rs(function):
        return settle(function, reference, None)
    return settle(function, reference, find_difference(function, reference, examples, names))


def is_p2rs(function: Callable[..., Any]) -> bool:
    """Return whether an earlier check replaced the learner's function by p2r's."""
    return getattr(function, "is_p2rs", False)


def settle(
    function: Callable[..., Any],
    reference: Callable[..., Any],
    problem: str | None,
    passed: str = "passed",
) -> Callable[..., Any]:
    """Print the problem, or that the check is passed; return the function to go on with."""
    if is_p2rs(function):
        print("this is p2r's function: run the cell with your function again, then this one")
        return function
    print(problem or passed)
    if not problem:
        return function

    @functools.wraps(reference)
    def ours(*arguments: Any, **named: Any) -> Any:
        return reference(*arguments, **named)

    ours.is_p2rs = True  # type: ignore[attr-defined]
    return ours


def call_learners(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """Return what a learner's function returns and "", or None and what went wrong."""
    try:
        return function(*arguments), ""
    except NotImplementedError:
        return None, "not written yet: the notebook goes on with p2r's function"
    except Exception as error:  # anything that a learner's code can do
        return None, f"raised {type(error).__name__}: {error}"


def find_difference(
    function: Callable[..., Any],
    reference: Callable[..., Any],
    examples: Sequence[Example],
    names: Sequence[str],
) -> str | None:
    """Return a message about the first example on which two functions differ; None if none."""
    for example in examples:
        expected = reference(*copy.deepcopy(example.arguments))
        found, problem = call_learners(function, *copy.deepcopy(example.arguments))
        if problem.startswith("not written"):
            return problem
        if problem:
            return f"{_head(example, names)}\n  {problem}"
        if place := difference(expected, found):
            return (
                f"{_head(example, names)}\n  expected {show(expected)}\n  got      {show(found)}"
                f"\n  {place}"
            )
    return None


def _head(example: Example, names: Sequence[str]) -> str:
    shown = ", ".join(
        f"{name}={show(value)}" for name, value in zip(names, example.arguments, strict=True)
    )
    return f"not yet, {example.about}:\n  {shown}"


def show(value: Any) -> str:
    """Return a value as short text; tensors and arrays as lists with few digits."""
    text = repr(_rounded(to_plain(value)))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def to_plain(value: Any) -> Any:
    """Return tensors, arrays and tuples as lists of numbers, everything else unchanged."""
    if hasattr(value, "detach"):
        value = value.detach()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {key: to_plain(part) for key, part in value.items()}
    return [to_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return round(value, 5) if isinstance(value, float) else value


def difference(expected: Any, found: Any, tolerance: float = TOLERANCE, place: str = "") -> str:
    """Return where two values differ by more than the tolerance, in words; "" if they do not."""
    expected, found = to_plain(expected), to_plain(found)
    where = f"at {place}: " if place else ""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or expected.keys() - found.keys():
            return f"{where}expected the keys {', '.join(map(str, expected))}, got {show(found)}"
        pairs = [(repr(key), value, found[key]) for key, value in expected.items()]
        return _first_difference(pairs, tolerance, place)
    if isinstance(expected, list):
        if not isinstance(found, list):
            return f"{where}expected {len(expected)} values, got {show(found)}"
        if len(expected) != len(found):
            return f"{where}expected {len(expected)} values, got {len(found)}"
        pairs = [
            (str(index), *pair) for index, pair in enumerate(zip(expected, found, strict=True))
        ]
        return _first_difference(pairs, tolerance, place)
    if _is_number(expected) and _is_number(found):
        both_nan = math.isnan(expected) and math.isnan(found)
        size = max(1.0, abs(expected))
        if both_nan or expected == found or abs(expected - found) <= tolerance * size:
            return ""
        return f"{where}{found:.6g} instead of {expected:.6g}"
    return "" if expected == found else f"{where}{found!r} instead of {expected!r}"


def _first_difference(pairs: list[tuple[str, Any, Any]], tolerance: float, place: str) -> str:
    """Return the first difference of parts: (key, expected, found)."""
    parts = (difference(a, b, tolerance, f"{place}[{key}]") for key, a, b in pairs)
    return next(filter(None, parts), "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def check_answer(answer: Any, right: Callable[[Any], bool], hint: str) -> None:
    """Print "passed" or a hint, or "no answer yet" if `answer` is None."""
    if answer is None:
        print("no answer yet")
        return
    try:
        fits = bool(right(answer))
    except Exception as error:  # an answer of another type
        print(f"not yet: the answer {show(answer)} cannot be checked ({error}); {hint}")
        return
    print("passed" if fits else f"not yet: {hint}")


def near(truth: float, tolerance: float = 0.01) -> Callable[[Any], bool]:
    """Return a test of whether an answer is within a tolerance of a number."""
    return lambda answer: abs(answer - truth) <= tolerance
