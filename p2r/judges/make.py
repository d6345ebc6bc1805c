"""Make a judge from its spec: a string or a mapping."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from p2r.errors import JudgeError, UserError
from p2r.files.user_code import load_object, source_of
from p2r.judges.base import BaseJudge
from p2r.judges.cache import VerdictCache
from p2r.judges.database import Database
from p2r.judges.ledger import Ledger
from p2r.judges.remote import Limits
from p2r.runs.recipe import JudgingSettings

Spec = str | Mapping[str, Any]
# The kinds of judges that p2r has: the files of `p2r/judges/kinds/`.
JUDGES = tuple(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent / "kinds")]))
_OWN_CLASS = re.compile(
    r"(?P<kind>(?:[A-Za-z_][\w.]*|[^:]+\.py):[A-Za-z_]\w*)(?::(?P<text>.*))?", re.DOTALL
)
ENTRY_POINTS = "p2r.judges"  # the group in which installed packages register judges
_LIMITS = {field.name for field in fields(Limits)}


def make_judge(
    spec: Spec | BaseJudge,
    settings: JudgingSettings | None = None,
    *,
    run: str = "",
    data_root: Path | None = None,
) -> BaseJudge:
    """Make the judge of a spec: a string, or a mapping with `kind` and settings.

        none                          no judge: all verdicts are unknown
        oracle                        the playground's own rule, free
        grounded                      the oracle; a sentence must also be true of the scene
        claude, claude:MODEL          Claude
        server:URL#MODEL              an OpenAI-style server     (mapping: url, model)
        messages:URL#MODEL            an Anthropic-style server  (mapping: url, model)
        vision, vision:MODEL          Claude, which also sees frames
        vision:URL#MODEL              the same on an OpenAI-style server
                                      (mapping: model, url, frames, pixels)
        noisy:RATE:JUDGE              a judge with errors        (mapping: judge, rate, seed)
        panel:JUDGE,JUDGE,…           the majority of several    (mapping: judges, rule)
        unanimous:JUDGE,JUDGE,…       all of several
        package.module:Class          your subclass of `p2r.judges.BaseJudge`
        FILE.py:Class                 the same, in a file
        NAME                          a judge of an installed package (entry point `p2r.judges`)

    The mapping of a judge behind a server may also have its own limits (concurrency, timeout,
    call_limit, retries, max_tokens), `guidance` and `request`. `settings` are a recipe's `judging`.
    `run` names the run whose ledger and budget apply. `data_root` is the media folder, for judges
    that see frames. The shared cache keeps the verdicts of judges behind a server. Raises
    `JudgeError`.
    """
    return JudgeMaker(settings or JudgingSettings(), run, data_root).make(spec)


def check_spec(spec: Spec) -> None:
    """Raise `JudgeError` if a spec does not name a judge; needs no key and no server."""
    kinds_of(spec)


def kinds_of(spec: Spec) -> set[str]:
    """Return the kinds of all judges in a spec."""
    return {member["kind"] for member in members_of(spec)}


def members_of(spec: Spec) -> list[dict[str, Any]]:
    """Return a spec and all judges inside it as mappings with `kind`; raises `JudgeError`."""
    mapping = _as_mapping(spec)
    return [mapping, *(member for each in _inside(mapping) for member in members_of(each))]


def runs_user_code(spec: Spec) -> bool:
    """Return whether a judge in a spec is a class of the user. Imports no code of the user."""
    kind = str(spec.get("kind") if isinstance(spec, Mapping) else spec)
    if _is_own_kind(kind):
        return _OWN_CLASS.fullmatch(kind) is not None
    return any(map(runs_user_code, _inside(_as_mapping(spec))))


def sources_of(spec: Spec) -> list[str]:
    """Return the source of every class of the user in a spec. Raises `JudgeError`."""
    kinds = (member["kind"] for member in members_of(spec))
    return [source_of(kind) for kind in kinds if _is_own_kind(kind) and not kind.startswith("p2r.")]


def _is_own_kind(kind: str) -> bool:
    """Return whether a kind is none of the kinds of p2r and of installed plug-ins."""
    return kind.partition(":")[0] not in JUDGES and kind not in _registered()


def _inside(mapping: dict[str, Any]) -> list[Spec]:
    """Return the specs of the judges inside a judge."""
    inner: Any = mapping.get("judges") or ([mapping["judge"]] if "judge" in mapping else [])
    return [*(split_specs(inner) if isinstance(inner, str) else inner)]


def asks_nothing(spec: Spec) -> bool:
    """Return whether a spec is the judge `none`."""
    return kinds_of(spec) == {"none"}


def is_free(spec: Spec) -> bool:
    """Return whether all judges in a spec are free."""
    return all(_class_of(kind).free for kind in kinds_of(spec))


def split_specs(text: str) -> list[str]:
    """Split JUDGE,JUDGE,… into specs."""
    return [part for part in text.split(",") if part]


class JudgeMaker:
    """Makes all judges of one spec. They share the recipe's settings and one ledger.

    `data_root` is the media folder (None: not known).
    """

    def __init__(self, settings: JudgingSettings, run: str, data_root: Path | None = None) -> None:
        self.settings = settings
        self.run = run
        self.data_root = data_root
        self._books: tuple[VerdictCache, Ledger] | None = None

    def make(self, spec: Spec | BaseJudge) -> BaseJudge:
        """Make the judge of a spec."""
        if isinstance(spec, BaseJudge):
            return spec
        given = _as_mapping(spec)
        kind = given.pop("kind")
        try:
            return _class_of(kind).make(self, **given)
        except TypeError as error:
            # Without the name of the function, which does not help.
            reason = re.sub(r"^[\w.]+\(\) ", "", str(error))
            raise JudgeError(f"judge {kind!r} cannot take these settings: {reason}") from error

    def shared(self, given: dict[str, Any]) -> tuple[Limits, dict[str, Any]]:
        """Return the limits and the further arguments of a judge behind a server.

        `given` are the judge's own settings; the recipe's are the defaults.
        """
        own = {name: given.pop(name) for name in _LIMITS & set(given)}
        try:
            settings = JudgingSettings.model_validate(self.settings.model_dump() | own)
        except ValidationError as error:
            first = error.errors()[0]
            raise JudgeError(f"a judge's {first['loc'][0]}: {first['msg']}") from error
        if self._books is None:
            database = Database(settings.cache)
            self._books = VerdictCache(database), Ledger(database, self.run, settings.budget)
        cache, ledger = self._books
        shared: dict[str, Any] = {
            "guidance": settings.guidance,
            "prompt": settings.prompt,
            "request": settings.request,
            **given,
            "prices": settings.prices,
            "cache": cache,
            "ledger": ledger,
        }
        return Limits(**{name: getattr(settings, name) for name in _LIMITS}), shared


def _as_mapping(spec: Spec) -> dict[str, Any]:
    """Return a spec as a mapping with a known `kind`."""
    if isinstance(spec, Mapping):
        mapping = dict(spec)
        mapping["kind"] = kind = _registered().get(str(mapping.get("kind")), mapping.get("kind"))
        if kind not in JUDGES and not _OWN_CLASS.fullmatch(str(kind)):
            raise JudgeError(f"a judge's kind is one of {_known_kinds()}, not {spec!r}")
        _class_of(str(kind))
        return mapping
    kind, colon, text = str(spec).partition(":")
    if kind not in JUDGES and kind in _registered():
        kind = _registered()[kind]
    elif kind not in JUDGES:
        own = _OWN_CLASS.fullmatch(str(spec))
        if own is None:
            raise JudgeError(f"no judge {spec!r}: choose one of {_known_kinds()}")
        kind, text = own["kind"], own["text"] or ""
        colon = ":" if text else ""
    judge = _class_of(kind)
    optional = not judge.form or judge.form.startswith("[")
    try:
        if bool(text) != bool(colon) or (text and not judge.form) or not (text or optional):
            raise ValueError(text)
        return {"kind": kind, **(judge.read_spec(text) if text else {})}
    except ValueError:
        forms = [kind] if optional else []
        forms += [f"{kind}:{judge.form.strip('[]')}"] if judge.form else []
        raise JudgeError(f"no judge {spec!r}: write {' or '.join(forms)}") from None


def _class_of(kind: str) -> type[BaseJudge]:
    """Import the class of a kind."""
    module, _, name = kind.partition(":")
    if not name:
        module, name = f"{__package__}.kinds.{kind}", "JUDGE"
    try:
        if module.endswith(".py"):
            found = load_object(kind)
        else:
            found = getattr(importlib.import_module(module), name, None)
    except UserError as error:
        raise JudgeError(f"no judge {kind!r}: {error}") from error
    except ImportError as error:
        if kind in JUDGES:
            raise JudgeError(
                f"judge {kind!r} needs {error.name}: install it with pip install -e '.[judges]'"
            ) from error
        raise JudgeError(
            f"no judge {kind!r} ({error}): choose one of {_known_kinds()}; a module of your own "
            "must be on PYTHONPATH"
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseJudge)):
        raise JudgeError(f"{kind!r} is not a judge: name a subclass of p2r.judges.BaseJudge")
    return found


@cache
def _registered() -> dict[str, str]:
    """Return the judges that installed packages register: name -> module:Class."""
    found = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    return {name: value for name, value in found.items() if name not in JUDGES}


def _known_kinds() -> str:
    names = (*JUDGES, *_registered())
    return f"{', '.join(names)} or package.module:Class"
