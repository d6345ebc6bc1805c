"""The template: prompts, the parser's faults and segments, and the process of every token."""

import itertools
import json
import random
import re
from pathlib import Path

import pytest
from measures import growth, shared_data

from p2r.errors import DataError
from p2r.records import PROBLEM_TYPES, Question
from p2r.template import (
    FAULTS,
    INSTRUCTIONS,
    VISION_TOKENS,
    answer_of,
    banned_token_ids,
    build_messages,
    build_prompt,
    parse,
    perception_length,
    prompt_hash,
    render,
    token_processes,
)

GOOD = render("Based on the question, I need to notice the cat.", "Based on it, B.", "B")


def question(problem_type="multiple choice", **fields):
    fields = {"problem": "What moves?", "options": ["A. a dog", "B. a cat"], **fields}
    return Question(id="q1", problem_type=problem_type, **fields)


# ---- prompts


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_full_prompt_asks_for_three_parts_in_order_and_states_the_form_of_the_answer(problem_type):
    prompt = build_prompt(question(problem_type))
    assert prompt.startswith("What moves?\nA. a dog\nB. a cat\nThe answer is ")
    places = [prompt.index(f"<{name}>") for name in ("observation", "think", "answer")]
    assert places == sorted(places)
    assert "Based on the question, I need to notice" in prompt
    assert "Based on the observations," in prompt
    others = [build_prompt(question(kind)) for kind in PROBLEM_TYPES if kind != problem_type]
    assert prompt not in others


@pytest.mark.parametrize("style", INSTRUCTIONS)
def test_every_prompt_names_the_medium_and_fills_every_placeholder(style):
    for media in ("video", "image"):
        other = {"video": "image", "image": "video"}[media]
        prompt = build_prompt(question("OCR", data_type=media), style)
        assert "{" not in prompt and other not in prompt


def test_short_prompts_are_the_question_and_one_short_line():
    for style in ("brief", "brief-think", "direct"):
        lines = build_prompt(question(), style).splitlines()
        assert lines[:-1] == ["What moves?", "A. a dog", "B. a cat"]
        assert len(lines[-1].split()) <= 4


def test_text_of_a_question_is_never_a_control_token_nor_a_placeholder():
    hostile = question(problem="<|video_pad|><|im_end|> {media}?", options=["A. <|image_pad|> {x}"])
    for style in INSTRUCTIONS:
        prompt = build_prompt(hostile, style)
        assert "<|" not in prompt
        assert "{media}?" in prompt and "{x}" in prompt


def test_messages_hold_a_placeholder_and_the_prompt():
    messages = build_messages(question(data_type="image", path="a.png"), "brief")
    text = {"type": "text", "text": build_prompt(question(data_type="image"), "brief")}
    assert messages == [{"role": "user", "content": [{"type": "image"}, text]}]


def test_prompt_hash_is_stable_per_style_and_follows_the_wording(monkeypatch):
    hashes = {style: prompt_hash(style) for style in INSTRUCTIONS}
    assert all(re.fullmatch("[0-9a-f]{12}", value) for value in hashes.values())
    assert len(set(hashes.values())) == len(INSTRUCTIONS)
    monkeypatch.setitem(INSTRUCTIONS, "brief", "Look, think, answer.")
    assert prompt_hash("brief") != hashes["brief"]
    assert prompt_hash("full") == hashes["full"]


def test_unknown_style_or_problem_type_is_one_clear_line():
    with pytest.raises(
        DataError, match=r"unknown prompt style 'long': use a prompt file or one of full"
    ):
        build_prompt(question(), "long")
    with pytest.raises(DataError, match=r"'q1' has unknown problem type 'essay': use one of"):
        build_prompt(question("essay"))


# ---- parsing


def test_rendered_segments_are_read_back():
    for observation in ("I see.", None):
        parsed = parse(render(observation, "Hm.\n日本", "B") + "\n")
        assert (parsed.observation, parsed.think, parsed.answer) == (observation, "Hm.\n日本", "B")
    assert parse(GOOD).ok and parse(GOOD).problems == []


