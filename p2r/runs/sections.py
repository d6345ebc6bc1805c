"""The sections of a recipe: every key with its type, default and description."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from p2r.files.prompt_file import JUDGE_VARIABLES
from p2r.records import RIGHT_ACCURACY
from p2r.runs.fields import (
    EngineName,
    Section,
    Share,
    recipe_folder,
)
from p2r.runs.plugins import find_plugins
from p2r.runs.styles import AGNOSTIC, read_style, read_template


class Models(Section):
    """Models, each a folder, a hub id, or `playground/NAME` for an embedded one."""

    base: str
    """The model that SFT trains."""
    teacher: str
    """The model that writes the chain-of-thought traces."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Number format of the weights."""
    attention: Literal["auto", "sdpa", "flash_attention_2"] = "auto"
    """Attention of transformers: PyTorch's `sdpa`, or flash attention (auto: flash attention on a
    GPU in bfloat16 if flash-attn is installed, else `sdpa`). Packed rows always use `sdpa`."""
    prompt: str = "full"
    """The prompt: `full` instructions, `brief` (one short line), or a file (see Prompt files)."""
    agnostic_prompt: str | None = None
    """The prompt of process-agnostic models: `think`, `brief-think` or a file (none: the one that
    fits `prompt`)."""

    @field_validator("prompt")
    @classmethod
    def _read_prompt(cls, style: str, info: ValidationInfo) -> str:
        return read_style(style, tuple(AGNOSTIC), recipe_folder(info))

    @field_validator("agnostic_prompt")
    @classmethod
    def _read_agnostic(cls, style: str | None, info: ValidationInfo) -> str | None:
        return style and read_style(style, tuple(AGNOSTIC.values()), recipe_folder(info))


class VideoSettings(Section):
    """Frames of a video or image. A number of pixels is height x width of one frame."""

    train_frames: PositiveInt = 16
    """Most frames per video in generation and training."""
    train_pixels: PositiveInt = 128 * 28 * 28
    """Most pixels per frame in generation and training."""
    eval_frames: PositiveInt = 32
    """Most frames per video in evaluation."""
    eval_pixels: PositiveInt = 256 * 28 * 28
    """Most pixels per frame in evaluation."""
    sampling: Literal["uniform", "adaptive"] = "uniform"
    """Frames evenly over the video, or more of them where much changes. The paper: uniform."""
    eval_change: str = ""
    """Change the frames in evaluation, for example `blur:2` or `FILE.py:NAME`; see
    `p2r.video.changes`. Not for `server.media=file`, which sends the file itself."""
    image_pixels: PositiveInt | None = 256 * 28 * 28
    """Most pixels of an image, in training and evaluation (none: as a frame). The default, 256
    tokens, is that of Video-R1; the paper only states the limit of video frames."""
    factor: PositiveInt = 28
    """Height and width are multiples of this number."""
    timeout: float = 30.0
    """Seconds that decoding one file may take."""
    cache_gb: NonNegativeFloat = 10.0
    """Most GiB of frames that SFT and RL keep on disk for later steps and runs, in P2R_CACHE or the
    user's cache folder. The features of a frozen vision tower may use as much again (0: none)."""


class GenerateSettings(Section):
    """Generation: the teacher writes traces."""

    questions: PositiveInt | None = None
    """Use at most this many questions (none: all)."""
    samples: PositiveInt = 1
    """Traces per question (the paper: 1)."""
    hard_samples: PositiveInt = 4
    """With `--hard`: more traces for each question that has no kept trace."""
    hard_temperature: NonNegativeFloat = 1.0
    """Sampling temperature of those traces."""
    patience: PositiveFloat = 1800.0
    """Seconds without any response after which an engine counts as hung."""
    engine: EngineName = "transformers"
    """Who writes the responses; `server` is any OpenAI-style server."""
    batch_size: PositiveInt = 8
    """Questions per batch."""
    temperature: NonNegativeFloat = 0.0
    """Sampling temperature; 0 is greedy."""
    top_p: Share = 1.0
    """Nucleus sampling: share of probability to sample from."""
    max_tokens: PositiveInt = 1024
    """Most tokens per response."""


