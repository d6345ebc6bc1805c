"""Lenient JSON: streams of records and stored values, complete, cut and damaged."""

import gzip
import json
import tracemalloc

import pytest

from p2r.errors import DataError
from p2r.files import json_text
from p2r.files.lenient_json import Fault, NotJson, read_records, read_stored

RECORDS = [{"i": i, "text": 'é\n"漢字"😀 \u2028' * (i % 40), "n": [1.5, None]} for i in range(80)]


def read(tmp_path, data: str | bytes, name: str = "file.json") -> list:
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(read_records(path))


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 4096])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_lists_are_read_across_chunks(tmp_path, monkeypatch, chunk, indent, ascii_only):
    monkeypatch.setattr(json_text, "_CHUNK", chunk)
    data = json.dumps(RECORDS, indent=indent, ensure_ascii=ascii_only)
    assert read(tmp_path, data) == RECORDS
    values = [1.5, 12345, -1e5, True, None, "a", [], {}]
    assert read(tmp_path, json.dumps(values)) == values


@pytest.mark.parametrize("chunk", [1, 64, 4096])
def test_lines_are_read_across_chunks(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_text, "_CHUNK", chunk)
    data = "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)
    assert read(tmp_path, data) == RECORDS
    assert read(tmp_path, data.replace("\n", "\r\n\r\n") + "\r\n") == RECORDS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_any_unicode_encoding(tmp_path, encoding):
    data = json.dumps(RECORDS, ensure_ascii=False).encode(encoding)
    assert read(tmp_path, data) == RECORDS
    assert read(tmp_path, gzip.compress(data)) == RECORDS


@pytest.mark.parametrize(
    ("data", "values"),
    [
        ("[]", []),
        (" \n[ ]\n ", []),
        ("[1, 2,]", [1, 2]),
        ('[{"a": 1}\n{"a": 2}]', [{"a": 1}, {"a": 2}]),
        ("[1][2]\n[3]", [1, 2, 3]),  # parts joined by cat
    ],
)
def test_small_deviations_are_accepted(tmp_path, data, values):
    assert read(tmp_path, data) == values


def test_concatenated_gzip_files_are_read_as_one(tmp_path):
    assert read(tmp_path, gzip.compress(b"[1, 2]") + gzip.compress(b"[3]")) == [1, 2, 3]


@pytest.mark.parametrize("cut", ["[1, 2", "[1, 2,", '[1, 2, {"a": "b', '[1, 2, {"a": [', "[1, 2, "])
def test_a_list_that_breaks_off_ends_in_a_fault(tmp_path, cut):
    *values, fault = read(tmp_path, cut)
    assert values == [1, 2]
    assert "breaks off" in fault.reason


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.999])
def test_truncated_gzip_gives_what_is_readable_and_a_fault(tmp_path, keep):
    data = gzip.compress(json.dumps(RECORDS * 20, ensure_ascii=False).encode(), 1)
    *values, fault = read(tmp_path, data[: int(len(data) * keep)], "file.json.gz")
    assert values == (RECORDS * 20)[: len(values)]
    assert len(values) > keep * 800
    assert "compressed data breaks off" in fault.reason


def test_damaged_gzip_ends_in_a_fault(tmp_path):
    data = bytearray(gzip.compress(json.dumps(RECORDS * 20, ensure_ascii=False).encode(), 1))
    data[-6] ^= 0xFF  # the checksum
    *values, fault = read(tmp_path, bytes(data))
    assert values == RECORDS * 20
    assert "damaged" in fault.reason


def test_malformed_json_in_a_list_costs_the_rest(tmp_path):
    values = read(tmp_path, '[{"a": 1}, {"a" 2}, {"a": 3}]' + " " * 100)
    assert values[0] == {"a": 1}
    assert "malformed JSON: Expecting ':' delimiter; what follows is lost" in values[1].reason
    assert len(values) == 2


