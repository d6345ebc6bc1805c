"""Import of stored outputs: all formats, known scores, and counts of bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from measures import shared_data

from p2r.cli import run_cli
from p2r.errors import DataError
from p2r.evaluation.results import read_result


def evaluate(capsys, *arguments: str) -> dict:
    """Return what `p2r eval … --json` prints."""
    assert run_cli(["eval", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def imported(capsys, tmp_path, format, file, benchmark, *more: str) -> dict:
    """Import a file and return its numbers. Check that scoring the result again gives the same."""
    out = tmp_path / "result.json"
    command = ["--import", format, str(file), "--benchmark", benchmark, "--out", str(out)]
    first = evaluate(capsys, *command, *more)
    again = evaluate(capsys, "--rescore", str(out))
    assert first == again
    return again


def write(tmp_path, name: str, value) -> Path:
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def records(count: int = 4, **fields) -> list[dict]:
    return [
        {"id": i, "truth": "B", "output": "B" if i % 2 else "A", **fields} for i in range(count)
    ]


# ---- known scores


@pytest.mark.parametrize("format", ["jsonl", "video-r1"])
def test_mmvu_predictions_give_their_score(format, capsys, tmp_path):
    file = shared_data("predictions") / "mmvu_qwen2.5-vl-7b.json"
    numbers = imported(capsys, tmp_path, format, file, "mmvu")
    assert numbers["official"]["mean"] == pytest.approx(0.6544)
    assert numbers["robust"]["mean"] == pytest.approx(411 / 625)
    assert numbers["official"]["n"] == 625 and numbers["logged"]["agree"]["official"] == 625
    assert numbers["official"]["low"] < 0.6544 < numbers["official"]["high"]


def test_videommmu_predictions_give_every_logged_reward(capsys, tmp_path):
    file = shared_data("predictions") / "videommmu_videorft-3b.json"
    numbers = imported(capsys, tmp_path, "jsonl", file, "videommmu")
    assert numbers["official"]["mean"] == pytest.approx(0.410256, abs=1e-6)
    assert numbers["logged"] == {
        "mean": pytest.approx(0.410256, abs=1e-6),
        "n": 390,
        "agree": {"official": 390, "robust": 390},
    }
    assert numbers["counts"]["unparsable"]["official"] == 32, "cut off before an answer"
    assert numbers["counts"]["fewer items than the benchmark has"] == 1
    stored = read_result(tmp_path / "result.json")
    assert stored.examples["fewer items than the benchmark has"] == ["390 of 900"]


def test_the_score_does_not_need_what_the_source_extracted(capsys, tmp_path):
    file = shared_data("predictions") / "videommmu_videorft-3b.json"
    items = json.loads(file.read_text())["items"]
    bare = [{k: v for k, v in item.items() if not k.startswith("logged")} for item in items]
    lines = "".join(json.dumps(item) + "\n" for item in bare)
    numbers = imported(capsys, tmp_path, "jsonl", write(tmp_path, "x.jsonl", lines), "videommmu")
    assert numbers["official"]["mean"] == pytest.approx(0.410256, abs=1e-6)
    assert numbers["logged"] is None


# ---- formats


def test_videomme_template_with_trailing_commas_by_duration(capsys, tmp_path):
    def video(name, duration, answers, **fields):
        questions = [
            {
                "question_id": f"{name}-{k}",
                "task_type": "OCR Problems",
                "question": "?",
                "options": ["A. a.", "B. b.", "C. c.", "D. d."],
                "answer": "B",
                "response": answer,
            }
            for k, answer in enumerate(answers)
        ]
        shared = {"video_id": name, "duration": duration, "domain": "Multilingual"}
        return {**shared, "sub_category": "Multilingual", **fields, "questions": questions}

    template = [
        video("001", "short", ["B", "B. b.", "A"]),
        video("002", "medium", ["The answer is B", "so it is", ""]),
        video("003", "long", ["C", "D", None]),
        video("004", "long", ["B"], missing=True),
        video("005", "short", ["A"], subtitles=True),
    ]
    text = json.dumps(template, indent=1).replace("}\n", "},\n").replace('"\n', '",\n')
    numbers = imported(
        capsys, tmp_path, "videomme-template", write(tmp_path, "t.json", text), "videomme"
    )
    official, robust = numbers["official"], numbers["robust"]
    means = {part: (row["mean"], row["n"]) for part, row in official["parts"].items()}
    assert means["short"] == (pytest.approx(2 / 3), 3)
    assert means["medium"] == (1.0, 1), "two are not answered, and left out"
    assert means["long"] == (0.0, 2)
    assert official["mean"] == pytest.approx(3 / 6) and robust["mean"] == pytest.approx(3 / 9)
    assert {"Multilingual", "sub-category: Multilingual", "OCR Problems"} <= official[
        "parts"
    ].keys()
    assert numbers["counts"]["outside the subset"] == 2 and numbers["counts"]["empty output"] == 2
    assert numbers["counts"]["unparsable"]["official"] == 3


def test_videomme_questions_counted_within_their_video(capsys, tmp_path):
    asked = [{"question_id": k, "answer": "B", "response": "B"} for k in (1, 2, 3)]
    videos = [{"video_id": f"00{v}", "duration": "long", "questions": asked} for v in (1, 2)]
    file = write(tmp_path, "t.json", {"videos": videos})
    numbers = imported(capsys, tmp_path, "videomme-template", file, "videomme")
    assert numbers["n"] == 6 and "duplicate id" not in numbers["counts"]
    assert read_result(tmp_path / "result.json").items[0].id == "001-1", "as the benchmark has it"


def test_videomme_template_of_the_first_release(capsys, tmp_path):
    question = {"question_id": "1-1", "task_type": "x", "answer": "D", "response": "D"}
    video = {"video_id": "1", "duration_category": "long", "video_category": "Sports Competition"}
    file = write(tmp_path, "t.json", [{**video, "questions": [question]}])
    numbers = imported(capsys, tmp_path, "videomme-template", file, "videomme")
    assert {"long", "Sports Competition"} <= numbers["official"]["parts"].keys()


def tempcompass_files(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    choice = {"question": "What?\nA. red\nB. left", "answer": "B. left"}
    caption = {"question": "Which?\nOption 1: It is.\nOption 2: Not.", "answer": "Option 2: Not."}
    files = {
        "multi-choice": {
            "1.mp4": {"action": [{**choice, "prediction": p} for p in ("B", "A. red", "so left")]},
            "2.mp4": {"order": [{**choice, "response": "B. left</s>"}]},
        },
        "yes_no": {"1": {"speed": [{"question": "?", "answer": "no", "prediction": "No."}]}},
        "caption_matching": {"1": {"direction": [{**caption, "prediction": "Option 2"}]}},
        "captioning": {
            "1": {"action": [{"question": "Information A", "answer": "B. left", "prediction": "x"}]}
        },
    }
    for task, videos in files.items():
        (folder / f"{task}.json").write_text(json.dumps(videos))
    return folder


def test_tempcompass_by_task_and_dimension(capsys, tmp_path):
    folder = tempcompass_files(tmp_path)
    one = imported(capsys, tmp_path, "tempcompass", folder / "multi-choice.json", "tempcompass")
    means = {part: (row["mean"], row["n"]) for part, row in one["official"]["parts"].items()}
    assert means == {
        "multi-choice": (0.5, 4),
        "action": (pytest.approx(1 / 3), 3),
        "order": (1, 1),
        "aspect: order": (1, 1),
    }
    assert one["official"]["mean"] == 0.5 and one["robust"]["mean"] == 0.75
    assert one["counts"]["unparsable"]["official"] == 1, "no rule matches: wrong, and counted"
    whole = imported(capsys, tmp_path, "tempcompass", folder, "tempcompass")
    assert whole["n"] == 7 and whole["official"]["n"] == 6, "no caption is scored without an LLM"
    assert whole["official"]["parts"]["caption_matching"]["mean"] == 1.0


def test_tempcompass_task_is_known_by_the_questions(capsys, tmp_path):
    """The form of the questions gives the task, if the file's name does not."""
    for task in ("multi-choice", "yes_no", "caption_matching", "captioning"):
        folder = tmp_path / task
        folder.mkdir()
        file = tempcompass_files(folder) / f"{task}.json"
        renamed = file.rename(tmp_path / "predictions_0.json")
        numbers = imported(capsys, tmp_path, "tempcompass", renamed, "tempcompass")
        assert task in numbers["official"]["parts"] or task == "captioning"
        assert read_result(tmp_path / "result.json").items[0].parts["task"] == task


