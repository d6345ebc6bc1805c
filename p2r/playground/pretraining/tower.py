"""Teaches the vision tower of a tiny model to write words.

The tower sees two frames of a clip at a time. So one visual token can tell the colour, the shape
and the size of the object at its place, and how the object moves from the first frame to the
second. Here it learns to tell them as words: the token becomes similar to the sum of the embeddings
of "red", "circle", "big" and "left". Then the language model finds an object in a video with the
heads that find its name in a text.

The size of the visual tokens matters too. If they are many times larger than the embeddings of
words, what the layers of the language model add to them has almost no effect.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from p2r.playground.drawing import draw
from p2r.playground.pretraining.places import SIGN, SLICES, visual_tokens
from p2r.playground.second.words import MOTIONS, SEEN, SIZES
from p2r.playground.second.world import STAGE, Scene, SceneObject, sample_scene

GRID = 4  # visual tokens per side of a frame
CELL = STAGE / GRID  # stage units per visual token
EDGE = 1.5  # an object colours tokens that are at most this far from it (stage units)
LOUD = 2.0  # visual tokens may be this many times larger than the embeddings of words
WORDS = {
    "colour": tuple(SEEN.colours),
    "shape": SEEN.shapes,
    "size": tuple(SIZES),
    "motion": ("still", *MOTIONS),
    "sign": SEEN.signs,
}
OBJECT = ("colour", "shape", "size", "motion")  # what the token of an object tells
NOTHING = len(WORDS["colour"])  # the label of a colour where no object is
UNKNOWN = -100


def token_words(scene: Scene) -> torch.Tensor:
    """Return the labels (64, 5) of the visual tokens of a clip: places in the tuples of `WORDS`.

    An object belongs to the token at its centre. Tokens at its edges, and tokens with two centres,
    are `UNKNOWN`. A token without an object has the colour `NOTHING`. All tokens of a sign tell it.
    """
    labels = torch.full((SLICES * GRID * GRID, len(WORDS)), UNKNOWN)
    labels[:, 0] = NOTHING
    tokens = visual_tokens(scene, GRID, GRID)
    places = {name: [*chain.from_iterable(slices)] for name, slices in tokens.items()}
    if scene.sign:
        labels[places[SIGN], -1] = WORDS["sign"].index(scene.sign)
    for obj in scene.objects:
        for second in range(SLICES):
            if obj.visible(second):
                labels[_touched(obj, second), 0] = UNKNOWN
    owned: set[int] = set()
    for obj in scene.objects:
        for place in places[obj.name]:
            second = place // GRID**2
            moves = obj.position(second) != obj.position(second + 0.5)
            motion = obj.motion if moves and obj.motion else "still"
            told = (obj.colour_at(second), obj.shape, obj.size, motion)
            found = [WORDS[kind].index(word) for kind, word in zip(OBJECT, told, strict=True)]
            if place in owned:
                found = [UNKNOWN] * len(OBJECT)
            labels[place, : len(OBJECT)] = torch.tensor(found)
            owned.add(place)
    return labels


def _touched(obj: SceneObject, second: int) -> list[int]:
    """Return the tokens that an object touches, or nearly touches, in the middle of a slice."""
    x, y = obj.position(second + 0.25)
    reach = obj.half + EDGE
    rows, columns = (
        range(max(0, int((at - reach) // CELL)), min(GRID - 1, int((at + reach) // CELL)) + 1)
        for at in (y, x)
    )
    return [(second * GRID + row) * GRID + column for row in rows for column in columns]


def tower_batch(processor: Any, seeds: Sequence[int], strange: float) -> dict[str, torch.Tensor]:
    """Return inputs of the tower, and `labels` (visual tokens, 5), for scenes of these seeds.

    `strange`: the share of scenes that are drawn with another background.
    """
    videos, labels = [], []
    for seed in seeds:
        rng = random.Random(f"tower {seed}")
        scene = sample_scene(f"tower {seed}", (2, 3, 4, 5))
        frames = draw(scene, rng, 2, backdrop=rng.random() < strange).frames
        videos.append(torch.from_numpy(frames).permute(0, 3, 1, 2))
        labels.append(token_words(scene))
    inputs = processor.video_processor(videos, do_sample_frames=False, return_tensors="pt")
    return {
        "pixels": inputs["pixel_values_videos"],
        "grid": inputs["video_grid_thw"],
        "labels": torch.cat(labels),
    }


class WordReader(nn.Module):
    """Reads words from visual tokens, by their similarity to the embeddings of the words.

    It learns one scale for each kind of word, and the score of "no object".
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        embeddings = model.get_input_embeddings().weight.detach()
        self.rms = embeddings.pow(2).mean().sqrt().item()
        for kind, words in WORDS.items():
            ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
            assert all(len(tokens) == 1 for tokens in ids), f"{kind}: a word of several tokens"
            found = embeddings[[tokens[0] for tokens in ids]]
            self.register_buffer(kind, found / self.rms**2 / found.shape[1])
        self.scale = nn.ParameterDict({kind: torch.full((1,), 6.0) for kind in WORDS})
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the scores (tokens, words) of each kind."""
        scores = {kind: tokens @ getattr(self, kind).T for kind in WORDS}
        nothing = self.nothing.expand(len(tokens), 1)
        scores["colour"] = torch.cat([scores["colour"], nothing], dim=1)
        return {kind: each * self.scale[kind] for kind, each in scores.items()}

    def loss(self, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropies of the words, and a penalty on tokens that are too large."""
        words = [
            cross_entropy(scores, labels[:, place], ignore_index=UNKNOWN)
            for place, scores in enumerate(self(tokens).values())
            if (labels[:, place] != UNKNOWN).any()
        ]
        loudness = tokens.pow(2).mean(-1).sqrt() / self.rms
        return torch.stack(words).sum() + 0.05 * (loudness - LOUD).clamp(min=0).pow(2).mean()

    @torch.no_grad()
    def right(self, tokens: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        """Return the share of right words of each kind, of the tokens with an object or a sign."""
        scores, found = self(tokens), {}
        for place, kind in enumerate(WORDS):
            wanted = labels[:, place]
            shown = (wanted != UNKNOWN) & ((wanted != NOTHING) | (kind != "colour"))
            right = scores[kind].argmax(-1)[shown] == wanted[shown]
            found[kind] = right.float().mean().item()
        return found


@torch.no_grad()
def quieten(model: Any, batch: dict[str, torch.Tensor]) -> None:
    """Scale the output of the tower so that its tokens are `LOUD` times as large as words."""
    words = model.get_input_embeddings().weight
    tokens = see(model, batch)
    last = model.model.visual.merger.mlp[2]
    share = LOUD * words.pow(2).mean().sqrt() / tokens.pow(2).mean().sqrt()
    last.weight.mul_(share)
    last.bias.mul_(share)


def see(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the visual tokens of a batch, one after the other."""
    return model.model.visual(batch["pixels"], grid_thw=batch["grid"]).pooler_output
