"""The command line: parse, call, print. No logic. Verbs on bare files are in `cli_files`."""

from __future__ import annotations

import json
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from compress import __version__, cli_files
from compress.errors import DONE, INTERRUPTED, BudgetMissedError, CompressError

app = typer.Typer(
    help="Distil, prune, quantize, export and measure a trained network for the hardware it must run on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

PipelineFile = Annotated[Path, typer.Argument(help="A pipeline file, such as pipelines/digits.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one value: --set prune.keep.macs=0.4"),
]
StoreFolder = Annotated[
    Path | None,
    typer.Option("--store", envvar="COMPRESS_STORE", help="Where finished steps are kept; default: .compress"),
]
RunsFolder = Annotated[Path, typer.Option("--runs", help="Where results are written, in a folder named as the run.")]
DEFAULT_STORE, DEFAULT_RUNS = Path(".compress"), Path("runs")


@app.command()
def run(
    pipeline: PipelineFile,
    set_: Overrides = None,
    store: StoreFolder = None,
    runs: RunsFolder = DEFAULT_RUNS,
    remeasure: Annotated[bool, typer.Option("--remeasure", help="Repeat measurements; reuse the rest.")] = False,
    skip_rehearsal: Annotated[
        bool, typer.Option("--skip-rehearsal", help="Start without running the chain on two batches first.")
    ] = False,
) -> None:
    """Carry out a pipeline: reuse what was done, run the rest, write files and a report."""
    from compress.console import OUT, ConsoleProgress
    from compress.execute import execute
    from compress.store import Store

    outcome = execute(
        _read(pipeline, set_),
        Store(store or DEFAULT_STORE),
        runs,
        ConsoleProgress(),
        remeasure=remeasure,
        rehearsal=not skip_rehearsal,
    )
    if outcome is None:  # one of several processes, and not the one that reports
        return
    from compress.report.table import deploy_line, terminal_table

    OUT.print(terminal_table(outcome.report))
    OUT.print(f"{deploy_line(outcome.report)}\nreport: {outcome.folder / 'report.html'}", soft_wrap=True)
    if outcome.lost:
        raise next(iter(outcome.lost.values()))
    if not outcome.report["met"]:
        raise BudgetMissedError(f"the budget is not met: {outcome.report['deploy_reason']}; all files are kept")


@app.command()
def check(
    pipeline: PipelineFile,
    set_: Overrides = None,
    store: StoreFolder = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also run the whole chain on two batches.")] = False,
) -> None:
    """Say everything that is wrong with a pipeline, before any work."""
    from compress.console import OUT, ConsoleProgress
    from compress.plan import make_plan

    plan = make_plan(_read(pipeline, set_))
    if deep:
        from compress.rehearse import rehearse
        from compress.run import statuses
        from compress.store import Store

        place = Store(store or DEFAULT_STORE)
        rehearse(plan, statuses(plan, place), place, ConsoleProgress())
    rehearsed = ", and the chain runs on two batches" if deep else ""
    OUT.print(f"{pipeline}: {len(plan.steps)} steps, nothing wrong{rehearsed}", soft_wrap=True)


@app.command()
def plan(pipeline: PipelineFile, set_: Overrides = None, store: StoreFolder = None) -> None:
    """Show each step of a pipeline: reused or will run, and why."""
    from rich.table import Table

    from compress.console import OUT
    from compress.plan import make_plan
    from compress.run import statuses
    from compress.store import Store
    from compress.targets.target import away

    made = make_plan(_read(pipeline, set_))
    table = Table("step", "stage", "", "why", box=None, pad_edge=False)
    for status in statuses(made, Store(store or DEFAULT_STORE)):
        stage = status.step.stage
        said = f"{status.why}; {stage.decided()}" if stage.decided() else status.why
        table.add_row(status.step.name, stage.verb, "reused" if status.reuse else "will run", said)
    OUT.print(table)
    for target in made.pipeline.targets:
        if problem := away(target):
            OUT.print(f"{target.name}: {problem}", soft_wrap=True, markup=False)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="The folder of a run, such as runs/digits.")]) -> None:
    """Write report.md and report.html again from a run's report.json, and print its table."""
    from compress.console import OUT
    from compress.report.table import deploy_line, terminal_table
    from compress.report.write import read_report, write_report

    content = read_report(folder)
    write_report(content, folder)
    OUT.print(terminal_table(content))
    OUT.print(f"{deploy_line(content)}\nreport: {folder / 'report.html'}", soft_wrap=True)


