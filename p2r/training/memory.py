"""How large a model is and how much memory its training takes: arithmetic, without weights.

Sizes are read from a model's `config.json`. Parameter counts are exact. Weights, gradients and
optimiser states follow from them exactly; activations and rollouts are estimates, whose formulas
stand in the docstrings. All sizes are bytes on one GPU unless another unit is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

Sharding = Literal["none", "zero3", "fsdp2"]
Sampler = Literal["transformers", "vllm", "vllm-server"]
GIB = 2**30
CARDS = (24, 80)  # GiB of the cards that presets are for
USABLE = 0.9  # of a card: the rest is CUDA's context and fragmentation

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
# From the config.json of the models at huggingface.co/Qwen, what sizes depend on.
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
}


@dataclass(frozen=True)
class Architecture:
    """The sizes of a Qwen2.5-VL; `kv` is the width of all key heads together."""

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

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Architecture:
        """From a `config.json`, with the decoder's sizes in `text_config` or beside it."""
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
        )

    @property
    def factor(self) -> int:
        """Pixels of a side that make one visual token."""
        return self.patch * self.merge


# ---- tokens


def vision_tokens(model: Architecture, frames: int, height: int, width: int) -> int:
    """Tokens of a video: ceil(frames / temporal patch) · (height · width) / (patch · merge)².

    As Qwen2.5-VL's processor counts them; both sides are multiples of `model.factor`.
    """
    return ceil(frames / model.temporal_patch) * (height * width // model.factor**2)


def most_vision_tokens(model: Architecture, frames: int, pixels: int) -> int:
    """The tokens of the largest frames that a limit of pixels allows, of whatever proportions."""
    return ceil(frames / model.temporal_patch) * (pixels // model.factor**2)


# ---- parameters


def count_parameters(model: Architecture) -> dict[str, int]:
    """Parameters by part: "embeddings", "decoder", "vision"; exact.

    With hidden size h, key width k, MLP width i, vocabulary V, vision sizes v and w, merge m:
    - embeddings: V·h, twice where the LM head is not tied to them;
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
    """Parameters of LoRA: rank · (inputs + outputs) of every linear layer; exact.

    Those of the decoder and, unless it is frozen, of the vision tower and its merger; neither
    embeddings nor LM head.
    """
    h, i, k = model.hidden, model.intermediate, model.kv
    v, w = model.vision_hidden, model.vision_intermediate
    layer = 2 * (h + h) + 2 * (h + k) + 3 * (h + i)
    block = (v + 3 * v) + (v + v) + 3 * (v + w)
    merged = model.merge**2 * v
    vision = 0 if freeze_vision else model.vision_layers * block + 3 * merged + h
    return rank * (model.layers * layer + vision)


def count_trained(model: Architecture, rank: int | None, freeze_vision: bool) -> int:
    """Parameters that are trained: the adapters', or all but a frozen vision tower's."""
    if rank is not None:
        return count_adapters(model, rank, freeze_vision)
    counts = count_parameters(model)
    return sum(counts.values()) - (counts["vision"] if freeze_vision else 0)


# ---- memory


@dataclass(frozen=True)
class Load:
    """What one GPU of a training works on.

    `wide` is the bytes of a value in the forward pass: 2 in bfloat16, 4 in float32. Token counts
    are per sequence; `patches` are those of the vision tower, merge² per visual token. `prompts` is
    how many distinct prompts its `rollouts` have, `recompute` whether gradient checkpointing is on.
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
    """Bytes on one GPU by part: weights, gradients, optimiser, reference, copies, activations,
    rollouts; and vllm, where it samples in the same process (rollouts is then 0, as it is where a
    server elsewhere samples).
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
    """The most that is held at once: a step samples first and trains then, so of activations and
    rollouts only the larger counts; all else is counted throughout. (Of an update of a single
    micro-batch that is too much: its gradients come as its activations go.)
    """
    phases = ("activations", "rollouts")
    held = sum(size for part, size in parts.items() if part not in phases)
    return held + max(parts[phase] for phase in phases)


def fits(parts: Mapping[str, int], card: int, vllm_share: float = 0.0) -> bool:
    """Whether a card of so many GiB has room for it, with a tenth to spare.

    vLLM in the process takes `vllm_share` of the card, and what it needs must fit into that.
    """
    needed = parts.get("vllm", 0)
    share = vllm_share * card * GIB if needed else 0
    return needed <= share and peak_memory(parts) - needed + share <= USABLE * card * GIB


def state_memory(model: Architecture, load: Load) -> dict[str, int]:
    """Weights, gradients, AdamW states and the reference model, for P parameters, T of them
    trained, n GPUs that share them (n = 1 without sharding); exact for float32 on one device.

    | training        | weights    | gradients | optimiser | reference |
    |-----------------|------------|-----------|-----------|-----------|
    | all, none/FSDP2 | 4P/n       | 4T/n      | 8T/n      | 4P/n      |
    | all, ZeRO-3     | wP/n       | wT/n      | 12T/n     | wP/n      |
    | LoRA, none      | wP + 4T    | 4T        | 8T        | 0         |
    | LoRA, ZeRO-3    | w(P + T)/n | wT/n      | 12T/n     | 0         |

    w: bytes of the recipe's dtype. Trained weights are float32 (in bfloat16 an update of 1e-6 is
    lost in rounding); DeepSpeed keeps float32 masters beside its moments instead: 12, not 8 (8
    where w is 4). The reference is the model without its adapters, or is not needed at all.
    """
    total = sum(count_parameters(model).values())
    trained = count_trained(model, load.lora_rank, load.freeze_vision)
    adapted = load.lora_rank is not None
    shared = 1 if load.sharding == "none" else load.gpus
    deepspeed = load.sharding == "zero3"
    each = load.wide if deepspeed else 4  # bytes of a trained weight and of its gradient
    kept = load.wide if deepspeed or adapted else 4  # bytes of a weight under adapters, or of all
    masters = 4 if deepspeed and load.wide < 4 else 0
    return {
        "weights": (kept * total + (each * trained if adapted else 0)) // shared,
        "gradients": each * trained // shared,
        "optimiser": (8 + masters) * trained // shared,
        "reference": kept * total // shared if load.reference and not adapted else 0,
    }


def copies_memory(model: Architecture, load: Load) -> int:
    """Weights held a second time while a layer uses them.

    - none: autocast's bfloat16 copies of trained float32 weights, 2T; and with more than one GPU
      the buckets in which DDP sums gradients, 4T;
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
    casts = 2 * trained if load.wide < 4 else 0
    return casts + (4 * trained if load.gpus > 1 else 0)


def layer_memory(
    tokens: int, hidden: int, intermediate: int, kv: int, wide: int, adapted: bool = False
) -> int:
    """What one transformer layer keeps for its backward pass: t · (4·n·h + w·(c·h + 2k + 4i)).

    In the dtype of the forward pass c inputs of linear layers and attention's queries and output,
    keys and values, and gate, up, activated gate and product of the MLP; in float32 n values of the
    two norms. n = 4, and c = 4 in float32; under autocast every linear layer keeps a copy of its
    input, and c = 7. With adapters on frozen weights n = 2 and c = 5. k is the width of keys and
    values as attention takes them: h where a mask of padding makes it repeat them for all heads.
    Attention itself keeps no matrix but that mask (SDPA; see `attention_memory`). Within a fifth of
    what PyTorch keeps for layers of the playground's model.
    """
    norms = 2 if adapted else 4
    inputs = 5 if adapted else 4 if wide == 4 else 7
    return tokens * (4 * norms * hidden + wide * (inputs * hidden + 2 * kv + 4 * intermediate))


def attention_memory(model: Architecture, load: Load) -> int:
    """What one decoder layer keeps because a micro-batch's rows are padded and share prompts.

    The mask of padding, queries · keys of every row, w bytes each: r · (p + c)² for r rollouts of p
    prompt and c completion tokens. Where each of u distinct prompts is computed once, u · p² +
    r · c · (p + c), and every rollout keeps its prompt's keys and values again: r · p · 2h.
    """
    rows, prompt = load.micro_batch, load.prompt_tokens
    length = prompt + load.completion_tokens
    if load.recompute:
        return load.wide * rows * length**2
    masks = min(rows, load.prompts) * prompt**2 + rows * load.completion_tokens * length
    return load.wide * (masks + rows * prompt * 2 * model.hidden)


def activation_memory(model: Architecture, load: Load) -> int:
    """What a micro-batch's forward pass keeps for the backward pass.

    With gradient checkpointing each layer keeps its input, t·h values, and one layer at a time is
    computed again (`layer_memory`, `attention_memory`); without it every layer keeps all, prompts
    are shared, and while the pass lasts their cache is held, r · (p + c) · layers · 2k. The last
    norm keeps 8·t·h, with adapters 4·t·h. The vision tower, on its p patches, likewise, and its
    merger p·v·(8 + 3w), with adapters p·v·(4 + 3w); frozen, it keeps nothing. The LM head is
    computed in tiles of at most 4,096 tokens × 32,768 words in float32, never all logits, and where
    it is trained its gradient is summed in float32, 4·V·h. Within a fifth of what PyTorch keeps for
    a pass of the playground's model.
    """
    # Without gradient checkpointing a prompt is computed once for all of its rollouts.
    prompts = load.micro_batch if load.recompute else min(load.micro_batch, load.prompts)
    tokens = prompts * load.prompt_tokens + load.micro_batch * load.completion_tokens
    patches = prompts * load.patches
    adapted = load.lora_rank is not None
    norm = 4 if adapted else 8
    stream = load.wide if adapted or load.sharding == "zero3" else 4  # the residual stream's
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
    """Keys and values of whole sequences in all layers: r · (p + c) · layers · 2k, of w bytes."""
    length = load.prompt_tokens + load.completion_tokens
    return rows * length * model.layers * 2 * model.kv * load.wide


def rollout_memory(model: Architecture, load: Load) -> int:
    """What sampling holds: the cache (`cache_memory`); the samplers' view of the words, r · V · 20
    (float32 logits, sorted copies, places, shares); one layer on all distinct prompts, u · prompt ·
    (w·(2h + 3i) + 4·2h); under ZeRO-3 the gathered weights, wP.
    """
    cache = cache_memory(model, load, load.rollouts)
    words = load.rollouts * model.vocabulary * 20
    per_token = load.wide * (2 * model.hidden + 3 * model.intermediate) + 4 * 2 * model.hidden
    gathered = 0
    if load.sharding == "zero3":
        gathered = load.wide * sum(count_parameters(model).values())
    return cache + words + load.prompts * load.prompt_tokens * per_token + gathered


def vllm_memory(model: Architecture, load: Load) -> int:
    """What vLLM in the trainer's process needs: all weights again, wP, and the cache of its
    rollouts all at once (`cache_memory`; with less room some wait for others). Held throughout.
    """
    weights = load.wide * sum(count_parameters(model).values())
    return weights + cache_memory(model, load, load.rollouts)
