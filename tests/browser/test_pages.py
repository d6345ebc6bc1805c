"""The pages of the browser without a browser: what an address shows, and what it hides."""

import html
import io
import itertools
import json
import mimetypes
import re
import shutil
import socket
import threading
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from urllib.parse import parse_qsl, quote

import numpy as np
import pytest
from browser_cases import HOSTILE, make_case
from PIL import Image
from scenic_cases import INVENTED, PROBLEM, TRUE, scenic_case, scenic_id, write_scenic_run
from starlette.applications import Starlette
from starlette.testclient import TestClient

from p2r.browser.address import MAX_ITEMS, TABS, VERDICT_TABS, View, read_view
from p2r.browser.ask_view import _clip_of, _preview
from p2r.browser.banner import explain
from p2r.browser.credit_view import credit_group
from p2r.browser.curves_view import draw_run, stamp
from p2r.browser.desk import SUFFIXES
from p2r.browser.evidence import (
    compare_with_scene,
    cut_times,
    find_events,
    find_ground,
    read_observation,
    read_reasoning,
)
from p2r.browser.exchange import fiftyone_lines, label_studio_tasks, read_label_studio
from p2r.browser.exposure import hide_paths
from p2r.browser.jupyter import make_entry
from p2r.browser.library import Library
from p2r.browser.names import NameFile
from p2r.browser.pages import render_page
from p2r.browser.routes import Routes
from p2r.browser.served import allowed_hosts
from p2r.browser.site import Story, choose_story, export_site, read_story, zip_site
from p2r.browser.stage_view import count_stages
from p2r.browser.theme import read_static
from p2r.browser.waiting import free_port, wait_on
from p2r.browser.words import stage_words
from p2r.cases.agreement import krippendorff_alpha
from p2r.cases.labels import CaseLabel, LabelFile
from p2r.cases.selection import Filters
from p2r.cases.store import CaseStore, write_cases
from p2r.cli import run_cli
from p2r.errors import DataError, UserError
from p2r.files.media import media_type
from p2r.playground.second.chapters import SECONDS, scene_from_dict
from p2r.playground.splits import make_question
from p2r.records import Verdict
from p2r.rewards import credit_advantages


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A run with a known scene: five rollouts of GRPO and three evaluated models."""
    library = Library(CaseStore([write_scenic_run(tmp_path_factory.mktemp("runs") / "scenic")]))
    library.find_truths()
    return library


def words_of(part: str) -> str:
    """Return the text of a part of a page, with single spaces."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", part)).split())


def client_of(library) -> TestClient:
    """Return a visitor of the browser's own addresses. No password is set."""
    app = Starlette(routes=Routes(library).all())
    app.auth = None
    return TestClient(app)


def show(library, query: str, annotator: str = "") -> dict:
    return render_page(library, read_view(parse_qsl(query, keep_blank_values=True)), annotator)


# ---- credit


def test_credit_says_who_gives_it_and_shows_the_arithmetic(library):
    group = credit_group(library.group(library.store.get(scenic_id(2))))
    assert group.scheme == "GRPO"
    # Rollout 2: the observation is not sufficient, but the answer is right.
    given, pa, grpo = (
        group.of(scenic_id(2), column).perception for column in ("given", "pa", "grpo")
    )
    assert (round(given, 2), round(pa, 2), round(grpo, 2)) == (0.73, -1.10, 0.73)
    assert group.arithmetic(2, "pa", "perception") == "(1.00 − 1.60) / 0.55 = −1.10"
    assert group.arithmetic(2, "grpo", "perception") == "(2.00 − 1.60) / 0.55 = +0.73"
    said = words_of(show(library, f"case={scenic_id(2)}")["main"])
    for words in (
        "this run gave (GRPO) PA-GRPO would give GRPO would give",
        "+0.73 recorded by the run −1.10 (1.00 − 1.60) / 0.55 = −1.10",
        "A P this run gave (GRPO)",
    ):
        assert words in said
    assert "this run gave (GRPO)" in words_of(show(library, "tab=groups")["main"])


def test_advantages_of_no_known_scheme_and_unknown_rewards_are_named():
    rows = [
        {"id": str(k), "perception_reward": r, "reasoning_reward": r and 1.0}
        | {"perception_advantage": a, "reasoning_advantage": a, "trace.rollout": k}
        for k, (r, a) in enumerate([(2.0, 9.0), (1.0, -9.0), (None, 0.0)])
    ]
    group = credit_group(rows)
    assert group.scheme == "another scheme"
    assert group.arithmetic(2, "pa", "perception") == "the reward is unknown: 0"
    assert group.arithmetic(0, "grpo", "perception") == "reasoning rewards are equal: 0"
    for stage, name in (("rl-critic", "a critic, mean of the tokens"), ("rl-t_grpo", "T-GRPO")):
        assert credit_group([row | {"trace.stage": stage} for row in rows]).scheme == name
    turn = credit_advantages("turn", [[2.0, 1.0], [1.0, 1.5], [1.0, 1.0]], 3)
    rewards = ((2.0, 1.0), (1.0, 1.5), (1.0, 1.0))
    named = [
        row | {"perception_reward": p, "reasoning_reward": r}
        | {"perception_advantage": a, "reasoning_advantage": b}
        for row, (p, r), (a, b) in zip(rows, rewards, turn.tolist(), strict=True)
    ]  # fmt: skip
    group = credit_group(named)
    assert group.scheme == "MT-GRPO"
    assert group.arithmetic(0, "given", "perception") == "own +1.15, reasoning −0.58"
    # If several schemes give the same advantages, the stage says which one it was.
    flat = [row | {"perception_reward": 1.0, "perception_advantage": row["reasoning_advantage"]}
            for row in named]  # fmt: skip
    assert credit_group(flat).scheme == "GRPO and one shared reward"
    assert credit_group([row | {"trace.stage": "rl-mt_grpo"} for row in flat]).scheme == "MT-GRPO"
    bare = [row | {"perception_advantage": None, "reasoning_advantage": None} for row in rows]
    assert list(credit_group(bare).columns()) == ["pa", "grpo"]


