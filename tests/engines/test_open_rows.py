"""The engine transformers: rows that are complete leave the batch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from small import VIDEO
from transformers import DynamicCache

from p2r.engines import Request
from p2r.engines.open_rows import OpenRows, dropping
from p2r.engines.transformers import TransformersEngine
from p2r.video import sample_frames

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
LENGTHS = [3, 30, 9, 20]  # tokens of the rows; each row then ends
END, PAD = 2, 0


@pytest.fixture(scope="module", params=["qwen2.5", "qwen3"])
def engine(request, model_folder, qwen3_folder):
    folder = model_folder if request.param == "qwen2.5" else qwen3_folder
    return TransformersEngine(str(folder), batch_size=4, style="brief")


def request_for(question, media):
    frames = sample_frames(media / question.path, **VIDEO) if question.path else None
    return Request(question.id, question, frames)


class EndingRows:
    """A logits processor: row r ends after LENGTHS[r] tokens. Keeps the scores of open rows.

    The longest row says a padding token in between, which does not end it.
    """

    def __init__(self, prompt):
        self.prompt, self.scores = prompt, []

    def __call__(self, ids, scores):
        said = ids.size(1) - self.prompt
        still = [row for row, count in enumerate(LENGTHS) if said <= count]
        self.scores.append(scores[still].clone())
        scores[:, END] = -torch.inf
        if said == OpenRows.EVERY - 1:
            longest = LENGTHS.index(max(LENGTHS))
            scores[longest] = -torch.inf
            scores[longest, PAD] = 0.0
        for row, count in enumerate(LENGTHS):
            if said >= count:
                scores[row] = -torch.inf
                scores[row, END] = 0.0
        return scores


@pytest.fixture(scope="module")
def sample(engine, media, questions):
    """Return a function that samples four rows; it returns tokens, scores and computed rows."""
    inputs = engine._encode([request_for(question, media) for question in questions[:4]])

    def run(drop):
        model, computed = engine.model.eval(), []
        forward = model.base_model.forward

        def count(**inputs):
            computed.append(len(inputs["input_ids"]))
            return forward(**inputs)

        rows = EndingRows(inputs["input_ids"].size(1))
        model.base_model.forward = count
        try:
            torch.manual_seed(0)
            with torch.inference_mode(), dropping(model, 4, {END} if drop else ()):
                ids = model.generate(
                    **inputs, do_sample=True, max_new_tokens=40, eos_token_id=END, pad_token_id=PAD,
                    logits_processor=[rows],
                )  # fmt: skip
        finally:
            model.base_model.forward = forward
        return ids, rows.scores, computed

    return run


def test_complete_rows_are_not_computed_and_the_others_are_the_same(sample):
    ids, scores, computed = sample(drop=True)
    all_ids, all_scores, all_computed = sample(drop=False)
    assert torch.equal(ids, all_ids)
    for found, expected in zip(scores, all_scores, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert set(all_computed) == {4} and len(computed) == len(all_computed)
    assert sorted(set(computed), reverse=True) == [4, 3, 2, 1]
    assert sum(computed) <= sum(LENGTHS) + 4 * OpenRows.EVERY


def test_one_row_stays_when_all_are_complete():
    """Workers with divided weights go on until the last worker is done."""
    cache = DynamicCache()
    cache.update(torch.zeros(3, 1, 5, 2), torch.zeros(3, 1, 5, 2), 0)
    open_rows = OpenRows(3, {7}, torch.device("cpu"))

    def forward(input_ids, past_key_values):
        return SimpleNamespace(last_hidden_state=torch.ones(len(input_ids), 1, 4))

    for _ in range(2 * OpenRows.EVERY):
        output = open_rows.read(
            forward, {"input_ids": torch.full((3, 1), 7), "past_key_values": cache}
        )
    assert output.last_hidden_state.shape == (3, 1, 4)
    assert open_rows.rows.tolist() == [0] and len(cache.layers[0].keys) == 1
