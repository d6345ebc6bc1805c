"""A judge server that the environment points to, and a cache for one test."""

import pytest
from judge_asking import KEY
from judge_server import serve_judge


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("P2R_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("P2R_JUDGE_KEY", raising=False)
    with serve_judge() as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
        yield running
