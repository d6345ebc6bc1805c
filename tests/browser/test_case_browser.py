"""Finding and reading cases in the browser: in Chromium, over a small run with real clips."""

import re
import threading

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_cases import TOTAL, case_id, link, settle
from playwright.sync_api import Page, expect

from p2r.browser.library import Library
from p2r.errors import MediaError

pytestmark = pytest.mark.browser
pytest_plugins = ("browser_fixture",)

# As the search is typed, once the page is there.
SEARCH = "#search"


def in_list(count: int | str) -> re.Pattern[str]:
    return re.compile(rf" of {count}(?!\d)")


def test_the_list_and_a_complete_case_are_shown(address, open_page):
    page = open_page(link(address, tab="cases"))
    expect(page.locator("#bar")).to_contain_text(f"{TOTAL} cases")
    expect(page.locator("#list .item")).to_have_count(50)
    expect(page.locator("#list .pager")).to_contain_text(f"1–50 of {TOTAL}")
    # A row has a frame of its clip, which is loaded once the row comes near.
    picture = page.locator("#row-0 .thumb img")
    expect(picture).to_have_attribute("loading", "lazy")
    size = "image => [image.naturalWidth, image.naturalHeight]"
    page.wait_for_function(f"({size})(document.querySelector('#row-0 img'))[0] === 56")
    assert page.locator("#row-49 .thumb img").evaluate(size) == [0, 0]
    shown = picture.element_handle()
    page.locator("#list .item").nth(1).click()
    case = page.locator("article.case")
    expect(case.locator("h2")).to_have_text("Which way does square number 1 move?")
    assert shown.evaluate("image => image === document.querySelector('#row-0 img')")
    expect(case.locator(".headline")).to_contain_text("observation: not sufficient")
    expect(case.locator(".headline")).to_contain_text("answer: right")
    expect(case.locator(".banner")).to_contain_text("right by luck. The observation is not")
    expect(case.locator(".options li").nth(1)).to_contain_text(re.compile("reference *answered"))
    expect(case.locator(".panel.see")).to_contain_text("Square 1 starts at the left edge.")
    expect(case.locator(".panel.see")).to_contain_text("40 tokens")
    expect(case.locator(".panel.see")).to_contain_text("RP 2.20 = accuracy 1.00")
    expect(case.locator(".panel.see")).to_contain_text("AP +0.75")
    expect(case.locator(".panel.judge")).to_contain_text("Verdict 1.")
    expect(case.locator(".panel.think")).to_contain_text("distance from the left edge")
    expect(case.locator(".panel.think")).to_contain_text("20 tokens")
    expect(case.locator(".panel.answer .exchange")).to_contain_text("B→referenceB")
    case.get_by_text("How it was made").click()
    expect(case.locator("#making")).to_contain_text("playground/base")
    expect(case.locator("#making")).to_contain_text("max_pixels 3136")


def test_the_video_plays_and_the_frames_of_the_model_are_shown(address, open_page):
    page = open_page(link(address, case_id(1)))
    frames = page.locator(".strip button")
    expect(frames).to_have_count(8)
    expect(page.locator(".frames h3")).to_contain_text("56 × 56")
    expect(page.locator(".frames .warning")).to_have_count(0)
    size = "frame => [frame.naturalWidth, frame.naturalHeight]"
    assert page.locator(".strip img").first.evaluate(size) == [56, 56]
    page.wait_for_function("document.querySelector('video.player').readyState >= 1")
    assert page.locator("video.player").evaluate("v => v.duration") == pytest.approx(2, abs=0.2)
    time = frames.nth(5).locator("span").inner_text()
    frames.nth(5).click()
    page.wait_for_function(
        f"Math.abs(document.querySelector('video.player').currentTime - {time[:-2]}) < 0.02"
    )
    expect(frames.nth(5)).to_have_class(re.compile("at"))
    page.locator("article h2").click()
    page.keyboard.press(" ")
    page.wait_for_function("!document.querySelector('video.player').paused")
    page.keyboard.press(" ")
    page.wait_for_function("document.querySelector('video.player').paused")


