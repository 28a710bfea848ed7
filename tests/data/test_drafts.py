from __future__ import annotations

from pathlib import Path

import pytest

from compress.data.drafts import drafted, write_whole


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    write_whole(target, "one ü")
    assert target.read_text(encoding="utf-8") == "one ü"
    with pytest.raises(RuntimeError, match="halfway"), drafted(target) as stream:
        stream.write(b"two")
        raise RuntimeError("halfway")
    assert target.read_text(encoding="utf-8") == "one ü"
    assert list(target.parent.iterdir()) == [target]
    with drafted(target) as stream:
        stream.write(b"two")
        assert target.read_text(encoding="utf-8") == "one ü"
    assert target.read_bytes() == b"two"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_whole(tmp_path / "file" / "inner", "x")
