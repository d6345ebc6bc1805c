"""The card of an exported model: base, data, recipe, results with intervals, judge and limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from p2r import __version__
from p2r.files.atomic import read_json, write_text
from p2r.files.jsonlines import from_line
from p2r.files.safe_text import escape_markdown, hide_keys, show_unseen
from p2r.runs.models import model_fingerprint
from p2r.runs.names import model_label
from p2r.runs.recipe import Recipe
from p2r.scoring import format_interval
from p2r.template import style_name

_SETTINGS = ("video", "tuning", "sft", "rl")
_LONGEST = 200  # characters of a text in the settings


def write_model_card(
    stage: Path, recipe: Recipe, style: str, folder: Path, *, adapters: bool
) -> Path:
    """Write `README.md` for the model of a run's stage; return it."""
    results = list(_results(stage))
    base = _base(recipe)
    head: dict[str, Any] = {
        "library_name": "peft" if adapters else "transformers",
        "pipeline_tag": "video-text-to-text",
        "license": "other",
        "license_name": "terms-of-the-base-model",
        "tags": ["video", "chain-of-thought", "VideoP2R", *([] if adapters else ["vllm"])],
    }
    if base["hub"]:
        head["base_model"] = base["name"]
        head["base_model_relation"] = "adapter" if adapters else "finetune"
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["escape"] = escape_markdown
    source = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        head=yaml.safe_dump(head, sort_keys=False).strip(),
        name=f"{stage.resolve().parent.name}-{stage.name}",
        label=model_label(stage.name),
        stage=stage.name,
        base=base["name"],
        adapters=adapters,
        style=style_name(style),
        recipe=recipe,
        data=_data(stage),
        settings=show_unseen(_settings(recipe, stage.name)),
        results=results,
        judges=sorted({row["judge"] for row in results} - {"none"}),
        version=__version__,
    )
    file = folder / "README.md"
    write_text(file, hide_keys(text))
    return file


def _base(recipe: Recipe) -> dict[str, Any]:
    """Return the name of the base model, without a path, and whether it is a name on the hub."""
    name = str(recipe.models.base)
    local = Path(name).exists() or name.startswith("playground/")
    return {"name": Path(name).name if Path(name).exists() else name, "hub": not local}


def _data(stage: Path) -> list[str]:
    """Return the data of the trainings: sources of the kept traces, and numbers."""
    sources: dict[str, int] = {}
    file = stage.parent / "sft.jsonl"
    if file.is_file():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                name = from_line(line)["question"].get("source") or "no source named"
                sources[name] = sources.get(name, 0) + 1
    ordered = sorted(sources.items(), key=lambda item: -item[1])
    return [f"{name}: {count:,} traces" for name, count in ordered[:30]]


def _settings(recipe: Recipe, stage: str) -> str:
    """Return the settings of the trainings as YAML, with long texts cut."""
    names = [name for name in _SETTINGS if name != "rl" or stage != "sft"]
    settings = {name: recipe.model_dump(mode="json")[name] for name in names}
    if settings.get("rl", {}).get("reward"):
        settings["rl"]["reward"] = Path(settings["rl"]["reward"]).name
    return yaml.safe_dump(_cut(settings), sort_keys=False, allow_unicode=True).strip()


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(inner) for key, inner in value.items()}
    return f"{value[:_LONGEST]}…" if isinstance(value, str) and len(value) > _LONGEST else value


def _results(stage: Path) -> Iterator[dict[str, Any]]:
    """Yield one row per metric of every evaluation of this model in its run.

    A model is recognised by its weights, so results of an older training do not count.
    """
    weights = model_fingerprint(stage / "model")
    for file in sorted((stage.parent / "eval").glob("*.json")):
        if file.name.endswith(".made.json"):
            continue
        found = read_json(file)
        made = found.get("made", {}) if isinstance(found, dict) else {}
        if made.get("weights") != weights:
            continue
        result = stage.parent / "results" / file.name
        scores = read_json(result) if result.is_file() else {}
        name = scores.get("benchmark", "the questions of the run")
        rows = {
            metric: value
            for metric, value in found["metrics"].items()
            if not (metric == "accuracy" and "official" in scores)
        }
        if "official" in scores:
            rows = {scores["metric"]: scores["official"], **rows}
        for metric, interval in rows.items():
            if interval.get("n"):
                yield {
                    "set": name,
                    "metric": metric,
                    "value": format_interval(interval, 1),
                    "n": interval["n"],
                    "judge": made.get("judge", "none"),
                    "frames": made.get("frames", {}),
                }
