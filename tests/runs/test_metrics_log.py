"""The log of a training is read whatever a killed worker left in it."""

from p2r.runs.metrics import read_metrics


def test_damaged_lines_are_skipped_and_the_last_row_of_a_step_counts(tmp_path):
    log = tmp_path / "metrics.jsonl"
    assert read_metrics(log) == []
    lines = ('{"step": 2, "loss": 3}', '{"step": 1, "loss": NaN}', "[1]", '{"loss": 1}', "{bro")
    more = (
        '{"step": 2, "loss": 2}',
        '{"step": NaN}',
        "[" * 9999,
        '{"step": 1' + "0" * 400 + "}",
        '{"step": 3, "loss": 1',
    )
    log.write_bytes(b"\xff\xfe\n" + "\n".join((*lines, *more)).encode())
    first, second = read_metrics(log)
    assert first["step"] == 1 and second == {"step": 2, "loss": 2}