def test_white_space_around_and_between_segments_is_fine():
    spaced = "\n <observation> o </observation>\n\n<think>\nt\n</think>\t<answer> A </answer> \n\n"
    assert parse(spaced).ok
    assert (parse(spaced).observation, parse(spaced).think, parse(spaced).answer) == ("o", "t", "A")


# response → (observation, think, answer), faults, format of perception, format of reasoning
CASES = {
    "": ((None,) * 3, ["observation missing", "think missing", "answer missing"], 0, 0),
    # reported by the paper
    "<observation>o</<observation> <think>t</think><answer>A</answer>": (
        (None, "t", "A"),
        ["observation malformed", "observation unclosed"],
        0,
        1,
    ),
    "<observation>o</observation> <think>t</think><answer>A<answer>": (
        ("o", "t", "A"),
        ["answer unclosed", "answer repeated"],
        1,
        0,
    ),
    # faults of one process
    "<think>t</think><answer>A</answer>": (
        (None, "t", "A"),
        ["observation missing"],
        0,
        1,
    ),
    "<observation>o</observation>": (
        ("o", None, None),
        ["think missing", "answer missing"],
        1,
        0,
    ),
    "<observation> </observation> <think>t</think><answer>A</answer>": (
        ("", "t", "A"),
        ["observation empty"],
        0,
        1,
    ),
    "<observation>o</observation> <think></think><answer>\n</answer>": (
        ("o", "", ""),
        ["think empty", "answer empty"],
        1,
        0,
    ),
    # truncated
    "<observation>The cat": (
        (None, None, None),
        ["observation unclosed", "think missing", "answer missing"],
        0,
        0,
    ),
    "<observation>o</observation> <think>so I": (
        ("o", "so I", None),
        ["think unclosed", "answer missing"],
        1,
        0,
    ),
    "<observation>o</observation> <think>t</think><answer>A": (
        ("o", "t", "A"),
        ["answer unclosed"],
        1,
        0,
    ),
    "<observation>o</observation> <think>t</think><answer>A</ans": (
        ("o", "t", "A"),
        ["answer unclosed"],
        1,
        0,
    ),
    "<observation>o</observation> <think>t</think><answer>": (
        ("o", "t", None),
        ["answer unclosed"],
        1,
        0,
    ),
    # unclosed and unopened
    "<observation>o <think>t</think><answer>A</answer>": (
        (None, "t", "A"),
        ["observation unclosed"],
        0,
        1,
    ),
    "<observation>o</observation> <think>t <answer>A</answer>": (
        ("o", "t", "A"),
        ["think unclosed"],
        1,
        0,
    ),
    "<observation>o</observation> t</think><answer>A</answer>": (
        ("o", None, "A"),
        ["think unopened", "text outside reasoning"],
        1,
        0,
    ),
    # misspelt
    "<Observation>o</Observation> <think>t</think><answer>A</answer>": (
        (None, "t", "A"),
        ["observation malformed"],
        0,
        1,
    ),
    "<observation>o</observation> < think>t</ think><answer/>A<\\answer>": (
        ("o", "t", None),
        ["think malformed", "answer malformed", "answer unopened", "text outside reasoning"],
        1,
        0,
    ),
    "<observation>o</observation> <think>t</think><ANSWER>A</answer": (
        ("o", "t", "A"),
        ["answer malformed"],
        1,
        0,
    ),
    # order
    "<think>t</think><observation>o</observation><answer>A</answer>": (
        ("o", "t", "A"),
        ["observation misordered"],
        0,
        0,
    ),
    "<observation>o</observation> <answer>A</answer><think>t</think>": (
        ("o", "t", "A"),
        ["think misordered"],
        1,
        0,
    ),
    # repeated: the first counts
    "<observation>o</observation><observation>p</observation> <think>t</think><answer>A</answer>": (
        ("o", "t", "A"),
        ["observation repeated"],
        0,
        1,
    ),
    "<observation>o</observation> <think>t</think><think>u</think><answer>A</answer>": (
        ("o", "t", "A"),
        ["think repeated"],
        1,
        0,
    ),
    "<observation>o</observation> <think>t</think><answer></answer><answer>B</answer>": (
        ("o", "t", "B"),
        ["answer repeated", "answer empty"],
        1,
        0,
    ),
    # nested
    "<observation>o<think>t</think></observation><answer>A</answer>": (
        ("o<think>t</think>", "t", "A"),
        ["think nested", "observation misordered"],
        0,
        0,
    ),
    "<observation>o</observation> <think>t<answer>C</answer></think><answer>A</answer>": (
        ("o", "t<answer>C</answer>", "A"),
        ["think misordered", "answer repeated", "answer nested"],
        1,
        0,
    ),
    # text outside
    "Sure! <observation>o</observation> <think>t</think><answer>A</answer>": (
        ("o", "t", "A"),
        ["text outside perception"],
        0,
        1,
    ),
    "<observation>o</observation> Now: <think>t</think><answer>A</answer>": (
        ("o", "t", "A"),
        ["text outside reasoning"],
        1,
        0,
    ),
    "<observation>o</observation> <think>t</think><answer>A</answer>.": (
        ("o", "t", "A"),
        ["text outside reasoning"],
        1,
        0,
    ),
    "Hm. <think>t</think><answer>A</answer>": (
        (None, "t", "A"),
        ["observation missing", "text outside reasoning"],
        0,
        0,
    ),
    # foreign tags are only noted
    "<observation><b>o</b></observation> <think><v>² < 5</think><answer>A</answer>": (
        ("<b>o</b>", "<v>² < 5", "A"),
        ["foreign tag"],
        1,
        1,
    ),
}