# ---- truth and evidence


def test_a_sufficient_observation_can_be_untrue_and_every_page_says_so(library):
    case = library.store.get(scenic_id(4))
    sentences = read_observation(case.question, case.trace.observation)
    assert [s.truth for s in sentences] == ["unknown", "false"]
    assert sentences[1].text == INVENTED and sentences[1].instead == TRUE
    assert compare_with_scene(case.question, sentences) == [(TRUE, sentences[1])]
    assert library.store.count(Filters(truth="false", verdict="yes")) == 1
    stage = next(s for s in count_stages(library.store.tally()) if s.stage == "rl-grpo")
    assert stage.untrue_share == pytest.approx(1 / 3) and stage.label == "training: SFT + GRPO"
    # Three of the five rollouts of step 51 are sufficient, and one of them is untrue.
    rows = library.store.untrue_by_step(library.folders["scenic"])
    assert {"stage": "rl-grpo", "step": 51, "n": 3, "share": pytest.approx(1 / 3)} in rows
    figure = draw_run(library.folders["scenic"], untrue=rows)[0]["figures"][0]
    assert figure["title"] == "Sufficient, but untrue" and not figure["flat"]
    page = show(library, f"case={scenic_id(4)}")
    assert "untrue or incomplete, the scene has: A big red square" in words_of(page["main"])
    assert "✗ observation: untrue or incomplete" in words_of(page["main"])
    assert "✗ untrue" in words_of(page["side"])
    # Beside the 2 x 2, links lead to the sufficient observations that are true, and untrue.
    side = show(library, "stage=rl-grpo")["side"]
    assert "Sufficient: ✓ true 2 ✗ untrue or incomplete 1" in words_of(side)
    link = re.search(r'href="\?([^"]*)"[^>]*data-truth="false"', side)[1].replace("&amp;", "&")
    assert "1 of 1" in words_of(show(library, link)["nav"])
    assert "list, filters (3)" in words_of(show(library, link)["nav"])
    assert [link for link in re.findall(r"truth=\w+", show(library, "tab=gallery")["main"])]
    narrowed = show(library, "truth=false&verdict=yes")
    assert scenic_id(4).replace("/", "%2F") in narrowed["query"]


def test_a_renamed_folder_keeps_the_share_of_untrue_observations(library, tmp_path):
    folder = library.folders["scenic"]
    renamed = Path(shutil.copytree(folder, tmp_path / "renamed"))
    moved = Library(CaseStore([renamed]))
    moved.find_truths()
    found = moved.store.untrue_by_step(renamed)
    assert found and found == library.store.untrue_by_step(folder)
    assert moved.store.untrue_by_step(tmp_path) == []


def test_truths_are_found_again_when_the_cases_are_written_again(tmp_path):
    run = write_scenic_run(tmp_path / "scenic")
    library = Library(CaseStore([run]))
    library.find_truths()
    asked, version = Filters(truth="false"), library.store.version
    found = library.store.count(asked)
    assert found > 0
    write_cases(run, [*library.store.cases()])
    library.refresh()
    for thread in threading.enumerate():
        if thread.name == "p2r-truths":
            thread.join()
    assert library.store.count(asked) == found
    # A page that asked for curves before the truths were known gets them afterwards.
    assert stamp(run, version) != stamp(run, library.store.version)


def test_damaged_scenes_are_unknown(tmp_path):
    broken = scenic_case(0, run="broken")
    for scene in ({"objects": [{"x": 1}]}, {"objects": 3}, {}, {HOSTILE: HOSTILE}):
        broken.question.meta = {"scene": scene, "generation": 1}
        assert {s.truth for s in read_observation(broken.question, broken.trace.observation)} == {
            "unknown"
        }


def test_the_banner_says_why(library):
    banners = [explain(library.store.get(scenic_id(k))) for k in range(5)]
    assert [banner.kind for banner in banners] == [
        "seen and solved",
        "reasoning failed",
        "right by luck",
        "perception failed",
        "seen and solved",
    ]
    assert banners[2].text == (
        "Right by luck. The observation is not sufficient (the judge: no event is told). The "
        "reasoning says “Based on the observations, the red square stops at 1 s.”, which no "
        "sentence of the observation supports. The answer “1” is right anyway. Its only sentence "
        "about the clip is untrue or incomplete."
    )
    assert "the answer is “3”, not “1”" in banners[1].why
    assert banners[4].why.endswith("Its only sentence about the clip is untrue or incomplete.")
    assert explain(make_case(1, verdict=None)).kind == "no verdict"


