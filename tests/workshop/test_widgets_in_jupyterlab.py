"""Every widget in a real JupyterLab: it shows its figure and follows the keyboard.

With P2R_SHOTS=FOLDER, a picture of each widget is written to the folder, to look at.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect

from p2r.playground.splits import write_split

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
pytest_plugins = ["browser_fixture"]
ROOT = Path(__file__).parents[2]
PATIENCE = 180_000  # the kernel imports torch first, which is slow on a busy machine
START = (
    "from p2r.records import Question\nfrom p2r.workshop import widgets\n\n"
    "sign = Question(id='q', problem='What does the sign say?', problem_type='OCR', answer='STOP')"
)
CELLS = {
    "start": START,
    "frame_budget": "widgets.frame_budget()",
    "group_credit": "widgets.group_credit()",
    "judge_noise": "widgets.judge_noise()",
    "length_range": "widgets.length_range([10, 20, 40, 80, 90], [True, True, False, True, True])",
    "trace_editor": "widgets.trace_editor(sign)",
    "player": "widgets.player('clip.mp4', max_frames=4, max_pixels=3136, factor=14)",
    "live": (
        "import time\n\nwith widgets.LiveCurves({'reward': 'r'}, 'A training') as curves:\n"
        "    for step in curves.steps(3000):\n        time.sleep(0.5)\n"
        "        curves.add({'step': step, 'r': step / 10})"
    ),
}
SETTINGS = {
    # Without windowing, cells that are not in view are drawn too.
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a notebook with every widget; yields the address of the notebook."""
    write_split(tmp_path / "clips", "train", 1)
    next(tmp_path.glob("clips/**/*.mp4")).rename(tmp_path / "clip.mp4")
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), tmp_path / "w.ipynb")
    for name, values in SETTINGS.items():
        file = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    folders = dict(zip(own, ("config", "settings", "workspaces"), strict=True))
    environment = os.environ | {name: str(tmp_path / folder) for name, folder in folders.items()}
    options = ["--no-browser", "--allow-root", "--IdentityProvider.token="]
    # If another program takes the port, JupyterLab ends. By default it would choose another port.
    options += [f"--port={port}", "--ServerApp.port_retries=0"]
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}/lab"
    try:
        wait_for(address, server, tmp_path / "lab.log")
        yield f"{address}/tree/w.ipynb"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    """Wait until JupyterLab answers, for two minutes at most."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert server.poll() is None, f"JupyterLab ended: {log.read_text()[-2000:]}"
        try:
            opener.open(address, timeout=20).close()
            return
        except OSError:  # it does not listen yet, or does not answer
            time.sleep(0.1)
    raise AssertionError(f"JupyterLab does not answer: {log.read_text()[-2000:]}")


def test_every_widget_works_in_jupyterlab(lab, chromium, tmp_path):
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    # JupyterLab may ask which kernel to use, in a dialog that can appear at any time.
    select = page.get_by_role("button", name="Select", exact=True)
    page.add_locator_handler(select, lambda button: button.click())
    shots = Path(os.environ.get("P2R_SHOTS", tmp_path))
    page.goto(lab)
    try:
        use_every_widget(page, shots)
    finally:
        with suppress(PlaywrightTimeout):  # the error of a widget says more
            page.screenshot(path=shots / "lab.png", timeout=30_000)
        page.close()


def use_every_widget(page, shots: Path) -> None:
    """Run the notebook, then use each widget with the keyboard."""
    cells = page.locator(".jp-CodeCell")
    expect(cells).to_have_count(len(CELLS))
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
    cells.last.locator(".cm-content").click()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Above Selected Cell", exact=True).click()
    places = {name: cells.nth(number) for number, name in enumerate(CELLS)}

    def shoot(name: str) -> None:
        places[name].scroll_into_view_if_needed()
        places[name].screenshot(path=shots / f"{name}.png")

    live = places.pop("live")
    for name, key, said in (
        ("frame_budget", "ArrowRight", "10 frames of"),
        ("group_credit", "ArrowLeft", "rollout 1: 0.9, 1"),
        ("judge_noise", "ArrowRight", "With 11 % wrong verdicts"),
        ("length_range", "ArrowRight", "Length range 21 to 80"),
        ("player", "ArrowRight", "The model sees 5 frames"),
    ):
        cell = places[name]
        handle = cell.get_by_role("slider").first
        expect(cell.locator(".js-plotly-plot .main-svg").first).to_be_visible()
        expect(handle).to_have_attribute("tabindex", "0")
        handle.focus()
        page.keyboard.press(key)
        expect(cell.get_by_text(said).first).to_be_visible()
        shoot(name)

    editor = places["trace_editor"].locator("textarea")
    editor.focus()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(
        "<observation>The sign says STOP.</observation> <think>So.</think><answer>STOP</answer>"
    )
    expect(places["trace_editor"].get_by_text("Sufficient: yes.")).to_be_visible()
    shoot("trace_editor")
    assert places["player"].locator("video").evaluate("video => video.duration") > 2

    places["live"] = live
    live.locator(".cm-content").focus()
    page.keyboard.press("Control+Enter")
    stop = live.get_by_role("button", name="Stop")
    expect(live.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    stop.focus()
    shoot("live")
    page.keyboard.press("Space")
    expect(live.get_by_text("stopped before step")).to_be_visible()
