"""Checks, conversion, cards and publishing of data sets; status of a run."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hub_server import serve_hub, use_hub
from scripted import WordJudge

from p2r.cli import run_cli
from p2r.datasets.cards import escape, fence, render_card, write_card
from p2r.datasets.check import check_data
from p2r.datasets.convert import convert
from p2r.datasets.describe import card_of
from p2r.datasets.known_sets import KNOWN, cot_release
from p2r.datasets.paper import PAPER_KEPT, mix_rows, terms_of
from p2r.datasets.publish import push
from p2r.engines.work_plan import WorkPlan
from p2r.errors import UserError
from p2r.files.journal import Journal, Shard
from p2r.formats import read_cases, read_questions, write_videop2r
from p2r.pipeline import filter_traces
from p2r.pipeline.status import group_reasons, status
from p2r.records import Case, Question, Trace
from p2r.runs import open_run
from p2r.template import render

pytestmark = pytest.mark.slow
CARDS = Path(__file__).resolve().parents[2] / "data_cards"
NASTY = "A `tick` ``` fence </script><script>alert(1)</script> | cell --- \n---\nlicense: mine"


def make_case(number: int, kind: str = "OCR", media: str = "video", said: str = "stop") -> Case:
    question = Question(
        id=str(number),
        problem=f"What does sign {number} say? {NASTY}",
        problem_type=kind,
        data_type=media,
        path=f"clips/{number}.mp4",
        answer="stop",
        source=("LLaVA-Video-178K", "other | <b>source</b>")[number % 2],
    )
    seen = f"The sign says {said} . {NASTY}"
    trace = Trace(
        question_id=question.id,
        text=render(seen, "So.", said),
        observation=seen,
        think="So.",
        answer=said,
        model="teacher-1",
        stage="cot",
        sampling={"temperature": 0.0, "max_tokens": 64},
    )
    return Case(question=question, trace=trace)


@pytest.fixture
def run(tmp_path):
    """A filtered run with six traces; one is wrong."""
    run = open_run(tmp_path / "run", "tiny1", ["filter.quality.leak=true"])
    with Journal(run.path("generate.jsonl")) as journal:
        for number in range(6):
            case = make_case(number, said="stop" if number else "go")
            journal.append(f"{number}/0", case.model_dump(mode="json"))
    with Journal(run.path("generate.errors.jsonl")) as errors:
        reason = "cannot read /media/a 7.mp4: no such file"
        failure = {"question_id": "7", "problem_type": "OCR", "path": "7.mp4", "reason": reason}
        errors.append("7/0", failure)
    filter_traces(run.recipe, run, WordJudge())
    return run


# ---- check


def release_file(folder: Path) -> Path:
    """Write two gzip parts in the release's format with 1 % of the paper's records."""
    mix = [(m, k) for m, row in PAPER_KEPT.items() for k, n in row.items() for _ in range(n // 100)]
    random.Random(0).shuffle(mix)
    cases = (make_case(n, kind, media) for n, (media, kind) in enumerate(mix))
    write_videop2r(cases, folder / "cot.json.gz", parts=2, strings=True)
    return folder / "cot.part1of2.json.gz"


def test_a_release_file_gives_a_table_like_table_3(tmp_path, capsys):
    file = release_file(tmp_path)
    found = check_data(file)
    assert found["types"] == {
        media: {kind: count // 100 for kind, count in row.items()}
        for media, row in PAPER_KEPT.items()
    }
    rows = mix_rows(found["types"])
    assert rows[0] == [
        *("", "multiple choice", "numerical", "OCR", "free-form", "regression", "sum")
    ]
    assert rows[2] == ["video", "869", "13", "–", "10", "–", "892"]
    assert mix_rows(PAPER_KEPT)[3] == [
        *("sum", "134,001", "19,847", "4,014", "3,507", "693", "162,062")
    ]
    run_cli(["data", "check", str(file)])
    printed = capsys.readouterr().out
    assert "regression" in printed and "869" in printed


def test_check_counts_media_duplicates_and_bad_records(tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/0.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    records = [make_case(n).question.model_dump() for n in (0, 1, 2)]
    records += [records[1], records[2] | {"id": "9"}, records[0] | {"id": "8", "path": "../x"}]
    records += [{"problem": ""}, {"problem": "?", "problem_type": "essay"}]
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = check_data(file)
    assert found["records"] == 6 and found["bad_records"] == 2
    assert found["media"] == {"have": 1, "missing": 2, "unusable": 1}
    assert found["duplicates"] == {"ids": 1, "questions": 2, "repeats": 1}
    assert found["sources"]["LLaVA-Video-178K"]["missing"] == 1
    assert run_cli(["data", "check", str(file), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == found
    assert run_cli(["data", "check", str(file)]) == 1


def test_check_names_empty_files_and_text_as_unusable(tmp_path, capsys):
    contents = {
        "a.mp4": b"",
        "b.mp4": b"<html>not found \xc3\xa9</html>",
        "c.mp4": b"\0\0\0\x18ftyp",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "d.mp4").mkdir()
    question = make_case(0).question.model_dump()
    records = [question | {"id": name, "path": name} for name in (*contents, "d.mp4")]
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = check_data(file)
    assert found["media"] == {"have": 2, "missing": 0, "unusable": 2}
    assert run_cli(["data", "check", str(file)]) == 1
    shown = capsys.readouterr().out
    assert "a.mp4: the file is empty" in shown and "b.mp4: the file is text" in shown


def test_check_fails_for_a_file_without_questions(tmp_path, capsys):
    for name, content in (("q.jsonl", ""), ("q.json", "[]")):
        file = tmp_path / name
        file.write_text(content)
        assert run_cli(["data", "check", str(file)]) == 1
        assert "has no question that can be read" in capsys.readouterr().out
        assert run_cli(["data", "check", str(file), "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["records"] == 0


def test_text_of_a_file_cannot_control_the_terminal(tmp_path, capsys):
    evil = "[/bold] \x1b[31mred\x9b\u202e"
    records = [
        RAW | {"data_source": evil, "path": f"{evil}.mp4"},
        RAW | {"problem_type": evil, "path": "x" * 5000},
    ]
    file = write_list(tmp_path / "[b].json", records)
    for option in ([], ["--json"]):
        assert run_cli(["data", "check", str(file), *option]) == 1
    assert run_cli(["data", "check", f"{tmp_path}/{evil}"]) == 2
    shown = "".join(capsys.readouterr())
    assert "[/bold]" in shown and "[U+202E]" in shown and "x" * 400 not in shown
    assert not any(char in shown for char in "\x1b\x9b\u202e")


def test_check_of_a_missing_file(tmp_path, capsys):
    assert run_cli(["data", "check", str(tmp_path / "none.json")]) == 2
    assert "no such file" in capsys.readouterr().err


# ---- convert


def test_a_set_goes_to_each_format_and_back(run, tmp_path):
    kept = list(read_cases(run.path("sft.jsonl")))
    for to, name in (("videop2r", "a.json.gz"), ("p2r", "a.jsonl")):
        files, count = convert(run.folder, tmp_path / name, to)
        back = list(read_cases(files[0]))
        assert count == len(kept) == 5
        assert [case.trace.text for case in back] == [case.trace.text for case in kept]
    files, _ = convert(tmp_path / "a.jsonl", tmp_path / "r1.json", "video-r1")
    assert [q.answer for q in read_questions(files[0])] == ["stop"] * 5
    with gzip.open(convert(run.folder, tmp_path / "s.json.gz", "videop2r", 1, True)[0][0]) as file:
        assert all(isinstance(v, str) for record in json.load(file) for v in record.values())
    with pytest.raises(UserError, match="parts"):
        convert(run.folder, tmp_path / "x.json", "video-r1", parts=2)


# ---- cards


def test_a_card_has_the_facts_of_its_data(run, tmp_path):
    page, croissant = write_card(card_of(run.folder), tmp_path / "cards")
    text = page.read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license_name"] == "terms-of-each-source"
    assert head["license"] == "other" and head["size_categories"] == ["n<1K"]
    assert "| video | – | – | 5 | – | – | 5 |" in text and "5 records" in text
    for said in ("teacher-1", "word", "at least 0.6", "leak", "162,062", "academic research"):
        assert said in text
    assert "| generated | 6 |" in text and "| kept | 5 |" in text
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/train.jsonl"}]
    assert json.loads(croissant.read_text())["recordSet"][0]["field"]


@pytest.mark.parametrize("source", ["cuisine", "playground"])
def test_a_card_names_a_language_only_if_it_is_known(tmp_path, source):
    file = tmp_path / "q.json"
    question = {"question": "Que fait-on ?", "answer": "oui", "video": "a.mp4"}
    file.write_text(json.dumps([question | {"data_source": source}]))
    page = render_card(card_of(file))
    head = yaml.safe_load(page.split("---\n")[1])
    known = source == "playground"
    assert head.get("language") == (["en"] if known else None)
    assert ("Texts are in English." in page) == known and "not balanced" in page


def test_untrusted_text_stays_text_in_a_card(run):
    text = render_card(card_of(run.folder))
    head, body = text.split("---\n", 2)[1:]
    assert "mine" not in head and yaml.safe_load(head)["license"] == "other"
    example = body[body.index("````text") :]
    assert "alert(1)" in example and example.count("\n````\n") == 1
    outside = body[: body.index("````text")]
    assert "<script" not in outside and "<b>" not in outside
    assert r"other \| &lt;b>source" in outside
    assert escape("a | b\n`c`") == r"a \| b \`c\`" and fence("``` x").startswith("````text\n")


def test_reports_are_json_on_request(run, tmp_path, capsys):
    def printed(*command: str):
        assert run_cli([*command, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    out = str(tmp_path / "out.json")
    folder = str(run.folder)
    assert printed("filter", "--run", folder)["funnel"]["all"]["kept"] == 5
    assert printed("filter", "--run", folder, "--estimate") == []
    found = printed("data", "export", folder, out, "--to", "llama-factory")
    assert found == {"records": 5, "files": [out]}
    assert all(Path(file).is_file() for file in printed("cards", folder, "--out", str(tmp_path)))


def test_published_files_are_those_of_the_cards(run, tmp_path, capsys, monkeypatch):
    mlcroissant = pytest.importorskip("mlcroissant")
    out = tmp_path / "published"
    assert run_cli(["data", "push", str(run.folder), "me/traces", "--folder", str(out)]) == 0
    assert capsys.readouterr().out.strip().endswith("published")
    names = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    assert names == {"README.md", "croissant.json", "data/train.jsonl"}
    with serve_hub("me/traces", {}) as hub:  # the real client uploads the same files
        use_hub(monkeypatch, hub)
        assert run_cli(["data", "push", str(run.folder), "me/traces"]) == 0
    assert hub.uploaded == {name: (out / name).read_bytes() for name in names}
    assert hub.created[0]["type"] == "dataset" and hub.created[0]["visibility"] == "private"
    described = json.loads((out / "croissant.json").read_text())
    data = (out / "data/train.jsonl").read_bytes()
    assert described["distribution"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    dataset = mlcroissant.Dataset(jsonld=str(out / "croissant.json"))
    assert not dataset.metadata.issues.errors
    records = [json.loads(line) for line in data.splitlines()]
    columns = {column["name"] for column in described["recordSet"][0]["field"]}
    assert len(records) == 5 and all(record.keys() == columns for record in records)
    back = list(read_cases(out / "data" / "train.jsonl"))
    assert [c.trace.text for c in back] == [c.trace.text for c in read_cases(run.path("sft.jsonl"))]


def test_a_set_without_traces_has_a_card_too(tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text("".join(make_case(n).question.model_dump_json() + "\n" for n in range(3)))
    card = card_of(file, "Some questions")
    assert card.records == 3 and not card.traces and card.name == "Some-questions"
    assert push(file, "me/q", folder=tmp_path / "out") == str(tmp_path / "out")


RAW = {
    "problem_id": 1,
    "problem": "What does the sign say?",
    "data_type": "video",
    "problem_type": "OCR",
    "options": [],
    "solution": "<answer>stop</answer>",
    "path": "./a.mp4",
    "data_source": "STAR",
}
TRACED = RAW | {
    "observation": "The sign says stop.",
    "process": "So it is.",
    "answer": "<answer>stop</answer>",
    "output": render("The sign says stop.", "So it is.", "stop"),
}


def write_list(path: Path, records: list) -> Path:
    path.write_text(json.dumps(records))
    return path


def test_the_card_of_uneven_records_describes_each_field_of_the_file(tmp_path):
    """Some records lack fields or have values of other types; some are bad."""
    mlcroissant = pytest.importorskip("mlcroissant")
    records = [
        {"problem": ""},
        TRACED,
        TRACED | {"problem_id": 2, "reward": [1, 2], "note": "hi", "options": "['A. a', 'B. b']"},
        RAW | {"problem_id": 3},
        TRACED | {"problem_id": 4, "reward": 0.5, "meta": "mine"},
    ]
    file, out = write_list(tmp_path / "uneven.json", records), tmp_path / "out"
    push(file, "me/uneven", folder=out)
    lines = [json.loads(line) for line in (out / "data/train.jsonl").read_text().splitlines()]
    assert [line["problem_id"] for line in lines] == ["1", "2", "4"]
    assert lines[1]["options"] == ["A. a", "B. b"] and lines[1]["note"] == "hi"
    assert json.loads(lines[2]["meta"]) == {"reward": 0.5, "meta": "mine"}
    assert all(isinstance(v, str) for line in lines for k, v in line.items() if k != "options")
    described = json.loads((out / "croissant.json").read_text())
    data = (out / "data/train.jsonl").read_bytes()
    assert described["distribution"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    fields = {field["name"] for field in described["recordSet"][0]["field"]}
    assert fields == set().union(*lines)
    page = (out / "README.md").read_text()
    assert "3 records" in page and "Bad records left out: 1 × no problem text" in page
    dataset = mlcroissant.Dataset(jsonld=str(out / "croissant.json"))
    read = list(dataset.records("train-records"))
    assert [row["train-records/problem_id"] for row in read] == [b"1", b"2", b"4"]


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path):
    """In a subprocess, because the client reads the hub's address at its import."""
    file = write_list(tmp_path / "q.json", [RAW])
    environment = os.environ | {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "hf_never_to_be_seen",
    }
    command = [sys.executable, "-m", "p2r", "data", "push", str(file), "me/q"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    said = done.stderr.strip().splitlines()
    assert done.returncode == 2 and said[-1].startswith("error: the hub cannot be reached")
    assert "Traceback" not in done.stderr and "never_to_be_seen" not in done.stdout + done.stderr


def test_two_sets_with_one_name_are_refused(tmp_path, capsys):
    files = [tmp_path / folder / "q.json" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        write_list(file, [RAW])
    assert run_cli(["cards", *map(str, files), "--out", str(tmp_path / "cards")]) == 2
    assert "two data sets are named q" in capsys.readouterr().err


def test_a_set_without_records_has_no_card(tmp_path, capsys):
    file = write_list(tmp_path / "none.json", [])
    assert run_cli(["cards", str(file), "--out", str(tmp_path / "cards")]) == 2
    assert run_cli(["data", "push", str(file), "me/none", "--folder", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("has no usable record") == 2
    assert not (tmp_path / "cards").exists() and not (tmp_path / "out").exists()


def test_invisible_characters_are_written_out_in_a_card(tmp_path):
    source = "a\x1b[31m\u202eb\u200b"
    file = write_list(tmp_path / "q.json", [RAW | {"data_source": source}])
    text = render_card(card_of(file))
    assert not any(char in text for char in "\x1b\u202e\u200b") and "[U+202E]" in fence(source)


def test_a_table_of_sources_has_a_limit(tmp_path):
    records = [RAW | {"problem_id": n, "data_source": f"set {n % 150}"} for n in range(151)]
    text = render_card(card_of(write_list(tmp_path / "q.json", records)))
    assert text.count("\n| set ") == 100 and "| set 0 | 2 |" in text
    assert "| 50 smaller ones | 50 |" in text


@pytest.mark.parametrize(
    ("source", "attribution"),
    [
        ("NeXT-QA/0_30_s", "NExT-QA"),
        ("LLaVA-Video-178K", "LLaVA-Video-178K"),
        ("Perception Test", "Perception Test"),
        ("CLEVRER_mc", "CLEVRER"),
        ("starfish", "starfish"),
        ("clevrerest", "clevrerest"),
        ("", "no source named"),
    ],
)
def test_only_the_named_source_gives_its_terms(source, attribution):
    assert terms_of(source)[0].startswith(attribution)


def test_the_committed_cards_are_those_that_the_command_writes(tmp_path):
    mlcroissant = pytest.importorskip("mlcroissant")
    for known in KNOWN:
        for made in write_card(known(), tmp_path):
            assert made.read_text() == (CARDS / made.name).read_text(), "run p2r cards"
            if made.suffix == ".json":
                assert not mlcroissant.Dataset(jsonld=str(made)).metadata.issues.errors
    assert cot_release().records == sum(sum(row.values()) for row in PAPER_KEPT.values())


# ---- status


def test_status_of_a_run_in_progress(run, capsys):
    stages = status(run.folder)["stages"]
    assert stages["generate"]["done"] == 6 and stages["generate"]["failed"] == 1
    assert sum(stages["generate"]["failures"].values()) == 1
    assert stages["filter"]["ends"] == {"kept": 5, "on template": 1}
    assert stages["filter"]["left"] == 0 and stages["filter"]["cost_usd"] == 0
    assert stages["filter"]["per_s"] is None or stages["filter"]["per_s"] > 0
    with Journal(run.path("generate.jsonl")) as writing:
        writing.append("8/0", make_case(8).model_dump(mode="json"))
        assert status(run.folder)["stages"]["filter"]["left"] == 1
    before = {file: file.stat().st_mtime_ns for file in run.folder.rglob("*")}
    assert run_cli(["status", str(run.folder)]) == 0
    assert "7 of 8" in capsys.readouterr().out
    assert run_cli(["status", str(run.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"]["generate"]["done"] == 7
    assert {file: file.stat().st_mtime_ns for file in run.folder.rglob("*")} == before
    assert run_cli(["status", str(run.folder / "none")]) == 2


def test_reasons_are_counted_without_names_and_numbers():
    reasons = {"cannot read a/b.mp4: 3 frames": 2, "cannot read c/d.mp4: 12 frames": 1}
    assert group_reasons(Counter(reasons)) == {"cannot read …: N frames": 3}


# ---- shards and bad records in the filter


def test_shards_of_the_filter_merge_into_the_same_set(run, tmp_path):
    whole = (run.folder / "sft.jsonl").read_text()
    for file in ("sft.jsonl", "filter.jsonl", "funnel.json"):
        (run.folder / file).unlink()
    tables = [filter_traces(run.recipe, run, WordJudge(), WorkPlan(Shard(n, 3))) for n in range(3)]
    assert tables[0] is None and tables[2] is not None
    assert (run.folder / "sft.jsonl").read_text() == whole
    assert filter_traces(run.recipe, run, WordJudge()) == tables[2]


def test_shards_whose_judge_gives_no_verdict_end_too(run):
    for file in ("sft.jsonl", "filter.jsonl", "funnel.json"):
        (run.folder / file).unlink()

    class Silent(WordJudge):
        def judge(self, questions, observations):
            found = super().judge(questions, observations)
            return [each.model_copy(update={"sufficient": None}) for each in found]

    assert filter_traces(run.recipe, run, Silent(), WorkPlan(Shard(0, 2))) is None
    table = filter_traces(run.recipe, run, WordJudge(), WorkPlan(Shard(1, 2)))["all"]
    silent = table["verdict unknown"]
    assert silent > 0 and table["kept"] > 0 and silent + table["kept"] == 5
    lines = map(json.loads, (run.folder / "cases" / "cot.jsonl").read_text().splitlines())
    dropped = [line for line in lines if "dropped: verdict unknown" in line["tags"]]
    assert len(dropped) == silent
    assert all(line["verdict"]["judge"] for line in dropped), "what the judge said instead is kept"
    # A shard that begins again is not done, whatever it left.
    assert filter_traces(run.recipe, run, WordJudge(), WorkPlan(Shard(0, 2)))["all"]["kept"] == 5


def test_a_journal_line_without_a_trace_is_named(run):
    with Journal(run.path("generate.jsonl")) as writing:
        writing.append("9/0", {"question": {"id": "9"}})
    (run.folder / "filter.jsonl").unlink()
    with pytest.raises(UserError, match=r"'9/0' is not a trace \(question.problem"):
        filter_traces(run.recipe, run, WordJudge())


def test_bad_records_of_the_questions_are_counted_in_the_funnel(run):
    plan = {"wanted": 7, "bad_records": {"no problem text": 4}, "started": 0, "begun_with": 0}
    run.path("generate.plan.json").write_text(json.dumps(plan))
    table = filter_traces(run.recipe, run, WordJudge())
    assert table["all"]["bad record"] == 4 and table["all"]["generated"] == 6
    assert status(run.folder)["stages"]["generate"]["bad_records"] == 4


@pytest.mark.parametrize("text", ["3", "5/4", "a/b", "-1/3", "1/0", "1/2/3"])
def test_an_invalid_shard_is_an_error(text, capsys, tmp_path):
    assert run_cli(["generate", "--run", str(tmp_path / "x"), "--shard", text]) == 2
    assert "shard" in capsys.readouterr().err


def test_shards_count_from_zero_or_one():
    assert Shard.parse("4/4") == Shard.parse("0/4") == Shard(0, 4)
