"""How many frames, how large, and chosen how, in training and at inference?

Every arm trains SFT and PA-GRPO from the base model with its own frames. Then it answers with the
frames of every view. A clip of the playground has 15 frames, so a limit of 16 shows all of them.
`adaptive` takes more frames where the picture changes more.

Says: The models answer best with the frames of their base model, which was pre-trained with eight
frames of 56 × 56 pixels. This is also so for the models that SFT and RL trained with other frames.
Trained with 8 × 56², 74 % of the answers are right. The same models are right in 48 % with 4
frames, in 35 % with 16, and in 28 % with small frames. Training with 16 frames makes answers from
16 frames better: 49 % are right. But with 8 frames it makes them worse, by 15 points. Training with
4 frames or with small ones does not clearly help with these frames. Adaptive sampling costs 7 to 10
points with 8 frames, and nothing for certain with 4. With other frames than those of the
pre-training, few sentences are true: 6 to 18 % with 4 or 16 frames, and at most 2 % with small
ones.

Does not say: how many frames are best. For that, each base needs a pre-training with its own
frames. 64 traces of SFT and 50 steps of RL do not teach a model to read other frames.

Missing: other models than the playground's, whose smallest frame is 28 × 28 pixels. For clips that
are longer than those of training, see the study `long`.
"""

from p2r.studies.base import Arm, Study, View

SMALL, LARGE = 28 * 28, 56 * 56  # pixels


def arm(frames: int, pixels: int = LARGE) -> Arm:
    """Return the arm that trains with so many frames of a size."""
    side = round(pixels**0.5)
    video = (f"video.train_frames={frames}", f"video.train_pixels={pixels}")
    return Arm(f"f{frames}_{side}", video, "base", ("sft", "rl"), f"trained: {frames} × {side}²")


def view(frames: int, pixels: int = LARGE, sampling: str = "uniform") -> View:
    """Return the view that shows so many frames of a size."""
    name = f"{frames} × {round(pixels**0.5)}²" + (", adaptive" if sampling != "uniform" else "")
    video = {"eval_frames": frames, "eval_pixels": pixels, "sampling": sampling}
    return View(name, "test", tuple(f"video.{key}={value}" for key, value in video.items()))


STUDY = Study(
    "frames",
    arms=(arm(8), arm(4), arm(16), arm(8, SMALL)),
    differences=(("f4_56", "f8_56"), ("f16_56", "f8_56"), ("f8_28", "f8_56")),
    views=(
        *(view(frames) for frames in (8, 4, 16)),
        view(8, SMALL),
        *(view(frames, sampling="adaptive") for frames in (4, 8)),
    ),
    view_differences=(
        ("4 × 56²", "8 × 56²"),
        ("16 × 56²", "8 × 56²"),
        ("8 × 28²", "8 × 56²"),
        ("4 × 56², adaptive", "4 × 56²"),
        ("8 × 56², adaptive", "8 × 56²"),
    ),
    show=("accuracy", "sufficiency", "faithful", "prompt tokens"),
    varies=("video.train_frames", "video.train_pixels"),
    doc=__doc__,
)
