"""Groups, comparison, gallery, curves, labels, agreement, exports and the Ask tab."""

import csv
import io
import json
import os
import re
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest
import yaml
from browser_cases import TOTAL, case_id, interval, link, make_case, metrics_row, write_clip
from filelock import lock_descriptor
from judge_server import serve_judge
from playwright.sync_api import expect
from scripted import ScriptedEngine

from p2r import engines
from p2r.browser.ask_view import prepare
from p2r.browser.curves_view import draw_run
from p2r.browser.desk import AskedCase, Desk
from p2r.browser.library import Library
from p2r.cases.store import CaseStore, write_cases
from p2r.records import Case, Trace
from p2r.runs.recipe import load_recipe

pytestmark = pytest.mark.browser
pytest_plugins = ("browser_fixture",)


def test_a_group_shows_who_gets_the_credit(address, open_page):
    page = open_page(link(address, tab="groups"))
    expect(page.locator("#list .item").first).to_contain_text("2 of 4 right · 2 sufficient")
    rows = page.locator(".creditbars tbody tr")
    expect(rows).to_have_count(8)  # each rollout, and below it its observation
    # Rollout 1: good observation, wrong answer.
    expect(rows.nth(2).locator(".bar")).to_have_text(["+0.87−0.87"] * 2 + ["−0.87−0.87"])
    expect(page.locator("#main")).to_contain_text(
        "In #1, #2, GRPO pushes the observation in the wrong"
    )
    rows.nth(4).locator("a").click()
    expect(page.locator("article .about")).to_contain_text("rollout 2")


def test_collapsed_groups_are_marked(serve, tmp_path, open_page):
    run = tmp_path / "flat"
    write_cases(run, [make_case(1, rollout=k, stage="rl", run="flat") for k in range(3)])
    page = open_page(link(serve(run), tab="groups"))
    expect(page.locator("#list .item .chip")).to_have_text(
        ["perception collapsed", "reasoning collapsed"]
    )
    expect(page.locator("#main")).to_contain_text("this process learns nothing here")


def test_three_models_are_compared_on_the_same_question(address, open_page):
    page = open_page(link(address, case_id(500, "eval-base")))
    expect(page.locator("article h2")).to_contain_text("number 500")
    page.keyboard.press("c")
    columns = page.locator(".compare .side-title")
    expect(columns).to_have_count(3)
    expect(columns.nth(2)).to_contain_text("evaluation: SFT + PA-GRPO")
    expect(page.locator(".compare h2")).to_contain_text("number 500")
    marked = page.locator(".compare .panel.see").nth(1).locator("mark")
    expect(marked).to_have_text(["right", "1"])
    expect(page.locator(".compare .strip button")).to_have_count(8)
    # A wrong, B right: every third question.
    pattern = page.locator(".pattern", has_text=re.compile("A ✗ wrong.*B ✓ right.*C ✓ right"))
    expect(pattern.locator("b")).to_have_text("4")
    pattern.click()
    expect(page.locator("#list .item")).to_have_count(4)
    page.get_by_label("side C").select_option("")
    expect(page.locator(".compare .side-title")).to_have_count(2)
    expect(page).to_have_url(re.compile(r"side=demo%7Ceval-base&side=demo%7Ceval-sft"))


def test_a_response_without_the_template_is_compared_in_full(serve, tmp_path, open_page):
    run = tmp_path / "off"
    bare = {"observation": None, "think": None, "problems": ["observation missing"]}
    base = make_case(1, run="off", stage="eval-base", text="It goes right, I guess.", **bare)
    write_cases(run, [base, make_case(1, run="off", stage="eval-sft")])
    page = open_page(link(serve(run), tab="compare"))
    whole = page.locator(".compare .panel.whole")
    expect(whole).to_have_count(2)
    expect(whole.first).to_contain_text("It goes right, I guess.")
    expect(whole.first).to_contain_text("format: observation missing")