def test_a_malformed_line_costs_that_line(tmp_path):
    values = read(tmp_path, '{bad\n{"a": 1}\n{"a": \n{"a": 2}\n{"a"')
    assert [v if isinstance(v, dict) else type(v) for v in values] == [
        Fault,
        {"a": 1},
        Fault,
        {"a": 2},
        Fault,
    ]


def test_undecodable_bytes_end_in_a_fault(tmp_path):
    values = read(tmp_path, b'[{"a": 1}, {"b": "\xff"}]')
    assert values[0] == {"a": 1}
    assert values[1].reason.startswith("not utf-8 text")


@pytest.mark.parametrize("bad", [0, 2, 5])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_a_byte_that_is_not_utf_8_costs_only_its_line(tmp_path, bad, start):
    lines = [f'{{"a": {k}, "b": "\u00e9"}}\n'.encode() for k in range(6)]
    lines[bad] = lines[bad].replace(b"\xc3\xa9", b"\xe9")
    data = start + b"".join(lines)
    expected = [{"a": k, "b": "\u00e9"} for k in range(6)]
    expected[bad] = Fault("the line is not UTF-8 text")
    values = read(tmp_path, data)
    assert values == expected
    assert values[bad].line == bad + 1 + start.count(b"\n")
    assert stored(tmp_path, data) == expected


def test_a_bad_byte_far_behind_costs_only_its_line(tmp_path):
    line = b'{"a": "' + b"x" * 100_000 + b'"}\n'
    values = read(tmp_path, line * 10 + b'{"a": "\xe9"}\n' + line * 10)
    assert len(values) == 21 and [isinstance(v, Fault) for v in values].index(True) == 10
    assert sum(isinstance(v, Fault) for v in values) == 1


def test_values_nested_too_deeply_are_a_fault(tmp_path):
    line = "[" * 100_000
    assert "too deeply" in read(tmp_path, f'{{"a": 1}}\n{line}')[1].reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("problem,answer\n1,2\n", "it starts with 'problem,answer"),
        ("[hello]", "malformed JSON"),
        ("{\n  'a': 1\n}\n", "malformed JSON"),
        ("{x\n" * 1000, "malformed JSON"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not utf-8 text"),
        (b"\x1f\x8bno gzip at all", "compressed data"),
        ("", "it is empty"),
        (" \n", "it is empty"),
    ],
)
def test_a_file_that_is_not_json_is_an_error_with_the_reason(tmp_path, data, reason):
    with pytest.raises(NotJson, match=reason):
        read(tmp_path, data)


@pytest.mark.parametrize("name", ["kept.jsonl", "kept.jsonl.gz"])
def test_an_empty_file_is_valid_json_lines(tmp_path, name):
    assert read(tmp_path, "", name) == []


def test_memory_stays_constant(tmp_path):
    path = tmp_path / "file.json.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write("[" + ",".join(json.dumps({"text": "x" * 2000}) for _ in range(20_000)) + "]")
    tracemalloc.start()
    assert sum(1 for _ in read_records(path)) == 20_000  # 40 MB
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("form", "rest"),
    [('{{"a": 1}}\n{{"a": {}}}\n{{"a": 2}}\n', 2), ('[{{"a": 1}}, {{"a": {}}}]', 0)],
)
def test_a_too_long_number_costs_only_its_record(tmp_path, form, rest):
    values = read(tmp_path, form.format("9" * 5000))
    assert values[0] == {"a": 1}
    assert isinstance(values[1], Fault) and "a number is too long" in values[1].reason
    assert values[2:] == ([{"a": rest}] if rest else [])


# ---- one stored value


