"""Reads answers: which option an answer names, and which number it gives.

Answers come from models and from data sets, in any form that a person would accept. The readers
accept many forms ("B", "(b)", "B. left", "left", "The answer is B."). They are strict about the
meaning: an answer with two options or two numbers gives none.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from string import ascii_uppercase
from typing import NamedTuple

from p2r.template import answer_of

# ---- options

# "A. left", "A) left", "(A) left", "[A] left", "A: left"
_PREFIX = re.compile(r"\s*[(\[]?([A-Za-z])(?:[)\]][.:]?|[.:、．：])\s*(.*)", re.DOTALL)


def option_texts(options: Sequence[str]) -> dict[str, str]:
    """Return the text of each option by its letter.

    Letters come from the prefixes if all options have one, otherwise from the positions.
    """
    return dict(_option_texts(tuple(options)))


@lru_cache(maxsize=4096)  # the same options are used for truth, prediction and thinking
def _option_texts(options: tuple[str, ...]) -> dict[str, str]:
    matches = [_PREFIX.fullmatch(option) for option in options]
    prefixed = {match[1].upper(): match[2].strip() for match in matches if match}
    if len(prefixed) == len(options):
        return prefixed
    texts = {}
    for letter, option, match in zip(ascii_uppercase, options, matches, strict=False):
        own = match and match[1].upper() == letter
        texts[letter] = match[2].strip() if match and own else option.strip()
    return texts


# ---- choices

Texts = Mapping[str, str | None]  # letter → text; without options the texts are None
_AMBIGUOUS = ""  # the answer names several options: no choice, and no other rule is tried

_LETTER_ALONE = re.compile(r"[(\[{\"']*([A-Za-z])[)\]}\"'.:,;!、。：]*")
_LETTER_IN_MARKS = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
# A letter and more text. A small letter needs a mark ("b) left"), a capital only a space.
_LETTER_FIRST = re.compile(
    r"[(\[{\"']* (?: (?P<small>[a-z])[)\]}\"']*(?:[)\]}.:]\s|[)\]}：、])"
    r"     | (?P<capital>[A-Z])[)\]}\"']*(?:(?P<mark>\s*[-.:,;)\]}：、。]+)\s*|\s+) )"
    r"(?P<rest>.+)",
    re.VERBOSE | re.DOTALL,
)
_NAMED_FIRST = re.compile(
    r"(?:the\s+)?(?:(?:final|correct|right|best|my)\s+)*(?:answer|option|choice)\s+(?=\W*[A-Za-z]\b)",
    re.IGNORECASE,
)
# "The answer is …", "Answer: …", "the right option would be: …". The answer follows the last one.
_CUE = re.compile(
    r"\b(?:answer|ans|option|choice|result)\b(?:\s+[a-z]{2,}){0,6}?"
    r"\s*(?:\bis\b|\bbe\b|[:：=])\s*[:：]?",
    re.IGNORECASE,
)
_REASON = re.compile(r"\b(?:because|since)\b", re.IGNORECASE)
_CLAUSE_END = re.compile(
    r"\b(?:[Bb]ecause|[Ss]ince)\b|[;\n]|\.(?=\s|$)|,(?=\s)(?!\s+\W*(?:[A-Z]\b|\d|and\b|or\b))"
)
_SAID_RIGHT = re.compile(
    r"(?<![A-Za-z0-9])([A-Z])\)?\s+(?:is|would be|must be)\s+(?:the\s+)?(?:(?:most|best|only)\s+)?"
    r"(?:correct|right|best|answer)\b"
)
# A capital letter right after a word that chooses or concludes.
_CHOSEN = re.compile(
    r"(?:\b(?i:is|be|think|say|guess|choose|pick|select|with|option|choice|answer|letter|so|thus"
    r"|hence|therefore|definitely|probably|likely|it's)\b|[选選是为為])"
    r"[\W_]*([A-Z])(?![A-Za-z0-9'’])"
)
# A capital that means an option: not part of a word, not denied, no article, no pronoun.
_MENTION = re.compile(
    r"(?<![A-Za-z0-9'’.])(?<!\bnot )"
    r"(?:[B-HJ-Z]|A(?!\s+(?!(?:is|as|and|or|because|since)\b)[a-z])|I(?!\s+[a-z]))"
    r"(?![A-Za-z0-9'’]|[-.][A-Za-z])"
)
LONGEST_REMARK = 25  # words; a longer text needs a clear cue ("the answer is")


def extract_choice(text: str | None, options: Sequence[str] | None = None) -> str | None:
    """Return the capital letter of the one option that an answer names, or None.

    An option is named by its letter ("B", "(b)", "B.", "option B", "The answer is B"), by letter
    and text ("B) left"), or by its exact text. Case and punctuation of the text do not matter. The
    result is None for the letter of one option with the text of another, for several letters ("A
    and B"), and for a letter that no option has. Without options, every letter is an option.
    """
    answer = _plain(answer_of(text) or "")
    texts: Texts = option_texts(options) if options else dict.fromkeys(ascii_uppercase)
    found = _whole(answer, texts)
    if found is None:
        found = _after_cue(answer, texts)
    if found is None:
        found = _from_remark(answer, texts)
    return found if found in texts else None


def _whole(answer: str, texts: Texts) -> str | None:
    """Return the choice of a text that is only an answer: a letter, a text, or both."""
    if (match := _LETTER_ALONE.fullmatch(answer)) and match[1].upper() in texts:
        return match[1].upper()
    if found := _named_by_text(answer, texts):
        return found
    if match := _LETTER_IN_MARKS.fullmatch(answer):
        return match[1].upper()
    answer = _NAMED_FIRST.sub("", answer, count=1) if _NAMED_FIRST.match(answer) else answer
    if match := _LETTER_ALONE.fullmatch(answer):
        return match[1].upper()
    if not (match := _LETTER_FIRST.fullmatch(answer)):
        return None
    letter, rest = (match["small"] or match["capital"]).upper(), match["rest"]
    named = _named_by_text(rest, texts)
    if named is not None:
        return letter if named in (letter, _AMBIGUOUS) else _AMBIGUOUS
    if match["capital"] and not match["mark"] and letter not in mentions(answer):
        return None  # an article, a pronoun
    if _CUE.search(rest) or _SAID_RIGHT.match(answer):
        return None  # says in words what the answer is
    return letter if mentions(rest) <= {letter} else _AMBIGUOUS


def _after_cue(answer: str, texts: Texts) -> str | None:
    """Return the choice after the last "answer is", or the one called right ("B is correct")."""
    cues = list(_CUE.finditer(answer))
    if cues:
        rest = answer[cues[-1].end() :].strip()
        for part in (rest, _CLAUSE_END.split(rest)[0].strip()):
            found = _whole(part, texts)
            if found is not None:
                return found
    said = set(_SAID_RIGHT.findall(answer))
    return said.pop() if len(said) == 1 else None


def _from_remark(answer: str, texts: Texts) -> str | None:
    """Return the choice of a short remark ("I would go with B"): the only letter in it."""
    if len(answer.split()) > LONGEST_REMARK:
        return None
    mentioned = mentions(answer) & texts.keys()
    chosen = set(_CHOSEN.findall(answer))
    return mentioned.pop() if len(mentioned) == 1 and mentioned <= chosen else None


def mentions(text: str) -> set[str]:
    """Return the capital letters of a text that mean options."""
    return set(_MENTION.findall(text))


def _named_by_text(text: str, texts: Texts) -> str | None:
    """Return the option with this text, with or without its letter.

    If no text is equal, texts are compared without punctuation.
    """
    for place, key in enumerate(_KEYS):
        wanted = key(text)
        found = [
            letter
            for letter, option in texts.items()
            if option and wanted in _option_keys(letter, option)[place]
        ]
        if wanted and found:
            return found[0] if len(found) == 1 else _AMBIGUOUS
    return None


@lru_cache(maxsize=1 << 14)
def _option_keys(letter: str, option: str) -> list[tuple[str, str]]:
    """Return the keys of an option, without and with its letter. Cached for all its answers."""
    return [(key(option), key(f"{letter}. {option}")) for key in _KEYS]


def _same_case(text: str) -> str:
    return _plain(text).casefold().strip(" .,;:!?\"'。，")


# Punctuation without meaning: everything except signs, decimal points and the like before a digit.
_PUNCTUATION = re.compile(r"[!\"'()\[\]{};?\\*_…“”‘’«»。，、！？；：（）]|[.,:/](?!\d)|-(?!\.?\d)")


def _same_words(text: str) -> str:
    return " ".join(_PUNCTUATION.sub(" ", _plain(text).casefold()).split())


_KEYS = (_same_case, _same_words)

_WRAPPED = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mathit)\s*\{([^{}]*)\}")
_BOXED = re.compile(r"\\f?box(?:ed)?\s*\{([^{}]*)\}")
_DASHES = str.maketrans("−–—", "---")
_MARKUP = re.compile(r"\\[()\[\]]|\$|\*\*|`")


def _plain(text: str) -> str:
    """Return a text on one line, normalised (NFKC), without Markdown and LaTeX wrappers."""
    text = _MARKUP.sub("", unicodedata.normalize("NFKC", text).translate(_DASHES))
    return " ".join(_unwrap(text).split())


def _unwrap(text: str) -> str:
    """Return the content of the last box, or the whole text, without LaTeX's font commands."""
    text = _WRAPPED.sub(r"\1", text)
    boxes = _BOXED.findall(text)
    return boxes[-1] if boxes else text


# ---- numbers


class Number(NamedTuple):
    """A number with its written decimals (None: exact, like 1/3 or 2e5) and its percent sign."""

    value: float
    decimals: int | None
    percent: bool = False

    def as_fraction(self) -> Number:
        """Return 50% as 0.50."""
        decimals = None if self.decimals is None else self.decimals + 2
        return Number(self.value / 100, decimals)


# fmt: off
_SMALL = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}
# fmt: on
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES |= {"trillion": 10**12}

