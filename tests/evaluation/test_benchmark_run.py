"""`p2r eval run` on ten real clips, in the format of each benchmark, with the tiny model."""

from __future__ import annotations

import json
import shutil

import pytest
from benchmark_examples import CLIPS, WRITERS, write_benchmark
from measures import shared_data

from p2r.cli import run_cli
from p2r.evaluation.benchmark import Item
from p2r.evaluation.benchmarks import all_benchmarks
from p2r.evaluation.results import Result, write_result
from p2r.evaluation.transfer import INPUTS
from p2r.runs import read_json

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow
# The number of questions in the paper's subset of each file, if it is not ten.
ASKED = {"mlvu": 20, "videommmu": 30, "mvbench": 20, "tempcompass": 80, "vcrbench": 9}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Ten real clips in one folder. TempCompass needs them as .mp4 files."""
    folder = tmp_path_factory.mktemp("clips")
    for clip in CLIPS:
        source = shared_data("videos") / clip
        shutil.copy(source, folder / clip)
        shutil.copy(source, folder / f"{source.stem}.mp4")
    return folder


def arguments(run, model, name, files, clips):
    return [
        *(
            "eval",
            "run",
            "--run",
            str(run),
            "--recipe",
            "tiny1",
            "--model",
            str(model),
            "--name",
            "tiny",
        ),
        *("--benchmark", name, "--questions", str(files), "--data-root", str(clips)),
        *("--set", "eval.max_tokens=4", "--set", "threads=1", "--set", "eval.batch_size=16"),
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_ten_clips_end_to_end(name, clips, model_folder, tmp_path, capsys):
    files = write_benchmark(name, tmp_path / "files")
    command = arguments(tmp_path / "run", model_folder, name, files, clips)
    assert run_cli([*command, "--json"]) == 0
    shown = capsys.readouterr()
    asked = ASKED.get(name, 10)
    assert f"{asked} questions" in shown.err, "the manifest is reported before the run"
    result = read_json(tmp_path / "run" / "results" / f"tiny-{name}.json")
    printed = json.loads(shown.out)
    assert printed["metrics"]["format"]["n"] == printed["scores"]["n"] == result["n"]
    unreadable = result["counts"]["unreadable"]
    assert unreadable == asked // 5 if name != "vcrbench" else unreadable == 2
    assert result["n"] == len(result["items"]) == asked - unreadable
    assert result["benchmark"] == name and result["expected"] == all_benchmarks()[name].expected
    for extractor in ("official", "robust"):
        scores = result[extractor]
        assert scores["n"] + result["counts"]["not scored"][extractor] >= 1
        assert scores["parts"], "the parts of the benchmark are there"
    made = result["made"]
    assert (
        made["frames"]["max_frames"] == 8 and made["prompt"]["hash"] and made["prompt"]["example"]
    )
    assert made["seed"] == 0 and made["environment"]["versions"]["torch"]
    assert {row["question_id"] for row in made["unreadable"]}
    first = result["items"][0]
    assert first["trace"]["media"]["decoder"] and first["trace"]["media"]["fps"]
    assert set(first["extraction"]) == set(first["score"]) == {"official", "robust"}


def test_a_resumed_run_has_the_same_score_as_an_uninterrupted_one(clips, model_folder, tmp_path):
    files = write_benchmark("videomme", tmp_path / "files")
    for name in ("whole", "broken"):
        run = tmp_path / name
        assert run_cli(arguments(run, model_folder, "videomme", files, clips)) == 0
    journal = tmp_path / "broken" / "eval" / "tiny-videomme.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:3]) + lines[3][:40])  # killed while writing the fourth
    (tmp_path / "broken" / "results" / "tiny-videomme.json").unlink()
    assert run_cli(arguments(tmp_path / "broken", model_folder, "videomme", files, clips)) == 0
    whole, again = (
        read_json(tmp_path / name / "results" / "tiny-videomme.json")
        for name in ("whole", "broken")
    )
    for key in ("n", "counts", "official", "robust"):
        assert whole[key] == again[key]
    assert [item["output"] for item in whole["items"]] == [i["output"] for i in again["items"]]


def test_check_reports_missing_media_and_odd_records(clips, tmp_path, capsys):
    files = write_benchmark("mmvu", tmp_path)
    records = json.loads(files.read_text())
    records[0]["choices"] = {"A": "only"}
    records[1]["question"] = "What is cafÃ©?"
    records[2]["answer"] = "Q"
    records += [dict(records[4]), {**records[4], "id": "again"}, "no record"]
    records[5]["video"] = "absent.mp4"
    files.write_text(json.dumps(records))
    command = ["eval", "check", "--benchmark", "mmvu", "--questions", str(files)]
    assert run_cli([*command, "--data-root", str(clips), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["questions"] == 11 and found["expected"] == 625 and not found["complete"]
    assert found["counts"] == {
        "bad record": 1,
        "duplicate id": 1,
        "fewer than two options": 1,
        "garbled characters": 1,
        "media missing": 1,
        "outside the subset": 1,
        "same question under several ids": 1,
        "the reference answer is no option": 2,
    }
    assert run_cli(command) == 1
    assert "11 questions of 625 expected" in capsys.readouterr().out


def test_check_ends_with_0_if_the_files_are_complete_or_their_number_is_not_known(
    clips, tmp_path, capsys, monkeypatch
):
    from p2r.evaluation.questions import Manifest

    files = write_benchmark("mmvu", tmp_path)
    command = ["eval", "check", "--benchmark", "mmvu", "--questions", str(files)]
    for expected, missing, code in ((9, 0, 0), (9, 1, 1), (10, 0, 1), (None, 0, 0), (None, 1, 1)):
        counts = {"media missing": missing} if missing else {}
        found = Manifest("mmvu", 9, expected, counts, {name: ["a.mp4"] for name in counts})
        answer = ([], found)
        monkeypatch.setattr("p2r.evaluation.questions.read_benchmark", lambda *_, a=answer: a)
        assert run_cli(command) == code, (expected, missing)


def test_perception_transfer_writes_a_result_for_each_input(clips, model_folder, tmp_path, capsys):
    """A model answers from another model's observations. The report shows it in Table 5."""
    files = write_benchmark("mmvu", tmp_path / "files")
    noticed = [
        Item(
            f"validation_{k}", "B", "B", "multiple choice", trace={"observation": "I see a rabbit."}
        )
        for k in range(2)
    ]
    source = write_result(Result("mmvu", "a", noticed), tmp_path / "a.json")
    run = tmp_path / "run"
    _, _, *options = arguments(run, model_folder, "mmvu", files, clips)
    assert run_cli(["eval", "transfer", str(source), *options]) == 0
    shown = capsys.readouterr().out
    for given in INPUTS:
        result = read_json(run / "results" / f"tiny-transfer-{given.replace(' + ', '-')}.json")
        assert result["n"] == 2 and result["made"]["input"] == given
        seen = [bool(item["trace"].get("media")) for item in result["items"]]
        assert seen == [given.startswith("video")] * 2
        said = ["I see a rabbit." in item["problem"] for item in result["items"]]
        assert said == ["observation" in given] * 2
        row = given.replace("observation", "a's observation")
        assert f": {row} (official) | **measured**" in shown
