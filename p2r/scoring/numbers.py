"""Reads numbers: which number an answer gives, and how the number is written.

The reader returns the right value or nothing, never another number. First the characters, the
markup and the LaTeX of a text get one spelling. Then all numbers are found. A number that is part
of something unknown to the reader (an operation, a range, an unclear suffix) makes the text
unreadable.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import NamedTuple

from p2r.scoring.cues import REASON, after_last_cue, first_clause
from p2r.scoring.spelling import DIGITS, normalise
from p2r.template import answer_of, read_final_text


class Number(NamedTuple):
    """A number with its written decimals (None: exact, like 1/3 or 2e5) and its percent sign."""

    value: float
    decimals: int | None
    percent: bool = False

    def as_fraction(self) -> Number:
        """Return 50% as 0.50."""
        decimals = None if self.decimals is None else self.decimals + 2
        return Number(self.value / 100, decimals)


def parse_number(text: str | float | None) -> float | None:
    """Return the one number that an answer gives, or None. "50%" gives 50.

    The reader knows signs, thousands separators, currencies and units, fractions ("1/2", "1 1/2",
    "½", "three and a half"), powers ("1e3", "1.5 × 10^3"), magnitudes ("10k", "1.5M", "2 million",
    "3万", "3만"), number words and LaTeX. In a sentence it takes the number after "the answer is"
    or after the last "=", or the only number. Several different numbers give None. So do an
    operation ("3 + 3"), a range ("5-7", "> 5"), a suffix with several meanings ("10 K") and a
    magnitude of another language ("2 млн").
    """
    number = read_number(text)
    return None if number is None else number.value


def read_number(text: str | float | None) -> Number | None:
    """Return the number of `parse_number` together with the way it is written."""
    answer = answer_of(read_final_text("" if text is None else str(text))) or ""
    answer = normalise(answer)
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


# ---- the place of the answer


def _after_answer_is(text: str) -> str:
    rest = after_last_cue(text)
    return text if rest is None else first_clause(rest)


def _before_reason(text: str) -> str:
    return REASON.split(text)[0]


_EQUALS = re.compile(r"[=≈≃≅]|\\approx\b")


def _after_equals(text: str) -> str:
    return _EQUALS.split(text)[-1]


# ---- numbers in a text

# fmt: off
_SMALL = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4,
    "fourths": 4, "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "seventh": 7, "sevenths": 7,
    "eighth": 8, "eighths": 8, "ninth": 9, "ninths": 9, "tenth": 10, "tenths": 10,
}
# fmt: on
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES |= {"trillion": 10**12}
_MORE_SCALES = {"bn": 10**9, "mn": 10**6, "mln": 10**6, "mio": 10**6, "tn": 10**12}
_MORE_SCALES |= {"lakh": 10**5, "crore": 10**7, "百": 100, "千": 10**3, "万": 10**4, "萬": 10**4}
_MORE_SCALES |= {"百万": 10**6, "千万": 10**7, "亿": 10**8, "億": 10**8}
_KOREAN_SCALES = {"백": 100, "천": 10**3, "만": 10**4, "백만": 10**6, "천만": 10**7, "억": 10**8}
_ALL_SCALES = _SCALES | _MORE_SCALES | _KOREAN_SCALES

_SCALE = "|".join(sorted(_SCALES, key=len, reverse=True))
_ANY_SCALE = "|".join(sorted(_SCALES | _MORE_SCALES, key=len, reverse=True))
# A Korean scale ends the number, or a counter follows it: 3백 and 3만원, but not 3 백조 (swans).
_KOREAN_SCALE = (
    rf"(?:{'|'.join(sorted(_KOREAN_SCALES, key=len, reverse=True))})"
    r"(?![가-힣])|(?:천만|백만|[백천만억])(?=\s?(?:원|명|개|대|마리|권|살|년|번|미터|킬로)(?![가-힣]))"
)
# Other magnitudes, and tenths. A number before one of them is unreadable.
_FOREIGN_SCALE = (
    r"(?:[십백천만억조](?![가-힣])|[백천만억]|[割兆]|成(?![\u4e00-\u9fff])"
    r"|लाख|करो|हज|अरब|ألف|آلاف|مليون|ملايين|مليار|พัน|หมื่น|แสน|ล้าน"
    r"|(?i:тыс|тысяч\w*|млн|млрд|трлн|миллион\w*|миллиард\w*|χιλιάδες|εκατομμύρια"
    r"|millones|mill[oó]n|milh(?:ões|oes|ão|ao)|bilh(?:ões|oes|ão|ao)|milioni?|milione|mila|mille"
    r"|mil(?:li|i|j)ard\w*|mrd|mld|millionen|billionen|tausend|duizend|tusen|miljo\w*"
    r"|tysi\w+|milion\w*|milyon|milyar|juta|ribu|miliar|tri[eệ]u|tỷ|nghìn|ngàn|la[ck]s?|crs?)(?!\w))"
)
_WORD = "|".join((*_SMALL, *_SCALES))
_NUMERATOR = "|".join(word for word, value in _SMALL.items() if value)
_PART = "|".join(sorted(_PARTS, key=len, reverse=True))
_PERCENT = r"(?P<percent>\s?(?:%|percent\b|per\ cent\b|pct\b|percentage\ points?\b))?"
_NUMBER = re.compile(
    rf"""
    (?<![A-Za-z\d.^_])                             # no part of a word, an index or an exponent
    (?P<sign>(?<![\w)\]])[-+])?
    (?: (?P<whole>\d+)\s+ (?=\d+\s?/\s?\d) )?      # the 1 of 1 1/2
    (?P<digits>{DIGITS})
    (?: \s?(?P<exponent>(?<!\s)[eE][-+]?\d+)
      | \s?[x×*·]\s?10\s?\^(?P<power>[-+]?\d+)
      | \^(?P<raised>[-+]?\d+) )?
    (?: \s?/\s?(?P<under>[-+]?(?:{DIGITS})) )?
    (?!\.?\d)
    (?P<half> \s(?:and|&)\s
        (?P<count>(?i:a|one|two|three))\s(?P<part>(?i:half|quarters?|thirds?))\b )?
    (?: [\s-]?(?P<scale>(?i:{_ANY_SCALE})s?(?![A-Za-z]|(?<=千)[米克瓦卡赫帕焦])|{_KOREAN_SCALE}) )?
    (?: [\s-]?(?P<second>(?i:thousand|million|billion)s?)(?![A-Za-z]) )?
    (?i:{_PERCENT})
    """,
    re.VERBOSE,
)
_IN_WORDS = re.compile(
    rf"(?<![a-z])(?P<minus>(?:minus|negative)\s+|(?<![\w)\]])-)?(?:"
    # "three and a half", "two and three quarters million"
    rf"(?P<mixed>(?:{_WORD})(?:(?:[\s-]|\s+and\s+)+(?:{_WORD}))*?)[\s-](?:and|&)[\s-]"
    rf"(?P<count>a|{_NUMERATOR})[\s-](?P<of>{_PART})(?:\s(?P<times>{_SCALE}))?"
    # "half", "half a million", "two thirds", "one-half"
    rf"|(?P<share>half|a[\s-](?:half|quarter)|(?:{_NUMERATOR})[\s-](?:{_PART}))(?:\s(?:a\s|of\sa\s)?(?P<of_scale>{_SCALE}))?"
    # "three point one four"
    rf"|(?P<point>(?:{_WORD})(?:[\s-](?:{_WORD}))*)\spoint"
    rf"(?P<places>(?:\s(?:{'|'.join(list(_SMALL)[:10])}))+)"
    rf"|(?P<words>(?:{_WORD})(?:(?:[\s-]|\s+and\s+)+(?:{_WORD}))*)"
    rf")(?![a-z]){_PERCENT}"
)
# 2π is not 2, -(-5) is not -5, |-5| is not -5, 0x10 is not 0.
_NOT_PLAIN = re.compile(
    r"(?i)[π√∞∛]|\\infty|(?<![a-z])(?:pi|sqrt)(?![a-z])|-\s?\(\s?-|\|\s?-\s?[\d.]|\b0x[\da-f]"
)

# In the masked text every number is a run of "#".
_REFUSED_BEFORE = re.compile(r"(?:\bnot|n['’]t|不是)\s(?:(?:be|exactly|just|only)\s)?$")
_BETWEEN = re.compile(
    r"\s?(?:[-+x×*·÷/:±]|-\s?by\s?-|plus|minus|times|divided by|multiplied by|point|of|out of|in"
    r"|per|to|or|and|through|versus|vs\.?|by|between)\s?"
)
_SPOILED = re.compile(
    r"[-+±]\s?#|\bpoint #"
    r"|[<>≥≤≠]\s?#"
    r"|\b(?i:at least|at most|(?:more|less|fewer|greater|higher|lower|larger|smaller) than|up to"
    r"|no (?:more|less|fewer) than|below|above|under|over|beyond) #"
    # 3x4, 5ft10, 2m30s and 0b11, but not the square and cubic metres of 5m2 and 5 m3
    r"|#(?!\s?[kcdmn]?m[23](?![A-Za-z\d]))"
    r"(?:[A-Za-z]+|\s?x|\s(?:ft|in|h|hrs?|min|m|cm|lbs?|kg|sec))\d"
    r"|#\s?(?:or|and) (?:more|less|fewer|above|below|over|under)\b"
    r"|[A-Za-z)\]]\s?[*/÷×^]\s?#|[)\]}]\s?\^"
    r"|#\s?[*^÷]|#[ ]?\^|#_|#\+(?!\s?#)|#\s?[-+]\s?[b-z](?![A-Za-z])"
    r"|#\s?(?:squared|cubed|factorial|to the (?:power|second|\w{2,10}[tr][hd]|#))"
    r"|#\s?‰|#\s?[个個]?半|#\s?\D?分之|#\s?(?:多|余|餘|几|幾|以上|以下)"
    r"|(?:超过|超過|多[于於过過]|[大小高低少][于於]|不到|不足|[至最][少多])\s?#"
    r"|\b(?:root|log|ln|lg|sin|cos|tan|exp|cot|sec)(?: of)?[\s(_{]{0,2}#"
    r"|\\[dtc]?frac|\b(?:below|under) (?:zero|freezing|null)\b|零下|-\s?[A-Z]{1,3}\s?#"
    r"|#\s?(?:basis points?|bps)\b|#[^\S\n]?(?:mil|MM|kk|KK|[\s-]?k|K)(?![A-Za-z])"
    r"|#(?:[^\S\n][KMB]|[bTG])(?![A-Za-z\d^])"
    r"|#\s?(?:halves|thirds|quarters|fourths|fifths|sixths|sevenths|eighths|ninths|tenths"
    r"|hundredths|thousandths|millionths|score|gross|grand)\b"
    r"|\b(?:twice|double|triple|half of|a third of|a quarter of) #"
    rf"|#[\s-]?{_FOREIGN_SCALE}"
)
_PRONOUN = re.compile(
    r"\b(?:the|this|that|which|no|each|every|another|other|any|only|first|second|last|next|left"
    r"|right|[a-z]+er|red|blue|green|yellow|white|black|big|small) $"
)
_PRONOUN_AFTER = re.compile(
    r" (?:can|could|should|would|may|might|must|who|that|which|sees|on the|in the|at the|with"
    r"|of (?:the|them|these|those))\b"
)


def _numbers(text: str) -> list[Number | None]:
    """Return every number of a text, in its order.

    None stands for a number that is not finite, or whose value is unclear.
    """
    found: list[tuple[int, int, Number | None]] = [
        (match.start(), match.end(), _from_digits(match)) for match in _NUMBER.finditer(text)
    ]
    masked = _NUMBER.sub(lambda match: "#" * len(match[0]), text)
    lowered = masked.lower() if len(masked.lower()) == len(masked) else masked
    pronouns = []
    words = []
    for match in _IN_WORDS.finditer(lowered):
        if match["words"] == "one" and lowered[: match.start()].endswith("no "):
            continue
        if match["words"] == "one" and not match["minus"] and _is_pronoun(lowered, match):
            pronouns.append((match.start(), match.end(), Number(1.0, 0, bool(match["percent"]))))
        else:
            words += _from_words(match)
    found += words
    if not found:
        return [number for *_, number in pronouns]
    characters = list(masked)
    for start, end in {(start, end) for start, end, _ in words}:
        characters[start:end] = "#" * (end - start)
    masked = "".join(characters)
    found.sort(key=lambda item: item[0])
    kept = [
        item for item in found if not _REFUSED_BEFORE.search(masked[max(0, item[0] - 20) : item[0]])
    ]
    gaps = (masked[a[1] : b[0]] for a, b in pairwise(found))
    if kept and (_SPOILED.search(masked) or any(_BETWEEN.fullmatch(gap) for gap in gaps)):
        return [None]
    return [number for *_, number in kept]


def _is_pronoun(text: str, match: re.Match[str]) -> bool:
    """Return whether "one" is a pronoun: "the one on the left", "one can see"."""
    before = text[max(0, match.start() - 20) : match.start()]
    return bool(_PRONOUN.search(before) or _PRONOUN_AFTER.match(text, match.end()))


def _from_digits(match: re.Match[str]) -> Number | None:
    digits = match["digits"].replace(",", "")
    if "," in match["digits"] and digits.startswith("0"):
        return None  # 0,500 has a decimal comma
    try:
        value = float(digits + (match["exponent"] or ""))
        if match["power"]:
            value *= 10.0 ** int(match["power"])
        if match["raised"]:
            value **= int(match["raised"])
        if match["under"]:
            value /= float(match["under"].replace(",", ""))
        value += float(match["whole"] or 0)
        if match["half"]:
            count = _SMALL.get(match["count"].lower(), 1)
            value += count / _PARTS[match["part"].lower()]
        for scale in filter(None, (match["scale"], match["second"])):
            value *= _ALL_SCALES.get(scale.lower()) or _ALL_SCALES[scale[:-1].lower()]
    except (OverflowError, ZeroDivisionError, ValueError):  # ValueError: thousands of digits
        return None
    if not math.isfinite(value):
        return None
    parts = ("exponent", "power", "raised", "under", "scale", "half")
    decimals = None if any(match[part] for part in parts) else len(digits.partition(".")[2])
    return Number(-value if match["sign"] == "-" else value, decimals, bool(match["percent"]))


def _from_words(match: re.Match[str]) -> list[tuple[int, int, Number | None]]:
    """Return the numbers of a match in words, each with the place of the whole match."""
    sign = -1.0 if match["minus"] else 1.0
    decimals: int | None = 0
    if match["words"]:
        values = _spelt(match["words"])
    elif match["mixed"]:
        whole = _spelt(match["mixed"])
        count = _SMALL.get(match["count"], 1)
        clear = (len(whole) == 1 and whole[0] < 20) or match["mixed"].split()[-1] in _SMALL
        share = count / _PARTS[match["of"]]
        values = [(whole[-1] + share) * _SCALES.get(match["times"], 1)]
        if not clear or len(whole) > 1 or share >= 1:  # "a million and a half" is unclear
            values = [math.nan]
        decimals = None
    elif match["share"]:
        before = match.string[max(0, match.start() - 4) : match.start()]
        part_of_more = before.strip() in ("and", "&")  # "an hour and a half" is not 0.5
        share = math.nan if part_of_more else _share(match["share"])
        values, decimals = [share * _SCALES.get(match["of_scale"], 1)], None
    else:
        whole = _spelt(match["point"]) if match["point"] else [0.0]
        places = "".join(str(_SMALL[word]) for word in match["places"].split())
        values = [float(f"{whole[0]:.0f}.{places}") if len(whole) == 1 else math.nan]
        decimals = len(places)
    percent = bool(match["percent"])
    return [
        (
            match.start(),
            match.end(),
            Number(sign * value, decimals, percent) if math.isfinite(value) else None,
        )
        for value in values
    ]


def _share(text: str) -> float:
    """Return the value of "half", "a quarter" or "two thirds". "Twenty fifth" has none."""
    *count, part = re.split(r"[\s-]", text)
    if not count or count == ["a"]:
        return 1 / _PARTS[part]
    value = _SMALL[count[0]]
    ordinal = value > 1 and not part.endswith("s")
    return math.nan if ordinal else value / _PARTS[part]


def _spelt(text: str) -> list[float]:
    """Return the numbers that words spell: "twenty one" → [21], "five six" → [5, 6]."""
    numbers: list[float] = []
    total = current = 0.0
    for word in re.split(r"[\s-]+", text):
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
