"""Recipes: one YAML file sets sizes, models and engines. The code path is always the same.

`load_recipe` reads a recipe by name (`tiny`, `3b`, `7b`: files in `p2r/runs/recipes/`) or from a
path. `section.key=value` overrides single values. A misspelled key is an error that lists the known
keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from p2r.errors import UserError
from p2r.records import RIGHT_ACCURACY

FOLDER = Path(__file__).parent / "recipes"
Credit = Literal["process", "shared", "outcome", "decoupled"]
AGNOSTIC = {"full": "think", "brief": "brief-think"}  # prompt styles without an observation
EngineName = Literal["transformers", "vllm", "server"]
Scheduler = Literal["cosine", "linear", "constant", "cosine_with_restarts", "polynomial"]
Share = Annotated[float, Field(gt=0, le=1)]
Ends = tuple[NonNegativeInt, NonNegativeInt]


class Section(BaseModel):
    """Base class of all sections; it refuses unknown keys."""

    model_config = ConfigDict(extra="forbid")


class Models(Section):
    """The models: each is a folder, a hub id, or `playground/NAME` for an included model."""

    base: str
    teacher: str
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    prompt: Literal["full", "brief"] = "full"


class VideoSettings(Section):
    """The model's frames in training and at inference (pixels: height x width of one frame)."""

    train_frames: PositiveInt = 16
    train_pixels: PositiveInt = 128 * 28 * 28
    eval_frames: PositiveInt = 32
    eval_pixels: PositiveInt = 256 * 28 * 28
    factor: PositiveInt = 28
    timeout: float = 30.0


class GenerateSettings(Section):
    """Step 1 of the CoT pipeline: the teacher writes traces of each question (the paper: one).

    `hard_samples`, at `hard_temperature`: more traces of the questions without a kept trace
    (`p2r generate --hard`). `patience`: an engine without any answer for so many seconds counts as
    hung. `engine`: transformers; vllm (see `VllmSettings`); server, for any OpenAI-style server
    (see `ServerSettings`).
    """

    questions: PositiveInt | None = None
    samples: PositiveInt = 1
    hard_samples: PositiveInt = 4
    hard_temperature: NonNegativeFloat = 1.0
    patience: PositiveFloat = 1800.0
    engine: EngineName = "transformers"
    batch_size: PositiveInt = 8
    temperature: NonNegativeFloat = 0.0
    top_p: Share = 1.0
    max_tokens: PositiveInt = 1024


class VllmSettings(Section):
    """Settings of vLLM, for the engine vllm, `p2r serve` and rollouts.

    `memory`: vLLM's share of a GPU; `rollout_memory`: its share beside a trainer. `kv_cache_gb`:
    size of the KV cache in GiB (none: the rest of `memory`, or 1 on a CPU). `max_length`: tokens of
    prompt and response (none: enough for the recipe's videos). `eager`: do not compile (none: only
    on a CPU).
    """

    tensor_parallel: PositiveInt = 1
    memory: float = Field(0.9, gt=0, le=1)
    rollout_memory: float = Field(0.3, gt=0, le=1)
    kv_cache_gb: float | None = Field(None, gt=0)
    max_length: PositiveInt | None = None
    max_sequences: PositiveInt = 128
    eager: bool | None = None


class ServerSettings(Section):
    """Settings of the engine server: an OpenAI-style server. OPENAI_API_KEY holds its key.

    `model`: the model's name on the server (none: the recipe's). `media`: exact sends the same
    frames as the other engines, to a server started by `p2r serve`; images sends a video as a list
    of pictures; file sends the file. `timeout`: seconds for a request, including all `attempts` and
    the waits between them.
    """

    base_url: str = "http://127.0.0.1:8000/v1"
    model: str | None = None
    media: Literal["exact", "images", "file"] = "exact"
    concurrency: PositiveInt = 32
    timeout: float = Field(600.0, gt=0)
    attempts: PositiveInt = 6

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a server's address must look like http://HOST:PORT/v1 or https://…")
        if parts.username or parts.password:
            raise ValueError(
                "an address must not hold a key: set OPENAI_API_KEY in the environment"
            )
        return url.rstrip("/")


