"""Numbers of a benchmark from scored items: parts, means of means, comparison and report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from p2r.cli import run_cli
from p2r.errors import DataError
from p2r.evaluation.benchmark import Item
from p2r.evaluation.benchmarks.vcrbench import chain_of_thought, count_steps
from p2r.evaluation.benchmarks.vsibench import CHOICE_TYPES
from p2r.evaluation.compare import compare, comparison_markdown
from p2r.evaluation.metrics import Clips, GroupMean, combine
from p2r.evaluation.paper import paper_columns, table_1
from p2r.evaluation.report import build_report, report_markdown
from p2r.evaluation.results import Result, read_result, rescore, write_result
from p2r.evaluation.score import measure


def item(identity: str, right: bool, **fields) -> Item:
    fields = {"truth": "B", "problem_type": "multiple choice", **fields}
    return Item(id=identity, output="B" if right else "A", **fields)


def mmvu(rights: list[bool], model: str = "m") -> Result:
    return Result("mmvu", model, [item(str(k), right) for k, right in enumerate(rights)])


# ---- means and intervals


def test_mean_of_groups_gives_them_equal_weight():
    groups = [[1.0] * 9 + [0.0], [0.0, 0.0], [], [None]]
    found = combine([GroupMean.of(values, seed) for seed, values in enumerate(groups)])
    assert found["mean"] == pytest.approx(0.45) and found["n"] == 12
    assert found["low"] <= 0.45 <= found["high"]
    assert combine([None]) == {"mean": None, "low": None, "high": None, "n": 0}


def test_intervals_are_clustered_by_clip():
    """Ten questions about each of six clips, all right or all wrong: there are six facts."""
    items = [item(f"{k}", k // 10 < 3, clip=f"{k // 10}.mp4") for k in range(60)]
    numbers = rescore(Result("mmvu", "m", items))
    official = numbers["official"]
    assert official["mean"] == 0.5 and official["n"] == 60 and official["clusters"] == 6
    assert official["high"] - official["low"] > 0.5
    assert numbers["intervals"] == "95 % bootstrap, 2,000 resamples of 6 clips (60 items)"
    for one in items:
        one.clip = ""
    numbers = rescore(Result("mmvu", "m", items))
    assert numbers["official"]["high"] - numbers["official"]["low"] < 0.3
    assert "clusters" not in numbers["official"] and "resamples of items" in numbers["intervals"]


def test_clustered_intervals_cover_the_truth():
    """Clips differ in difficulty. The interval has the mean of all clips in about 95 % of draws."""
    draw = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        rights = [list(draw.random(8) < ease) for ease in draw.random(40)]
        clips = Clips([str(clip) for clip in range(40) for _ in range(8)])
        found = clips.interval(float(right) for ones in rights for right in ones)
        hits += found["low"] <= 0.5 <= found["high"]
    assert 0.90 <= hits / 200 <= 0.98


def test_a_mean_of_parts_keeps_the_clips_together():
    """Two tasks with the same right clips: their mean varies like one of them."""
    items = []
    for clip in range(20):
        for task in ("action_count", "state_change"):
            fields = {"parts": {"task": task}, "clip": str(clip)}
            items.append(item(f"{task}{clip}", clip < 10, **fields))
    parts = rescore(Result("mvbench", "m", items))["official"]["parts"]
    width = {name: part["high"] - part["low"] for name, part in parts.items()}
    assert width["macro"] == pytest.approx(width["action_count"], abs=0.01)
    assert parts["macro"]["clusters"] == 20


def test_draws_of_groups_belong_together_if_a_group_is_absent_from_some():
    """Two groups share two clips of twelve: about one draw in ten has none of them.

    In every other draw the shared clips move both means in the same direction.
    """
    clips = Clips([str(k) for k in range(12)] * 2)
    small = clips.group([1.0, 0.0], [0, 1])
    large = clips.group([1.0, 0.0, 0.5], [12, 13, 14])
    assert np.corrcoef(small.drawn, large.drawn)[0, 1] > 0.8


def test_vsibench_directions_are_averaged_first_and_absent_types_left_out():
    """Two direction types (1 and 0), one distance (1): (0.5 + 1) / 2, not 2 / 3."""
    kinds = [(CHOICE_TYPES[0], True), (CHOICE_TYPES[1], False), ("object_rel_distance", True)]
    items = [item(kind, right, parts={"question type": kind}) for kind, right in kinds]
    result = Result("vsibench", "m", items)
    official = rescore(result)["official"]
    assert official["mean"] == 0.75 and official["parts"]["object_rel_direction"]["mean"] == 0.5
    assert official["parts"]["accuracy"]["mean"] == pytest.approx(2 / 3)
    assert official["parts"]["mra"]["n"] == 0 and official["parts"]["paper"]["n"] == 3


def test_mvbench_micro_and_macro():
    tasks = [("action_count", True)] * 3 + [("state_change", False)]
    items = [item(str(k), right, parts={"task": t}) for k, (t, right) in enumerate(tasks)]
    result = Result("mvbench", "m", items)
    official = rescore(result)["official"]
    assert official["mean"] == official["parts"]["micro"]["mean"] == 0.75
    assert official["parts"]["macro"]["mean"] == 0.5


def test_judged_steps_of_vcrbench():
    """Recall is 1 of 2 and 1 of 1, precision is 1 of 1 logic steps, F1 comes from the means."""
    video, logic = "Video Description Steps", "Logical Inference Steps"
    judged = [
        {"step_type": video, "judgment": "Matched"},
        {"step_type": video, "judgment": "Unmatched"},
        {"step_type": logic, "judgment": "Matched"},
        {"step_type": "Background Review Steps", "judgment": "Unmatched"},
    ]
    recall = count_steps(judged, "recall")
    assert recall == {
        "Video_recall": 0.5,
        "logic_recall": 1.0,
        "overall_recall": pytest.approx(2 / 3),
    }
    reply = "```json\n" + json.dumps(judged) + "\n```"
    precise = [{"step_type": logic, "judgment": w} for w in ("Matched", "Redundant")]
    steps = {"recall_eval": reply, "precision_eval": json.dumps(precise)}
    parts = chain_of_thought([item("1", True, stored={"steps": steps}), item("2", True)])
    assert parts["cot overall recall"]["mean"] == pytest.approx(2 / 3)
    assert parts["cot overall precision"]["mean"] == 1.0
    assert parts["cot overall f1"]["mean"] == pytest.approx(0.8)
    assert parts["cot video precision"]["n"] == 0 and parts["cot video f1"]["mean"] is None
    assert chain_of_thought([item("1", True)]) == {}


def test_a_result_file_is_read_as_it_was_written(tmp_path):
    items = [
        item("1", True, options=["A. a", "B. b"], trace={"think": "So."}, parts={"subject": "Art"}),
        Item("2", "", "B", "multiple choice", stored={"score": 0.0}),
    ]
    first = Result("mmvu", "m", items, {"seed": 0}, {"unreadable": 1}, {"x": ["y"]})
    path = write_result(first, tmp_path / "r.json")
    again = read_result(path)
    assert again.items == first.items and again.made == {"seed": 0}
    numbers = rescore(again)
    assert numbers == first.numbers and numbers["counts"]["unreadable"] == 1
    assert numbers["counts"]["empty output"] == 1


# ---- comparison


def test_pairs_by_id_and_says_who_gained():
    a, b = mmvu([True, True, False, False]), mmvu([True, False, True, True], "n")
    b.items.append(item("only b", True))
    found = compare(a, b)
    assert found["pairs"] == 4 and found["unpaired"] == [0, 1]
    official = found["official"]
    assert official["table"] == {"both": 1, "only a": 1, "only b": 2, "neither": 0}
    assert official["difference"]["mean"] == 0.25 and official["p"] == 1.0
    text = comparison_markdown(found)
    assert "| official | all | 4 |" in text and "resamples of items" in text and "McNemar" in text


def test_pairs_of_repeated_ids_are_found_by_their_question():
    a = Result("mmvu", "a", [item("7", k > 0, problem=f"Q{k}", clip="x") for k in range(3)])
    b = Result("mmvu", "b", [item("7", k > 1, problem=f"Q{k}") for k in (2, 1, 0)])
    found = compare(a, b)
    assert found["pairs"] == 3 and found["official"]["table"]["only a"] == 1
    assert found["official"]["difference"]["clusters"] == 1


@pytest.mark.parametrize("differ", ["options", "clip"])
def test_pairs_of_one_question_are_found_by_options_and_clip(differ):
    """Each item is compared with itself, in any order; the third item of b has no partner."""

    def result(model: str, order: str) -> Result:
        own = {name: {"options": [f"A. {name}", "B. x"], "clip": name} for name in order}
        fields = {name: {differ: one[differ]} for name, one in own.items()}
        items = [item("7", name == "p", problem="Which?", **fields[name]) for name in order]
        return Result("mmvu", model, [item("8", True, problem="Other"), *items])

    found = compare(result("a", "pq"), result("b", "rqp"))
    assert found["pairs"] == 3 and found["unpaired"] == [0, 1]
    assert found["official"]["table"] == {"both": 2, "only a": 0, "only b": 0, "neither": 1}


def test_items_that_cannot_be_told_apart_are_not_paired():
    twice = [item("7", True, problem="Which?"), item("7", False, problem="Which?")]
    one = item("8", True, problem="Other")
    found = compare(Result("mmvu", "a", [*twice, one]), Result("mmvu", "b", [*twice, one]))
    assert found["pairs"] == 1 and found["unpaired"] == [2, 2]


def test_items_that_an_extractor_leaves_out_are_not_compared():
    items = [Item(str(k), said, "B", "multiple choice") for k, said in enumerate(("B", "it is so"))]
    result = Result("videomme", "m", items)
    found = compare(result, result)
    assert found["official"]["n"] == 1 and found["official"]["left out"] == 1
    assert found["robust"]["n"] == 2


def test_results_are_compared_in_the_score_of_the_benchmark_not_in_the_plain_mean():
    """MLVU's score is the mean over tasks: b is better, though a has more right answers."""
    tasks = ["count"] * 4 + ["order"]

    def result(model: str, rights: list[bool]) -> Result:
        pairs = enumerate(zip(rights, tasks, strict=True))
        items = [item(str(k), right, parts={"task": task}) for k, (right, task) in pairs]
        return Result("mlvu", model, items)

    a = result("a", [True, True, True, True, False])
    b = result("b", [True, True, False, False, True])
    found = compare(a, b)["official"]
    assert [found[key]["mean"] for key in ("a", "b", "difference")] == [0.5, 0.75, 0.25]
    assert found["a"] == {
        k: v for k, v in measure("mlvu", a.items, "official").items() if k != "parts"
    }
    assert found["table"] == {"both": 2, "only a": 2, "only b": 1, "neither": 0}
    assert found["parts"]["count"]["difference"]["mean"] == -0.5
    assert "over items" in comparison_markdown(compare(a, b))
    assert build_report([a, b])["pairs"][0]["official"]["difference"]["mean"] == 0.25


