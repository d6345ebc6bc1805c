"""Reads and writes question and trace files: parts, folders, bad records, round trips."""

import gzip
import json
import logging
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_examples import COT, RL, VIDEO_R1, VIDEOP2R

from p2r.errors import DataError
from p2r.formats import BadRecord, read_cases, read_questions, write_video_r1, write_videop2r
from p2r.records import Case, Question, Trace


def write(path, records):
    data = json.dumps(records).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def load(*paths):
    """Return the records of JSON lists, read with the standard library."""
    records = []
    for path in paths:
        data = path.read_bytes()
        records += json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    return records


def numbered(record, count):
    return [record | {"problem_id": type(record["problem_id"])(i)} for i in range(count)]


def ids(path, **options):
    return [int(question.id) for question in read_questions(path, **options)]


def some_cases():
    question = Question(id="q", problem="How many?", problem_type="numerical", path="a.mp4")
    return [
        Case(question=question, trace=Trace(question_id="q", text=f"<answer>{i}</answer>"))
        for i in range(3)
    ]


# ---- there and back


@pytest.mark.parametrize("name", ["file.json", "file.json.gz"])
@pytest.mark.parametrize(("record", "read"), [(VIDEO_R1, read_questions), (COT, read_cases)])
def test_video_r1_files_come_back_field_for_field(tmp_path, name, record, read):
    original = write(tmp_path / "original.json", numbered(record, 5))
    copy = write_video_r1(read(original), tmp_path / "new folder" / name)
    assert load(copy) == load(original)
    assert list(read(copy)) == list(read(original))


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("record", [VIDEOP2R, RL])
@pytest.mark.parametrize("read", [read_questions, read_cases])
def test_videop2r_releases_come_back_field_for_field(tmp_path, parts, record, read):
    original = write(tmp_path / "original.json.gz", numbered(record, 5))
    copies = write_videop2r(read(original), tmp_path / "out" / "P2R_sft.json.gz", parts=parts)
    assert len(copies) == parts
    assert load(*copies) == load(original)
    assert list(read(copies[-1])) == list(read(original))


def test_parts_are_named_as_in_the_release_and_of_equal_length(tmp_path):
    questions = read_questions(write(tmp_path / "v.json", numbered(VIDEO_R1, 8)))
    paths = write_videop2r(questions, tmp_path / "P2R-8_rl.json.gz", parts=3, strings=True)
    assert [path.name for path in paths] == [f"P2R-8_rl.part{k}of3.json.gz" for k in (1, 2, 3)]
    assert sorted(len(load(path)) for path in paths) == [2, 3, 3]
    assert all(type(value) is str for record in load(*paths) for value in record.values())
    with pytest.raises(ValueError, match="parts must be at least 1"):
        write_videop2r([], tmp_path / "x.json", parts=0)


def test_no_records_give_an_empty_list(tmp_path):
    assert load(write_video_r1([], tmp_path / "none.json")) == []
    assert ids(tmp_path / "none.json") == []


def test_a_file_is_replaced_only_when_the_new_one_is_complete(tmp_path):
    path = write(tmp_path / "v.json", numbered(VIDEO_R1, 3))

    def failing():
        yield from read_questions(path)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_video_r1(failing(), path)
    assert ids(path) == [0, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["v.json"]


# ---- our own files


def test_our_own_json_lines(tmp_path):
    cases = some_cases()
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(case.model_dump_json() for case in cases))
    assert list(read_cases(path)) == cases
    assert list(read_questions(path)) == [case.question for case in cases]
    path.write_text("".join(case.question.model_dump_json() + "\n" for case in cases))
    assert list(read_questions(path)) == [case.question for case in cases]
    path.write_text("")
    assert list(read_cases(path)) == []


def test_cases_in_parquet_and_the_run_that_holds_them(tmp_path):
    cases = some_cases()
    pq.write_table(pa.Table.from_pylist([c.to_row() for c in cases]), tmp_path / "cases.parquet")
    (tmp_path / "results.json").write_text("{}")
    for path in (tmp_path / "cases.parquet", tmp_path):
        assert list(read_cases(path)) == cases
        assert list(read_questions(path)) == [case.question for case in cases]


