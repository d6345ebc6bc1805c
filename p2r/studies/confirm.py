"""Is PA-GRPO right more often than GRPO if neither has the length reward?

The study `credit` compared these two arms only after the others were known, with the seeds 0 to 4.
This study repeats the comparison with new seeds. It was written before any of its models was
trained. Its one question is the difference of accuracy; the other metrics are context.
"""

from p2r.studies.base import Study
from p2r.studies.credit import GRPO_NO_LENGTH, NO_LENGTH

STUDY = Study(
    "confirm",
    arms=(GRPO_NO_LENGTH, NO_LENGTH),
    seeds=(5, 6, 7, 8, 9),
    differences=(("no_length", "grpo_no_length"),),
    show=(
        *("accuracy", "sufficiency", "sufficient and true", "faithful", "mismatch"),
        "observation tokens",
    ),
    curves=("lost", "accuracy", "sufficiency"),
    doc=__doc__,
)
