"""One step: the loss, its time, the judge in the background, numbers by process, the benchmark."""

import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import forks
import pytest
import torch
from small import small_recipe
from small_rl import RuleJudge, Scripted, generation, make_trainer, scripted
from torch.testing import assert_close

from p2r import data
from p2r.errors import VideoError
from p2r.judges import make_judge
from p2r.scoring import score_answer
from p2r.template import render
from p2r.training import step as pa_grpo
from p2r.training.step_judge import Judged, StepJudge
from p2r.training.trainer import ProcessAwareGRPOTrainer

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TEXTS = [render(f"I see {word}.", "So two.", "2") for word in ("two", "one", "a two", "none")]


def test_a_step_is_five_plain_functions(model_folder, questions):
    """Without TRL and without a model: sample, judge, score, advantages, loss."""
    settings = small_recipe(
        model_folder, "rl.normalise=process", "rl.rewards=[perception, reasoning]"
    ).rl
    processor = data.load_processor(model_folder)
    encode, end = processor.tokenizer.encode, processor.tokenizer.eos_token_id
    step = pa_grpo.Step([questions[-1]] * 4, group_size=4, number=7)
    said = [*([*encode(text), end] for text in TEXTS[:3]), encode(TEXTS[3])]
    pa_grpo.sample(step, processor, lambda q: None, "brief", lambda prompts: (said, None), [end])
    assert [prompt is step.prompts[0] for prompt in step.prompts] == [True] * 4
    assert step.texts == TEXTS and step.truncated == [False, False, False, True]
    asking = StepJudge(RuleJudge(), timeout=60, retries=0)
    pa_grpo.judge(step, asking)
    pa_grpo.score(step, asking.answer(), processor.tokenizer, settings)
    assert [case.verdict.sufficient for case in step.cases] == [True, False, True, False]
    assert [(case.trace.step, case.trace.rollout) for case in step.cases] == [
        (7, row) for row in range(4)
    ]
    assert_close(step.rewards, torch.tensor([[2.0, 2.0], [1.0, 2.0], [2.0, 2.0], [1.0, 2.0]]))
    pa_grpo.advantages(step, settings)
    size = 0.5 / (3**-0.5 + 1e-4)
    assert_close(step.advantages, torch.tensor([[size, 0], [-size, 0], [size, 0], [-size, 0]]))
    longest = max(map(len, said))
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in said])
    batch = pa_grpo.loss_inputs(step, mask, settings)
    assert batch["perception_tokens"].tolist() == [c.trace.perception_tokens for c in step.cases]
    log_probs = torch.zeros(mask.shape, requires_grad=True)
    value, terms = pa_grpo.loss(batch, log_probs, epsilon=0.2, beta=0.0)
    value.backward()
    # Perception has half of each completion's weight; the reasoning advantages are 0.
    assert_close(log_probs.grad.sum(1), torch.tensor([-size, size, -size, size]) / 8)
    assert terms.keys() == {"clipped low", "clipped high"}


def test_an_answer_without_its_tags_earns_nothing_as_in_filter_and_evaluation(
    model_folder, questions
):
    settings = small_recipe(model_folder).rl
    processor = data.load_processor(model_folder)
    question = questions[-1]
    step = pa_grpo.Step([question] * 2, group_size=2)
    step.texts = [render("I see.", "So.", question.answer), question.answer]
    step.truncated = [False] * 2
    step.completions = [processor.tokenizer.encode(text) for text in step.texts]
    pa_grpo.score(step, Judged([None, None], 0, 0.0), processor.tokenizer, settings)
    assert [case.accuracy for case in step.cases] == [1.0, 0.0]
    assert [score_answer(case) for case in step.cases] == [1.0, 0.0]


def test_a_question_that_cannot_be_encoded_is_an_error_of_all_workers(model_folder, questions):
    def frames_of(question):
        raise VideoError(question.path, "took too long")

    step = pa_grpo.Step([questions[0]], group_size=1)
    processor = data.load_processor(model_folder)
    with pytest.raises(VideoError) as caught:
        pa_grpo.sample(step, processor, frames_of, "brief", lambda prompts: ([], None), [])
    assert caught.value.together


def test_the_loss_of_hand_made_numbers():
    log_probs = torch.tensor([[1.5, 0.5]]).log()
    batch = {
        "old_per_token_logps": torch.zeros(1, 2),
        "ref_per_token_logps": log_probs + 1,
        "advantages": torch.tensor([[1.0, -1.0]]),
        "weights": torch.tensor([[1, 1]]),
    }
    # Both ratios are clipped: −1.2 and +0.8. Each KL term is e − 2.
    value, terms = pa_grpo.loss(batch, log_probs, epsilon=0.2, beta=0.0)
    assert value.item() == pytest.approx(-0.2)
    assert terms["clipped high"].tolist() == [[1, 0]] and terms["clipped low"].tolist() == [[0, 1]]
    value, terms = pa_grpo.loss(batch, log_probs, epsilon=0.2, beta=0.1)
    assert value.item() == pytest.approx(-0.2 + 0.1 * (math.e - 2))
    assert_close(terms["kl"], torch.full((1, 2), math.e - 2))
    batch["importance_sampling_ratio"] = torch.tensor([[0.5, 0.5]])  # not for the KL term
    value, _ = pa_grpo.loss(batch, log_probs, epsilon=0.2, beta=0.1)
    assert value.item() == pytest.approx(-0.1 + 0.1 * (math.e - 2))
    batch["weights"] = torch.tensor([[3, 1]])
    value, _ = pa_grpo.loss(batch, log_probs, epsilon=0.2, beta=0.0)
    assert value.item() == pytest.approx((3 * -0.6 + 0.4) / 4)


