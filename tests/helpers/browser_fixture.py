"""Fixtures for tests in a real browser: Chromium, driven by Playwright, and a served run.

Use it with `pytest_plugins = ("browser_fixture",)` and the fixtures `open_page`, `run`, `address`.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser_cases import make_run
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

# The first page takes long on a busy machine. A benchmark measures the speed, not these tests.
PATIENCE = 60_000
NAMES = ("chromium", "chromium-browser", "google-chrome")
USUAL = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}


def find_chromium() -> str:
    """Return the path of Chromium. Install it with apt-get if possible, else skip the test."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("Chromium is not installed, and apt-get needs root to install it")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        try:
            subprocess.run(
                ["apt-get", *command], env=environment, check=True, capture_output=True, timeout=900
            )
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"Chromium is not installed, and apt-get {command[0]} failed: {error}")
    return shutil.which("chromium") or pytest.skip("apt-get did not install Chromium")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def usual(chromium) -> Iterator[BrowserContext]:
    """The context of the first page of each test. Its page has loaded Gradio before."""
    context = chromium.new_context(**USUAL)
    yield context
    context.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="session")
def address(run) -> Iterator[str]:
    from p2r.browser.app import launch

    app = launch([run], port=None, block=False)
    yield app.local_url
    app.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Return a function that serves a run and returns its address. Name it before `open_page`."""
    from p2r.browser.app import launch

    apps = []

    def serve_run(run: Path) -> str:
        apps.append(launch([run], port=None, block=False))
        return apps[-1].local_url

    yield serve_run
    for app in apps:
        app.close()


@pytest.fixture
def open_page(chromium, usual) -> Iterator[Callable[..., Page]]:
    """Return a function that opens an address. Pages may not log errors or leave this machine.

    Each page of a test has its own context: its own cookies and storage.
    """
    complaints: list[str] = []
    notes = {
        "pageerror": lambda error: complaints.append(f"error: {error}"),
        "console": lambda message: (
            complaints.append(f"console: {message.text}") if message.type == "error" else None
        ),
        "dialog": lambda dialog: complaints.append(f"dialog: {dialog.message}"),
        "request": lambda request: complaints.extend(_elsewhere(request.url)),
    }
    pages: list[Page] = []

    def open_address(address: str, **options) -> Page:
        if pages or options.keys() - {"viewport", "color_scheme"}:
            page = chromium.new_context(**USUAL | options).new_page()
        else:
            page = usual.pages[0] if usual.pages else usual.new_page()
            page.set_viewport_size(options.get("viewport", USUAL["viewport"]))
            page.emulate_media(media="null", color_scheme=options.get("color_scheme", "light"))
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        for event, note in notes.items():
            page.on(event, note)
        page.goto(address)
        return page

    yield open_address
    for page in pages:
        if page.context is not usual:
            page.context.close()
        elif not page.is_closed():
            for event, note in notes.items():
                page.remove_listener(event, note)
            _leave(page)
    assert not complaints


def _leave(page: Page) -> None:
    """Leave nothing of a test in the page."""
    page.mouse.move(0, 0)
    page.evaluate("() => { try { localStorage.clear(); sessionStorage.clear() } catch { } }")
    page.goto("about:blank")
    page.context.clear_cookies()


def _elsewhere(url: str) -> list[str]:
    here = url.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "blob:", "file:"))
    return [] if here else [f"request to {url}"]
