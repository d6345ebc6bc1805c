"""The benchmark of the case browser on a small run."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from p2r.cases.store import CaseStore, Filters
from p2r.playground.splits import make_question

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = {"start_s", "filter_p95_s", "search_p95_s", "open_case_s", "server_mb"}


def test_the_synthetic_run_has_the_mix_of_the_paper(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from synthetic_run import MIX, PAPER_CASES, make_run

    assert sum(count for _, _, count, _ in MIX) == PAPER_CASES
    store = CaseStore([make_run(tmp_path / "run", 1000)])
    assert store.count() == 1000 and not store.faults
    assert len(list(store.cases())) == 1000, "every row is a case"
    assert all(store.failures().values())
    group = store.groups(Filters(stage=("rl-pa_grpo",)))[0]
    assert group["size"] == 8 and len(store.groups(limit=100)) == 200 // 8
    share = store.count(Filters(problem_type=("multiple choice",), stage=("cot",))) / 800
    assert abs(share - 134_001 / PAPER_CASES) < 0.05


@pytest.mark.parametrize("generation", [1, 2])
def test_benchmarks_share_their_ports_and_questions(tmp_path, monkeypatch, generation):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from common import free_port, make_questions

    with socket.socket() as used:
        used.bind(("127.0.0.1", free_port()))
    questions = make_questions(tmp_path, "train", 2, generation)
    expected = [make_question("train", index, generation) for index in range(2)]
    assert [q.model_dump_json() for q in questions] == [q.model_dump_json() for q in expected]
    assert all((tmp_path / question.path).is_file() for question in questions)


@pytest.mark.slow
def test_the_benchmark_prints_all_its_numbers():
    pytest.importorskip("gradio")
    command = [sys.executable, str(BENCHMARKS / "browser.py"), "--json", "--cases", "300"]
    small = ["--rounds", "2", "--clients", "2", "--think", "0", "--no-page"]
    done = subprocess.run([*command, *small], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cases"] == 300 and found.keys() >= NAMES
    assert all(found[name] > 0 for name in NAMES)
