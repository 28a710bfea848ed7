from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from compress.errors import UsageError
from compress.packaging import archive
from compress.packaging.archive import Content, check_archive, write_archive
from compress.stage import Silent

KINDS = ("a.tar.gz", "a.zip")


def members(folder: Path) -> dict[str, Content]:
    (folder / "model").write_bytes(bytes(range(256)) * 10_000)
    return {"b/model.onnx": folder / "model", "a.txt": b"text", "c": b""}


@pytest.mark.parametrize("name", KINDS)
def test_the_same_bytes_whenever_and_whosever(name: str, tmp_path: Path) -> None:
    given = members(tmp_path)
    write_archive(tmp_path / name, "run", given)
    first = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    os.utime(tmp_path / "model", (1, 1))
    (tmp_path / "model").chmod(0o600)
    time.sleep(1.1)  # gzip and zip would say another second
    write_archive(tmp_path / name, "run", dict(reversed(given.items())))
    assert (tmp_path / name).read_bytes() == first
    assert set(check_archive(tmp_path / name)) == set(given)


def test_other_programs_read_and_verify_it(tmp_path: Path) -> None:
    given = members(tmp_path)
    for name, unpack in zip(KINDS, (["tar", "xzf"], ["python3", "-m", "zipfile", "-e"]), strict=True):
        write_archive(tmp_path / name, "run", given)
        out = tmp_path / f"out-{name}"
        out.mkdir()
        command = [*unpack, str(tmp_path / name), *(["-C"] if unpack[0] == "tar" else []), str(out)]
        subprocess.run(command, check=True)
        done = subprocess.run(
            ["sha256sum", "--check", "SHA256SUMS"], cwd=out / "run", check=True, capture_output=True, text=True
        )
        assert done.stdout.splitlines() == ["a.txt: OK", "b/model.onnx: OK", "c: OK"]
        assert (out / "run" / "b" / "model.onnx").read_bytes() == (tmp_path / "model").read_bytes()


@pytest.mark.parametrize("name", KINDS)
def test_what_is_there_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="is there already; remove it"):
        write_archive(tmp_path / name, "run", members(tmp_path))
    assert (tmp_path / name).read_text() == "mine"
    with pytest.raises(UsageError, match="there is no folder"):
        write_archive(tmp_path / "none" / name, "run", members(tmp_path))
    with pytest.raises(UsageError, match=r"ends in \.tar\.gz or \.zip"):
        write_archive(tmp_path / "a.rar", "run", members(tmp_path))


class Interrupted(Silent):
    """Stops the work as Ctrl-C does, when the first MB is packed."""

    def task(self, description: str, total: int | None):  # type: ignore[no-untyped-def]
        from contextlib import contextmanager

        @contextmanager
        def begun():  # type: ignore[no-untyped-def]
            def advance(steps: int = 1, note: str = "") -> None:
                raise KeyboardInterrupt

            yield advance

        return begun()


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_left_of_an_interrupted_archive(name: str, tmp_path: Path) -> None:
    given = members(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_archive(tmp_path / name, "run", given, Interrupted())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_one_message(tmp_path: Path) -> None:
    limit = f"ulimit -f 100; exec {os.path.realpath('/proc/self/exe')} -c "
    code = (
        "import signal, pathlib; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import os\nfrom compress.packaging.archive import write_archive\nfrom compress.errors import UsageError\n"
        "try:\n write_archive(pathlib.Path('a.zip'), 'run', {'x': os.urandom(2**20)})\n"
        "except UsageError as error:\n print(error)\n"
    )
    found = subprocess.run(
        ["bash", "-c", limit + f'"{code}"'], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(archive.__file__).parents[2])},
    )  # fmt: skip
    assert found.stdout.startswith("a.zip: cannot be written (File too large)"), found.stderr
    assert not list(tmp_path.iterdir())


def _repacked(path: Path, change: dict[str, bytes | None]) -> None:
    """The archive with other content under some names; None takes one out."""
    with tarfile.open(path) as tar:
        held = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    held = {name: content for name, content in (held | change).items() if content is not None}
    with tarfile.open(path, "w:gz") as tar:
        for name, content in held.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"run/a.txt": b"texT"}, "a.txt was changed"),
        ({"run/c": None}, "c is missing"),
        ({"run/new": b"1"}, "new is not listed"),
        ({"run/SHA256SUMS": None}, "has no SHA256SUMS"),
        ({"run/../../x": b"1"}, "lies outside of its folder"),
        ({"/etc/x": b"1"}, "lies outside of its folder"),
    ],
)
def test_what_is_not_as_it_was_packed_is_named(change: dict[str, bytes | None], says: str, tmp_path: Path) -> None:
    write_archive(tmp_path / "a.tar.gz", "run", members(tmp_path))
    _repacked(tmp_path / "a.tar.gz", change)
    with pytest.raises(UsageError, match=says) as error:
        check_archive(tmp_path / "a.tar.gz")
    assert "\n" not in str(error.value)


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("run/x")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(UsageError, match="no plain file"):
        check_archive(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("name", KINDS)
def test_damage_anywhere_is_found(name: str, tmp_path: Path) -> None:
    write_archive(tmp_path / name, "run", {"x": os.urandom(20_000), "y": b"1" * 1000})
    content = (tmp_path / name).read_bytes()
    for at in (len(content) // 3, len(content) // 2):
        (tmp_path / name).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(UsageError):
            check_archive(tmp_path / name)
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match="is damaged, or no archive"):
        check_archive(tmp_path / name)
    with pytest.raises(UsageError, match="no such file"):
        check_archive(tmp_path / f"no-{name}")


def test_a_file_twice_in_a_zip_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", "run", {"x": b"1"})
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as held, pytest.warns(UserWarning, match="Duplicate"):
        held.writestr("run/x", b"2")
    with pytest.raises(UsageError, match="twice"):
        check_archive(tmp_path / "a.zip")


def test_no_name_of_a_file_is_in_gzips_header(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.tar.gz", "run", {"x": b"1"})
    assert (tmp_path / "a.tar.gz").read_bytes()[3:8] == b"\x00\x00\x00\x00\x00"
    with gzip.open(tmp_path / "a.tar.gz") as file:
        assert len(file.read()) % 512 == 0
