"""The case browser in a notebook: a real kernel runs the cell, Chromium opens the output."""

import http.server
import re
import threading
from collections.abc import Callable, Iterator

import pytest
from browser_cases import TOTAL
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
pytest_plugins = ("browser_fixture",)
CELL = "from p2r.browser.app import launch\n\nbrowser = launch([{!r}])"
# A page with its own address and keys, which contains the output of the cell.
NOTEBOOK = (
    "<!doctype html><title>notebook</title><link rel=icon href=data:,>"
    "<textarea id=cell></textarea><p id=text>text</p>{}"
)


@pytest.fixture(scope="module")
def run_cell(tmp_path_factory) -> Iterator[Callable[[str], str]]:
    """Return a function that runs a cell in a kernel and returns the HTML of its output."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book, place = nbformat.v4.new_notebook(), {"path": tmp_path_factory.mktemp("notebook")}
    client = nbclient.NotebookClient(book, timeout=240, resources={"metadata": place})
    with client.setup_kernel():

        def run_source(source: str) -> str:
            book.cells.append(nbformat.v4.new_code_cell(source))
            cell = client.execute_cell(book.cells[-1], len(book.cells) - 1)
            return "".join(
                output.data["text/html"]
                for output in cell.outputs
                if "text/html" in output.get("data", {})
            )

        yield run_source


@pytest.fixture
def serve_notebook() -> Iterator[Callable[[str], str]]:
    """Return a function that serves a page with an output and returns its address."""
    page = b""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def serve_output(output: str) -> str:
        nonlocal page
        page = NOTEBOOK.format(output).encode()
        return f"http://127.0.0.1:{server.server_port}/notebook"

    yield serve_output
    server.shutdown()
    server.server_close()


def test_a_notebook_cell_shows_the_browser_with_links_and_keys(
    run, run_cell, serve_notebook, open_page
):
    notebook = serve_notebook(run_cell(CELL.format(str(run))))
    page = open_page(notebook, permissions=["clipboard-read", "clipboard-write"])
    inside = page.frame_locator("iframe")
    frame = page.frames[1]
    place = inside.locator("#nav .place")
    inside.locator("#bar [data-tab=cases]").click()
    expect(inside.locator("#list .item")).to_have_count(50)
    expect(place).to_have_text(f"1 of {TOTAL}")
    # Keys typed into the notebook do not reach the browser.
    page.locator("#cell").focus()
    page.keyboard.type("jj?f")
    page.locator("#text").click()
    page.keyboard.press("j")
    expect(page.locator("#cell")).to_have_value("jj?f")
    expect(inside.locator("#help")).to_be_hidden()
    expect(place).to_have_text(f"1 of {TOTAL}")
    inside.locator("article h2").click()
    page.keyboard.press("j")
    expect(place).to_have_text(f"2 of {TOTAL}")
    page.keyboard.press("f")
    page.keyboard.type("number 11")
    expect(inside.locator("#list .item")).to_have_count(11)
    inside.locator("#list .item").nth(2).click()
    expect(place).to_have_text("3 of 11")
    heading = inside.locator("article h2").inner_text()
    # The state is in the address of the frame, and a copied link opens it elsewhere.
    assert page.url == notebook
    assert re.search(r"[?&]case=.*text=number\+11", frame.url)
    inside.get_by_role("button", name="copy link").click()
    expect(inside.get_by_role("button", name="copied")).to_be_visible()
    copied = frame.evaluate("navigator.clipboard.readText()")
    assert copied == frame.url
    alone = open_page(copied)
    expect(alone.locator("article h2")).to_have_text(heading)
    expect(alone.locator("#list .item")).to_have_count(11)


def test_a_notebook_cell_can_run_twice(run, run_cell):
    first = run_cell(CELL.format(str(run)))
    second = run_cell(CELL.format(str(run)) + "\nbrowser.close()")
    addresses = [
        re.search(r'src="(http://127\.0\.0\.1:\d+/)"', html)[1] for html in (first, second)
    ]
    assert addresses[0] != addresses[1]