def test_sentences_name_times_and_rest_on_each_other():
    times = [piece.time for piece in cut_times("From 1 s to 2.5 seconds, at 0:07; 3 sx, v1.2 s")]
    assert [time for time in times if time is not None] == [1.0, 2.5, 7.0]
    seen = read_observation(make_case(1).question, f"I need to notice the ball. {TRUE} It is big.")
    assert [s.times for s in seen] == [[], [1.0], []]
    assert find_ground("The red square stops at 1 s.", seen) == 2
    assert find_ground("The red square stops and the blue ball appears early.", seen) == 0
    assert find_ground("So A.", seen) is None
    steps = read_reasoning("The red square moves right. The blue ball hits the wall.", seen)
    assert [step.rests_on for step in steps] == [2, 0]


def test_times_in_a_chapter_of_a_long_clip_are_those_of_the_clip():
    question = make_question("long", 0, generation=2)
    scene = scene_from_dict(question.meta["scene"])
    expected = sorted(
        (SECONDS * place + obj.time, f"The {obj.name}")
        for place, chapter in enumerate(scene.chapters)
        for obj in chapter.objects
        if obj.time
    )
    events = find_events(question)
    assert len(events) > 3 and max(time for time, _ in events) > SECONDS
    assert [(time, " ".join(text.split()[:3])) for time, text in events] == expected
    # An observation names the times of the chapter too.
    seen = read_observation(question, " ".join(text for _, text in events))
    assert [(s.times[0], s.text) for s in seen] == events
    assert {s.truth for s in seen} == {"true"}


def test_a_case_with_odd_values_has_its_page(tmp_path):
    run = write_scenic_run(tmp_path / "odd")
    case = scenic_case(0, run="odd")
    case.trace.media["duration"] = "3.75"
    case.question.meta["_more_media"] = None
    write_cases(run, [case])
    client = client_of(Library(CaseStore([run])))
    for tab in ("cases", "study"):
        page = client.get("/p2r/view", params={"tab": tab, "case": case.id}).json()["main"]
        assert "stops at 1 s" in html.unescape(page)
    assert case.question.media_word == "video"
    case.question.meta["_more_media"] = 5
    write_cases(run, [case])
    answer = client.get("/p2r/thumb", params={"case": case.id})
    assert answer.status_code == 404 and len(answer.text.splitlines()) == 1


# ---- addresses


def test_an_empty_address_is_the_start_page_and_every_view_has_a_link(library):
    assert read_view([]).tab == "start" and read_view([("big", "1")]).tab == "start"
    assert read_view([("text", "x")]).tab == "cases"
    for view in (
        View(tab="start", big=True),
        View(tab="cases"),
        View(tab="groups", by="collapsed"),
        View(tab="runs", window=7),
        View(tab="stories", title="a & b", items=(("x/1", "note = 1"), ("y/2", ""))),
    ):
        assert read_view(parse_qsl(view.query(), keep_blank_values=True)) == view
    assert read_view([("window", "99"), ("by", "x"), ("tab", "x")]) == View(tab="cases")
    titles = {tab: show(library, f"tab={tab}")["title"] for tab in TABS}
    assert len(set(titles.values())) == len(TABS) and titles["runs"] == "Runs · p2r"
    assert show(library, f"case={scenic_id(2)}")["title"] == f"right by luck: {PROBLEM} · p2r"


def test_only_a_judge_behind_a_server_has_a_prompt(tmp_path):
    paid = {"input_tokens": 200, "output_tokens": 30}
    judges = {
        "oracle": {},
        "noisy:0.1:oracle@2": {},
        "panel-majority(oracle,grounded)": {},
        "claude:haiku": paid,
        "claude:sonnet": {"reused": True},
        "server:llama3.2-vision:11b": {},
        "claude:haiku+prompt-1a2b3c": paid,
        "vision:haiku": paid,
        "noisy:0.1:vision:haiku": {},
    }
    cases = [
        make_case(n, verdict=Verdict(sufficient=True, rationale="Said.", judge=judge, usage=usage))
        for n, (judge, usage) in enumerate(judges.items())
    ]
    library = Library(CaseStore([write_cases(tmp_path / "cases.parquet", cases)]))
    pages = [words_of(show(library, f"tab=cases&case={case.id}")["main"]) for case in cases]
    assert not any("Prompt and reply" in page for page in pages[:3])
    assert all("You cannot see the video." in page for page in pages[3:6])
    assert "see judging.prompt in the run" in pages[6]
    assert all("This judge also saw frames" in page for page in pages[7:])
    assert not any("You cannot see the video." in page for page in pages[6:])