_SCALE = "|".join(_SCALES)
_WORD = "|".join((*_SMALL, *_SCALES))
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"""
    (?<![A-Za-z\d.^_])                             # no part of a word, an index or an exponent
    (?P<sign>(?<![\w)\]])[-+])?
    (?: (?P<whole>\d+)\s+ (?=\d+\s*/\s*\d) )?      # the 1 of 1 1/2
    (?P<digits>{_DIGITS})
    (?: (?P<exponent>[eE][-+]?\d+)
      | \s*(?:[x×*·⋅]|\\times|\\cdot)\s*10\s*\^(?P<power>[-+]?\d+)
      | \^(?P<raised>[-+]?\d+) )?
    (?: \s*/\s*(?P<under>[-+]?(?:{_DIGITS})) )?
    (?!\.?\d)
    (?: [\s-]*(?P<scale>{_SCALE})\b )?
    (?P<percent>\s*(?:%|percent\b|per\ cent\b))?
    """,
    re.VERBOSE,
)
_IN_WORDS = re.compile(
    rf"(?<![a-z])(?P<minus>(?:minus|negative)\s+)?"
    rf"(?P<words>(?:{_WORD})(?:(?:[\s-]|\s+and\s+)+(?:{_WORD}))*)(?![a-z])"
    rf"(?P<percent>\s*(?:%|percent\b|per cent\b))?"
)
_EQUALS = re.compile(r"[=≈≃≅]|\\approx\b")
_NOT_PLAIN = re.compile(r"[π√∞∛]|\\infty|(?<![a-z])(?:pi|sqrt)(?![a-z])")  # 2π is not 2

