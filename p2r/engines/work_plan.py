"""How the work of one stage is shared, spread and protected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2r.files.journal import Shard

# Sends messages, so many at a time, to workers that a function makes: `p2r.engines.ray_cluster`.
Spread = Callable[[Callable[[], Any], Sequence[Any], int], Iterator[Any]]


@dataclass(frozen=True)
class WorkPlan:
    """How a stage does its work; the default does all of it here, in this OS process.

    - `shard`: do only this part of the work; other shards do the rest.
    - `spread`: send the work to a cluster, with a model that `make_model` makes on each node.
    - `make_model`: a picklable function without arguments that makes the engine or judge again,
      on another node or in the subprocess that retries samples after a crash.
    - `patience`: the engine counts as hung after so many seconds without an answer. A command of
      p2r then ends, and the next start retries the samples that were in progress. In any other
      program, p2r only logs the hang.
    - `group`: how many samples a retry or a node takes at once.
    - `bad_records`: how many records of the question file are unusable, by reason.
    """

    shard: Shard | None = None
    spread: Spread | None = None
    make_model: Callable[[], Any] | None = None
    patience: float | None = None
    group: int = 8
    bad_records: Mapping[str, int] = field(default_factory=dict)


DEFAULT_PLAN = WorkPlan()


def find_spread(ray: bool) -> Spread | None:
    """Return the function that sends work to a Ray cluster; None if `ray` is false."""
    if not ray:
        return None
    from p2r.engines.ray_cluster import ray_map

    return ray_map
