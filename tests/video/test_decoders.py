"""A decoder that hangs, crashes or prints affects neither the run nor the next file."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clips import write_clip

from p2r.errors import VideoError
from p2r.video import decoders, sample_frames

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "a.mp4", 12)


@pytest.fixture
def worker(clip):
    """The only idle worker, which the next call uses."""
    decoders.pool.close()
    sample_frames(clip)
    return decoders.pool.idle[-1].process


@pytest.fixture
def decord_of(tmp_path, monkeypatch):
    """Replace decord by other code in the workers that start from now on."""

    def replace(code: str) -> None:
        (tmp_path / "decord.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        decoders.pool.close()

    yield replace
    decoders.pool.close()


def run_script(code: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_one_worker_serves_call_after_call(clip, worker):
    for _ in range(3):
        sample_frames(clip)
    assert [idle.process.pid for idle in decoders.pool.idle] == [worker.pid]


def test_a_hang_ends_at_the_time_limit(clip, worker):
    os.kill(worker.pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(VideoError, match=r"a\.mp4: no result within 0\.5 s"):
        sample_frames(clip, timeout=0.5)
    assert time.monotonic() - start < 60
    assert worker.poll() is not None
    assert len(sample_frames(clip)) == 12


def test_a_crash_gives_a_reason(clip, worker):
    os.kill(worker.pid, signal.SIGSTOP)
    crash = threading.Timer(0.5, lambda: os.kill(worker.pid, signal.SIGKILL))
    crash.start()
    with pytest.raises(VideoError, match=r"the decoder crashed \(opening\): Killed"):
        sample_frames(clip)
    assert len(sample_frames(clip)) == 12


def test_a_worker_that_died_while_idle_is_replaced(clip, worker):
    worker.kill()
    worker.wait()
    assert len(sample_frames(clip)) == 12


def test_an_interrupt_leaves_no_unread_answer(clip, worker, tmp_path):
    other = write_clip(tmp_path / "b.mp4", 3)
    # A background job's children ignore Ctrl-C; Python then installs no handler of its own.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        os.kill(worker.pid, signal.SIGSTOP)
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            sample_frames(clip)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sample_frames(other).total_frames == 3


@pytest.mark.parametrize(
    "code",
    [
        "raise ImportError",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "import time; time.sleep(600)",
    ],
    ids=["absent", "crashes", "hangs"],
)
def test_pyav_replaces_a_broken_decord(code, clip, decord_of):
    decord_of(code)
    found = sample_frames(clip, timeout=6)
    assert (found.decoder, found.indices) == ("pyav", list(range(12)))


def test_threads_share_a_limited_number_of_workers(tmp_path):
    paths = [write_clip(tmp_path / f"{number}.mp4", 2 + number) for number in range(6)]
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(sample_frames, paths * 6))
    assert [frames.total_frames for frames in found] == [2, 3, 4, 5, 6, 7] * 6
    assert len(decoders.pool.idle) <= decoders.WORKERS


def test_a_fork_has_its_own_workers(clip, worker):
    child = os.fork()
    if child == 0:
        own = len(sample_frames(clip)) == 12
        strange = decoders.pool.idle[-1].process.pid != worker.pid
        decoders.pool.close()
        os._exit(0 if own and strange else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert worker.poll() is None and len(sample_frames(clip)) == 12


def test_a_script_needs_no_guard_and_ends_clean(clip, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    code = """
import sys
from p2r.video import VideoError, sample_frames
print("once", len(sample_frames(sys.argv[1])))
try:
    sample_frames(sys.argv[2])
except VideoError as error:
    print(error)
print("torch" in sys.modules, "decord" in sys.modules, "av" in sys.modules)
"""
    done = run_script(code, clip, tmp_path / "bad.mp4")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")  # what the decoders print is not shown
    assert lines[0] == "once 12" and lines[1].startswith("cannot read ") and len(lines) == 3
    assert lines[2] == "False False False"


def test_no_worker_outlives_a_killed_run(clip):
    code = """
import os, signal, sys
from p2r import video
from p2r.video import decoders
video.sample_frames(sys.argv[1])
print(decoders.pool.idle[-1].process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    pid = int(run_script(code, clip).stdout)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and _runs(pid):
        time.sleep(0.1)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
