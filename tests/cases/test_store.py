"""The store: cases survive a round trip; the database filters, sorts and pages."""

import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from case_records import ids, make_case

from p2r.cases.store import CaseStore, Filters, write_cases
from p2r.errors import StoreError
from p2r.records import Case, Medium, ProcessReward, Verdict, more_media


@pytest.fixture
def open_store(tmp_path):
    def write_and_open(*cases: Case) -> CaseStore:
        write_cases(tmp_path / "demo", cases)
        return CaseStore([tmp_path / "demo"])

    return write_and_open


def test_cases_survive_a_round_trip(open_store):
    whole = make_case(
        1,
        trace_problems=["answer missing"],
        trace_step=3,
        trace_media={"timestamps": [0.0, 0.5]},
        perception=ProcessReward(accuracy=1.0, format=1.0, length=0.2),
        reasoning=ProcessReward(accuracy=None, format=0.0, length=0.0),
        perception_advantage=-0.5,
        tags=["collapse"],
        question_meta={"_window": {"start": 1.0, "end": 2.5}}
        | more_media([Medium(path="b.png", data_type="image")]),
    )
    bare = make_case(2, verdict=None, accuracy=None, trace_observation=None, question_options=[])
    store = open_store(whole, bare)
    assert list(store.cases()) == [whole, bare]
    assert store.get(whole.id) == whole
    assert store.media_of(whole.id) == whole.question.media and len(whole.question.media) == 2
    assert store.file_of(bare.id).name == "cases.parquet"


def test_any_text_survives_and_nan_is_unknown(open_store):
    text = "NUL \0, quote ' \" ; -- %_ {x}, 青い, \U0001f600"
    store = open_store(
        make_case(1, trace_text=text, question_problem="broken \ud800 half", accuracy=float("nan"))
    )
    case = next(store.cases())
    assert case.trace.text == text
    assert case.question.problem == "broken \ufffd half"
    assert case.accuracy is None


def test_a_run_without_cases_is_an_empty_store(open_store):
    store = open_store()
    assert store.count() == 0 and store.page() == [] and list(store.cases()) == []
    assert set(store.quadrants().values()) == {0}


def test_each_filter_selects(open_store):
    store = open_store(
        make_case(1),
        make_case(2, trace_stage="grpo", verdict=Verdict(sufficient=False)),
        make_case(3, question_problem_type="numerical", accuracy=0.59),
        make_case(4, question_source="clevrer", accuracy=0.6, verdict=None),
        make_case(5, question_data_type="image", trace_truncated=True, accuracy=None),
        make_case(6, trace_run="other", trace_problems=["answer missing"]),
    )
    for filters, expected in [
        (Filters(), "q1 q2 q3 q4 q5 q6"),
        (Filters(stage=("grpo",)), "q2"),
        (Filters(stage=("grpo", "sft")), "q1 q2 q3 q4 q5 q6"),
        (Filters(run=("other",)), "q6"),
        (Filters(problem_type=("numerical",)), "q3"),
        (Filters(source=("clevrer",)), "q4"),
        (Filters(data_type=("image",)), "q5"),
        (Filters(question_id=("q2", "q3")), "q2 q3"),
        (Filters(verdict="no"), "q2"),
        (Filters(verdict="unknown"), "q4"),
        (Filters(outcome="wrong"), "q3"),
        (Filters(outcome="unknown"), "q5"),
        (Filters(truncated=True), "q5"),
        (Filters(fault=True), "q6"),
        (Filters(fault=False, outcome="right", verdict="yes"), "q1"),
        (Filters(stage=("nothing",)), ""),
    ]:
        assert ids(store.page(filters)) == expected.split(), filters
        assert store.count(filters) == len(expected.split()), filters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TURQUOISE", "q1"),
        ("größe", "q2"),
        ("enough? no", "q3"),
        ("thoughtful", "q4"),
        ("/q5/", "q5"),
        ("100%_", "q6"),
        ("'; DROP VIEW cases; --", ""),
        ("", "q1 q2 q3 q4 q5 q6"),
    ],
)
def test_text_is_searched_literally_and_without_case(open_store, text, expected):
    store = open_store(
        make_case(1, question_problem="Where is the turquoise cup?"),
        make_case(2, trace_observation="Die GRÖSSE und die GRÖßE"),
        make_case(3, verdict=Verdict(sufficient=False, rationale="Enough? No.")),
        make_case(4, trace_think="a Thoughtful step"),
        make_case(5),
        make_case(6, trace_text="it is 100%_sure"),
    )
    assert ids(store.page(Filters(text=text))) == expected.split()


def test_pages_are_sorted_and_do_not_overlap(open_store):
    lengths = [30, None, 10, 20, 20]
    store = open_store(
        *(make_case(n, trace_completion_tokens=length) for n, length in enumerate(lengths))
    )
    column = "trace.completion_tokens"
    assert ids(store.page(sort=column)) == ["q2", "q3", "q4", "q0", "q1"], "unknown last"
    assert ids(store.page(sort=column, descending=True)) == ["q0", "q3", "q4", "q2", "q1"]
    pages = [ids(store.page(sort=column, offset=offset, limit=2)) for offset in (0, 2, 4, 6)]
    assert pages == [["q2", "q3"], ["q4", "q0"], ["q1"], []]
    for place, row in enumerate(store.page(sort=column)):
        assert store.neighbours(row["id"], Filters(), column).position == place
    assert store.neighbours(store.page()[0]["id"], Filters(text="nothing")).position is None


