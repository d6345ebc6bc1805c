"""Agreement of people and judges, on tables computed by hand."""

import pytest

from p2r.cases.agreement import (
    agreement_between_annotators,
    agreement_with_judges,
    cohen_kappa,
    majority,
    measure,
    wilson,
)
from p2r.cases.labels import CaseLabel

YES, NO, UNKNOWN = True, False, None


def pairs(both_yes=0, only_first=0, only_second=0, both_no=0):
    return (
        [(YES, YES)] * both_yes
        + [(YES, NO)] * only_first
        + [(NO, YES)] * only_second
        + [(NO, NO)] * both_no
    )


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        # Observed 35/50 = 0.7, expected 0.5·0.6 + 0.5·0.4 = 0.5: 0.2 / 0.5.
        ((20, 5, 10, 15), 0.4),
        # Observed 60/100, expected 0.6·0.7 + 0.4·0.3 = 0.54: 0.06 / 0.46.
        ((45, 15, 25, 15), 0.06 / 0.46),
        ((3, 0, 0, 4), 1.0),
        ((0, 5, 5, 0), -1.0),
        ((10, 0, 0, 0), None),  # both always say yes: nothing is left to chance
        ((0, 0, 0, 0), None),
        ((5, 0, 5, 0), 0.0),  # the second always says yes
    ],
)
def test_kappa(table, kappa):
    assert cohen_kappa(*table) == (None if kappa is None else pytest.approx(kappa))


def test_wilsons_interval():
    # 190 of 200, z = 1.96: centre (0.95 + 0.0096)/1.0192, half width as in the formula.
    found = wilson(190, 200)
    assert found.value == 0.95
    assert (found.low, found.high) == pytest.approx((0.9104, 0.9726), abs=2e-4)
    assert wilson(0, 10).low == 0 and wilson(10, 10).high == 1
    assert wilson(0, 0) == wilson(0, 0) and wilson(0, 0).value is None


def test_unknown_answers_are_counted_and_left_out():
    known = pairs(20, 5, 10, 15)
    unknown = [(UNKNOWN, YES)] * 3 + [(NO, UNKNOWN)] * 2 + [(UNKNOWN, UNKNOWN)]
    found = measure(known + unknown)
    assert found.n == 50 and found.accuracy.value == 0.7
    assert found.kappa.value == pytest.approx(0.4)
    assert found.unknown_first == 4
    assert found.recall.value == 20 / 25 and found.specificity.value == 15 / 25
    assert found.confusion["no", "unknown"] == 2 and sum(found.confusion.values()) == 56
    assert found.kappa == measure(known).kappa, "the same seed, the same interval"
    assert found.kappa.low < 0.4 < found.kappa.high


def test_without_known_answers_there_is_no_number():
    found = measure([(UNKNOWN, YES)])
    assert found.n == 0 and found.accuracy.value is None and found.kappa.value is None
    assert measure([]).confusion["yes", "yes"] == 0


def label(case, annotator, sufficient):
    return CaseLabel(case=case, annotator=annotator, sufficient=sufficient)


LABELS = [
    label("1", "ann", NO),  # taken back below
    label("1", "ann", YES),
    label("2", "ann", NO),
    label("3", "ann", YES),
    label("4", "ann", UNKNOWN),
    label("1", "bob", YES),
    label("2", "bob", YES),
    label("9", "bob", YES),  # a case nobody judged
]
VERDICTS = {"1": ("claude", YES), "2": ("claude", NO), "3": ("llama", NO), "4": ("llama", YES)}


def test_people_against_each_judge():
    found = agreement_with_judges(LABELS, VERDICTS)
    assert set(found) == {"claude", "llama"}
    assert set(found["claude"]) == {"ann", "bob", "majority"}
    assert found["claude"]["ann"].accuracy.value == 1 and found["claude"]["ann"].n == 2
    assert found["claude"]["bob"].confusion["yes", "no"] == 1
    # Case 2 is a tie of ann and bob: the majority cannot say.
    assert found["claude"]["majority"].n == 1
    assert found["claude"]["majority"].confusion["unknown", "no"] == 1
    assert found["llama"]["ann"].n == 1 and found["llama"]["ann"].unknown_first == 1
    assert "bob" not in found["llama"]
    assert agreement_with_judges([], VERDICTS) == {}
    assert "majority" not in agreement_with_judges(LABELS[:3], VERDICTS)["claude"]


def test_annotators_against_each_other():
    found = agreement_between_annotators([*LABELS, label("7", "cy", YES)])
    assert list(found) == [("ann", "bob")], "cy shares no case"
    assert found["ann", "bob"].n == 2 and found["ann", "bob"].accuracy.value == 0.5


def test_the_majority_ignores_unknown_answers():
    raters = {
        "a": {"1": YES, "2": YES, "3": UNKNOWN, "4": UNKNOWN},
        "b": {"1": YES, "2": NO, "3": NO},
        "c": {"1": NO},
    }
    assert majority(raters) == {"1": YES, "2": None, "3": NO, "4": None}
