"""The verbs about data: how far a run is, what a file holds, files of other formats, cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.options import JsonOption, app

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]


@app.command(epilog="Example: p2r status runs/x --json")
def status(run: RunArgument, as_json: JsonOption = False) -> None:
    """How far generation and filtering are: progress, rate, time to go, failures, cost.

    Reads only; works while the run writes.
    """
    from p2r.status import SHOWN, status

    report = status(run)
    if as_json:
        print(json.dumps(report, indent=1, ensure_ascii=False))
        return
    from p2r.tables import counts_table, make_console, status_table

    console = make_console()
    console.print(status_table(report))
    if not report["stages"]:
        print("nothing has begun: run `p2r generate` first")
    for name, stage in report["stages"].items():
        for title, key in (("failures", "failures"), ("bad records of the file", "bad_reasons")):
            if shown := dict(list(stage.get(key, {}).items())[:SHOWN]):
                console.print(counts_table(f"{name}: {title}", shown, "reason"))
        if stage.get("ends"):
            console.print(counts_table(f"{name}: last step reached", stage["ends"], "step"))
            print(f"judging cost {stage['cost_usd']:.2f} US dollars")
