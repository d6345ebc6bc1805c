"""The commands for data: progress of a run, checks and conversion of files, cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.complete import complete_runs
from p2r.cli.options import DryRunOption, JsonOption, app, print_dry_run, print_json

LONGEST_EXAMPLE = 300  # characters
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder.", autocompletion=complete_runs)
]


@app.command(epilog="Example: p2r status runs/x --json")
def status(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show the progress of all stages: generation, filter, SFT, RL and evaluations.

    Shows progress, rate, time left, failures and cost, and the latest loss and rewards of a
    training. Only reads; works during a run.
    """
    from p2r.pipeline.status import SHOWN
    from p2r.stages.status import status

    report = status(run)
    if as_json:
        print(json.dumps(report, indent=1))
        return
    from p2r.cli.tables import counts_table, ledger_table, make_console, status_table

    console = make_console()
    console.print(status_table(report))
    if not report["stages"]:
        print("no stage has started: run `p2r generate` first")
    for name, stage in report["stages"].items():
        for title, key in (("failures", "failures"), ("bad records of the file", "bad_reasons")):
            if shown := dict(list(stage.get(key, {}).items())[:SHOWN]):
                console.print(counts_table(f"{name}: {title}", shown, "reason"))
        if stage.get("metrics"):
            shown = {key: f"{value:.4g}" for key, value in stage["metrics"].items()}
            console.print(counts_table(f"{name}: latest values", shown, "metric"))
        if stage.get("ends"):
            console.print(counts_table(f"{name}: last step reached", stage["ends"], "step"))
            unpriced = f", plus calls without a known price: {stage['unpriced']}"
            print(
                f"judging cost {stage['cost_usd']:.4f} US dollars"
                + (unpriced if stage["unpriced"] else "")
            )
    if report["judging"]:
        console.print(ledger_table(report["judging"]))


@app.command(epilog="Example: p2r cards runs/x --out data_cards")
def cards(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN|FILE]...",
            help="Runs (their kept traces) or files. Default: the paper's two data sets and the "
            "playground.",
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="A run, same as the argument.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Output folder.")] = Path("data_cards"),
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the data set, if there is only one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write data cards.

    For each data set: a Hugging Face dataset card and a Croissant file.
    """
    from p2r.datasets.cards import write_card
    from p2r.datasets.describe import card_of
    from p2r.datasets.known_sets import KNOWN

    described = [*(data or []), *([run] if run else [])]
    if name is not None and len(described) != 1:
        raise typer.BadParameter("--name needs exactly one run or file")
    made = [card_of(path, name) for path in described] or [known() for known in KNOWN]
    names = [card.name for card in made]
    if twice := {name for name in names if names.count(name) > 1}:
        raise typer.BadParameter(
            f"two data sets are named {', '.join(sorted(twice))}: write their cards separately"
        )
    files = [path for card in made for path in write_card(card, out)]
    if as_json:
        print_json(files)
    else:
        print(*files, sep="\n")


data_app = typer.Typer(
    name="data", help="Get, check, convert and publish data files.", no_args_is_help=True
)
app.add_typer(data_app)
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="File of questions or traces, or one part of it.")
]
SourceArgument = Annotated[
    Path, typer.Argument(metavar="RUN|FILE", help="A run (its kept traces) or a file.")
]


@data_app.command(epilog="Example: p2r data check Video-R1-260k.json --data-root data")
def check(
    file: FileArgument,
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", help="Folder of the media. Default: the file's folder."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Check a data file.

    Shows problem types, sources, missing media, duplicates and bad records. The exit code is 1 if
    media are missing or unusable, if records are bad, or if the file has no question.
    """
    from p2r.datasets.check import check_data

    found = check_data(file, data_root)
    faults = found["bad_records"] + found["media"]["missing"] + found["media"]["unusable"]
    faults += not found["records"]
    if as_json:
        print(json.dumps(found, indent=1))
        return int(bool(faults))
    from p2r.cli.tables import counts_table, grid_table, make_console
    from p2r.datasets.paper import mix_rows
    from p2r.files.safe_text import show_unseen

    console = make_console()
    console.print(grid_table(f"{file}: {found['records']:,} records", mix_rows(found["types"])))
    rows = [["source", "records", "have", "missing", "unusable"]]
    for source, row in found["sources"].items():
        rows.append([source or "(none named)", *(str(row.get(key, 0)) for key in rows[0][1:])])
    console.print(grid_table(f"media below {found['data_root']}", rows))
    console.print(counts_table("duplicates", found["duplicates"]))
    if found["bad_reasons"]:
        console.print(counts_table("bad records", found["bad_reasons"], "reason"))
    for example in (*found["missing_examples"], *found["bad_examples"]):
        print(f"   {show_unseen(example)[:LONGEST_EXAMPLE]}")
    if not found["records"]:
        print(show_unseen(f"{file} has no question that can be read: give a file of questions"))
    return int(bool(faults))


