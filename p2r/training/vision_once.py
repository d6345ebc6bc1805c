"""Computes the features of an unchanging vision tower only once per prompt.

A frozen tower gives the same features while sampling and for the log-probs of the old policy, the
policy and the reference, and in every later step. The tower of the reference never changes. This
module calls such a tower once for each prompt: the features replace the pixels in the inputs of the
model. A cache on disk keeps them for all runs. The key of a file is a hash of the weights and of
the pixels. Masked and shuffled frames are drawn at random for one step, so the cache does not keep
their features: their rows have the entry `ONE_STEP`.

A tower whose weights are divided among workers (ZeRO-3, FSDP2) is called as usual, because all
workers must call it together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers
from torch.distributed.tensor import DTensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from p2r import data
from p2r.files.disk_cache import DiskCache, cache_folder
from p2r.runs.recipe import VideoSettings
from p2r.training.shared_prompts import backbone_of

PIXELS = {"pixel_values": "image_grid_thw", "pixel_values_videos": "video_grid_thw"}
GIB = 2**30
ONE_STEP = "one_step"  # in a row of vision inputs whose pixels no later step has


def feature_cache(video: VideoSettings) -> DiskCache | None:
    """Return the cache of features on disk that all runs share; None if it is turned off."""
    if not video.cache_gb:
        return None
    return DiskCache(cache_folder() / "features", ".safetensors", int(video.cache_gb * GIB))


class ConstantTower:
    """The vision tower of a model, called once per prompt while its weights stay the same.

    `autocast` returns the context of the model's forward passes. `computed` counts the calls of the
    tower.
    """

    def __init__(
        self,
        model: Any,
        cache: DiskCache | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.tower = backbone_of(model).visual
        self.cache, self.autocast = cache, autocast
        self.computed = 0
        self.tower.forward = partial(_forward, self.tower, self.tower.forward)

    @cached_property
    def key(self) -> str:
        """A hash of the weights and of everything else that changes the features."""
        weights = [*self.tower.named_parameters(), *self.tower.named_buffers()]
        kind, config = self._device.type, self.tower.config
        with self.autocast():
            about = f"{transformers.__version__} {kind} {torch.is_autocast_enabled(kind)}"
        about += f" {config._attn_implementation} {config.to_json_string()}"
        named = [f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in weights]
        return _hash([about, *named], (tensor for _, tensor in weights))

    @property
    def _device(self) -> torch.device:
        return next(self.tower.parameters()).device

    def see(self, rows: Sequence[data.Batch]) -> list[data.Batch]:
        """Return the vision inputs of rows with features in place of pixels.

        Rows with the same vision object get the same object. A row remembers its features.
        """
        return [self._see(row) for row in rows]

    def _see(self, row: data.Batch) -> data.Batch:
        known = row.setdefault("features", {})
        pixels, seen = known.get(self.key, ({}, {}))
        if not pixels or any(row[name] is not pixels[name] for name in PIXELS):
            pixels = {name: row[name] for name in PIXELS}  # a copy of a row may have other pixels
            seen = {key: row[key] for key in data.VISION_KEYS}
            seen |= {name: self._features(row, name) for name in PIXELS}
            row["features"] = {**known, self.key: (pixels, seen)}
        return seen

    def _features(self, row: data.Batch, name: str) -> torch.Tensor | None:
        pixels, grid = row[name], row[PIXELS[name]]
        if pixels is None:
            return None
        if self.cache is None or row.get(ONE_STEP):
            return self._compute(pixels, grid)
        key = _hash([self.key, str(grid.tolist())], [pixels])
        with self.cache.lock(key):
            found = self.cache.read(key, _read)
            if found is None:
                found = self._compute(pixels, grid)
                made = found.cpu()
                self.cache.write(
                    key, lambda file: file.write(safetensors.torch.save({"features": made}))
                )
        return found.to(self._device)

    def _compute(self, pixels: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        self.computed += 1
        pixels, grid = pixels.to(self._device, self.tower.dtype), grid.to(self._device)
        with torch.no_grad(), self.autocast():
            seen = self.tower(pixels, grid_thw=grid, return_dict=True)
        deeper = getattr(seen, "deepstack_features", None) or ()
        return torch.cat([seen.pooler_output, *deeper], 1).contiguous()


class VisionOnce:
    """The constant towers of a training: that of the reference, and a frozen one of the policy.

    `cache` keeps the features on disk. Use it only if the policy's tower is frozen too. Otherwise
    writing the features takes more time than it saves.
    """

    def __init__(self, accelerator: Any, cache: DiskCache | None = None) -> None:
        self.accelerator, self.cache = accelerator, cache
        self.towers: dict[int, ConstantTower | None] = {}

    def see(self, model: Any, vision: Sequence[data.Batch], trained: bool) -> Sequence[data.Batch]:
        """Return the vision inputs of rows for a model, with features if its tower is constant.

        `trained`: the model is the policy, not the reference.
        """
        model = self.accelerator.unwrap_model(model)
        if id(model) not in self.towers:
            self.towers[id(model)] = self._find(model, trained)
        tower = self.towers[id(model)]
        return vision if tower is None else tower.see(vision)

    def _find(self, model: Any, trained: bool) -> ConstantTower | None:
        weights = list(backbone_of(model).visual.parameters())
        if any(hasattr(weight, "ds_id") or isinstance(weight, DTensor) for weight in weights):
            return None
        if trained and any(weight.requires_grad for weight in weights):
            return None
        return ConstantTower(model, self.cache, self.accelerator.autocast)


@dataclass
class _Seen(BaseModelOutputWithPooling):
    """The output of a tower, with the features that enter deeper layers."""

    deepstack_features: list[torch.Tensor] | None = None


def _forward(
    tower: Any, forward: Callable[..., Any], hidden_states: torch.Tensor, grid_thw: Any, **more: Any
) -> Any:
    """Serves the tower's forward pass: if features are given in place of pixels, return them.

    Pixels have a row for each patch, features a row for each merged block of patches.
    """
    if len(hidden_states) == int(grid_thw.prod(-1).sum()):
        return forward(hidden_states, grid_thw=grid_thw, **more)
    features, *deeper = hidden_states.split(tower.config.out_hidden_size, 1)
    return _Seen(
        last_hidden_state=features, pooler_output=features, deepstack_features=deeper or None
    )


def _read(path: Path) -> torch.Tensor:
    return safetensors.torch.load_file(path)["features"]


def _hash(texts: Iterable[str], tensors: Iterable[torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode() + b"\n")
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
