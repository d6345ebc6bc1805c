"""Packed rows: log-probs, loss and gradients are those of ordinary rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from peft import get_peft_model
from small import VIDEO
from torch.testing import assert_close
from trl.trainer.utils import add_fused_lm_head

from p2r import data
from p2r.families import family_of_model
from p2r.records import Medium, more_media
from p2r.runs.recipe import TuningSettings
from p2r.training.packing import accept_packed_rows, pack
from p2r.training.step import loss
from p2r.training.tuning import lora_config
from p2r.training.vision_pass import unify_vision_passes
from p2r.video import FrameCache

pytest_plugins = ["small_fixtures"]
VOCABULARY = 300  # without the vision tokens, which are the first ones


@dataclass(frozen=True)
class Rows:
    """Left-padded prompts with right-padded completions, as TRL makes them."""

    ids: torch.Tensor
    mask: torch.Tensor
    types: torch.Tensor
    width: int
    vision: list[data.Batch]
    inputs: dict[str, torch.Tensor]  # of the loss


@pytest.fixture(scope="module")
def encoded(model_folder, media, questions):
    """Encode some questions by name; "both" is a question about an image and a video."""
    processor, cache = data.load_processor(model_folder), FrameCache(None)
    both = {"id": "both", "meta": more_media([Medium(path="short.mp4", data_type="video")])}
    known = {q.id: q for q in [*questions, questions[3].model_copy(update=both)]}

    def encode(names: list[str]) -> data.Batch:
        asked = [known[name] for name in names]
        frames = [data.read_frames(q, root=media, cache=cache, **VIDEO) for q in asked]
        return data.encode_prompts(processor, asked, frames, "brief")

    return encode


def make_rows(encoded, names: list[str], lengths: list[list[int]], shuffle: bool = False) -> Rows:
    """Return the rows of groups: `lengths[i]` are the tokens of the completions of `names[i]`."""
    torch.manual_seed(0)
    prompts = encoded(names)
    order = [(prompt, count) for prompt, counts in enumerate(lengths) for count in counts]
    if shuffle:
        order = [order[i] for i in torch.randperm(len(order)).tolist()]
    of_row, counts = zip(*order, strict=True)
    width = max(counts)
    said = torch.randint(10, VOCABULARY, (len(order), width))
    mask = (torch.arange(width) < torch.tensor(counts)[:, None]).long()
    rows = {key: prompts[key][list(of_row)] for key in ("input_ids", "attention_mask")}
    types = torch.nn.functional.pad(prompts["mm_token_type_ids"][list(of_row)], (0, width))
    shared = [{key: prompts[key][row] for key in data.VISION_KEYS} for row in range(len(names))]
    weights = mask.float()
    return Rows(
        torch.cat([rows["input_ids"], said * mask], 1),
        torch.cat([rows["attention_mask"], mask], 1),
        types,
        width,
        [shared[row] for row in of_row],
        # Each token has an advantage of its own, so this covers every credit scheme.
        {
            "advantages": torch.randn(mask.shape),
            "weights": weights,
            "ref_per_token_logps": -6 + torch.randn(mask.shape),
            "old_per_token_logps": -6 + torch.randn(mask.shape),
        },
    )


def ordinary(model: Any, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probs and entropies with one row per rollout."""
    labels = rows.ids.masked_fill(rows.mask == 0, data.IGNORED)
    labels[:, : -rows.width] = data.IGNORED
    flat = {key: [row[key] for row in rows.vision] for key in data.VISION_KEYS}
    output = model(
        input_ids=rows.ids,
        attention_mask=rows.mask,
        mm_token_type_ids=rows.types,
        labels=labels,
        fused_lm_head=True,
        **data.to_model_inputs(flat),
    )
    return output.log_probs[:, -rows.width :], output.entropy[:, -rows.width :]


