"""Two processes (gloo, on the CPU) train as one does: the same groups, advantages, losses, weights.

Run by hand as `python -m torch.distributed.run --nproc_per_node=2 tests/test_processes.py …`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_rl import FULL, Told, make_trainer
from torch.testing import assert_close

from p2r.records import Question
from p2r.template import render
from p2r.trainer import ProcessAwareGRPOTrainer

pytest_plugins = ["small_fixtures"]
STEPS, PROMPTS, GROUP = 3, 3, 4
# What is said to each of the prompts; to the second nothing that tells the processes apart.
SAID = [
    *(FULL, render("I see.", "So two.", "2"), render("I see two.", "So three.", "3"), "2"),
    *[FULL] * 4,
    *(render("I see fog.", "So.", "2"), FULL, render("I see.", "So three, or so.", "3"), FULL),
]


class OfAll(Told, ProcessAwareGRPOTrainer):
    """Each process says its part of what is said."""

    @property
    def responses(self):
        each = len(SAID) // self.accelerator.num_processes
        first = self.accelerator.process_index * each
        return SAID[first : first + each]


def train(out: str, model: str, media: str, questions: str, *overrides: str) -> None:
    """Three steps; the main process writes what they gave."""
    asked = [
        Question.model_validate_json(line) for line in Path(questions).read_text().splitlines()
    ]
    trainer, cases = make_trainer(
        OfAll, Path(model), Path(media), asked, Path(out) / "checkpoints",
        f"rl.steps={STEPS}", f"rl.group_size={GROUP}", "rl.learning_rate=1e-3",
        "rl.scheduler=constant", *overrides,
    )  # fmt: skip
    trainer.args.save_strategy = "no"
    trainer.train()
    if trainer.is_world_process_zero():
        torch.save(
            {
                "metrics": [row for row in trainer.state.log_history if "loss" in row],
                "cases": [case.model_dump(mode="json") for case in cases],
                "weights": trainer.accelerator.unwrap_model(trainer.model).state_dict(),
            },
            Path(out) / "found.pt",
        )


def launch(processes: int, *arguments: object) -> dict:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, f"--nproc_per_node={processes}", __file__, *map(str, arguments)],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(Path(str(arguments[0])) / "found.pt")


@pytest.mark.parametrize("normalise", ["sequence", "process"])
def test_two_processes_train_as_one(normalise, model_folder, media, questions, tmp_path):
    file = tmp_path / "questions.jsonl"
    asked = [questions[0], questions[2], questions[4]]  # two grids, and text alone
    file.write_text("".join(question.model_dump_json() + "\n" for question in asked))
    found = {}
    for processes in (1, 2):  # groups of 4 in micro-batches of 3: they lie across all borders
        out = tmp_path / str(processes)
        out.mkdir()
        settings = ["rl.micro_batch=3", f"rl.normalise={normalise}"]
        found[processes] = launch(processes, out, model_folder, media, file, *settings)
    one, two = found[1], found[2]
    assert len(one["cases"]) == len(two["cases"]) == STEPS * PROMPTS * GROUP
    for mine, theirs in zip(one["cases"], two["cases"], strict=True):
        for trace in (mine["trace"], theirs["trace"]):
            trace["model"] = ""
        assert json.dumps(mine) == json.dumps(theirs)
    advantages = [
        (case["perception_advantage"], case["reasoning_advantage"]) for case in one["cases"]
    ]
    assert any(looked != reasoned for looked, reasoned in advantages)
    names = [
        name for name in one["metrics"][0]
        if not name.startswith(("time/", "step_time", "train_")) and "epoch" not in name
    ]  # fmt: skip
    assert {"loss", "grad_norm", "kl", "perception/kl", "reasoning/collapse"} <= {*names}
    assert len(one["metrics"]) == STEPS
    for mine, theirs in zip(one["metrics"], two["metrics"], strict=True):
        for name in names:
            assert theirs[name] == pytest.approx(mine[name], rel=1e-4, abs=1e-6, nan_ok=True), name
    assert abs(one["metrics"][-1]["loss"]) > 1e-4 and one["metrics"][-1]["kl"] > 1e-4
    for name, weight in one["weights"].items():
        assert_close(two["weights"][name], weight, atol=2e-5, rtol=1e-4, msg=name)


if __name__ == "__main__":
    train(*sys.argv[1:])