def test_tempcompass_ratings_of_an_llm_are_kept(capsys, tmp_path):
    rated = {
        "question": "Information A\nGenerated Caption:",
        "gt-answer": "B. left",
        "video-llm-prediction": "It goes left",
        "rating": 1,
    }
    file = write(tmp_path, "captioning.json", {"1": {"action": [rated, {**rated, "rating": 0}]}})
    numbers = imported(capsys, tmp_path, "tempcompass", file, "tempcompass")
    assert numbers["official"]["mean"] == 0.5 and numbers["official"]["n"] == 2


def test_lmms_eval_samples(capsys, tmp_path):
    doc = {"video": "x", "question": "?", "candidates": ["red", "left"], "answer": "left"}
    samples = [
        {
            "doc_id": k,
            "doc": doc,
            "target": "left",
            "resps": [[said]],
            "filtered_resps": [said],
            "mvbench_accuracy": {"pred_answer": said, "gt_answer": "B", "score": int("B" in said)},
        }
        for k, said in enumerate(("B", "(B) left", "A", "It is B"))
    ]
    lines = "".join(json.dumps(sample) + "\n" for sample in samples)
    file = write(tmp_path, "20250101_samples_mvbench_action_count.jsonl", lines)
    numbers = imported(capsys, tmp_path, "lmms-eval", file, "mvbench")
    assert numbers["official"]["mean"] == 0.5 and numbers["robust"]["mean"] == 0.75
    assert numbers["official"]["parts"]["action_count"]["n"] == 4
    assert numbers["logged"]["mean"] == 0.75
    assert read_result(tmp_path / "result.json").items[1].id == "action_count/1"


