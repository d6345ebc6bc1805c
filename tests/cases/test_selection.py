"""Filters in an address: a round trip keeps them, invalid ones are ignored."""

import pytest

from p2r.cases.selection import EVERYTHING, Filters, from_query, to_query


@pytest.mark.parametrize(
    "filters",
    [
        EVERYTHING,
        Filters(text="a & b=c %", text_in=("observation",)),
        Filters(run=("a", "b"), source=("",), verdict="no", outcome="right"),
        Filters(mismatch=False, fault=True, truncated=False),
        Filters(step=(3.0, None), length=(None, 512.0), accuracy=(0.5, 0.75)),
        Filters(failure=("right by luck", "mismatch")),
        Filters(step=(1234567.0, None), perception_reward=(0.123456789, 1e300)),
    ],
)
def test_filters_survive_a_round_trip(filters):
    assert from_query(to_query(filters)) == filters


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("0,5..", (0.5, None)),
        ("0,25..1,5", (0.25, 1.5)),
        ("1,000..12,345", (1000.0, 12345.0)),
        ("0,500..1", (0.5, 1.0)),
    ],
)
def test_a_limit_may_have_a_decimal_comma_or_grouped_digits(text, limits):
    assert from_query([("length", text)]).length == limits


@pytest.mark.parametrize(
    "pair",
    [
        ("nothing", "x"),
        ("verdict", "perhaps"),
        ("mismatch", "1"),
        ("step", "3"),
        ("step", "a..b"),
        ("length", "nan..1"),
        ("text_in", "id; DROP TABLE cases"),
        ("__class__", "x"),
    ],
)
def test_invalid_filters_are_ignored(pair):
    assert from_query([pair]) == EVERYTHING
