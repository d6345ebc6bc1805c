"""Two workers (gloo, on the CPU) train like one: the same groups, advantages, losses and weights.

To run it by hand:

    python -m torch.distributed.run --nproc_per_node=2 tests/training/test_processes.py …
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_rl import FULL, WithResponses, make_trainer

from p2r.records import Question
from p2r.rewards import NORMALISATIONS
from p2r.template import render
from p2r.training.trainer import ProcessAwareGRPOTrainer

pytestmark = pytest.mark.distributed
pytest_plugins = ["small_fixtures"]
STEPS, PROMPTS, GROUP = 3, 3, 4
# The responses to each prompt. Those to the second prompt all get the same rewards.
SAID = [
    *(FULL, render("I see.", "So two.", "2"), render("I see two.", "So three.", "3"), "2"),
    *[FULL] * 4,
    *(render("I see fog.", "So.", "2"), FULL, render("I see.", "So three, or so.", "3"), FULL),
]


class OfAll(WithResponses, ProcessAwareGRPOTrainer):
    """Each worker writes its part of the responses."""

    @property
    def responses(self):
        each = len(SAID) // self.accelerator.num_processes
        first = self.accelerator.process_index * each
        return SAID[first : first + each]


def train(out: str, model: str, media: str, questions: str) -> None:
    """Train three steps with both normalisations; the main worker saves the results."""
    lines = Path(questions).read_text().splitlines()
    asked = [Question.model_validate_json(line) for line in lines]
    for normalise in NORMALISATIONS:
        found = steps(Path(out), model, media, asked, f"rl.normalise={normalise}")
        if found:
            torch.save(found, Path(out) / f"{normalise}.pt")


def steps(out: Path, model: str, media: str, asked: list[Question], *overrides: str) -> dict:
    """Return metrics and cases of three steps; an empty result on other workers."""
    trainer, cases = make_trainer(
        OfAll, Path(model), Path(media), asked, out / "checkpoints",
        f"rl.steps={STEPS}", f"rl.group_size={GROUP}", "rl.micro_batch=3", "rl.learning_rate=1e-3",
        "rl.scheduler=constant", *overrides,
    )  # fmt: skip
    trainer.args.save_strategy = "no"
    trainer.train()
    if not trainer.is_world_process_zero():
        return {}
    return {
        "metrics": [row for row in trainer.state.log_history if "loss" in row],
        "cases": [case.model_dump(mode="json") for case in cases],
    }


@pytest.fixture(scope="module")
def found(model_folder, media, questions, tmp_path_factory) -> dict[int, Path]:
    """The result folders of one worker and of two workers."""
    folder = tmp_path_factory.mktemp("processes")
    file = folder / "questions.jsonl"
    asked = [questions[0], questions[2], questions[4]]  # two grids, and text alone
    file.write_text("".join(question.model_dump_json() + "\n" for question in asked))
    folders = {}
    for count in (1, 2):
        folders[count] = folder / str(count)
        folders[count].mkdir()
        paths = [str(path) for path in (folders[count], model_folder, media, file)]
        if count == 1:
            train(*paths)
            continue
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
        done = subprocess.run(
            [sys.executable, *launch, __file__, *paths],
            capture_output=True, text=True, timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    return folders


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_two_workers_train_like_one(normalise, found):
    """Groups of 4 in micro-batches of 3 cross the borders of micro-batches and workers."""
    one, two = (torch.load(found[count] / f"{normalise}.pt") for count in (1, 2))
    assert len(one["cases"]) == len(two["cases"]) == STEPS * PROMPTS * GROUP
    for mine, theirs in zip(one["cases"], two["cases"], strict=True):
        for trace in (mine["trace"], theirs["trace"]):
            trace["model"] = ""
        assert json.dumps(mine) == json.dumps(theirs)
    advantages = [
        (case["perception_advantage"], case["reasoning_advantage"]) for case in one["cases"]
    ]
    assert any(looked != reasoned for looked, reasoned in advantages)
    # Times are not compared. Means over the tokens of a micro-batch depend on the micro-batches.
    # The losses of later steps show that the weights agree. Weights with almost no gradient may
    # differ, because Adam turns rounding errors into full steps.
    by_cut = ("entropy", "kl", "clip_ratio")
    names = [
        name
        for name in one["metrics"][0]
        if not name.startswith(("time/", "step_time", "train_", "epoch", *by_cut))
    ]
    assert {"perception/kl", "reasoning/entropy"} <= {*names}
    assert {"loss", "grad_norm", "judge/calls", "reasoning/collapse"} <= {*names}
    assert len(one["metrics"]) == STEPS
    for mine, theirs in zip(one["metrics"], two["metrics"], strict=True):
        for name in names:
            if mine[name] is None or theirs[name] is None:  # unknown
                assert mine[name] is theirs[name], name
                continue
            assert theirs[name] == pytest.approx(mine[name], rel=1e-4, abs=1e-6), name
    assert abs(one["metrics"][-1]["loss"]) > 1e-4 and one["metrics"][-1]["kl"] > 1e-4


if __name__ == "__main__":
    train(*sys.argv[1:])
