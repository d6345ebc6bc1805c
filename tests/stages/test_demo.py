"""A small demo: every stage runs, results have the documented form, and a kill is resumed."""

from __future__ import annotations

import io
import json
import os
import random
import time
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import forks
import pytest
from rich.console import Console

from p2r.cases.store import CaseStore
from p2r.cli import run_cli
from p2r.cli.tables import DemoReport, format_interval, results_table
from p2r.datasets.cards import write_card
from p2r.datasets.describe import card_of
from p2r.runs import open_run
from p2r.stages import demo

pytestmark = pytest.mark.slow
SHRUNK = (
    "playground.train=64",
    "playground.validation=4",
    "playground.test=12",
    "playground.ambiguous=2",
    "playground.new_domain=2",
    "playground.long=1",
    "playground.false_notes=2",
    "generate.batch_size=16",
    "sft.max_steps=3",
    "sft.batch_size=4",
    "sft.save_steps=1",
    "rl.steps=2",
    "rl.prompts_per_step=2",
    "rl.group_size=4",
    "rl.micro_batch=8",
    "rl.max_tokens=48",
    "rl.preflight=0",
    "rl.save_steps=1",
    "eval.max_tokens=64",
)
ARMS = ("grpo", "pa_grpo", "pa_grpo_grounded")
MODELS = ("base", "sft", *ARMS)
METRICS = ("accuracy", "sufficiency", "format", "mismatch")


def command(run: Path) -> list[str]:
    overrides = [part for override in SHRUNK for part in ("--set", override)]
    return ["demo", "--run", str(run), *overrides]


