"""Means with intervals, and McNemar's test."""

import math

import numpy as np
import pytest

from p2r.scoring import mcnemar, mean_interval, resample_means


def test_the_interval_holds_the_mean_and_leaves_unknown_out():
    result = mean_interval([1, 0, 1, None, 1, math.nan, 0])
    assert result["n"] == 5
    assert result["mean"] == pytest.approx(0.6)
    assert 0 <= result["low"] < 0.6 < result["high"] <= 1


def test_without_known_values_there_is_no_mean():
    assert mean_interval([None]) == {"mean": None, "low": None, "high": None, "n": 0}
    assert mean_interval([]) == {"mean": None, "low": None, "high": None, "n": 0}


def test_one_value_and_equal_values_have_no_spread():
    assert mean_interval([0.5]) == {"mean": 0.5, "low": 0.5, "high": 0.5, "n": 1}
    assert mean_interval(iter([1, 1, 1])) == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 3}


def test_the_interval_is_reproducible_and_near_the_normal_one():
    values = np.random.default_rng(1).random(5000) < 0.3
    result = mean_interval(values)
    assert result == mean_interval(values)
    assert result != mean_interval(values, seed=1)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 5000)
    assert result["high"] - result["low"] == pytest.approx(2 * half, rel=0.1)
    assert mean_interval(values, level=0.5)["low"] > result["low"]


def test_resampling_by_counts_has_the_same_distribution():
    values = np.repeat([0.0, 0.5, 1.0], [900, 300, 800])
    by_counts = resample_means(values, seed=1, n_boot=4000)
    draw = np.random.default_rng(2)
    plain = values[draw.integers(values.size, size=(4000, values.size))].mean(axis=1)
    assert by_counts.mean() == pytest.approx(plain.mean(), abs=1e-3)
    assert by_counts.std() == pytest.approx(plain.std(), rel=0.1)
    assert mean_interval(values)["mean"] == pytest.approx(values.mean())


def test_mcnemar_on_hand_made_splits():
    assert mcnemar(0, 0) == 1.0 and mcnemar(3, 3) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(480, 560) == pytest.approx(0.0143, abs=1e-3)  # chi-square 6.00 with correction