@pytest.mark.parametrize("text", CASES)
def test_faults_and_segments(text):
    segments, faults, perception, reasoning = CASES[text]
    parsed = parse(text)
    assert (parsed.observation, parsed.think, parsed.answer) == segments
    assert sorted(parsed.problems) == sorted(faults)
    assert parsed.format_ok == {"perception": bool(perception), "reasoning": bool(reasoning)}
    assert parsed.ok == (perception and reasoning)


def test_every_fault_is_in_the_table_of_the_module():
    import p2r.template

    rows = re.findall(r"^\| (\S.*?) +\|.*\| *(\S.*?) *\|$", p2r.template.__doc__, re.MULTILINE)
    table = dict(rows[1:])
    names = {f.replace(n, "NAME") if f not in table else f for f in FAULTS for n in [f.split()[0]]}
    assert names == {name for name in table if not name.startswith("-")}


@pytest.mark.parametrize("value", [None, 3, b"<think>"])
def test_a_value_that_is_not_text_is_an_empty_response(value):
    assert parse(value) == parse("")


# One letter per piece, so that the format can be stated as patterns over letters, tag by tag.
PIECES = {
    "O": "<observation>",
    "o": "</observation>",
    "T": "<think>",
    "t": "</think>",
    "A": "<answer>",
    "a": "</answer>",
    "x": "é text",
    "_": "\n ",
}
TEXT = "[x_]*x[x_]*"
PERCEPTION = re.compile(f"_*O{TEXT}o[^Oo]*")
BEFORE_THINK = "(?:_*|[x_]*(?:O[x_]*|o_*)(?:O[x_]*|o_*)*)"
REASONING = re.compile(f"{BEFORE_THINK}T{TEXT}t_*A{TEXT}a_*")


def check_against_patterns(letters):
    text = "".join(PIECES[letter] for letter in letters)
    parsed = parse(text)
    expected = [bool(PERCEPTION.fullmatch(letters)), bool(REASONING.fullmatch(letters))]
    assert [parsed.format_ok["perception"], parsed.format_ok["reasoning"]] == expected, letters
    assert parsed.ok == (parsed.problems == []), letters
    closed = re.search("O[^Oo]*o", letters)
    assert (parsed.observation is not None) == bool(closed), letters
    assert parsed.ok == bool(re.fullmatch(f"_*O{TEXT}o_*T{TEXT}t_*A{TEXT}a_*", letters)), letters