_CHARACTERS = str.maketrans("−–—﹣－＋，．％／⁄∕：", "-----+,.%///:")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SPACES = re.compile(r"(\s)\s+")
# Rewrites before the search for numbers, in this order.
_REWRITES = (
    (re.compile(r"(?<=\d)[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+"), lambda m: "^" + m[0].translate(_SUPERSCRIPTS)),
    (re.compile(r"[¼½¾⅐-⅞]"), lambda m: " " + unicodedata.normalize("NFKC", m[0])),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}"), r" \1/\2"),
    (re.compile(r"(?<=\d)(?:\{,\}|\\[,!]|[\u00a0\u2007\u2009\u202f'’])(?=\d{3}(?!\d))"), ","),
    (re.compile(r"\\[,;:!]"), " "),
    (re.compile(r"\\?%"), "%"),
    (re.compile(r"([-+]?)\s*\\?[$€£¥₹]\s*"), r" \1"),
    (re.compile(r"(?<=[A-Za-z)}])\s*\^\s*\{?[-+]?\d+\}?"), ""),
    (re.compile(r"\^\s*[{(]?([-+]?\d+)[)}]?"), r"^\1"),
    (re.compile(r"(?i)\b(?:minus|negative)\s+(?=[\d.])|^\s*-\s+(?=\d)"), "-"),
)


def parse_number(text: str | float | None) -> float | None:
    """Return the one number that an answer gives, or None. "50%" gives 50.

    The reader knows signs, thousands separators, currencies and units, fractions ("1/2", "1 1/2",
    "½"), powers ("1e3", "1.5 × 10^3"), number words and LaTeX. In a sentence it takes the number
    after "the answer is" or after the last "=", or the only number. Several different numbers give
    None.
    """
    number = read_number(text)
    return None if number is None else number.value


