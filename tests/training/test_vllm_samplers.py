"""vLLM frees its memory between the samplings of a training, and gets new weights when it wakes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from p2r.runs.recipe import load_recipe
from p2r.training import vllm_samplers
from p2r.training.vllm_rollouts import VllmRollouts
from p2r.training.vllm_samplers import make_sampler


class Llm:
    """Remembers what it is asked to do."""

    def __init__(self):
        self.calls = []
        self.llm_engine = SimpleNamespace(
            reset_prefix_cache=lambda: self.calls.append("reset prefix cache"),
            reset_encoder_cache=lambda: self.calls.append("reset encoder cache"),
        )

    def collective_rpc(self, name, kwargs):
        self.calls.append((name, [name for name, _ in kwargs["weights_iterator"]]))

    def wake_up(self, tags):
        self.calls.append(("wake up", *tags))

    def sleep(self, level):
        self.calls.append(("sleep", level))


@pytest.fixture
def rollouts(monkeypatch):
    """Return a function that makes the rollouts of a trainer, with a vLLM that only remembers."""

    def make(gpu: bool):
        monkeypatch.setattr(vllm_samplers.torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(vllm_samplers.torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(vllm_samplers, "ensure_master_addr_port", lambda: None)
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        monkeypatch.setattr(
            vllm_samplers,
            "VllmEngine",
            lambda *_, **settings: SimpleNamespace(llm=Llm(), settings=settings),
        )
        recipe = load_recipe("tiny", ["rl.rollouts=vllm", "vllm.sleep=true"])
        accelerator = SimpleNamespace(num_processes=1)
        trainer = SimpleNamespace(accelerator=accelerator, style="brief", _last_loaded_step=4)
        made = object.__new__(VllmRollouts)
        made.trainer, made.sampling = trainer, None
        made.sampler = make_sampler(recipe, "model", trainer)
        made._iter_named_params = lambda: iter([("a", 1), ("b", 2)])
        return made

    return make


def test_a_sleeping_vllm_gets_the_new_weights_when_it_wakes(rollouts):
    made = rollouts(gpu=True)
    llm = made.sampler.engine.llm
    assert made.sampler.engine.settings["enable_sleep_mode"] is True
    made.sync_weights()
    made.rest()
    made.rest()  # the preflight does not sample its longest example, but a step ends
    assert made.trainer._last_loaded_step == -1, "so TRL loads the weights again"
    made.sync_weights()
    reload = [("reload_weights", ["a", "b"])]
    resets = ["reset prefix cache", "reset encoder cache"]
    woken = [("wake up", "weights"), *reload, ("wake up", "kv_cache")]
    assert llm.calls == [*reload, *resets, ("sleep", 2), *woken, *resets]


def test_on_a_cpu_vllm_does_not_sleep(rollouts, caplog):
    made = rollouts(gpu=False)
    assert "vllm.sleep has no effect" in caplog.text
    assert "enable_sleep_mode" not in made.sampler.engine.settings
    made.sync_weights()
    made.rest()
    assert made.trainer._last_loaded_step == 4
    assert "sleep" not in str(made.sampler.engine.llm.calls)