def packed(model: Any, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probs and entropies of one packed row."""
    row = pack(model, rows.ids, rows.mask, rows.types, rows.width, rows.vision)
    output = model(**row.inputs, fused_lm_head=True)
    return row.unpack(output.log_probs), row.unpack(output.entropy)


def measured(model: Any, path: Any, rows: Rows) -> dict[str, Any]:
    """Return what a path computes: log-probs, entropies, loss and all gradients."""
    model.zero_grad()
    log_probs, entropies = path(model, rows)
    value, _ = loss(rows.inputs, log_probs, 0.2, 0.04)
    value.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {
        "log_probs": log_probs.detach(),
        "entropies": entropies.detach(),
        "loss": value.detach(),
        "gradients": {name: gradient.clone() for name, gradient in gradients.items()},
    }


@pytest.fixture(scope="module")
def models(model_folder):
    """Return a trained model by its settings, each made once."""
    made: dict[tuple[bool, bool], Any] = {}

    def make(adapted: bool, recompute: bool) -> Any:
        if (adapted, recompute) not in made:
            model = data.load_model(model_folder)
            add_fused_lm_head(model, outputs=("log_probs", "entropy"))
            if recompute:
                unify_vision_passes(model)  # as several workers do
            accept_packed_rows(model)
            if adapted:
                adapters = lora_config(TuningSettings(lora_rank=4), family_of_model(model))
                model = get_peft_model(model, adapters)
                torch.manual_seed(1)
                for name, weight in model.named_parameters():
                    if "lora_B" in name:  # it is 0 in new adapters, which change nothing
                        weight.data.normal_(std=0.05)
            if recompute:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            made[adapted, recompute] = model.train()
        return made[adapted, recompute]

    return make


CASES = {
    "mixed media, ragged": (["long", "still", "text", "both"], [[5, 9], [3, 3, 7], [4], [6, 1]]),
    "empty completions": (["short", "text", "still"], [[0, 6, 0, 3], [0, 0], [8]]),
    "text only": (["text"], [[7, 2, 5]]),
    "one completion of each": (["twin", "long"], [[8], [5]]),
    "groups of 16": (["text", "short"], [[6] * 16, [*range(16)]]),
}


@pytest.mark.parametrize("recompute", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("adapted", [False, True], ids=["all weights", "LoRA"])
@pytest.mark.parametrize("case", CASES)
def test_a_packed_row_computes_what_ordinary_rows_compute(
    case, adapted, recompute, models, encoded
):
    rows = make_rows(encoded, *CASES[case], shuffle=case == "mixed media, ragged")
    model = models(adapted, recompute)
    one, other = (measured(model, path, rows) for path in (ordinary, packed))
    close = partial(assert_close, rtol=1e-4, atol=1e-5)
    for name in ("log_probs", "entropies", "loss"):
        close(other[name], one[name], msg=name)
    assert one["log_probs"].abs().sum() > 1
    assert {*other["gradients"]} == {*one["gradients"]}
    scale = torch.cat([g.flatten() for g in one["gradients"].values()]).norm()
    assert scale > 0
    for name, gradient in one["gradients"].items():
        apart = (other["gradients"][name] - gradient).norm()
        assert apart <= 1e-4 * gradient.norm() + 1e-6 * scale, name


def test_a_packed_row_holds_each_prompt_once_and_no_padding(models, encoded):
    names, lengths = CASES["mixed media, ragged"]
    rows = make_rows(encoded, names, lengths)
    row = pack(models(False, False), rows.ids, rows.mask, rows.types, rows.width, rows.vision)
    prompts = encoded(names)["attention_mask"].sum()
    assert row.inputs["input_ids"].numel() == prompts - len(names) + sum(map(sum, lengths))
    assert (row.inputs["shift_labels"] != data.IGNORED).sum() == sum(map(sum, lengths))
    assert row.unpack(row.inputs["shift_labels"]).equal(rows.ids[:, -rows.width :])


def test_completions_do_not_see_each_other(models, encoded):
    rows = make_rows(encoded, ["short"], [[6, 6, 6]])
    changed = make_rows(encoded, ["short"], [[6, 6, 6]])
    changed.ids[1, -rows.width :] = 11
    with torch.no_grad():
        one, other = (packed(models(False, False), each)[0] for each in (rows, changed))
    assert_close(one[[0, 2]], other[[0, 2]], rtol=1e-6, atol=1e-6)
    assert (one[1] - other[1]).abs().max() > 0.01
