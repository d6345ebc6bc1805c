"""Outputs and questions in the shapes that people store them: each has a known result.

The cases run over files that the test writes, and over the files of the shared data.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest
from measures import shared_data
from stored_inputs import write_inputs

from p2r.cli import run_cli
from p2r.errors import DataError
from p2r.evaluation.alarms import find_alarms
from p2r.evaluation.benchmark import Item
from p2r.evaluation.benchmarks.videommmu import PICTURE
from p2r.evaluation.questions import read_benchmark, to_question, to_questions
from p2r.evaluation.results import import_result, rescore
from p2r.evaluation.score import score_item
from p2r.evaluation.tables import read_file


@pytest.fixture(params=["own files", "shared files"])
def folder(request, tmp_path):
    if request.param == "own files":
        return write_inputs(tmp_path)
    return shared_data("inputs") / "predictions"


def numbers_of(path: Path, benchmark: str, format: str = "jsonl", **more) -> dict:
    return rescore(import_result(format, path, benchmark, **more))


@pytest.mark.parametrize(
    ("name", "benchmark", "n", "mean"),
    [
        ("tc_yes_no.json", "tempcompass", 3, 1.0),
        ("tc_multi-choice.json", "tempcompass", 4, 1.0),
        ("tc_caption_matching.json", "tempcompass", 5, 1.0),
        ("same_id.jsonl", "tempcompass", 4, 0.25),
        ("index.jsonl", "mvbench", 4, 1.0),
        ("index.jsonl", "videomme", 4, 1.0),
        ("index_plain.json", "mvbench", 4, 1.0),
        ("index_plain.json", "mmvu", 4, 1.0),
        ("preds.csv", "videomme", 1, 1.0),
        ("preds.parquet", "videomme", 5, 1.0),
        ("preds.jsonl.gz", "videomme", 5, 1.0),
        ("bom.json", "videomme", 5, 1.0),
        ("u16.json", "videomme", 5, 1.0),
        ("eval_mvbench_greedy_output.json", "mvbench", 1, 1.0),
    ],
)
def test_files_of_outputs_give_their_score(folder, name, benchmark, n, mean):
    format = "tempcompass" if name.startswith("tc_") else "jsonl"
    numbers = numbers_of(folder / name, benchmark, format)
    for extractor in ("official", "robust"):
        assert (numbers[extractor]["mean"], numbers[extractor]["n"]) == (mean, n)
    assert "duplicate id" not in numbers["counts"]


def test_names_of_files_give_no_task_unless_they_are_one(folder):
    path, questions = folder / "eval_mvbench_greedy_output.json", folder / "eval_mvbench.json"
    numbers = numbers_of(path, "mvbench", questions=questions)
    assert numbers["official"]["mean"] == 1.0 and "unknown id" not in numbers["counts"]
    assert numbers["official"]["parts"].keys() == {"micro", "macro"}


def test_several_conditions_are_refused_until_one_is_chosen(folder, tmp_path, capsys):
    path = folder / "conditions.jsonl"
    with pytest.raises(DataError, match=r"condition is black, original.*--where condition=black"):
        import_result("jsonl", path, "videomme")
    out = tmp_path / "out.json"
    command = ["eval", "import", "jsonl", str(path), "--benchmark", "videomme", "--out", str(out)]
    for value, mean in (("black", 0.0), ("original", 1.0)):
        assert run_cli([*command, "--where", f"condition={value}", "--json"]) == 0
        numbers = json.loads(capsys.readouterr().out)
        assert numbers["official"]["mean"] == mean and numbers["n"] == 3
    for wrong, message in (
        ("condition=white", "values are black"),
        ("x=1", "no column 'x'"),
        ("x", "COLUMN=VALUE"),
    ):
        assert run_cli([*command, "--where", wrong]) == 2
        assert message in capsys.readouterr().err


def test_outputs_without_ids_are_joined_by_the_text_of_the_question(folder):
    path, questions = folder / "vsi_out.json", folder / "vsi_q.json"
    numbers = numbers_of(path, "vsibench", questions=questions)
    assert numbers["official"]["mean"] == numbers["robust"]["mean"] == 0.6
    assert numbers["counts"]["joined by the question's text"] == 1


@pytest.mark.parametrize(
    ("name", "benchmark", "ids", "truth"),
    [
        ("perception_video.json", "videommmu", ["Perception/dev_Biology_3"], "B"),
        ("vsi_q.json", "vsibench", ["0"], "4"),
        ("eval_mvbench.json", "mvbench", ["1"], "B"),
        ("float_ids.json", "playground", ["76", "76", "76"], "two"),
    ],
)
def test_files_of_questions_are_read(folder, name, benchmark, ids, truth):
    found, manifest = read_benchmark(benchmark, folder / name)
    assert [fields.id for fields in found] == ids and found[0].truth == truth
    assert not manifest.counts.keys() & {"bad record", "duplicate id"}
    assert len({question.id for question in to_questions(benchmark, found)}) == len(ids)


def test_files_without_outputs_are_refused_with_their_keys(folder):
    with pytest.raises(DataError, match="has the keys problem_id, "):
        import_result("jsonl", folder / "float_ids.json", "playground")
    with pytest.raises(DataError, match="only zero bytes"):
        import_result("jsonl", folder / "zeros.json", "mmvu")


# ---- tables


def test_rows_of_a_table(tmp_path):
    rows = 'index\tA\tB\tanswer\tprediction\n1\tleft\tright\tB\t" B"\n2\tup\tdown\tA\t\n'
    file = tmp_path / "x.tsv"
    file.write_text(rows)
    assert read_file(file)[0] == {
        "index": "1",
        "A": "left",
        "B": "right",
        "answer": "B",
        "prediction": " B",
    }
    result = import_result("jsonl", file, "mmvu")
    assert [item.output for item in result.items] == [" B", ""], (
        "blanks stay, an empty cell is None"
    )
    assert result.items[0].options == ["A. left", "B. right"]
    file.write_text(rows + "3\ta\tb\tA\tA\tmore\n")
    numbers = numbers_of(file, "mmvu")
    assert numbers["n"] == 2 and numbers["counts"]["bad record"] == 1


def test_long_cells_and_other_separators(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text(f'id;answer;prediction\n1;B;"{"so, " * 100_000}\nB"\n', encoding="utf-8-sig")
    assert len(read_file(file)[0]["prediction"]) == 400_002


def test_excel_files(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (
        ["index", "A", "B", "answer", "prediction"],
        [1, "x", "y", "B", "B"],
        [2, 3, 4, "A", 0],
    ):
        book.active.append(row)
    book.save(tmp_path / "x.xlsx")
    result = import_result("jsonl", tmp_path / "x.xlsx", "mmvu")
    assert [(item.id, item.output) for item in result.items] == [("1", "B"), ("2", "0")]
    assert result.items[1].options == ["A. 3", "B. 4"]


def test_excel_files_without_openpyxl(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"x.xlsx needs openpyxl: pip install -e '.\[xlsx\]'"):
        read_file(tmp_path / "x.xlsx")


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x80\x04\x95", "a pickle file"),
        (b"PK\x03\x04", "a zip file"),
        (b"%PDF-1.7", "a PDF file"),
        (b"\x89PNG\r\n", "a PNG picture"),
        (b"\0\0\0\x18ftypmp42", "an MP4"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x01\x00\x02\x00\xff", "a binary file of an unknown kind"),
        (b"PAR1 cut", "not a Parquet file"),
    ],
)
def test_binary_files_are_named_as_what_they_are(tmp_path, start, kind):
    (tmp_path / "x.json").write_bytes(start)
    with pytest.raises(DataError, match=kind):
        read_file(tmp_path / "x.json")


# ---- the same two outputs in other forms

ROWS = [
    {"id": 1, "answer": "B", "prediction": "B", "options": ["x", "y"]},
    {"id": 2, "answer": "A", "prediction": "A", "options": ["x", "y"]},
]
LINES = "\n".join(map(json.dumps, ROWS))
TABLE = "id,answer,prediction\n1,B,B\n2,A,A\n"


def renamed(old: str, new: str) -> str:
    return json.dumps([{new if k == old else k: v for k, v in row.items()} for row in ROWS])


def changed(key: str, change) -> str:
    return json.dumps([row | {key: change(row[key])} for row in ROWS])


FORMS = {
    "commas.jsonl": LINES.replace("\n", ",\n") + ",\n",
    "crlf.jsonl": LINES.replace("\n", "\r\n"),
    "utf16.jsonl": LINES.encode("utf-16"),
    "nested.json": json.dumps([ROWS]),
    "list_each.json": json.dumps([[row] for row in ROWS]),
    "inside.json": json.dumps({"test": {"data": ROWS}}),
    "table.csv": "\ufeff" + TABLE.replace("\n", "\r\n"),
    "zipped.csv.gz": gzip.compress(TABLE.encode()),
    "excel.csv": "sep=;\n" + TABLE.replace(",", ";"),
    "pipes.csv": TABLE.replace(",", "|"),
    "table.txt": TABLE,
    "capitals.csv": TABLE.replace("id,answer,prediction", "ID, Answer ,Prediction"),
    "object.json": changed("prediction", lambda said: {"text": said}),
    "list.json": changed("prediction", lambda said: [[said]]),
    "options_in_text.json": changed("options", lambda _: "A. x\nB. y"),
    "options_in_line.json": changed("options", lambda _: "(A) x (B) y"),
    "options_of_hub.json": changed("options", lambda _: {"text": ["x", "y"], "label": ["A", "B"]}),
    **{f"{new}.json": renamed("prediction", new) for new in ("Response", "predicted", "reply")},
    **{f"{new}.json": renamed("answer", new) for new in ("GT", "answerKey", "true_answer")},
    **{f"{new}.json": renamed("id", new) for new in ("Question ID", "questionId")},
}


@pytest.mark.parametrize("name", FORMS)
def test_the_same_outputs_in_another_form(name, tmp_path):
    data = FORMS[name]
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    numbers = numbers_of(tmp_path / name, "mmvu")
    assert numbers["n"] == 2 and "bad record" not in numbers["counts"]
    assert numbers["official"]["mean"] == numbers["robust"]["mean"] == 1.0


@pytest.mark.parametrize("name", ["x.xlsx", "x.json"])
def test_an_excel_file_under_any_name(name, tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["index", "A", "B", "answer", "prediction"], [1, "x", "y", "B", "B"]):
        book.active.append(row)
    book.save(tmp_path / "x.xlsx")
    (tmp_path / "x.xlsx").rename(tmp_path / name)
    assert numbers_of(tmp_path / name, "mmvu")["official"]["mean"] == 1.0


@pytest.mark.parametrize(
    ("output", "read"),
    [
        ("<think>A</think>B", "B"),
        ("<think>A or C</think>\n\n**B**", "B"),
        ("</think>B</s>", "B"),
        ("B</answer>", "B"),
        ("<think>It is B", None),
        ("<think>B</think>", None),
    ],
)
def test_the_robust_rule_reads_what_is_outside_the_thinking(output, read):
    item = Item("1", output, "B", "multiple choice", ["A. x", "B. y", "C. z"])
    score_item("mmvu", item)
    assert (item.extraction["robust"], item.score["robust"]) == (read, float(read == "B"))


# ---- places


def places(tmp_path, outputs, truths, count_from=None, options=("x", "y", "z")) -> dict:
    records = [
        {"id": k, "options": list(options), "answer": truth, "prediction": said}
        for k, (said, truth) in enumerate(zip(outputs, truths, strict=True))
    ]
    (tmp_path / "x.json").write_text(json.dumps(records))
    return numbers_of(tmp_path / "x.json", "mmvu", count_from=count_from)


@pytest.mark.parametrize(
    ("outputs", "truths", "base"),
    [
        ([0, 1, 2], [0, 1, 2], 0),
        ([1, 2, 3], [1, 2, 3], 1),
        ([0, 1, 2], ["A", "B", "C"], 0),
        (["1", "2", "3"], ["A", "B", "C"], 1),
        ([0.0, 1.0, 2.0], ["x", "y", "z"], 0),
        (["A", "B", "C"], [0, 1, 2], 0),
    ],
)
def test_places_are_counted_by_one_convention(tmp_path, outputs, truths, base):
    numbers = places(tmp_path, outputs, truths)
    assert any(f"counted from {base}" in what for what in numbers["counts"])
    if "x" not in truths:
        assert numbers["official"]["mean"] == numbers["robust"]["mean"] == 1.0
    assert numbers["robust"]["mean"] == 1.0


def test_places_that_fit_both_conventions_need_a_word(tmp_path):
    numbers = places(tmp_path, [1, 2], ["B", "C"])
    assert any("--count-from 0" in what for what in numbers["counts"])
    assert places(tmp_path, [1, 2], ["B", "C"], count_from=0)["official"]["mean"] == 1.0
    assert places(tmp_path, [1, 2], ["B", "C"], count_from=1)["official"]["mean"] == 0.0


def test_references_that_fit_both_conventions_or_contradict_each_other_are_unknown(tmp_path):
    for truths in ([1, 2, 1], [0, 1, 3]):
        numbers = places(tmp_path, ["A", "B", "C"], truths)
        assert any("3 reference answers are numbers" in what for what in numbers["counts"])
        assert numbers["official"]["n"] == numbers["robust"]["n"] == 0
    assert places(tmp_path, ["B", "C", "B"], [1, 2, 1], count_from=0)["official"]["mean"] == 1.0


@pytest.mark.parametrize("form", ["{}. {}", "{}) {}", "({}) {}", "Option {}: {}"])
def test_labels_of_options_are_no_places(tmp_path, form):
    options = [form.format(k, text) for k, text in enumerate("wxyz", 1)]
    numbers = places(tmp_path, ["B", "2"], ["2", "2"], options=options)
    assert not any("--count-from" in what or "indices" in what for what in numbers["counts"])


def test_digits_that_are_texts_of_options_are_no_places(tmp_path):
    numbers = places(tmp_path, ["2", "1"], ["A", "B"], options=("2", "1"))
    assert not any("places" in what for what in numbers["counts"])
    assert numbers["robust"]["mean"] == 1.0
    mixed = places(tmp_path, ["0", "I think B"], ["A", "B"])
    assert not any("places" in what for what in mixed["counts"]), "a model may say a digit"


# ---- warnings


def alarms_of(benchmark: str, outputs: list[str], **fields) -> list[str]:
    kind = {"problem_type": "multiple choice", "truth": "B", "options": ["A. x", "B. y"], **fields}
    items = [Item(str(k), said, **kind) for k, said in enumerate(outputs)]
    for item in items:
        score_item(benchmark, item)
    found = find_alarms(items, ("task",))
    assert all(0 < len(alarm["examples"]) <= 3 for alarm in found)
    return [alarm["what"] for alarm in found]


def test_a_score_of_zero_and_unparsable_outputs_are_said():
    found = alarms_of("mmvu", ["I see", "it", "so", "on"])
    assert "official: 4 of 4 outputs (100 %) cannot be parsed" in found
    assert "robust: the score is exactly 0 for all items (n 4)" in found
    assert alarms_of("mmvu", ["A", "B"]) == []
    found = alarms_of("mmvu", ["A", "A"], parts={"task": "counting"})
    assert found[0] == "official: the score is exactly 0 for all items (n 2), task counting (n 2)"


def test_outputs_that_the_official_rule_leaves_out_or_gives_away_are_said():
    assert "official: 1 of 2 outputs are left out of the mean, not wrong" in alarms_of(
        "videomme", ["B", "no idea"]
    )
    assert "official: the script takes 2 empty outputs for right" in alarms_of(
        "mvbench", ["", "(", "B", "B"]
    )
    assert "1 of 1 items have no readable reference, so they are not scored" in alarms_of(
        "mmvu", ["B"], truth="7"
    )


def test_warnings_are_in_the_file_the_table_and_the_json(tmp_path, capsys):
    file, out = tmp_path / "x.json", tmp_path / "out.json"
    file.write_text(json.dumps([{"id": k, "truth": "B", "output": "hm"} for k in range(4)]))
    command = ["eval", "import", "jsonl", str(file), "--benchmark", "mmvu", "--out", str(out)]
    assert run_cli(command) == 0
    shown = capsys.readouterr().out
    assert "WARNING: official: 4 of 4 outputs (100 %) cannot be parsed" in shown
    assert "for example 0: 'hm' (reference 'B')" in shown
    assert run_cli(["eval", "rescore", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["warnings"]) == 4 and "WARNING" in printed.err
    assert len(json.loads(out.read_text())["warnings"]) == 4


# ---- identity, subsets, prompts


def test_a_true_repeat_counts_once_and_another_clip_is_another_item(tmp_path):
    record = {"id": 0, "question": "?", "truth": "B", "output": "B"}
    records = [record, record, {**record, "video": "b.mp4"}, {**record, "question": "Who?"}]
    (tmp_path / "x.json").write_text(json.dumps(records))
    numbers = numbers_of(tmp_path / "x.json", "mmvu")
    assert numbers["n"] == 3 and numbers["counts"]["duplicate id"] == 1


def test_all_questions_of_vcrbench_by_a_switch(tmp_path, capsys):
    asked = {"id": 1, "question": "When?", "multiple-choice": False, "answer": "[10, 20]"}
    answers = ("[10, 19]", "[0, 60]", "at the end")
    records = [
        {**asked, "id": k, "response": "…", "extract_answer": said}
        for k, said in enumerate(answers)
    ]
    records.append({**asked, "id": 9, "response": "…", "answer_scoring": "1"})
    (tmp_path / "x.json").write_text(json.dumps(records))
    command = ["eval", "import", "jsonl", str(tmp_path / "x.json"), "--benchmark", "vcrbench"]
    command += ["--out", str(tmp_path / "out.json"), "--json"]
    assert run_cli(command) == 2 and "outside the subset" in capsys.readouterr().err
    assert run_cli([*command, "--all"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["benchmark"] == "vcrbenchall" and numbers["expected"] == 1034
    assert numbers["official"]["mean"] == pytest.approx(2 / 3) and numbers["official"]["n"] == 3
    assert run_cli(["eval", "check", "--benchmark", "mmvu", "--questions", "x", "--all"]) == 2
    assert "leave out --all" in capsys.readouterr().err


def test_a_question_of_the_adaptation_track_says_where_its_picture_is(tmp_path):
    record = {
        "id": "test_Math_1",
        "question": "Solve <image 1> for x.",
        "options": [],
        "answer": "4",
    }
    (tmp_path / "Adaptation.json").write_text(json.dumps([record]))
    fields = read_benchmark("videommmu", tmp_path / "Adaptation.json")[0][0]
    assert to_question("videommmu", fields).problem == f"{PICTURE}\nSolve for x."


def test_pretty_printed_outputs_one_after_another_are_all_read(tmp_path):
    """As `jq .` writes them. One record alone keeps its list of videos."""
    file = tmp_path / "x.json"
    records = [
        {"id": k, "question": "What?", "videos": [f"{k}.mp4"], "options": ["x", "y"], "answer": "B"}
        | {"output": "B"}
        for k in range(3)
    ]
    file.write_text("\n".join(json.dumps(record, indent=2) for record in records) + "\nrest")
    numbers = numbers_of(file, "mmvu")
    assert numbers["official"]["n"] == 3 and numbers["counts"]["bad record"] == 1
    for rest, bad in (("", None), ("\nrest", 1)):
        file.write_text(json.dumps(records[0], indent=2) + rest)
        numbers = numbers_of(file, "mmvu")
        assert numbers["official"]["n"] == 1 and numbers["counts"].get("bad record") == bad


@pytest.mark.parametrize(
    "options",
    [["x", "y", float("nan")], {"A": "x", "B": "y", "C": float("nan")}, [1.0, 2.0, float("nan")]],
)
def test_nan_is_no_option_and_no_output(tmp_path, options):
    record = {"id": 1, "question": "What?", "answer": "B", "options": options, "output": "B"}
    columns = {"id": 2, "question": "Who?", "answer": "B", "A": 1.0, "B": "y", "C": float("nan")}
    columns["output"] = float("nan")
    (tmp_path / "x.json").write_text(json.dumps([record, columns]))
    result = import_result("jsonl", tmp_path / "x.json", "mmvu")
    assert [len(item.options) for item in result.items] == [2, 2]
    assert result.items[1].options == ["A. 1", "B. y"] and result.items[1].output == ""
    assert rescore(result)["counts"]["empty output"] == 1
