"""The probe of false notes: kept, and made again for other settings."""

from __future__ import annotations

from p2r.runs import open_run
from p2r.stages import probes


def test_answers_are_kept_until_the_model_or_a_setting_changes(tmp_path, monkeypatch):
    asked = []

    def probe(run, model):
        asked.append(model)
        return [{"question_id": "q", "answer": "A", "source": "note"}]

    monkeypatch.setattr(probes, "_probe", probe)
    run = open_run(tmp_path / "run", "tiny1")
    for _ in range(2):
        found = probes.follow_sources(run, "playground/base", "base")
        assert found["follows note"]["mean"] == 1 and found["follows video"]["mean"] == 0
    assert len(asked) == 1
    other = open_run(run.folder, None, ["eval.max_tokens=99"])
    probes.follow_sources(other, "playground/base", "base")
    probes.follow_sources(other, "playground/teacher", "base")
    assert len(asked) == 3