class VllmSettings(Section):
    """vLLM, as engine, as `p2r serve`, and for rollouts."""

    tensor_parallel: PositiveInt | Literal["auto"] = "auto"
    """Number of GPUs that share one model (auto: the largest power of two up to the number
    of visible GPUs that divides the attention heads). vLLM inside the trainer always uses 1."""
    memory: float = Field(0.9, gt=0, le=1)
    """Share of a GPU's memory."""
    rollout_memory: float = Field(0.3, gt=0, le=1)
    """Share of a GPU's memory for rollouts while the trainer uses the same GPU."""
    sleep: bool = False
    """Free vLLM's memory while the trainer works (`rl.rollouts: vllm` on a GPU)."""
    weights: Literal["file", "nccl"] = "file"
    """How a server (`rl.rollouts: vllm-server`) gets new weights: through a temporary file that
    trainer and server see, or from GPU to GPU."""
    kv_cache_gb: float | None = Field(None, gt=0)
    """Size of the KV cache in GiB (none: what `memory` leaves; on a CPU: 1)."""
    max_length: PositiveInt | None = None
    """Most tokens of prompt and response (none: what the recipe's videos need)."""
    max_sequences: PositiveInt = 128
    """Most requests at once."""
    eager: bool | None = None
    """Do not compile the model (none: only on a CPU)."""


class ServerSettings(Section):
    """The server of the engine `server`. Its key is OPENAI_API_KEY in the environment."""

    base_url: str = "http://127.0.0.1:8000/v1"
    """Address, with `/v1` at the end."""
    model: str | None = None
    """Name of the model on the server (none: the recipe's)."""
    media: Literal["exact", "images", "file"] = "exact"
    """What is sent: the exact frames (to `p2r serve`), a list of images, or the file."""
    concurrency: PositiveInt = 32
    """Requests at once."""
    timeout: float = Field(600.0, gt=0)
    """Seconds for one request with all its attempts."""
    attempts: PositiveInt = 6
    """Most attempts per request."""
    reasoning: bool = False
    """Use the text in `reasoning_content` if the server returns no other text."""

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
    """Filters beyond the paper, all off by default: see `p2r.pipeline.quality`."""

    model_config = ConfigDict(extra="allow")  # the settings of filters that were added

    leak: bool = False
    """Drop observations that state the answer or quote the think text."""
    language: float | None = Field(None, gt=0, lt=1)
    """Highest share of letters in scripts that the question does not use."""
    length: PositiveFloat | None = None
    """Largest distance of a segment's length from the median of its problem type, in robust
    standard deviations."""
    best_of: bool = False
    """Keep only the best trace of each question."""
    duplicate: float | None = Field(None, gt=0, le=1)
    """Drop a trace whose 5-grams of words overlap a kept trace by this Jaccard index."""
    per_source: PositiveInt | None = None
    """Keep at most so many traces per source."""

    @model_validator(mode="after")
    def _check_filters(self) -> QualitySettings:
        known = find_plugins("pipeline/quality", "find_drops")
        for name in self.model_extra or {}:
            if name not in known:
                raise ValueError(f"unknown key {name!r} (known: {', '.join(known)})")
        return self


class FilterSettings(Section):
    """The filter: right answers with sufficient observations."""

    min_accuracy: float = RIGHT_ACCURACY
    """Lowest score of an answer that counts as right."""
    judge: str | dict[str, Any] = "oracle"
    """Judge of the observations."""
    quality: QualitySettings = Field(default_factory=QualitySettings)


