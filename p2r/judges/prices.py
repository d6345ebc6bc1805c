"""What judges cost, and what is particular to a model of the Messages API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

# The Message Batches API charges half for everything.
BATCH_DISCOUNT = 0.5
# The price of a token written to, and read from, the prompt cache, next to an input token's.
CACHE_WRITE, CACHE_READ = 1.25, 0.1
NO_THINKING = {"thinking": {"type": "disabled"}}
# For models that refuse to have it switched off: none before the reply, or little of it.
NONE_BEFORE = {"thinking": {"type": "between_tools"}}
LITTLE_THINKING = {"output_config": {"effort": "low"}}
# How the names of snapshots of a model end.
_SNAPSHOT = re.compile(r"-(?:\d{8}|latest)")


@dataclass(frozen=True)
class Model:
    """US dollars per million input and output tokens; the shortest prefix (tokens) that the prompt
    cache takes; fields of every request; the price of a token read from the cache, next to an
    input token's.

    A judge explains in three sentences: where thinking is on unless switched off, it is switched
    off, lest it eat the tokens of the verdict, or kept short where it cannot be.
    """

    input: float
    output: float
    cacheable: int
    request: Mapping[str, Any] = field(default_factory=dict)
    cache_read: float = CACHE_READ


# platform.claude.com: models overview, pricing, prompt caching, migration guides (November 2026).
# Prompts of up to 100,000 tokens, which all of ours are.
MODELS = {
    "claude-opus-5-5": Model(4.0, 20.0, 4096, LITTLE_THINKING, cache_read=0.05),
    "claude-sonnet-5-5": Model(2.0, 10.0, 4096, NONE_BEFORE, cache_read=0.05),
    "claude-haiku-5-5": Model(0.1, 0.5, 4096, NO_THINKING),
    "claude-opus-5": Model(5.0, 25.0, 512, NO_THINKING),
    "claude-sonnet-5": Model(2.0, 10.0, 1024, NO_THINKING),
    "claude-opus-4-8": Model(5.0, 25.0, 1024),
    "claude-sonnet-4-6": Model(3.0, 15.0, 2048),
    "claude-sonnet-4-5": Model(3.0, 15.0, 1024),
    "claude-haiku-4-5": Model(1.0, 5.0, 4096),
    "claude-3-7-sonnet": Model(3.0, 15.0, 1024),  # the paper's judge
}


def find_model(name: str) -> Model | None:
    """What is known of a model, or of the model that a name is a snapshot of."""
    return MODELS.get(name) or MODELS.get(_SNAPSHOT.sub("", name))


@dataclass(frozen=True)
class Usage:
    """Tokens of one or more calls: `input` counts all of the prompt, cached or not."""

    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_write + other.cache_write,
            self.cache_read + other.cache_read,
        )

    @classmethod
    def of_message(cls, usage: Any) -> Self:
        """From the usage of the Messages API, which counts cached tokens apart; odd values are
        0.
        """

        def count(name: str) -> int:
            value = getattr(usage, name, None)
            return value if isinstance(value, int) and value > 0 else 0

        write, read = count("cache_creation_input_tokens"), count("cache_read_input_tokens")
        return cls(count("input_tokens") + write + read, count("output_tokens"), write, read)

    def describe(self, priced: bool) -> dict[str, Any]:
        """As a verdict's `usage`."""
        tokens = {"input_tokens": self.input, "output_tokens": self.output}
        cached = {"cache_write_tokens": self.cache_write, "cache_read_tokens": self.cache_read}
        return {**tokens, **{k: v for k, v in cached.items() if v}, "priced": priced}


@dataclass(frozen=True)
class Price:
    """US dollars per million input and output tokens."""

    input: float
    output: float
    cache_read: float = CACHE_READ

    def cost(self, usage: Usage, batch: bool = False) -> float:
        """US dollars for some tokens."""
        plain = usage.input - usage.cache_write - usage.cache_read
        weighed = plain + CACHE_WRITE * usage.cache_write + self.cache_read * usage.cache_read
        dollars = (weighed * self.input + usage.output * self.output) / 1e6
        return dollars * (BATCH_DISCOUNT if batch else 1.0)

    def worst(self, prompt: str, max_tokens: int, batch: bool = False) -> float:
        """The most that a call can cost: no token is shorter than a byte, and a prefix may have to
        be written to the prompt cache.
        """
        tokens = len(prompt.encode("utf-8", "replace")) + 256
        return self.cost(Usage(tokens, max_tokens, cache_write=tokens), batch)


def find_price(model: str, prices: Mapping[str, tuple[float, float]] | None = None) -> Price | None:
    """The price of a model: the recipe's, or the published one, or None."""
    if prices and model in prices:
        return Price(*prices[model])
    known = find_model(model)
    return Price(known.input, known.output, known.cache_read) if known else None