def test_a_picture_is_shown_with_the_frame_of_the_model(address, open_page):
    page = open_page(link(address, case_id(307)))
    expect(page.locator("img.player")).to_be_visible()
    expect(page.locator(".strip button")).to_have_count(1)
    expect(page.locator(".frames h3")).to_contain_text("112 × 84")


def test_the_2x2_and_the_failure_kinds_filter_and_keep_their_counts(address, open_page):
    page = open_page(link(address, tab="cases"))
    lucky = page.locator("[data-verdict=no][data-outcome=right]")
    expect(lucky).to_contain_text("right by luck")
    count = lucky.locator("b").inner_text()
    lucky.click()
    expect(page.locator("#list .pager")).to_contain_text(in_list(count))
    expect(lucky).to_have_attribute("aria-current", "true")
    expect(lucky.locator("b")).to_have_text(count)
    expect(page).to_have_url(re.compile("verdict=no&outcome=right"))
    lucky.click()
    expect(page.locator("#list .pager")).to_contain_text(in_list(TOTAL))
    page.locator("#kinds summary").click()
    for kind in ("mismatch", "no verdict", "cut off"):
        page.locator(".kind", has_text=kind).click()
    expect(page.locator("#list .item")).to_have_count(3)
    page.get_by_role("link", name="clear all").click()
    expect(page.locator("#list .pager")).to_contain_text(in_list(TOTAL))
    page.go_back()
    expect(page.locator("#list .item")).to_have_count(3)


def test_search_and_filters_narrow_the_list_and_change_the_address(address, open_page):
    page = open_page(link(address, tab="cases"))
    pager = page.locator("#list .pager")
    expect(pager).to_contain_text(in_list(TOTAL))
    page.keyboard.press("f")
    page.keyboard.type("SQUARE number 11")
    expect(pager).to_contain_text("1–11 of 11")
    expect(page.locator(SEARCH)).to_be_focused()
    expect(page).to_have_url(re.compile(r"text=SQUARE\+number\+11"))
    page.keyboard.press("Escape")
    expect(page.locator(SEARCH)).not_to_be_focused()
    page.wait_for_timeout(400)
    expect(page.locator(SEARCH)).to_have_value("SQUARE number 11")
    expect(pager).to_contain_text("1–11 of 11")
    page.get_by_text("More filters").click()
    page.locator("[name=text_in]").select_option("rationale")
    expect(page.locator("#list")).to_contain_text("No case matches these filters.")
    expect(page.locator("#nav")).to_contain_text("no case")
    page.locator("[name=text_in]").select_option("")
    page.locator(SEARCH).fill("")
    expect(pager).to_contain_text(in_list(TOTAL))
    page.locator("#choice-stage summary").click()
    page.locator("#choice-stage input[value=pa_grpo]").check()
    expect(pager).to_contain_text(in_list(4))
    expect(page.locator("#choice-stage")).to_have_attribute("open", "")
    page.get_by_label("stage", exact=True).select_option("all stages")
    expect(pager).to_contain_text(in_list(TOTAL))
    page.get_by_label("stage", exact=True).select_option("pa_grpo (4)")
    expect(page).to_have_url(re.compile("stage=pa_grpo"))
    expect(pager).to_contain_text(in_list(4))
    page.get_by_label("smallest first: change the direction").click()
    expect(page).to_have_url(re.compile("order=descending"))
    page.locator("[name=sort]").select_option("perception_reward")
    expect(page.locator("#list .item").last).to_contain_text("#3")
    page.get_by_label("perception reward from").fill("2")
    expect(pager).to_contain_text(in_list(2))
    address_then = page.url
    other = open_page(address_then)
    expect(other.locator("#list .item")).to_have_count(2)
    expect(other.locator(".active")).to_contain_text("perception reward ≥ 2")
    other.locator(".active .chip", has_text="perception reward").click()
    expect(other.locator("#list .item")).to_have_count(4)


