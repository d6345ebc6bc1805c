"""Which settings change the result of which stage, and which stages of a run have begun.

A run accepts every change of its recipe that does not change the result of a stage that has begun.
Engines, batch sizes, micro-batches, save steps, time limits and everything of a later stage may
change at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from p2r.files.journal import journal_files
from p2r.runs.names import trained_stages

# These settings change how fast a stage runs, what it keeps on disk or when it gives up. They do
# not change its result, so a run may change them at any time.
FREE_KEYS = (
    "name",
    "threads",
    "report_to",
    "keep",
    "engine",
    "models.attention",
    "generate.engine",
    "generate.batch_size",
    "generate.patience",
    "generate.hard_samples",
    "eval.engine",
    "eval.batch_size",
    "video.timeout",
    "video.cache_gb",
    "sft.save_steps",
    "sft.token_budget",
    "rl.credit",  # each credit scheme is a stage with its own folder
    "rl.rollouts",
    "rl.micro_batch",
    "rl.reward",  # the stage compares the source of the function, not its place
    "rl.save_steps",
    "rl.validate_*",
    "rl.preflight",
    "rl.judge_always",
    "rl.judge_timeout",
    "rl.judge_retries",
    "rl.max_unknown",
    *(
        f"judging.{key}"
        for key in (
            "concurrency",
            "timeout",
            "call_limit",
            "retries",
            "prices",
            "prices.*",
            "budget",
            "batch",
            "batch_size",
            "batch_poll",
            "cache",
        )
    ),
    *(f"server.{key}" for key in ("base_url", "concurrency", "timeout", "attempts")),
    "vllm.*",
)
PLAYGROUND_SPLITS = (
    *("train", "validation", "test"),
    *("ambiguous", "new_domain", "long", "false_notes"),
)
_EVERY_MODEL = (
    "seed",
    "models.dtype",
    "models.prompt",
    "video.factor",
    "video.image_pixels",
    "video.sampling",
)
_TAUGHT = ("sft.target", "models.agnostic_prompt")  # they choose the prompt of what SFT teaches
_TRAINED = (*_EVERY_MODEL, *_TAUGHT, "video.train_*", "tuning.*")
_JUDGED = ("judging.*",)
# The other settings, by the stages whose result they change. A key may belong to several stages. A
# key of no stage is free.
OWNED_KEYS: dict[str, tuple[str, ...]] = {
    "generate": (*_EVERY_MODEL, "models.teacher", "generate.*", "video.train_*", "server.*"),
    "filter": ("filter.*", *_JUDGED),
    "sft": (*_TRAINED, "models.base", "sft.*"),
    "rl": (*_TRAINED, "rl.*", "demo.arms.*", *_JUDGED),
    "eval": (*_EVERY_MODEL, "eval.*", "video.eval_*", "server.*", *_TAUGHT, *_JUDGED),
    **{
        f"data/{split}.jsonl": (f"playground.{split}", "playground.generation")
        for split in PLAYGROUND_SPLITS
    },
}


def is_free(key: str) -> bool:
    """Return whether a dotted key changes no result."""
    return any(fnmatchcase(key, pattern) for pattern in FREE_KEYS)


def owners(key: str) -> list[str]:
    """Return the stages whose result a dotted key changes."""
    if is_free(key):
        return []
    return [
        stage
        for stage, patterns in OWNED_KEYS.items()
        if any(fnmatchcase(key, pattern) for pattern in patterns)
    ]


def owned(stage: str, section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a section that change the result of a stage."""
    return {key: value for key, value in settings.items() if stage in owners(f"{section}.{key}")}


def is_whole_arm(key: str, pair: tuple[Any, Any]) -> bool:
    """Return whether a change adds or removes an arm of the demo. It changes no other arm."""
    return key.startswith("demo.arms.") and key.count(".") == 2 and None in pair


def begun_stages(folder: Path) -> dict[str, str]:
    """Return the stages of a run that have results, each with the files to delete to redo it."""
    return dict(_begun(folder))


def _begun(folder: Path) -> Iterator[tuple[str, str]]:
    for stage in ("generate", "filter"):
        if journal_files(folder / f"{stage}.jsonl") or (folder / f"{stage}.made.json").is_file():
            yield stage, f"{stage}.*"
    trained = trained_stages(folder)
    if "sft" in trained:
        yield "sft", "sft/"
    if rl := [f"{name}/" for name in trained if name != "sft"]:
        yield "rl", " ".join(rl)
    if any(folder.glob("eval/*.made.json")) or any(folder.glob("eval/*.json")):
        yield "eval", "eval/"
    for split in PLAYGROUND_SPLITS:
        if (folder / "data" / f"{split}.jsonl").is_file():
            yield f"data/{split}.jsonl", f"data/{split}*"


def comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in a form that can be compared: equal if they give the same result.

    SFT sums the gradients of `accumulation` batches, so only the product of the two changes its
    result. `sft.global_batch` replaces the product.
    """
    sft = settings.get("sft")
    if not isinstance(sft, Mapping) or "batch_size" not in sft:
        return dict(settings)
    sft = dict(sft)
    product = sft.pop("batch_size") * sft.pop("accumulation", 1)
    sft["global_batch"] = sft.get("global_batch") or product
    return {**settings, "sft": sft}
