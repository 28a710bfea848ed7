from __future__ import annotations

from typing import Any

from rich.console import Console

from compress.report.reading import read_rows
from compress.report.table import (
    deploy_line,
    files_table,
    markdown,
    models_table,
    steps_table,
    target_table,
    terminal_table,
)


def test_files_table(digits: dict[str, Any]) -> None:
    table = files_table(read_rows(digits))
    deployed = dict(zip(table.headings, table.rows[2].cells, strict=True))
    assert table.rows[2].mark == "deploy" and table.rows[0].mark == "reference"
    assert deployed["accuracy"].text == "98.61 %" and deployed["accuracy"].note == "96.79 to 99.41"
    assert deployed["p50 ms"].text == "0.118"
    assert deployed["speedup"].text == "12.8x"
    assert (deployed["size"].text, deployed["size"].note) == ("318 kB", "34.5x smaller")
    assert deployed["in int8"].text == "96 %"
    assert dict(zip(table.headings, table.rows[0].cells, strict=True))["speedup"].text == "–"


def test_columns_that_nobody_fills_are_left_out(variants: dict[str, dict[str, Any]]) -> None:
    assert "in int8" not in files_table(read_rows(variants["one model"])).headings
    assert "p50 ms" not in models_table(read_rows(variants["no latency on the way"])).headings


def test_target_table_holds_what_was_measured_there(variants: dict[str, dict[str, Any]]) -> None:
    report = read_rows(variants["several targets"])
    table = target_table(report, "raspberry-pi-5")
    assert len(table.rows) == 4 and "size" not in table.headings and "speedup" in table.headings


def test_markdown_columns_line_up(variants: dict[str, dict[str, Any]]) -> None:
    for name, report in variants.items():
        rows = read_rows(report)
        for table in (files_table(rows), models_table(rows), steps_table(rows)):
            lines = markdown(table).splitlines() if table.rows else ["|", "|"]
            unescaped = [line.replace("\\|", "") for line in lines]
            assert len({line.count("|") for line in unescaped}) == 1, name
            assert len({len(line) for line in lines}) == 1, name


def test_terminal_table_fits_eighty_columns(variants: dict[str, dict[str, Any]]) -> None:
    for name, report in variants.items():
        text = printed(report)
        assert all(len(line) <= 80 for line in text.splitlines()), name
    assert "98.61 %" in printed(variants["as usual"])


def printed(report: dict[str, Any]) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(terminal_table(report))
    return console.export_text()


def test_the_terminal_tells_the_rungs_and_whether_int8_pays(variants: dict[str, dict[str, Any]]) -> None:
    text = printed(variants["int8 climbed"])
    assert "int8, ranges from samples: 95.00 %, loss 3.33 points, 0.9 s" in text
    assert " ".join(text.split()).count("(kept)") == 1
    slower = " ".join(printed(variants["int8 slower"]).split())
    assert "int8 does not pay here" in slower and "- 3 of 9 layers are narrow" in slower
    assert "rung" not in printed(variants["int8 only trained"])


def test_terminal_table_takes_names_as_they_are(digits: dict[str, Any]) -> None:
    digits["name"] = digits["models"][6]["name"] = digits["deploy"] = "[red]x[/red]"
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(terminal_table(digits))
    assert "[red]x[/red]" in console.export_text()


def test_what_to_deploy_is_one_line(digits: dict[str, Any]) -> None:
    assert deploy_line(digits) == f"deploy: {digits['deploy']} ({digits['deploy_reason']})"
    assert deploy_line({**digits, "deploy": None}).startswith("deploy: nothing (")
