"""The case browser against hostile texts, paths and visitors, and with damaged runs."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest
from browser_cases import HOSTILE, UNSEEN, case_id, link, make_case, settle, write_clip
from playwright.sync_api import expect
from scripted import ScriptedEngine

from p2r import engines
from p2r.browser import app as case_browser
from p2r.browser.app import launch
from p2r.browser.desk import Desk
from p2r.browser.library import Library, find_media_root
from p2r.cases.store import CaseStore, write_cases
from p2r.errors import MediaError, StoreError, UserError

pytestmark = pytest.mark.browser
pytest_plugins = ("browser_fixture",)
TABS = ("start", "cases", "gallery", "groups", "compare", "stories", "agreement", "data")


def test_hostile_text_stays_text_on_every_page(address, open_page):
    page = open_page(link(address, text="onerror"))
    expect(page.locator("#list .item")).to_have_count(1)
    page.locator("#list .item").click()
    expect(page.locator("article h2")).to_have_text(HOSTILE)
    for panel in (".see", ".judge", ".think", ".answer"):
        expect(page.locator(f".panel{panel}")).to_contain_text(HOSTILE)
    page.get_by_text("How it was made").click()
    expect(page.locator("#making")).to_contain_text(HOSTILE)
    page.locator("#search").fill("")
    expect(page.locator("#list .item")).to_have_count(50)
    page.get_by_text("More filters").click()
    page.locator("#choice-source summary").click()
    expect(page.locator("#choice-source")).to_contain_text("<img src=x onerror")
    for tab in TABS:
        page.locator(f"#bar [data-tab={tab}]").click()
        expect(page.locator(f"#bar [data-tab={tab}][aria-current=page]")).to_be_visible()
        settle(page)
        assert page.evaluate("window.hacked") is None
        assert page.locator("#browser :is(script, svg[onload], img[onerror])").count() == 0


def test_hostile_text_stays_text_in_the_ask_tab(address, open_page):
    page = open_page(link(address, f"{HOSTILE}/{HOSTILE}/0/evil 0 {HOSTILE}/0", tab="ask"))
    expect(page.locator("#ask").get_by_label("question", exact=True)).to_have_value(HOSTILE)
    chosen = page.locator("#ask-sample input")
    expect(chosen).to_have_value(re.compile("^<img src=x onerror"))
    chosen.click()
    expect(page.get_by_role("option").first).to_contain_text("<img src=x onerror")
    page.keyboard.press("Escape")
    page.locator("#ask-go").click()
    expect(page.locator("#ask .no-media").first).to_contain_text("with '..'")
    assert page.evaluate("window.hacked") is None
    assert page.locator("#ask :is(script, svg[onload], img[onerror])").count() == 0


def test_invisible_characters_and_markdown_are_written_out(address, open_page):
    page = open_page(link(address, f"{UNSEEN}/{UNSEEN}/0/evil 1 {UNSEEN}/0"))
    heading = page.locator("article h2")
    expect(heading).to_contain_text("![x](http://evil.example/a.png) a[U+202E]gnp.exe[U+2066]")
    expect(heading).to_contain_text("[U+0007][U+001B][31m [U+200B]**bold**")


def test_a_page_with_a_megabyte_of_text_stays_usable(address, open_page):
    page = open_page(link(address, case_id(400, "base")))
    expect(page.locator(".panel.see .note")).to_contain_text("more characters")
    assert page.evaluate("document.documentElement.innerHTML.length") < 600_000
    with urllib.request.urlopen(
        address + page.locator(".see .note a").get_attribute("href")
    ) as got:
        assert len(got.read()) > 1_000_000
        assert got.headers["Content-Type"].startswith("text/plain")
    page.keyboard.press("k")
    expect(page.locator("article.case")).not_to_have_attribute("data-case", case_id(400, "base"))


def test_only_media_that_a_case_names_are_served(address, run):
    def fetch(path: str, **headers):
        return urllib.request.urlopen(urllib.request.Request(address + path, headers=headers))

    clip = (run / "media" / "clips" / "a.mp4").read_bytes()
    with fetch(f"p2r/media?case={quote(case_id(1))}") as answer:
        assert answer.read() == clip and answer.headers["Content-Type"] == "video/mp4"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    with fetch(f"p2r/media?case={quote(case_id(1))}", Range="bytes=10-19") as answer:
        assert answer.status == 206 and answer.read() == clip[10:20]
    with fetch(f"p2r/thumb?case={quote(case_id(303))}") as answer:
        assert answer.read().startswith(b"no frame: ")
    with fetch(f"p2r/thumb?case={quote(case_id(1))}") as answer:
        assert (
            answer.read().startswith(b"\x89PNG") and answer.headers["Content-Type"] == "image/png"
        )
        tag = answer.headers["ETag"]
    with pytest.raises(urllib.error.HTTPError, match="304"):
        fetch(f"p2r/thumb?case={quote(case_id(1))}", **{"If-None-Match": tag})
    refused = [
        f"p2r/media?case={quote(case_id(303))}",
        "p2r/media?case=nothing",
        "p2r/figures?run=../demo",
        f"p2r/text?case={quote(case_id(1))}&part=../secret.txt",
        f"gradio_api/file={run / 'secret.txt'}",
        f"gradio_api/file={run / 'media' / 'clips' / 'a.mp4'}",
    ]
    for path in refused:
        with pytest.raises(urllib.error.HTTPError, match=r"40[034]"):
            fetch(path)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/plain"}, "{}", 403),
        ({"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}, "{}", 403),
        ({"Content-Type": "application/json", "Origin": "http://evil.example"}, "{}", 403),
        ({"Content-Type": "application/json", "Origin": "http://127.0.0.1:1"}, "{}", 403),
        ({"Content-Type": "application/json", "Host": "evil.example"}, "{}", 421),
        ({"Content-Type": "application/json"}, "[1]", 422),
        ({"Content-Type": "application/json"}, "no json", 422),
        ({"Content-Type": "application/json"}, "[" * 100_000, 422),
        ({"Content-Type": "application/json"}, '{"sufficient": ["yes"]}', 422),
        ({"Content-Type": "application/json"}, "x" * 200_000, 413),
        (
            {"Content-Type": "application/json"},
            json.dumps({"case": "no/such", "annotator": "a", "sufficient": "yes"}),
            422,
        ),
    ],
)
def test_labels_are_accepted_only_from_the_page_of_the_browser(address, run, headers, body, status):
    asked = urllib.request.Request(f"{address}p2r/label", body.encode(), headers, method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked)
    assert refused.value.code == status
    assert not (run / "labels.jsonl").exists()


def test_every_address_needs_the_password(tmp_path):
    write_clip(tmp_path / "run" / "media" / "a.mp4", frames=2)
    write_cases(tmp_path / "run", [make_case(1, "a.mp4")])
    with pytest.raises(UserError, match="P2R_APP_PASSWORD"):
        launch([tmp_path / "run"], host="0.0.0.0", port=None, block=False)
    with pytest.raises(UserError, match="too short"):
        launch([tmp_path / "run"], password="short", port=None, block=False)
    app = launch([tmp_path / "run"], password="long enough", port=None, block=False)
    try:
        case = quote(case_id(1))
        media = [f"{kind}?case={case}" for kind in ("media", "frames", "thumb")]
        for path in ("view", *media, "export?kind=csv"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"{app.local_url}p2r/{path}")
        asked = urllib.request.Request(
            f"{app.local_url}p2r/label", b"{}", {"Content-Type": "application/json"}, method="POST"
        )
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(asked)
        data = b"username=p2r&password=wrong"
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(f"{app.local_url}login", data)
        signed = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        signed.open(f"{app.local_url}login", b"username=p2r&password=long+enough")
        assert json.loads(signed.open(f"{app.local_url}p2r/view").read())["tab"] == "start"
    finally:
        app.close()


def test_uploads_are_limited_in_size(tmp_path, monkeypatch):
    write_cases(tmp_path / "run", [make_case(1, "a.mp4")])
    monkeypatch.setattr(case_browser, "MAX_UPLOAD", "10kb")
    app = launch([tmp_path / "run"], port=None, block=False)
    try:
        for size, status in ((1_000, 200), (100_000, 413)):
            body = (
                b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
                + b"0" * size
                + b"\r\n--x--\r\n"
            )
            kind = {"Content-Type": "multipart/form-data; boundary=x"}
            asked = urllib.request.Request(f"{app.local_url}gradio_api/upload", body, kind)
            try:
                given = urllib.request.urlopen(asked).status
            except urllib.error.HTTPError as error:
                given = error.code
            assert given == status
    finally:
        app.close()


def test_clips_and_answers_have_limits(tmp_path, monkeypatch):
    run = tmp_path / "run"
    clip = write_clip(run / "media" / "a.mp4")
    write_cases(run, [make_case(1, "a.mp4")])
    desk = Desk(Library(CaseStore([run])))
    for name in ("a.html", "a.svg", "a.mp4.m3u8", "a"):
        with pytest.raises(UserError, match="is not a clip or picture"):
            desk.check_upload(tmp_path / name)
    question = make_case(1).question
    monkeypatch.setattr(engines, "load_engine", lambda *_, **__: ScriptedEngine(None))
    endless = (piece for piece in itertools.repeat("again "))
    monkeypatch.setattr(ScriptedEngine, "stream", lambda *_: endless)
    monkeypatch.setattr("p2r.browser.desk.ANSWER_SECONDS", -1)
    *_, (_, text, kept) = desk.ask("model", clip, question)
    assert text == "again " and kept.case.trace.text == text
    monkeypatch.setattr("p2r.browser.desk.MAX_CLIP_SECONDS", 1)
    with pytest.raises(UserError, match="is 2 s long: at most 1 s"):
        list(desk.ask("model", clip, question))


def test_the_server_listens_only_on_this_machine_and_only_under_its_own_name(address):
    assert address.startswith("http://127.0.0.1:")
    for path in ("", "p2r/view", "p2r/export?kind=csv", "gradio_api/info"):
        asked = urllib.request.Request(address + path, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(asked)
        asked = urllib.request.Request(address + path, headers={"Host": "localhost:1"})
        assert urllib.request.urlopen(asked).status == 200


def test_a_read_only_browser_changes_nothing_and_needs_no_password(tmp_path):
    write_cases(tmp_path / "run", [make_case(1, "a.mp4")])
    app = launch([tmp_path / "run"], host="0.0.0.0", port=None, block=False, read_only=True)
    try:
        address = f"http://127.0.0.1:{app.server_port}/"
        asked = urllib.request.Request(f"{address}p2r/view", headers={"Host": "public.example"})
        page = json.loads(urllib.request.urlopen(asked).read())
        assert 'data-tab="ask"' not in page["bar"] and page["tab"] == "start"
        case = json.loads(urllib.request.urlopen(f"{address}p2r/view?case={case_id(1)}").read())
        assert 'id="label"' not in case["main"] and "panel see" in case["main"]
        for path in ("p2r/label", "gradio_api/upload", "gradio_api/queue/join"):
            asked = urllib.request.Request(address + path, b"{}", method="POST")
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(asked)
    finally:
        app.close()


def test_a_damaged_run_opens_with_its_readable_parts(serve, tmp_path, open_page):
    run = tmp_path / "torn"
    (run / "cases").mkdir(parents=True)
    (run / "cases.parquet").write_bytes(b"PAR1 but no more")
    good = make_case(1, run="torn").model_dump_json()
    (run / "cases" / "cot.jsonl").write_text(f'{good}\n{{"question": 3}}\nnonsense\n{good[:80]}')
    (run / "recipe.yaml").write_text(": : no yaml [")
    (run / "environment.json").write_text("[" * 100_000)
    (run / "labels.jsonl").write_text("no label\n")
    (run / "rl").mkdir()
    (run / "rl" / "metrics.jsonl").write_text("[" * 100_000 + '\n{"step": 1' + "0" * 400 + "}\n")
    page = open_page(link(serve(run), tab="cases"))
    expect(page.locator("#list .item")).to_have_count(1)
    page.locator("#bar .chip", has_text="4 unreadable").click()
    expect(page.locator(".faults")).to_contain_text("labels.jsonl, line 1")
    expect(page.locator(".faults")).to_contain_text("cot.jsonl")
    expect(page.locator(".faults")).to_contain_text("cases.parquet")
    expect(page.locator("#main")).to_contain_text("unreadable")
    page.locator("#bar [data-tab=runs]").click()
    expect(page.locator("#main")).to_contain_text("No stage of this run has written metrics")


def test_the_media_folder_is_passed_or_named_by_the_run_or_the_run_itself(tmp_path):
    case = make_case(1, "a.mp4")
    write_cases(tmp_path / "run", [case])
    with pytest.raises(MediaError, match=r"'a.mp4': the media folder has no such file"):
        Library(CaseStore([tmp_path / "run"])).find_media(case)
    clip = write_clip(tmp_path / "clips" / "a.mp4", frames=2)
    assert Library(CaseStore([tmp_path / "run"]), tmp_path / "clips").find_media(case) == clip
    (tmp_path / "run" / "data_root").write_text("../clips\n")
    assert Library(CaseStore([tmp_path / "run"])).find_media(case) == clip
    (tmp_path / "run" / "data_root").unlink()
    assert find_media_root(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run" / "media").mkdir()
    assert find_media_root(tmp_path / "run") == tmp_path / "run" / "media"


def test_a_run_or_port_that_cannot_be_used_raises_an_error(tmp_path, address, run):
    with pytest.raises(StoreError, match="no cases at"):
        launch([tmp_path], block=False)
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(OSError, match=str(port)):
        launch([run], port=port, block=False)


def test_the_command_serves_a_run_and_refuses_bad_arguments(run, tmp_path):
    base = [sys.executable, "-m", "p2r", "app"]
    environment = {k: v for k, v in os.environ.items() if k != "P2R_APP_PASSWORD"}
    for arguments, words in (
        ([str(tmp_path / "none")], "does not exist"),
        ([str(run), "--host", "0.0.0.0"], "P2R_APP_PASSWORD"),
        ([str(run), "--media-root", str(tmp_path / "none")], "is not a folder"),
    ):
        done = subprocess.run(
            [*base, *arguments], capture_output=True, text=True, env=environment, timeout=300
        )
        assert done.returncode == 2 and words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    server = subprocess.Popen(
        [*base, str(run), "--host", "127.0.0.1"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        # Background jobs of a shell ignore Ctrl+C, and so do their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        address = next(line for line in server.stdout if "case browser:" in line).split()[2]
        with urllib.request.urlopen(f"{address}?run=demo&case={quote(case_id(1))}") as answer:
            assert answer.status == 200
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) in (0, 130, -2)
