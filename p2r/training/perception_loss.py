"""PAPO's implicit perception loss: the response should depend on what the frames show.

The policy reads every response twice, with the real frames and with frames in which a share of the
patches is black. The divergence between both is maximised (arXiv 2507.06448, eq. 2). No judge is
needed. The entropies of both are minimised (the paper's double entropy loss), because otherwise the
divergence can grow through random text.

Differences from the authors' code (github.com/MikeWangWZHL/PAPO):

- Both passes carry a gradient, as in the equation. Their code by default computes the masked pass
  once before the update, without gradient.
- The entropy is that of the distribution of each token. Their code takes −log π of the sampled
  token, whose gradient is 0 on average.
- Tokens are averaged like those of eq. (7), so that γ and β have the same unit.
- In a video, the same places are black in all frames, as in VideoMAE (arXiv 2203.12602). Their data
  has pictures. In a video, a place that is black in one frame could be seen in the next frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from p2r import data
from p2r.records import Question
from p2r.training.log_probs import join
from p2r.training.vision_once import ONE_STEP

MOST_KL = 10.0  # per token; above this value the gradient is 0, as in the authors' code


@dataclass(frozen=True)
class Reading:
    """Log-prob and entropy of each token of a batch of responses under a policy, (B, T)."""

    log_probs: torch.Tensor
    entropies: torch.Tensor


def perception_losses(
    real: Reading, masked: Reading, seen: torch.Tensor, gamma: float, eta: float
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss of every token, (B, T), and its terms for the log.

    For each token −γ (exp(r) − r − 1) + η (H + H_mask) with r = log π_mask − log π. The bracket
    estimates the KL divergence of π_mask from π. `seen` (B,) is 1 for responses to a question with
    media. The others have nothing to mask and get 0.
    """
    # A larger r gives `MOST_KL` too, but exp(r) could be infinite and its gradient not a number.
    ratio = torch.clamp(masked.log_probs - real.log_probs, max=MOST_KL)
    kl = torch.clamp(torch.exp(ratio) - ratio - 1, max=MOST_KL)
    losses = eta * (real.entropies + masked.entropies) - gamma * kl
    shown = seen[:, None].to(losses.dtype)
    terms = {"masked_kl": kl * shown, "masked_entropy": masked.entropies * shown}
    return losses * shown, {name: term.detach() for name, term in terms.items()}


def read_responses(trainer: Any, model: Any, inputs: Mapping[str, Any]) -> list[Reading]:
    """Return how the policy reads a micro-batch: with the real frames and, for PAPO, masked.

    One forward pass computes both, so that every way of dividing a model over workers works.
    """
    vision = [*inputs["vision"], *inputs.get("masked_vision", ())]
    copies = len(vision) // len(inputs["vision"])
    log_probs, entropies, _ = trainer._get_per_token_logps_and_entropies(
        model,
        *(rows.repeat(copies, 1) for rows in join(inputs)),
        inputs["completion_ids"].size(1),
        compute_entropy=True,
        vision=vision,
    )
    pairs = zip(log_probs.chunk(copies), entropies.chunk(copies), strict=True)
    return [Reading(*pair) for pair in pairs]


# ------------------------------------------------------------------------------------------- masks


def mask_vision(
    vision: Sequence[data.Batch],
    questions: Sequence[Question],
    processor: Any,
    share: float,
    seed: str,
) -> list[data.Batch]:
    """Return the vision inputs of each row with a share of their patches black.

    Rows with the same vision object get the same masked object, so they still share their prompt.
    The mask depends only on `seed` and the question, not on worker or micro-batch.
    """
    masked: dict[int, data.Batch] = {}
    for row, question in zip(vision, questions, strict=True):
        if id(row) not in masked:
            masked[id(row)] = _mask_one(row, processor, share, f"{seed}/{question.id}")
    return [masked[id(row)] for row in vision]


def has_media(row: data.Batch) -> bool:
    """Return whether the prompt of a row shows an image or a video."""
    return row["pixel_values"] is not None or row["pixel_values_videos"] is not None


def _mask_one(row: data.Batch, processor: Any, share: float, seed: str) -> data.Batch:
    digest = hashlib.sha256(seed.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    found = row | {ONE_STEP: True}
    for kind, suffix in (("image", ""), ("video", "_videos")):
        patches, grid = row[f"pixel_values{suffix}"], row[f"{kind}_grid_thw"]
        if patches is not None:
            black = black_patch(getattr(processor, f"{kind}_processor"), patches.size(1))
            found[f"pixel_values{suffix}"] = mask_patches(patches, grid, share, black, generator)
    return found


def mask_patches(
    patches: torch.Tensor,
    grid: torch.Tensor,
    share: float,
    black: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return patches (P, width) in which each place is black with probability `share`.

    `grid` (N, 3) has the moments, rows and columns of N media. A place is the same in all moments.
    """
    places = [
        (torch.rand(height * width, generator=generator) < share).repeat(moments)
        for moments, height, width in grid.tolist()
    ]
    hidden = torch.cat(places).to(patches.device)
    return torch.where(hidden[:, None], black.to(patches), patches)


def black_patch(vision_processor: Any, width: int) -> torch.Tensor:
    """Return a black patch as the processor encodes it: channels × temporal patch × patch²."""
    mean = torch.tensor(vision_processor.image_mean)
    deviation = torch.tensor(vision_processor.image_std)
    return (-mean / deviation).repeat_interleave(width // len(mean))
