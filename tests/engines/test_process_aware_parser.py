"""The reasoning parser for vLLM, without vLLM. `test_vllm.py` asks a real server."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

from p2r.engines.vllm_server import PARSER
from p2r.template import render

REPLIES = {
    render("I see two.", "So two.", "2"): ("I see two.", "So two.", "2"),
    "<observation>\n a < b </observation>\n<think>x</thinker></think> <answer> 2 </answer>\n": (
        "a < b",
        "x</thinker>",
        "2",
    ),
    "Well. <observation>a</observation><think>b": ("a", "b", "Well."),
    "Only text, 1 < 2 </ans": ("", "", "Only text, 1 < 2 </ans"),
    "<answer>2</answer> really": ("", "", "2\nreally"),
    "": ("", "", ""),
}


class Delta(SimpleNamespace):
    """Stands for vLLM's DeltaMessage, which keeps further fields."""


class Server:
    """Stands for vLLM's server of chats."""

    def _finalize_response_message(self, message, *, parser):
        return message


@pytest.fixture
def plugin(monkeypatch):
    """The plugin's module, loaded by its path as vLLM does, with the names that it imports."""
    registered = {}

    class Base:
        def __init__(self, tokenizer, *arguments, **settings):
            pass

    def register_module(name, force):
        return lambda found: registered.setdefault(name, found)

    names = {
        "vllm": {},
        "vllm.entrypoints.generate.base.protocol": {"DeltaMessage": Delta},
        "vllm.entrypoints.openai.chat_completion.serving": {"OpenAIServingChat": Server},
        "vllm.reasoning": {
            "ReasoningParser": Base,
            "ReasoningParserManager": SimpleNamespace(register_module=register_module),
        },
    }
    for name, members in names.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    usual = Server._finalize_response_message
    spec = importlib.util.spec_from_file_location("plugin", PARSER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert registered == {"process_aware": module.ProcessAwareParser}
    yield module
    Server._finalize_response_message = usual


REQUEST = SimpleNamespace(include_reasoning=True)


@pytest.mark.parametrize("text", REPLIES)
def test_the_parts_of_a_whole_reply(plugin, text):
    observation, reasoning, content = REPLIES[text]
    parser = plugin.ProcessAwareParser(None)
    assert parser.extract_reasoning(text, REQUEST) == (reasoning or None, content or None)
    sent = Server()._finalize_response_message(
        SimpleNamespace(), parser=SimpleNamespace(reasoning_parser=parser)
    )
    assert getattr(sent, "observation", "") == observation
    quiet = SimpleNamespace(include_reasoning=False)
    parser.extract_reasoning(text, quiet)
    assert parser.observation == ""


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("text", REPLIES)
def test_a_stream_adds_up_to_the_whole_reply(plugin, text, step):
    parser = plugin.ProcessAwareParser(None, chat_template_kwargs={"enable_process_aware": True})
    parts = dict.fromkeys(("observation", "reasoning", "content"), "")
    for place in range(0, len(text), step):
        before, now = text[:place], text[: place + step]
        delta = parser.extract_reasoning_streaming(before, now, now[place:], [], [], [])
        for name, added in vars(delta).items() if delta else ():
            parts[name] += added
    parts["content"] += parser.get_streaming_fallback_content(text, REQUEST) or ""
    assert tuple(parts.values()) == REPLIES[text]


def test_a_request_can_turn_it_off(plugin):
    text = next(iter(REPLIES))
    parser = plugin.ProcessAwareParser(None, chat_template_kwargs={"enable_process_aware": False})
    assert parser.extract_reasoning(text, REQUEST) == (None, text)
    assert parser.extract_reasoning_streaming("", text, text, [], [], []).content == text
    assert parser.get_streaming_fallback_content(text, REQUEST) is None
    assert not parser.is_reasoning_end([1]) and parser.extract_content_ids([1]) == []
