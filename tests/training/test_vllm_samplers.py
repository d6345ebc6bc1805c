"""vLLM gets new weights, also after sleep; an error of one worker is an error of all workers."""

from __future__ import annotations

import tempfile
from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType
from safetensors import SafetensorError

from p2r.runs.recipe import load_recipe
from p2r.training import vllm_samplers
from p2r.training.vllm_rollouts import VllmRollouts
from p2r.training.vllm_samplers import AtServer, OverNccl, make_sampler


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


# ---- errors, which all workers raise together


def fail(error):
    def raising(*_, **__):
        raise error

    return raising


class Read:
    """A function that reads two weights, and notes which of them were read."""

    def __init__(self):
        self.names = []

    def __call__(self):
        for name in "ab":
            yield name, torch.ones(2)
            self.names.append(name)


def at_server(kind):
    made = object.__new__(VllmRollouts)
    made.sampling, made._iter_named_params = None, Read()
    made.sampler = object.__new__(kind)
    made.sampler.main, made.sampler.dtype = True, torch.float32
    return made


@pytest.mark.parametrize("name", ["wake_up", "collective_rpc"])
def test_a_failed_load_is_an_error_of_all_workers_and_all_weights_are_read(rollouts, name):
    made = rollouts(gpu=True)
    made.rest()
    made._iter_named_params = Read()
    setattr(made.sampler.engine.llm, name, fail(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        made.sync_weights()
    assert caught.value.together and made._iter_named_params.names == ["a", "b"]


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (tempfile, "mkdtemp", OSError("no such folder")),
        (vllm_samplers, "save_file", SafetensorError("no space left on device")),
    ],
)
def test_weights_that_cannot_be_written_are_an_error_of_all_workers(
    monkeypatch, tmp_path, owner, name, error
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(owner, name, fail(error))
    made = at_server(AtServer)
    with pytest.raises(type(error), match=str(error)) as caught:
        made.sync_weights()
    assert caught.value.together and made._iter_named_params.names == ["a", "b"]
    assert not list(tmp_path.iterdir())


def test_an_unreadable_answer_of_the_server_is_an_error_of_all_workers():
    made = at_server(OverNccl)
    made.sampler._call = lambda path: b"{}"
    with pytest.raises(KeyError) as caught:
        made.sync_weights()
    assert caught.value.together and not made._iter_named_params.names


def test_an_error_while_sampling_is_an_error_of_all_workers():
    made = object.__new__(VllmRollouts)
    made.trainer = SimpleNamespace(step=None, model=SimpleNamespace(training=True))
    made._sample = fail(ValueError("bad request"))
    with pytest.raises(ValueError, match="bad request") as caught:
        made.generate([[1]], None, 1)
    assert caught.value.together


def test_an_interrupt_is_raised_at_once(rollouts):
    made = rollouts(gpu=False)
    made._iter_named_params = Read()
    made.sampler.engine.llm.collective_rpc = fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        made.sync_weights()
    assert not hasattr(caught.value, "together") and not made._iter_named_params.names


@pytest.mark.parametrize(
    ("kind", "closed"), [(DistributedType.NO, 1), (DistributedType.DEEPSPEED, 0)]
)
def test_vllm_stops_after_a_training_unless_the_trainer_needs_its_process_group(kind, closed):
    made, calls = object.__new__(VllmRollouts), []
    made.accelerator = SimpleNamespace(distributed_type=kind, num_processes=1)
    made.sampler = SimpleNamespace(close=lambda: calls.append("close"))
    made.close()
    assert len(calls) == closed