def test_the_judge_answers_while_log_probs_are_computed(model_folder, media, questions, tmp_path):
    meeting = threading.Barrier(2, timeout=60)  # neither goes on before the other has begun

    class Meeting(RuleJudge):
        def judge(self, questions, observations):
            meeting.wait()
            return super().judge(questions, observations)

    class Beside(Scripted):
        def _get_per_token_logps_and_entropies(self, *args, **kwargs):
            meeting.wait()
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    trainer, cases = make_trainer(
        Beside, model_folder, media, questions[:1], tmp_path, "rl.group_size=4", "rl.micro_batch=4",
        judge=Meeting(),
    )  # fmt: skip
    trainer.responses = TEXTS
    trainer.model.train()
    trainer._generate_and_score_completions(generation(questions[:1], 4))
    assert trainer.step.seconds["judge"] > 0 and trainer.step.seconds["judge_wait"] > 0
    assert [case.perception.accuracy for case in cases] == [1, 0, 1, 0], (
        "each row has its own verdict"
    )


def test_an_error_in_the_judge_stops_the_step(model_folder, media, questions, tmp_path):
    class Broken:
        def judge(self, questions, observations):
            raise ValueError("a judge that is wrong")

    with pytest.raises(ValueError, match="a judge that is wrong"):
        scripted(model_folder, media, questions, tmp_path, TEXTS, judge=Broken())


class Together(BaseHTTPRequestHandler):
    """A Messages API that answers only after all 64 requests have arrived."""

    asked = threading.Barrier(64, timeout=60)

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        try:
            self.asked.wait()
        except threading.BrokenBarrierError:
            self.send_error(400, "too few at a time")
            return
        reply = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": "<judgement>Yes</judgement>"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Do not log."""


def test_claude_is_asked_about_all_64_rollouts_of_a_step_at_once(monkeypatch, questions, tmp_path):
    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Together)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    monkeypatch.setenv("P2R_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    seen = [f"<observation>I see {number}.</observation>" for number in range(64)]
    judge = StepJudge(make_judge("claude"), timeout=90, retries=0)
    judge.ask(questions[:1] * 64, seen)
    judged = judge.answer()
    server.shutdown()
    reasons = {verdict.rationale for verdict in judged.verdicts}
    assert [verdict.sufficient for verdict in judged.verdicts] == [True] * 64, reasons
    assert judged.calls == 64


def test_a_step_logs_the_time_of_each_part(model_folder, media, questions, tmp_path):
    trainer, _ = make_trainer(ProcessAwareGRPOTrainer, model_folder, media, questions, tmp_path)
    trainer.train()
    row = next(row for row in trainer.state.log_history if "step_time" in row)
    parts = ("decode", "encode", "generate", "judge_wait", "log_probs", "backward")
    spent = [row[f"time/{part}"] for part in parts]
    assert min(spent) >= 0 and row["time/judge"] >= 0
    assert sum(spent) <= row["step_time"]
    assert row["time/backward"] > 0 and row["time/generate"] > 0


def test_entropy_kl_and_clip_share_of_both_processes_add_up_to_the_total(
    model_folder, media, questions, tmp_path
):
    trainer, batch, cases = scripted(model_folder, media, questions, tmp_path, TEXTS)
    # Change the reference and the old policy, so that KL and clipping are not zero.
    noise = torch.Generator().manual_seed(0)
    shift = torch.randn(batch["ref_per_token_logps"].shape, generator=noise)
    batch["ref_per_token_logps"] += 0.1 * shift
    batch["old_per_token_logps"] = batch["ref_per_token_logps"] + shift
    trainer.state.global_step = 1  # only before the first update must the reference agree
    trainer._metrics["train"].clear()
    trainer.compute_loss(trainer.model, batch)
    found = trainer._metrics["train"]
    looked = sum(case.trace.perception_tokens for case in cases)
    total = sum(case.trace.completion_tokens for case in cases)
    for mine, theirs in (("entropy",) * 2, ("kl",) * 2, ("clip_ratio", "clip_ratio/region_mean")):
        perception, reasoning = found[f"perception/{mine}"][0], found[f"reasoning/{mine}"][0]
        assert perception != reasoning
        together = (perception * looked + reasoning * (total - looked)) / total
        assert_close(together, found[theirs][0], atol=1e-5, rtol=1e-4)


def test_the_benchmark_prints_one_json_object(model_folder, tmp_path):
    small = ["rl.prompts_per_step=2", "rl.group_size=2", "rl.micro_batch=4", "rl.max_tokens=48"]
    small.append(f"models.base={model_folder}")
    options = ["--json", "--rounds", "1", "--delay", "0.1"]
    options += [part for setting in small for part in ("--set", setting)]
    said = tmp_path / "log"
    code = forks.script(ROOT / "benchmarks" / "step.py", *options, log=said)
    assert code == 0, said.read_text()[-2000:]
    found = json.loads(said.read_text().splitlines()[-1])
    assert found["process_over_outcome"] > 0 and found["over_trl"] > 0
    assert found["decodes_per_video"] == 1
    assert 100 < found["peak_mb"] < 8000
    assert found["rollouts"] == found["judge_calls_per_step"] == 4
    assert set(found["seconds"]) >= {"trl", "outcome", "process"}
