"""Writes hand-made questions about real clips as files, in the format of each benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# Ten clips of the shared data. The last two cannot be read.
CLIPS = (
    *("av1_testsrc.mkv", "bbb_vp8.webm", "clevrer_12176.mp4", "h265_10bit.mp4"),
    *("hevc_frame_numbers.mp4", "made_one_frame.mp4", "rot_0.mov", "rot_90.mov"),
    *("made_empty.mp4", "made_not_a_video.mp4"),
)
CHOICES = ["a test pattern", "a rabbit", "coloured solids", "numbers"]
LETTERED = [f"{letter}. {text}" for letter, text in zip("ABCD", CHOICES, strict=True)]
TEMPCOMPASS = {
    "multi-choice": ("What is shown?\n" + "\n".join(LETTERED), "B. a rabbit"),
    "yes_no": ("Is a rabbit shown?", "yes"),
    "caption_matching": (
        "Which caption matches the video better?\nCaption A: A test.\nCaption B: A rabbit.",
        "Caption B: A rabbit.",
    ),
    "captioning": (
        "Which information is in the video?\nInformation A: test\nInformation B: rabbit\n"
        "Generated Caption:",
        "B. rabbit",
    ),
}


def write_benchmark(name: str, folder: Path, clips: tuple[str, ...] = CLIPS) -> Path:
    """Write one question per clip in the benchmark's format. Return the file or folder to read."""
    folder.mkdir(exist_ok=True)
    return WRITERS[name](folder, clips)


def _json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def _vsibench(folder: Path, clips: tuple[str, ...]) -> Path:
    lines = []
    for index, clip in enumerate(clips):
        number = index % 2 == 1
        lines.append(
            {
                "id": index,
                "path": clip,
                "question_type": "object_counting" if number else "route_planning",
                "question": "How many solids are there?" if number else "Where does it go?",
                "ground_truth": "4" if number else "A",
                "options": None if number else LETTERED,
            }
        )
    path = folder / "test.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _videommmu(folder: Path, clips: tuple[str, ...]) -> Path:
    for track in ("Perception", "Comprehension", "Adaptation"):
        rows = [
            {
                "id": f"dev_Art_{index}",
                "path": clip,
                "question": "What is shown?" if index % 3 else "How many are there?",
                "options": CHOICES if index % 3 else [],
                "answer": "B" if index % 3 else "4",
                "question_type": "multiple-choice" if index % 3 else "open",
                "image": {"bytes": b"no picture", "path": "x.png"},
            }
            for index, clip in enumerate(clips)
        ]
        path = folder / track / "test-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
    return folder


def _mmvu(folder: Path, clips: tuple[str, ...]) -> Path:
    records = [
        {
            "id": f"validation_{index}",
            "video": clip,
            "question_type": "multiple-choice",
            "metadata": {"subject": ("Art", "Dentistry")[index % 2]},
            "question": "What is shown?",
            "choices": dict(zip("ABCDE", [*CHOICES, "nothing"], strict=True)),
            "answer": "B",
        }
        for index, clip in enumerate(clips)
    ]
    open_ended = {**records[0], "id": "validation_x", "question_type": "open-ended", "choices": {}}
    return _json(folder / "validation.json", [*records, open_ended])


def _vcrbench(folder: Path, clips: tuple[str, ...]) -> Path:
    records = [
        {
            "id": index,
            "video_path": clip,
            "duration": 40 * (index + 1),
            "dimension": ("Video Plot Analysis", "Temporal Grounding")[index % 2],
            "question": "What is shown?",
            "multiple-choice": index != 3,
            "choices": dict(zip("ABCD", CHOICES, strict=True)),
            "answer": "B",
            "reasoning": ["1. A rabbit sits.", "2. So it is a rabbit."],
        }
        for index, clip in enumerate(clips)
    ]
    return _json(folder / "meta_info_video.json", records)


def _mvbench(folder: Path, clips: tuple[str, ...]) -> Path:
    for task in ("action_count", "scene_transition"):
        records = [
            {
                "video": clip,
                "question": "What is shown?",
                "candidates": CHOICES,
                "answer": CHOICES[index % 4],
            }
            for index, clip in enumerate(clips)
        ]
        _json(folder / "json" / f"{task}.json", records)
    return folder / "json"


def _tempcompass(folder: Path, clips: tuple[str, ...]) -> Path:
    for task, (question, answer) in TEMPCOMPASS.items():
        asked = {"question": question, "answer": answer}
        videos = {Path(clip).stem: {"action": [asked], "order": [asked]} for clip in clips}
        _json(folder / "questions" / f"{task}.json", videos)
    return folder / "questions"


def _videomme(folder: Path, clips: tuple[str, ...]) -> Path:
    rows = [
        {
            "video_id": f"{index:03}",
            "duration": ("short", "medium", "long")[index % 3],
            "domain": "Knowledge",
            "sub_category": "Geography",
            "videoID": Path(clip).stem,
            "path": clip,
            "question_id": f"{index:03}-1",
            "task_type": "Object Recognition",
            "question": "What is shown?",
            "options": [f"{option}." for option in LETTERED],
            "answer": "B",
        }
        for index, clip in enumerate(clips)
    ]
    path = folder / "test-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _mlvu(folder: Path, clips: tuple[str, ...]) -> Path:
    for name in ("2_needle", "7_topic_reasoning"):
        records = [
            {
                "video": clip,
                "duration": 300,
                "question": "What is shown?",
                "candidates": CHOICES,
                "answer": CHOICES[index % 4],
                "question_type": name[2:],
            }
            for index, clip in enumerate(clips)
        ]
        _json(folder / "json" / f"{name}.json", records)
    summary = {"video": clips[0], "question": "Summarise.", "answer": "It ends."}
    _json(folder / "json" / "9_summary.json", [summary | {"question_type": "summary"}])
    return folder / "json"


def _lvbench(folder: Path, clips: tuple[str, ...]) -> Path:
    lines = [f"({letter}) {text}" for letter, text in zip("ABCD", CHOICES, strict=True)]
    question = {"question": "\n".join(["What is shown?", *lines]), "answer": "B"}
    question |= {"question_type": ["event understanding", "reasoning"]}
    videos = [
        {"key": Path(clip).stem, "type": "tv", "path": clip, "qa": [{"uid": str(n), **question}]}
        for n, clip in enumerate(clips)
    ]
    path = folder / "video_info.meta.jsonl"
    path.write_text("".join(json.dumps(video) + "\n" for video in videos))
    return path


def _longvideobench(folder: Path, clips: tuple[str, ...]) -> Path:
    records = [
        {
            "id": f"{Path(clip).stem}_{index}",
            "video_path": clip,
            "path": clip,
            "question": "What is shown?",
            "candidates": CHOICES,
            "correct_choice": 1,
            "duration_group": (15, 60, 600, 3600)[index % 4],
            "question_category": ("S2E", "T3O")[index % 2],
        }
        for index, clip in enumerate(clips)
    ]
    return _json(folder / "lvb_val.json", records)


WRITERS = {
    "vsibench": _vsibench,
    "videommmu": _videommmu,
    "mmvu": _mmvu,
    "vcrbench": _vcrbench,
    "mvbench": _mvbench,
    "tempcompass": _tempcompass,
    "videomme": _videomme,
    "mlvu": _mlvu,
    "lvbench": _lvbench,
    "longvideobench": _longvideobench,
}
