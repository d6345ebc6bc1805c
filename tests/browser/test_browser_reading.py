"""Reading, showing and labelling cases in Chromium: over a small run with a known scene."""

import json
import re
import shutil

import pytest
from browser_cases import interval, link, make_case, settle
from playwright.sync_api import expect
from scenic_cases import scenic_case, scenic_id, write_scenic_run

from p2r.browser.address import MAX_ITEMS
from p2r.cases.store import write_cases

pytestmark = pytest.mark.browser
pytest_plugins = ("browser_fixture",)

LONG_STAGE = "eval-critic_process-ambiguous"
WIDTHS = (390, 700, 901, 960, 1019, 1280, 1920)
PAGES = ("start", "cases", "gallery", "groups", "compare", "runs", "stories", "agreement", "data")


@pytest.fixture(scope="module")
def scenic(tmp_path_factory):
    """Serve a run whose scene is known; return its folder and its address."""
    from p2r.browser.app import launch

    run = write_scenic_run(tmp_path_factory.mktemp("runs") / "scenic")
    more = [make_case(n, run="scenic", stage="eval-sft") for n in range(20, 80)]
    cases = [scenic_case(k) for k in range(5)] + more
    stages = {"eval-base": 3, "eval-sft": 2, "eval-pa_grpo": 0, LONG_STAGE: 0}
    cases += [scenic_case(k, stage) for stage, k in stages.items()]
    write_cases(run, cases)
    (run / "eval").mkdir()
    for name in ("base_direct", "critic_process"):  # long names in the results of the start page
        metrics = {"accuracy": interval(0.5), "sufficient and true": interval(0.25)}
        (run / "eval" / f"{name}.json").write_text(json.dumps({"metrics": metrics}))
    app = launch([run], port=None, block=False)
    yield run, app.local_url
    app.close()


def test_evidence_is_linked_both_ways_and_the_player_follows(scenic, open_page):
    page = open_page(link(scenic[1], scenic_id(0)))
    frames = page.locator(".strip [data-frame-time]")
    expect(frames.first).to_be_visible()
    page.wait_for_function("document.querySelector('video.player').readyState >= 1")
    # A sentence lights its frames and the reasoning that rests on it; a frame lights sentences.
    told = page.locator("[data-sentence='2']")
    told.hover()
    expect(page.locator(".strip .lit")).to_have_count(1)
    expect(page.locator(".panel.think .lit")).to_have_count(1)
    page.locator(".strip .lit").hover()
    expect(told).to_have_class(re.compile("lit"))
    # A time moves the player; the keys step by one frame, also below the picture.
    told.locator(".time").click()
    now = "() => document.querySelector('video.player').currentTime"
    page.wait_for_function(f"Math.abs(({now})() - 1) < 0.02")
    # The sentence is told below the picture, and on a phone the picture comes in sight.
    moment = page.locator("[data-moment]")
    expect(moment).to_have_text("at 1 s: A big red square moves right and stops at 1 s.")
    page.set_viewport_size({"width": 390, "height": 800})
    page.locator(".panel.judge").scroll_into_view_if_needed()
    told.locator(".time").click()
    expect(page.locator("video.player")).to_be_in_viewport()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.locator("article h2").click()
    page.keyboard.press(".")
    page.wait_for_function(f"Math.abs(({now})() - 1.125) < 0.02")
    page.keyboard.press(" ")
    expect(moment).to_be_hidden()
    page.keyboard.press(" ")
    for _ in range(4):  # a pause right after play is no error
        page.keyboard.press(" ")
    page.evaluate("document.querySelector('video.player').currentTime = 1.125")
    expect(page.locator(".clock")).to_have_text(re.compile(r"1\.1\d s"))
    expect(page.locator("[data-track] .at")).to_have_count(1)
    box, controls = (
        page.locator(f".player-box {part}").bounding_box() for part in ("video", ".controls")
    )
    assert controls["y"] >= box["y"] + box["height"] and abs(box["width"] - box["height"]) < 2
    # A term explains itself on focus.
    page.locator(".panel.see .term").first.focus()
    expect(page.locator("#gloss")).to_contain_text("The advantage of the observation's tokens")


