"""The batches of SFT: their order, examples that replace unusable ones, and packing by tokens.

With a token budget, the examples of an update are divided into micro-batches of at most this many
tokens. A micro-batch is one row without padding, in which every example attends to itself alone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from p2r import data
from p2r.errors import DataError, TrainingError
from p2r.records import Question
from p2r.training.packing import Group
from p2r.training.shared_prompts import backbone_of, place_prompts
from p2r.video import Clips

log = logging.getLogger(__name__)


class LengthGroups(Sampler[int]):
    """A random order in which neighbours have similar lengths, by the rule of transformers.

    The sampler of transformers uses the global random generator, and a resume in the middle of an
    epoch does not restore its state. This order depends only on seed and epoch. `announce` gets the
    index of each example while the batch before it is in use. With several workers, each iterates
    over the whole order; `mine` tells which places of it this worker reads and announces.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        announce: Callable[[int], None] | None = None,
        mine: Callable[[int], bool] = lambda place: True,
    ) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0
        self.announce, self.mine = announce, mine

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = get_length_grouped_indices(list(self.lengths), self.batch_size, generator=generator)
        if self.announce is None:
            return iter(order)
        return self._announce_ahead(order, self.announce)

    def _announce_ahead(self, order: list[int], announce: Callable[[int], None]) -> Iterator[int]:
        ahead = deque(place for place in range(len(order)) if self.mine(place))
        for place, index in enumerate(order):
            while ahead and ahead[0] <= place + self.batch_size:
                announce(order[ahead.popleft()])
            yield index

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; accelerate calls this when an epoch begins."""
        self.epoch = epoch


def set_epoch(loader: Any, epoch: int) -> None:
    """Set the epoch of all samplers of a data loader, however deeply they are nested."""
    inner = (getattr(loader, name, None) for name in ("batch_sampler", "sampler"))
    for sampler in inner:
        if sampler is not None:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            set_epoch(sampler, epoch)


class TraceCollator:
    """Makes batches of training examples from their indices in `questions` and `responses`.

    An example that cannot be used is reported to `on_skip` once, with the reason. The next usable
    example in the order of `questions` replaces it, so all batches have the same size on all
    workers. `packed`: give the examples as they are, without padding (see `pack_examples`).
    `see` replaces the pixels of examples by features, if it can (`VisionOnce.see`).
    """

    packed = False
    see: Callable[[Sequence[data.Batch]], Sequence[data.Batch]] | None = None

    def __init__(
        self,
        processor: Any,
        questions: Sequence[Question],
        responses: Sequence[str],
        frames_of: Callable[[Question], Clips],
        style: str,
        max_length: int | None,
        on_skip: Callable[[Question, str], None],
    ) -> None:
        self.processor = processor
        self.questions = questions
        self.responses = responses
        self.frames_of = frames_of
        self.style = style
        self.max_length = max_length
        self.on_skip = on_skip
        self._skipped: set[int] = set()

    def __call__(self, rows: Sequence[dict[str, int]]) -> data.Batch:
        examples = [self._encode_or_replace(row["example"]) for row in rows]
        if self.see is not None:
            for example, seen in zip(examples, self.see(examples), strict=True):
                example.update({key: seen[key] for key in data.VISION_KEYS})
                example.pop("features", None)
        if not self.packed:
            return data.collate_examples(examples, self.processor.tokenizer.pad_token_id)
        for example in examples:
            for key in ("input_ids", "mm_token_type_ids", "labels"):
                example[key] = torch.tensor(example[key])
        # transformers counts the tokens of an update by these labels.
        return {"examples": examples, "labels": torch.cat([each["labels"] for each in examples])}

    def _encode_or_replace(self, index: int) -> data.Batch:
        count = len(self.questions)
        for other in ((index + step) % count for step in range(count)):
            if example := self.encode(other):
                if other != index:
                    log.warning(
                        "SFT example %r is skipped; example %r takes its place",
                        self.questions[index].id,
                        self.questions[other].id,
                    )
                return example
        raise TrainingError(f"none of the {count} examples can be used; see skipped.jsonl")

    def encode(self, index: int) -> data.Batch | None:
        """Return one unpadded example, or None if it cannot be used."""
        question = self.questions[index]
        if index in self._skipped:
            return None
        try:
            return data.encode_example(
                self.processor,
                question,
                self.frames_of(question),
                self.responses[index],
                self.style,
                self.max_length,
            )
        except DataError as error:
            self._skipped.add(index)
            self.on_skip(question, str(error))
            return None


# -------------------------------------------------------------------------------- packing by tokens


def fill_bins(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Divide examples into bins of at most `budget` tokens; return the places in each bin.

    Examples are placed in order of length, the longest first, each into the first bin with room for
    it. An example that is longer than the budget gets its own bin.
    """
    bins: list[list[int]] = []
    left: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        size = lengths[place]
        number = next((n for n, room in enumerate(left) if size <= room), len(bins))
        if number == len(bins):
            bins.append([])
            left.append(budget)
        bins[number].append(place)
        left[number] -= size
    return bins


def split_bins(bins: list[list[int]], count: int) -> list[list[int]]:
    """Split the fullest bins until there are `count` bins, but at most one for each example."""
    bins = [list(places) for places in bins]
    while len(bins) < count:
        fullest = max(bins, key=len)
        bins.append([fullest.pop()])
    return bins


def pack_examples(model: Any, examples: Sequence[data.Batch]) -> data.Batch:
    """Pack results of `data.encode_example` into one row (1, N), the inputs of `model`.

    Call `p2r.training.packing.accept_packed_rows(model)` before.
    """
    backbone, places, groups = backbone_of(model), [], []
    for example in examples:
        ids, types = example["input_ids"][None], example["mm_token_type_ids"][None]
        vision = {key: example[key] for key in data.VISION_KEYS if example[key] is not None}
        places.append(place_prompts(backbone, ids, torch.ones_like(ids), types, vision))
        groups.append(Group(ids.size(1), (), None))
    ids = torch.cat([example["input_ids"] for example in examples])[None]
    flat = {key: [example[key] for example in examples] for key in data.VISION_KEYS}
    return {
        "input_ids": ids,
        "labels": torch.cat([example["labels"] for example in examples])[None],
        "attention_mask": torch.ones_like(ids),
        "position_ids": torch.cat(places, 2),
        "packing": tuple(groups),
        **data.to_model_inputs(flat),
    }