def test_a_folder_of_lmms_eval_has_the_logs_of_all_tasks(capsys, tmp_path):
    doc = {"question_id": "001-1", "duration": "short", "options": ["A. a", "B. b"], "answer": "B"}
    sample = {"doc_id": 0, "doc": doc, "target": "B", "resps": [["B"]], "filtered_resps": ["B"]}
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("videomme", "videomme_w_subtitle", "mmvu_val"):
        (folder / f"2025_samples_{name}.jsonl").write_text(json.dumps(sample))
    (folder / "2025_results.json").write_text(json.dumps({"results": {"videomme": {}}}))
    numbers = imported(capsys, tmp_path, "lmms-eval", folder, "videomme")
    assert numbers["n"] == 1 and numbers["official"]["parts"]["short"]["mean"] == 1.0
    assert numbers["counts"]["outside the subset"] == 1, "with subtitles"
    assert "bad record" not in numbers["counts"]


def test_lmms_eval_log_of_vsibench_without_documents(capsys, tmp_path):
    """An older log is one object with the document inside the metric."""
    kinds = {"object_counting": ("4", "3"), "route_planning": ("B", "B.")}
    logs = [
        {
            "doc_id": k,
            "target": truth,
            "filtered_resps": [said],
            "vsibench_score": {
                "id": k + 10,
                "question_type": kind,
                "ground_truth": truth,
                "options": ["A. a", "B. b"] if truth == "B" else None,
                "prediction": said,
            },
        }
        for k, (kind, (truth, said)) in enumerate(kinds.items())
    ]
    file = write(tmp_path, "vsibench.json", {"args": {}, "logs": logs})
    numbers = imported(capsys, tmp_path, "lmms-eval", file, "vsibench")
    parts = {name: row["mean"] for name, row in numbers["official"]["parts"].items()}
    assert parts["object_counting"] == 0.6 and parts["route_planning"] == 1.0
    assert parts["mra_strict"] == 0.5 and parts["mra_eleven"] == pytest.approx(6 / 11)
    assert numbers["official"]["mean"] == parts["overall"] == parts["paper"] == 0.8


def test_records_of_a_log_that_carries_the_annotation(capsys, tmp_path):
    line = {
        "question": {"problem_id": 7, "options": ["A. x", "B. y"], "answer": "y", "problem": "?"},
        "ground_truth": "<answer>B</answer>",
        "model_output": "B",
        "extracted_answer": "B",
        "accuracy_score": 1.0,
    }
    numbers = imported(capsys, tmp_path, "jsonl", write(tmp_path, "m.jsonl", [line]), "mvbench")
    assert numbers["official"]["mean"] == 1.0 and numbers["logged"]["agree"]["official"] == 1
    assert read_result(tmp_path / "result.json").items[0].id == "7"