def test_lists_begin_at_the_top_stay_in_sight_and_keep_the_focus(scenic, open_page):
    page = open_page(link(scenic[1], tab="cases"), viewport={"width": 1280, "height": 800})
    expect(page.locator("#row-30")).to_be_attached()
    # The first Tab skips to the content.
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.locator("#row-30").scroll_into_view_if_needed()
    page.locator("#row-30").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#row-30")).to_have_attribute("aria-current", "true")
    expect(page.locator("#row-30")).to_be_focused()
    # Another list begins at its first row, and its first case is open.
    page.locator("#search").fill("square number")
    expect(page.locator("#nav .place")).to_have_text("1 of 60")
    assert page.locator("#list").evaluate("list => list.scrollTop") == 0
    # Six rows are in sight beside the active filters, also if each question takes two lines.
    expect(page.locator(".active .chip")).to_have_count(1)
    rows = page.evaluate(
        """() => {
            const row = document.querySelector('#row-1').offsetHeight;
            const question = document.querySelector('#row-1 .q');
            const line = parseFloat(getComputedStyle(question).lineHeight);
            const head = document.querySelector('.pager').offsetHeight;
            return (document.querySelector('#list').clientHeight - head) / (row + line);
        }"""
    )
    assert rows >= 6 and page.locator("#sidebar").evaluate("side => side.scrollTop") == 0
    # The help begins at its first key.
    page.locator("article h2").click()
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keyboard shortcuts")).to_be_in_viewport()
    page.keyboard.press("Escape")
    page.locator("article h2").click()
    page.keyboard.press("j")
    expect(page.locator("#nav .place")).to_have_text("2 of 60")
    expect(page).to_have_title(re.compile("square number 21"))
    page.locator("[data-verdict=yes][data-outcome=right]").click()
    expect(page.locator("#nav .place")).to_have_text(re.compile("1 of"))
    page.locator("article h2").click()
    page.keyboard.press("j")
    expect(page.locator("#nav .place")).to_have_text(re.compile("2 of"))
    for place in ("1 of", "2 of 60", "1 of 60"):  # back goes step by step
        page.go_back()
        expect(page.locator("#nav .place")).to_have_text(re.compile(place))
    # Open filters leave the list in sight.
    page.get_by_text("More filters").click()
    row = page.locator("#row-0")
    row.scroll_into_view_if_needed()
    box = row.bounding_box()
    hit = "([x, y]) => document.elementFromPoint(x, y).closest('.item')?.id"
    assert page.evaluate(hit, [box["x"] + 20, box["y"] + 10]) == "row-0"


# The tabs are one line. The open tab is in sight, and an arrow hints at the tabs that are not.
TABS_ARE_SHOWN = """() => {
    const tabs = document.querySelector('#bar nav');
    const open = tabs.querySelector('[aria-current]')?.getBoundingClientRect();
    const inSight = !open || open.left >= 0 && open.right <= innerWidth;
    const [left, right] = ['::before', '::after'].map(
        (arrow) => getComputedStyle(tabs, arrow).content !== 'none');
    const before = tabs.scrollLeft;
    const after = tabs.scrollWidth - tabs.clientWidth - before;
    return tabs.offsetHeight <= 52 && inSight && left === before > 4 && right === after > 4;
}"""


def test_no_page_scrolls_sideways_at_any_width(scenic, open_page):
    page = open_page(link(scenic[1], scenic_id(2)))
    too_wide = []
    for tab in (*PAGES, "study"):
        if tab == "study":
            page.goto(link(scenic[1], scenic_id(2), tab="study"))
            expect(page.locator(".study")).to_be_visible()
        else:
            page.set_viewport_size({"width": 1280, "height": 800})
            page.locator(f"#bar [data-tab={tab}]").click()
            expect(page.locator(f"#bar [data-tab={tab}][aria-current=page]")).to_be_visible()
        settle(page)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            more = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            too_wide += [(tab, width, more)] if more > 0 else []
            page.wait_for_function(TABS_ARE_SHOWN)
    assert too_wide == []
    # A tab that is out of sight is reached with the keyboard, and keeps the focus.
    page.set_viewport_size({"width": 390, "height": 800})
    last = page.locator("#tab-data")
    last.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#tab-data[aria-current=page]")).to_be_in_viewport(ratio=1)
    expect(last).to_be_focused()
    page.locator("#bar nav").evaluate("tabs => tabs.scrollTo(0, 0)")
    expect(page.locator("#tab-start")).to_be_in_viewport(ratio=1)
    page.wait_for_function(TABS_ARE_SHOWN.replace("inSight && ", ""))


# The lines of a menu have room for the name of its choice.
NAME_IS_WHOLE = """menu => {
    const style = getComputedStyle(menu), pen = document.createElement('canvas').getContext('2d');
    pen.font = style.font;
    const need = pen.measureText(menu.selectedOptions[0].text).width;
    const [width, height] = [menu.clientWidth - 2 * parseFloat(style.paddingLeft) - 16,
        menu.clientHeight - 2 * parseFloat(style.paddingTop)];
    return need <= width * Math.floor(height / parseFloat(style.fontSize) / 1.1);
}"""


