"""The Ask tab: a clip, a question, the answer while it is written, the verdict, a case to keep."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.banner import explain
from p2r.browser.desk import (
    MAX_QUESTION,
    MAX_UPLOAD,
    SUFFIXES,
    AskedCase,
    Desk,
    own_id,
)
from p2r.browser.evidence import read_observation
from p2r.browser.exposure import hide_paths
from p2r.browser.library import Library
from p2r.browser.markup import render, shorten
from p2r.browser.media_view import render_frames, render_no_media
from p2r.browser.read_view import mark_options
from p2r.errors import UserError
from p2r.files.media import media_type
from p2r.records import PROBLEM_TYPES, WINDOW, Question
from p2r.video import Frames

_NO_JUDGE = "no judge"
_NO_SECOND = "no second model"
_WORKING = Markup('<p class="empty" role="status">1. reading the clip …</p>')
_WARNING = (
    "The models of the demo and of the playground have 2.8 million parameters. They know coloured "
    "shapes that move, and signs; about any other clip they invent something."
)
# A larger upload has no player: only its frames are shown.
_PLAYED_BYTES = 4_000_000
_STOPPED = Markup('<p class="note stopped" role="status">Stopped.</p>')
_WAITING = render_no_media(
    "No clip yet", "Choose a clip. It is shown here, and then what the model says about it."
)


def build_ask(library: Library, app: gr.Blocks) -> None:
    """Build the components and events of the Ask tab inside the app's Blocks."""
    desk = Desk(library)
    models, judges, samples = desk.models(), list(desk.judges()), desk.samples()
    warning = Markup('<p class="warning">{}</p>').format(_WARNING) if desk.is_tiny() else ""
    asked_of = gr.State(None)  # the case whose clip is used
    answered = gr.State(None)
    with gr.Column(elem_id="ask"):
        gr.HTML(
            Markup(
                "<h2>Ask about a clip</h2><p>Choose a clip, write a question, press “Ask”. The "
                "model writes what it sees, what follows, and its answer. With a reference "
                "answer, a judge says whether the observation is enough.</p>{}"
            ).format(warning),
            apply_default_css=False,
            elem_id="ask-head",
        )
        with gr.Row(elem_id="ask-body"):
            with gr.Column(elem_id="ask-form", scale=2, min_width=340):
                upload = gr.File(
                    label=f"clip or picture, at most {MAX_UPLOAD.upper()}",
                    file_types=list(SUFFIXES),
                    type="filepath",
                    height=104,
                )
                sample = gr.Dropdown(
                    samples, label="or use the clip of a case", value=None, elem_id="ask-sample"
                )
                problem = gr.Textbox(
                    label="question", lines=1, max_lines=6, max_length=MAX_QUESTION
                )
                options = gr.Textbox(
                    label="options, one per line", lines=1, max_lines=4, max_length=MAX_QUESTION
                )
                with gr.Row():
                    model = gr.Dropdown(
                        list(models),
                        value=next(iter(models)),
                        label="model",
                        scale=3,
                        min_width=150,
                    )
                    answer = gr.Textbox(
                        label="reference answer", max_length=500, scale=2, min_width=130
                    )
                with gr.Row(elem_id="ask-buttons"):
                    go = gr.Button("Ask", variant="primary", elem_id="ask-go", min_width=80)
                    stop = gr.Button("Stop", elem_id="ask-stop", min_width=80)
                    keep = gr.Button(
                        "Keep as a case", elem_id="ask-keep", interactive=False, min_width=140
                    )
                with gr.Accordion("Second model, judge, problem type", open=False):
                    second = gr.Dropdown(
                        [_NO_SECOND, *models], value=_NO_SECOND, label="second model"
                    )
                    judge = gr.Dropdown([_NO_JUDGE, *judges], value=judges[0], label="judge")
                    kind = gr.Dropdown(list(PROBLEM_TYPES), value="free-form", label="problem type")
                # Hidden. The page clicks it to use the open case of its address.
                take = gr.Button("use the open case", elem_id="ask-take")
            with gr.Column(elem_id="ask-answer", scale=3, min_width=400):
                shown = gr.HTML(_WAITING, apply_default_css=False)
                kept = gr.HTML("", apply_default_css=False, elem_id="ask-kept")

    def on_take(case_id: str | None) -> list[Any]:
        try:
            case = library.store.get(case_id or "")
        except ValueError:
            return [None, gr.Dropdown(value=None), None, *(gr.skip() for _ in fields[3:])]
        q = case.question
        own = (shorten(q.problem, 90), case_id)
        choices = [own, *(choice for choice in samples if choice[1] != case_id)]
        taken_from = gr.Dropdown(choices=choices, value=case_id)
        texts = [q.problem, "\n".join(q.options), q.problem_type, q.answer]
        try:
            library.find_media(case)
            preview = _preview(_clip_of(None, case_id, q.data_type))
        except (ValueError, OSError) as error:
            preview = render_no_media("No clip", hide_paths(str(error), None))
        return [case_id, taken_from, None, *texts, preview]

    def on_ask(*given: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
        *asked, first, other, judge_name = given  # `asked`: the arguments of `prepare`
        file, case_id = asked[:2]
        off = gr.Button(interactive=False)
        yield _WORKING, None, "", off
        media = None
        answers: list[Said] = []
        try:
            media, question = prepare(desk, *asked)
            clip = _clip_of(file, case_id, question.data_type)
            run = None if file else library.store.run_of(case_id or "")
            for name in dict.fromkeys(name for name in (first, other) if name in models):
                answers.append(Said(name))
                done = None
                for frames, so_far, done in desk.ask(
                    models[name], media, question.model_copy(), run
                ):
                    answers[-1] = Said(name, so_far, done is None)
                    # Only the answer is updated: a late update must not overwrite "Stopped.".
                    page = _draw(question, clip, frames, answers)
                    yield page, gr.skip(), gr.skip(), gr.skip()
                if done is None:
                    raise UserError("the model gave no answer: ask again")
                if question.answer and judge_name != _NO_JUDGE:
                    done.case.verdict = desk.judge(done, judge_name)
                answers[-1] = Said(name, done.case.trace.text, False, done)
            page = _draw(question, clip, frames, answers)
            kept_cases = [said.done for said in answers if said.done]
            yield page, kept_cases, "", gr.Button(interactive=True)
        except (ValueError, OSError) as error:
            yield render_no_media("No answer", hide_paths(str(error), media)), None, "", off

    def on_keep(done: list[AskedCase] | None) -> tuple[Any, Any]:
        off = gr.Button(interactive=False)
        if not done:
            return Markup('<p class="note">Ask a question first.</p>'), off
        try:
            ids = [desk.keep(asked) for asked in done]
        except OSError as error:
            return render_no_media("Not kept", hide_paths(str(error), done[0].media)), off
        link = Markup(
            '<p class="note">Kept: <a href="{}" data-go id="kept-case">open the case</a></p>'
        )
        return link.format(View(case=ids[0]).link()), off

    private = {"api_visibility": "private", "concurrency_limit": 8}
    fields = [asked_of, sample, upload, problem, options, kind, answer, shown]
    # Only on the Ask tab: elsewhere the page would load a second clip.
    read_address = (
        "() => { const at = new URLSearchParams(location.search); "
        "return [at.get('tab') === 'ask' ? at.get('case') : null]; }"
    )
    taken = gr.Textbox(visible=False)
    for when in (take.click, app.load):
        when(on_take, [taken], fields, js=read_address, show_progress="hidden", **private)
    sample.input(on_take, [sample], fields, show_progress="hidden", **private)
    # An uploaded clip replaces the clip of a case.
    upload.upload(
        lambda file: [None, None, _preview(_clip_of(file, None, "video"))],
        [upload],
        [asked_of, sample, shown],
        show_progress="hidden",
        **private,
    )
    asking = go.click(
        on_ask,
        [upload, asked_of, problem, options, kind, answer, model, second, judge],
        [shown, answered, kept, keep],
        show_progress="hidden",
        **private | {"concurrency_limit": 1},
    )
    stop.click(lambda: _STOPPED, None, [kept], cancels=[asking], show_progress="hidden", **private)
    keep.click(on_keep, [answered], [kept, keep], show_progress="hidden", **private)


def prepare(
    desk: Desk,
    file: str | None,
    case_id: str | None,
    text: str,
    choices: str,
    problem_type: str,
    truth: str = "",
) -> tuple[Path, Question]:
    """Return the clip and the question. With the clip of a case, the path of its question too."""
    from p2r.engines.ask import make_question

    options = [line.strip() for line in (choices or "").splitlines() if line.strip()]
    question = make_question((text or "").strip(), options, problem_type)
    question.answer = (truth or "").strip()
    question.source = "asked"
    if file:
        desk.check_upload(Path(file))
        return Path(file), question
    if not case_id:
        raise UserError("choose a clip: upload one, or use the clip of a case")
    case = desk.library.store.get(case_id)
    of = case.question
    if len(of.media) > 1:
        raise UserError(f"this question has {len(of.media)} media files: choose a case with one")
    question.path, question.data_type = of.path, of.data_type
    question.meta = {WINDOW: of.meta[WINDOW]} if WINDOW in of.meta else {}
    if question.problem == of.problem.strip() and question.options == of.options:
        question.id = of.id
    else:
        question.id = own_id(question)
    return desk.library.find_media(case), question


@dataclass(frozen=True)
class Said:
    """What one model has written so far; with `done`, its complete answer."""

    model: str
    text: str = ""
    is_open: bool = True
    done: AskedCase | None = None


def _preview(clip: tuple[str, str]) -> Markup:
    """Return the chosen clip as a player; for a clip that cannot be played here, a note."""
    if not clip[0]:
        why = "It is too large to be played here." if clip[1] else "Its type cannot be played here."
        return render_no_media("Your clip is loaded", f"{why} Press “Ask”.")
    return render("asked_clip.html", clip=clip)


def _clip_of(file: str | None, case_id: str | None, data_type: str) -> tuple[str, str]:
    """Return the address of the clip and its data type.

    The address is "" if the clip is too large for the page or its type is unknown. The data type
    is "" if it is unknown.
    """
    if not file:
        return "p2r/media?" + urlencode({"case": case_id or ""}), data_type
    path = Path(file)
    kind = media_type(path)
    data_type = kind.partition("/")[0]
    if not kind or path.stat().st_size > _PLAYED_BYTES:
        return "", data_type
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}", data_type