# ---- bad input


def test_truncated_json_is_read_as_far_as_it_goes(capsys, tmp_path):
    for index, value in enumerate((records(5), {"results": records(5)})):
        for indent in (None, 2):
            text = json.dumps(value, indent=indent)
            file = write(tmp_path, f"cut{index}.json", text[: text.rindex('"output"') + 4])
            numbers = imported(capsys, tmp_path, "video-r1", file, "mmvu")
            assert numbers["n"] == 4 and numbers["counts"]["bad record"] == 1
    text = json.dumps({"Action Count": records(3), "Object Shuffle": records(3)})
    file = write(tmp_path, "cut.json", text[:-30])
    numbers = imported(capsys, tmp_path, "jsonl", file, "mvbench")
    assert numbers["n"] == 5 and numbers["counts"]["bad record"] == 1
    text = json.dumps({"1": {"action": [{"question": "?", "answer": "no", "prediction": "no"}]}})
    file = write(tmp_path, "cut.json", text[:-1] + ', "2": {"action": [{"que')
    numbers = imported(capsys, tmp_path, "tempcompass", file, "tempcompass")
    assert numbers["n"] == 1 and numbers["counts"]["bad record"] == 1


def test_bad_lines_are_counted_and_skipped(capsys, tmp_path):
    lines = [json.dumps(record) for record in records(3)]
    text = "\n".join([lines[0], '{"id": 9, "outp', "[1, 2]", '{"id": 8}', *lines[1:]])
    numbers = imported(capsys, tmp_path, "jsonl", write(tmp_path, "x.jsonl", text), "mmvu")
    assert numbers["n"] == 3 and numbers["counts"]["bad record"] == 3


def test_duplicate_ids_count_once_and_are_reported(capsys, tmp_path):
    repeated = [*records(2), {"id": 0, "truth": "B", "output": "B"}, records(2)[1]]
    file = write(tmp_path, "x.json", repeated)
    out = tmp_path / "out.json"
    command = ["eval", "--import", "jsonl", str(file), "--benchmark", "mmvu", "--out", str(out)]
    assert run_cli(command) == 0
    shown = capsys.readouterr()
    assert "2 × duplicate id: 0 (another output); 1 (the same output)" in shown.err
    assert read_result(out).counts["duplicate id"] == 2 and len(read_result(out).items) == 2


def test_ids_are_checked_against_the_benchmark(capsys, tmp_path):
    asked = [
        {
            "id": f"validation_{k}",
            "question": "?",
            "question_type": "multiple-choice",
            "choices": {"A": "x", "B": "y"},
            "answer": "B",
            "metadata": {"subject": "Art"},
        }
        for k in range(3)
    ]
    questions = write(tmp_path, "validation.json", asked)
    outputs = [{"id": f"validation_{k}", "output": "B", "truth": "A"} for k in (0, 1, 7)]
    file = write(tmp_path, "x.json", outputs)
    numbers = imported(capsys, tmp_path, "jsonl", file, "mmvu", "--questions", str(questions))
    assert numbers["n"] == 2 and numbers["official"]["mean"] == 1.0, "the benchmark's truth counts"
    assert numbers["official"]["parts"]["Art"]["n"] == 2
    counts = numbers["counts"]
    assert counts["unknown id"] == 1 and counts["question without an output"] == 1
    assert counts["truth differs from the benchmark's"] == 2


def test_outputs_for_another_subset_are_not_scored(capsys, tmp_path):
    mixed = [*records(2), {**records(1)[0], "id": 9, "question_type": "open-ended"}]
    numbers = imported(capsys, tmp_path, "jsonl", write(tmp_path, "x.json", mixed), "mmvu")
    assert numbers["n"] == 2 and numbers["counts"]["outside the subset"] == 1


@pytest.mark.parametrize("benchmark", ["mmvu", "mvbench", "videomme", "videommmu", "vsibench"])
def test_empty_and_endless_outputs(benchmark, capsys, tmp_path):
    texts = ["", None, "B" * 10_000, "I think so. " * 833, "B"]
    outputs = [{"id": k, "truth": "B", "output": text} for k, text in enumerate(texts)]
    numbers = imported(capsys, tmp_path, "jsonl", write(tmp_path, "x.json", outputs), benchmark)
    assert numbers["n"] == 5 and numbers["counts"]["empty output"] == 2
    assert numbers["robust"]["mean"] == pytest.approx(1 / 5)
    unparsable = numbers["counts"]["unparsable"]
    assert unparsable["robust"] == 4 and unparsable["official"] >= 2
    assert numbers["counts"]["output of 8,000 characters or more"] == 2


