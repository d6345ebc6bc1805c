"""Is PA-GRPO right more often than GRPO if neither has the length reward?

The study `credit` compared these two arms only after the others were known, with the seeds 0 to 4.
This study repeats the comparison with new seeds. It was written before any of its models was
trained. Its one question is the difference of accuracy; the other metrics are context.

Says: the advantage is not confirmed. PA-GRPO is ahead by 3.4 points of accuracy, with four of five
seeds, but the interval includes 0. In `credit` it is ahead by 4.4 points. The mean of all ten seeds
is 3.9 points, with a t interval over the seeds of 0.4 to 7.4; but half of these seeds were known
before the question was asked. With PA-GRPO the answer contradicts the thinking less often, with
every seed. This was not the question of the study.

Does not say: that PA-GRPO has no advantage. The difference varies between seeds with a standard
deviation of 6 points. To find a difference of 3 points with a power of 80 %, a study needs about 30
seeds.
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
