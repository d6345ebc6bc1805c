"""Search through the index finds what reading every text finds."""

import random

import numpy as np
import pyarrow as pa
import pytest
from measures import growth

from p2r.cases import text_index
from p2r.cases.text_index import Segment, Texts, TextSearch, query_chunks, scan

FIELDS = (0, 1)


def texts(*words: str, field: int = 0, first: int = 0) -> Texts:
    numbers = np.arange(first, first + len(words))
    return Texts(numbers, np.full(len(words), field, np.int8), pa.array(words, pa.string()))


def found(index, query: str, fields=FIELDS) -> list[int]:
    return index.find(query_chunks(query), fields).tolist()


SOME = (
    "The red ball, then the blue cube.",
    "A RED\n ball rolls",
    "ball red; 100%_sure",
    "größe und GRÖSSE ÄRGER",
    "",
    "red",
    "the end of a red",
    "ball at the beginning",
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("red", [0, 1, 2, 5, 6]),
        ("RED BALL", [0, 1]),
        ("d ba", [0, 1]),
        ("red ball,", [0]),
        ("ed ball rol", [1]),
        ("the blue cube.", [0]),
        ("100%_", [2]),
        ("ärger", [3]),
        ("und grösse ä", [3]),
        ("ball red", [2]),
        ("red  \n ball", [0, 1]),
        ("absent", []),
        ("red absent ball", []),
        ("a red ball at", []),
    ],
)
def test_words_are_found_in_a_row_without_case(query, expected):
    assert found(Segment([texts(*SOME)]), query) == expected
    assert scan(texts(*SOME), query_chunks(query), FIELDS).tolist() == expected


def test_nothing_to_look_for_is_no_query():
    assert query_chunks(" \n\t") == [] and query_chunks("half \ud800") == ["half", "\ufffd"]


def test_fields_are_searched_apart():
    index = Segment([texts("see a", "no"), texts("see b", "see", field=1)])
    assert found(index, "see") == [0, 1]
    assert found(index, "see", [1]) == [0, 1] and found(index, "see", [0]) == [0]
    assert found(index, "a see") == [], "not across fields"


@pytest.mark.parametrize("gathered", [1, 7, 1000])
@pytest.mark.parametrize("batch", [1, 2**24])
def test_the_index_finds_what_reading_finds(monkeypatch, gathered, batch):
    monkeypatch.setattr(text_index, "_GATHERED", gathered)
    monkeypatch.setattr(text_index, "_BATCH", batch)
    monkeypatch.setattr(text_index, "_ONE_BY_ONE", 2)
    chance = random.Random(7)
    words = ["a", "b", "ab", "ba.", "(ab", "c"]
    made = [" ".join(chance.choices(words, k=chance.randrange(12))) for _ in range(300)]
    batches = [texts(*made[at : at + 50], first=at, field=at // 50 % 2) for at in range(0, 300, 50)]
    index = Segment(batches)
    for _ in range(60):
        query = " ".join(chance.choices([*words, "(a", "."], k=chance.randrange(1, 4)))
        for fields in ([0], [1], [0, 1]):
            chunks = query_chunks(query)
            read = [number for each in batches for number in scan(each, chunks, fields)]
            assert found(index, query, fields) == read, query
    assert found(index, "b a") == [n for n, text in enumerate(made) if "b a" in text]


def test_an_index_of_nothing_finds_nothing():
    assert found(Segment([]), "a") == [] and found(Segment([texts("", "")]), "a b") == []


def test_what_is_added_is_found_before_and_after_it_is_indexed(monkeypatch):
    monkeypatch.setattr(TextSearch, "SMALL", 5)
    search = TextSearch()
    search.add_stream(lambda: iter([texts("red one", "two")]))
    search.add([texts("red three", first=2)])
    assert found(search, "red") == [0, 2]
    for first in range(3, 20):
        search.add([texts("red", first=first)])
        assert found(search, "red") == [0, *range(2, first + 1)]
    assert search.wait(60) and found(search, "red") == [0, *range(2, 20)]


def test_an_index_that_cannot_be_made_says_so_and_texts_are_read():
    times = []

    def stream():
        times.append(1)
        if len(times) == 1:
            raise OSError("disk full")
        yield texts("red")

    search = TextSearch()
    search.add_stream(stream)
    assert not search.wait(60) and "disk full" in search.fault
    assert found(search, "red") == [0]


def test_one_long_word_is_no_trouble():
    index = Segment([texts("x" * 2**20, "y " * 2**19)])
    assert found(index, "xxx") == [0] and found(index, "y y y") == [1]


def test_building_takes_linear_time():
    def build(count: int) -> None:
        Segment([texts(*(f"word{n % 997} and {n}" for n in range(count)))])

    assert growth(build, 20_000, 80_000) < 12
