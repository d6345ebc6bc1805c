"""Rollouts by vLLM: the judge gets each response when it is complete."""

from __future__ import annotations

from types import SimpleNamespace

from p2r.engines import Completion, Sampling
from p2r.training.vllm_rollouts import VllmRollouts


def test_the_judge_gets_a_response_of_vllm_when_it_is_complete():
    heard = []

    class Engine:
        """Ends the last request first; the first request fails once."""

        def __init__(self):
            self.failed = False

        def generate(self, requests, sampling):
            for request in reversed(requests):
                if request.key == "a" and not self.failed:
                    self.failed = True
                    yield Completion(key="a", error="lost")
                    continue
                yield Completion(key=request.key, text=f"text of {request.key}")
                assert heard[-1][1] == f"text of {request.key}", "heard before the next one ends"

    made = object.__new__(VllmRollouts)
    made.PAUSE = 0.0
    made.sampler = SimpleNamespace(engine=Engine())
    requests = [SimpleNamespace(key=key) for key in "abc"]
    found = made._complete(requests, Sampling(), lambda row, text: heard.append((row, text)))
    assert [completion.text for completion in found] == [f"text of {key}" for key in "abc"]
    assert heard == [(2, "text of c"), (1, "text of b"), (0, "text of a")]
