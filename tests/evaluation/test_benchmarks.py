"""Benchmarks are found by their files. A user can add one as a file."""

from __future__ import annotations

import json

import pytest
from measures import shared_data
from PIL import Image

from p2r.cli import run_cli
from p2r.data import read_frames
from p2r.errors import UserError
from p2r.evaluation.benchmarks import (
    all_benchmarks,
    benchmark_names,
    built_in_benchmark,
    find_benchmark,
    load_benchmark,
)
from p2r.evaluation.questions import read_benchmark, to_questions
from p2r.records import Question
from p2r.video import FrameCache

OWN = '''
"""Left or right: a benchmark of a user."""
from p2r.evaluation.benchmark import Benchmark, Reading
from p2r.evaluation.records import base_fields
from p2r.evaluation.rules import apply_rule


def read(record, task):
    return base_fields(record, "free-form", {"side": record["side"]})


def first_letter(text, asked):
    return Reading(text[:1] or None, float(text[:1] == asked.truth))


def score(output, asked, stored):
    return apply_rule(first_letter, output, asked, stored)


BENCHMARK = Benchmark(
    name="sides", title="Sides", files="sides.json", media="", subset="all", metric="accuracy",
    axes=("side",), licence="none", download="none", read=read, score=score,
)
'''


@pytest.fixture
def own_file(tmp_path):
    """The file of a user's benchmark. It is forgotten after the test."""
    file = tmp_path / "sides.py"
    file.write_text(OWN)
    yield file
    all_benchmarks().pop("sides", None)


def test_every_file_of_the_folder_is_a_benchmark_of_its_name():
    assert list(all_benchmarks()) == benchmark_names()
    for entry in all_benchmarks().values():
        assert entry.title and entry.files and entry.axes and entry.licence


def test_names_are_found_in_any_spelling():
    assert find_benchmark("VSI-Bench") is find_benchmark("vsibench")
    assert find_benchmark("Video MME").title == "Video-MME"
    with pytest.raises(UserError, match=r"no benchmark .nope.: use one of .*mmvu, "):
        find_benchmark("nope")


def test_a_set_that_p2r_does_not_know_keeps_its_name(tmp_path, capsys):
    records = [{"id": 1, "problem_type": "numerical", "truth": "2", "output": "2"}]
    (tmp_path / "x.json").write_text(json.dumps(records))
    out = tmp_path / "out.json"
    command = ["eval", "import", "jsonl", str(tmp_path / "x.json"), "--out", str(out), "--json"]
    assert run_cli([*command, "--benchmark", "own:egoschema"]) == 0
    assert json.loads(capsys.readouterr().out)["benchmark"] == "own:egoschema"
    assert run_cli(["eval", "rescore", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["official"]["mean"] == 1.0
    assert run_cli([*command, "--benchmark", "egoschema"]) == 2
    assert "or own:NAME" in capsys.readouterr().err
    with pytest.raises(UserError, match="use letters"):
        find_benchmark("own:../x")


def test_exactly_one_benchmark_has_questions_that_p2r_generates():
    assert [b for b in all_benchmarks().values() if b.built_in] == [built_in_benchmark()]


def test_mvbench_as_its_repository_stores_it(tmp_path):
    """One file per task; media in folders that the files do not name; clips; a folder of frames."""
    tasks = {
        "action_sequence": {"video": "a.mp4", "start": 1.5, "end": 2.5},
        "episodic_reasoning": {
            "video": "ep1",
            "start": 0,
            "end": 1,
            "fps": 3,
            "data_type": "frame",
        },
        "moving_count": {"video": "b.mp4"},
        "state_change": {"video": "absent.mp4"},
    }
    options = {"question": "What?", "candidates": ["x", "y"], "answer": "y"}
    root = tmp_path / "repository"
    (root / "json").mkdir(parents=True)
    for task, record in tasks.items():
        (root / f"json/{task}.json").write_text(json.dumps([record | options]))
    places = {
        "action_sequence": "video/star/Charades_v1_480/a.mp4",
        "moving_count": "clevrer/video_validation/b.mp4",
        "episodic_reasoning": "video/tvqa/frames_fps3_hq/ep1",
    }
    for place in places.values():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
    frames = root / places["episodic_reasoning"]
    frames.unlink()
    frames.mkdir()
    for number in range(1, 8):
        Image.new("RGB", (56, 56), (36 * number, 0, 0)).save(frames / f"{number:05}.jpg")
    fields, manifest = read_benchmark("mvbench", root, root)
    assert (manifest.questions, manifest.counts) == (4, {"media missing": 1})
    asked = {q.meta["parts"]["task"]: q for q in to_questions("mvbench", fields)}
    assert {task: asked[task].path for task in places} == places
    assert asked["action_sequence"].window == {"start": 1.5, "end": 2.5}
    clip = read_frames(asked["episodic_reasoning"], root=root, cache=FrameCache(None))
    assert (clip.timestamps, clip.fps) == ([0.0, 0.333333, 0.666667, 1.0], 3.0)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["red", "blue"], ["A. red", "B. blue"]),
        (["A. red", "B. blue"], ["A. red", "B. blue"]),
        (["(A) red", "(B) blue"], ["(A) red", "(B) blue"]),
        (["a. red", "b. blue"], ["A. a. red", "B. b. blue"]),
        (["1. red", "2. blue"], ["A. 1. red", "B. 2. blue"]),
        (["J. Brahms", "B. Bartok"], ["A. J. Brahms", "B. B. Bartok"]),
    ],
)
@pytest.mark.parametrize("name", ["mvbench", "mlvu", "longvideobench", "videommmu"])
def test_options_get_a_letter_before_the_whole_text(name, given, shown):
    """As in the prompts of the benchmarks. Options whose letters run A, B, C … keep them."""
    record = {"id": "1", "question": "Which?", "candidates": given, "answer": "B"}
    assert find_benchmark(name).read(record, "").options == shown


