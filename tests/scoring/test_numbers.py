"""Numbers as models and data sets write them: the right value or nothing, never another number."""

import json

import pytest
from measures import growth, shared_data

from p2r.scoring import accuracy
from p2r.scoring.numbers import parse_number, read_number

# The answer and its value, as "answer => value".
VALUES = r"""
-\boxed{\frac{1}{2}} => -0.5
-$\boxed{3}$ => -3
x=\boxed{-3} => -3
\boxed{5} million => 5000000
\boxed{5}k => 5000
\boxed{5}\% => 5
-{5} => -5
5千米 => 5
2千 => 2000
－２５ => -25
−２／３ => -0.6666666666666666
(-5) => -5
-$5 => -5
negative 3/4 => -0.75
1.2e-3 => 0.0012
$5m => 5000000
$-\frac{1}{2}$ => -0.5
-\dfrac{1}{2} => -0.5
\frac{-1}{2} => -0.5
-\frac12 => -0.5
x = -\frac{3}{4} => -0.75
$x=-\frac{3}{4}$ => -0.75
2\frac{1}{2} => 2.5
-2\frac{1}{2} => -2.5
$-2\frac{1}{2}$ => -2.5
**-½** => -0.5
−½ => -0.5
-1½ => -1.5
−1 ½ => -1.5
–⅔ => -0.6666666666666666
-¾% => -0.75
1⁄2 => 0.5
¹⁄₂ => 0.5
2¹⁄₂ => 2.5
-¹⁄₂ => -0.5
- 5 => -5
The answer is - 5 => -5
The answer is − 5. => -5
Answer: - 5 => -5
10k => 10000
10K => 10000
10 k => 10000
1.5M => 1500000
-1.5M => -1500000
$1.5M => 1500000
$1.5m => 1500000
1.5m => 1.5
1.5mm => 1.5
5 m => 5
5kg => 5
5 km => 5
10 kHz => 10
2.5B => 2500000000
$2.5b => 2500000000
2 bn => 2000000000
3 mln => 3000000
5 MB => 5
three and a half => 3.5
Three and a half. => 3.5
minus three and a half => -3.5
5 and a half => 5.5
-5 and a half => -5.5
5 and a quarter => 5.25
two and three quarters => 2.75
two thirds => 0.6666666666666666
one third => 0.3333333333333333
one-half => 0.5
half => 0.5
a half => 0.5
half a million => 500000
half a dozen => 6
one and a half million => 1500000
1.5 million => 1500000
5 millions => 5000000
2½ million => 2500000
three point five => 3.5
three point three => 3.3
minus three point five => -3.5
zero point five => 0.5
one hundred thousand => 100000
5 hundred thousand => 500000
-$5 => -5
−$5 => -5
- $5 => -5
$-5 => -5
$-5$ => -5
-$5$ => -5
-US$5 => -5
-USD 5 => -5
−€5 => -5
-£1,000 => -1000
$-$5 => -5
-**5** => -5
**-**5 => -5
*-5* => -5
_-5_ => -5
is *5* => 5
&minus;5 => -5
&#8722;5 => -5
&frac12; => 0.5
<b>-5</b> => -5
-five => -5
negative five => -5
Negative one half => -0.5
‐5 => -5
‑5 => -5
—5 => -5
﹣5 => -5
－５ => -5
⁻5 => -5
-(5) => -5
\(-5\) => -5
\[-5\] => -5
$\left(-5\right)$ => -5
{-}5 => -5
\text{-5} => -5
\boxed{-5} => -5
\boxed{-\frac{1}{2}} => -0.5
\boxed{- 5} => -5
10**3 => 1000
10^{-3} => 0.001
1.5e−3 => 0.0015
1.5×10^−3 => 0.0015
1.5×10⁻³ => 0.0015
1.5*10^3 => 1500
1.5 \cdot 10^{3} => 1500
-1.5 × 10^3 => -1500
3.2E+05 => 320000
1_000 => 1000
1'000 => 1000
1,000k => 1000000
1，000 => 1000
about 5 => 5
approximately -5 => -5
not 5 but 6 => 6
6, not 5 => 6
The answer is not 5 but 6 => 6
The answer is 5, not 6. => 5
50 % => 50
50 percent => 50
50 pct => 50
½% => 0.5
fifty percent => 50
3万 => 30000
3만 => 30000
3.5만 => 35000
5백 명 => 500
2천 => 2000
3천만 원 => 30000000
4억 => 400000000
5 명 => 5
3 조각 => 3
5 milhas => 5
5 lakes => 5
3.5亿 => 350000000
3百万 => 3000000
负5 => -5
零下5度 => -5
答案是5 => 5
答案：-5 => -5
正确答案：− 5 => -5
There are 5 to the left => 5
5 times => 5
5x => 5
The third car has 5 => 5
the one on the left has 5 => 5
5 1/2 => 5.5
5/-2 => -2.5
.5 => 0.5
-.5 => -0.5
- .5 => -0.5
$.50 => 0.5
1,234.5 => 1234.5
10K people => 10000
2 dozen => 24
12 dozens => 144
5th => 5
~5 => 5
≈-5 => -5
5<|im_end|> => 5
<|begin_of_box|>-5<|end_of_box|> => -5
5<|im_end|>6 => 5
5</s> => 5
<eos>5 => 5
5! => 5
(5) => 5
1.5e3 m => 1500
3 hundred => 300
-0 => 0
-1/2 => -0.5
- 1/2 => -0.5
−1/2 => -0.5
-1 1/2 => -1.5
minus a half => -0.5
minus 1/2 => -0.5
3 3/4 => 3.75
1.5m USD => 1500000
1.5M€ => 1500000
seven and a half => 7.5
5m2 => 5
5 m2 => 5
5 km2 => 5
5cm3 => 5
5 H2O => 5
5 in frame3 => 5
video1 shows 5 => 5
1.5 x10^3 => 1500
5 left over => 5
\$5 => 5
\$-5 => -5
$1{,}000$ => 1000
$10^6$ => 1000000
$1.2 \times 10^{-4}$ => 0.00012
-\frac{1}{2}\% => -0.5
5 lakh => 500000
2 crore => 20000000
five million => 5000000
"""