def test_parquet_of_the_hub_is_read_and_other_parquet_is_explained(tmp_path):
    path = tmp_path / "train-00000-of-00002.parquet"
    pq.write_table(pa.Table.from_pylist(numbered(VIDEO_R1, 2)), path)
    other = VIDEO_R1 | {"problem_id": 2, "options": None}
    pq.write_table(pa.Table.from_pylist([other]), tmp_path / "train-00001-of-00002.parquet")
    assert ids(path) == ids(tmp_path) == [0, 1, 2]
    assert next(read_questions(path)).options == VIDEO_R1["options"]
    (tmp_path / "named.json").write_bytes(path.read_bytes())
    assert ids(tmp_path / "named.json") == [0, 1]
    bad = []
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    assert list(read_cases(tmp_path / "other.parquet", bad.append)) == []
    assert bad[0].reason.startswith("no problem text: the keys are x; the known shapes have")


def test_media_inside_a_parquet_file_are_refused(tmp_path):
    record = VIDEO_R1 | {"path": None, "video": {"bytes": b"\0\0", "path": None}}
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "a.parquet")
    bad = []
    assert list(read_questions(tmp_path / "a.parquet", bad.append)) == []
    assert bad[0].reason.startswith("the media are inside the file, under video.bytes: save them")


def test_a_damaged_parquet_file_is_an_error(tmp_path):
    path = tmp_path / "other.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        list(read_cases(path))


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "inside",
    [
        lambda records: {"data": records},
        lambda records: {"version": "1", "info": {"by": "us"}, "questions": records},
        lambda records: {"train": records[:1], "test": records[1:]},
        lambda records: {"Perception": {"0": records[0]}, "Adaptation": {"0": records[1]}},
        lambda records: {str(r["problem_id"]): r for r in records},
    ],
)
def test_records_inside_an_object_are_found(tmp_path, inside, indent):
    path = tmp_path / "v.json"
    path.write_text(json.dumps(inside(numbered(VIDEO_R1, 2)), indent=indent))
    bad = []
    assert ids(path, on_bad=bad.append) == [0, 1]
    assert not bad


def test_an_object_by_id_gives_the_ids(tmp_path):
    record = {
        "question": "Which?",
        "options": ["left", "right"],
        "answer": "left",
        "video": "v.mp4",
    }
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"a7": record, "a8": record}))
    assert [question.id for question in read_questions(path)] == ["a7", "a8"]


def test_what_is_inferred_is_said_once_and_counted(tmp_path, caplog):
    records = [{"question": f"Is it {i}?", "video": "v.mp4", "answer": "yes"} for i in range(50)]
    path = write(tmp_path / "v.json", [*records, VIDEO_R1])
    with caplog.at_level(logging.WARNING):
        assert len(list(read_questions(path))) == 51
    assert caplog.messages == [
        "inferred for 50 of 51 questions: problem type from the options and the answer"
    ]


# ---- parts, folders, globs


@pytest.fixture
def release(tmp_path):
    for part in range(12):  # twelve: 10 comes after 9, not after 1
        name = f"P2R_rl.part{part + 1}of12.json.gz"
        write(tmp_path / name, [RL | {"problem_id": str(2 * part + i)} for i in range(2)])
    return tmp_path


@pytest.mark.parametrize(
    "name", ["P2R_rl.part1of12.json.gz", "P2R_rl.part10of12.json.gz", "P2R_rl.json.gz", "", "*.gz"]
)
def test_every_name_of_a_release_reads_all_parts_in_order(release, name):
    assert ids(release / name) == list(range(24))
    assert ids(str(release / name)) == list(range(24))


def test_default_ids_count_over_all_parts(tmp_path):
    for part in (1, 2):
        records = [{k: v for k, v in VIDEO_R1.items() if k != "problem_id"}] * 2
        write(tmp_path / f"x.part{part}of2.json", records)
    assert ids(tmp_path / "x.json") == [0, 1, 2, 3]


def test_a_missing_part_is_reported_and_the_others_read(release):
    (release / "P2R_rl.part2of12.json.gz").unlink()
    bad = []
    assert ids(release / "P2R_rl.part1of12.json.gz", on_bad=bad.append) == [0, 1, *range(4, 24)]
    assert [(b.file, b.index, b.reason) for b in bad] == [
        (str(release / "P2R_rl.part2of12.json.gz"), None, "this part is missing")
    ]


def test_a_folder_must_hold_one_set(release):
    write(release / "P2R_sft.part1of1.json.gz", [])
    with pytest.raises(DataError, match=r"P2R_rl\.part1of12\.json\.gz, P2R_sft\.part1of1"):
        read_questions(release)
    with pytest.raises(DataError, match="it contains none"):
        empty = release / "empty"
        empty.mkdir()
        read_questions(empty)


def test_a_name_with_brackets_is_a_name(tmp_path):
    assert ids(write(tmp_path / "v[1].json", numbered(VIDEO_R1, 2))) == [0, 1]


# ---- faults


