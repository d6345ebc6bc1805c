"""Pre-training of the second world: heads that look back, rows to copy, and resuming."""

from __future__ import annotations

import json
import random
from itertools import chain, pairwise
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
import torch
from safetensors.torch import load_file

from p2r import data
from p2r.errors import UserError
from p2r.playground.pretraining import checks, circuits, clock, pointing, publish, tower, train
from p2r.playground.pretraining.batches import encode
from p2r.playground.pretraining.curriculum import (
    CHANGES,
    CURRICULUM,
    MAKERS,
    MODELS,
    Stage,
)
from p2r.playground.pretraining.places import visual_tokens
from p2r.playground.second.examples import corpus
from p2r.playground.second.world import Scene, SceneObject
from p2r.playground.tiny_model import build_model, build_processor, build_tokenizer

STAGE = Stage("some", {"caption": 0.5, "look up": 0.5}, steps=4, batch=2, check_every=2)


@torch.no_grad()
def test_untrained_heads_look_back():
    tokenizer = data.load_processor("playground/teacher").tokenizer
    model = build_model(tokenizer, rope_theta=train.ROPE_THETA)
    circuits.calm_writers(model)
    circuits.look_back(model)
    model.set_attn_implementation("eager")
    ids = torch.randint(8, len(tokenizer), (1, 40), generator=torch.Generator().manual_seed(0))
    seen = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True)
    heads = seen.attentions[0][0]  # (heads, queries, keys)
    for head, offset in ((0, 1), (1, 2)):
        assert heads[head].diagonal(-offset)[10:].min() > 0.9
    for head, (near, far) in ((2, (0, 6)), (3, (3, 11))):
        window = sum(
            heads[head].diagonal(-offset)[11 - offset :] for offset in range(near, far + 1)
        )
        assert window.min() > 0.7


@pytest.mark.parametrize("make", [circuits.random_repeats, circuits.random_records])
def test_every_label_can_be_copied(make):
    """The pair of a label and the token before it stands earlier in the row."""
    batch = make(random.Random(0), 600, 8)
    assert batch["input_ids"].shape == batch["labels"].shape == (32, 64)
    assert batch["input_ids"].min() >= 8 and (batch["labels"] != -100).float().mean() > 0.3
    for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        for place, label in enumerate(labels):
            if label != -100:
                pairs = [*pairwise(ids[:place])]
                assert label == ids[place] and (ids[place - 1], label) in pairs


def test_stages_have_known_makers_and_their_own_seeds():
    stages = (*CURRICULUM, *MODELS)
    assert all(set(stage.mix) <= set(MAKERS) for stage in stages)
    firsts = [train.seeds_of(stage) for stage in stages]
    for first, following, stage in zip(firsts, firsts[1:], stages, strict=False):
        assert first + stage.steps * stage.batch <= following


def interrupt(*given, **more):
    raise KeyboardInterrupt


def test_stages_follow_each_other_and_both_models_continue_the_same_one(tmp_path, monkeypatch):
    starts = {}

    def note(stage, start, out):
        starts[out.name] = start.name
        (out / "done.json").parent.mkdir()
        (out / "done.json").write_text("{}")

    monkeypatch.setattr(train, "train", note)
    monkeypatch.setattr(train, "learn_words", lambda start, out: note(None, start, out))
    monkeypatch.setattr(train, "learn_to_copy", lambda out, seed: note(None, out.parent, out))
    train.make_models(tmp_path, last="words")
    assert list(starts) == ["copy", "text", "look up", "words"]
    train.make_models(tmp_path)  # what is complete is skipped
    assert list(starts) == list(train.STAGES)
    before = [starts[name] for name in train.STAGES[1:-2]]
    assert before == list(train.STAGES[:-3]) and starts["teacher"] == starts["base"] == "finish"