@pytest.mark.parametrize("benchmark", ["mmvu", "vcrbench", "vsibench", "mvbench", "tempcompass"])
def test_outputs_of_a_model_that_never_stops_are_counted(benchmark, capsys, tmp_path):
    outputs = [{"id": k, "truth": "B", "output": "x word " * 1430} for k in range(20)]
    numbers = imported(capsys, tmp_path, "jsonl", write(tmp_path, "x.json", outputs), benchmark)
    assert numbers["official"]["mean"] == numbers["robust"]["mean"] == 0.0
    assert numbers["counts"]["output of 8,000 characters or more"] == 20
    expected = 0 if benchmark == "vsibench" else 20  # the first word is one letter: readable
    assert numbers["counts"]["unparsable"] == {"official": expected, "robust": 20}


def test_items_without_a_reference_answer_are_not_scored(capsys, tmp_path):
    outputs = [{"id": k, "output": "B"} for k in range(3)]
    numbers = imported(capsys, tmp_path, "jsonl", write(tmp_path, "x.json", outputs), "mmvu")
    for extractor in ("official", "robust"):
        assert numbers[extractor]["n"] == 0 and numbers[extractor]["mean"] is None
        assert numbers["counts"]["not scored"][extractor] == 3
    assert numbers["counts"]["no reference answer"] == 3


def test_metrics_of_an_evaluation_name_the_file_of_its_answers(tmp_path):
    for folder in ("eval", "results"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "sft.json", {"metrics": {}})
    answers = re.escape(str(tmp_path / "results" / "sft.json"))
    with pytest.raises(DataError, match=f"give {answers}$"):
        read_result(tmp_path / "eval" / "sft.json")
    with pytest.raises(DataError, match=r"make one with p2r eval import$"):
        read_result(tmp_path / "results" / "sft.json")


