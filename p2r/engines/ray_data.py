"""Work on a Ray cluster: Ray Data streams messages through actors that hold an engine or a judge.

The driver alone writes journals; it keeps back what the actors cannot take yet, and takes results
as they come. What is lost with a node, or with an actor that dies, is done again; what is lost
twice is handed back as undone.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from p2r.errors import EngineError

RETRIES = 2  # of a batch whose actor or node died


@dataclass(frozen=True)
class RayPool:
    """How work is spread: as many actors as fit, up to `actors`, each with these resources."""

    actors: int | None = None
    cpus: float = 1.0
    gpus: float | None = None


def ray_map(
    make: Callable[[], Callable[[list[Any]], list[Any]]],
    messages: Sequence[Any],
    batch: int,
    pool: RayPool = RayPool(),
) -> Iterator[Any]:
    """What workers made by `make` answer to `messages`, in any order, `batch` at a time.

    Batches that die with their actor again and again are left out. `make` and the messages are
    pickled. Raises `EngineError`, and what a worker raised.
    """
    try:
        import ray
    except ImportError as error:
        raise EngineError("--ray needs Ray: pip install 'p2r[ray]'") from error
    if not messages:
        return
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, include_dashboard=False)
        except Exception as error:  # Ray raises plain ones where a node does not come up
            reason = " ".join(str(error).split())[:300]
            raise EngineError(f"no Ray cluster can be reached or started: {reason}") from error
    resources = ray.cluster_resources()
    gpus = pool.gpus if pool.gpus is not None else float(resources.get("GPU", 0) > 0)
    fit = int(resources["GPU"] / gpus) if gpus else int(resources.get("CPU", 1) / pool.cpus)
    actors = max(1, min(pool.actors or fit, fit, -(-len(messages) // batch)))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a batch that kills its actors must not end the others
    # A block per batch: what dies costs one batch.
    rows = [{"message": pickle.dumps(message)} for message in messages]
    blocks = -(-len(rows) // batch)
    # What waits at an actor dies with it; a message that is asked alone must be alone there too.
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
        # Ray ends the actors when nobody holds these; a traceback would, and the next pool would
        # wait for their processors.
        del found, answers


class _Actor:
    """Holds a worker on its node; answers batches of pickled messages."""

    def __init__(self, make: bytes) -> None:
        self._answer = pickle.loads(make)()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        try:
            answers = self._answer([pickle.loads(message) for message in batch["message"]])
        except (ValueError, OSError) as error:
            if getattr(error, "died", False):
                raise  # as an actor that dies
            answers = [error]  # the user's to see, at the driver
        return {"answer": [pickle.dumps(answer) for answer in answers]}