class QualitySettings(Section):
    """Filters that the paper does not have, all off by default (see `p2r.pipeline.quality`).

    `leak`: drop observations that state the answer or quote the think text. `language`: highest
    share of letters in scripts that the question does not use. `length`: highest distance of a
    segment's length from the median of its problem type, in robust standard deviations. `best_of`:
    keep only the best trace of each question. `duplicate`: drop a trace if the Jaccard index of its
    word 5-grams with those of a kept trace is at least this. `per_source`: highest number of kept
    traces per source.
    """

    leak: bool = False
    language: float | None = Field(None, gt=0, lt=1)
    length: PositiveFloat | None = None
    best_of: bool = False
    duplicate: float | None = Field(None, gt=0, le=1)
    per_source: PositiveInt | None = None


class FilterSettings(Section):
    """Steps 2 and 3 of the CoT pipeline.

    A trace is kept if its answer scores at least `min_accuracy` and the judge finds its observation
    sufficient. `quality`: filters that the paper does not have.
    """

    min_accuracy: float = RIGHT_ACCURACY
    judge: str | dict[str, Any] = "oracle"
    quality: QualitySettings = Field(default_factory=QualitySettings)


class JudgingSettings(Section):
    """Settings of the judges behind a server, for all stages.

    `model`: the model of the judge "claude". `concurrency`: parallel calls. `timeout`: seconds of
    one attempt. `call_limit`: seconds of a call with all attempts. `retries`: attempts after the
    first. `max_tokens`: tokens of a reply. `prices`: US dollars per million input and output tokens
    by model; they replace the published prices. `budget`: the most US dollars that all stages of
    the run may spend. `batch`: the filter asks Claude by Message Batches (half the price, up to a
    day) of `batch_size` requests, and polls them every `batch_poll` seconds. `cache`: the file of
    verdicts (default: in P2R_CACHE, or in the user's cache folder). `guidance`: additional text for
    the judge in every request; the prompt cache stores a long one. `request`: additional fields of
    every Messages request.
    """

    model: str = "claude-sonnet-5"
    concurrency: PositiveInt = 64
    timeout: PositiveFloat = 120.0
    call_limit: PositiveFloat = 600.0
    retries: NonNegativeInt = 5
    max_tokens: PositiveInt = 1024
    prices: dict[str, tuple[NonNegativeFloat, NonNegativeFloat]] = Field(default_factory=dict)
    budget: PositiveFloat | None = None
    batch: bool = False
    batch_size: int = Field(10_000, ge=1, le=100_000)
    batch_poll: PositiveFloat = 60.0
    cache: str | None = None
    guidance: str = ""
    request: dict[str, Any] | None = None


class SftSettings(Section):
    """Supervised fine-tuning on the filtered traces.

    `target`: the part of a trace to learn. process: observation, think and answer. agnostic: only
    think and answer, with a prompt for these, as a process-agnostic baseline. `group_by_length`:
    put examples of similar length into a batch, for less padding.
    """

    target: Literal["process", "agnostic"] = "process"
    group_by_length: bool = True
    epochs: PositiveFloat = 1.0
    max_steps: int = -1
    batch_size: PositiveInt = 8
    accumulation: PositiveInt = 2
    learning_rate: NonNegativeFloat = 1e-6
    warmup_steps: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 0.01
    save_steps: PositiveInt = 500


class LengthRanges(Section):
    """The lowest and the highest number of tokens for which a process gets its length reward."""

    perception: Ends = (128, 320)
    reasoning: Ends = (320, 512)

    @field_validator("perception", "reasoning")
    @classmethod
    def _check_order(cls, ends: tuple[int, int]) -> tuple[int, int]:
        if ends[0] > ends[1]:
            raise ValueError("a range is [lowest, highest]")
        return ends