def test_several_media_and_bounds_tell_questions_apart(tmp_path):
    question = {"id": 1, "question": "<video> or <video>?", "options": ["A. x", "B. y"]}
    one = {"question": "Which?", "video": "a.mp4"}
    records = [
        question | {"videos": ["a.mp4", "b.mp4"], "clips": [[0, 1], None]},
        question | one | {"start": 1, "end": 2},
        question | one | {"start": 3, "end": 4},
    ]
    (tmp_path / "q.json").write_text(json.dumps(records))
    fields, manifest = read_benchmark("own:mine", tmp_path / "q.json", tmp_path)
    assert manifest.counts["media missing"] == 4
    asked = to_questions("own:mine", fields)
    assert [[medium.path for medium in q.media] for q in asked] == [
        ["a.mp4", "b.mp4"],
        ["a.mp4"],
        ["a.mp4"],
    ]
    windows = [[medium.window for medium in q.media] for q in asked]
    bounds = [{"start": float(k), "end": k + 1.0} for k in (0, 1, 3)]
    assert windows == [[bounds[0], {}], [bounds[1]], [bounds[2]]]
    (tmp_path / "ours.jsonl").write_text("\n".join(q.model_dump_json() for q in asked))
    again = to_questions("own:mine", read_benchmark("own:mine", tmp_path / "ours.jsonl")[0])
    assert [q.media for q in again] == [q.media for q in asked]


def test_a_bad_record_of_p2r_or_a_bad_path_stops_no_other_record(tmp_path):
    good = Question(id="q", problem="?", problem_type="free-form", path="a.mp4", answer="x")
    record = good.model_dump(mode="json")
    places = ["../a.mp4", "x" * 300, "a.mp4"]
    records = [record | {"id": 7}, *(record | {"id": p[:9], "path": p} for p in places)]
    (tmp_path / "q.json").write_text(json.dumps(records))
    (tmp_path / "data").mkdir()
    for file in (tmp_path / "a.mp4", tmp_path / "data" / "a.mp4"):
        file.touch()
    fields, manifest = read_benchmark("own:mine", tmp_path / "q.json", tmp_path / "data")
    assert [found.path for found in fields] == places
    assert manifest.counts == {"bad record": 1, "media missing": 2}
    assert "id: Input should be a valid string" in manifest.examples["bad record"][0]


def test_a_user_adds_a_benchmark_as_a_file(own_file, tmp_path, capsys):
    records = [
        {"id": 1, "side": "left", "truth": "L", "output": "Left"},
        {"id": 2, "side": "right", "truth": "R", "output": "<think>So</think><answer>R</answer>"},
    ]
    (tmp_path / "x.json").write_text(json.dumps(records))
    out = tmp_path / "out.json"
    more = ["--benchmark", str(own_file), "--json"]
    assert (
        run_cli(["eval", "import", "jsonl", str(tmp_path / "x.json"), "--out", str(out), *more])
        == 0
    )
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["official"]["mean"] == 1.0
    assert numbers["official"]["parts"].keys() == {"left", "right"}
    all_benchmarks().pop("sides")  # as in a new Python process
    assert run_cli(["eval", "rescore", str(out)]) == 2
    assert "no benchmark 'sides'" in capsys.readouterr().err
    assert run_cli(["eval", "rescore", str(out), *more]) == 0
    assert json.loads(capsys.readouterr().out) == numbers
    assert run_cli(["eval", "report", str(out), *more]) == 0
    rows = json.loads(capsys.readouterr().out)["tables"]["1"]["measured"]
    assert rows["x (official)"]["sides"]["mean"] == 1.0, "the report has a column for it"