def test_all_parts_of_the_time_of_a_step_look_different(tmp_path):
    names = ("a_b", "c", "d", "e", "f", "g", "h", "i")
    row = {"step": 1, "truncated": 0.0} | {f"time/{name}": 1.0 for name in names}
    (tmp_path / "rl").mkdir()
    (tmp_path / "rl" / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    figures = {figure["title"]: figure["figure"] for figure in draw_run(tmp_path)[0]["figures"]}
    parts = figures["Time per step"]["data"]
    looks = {(part["marker"]["color"], part["marker"]["pattern"]["shape"]) for part in parts}
    assert len(looks) == len(names) and parts[0]["name"] == "a b"
    assert figures["Unknown or truncated"]["layout"]["yaxis"]["rangemode"] == "tozero"


def test_the_gallery_shows_cases_of_every_failure_kind(address, open_page):
    page = open_page(link(address, tab="gallery"))
    for kind in ("right by luck", "perception failed", "reasoning failed", "mismatch", "cut off"):
        expect(page.locator(".gallery h3", has_text=kind)).to_be_visible()
    section = page.locator(".gallery", has_text="right by luck").first
    expect(section.locator(".gcard")).to_have_count(6)
    section.locator(".gcard").first.scroll_into_view_if_needed()  # pictures are loaded when seen
    expect(section.locator(".thumb img").first).to_be_visible()
    section.locator(".gcard").first.click()
    expect(page.locator(".banner")).to_contain_text("right by luck")
    expect(page).to_have_url(re.compile("failure=right\\+by\\+luck"))


def test_curves_grow_while_a_stage_is_running(run, serve, tmp_path, open_page):
    # A copy, because the test writes into it.
    run = shutil.copytree(run, tmp_path / run.name)
    metrics = run / "pa_grpo" / "metrics.jsonl"
    metrics.touch()
    page = open_page(link(serve(run), tab="runs"))
    expect(page.locator(".stage h3").first).to_have_text("evaluation")
    expect(page.locator(".stage h3").last).to_have_text("training: SFT + PA-GRPO · step 5")
    for title in ("Reward of perception, by part", "Collapsed groups", "Time per step"):
        expect(page.locator(".plotcard", has_text=title).locator(".main-svg").first).to_be_visible()
    # Figures show file names as text.
    expect(page.locator(".legendtext", has_text="<b>sft")).to_have_count(1)
    expect(page.locator(".legendtext [style*=bold]")).to_have_count(0)
    expect(page.locator("[data-live]")).to_have_text("live: a stage is running")
    with metrics.open("a") as lines:
        lines.write("\n" + json.dumps(metrics_row(7)) + "\n")
    expect(page.locator(".stage h3").last).to_have_text("training: SFT + PA-GRPO · step 7")
    page.get_by_label("light or dark theme").click()
    expect(page.locator(".main-svg").first).to_be_visible()
    # The slider smooths the curves; the values of every step stay behind them, faint.
    lines = "document.querySelector('.plot[data-name^=\"pa_grpo/Reward of perception\"]').data"
    opacities = f"{lines}.map(line => line.opacity ?? 1)"
    assert set(page.evaluate(opacities)) == {1}
    page.get_by_label("Smoothing").fill("5")
    expect(page.locator(".smooth output")).to_have_text("mean of 5 steps")
    expect(page).to_have_url(re.compile("window=5"))
    page.wait_for_function(f"{opacities}.includes(0.3)")
    faint, mean = page.evaluate(f"[{lines}[0].y, {lines}.find(line => !line.opacity).y]")
    assert mean[-1] == pytest.approx(sum(faint[-5:]) / 5)
    page.locator("#tab-runs").click()  # the smoothing is in every link of the page
    expect(page).to_have_url(re.compile("window=5"))


@pytest.fixture
def small(serve, tmp_path):
    """Return a run with 6 cases that a test may write into, and its address."""
    run = tmp_path / "small"
    write_clip(run / "media" / "clips" / "a.mp4")
    write_cases(run, [make_case(n, run="small", stage="sft") for n in range(6)])
    return run, serve(run)


def test_two_people_label_blind_and_the_agreement_with_the_judge_is_shown(small, open_page):
    run, address = small
    for name, words in (("Ada", ["sufficient"] * 6), ("Bo <b>", ["not sufficient"] * 2)):
        page = open_page(link(address, tab="agreement"))
        page.locator("#start-labelling").click()
        for place, word in enumerate(words):
            expect(page.locator("article.case")).to_be_visible()
            expect(page.locator(".panel.judge")).to_have_count(0)
            expect(page.locator(".headline")).to_have_count(0)
            expect(page.locator("#sidebar .quadrants")).to_have_count(0)
            assert not re.search(r"Verdict \d", page.content())
            page.get_by_label(word, exact=True).check()
            page.get_by_label("my name").fill(name)
            page.get_by_role("button", name="Save label").click()
            expect(page.locator(".panel.judge")).to_contain_text("Verdict")
            if place + 1 < len(words):
                page.locator("#next-to-label").click()
    lines = [json.loads(line) for line in (run / "labels.jsonl").read_text().splitlines()]
    assert [line["annotator"] for line in lines] == ["Ada"] * 6 + ["Bo <b>"] * 2
    assert all(line["blind"] for line in lines)
    page = open_page(link(address, tab="agreement"))
    ada = page.locator("#main tr", has_text="Ada").first
    expect(ada).to_contain_text("50.0 % [")
    expect(page.locator("#main")).to_contain_text("Cohen’s κ")
    expect(page.locator("#main")).to_contain_text("Ada and Bo <b>")
    expect(page.locator(".confusion").first).to_contain_text("sufficient")
    with urllib.request.urlopen(f"{address}p2r/labels?kind=csv") as answer:
        rows = list(csv.DictReader(io.StringIO(answer.read().decode("utf-8-sig"))))
    assert len(rows) == 8 and rows[0]["annotator"] == "Ada"


def test_a_label_can_be_changed_but_needs_a_name(small, open_page):
    run, address = small
    page = open_page(link(address, "small/sft/0/q001/0"))
    page.get_by_label("cannot say").check()
    page.get_by_label("my name").fill("   ")
    page.get_by_role("button", name="Save label").click()
    expect(page.locator(".label-said")).to_contain_text("a label needs an annotator")
    page.get_by_label("my name").fill("Ada")
    page.get_by_label("what went wrong").select_option("right by luck")
    page.get_by_label("comment").fill("<script>window.hacked = 1</script>")
    page.get_by_role("button", name="Save label").click()
    expect(page.locator(".labels")).to_contain_text("Ada cannot say")
    page.get_by_label("sufficient", exact=True).check()
    page.get_by_role("button", name="Save label").click()
    expect(page.locator(".labels")).to_contain_text("Ada sufficient")
    expect(page.locator(".labels")).to_contain_text("<script>window.hacked = 1</script>")
    assert page.evaluate("window.hacked") is None
    labels = [json.loads(line) for line in (run / "labels.jsonl").read_text().splitlines()]
    assert [label["sufficient"] for label in labels] == [None, True]


def test_a_redraw_keeps_an_unsaved_label(small, open_page):
    run, address = small
    page = open_page(link(address, "small/sft/0/q001/0"))
    page.get_by_label("cannot say").check()
    page.get_by_label("what went wrong").select_option("right by luck")
    page.get_by_label("comment").fill("half a thought")
    page.locator("article h2").click()
    write_cases(run, [make_case(n, run="small", stage="sft") for n in range(7)])
    page.wait_for_timeout(7000)  # while a label is not saved, the page does not follow the run
    expect(page.locator("[data-count]")).to_have_text("6")
    page.keyboard.press("p")
    expect(page).to_have_url(re.compile("big=1"))
    expect(page.locator("[data-count]")).to_have_text("7")
    expect(page.get_by_label("cannot say")).to_be_checked()
    expect(page.get_by_label("what went wrong")).to_have_value("right by luck")
    expect(page.get_by_label("comment")).to_have_value("half a thought")
    page.get_by_label("my name").fill(" Ada ")
    page.get_by_role("button", name="Save label").click()
    expect(page.locator(".labels")).to_contain_text("Ada cannot say")
    expect(page.get_by_label("my name")).to_have_value("Ada")
    page.locator("article h2").click()
    write_cases(run, [make_case(n, run="small", stage="sft") for n in range(8)])
    expect(page.locator("[data-count]")).to_have_text("8")


def test_the_data_card_lists_cases_stages_and_facts_of_the_runs(address, open_page):
    page = open_page(link(address, tab="data"))
    expect(page.locator("#main")).to_contain_text(f"{TOTAL} cases")
    stages = page.locator(".card", has_text="Stages").locator("tbody tr", has_text="evaluation")
    expect(stages.first).to_contain_text("evaluation: base")
    expect(stages.last).to_have_text("demoevaluation: SFT + PA-GRPO1212–")
    expect(page.locator(".card", has_text="Failure kinds")).to_contain_text("perception failed")


def test_a_selection_is_exported_as_parquet_csv_and_json_lines(address, tmp_path):
    def fetch(kind: str, order: str = "") -> bytes:
        query = f"kind={kind}&stage=pa_grpo{order}"
        with urllib.request.urlopen(f"{address}p2r/export?{query}") as answer:
            assert f'filename="cases.{kind}"' in answer.headers["Content-Disposition"]
            return answer.read()

    (tmp_path / "cases.parquet").write_bytes(fetch("parquet"))
    ids = [case_id(200, "pa_grpo", 3, k) for k in range(4)]
    assert pq.read_table(tmp_path / "cases.parquet")["id"].to_pylist() == ids
    rows = list(csv.DictReader(io.StringIO(fetch("csv").decode("utf-8-sig"))))
    assert [row["id"] for row in rows] == ids
    assert [json.loads(line)["trace"]["rollout"] for line in fetch("jsonl").splitlines()] == [
        *range(4)
    ]
    # The order of the list; ties in written order.
    rows = fetch("jsonl", "&sort=reasoning_reward&order=descending").splitlines()
    assert [json.loads(row)["trace"]["rollout"] for row in rows] == [0, 2, 1, 3]


def test_a_case_is_saved_as_a_page_without_scripts(address, open_page, tmp_path):
    page = open_page(link(address, case_id(1)))
    with page.expect_download() as download:
        page.get_by_role("link", name="save page").click()
    download.value.save_as(tmp_path / "case.html")
    text = (tmp_path / "case.html").read_text()
    assert text.count("<img") == 8 and "data:image/png" in text
    assert "Square 1 starts at the left edge." in text and "<script" not in text


def test_a_question_about_an_upload_is_answered_judged_and_kept(small, open_page, tmp_path):
    run, address = small
    page = open_page(link(address, "small/sft/0/q001/0"))
    page.get_by_role("link", name="ask about it").click()
    question = page.locator("#ask").get_by_label("question", exact=True)
    expect(question).to_have_value("Which way does square number 1 move?")
    clip_of = page.locator("#ask-sample input")
    expect(clip_of).to_have_value("Which way does square number 1 move?")
    expect(page.locator("#ask-answer video")).to_be_visible()  # the clip, before the question
    clip = shutil.copy(run / "media" / "clips" / "a.mp4", tmp_path / "mine.mp4")
    page.locator("#ask input[type=file]").set_input_files(clip)
    # While Gradio uploads, it shows the name whole; afterwards it shows stem and suffix apart.
    expect(page.locator("#ask")).to_contain_text(re.compile(r"mine\s*\.mp4"))
    expect(clip_of).to_have_value("")
    question.fill("How many objects are there?")
    page.locator("#ask").get_by_label("options, one per line").fill("")
    page.get_by_text("Second model, judge, problem type").click()
    page.locator("#ask").get_by_label("problem type").click()
    page.get_by_role("option", name="numerical").click()
    page.locator("#ask").get_by_label("reference answer").fill("1")
    page.locator("#ask-go").click()
    # The first question also loads the libraries of the model.
    expect(page.locator("#ask .strip button")).to_have_count(8, timeout=240_000)
    expect(page.locator("#ask .panel.see")).to_be_visible()
    expect(page.locator("#ask .panel.judge")).to_contain_text("oracle", timeout=240_000)
    page.locator("#ask-keep button, button#ask-keep").first.click()
    page.locator("#kept-case").click()
    expect(page.locator("article .about")).to_contain_text("asked")
    expect(page.locator(".strip button").first).to_be_visible()
    kept = json.loads((run / "cases" / "asked.jsonl").read_text())
    assert (run / "media" / kept["question"]["path"]).is_file()


def test_an_answer_can_be_stopped_and_the_next_question_is_answered(
    tmp_path, serve, open_page, monkeypatch
):
    run = tmp_path / "stopped"
    write_clip(run / "media" / "a.mp4")
    write_cases(run, [make_case(1, "a.mp4", run="stopped")])
    ends = []

    def write(*_: object) -> Iterator[str]:
        try:
            while not ends:
                time.sleep(0.05)
                yield "again "
            yield "<observation>One.</observation> <think>So.</think><answer>done</answer>"
        finally:
            ends.append("ended")

    monkeypatch.setattr(engines, "load_engine", lambda *_, **__: ScriptedEngine(None))
    monkeypatch.setattr(ScriptedEngine, "stream", write)
    page = open_page(serve(run) + "?tab=ask&case=stopped/sft/0/q001/0")
    expect(page.locator("#ask").get_by_label("question", exact=True)).not_to_have_value("")
    page.locator("#ask-go").click()
    answer = page.locator("#ask-answer")
    expect(answer).to_contain_text("again again again")
    expect(answer.locator(".writing")).to_be_visible()
    page.locator("#ask-stop").click()
    expect(answer).to_contain_text("Stopped.")
    expect(answer.locator(".writing")).to_be_hidden()
    until = time.monotonic() + 60
    while not ends and time.monotonic() < until:
        page.wait_for_timeout(50)
    assert ends == ["ended"]  # the model writes no more, and is free for the next question
    before = answer.inner_text()
    page.wait_for_timeout(500)
    assert answer.inner_text() == before
    page.locator("#ask-go").click()
    expect(answer).to_contain_text("done")
    expect(answer.locator(".options")).to_contain_text("reference")


def test_a_question_about_a_case_is_kept_in_its_run_under_a_new_id(tmp_path):
    for name in ("one", "two"):
        write_clip(tmp_path / name / "media" / "clips" / "a.mp4")
        write_cases(tmp_path / name, [make_case(1, run=name)])
    library = Library(CaseStore([tmp_path / "one", tmp_path / "two"]))
    desk, case = Desk(library), library.store.get("two/sft/0/q001/0")
    same = prepare(
        desk, None, case.id, case.question.problem, "A. left\nB. right", "multiple choice"
    )
    assert same[1].id == case.question.id
    media, question = prepare(desk, None, case.id, "How many?", "", "numerical")
    other = prepare(desk, None, case.id, "How large?", "", "numerical")[1]
    assert len({case.question.id, question.id, other.id}) == 3
    answer = Case(question=question, trace=Trace(question_id="", text="1"))
    folder = library.store.run_of(case.id)
    ids = [desk.keep(AskedCase(answer, media, is_upload=False, run=folder)) for _ in range(2)]
    assert len(set(ids)) == 2 and not (tmp_path / "one" / "cases").exists()
    assert library.find_media(library.store.get(ids[0])) == media


def test_kept_cases_survive_a_torn_line_and_other_browsers(tmp_path):
    run, file = tmp_path / "run", tmp_path / "run" / "cases" / "asked.jsonl"
    write_clip(run / "media" / "clips" / "a.mp4")
    write_cases(run, [make_case(1, run="run")])
    library = Library(CaseStore([run]))
    desk, answer = Desk(library), make_case(2)
    asked = AskedCase(answer, run / "media" / "clips" / "a.mp4", is_upload=False, run=run)
    ids = [desk.keep(asked)]
    with file.open("a") as lines:
        lines.write(file.read_text()[:80])  # of a browser that was killed
    ids.append(desk.keep(asked))
    # Another browser is writing: its case counts before the next one gets its number.
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND)
    lock_descriptor(descriptor)
    keeping = threading.Thread(target=lambda: ids.append(desk.keep(asked)))
    keeping.start()
    keeping.join(0.5)
    os.write(descriptor, file.read_bytes().splitlines(keepends=True)[0].replace(b"2", b"3"))
    os.close(descriptor)
    keeping.join()
    kept = [json.loads(line)["trace"]["rollout"] for line in file.read_text().splitlines()]
    assert len(kept) == 4 and [int(case_id.rpartition("/")[2]) for case_id in ids] == [0, 1, 3]
    assert [library.store.get(case_id).id for case_id in ids] == ids and not library.faults()


