"""Cues: the words after which an answer follows, the end of its clause, and refused options.

The readers of choices, numbers and thoughts share these rules. The first clause after the last cue
holds the answer: "The answer is B. Option A is wrong" says B. An option that a text refuses ("not
A", "A is wrong") is not named by it.
"""

from __future__ import annotations

import re

# "The answer is …", "Answer: …", "the right option would be: …", "正确答案：…".
CUE = re.compile(
    r"\b(?:answer|ans|option|choice|result)\b[\"']?(?:\s+[a-z]{2,}){0,6}?"
    r"\s*(?:\bis\b|\bbe\b|['’]s\b|[:：=]|[-=]>|→|⇒)\s*[:：]?"
    r"|(?:答案|选项|選項|正解|答)\s*(?:应该|应当|應該|應當|应|應|就)?\s*(?:是|为|為|选|選|は|[:：=】\]])"
    r"\s*[:：]?|答えは|(?:정답|답)\s*[은는이]?\s*[:：]?"
    r"|\b(?:respuesta|réponse|antwort|ответ|resposta|risposta)\b(?:\s+\w+){0,2}?"
    r"\s*(?:\b(?:es|est|ist|é|è)\b|[:：=])",
    re.IGNORECASE,
)
# A cue for the answer that is not right: "the wrong answer is A", "the option that is wrong is A".
_WRONG_BEFORE = re.compile(
    r"(?:\b(?:wrong|incorrect|false|other|another|bad)|错误的?|不正确的?)\s*$", re.IGNORECASE
)
_WRONG_AFTER = re.compile(r"\s*(?:wrong|incorrect|not correct|not right)\s+(?:is\b|are\b|:)")
_BEFORE = 20  # characters before a cue that are searched

REASON = re.compile(r"\b(?:because|since)\b|因为|因為|由于|由於", re.IGNORECASE)
CLAUSE_END = re.compile(
    r"\b(?i:because|since|while|whereas|although|though|rather\ than|instead\ of|as\ opposed\ to"
    r"|unlike|but)\b"
    r"|因为|因為|由于|由於|[;\n。；！？]|[.!?](?=\s|$)"
    r"|,(?=\s)(?!\s+\W*(?:[A-Z]\b|\d|and\b|or\b))|,(?=[\u4e00-\u9fff])"
)


def end_of_last_cue(text: str) -> int | None:
    """Return where the last cue ends, or None. A cue for a wrong answer does not count."""
    for cue in reversed(list(CUE.finditer(text))):
        before = text[max(0, cue.start() - _BEFORE) : cue.start()]
        if not (_WRONG_BEFORE.search(before) or _WRONG_AFTER.match(text, cue.end())):
            return cue.end()
    return None


def after_last_cue(text: str) -> str | None:
    """Return the text after the last cue, or None."""
    end = end_of_last_cue(text)
    return None if end is None else text[end:]


def first_clause(text: str) -> str:
    """Return the first clause of a text."""
    return CLAUSE_END.split(text, maxsplit=1)[0]


# The letter before a named letter: the A of "A and C is correct".
LETTER_BEFORE = re.compile(
    r"(?<![A-Za-z0-9])([A-Z])\)? ?(?:and|or|nor|[,&/和或、]) ?(?:(?:and|or) )?(?:option )?\(?$"
)

_FIRST_EAST_ASIAN = "\u2e80"


def one_word(left: str, right: str) -> bool:
    """Return whether two neighbouring characters belong to one word. "" is the end of the text.

    East Asian texts have no spaces. So a Latin letter next to a Chinese character ends a word.
    """
    if not left or not right or not all(c.isalnum() or c == "_" for c in (left, right)):
        return False
    return (left >= _FIRST_EAST_ASIAN) == (right >= _FIRST_EAST_ASIAN)


# ---- refused options

# One named option: "A", "(A)", "(a)", "option A". Then a list of them: "A", "A or B", "A, B and C".
_I_AM = r"(?:do|did|ca|wo|would|could|should|have|had|am|was|think|can|cannot|will)(?:n['’]?t)?\b"
_NAME = (
    r"(?:(?i:options?|choices?|answers?)\s+|选项|選項)?"
    rf"(?<![A-Za-z0-9'’.])(?:\([A-Za-z]\)|(?:[A-HJ-Z]|I(?!\s{_I_AM}))\)?)(?![A-Za-z0-9'’])"
)
_NAMES = (
    rf"{_NAME}(?:(?:\s?,\s?{_NAME}){{0,8}}\s?,?\s?(?:\band\b|\bor\b|\bnor\b|[&/、和或及与])"
    rf"\s?{_NAME})?"
)
_BE = (
    r"(?:is|are|was|were|seems?|looks?|appears?(?:\ to\ be)?"
    r"|(?:would|can|must|could|should|may)\ be|has\ been|have\ been)"
)
_WRONG = (
    r"(?:not|never|wrong|incorrect|false|untrue|inaccurate|invalid|impossible|implausible|unlikely"
    r"|improbable|mistaken|irrelevant|unsupported|refuted|rejected|ruled\ out|eliminated|excluded"
    r"|dismissed|discarded|out|no\ longer)\b"
)
_REFUSED_AFTER = (
    rf"\s?(?:\s{_BE}\s+(?:(?:\w{{2,15}}ly|also|both|all|just|quite|too|thus|then)\s+){{0,2}}{_WRONG}"
    r"|\s(?:is|are|was|were|does|do|did|has|have|can|could|would|should)n['’]?t\b"
    r"|\s(?:cannot|(?:can|could|would|should|does|do|did|has)\s+(?:not|never))\b"
    r"|\s?(?:选项|選項|项|項)?(?:都|均)?(?:是|显然|明显)?(?:错|錯|不对|不對|不正确|不正確|不是|不符|有误|可以排除|被排除))"
)
_FILLER = (
    r"(?:be|the|it|it['’]s|is|was|that|this|think|believe|say|choose|pick|select|consider|either"
    r"|want|go|with|for|answer|correct|right|necessarily|really|simply|likely|actually|clearly)"
)
_REFUSED_BEFORE = (
    r"(?:(?:\b(?i:not|neither|never|cannot|nor|except|excluding|exclude[sd]?|eliminat(?:e|es|ed|ing)"
    r"|rul(?:e|es|ed|ing)\ out|reject(?:s|ed|ing)?|discard(?:s|ed|ing)?|dismiss(?:es|ed|ing)?"
    r"|(?:every|any)thing\ but|all\ but|rather\ than|instead\ of|as\ opposed\ to|unlike|over)\b"
    r"|n['’]t\b)"
    rf"(?:\s+{_FILLER}\b){{0,5}}[\s\"']{{1,3}}"
    r"|(?i:\bwrong|\bincorrect)(?:\s+(?:answer|option|choice|one)s?)?\s*(?:\bis\b|\bare\b|:)\s*"
    r"|(?:不是|不选|不選|不应选|排除|而非|并非|並非)\s?)"
)
_REFUSED = re.compile(rf"{_REFUSED_BEFORE}{_NAMES}|{_NAMES}{_REFUSED_AFTER}")


def without_refused(text: str) -> str:
    """Return a text without the options that it refuses by letter: "not A but B" → "but B"."""
    return _REFUSED.sub(" ", text)


def refused_spans(text: str) -> list[tuple[int, int]]:
    """Return the places (start, end) where a text refuses options by letter."""
    return [match.span() for match in _REFUSED.finditer(text)]


# A refusal after the name of an option, which may be its text: "the red one is wrong".
REFUSED_AFTER = re.compile(rf"['\")\]]?{_REFUSED_AFTER}")