def test_a_failure_of_the_code_of_a_benchmark_costs_one_record(own_file, tmp_path, capsys):
    asked = [
        {"id": 1, "question": "Where?", "side": "left", "truth": "L"},
        {"id": 2, "question": "Where to?", "truth": "R"},
    ]
    questions, outputs, out = (tmp_path / name for name in ("q.json", "x.json", "out.json"))
    questions.write_text(json.dumps(asked))
    entry = load_benchmark(str(own_file)).name
    fields, manifest = read_benchmark(entry, questions)
    assert [one.id for one in fields] == ["1"] and manifest.counts["bad record"] == 1
    reason = "record 2: the benchmark's `read` failed: KeyError: 'side'"
    assert manifest.examples["bad record"] == [reason]
    outputs.write_text(json.dumps([{**record, "output": record["truth"]} for record in asked]))
    all_benchmarks().pop("sides")
    command = ["eval", "import", "jsonl", str(outputs), "--benchmark", str(own_file)]
    assert run_cli([*command, "--out", str(out), "--json"]) == 0
    done = capsys.readouterr()
    assert json.loads(done.out)["official"]["n"] == 1 and reason in done.err


def test_parts_come_from_the_questions(own_file, tmp_path, capsys):
    asked = [{"id": k, "question": f"{k}?", "side": "left", "truth": "L"} for k in range(2)]
    (tmp_path / "q.json").write_text(json.dumps(asked))
    outputs = [{"id": k, "output": "Left"} for k in range(2)]
    (tmp_path / "x.json").write_text(json.dumps(outputs))
    command = ["eval", "import", "jsonl", str(tmp_path / "x.json"), "--benchmark", str(own_file)]
    command += ["--questions", str(tmp_path / "q.json"), "--out", str(tmp_path / "out.json")]
    assert run_cli([*command, "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["official"]["parts"]["left"]["n"] == 2 and "bad record" not in numbers["counts"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "defines no BENCHMARK"),
        ("import", "cannot be run: SyntaxError"),
        (OWN.replace('"sides"', '"mmvu"'), "'mmvu' is taken"),
    ],
)
def test_files_that_are_no_new_benchmark(text, message, own_file):
    own_file.write_text(text)
    with pytest.raises(UserError, match=message):
        load_benchmark(str(own_file))
    with pytest.raises(UserError, match="no file"):
        load_benchmark("absent.py")


def test_a_result_file_cannot_run_a_python_file(own_file, tmp_path, capsys):
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"benchmark": str(own_file), "items": []}))
    assert run_cli(["eval", "rescore", str(file)]) == 2
    assert "no benchmark" in capsys.readouterr().err
    assert "sides" not in all_benchmarks()


def test_stored_outputs_of_the_playground_are_scored_by_problem_type(tmp_path, capsys):
    records = [
        {"id": 1, "problem_type": "numerical", "truth": "2", "output": "<answer>2</answer>"},
        {"id": 2, "problem_type": "OCR", "truth": "stop", "output": "go"},
    ]
    (tmp_path / "x.json").write_text(json.dumps(records))
    command = ["eval", "import", "jsonl", str(tmp_path / "x.json"), "--benchmark", "playground"]
    assert run_cli([*command, "--out", str(tmp_path / "out.json"), "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["official"]["parts"]
    assert parts["numerical"]["mean"] == 1.0 and parts["OCR"]["mean"] == 0.0


def test_the_shared_files_of_mvbench_keep_their_bounds():
    fields, manifest = read_benchmark("mvbench", shared_data("inputs/reports/mv/json"))
    windows = {one.parts["task"]: one.window for one in fields}
    assert windows == {
        "action_count": {},
        "action_sequence": {"start": 1.2, "end": 1.8},
        "episodic_reasoning": {"start": 2.0, "end": 6.0},
    }
    assert manifest.counts == {}
