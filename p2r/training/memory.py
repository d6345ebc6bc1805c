"""Computes the size of a model and the memory of its training, without loading weights.

Sizes come from a model's `config.json`. Parameter counts, and the memory of weights, gradients and
optimiser states, are exact. Activations and rollouts are estimates; the docstrings give their
formulas. All sizes are in bytes on one GPU, unless another unit is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

Sharding = Literal["none", "zero2", "zero3", "fsdp2"]
Sampler = Literal["transformers", "vllm", "vllm-server"]
GIB = 2**30
CARDS = (24, 80)  # GiB of the cards that the presets are made for
USABLE = 0.9  # share of a card; CUDA's context and fragmentation need the rest

_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}
# The keys that sizes depend on, from the config.json of the models at huggingface.co/Qwen.
PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "model_type": "qwen2_5_vl",
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": True,
        "vision_config": {**_VISION, "out_hidden_size": 2048},
    },
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "model_type": "qwen2_5_vl",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": False,
        "vision_config": {**_VISION, "out_hidden_size": 3584},
    },
    "Qwen/Qwen2.5-VL-32B-Instruct": {
        "model_type": "qwen2_5_vl",
        "vocab_size": 152064,
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": False,
        "vision_config": {**_VISION, "intermediate_size": 3456, "out_hidden_size": 5120},
    },
    "Qwen/Qwen2.5-VL-72B-Instruct": {
        "model_type": "qwen2_5_vl",
        "vocab_size": 152064,
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": False,
        "vision_config": {**_VISION, "intermediate_size": 3456, "out_hidden_size": 8192},
    },
}


@dataclass(frozen=True)
class Architecture:
    """The sizes of a Qwen2.5-VL; `kv` is the total width of all key heads."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    kv: int
    tied: bool
    positions: int
    vision_hidden: int
    vision_intermediate: int
    vision_layers: int
    patch: int
    merge: int
    temporal_patch: int
    channels: int
    heads: int = 1

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Architecture:
        """Read the sizes from a `config.json`; `text_config` may hold those of the decoder."""
        text = config.get("text_config", config)
        vision = config["vision_config"]
        head = text["hidden_size"] // text["num_attention_heads"]
        return cls(
            vocabulary=text["vocab_size"],
            hidden=text["hidden_size"],
            intermediate=text["intermediate_size"],
            layers=text["num_hidden_layers"],
            kv=head * text["num_key_value_heads"],
            tied=config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)),
            positions=text["max_position_embeddings"],
            vision_hidden=vision["hidden_size"],
            vision_intermediate=vision["intermediate_size"],
            vision_layers=vision["depth"],
            patch=vision["patch_size"],
            merge=vision["spatial_merge_size"],
            temporal_patch=vision["temporal_patch_size"],
            channels=vision.get("in_channels", vision.get("in_chans", 3)),
            heads=text["num_attention_heads"],
        )

    @property
    def factor(self) -> int:
        """The side length, in pixels, of the block behind one vision token."""
        return self.patch * self.merge


# ---- tokens