def test_unknown_columns_are_refused(open_store):
    store = open_store(make_case(1))
    for call in (
        lambda: store.page(sort="id; DROP VIEW cases"),
        lambda: store.page(columns=["nothing"]),
        lambda: store.values('id" FROM cases --'),
    ):
        with pytest.raises(StoreError, match="no column"):
            call()


def test_quadrants_count_perception_against_answer(open_store):
    yes, no = Verdict(sufficient=True), Verdict(sufficient=False)
    store = open_store(
        make_case(1, verdict=yes, accuracy=1.0),
        make_case(2, verdict=yes, accuracy=0.6),
        make_case(3, verdict=no, accuracy=1.0),
        make_case(4, verdict=no, accuracy=0.5, trace_stage="grpo"),
        make_case(5, verdict=Verdict(sufficient=None), accuracy=0.0),
        make_case(6, verdict=None, accuracy=None),
    )
    cells = store.quadrants()
    assert len(cells) == 9 and sum(cells.values()) == 6
    assert {cell: n for cell, n in cells.items() if n} == {
        ("yes", "right"): 2,
        ("no", "right"): 1,
        ("no", "wrong"): 1,
        ("unknown", "wrong"): 1,
        ("unknown", "unknown"): 1,
    }
    narrowed = store.quadrants(Filters(stage=("sft",), verdict="yes", outcome="right"))
    assert narrowed[("no", "right")] == 1 and narrowed[("no", "wrong")] == 0


def test_values_are_counted(open_store):
    store = open_store(make_case(1), make_case(2, question_source="a"), make_case(3))
    assert store.values("question.source") == {"world": 2, "a": 1}
    assert store.values("trace.step") == {}


def test_a_group_is_the_rollouts_of_one_step(open_store):
    store = open_store(
        make_case(1, trace_step=2, trace_rollout=1),
        make_case(1, trace_step=2, trace_rollout=0),
        make_case(1, trace_step=3),
        make_case(1),
        make_case(2, trace_step=2),
    )
    assert [row["trace.rollout"] for row in store.group("q1", "demo", "sft", 2)] == [0, 1]
    assert [row["trace.step"] for row in store.group("q1", "demo", "sft", None)] == [None]


def test_several_runs_are_one_table(tmp_path):
    folder = tmp_path / "odd [name] *?' é"
    write_cases(folder, [make_case(1)])
    file = write_cases(tmp_path / "b.parquet", [make_case(1, trace_run="b")])
    store = CaseStore([folder, file, folder])
    assert store.count() == 2
    assert store.file_of(store.page(Filters(run=("demo",)))[0]["id"]).parent == folder


def test_a_file_of_an_earlier_version_opens_without_its_missing_columns(tmp_path):
    file = write_cases(tmp_path, [make_case(1)])
    table = pq.read_table(file).drop_columns(["tags", "perception_advantage", "trace.truncated"])
    pq.write_table(table, file)
    case = next(CaseStore([file]).cases())
    assert case.question.id == "q1" and case.tags == [] and case.trace.truncated is False


def test_many_threads_can_read_a_store(open_store):
    store = open_store(*(make_case(n) for n in range(100)))
    found: list[int] = []

    def read() -> None:
        found.extend(len(store.page(offset=n, limit=10)) for n in range(10))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [10] * 80


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_cases(tmp_path, [make_case(1)])

    def broken():
        yield make_case(2)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_cases(tmp_path, broken())
    assert ids(CaseStore([tmp_path]).page()) == ["q1"]
    assert [path.name for path in tmp_path.iterdir()] == ["cases.parquet"]


def test_a_replaced_file_is_read_again(open_store, tmp_path):
    store = open_store(make_case(1))
    write_cases(tmp_path / "demo", (make_case(n) for n in range(5000)))
    assert store.count() == 5000


def test_two_cases_cannot_share_an_id(tmp_path):
    with pytest.raises(StoreError, match=r"'demo/sft/0/q1/0' comes twice"):
        write_cases(tmp_path, [make_case(1), make_case(1)])
    for name in ("a", "b"):
        write_cases(tmp_path / name, [make_case(1)])
    with pytest.raises(StoreError, match=r"is in .*a/cases.parquet and in .*b/cases.parquet"):
        CaseStore([tmp_path / "a", tmp_path / "b"])


def test_opening_something_else_raises_a_clear_error(tmp_path, open_store):
    (tmp_path / "broken.parquet").write_bytes(b"nothing of the kind")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "foreign.parquet")
    for paths, message in [
        ([], "no runs given"),
        ([tmp_path / "absent"], "no cases at .*absent/cases.parquet: run the pipeline first"),
        ([tmp_path / "broken.parquet"], "cannot read the cases of .*broken.parquet"),
        ([tmp_path / "foreign.parquet"], "holds no cases"),
    ]:
        with pytest.raises(StoreError, match=message):
            CaseStore(paths)
    store = open_store(make_case(1))
    for lookup in (store.get, store.file_of):
        with pytest.raises(StoreError, match="no case 'x'"):
            lookup("x")
