"""Recipes: the dial. One YAML file sets sizes, models and engines; the code path stays the same.

A recipe is read by name (`tiny`, `3b`, `7b`: files in `p2r/runs/recipes/`) or from a path, and single
values are overridden as `section.key=value`. A misspelt key is an error that names the keys there
are.
"""

from __future__ import annotations

from p2r.errors import UserError
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

FOLDER = Path(__file__).parent / "recipes"
Credit = Literal["process", "shared", "outcome", "decoupled"]
AGNOSTIC = {"full": "think", "brief": "brief-think"}  # prompt styles without an observation
EngineName = Literal["transformers", "vllm", "server"]
Scheduler = Literal["cosine", "linear", "constant", "cosine_with_restarts", "polynomial"]
Share = Annotated[float, Field(gt=0, le=1)]
Ends = tuple[NonNegativeInt, NonNegativeInt]


class Section(BaseModel):
    """Base of all sections: a misspelt key is refused."""

    model_config = ConfigDict(extra="forbid")


class Models(Section):
    """Where the models are: a folder, a hub id, or `playground/NAME` for the embedded ones."""

    base: str
    teacher: str
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    prompt: Literal["full", "brief"] = "full"


class VideoSettings(Section):
    """Frames the model sees, in training and at inference (pixels: height x width of one frame)."""

    train_frames: PositiveInt = 16
    train_pixels: PositiveInt = 128 * 28 * 28
    eval_frames: PositiveInt = 32
    eval_pixels: PositiveInt = 256 * 28 * 28
    factor: PositiveInt = 28
    timeout: float = 30.0


