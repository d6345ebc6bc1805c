"""Reads choices: which option an answer names.

Answers come from models and from data sets, in any form that a person would accept. The reader
accepts many forms ("B", "(b)", "B. left", "left", "The answer is B."). It is strict about the
meaning: an answer with two options gives none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from string import ascii_uppercase

from p2r.scoring.cues import (
    CLAUSE_END,
    LETTER_BEFORE,
    REASON,
    after_last_cue,
    one_word,
    without_refused,
)
from p2r.template import answer_of, option_labels, read_final_text

Texts = Mapping[str, str | None]  # letter → text; without options the texts are None
_AMBIGUOUS = ""  # the answer names several options: no choice, and no other rule is tried

_LETTER_ALONE = re.compile(r"[(\[{\"']*([A-Za-z])[)\]}\"'.:,;!、。：]*(?:选项|選項|项|項)?")
# The text of an option and its letter: "right (B)", "right: B".
_LETTER_LAST = re.compile(r"(.+?)\s*(?:[(\[]([A-Za-z])[)\]]|[-–,:：]\s*([A-Z]))\W*", re.DOTALL)
_LETTER_IN_MARKS = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
# A letter and more text. A small letter needs a mark ("b) left"), a capital only a space.
_LETTER_FIRST = re.compile(
    r"[(\[{\"']* (?: (?P<small>[a-z])[)\]}\"']*(?:[)\]}.:]\s|[)\]}：、])"
    r"     | (?P<capital>[A-Z])[)\]}\"']*(?:(?P<mark>\s*[-.:,;)\]}：、。]+)\s*|\s+) )"
    r"(?P<rest>.+)",
    re.VERBOSE | re.DOTALL,
)
_LABEL_ALONE = re.compile(r"[(\[{\"'#]*(\d{1,2}|[IVX]{1,5}|[ivx]{1,5})[)\]}\"'.:,;!、。]*")
_NAMED_FIRST = re.compile(
    r"(?:(?:the\s+)?(?:(?:final|correct|right|best|my)\s+)*(?:(?P<answer>answer|ans)|option|choice)\s+"
    r"|[【\[]?(?:正确|正確|最终|最佳)?(?:答案|选项|選項)[】\]]?\s*)(?=\W*(?:[A-Za-z]|[0-9]{1,2}|[IVXivx]{1,5})(?![A-Za-z0-9]))",
    re.IGNORECASE,
)
_RIGHT = r"(?:correct|right|best|true|answer)\b"
_SAID_RIGHT = re.compile(
    r"(?:(?<![A-Za-z0-9])([A-Z])\)?|(?:\b(?i:option|choice|answer)\s+\(?|\()([a-z])\)?)"
    rf"(?:\s+(?:is|would be|must be)\s+(?:the\s+)?(?:(?:most|best|only)\s+)?{_RIGHT}"
    r"|\s?(?:选项|選項|项|項)?(?:是|才是)?(?:正确|正確|对的|對的))"
)
# A capital letter right after a word that chooses or concludes.
_CHOSEN = re.compile(
    r"(?:\b(?i:is|be|think|say|guess|choose|pick|select|with|option|choice|answer|letter|so|thus"
    r"|hence|therefore|definitely|probably|likely|it's|but|rather)\b|选项|選項|选择|選擇|答案|[选選是为為])"
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
    and text ("B) left"), by its exact text, or by another label that the options have ("2", "II").
    Case and punctuation of the text do not matter. In a longer answer the first clause after the
    last cue counts. The result is None for the letter of one option with the text of another, for
    several letters ("A and B"), for a letter that no option has, and for a refused letter ("B is
    incorrect"). Without options, every letter is an option.
    """
    written = answer_of(read_final_text(text if isinstance(text, str) else "")) or ""
    answer = _plain(written)
    texts: Texts = dict.fromkeys(ascii_uppercase)
    labels: dict[str, str] = {}
    if options:
        read = dict(zip(ascii_uppercase, option_labels(options), strict=False))
        texts = {letter: label.text for letter, label in read.items()}
        labels = {label.name: letter for letter, label in read.items() if label.name != letter}
    found = _alone(answer, texts, labels)
    if found is None:
        answer = without_refused(answer).strip()
        found = _whole(answer, texts, labels)
    if found is None and "\n" in written:  # a clause ends at the end of a line
        lines = "\n".join(map(_plain, without_refused(unwrap(written)).splitlines()))
        found = _first_clause((after_last_cue(lines) or "").strip(), texts, labels)
    if found is None:
        found = _after_cue(answer, texts, labels)
    if found is None:
        found = _from_remark(answer, texts)
    return found if found in texts else None