for verb in (cli_files.profile, cli_files.quantize, cli_files.lint, cli_files.compare, cli_files.package):
    app.command()(verb)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The pipeline file to write.")] = Path("pipeline.yaml"),
    data: Annotated[str | None, typer.Option(help="Built-in name, image folder, .parquet, .csv or .npz file.")] = None,
    model: Annotated[str | None, typer.Option(help="A zoo name, hub name, or FILE.py:FUNCTION of your own.")] = None,
    weights: Annotated[str | None, typer.Option(help="Trained weights; none: the pipeline trains.")] = None,
    target: Annotated[str | None, typer.Option(help="Where it must run; default: local.")] = None,
    accuracy_drop: Annotated[float | None, typer.Option(help="Most accuracy to lose, as a fraction.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take defaults for what is not given.")] = False,
) -> None:
    """Write a pipeline from a few answers."""
    from compress.console import OUT
    from compress.init import ask, write_pipeline

    given = {"data": data, "model": model, "weights": weights, "target": target, "accuracy_drop": accuracy_drop}
    write_pipeline(path, ask(given, interactive=not yes and sys.stdin.isatty()))
    OUT.print(f"{path} is written; next: compress run {path}", soft_wrap=True)


@app.command()
def doctor(
    target: Annotated[
        str | None, typer.Option(help="A target's name, file or address (ssh://user@host, adb://serial).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what this machine or a target is, what it can run fast, and what to install."""
    from rich.table import Table

    from compress.console import OUT
    from compress.environment import environment

    if target is not None:
        cli_files.examine(target, as_json)
        return
    found = environment()
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _flat(found):
        table.add_row(name, value)
    OUT.print(table)


@app.command()
def schema() -> None:
    """Print the JSON Schema of pipeline files, for editors."""
    from compress.schema import schema as pipeline_schema

    typer.echo(json.dumps(pipeline_schema(), indent=1))


@app.command()
def gc(
    store: StoreFolder = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Free what is listed.")] = False,
) -> None:
    """List what no run names any more; with --yes, free it."""
    from compress.console import OUT
    from compress.store import Store

    place = Store(store or DEFAULT_STORE)
    unused = place.unused()
    for item in unused:
        OUT.print(f"{item.size_bytes / 1e6:10.1f} MB  {item.path.relative_to(place.root)}", soft_wrap=True)
    total = sum(item.size_bytes for item in unused) / 1e6
    if yes:
        OUT.print(f"freed {place.free(unused) / 1e6:.1f} MB")
    else:
        OUT.print(f"{len(unused)} items, {total:.1f} MB" + ("; free them with --yes" if unused else ""))


def _read(path: Path, overrides: list[str] | None) -> Any:
    from compress.config import read_pipeline

    return read_pipeline(path, overrides or [])


def _flat(found: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((prefix + name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))
    return lines


def _version(value: bool) -> None:
    if value:
        typer.echo(f"compress {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status; what a user can cause is one message, not a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec", category=FutureWarning)  # torch 2.13's own
    sys.exit(_status(arguments))


def _status(arguments: list[str] | None) -> int:
    try:
        app(arguments, prog_name="compress")
    except SystemExit as end:  # typer has shown what is wrong with the call, or was interrupted
        status = end.code if isinstance(end.code, int) else DONE
        if status == INTERRUPTED:
            typer.echo("\ninterrupted; the same command goes on from here", err=True)
        return status
    except BudgetMissedError as error:
        typer.echo(str(error), err=True)
        return error.exit_status
    except CompressError as error:
        typer.echo(f"error: {error}" if "\n" not in str(error) else f"errors:\n{error}", err=True)
        return error.exit_status
    return DONE