def test_two_benchmarks_cannot_be_compared():
    other = Result("mvbench", "m", [item("0", True)])
    with pytest.raises(DataError, match="one benchmark"):
        compare(mmvu([True]), other)
    with pytest.raises(DataError, match="no item in common"):
        compare(mmvu([True]), Result("mmvu", "m", [item("x", True)]))


def test_compare_on_the_command_line(tmp_path, capsys):
    for name, rights in (("a", [True, False]), ("b", [True, True])):
        write_result(mmvu(rights, name), tmp_path / f"{name}.json")
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    assert run_cli(["eval", "--compare", *files]) == 0
    assert "| official | all | 2 | 50.0 [" in capsys.readouterr().out


# ---- the report


def test_averages_of_the_paper_are_those_of_its_columns():
    for name, row in table_1().items():
        columns = [row[name] for name in paper_columns()]
        assert sum(columns) / 7 == pytest.approx(row["average"], abs=0.06), name


def test_report_marks_measured_and_quoted():
    think = {"think": "So it is blue.", "answer": "B"}
    options = ["A. blue", "B. red"]
    items = [
        item("1", True, options=options, trace=think, parts={"duration": "short"}),
        item("2", False, options=options, trace={**think, "answer": "A"}),
    ]
    found = build_report([Result("videomme", "ours", items)])
    tables = found["tables"]
    assert tables["1"]["measured"]["ours (official)"]["videomme"]["mean"] == 0.5
    assert "average" not in tables["2"]["measured"]["ours (official)"], "of one benchmark only"
    for number in ("2", "4", "8", "9"):
        assert tables[number]["measured"]["ours (official)"]["videomme"]["mean"] == 0.5
    assert tables["6"]["measured"]["ours (by rule)"]["mismatch, videomme"]["mean"] == 0.5
    assert tables["7"]["measured"]["ours (robust)"]["videomme: short"]["n"] == 1
    text = report_markdown(found)
    assert "| VideoP2R | quoted | 36.8 | 55.0 |" in text
    assert "| ours (official) | **measured** |" in text and "*not measured*" in text


