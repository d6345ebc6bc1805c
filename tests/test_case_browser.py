"""The case browser as its users see it: in Chromium, over a small run with real clips."""

import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import av
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from apps.case_browser import launch
from apps.library import Library, find_media_root
from p2r.media import MediaError
from p2r.records import Case, ProcessReward, Question, Trace, Verdict
from p2r.store import StoreError, write_cases
from p2r.video import sample_frames

pytest_plugins = ("browser_fixture",)

HOSTILE = (
    "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>' onload='hacked=1"
    "${window.hacked=1}{{value}}</article><svg onload=hacked=1>"
)


def write_clip(path: Path, frames: int = 16) -> Path:
    """A square that moves right: 8 frames a second, 56 x 56."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 56
        stream.pix_fmt = "yuv420p"
        for n in range(frames):
            pixels = np.full((56, 56, 3), 240, np.uint8)
            pixels[20:32, 2 * n : 2 * n + 12] = (220, 40, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def make_case(n: int, path: str = "clips/a.mp4", media: dict | None = None, **trace) -> Case:
    """Every second observation is sufficient, every third answer is wrong."""
    return Case(
        question=Question(
            id=f"q{n:03d}",
            problem=f"Which way does square number {n} move?",
            options=["A. left", "B. right"],
            problem_type="multiple choice",
            path=path,
            answer="B",
            source="playground",
        ),
        trace=Trace(
            **{
                "question_id": f"q{n:03d}",
                "text": "<observation>…</observation><think>…</think><answer>…</answer>",
                "observation": f"Square {n} starts at the left edge.",
                "think": "Its distance from the left edge grows.",
                "answer": "A" if n % 3 == 2 else "B",
                "completion_tokens": 60,
                "perception_tokens": 40,
                "run": "demo",
                "stage": "sft" if n % 4 else "base",
                "model": "playground/base",
                "sampling": {"temperature": 1.0},
                "media": media or {},
            }
            | trace
        ),
        accuracy=0.0 if n % 3 == 2 else 1.0,
        verdict=Verdict(sufficient=n % 2 == 0, rationale=f"Verdict {n}.", judge="oracle"),
        perception=ProcessReward(accuracy=1.0, format=1.0, length=0.2),
        reasoning=ProcessReward(accuracy=0.0, format=1.0, length=0.0),
        perception_advantage=0.75,
        reasoning_advantage=-0.5,
    )


def make_hostile_case() -> Case:
    """Markup wherever a stranger can put text."""
    text = HOSTILE
    return Case(
        question=Question(
            id=f"evil {text}",
            problem=text,
            options=[text, f"B. {text}"],
            problem_type="multiple choice",
            path=f"../{text}",
            answer=text,
            source=text,
            meta={text: text},
        ),
        trace=Trace(
            question_id=f"evil {text}",
            text=text,
            observation=text,
            think=text,
            answer=text,
            problems=[text],
            run=text,
            stage=text,
            model=text,
            sampling={text: text},
            media={"decoder": text},
        ),
        accuracy=0.0,
        verdict=Verdict(sufficient=False, rationale=text, judge=text, usage={text: text}),
        tags=[text],
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "demo"
    clip = write_clip(run / "media" / "clips" / "a.mp4")
    (run / "media" / "clips" / "broken.mp4").write_bytes(b"no video")
    Image.new("RGB", (120, 80), "teal").save(run / "media" / "clips" / "picture.png")
    (run / "secret.txt").write_text("secret")
    media = sample_frames(clip, max_frames=8, max_pixels=3136, factor=14).info()
    cases = [make_case(n, media=media) for n in range(120)]
    cases += [make_case(200, rollout=k, step=3, stage="pa_grpo", media=media) for k in range(4)]
    cases += [make_case(200, media=media)]
    cases += [
        make_case(301, "clips/absent.mp4"),
        make_case(302, "clips/broken.mp4"),
        make_case(303, "../secret.txt"),
        make_case(304, media=media | {"indices": [0, 1]}),
        make_case(305, problems=["think missing"], think=None, truncated=True),
        make_case(306, media=media | {"max_frames": -1, "factor": "x"}),
        make_hostile_case(),
    ]
    picture = make_case(307, "clips/picture.png")
    picture.question.data_type = "image"
    write_cases(run, [*cases, picture])
    return run


@pytest.fixture(scope="module")
def address(run):
    app = launch([run], port=None, block=False)
    yield app.local_url
    app.close()


def case_id(n: int, stage: str = "sft", step: int = 0, rollout: int = 0) -> str:
    return f"demo/{stage}/{step}/q{n:03d}/{rollout}"


def link(address: str, case: str) -> str:
    return f"{address}?case={quote(case)}"


def test_the_list_and_a_whole_case_are_shown(address, open_page):
    page = open_page(address)
    expect(page.locator("#title")).to_contain_text("133 cases")
    expect(page.locator("#list .item")).to_have_count(50)
    expect(page.locator("#list .pager")).to_contain_text("1–50 of 133")
    page.locator("#list .item").nth(1).click()
    case = page.locator("article.case")
    expect(case.locator("h2")).to_have_text("Which way does square number 1 move?")
    expect(case.locator(".headline")).to_contain_text("observation: not sufficient")
    expect(case.locator(".headline")).to_contain_text("answer: right")
    expect(case.locator(".headline")).to_contain_text("right by luck")
    expect(case.locator(".options li").nth(1)).to_contain_text(re.compile("reference *answered"))
    expect(case.locator(".panel.see")).to_contain_text("Square 1 starts at the left edge.")
    expect(case.locator(".panel.see")).to_contain_text("40 tokens")
    expect(case.locator(".panel.see")).to_contain_text("RP 2.20 = accuracy 1.00")
    expect(case.locator(".panel.see")).to_contain_text("AP +0.75")
    expect(case.locator(".panel.judge")).to_contain_text("Verdict 1.")
    expect(case.locator(".panel.judge")).to_contain_text("oracle")
    expect(case.locator(".panel.think")).to_contain_text("distance from the left edge")
    expect(case.locator(".panel.think")).to_contain_text("20 tokens")
    expect(case.locator(".panel.answer .exchange")).to_contain_text("B→referenceB")
    case.get_by_text("How it was made").click()
    expect(case.locator("dl")).to_contain_text("playground/base")


def test_the_video_plays_and_the_frames_are_those_the_model_saw(address, open_page):
    page = open_page(link(address, case_id(1)))
    frames = page.locator(".strip button")
    expect(frames).to_have_count(8)
    expect(page.locator(".frames h3")).to_contain_text("56 × 56")
    expect(page.locator(".warning")).to_have_count(0)
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


def test_a_picture_is_shown_with_what_the_model_saw_of_it(address, open_page):
    page = open_page(link(address, case_id(307)))
    expect(page.locator("img.player")).to_be_visible()
    expect(page.locator(".strip button")).to_have_count(1)
    expect(page.locator(".frames h3")).to_contain_text("112 × 84")


def test_the_2x2_filters_and_keeps_its_counts(address, open_page):
    page = open_page(address)
    lucky = page.locator("[data-verdict=no][data-outcome=right]")
    expect(lucky).to_contain_text("right by luck")
    count = lucky.locator("b").inner_text()
    lucky.click()
    expect(page.locator("#list .pager")).to_contain_text(f"of {count}")
    expect(lucky).to_have_attribute("aria-pressed", "true")
    expect(lucky.locator("b")).to_have_text(count)
    expect(page.locator("#list .item .chip.good").first).to_have_text("✓ ans")
    lucky.click()
    expect(page.locator("#list .pager")).to_contain_text("of 133")


def test_search_and_facets_narrow_the_list(address, open_page):
    page = open_page(address)
    expect(page.locator("#list .item")).to_have_count(50)
    page.locator("#search :is(textarea, input)").fill("SQUARE number 11")
    expect(page.locator("#list .pager")).to_contain_text("1–11 of 11")
    page.locator("#search :is(textarea, input)").fill("nothing of the kind")
    expect(page.locator("#list")).to_contain_text("No case passes these filters.")
    expect(page.locator("#nav")).to_contain_text("not in this list")
    page.locator("#search :is(textarea, input)").fill("")
    expect(page.locator("#list .pager")).to_contain_text("of 133")
    page.get_by_role("button", name="Filters and order").click()
    page.get_by_label("only responses with format faults").check()
    expect(page.locator("#list .pager")).to_contain_text("of 2")
    page.get_by_label("only truncated responses").check()
    expect(page.locator("#list .item")).to_have_count(1)
    expect(page.locator("#list .item")).to_contain_text("square number 305")
    page.get_by_label("only responses with format faults").uncheck()
    page.get_by_label("only truncated responses").uncheck()
    page.get_by_label("stage", exact=True).click()
    page.get_by_role("option", name="pa_grpo (4)").click()
    expect(page.locator("#list .item")).to_have_count(4)


def test_pages_and_keys_lead_through_the_list(address, open_page):
    page = open_page(address)
    place = page.locator("#nav .place")
    expect(place).to_have_text("1 of 133")
    expect(page.locator("#previous-case")).to_be_disabled()
    for _ in range(3):
        page.keyboard.press("j")
    expect(place).to_have_text("4 of 133")
    page.keyboard.press("k")
    expect(place).to_have_text("3 of 133")
    expect(page.locator("#list [aria-current=true]")).to_contain_text("square number 2 ")
    page.get_by_label("next page").click()
    expect(page.locator("#list .pager")).to_contain_text("51–100 of 133")
    page.locator("#list .item").first.click()
    expect(place).to_have_text("51 of 133")
    page.keyboard.press("k")
    expect(page.locator("#list .pager")).to_contain_text("1–50 of 133")
    expect(page.locator("#list [aria-current=true]")).to_be_in_viewport()


def test_a_permalink_opens_its_case_and_follows_the_visitor(address, open_page):
    page = open_page(link(address, case_id(200, "pa_grpo", 3, 2)))
    expect(page.locator("article h2")).to_have_text("Which way does square number 200 move?")
    expect(page.locator("article .about")).to_contain_text("rollout 2")
    group, elsewhere = page.locator(".responses").all()
    expect(group.locator("tbody tr")).to_have_count(4)
    expect(elsewhere.locator("tbody tr")).to_have_count(1)
    elsewhere.locator("tbody a").click()
    expect(page).to_have_url(re.compile(r"case=demo%2F(sft|base)%2F0%2Fq200%2F0"))
    page.reload()
    expect(page.locator("article .about")).not_to_contain_text("rollout")
    expect(page.locator("article h2")).to_have_text("Which way does square number 200 move?")


def test_an_unknown_permalink_says_so(address, open_page):
    page = open_page(link(address, "demo/no/such/case"))
    expect(page.locator("#case")).to_contain_text("no case 'demo/no/such/case' in these runs")
    expect(page.locator("#list .item")).to_have_count(50)


def test_media_that_cannot_be_had_leave_their_reason_and_the_case_opens(address, open_page):
    page = open_page(address)
    expect(page.locator("#list .item")).to_have_count(50)  # the page is ready
    page.locator("#search :is(textarea, input)").fill("square number 30")
    for n, place, reason in [
        (301, ".no-media", "there is no such file below the media root"),
        (302, ".frames .no-media", "decode|format|invalid|read"),
        (303, ".no-media", "leaves the media root"),
        (304, ".frames .warning", "other frames now than the trace recorded"),
        (305, ".frames .warning", "does not say how its frames were sampled"),
        (306, ".frames .no-media", "cannot sample -1 frames"),
    ]:
        page.locator("#list .item", has_text=f"square number {n} ").click()
        expect(page.locator(".panel.judge")).to_contain_text(f"Verdict {n}.")
        expect(page.locator(place)).to_contain_text(re.compile(reason, re.IGNORECASE))


def test_a_faulty_response_is_shown_whole_with_its_faults(address, open_page):
    page = open_page(link(address, case_id(305)))
    expect(page.locator("article .about")).to_contain_text("format: think missing")
    expect(page.locator("article .about")).to_contain_text("truncated")
    expect(page.locator(".panel.think")).to_contain_text("No readable reasoning")
    expect(page.locator("details[open] pre")).to_contain_text("<observation>")


def test_hostile_text_is_text(address, open_page):
    page = open_page(address)
    expect(page.locator("#list .item")).to_have_count(50)
    page.locator("#search :is(textarea, input)").fill("onerror")
    expect(page.locator("#list .item")).to_have_count(1)
    page.locator("#list .item").click()
    expect(page.locator("article h2")).to_have_text(HOSTILE)
    for panel in (".see", ".judge", ".think", ".answer"):
        expect(page.locator(f".panel{panel}")).to_contain_text(HOSTILE)
    page.get_by_text("How it was made").click()
    expect(page.locator("dl")).to_contain_text(HOSTILE)
    page.get_by_role("button", name="Filters and order").click()
    page.get_by_label("source", exact=True).click()
    expect(page.get_by_role("option", name=HOSTILE)).to_be_visible()
    page.reload()
    expect(page.locator("article h2")).to_have_text(HOSTILE)
    assert page.evaluate("window.hacked") is None
    assert page.locator("#browser :is(script, svg[onload], img[onerror])").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_in_light_and_dark(address, open_page, scheme):
    page = open_page(link(address, case_id(200, "pa_grpo", 3, 1)), color_scheme=scheme)
    expect(page.locator(".strip button")).to_have_count(8)
    expect(page.locator("#list .item")).to_have_count(33)
    found = Axe().run(page, context="#browser").response["violations"]
    assert [(fault["id"], [node["target"] for node in fault["nodes"]][:3]) for fault in found] == []


def test_only_files_that_a_case_names_below_the_root_are_served(address, run):
    def fetch(path: str, **headers):
        return urllib.request.urlopen(urllib.request.Request(address + path, headers=headers))

    clip = (run / "media" / "clips" / "a.mp4").read_bytes()
    with fetch(f"media?case={quote(case_id(1))}") as answer:
        assert answer.read() == clip and answer.headers["Content-Type"] == "video/mp4"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    with fetch(f"media?case={quote(case_id(1))}", Range="bytes=10-19") as answer:
        assert answer.status == 206 and answer.read() == clip[10:20]
    refused = [
        f"media?case={quote(case_id(303))}",
        "media?case=nothing",
        f"gradio_api/file={run / 'secret.txt'}",
        f"gradio_api/file={run / 'media' / 'clips' / 'a.mp4'}",
    ]
    for path in refused:
        with pytest.raises(urllib.error.HTTPError, match=r"40[34]"):
            fetch(path)


def test_the_media_root_is_given_named_by_the_run_or_the_run_itself(tmp_path):
    case = make_case(1, "a.mp4")
    write_cases(tmp_path / "run", [case])
    with pytest.raises(MediaError, match=r"'a.mp4': there is no such file"):
        Library([tmp_path / "run"]).find_media(case)
    clip = write_clip(tmp_path / "clips" / "a.mp4", frames=2)
    assert Library([tmp_path / "run"], tmp_path / "clips").find_media(case) == clip
    (tmp_path / "run" / "data_root").write_text("../clips\n")
    assert Library([tmp_path / "run"]).find_media(case) == clip
    (tmp_path / "run" / "data_root").unlink()
    assert find_media_root(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run" / "media").mkdir()
    assert find_media_root(tmp_path / "run") == tmp_path / "run" / "media"


def test_what_cannot_be_opened_or_served_says_so(tmp_path, address, run):
    with pytest.raises(StoreError, match="no cases at"):
        launch([tmp_path], block=False)
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(OSError, match=str(port)):
        launch([run], port=port, block=False)