def test_the_list_follows_while_a_limit_is_typed(address, open_page):
    page = open_page(link(address, tab="cases"))
    pager = page.locator("#list .pager")
    page.get_by_text("More filters").click()
    limit = page.get_by_label("perception reward from")
    limit.click()
    # The list changes after every key: the field keeps the focus and its text.
    for stroke, query in (("2", "2.."), (".", "2.."), ("2", "2.2.."), ("5", "2.25..")):
        page.keyboard.press(stroke)
        expect(page).to_have_url(re.compile(rf"perception_reward={re.escape(query)}"))
    expect(limit).to_be_focused()
    expect(limit).to_have_value("2.25")
    expect(page.locator("#list")).to_contain_text("No case matches these filters.")
    expect(page.locator("#nav .place")).to_have_text("no case")
    page.locator(".active .chip", has_text="perception reward ≥ 2.25").click()
    expect(pager).to_contain_text(in_list(TOTAL))
    page.locator("[name=sort]").focus()
    page.locator("[name=sort]").select_option("perception_reward")
    expect(page).to_have_url(re.compile("sort=perception_reward"))
    expect(page.locator("[name=sort]")).to_be_focused()


def test_every_tab_shows_the_filters_that_it_applies(address, open_page):
    page = open_page(link(address, text="number 50", text_in="question", stage="eval-sft"))
    expect(page.locator("#list .item")).to_have_count(10)
    page.locator("#bar [data-tab=compare]").click()
    active = page.locator("#sidebar .active")
    # The sides replace the filter of stages, so it is neither applied nor shown.
    expect(active.locator(".chip")).to_have_text(["text in question: number 50×"])
    expect(page.locator("#list .item")).to_have_count(10)
    page.locator("#bar [data-tab=gallery]").click()
    expect(page.locator("#main .active .chip")).to_have_count(2)
    page.locator("#main .active .chip", has_text="text").click()
    expect(page.locator("#main .active .chip")).to_have_text(["stage: evaluation: SFT×"])
    page.locator("#bar [data-tab=groups]").click()
    expect(page.locator("#list")).to_contain_text("No question has several rollouts")
    page.get_by_role("link", name="clear all").click()
    expect(page.locator("#list .item").first).to_contain_text("2 of 4 right")


def test_a_page_number_past_the_end_shows_the_last_page(address, open_page):
    page = open_page(link(address, sheet="999"))
    expect(page.locator("#list .pager")).to_contain_text(f"{TOTAL - TOTAL % 50 + 1}–{TOTAL} of")
    expect(page.locator("article.case")).to_be_visible()
    for tab in ("groups", "compare"):
        page = open_page(link(address, tab=tab, sheet="999"))
        expect(page.locator("#list .pager")).to_contain_text("1–")


def test_pages_and_keys_move_through_the_list(address, open_page):
    page = open_page(link(address, tab="cases"))
    place = page.locator("#nav .place")
    expect(place).to_have_text(f"1 of {TOTAL}")
    for _ in range(3):
        page.keyboard.press("j")
    expect(place).to_have_text(f"4 of {TOTAL}")
    page.keyboard.press("k")
    expect(place).to_have_text(f"3 of {TOTAL}")
    expect(page.locator("#list [aria-current=true]")).to_contain_text("square number 2 ")
    page.get_by_label("next page").click()
    expect(page.locator("#list .pager")).to_contain_text(f"51–100 of {TOTAL}")
    page.locator("#list .item").first.click()
    expect(place).to_have_text(f"51 of {TOTAL}")
    page.keyboard.press("k")
    expect(page.locator("#list .pager")).to_contain_text(f"1–50 of {TOTAL}")
    expect(page.locator("#list [aria-current=true]")).to_be_in_viewport()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("next, previous case")
    page.keyboard.press("Escape")
    page.keyboard.press("l")
    expect(page.locator("#label [type=radio]").first).to_be_focused()