class RlSettings(Section):
    """PA-GRPO (credit=process) or GRPO (credit=outcome), starting from the SFT model.

    `credit`, `normalise`: schemes of `p2r.rewards`. `rewards`: the rewards in use; omit one to
    train without R_P, R_R or R_len. `rollouts`: the engine that samples (vllm: in the trainer's OS
    process, with new weights after every step; vllm-server: at `server.base_url`). `judge_timeout`:
    seconds that a step waits for its verdicts. `judge_retries`: retries after a failure of the
    judge. `max_unknown`: the run stops if a larger share of observations has no verdict.
    `preflight`: number of prompts for a test of the start model before step 1.
    """

    credit: Credit = "process"
    normalise: Literal["sequence", "process"] = "sequence"
    rewards: list[Literal["perception", "reasoning", "length"]] = [
        "perception",
        "reasoning",
        "length",
    ]
    rollouts: Literal["transformers", "vllm", "vllm-server"] = "transformers"
    judge: str | dict[str, Any] = "oracle"
    judge_timeout: float = Field(600.0, gt=0)
    judge_retries: NonNegativeInt = 1
    max_unknown: float = Field(0.5, ge=0, le=1)
    preflight: NonNegativeInt = 4
    steps: PositiveInt = 1000
    prompts_per_step: PositiveInt = 7
    group_size: PositiveInt = 8
    micro_batch: PositiveInt = 8
    learning_rate: NonNegativeFloat = 1e-6
    scheduler: Scheduler = "cosine"
    beta: NonNegativeFloat = 0.04
    epsilon: PositiveFloat = 0.2
    max_tokens: PositiveInt = 768
    temperature: NonNegativeFloat = 1.0
    top_p: Share = 0.95
    max_grad_norm: NonNegativeFloat = 5.0
    weight_decay: NonNegativeFloat = 0.01
    length_ranges: LengthRanges = Field(default_factory=LengthRanges)
    length_bonus: NonNegativeFloat = 0.2
    save_steps: PositiveInt = 100


class TuningSettings(Section):
    """The part of the model that SFT and RL train.

    `lora_rank`: train adapters of this rank and merge them at the end; none: train the weights.
    `freeze_vision`: do not train the vision tower and its merger.
    """

    lora_rank: PositiveInt | None = None
    lora_alpha: PositiveInt = 64
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    freeze_vision: bool = False


class EvalSettings(Section):
    """Evaluation on held-out questions."""

    questions: PositiveInt | None = None
    engine: EngineName = "transformers"
    judge: str | dict[str, Any] = "oracle"
    batch_size: PositiveInt = 8
    temperature: NonNegativeFloat = 0.01
    top_p: Share = 0.001
    max_tokens: PositiveInt = 1024


class PlaygroundSettings(Section):
    """Numbers of questions in the playground's splits, which share no scene."""

    train: NonNegativeInt = 0
    validation: NonNegativeInt = 0
    test: NonNegativeInt = 0


class Recipe(Section):
    """A complete, validated recipe. A run folder keeps it as `recipe.yaml`."""

    name: str
    seed: int = 0
    threads: PositiveInt | None = None
    report_to: Literal["none", "tensorboard", "trackio"] = "none"
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

    @property
    def style(self) -> str:
        """The prompt style of SFT, and therefore of RL and evaluation after it."""
        return self.models.prompt if self.sft.target == "process" else AGNOSTIC[self.models.prompt]

    def to_yaml(self) -> str:
        """Return the complete recipe as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_recipe(name: str | Path = "tiny", overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by name or path and apply `section.key=value` overrides.

    Raises `UserError`.
    """
    path = FOLDER / f"{name}.yaml" if (FOLDER / f"{name}.yaml").is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise UserError(f"no recipe {str(name)!r}: give a YAML file or one of {known}")
    try:
        settings = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path} has no settings: a recipe is a mapping of sections")
    for override in overrides or []:
        _override(settings, override)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise UserError(f"recipe {path}: {_explain(error)}") from error


def _override(settings: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"override {override!r} must have the form section.key=value")
    *sections, last = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise UserError(f"override {override!r}: {section!r} is a value, not a section")
    try:
        settings[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"override {override!r}: {value!r} is not a YAML value") from error


def _explain(error: ValidationError) -> str:
    """Return all faults in one line; for an unknown key, list the known keys."""
    faults = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            section: Any = Recipe
            for part in fault["loc"][:-1]:
                section = section.model_fields[part].annotation
            faults.append(f"unknown key {where!r} (known: {', '.join(section.model_fields)})")
        else:
            faults.append(f"{where}: {fault['msg']} (got {fault['input']!r})")
    return "; ".join(faults)
