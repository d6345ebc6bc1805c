"""The widgets in JupyterLab: each shows its figure, follows the keyboard, and a training stops."""

import os
import re
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
    paths = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "HOME")}
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
    page.set_default_timeout(180_000)
    page.goto(lab)
    page.locator(".jp-Notebook").wait_for()
    page.locator(".jp-Notebook .jp-Cell").first.click()
    page.get_by_text("Run", exact=True).first.click()
    page.get_by_text("Run All Cells", exact=True).click()
    outputs = page.locator(".jp-CodeCell")
    outputs.nth(6).locator("video").wait_for()
    for number in range(1, 7):
        outputs.nth(number).locator(".js-plotly-plot").first.wait_for()

    handle = outputs.nth(1).locator(".noUi-handle").first
    status = outputs.nth(1).locator("[role=status]")
    assert "8 frames" in status.inner_text()
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "text => text.innerText.includes('10 frames')", arg=status.element_handle()
    )
    box = outputs.nth(5).locator("textarea")
    box.fill(
        "<observation>The sign says STOP.</observation> <think>So.</think><answer>STOP</answer>"
    )
    outputs.nth(5).get_by_text("Sufficient: yes.").wait_for()

    live = outputs.nth(7)
    live.locator(".js-plotly-plot").wait_for()
    live.get_by_role("button", name="Stop").click()
    live.get_by_text(re.compile("stopped before step")).wait_for()
    shots = Path(os.environ.get("P2R_SHOTS", tmp_path))
    page.screenshot(path=shots / "widgets.png")
    assert (shots / "widgets.png").stat().st_size > 50_000
    page.close()