def _draw(question: Question, clip: tuple[str, str], frames: Frames, answers: list[Said]) -> Markup:
    """Return the clip, the frames, and for each model the segments or the complete case."""
    columns = [
        {
            "model": said.model,
            "case": said.done.case if said.done else None,
            "banner": explain(said.done.case) if said.done else None,
            "options": mark_options(said.done.case) if said.done else [],
            "sentences": read_observation(question, said.done.case.trace.observation)
            if said.done
            else [],
            "segments": _segments(said.text),
            "writing": _writing(said.text) if said.is_open and said.text else None,
            "waits": said.is_open and not said.text,
        }
        for said in answers
    ]
    return render(
        "asked.html",
        clip=clip,
        frames=render_frames(frames, frames.info()),
        fps=frames.fps,
        question=question,
        columns=columns,
    )


def _segments(text: str) -> list[tuple[str, str, str, str | None]]:
    """Return the segments written so far: (name, style, title, text)."""
    styles = (
        ("observation", "see", "Observation"),
        ("think", "think", "Reasoning"),
        ("answer", "answer", "Answer"),
    )
    found = []
    for name, style, title in styles:
        _, opened, rest = text.partition(f"<{name}>")
        segment = rest.partition("</")[0].strip() if opened else None
        found.append((name, style, title, segment))
    if not any(segment for *_, segment in found) and text:
        found[-1] = ("answer", "answer", "Response without the template", text)
    return found


def _writing(text: str) -> str:
    """Return the segment that is being written."""
    names = [name for name in ("observation", "think", "answer") if f"<{name}>" in text]
    return names[-1] if names else "observation"
