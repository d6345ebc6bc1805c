"""Old name of `p2r.judges.run_judge` and `p2r.judges.estimate`."""

from p2r.judges.estimate import Estimate, estimate  # noqa: F401
from p2r.judges.run_judge import books_of, judge_in_batches, run_judge, spending  # noqa: F401