def test_the_two_engines_used_last_stay_loaded(tmp_path, monkeypatch):
    run = tmp_path / "run"
    write_cases(run, [make_case(1, run="run")])
    desk, events = Desk(Library(CaseStore([run]))), []

    class Closing:
        def __init__(self, model: str) -> None:
            self.model = model
            events.append(f"load {model}")

        def close(self) -> None:
            events.append(f"close {self.model}")

    monkeypatch.setattr(engines, "load_engine", lambda _, model, **__: Closing(model))
    for model in "abaca":
        with desk._engine(load_recipe("tiny1"), model) as engine:
            assert engine.model == model
    assert events == ["load a", "load b", "close b", "load c"]


def test_the_judges_of_a_recipe_can_be_asked(tmp_path):
    run = tmp_path / "judged"
    write_cases(run, [make_case(1, run="judged")])
    noisy = {"kind": "noisy", "judge": "oracle", "rate": 1.0}
    recipe = load_recipe("tiny1", [f"filter.judge={json.dumps(noisy)}"])
    (run / "recipe.yaml").write_text(recipe.to_yaml())
    desk = Desk(Library(CaseStore([run])))
    by_name = desk.judges()
    assert list(by_name.values()) == [noisy, "oracle", "grounded"]
    asked = AskedCase(make_case(1), run / "a.mp4", is_upload=False)
    wrong, right, grounded = (desk.judge(asked, name) for name in by_name)
    assert wrong.judge != right.judge and right.judge == "oracle"
    assert grounded.sufficient is None  # the scene of this clip is not known
    assert (run / "ledger.id").is_file()
    silent = make_case(1)
    silent.trace.observation = None
    verdict = desk.judge(AskedCase(silent, run / "a.mp4", is_upload=False), "oracle")
    assert verdict.sufficient is False and "no readable observation" in verdict.rationale


