"""`p2r serve`: serves a model with vLLM."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from p2r.cli.options import DryRunOption, SetOption, app, print_dry_run

LOCAL_JUDGE = "Qwen/Qwen2.5-7B-Instruct"  # the model and port of the preset `local-judge`
JUDGE_PORT = 8001


@app.command(
    epilog="Example: p2r serve --model runs/x/pa_grpo\n\nExample: p2r serve --recipe 7b --port "
    "8000, and in another shell: p2r generate --run runs/x --recipe 7b "
    "--set generate.engine=server",
)
def serve(
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="tiny, 3b, 7b or a YAML file. Default: the recipe of the model's run, else tiny.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A stage of a run (RUN/pa_grpo), an exported folder, another model folder, a hub "
            "id or playground/NAME. Default: the teacher.",
        ),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Send questions as they are, and return replies as one text. Default: a stage of "
            "a run and an exported model are asked in their template, and replies have "
            "observation, reasoning and content.",
        ),
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address. Needs VLLM_API_KEY if others can reach it.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Default: 8000, and 8001 with --judge."),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Time limit for the start.")
    ] = 900.0,
    log: Annotated[Path | None, typer.Option(help="Log file. Default: a temporary file.")] = None,
    rollouts: Annotated[
        bool,
        typer.Option("--rollouts", help="Accept new weights during RL (rl.rollouts=vllm-server)."),
    ] = False,
    judge: Annotated[
        bool,
        typer.Option(
            "--judge",
            help="Serve a text model as the judge of recipes NAME+local-judge. --model chooses "
            "another text model.",
        ),
    ] = False,
    dry_run: DryRunOption = False,
    set: SetOption = None,
) -> None:
    """Serve a model with vLLM until Ctrl-C.

    Uses the settings of a recipe. Any OpenAI-style client can use the server. A trained model is
    asked in its template, and its replies have observation, reasoning and content. The engine
    `server` of p2r sends exactly the frames that training uses.
    """
    from p2r.engines.vllm_server import VllmServer
    from p2r.export.model import chat_template_of, is_stage
    from p2r.runs.recipe import load_recipe

    stage = Path(model) if model is not None and is_stage(model) else None
    resolved = load_recipe(recipe or (stage.parent / "recipe.yaml" if stage else "tiny"), set)
    served = model or (LOCAL_JUDGE if judge else resolved.models.teacher)
    is_shown = sys.stderr.isatty()
    folder = None if dry_run else Path(tempfile.mkdtemp(prefix="p2r-serve-"))
    template = None if plain or judge else chat_template_of(served, folder)
    served = str(stage / "model") if stage else served
    if folder is not None:
        log = log or folder / "vllm.log"
    server = VllmServer(
        resolved,
        served,
        host=host,
        port=port or (JUDGE_PORT if judge else 8000),
        log=log or Path("vllm.log"),
        wait=wait,
        rollouts=rollouts,
        text_only=judge,
        chat_template=template,
        on_wait=_show_wait if is_shown else lambda seconds: None,
    )
    if dry_run:
        print_dry_run([f"server: {server.base_url}", f"vLLM {shlex.join(server.arguments)}"])
        return
    signal.signal(signal.SIGTERM, _interrupt)
    print(f"starting vLLM with {served}; log: {log}", flush=True)
    with server:
        if is_shown:
            print(file=sys.stderr)
        engine = f"--set generate.engine=server --set server.base_url={server.base_url}"
        use = f"--set rl.judge=server:{server.base_url}#{server.name}" if judge else engine
        print(f"serving {server.name} at {server.base_url} (Ctrl-C stops it). To use it: {use}")
        sys.stdout.flush()
        while True:
            server.check_alive()
            time.sleep(1)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _show_wait(seconds: float) -> None:
    print(f"\rwaiting for the server: {seconds:.0f} s", end="", file=sys.stderr)
