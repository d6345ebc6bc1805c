"""The transformers engine answers every request once; a bad request does not stop the rest."""

from __future__ import annotations

import pytest
from small import VIDEO

from p2r.engines import Request, Sampling, load_engine
from p2r.engines.transformers import TransformersEngine
from p2r.errors import EngineError, UserError
from p2r.records import Question
from p2r.runs.recipe import load_recipe
from p2r.template import VISION_TOKENS
from p2r.video import sample_frames

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
GREEDY = Sampling(temperature=0.0, max_tokens=12)
DRAWN = Sampling(temperature=1.0, top_p=0.95, max_tokens=12, seed=3)


@pytest.fixture(scope="module")
def engine(model_folder) -> TransformersEngine:
    recipe = load_recipe("tiny1")
    return load_engine(recipe, str(model_folder), batch_size=2)


@pytest.fixture(scope="module")
def requests(questions, media) -> list[Request]:
    """Videos of two sizes, an image and a question without media."""
    return [
        Request(q.id, q, sample_frames(media / q.path, **VIDEO) if q.path else None)
        for q in questions
    ]


def answers(engine, requests, sampling) -> dict[str, str]:
    return {c.key: c.text for c in engine.generate(requests, sampling)}


def test_every_request_is_answered_once(engine, requests):
    completions = list(engine.generate(iter(requests), GREEDY))
    assert sorted(c.key for c in completions) == sorted(r.key for r in requests)
    for completion in completions:
        assert completion.error is None
        assert 0 < len(completion.token_ids) <= 12
        assert completion.prompt_tokens > 10
        assert 0 <= completion.perception_tokens <= len(completion.token_ids)


def test_completion_ends_with_the_end_token_or_is_truncated(engine, requests):
    ends = engine.model.generation_config.eos_token_id
    for completion in engine.generate(requests, DRAWN):
        assert completion.truncated == (completion.token_ids[-1] != ends)
        assert ends not in completion.token_ids[:-1]
        assert "<|" not in completion.text


def test_greedy_does_not_depend_on_the_batch(engine, requests):
    together = answers(engine, requests, GREEDY)
    alone = {r.key: answers(engine, [r], GREEDY)[r.key] for r in requests}
    assert together == alone


def test_temperature_of_a_hundredth_is_greedy(engine, requests):
    nearly = Sampling(temperature=0.01, top_p=0.001, max_tokens=12, seed=9)
    assert answers(engine, requests, nearly) == answers(engine, requests, GREEDY)


def test_sampling_follows_the_seed(engine, requests):
    again = Sampling(temperature=1.0, top_p=0.95, max_tokens=12, seed=3)
    other = Sampling(temperature=1.0, top_p=0.95, max_tokens=12, seed=4)
    first = answers(engine, requests, DRAWN)
    assert first == answers(engine, requests, again)
    assert first != answers(engine, requests, other)


def test_vision_tokens_are_never_sampled(engine, requests, monkeypatch):
    """Not even if the model prefers them to all other tokens."""
    ids = engine.tokenizer.convert_tokens_to_ids(list(VISION_TOKENS))
    head = engine.model.get_output_embeddings()

    def prefer_vision(module, inputs, logits):
        logits[..., ids] += 1e4
        return logits

    hook = head.register_forward_hook(prefer_vision)
    try:
        for sampling in (GREEDY, DRAWN):
            for completion in engine.generate(requests, sampling):
                assert completion.error is None
                assert not set(completion.token_ids) & set(ids)
    finally:
        hook.remove()


def test_a_bad_request_fails_alone_with_its_reason(engine, requests):
    unknown = Question(id="bad", problem="?", problem_type="riddle")
    completions = list(engine.generate([*requests, Request("bad", unknown, None)], GREEDY))
    failed = {c.key: c.error for c in completions if c.error}
    assert list(failed) == ["bad"] and "unknown problem type 'riddle'" in failed["bad"]
    assert len(completions) == len(requests) + 1


def test_the_model_sees_the_video(engine, requests):
    """The same question about another clip of the same size gets other first-token odds."""
    long, twin = requests[:2]
    swapped = Request(long.key, long.question, twin.frames)
    logits = [
        engine.model(**engine._encode([request])).logits[0, -1] for request in (long, swapped)
    ]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_stream_yields_the_text_of_generate(engine, requests):
    text = "".join(engine.stream(requests[0], GREEDY))
    assert text == answers(engine, requests[:1], GREEDY)[requests[0].key]


def test_stream_raises_the_error_of_the_model(engine):
    unknown = Question(id="bad", problem="?", problem_type="riddle")
    with pytest.raises(ValueError, match="riddle"):
        list(engine.stream(Request("bad", unknown, None), GREEDY))


def test_reading_a_stream_may_stop_early(engine, requests):
    stream = engine.stream(requests[0], Sampling(max_tokens=400))
    next(stream)
    stream.close()
    assert answers(engine, requests[:1], GREEDY), "the engine is free again"


def test_identity_has_everything_that_answers_depend_on(engine, model_folder):
    assert engine.name == str(model_folder)
    assert set(engine.identity) == {"engine", "weights", "dtype", "prompt"}


@pytest.mark.parametrize("name", ["playground/nobody", "no/such/folder/at/all"])
def test_a_model_that_does_not_exist_is_named(name):
    with pytest.raises(EngineError, match=name):
        load_engine(load_recipe("tiny1"), name)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(EngineError, match=str(tmp_path)):
        load_engine(load_recipe("tiny1"), str(tmp_path))


def test_an_engine_that_does_not_exist_is_refused_with_the_known_ones():
    known = "no engine 'vlm': use one of int8, server, transformers, vllm"
    with pytest.raises(UserError, match=known):
        load_recipe("tiny1", ["generate.engine=vlm"])
    with pytest.raises(EngineError, match=known):
        load_engine(load_recipe("tiny1"), "playground/base", engine="vlm")


def test_a_given_beginning_is_continued_and_part_of_the_text(engine, requests):
    from p2r.engines.responses import make_trace

    first = requests[0]
    begun = "<observation>I see two.</observation>"
    question = first.question.model_copy(update={"meta": {"_begin": begun}})
    (plain,) = engine.generate([first], GREEDY)
    (completion,) = engine.generate([Request("begun", question, first.frames)], GREEDY)
    trace = make_trace(question, completion, "brief")
    assert trace.text == begun + completion.text and trace.observation == "I see two."
    assert completion.prompt_tokens > plain.prompt_tokens
    assert trace.perception_tokens == 0  # the model wrote none of the observation


def test_the_int8_engine_rounds_the_weights_of_linear_layers(model_folder, engine, requests):
    rounded = load_engine(load_recipe("tiny1"), str(model_folder), engine="int8", style="brief")
    assert rounded.identity["engine"] == "int8"
    layers = [m for m in rounded.model.modules() if type(m).__name__ == "Linear"]
    weight = layers[0].weight
    steps = weight / (weight.abs().amax(1, keepdim=True) / 127)
    assert (steps - steps.round()).abs().max() < 1e-3
    pairs = zip(rounded.model.parameters(), engine.model.parameters(), strict=True)
    changes = [(mine - theirs).abs().max().item() for mine, theirs in pairs]
    assert 0 < max(changes) < 0.02 and min(changes) == 0  # embeddings stay
    assert len(answers(rounded, requests, GREEDY)) == len(requests)