def test_stages_have_readable_names_and_examples_are_of_the_test_split(tmp_path):
    names = ("base", "pa_grpo", "critic", "pa_grpo-ambiguous")
    assert [stage_words(stage) for stage in ("eval-pa_grpo-long", "rl-mt_grpo", "cot", "mine")] == [
        "evaluation: SFT + PA-GRPO on long clips", "training: SFT + MT-GRPO", "teacher", "mine",
    ]  # fmt: skip
    hostile = "eval-sft" + "-long" * 5000
    assert stage_words(hostile).endswith("-long on long clips")
    run = write_scenic_run(tmp_path / "scenic")
    cases = [scenic_case(k, f"eval-{name}", "scenic") for name in names for k in range(4)]
    teacher = scenic_case(2, "cot", "scenic").model_copy(
        update={
            "tags": ["dropped: right answer"],
            "perception_advantage": None,
            "reasoning_advantage": None,
        }
    )
    studied = [scenic_case(0, f"rl-arm{n}", "scenic") for n in range(20)]
    studied.append(scenic_case(0, "eval-critic_process-ambiguous", "scenic"))
    write_cases(run, [*cases, teacher, *studied])
    interval = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 4}
    (run / "eval").mkdir()
    for name in names:
        metrics = {"accuracy": interval, "sufficiency": interval}
        (run / "eval" / f"{name}.json").write_text(json.dumps({"metrics": metrics}))
    library = Library(CaseStore([run]))
    start = show(library, "")["main"]
    assert "evaluation: SFT + PA-GRPO on ambiguous clips" in words_of(start)
    assert "sufficient observations 95 % interval" in words_of(start)
    linked = re.findall(r'href="([^"]*)" data-go data-cell', start)
    assert len(linked) == 4 and all("stage=eval-pa_grpo&amp;" in link for link in linked)
    page = show(library, "tab=cases&stage=eval-pa_grpo-ambiguous")
    assert "stage: evaluation: SFT + PA-GRPO on ambiguous clips" in words_of(page["side"])
    # One menu holds all stages, evaluations first.
    _, menu = page["side"].split('<select id="stage"')
    choices = re.findall(
        r"<option value=.([^>]*?)\"( selected)?>([^<]*)", menu.split("</select>")[0]
    )
    words = [words for _, _, words in choices]
    assert len(words) == 27 and words[:3] == [
        "all stages", "evaluation: base (4)", "evaluation: SFT + PA-GRPO (4)",
    ]  # fmt: skip
    longest = "evaluation: SFT + PPO with a critic, both rewards on ambiguous clips"
    assert f"{longest} (1)" in words, "names are not cut"
    assert f"stage: {longest}" in words_of(
        show(library, "stage=eval-critic_process-ambiguous")["side"]
    )
    assert [(link, said) for link, chosen, said in choices if chosen] == [
        ("?stage=eval-pa_grpo-ambiguous&amp;sheet=1",
         "evaluation: SFT + PA-GRPO on ambiguous clips (4)"),
    ]  # fmt: skip
    both = show(library, "stage=rl-arm3&stage=rl-arm4")["side"]
    assert "<option selected disabled>2 stages</option>" in both
    page = words_of(show(library, "case=scenic/cot/51/q001/2")["main"])
    assert "not kept for SFT: observation not sufficient" in page
    assert "so it has no credit" in page
    evaluation = draw_run(run)[0]["figures"]
    assert [[bars["name"] for bars in drawn["figure"]["data"]] for drawn in evaluation] == [
        ["base", "SFT + PA-GRPO", "SFT + PPO with a critic"],
        ["SFT + PA-GRPO on ambiguous clips"],
    ]


def test_rows_show_pictures_that_are_decoded_once(library, monkeypatch):
    kind, data = library.thumbnail(scenic_id(0))
    assert kind == "png" and Image.open(io.BytesIO(data)).size == (56, 56)
    # Neither the list nor another server decodes the clip again.
    monkeypatch.setattr("p2r.video.frames.sample_frames", None)
    other = Library(CaseStore([library.folders["scenic"]]))
    assert other.thumbnail(scenic_id(0)) == (kind, data)
    side = show(other, "tab=cases")["side"]
    assert side.count('<img data-thumb="p2r/thumb?case=scenic%2F') == side.count("data-case=") == 8
    assert 'href="?tab=gallery&amp;' in side, "the list leads to the examples of each kind"


def test_a_filter_opens_its_first_case(library):
    view = read_view([("case", scenic_id(0)), ("tab", "cases")])
    query = view.narrowed(verdict="no", outcome="wrong")[1:]
    page = show(library, query)
    assert f'data-case="{scenic_id(3)}"' in page["main"]
    assert "1 of 2" in words_of(page["nav"])
    # The text that was searched is marked.
    assert "<mark>red Square</mark>" not in page["main"]
    assert "<mark>red square</mark>" in show(library, "text=RED+square")["main"]


def test_the_open_rollout_is_compared(library):
    case = library.store.get(scenic_id(3))
    page = show(library, f"tab=compare&question={case.question.id}&case={scenic_id(3)}")
    assert scenic_id(3).replace("/", "%2F") in page["main"]
    assert "A small blue circle stays still" in words_of(page["main"])
    # Each side shows which sentences are true, beside the words that are new.
    page = show(library, f"tab=compare&question={case.question.id}")["main"]
    titles = page.split('<section class="side-title">')[1:]
    assert [re.search(r"[✓✗] . of . true", words_of(title))[0] for title in titles] == [
        "✗ 0 of 1 true", "✗ 0 of 1 true", "✓ 1 of 1 true",
    ]  # fmt: skip
    base, _, ours = page.split('<section class="panel see">')[1:4]
    assert 'stays still.<span class="truth-mark warn"' in base and "is-unknown" in base
    ours = ours.split("</p>")[0]
    assert (
        words_of(ours).endswith("right and stops at 1 s . ✓ true") and "stops at 1 s</mark>" in ours
    )