@pytest.mark.slow
def test_a_killed_stage_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "COUNT", 2)
    monkeypatch.setattr(checks, "look_up_skill", lambda model, processor: {"sign": 0.5})
    monkeypatch.setattr(train, "seeds_of", lambda stage: 7)
    start = data.resolve_model("playground/teacher")
    train.train(STAGE, start, tmp_path / "whole")

    update, calls = train._update, []

    def killed(*given):
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return update(*given)

    monkeypatch.setattr(train, "_update", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train(STAGE, start, tmp_path / "killed")
    assert json.loads((tmp_path / "killed" / "state.json").read_text())["step"] == 2
    with monkeypatch.context() as patched:
        patched.setattr(train, "_finish", interrupt)  # killed again, after the last step
        with pytest.raises(KeyboardInterrupt):
            train.train(STAGE, start, tmp_path / "killed")
    train.train(STAGE, start, tmp_path / "killed")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    before, after = (
        data.load_model(folder, "float32").model.state_dict()
        for folder in (start, tmp_path / "whole")
    )
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert kept == {name for name in before if name.startswith("visual.")}
    done = json.loads((tmp_path / "killed" / "done.json").read_text())
    assert done["steps"] == 4 and done["check"]["look up, worst kind"] == 0.5


@pytest.mark.slow
def test_a_stage_killed_while_it_saves_continues_at_the_check_before(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "measure", lambda stage, model, processor: {})
    monkeypatch.setattr(train, "seeds_of", lambda stage: 7)
    start = data.resolve_model("playground/teacher")
    train.train(STAGE, start, tmp_path / "whole")
    save = train._save_optimizer

    def killed(optimizer, model, file):
        save(optimizer, model, file)
        if saves.pop() == "kill":
            raise KeyboardInterrupt

    saves = ["kill", "save"]
    with monkeypatch.context() as patched:
        patched.setattr(train, "_save_optimizer", killed)
        with pytest.raises(KeyboardInterrupt):
            train.train(STAGE, start, tmp_path / "killed")
    assert json.loads((tmp_path / "killed" / "state.json").read_text())["step"] == 2
    train.train(STAGE, start, tmp_path / "killed")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not [*(tmp_path / "killed").glob("checkpoint-*")]


@pytest.mark.slow
def test_published_models_say_how_they_were_made(tmp_path, monkeypatch):
    """In bfloat16, below the limit, with seeds, settings, log and curve."""
    source, out = tmp_path / "pre", tmp_path / "second"
    trained = Path(data.resolve_model("playground/base"))
    stages = publish.stages_of("teacher")
    for name in stages:
        folder = source / name
        folder.mkdir(parents=True)
        (folder / "done.json").write_text(json.dumps({"steps": 100, "check": {}}))
        rows = [{"step": step, "check": {name: 0.5}} for step in (50, 100, 150)]
        (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="base"):
        publish.publish(source, ["base"], out)
    for file in trained.iterdir():
        (source / "teacher" / file.name).write_bytes(file.read_bytes())

    assert publish.publish(source, ["teacher"], out, seed=3) == [out / "teacher"]
    model = data.load_model(out / "teacher", "bfloat16")
    assert model.dtype == torch.bfloat16
    stored = load_file(out / "teacher" / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    assert data.load_processor(out / "teacher").tokenizer.vocab_size
    made = json.loads((out / "teacher" / "made.json").read_text())
    assert made["seed"] == 3 and made["stages"][-1]["first_seed"] == train.seeds_of(MODELS[0])
    assert [stage["done"]["steps"] for stage in made["stages"]] == [100] * len(stages)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["total"] for row in rows] == [50 * n for n in range(1, 2 * len(stages) + 1)]
    curve = fromstring((out / "curve.svg").read_text())
    assert len(curve.findall("{http://www.w3.org/2000/svg}circle")) == len(rows)

    monkeypatch.setattr(publish, "MOST_BYTES", 10)
    with pytest.raises(UserError, match="at most 10"):
        publish.publish(source, ["teacher"], out)


def test_labels_of_visual_tokens_tell_what_is_at_their_place():
    left = SceneObject("red", "circle", "small", "left", x=44.0, y=8.0)
    gone = SceneObject("blue", "ring", "big", None, "vanishes", 2, x=12.0, y=40.0)
    labels = tower.token_words(Scene((left, gone))).view(4, 4, 4, 5)
    words = [
        [kind[label] for kind, label in zip(tower.WORDS.values(), labels[at][:4], strict=False)]
        for at in ((0, 0, 3), (3, 0, 1), (1, 2, 0))
    ]
    assert words[0] == words[1] == ["red", "circle", "small", "left"]
    assert words[2] == ["blue", "ring", "big", "still"]
    assert labels[2, 2, 0].tolist() == [tower.NOTHING, *[tower.UNKNOWN] * 4], "it has vanished"
    assert labels[0, 2, 1].tolist() == [tower.UNKNOWN] * 5, "only its edge"
    sign = tower.token_words(Scene((left,), "ZOO", 16))[:, -1].view(4, 4, 4)
    zoo = tower.WORDS["sign"].index("ZOO")
    assert sign[2].tolist() == [[-100] * 4] * 3 + [[-100, zoo, zoo, -100]]
    near = SceneObject("green", "cross", "small", x=46.0, y=12.0)
    both = tower.token_words(Scene((left, near))).view(4, 4, 4, 5)
    assert both[0, 0, 3].tolist() == [tower.UNKNOWN] * 5, "two objects"


def test_a_tower_learns_to_write_words():
    """Tokens that are the sum of the right words have a small loss; the loss has a gradient."""
    processor = build_processor(build_tokenizer(corpus(0, 200)))
    model = build_model(processor.tokenizer)
    batch = tower.tower_batch(processor, range(4), 0.5)
    tower.quieten(model, batch)
    tokens, words = tower.see(model, batch), model.get_input_embeddings().weight
    assert tokens.shape == (4 * 64, 192) and batch["labels"].shape == (4 * 64, 5)
    sizes = [each.pow(2).mean().sqrt().item() for each in (tokens, words)]
    assert sizes[0] == pytest.approx(tower.LOUD * sizes[1], rel=1e-3)
    reader = tower.WordReader(model, processor.tokenizer)
    ideal = torch.zeros_like(tokens)
    for place, kind in enumerate(tower.WORDS):
        known = batch["labels"][:, place] >= 0
        if kind == "colour":
            known &= batch["labels"][:, place] != tower.NOTHING
        ideal[known] += getattr(reader, kind)[batch["labels"][known, place]] * 192 * reader.rms**2
    assert min(reader.right(ideal, batch["labels"]).values()) > 0.9
    reader.loss(tokens, batch["labels"]).backward()
    assert model.model.visual.patch_embed.proj.weight.grad.abs().sum() > 0


def test_the_loss_of_pointing_is_the_distance_to_equal_attention_to_the_described_object():
    processor = build_processor(build_tokenizer(corpus(0, 200)))
    model = build_model(processor.tokenizer)
    rows = [
        encode(processor, make(3), STAGE, random.Random(0))
        for make in (MAKERS["caption"], MAKERS["look up"], MAKERS["other notes"])
    ]
    rows, points = zip(*rows, strict=True)
    scene, ids = MAKERS["caption"](3).scene, rows[0]["input_ids"]
    video = ids.index(processor.tokenizer.convert_tokens_to_ids("<|video_pad|>"))
    seen = visual_tokens(scene, 4, 4)
    for obj in scene.objects:
        (name,) = processor.tokenizer([f" {obj.name}"])["input_ids"]
        place = next(at for at in range(video + 64, len(ids)) if ids[at : at + 2] == name)
        slices = [[video + token for token in tokens] for tokens in seen[obj.name]]
        for head in pointing.HEADS:
            assert points[0][pointing.NEXT_NAME, head, place - 1] == [*chain(*slices)]
        for head, looked_at in zip(pointing.TIMES, slices, strict=True):
            assert points[0][pointing.SENTENCE, head, place + 5] == (looked_at or pointing.NOWHERE)
    assert {layer for layer, *_ in points[1]} == {pointing.SENTENCE} and not points[2]
    assert all(looked_at == pointing.NOWHERE for looked_at in points[1].values())

    pointer = pointing.Pointer(model)
    model.set_attn_implementation("eager")
    inputs = data.collate_examples(rows, processor.tokenizer.pad_token_id)
    with torch.no_grad():
        attentions = model(**inputs, output_attentions=True).attentions
        loss = pointer.loss(points)
    wanted = torch.zeros(())
    for layer in (pointing.SENTENCE, pointing.NEXT_NAME):
        gaps = [
            -(attentions[layer][row, head, place, looked_at] * len(looked_at)).log().mean()
            for row, found in enumerate(points)
            for (asked, head, place), looked_at in found.items()
            if asked == layer
        ]
        wanted += torch.stack(gaps).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-3) and pointer.last == loss.item()
    assert pointer.loss([{}, {}, {}]) == 0