def test_the_name_of_a_stage_is_shown_whole(scenic, open_page):
    page = open_page(link(scenic[1], tab="cases"))
    menu = page.get_by_label("stage", exact=True)
    search = page.locator("#search")
    expect(menu).to_be_visible()
    assert menu.bounding_box()["y"] == search.bounding_box()["y"], "short names share the line"
    longest = "evaluation: SFT + PPO with a critic, both rewards on ambiguous clips (1)"
    menu.select_option(label=longest)
    expect(page).to_have_url(re.compile(f"stage={LONG_STAGE}"))
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert menu.evaluate(NAME_IS_WHOLE), width
    page.locator("#bar [data-tab=compare]").click()
    side = page.get_by_label("side A")
    side.select_option(label=longest)
    expect(page).to_have_url(re.compile(f"side=scenic%7C{LONG_STAGE}"))
    assert side.evaluate(NAME_IS_WHOLE)


def test_the_projector_mode_is_large_and_in_the_address(scenic, open_page):
    page = open_page(link(scenic[1], scenic_id(2)))
    expect(page.locator(".banner")).to_be_visible()
    size = "getComputedStyle(document.querySelector('.banner')).fontSize"
    assert page.evaluate(size) == "20px"
    page.keyboard.press("p")
    expect(page).to_have_url(re.compile("big=1"))
    expect(page.locator("#sidebar")).to_be_hidden()
    assert page.evaluate(size) == "30px"
    page.keyboard.press("j")
    expect(page).to_have_url(re.compile("big=1"))
    page.locator("[data-fold]").click()
    expect(page.locator("#sidebar")).to_be_visible()
    page.keyboard.press("p")
    expect(page).not_to_have_url(re.compile("big=1"))
    # No text is smaller than 14 px, except marks beside a text.
    small = page.evaluate(
        """() => [...document.querySelectorAll('#browser *')].filter((e) => e.checkVisibility()
            && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())
            && parseFloat(getComputedStyle(e).fontSize) < 14
            && !e.closest('kbd, sub, sup, .rest, i'))
            .map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert small == []
    # Print leaves out what cannot be used on paper.
    page.emulate_media(media="print")
    for part in ("#top", "#sidebar", "#nav", ".controls", "#label"):
        expect(page.locator(part).first).to_be_hidden()
    expect(page.locator(".banner")).to_be_visible()
    expect(page.locator(".panel.see")).to_be_visible()


def test_ten_cases_are_labelled_with_the_keyboard_alone(scenic, open_page):
    run, address = scenic
    page = open_page(link(address, tab="agreement"))
    page.locator("#start-labelling").focus()
    page.keyboard.press("Enter")
    name = page.get_by_label("my name")
    expect(name).to_be_in_viewport()
    name.focus()
    page.keyboard.type("Ada")
    # Enter in the field of the name saves the label, and opens the next case.
    case = page.locator("article.case").get_attribute("data-case")
    page.locator("#label-yes").check()
    name.press("Enter")
    expect(page.locator("article.case")).not_to_have_attribute("data-case", case)
    seen = {case}
    for n in range(1, 10):
        expect(page.locator("#label .place")).to_contain_text(f"{n} labelled")
        case = page.locator("article.case").get_attribute("data-case")
        seen.add(case)
        if n == 1:  # keys that come while a label is saved do not change the label
            page.evaluate(
                """() => ['2', 'Enter', '3', 'Enter'].forEach(
                    key => document.dispatchEvent(new KeyboardEvent('keydown', {key})))"""
            )
        else:
            page.keyboard.press("2" if n % 2 else "1")
            page.keyboard.press("Enter")
        expect(page.locator("article.case")).not_to_have_attribute("data-case", case)
    page.keyboard.press("u")
    expect(page.locator("article.case")).to_have_attribute("data-case", case)
    lines = [json.loads(line) for line in (run / "labels.jsonl").read_text().splitlines()]
    assert {line["case"] for line in lines} == seen and len(seen) == 10
    assert all(line["blind"] for line in lines)
    assert [line["sufficient"] for line in lines] == [True, False] * 5
    # Another person, in another browser, cannot use the name without saying so.
    other = open_page(link(address, scenic_id(0)))
    expect(other.locator(".banner")).to_be_visible()
    other.keyboard.press("1")
    other.get_by_label("my name").fill("Ada")
    other.get_by_role("button", name="Save label").click()
    expect(other.locator(".label-said")).to_contain_text("another browser labels as 'Ada'")
    other.get_by_label("It is me").check()
    other.get_by_role("button", name="Save label").click()
    expect(other.locator(".labels")).to_contain_text("Ada sufficient")


def test_a_story_is_made_and_its_site_opens_from_disk(scenic, open_page, tmp_path):
    page = open_page(link(scenic[1], scenic_id(2)))
    for case in (2, 4):
        if case == 4:
            page.wait_for_timeout(1000)  # a request that is cut off would log an error
            page.goto(link(scenic[1], scenic_id(case)))
        expect(page.locator(".banner")).to_be_visible()
        page.keyboard.press("s")
        expect(page.locator("#said")).to_contain_text("added to the story")
    kept = page.evaluate("localStorage['p2r.story']")
    full = json.dumps({"items": [{"id": f"case {n}", "note": ""} for n in range(MAX_ITEMS)]})
    page.evaluate("full => { localStorage['p2r.story'] = full; }", full)
    page.keyboard.press("s")
    expect(page.locator("#said")).to_contain_text("a story holds at most 60 cases")
    assert page.evaluate("localStorage['p2r.story']") == full
    page.evaluate("kept => { localStorage['p2r.story'] = kept; }", kept)
    page.locator("#bar [data-tab=stories]").click()
    expect(page.locator("[data-story-item]")).to_have_count(2)
    page.get_by_label("title").fill("Luck <b>")
    page.locator("#note-0").fill("The triangle was never seen.")
    # The next note is typed while the address changes, and loses no letter.
    page.locator("#note-1").press_sequentially("Luck again", delay=60)
    expect(page).to_have_url(re.compile("note=The\\+triangle.*note=Luck\\+again"))
    expect(page.locator("#note-1")).to_have_value("Luck again")
    expect(page.locator("#note-1")).to_be_focused()
    mine = page.evaluate("localStorage['p2r.story']")
    assert [item["note"][:4] for item in json.loads(mine)["items"]] == ["The ", "Luck"]
    # A story of someone else does not change mine, until I copy it.
    page.evaluate(
        "url => { history.pushState(null, '', url); dispatchEvent(new Event('popstate')); }",
        page.url.replace("q001%2F4&note=Luck+again", "q001%2F0&note=Not+mine"),
    )
    expect(page.locator("[data-shared-story]")).to_be_visible()
    expect(page.locator("[data-clear-story]")).to_be_hidden()
    page.locator("#note-0").press_sequentially("!")
    expect(page).to_have_url(re.compile("note=%21The"))
    assert page.evaluate("localStorage['p2r.story']") == mine
    page.get_by_label("remove case 1").click()
    expect(page.locator("[data-story-item]")).to_have_count(1)
    assert page.evaluate("localStorage['p2r.story']") == mine
    expect(page.get_by_role("link", name="open my story")).to_be_visible()
    page.get_by_role("button", name="copy to my story").click()
    expect(page.locator("#note-1")).to_have_value("Luck again")
    expect(page.locator("#note-2")).to_have_value("Not mine")
    expect(page.locator("[data-shared-story]")).to_be_hidden()
    page.get_by_label("remove case 3").click()
    expect(page.locator("[data-story-item]")).to_have_count(2)
    # An address has a greatest length. What is too long is refused.
    page.evaluate("() => document.querySelector('#note-1').removeAttribute('maxlength')")
    page.locator("#note-1").fill("é" * 6000)
    expect(page.locator("#said")).to_contain_text("the story is too long for an address")
    assert page.evaluate("localStorage['p2r.story']") == mine
    page.locator("#note-1").fill("")
    expect(page).to_have_url(re.compile("note=$"))
    page.get_by_label("move case 1 down").click()
    expect(page.locator("#note-1")).to_have_value("The triangle was never seen.")
    with page.expect_download() as download:
        page.get_by_role("link", name="download as a site").click()
    download.value.save_as(tmp_path / "story.zip")
    shutil.unpack_archive(tmp_path / "story.zip", tmp_path)
    pages = [*(tmp_path / "story").iterdir()]
    assert sum(file.stat().st_size for file in pages) < 0.5e6 * len(pages)
    requests: list[str] = []
    alone = open_page("about:blank")
    alone.on("request", lambda request: requests.append(request.url))
    alone.goto((tmp_path / "story" / "index.html").as_uri())
    expect(alone.locator("h1")).to_have_text("Luck <b>")
    alone.locator(".site-card").nth(1).click()
    expect(alone.locator(".study .title")).to_contain_text("Right by luck.")
    expect(alone.locator(".story-note")).to_have_text("The triangle was never seen.")
    alone.wait_for_function("document.querySelector('video.player').readyState >= 1")
    alone.locator("[data-sentence='2']").hover()
    expect(alone.locator("[data-sentence='2']")).to_have_class(re.compile("lit"))
    assert all(url.startswith(("file://", "data:")) for url in requests)


def test_counts_follow_a_running_stage(serve, tmp_path, open_page):
    run = write_scenic_run(tmp_path / "live")
    page = open_page(link(serve(run), tab="cases"))
    expect(page.locator("#list .item")).to_have_count(8)
    (run / "cases").mkdir()
    line = make_case(1, run="live", stage="eval-sft").model_dump_json()
    (run / "cases" / "eval-sft.jsonl").write_text(line + "\n")
    expect(page.locator("#list .item")).to_have_count(9)
    expect(page.locator("[data-count]")).to_have_text("9")