def test_the_question_of_the_address_is_compared_also_if_the_list_leaves_it_out(tmp_path):
    run = tmp_path / "two"
    stages = ("eval-base", "eval-sft")
    rows = [make_case(n, run="two", stage=stage) for n in (0, 1) for stage in stages]
    write_cases(run, [*rows, make_case(2, run="two", stage="eval-base")])
    library = Library(CaseStore([run]))
    # The answer of the first side to question 1 has no verdict "yes", so the list has only 0.
    page = show(library, "tab=compare&verdict=yes&text=0&question=q001")
    assert "square number 1" in words_of(page["main"]) and "question=q001" in page["query"]
    assert "square number 0" in words_of(page["side"])
    assert "square number 0" in words_of(show(library, "tab=compare&text=0")["main"])
    page = show(library, "tab=compare&question=q002&side=two|eval-base&side=two|eval-sft")
    assert "do not all answer the question q002" in words_of(page["main"])
    assert "question=q002" in page["query"]


def test_the_sides_beside_a_question_of_one_stage_share_questions_with_it(tmp_path):
    run = tmp_path / "two"
    rows = [make_case(n, run="two", stage=stage) for n in (0, 1) for stage in ("eval-a", "eval-b")]
    rows += [make_case(n, run="two", stage="cot") for n in (2, 3)]
    rows += [make_case(3, run="two", stage="rl-grpo")]
    write_cases(run, rows)
    opened = make_case(2, run="two", stage="cot").id
    page = show(Library(CaseStore([run])), f"tab=compare&question=q002&case={quote(opened)}")
    assert "side=two%7Ccot&side=two%7Crl-grpo" in page["query"] and "eval-" not in page["query"]
    assert "square number 3" in words_of(page["side"]), "a question that they share"


def test_groups_show_observations_orders_and_neighbours(tmp_path):
    run = tmp_path / "many"
    rows = [make_case(n, run="many", stage="rl", rollout=k, step=n) for n in (1, 2) for k in (0, 1)]
    write_cases(run, rows)
    library = Library(CaseStore([run]))
    page = show(library, "tab=groups&by=step")
    assert "1 of 2" in words_of(page["nav"]) and 'id="next-case" href' in page["nav"]
    assert "observed Square 1 starts at the left edge." in words_of(page["main"])
    assert "perception collapsed" in words_of(page["side"])
    # A group far down the list, opened from a case: the list shows its page, and j and k work.
    rows = [
        make_case(n, run="many", stage="rl", rollout=k, step=n) for n in range(130) for k in (0, 1)
    ]
    write_cases(run, rows)
    library = Library(CaseStore([run]))
    case = rows[2 * 110 + 1].id
    page = show(library, f"tab=groups&by=step&case={case}")
    assert "111 of 130" in words_of(page["nav"]) and "101–130 of 130" in words_of(page["side"])
    assert page["side"].count('aria-current="true"') == 1
    for key, neighbour in (("next", 111), ("previous", 109)):
        link = re.search(rf'id="{key}-case" href="\?([^"]*)"', page["nav"])[1]
        assert f"{neighbour + 1} of 130" in words_of(show(library, html.unescape(link))["nav"])
    page = show(library, f"tab=groups&by=step&case={case}&sheet=1")
    assert "111 of 130" in words_of(page["nav"]) and "1–50 of 130" in words_of(page["side"])


def test_failures_are_counted_and_linked_under_all_filters(library):
    page = show(library, "tab=gallery&outcome=right&text=red")["main"]
    linked = [
        dict(parse_qsl(link)) for link in re.findall(r'href="\?([^"]*)"', html.unescape(page))
    ]
    linked = [query for query in linked if "stage" in query]
    assert linked and all(query["text"] == "red" for query in linked)
    assert {query["outcome"] for query in linked} == {"right"}
    rows = library.store.tally(Filters(outcome="right", text="red"))
    assert sum(row["n"] for row in rows) == library.store.count(
        Filters(outcome="right", text="red")
    )
    table = page.split('class="stages"')[1].split("</table>")[0]
    row = next(row for row in table.split("<tr>") if "rl-grpo" in row)
    # Of five rollouts three are right: two sufficient, one lucky. No wrong one is counted.
    assert words_of(row.split("</th>")[1]).split()[:5] == ["3", "2", "0", "1", "0"]


def test_the_search_for_groups_stays_if_nothing_is_found(library):
    for text in ("red", "nothing+has+these+words"):
        side = show(library, f"tab=groups&text={text}")["side"]
        assert 'id="search"' in side and 'id="group-by"' in side
    assert "No question has several rollouts" in side


# ---- blind mode, names, agreement

TOLD_BY_ORDER = (
    *("verdict", "verdict.sufficient", "verdict.judge", "judged", "outcome", "failure", "truth"),
    *("mismatch", "tags", "accuracy", "perception.accuracy", "reasoning.length"),
)