def test_report_has_an_average_only_over_all_seven():
    results = [
        Result(name, "ours", [item(str(k), k < 1) for k in range(2)]) for name in paper_columns()
    ]
    found = build_report(results)["tables"]
    assert found["1"]["measured"]["ours (official)"]["average"]["mean"] == 0.5
    assert found["2"]["measured"]["ours (robust)"]["average"]["n"] == 14
    with pytest.raises(DataError, match="two results"):
        build_report([*results, results[0]])


def test_the_mismatch_is_averaged_over_the_seven_and_no_other_benchmark():
    options = ["A. blue", "B. red"]

    def result(benchmark: str, think: str) -> Result:
        trace = {"think": f"So it is {think}.", "answer": "B"}
        return Result(benchmark, "ours", [item("1", True, options=options, trace=trace)])

    other = result("playground", "blue")
    seven = [result(name, "red") for name in paper_columns()]
    row = build_report([*seven, other])["tables"]["6"]["measured"]["ours (by rule)"]
    assert (row["mismatch"]["mean"], row["mismatch"]["n"]) == (0.0, 7)
    assert row["mismatch, playground"]["mean"] == 1.0
    row = build_report([*seven[1:], other])["tables"]["6"]["measured"]["ours (by rule)"]
    assert "mismatch" not in row, "of six and another"