def test_heads_look_at_the_object_that_is_hit():
    tokenizer = build_tokenizer(corpus(0, 200))
    text = "The red circle moves left, hits the ring at 2 s."
    ids = tokenizer("<|video_pad|>" * 8 + text, add_special_tokens=False)["input_ids"]
    objects = {"red circle": [[0], [1], [], []], "blue ring": [[4], [5], [6], [7]]}
    points = pointing.points_of(ids, range(8, len(ids)), objects, tokenizer)
    ring = tokenizer.convert_tokens_to_ids("Ġring")
    looked_at = [at for (layer, _, _), at in points.items() if layer == pointing.NEXT_NAME]
    assert looked_at == [[0, 1], [0, 1], [4, 5, 6, 7], [4, 5, 6, 7]]
    for head in pointing.HEADS:
        assert points[pointing.NEXT_NAME, head, ids.index(ring) - 1] == [4, 5, 6, 7]


def test_changes_are_asked_of_objects_that_change():
    for seed in range(40):
        for name in ("changes", "changes by name"):
            example = MAKERS[name](seed)
            changing = {obj.name for obj in example.scene.objects if obj.event in CHANGES}
            asked = [obj.name for obj in example.scene.objects if obj.name in example.response]
            assert changing and len(set(asked) - changing) <= 1


