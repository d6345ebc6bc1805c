"""A real study, small: it trains, answers changed frames, is stopped, and continues."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from p2r.data import resolve_model
from p2r.runs import open_run
from p2r.stages import make_playground
from p2r.studies.base import PA_GRPO, SFT, Study, View, at_step
from p2r.studies.framework.run import list_units, run_study
from p2r.studies.framework.work import Plan

pytestmark = pytest.mark.slow
SMALL = (
    *("playground.train=4", "playground.test=3", "threads=1", "eval.max_tokens=40"),
    *("rl.steps=2", "rl.prompts_per_step=1", "rl.group_size=2", "rl.micro_batch=2"),
    *("rl.max_tokens=40", "rl.preflight=0"),
)
STUDY = Study(
    "small",
    arms=(SFT, PA_GRPO, at_step(PA_GRPO, 2, every=1)),
    differences=(("pa_grpo", "sft"),),
    views=(
        "test",
        View("mixed", "test", ("video.eval_change=shuffle+drop:0.5", "video.sampling=adaptive")),
        View("int8", "test", ("eval.engine=int8",), arms=("sft",)),
    ),
    view_differences=(("mixed", "test"),),
    curves=("lost", "sufficiency"),
    timed=True,
)


def test_a_study_that_is_stopped_continues_and_makes_nothing_twice(tmp_path):
    run = open_run(tmp_path / "run", "tiny1", SMALL)
    shutil.copytree(resolve_model("playground/teacher"), run.path("sft", "model"))
    for split in ("train", "test"):
        make_playground(run, split)
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:  # after both trainings
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(STUDY, run, [7], report=stop)
    trained = sorted((run.folder / "studies" / "models").glob("pa_grpo-*/pa_grpo/model"))
    assert len(trained) == 2 and all("train pa_grpo" in line for line in lines[:2])
    before = [folder.stat().st_mtime_ns for folder in trained]
    result = run_study(STUDY, run, [7], report=lines.append)
    assert [folder.stat().st_mtime_ns for folder in trained] == before
    assert result["questions"] == 3 and list(result["curves"]["lost"]) == ["pa_grpo", "pa_grpo_2"]
    tokens = result["views"]["test"]["arms"]["sft"]["tokens"]
    assert tokens["n"] == 3 and 0 < tokens["mean"] <= 40
    assert set(result["view_differences"]["mixed - test"]) == {"sft", "pa_grpo", "pa_grpo_2"}
    final, last = (result["views"]["test"]["arms"][arm] for arm in ("pa_grpo", "pa_grpo_2"))
    assert final == last  # the last checkpoint is the final model
    assert result["seconds"]["pa_grpo"] > 0
    used = result["views"]["int8"]["usage"]
    assert list(used) == ["sft"] and used["sft"]["seconds"]["mean"] > 0
    if not torch.cuda.is_available():
        joules, peak = used["sft"]["joules"]["mean"], used["sft"]["peak_mib"]["mean"]
        assert joules > 0 and 100 < peak < 20_000
    plan = Plan(STUDY, run, [7])
    assert {row["state"] for row in list_units(plan)} == {"done"}
    cell = plan.cell("sft", 7, "mixed")
    made = json.loads((cell.run.folder / "eval" / f"{cell.stage}.json").read_text())["made"]
    assert made["frames"]["change"] == "shuffle+drop:0.5"
    assert all(len(case.trace.media["indices"]) == 4 for case in cell.cases())