def test_blind_mode_hides_verdicts_everywhere(library):
    told = re.compile(r"leads to|Not deducible|chip (good|bad)|right by luck|untrue|[RA]<sub>")
    for tab in TABS:
        page = show(library, f"tab={tab}&blind=1&case={scenic_id(2)}&verdict=no&sort=accuracy")
        for part in ("side", "nav", "main", "title"):
            assert not told.search(page[part]), (tab, part)
        assert ("Hidden in blind mode" in page["main"]) == (tab in VERDICT_TABS)
        assert "verdict=" not in page["query"]
    for column in TOLD_BY_ORDER:
        asked = f"tab=cases&sort={column}&order=descending"
        assert read_view(parse_qsl(asked)).sort == column
        assert read_view(parse_qsl(f"{asked}&blind=1")).sort is None, column
    assert read_view([("blind", "1"), ("sort", "trace.step")]).sort == "trace.step"
    file = library.label_file(scenic_id(2))
    file.add(CaseLabel(case=scenic_id(2), annotator="Ada", sufficient=False, blind=True))
    page = show(library, f"tab=cases&blind=1&case={scenic_id(2)}", "Ada")["main"]
    assert "Not deducible" in page, "the labelled case is shown"
    assert "Rollouts of this question" not in page and "Other responses" not in page
    assert "p2r/case.html?case=" in page
    file.path.unlink()
    page = show(library, f"tab=cases&blind=1&case={scenic_id(2)}", "Ada")["main"]
    assert "p2r/case.html" not in page, "the saved page of a case shows its verdict"
    answer = client_of(library).get(f"/p2r/case.html?blind=1&case={scenic_id(2)}")
    assert answer.status_code == 403 and "educible" not in answer.text
    told = client_of(library).get("/p2r/export?kind=jsonl&blind=1").text
    assert '"accuracy":null' in told and '"scene"' not in told


def test_the_search_of_blind_mode_finds_nothing_by_the_verdict(library):
    for text_in in ("", "&text_in=rationale"):
        query = f"tab=cases&text=deducible{text_in}"
        assert "No case matches" not in show(library, query)["side"]
        assert "No case matches" in show(library, query + "&blind=1")["side"]
    page = show(library, "tab=cases&text=red+square&blind=1")
    assert "text: red square" in words_of(page["side"]), "the other texts are searched"
    assert "text_in" not in page["query"] and "text=red+square" in page["query"]
    assert 'value="observation"' in page["side"] and 'value="rationale"' not in page["side"]
    assert 'name="mismatch"' not in page["side"] and 'name="truncated"' in page["side"]
    page = show(library, "tab=cases&text=red+square&text_in=observation&blind=1")
    assert "text in observation: red square" in words_of(page["side"])
    assert 'value="observation" selected' in page["side"]


def test_two_people_with_one_name_do_not_count_as_one(tmp_path):
    names = NameFile(tmp_path)
    names.claim("Ada", "key of Ada", is_used=False)
    names.claim("Ada", "key of Ada", is_used=True)
    for is_used in (True, False):
        with pytest.raises(UserError, match="another browser labels as 'Ada'"):
            names.claim("Ada", "another key", is_used)
    names.claim("Ada", "another key", is_used=True, is_me=True)
    names.claim("Ada", "another key", is_used=True)
    with pytest.raises(UserError, match="confirm that you"):
        names.claim("Bo", "another key", is_used=True)  # labelled before names were kept
    names.claim("Ada", "", is_used=True)  # a program
    assert "key of Ada" not in (tmp_path / "annotators.json").read_text()


def test_the_sample_follows_the_cases_and_u_opens_the_latest_label(tmp_path):
    runs = [tmp_path / name for name in ("a", "b")]
    for run in runs:
        write_cases(run, [make_case(n, run=run.name) for n in (1, 2)])
    library = Library(CaseStore(runs))
    assert len(library.sample()) == 4
    # As many cases as before, but one of them has no verdict now.
    write_cases(runs[0], [make_case(1, run="a"), make_case(2, run="a", verdict=None)])
    assert len(library.sample()) == 3
    ids = [library.store.page(Filters(run=(run.name,)))[0]["id"] for run in runs]
    for run, case, time in zip(runs, ids, ("2025-01-02", "2025-01-01"), strict=True):
        LabelFile(run).add(CaseLabel(case=case, annotator="Ada", time=time))
    assert library.progress("Ada").former == ids[0]


def test_alpha_of_all_annotators():
    # The example of Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", part A.
    votes = {"A": "0100000010", "B": "1110010000"}
    labels = [
        CaseLabel(case=str(n), annotator=name, sufficient=vote == "1")
        for name, word in votes.items()
        for n, vote in enumerate(word)
    ]
    alpha = krippendorff_alpha(labels)
    assert alpha.value == pytest.approx(0.095, abs=0.0005) and alpha.n == 10
    assert alpha.low < alpha.value < alpha.high
    assert krippendorff_alpha(labels[:10]).value is None, "one annotator"
    same = [label.model_copy(update={"sufficient": True}) for label in labels]
    assert krippendorff_alpha(same).value is None, "no variation"


def test_the_page_of_many_people_is_short(tmp_path):
    run = write_scenic_run(tmp_path / "crowd")
    library = Library(CaseStore([run]))
    file = library.label_file("crowd/rl-grpo/51/q001/0")
    rng = np.random.default_rng(0)
    for n in range(12):
        for k in range(5):
            case = f"crowd/rl-grpo/51/q001/{k}"
            file.add(CaseLabel(case=case, annotator=f"P{n}", sufficient=bool(rng.integers(2))))
    page = show(library, "tab=agreement")["main"]
    shown = re.sub(r"<details(?![^>]* open).*?</details>", "", page, flags=re.DOTALL)
    assert "66 pairs" in page and shown.count("<tr") < 12
    assert re.search(r'id="alpha">(−|)0\.\d\d \[', page)


