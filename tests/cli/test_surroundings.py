"""The command line with an unusual user, terminal or disk: one line, and the right exit code."""

import errno
import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2r.cli import run_cli
from p2r.cli.surroundings import give_home
from p2r.errors import StoreError
from p2r.files.atomic import write_text
from p2r.files.bars import line_of, on_line
from p2r.judges.database import default_path

# Prints characters that no latin-1 terminal has, by `print`, by rich and in the log.
PRINT = """
import sys
import p2r.cli
from p2r.cli.options import app

@app.command()
def show():
    from p2r.cli.tables import make_console
    import logging
    print("30 → 31 图")
    make_console().print("─ 图 …")
    logging.getLogger("p2r").warning("图")

sys.argv = ["p2r", "show"]
p2r.cli.main()
"""


# 50 steps of a progress bar.
BAR = """
import time
from p2r.cli.surroundings import prepare_surroundings

prepare_surroundings()
from tqdm import tqdm

for _ in tqdm(range(50)):
    time.sleep(0.005)
"""


@pytest.mark.parametrize(("interval", "least", "most"), [(None, 2, 3), ("0", 40, 60)])
def test_a_progress_bar_writes_little_into_a_log_file(interval, least, most):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TQDM_")}
    environment |= {} if interval is None else {"TQDM_MININTERVAL": interval}
    done = subprocess.run(
        [sys.executable, "-c", BAR], capture_output=True, text=True, env=environment, check=True
    )
    assert least <= done.stderr.count("%|") <= most
    assert "50/50" in done.stderr


def test_only_bars_in_a_terminal_have_lines_of_their_own(monkeypatch):
    monkeypatch.delenv("TQDM_POSITION", raising=False)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True))
    with on_line(1):
        assert os.environ["TQDM_POSITION"] == "1"
    assert "TQDM_POSITION" not in os.environ
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: False))
    assert line_of(1) == {}


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_a_terminal_without_unicode_changes_no_exit_code(encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", PRINT], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding)
    assert ("30 → 31 图" if encoding == "utf-8" else r"\u56fe") in shown


@pytest.fixture
def no_user(monkeypatch, tmp_path):
    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("USER", "someone")
    for name in ("P2R_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_an_unknown_user_without_home_gets_a_folder_of_its_own(no_user, capsys):
    give_home()
    home = no_user / f"p2r-home-{os.getuid()}"
    assert Path.home() == home and home.stat().st_mode & 0o777 == 0o700
    assert str(home) in capsys.readouterr().err
    give_home()
    assert capsys.readouterr().err == "", "a usable HOME stays"


def test_a_folder_that_somebody_else_made_is_not_used(no_user):
    (no_user / "elsewhere").mkdir()
    (no_user / f"p2r-home-{os.getuid()}").symlink_to(no_user / "elsewhere")
    give_home()
    assert Path.home().parent == no_user and Path.home().name.startswith("p2r-home-")
    assert not Path.home().is_symlink()


def test_without_home_the_verdict_cache_says_what_to_set(no_user):
    with pytest.raises(StoreError, match="set P2R_CACHE"):
        default_path()


def test_known_users_keep_their_home(monkeypatch):
    before = dict(os.environ)
    give_home()
    assert dict(os.environ) == before


# ---- a full disk


class FullFile:
    """A file on a full disk. Its errors do not name it, like those of real files."""

    def __init__(self, error):
        self.error = error

    def __call__(self, *_, **__):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_that_names_the_file(monkeypatch, tmp_path, capsys, error):
    target = tmp_path / "run" / "recipe.yaml"

    def begin(*_, **__):
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", FullFile(error))
            write_text(target, "text")

    monkeypatch.setattr("p2r.runs.open_run", begin)
    assert run_cli(["generate", "--run", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and "recipe.yaml" in said and "no space left" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_file_that_is_full_while_it_is_written_is_named(monkeypatch, tmp_path, capsys):
    def begin(*_, **__):
        with open("/dev/full", "w") as file:
            file.write("text")

    monkeypatch.setattr("p2r.runs.open_run", begin)
    assert run_cli(["generate", "--run", str(tmp_path / "run")]) == 2
    assert "/dev/full: no space left" in capsys.readouterr().err


def test_an_error_shows_no_key(monkeypatch, tmp_path, capsys):
    """A server may repeat the key that it got in its error."""
    monkeypatch.setenv("HF_TOKEN", "hf-secret")
    error = ValueError("the hub refused hf-secret")
    monkeypatch.setattr("p2r.runs.open_run", FullFile(error))
    assert run_cli(["generate", "--run", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.strip() == "error: the hub refused [key]"


def test_other_errors_of_libraries_keep_their_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr("p2r.runs.open_run", FullFile(RuntimeError("a fault")))
    with pytest.raises(RuntimeError, match="a fault"):
        run_cli(["generate", "--run", str(tmp_path / "run")])
