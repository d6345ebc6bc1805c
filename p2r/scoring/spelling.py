"""Gives the numbers in a text one spelling: signs, markup, LaTeX, currencies, magnitudes."""

from __future__ import annotations

import html
import re
import unicodedata

from p2r.scoring.choices import unwrap, unwrap_fonts

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("−–—―‐‑‒﹣－➖˗⁃", "-"),
        **dict.fromkeys("＋➕﹢", "+"),
        **dict.fromkeys("﹪％", "%"),
        **dict.fromkeys("／⁄∕", "/"),
        **dict.fromkeys("：∶", ":"),
        **dict.fromkeys("¥₹￥₩₽￡£€＄﹩", "$"),
        **dict.fromkeys("，﹐", ","),
        **dict.fromkeys("．﹒", "."),
        **dict.fromkeys("（", "("),
        **dict.fromkeys("）", ")"),
        **dict.fromkeys("×✕✖╳⨯", "×"),
        **dict.fromkeys("·⋅∙•", "·"),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff", None),
        **dict.fromkeys(map(chr, range(0x202A, 0x202F)), None),
        **dict.fromkeys(map(chr, range(0x2066, 0x206A)), None),
    }
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₋₊", "0123456789-+")
_SPACES = re.compile(r"(\s)\s+")
DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_BRACED = r"\{\s?([-+]?[\d.,]+)\s?\}"
_EMPHASIS = r"(?<![\w*)])\*{1,3}(?=\S)|(?<=\S)\*{1,3}(?![\w*(])|(?<=\d)\*\*(?=[A-Za-z])"
_MONEY = {"m": "million", "b": "billion", "t": "trillion"}
_SHORT = {"k": "thousand", "K": "thousand", "M": "million", "B": "billion"}
# A minus sign with a space after it, where it cannot be an operation, a bullet or a separator.
_APART = (
    r"(?:(?:^|[=≈≃≅:(\[{]|\\approx"
    r"|\b(?i:is|be|are|was|were|equals?|about|around|approximately|roughly|exactly|nearly))[^\S\n]*)"
)