def test_a_public_browser_hides_names_labels_and_folders(tmp_path):
    run = write_scenic_run(tmp_path / "open")
    (run / "data_root").write_text(f"{run / 'media'}\n")
    (run / "recipe.yaml").write_text(f"models: {{base: {tmp_path}/weights/tiny}}\n")
    files = LabelFile(run)
    for name in ("Ada", "Bo", "Ada"):
        files.add(CaseLabel(case="open/rl-grpo/51/q001/0", annotator=name, comment="private"))
    with files.path.open("a") as lines:
        lines.write("no label\n")
    for read_only in (False, True):
        library = Library(CaseStore([run]), read_only=read_only)
        labels, data = (show(library, f"tab={tab}", "Ada")["main"] for tab in ("agreement", "data"))
        told = {"Ada" in labels, "p2r/labels" in labels, str(tmp_path) in data}
        assert told == {not read_only}
        assert "tiny" in data and "labels.jsonl" in data and "2 people have labelled" in labels
        answer = client_of(library).get("/p2r/labels?kind=csv")
        assert answer.status_code == (403 if read_only else 200)
        assert ("Ada" in answer.text) is not read_only
    assert "person 2: 1" in labels


# ---- exports


def test_a_story_is_a_site_that_needs_nothing_else(library, tmp_path, capsys):
    run = library.folders["scenic"]
    file = tmp_path / "story.json"
    notes = [(scenic_id(2), f"Look: {HOSTILE}"), (scenic_id(4), "")]
    file.write_text(Story(f"Luck {HOSTILE}", notes).to_json())
    assert run_cli(["app", str(run), "--export", str(tmp_path / "site"), "--story", str(file)]) == 0
    assert "2 cases" in capsys.readouterr().out
    pages = {page.name: page.read_text() for page in (tmp_path / "site").iterdir()}
    assert sorted(pages) == ["case-01.html", "case-02.html", "index.html"]
    for name, text in pages.items():
        assert "default-src 'none'" in text and len(text) < 500_000
        sources = re.findall(r'(?:src|href)="([^"]*)"', text)
        assert all(s.startswith("data:") or s in pages for s in sources), name
        assert not re.search(r"https?://|<img src=x|@import|url\(", text), name
    assert "video/mp4;base64," in pages["case-01.html"]
    assert html.escape("Look: <img") in pages["case-01.html"]
    long = Story("Long", [(scenic_id(2), "")] * (MAX_ITEMS + 10))
    with pytest.raises(UserError, match="a story holds at most 60 cases"):
        export_site(library, long, tmp_path / "long")
    assert not (tmp_path / "long").exists()
    pairs = [(name, f"{name}{n}") for n in range(70) for name in ("story", "note")]
    items = read_view(pairs).items
    assert len(items) == MAX_ITEMS + 1 and items[-1] == ("story60", "note60")
    assert f"const MOST = {MAX_ITEMS};" in read_static("stories.js"), "the page has the same limit"
    with pytest.raises(UserError, match="holds other files"):
        (tmp_path / "site" / "mine.txt").touch()
        export_site(library, read_story(file), tmp_path / "site")
    story = choose_story(library)
    assert len(story.items) == 4, "one of each kind, because all are answers to one question"
    packed = tmp_path / "story.zip"
    packed.write_bytes(zip_site(library, story))
    with zipfile.ZipFile(packed) as archive:
        assert "story/index.html" in archive.namelist()
    file.write_text('{"cases": [3]}')
    with pytest.raises(DataError, match="is not a story"):
        read_story(file)
    assert run_cli(["app", str(run), "--story", str(file)]) == 2
    assert "add --export" in capsys.readouterr().err


def test_a_dry_run_previews_what_the_command_does(library, tmp_path, capsys):
    run = str(library.folders["scenic"])
    files = {name: tmp_path / name for name in ("story", "task", "empty", "labels", "site")}
    files["story"].write_text(Story("Luck", [(scenic_id(2), "")]).to_json())
    files["task"].write_text(json.dumps({"id": scenic_id(2)}) + "\n")
    files["empty"].touch()
    task = json.loads("".join(label_studio_tasks([library.store.get(scenic_id(0))])))[0]
    done = exported(task, {"sufficient": {"choices": ["no"]}})
    files["labels"].write_text(json.dumps([done]))
    story, task, empty, labels, site = map(str, files.values())
    for more, code, words in (
        ([], 0, "8 cases of 1 run(s) at http://127.0.0.1:"),
        (["--task", task], 0, "8 cases of 1 run(s), 1 of them to label, at http"),
        (["--task", empty], 2, "has no case to label"),
        (["--task", site], 2, "No such file"),
        (["--export", site], 0, f"4 cases would be written into {site}"),
        (["--export", site, "--story", story], 0, f"1 cases would be written into {site}"),
        (["--export", site, "--story", task], 2, "is not a story"),
        (["--export", site, "--case", "none"], 2, "no case 'none'"),
        (["--export", str(tmp_path)], 2, "holds other files"),
        (["--export", site, "--story", story, "--case", "x"], 2, "give one of them"),
        (["--import-labels", labels], 0, f"1 labels of {labels} would be added"),
        (["--import-labels", story], 2, "is not an export of Label Studio"),
        (["--import-labels", labels, "--export", site], 2, "--export and --import-labels do not"),
        (["--import-labels", labels, "--task", task], 2, "--task and --import-labels do not"),
        (["--data-root", str(tmp_path / "none")], 2, "is not a folder"),
    ):
        assert run_cli(["app", run, "--dry-run", *more]) == code, more
        said = capsys.readouterr()
        assert words in (said.err if code else said.out), more
    assert not files["site"].exists() and library.labels() == []


