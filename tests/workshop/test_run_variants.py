"""Variants of a stage: a folder of their own, the settings that differ, and the comparison."""

import json

import pytest

from p2r import workshop
from p2r.errors import UserError
from p2r.workshop import variants
from p2r.workshop.variants import changed_settings, inputs_of, last_numbers, open_variant, table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    few = ["playground.train=2", "playground.test=1"]
    return workshop.begin(tmp_path_factory.mktemp("runs") / "run", "quick", overrides=few)


def write_metrics(run, folder, *rows):
    run.path(folder, "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_variant_is_a_run_inside_the_run(run):
    variant = open_variant(run, "rl", "no KL!", ["rl.beta=0"])
    assert variant.folder == run.folder / "variants" / "rl" / "no-KL"
    assert changed_settings(run, variant) == "rl.beta=0.0"
    assert changed_settings(run, run) == ""
    inputs = inputs_of(run, "rl")
    assert inputs == {
        "questions": run.folder / "data" / "train.jsonl",
        "data_root": run.folder / "data",
    }


def test_a_stage_without_its_inputs_is_refused(run):
    for stage, missing in (("filter", "generate.jsonl"), ("sft", "sft.jsonl"), ("rl", "model")):
        with pytest.raises(UserError, match=f"{missing} is missing: run that stage"):
            workshop.vary(run, stage, {"other": []})


def test_variants_of_rl_are_compared_by_their_last_steps(run, capsys):
    grpo = open_variant(run, "rl", "GRPO", ["rl.credit=outcome"])
    row = {"reasoning/accuracy": 0.5, "joint/collapse": 0.25}
    write_metrics(
        run, "pa_grpo", *({"step": n, "perception/accuracy": n / 10} | row for n in range(1, 9))
    )
    write_metrics(grpo, "grpo", {"step": 1, "perception/accuracy": float("nan")} | row)
    runs = {"PA-GRPO": run, "GRPO": grpo}
    numbers = last_numbers(runs, "rl")
    assert numbers["PA-GRPO"]["perception/accuracy"] == pytest.approx(0.6)  # of the last 5
    assert numbers["GRPO"]["perception/accuracy"] is None
    first, ours, theirs = table(runs, "rl").splitlines()
    assert "perception/accuracy" in first and "0.600" in ours
    assert "–" in theirs and theirs.endswith("rl.credit=outcome")
    figure = workshop.compare(runs, "rl", window=1)
    assert capsys.readouterr().out.startswith(" ") and len(figure.data) == 3


def test_variants_of_sft_and_filter_are_compared(run):
    other = open_variant(run, "sft", "other", ["sft.learning_rate=0.001"])
    for each, loss in ((run, 1.0), (other, 0.5)):
        write_metrics(each, "sft", {"step": 1, "loss": loss, "mean_token_accuracy": 0.9})
        each.path("funnel.json").write_text(
            json.dumps({"table": {"all": {"kept": int(loss * 10)}}})
        )
    runs = {"as it was": run, "other": other}
    assert [list(line.y) for line in workshop.compare(runs, "sft").data] == [[1.0], [0.5]]
    assert list(workshop.compare(runs, "filter").data[0].y) == [10, 5]
    assert set(variants.last_numbers(runs, "filter")["other"]) == {"kept"}
