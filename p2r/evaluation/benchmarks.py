"""The benchmarks of the paper as a table: what they read, what they ask, how they are scored.

A benchmark is data: its files, its subset, the names of its parts. How a record of its files
becomes a question is in `p2r.evaluation.benchmark_records`, its official scoring rule in
`p2r.evaluation.official`, how scores become numbers in `p2r.evaluation.metrics`. `playground` is
the embedded benchmark of synthetic scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2r.errors import UserError


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    `files` are its official annotations (a Video-R1 style `eval_*.json` is read too), `media` where
    a video of it lies under the data root, `subset` what the paper evaluates on: `expected` items,
    of `total`. `axes`: what its score is split by. `ask`: what follows the question, by task, when
    the bare answer is wanted. `tasks`: the values that its main axis may have.
    """

    name: str
    title: str
    files: str
    media: str
    subset: str
    expected: int | None
    total: int | None
    metric: str
    axes: tuple[str, ...]
    licence: str
    download: str
    ask: dict[str, str] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()

    @property
    def video_r1_file(self) -> str:
        """Its file in the layout that Video-R1 and its descendants read."""
        return f"eval_{self.name}.json"


LETTER = "Answer with the option's letter from the given choices directly."
CHOICE_TYPES = (
    "object_rel_direction_easy",
    "object_rel_direction_medium",
    "object_rel_direction_hard",
    "object_rel_distance",
    "route_planning",
    "obj_appearance_order",
)
NUMBER_TYPES = (
    "object_abs_distance",
    "object_counting",
    "object_size_estimation",
    "room_size_estimation",
)
DIMENSIONS = ("action", "direction", "speed", "order", "attribute_change")
TEMPCOMPASS_TASKS = ("multi-choice", "yes_no", "caption_matching", "captioning")
TRACKS = ("Perception", "Comprehension", "Adaptation")
DURATIONS = ("short", "medium", "long")
# fmt: off
MVBENCH_TASKS = (
    "action_sequence", "action_prediction", "action_antonym", "fine_grained_action",
    "unexpected_action", "object_existence", "object_interaction", "object_shuffle",
    "moving_direction", "action_localization", "scene_transition", "action_count", "moving_count",
    "moving_attribute", "state_change", "fine_grained_pose", "character_order",
    "egocentric_navigation", "episodic_reasoning", "counterfactual_inference",
)
# fmt: on

_TABLE = (
    Benchmark(
        name="vsibench",
        title="VSI-Bench",
        files="test.jsonl or test-00000-of-00001.parquet",
        media="{dataset}/{scene_name}.mp4",
        subset="all of the first release; later releases of the file hold more",
        expected=5130,
        total=5130,
        metric="mean over question types (the three direction types averaged first): accuracy of "
        "choices, MRA (<=, ten thresholds) of numbers",
        axes=("question type",),
        licence="Apache-2.0 (annotations and clips); ScanNet, ScanNet++ and ARKitScenes have terms",
        download="hub nyu-visionx/VSI-Bench: test file and three zip files of clips, 6 GB",
        ask={
            "choice": LETTER,
            "number": "Please answer the question using a single word or phrase.",
        },
        tasks=CHOICE_TYPES + NUMBER_TYPES,
    ),
    Benchmark(
        name="videommmu",
        title="VideoMMMU",
        files="{Perception,Comprehension,Adaptation}/test-00000-of-00001.parquet",
        media="{id}.mp4",
        subset="all three tracks",
        expected=900,
        total=900,
        metric="accuracy over all questions",
        axes=("track", "discipline"),
        licence="gated: conditions to accept; videos remain their creators'",
        download="hub lmms-lab/VideoMMMU: three parquet files, zip files of videos by discipline",
        ask={"": LETTER},
        tasks=TRACKS,
    ),
    Benchmark(
        name="mmvu",
        title="MMVU",
        files="validation.json",
        media="{subject}/{number}.mp4, the end of the video's address",
        subset="multiple choice, 625 of the 1,000 validation questions",
        expected=625,
        total=1000,
        metric="accuracy",
        axes=("discipline", "subject"),
        licence="see its card; videos are under Creative Commons licences",
        download="hub yale-nlp/MMVU: validation.json and the videos",
        ask={"": "Answer directly with the option letter from the given choices."},
    ),
    Benchmark(
        name="vcrbench",
        title="VCR-Bench",
        files="meta_info_video.json",
        media="{video_path}",
        subset="multiple choice, 510 of 1,034",
        expected=510,
        total=1034,
        metric="accuracy; precision, recall and F1 of the reasoning steps where they were judged",
        axes=("dimension", "duration"),
        licence="see its card; videos come from other data sets, with their terms",
        download="hub VLM-Reasoning/VCR-Bench: meta_info_video.json and the videos",
        ask={"": LETTER},
    ),
    Benchmark(
        name="mvbench",
        title="MVBench",
        files="json/*.json, one file for each of 20 tasks",
        media="{video}, under the folder of its source",
        subset="all 20 tasks, 200 questions each",
        expected=4000,
        total=4000,
        metric="accuracy over all questions (micro); macro: mean over tasks",
        axes=("task",),
        licence="MIT (annotations); videos under the terms of 11 sources, NTU RGB+D on request",
        download="hub OpenGVLab/MVBench: folders json and video, 16 GB",
        ask={"": "Only give the best option."},
        tasks=MVBENCH_TASKS,
    ),
    Benchmark(
        name="tempcompass",
        title="TempCompass",
        files="questions/{multi-choice,yes_no,caption_matching,captioning}.json, and for aspects "
        "meta_info.json",
        media="{video_id}.mp4",
        subset="all four tasks: 1,580, 2,453, 1,503 and 2,004 questions",
        expected=7540,
        total=7540,
        metric="accuracy by rule matching (what no rule matches is wrong); captioning by an LLM",
        axes=("task", "dimension", "aspect"),
        licence="see its repository; videos from Shutterstock",
        download="github llyx97/TempCompass: questions, and scripts that fetch the videos",
        ask={
            "multi-choice": "Please directly give the best option:",
            "yes_no": "Please answer yes or no:",
            "caption_matching": "Please directly give the best option:",
            "captioning": "",
        },
        tasks=TEMPCOMPASS_TASKS,
    ),
    Benchmark(
        name="videomme",
        title="Video-MME",
        files="videomme/test-00000-of-00001.parquet, or the official template of results",
        media="data/{videoID}.mp4",
        subset="without subtitles",
        expected=2700,
        total=2700,
        metric="right of answered questions: what no letter is read from is left out",
        axes=("duration", "domain", "sub-category", "task"),
        licence="for academic research only, no commercial use; videos remain their owners'",
        download="hub lmms-lab/Video-MME: parquet and 20 zip files of videos, 101 GB",
        ask={"": "Respond with only the letter (A, B, C, or D) of the correct option."},
        tasks=DURATIONS,
    ),
    Benchmark(
        name="playground",
        title="Playground",
        files="questions in JSON lines, as `p2r` writes them",
        media="{path}",
        subset="held-out scenes",
        expected=None,
        total=None,
        metric="accuracy by problem type, as in the CoT filter and the reward",
        axes=("problem type",),
        licence="none needed: made by this package",
        download="made by the run itself",
    ),
)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _TABLE}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name; case, spaces and dashes do not matter. Raises `UserError`."""
    plain = "".join(filter(str.isalnum, name)).lower()
    if plain not in BENCHMARKS:
        raise UserError(f"no benchmark {name!r}: use one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[plain]
