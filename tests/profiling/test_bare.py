import io
from pathlib import Path

from rich.console import Console

from compress.profiling.bare import latency_table, profile_bare_file
from compress.stage import Silent
from tests.profiling.test_profile import network

TARGET = "rounds: 2\nseconds: 0.01\nwarmup_seconds: 0\nthroughput_seconds: 0.005\nthroughput_batch: [2, 4]\n"


def shown(folder: Path, settings: str) -> str:
    """What `compress profile` prints of a small network."""
    (folder / "target.yaml").write_text(TARGET + settings)
    measured = profile_bare_file(network(folder / "m.onnx"), str(folder / "target.yaml"), [], [], Silent())
    console = Console(file=io.StringIO(), width=200)
    console.print(latency_table("m.onnx", measured))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_quick_mode_is_labelled_and_throughput_told_for_each_batch_size(tmp_path: Path) -> None:
    text = shown(tmp_path, "")
    assert "p90 and p99 are those of the calls made (mode: quick)" in text
    assert "at batch 2," in text and "at batch 4" in text


def test_full_mode_says_what_its_percentiles_are(tmp_path: Path) -> None:
    text = shown(tmp_path, "mode: full\nleast_seconds: 0\n")
    assert "at most these at 99 % confidence (MLPerf's early stopping)" in text
    assert "calls are too few" not in text and "too few rounds" in text
