"""Computes the memory of a training, without loading weights.

The memory of weights, gradients and optimiser states is exact. Activations and rollouts are
estimates; the docstrings give their formulas. All sizes are in bytes on one GPU, unless another
unit is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from p2r.families.sizes import Architecture, count_parameters, count_trained

Sharding = Literal["none", "zero2", "zero3", "fsdp2"]
Sampler = Literal["transformers", "vllm", "vllm-server"]
GIB = 2**30
CARDS = (24, 80)  # GiB of the cards that the presets are made for
USABLE = 0.9  # share of a card; CUDA's context and fragmentation need the rest


@dataclass(frozen=True)
class Load:
    """The work of one GPU in a training.

    `wide` is the size of a value in the forward pass: 2 bytes in bfloat16, 4 in float32. Token
    counts are per sequence. `patches` counts the patches of the vision tower, merge² per vision
    token. `prompts` counts the distinct prompts of its `rollouts`. `recompute` tells whether
    gradient checkpointing is on.
    `copies` is 2 if the policy reads each response twice in a pass (PAPO).
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
    copies: int = 1


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


def peak_memory(parts: Mapping[str, int], sleeps: bool = False) -> int:
    """Return the peak memory in bytes, from the memory of each part.

    A step first samples and then trains, so only the larger of activations and rollouts counts. If
    vLLM `sleeps` while the trainer trains, its part counts only while it samples. All other parts
    are held all the time. (This is too high for an update of one micro-batch, whose gradients
    appear while its activations are freed.)
    """
    phases = ("activations", "rollouts", *(["vllm"] if sleeps else []))
    held = sum(size for part, size in parts.items() if part not in phases)
    return held + max(parts.get(phase, 0) for phase in phases)


def fits(
    parts: Mapping[str, int], card: int, vllm_share: float = 0.0, sleeps: bool = False
) -> bool:
    """Return whether the parts fit a card of `card` GiB with a tenth of it left free.

    vLLM inside the trainer takes `vllm_share` of the card, and its part must fit into that share.
    If it `sleeps`, it gives its share back while the trainer trains.
    """
    if "vllm" not in parts:
        return peak_memory(parts) <= USABLE * card * GIB
    share = int(vllm_share * card * GIB)
    taken = peak_memory({**parts, "vllm": share}, sleeps)
    return parts["vllm"] <= share and taken <= USABLE * card * GIB


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
    With adapters on frozen weights n = 2 and c = 5. k is the width of all key heads.
    Attention (SDPA) keeps no other matrix than a mask, see `attention_memory`. The result is within
    a fifth of what PyTorch keeps for layers of the playground's model.
    """
    norms = 2 if adapted else 4
    inputs = 5 if adapted else 4 if wide == 4 else 7
    return tokens * (4 * norms * hidden + wide * (inputs * hidden + 2 * kv + 4 * intermediate))


def decoder_layer_memory(model: Architecture, tokens: int, load: Load) -> int:
    """Return what a decoder layer keeps for `tokens` tokens, see `layer_memory`.

    Queries and the output of attention have the width q of all query heads, not h: 2·(q − h) more.
    Norms of queries and keys keep two values of their width in float32, with adapters one.
    """
    adapted = load.lora_rank is not None
    wide = model.kv + model.queries - model.hidden
    layer = layer_memory(tokens, model.hidden, model.intermediate, wide, load.wide, adapted)
    return layer + tokens * 4 * (1 if adapted else 2) * model.normed


def prompts_of_micro_batch(load: Load) -> int:
    """Return how many distinct prompts a micro-batch has: its rows are in order of their groups."""
    group = -(-load.rollouts // load.prompts)
    crossed = 0 if group % load.micro_batch == 0 or load.micro_batch % group == 0 else 1
    return min(-(-load.micro_batch // group) + crossed, load.micro_batch, load.prompts)


def attention_memory(model: Architecture, load: Load) -> int:
    """Return what one decoder layer keeps to share prompts.

    Each of r rollouts of a group has its own copy of the keys and values of its p prompt tokens,
    r · p · 2k. The mask of a group is that of one rollout, once for each of the q / k heads that
    share keys: u · c · (p + c) · q / k for u prompts and c completion tokens. A micro-batch of one
    row per prompt needs neither. Packed rows need no mask.
    """
    rows, prompts, said = load.micro_batch, prompts_of_micro_batch(load), load.completion_tokens
    if rows == prompts:
        return 0
    masks = prompts * said * (load.prompt_tokens + said) * model.queries // model.kv
    return load.wide * (masks + rows * load.prompt_tokens * 2 * model.kv)


def activation_memory(model: Architecture, load: Load) -> int:
    """Return what the forward pass of a micro-batch keeps for the backward pass.

    A prompt is computed once for all its rollouts: t tokens are u · p + r · c. With gradient
    checkpointing each layer keeps only its input, t·h values, and the backward pass computes one
    layer at a time again (`layer_memory`, `attention_memory`). Without checkpointing each layer
    keeps everything. The last norm keeps 8·t·h, with adapters 4·t·h.

    The vision tower keeps the same for its p patches, and each merger p·v·(8 + 3w), with adapters
    p·v·(4 + 3w). A frozen tower keeps nothing. The LM head computes tiles of at most 4,096 tokens ×
    32,768 words in float32. If it is trained, its gradient is summed in float32, 4·V·h. The result
    is within a fifth of what PyTorch keeps for a pass of the playground's model.
    """
    prompts = load.copies * prompts_of_micro_batch(load)
    rows = load.copies * load.micro_batch
    tokens = prompts * load.prompt_tokens + rows * load.completion_tokens
    patches = prompts * load.patches
    adapted = load.lora_rank is not None
    norm = 4 if adapted else 8
    deepspeed = load.sharding in ("zero2", "zero3")
    stream = load.wide if adapted or deepspeed else 4  # the residual stream's
    hidden, width = model.hidden, model.vision_hidden
    attention = load.copies * attention_memory(model, load)
    layer = decoder_layer_memory(model, tokens, load) + attention
    # An MLP without a gate keeps two values of its width, not four.
    mlp = model.vision_intermediate // (1 if model.vision_gated else 2)
    block = layer_memory(patches, width, mlp, width, load.wide, adapted)
    merger = model.mergers * patches * width * (norm + 3 * load.wide)
    if load.freeze_vision:
        seen = 0
    elif load.recompute:
        seen = model.vision_layers * patches * width * stream + merger
    else:
        seen = model.vision_layers * block + merger
    each = tokens * hidden * stream if load.recompute else layer
    read = model.layers * each + norm * tokens * hidden
    scored = min(rows * load.completion_tokens, 4096)
    head = 4 * scored * min(model.vocabulary, 32768)
    if not adapted:
        head += 4 * model.vocabulary * hidden
    again = max(layer, block) if load.recompute else 0
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
    others. vLLM holds this memory all the time, or, with `vllm.sleep`, while it samples.
    """
    weights = load.wide * sum(count_parameters(model).values())
    return weights + cache_memory(model, load, load.rollouts)