class JudgingSettings(Section):
    """How judges behind a server are asked, in every stage."""

    model: str = "claude-sonnet-5"
    """The model of the judge `claude`."""
    concurrency: PositiveInt = 64
    """Calls at once."""
    timeout: PositiveFloat = 120.0
    """Seconds for one attempt."""
    call_limit: PositiveFloat = 600.0
    """Seconds for one call with all its attempts."""
    retries: NonNegativeInt = 5
    """Attempts after the first."""
    max_tokens: PositiveInt = 1024
    """Most tokens per reply."""
    prices: dict[str, tuple[NonNegativeFloat, NonNegativeFloat]] = Field(default_factory=dict)
    """US dollars per million input and output tokens, by model; they replace published prices."""
    budget: PositiveFloat | None = None
    """Most US dollars that the run spends, over all stages."""
    batch: bool = False
    """Ask Claude through Message Batches in the filter (half the price, up to a day)."""
    batch_size: int = Field(10_000, ge=1, le=100_000)
    """Requests per batch."""
    batch_poll: PositiveFloat = 60.0
    """Seconds between two status requests for a batch."""
    cache: str | None = None
    """File of the cached verdicts (none: P2R_CACHE, or the user's cache folder)."""
    guidance: str = ""
    """More instructions to the judge, the same in every request."""
    prompt: str = ""
    """A file with the judge's prompt, see Prompt files (none: the built-in prompt)."""
    request: dict[str, Any] | None = None
    """More fields for every Messages request."""

    @field_validator("prompt")
    @classmethod
    def _read_prompt(cls, file: str, info: ValidationInfo) -> str:
        needed = ("problem", "answer", "observation")
        return file and read_template(file, JUDGE_VARIABLES, needed, (), recipe_folder(info))


class SftSettings(Section):
    """Supervised fine-tuning on the kept traces."""

    target: Literal["process", "agnostic"] = "process"
    """Learn the whole trace, or (agnostic) only think and answer, as a process-agnostic
    baseline."""
    group_by_length: bool = True
    """Put examples of similar length into one batch, for less padding."""
    epochs: PositiveFloat = 1.0
    """Passes over the kept traces."""
    max_steps: int = -1
    """Most steps (-1: no limit)."""
    global_batch: PositiveInt | None = None
    """Examples per optimiser step on all GPUs together; replaces `accumulation` (none: `batch_size`
    x `accumulation` x the number of GPUs)."""
    batch_size: PositiveInt = 8
    """Examples per forward pass of each GPU."""
    accumulation: PositiveInt = 2
    """Forward passes per step, if `global_batch` is none."""
    token_budget: PositiveInt | None = None
    """Most tokens per forward pass of each GPU. The examples of a step are then packed without
    padding into as few passes as possible; the result is the same (none: `batch_size` examples per
    pass, padded)."""
    learning_rate: NonNegativeFloat = 1e-6
    """Highest learning rate."""
    warmup_steps: NonNegativeInt = 0
    """Steps until the learning rate is at its highest."""
    max_grad_norm: NonNegativeFloat = 5.0
    """Gradients are clipped to this norm (5 as in Video-R1)."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of AdamW (0 as in Video-R1)."""
    save_steps: PositiveInt = 500
    """Steps between two checkpoints; see `keep`."""
    liger: bool = False
    """Use Liger's kernels, which need less memory (a GPU and liger-kernel)."""


class TuningSettings(Section):
    """Which weights SFT and RL train."""

    lora_rank: PositiveInt | None = None
    """Train LoRA adapters of this rank and merge them at the end (none: train the weights)."""
    lora_alpha: PositiveInt = 64
    """Scale of the adapters."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of the adapters in SFT. RL has none: it samples and scores with the same weights."""
    freeze_vision: bool = False
    """Do not train the vision tower and its merger."""
    quantise: Literal["4bit", "8bit"] | None = None
    """Load the frozen weights under the adapters with 4 or 8 bits (QLoRA; needs bitsandbytes)."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """The optimiser. 8 bits need a quarter of the memory for its states (bitsandbytes); `paged`
    moves them to main memory if the GPU is full."""

    @model_validator(mode="after")
    def _check_adapters(self) -> TuningSettings:
        if self.quantise and self.lora_rank is None:
            raise ValueError("quantised weights cannot be trained: set tuning.lora_rank too")
        return self


class EvalSettings(Section):
    """Evaluation on held-out questions."""

    questions: PositiveInt | None = None
    """Use at most this many questions (none: all)."""
    engine: EngineName = "transformers"
    """Who writes the responses; `server` is any OpenAI-style server."""
    judge: str | dict[str, Any] = "oracle"
    """Judge of the observations."""
    batch_size: PositiveInt = 8
    """Questions per batch."""
    temperature: NonNegativeFloat = 0.01
    """Sampling temperature; 0 is greedy."""
    top_p: Share = 0.001
    """Nucleus sampling: share of probability to sample from."""
    max_tokens: PositiveInt = 1024
    """Most tokens per response."""