def test_vsibench_is_compared_in_the_papers_metric():
    choices = [item(str(k), k < 1, parts={"question type": "route_planning"}) for k in range(4)]
    number = Item("n", "2", "2", "regression", parts={"question type": "object_counting"})
    found = build_report([Result("vsibench", "ours", [*choices, number])], ["1"])
    assert list(found["tables"]) == ["1"]
    cell = found["tables"]["1"]["measured"]["ours (official)"]["vsibench"]
    assert cell["mean"] == pytest.approx((0.25 + 1.0) / 2), "accuracy 1/4, MRA 1"
    three = [
        item(f"d{k}", True, parts={"question type": f"object_rel_direction_{level}"})
        for k, level in enumerate(("easy", "medium", "hard"))
    ]
    found = build_report([Result("vsibench", "ours", [*choices, *three, number])])
    cell = found["tables"]["9"]["measured"]["ours (official)"]["vsibench"]
    assert cell["mean"] == pytest.approx((4 / 7 + 1.0) / 2), "not the mean over question types"


def test_table_9_quotes_t_grpo_and_columns_follow_the_paper(tmp_path, capsys):
    path = write_result(mmvu([True, False], "ours"), tmp_path / "r.json")
    assert run_cli(["eval", "report", str(path), "--table", "9"]) == 0
    shown = capsys.readouterr().out
    assert "Table 9" in shown and "Table 1:" not in shown
    assert "| SFT on VideoP2R-CoT-162K, then T-GRPO | quoted |" in shown
    assert "| row | source | mmvu | average |" in shown
    assert run_cli(["eval", "report", str(path), "--table", "3"]) == 2
    assert "no table 3" in capsys.readouterr().err


def test_report_compares_the_results_of_one_benchmark_item_by_item():
    results = [mmvu([True] * 4 + [False] * 6, "a"), mmvu([True] * 10, "b"), mmvu([True], "c")]
    found = build_report(results)
    first = found["pairs"][0]
    assert first["models"] == ["a", "b"] and first["benchmark"] == "mmvu"
    assert first["official"]["difference"]["mean"] == pytest.approx(0.6)
    assert first["official"]["p"] == pytest.approx(2 * 0.5**6)
    assert [pair["models"] for pair in found["pairs"]] == [["a", "b"], ["a", "c"], ["b", "c"]]
    text = report_markdown(found)
    assert "| mmvu | a | b | official | 10 | 60.0 [30.0, 90.0] | 0 | 6 | 0.0312 |" in text
    other = Result("mmvu", "d", [item("x", False)])
    found = build_report([results[0], other])
    assert "no item in common" in found["pairs"][0]["reason"]
    assert "WARNING: d on mmvu: official: the score is exactly 0" in report_markdown(found)


def test_names_from_files_cannot_change_the_tables():
    """A model's name and a part come from a file. They stay text in one cell."""
    name = "a|b\n<b>_x_</b>\u202e"
    shown = r"a\|b &lt;b>\_x\_&lt;/b>\[U+202E\]"
    trace = {"think": "So it is a.", "answer": "B"}
    fields = {"parts": {"discipline": name}, "options": ["A. a", "B. b"], "trace": trace}
    result = Result("mmvu", name, [item("1", False, **fields)])
    other = Result("mmvu", "b", [item("1", True, **fields)])
    text = report_markdown(build_report([result, other]))
    assert f"| {shown} (official) | **measured** |" in text and f"| mmvu | {shown} | b |" in text
    assert f"WARNING: {shown} on mmvu: official: the score is exactly 0" in text
    compared = comparison_markdown(compare(result, other))
    assert f"A = {shown}, B = b;" in compared and f"| official | {shown} | 1 |" in compared
    for written in (text, compared):
        assert "<b>" not in written and "\u202e" not in written
        assert "\n&lt;b>" not in written, "no line feed is left"


def test_a_transfer_is_shown_in_table_5(tmp_path, capsys):
    result = mmvu([True, False], "reader")
    result.made["input"] = "text + observation"
    path = write_result(result, tmp_path / "r.json")
    assert run_cli(["eval", "--report", str(path), "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    row = tables["5"]["measured"]["reader: text + observation (official)"]
    assert row["mmvu"]["mean"] == 0.5 and tables["1"]["measured"] == {}


def test_parts_with_one_name_are_told_apart():
    parts = {"domain": "Multilingual", "sub-category": "Multilingual"}
    items = [item("1", True, parts=parts)]
    rescore(Result("videomme", "m", items))
    assert {"Multilingual", "sub-category: Multilingual"} <= measure("videomme", items, "robust")[
        "parts"
    ].keys()
