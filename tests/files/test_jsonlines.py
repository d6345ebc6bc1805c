"""JSON lines: every text that a model writes comes back unchanged."""

import json
import math

import pytest

from p2r.files.jsonlines import to_line

TEXTS = ["é", "a\u2028b\x85c\r\nd", "\ud83d", "\ud83d\ude00 joined", "\x00\x1f", "NaN", "</script>"]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_a_line_of_ascii(text):
    line = to_line({text: [text, 1, 1.5, True, None]})
    assert line.isascii() and line.splitlines() == [line[:-1]]
    assert json.loads(line) == json.loads(json.dumps({text: [text, 1, 1.5, True, None]}))


def test_numbers_survive_a_line():
    numbers = [0.1 + 0.2, 1e300, 5e-324, -0.0, 2**70, float("inf")]
    assert list(map(repr, json.loads(to_line(numbers)))) == list(map(repr, numbers))
    assert math.isnan(json.loads(to_line(math.nan)))


def test_values_that_json_cannot_hold_are_refused():
    with pytest.raises(TypeError, match="object"):
        to_line({"a": object()})