def test_the_loss_of_the_clock_asks_each_visual_token_for_its_second():
    processor = build_processor(build_tokenizer(corpus(0, 200)))
    model = build_model(processor.tokenizer)
    examples = (MAKERS["caption"](3), MAKERS["look up"](3))
    rows = [encode(processor, each, STAGE, random.Random(0))[0] for each in examples]
    inputs = data.collate_examples(rows, processor.tokenizer.pad_token_id)
    watch = clock.Clock(model, processor.tokenizer)
    model(**inputs)
    loss = watch.loss(inputs)
    loss.backward()
    assert model.model.language_model.layers[0].self_attn.v_proj.weight.grad.abs().sum() > 0
    assert loss.item() == watch.last > 1.0, "an untrained model does not know the time"

    words = model.get_input_embeddings().weight[watch.words].detach()
    video = inputs["input_ids"] == watch.video
    assert video.sum(1).tolist() == [64, 0]
    told = torch.zeros(*video.shape, words.shape[1])
    told[video] = words.repeat_interleave(16, 0)  # 16 tokens tell 0 s, the next 16 tell 1 s, ...
    watch._keep(None, (told,), {})
    assert watch.loss(inputs) < 0.1
    text = {"input_ids": inputs["input_ids"][1:]}
    assert watch.loss(text) == 0