def read_number(text: str | float | None) -> Number | None:
    """Return the number of `parse_number` together with the way it is written."""
    answer = answer_of(text if text is None else str(text)) or ""
    answer = "\n".join(filter(None, map(str.strip, answer.splitlines())))
    answer = _SPACES.sub(r"\1", answer)
    for pattern, replacement in _REWRITES:
        answer = pattern.sub(replacement, answer)
    answer = _unwrap(answer.translate(_CHARACTERS)).lower()
    for narrow in (_after_answer_is, _before_reason, _after_equals):
        narrowed = narrow(answer)
        if _numbers(narrowed):
            answer = narrowed
    if _NOT_PLAIN.search(answer):
        return None
    numbers = _numbers(answer)
    finite = [number for number in numbers if number is not None]
    if not finite or len(finite) < len(numbers):
        return None
    return finite[0] if all(same_value(finite[0], other) for other in finite) else None


def same_value(a: Number, b: Number) -> bool:
    """Return whether two numbers are equal up to rounding errors.

    A percentage also equals the bare number and the fraction: 50% is 50 and 0.5.
    """
    return any(
        math.isclose(x.value, y.value, rel_tol=1e-9, abs_tol=1e-12) for x, y in readings(a, b)
    )


def readings(a: Number, b: Number) -> list[tuple[Number, Number]]:
    """Return the pairs to compare. If only one has a percent sign, 50% may mean 50 or 0.5."""
    if a.percent == b.percent:
        return [(a, b)]
    return [(a, b), (a.as_fraction(), b) if a.percent else (a, b.as_fraction())]


def _after_answer_is(text: str) -> str:
    cues = list(_CUE.finditer(text))
    return _CLAUSE_END.split(text[cues[-1].end() :])[0] if cues else text


def _before_reason(text: str) -> str:
    return _REASON.split(text)[0]


def _after_equals(text: str) -> str:
    return _EQUALS.split(text)[-1]


def _numbers(text: str) -> list[Number | None]:
    """Return every number of a text, digits first. None stands for a number that is not finite."""
    found: list[Number | None] = [_from_digits(match) for match in _NUMBER.finditer(text)]
    pronouns: list[Number | None] = []
    for match in _IN_WORDS.finditer(_NUMBER.sub(" ", text)):
        sign = -1.0 if match["minus"] else 1.0
        for value in _from_words(re.split(r"[\s-]+", match["words"])):
            number = Number(sign * value, 0, bool(match["percent"]))
            kind = pronouns if match["words"] == "one" else found
            kind.append(number if math.isfinite(value) else None)
    return found or pronouns  # beside other numbers, "one" is a pronoun: "the one on the left"


def _from_digits(match: re.Match[str]) -> Number | None:
    digits = match["digits"].replace(",", "")
    try:
        value = float(digits + (match["exponent"] or ""))
        if match["power"]:
            value *= 10.0 ** int(match["power"])
        if match["raised"]:
            value **= int(match["raised"])
        if match["under"]:
            value /= float(match["under"].replace(",", ""))
    except (OverflowError, ZeroDivisionError, ValueError):  # ValueError: thousands of digits
        return None
    value = (value + float(match["whole"] or 0)) * _SCALES.get(match["scale"], 1)
    if not math.isfinite(value):
        return None
    exact = any(match[part] for part in ("exponent", "power", "raised", "under", "scale"))
    decimals = None if exact else len(digits.partition(".")[2])
    return Number(-value if match["sign"] == "-" else value, decimals, bool(match["percent"]))


def _from_words(words: Sequence[str]) -> list[float]:
    """Return the numbers that words spell: ["twenty", "one"] → [21], ["five", "six"] → [5, 6]."""
    numbers: list[float] = []
    total = current = 0.0
    for word in words:
        if word in _SMALL:
            value, rest = _SMALL[word], current % 100
            fits = rest == 0 or (value < 10 and rest >= 20 and rest % 10 == 0)
            if not fits or (value == 0 and current):
                numbers.append(total + current)
                total = current = 0.0
            current += value
        elif word in ("dozen", "hundred"):
            current = max(current, 1.0) * _SCALES[word]
        elif word in _SCALES:
            total, current = total + max(current, 1.0) * _SCALES[word], 0.0
    return [*numbers, total + current]
