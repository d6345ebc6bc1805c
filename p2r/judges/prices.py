"""What judges cost. Published prices come from the package genai-prices, without a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

from p2r.judges.models import without_snapshot

# The Message Batches API charges half of every price.
BATCH_DISCOUNT = 0.5
# Prices of a token written to, or read from, the prompt cache, relative to an input token.
CACHE_WRITE, CACHE_READ = 1.25, 0.1


@dataclass(frozen=True)
class Usage:
    """Tokens of one or more calls; `input` counts the whole prompt, cached or not."""

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
        """Read the usage of the Messages API, which counts cached tokens separately."""
        names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        plain, write, read = (read_count(usage, name) for name in names)
        return cls(plain + write + read, read_count(usage, "output_tokens"), write, read)

    def describe(self, priced: bool) -> dict[str, Any]:
        """Return the form in which a verdict's `usage` holds it."""
        tokens = {"input_tokens": self.input, "output_tokens": self.output}
        cached = {"cache_write_tokens": self.cache_write, "cache_read_tokens": self.cache_read}
        return {**tokens, **{k: v for k, v in cached.items() if v}, "priced": priced}


def read_count(usage: Any, name: str) -> int:
    """Return a count of a server's usage; 0 for a value that is not a positive integer."""
    value = getattr(usage, name, None)
    return value if isinstance(value, int) and value > 0 else 0


@dataclass(frozen=True)
class Price:
    """US dollars per million input and output tokens; `cache_read` relative to an input token."""

    input: float
    output: float
    cache_read: float = CACHE_READ

    def cost(self, usage: Usage, batch: bool = False) -> float:
        """Return the US dollars for some tokens."""
        plain = usage.input - usage.cache_write - usage.cache_read
        weighed = plain + CACHE_WRITE * usage.cache_write + self.cache_read * usage.cache_read
        dollars = (weighed * self.input + usage.output * self.output) / 1e6
        return dollars * (BATCH_DISCOUNT if batch else 1.0)

    def worst(
        self, prompt: str, max_tokens: int, batch: bool = False, more_tokens: int = 0
    ) -> float:
        """Return the highest possible cost of a call.

        It assumes that each byte is a token and that the whole prompt is written to the cache.
        `more_tokens`: those of pictures.
        """
        tokens = len(prompt.encode("utf-8", "replace")) + 256 + more_tokens
        return self.cost(Usage(tokens, max_tokens, cache_write=tokens), batch)


def find_price(model: str, prices: Mapping[str, tuple[float, float]] | None = None) -> Price | None:
    """Return the price of a model: the recipe's, else the published one, else None."""
    if prices and model in prices:
        return Price(*prices[model])
    return _published(model)


@cache
def _published(model: str) -> Price | None:
    """Return the published price of a Claude model, for prompts as short as ours."""
    import genai_prices

    def per_million(*kinds: str) -> float:
        usage = genai_prices.Usage(**dict.fromkeys(kinds, 1000))
        found = genai_prices.calc_price(usage, model, provider_id="anthropic")
        # genai-prices also matches beginnings of names; we accept only the model itself.
        if without_snapshot(found.model.id) != without_snapshot(model):
            raise LookupError(model)
        return float(found.total_price * 1000)

    try:
        price = per_million("input_tokens")
        cached = per_million("input_tokens", "cache_read_tokens")
        return Price(price, per_million("output_tokens"), round(cached / price, 6))
    except LookupError:
        return None