class GenerateSettings(Section):
    """Step 1 of the CoT pipeline: the teacher writes traces of each question (the paper: one).

    `hard_samples`, at `hard_temperature`: further traces of questions of which the filter kept none
    (`p2r generate --hard`). `patience`: seconds without any answer after which an engine is taken
    for hung. `engine`: transformers; vllm (`VllmSettings`); server, any OpenAI-style one
    (`ServerSettings`).
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
    """How vLLM is run: by the engine vllm, by `p2r serve`, and for rollouts.

    `memory`: its share of a GPU, `rollout_memory`: beside a trainer; `kv_cache_gb`: the KV cache in
    GiB (none: what `memory` leaves, on a CPU 1); `max_length`: of prompt and response (none: what
    the recipe's videos need); `eager`: without compiling (none: on a CPU only).
    """

    tensor_parallel: PositiveInt = 1
    memory: float = Field(0.9, gt=0, le=1)
    rollout_memory: float = Field(0.3, gt=0, le=1)
    kv_cache_gb: float | None = Field(None, gt=0)
    max_length: PositiveInt | None = None
    max_sequences: PositiveInt = 128
    eager: bool | None = None


class ServerSettings(Section):
    """The OpenAI-style server of the engine server; its key is OPENAI_API_KEY in the environment.

    `model`: its name there (none: the recipe's). `media`: exact sends the very frames, to a server
    that `p2r serve` started; images sends a video as a list of pictures; file sends the file.
    `timeout`: seconds for a request, all its `attempts` and the waits between them together.
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
            raise ValueError("a server's address is http://HOST:PORT/v1 or https://…")
        if parts.username or parts.password:
            raise ValueError("no keys in an address: set OPENAI_API_KEY in the environment")
        return url.rstrip("/")


class QualitySettings(Section):
    """Filters beyond the paper, each off by default; how they work: `p2r.pipeline.quality`.

    `leak`: drop observations that state the answer or quote the think text. `language`: highest
    share of letters of a script that the question has none of. `length`: furthest a segment's
    length may lie from its problem type's median, in robust standard deviations. `best_of`: keep
    the best trace of each question only. `duplicate`: drop a trace whose words' 5-grams overlap
    those of a kept one by this Jaccard index. `per_source`: keep at most so many traces of a
    source.
    """

    leak: bool = False
    language: float | None = Field(None, gt=0, lt=1)
    length: PositiveFloat | None = None
    best_of: bool = False
    duplicate: float | None = Field(None, gt=0, le=1)
    per_source: PositiveInt | None = None


class FilterSettings(Section):
    """Steps 2 and 3: the answer scores at least `min_accuracy`, the judge finds the observation
    sufficient. `quality`: filters beyond the paper.
    """

    min_accuracy: float = 0.6
    judge: str | dict[str, Any] = "oracle"
    quality: QualitySettings = Field(default_factory=QualitySettings)


class JudgingSettings(Section):
    """How judges behind a server are asked, whichever stage asks them.

    `model`: Claude's, where the judge is just "claude". Limits: calls at once, seconds of one
    attempt, seconds of a call with all its attempts, attempts after the first, tokens of a reply.
    `prices`: US dollars per million input and output tokens by model, before those published.
    `budget`: US dollars that the run spends at most, over all its stages. `batch`: the filter asks
    Claude through Message Batches (half price, up to a day), of `batch_size` requests, looked after
    every `batch_poll` seconds. `cache`: the file of verdicts (default: P2R_CACHE, or the user's
    cache folder). `guidance`: further words to the judge, the same in every request; from some
    length on the prompt cache takes them. `request`: further fields of every Messages request.
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

    `target`: what is learnt of a trace: observation, think and answer (process), or think and
    answer alone under the prompt that asks for those (agnostic), for process-agnostic baselines.
    `group_by_length`: batches of examples of like length, for less padding.
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
    """Lengths in tokens that earn a process its length reward: the lowest and the highest."""

    perception: Ends = (128, 320)
    reasoning: Ends = (320, 512)

    @field_validator("perception", "reasoning")
    @classmethod
    def _check_order(cls, ends: tuple[int, int]) -> tuple[int, int]:
        if ends[0] > ends[1]:
            raise ValueError("a range is [lowest, highest]")
        return ends


class RlSettings(Section):
    """PA-GRPO (credit=process) or GRPO (credit=outcome) from the SFT model.

    `credit`, `normalise`: schemes of `p2r.rewards`. `rewards`: those that count; leave one out for
    a run without R_P, R_R or R_len. `rollouts`: who samples (vllm: in this process, with the new
    weights after every step; vllm-server: at `server.base_url`). `judge_timeout`: the seconds a
    step waits for its verdicts. `judge_retries`: how often the judge is asked again where it
    failed. `max_unknown`: the share of observations without a verdict that a run goes on with.
    `preflight`: the prompts that the start model is tried on before step 1.
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
    """What of the model SFT and RL train.

    `lora_rank`: train adapters of this rank and merge them at the end; none: the weights
    themselves. `freeze_vision`: leave the vision tower, merger included, as it is.
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
    """Sizes of the synthetic world's splits (scenes are disjoint by seed)."""

    train: NonNegativeInt = 0
    validation: NonNegativeInt = 0
    test: NonNegativeInt = 0


class Recipe(Section):
    """The whole dial, resolved. A run folder keeps it as `recipe.yaml`."""

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
        """The prompt style of what SFT teaches, and so of RL and evaluation after it."""
        return self.models.prompt if self.sft.target == "process" else AGNOSTIC[self.models.prompt]

    def to_yaml(self) -> str:
        """The resolved recipe as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_recipe(name: str | Path = "tiny", overrides: list[str] | None = None) -> Recipe:
    """Read a recipe by name or path and apply `section.key=value` overrides; raises
    `UserError`.
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
        raise UserError(f"{path} holds no settings: a recipe is a mapping of sections")
    for override in overrides or []:
        _override(settings, override)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise UserError(f"recipe {path}: {_explain(error)}") from error


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


def _explain(error: ValidationError) -> str:
    """One line for all faults; a misspelt key is answered with the keys there are."""
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
