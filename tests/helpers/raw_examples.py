"""One question and one trace in the raw formats of Video-R1 and VideoP2R."""

from p2r.template import render

VIDEO_R1 = {
    "problem_id": 17,
    "problem": "Which way does it go?",
    "data_type": "video",
    "problem_type": "multiple choice",
    "options": ["A. left", "B. right"],
    "solution": "<answer>B</answer>",
    "path": "./LLaVA-Video-178K/17.mp4",
    "data_source": "LLaVA-Video-178K",
}
COT = VIDEO_R1 | {"process": "<think>\nIt moves to the right.\n</think>"}
OUTPUT = render("I see it move.", "It moves right.", "B")
VIDEOP2R = VIDEO_R1 | {
    "answer": "B",
    "observation": "I see it move.",
    "process": "It moves right.",
    "output": OUTPUT,
    "reward": 1.0,
    "select": True,
    "clean_version": "v2",
}
RL = {key: str(value) for key, value in VIDEOP2R.items()}