def run_here(*arguments: str) -> str:
    """Run a command in this OS process, which has the libraries already. Return its output."""
    with (
        mock.patch.dict(os.environ, P2R_NO_APP="1"),
        forks.instead_of_spawn(),
        redirect_stdout(io.StringIO()) as printed,
    ):
        assert run_cli(list(arguments)) == 0
    return printed.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A demo that was killed at a random moment and then finished: its run and its output."""
    run = tmp_path_factory.mktemp("demo") / "run"
    child = forks.start(run_cli, command(run), environment={"P2R_NO_APP": "1"})
    time.sleep(random.uniform(1, 15))
    child.kill()
    child.join()
    return run, run_here(*command(run))


def test_results_have_the_documented_form(finished):
    run, _ = finished
    results = json.loads((run / "results.json").read_text())
    assert tuple(results) == MODELS
    for model in MODELS:
        assert tuple(results[model]) == (*demo.SECOND_WORLD, "follows note", "follows video")
        for metric in results[model].values():
            assert set(metric) - {"unit"} == {"mean", "low", "high", "n"}
        assert results[model]["accuracy"]["n"] == 12
        assert results[model]["follows note"]["n"] == 2
    splits = json.loads((run / "splits.json").read_text())
    assert [*splits] == ["ambiguous", "new_domain", "long"]
    assert all(tuple(found) == MODELS[1:] for found in splits.values())
    direct = json.loads((run / "eval" / "base_direct.json").read_text())
    assert list(direct["metrics"]) == ["accuracy"]


def test_cases_of_all_stages_are_in_the_run(finished):
    run, _ = finished
    stages = CaseStore([run]).values("trace.stage")
    assert stages["cot"] == 64
    assert all(stages[f"eval-{model}"] == 12 for model in (*MODELS, "base_direct"))
    assert [stages[f"rl-{arm}"] for arm in ARMS] == [16] * 3
    made = {arm: json.loads((run / arm / "made.json").read_text())["rl"] for arm in ARMS}
    assert made["pa_grpo_grounded"].pop("judge") == "grounded"
    assert made["pa_grpo"].pop("judge") == "oracle"
    assert made["pa_grpo"] == made["pa_grpo_grounded"] != made["grpo"]


def test_nothing_is_done_twice(finished):
    run, _ = finished
    for journal in [run / "generate.jsonl", run / "verdicts.jsonl", *run.glob("eval/*.jsonl")]:
        keys = [json.loads(line)["key"] for line in journal.read_text().splitlines()]
        assert len(keys) == len(set(keys))
    for metrics in run.glob("*/metrics.jsonl"):
        steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
        assert steps == sorted(set(steps))


def test_media_of_every_case_are_found_under_one_root(finished):
    run, _ = finished
    root = run / (run / "data_root").read_text().strip()
    assert all((root / case.question.path).is_file() for case in CaseStore([run]).cases())


def test_the_funnel_and_the_card_count_the_kept_traces(finished, tmp_path):
    run, _ = finished
    kept = (run / "sft.jsonl").read_text().count("\n")
    funnel = json.loads((run / "funnel.json").read_text())["table"]["all"]
    assert funnel["generated"] == 64 and funnel["kept"] == kept > 0
    page, _ = write_card(card_of(run), tmp_path)
    text = page.read_text()
    assert f"{kept} records" in text and "license: apache-2.0" in text
    for step in ("generated", "on template", "right answer", "sufficient observation", "kept"):
        assert f"| {step} | {funnel[step]} |" in text
    for said in (
        "playground/second/teacher",
        "Judge of observations: oracle",
        f"| playground | {kept} |",
    ):
        assert said in text


def test_a_finished_demo_shows_its_results_at_once(finished):
    run, words = finished
    assert "SFT + PA-GRPO" in words and "SFT + grounded PA-GRPO" in words
    before = (run / "results.json").read_text()
    assert "SFT + PA-GRPO" in run_here(*command(run))
    assert (run / "results.json").read_text() == before


def test_a_study_over_seeds_uses_the_run_as_one_seed(finished, tmp_path):
    run, _ = finished
    file = tmp_path / "both.py"
    file.write_text(
        "from p2r.studies.base import GRPO, PA_GRPO, Study\n"
        'STUDY = Study("both", (GRPO, PA_GRPO), (("pa_grpo", "grpo"),), show=("accuracy",))\n'
    )
    run_here("study", str(file), "--run", str(run), "--seeds", "0,1", "--jobs", "2")
    written = json.loads((run / "study_both.json").read_text())
    assert not list(run.glob("studies/models/*-seed0-*/*/model"))  # those of the run are used
    assert written["seeds"] == [0, 1] and written["questions"] == 12
    own = json.loads((run / "results.json").read_text())["pa_grpo"]["accuracy"]["mean"]
    assert written["pa_grpo"]["accuracy"]["per_seed"][0] == pytest.approx(own, abs=1e-5)
    for metric in METRICS[:3]:
        gained = written["difference"][metric]["mean"]
        both = written["pa_grpo"][metric]["mean"] - written["grpo"][metric]["mean"]
        assert gained == pytest.approx(both, abs=1e-6)


def test_table_of_results():
    interval = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    empty = {"mean": None, "low": None, "high": None, "n": 0}
    assert format_interval(interval) == "50.0 [25–75]"
    assert format_interval(empty) == format_interval(None) == "–"
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(results_table({"base": {"accuracy": interval}, "sft": {"mismatch": empty}}))
    text = console.export_text()
    assert "base" in text and "SFT" in text and "50.0 [25–75]" in text


def test_the_tables_of_the_second_world(tmp_path, monkeypatch):
    """Truth, sentences told and the source followed; other splits; no model is asked twice."""
    overrides = [
        "playground.test=4",
        "playground.ambiguous=2",
        "playground.new_domain=0",
        "playground.long=1",
        "playground.false_notes=3",
        "eval.max_tokens=24",
    ]
    run = open_run(tmp_path / "run", "tiny", overrides)
    models = {"base": "playground/second/base", "pa_grpo_grounded": "playground/second/teacher"}
    assert tuple(demo.models_of(run)) == MODELS
    monkeypatch.setattr(demo, "models_of", lambda run: models)

    results = demo.evaluate_all(run)
    assert tuple(results) == tuple(models)
    assert tuple(results["base"]) == (*demo.SECOND_WORLD, "follows note", "follows video")
    assert set(METRICS) < set(demo.SECOND_WORLD)
    assert results["base"]["sentences told"]["unit"] == "sentences"
    assert results["base"]["follows note"]["n"] == 3
    splits = demo.evaluate_splits(run)
    assert {split: found["pa_grpo_grounded"]["exact"]["n"] for split, found in splits.items()} == {
        "ambiguous": 2,
        "long": 1,
    }
    made = json.loads((run.folder / "eval" / "pa_grpo_grounded-long.json").read_text())["made"]
    assert made["frames"]["max_frames"] == 64

    report = DemoReport(Console(width=80, record=True, file=io.StringIO()))
    report.results(results)
    report.splits(splits)
    text = report._console.export_text()
    assert "…" not in text and text.count("SFT + grounded") == 3 + 2
    assert "ambiguous" in text and "(n = 2)" in text

    monkeypatch.setattr("p2r.data.load_model", lambda *_: pytest.fail("asked again"))
    monkeypatch.setattr("p2r.engines.load_engine", _known_engine(run))
    assert demo.evaluate_all(run) == results
    assert demo.evaluate_splits(run) == splits


def _known_engine(run):
    """Return a loader of engines that write nothing: every answer is in the journals."""

    def load(recipe, model, **settings):
        stage = "base" if model == "playground/second/base" else "pa_grpo_grounded"
        made = json.loads((run.folder / "eval" / f"{stage}.json").read_text())["made"]
        journal = (run.folder / "eval" / f"{stage}.made.json").read_text()
        return SimpleNamespace(
            name=made["model"],
            identity=json.loads(journal),
            generate=lambda requests, sampling: [pytest.fail("asked again") for _ in requests],
        )

    return load