def _alone(answer: str, texts: Texts, labels: Mapping[str, str]) -> str | None:
    """Return the choice of a text that is only a letter, a label, or the text of an option."""
    if (match := _LETTER_ALONE.fullmatch(answer)) and match[1].upper() in texts:
        return match[1].upper()
    found = _named_by_text(answer, texts, labels)
    if labels and (match := _LABEL_ALONE.fullmatch(answer)):
        name = str(int(match[1])) if match[1].isdigit() else match[1].upper()
        labelled = labels.get(name)
        return found if labelled is None else labelled if found in (None, labelled) else _AMBIGUOUS
    return found


def _whole(answer: str, texts: Texts, labels: Mapping[str, str]) -> str | None:
    """Return the choice of a text that is only an answer: a letter, a text, or both."""
    if (found := _alone(answer, texts, labels)) is not None:
        return found
    if match := _LETTER_IN_MARKS.fullmatch(answer):
        return match[1].upper()
    if named := _NAMED_FIRST.match(answer):
        answer = answer[named.end() :]
        if labels and (found := _alone(answer, texts, labels)) is not None:
            return found
        if named["answer"] and (found := _first_clause(answer, texts, labels)) is not None:
            return found
    if match := _LETTER_ALONE.fullmatch(answer):
        return match[1].upper()
    if (found := _begins_with_initials(answer, texts)) is not None:
        return found
    if match := _LETTER_LAST.fullmatch(answer):
        letter = (match[2] or match[3]).upper()
        if _named_by_text(match[1], texts, labels) == letter:
            return letter
    if not (match := _LETTER_FIRST.fullmatch(answer)):
        return None
    letter, rest = (match["small"] or match["capital"]).upper(), match["rest"]
    named_text = _named_by_text(rest, texts, labels)
    if named_text is not None:
        return letter if named_text in (letter, _AMBIGUOUS) else _AMBIGUOUS
    if match["capital"] and not match["mark"] and letter not in mentions(answer):
        return None  # an article, a pronoun
    if after_last_cue(rest) is not None or _SAID_RIGHT.search(REASON.split(answer)[0]):
        return None  # says in words what the answer is
    return letter if mentions(rest) <= {letter} else _AMBIGUOUS


def _after_cue(answer: str, texts: Texts, labels: Mapping[str, str]) -> str | None:
    """Return the choice after the last "answer is", or the one called right ("B is correct")."""
    rest = after_last_cue(answer)
    if rest is not None:
        for read in (_first_clause, _whole):
            if (found := read(rest.strip(), texts, labels)) is not None:
                return found
    said = set()
    for match in _SAID_RIGHT.finditer(answer):
        letter = (match[1] or match[2]).upper()
        if by_text := _ending(answer[: match.end(match.lastindex or 1)], texts):
            start, letter = by_text  # the letter is the end of a text: "Vitamin C is correct"
            joined = _JOINED.search(answer[:start])
            if joined and _ending(answer[: joined.start()], texts):
                return _AMBIGUOUS
            said.add(letter)
            continue
        other = LETTER_BEFORE.search(answer[max(0, match.start() - 20) : match.start()])
        if other and other[1] != letter:
            return _AMBIGUOUS
        said.add(letter)
    return said.pop() if len(said) == 1 else None


_JOINED = re.compile(r"\s?(?:\band\b|\bor\b|\bnor\b|[,&/和或、])\s?$")


def _ending(answer: str, texts: Texts) -> tuple[int, str] | None:
    """Return the option whose text, of more than one letter, ends an answer, and the text's start.

    If several do, the longest counts.
    """
    lowered = answer.casefold()
    found = [
        (start, letter)
        for letter, text in texts.items()
        if len(plain := _same_case(text or "")) > 1 and lowered.endswith(plain)
        if not one_word(lowered[: (start := len(lowered) - len(plain))][-1:], plain[0])
    ]
    return min(found, default=None)


