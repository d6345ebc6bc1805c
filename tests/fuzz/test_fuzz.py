"""A few seconds of fuzzing of every reader. `make fuzz` runs the same targets for ten minutes."""

import pytest
from hypothesis import HealthCheck, given, settings
from targets import TARGETS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_takes_anything(name):
    target, strategies = TARGETS[name]
    quick = settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    quick(given(*strategies)(target))()