def test_half_characters_survive(capsys, tmp_path):
    file = write(tmp_path, "x.json", '[{"id": 1, "truth": "B", "output": "B \\ud83d"}]')
    assert imported(capsys, tmp_path, "jsonl", file, "mmvu")["n"] == 1
    assert read_result(tmp_path / "result.json").items[0].output == "B \ud83d"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--import", "jsonl", "absent.json", "--benchmark", "mmvu", "--out", "x"], "absent.json"),
        (["--import", "csv", "bad.json", "--benchmark", "mmvu", "--out", "x"], "no format 'csv'"),
        (["--import", "jsonl", "bad.json", "--benchmark", "nope", "--out", "x"], "no benchmark"),
        (["--import", "jsonl", "bad.json", "--benchmark", "mmvu", "--out", "x"], "no JSON that"),
        (["--import", "jsonl", "empty.json", "--benchmark", "mmvu", "--out", "x"], "is empty"),
        (["--import", "jsonl", "none.json", "--benchmark", "mmvu", "--out", "x"], "none of 1"),
        (["--import", "jsonl", "bad.json"], "Missing option '--benchmark'"),
        (["--rescore", "bad.json"], "not a result file of p2r"),
        (["--rescore", "absent.json"], "no result file"),
        (["--rescore", "a", "--import", "jsonl", "b"], "cannot go together"),
        ([], "see p2r eval --help"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "bad.json", "this is no JSON")
    write(tmp_path, "empty.json", "")
    write(tmp_path, "none.json", [{"id": 1, "truth": "B"}])
    assert run_cli(["eval", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]


@pytest.mark.slow
def test_scoring_again_needs_no_torch(tmp_path):
    file = write(tmp_path, "x.json", records())
    out = tmp_path / "out.json"
    code = (
        "import sys; from p2r.cli import run_cli\n"
        f"assert run_cli(['eval', '--import', 'jsonl', {str(file)!r}, '--benchmark', 'mmvu', "
        f"'--out', {str(out)!r}]) == 0\n"
        f"assert run_cli(['eval', '--rescore', {str(out)!r}, '--json']) == 0\n"
        "assert not {'torch', 'transformers', 'gradio'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- layouts that people use


MVBENCH = [("(A) red", "(A) red"), ("(B) left", "(B)"), ("C", "C"), ("A", "B")]


@pytest.mark.parametrize(
    "shape",
    [
        {"acc_dict": {}, "res_list": [{"pred": said, "gt": gt} for said, gt in MVBENCH]},
        {"Action Count": [{"pred": said, "gt": gt} for said, gt in MVBENCH]},
        {str(k): {"prediction": said, "label": gt} for k, (said, gt) in enumerate(MVBENCH)},
        [{"idx": k, "model_answer": s, "gt_option": g} for k, (s, g) in enumerate(MVBENCH)],
        [{"question_id": k, "answer": s, "gt_answer": g} for k, (s, g) in enumerate(MVBENCH)],
        [{"id": k, "predicted_answer": s, "truth": g} for k, (s, g) in enumerate(MVBENCH)],
        {"outputs": [{"output": said, "correct_option": gt} for said, gt in MVBENCH]},
    ],
)
def test_mvbench_in_every_layout(shape, capsys, tmp_path):
    file = write(tmp_path, "action_count.json", shape)
    numbers = imported(capsys, tmp_path, "jsonl", file, "mvbench")
    assert numbers["n"] == 4 and numbers["official"]["mean"] == numbers["robust"]["mean"] == 0.75
    parts = numbers["official"]["parts"]
    assert parts["action_count"]["n"] == 4, "the name of the file gives the task"


def test_lists_under_the_names_of_tasks(capsys, tmp_path):
    lists = {"Action Count": records(2), "Fine-grained Pose": records(4), "seed": 3}
    numbers = imported(capsys, tmp_path, "jsonl", write(tmp_path, "x.json", lists), "mvbench")
    parts = numbers["official"]["parts"]
    assert (parts["action_count"]["n"], parts["fine_grained_pose"]["n"]) == (2, 4)
    assert numbers["counts"]["bad record"] == 1, "a seed is not a record"
    one = {"object_counting": [{"id": 1, "truth": 4, "output": "3"}]}
    numbers = imported(capsys, tmp_path, "jsonl", write(tmp_path, "x.json", one), "vsibench")
    assert numbers["official"]["parts"]["object_counting"]["mean"] == 0.6


def test_a_folder_with_a_file_for_each_task(capsys, tmp_path):
    folder = tmp_path / "mvbench"
    folder.mkdir()
    for name in ("action_count.json", "object_shuffle.jsonl"):
        lines = name.endswith("l")
        text = "\n".join(map(json.dumps, records(4))) if lines else json.dumps(records(2))
        (folder / name).write_text(text)
    numbers = imported(capsys, tmp_path, "jsonl", folder, "mvbench")
    parts = numbers["official"]["parts"]
    assert (parts["action_count"]["n"], parts["object_shuffle"]["n"]) == (2, 4)


def test_outputs_under_their_ids_take_the_truth_of_the_questions(capsys, tmp_path):
    asked = [{"id": "v1", "question": "?", "choices": {"A": "x", "B": "y"}, "answer": "B"}]
    questions = write(tmp_path, "validation.json", asked)
    file = write(tmp_path, "x.json", {"v1": "B", "v2": "A"})
    numbers = imported(capsys, tmp_path, "jsonl", file, "mmvu", "--questions", str(questions))
    assert numbers["official"]["mean"] == 1.0 and numbers["counts"]["unknown id"] == 1


def test_a_reference_answer_may_be_a_position(capsys, tmp_path):
    place = {"candidates": ["red", "left"], "answer": 1, "output": "(B)"}
    number = {"candidates": ["2", "1"], "answer": 1, "output": "(B)"}
    odd = {"candidates": ["red", "left"], "answer": "up", "output": "(B)"}
    file = write(tmp_path, "x.json", [place, number, odd])
    numbers = imported(capsys, tmp_path, "jsonl", file, "mvbench")
    assert any("--count-from 0" in what for what in numbers["counts"]), "1 fits both conventions"
    assert [numbers[rule]["n"] for rule in ("official", "robust")] == [1, 1], "place: unknown"
    numbers = imported(capsys, tmp_path, "jsonl", file, "mvbench", "--count-from", "0")
    assert numbers["counts"]["the reference answer is no option"] == 1, "it is counted"
    for extractor in ("official", "robust"):
        assert (numbers[extractor]["mean"], numbers[extractor]["n"]) == (1.0, 2), "odd: unknown"


def test_videomme_durations_in_any_case_and_in_seconds(capsys, tmp_path):
    outputs = [{"id": k, "truth": "B", "output": "B", "duration": d} for k, d in enumerate("xyz")]
    for record, duration in zip(outputs, ("Short", 62.4, "brief"), strict=True):
        record["duration"] = duration
    file = write(tmp_path, "x.json", outputs)
    numbers = imported(capsys, tmp_path, "jsonl", file, "videomme")
    assert numbers["n"] == 2 and numbers["official"]["parts"]["short"]["n"] == 1
    assert numbers["counts"]["outside the subset"] == 1


def test_numbers_that_a_source_extracted(capsys, tmp_path):
    said = {"output": "I count <answer>4</answer>", "prediction": 4.0, "truth": 4}
    record = {"id": 1, "question_type": "object_counting", **said}
    numbers = imported(capsys, tmp_path, "jsonl", write(tmp_path, "x.json", [record]), "vsibench")
    assert numbers["official"]["mean"] == 1.0


def test_ratings_are_compared_with_the_rules(capsys, tmp_path):
    """The mean of the stored ratings is shown beside the mean by the rules."""
    rated = {"question": "?\nA. red\nB. left", "gt-answer": "B. left", "match_success": True}
    said = [("B", 1), ("A. red", 0), ("B.", 0)]
    files = [{**rated, "video-llm-prediction": text, "rating": rating} for text, rating in said]
    file = write(tmp_path, "multi-choice.json", {"1": {"action": files}})
    numbers = imported(capsys, tmp_path, "tempcompass", file, "tempcompass")
    assert numbers["official"]["mean"] == pytest.approx(2 / 3)
    assert numbers["logged"]["mean"] == pytest.approx(1 / 3)
    assert numbers["logged"]["agree"]["official"] == 2


def test_tempcompass_by_fine_grained_aspect(capsys, tmp_path):
    """The layout of the repository: predictions/MODEL/TASK.json, and meta_info.json above."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    files = tempcompass_files(folder)
    action = {"type": "fine-grained action"}
    meta = {"1": {"eval_dim": {"action": action, "speed": None}}, "2": {"eval_dim": {"order": {}}}}
    write(tmp_path, "meta_info.json", meta)
    numbers = imported(capsys, tmp_path, "tempcompass", files / "multi-choice.json", "tempcompass")
    parts = {part: (row["mean"], row["n"]) for part, row in numbers["official"]["parts"].items()}
    assert parts["fine-grained action"] == parts["action"] == (pytest.approx(1 / 3), 3)
    assert parts["aspect: order"] == parts["order"] == (1.0, 1)
    write(files, "meta_info.json", meta)  # in the folder of predictions it is not read as one
    numbers = imported(capsys, tmp_path, "tempcompass", files, "tempcompass")
    assert numbers["n"] == 7 and "bad record" not in numbers["counts"]
    assert numbers["official"]["parts"]["fine-grained action"]["n"] == 3


def test_tempcompass_rated_captions_come_without_questions(capsys, tmp_path):
    said = {"video-llm-prediction": "It dunks.", "gt-answer": "A. dunk", "chatgpt-answer": "A. x"}
    rated = [{**said, "rating": 1}, {**said, "rating": 0}, {**said, "rating": -1}]
    file = write(tmp_path, "rated.json", {"1": {"action": rated}})
    numbers = imported(capsys, tmp_path, "tempcompass", file, "tempcompass")
    assert numbers["official"]["parts"]["captioning"]["n"] == 3
    assert numbers["official"]["mean"] == 0.0, "the script adds the -1 of an LLM that failed"
    assert numbers["robust"]["mean"] == 0.5 and numbers["robust"]["n"] == 2


def test_a_task_is_in_the_name_of_the_file_and_not_of_a_folder(capsys, tmp_path):
    folder = tmp_path / "multi-choice and captioning"
    folder.mkdir()
    file = tempcompass_files(folder) / "yes_no.json"
    file = file.rename(folder / "yes_no.json")
    numbers = imported(capsys, tmp_path, "tempcompass", file, "tempcompass")
    assert numbers["official"]["parts"]["yes_no"]["n"] == 1