def test_views_are_saved_and_links_copied(address, open_page):
    page = open_page(
        link(address, text="number 11"), permissions=["clipboard-read", "clipboard-write"]
    )
    expect(page.locator("#list .item")).to_have_count(11)
    page.locator("#save summary").click()
    page.locator("#view-name").fill("elevens <b>")
    page.get_by_role("button", name="save", exact=True).click()
    page.get_by_role("button", name="copy link").click()
    expect(page.get_by_role("button", name="copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    page.locator(SEARCH).fill("")
    expect(page.locator("#list .pager")).to_contain_text(in_list(TOTAL))
    page.get_by_role("link", name="elevens <b>").click()
    expect(page.locator("#list .item")).to_have_count(11)
    page.get_by_role("button", name="delete elevens").click()
    expect(page.get_by_role("link", name="elevens")).to_have_count(0)


def test_a_permalink_opens_a_case_with_its_rollouts(address, open_page):
    page = open_page(link(address, case_id(200, "pa_grpo", 3, 2), run="demo"))
    about = page.locator("article .about")
    expect(page.locator("article h2")).to_have_text("Which way does square number 200 move?")
    expect(about).to_contain_text("rollout 2")
    group, elsewhere = page.locator("#main .responses").all()
    expect(group.locator("tbody tr")).to_have_count(4)
    expect(elsewhere.locator("tbody tr")).to_have_count(1)
    page.keyboard.press("]")
    expect(about).to_contain_text("rollout 3")
    page.keyboard.press("[")
    page.keyboard.press("[")
    expect(about).to_contain_text("rollout 1")
    elsewhere.locator("tbody a").click()
    expect(page).to_have_url(re.compile(r"case=demo%2F(sft|base)%2F0%2Fq200%2F0"))
    page.reload()
    expect(about).not_to_contain_text("rollout")
    expect(page.locator("article h2")).to_have_text("Which way does square number 200 move?")


def test_every_token_shows_its_process_and_its_credit_under_both_schemes(address, open_page):
    page = open_page(link(address, case_id(200, "pa_grpo", 3, 1)))
    strip = page.locator(".tokens")
    expect(strip.locator(".process.see")).to_contain_text("</observation>")
    expect(strip.locator(".process.think")).to_contain_text("<answer>A</answer>")
    expect(strip.locator(".see .as-given")).to_have_text("AP +0.87")
    expect(strip.locator(".see .as-grpo")).to_be_hidden()
    page.get_by_role("button", name="GRPO would give", exact=True).click()
    # Good observation, wrong answer: GRPO lowers the observation too.
    expect(strip.locator(".see .as-grpo")).to_have_text("AP −0.87")
    tint = "token => getComputedStyle(token).backgroundColor"
    assert "200, 84, 8" in strip.locator(".see .tok").first.evaluate(tint)
    strip.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    said = page.locator(".token-said")
    expect(said).to_contain_text(
        "reasoning, this run gave (PA-GRPO) −0.87, PA-GRPO would give −0.87"
    )
    page.keyboard.press("Home")
    expect(said).to_contain_text("token 1 ")
    expect(said).to_contain_text("PA-GRPO would give +0.87, GRPO would give −0.87")


def test_an_unknown_permalink_shows_a_message(address, open_page):
    page = open_page(link(address, "demo/no/such/case"))
    expect(page.locator("#main")).to_contain_text("no case 'demo/no/such/case' in these runs")
    expect(page.locator("#list .item")).to_have_count(50)


def test_missing_or_damaged_media_show_a_reason_and_the_case_opens(address, open_page):
    page = open_page(link(address, text="square number 30"))
    for n, place, reason in [
        (301, "#main .no-media", "the media folder has no such file"),
        (302, ".frames .no-media", "decode|format|invalid|read"),
        (303, "#main .no-media", "leaves the media root"),
        (304, ".frames .warning", "other frames than the trace recorded"),
        (305, ".frames .warning", "does not say how its frames were sampled"),
        (306, ".frames .no-media", "cannot sample -1 frames"),
    ]:
        row = page.locator("#list .item", has_text=f"square number {n} ")
        row.click()
        expect(page.locator(".panel.judge")).to_contain_text(f"Verdict {n}.")
        expect(page.locator(place)).to_contain_text(re.compile(reason, re.IGNORECASE))
        expect(row.locator(".thumb")).to_have_class("thumb none" if n < 304 else "thumb")


def test_a_case_opens_while_the_pictures_of_the_list_are_made(address, open_page, monkeypatch):
    go_on, waiting = threading.Event(), threading.Event()

    def make_slowly(*_):
        waiting.set()
        go_on.wait(60)
        raise MediaError("a.mp4", "too slow")

    monkeypatch.setattr(Library, "thumbnail", make_slowly)
    try:
        page = open_page(link(address, tab="cases"))
        expect(page.locator(".strip button")).to_have_count(8)
        expect(page.locator("#list img[src]")).to_have_count(2)
        assert waiting.wait(60)
        page.locator("#row-2").click()
        expect(page.locator("article h2")).to_have_text("Which way does square number 2 move?")
        expect(page.locator(".strip button")).to_have_count(8)
        assert not go_on.is_set()
    finally:
        go_on.set()
    expect(page.locator("#row-0 .thumb")).to_have_class("thumb none")


def test_a_response_with_format_faults_is_shown_in_full(address, open_page):
    page = open_page(link(address, case_id(305)))
    expect(page.locator("article .about")).to_contain_text("format: think missing")
    expect(page.locator("article .about")).to_contain_text("truncated")
    expect(page.locator(".panel.think")).to_contain_text("No readable reasoning")
    expect(page.locator("#raw[open]")).to_contain_text("<observation>")


TABS = (
    "start",
    "cases",
    "gallery",
    "groups",
    "compare",
    "runs",
    "stories",
    "agreement",
    "data",
    "ask",
)


LOOKS = [("light", 1280, {}), ("dark", 1920, {}), ("dark", 1920, {"big": "1"})]


@pytest.mark.parametrize(("scheme", "width", "more"), LOOKS, ids=("light", "dark", "projector"))
def test_every_view_is_accessible(address, open_page, scheme, width, more):
    page = open_page(
        link(address, case_id(200, "pa_grpo", 3, 1), **more),
        color_scheme=scheme,
        viewport={"width": width, "height": 900},
    )
    expect(page.locator(".strip button")).to_have_count(8)
    found = {}
    for tab in TABS:
        page.locator(f"#bar [data-tab={tab}]").click()
        expect(page.locator(f"#bar [data-tab={tab}][aria-current=page]")).to_be_visible()
        if tab == "cases":
            page.keyboard.press("e")  # the case study, then the case again
            expect(page.locator("#main .study")).to_be_visible()
            check(page, found, "study", "#browser")
            page.go_back()
            expect(page.locator("#main .study")).to_have_count(0)
        ready = {"runs": ".plot .main-svg", "ask": "#ask-go"}.get(tab, "#main *")
        expect(page.locator(ready).first).to_be_visible()
        check(page, found, tab, "#ask" if tab == "ask" else "#browser")
    if width == 1280:
        page.locator("#tab-data").click()
        page.set_viewport_size({"width": 390, "height": 800})
        check(page, found, "phone", "#top")
    assert found == {key: [] for key in found} and {*TABS, "study"} <= found.keys()


def check(page: Page, found: dict, name: str, context: str) -> None:
    """Note what axe finds on a page."""
    settle(page)
    axe = Axe("0") if page.evaluate("'axe' in window") else Axe()  # "0": a script that does nothing
    faults = axe.run(page, context=context).response
    found[name] = [
        (fault["id"], [node["target"] for node in fault["nodes"]][:3])
        for fault in faults["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
