"""What a stage would do: the plans of `--dry-run`.

Each function checks the settings and files of its stage and returns the plan, one line per subject.
It loads no model, asks no judge and writes nothing. A part that an earlier stage makes, or that
this machine lacks, is a note in the plan. Everything else raises the error of the stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from p2r.errors import EngineError, UserError
from p2r.files.journal import Shard, journal_files
from p2r.judges import asks_nothing
from p2r.runs import Run, check_run, kept_root
from p2r.runs.names import TRAINED_STAGES
from p2r.runs.ownership import begun_stages
from p2r.stages.data_set import check_filter
from p2r.stages.inputs import SPLITS, recall_source
from p2r.stages.training import check_target, read_traces
from p2r.training.dry_run import check_media, launched_workers, note_missing_key
from p2r.training.plan import accumulation

Lines = list[str]


def preview_generate(
    run: Run, questions: Path | None = None, data_root: Path | None = None
) -> Lines:
    """Return the plan of `p2r.stages.generate`."""
    recipe, made = run.recipe, run.recipe.generate
    return [
        *_about(run),
        *_questions(run, "generate", questions, data_root),
        f"at most {made.questions or 'all'} questions, {made.samples} trace(s) of each, at most "
        f"{made.max_tokens:,} tokens, temperature {made.temperature:g}",
        *_model(run, recipe.models.teacher, made.engine),
    ]


def preview_filter(run: Run, shard: Shard | None = None, ray: bool = False) -> Lines:
    """Return the plan of `p2r.stages.filter`."""
    from p2r.pipeline.quality import active

    check_filter(run, shard, ray)
    settings, judging = run.recipe.filter, run.recipe.judging
    there = journal_files(run.folder / "generate.jsonl")
    found = f"traces: {', '.join(map(str, there))}" if there else "no traces yet: p2r generate"
    budget = "none" if judging.budget is None else f"${judging.budget:g}"
    return [
        *_about(run),
        found,
        f"accuracy of at least {settings.min_accuracy:g}; further filters: "
        f"{', '.join(active(settings.quality)) or 'none'}; budget: {budget}",
        *_judge(settings.judge),
    ]


def preview_sft(run: Run, cases: Path | None = None, data_root: Path | None = None) -> Lines:
    """Return the plan of `p2r.stages.sft`."""
    from p2r.pipeline import read_kept

    recipe = run.recipe
    file, kept = recall_source(run, "sft", cases), run.folder / "sft.jsonl"
    passes, workers = accumulation(recipe.sft, launched_workers()), launched_workers()
    lines = _about(run)
    if file is None and not kept.is_file():
        lines.append("no traces yet: p2r filter makes them, or give --cases FILE")
    else:
        root = _root(run, data_root, file)
        traces = read_kept(run) if file is None else read_traces(file)
        check_target(run, file or kept, traces)
        lines.append(f"{len(traces)} traces of {file or kept}")
        lines.append(check_media([case.question for case in traces], root, 1))
    return [
        *lines,
        f"each update: {recipe.sft.batch_size} examples × {passes} passes × {workers} worker(s); "
        f"{recipe.sft.epochs:g} epoch(s)"
        + (f", at most {recipe.sft.max_steps} steps" if recipe.sft.max_steps > 0 else ""),
        *_model(run, recipe.models.base),
    ]


def preview_evaluation(
    run: Run,
    model: str,
    benchmark: str | None = None,
    questions: Path | None = None,
    data_root: Path | None = None,
    style: str | None = None,
) -> Lines:
    """Return the plan of `p2r.stages.evaluate` and `p2r.stages.evaluate_benchmark`."""
    recipe = run.recipe
    if benchmark is None:
        asked = _questions(run, "eval", questions, data_root)
    elif questions is None:
        raise UserError(f"--benchmark {benchmark} needs --questions: give its official files")
    else:
        from p2r.evaluation.questions import read_benchmark

        asked = read_benchmark(benchmark, questions, _root(run, data_root, questions))[1].lines()
    prompt = recipe.prompt_style("eval", style)
    return [
        *_about(run),
        *asked,
        f"prompt: {prompt if len(prompt) < 20 else 'a prompt file'}; at most "
        f"{recipe.eval.max_tokens:,} tokens, temperature {recipe.eval.temperature:g}",
        *_model(run, model, recipe.eval.engine),
        *_judge(recipe.eval.judge),
    ]


def preview_transfer(run: Run, source: Path) -> Lines:
    """Return what perception transfer adds to the plan of an evaluation."""
    from p2r.evaluation.results import read_result
    from p2r.evaluation.transfer import INPUTS

    result = read_result(source)
    found = sum(bool(item.trace.get("observation")) for item in result.items)
    return [
        f"observations: {found} of {len(result.items)} items of {source} ({result.model})",
        f"inputs: {', '.join(INPUTS)}",
    ]


def preview_study(run: Run, arms: Sequence[str], seeds: Sequence[int]) -> Lines:
    """Return the plan of a study."""
    check_run(run.folder)
    ready = "" if (run.folder / "sft" / "model").is_dir() else " (no SFT model yet: p2r sft)"
    return [*_about(run), f"arms: {', '.join(arms)}; seeds: {', '.join(map(str, seeds))}{ready}"]


def preview_demo(run: Run) -> Lines:
    """Return the plan of `p2r.stages.demo.run_demo`."""
    recipe = run.recipe
    made = {split: getattr(recipe.playground, split) for split in ("train", "test")}
    if absent := [split for split, size in made.items() if not size]:
        raise UserError(
            f"recipe {recipe.name!r} makes no playground questions ({', '.join(absent)}): "
            "use the recipe tiny, or run the stages one by one"
        )
    return [
        *_about(run),
        ", ".join(f"{size} questions to {split}" for split, size in made.items()),
        f"SFT: {recipe.sft.max_steps} steps; RL: {recipe.rl.steps} steps of "
        + ", ".join(recipe.demo.arms),
        *_model(run, recipe.models.teacher, recipe.generate.engine),
        *_model(run, recipe.models.base, recipe.eval.engine),
        *_judge(recipe.filter.judge),
    ]


# ---- parts of a plan


def _about(run: Run) -> Lines:
    begun = ", ".join(begun_stages(run.folder)) or "nothing"
    state = f"begun: {begun}" if run.folder.is_dir() else "new"
    return [f"run {run.folder} ({state}), recipe {run.recipe.name}"]


def _questions(run: Run, purpose: str, given: Path | None, data_root: Path | None) -> Lines:
    from p2r.formats import read_questions

    split = SPLITS[purpose]
    made = run.folder / "data" / f"{split}.jsonl"
    file = recall_source(run, purpose, given) or (made if made.is_file() else None)
    if file is not None:
        root = _root(run, data_root, file)
        return [check_media(list(read_questions(file)), root, 1)]
    if size := getattr(run.recipe.playground, split):
        return [f"questions: {size} of the playground, which the stage makes"]
    raise UserError(
        f"no questions: pass --questions FILE (recipe {run.recipe.name!r} makes none, because its "
        f"playground.{split} is 0)"
    )


def _root(run: Run, given: Path | None, file: Path | None) -> Path:
    if given is not None and not given.is_dir():
        raise UserError(f"data root {given} is not a folder: pass the media folder as --data-root")
    beside = run.folder / "data" if file is None else file if file.is_dir() else file.parent
    return given or kept_root(run.folder) or beside


def _model(run: Run, model: str, engine: str | None = None) -> Lines:
    """Describe a model. A stage of the run may still have to train it."""
    stages = tuple(dict.fromkeys([*TRAINED_STAGES, *run.recipe.demo.arms]))
    trained = model in stages
    if not trained and "/" not in model and not Path(model).is_dir():
        raise EngineError(
            f"no model {model!r}: give a stage of the run ({', '.join(stages)}), "
            "a folder, a hub id or playground/NAME"
        )
    if not trained:
        from p2r.data import check_model

        check_model(model)
    later = f" (not trained yet: {run.folder / model / 'model'})" if trained else ""
    lines = [f"model: {model}{later}" + (f", engine {engine}" if engine else "")]
    if engine == "vllm":
        from p2r.engines.vllm_runtime import check_vllm

        try:
            check_vllm()
        except EngineError as error:
            lines.append(str(error))
    if engine == "server":
        lines.append(f"server: {run.recipe.server.base_url}")
    return lines


def _judge(spec: str | dict) -> Lines:
    if asks_nothing(spec):
        return ["judge: none"]
    return [f"judge: {spec}", *note_missing_key(spec)]