def vision_tokens(model: Architecture, frames: int, height: int, width: int) -> int:
    """Return the tokens of a video: ⌈frames / temporal patch⌉ · height · width / (patch · merge)².

    Qwen2.5-VL's processor gives the same count. Height and width are multiples of `model.factor`.
    """
    return ceil(frames / model.temporal_patch) * (height * width // model.factor**2)


def most_vision_tokens(model: Architecture, frames: int, pixels: int) -> int:
    """Return the most tokens that frames of at most `pixels` pixels can have, in any shape."""
    return ceil(frames / model.temporal_patch) * (pixels // model.factor**2)


# ---- parameters


def count_parameters(model: Architecture) -> dict[str, int]:
    """Count parameters by part: "embeddings", "decoder", "vision"; exact.

    With hidden size h, key width k, MLP width i, vocabulary V, vision sizes v and w, merge m:
    - embeddings: V·h, twice if the LM head has its own weights;
    - decoder layer: q, k, v with biases (h + 2k)(h + 1), o h², MLP 3·h·i, norms 2h; one norm h;
    - vision block: qkv and proj 4·v·(v + 1), MLP 2·w·(v + 1) + v·(w + 1), norms 2v; patch
      embedding channels · temporal · patch² · v; merger v + M·(M + 1) + h·(M + 1), M = m²·v.
    """
    h, i, k = model.hidden, model.intermediate, model.kv
    v, w = model.vision_hidden, model.vision_intermediate
    layer = (h + 2 * k) * (h + 1) + h * h + 3 * h * i + 2 * h
    block = 4 * v * (v + 1) + 2 * w * (v + 1) + v * (w + 1) + 2 * v
    merged = model.merge**2 * v
    patches = model.channels * model.temporal_patch * model.patch**2 * v
    return {
        "embeddings": model.vocabulary * h * (1 if model.tied else 2),
        "decoder": model.layers * layer + h,
        "vision": model.vision_layers * block + patches + v + (merged + h) * (merged + 1),
    }


def count_adapters(model: Architecture, rank: int, freeze_vision: bool) -> int:
    """Count LoRA's parameters: rank · (inputs + outputs) of every adapted linear layer; exact.

    Adapters are on the decoder and, unless it is frozen, on the vision tower and its merger. The
    embeddings and the LM head have none.
    """
    h, i, k = model.hidden, model.intermediate, model.kv
    v, w = model.vision_hidden, model.vision_intermediate
    layer = 2 * (h + h) + 2 * (h + k) + 3 * (h + i)
    block = (v + 3 * v) + (v + v) + 3 * (v + w)
    merged = model.merge**2 * v
    vision = 0 if freeze_vision else model.vision_layers * block + 3 * merged + h
    return rank * (model.layers * layer + vision)


def count_trained(model: Architecture, rank: int | None, freeze_vision: bool) -> int:
    """Count trained parameters: the adapters, or all except a frozen vision tower."""
    if rank is not None:
        return count_adapters(model, rank, freeze_vision)
    counts = count_parameters(model)
    return sum(counts.values()) - (counts["vision"] if freeze_vision else 0)


# ---- memory


@dataclass(frozen=True)
class Load:
    """The work of one GPU in a training.

    `wide` is the size of a value in the forward pass: 2 bytes in bfloat16, 4 in float32. Token
    counts are per sequence. `patches` counts the patches of the vision tower, merge² per vision
    token. `prompts` counts the distinct prompts of its `rollouts`. `recompute` tells whether
    gradient checkpointing is on.
    """

    sharding: Sharding
    gpus: int
    wide: int
    lora_rank: int | None
    freeze_vision: bool
    reference: bool
    recompute: bool
    micro_batch: int
    rollouts: int
    prompts: int
    prompt_tokens: int
    completion_tokens: int
    patches: int
    sampler: Sampler = "transformers"


def estimate_memory(model: Architecture, load: Load) -> dict[str, int]:
    """Return bytes on one GPU by part.

    The parts: weights, gradients, optimiser, reference, copies, activations, rollouts. If vLLM runs
    inside the trainer, there is also "vllm". With vLLM, here or at a server, rollouts is 0.
    """
    here = load.sampler == "transformers"
    parts = {
        **state_memory(model, load),
        "copies": copies_memory(model, load),
        "activations": activation_memory(model, load),
        "rollouts": rollout_memory(model, load) if here else 0,
    }
    if load.sampler == "vllm":
        parts["vllm"] = vllm_memory(model, load)
    return parts


def peak_memory(parts: Mapping[str, int]) -> int:
    """Return the peak of the memory by part.

    A step first samples and then trains, so only the larger of activations and rollouts counts. All
    other parts are held all the time. (This is too high for an update of one micro-batch, whose
    gradients appear while its activations are freed.)
    """
    phases = ("activations", "rollouts")
    held = sum(size for part, size in parts.items() if part not in phases)
    return held + max(parts[phase] for phase in phases)


def fits(parts: Mapping[str, int], card: int, vllm_share: float = 0.0) -> bool:
    """Return whether the parts fit a card of `card` GiB with a tenth of it left free.

    vLLM inside the trainer takes `vllm_share` of the card, and its part must fit into that share.
    """
    needed = parts.get("vllm", 0)
    share = vllm_share * card * GIB if needed else 0
    return needed <= share and peak_memory(parts) - needed + share <= USABLE * card * GIB


def state_memory(model: Architecture, load: Load) -> dict[str, int]:
    """Return bytes of weights, gradients, AdamW states and the reference model.

    With P parameters, T of them trained, and n GPUs that share them (n = 1 without sharding). The
    result is exact for float32 on one device.

    | training        | weights    | gradients | optimiser | reference |
    |-----------------|------------|-----------|-----------|-----------|
    | all, none/FSDP2 | 4P/n       | 4T/n      | 8T/n      | 4P/n      |
    | all, ZeRO-2     | wP         | wT/n      | 12T/n     | wP        |
    | all, ZeRO-3     | wP/n       | wT/n      | 12T/n     | wP/n      |
    | LoRA, none      | wP + 4T    | 4T        | 8T        | 0         |
    | LoRA, ZeRO-2    | w(P + T)   | wT/n      | 12T/n     | 0         |
    | LoRA, ZeRO-3    | w(P + T)/n | wT/n      | 12T/n     | 0         |

    w is the size of a value in the recipe's dtype. Trained weights are float32, because rounding in
    bfloat16 would lose an update of 1e-6. DeepSpeed instead keeps float32 copies beside its
    moments: 12 bytes, not 8 (8 if w is 4). With adapters, the reference is the model without its
    adapters.
    """
    total = sum(count_parameters(model).values())
    trained = count_trained(model, load.lora_rank, load.freeze_vision)
    adapted = load.lora_rank is not None
    shared = 1 if load.sharding == "none" else load.gpus
    whole = 1 if load.sharding == "zero2" else shared  # how many GPUs share the weights
    deepspeed = load.sharding in ("zero2", "zero3")
    each = load.wide if deepspeed else 4  # bytes of a trained weight and of its gradient
    kept = load.wide if deepspeed or adapted else 4  # bytes of a weight under adapters, or of all
    masters = 4 if deepspeed and load.wide < 4 else 0
    return {
        "weights": (kept * total + (each * trained if adapted else 0)) // whole,
        "gradients": each * trained // shared,
        "optimiser": (8 + masters) * trained // shared,
        "reference": kept * total // whole if load.reference and not adapted else 0,
    }


def copies_memory(model: Architecture, load: Load) -> int:
    """Return bytes of temporary copies of weights.

    - none: autocast's bfloat16 copies of trained float32 weights, 2T; and with more than one GPU
      the buckets in which DDP sums gradients, 4T;
    - ZeRO-2: the bucket in which gradients are summed, w · min(T, 5e8) (`reduce_bucket_size`);
    - ZeRO-3: gathered weights, w · min(P, 1e9) (`stage3_max_live_parameters`);
    - FSDP2: two gathered layers, w each, and the LM head whole in float32, 4·V·h.
    """
    counts = count_parameters(model)
    trained = count_trained(model, load.lora_rank, load.freeze_vision)
    if load.sharding == "zero3":
        return load.wide * min(sum(counts.values()), 10**9)
    if load.sharding == "fsdp2":
        layers = 2 * load.wide * counts["decoder"] // model.layers
        return layers + 4 * model.vocabulary * model.hidden
    if load.sharding == "zero2":
        return load.wide * min(trained, 5 * 10**8)
    casts = 2 * trained if load.wide < 4 else 0
    return casts + (4 * trained if load.gpus > 1 else 0)


def layer_memory(
    tokens: int, hidden: int, intermediate: int, kv: int, wide: int, adapted: bool = False
) -> int:
    """Return what one layer keeps for its backward pass: t · (4·n·h + w·(c·h + 2k + 4i)).

    In the dtype of the forward pass, a layer keeps c values of width h (inputs of linear layers,
    queries and output of attention), keys and values (2k), and four values of the MLP (gate, up,
    activated gate, product). In float32 it keeps n values of the two norms. Without adapters n = 4;
    c = 4 in float32 and c = 7 under autocast, where every linear layer keeps a copy of its input.
    With adapters on frozen weights n = 2 and c = 5. k is the width of the keys in attention. It is
    h if a padding mask makes attention repeat the keys for all heads. Attention (SDPA) keeps no
    other matrix than this mask, see `attention_memory`. The result is within a fifth of what
    PyTorch keeps for layers of the playground's model.
    """
    norms = 2 if adapted else 4
    inputs = 5 if adapted else 4 if wide == 4 else 7
    return tokens * (4 * norms * hidden + wide * (inputs * hidden + 2 * kv + 4 * intermediate))


def attention_memory(model: Architecture, load: Load) -> int:
    """Return what one decoder layer keeps for padding and shared prompts.

    The padding mask has w bytes for each query and key of every row: r · (p + c)² for r rollouts of
    p prompt and c completion tokens. With u shared prompts it is u · p² + r · c · (p + c), and
    every rollout keeps its own copy of its prompt's keys and values: r · p · 2h.
    """
    rows, prompt = load.micro_batch, load.prompt_tokens
    length = prompt + load.completion_tokens
    if load.recompute:
        return load.wide * rows * length**2
    masks = min(rows, load.prompts) * prompt**2 + rows * load.completion_tokens * length
    return load.wide * (masks + rows * prompt * 2 * model.hidden)


def activation_memory(model: Architecture, load: Load) -> int:
    """Return what the forward pass of a micro-batch keeps for the backward pass.

    With gradient checkpointing each layer keeps only its input, t·h values, and the backward pass
    computes one layer at a time again (`layer_memory`, `attention_memory`). Without checkpointing
    each layer keeps everything, and prompts are shared; during the pass their cache takes
    r · (p + c) · layers · 2k. The last norm keeps 8·t·h, with adapters 4·t·h.

    The vision tower keeps the same for its p patches, and its merger p·v·(8 + 3w), with adapters
    p·v·(4 + 3w). A frozen tower keeps nothing. The LM head computes tiles of at most 4,096 tokens ×
    32,768 words in float32. If it is trained, its gradient is summed in float32, 4·V·h. The result
    is within a fifth of what PyTorch keeps for a pass of the playground's model.
    """
    # Without gradient checkpointing a prompt is computed once for all its rollouts.
    prompts = load.micro_batch if load.recompute else min(load.micro_batch, load.prompts)
    tokens = prompts * load.prompt_tokens + load.micro_batch * load.completion_tokens
    patches = prompts * load.patches
    adapted = load.lora_rank is not None
    norm = 4 if adapted else 8
    deepspeed = load.sharding in ("zero2", "zero3")
    stream = load.wide if adapted or deepspeed else 4  # the residual stream's
    hidden, width = model.hidden, model.vision_hidden
    layer = layer_memory(tokens, hidden, model.intermediate, hidden, load.wide, adapted)
    layer += attention_memory(model, load)
    block = layer_memory(patches, width, model.vision_intermediate, width, load.wide, adapted)
    merger = patches * width * (norm + 3 * load.wide)
    if load.freeze_vision:
        seen = 0
    elif load.recompute:
        seen = model.vision_layers * patches * width * stream + merger
    else:
        seen = model.vision_layers * block + merger
    each = tokens * hidden * stream if load.recompute else layer
    read = model.layers * each + norm * tokens * hidden
    scored = min(load.micro_batch * load.completion_tokens, 4096)
    head = 4 * scored * min(model.vocabulary, 32768)
    if not adapted:
        head += 4 * model.vocabulary * hidden
    again = max(layer, block) if load.recompute else cache_memory(model, load, load.micro_batch)
    return read + seen + head + again


def cache_memory(model: Architecture, load: Load, rows: int) -> int:
    """Return bytes of all keys and values of whole sequences: w · r · (p + c) · layers · 2k."""
    length = load.prompt_tokens + load.completion_tokens
    return rows * length * model.layers * 2 * model.kv * load.wide


def rollout_memory(model: Architecture, load: Load) -> int:
    """Return what sampling holds, as the sum of:

    - the cache (`cache_memory`);
    - the arrays over the vocabulary (float32 logits, sorted copies, indices, probabilities):
      r · V · 20;
    - one layer on all u distinct prompts: u · prompt · (w·(2h + 3i) + 4·2h);
    - with ZeRO-3, the gathered weights: wP.
    """
    cache = cache_memory(model, load, load.rollouts)
    words = load.rollouts * model.vocabulary * 20
    per_token = load.wide * (2 * model.hidden + 3 * model.intermediate) + 4 * 2 * model.hidden
    gathered = 0
    if load.sharding == "zero3":
        gathered = load.wide * sum(count_parameters(model).values())
    return cache + words + load.prompts * load.prompt_tokens * per_token + gathered


def vllm_memory(model: Architecture, load: Load) -> int:
    """Return what vLLM inside the trainer needs: its own copy of all weights, wP, and the cache.

    The cache holds all rollouts at once (`cache_memory`). With less memory, some rollouts wait for
    others. vLLM holds this memory all the time.
    """
    weights = load.wide * sum(count_parameters(model).values())
    return weights + cache_memory(model, load, load.rollouts)