def test_format_is_exactly_the_pattern_for_all_short_sequences():
    for length in range(5):
        for letters in itertools.product(PIECES, repeat=length):
            check_against_patterns("".join(letters))


def test_format_is_exactly_the_pattern_around_good_responses():
    rng = random.Random(0)
    for _ in range(20_000):
        letters = list(rng.choice(["Oxo_TxtAxa", "TxtAxa", "_OxoTxt_Axa_"]))
        for _ in range(rng.randint(0, 3)):
            place = rng.randrange(len(letters) + 1)
            letters[place : place + rng.randint(0, 1)] = rng.choices([*PIECES], k=rng.randint(0, 2))
        check_against_patterns("".join(letters))


def test_any_string_is_parsed():
    rng = random.Random(1)
    parts = [
        *PIECES.values(),
        "<",
        ">",
        "/",
        "\\",
        "</",
        "<<",
        " ",
        "think",
        "ANSWER",
        "observation",
    ]
    parts += ["<b>", "\x00", "\ud800", "\u2028", "ſ", "K", "🐈", "<|im_end|>", "</<observation>"]
    for _ in range(20_000):
        text = "".join(rng.choices(parts, k=rng.randint(0, 12)))
        parsed = parse(text)
        assert set(parsed.problems) <= set(FAULTS)
        assert all(s is None or s == s.strip() for s in (parsed.observation, parsed.think))
        answer_of(text)


ADVERSE = ["<observation>", "</answer>", "<think>", "<think><answer></think></answer>", "</", "</<"]
ADVERSE += ["<observation></observation>", "</\\ <observation", "<aaaaaaaa", "<", "< ", "x"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ADVERSE)
def test_a_megabyte_of_anything_is_parsed_in_linear_time(part):
    short, long = ("<think>" + part * (size // len(part)) for size in (100_000, 1_000_000))
    assert growth(parse, short, long) < 40  # ten times the text; quadratic would be a hundred


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (GOOD, "B"),
        ("<answer>A<answer>", "A"),
        ("<answer>A</a>", "A"),
        ("<Answer> A </Answer>", "A"),
        ("<think>t <answer>A", "A"),
        (" B. a cat\n", "B. a cat"),
        ("1 < 2", "1 < 2"),
        ("<think>Final answer: B", None),
        ("<think>t</think><answer> </answer>", None),
        ("<observation>o</observation> B", None),
        ("  ", None),
        (None, None),
    ],
)
def test_answer_to_score(text, answer):
    assert answer_of(text) == answer


# Kinds of the collected odd outputs → a fault that must be named, and whether it breaks reasoning.
KINDS = {
    "think_not_closed": "think unclosed",
    "think_close_without_open": "think unopened",
    "think_repeated": "think repeated",
    "answer_not_closed": "answer unclosed",
    "empty_answer": "answer empty",
    "no_answer_tag": "answer missing",
    "text_before_first_tag": "text outside reasoning",
    "foreign_tag": "foreign tag",
}
HARMLESS = {"foreign_tag", "answer_not_a_letter", "multi_letter"}


def test_faults_of_real_model_outputs_are_named():
    path = shared_data("traces/odd_outputs.jsonl")
    traces = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(traces) >= 100
    for trace in traces:
        parsed = parse(trace["text"])
        kinds = {kind.split(":")[0] for kind in trace["kinds"]}
        named = {KINDS[kind] for kind in kinds if kind in KINDS}
        assert named | {"observation missing"} <= set(parsed.problems), trace["kinds"]
        assert parsed.format_ok["reasoning"] == (kinds <= HARMLESS), trace["kinds"]
        if "answer_without_think" in kinds:
            assert parsed.think is None and not parsed.format_ok["reasoning"]
        if trace.get("logged_format_reward") == 0:
            assert not parsed.format_ok["reasoning"]
        if re.search(r"<answer>\s*[A-Z]", trace["text"]):
            assert re.match("[A-Z]", answer_of(trace["text"]))