def test_a_missing_file_is_an_error_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.json"):
        read_questions(tmp_path / "none.json")


@pytest.mark.parametrize("content", ["id,problem\n1,What?\n", "", "[oops]", "{'a': 1}"])
def test_a_file_that_is_not_json_gives_a_one_line_error(tmp_path, content):
    path = tmp_path / "questions.json"
    path.write_text(content)
    with pytest.raises(DataError, match="has neither a JSON list nor JSON lines") as e:
        list(read_questions(path))
    assert "\n" not in str(e.value)


BAD = [
    VIDEO_R1,
    "a string",
    VIDEO_R1 | {"problem": None},
    VIDEO_R1 | {"problem_type": "essay"},
    VIDEO_R1 | {"options": "left or right"},
    VIDEO_R1 | {"problem_id": 2},
]


def test_bad_records_are_reported_with_place_and_reason_and_skipped(tmp_path):
    path = write(tmp_path / "v.json", BAD)
    bad: list[BadRecord] = []
    assert ids(path, on_bad=bad.append) == [17, 2]
    assert [(b.file, b.index) for b in bad] == [(str(path), index) for index in (1, 2, 3, 4)]
    assert bad[2].reason.startswith("unknown problem type 'essay': known are multiple choice,")
    assert str(bad[1]) == f"{path}, record 3: no problem text"
    assert all("\n" not in b.reason for b in bad)


def test_bad_records_are_logged_by_default_with_a_count(tmp_path, caplog):
    path = write(tmp_path / "v.json", BAD + ["x"] * 100)
    with caplog.at_level(logging.WARNING):
        assert ids(path) == [17, 2]
    assert f"skipped {path}, record 2: not an object: 'a string'" in caplog.messages
    assert len(caplog.messages) < 30
    assert caplog.messages[-1] == "104 bad records among 106"


def test_a_broken_line_is_skipped(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_text(f"{json.dumps(VIDEO_R1)}\n{{oops\n\n{json.dumps(VIDEO_R1)}\n")
    bad = []
    assert ids(path, on_bad=bad.append) == [17, 17]
    assert [(b.index, b.reason[:14]) for b in bad] == [(1, "malformed JSON")]


def test_messages_name_the_line_of_json_lines(tmp_path):
    path = tmp_path / "v.jsonl"
    good = json.dumps(VIDEO_R1).encode()
    bad_type = json.dumps(VIDEO_R1 | {"problem_type": "essay"}).encode()
    path.write_bytes(b"\n".join([good, b"", b"{oops", b'{"a": "\xe9"}', bad_type, good]))
    bad = []
    assert ids(path, on_bad=bad.append) == [17, 17]
    told = [str(one).removeprefix(f"{path}, ") for one in bad]
    assert [text[:23] for text in told] == [
        "line 3: malformed JSON:",
        "line 4: the line is not",
        "line 5: unknown problem",
    ]


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_a_truncated_file_gives_what_is_readable_then_a_report(tmp_path, suffix):
    path = write(tmp_path / f"v{suffix}", numbered(VIDEO_R1, 4000))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    bad = []
    read = ids(path, on_bad=bad.append)
    assert read == list(range(len(read)))
    assert len(read) > 1000
    assert [(b.index, "breaks off" in b.reason) for b in bad] == [(len(read), True)]


def test_a_damaged_part_does_not_stop_the_next(release):
    part = release / "P2R_rl.part1of12.json.gz"
    part.write_bytes(part.read_bytes()[:-4])
    bad = []
    assert ids(release, on_bad=bad.append) == list(range(24))
    assert len(bad) == 1


def test_a_wrong_field_gives_a_one_line_reason(tmp_path):
    path = tmp_path / "q.jsonl"
    question = Question(id="q", problem="How many?", problem_type="OCR").model_dump()
    path.write_text(json.dumps(question | {"data_type": "audio"}))
    bad = []
    assert list(read_questions(path, on_bad=bad.append)) == []
    assert bad[0].reason == "data_type: Input should be 'video' or 'image'"


# ---- size

_MEMORY = """
import resource, sys
from p2r.formats import read_questions
first = next(read_questions(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in read_questions(sys.argv[1]))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_long_file_is_read_in_constant_memory(tmp_path):
    path = tmp_path / "v.json.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        line = json.dumps(COT | {"process": "x" * 2000})
        file.write("[" + ",\n".join([line] * 20_000) + "]")  # 46 MB
    command = [sys.executable, "-c", _MEMORY, str(path)]
    count, kilobytes = map(int, subprocess.check_output(command, text=True).split())
    assert count == 20_000
    assert kilobytes < 10_000