def test_a_judge_sees_the_frames_of_the_clip_that_was_asked_about(tmp_path, monkeypatch):
    monkeypatch.setenv("P2R_CACHE", str(tmp_path / "cache"))
    run, clip = tmp_path / "judged", write_clip(tmp_path / "uploads" / "a.mp4")
    write_cases(run, [make_case(1, run="judged")])
    with serve_judge() as server:
        recipe = load_recipe("tiny1", [f"rl.judge=vision:{server.url}#qwen"])
        (run / "recipe.yaml").write_text(recipe.to_yaml())
        asked = AskedCase(make_case(1), clip, is_upload=True)
        verdict = Desk(Library(CaseStore([run]))).judge(asked, recipe.rl.judge)
    assert verdict.judge == "vision:qwen" and verdict.sufficient is not None
    kinds = [part["type"] for part in server.bodies[0]["messages"][-1]["content"]]
    assert kinds.count("image_url") == 8


@pytest.mark.parametrize(
    "judge",
    [
        "{0}:Judge",
        "{0}:Judge:text",
        {"kind": "{0}:Judge"},
        "panel:oracle,{0}:Judge",
        {"kind": "noisy", "judge": {"kind": "{0}:Judge"}, "rate": 0.1},
        {"kind": "panel", "judges": ["oracle", "{0}:Judge"]},
    ],
)
def test_a_run_folder_cannot_make_the_page_run_its_code(tmp_path, judge):
    run = tmp_path / "foreign"
    write_cases(run, [make_case(1, run="foreign")])
    code = run / "judge.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    given = json.loads(json.dumps(judge).replace("{0}", str(code)))
    recipe = load_recipe("tiny1").model_dump(mode="json")
    recipe["rl"]["judge"] = given
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert list(Desk(Library(CaseStore([run]))).judges()) == ["oracle", "grounded"]
    assert not (tmp_path / "ran").exists()


