"""Recipes: one YAML file sets sizes, models and engines. The code path stays the same.

A recipe has a name (`tiny`, `3b`, `7b`: files in `p2r/runs/recipes/`) or a path. `NAME+PRESET` adds
the keys of a preset (`p2r/runs/recipes/presets/`), for example `7b+local-judge`. A file with
`base: NAME` changes only some keys of another recipe. Single values are overridden as
`section.key=value`. A misspelt key is an error that lists the known keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field, PositiveInt, ValidationError

from p2r.errors import UserError
from p2r.runs.demo_sections import DemoSettings, PlaygroundSettings
from p2r.runs.fields import Credit, EngineName, Section
from p2r.runs.names import RL_STAGES
from p2r.runs.plugins import check_trackers, find_plugins
from p2r.runs.rl_section import RlSettings
from p2r.runs.sections import (
    EvalSettings,
    FilterSettings,
    GenerateSettings,
    JudgingSettings,
    Models,
    QualitySettings,
    ServerSettings,
    SftSettings,
    TuningSettings,
    VideoSettings,
    VllmSettings,
)
from p2r.runs.styles import AGNOSTIC, STYLES, read_style

__all__ = [
    "AGNOSTIC",
    "ALIASES",
    "FOLDER",
    "STYLES",
    "Credit",
    "EngineName",
    "JudgingSettings",
    "Models",
    "QualitySettings",
    "Recipe",
    "RlSettings",
    "SftSettings",
    "TuningSettings",
    "VideoSettings",
    "change_recipe",
    "find_plugins",
    "load_recipe",
    "preset_names",
    "read_style",
    "recipe_names",
]

FOLDER = Path(__file__).parent / "recipes"
PRESETS = FOLDER / "presets"
ALIASES = {  # older names
    "3b-1x24gb": "qwen2.5-vl-3b-1x24gb",
    "7b-1x80gb": "qwen2.5-vl-7b-1x80gb",
    "7b-8x80gb": "qwen2.5-vl-7b-8x80gb",
}
# The keys that may name a file beside the recipe.
FILE_KEYS = (
    ("models", "prompt"),
    ("models", "agnostic_prompt"),
    ("judging", "prompt"),
    ("rl", "reward"),
)
# The values of newer keys for runs whose `recipe.yaml` does not have them.
OLDER_RUNS: dict[str, dict[str, Any]] = {
    "video": {"image_pixels": None},
    "sft": {"max_grad_norm": 1.0},
}


class Recipe(Section):
    """A complete, validated recipe. A run folder keeps it as `recipe.yaml`."""

    name: str
    """Name of the recipe."""
    seed: int = 0
    """Seed of everything that is drawn."""
    threads: PositiveInt | None = None
    """CPU threads of torch (none: all)."""
    report_to: Annotated[str, AfterValidator(check_trackers)] = "none"
    """Where trainings report their curves: `none`, or trackers separated by commas: `tensorboard`,
    `trackio`, `wandb`, `mlflow` and the others of transformers, or your `FILE.py:CLASS`."""
    keep: str = Field("best", pattern=r"^(all|best|last [1-9][0-9]*)$")
    """Checkpoints that a finished training keeps in addition to its final model: `all`, `last N`,
    or the `best` one of `rl.validate_every`. Without validation, `best` keeps none."""
    models: Models
    video: VideoSettings = Field(default_factory=VideoSettings)
    generate: GenerateSettings = Field(default_factory=GenerateSettings)
    vllm: VllmSettings = Field(default_factory=VllmSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)
    filter: FilterSettings = Field(default_factory=FilterSettings)
    judging: JudgingSettings = Field(default_factory=JudgingSettings)
    sft: SftSettings = Field(default_factory=SftSettings)
    rl: RlSettings = Field(default_factory=RlSettings)
    tuning: TuningSettings = Field(default_factory=TuningSettings)
    eval: EvalSettings = Field(default_factory=EvalSettings)
    playground: PlaygroundSettings = Field(default_factory=PlaygroundSettings)
    demo: DemoSettings = Field(default_factory=DemoSettings)

    def of_arm(self, name: str) -> Recipe:
        """Return the recipe of an RL training: an arm of the demo, or the stage of a credit scheme.

        Raises `UserError` for another name.
        """
        schemes = {stage: {"credit": credit} for credit, stage in RL_STAGES.items()}
        if name not in self.demo.arms and name not in schemes:
            known = ", ".join(dict.fromkeys([*self.demo.arms, *schemes]))
            raise UserError(f"no RL training {name!r}: choose one of {known}")
        changes = schemes.get(name, {}) | self.demo.arms.get(name, {})
        settings = self.rl.model_dump()
        _merge(settings, changes)
        changed = RlSettings.model_validate(settings)
        return self.model_copy(update={"rl": changed})

    @property
    def style(self) -> str:
        """The prompt style that SFT teaches. RL and evaluation use it too."""
        if self.sft.target == "process":
            return self.models.prompt
        return self.models.agnostic_prompt or AGNOSTIC.get(self.models.prompt, "think")

    def prompt_style(self, stage: str, given: str | None = None) -> str:
        """Return the prompt style of a stage ("generate", "sft", "rl" or "eval").

        A style that the user gives comes first. The teacher writes observations in every recipe;
        all other stages use the style that SFT teaches.
        """
        return given or (self.models.prompt if stage == "generate" else self.style)

    def to_yaml(self) -> str:
        """Return the complete recipe as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_recipe(name: str | Path = "tiny", overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by name or path and apply `section.key=value` overrides.

    `name` may add presets: `NAME+PRESET`. Raises `UserError`.
    """
    path, settings = _read_inherited(str(name))
    if path.name == "recipe.yaml":  # of a run
        for section, values in OLDER_RUNS.items():
            settings[section] = values | (settings.get(section) or {})
    return _validate(settings, overrides or [], path)


def change_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return a recipe with `section.key=value` overrides. Raises `UserError`."""
    return _validate(recipe.model_dump(mode="json"), overrides, Path(recipe.name))


def _validate(settings: dict[str, Any], overrides: Sequence[str], path: Path) -> Recipe:
    for override in overrides:
        _override(settings, override)
    try:
        return Recipe.model_validate(settings, context={"folder": path.parent})
    except ValidationError as error:
        raise UserError(_explain(error, overrides, path)) from error


def recipe_names() -> list[str]:
    """Return the names of all recipes, without aliases."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset_names() -> list[str]:
    """Return the names of all presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _read_inherited(name: str, below: tuple[Path, ...] = ()) -> tuple[Path, dict[str, Any]]:
    """Return the path and the settings of a recipe with its presets and the recipes it starts from.

    `below` are the recipes that start from this one.
    """
    first, *presets = name.split("+") if not Path(name).is_file() else [name]
    path, settings = _read_settings(first, FOLDER, "recipe")
    if path.resolve() in below:
        chain = " -> ".join(str(each) for each in (*below, path.resolve()))
        raise UserError(f"recipe {path} starts from itself through `base`: {chain}")
    if (base := settings.pop("base", None)) is not None:
        beside = path.parent / str(base)
        start = str(beside) if beside.is_file() else str(base)
        where, inherited = _read_inherited(start, (*below, path.resolve()))
        _anchor_files(inherited, where.parent)
        _merge(inherited, settings)
        settings = inherited
    for preset in presets:
        _merge(settings, _read_settings(preset, PRESETS, "preset")[1])
    return path, settings


def _anchor_files(settings: dict[str, Any], folder: Path) -> None:
    """Make the files that a recipe names absolute, if they are beside the recipe."""
    places = [(settings.get(section), key) for section, key in FILE_KEYS]
    demo = settings.get("demo")
    arms = demo.get("arms") if isinstance(demo, dict) else None
    if isinstance(arms, dict):
        places += [(changes, "reward") for changes in arms.values()]
    for values, key in places:
        if not isinstance(values, dict):
            continue
        name = values.get(key)
        if isinstance(name, str) and (folder / name.partition(":")[0]).is_file():
            values[key] = str(folder.resolve() / name)


def _read_settings(name: str, folder: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    path = folder / f"{ALIASES.get(name, name)}.yaml"
    path = path if path.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise UserError(f"no {kind} {name!r}: give a YAML file or one of {known}")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path} holds no settings: a {kind} is a mapping of sections")
    return path, settings


def _merge(settings: dict[str, Any], more: dict[str, Any]) -> None:
    """Change settings in place. A mapping with another `kind` is another judge: it replaces it."""
    for key, value in more.items():
        old = settings.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and _same_kind(old, value):
            _merge(old, value)
        else:
            settings[key] = value


def _same_kind(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return "kind" not in new or new["kind"] == old.get("kind")


def _override(settings: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"override {override!r} is not of the form section.key=value")
    *sections, last = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise UserError(f"override {override!r}: {section!r} is a value, not a section")
    try:
        settings[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"override {override!r}: {value!r} is not a YAML value") from error


def _explain(error: ValidationError, overrides: Sequence[str], path: Path) -> str:
    """Return all faults as one line. Each names the override or the file that it comes from."""
    given = {override.partition("=")[0]: override for override in overrides}
    faults: dict[str, list[str]] = {}
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        key = next((key for key in given if _same_place(key, where)), None)
        source = f"recipe {path}" if key is None else f"setting {given[key]}"
        if fault["type"] == "extra_forbidden":
            said = f"unknown key {where!r} ({_advise(fault['loc'])})"
        else:
            said = f"{where}: {fault['msg']} (got {fault['input']!r})"
        faults.setdefault(source, []).append(said)
    return "; ".join(f"{source}: {'; '.join(said)}" for source, said in faults.items())


def _same_place(one: str, other: str) -> bool:
    """Return whether two keys are equal, or one is a section that has the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _advise(place: tuple[int | str, ...]) -> str:
    """Return the nearest known keys of the section, then all of them."""
    section: Any = Recipe
    for part in place[:-1]:
        section = section.model_fields[part].annotation
    above = [str(part) for part in place[:-1]]
    near = get_close_matches(str(place[-1]), section.model_fields, n=2)
    said = []
    if near:
        said.append(f"did you mean {' or '.join('.'.join([*above, name]) for name in near)}?")
    said.append(f"known: {', '.join(section.model_fields)}")
    return " ".join(said)
