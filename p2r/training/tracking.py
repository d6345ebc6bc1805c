"""Metrics of a training for a dashboard on this machine: TensorBoard or Trackio, by the recipe's
`report_to`; off by default. `metrics.jsonl` is written either way.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, rewrite_logs

from p2r.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What makes trackio send metrics elsewhere.
_REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID")


def trackers(report_to: str, out: Path, step: int, main_process: bool) -> list[TrainerCallback]:
    """The callbacks that report a stage's metrics; nothing leaves the machine.

    TensorBoard writes into `out/tensorboard` (`tensorboard --logdir RUN`), without the steps after
    `step`, from which the stage goes on. Trackio writes into its own local store (TRACKIO_DIR),
    project "p2r", a run by the names of the run's folder and the stage (`trackio show --project
    p2r`). Raises `TrainingError` where the library is not installed.
    """
    if report_to == "none" or not main_process:
        return []
    try:
        if report_to == "trackio":
            return [_Trackio(f"{out.resolve().parent.name}/{out.name}")]
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            f"report_to={report_to} needs a library ({error}): pip install {report_to}, or set "
            "report_to=none"
        ) from error
    return [TensorBoardCallback(SummaryWriter(out / "tensorboard", purge_step=step + 1))]


class _Trackio(TrainerCallback):
    """Logs every step's metrics under their step."""

    def __init__(self, name: str) -> None:
        import trackio

        self.trackio, self.name = trackio, name

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A run of that name goes on."""
        with _local():
            self.trackio.init(
                project="p2r",
                name=self.name,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "train_runtime" not in logs:  # the summary that ends a training is no step's
            self.trackio.log(rewrite_logs(logs), step=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trackio.finish()


@contextmanager
def _local() -> Iterator[None]:
    """Whatever the environment says, trackio keeps to this machine."""
    kept = {name: os.environ.pop(name) for name in _REMOTE if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
