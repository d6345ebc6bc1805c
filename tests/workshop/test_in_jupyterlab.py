"""The widgets in JupyterLab: each shows its figure, follows the keyboard, and a training stops."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.browser
pytest_plugins = ["browser_fixture"]
ROOT = Path(__file__).parents[2]
CELLS = [
    "from p2r.workshop import widgets\nfrom p2r.records import Question\n"
    "sign = Question(id='q', problem='What does the sign say?', problem_type='OCR', answer='STOP')",
    "widgets.frame_budget()",
    "widgets.group_credit()",
    "widgets.judge_noise()",
    "widgets.length_range([10, 20, 40, 80, 90], [True, True, False, True, True])",
    "widgets.trace_editor(sign)",
    "widgets.player('clip.mp4', max_frames=4, max_pixels=3136, factor=14)",
    "import time\nwith widgets.LiveCurves({'reward': 'r'}, 'A training') as curves:\n"
    "    for step in curves.steps(600):\n        time.sleep(0.1)\n"
    "        curves.add({'step': step, 'r': step / 10})\n",
]


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a notebook with every widget; yields its address."""
    from small import write_video

    write_video(tmp_path / "clip.mp4", 16, 56, 56, 4, seed=0)
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(book, tmp_path / "widgets.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    options = ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    paths = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "HOME")}
    paths["JUPYTERLAB_SETTINGS_DIR"] = str(tmp_path / "settings")
    environment = os.environ | paths | {"PYTHONPATH": str(ROOT)}
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [*command, *options], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}/lab"
    try:
        for _ in range(600):
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"{address}/tree/widgets.ipynb"
    finally:
        server.terminate()
        server.wait(30)


def test_every_widget_works_in_jupyterlab(lab, chromium, tmp_path):
    page = chromium.new_page(viewport={"width": 1300, "height": 5200})
    page.set_default_timeout(300_000)
    shots = Path(os.environ.get("P2R_SHOTS", tmp_path))
    page.goto(lab)
    try:
        use_every_widget(page)
    finally:
        page.screenshot(path=shots / "widgets.png")
        page.close()


def use_every_widget(page):
    """Run the notebook, then use the widgets with the keyboard."""
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
    page.get_by_text("Run All Cells", exact=True).click()
    cells = page.locator(".jp-CodeCell")
    cells.nth(6).locator("video").wait_for()
    for number in range(1, 7):
        cells.nth(number).locator(".js-plotly-plot").first.wait_for()

    status = cells.nth(1).locator("[role=status]")
    assert "8 frames" in status.inner_text()
    cells.nth(1).locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    cells.nth(1).get_by_text("10 frames of").wait_for()
    text = "<observation>The sign says STOP.</observation> <think>So.</think><answer>STOP</answer>"
    cells.nth(5).locator("textarea").fill(text)
    cells.nth(5).get_by_text("Sufficient: yes.").wait_for()

    cells.nth(7).locator(".js-plotly-plot").wait_for()
    cells.nth(7).get_by_role("button", name="Stop").click()
    cells.nth(7).get_by_text("stopped before step").wait_for()