@data_app.command(epilog="Example: p2r data export runs/x sft.json.gz --to videop2r --parts 2")
def export(
    source: SourceArgument,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The file to write.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="video-r1, videop2r, p2r (JSON lines), llama-factory, ms-swift, verl, easyr1 "
            "or trl.",
        ),
    ],
    parts: Annotated[int, typer.Option("--parts", min=1, help="Number of files.")] = 1,
    strings: Annotated[
        bool | None,
        typer.Option(
            "--strings/--values", help="Write every value as a string, as in the RL release."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert kept traces or a file to another format.

    `export` and `convert` are the same.
    """
    from p2r.datasets.convert import FORMATS, convert

    if to not in FORMATS:
        raise typer.BadParameter(f"--to is one of {', '.join(FORMATS)}, not {to!r}")
    files, count = convert(source, target, to, parts, strings)
    if as_json:
        print_json({"records": count, "files": files})
    else:
        print(f"{count} records in {', '.join(map(str, files))}")


data_app.command("convert", epilog="Example: p2r data convert a.json b.json.gz --to videop2r")(
    export
)


@data_app.command(
    epilog="Example: p2r data contamination Video-R1-260k.json validation.json --data-root data "
    "--benchmark-root media"
)
def contamination(
    training: FileArgument,
    benchmark: Annotated[
        Path, typer.Argument(metavar="BENCHMARK", help="File of a benchmark's questions.")
    ],
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", help="Media of FILE. Default: its folder."),
    ] = None,
    benchmark_root: Annotated[
        Path | None,
        typer.Option("--benchmark-root", help="Media of BENCHMARK. Default: its folder."),
    ] = None,
    share: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Share of a clip's frames that must be found."),
    ] = 0.5,
    as_json: JsonOption = False,
) -> int:
    """Find clips of a benchmark among the clips of a training file.

    Compares perceptual hashes of frames. The exit code is 1 if a clip is found.
    """
    from p2r.datasets.contamination import check_contamination

    found = check_contamination(training, benchmark, data_root, benchmark_root, share)
    if as_json:
        print(json.dumps(found, indent=1))
        return int(bool(found["overlaps"]))
    from p2r.cli.tables import counts_table, grid_table, make_console

    console = make_console()
    print(
        f"{found['training_clips']} training clips, {found['benchmark_clips']} benchmark clips, "
        f"{len(found['overlaps'])} found in both"
    )
    if found["overlaps"]:
        rows = [[o["benchmark"], o["training"], f"{o['share']:.0%}"] for o in found["overlaps"]]
        table = [["benchmark clip", "training clip", "frames shared"], *rows]
        console.print(grid_table("", table, left=2))
    if found["unreadable"]:
        console.print(counts_table("unreadable clips", found["unreadable"], "clip"))
    return int(bool(found["overlaps"]))


@data_app.command(epilog="Example: p2r data get video-r1 --out data --only '*260k.json'")
def get(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="video-r1, a benchmark, or ORG/NAME of a dataset on the hub."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Output folder. Default: data/NAME.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="PATTERN", help="Files to get, for example '*.json'."),
    ] = None,
    media: Annotated[
        bool,
        typer.Option("--media", help="Get all files, with the media. Default: only the texts."),
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Download a public data set from the Hugging Face hub.

    Shows its license, size and destination first. After an interruption, the same command keeps
    the finished files. Checks the size and checksum of every file. Archives stay packed.
    """
    from p2r.datasets.public import check_space, download_set, find_set
    from p2r.files.safe_text import show_unseen

    wanted = find_set(name, only or (), media)
    folder = out or Path("data") / wanted.repository.rpartition("/")[2]
    plan = [
        f"{wanted.repository}, revision {wanted.revision[:12]}, license: {wanted.license}",
        f"{len(wanted.files)} of {wanted.total} files, {wanted.size / 1e9:,.3f} GB, to {folder}",
    ]
    if dry_run:
        check_space(wanted, folder)
        print_dry_run(plan)
        return
    if not as_json:
        print(*map(show_unseen, plan), sep="\n", flush=True)
    files = download_set(wanted, folder)
    if as_json:
        print_json({"license": wanted.license, "revision": wanted.revision, "files": files})
    else:
        print(*(show_unseen(str(file)) for file in files), sep="\n")


@data_app.command(epilog="Example: p2r data push runs/x name/my-traces --folder published")
def push(
    source: SourceArgument,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Dataset on the hub.")],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Write the files into this folder instead of the hub."),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make it public. Default: private.")
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Publish a data set with its cards.

    Uploads to the Hugging Face hub, or writes into a folder.
    """
    from p2r.datasets.publish import preview_push, push

    if dry_run:
        print_dry_run(preview_push(source, repository, folder=folder, private=not public))
        return
    print(push(source, repository, folder=folder, private=not public))