def exported(task: dict, values: dict) -> dict:
    """Return a task of Label Studio with one annotation."""
    result = [{"from_name": name, "value": value} for name, value in values.items()]
    return task | {"annotations": [{"result": result, "completed_by": 7}]}


def test_labels_and_cases_are_exchanged_with_label_studio_and_fiftyone(library, tmp_path, capsys):
    cases = [library.store.get(scenic_id(k)) for k in (0, 3)]
    tasks = json.loads("".join(label_studio_tasks(cases)))
    assert tasks[1]["data"]["case"] == scenic_id(3) and "verdict" not in json.dumps(tasks)
    values = {"sufficient": {"choices": ["no"]}, "comment": {"text": ["too vague"]}}
    done = [exported(task, values) for task in tasks]
    label = read_label_studio(json.dumps(done))[1]
    assert (label.annotator, label.sufficient, label.comment) == (
        "Label Studio 7",
        False,
        "too vague",
    )
    damaged = [
        {"sufficient": value, "comment": {"text": ["x"]}}
        for value in ("yes", None, {}, {"choices": []}, {"choices": None}, {"choices": [["no"]]})
    ] + [
        {"sufficient": {"choices": ["no"]}, "comment": value}
        for value in ("x", {}, {"text": 3}, {"text": [3]})
    ]
    for wrong in (
        "[1]",
        "no json",
        '{"a": 1}',
        '[{"annotations": [{}]}]',
        '[{"annotations": [3], "data": {"case": "x"}}]',
        *(json.dumps([exported(tasks[0], values)]) for values in damaged),
    ):
        with pytest.raises(DataError, match="not an export of Label Studio"):
            read_label_studio(wrong)
    given = {"sufficient": {"choices": ["yes"]}, "comment": {"text": "one text"}}
    assert read_label_studio(json.dumps([exported(tasks[0], given)]))[0].comment == "one text"
    assert read_label_studio(json.dumps([exported(tasks[0], {})])) == [], "nothing was chosen"
    run = write_scenic_run(tmp_path / "scenic")
    (tmp_path / "export.json").write_text(json.dumps(done))
    assert run_cli(["app", str(run), "--import-labels", str(tmp_path / "export.json")]) == 0
    assert "2 labels were added" in capsys.readouterr().out
    assert len((run / "labels.jsonl").read_text().splitlines()) == 2
    data = json.loads("".join(fiftyone_lines(cases, library.find_media)))
    assert data["samples"][0]["filepath"].endswith("clips/a.mp4")
    assert data["samples"][1]["sufficient"]["label"] == "no"


# ---- the start, and errors


def test_only_a_hub_takes_any_host_name(monkeypatch):
    monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert allowed_hosts("") == ()
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/jo/")
    assert allowed_hosts("", ["lab.example.org"]) == ("lab.example.org", "*")


def test_the_launcher_of_jupyterlab_names_only_given_hosts(monkeypatch):
    def hosts() -> list[str]:
        command = make_entry()["command"]
        return [b for a, b in itertools.pairwise(command) if a == "--allow-host"]

    monkeypatch.delenv("P2R_HOSTS", raising=False)
    assert hosts() == []
    monkeypatch.setenv("P2R_HOSTS", "lab.example.org, lab2.example.org")
    assert hosts() == ["lab.example.org", "lab2.example.org"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]"])
def test_the_port_answers_while_the_browser_starts(host):
    port = free_port(17860)
    at = f"[{host.strip('[]')}]" if ":" in host else host
    if ":" in host:
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    with wait_on(host, port) as waiting:
        waiting.say("opening <b>")
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://{at}:{port}/"
            )
        page = answer.value.read().decode()
        assert answer.value.code == 503 and "opening &lt;b&gt; …" in page and "refresh" in page
    assert free_port(port) == port, "the port is free again"


def test_every_clip_that_can_be_asked_about_has_a_type_on_every_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_, **__: (None, None))
    assert all(media_type(Path(f"A{suffix.upper()}")) for suffix in SUFFIXES)
    for name, size, shown in (
        ("a.mkv", 10, "data:video/x-matroska;base64,"),
        ("a.webp", 10, "data:image/webp;base64,"),
        ("a.m4v", 4_000_001, "It is too large to be played here."),
        ("a.odd", 10, "Its type cannot be played here."),
    ):
        (tmp_path / name).write_bytes(bytes(size))
        assert shown in _preview(_clip_of(str(tmp_path / name), None, "video"))
    (tmp_path / "page.html").touch()
    assert media_type(tmp_path / "page.html") == ""


def test_errors_do_not_tell_the_folders_of_the_server(tmp_path):
    media = tmp_path / "a b" / "clip.mp4"
    assert hide_paths(f"{media}: cannot be read", media) == "clip.mp4: cannot be read"
    assert hide_paths("cannot open '/srv/data/x.mp4' (moov)", None) == "cannot open 'x.mp4' (moov)"
    assert hide_paths("use http://a.example/b/c or 1/2", None) == "use http://a.example/b/c or 1/2"
