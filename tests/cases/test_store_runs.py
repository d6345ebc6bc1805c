"""The store over runs: failure kinds, facets, groups, comparisons, growing and damaged files."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from case_records import ids, make_case

from p2r.cases import table as case_table
from p2r.cases import text_index
from p2r.cases.selection import FAILURES
from p2r.cases.store import CaseStore, Filters, write_cases
from p2r.errors import StoreError
from p2r.files.journal import Journal
from p2r.records import ProcessReward, Verdict

YES, NO = Verdict(sufficient=True, judge="j"), Verdict(sufficient=False, judge="j")
SILENT = Verdict(sufficient=None, judge="j", rationale="timeout")


@pytest.fixture
def run(tmp_path):
    return tmp_path / "demo"


@pytest.fixture
def open_store(run):
    def write_and_open(*cases) -> CaseStore:
        write_cases(run, cases)
        return CaseStore([run])

    return write_and_open


def write_lines(path, *cases, mode="a") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as lines:
        lines.writelines(json.dumps(case.model_dump(mode="json")) + "\n" for case in cases)


# ---- filters


def test_each_case_has_the_first_failure_kind_that_applies(open_store):
    store = open_store(
        make_case(1, verdict=YES),
        make_case(2, verdict=NO),
        make_case(3, verdict=NO, accuracy=0.0, tags=["mismatch"]),
        make_case(4, verdict=YES, accuracy=0.0),
        make_case(5, verdict=YES, accuracy=0.0, tags=["mismatch"]),
        make_case(6, verdict=SILENT, accuracy=0.0),
        make_case(7, verdict=NO, trace_problems=["answer missing"]),
        make_case(8, verdict=NO, trace_problems=["answer missing"], trace_truncated=True),
        make_case(9, verdict=None, accuracy=0.0),
        make_case(10, verdict=YES, tags=["kept", "mismatch"]),
        make_case(11, verdict=NO, accuracy=None),
    )
    kinds = [row["failure"] for row in store.page()]
    assert kinds == [
        None,
        "right by luck",
        "perception miss",
        "reasoning slip",
        "mismatch",
        "judge unknown",
        "format",
        "truncated",
        None,
        "mismatch",
        None,
    ]
    assert store.failures() == {kind: kinds.count(kind) for kind in FAILURES}
    lucky = Filters(failure=("right by luck", "format"))
    assert ids(store.page(lucky)) == ["q2", "q7"]
    assert store.failures(lucky) == store.failures(), "the other kinds stay visible"
    assert ids(store.page(Filters(mismatch=True))) == ["q3", "q5", "q10"]


def rewarded(n, perception, reasoning, **more):
    def reward(value):
        return None if value is None else ProcessReward(accuracy=value, format=0.0, length=0.0)

    return make_case(n, perception=reward(perception), reasoning=reward(reasoning), **more)


def test_ranges_include_their_limits_and_exclude_unknown_values(open_store):
    store = open_store(
        rewarded(1, 0.0, 1.0, trace_step=1, trace_completion_tokens=100),
        rewarded(2, 1.0, 0.5, trace_step=2, trace_completion_tokens=200),
        rewarded(3, None, None),
        rewarded(4, float("nan"), 0.0, trace_step=9, trace_completion_tokens=300),
    )
    for filters, expected in [
        (Filters(step=(2, None)), "q2 q4"),
        (Filters(step=(None, 2)), "q1 q2"),
        (Filters(perception_reward=(0.0, 0.0)), "q1"),
        (Filters(perception_reward=(0.0, None)), "q1 q2"),
        (Filters(reasoning_reward=(0.5, 1.0), length=(150, 200)), "q2"),
        (Filters(accuracy=(1.0, None)), "q1 q2 q3 q4"),
    ]:
        assert ids(store.page(filters)) == expected.split(), filters


def test_text_is_searched_in_the_chosen_fields(open_store):
    store = open_store(
        make_case(1, question_problem="a cup"),
        make_case(2, trace_observation="a cup"),
        make_case(3, trace_think="a cup"),
        make_case(4, verdict=Verdict(sufficient=True, rationale="a  CUP")),
        make_case(5, question_options=["A. a cup", "B. none"]),
        make_case(6, trace_text="off the template: a cup", trace_problems=["think missing"]),
    )
    for fields, expected in [
        ((), "q1 q2 q3 q4 q5 q6"),
        (("question",), "q1 q5"),
        (("observation",), "q2"),
        (("reasoning",), "q3 q6"),
        (("rationale", "observation"), "q2 q4"),
    ]:
        assert ids(store.page(Filters(text="a cup", text_in=fields))) == expected.split()
    assert store.count(Filters(text="demo/sft", text_in=("question",))) == 0
    assert store.count(Filters(text="demo/sft")) == 6, "ids are searched with everything"


def test_facets_count_under_the_other_filters(open_store):
    store = open_store(
        make_case(1, verdict=YES),
        make_case(2, verdict=NO, question_source="a"),
        make_case(3, verdict=NO, question_problem_type="numerical"),
    )
    facets = store.facets(Filters(source=("world",)))
    assert facets["source"] == {"world": 2, "a": 1}
    assert facets["problem_type"] == {"multiple choice": 1, "numerical": 1}
    assert facets["verdict"] == {"no": 1, "yes": 1}
    assert facets["failure"] == {"right by luck": 1}
    assert store.facets(Filters(text="nothing"))["run"] == {}
    assert list(store.facets()) == list(facets)


def test_neighbours_follow_the_list(open_store):
    store = open_store(*(make_case(n, accuracy=n % 3 / 2) for n in range(9)))
    wrong, names = Filters(outcome="wrong"), [row["id"] for row in store.page()]
    assert store.neighbours(names[3], wrong) == (2, 6, names[1], names[4])
    assert store.neighbours(names[0], wrong) == (0, 6, None, names[1])
    assert store.neighbours(names[7], wrong, descending=True) == (0, 6, None, names[6])
    assert store.neighbours(names[2], wrong) == (None, 6, None, None)
    assert store.neighbours("\ud800", wrong).position is None


def test_long_columns_are_read_from_the_file(open_store):
    store = open_store(
        make_case(1, trace_think="x" * 2**20), make_case(2, question_problem="y" * 900)
    )
    rows = store.page(columns=["trace.think", "id"], descending=True)
    assert [row["trace.think"] for row in rows] == [None, "x" * 2**20]
    assert store.page(offset=1)[0]["question.problem"] == "y" * 300
    assert store.get(rows[0]["id"]).question.problem == "y" * 900
    for call in (lambda: store.page(sort="trace.think"), lambda: store.values("trace.text")):
        with pytest.raises(StoreError, match="it is a text"):
            call()


# ---- groups and comparisons


def test_groups_of_rollouts_name_the_collapsed_process(open_store):
    def rollout(question, index, perception, reasoning, **more):
        place = {"trace_stage": "rl", "trace_step": 4, "trace_rollout": index}
        return rewarded(question, perception, reasoning, **place, **more)

    store = open_store(
        *(rollout(1, index, 1.0, index / 2, verdict=YES) for index in range(3)),
        *(rollout(2, index, None, 0.7, accuracy=0.0) for index in range(2)),
        make_case(3),
    )
    first, second = store.groups()
    assert (first["question.id"], first["size"], first["total"]) == ("q1", 3, 2)
    assert first["perception_collapsed"] and not first["reasoning_collapsed"]
    assert first["reasoning_reward"] == 0.5 and first["reasoning_spread"] == 1.0
    assert (first["n_right"], first["n_sufficient"]) == (3, 3)
    assert second["perception_collapsed"] and second["perception_reward"] is None
    assert second["reasoning_collapsed"] and second["n_right"] == 0
    chosen = store.groups(Filters(reasoning_reward=(1.0, None)))
    assert [(row["question.id"], row["size"]) for row in chosen] == [("q1", 3)], "whole groups"
    assert [row["question.id"] for row in store.groups(sort="size", descending=False)] == [
        "q2",
        "q1",
    ]
    assert len(store.groups(limit=1, offset=1)) == 1
    with pytest.raises(StoreError, match="cannot be ordered"):
        store.groups(sort="id; --")


def test_the_place_of_a_group_is_that_of_its_row(open_store):
    cases = [
        make_case(n, trace_rollout=rollout, trace_step=n % 3, accuracy=float(n % 2 == rollout))
        for n in range(12)
        for rollout in range(2)
    ]
    store = open_store(*cases, make_case(50))
    for filters in (Filters(), Filters(step=(1.0, None)), Filters(outcome="right")):
        for sort, descending in (("step", False), ("right", True), ("both_spreads", True)):
            rows = store.groups(filters, sort, descending)
            for place, row in enumerate(rows):
                last = store.group(row["question.id"], "demo", "sft", row["trace.step"])[-1]["id"]
                assert store.group_place(last, filters, sort, descending) == place
    alone = store.page(Filters(question_id=("q50",)))[0]["id"]
    assert store.group_place(alone) is None and store.group_place("unknown") is None
    left_out = store.page(Filters(step=(None, 0.0)))[0]["id"]
    assert store.group_place(left_out, Filters(step=(1.0, None))) is None


def test_stages_are_compared_question_by_question(open_store):
    def of(stage, n, accuracy, **more):
        return make_case(n, trace_stage=stage, accuracy=accuracy, **more)

    store = open_store(
        *(of("base", n, accuracy) for n, accuracy in [(1, 1.0), (2, 0.0), (3, 0.0), (4, 1.0)]),
        *(of("sft", n, accuracy) for n, accuracy in [(1, 0.0), (2, 1.0), (3, None)]),
        of("rl", 1, 0.0, trace_step=1),
        of("rl", 1, 1.0, trace_step=2, trace_rollout=1),
        of("rl", 1, 0.0, trace_step=2, trace_rollout=0),
        of("rl", 2, 1.0, trace_step=1),
        of("rl", 4, 1.0, question_problem="another question of that id"),
    )
    two, three = [("demo", "base"), ("demo", "sft")], [("demo", s) for s in ("base", "sft", "rl")]
    assert store.compare_counts(two) == {
        ("right", "wrong"): 1,
        ("wrong", "right"): 1,
        ("wrong", "unknown"): 1,
    }
    row = store.compare(two, outcomes=("wrong", "right"))[0]
    assert row["question.id"] == "q2" and row["outcomes"] == ["wrong", "right"]
    assert row["ids"] == ["demo/base/0/q2/0", "demo/sft/0/q2/0"] and row["total"] == 1
    assert [row["outcomes"] for row in store.compare(three)] == [
        ["right", "wrong", "wrong"],
        ["wrong", "right", "right"],
    ]
    assert store.compare(three)[0]["ids"][2] == "demo/rl/2/q1/0", "the last step's first rollout"
    assert ids(store.compare(two, Filters(text="clip 3"))) == ["q3"]
    assert store.compare(two, outcomes=(None, "unknown"))[0]["question.id"] == "q3"
    for sides, outcomes in [(two[:1], ()), (two, ("good",)), (two, (None, None, None))]:
        with pytest.raises(StoreError):
            store.compare(sides, outcomes=outcomes)
    assert [(row["stage"], row["n"]) for row in store.stages()] == [
        ("base", 4),
        ("sft", 3),
        ("rl", 5),
    ]


def test_verdicts_of_cases(open_store):
    store = open_store(
        make_case(1, verdict=NO), make_case(2, verdict=SILENT), make_case(3, verdict=None)
    )
    names = [row["id"] for row in store.page()]
    assert store.verdicts([*names, "x"]) == {names[0]: ("j", False), names[1]: ("j", None)}


# ---- files that grow, are replaced, are damaged


def test_only_the_new_lines_of_a_growing_journal_are_read(run, monkeypatch):
    read: list[int] = []
    original = case_table.read_new_cases

    def counting(file):
        for offsets, batch in original(file):
            read.append(len(batch))
            yield offsets, batch

    monkeypatch.setattr(case_table, "read_new_cases", counting)
    run.mkdir()
    with Journal(run / "generate.jsonl") as journal:
        for n in range(3):
            journal.append(f"q{n}/0", make_case(n, accuracy=None).model_dump(mode="json"))
        store = CaseStore([run])
        assert store.count() == 3 and store.count(Filters(text="clip 2")) == 1
        journal.append("q3/0", make_case(3).model_dump(mode="json"))
        assert store.count() == 3, "not before it is asked to"
        assert store.refresh() == 1 and store.refresh() == 0
        assert store.count(Filters(text="clip 3")) == 1
        assert read == [3, 1], "what was read is not read again"
    case = store.get(store.page(offset=3)[0]["id"])
    assert case == make_case(3) and store.file_of(case.id).name == "generate.jsonl"
    with (run / "generate.jsonl").open("a") as lines:
        lines.write('{"key": "half')
    assert store.refresh() == 0 and store.faults == []


def test_a_scored_case_replaces_the_unscored_one(run):
    run.mkdir()
    with Journal(run / "generate.jsonl") as journal:
        for n in range(2):
            journal.append(f"q{n}/0", make_case(n, accuracy=None).model_dump(mode="json"))
    store = CaseStore([run])
    assert store.values("outcome") == {"unknown": 2}
    write_lines(run / "cases" / "cot.jsonl", make_case(0))
    store.refresh()
    assert store.values("outcome") == {"right": 1, "unknown": 1}
    write_cases(run, [make_case(0, accuracy=0.0)])
    store.refresh()
    assert store.values("outcome") == {"unknown": 1, "wrong": 1}
    assert store.run_of(store.page()[0]["id"]) == run


def test_rollouts_are_read_while_they_are_written(run):
    write_cases(run, [make_case(1)])
    rollouts = [
        make_case(2, trace_stage="rl", trace_step=1, trace_rollout=index) for index in range(4)
    ]
    write_lines(run / "pa_grpo" / "rollouts.jsonl", *rollouts[:2])
    store = CaseStore([run])
    assert store.values("trace.stage") == {"rl-pa_grpo": 2, "sft": 1}
    write_lines(run / "pa_grpo" / "rollouts.jsonl", *rollouts[2:])
    assert store.refresh() == 2
    row = store.group("q2", "demo", "rl-pa_grpo", 1)[3]
    assert store.get(row["id"]).trace.rollout == 3
    # A resumed training cuts the file and writes it again. The store reads it again.
    write_lines(run / "pa_grpo" / "rollouts.jsonl", rollouts[0], mode="w")
    store.refresh()
    assert store.values("trace.stage") == {"rl-pa_grpo": 1, "sft": 1}
    # The new file may have the inode of the old one and be longer.
    write_lines(run / "pa_grpo" / "rollouts.jsonl", *rollouts[1:], mode="w")
    store.refresh()
    assert store.values("trace.stage") == {"rl-pa_grpo": 3, "sft": 1}
    assert {row["trace.rollout"] for row in store.page(Filters(stage=("rl-pa_grpo",)))} == {1, 2, 3}


def test_damaged_lines_are_left_out_with_their_reason(run):
    path = run / "cases" / "eval.jsonl"
    write_lines(path, make_case(1))
    with path.open("a") as lines:
        lines.write('nonsense\n{"question": 1}\n[]\n')
    write_lines(path, make_case(2, question_problem="half \ud800"))
    store = CaseStore([run])
    assert ids(store.page()) == ["q1", "q2"]
    assert [fault.reason.split(":")[0] for fault in store.faults] == [
        f"line {number} is not a case" for number in (2, 3, 4)
    ]
    assert store.get(store.page()[1]["id"]).question.problem == "half \ufffd"


def test_a_line_that_no_table_can_hold_does_not_affect_other_lines(run):
    path = run / "cases" / "eval.jsonl"
    write_lines(path, make_case(1), make_case(2, trace_step=2**70))
    with path.open("a") as lines:
        lines.write("[" * 100_000 + '\n{"question": 1}\n')
    write_lines(path, make_case(3))
    store = CaseStore([run])
    assert ids(store.page()) == ["q1", "q3"]
    for fault, reason in zip(
        store.faults,
        ("a number has more than 64 bits: 11805", "nested too deeply", "question: "),
        strict=True,
    ):
        assert reason in fault.reason


def test_cases_are_read_in_the_order_of_a_list(open_store, monkeypatch):
    monkeypatch.setattr(case_table, "_LARGE_CHUNK", 3)
    store = open_store(*(make_case(n, accuracy=[0.2, 0.9, None, 0.5][n % 4]) for n in range(8)))
    for sort, descending in ((None, False), (None, True), ("accuracy", False), ("accuracy", True)):
        listed = [row["id"] for row in store.page(Filters(), sort, descending)]
        assert [case.id for case in store.cases(Filters(), sort, descending)] == listed


def test_groups_in_which_both_processes_differ_come_first(open_store):
    def rollout(question, index, perception, reasoning):
        place = {"trace_stage": "rl", "trace_step": 1, "trace_rollout": index}
        return rewarded(question, perception, reasoning, **place)

    store = open_store(
        *(rollout(1, index, 1.0, 1.0) for index in range(2)),
        *(rollout(2, index, 1.0, float(index)) for index in range(2)),
        *(rollout(3, index, index / 2, index / 2) for index in range(2)),
        *(rollout(4, index, None, float(index)) for index in range(2)),
    )
    found = store.groups(sort="both_spreads")
    assert [row["question.id"] for row in found] == ["q3", "q2", "q4", "q1"]


def test_many_damaged_lines_are_not_listed_one_by_one(run):
    write_lines(run / "cases" / "eval.jsonl", make_case(1))
    with (run / "cases" / "eval.jsonl").open("a") as lines:
        lines.writelines("nonsense\n" for _ in range(1000))
    store = CaseStore([run])
    assert len(store.faults) == 21 and store.faults[-1].reason == "more parts cannot be read"


def test_a_run_that_becomes_unreadable_raises_an_error_and_recovers(run):
    write_cases(run, [make_case(1)])
    store = CaseStore([run])
    content = (run / "cases.parquet").read_bytes()
    (run / "cases.parquet").unlink()
    with pytest.raises(StoreError, match="no cases at"):
        store.page()
    (run / "cases.parquet").write_bytes(content)
    assert store.count() == 1


def test_a_half_written_parquet_file_leaves_the_run_readable(run):
    file = write_cases(run, (make_case(n) for n in range(50)))
    write_lines(run / "cases" / "cot.jsonl", make_case(1), make_case(2))
    os.utime(run / "cases" / "cot.jsonl", ns=(0, 0))
    assert CaseStore([run]).count() == 50, "older lines are in the file"
    file.write_bytes(file.read_bytes()[:-100])
    store = CaseStore([run])
    assert ids(store.page()) == ["q1", "q2"]
    assert "cannot be read" in store.faults[0].reason


def test_a_damaged_row_group_leaves_the_others(run):
    run.mkdir()
    file = run / "cases.parquet"
    write_cases(file, (make_case(n) for n in range(3000)))
    column = pq.ParquetFile(file).metadata.row_group(0).column(0)
    content = bytearray(file.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + 300] = b"\xff" * 300
    file.write_bytes(content)
    store = CaseStore([run])
    assert store.count() == 3000 - 2048
    assert "row group 0 (2048 cases) cannot be read" in store.faults[0].reason
    assert store.get(store.page(limit=1)[0]["id"]).question.id == "q2048"
    assert store.count(Filters(text="clip 2999?")) == 1


def test_columns_of_other_types_are_read_as_far_as_possible(run):
    file = write_cases(run, [make_case(1), make_case(2)])
    table = pq.read_table(file)
    place = table.schema.get_field_index("accuracy")
    table = table.set_column(place, "accuracy", pa.array(["0.9", "many"]))
    place = table.schema.get_field_index("trace.think")
    pq.write_table(table.set_column(place, "trace.think", pa.array([1, 2])), file)
    store = CaseStore([run])
    assert store.values("outcome") == {"right": 1, "unknown": 1}
    with pytest.raises(StoreError, match="is damaged"):
        store.get(store.page()[0]["id"])
    assert list(store.cases()) == list(store.cases()) == []
    assert ["is damaged" in fault.reason for fault in store.faults] == [True, True]


def test_an_id_that_comes_twice_in_a_file_is_shown_once(run):
    file = write_cases(run, [make_case(1), make_case(2)])
    table = pq.read_table(file)
    pq.write_table(pa.concat_tables([table, table]), file)
    store = CaseStore([run])
    assert store.count() == 2 and "comes twice" in store.faults[0].reason


def test_links_out_of_a_run_are_not_followed(run, tmp_path):
    write_lines(tmp_path / "secret.jsonl", make_case(9))
    write_cases(run, [make_case(1)])
    (run / "cases").mkdir()
    (run / "cases" / "x.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (run / "eval").symlink_to(tmp_path)
    assert CaseStore([run]).count() == 1


def test_browsing_writes_nothing_into_a_run(run):
    write_cases(run, (make_case(n) for n in range(2500)))
    before = {path: path.stat().st_mtime_ns for path in [run, *run.rglob("*")]}
    store = CaseStore([run])
    assert store.wait_for_texts(60) and store.count(Filters(text="clip 24")) == 111
    store.get(store.page(sort="question.problem")[0]["id"])
    store.refresh()
    store.close()
    assert {path: path.stat().st_mtime_ns for path in [run, *run.rglob("*")]} == before


def test_a_large_file_is_searched_before_and_after_its_texts_are_loaded(run, monkeypatch):
    monkeypatch.setattr(text_index, "_FEW", 10)
    write_cases(run, (make_case(n, trace_think=f"thing {n} is red") for n in range(3000)))
    store = CaseStore([run])
    assert store.count(Filters(text="thing 29")) == 111
    assert store.wait_for_texts(60)
    assert store.count(Filters(text="thing 28")) == 111
    assert ids(store.page(Filters(text="g 2999 is R"))) == ["q2999"]
    assert store.count(Filters(text="thing", source=("world",))) == 3000


def test_hostile_texts_are_found_and_survive_a_round_trip(open_store):
    texts = [
        "x" * 2**20,
        "\u202e\0\x1b[31m",
        "'; DROP TABLE cases; --",
        "<script>${1}</script>",
        "{}",
    ]
    cases = [
        make_case(n, question_problem=text, question_source=text, trace_run=text, trace_answer=text)
        for n, text in enumerate(texts)
    ]
    store = open_store(*cases)
    for case, text in zip(cases, texts, strict=True):
        assert ids(store.page(Filters(run=(text,), source=(text,)))) == [case.question.id]
        assert case.question.id in ids(store.page(Filters(text=text)))
        assert store.get(case.id) == case
        assert store.facets(Filters(run=(text,)))["source"] == {text: 1}
    assert store.count() == len(texts)


def test_a_run_under_several_names_is_read_once(run, monkeypatch):
    write_cases(run, [make_case(1)])
    link = run.with_name("link")
    link.symlink_to(run)
    monkeypatch.chdir(run.parent)
    store = CaseStore([run, run / "cases.parquet", link, "demo"])
    before = store.version
    assert store.refresh() == 0 and store.version == before and store.count() == 1
    write_lines(run / "cases" / "eval-sft.jsonl", make_case(2))
    assert store.refresh() == 1