# ---- tokens


class Qwen:
    """The vocabulary of Qwen2.5 under three tokenizers, and an independent map from id to bytes."""

    def __init__(self, path: Path):
        from dashscope.tokenizers.qwen_tokenizer import QwenTokenizer
        from transformers import Qwen2Tokenizer
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        own = QwenTokenizer(str(path))
        self.encoding = own._tokenizer
        self.ids = own._mergeable_ranks
        self.bytes = {index: token for token, index in self.ids.items()}
        letters = bytes_to_unicode()
        # Only decoding is tested, so the merges are not needed. (They are slow to derive.)
        vocabulary = {"".join(letters[b] for b in token): i for token, i in self.ids.items()}
        objects = [f"<|{n}_{e}|>" for n in ("object_ref", "box", "quad") for e in ("start", "end")]
        names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *objects, *VISION_TOKENS]
        fast = Qwen2Tokenizer(vocab=vocabulary, merges=[], extra_special_tokens=names)
        self.fast = fast
        self.tokenizers = {"transformers": fast, "tiktoken": self.encoding, "dashscope": own}

    def encode(self, text):
        return self.encoding.encode(text, disallowed_special=())

    def processes(self, ids):
        """Apply rule 3 on bytes, for responses with exact tags."""
        text = b"".join(self.bytes.get(i, b"") for i in ids)
        closed = re.search(rb"<observation>(?:(?!</?observation>).)*</observation>", text, re.S)
        border, place, result = closed.end() if closed else 0, 0, []
        for i in ids:
            result.append("P" if place < border else "R")
            place += len(self.bytes.get(i, b""))
        return result


@pytest.fixture(scope="module")
def qwen():
    dashscope = pytest.importorskip("dashscope", reason="needs the Qwen2.5 vocabulary of dashscope")
    return Qwen(Path(dashscope.__file__).parent / "resources" / "qwen.tiktoken")


@pytest.fixture(params=["transformers", "tiktoken", "dashscope"])
def tokenizer(request, qwen):
    return qwen.tokenizers[request.param]


def test_a_token_across_the_border_belongs_to_the_process_of_its_first_character(qwen, tokenizer):
    assert len(qwen.ids) == 151_643
    assert all(token in qwen.ids for token in (b".</", b"><", b">A"))
    ids = qwen.encode("<observation>A cat.</observation><think>t.</think><answer>A</answer>")
    across = next(i for i, token in enumerate(ids) if qwen.bytes[token] == b"><")
    assert qwen.bytes[ids[across - 1]] == b"observation"
    assert perception_length(tokenizer, ids) == across + 1
    assert token_processes(tokenizer, ids) == ["P"] * (across + 1) + ["R"] * (len(ids) - across - 1)
    # if the tag ends with its own token, no token crosses the border
    ids = qwen.encode("<observation>A cat.</observation> <think>t")
    assert qwen.bytes[ids[perception_length(tokenizer, ids) - 1]] == b">"


def test_a_character_split_over_tokens_does_not_move_the_border(qwen, tokenizer):
    text = "<observation>猫 🐈 é</observation>🐈<think>日本</think><answer>é</answer>"
    by_bytes = [qwen.ids[bytes([b])] for b in text.encode()]
    border = len(text[: text.index("🐈<think>")].encode())
    assert perception_length(tokenizer, by_bytes) == border
    torn = [*by_bytes[:15], qwen.ids[b"\xf0"], *by_bytes[15:]]
    assert perception_length(tokenizer, torn) == border + 1


def test_without_a_readable_observation_all_tokens_are_reasoning(qwen, tokenizer):
    for text in ("", "B", "<observation>cut off", "<think>t</think><answer>A</answer>"):
        ids = qwen.encode(text)
        assert token_processes(tokenizer, ids) == ["R"] * len(ids)
    for text in (
        "<observation>o</<observation> <think>t",
        "x</observation>",
        "<Observation>o</observation>",
    ):
        assert parse(text).observation is None
        assert perception_length(tokenizer, qwen.encode(text)) == 0


