"""From a name or a mapping to a judge."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from p2r.errors import JudgeError
from p2r.judges.base import BaseJudge
from p2r.judges.cache import VerdictCache
from p2r.judges.database import Database
from p2r.judges.ledger import Ledger
from p2r.judges.noisy import NoisyJudge
from p2r.judges.panel import PanelJudge
from p2r.judges.remote import Limits

if TYPE_CHECKING:
    from p2r.runs.recipe import JudgingSettings

Spec = str | Mapping[str, Any]
# What a string names after the colon, by kind; "" where nothing may follow.
FORMS = {
    "oracle": "",
    "claude": "[MODEL]",
    "server": "URL#MODEL",
    "messages": "URL#MODEL",
    "noisy": "RATE:JUDGE",
    "panel": "JUDGE,JUDGE,…",
    "unanimous": "JUDGE,JUDGE,…",
}
JUDGES = tuple(FORMS)
_LIMITS = {field.name for field in fields(Limits)}


def make_judge(
    spec: Spec | BaseJudge, settings: JudgingSettings | None = None, *, run: str = ""
) -> BaseJudge:
    """The judge of a spec: a string or a mapping with `kind`.

        oracle                        the playground's own, free
        claude, claude:MODEL          Claude
        server:URL#MODEL              an OpenAI-style server     (mapping: url, model)
        messages:URL#MODEL            an Anthropic-style server  (mapping: url, model)
        noisy:RATE:JUDGE              a judge that errs          (mapping: judge, rate, seed)
        panel:JUDGE,JUDGE,…           the majority of several    (mapping: judges, rule)
        unanimous:JUDGE,JUDGE,…       all of several

    A mapping may also hold limits of its own (concurrency, timeout, call_limit, retries,
    max_tokens), `guidance` and `request`. `settings` are a recipe's `judging`; `run` names the run
    whose books are kept and whose budget holds. Verdicts of judges behind a server are remembered
    in the shared cache. Raises `JudgeError`.
    """
    if isinstance(spec, BaseJudge):
        return spec
    if settings is None:
        from p2r.runs.recipe import JudgingSettings

        settings = JudgingSettings()
    return _Maker(settings, run).make(_as_mapping(spec))


def check_spec(spec: Spec) -> None:
    """Raise `JudgeError` for a spec that names no judge; needs no key and no server."""
    mapping = _as_mapping(spec)
    inner = mapping.get("judges") or ([mapping["judge"]] if "judge" in mapping else [])
    for part in inner:
        check_spec(part)


def kinds_of(spec: Spec) -> set[str]:
    """The kinds of all judges that a spec names."""
    mapping = _as_mapping(spec)
    inner = mapping.get("judges") or ([mapping["judge"]] if "judge" in mapping else [])
    return {mapping["kind"]}.union(*map(kinds_of, inner))


def _as_mapping(spec: Spec) -> dict[str, Any]:
    if isinstance(spec, Mapping):
        if spec.get("kind") not in FORMS:
            raise JudgeError(f"a judge's kind is one of {', '.join(FORMS)}, not {spec!r}")
        mapping = dict(spec)
        if isinstance(mapping.get("judges"), str):
            mapping["judges"] = _split(mapping["judges"])
        return mapping
    kind, colon, rest = str(spec).partition(":")
    if kind not in FORMS:
        raise JudgeError(f"no judge {spec!r}: choose one of {', '.join(FORMS)}")
    form = FORMS[kind]
    mapping = {"kind": kind}
    if form.startswith("URL"):
        mapping["url"], _, mapping["model"] = rest.rpartition("#")
        complete = bool(mapping["url"] and mapping["model"])
    elif form.startswith("RATE"):
        rate, _, mapping["judge"] = rest.partition(":")
        complete = bool(mapping["judge"]) and _is_number(rate)
        mapping["rate"] = float(rate) if complete else 0.0
    elif form.startswith("JUDGE"):
        mapping["judges"] = _split(rest)
        complete = len(mapping["judges"]) > 1
    else:
        complete = not colon or (bool(rest) and bool(form))
        if rest:
            mapping["model"] = rest
    if not complete:
        usage = f"{kind}:{form}" if form else kind
        raise JudgeError(
            f"no judge {spec!r}: write {usage.replace(':[MODEL]', ' or claude:MODEL')}"
        )
    return mapping


def _split(judges: str) -> list[str]:
    return [part for part in judges.split(",") if part]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Maker:
    """Makes the judges of one spec: they share the recipe's settings and one set of books."""

    def __init__(self, settings: JudgingSettings, run: str) -> None:
        self.settings = settings
        self.run = run
        self._books: tuple[VerdictCache, Ledger] | None = None

    def make(self, mapping: dict[str, Any]) -> BaseJudge:
        given = dict(mapping)
        kind = given.pop("kind")
        try:
            return getattr(self, f"_{kind}")(**given)
        except ImportError as error:
            raise JudgeError(
                f"judge {kind!r} needs {error.name}: install it with pip install 'p2r[judges]'"
            ) from error
        except TypeError as error:
            said = re.sub(r"^[\w.]+\(\) ", "", str(error))  # the function's name helps nobody
            raise JudgeError(f"judge {kind!r} cannot take these settings: {said}") from error

    def _oracle(self) -> BaseJudge:
        # By name: the playground is a user of this package, not a part of it.
        return importlib.import_module("p2r.playground.oracle").OracleJudge()

    def _claude(self, model: str | None = None, **given: Any) -> BaseJudge:
        from p2r.judges.claude import ClaudeJudge

        limits, shared = self._shared(given)
        return ClaudeJudge(model or self.settings.model, limits, **shared)

    def _server(self, url: str, model: str, api: str = "openai", **given: Any) -> BaseJudge:
        from p2r.judges.server import make_server_judge

        limits, shared = self._shared(given)
        if api == "openai":
            shared.pop("request")
        return make_server_judge(url, model, api, limits, **shared)

    def _messages(self, url: str, model: str, **given: Any) -> BaseJudge:
        return self._server(url, model, api="anthropic", **given)

    def _noisy(self, judge: Spec, rate: float, seed: int = 0) -> BaseJudge:
        return NoisyJudge(self.make(_as_mapping(judge)), rate, seed)

    def _panel(self, judges: list[Spec], rule: str = "majority") -> BaseJudge:
        if rule not in ("majority", "unanimity"):
            raise JudgeError(f"a panel's rule is majority or unanimity, not {rule!r}")
        return PanelJudge([self.make(_as_mapping(judge)) for judge in judges], rule)

    def _unanimous(self, judges: list[Spec]) -> BaseJudge:
        return self._panel(judges, rule="unanimity")

    def _with(self, own: dict[str, Any]) -> JudgingSettings:
        """The settings with limits of one judge's own, held to the same rules."""
        try:
            return type(self.settings).model_validate(self.settings.model_dump() | own)
        except ValidationError as error:
            first = error.errors()[0]
            raise JudgeError(f"a judge's {first['loc'][0]}: {first['msg']}") from error

    def _shared(self, given: dict[str, Any]) -> tuple[Limits, dict[str, Any]]:
        own = {name: given.pop(name) for name in _LIMITS & set(given)}
        settings = self._with(own)
        limits = Limits(**{name: getattr(settings, name) for name in _LIMITS})
        if self._books is None:
            database = Database(settings.cache)
            self._books = VerdictCache(database), Ledger(database, self.run, settings.budget)
        cache, ledger = self._books
        shared: dict[str, Any] = {
            "guidance": settings.guidance,
            "request": settings.request,
            **given,
            "prices": settings.prices,
            "cache": cache,
            "ledger": ledger,
        }
        return limits, shared