# Rewrites in this order. Each one leaves less for the next ones.
_REWRITES = (
    # fractions of small digits, superscripts, single characters
    (
        re.compile(r"([⁰¹²³⁴⁵⁶⁷⁸⁹]+)/([₀₁₂₃₄₅₆₇₈₉]+)"),
        lambda m: f" {m[1].translate(_SUPERSCRIPTS)}/{m[2].translate(_SUBSCRIPTS)}",
    ),
    (re.compile(r"(?<![\w)\]}.⁰¹²³⁴⁵⁶⁷⁸⁹])[⁻₋](?=[\d.])"), "-"),
    (re.compile(r"(?<=[\d)\]}])[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+"), lambda m: "^" + m[0].translate(_SUPERSCRIPTS)),
    (
        re.compile(r"(?<=[\d\s])\s?([¼½¾⅐-⅞↉])"),
        lambda m: " " + unicodedata.normalize("NFKC", m[1]).replace("⁄", "/"),
    ),
    (
        re.compile(r"[¼½¾⅐-⅞↉]"),
        lambda m: unicodedata.normalize("NFKC", m[0]).replace("⁄", "/"),
    ),
    # markup: tags, arrows, Markdown, LaTeX
    (re.compile(r"</?[A-Za-z][^<>]{0,60}>"), " "),
    (re.compile(r"[-=]>|→|⇒|\.{2,}|…"), " ; "),
    (re.compile(r"(?<=\d)\s?\*\*\s?(?=[-+]?\d)"), "^"),
    (re.compile(_EMPHASIS), ""),
    (re.compile(r"(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])|`"), ""),
    (re.compile(r"\\(?:left|right|big|Big|displaystyle)(?![A-Za-z])"), ""),
    (re.compile(r"\{\s?([-+])\s?\}"), r"\1"),
    (re.compile(rf"(?<![\w)\]}}])-\s?{_BRACED}"), r"-\1"),
    (re.compile(r"\\times(?![A-Za-z])"), "×"),
    (re.compile(r"\\cdot(?![A-Za-z])"), "·"),
    (re.compile(r"\\(?:pm|mp)(?![A-Za-z])|∓|\+/-|\+-"), "±"),
    (re.compile(r"\\(?:geq?|leq?|neq?|gt|lt)(?![A-Za-z])"), " ≥ "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(?<=\d)(?:\{,\}|\\[,!]|[\u00a0\u2007\u2009\u202f'’_])(?=\d{3}(?!\d))"), ","),
    (re.compile(r"\\[,;:!() \[\]]|~"), " "),
    (re.compile(r"(?<=\d)\s?(?=\\[dtc]?frac)"), " "),
    (re.compile(r"\\[dtc]?frac\s?(\d)\s?(\d)(?!\d)"), r"\1/\2"),
    (re.compile(rf"\\[dtc]?frac\s?{_BRACED}\s?{_BRACED}"), r"\1/\2"),
    (re.compile(r"\^\s?\{?\s?\\circ\s?\}?|\\circ(?![A-Za-z])|\\degree"), "°"),
    # currencies: paired $ are LaTeX, other ones money
    (re.compile(r"(?<!\\)\$([^$\n]*[^$\n\\])\$"), r" \1 "),
    (re.compile(r"\b(?:US|CA|AU|NZ|HK|SG|[ACSR])\s?\\?\$"), "$"),
    (re.compile(r"\b(?:USD|EUR|GBP|CNY|RMB|JPY|INR|CHF)\s?(?=[-+]?\s?[\d.])"), "$"),
    (
        re.compile(rf"(\$\s?[-+]?(?:{DIGITS}))\s?([mMbBtT])(?![A-Za-z])"),
        lambda m: f"{m[1]} {_MONEY[m[2].lower()]}",
    ),
    (
        re.compile(
            rf"({DIGITS})\s?([mMbBtT])\s?"
            r"(?:\\?\$|(?:USD|EUR|GBP|CNY|RMB|JPY|INR|CHF|dollars?|euros?|pounds)\b)"
        ),
        lambda m: f"{m[1]} {_MONEY[m[2].lower()]}",
    ),
    (re.compile(r"\\?\$\s?"), ""),
    # a sign before a box and a magnitude after it belong to the number in the box
    (
        re.compile(
            r"(?:(?<![\w)\]])(-)\s?)?(\\f?box(?:ed)?\s*\{)\s*([-\d.][^{}]*?)\s*\}"
            r"(\s?(?:%|(?:percent|[tT]housand|[mMbB]illion|[kKMB])(?![A-Za-z])))?"
        ),
        lambda m: f"{m[2]}{m[1] or ''}{m[3]}{m[4] or ''}}}",
    ),
    # magnitudes
    (
        re.compile(rf"(?<![A-Za-z\d.^_])({DIGITS})([kKMB])(?![A-Za-z\d^])"),
        lambda m: f"{m[1]} {_SHORT[m[2]]}",
    ),
    (re.compile(r"(?<=\d)[^\S\n]k(?![A-Za-z\d^])"), " thousand"),
    # exponents
    (re.compile(r"(?<=[A-Za-z])\s?\^\s?(?:\{\s?[-+]?\d+\s?\}|\(\s?[-+]?\d+\s?\)|[-+]?\d+)"), ""),
    (re.compile(r"(?<=[A-Za-z]\))\s?\^\s?(?:\{\s?[-+]?\d+\s?\}|[-+]?\d+)"), ""),
    (
        re.compile(r"\s?\^\s?(?:\{\s?([-+]?\d+)\s?\}|\(\s?([-+]?\d+)\s?\)|([-+]?\d+))"),
        lambda m: "^" + (m[1] or m[2] or m[3]),
    ),
    # signs
    (re.compile(r"(?<![\w.)])(?:负|負|零下)\s?(?=[\d.])"), "-"),
    (re.compile(r"(?i)\b(?:minus|negative)\s+(?=[\d.])"), "-"),
    (re.compile(rf"({_APART})-\s+(?=[\d.])"), r"\1-"),
    (re.compile(r"(?<![\w)\]])-\s?\(\s?((?:\d|\.\d)[\d.,/ ]*)\)"), r"-\1"),
)


def normalise(text: str) -> str:
    """Return a text with one spelling of signs, separators, fractions, powers and magnitudes."""
    text = html.unescape(text) if "&" in text else text
    text = "\n".join(filter(None, map(str.strip, text.translate(_CHARACTERS).splitlines())))
    text = unwrap_fonts(_SPACES.sub(r"\1", text))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _SPACES.sub(r"\1", unwrap(text)).strip()