# Ranges, operations, negations, and spellings with several meanings.
UNREADABLE = r"""
5割
5割引
3 백조
3조
2만 5천
2兆
3 тысячи
5 тыс.
2 млн
2 миллиона
2 млрд
3 millones
1 millón
3 Millionen
3 Tausend
2 Mrd
2 milliards
2 Milliarden
3 milhões
3 milioni
5 लाख
5 करोड़
3 milyon
3 juta
2 triệu
3 مليون
-(-5)
−(−5)
(5)²
|−5|
\left|-5\right|
0x10
no one
超过5
不到5
至少5
5多
10余
1.234,5
12,34,567
2 hours 30 minutes
Answer - 5
x - 5
x-5
3 - 5
3 - 3
5-5
5+
10 K
1.5 M
a million and a half
twenty fifth
--5
+-5
±5
\pm 5
(-2)^2
2^{1/2}
2^0.5
10<sup>3</sup>
1.000.000
1.000,5
0,500
1,5
12,34
1,23,456
5..7
5…7
5–7
5~7
5 to 7
between five and seven
5 -> 6
> 5
<5
≥ 5
at least 5
more than 5
5 out of 10
5 out of 5
one out of three
one or two
one in three
not 5
5‰
3个半
5 below zero
log 10
square root of 2
5 squared
2 to the power of 2
3 + 3
2 × 2
5 x 5
1:1
a third
5 and 1/2
1/2/2
x/5
ten k
5 grand
GPT-4
COVID-19
7 hundredths
1 000
5 min 30 s
3-3/4
an hour and a half
2T
1.5 K
100K+
5 % to 6 %
\frac{\pi}{2}
\frac{a}{2}
\sqrt{4}
7 thousand 5 hundred
3x4
3 x4
3X4
1920x1080
2x4x6
5ft10
5 ft10
2m30s
3h20
3 h20
5min30
5m20
0b11
0o17
over 5
Over 5
Above 5
At least 5
"""


@pytest.mark.parametrize("line", VALUES.strip().splitlines())
def test_a_number_has_its_value(line):
    text, _, value = line.rpartition(" => ")
    assert parse_number(text) == pytest.approx(float(value), rel=1e-12)


@pytest.mark.parametrize("text", UNREADABLE.strip().splitlines())
def test_an_unclear_number_is_unreadable(text):
    assert parse_number(text) is None


@pytest.mark.parametrize("line", VALUES.strip().splitlines())
@pytest.mark.parametrize("frame", ["The answer is {}.", "Answer: {}", "**{}**", "\\boxed{{{}}}"])
def test_the_words_around_a_number_never_change_it(line, frame):
    text, _, value = line.rpartition(" => ")
    assert parse_number(frame.format(text)) in (None, pytest.approx(float(value), rel=1e-12))


@pytest.mark.parametrize("line", VALUES.strip().splitlines())
@pytest.mark.parametrize("kind", ["numerical", "regression"])
def test_every_readable_reference_answer_scores_one_against_itself(line, kind):
    text, _, _ = line.rpartition(" => ")
    assert accuracy(kind, text, text) == 1.0


@pytest.mark.parametrize(
    ("prediction", "truth", "score"),
    [
        ("0.333", "1/3", 1.0),
        ("0.33", "1/3", 1.0),
        ("0.34", "1/3", 0.0),
        ("0.3", "1/3", 0.0),
        ("33.3%", "1/3", 1.0),
        ("one third", "0.333", 1.0),
        ("0.67", "two thirds", 1.0),
        ("0.66", "2/3", 0.0),
        ("-0.333", "1/3", 0.0),
        ("10k", "10,000", 1.0),
        ("10k", "10", 0.0),
        ("1.5M", "1.5", 0.0),
        ("1.5M", "1500000", 1.0),
        ("three and a half", "3", 0.0),
        ("three and a half", "7/2", 1.0),
        ("−½", "0.5", 0.0),
        ("−½", "-0.5", 1.0),
        ("$-\\frac{1}{2}$", "-50%", 1.0),
    ],
)
def test_fractions_equal_their_decimals_within_the_tolerance(prediction, truth, score):
    assert accuracy("numerical", prediction, truth) == score


def test_a_fraction_and_a_magnitude_are_exact():
    assert read_number("10k").decimals is None
    assert read_number("three and a half").decimals is None
    assert read_number("three point five").decimals == 1


def test_stored_rewards_have_their_right_scores():
    lines = shared_data("inputs/reports/reward_cases.jsonl").read_text(encoding="utf-8")
    for case in map(json.loads, lines.splitlines()):
        score = accuracy(
            case["problem_type"], case["prediction"], case["truth"], case.get("options")
        )
        assert score == case["right_score"], case


PIECES = ["-", "- ", "1,", "½", "\\frac{", "\\frac12", "one and ", "half ", "$", "$5 ", "<b", "**"]
PIECES += ["&minus;", "k ", "5k", "not 5 ", "5 to ", "^2", "five point ", "{,}", "~", "_", "5 + "]


@pytest.mark.slow
@pytest.mark.parametrize("piece", PIECES)
def test_numbers_are_read_in_linear_time(piece):
    short, long = (piece * (size // len(piece)) for size in (2_000, 20_000))
    assert growth(parse_number, short, long) < 40  # ten times the text; quadratic is a hundred
