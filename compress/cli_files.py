"""The command line's verbs on files and folders, without a pipeline: parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from compress.errors import BudgetMissedError, FindingsError, UsageError


def profile(
    model: Annotated[Path, typer.Argument(help="Any ONNX file.")],
    target: Annotated[str, typer.Option(help="A target's name or file.")] = "local",
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Batch size; may be given several times.")] = None,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="AXIS=SIZE", help="Size of another dynamic axis: --shape sequence=128")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure latency, throughput, memory and load time of an ONNX file; no pipeline is needed."""
    from compress.console import OUT, ConsoleProgress
    from compress.profiling.bare import latency_table, profile_bare_file

    measured = profile_bare_file(model, target, batch or [], shape or [], ConsoleProgress())
    if as_json:
        typer.echo(json.dumps(measured, indent=1))
    else:
        OUT.print(latency_table(model.name, measured))


def examine(target: str, as_json: bool) -> None:
    """Print what a target is and what is to be done there.

    Raises:
        FindingsError: Nothing can be measured there as it is.
    """
    from rich.table import Table
    from rich.text import Text

    from compress.console import OUT
    from compress.targets.doctor import examine_target, rows
    from compress.targets.reading import read_target
    from compress.targets.remote import close_all

    try:
        told = examine_target(read_target(target, Path()))
    finally:
        close_all()
    if as_json:
        typer.echo(json.dumps(told, indent=1))
    else:
        table = Table(show_header=False, box=None, pad_edge=False)
        for name, text in rows(told):
            table.add_row(name, Text(text))
        OUT.print(table)
        for finding in told["findings"]:
            do = f"\n  -> {finding['do']}" if finding["do"] else ""
            OUT.print(Text(f"{finding['level']}: {finding['says']}{do}"), soft_wrap=True)
    if wrong := [finding["says"] for finding in told["findings"] if finding["level"] == "wrong"]:
        raise FindingsError(f"{told['target']} cannot be measured on: {'; '.join(wrong)}")


def quantize(
    model: Annotated[Path, typer.Argument(help="A float ONNX file.")],
    samples: Annotated[
        Path,
        typer.Option(
            help="An .npz file of arrays named as the inputs (and `labels`), or a folder of such, of .npy "
            "files or of images (in a folder for each class, if known)."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: the model's name and -int8.")] = None,
    target: Annotated[str, typer.Option(help="A target's name or file.")] = "local",
    emit: Annotated[
        list[str] | None,
        typer.Option(
            help="A file to make, may be given several times: ort-x86, ort-x86-avx2, ort-arm, tensorrt; without "
            "calibration ort-dynamic, ort-weights8, ort-weights4. Default: by target."
        ),
    ] = None,
    budget: Annotated[float, typer.Option(help="Greatest loss of accuracy, of agreement, or relative error.")] = 0.01,
    rung: Annotated[list[str] | None, typer.Option(help="A rung that may be climbed; default: all.")] = None,
    grid: Annotated[str, typer.Option(help="auto, affine or symmetric.")] = "auto",
    weight_bits: Annotated[
        int | None, typer.Option(min=7, max=8, help="7 for x86 without VNNI; default: by file.")
    ] = None,
    calibration: Annotated[str, typer.Option(help="auto, minmax, percentile, entropy or mse.")] = "auto",
    ignore: Annotated[list[str] | None, typer.Option(help="Glob of operators that stay in float.")] = None,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="AXIS=SIZE", help="Size of another dynamic axis: --shape sequence=128")
    ] = None,
    scale: Annotated[float, typer.Option(help="What pixels are multiplied with.")] = 1 / 255,
    mean: Annotated[list[float] | None, typer.Option(help="Taken off scaled pixels, once or once a channel.")] = None,
    std: Annotated[list[float] | None, typer.Option(help="What they are divided by then.")] = None,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Of images, if the model takes any.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Quantize a bare ONNX file to int8 from samples, prove it, measure it, and say whether it pays."""
    from compress.bare.call import quantize_from_call
    from compress.console import OUT, ConsoleProgress
    from compress.report.table import deploy_line, terminal_table

    options = {key: value for key, value in locals().items() if key not in ("model", "samples", "out", "as_json")}
    found = quantize_from_call(model, samples, out, options, ConsoleProgress())
    if as_json:
        typer.echo(json.dumps(found.report, indent=1))
    else:
        OUT.print(terminal_table(found.report))
        OUT.print(f"{deploy_line(found.report)}\nreport: {found.folder / 'report.html'}", soft_wrap=True)
    if not found.met:
        raise BudgetMissedError(f"no int8 file is within the budget: {found.reasons[0]}; all files are kept")


def lint(
    model: Annotated[Path, typer.Argument(help="Any ONNX file.")],
    for_: Annotated[
        str, typer.Option("--for", metavar="PROFILE", help="What it is meant for: an emission, such as tensorrt.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is wrong with an ONNX file for a runtime and hardware, and what to do; status 5 if there are errors."""
    from compress.exporting.lint.bare import fail_on_errors, lines, lint_bare_file

    found = lint_bare_file(model, for_)
    typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(lines(found)))
    fail_on_errors(found)


def package(
    run: Annotated[Path | None, typer.Argument(help="The folder of a run, such as runs/digits.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ends in .tar.gz or .zip; default: the run's name and .tar.gz.")
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A file that goes in; default: the one to deploy.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All files go in.")] = False,
    check: Annotated[
        Path | None, typer.Option(metavar="ARCHIVE", help="Verify an archive instead of making one.")
    ] = None,
) -> None:
    """Make one archive of a run's file to deploy, with manifest, programs, model card, report and checksums."""
    from compress.console import OUT, ConsoleProgress
    from compress.packaging.archive import check_archive
    from compress.packaging.package import package as pack

    if (run is None) == (check is None):
        raise UsageError("package: name the folder of a run to pack, or an archive with --check, one of both")
    if check is not None:
        OUT.print(f"{check}: {len(check_archive(check, ConsoleProgress()))} files, all as listed", soft_wrap=True)
    elif run is not None:
        path = pack(run, out, file or [], every=every, progress=ConsoleProgress())
        OUT.print(
            f"{path}: {path.stat().st_size / 1e6:.1f} MB; verify it with compress package --check", soft_wrap=True
        )


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs; the first is what others are held to.")],
    html: Annotated[Path | None, typer.Option(help="Also write a page that needs no network.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put finished runs side by side: settings that differ, metrics, and times where they may be compared."""
    from compress.console import OUT
    from compress.report.compare_page import html_comparison, terminal_tables
    from compress.report.compare_runs import compare_runs
    from compress.report.write import replacing

    compared = compare_runs(runs)
    if html is not None:
        with replacing(html) as scratch:
            scratch.write_text(html_comparison(compared), encoding="utf-8", newline="\n")
    if as_json:
        typer.echo(json.dumps(compared.as_json(), indent=1))
        return
    for table in terminal_tables(compared):
        OUT.print(table)
    for line in compared.verdicts():
        OUT.print(line, soft_wrap=True)
    if html is not None:
        OUT.print(f"page: {html}", soft_wrap=True)
