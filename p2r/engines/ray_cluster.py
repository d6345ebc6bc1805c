"""Spread work over a Ray cluster: Ray Data sends messages to actors that hold an engine or a judge.

Only the driver writes journals. If an actor or its node crashes, its batch is retried. A batch that
crashes again and again gets no answer.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from p2r.errors import EngineError

RETRIES = 2  # of a batch whose actor or node crashed


@dataclass(frozen=True)
class RayPool:
    """The actors: as many as fit, at most `actors`, each with these resources."""

    actors: int | None = None
    cpus: float = 1.0
    gpus: float | None = None


def ray_map(
    make: Callable[[], Callable[[list[Any]], list[Any]]],
    messages: Sequence[Any],
    batch: int,
    pool: RayPool = RayPool(),
) -> Iterator[Any]:
    """Yield what the workers answer to `messages`, in any order.

    `make`: returns a worker, a function that answers a list of messages. A worker gets `batch`
    messages at a time. `make` and the messages are pickled. A batch that crashes its actor on
    every retry gets no answer. Raises `EngineError`, and the user errors that a worker raised.
    """
    try:
        import ray
    except ImportError as error:
        raise EngineError("--ray needs Ray: pip install -e '.[ray]'") from error
    if not messages:
        return
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, include_dashboard=False)
        except Exception as error:  # Ray raises plain exceptions if a node does not start
            reason = " ".join(str(error).split())[:300]
            raise EngineError(f"cannot reach or start a Ray cluster: {reason}") from error
    resources = ray.cluster_resources()
    gpus = pool.gpus if pool.gpus is not None else float(resources.get("GPU", 0) > 0)
    fit = int(resources["GPU"] / gpus) if gpus else int(resources.get("CPU", 1) / pool.cpus)
    actors = max(1, min(pool.actors or fit, fit, -(-len(messages) // batch)))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a batch that crashes its actors must not stop the rest
    # One block per batch, so that a crash costs one batch.
    rows = [{"message": pickle.dumps(message)} for message in messages]
    blocks = -(-len(rows) // batch)
    # A batch that waits at an actor is lost with it, so a single message must not wait.
    waiting = 1 if batch == 1 else 2
    answers = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        _Actor,
        fn_constructor_args=(pickle.dumps(make),),
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=waiting),
        num_cpus=pool.cpus,
        num_gpus=gpus,
        max_restarts=-1,
        max_task_retries=RETRIES,
    )
    found = answers.iter_rows()
    try:
        for row in found:
            answer = pickle.loads(row["answer"])
            if isinstance(answer, Exception):
                raise answer
            yield answer
    finally:
        # Ray ends the actors when these objects are gone. A traceback would keep them, and the next
        # pool would wait for their CPUs.
        del found, answers


class _Actor:
    """Holds a worker on a node and answers batches of pickled messages."""

    def __init__(self, make: bytes) -> None:
        self._answer = pickle.loads(make)()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        try:
            answers = self._answer([pickle.loads(message) for message in batch["message"]])
        except (ValueError, OSError) as error:
            if getattr(error, "died", False):
                raise  # as if the actor had crashed
            answers = [error]  # an error that the user can fix: raised again in the driver
        return {"answer": [pickle.dumps(answer) for answer in answers]}