def test_a_run_folder_cannot_change_the_frames_of_the_page_by_its_code(tmp_path):
    run, clip = tmp_path / "foreign", write_clip(tmp_path / "uploads" / "a.mp4")
    write_cases(run, [make_case(1, run="foreign")])
    code = run / "change.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef mine(frames): return frames\n")
    for change, seen in ((f"blur:2+{code}:mine", ""), ("blur:2", "changed: blur:2")):
        recipe = load_recipe("tiny1", [f"video.eval_change={change}", "video.sampling=adaptive"])
        (run / "recipe.yaml").write_text(recipe.to_yaml())
        desk = Desk(Library(CaseStore([run])))
        frames, *_ = next(desk.ask("a model", clip, make_case(1).question))
        assert seen in frames.note and ("changed" in frames.note) == bool(seen)
    assert not (tmp_path / "ran").exists()


def test_new_cases_appear_after_a_refresh(small, open_page):
    run, address = small
    page = open_page(link(address, tab="cases"))
    expect(page.locator("#list .item")).to_have_count(6)
    (run / "cases").mkdir(exist_ok=True)
    lines = [make_case(n, run="small", stage="eval-sft").model_dump_json() for n in range(3)]
    with (run / "cases" / "eval-sft.jsonl").open("w") as journal:
        journal.write("\n".join(lines) + '\n{"question": {"id": "to')
    page.get_by_role("button", name="refresh").click()
    expect(page.locator("#list .item")).to_have_count(9)
    with (run / "cases" / "eval-sft.jsonl").open("a") as journal:
        journal.write("rn\n" + make_case(9, run="small", stage="eval-sft").model_dump_json() + "\n")
    page.reload()
    expect(page.locator("#list .item")).to_have_count(10)
    expect(page.locator("#bar .chip")).to_have_text("1 unreadable")
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval" / "sft.json").write_text(json.dumps({"metrics": {"accuracy": interval(0.5)}}))
    page.locator("#bar [data-tab=runs]").click()
    expect(page.locator(".plotcard", has_text="Evaluated models")).to_be_visible()