def stored(tmp_path, data: str | bytes):
    path = tmp_path / "stored.json"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_stored(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("value", [RECORDS, {"a": 1, "b": {"c": []}}])
def test_a_stored_value_comes_back_in_any_encoding(tmp_path, encoding, value):
    data = json.dumps(value, ensure_ascii=False, indent=1).encode(encoding)
    assert stored(tmp_path, data) == stored(tmp_path, gzip.compress(data)) == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ('{"results": [{"a": 1}], "seed": 1}', [{"a": 1}]),
        ('[{"a": [1, 2,],},]', [{"a": [1, 2]}]),
        ('{"a": 1}\n{"b": "\u2028"}\n', [{"a": 1}, {"b": "\u2028"}]),
        ('{"a": ",]",}', {"a": ",]"}),
    ],
)
def test_a_list_is_found_and_needless_commas_are_ignored(tmp_path, data, value):
    assert stored(tmp_path, data) == value


@pytest.mark.parametrize(
    ("data", "readable"),
    [
        ('[{"a": 1}, {"a": 2}, {"a', [{"a": 1}, {"a": 2}]),
        ('{"seed": 1, "results": [{"a": 1}, {"a', [{"a": 1}]),
        ('{"a": 1}\n{"a"\n', [{"a": 1}]),
    ],
)
def test_a_stored_list_that_breaks_off_ends_in_a_fault(tmp_path, data, readable):
    *values, fault = stored(tmp_path, data)
    assert values == readable and isinstance(fault, Fault)


def test_a_stored_object_that_breaks_off_ends_in_a_fault(tmp_path):
    value = stored(tmp_path, '{"a": 1, "b": {"c": 2}, "d": ')
    assert isinstance(value.pop(""), Fault) and value == {"a": 1, "b": {"c": 2}}
    assert stored(tmp_path, '{"a": [1, 2')["a"][0] == 1


def test_pretty_printed_objects_one_after_another_are_a_list(tmp_path):
    """As `jq .` writes them. One of the keys of `LISTS` holds a list without objects."""
    records = [{"question": f"Q{k}?", "videos": ["v.mp4"], "id": k} for k in range(3)]
    text = "\n".join(json.dumps(record, indent=2) for record in records)
    assert stored(tmp_path, text) == records
    assert stored(tmp_path, text.replace("}\n{", "},\n{")) == records
    assert stored(tmp_path, " ".join(map(json.dumps, records))) == records
    for rest, reason in (("\n{ bad", "after 3 complete objects"), ("\nrest", "text after an")):
        *values, fault = stored(tmp_path, text + rest)
        assert values == records and reason in fault.reason
    value = stored(tmp_path, json.dumps(records[0], indent=2) + "\nrest")
    assert "text after an object" in value.pop("").reason and value == records[0]
    *values, fault = stored(tmp_path, json.dumps({"results": records}, indent=2) + "\nrest")
    assert values == records and isinstance(fault, Fault)


def test_one_record_with_a_list_is_not_unpacked(tmp_path):
    record = {"question": "What?", "videos": ["v.mp4"]}
    for indent in (None, 2):
        assert stored(tmp_path, json.dumps(record, indent=indent)) == record
    assert stored(tmp_path, json.dumps({"data": [[record], [record]]})) == [[record], [record]]


@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_a_stored_value_in_damaged_gzip_is_read_as_far_as_it_goes(tmp_path, keep):
    data = bytearray(gzip.compress(json.dumps(RECORDS * 20, ensure_ascii=False).encode(), 1))
    data[-6] ^= 0xFF  # the checksum
    *values, fault = stored(tmp_path, bytes(data[: int(len(data) * keep)]))
    assert values == (RECORDS * 20)[: len(values)] and len(values) > 700 * keep
    assert isinstance(fault, Fault)


@pytest.mark.parametrize("data", ["", " \n", "this is no JSON", b"\x89PNG\r\n", "[oops]", "5"])
def test_a_file_without_a_stored_value_is_an_error(tmp_path, data):
    with pytest.raises(DataError, match=r"stored\.json (is empty|has no JSON that can be read)"):
        stored(tmp_path, data)
