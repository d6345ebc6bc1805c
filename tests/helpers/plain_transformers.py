"""Asks an exported model with transformers alone. A test runs this file in its own OS process.

    python plain_transformers.py FOLDER CLIP

prints, as JSON, the ids of prompts with a video and without, and the number of generated tokens.
"""

from __future__ import annotations

import json
import sys

import decord
import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
try:
    import torchvision  # noqa: F401
except RuntimeError:  # torchvision for CUDA beside torch for CPUs
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", SCHEMA)

from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402

CHOICE = "What moves?\nA. a cube\nB. a <|im_end|> ball"


def main(folder: str, clip: str) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    reader = decord.VideoReader(clip)
    frames = reader.get_batch(range(len(reader))).asnumpy()
    about = {
        "total_num_frames": len(frames),
        "fps": reader.get_avg_fps(),
        "frames_indices": list(range(len(frames))),
    }

    def ask(*content: dict, **more: object) -> dict:
        return processor.apply_chat_template(
            [{"role": "user", "content": list(content)}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            **more,
        )

    def text(words: str) -> dict:
        return {"type": "text", "text": words}

    video = ask(
        text("How many?"),
        {"type": "video", "video": frames},
        problem_type="numerical",
        processor_kwargs={"video_metadata": [about], "do_sample_frames": True},
    )
    written = model.generate(**video, max_new_tokens=3, min_new_tokens=3)
    print(
        json.dumps(
            {
                "video": video["input_ids"][0].tolist(),
                "seconds": video["second_per_grid_ts"].tolist(),
                "text": ask(text(CHOICE))["input_ids"][0].tolist(),
                "off": ask(text("How many?"), enable_process_aware=False)["input_ids"][0].tolist(),
                "written": written.shape[1] - video["input_ids"].shape[1],
                "p2r": any(name.split(".")[0] == "p2r" for name in sys.modules),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
