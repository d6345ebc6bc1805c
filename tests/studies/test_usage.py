"""What a part of a study uses: measured on this machine, and counted per question."""

from __future__ import annotations

import os
import sys
import time

import pytest
import torch

from p2r.files.peak_memory import RESET
from p2r.studies.framework import usage
from p2r.studies.framework.tables import usage_tables


def test_a_busy_part_uses_processor_time_and_an_idle_one_does_not():
    with usage.measure_usage() as idle:
        time.sleep(0.3)
    with usage.measure_usage() as busy:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
    assert idle["seconds"] >= 0.3 and idle["cpu_seconds"] < 0.2
    assert busy["cpu_seconds"] >= 0.28
    if not torch.cuda.is_available():
        assert busy["joules"] == pytest.approx(busy["cpu_seconds"] * usage.CORE_WATTS, abs=0.01)


@pytest.mark.skipif(
    sys.platform != "linux" or torch.cuda.is_available() or not os.access(RESET, os.W_OK),
    reason="the peak of this process cannot be reset here",
)
def test_the_highest_memory_is_that_of_the_part_alone():
    with usage.measure_usage() as large:
        block = bytearray(os.urandom(1)) * (256 * 2**20)  # filled, so that the pages are real
        del block
    with usage.measure_usage() as small:
        pass
    assert 200 < large["peak_mib"] - small["peak_mib"] < 320


def test_seconds_are_summed_over_needed_parts_and_memory_is_the_highest():
    first = [
        {"seconds": 30.0, "joules": 60.0, "peak_mib": 500.0},
        {"seconds": 10.0, "joules": 40.0, "peak_mib": 900.0},
    ]
    second = [{"seconds": 60.0, "joules": 100.0, "peak_mib": 700.0}]
    found = usage.per_question([first, second], questions=20)
    assert found["seconds"] == {"mean": 2.5, "low": 2.0, "high": 3.0}
    assert found["joules"] == {"mean": 5.0, "low": 5.0, "high": 5.0}
    assert found["peak_mib"] == {"mean": 800.0, "low": 700.0, "high": 900.0}


def test_a_part_without_a_value_gives_no_sum():
    known = [{"seconds": 30.0}]
    found = usage.per_question([known, [*known, {}], []], questions=10)
    assert found == {"seconds": {"mean": 3.0, "low": 3.0, "high": 3.0}}


def test_tables_have_a_row_per_arm_and_say_what_is_unknown():
    parts = [{"seconds": 1.0, "peak_mib": 1420.4}], [{"seconds": 2.0, "peak_mib": 1420.2}]
    used = usage.per_question(parts, 10)
    result = {"labels": {"a": "A", "b": "B"}, "views": {"v": {"usage": {"a": used}}, "w": {}}}
    assert usage_tables(result) == [
        [["seconds per question", "v", "w"], ["A", "0.15 (0.1 to 0.2)", "–"]],
        [["highest memory, MiB", "v", "w"], ["A", "1420", "–"]],
    ]