def _first_clause(text: str, texts: Texts, labels: Mapping[str, str]) -> str | None:
    """Return the choice of the first clause. The text of an option may follow its letter."""
    ends = [match.start() for match in islice(CLAUSE_END.finditer(text), 2)]
    if not ends:
        return None
    first, two = (text[:end].strip(" .") for end in (ends[0], [*ends, len(text)][1]))
    if (found := _alone(two, texts, labels)) is not None or not first:
        return found
    if (found := _begins_with_initials(text, texts)) is not None:
        return found
    found = _whole(first, texts, labels)
    if found in texts and _LETTER_ALONE.fullmatch(first):
        named = _named_by_text(two[len(first) :].strip(" ."), texts, labels)
        return found if named in (None, _AMBIGUOUS, found) else _AMBIGUOUS
    return found if found in texts or found == _AMBIGUOUS else None


_INITIAL = re.compile(r"[A-Za-z]\.\s?\S")


def _begins_with_initials(answer: str, texts: Texts) -> str | None:
    """Return the option whose text begins with an initial ("E. coli") and begins the answer."""
    answer = answer.casefold()
    found = [
        (len(plain), letter)
        for letter, text in texts.items()
        if text and _INITIAL.match(text)
        if answer.startswith(plain := _same_case(text))
        and not answer[len(plain) : len(plain) + 1].isalnum()
    ]
    return max(found)[1] if found else None


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


def _named_by_text(text: str, texts: Texts, labels: Mapping[str, str]) -> str | None:
    """Return the option with this text, with or without its letter or label.

    If no text is equal, texts are compared without punctuation.
    """
    names = {letter: name for name, letter in labels.items()}
    for place, key in enumerate(_KEYS):
        wanted = key(text)
        found = [
            letter
            for letter, option in texts.items()
            if option and wanted in _option_keys(letter, option, names.get(letter))[place]
        ]
        if wanted and found:
            return found[0] if len(found) == 1 else _AMBIGUOUS
    return None


@lru_cache(maxsize=1 << 14)
def _option_keys(letter: str, option: str, label: str | None) -> list[set[str]]:
    """Return the keys of an option, alone and with its letter and its label. Cached."""
    forms = [option, f"{letter}. {option}"]
    forms += [f"{label}. {option}", f"{letter}. {label}. {option}"] if label else []
    return [{key(form) for form in forms} for key in _KEYS]


def _same_case(text: str) -> str:
    return _plain(text).casefold().strip(" .,;:!?\"'。，")


# Punctuation without meaning: everything except signs, decimal points and the like before a digit.
_PUNCTUATION = re.compile(r"[!\"'()\[\]{};?\\*_…“”‘’«»。，、！？；：（）]|[.,:/](?!\d)|-(?!\.?\d)")


def _same_words(text: str) -> str:
    return " ".join(_PUNCTUATION.sub(" ", _plain(text).casefold()).split())


_KEYS = (_same_case, _same_words)

# ---- texts without markup

_WRAPPED = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mathit|mathbb|bf|rm)\s*\{([^{}]*)\}")
_BOXED = re.compile(r"\\f?box(?:ed)?\s*\{([^{}]*)\}")
_DASHES = str.maketrans("−–—", "---")
_MARKUP = re.compile(r"\\[()\[\]]|\$|\*\*|`")


def _plain(text: str) -> str:
    """Return a text on one line, normalised (NFKC), without Markdown and LaTeX wrappers."""
    text = _MARKUP.sub("", unicodedata.normalize("NFKC", text).translate(_DASHES))
    return " ".join(unwrap(text).split())


def unwrap(text: str) -> str:
    """Return the content of the last box, or the whole text, without LaTeX's font commands."""
    text = unwrap_fonts(text)
    boxes = _BOXED.findall(text)
    return boxes[-1] if boxes else text


def unwrap_fonts(text: str) -> str:
    """Return a text without LaTeX's font commands."""
    return _WRAPPED.sub(r"\1", text)