def test_special_tokens_pads_and_masks_have_a_process_and_no_text(qwen):
    names = ["<|endoftext|>", "<|im_end|>", "<|video_pad|>"]
    pad, end, video = qwen.fast.convert_tokens_to_ids(names)
    first, second = qwen.encode("<observation>o</observation>"), qwen.encode(" <think>t")
    ids = [pad, *first, end, *second, end, pad, -100, 151_935]
    length = len(first) + 1
    assert token_processes(qwen.fast, ids) == ["P"] * length + ["R"] * (len(ids) - length)
    # inside the tag it has no text, as in the decoded text that the parser reads
    ids = [*first[:-2], video, *first[-2:], *second]
    assert parse(qwen.fast.decode(ids, skip_special_tokens=True)).observation == "o"
    assert perception_length(qwen.fast, ids) == len(first) + 1
    ids = [*first, 151_643, *second, 151_935]
    assert perception_length(qwen.encoding, ids) == len(first)


def test_border_in_tokens_is_the_border_in_the_decoded_text(qwen):
    rng = random.Random(2)
    parts = [*PIECES.values(), ".", "A", ">", "<", " ", "🐈 seen", "日", "\n", "</<observation>"]
    for _ in range(1500):
        ids = qwen.encode("".join(rng.choices(parts, k=rng.randint(0, 10))))
        for _ in range(rng.randint(0, 2)):  # tear characters, tags and tokens apart
            place = rng.randrange(len(ids) + 1)
            torn = [qwen.ids[bytes([b])] for i in ids[place : place + 2] for b in qwen.bytes[i]]
            ids[place : place + 2] = torn[rng.randint(0, 1) :]
        text = qwen.fast.decode(ids, skip_special_tokens=True)
        lengths = {name: perception_length(t, ids) for name, t in qwen.tokenizers.items()}
        assert len(set(lengths.values())) == 1, (text, lengths)
        length = lengths["tiktoken"]
        assert (length > 0) == (parse(text).observation is not None), text
        if "</<" not in text:
            assert token_processes(qwen.fast, ids) == qwen.processes(ids), text
        if length:  # one token less and the observation is not closed yet
            assert parse(qwen.fast.decode(ids[:length])).observation is not None
            assert parse(qwen.fast.decode(ids[: length - 1])).observation is None


def test_the_work_on_a_rollout_is_linear_in_its_length(qwen):
    rng = random.Random(3)
    start = qwen.encode("<observation>" + "A red cube moves. " * 40 + "</observation>")
    short, long = (start + rng.choices(range(151_643), k=size - len(start)) for size in (768, 7680))
    assert {perception_length(qwen.fast, ids) for ids in (short, long)} == {len(start)}
    assert growth(lambda ids: perception_length(qwen.fast, ids), short, long) < 40


def test_any_object_with_decode_is_a_tokenizer(qwen):
    class Plain:
        __slots__ = ()  # cannot be referred to weakly either

        def decode(self, ids):
            return b"".join(qwen.bytes[i] for i in ids).decode(errors="replace")

    ids = qwen.encode(GOOD)
    assert token_processes(Plain(), ids) == token_processes(qwen.fast, ids)


def test_arrays_of_ids_are_taken(qwen):
    torch = pytest.importorskip("torch")
    ids = qwen.encode(GOOD)
    assert token_processes(qwen.fast, torch.tensor(ids)) == token_processes(qwen.fast, ids)


def test_vision_tokens_of_a_vocabulary_are_banned(qwen):
    assert banned_token_ids(qwen.fast) == [151_652, 151_653, 151_654, 151_655, 151_656]
    from transformers import Qwen2Tokenizer

    assert banned_token_ids(Qwen2Tokenizer(vocab={"a": 0}, merges=[])) == []
