from __future__ import annotations

import json
from pathlib import Path

from compress.generation.draft import DRAFT_FILE, Draft, Entry

ENTRIES: list[Entry] = [{"id": number, "sample": 0, "response": f"ü\n{number}"} for number in range(3)]


def test_what_was_appended_is_there_for_the_next_process(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "new" / "folder", "a")
    draft.append(ENTRIES[:2])
    draft.append(ENTRIES[2:])
    again = Draft(tmp_path / "new" / "folder", "a")
    assert list(again.entries.values()) == ENTRIES
    assert set(again.entries) == {(0, 0), (1, 0), (2, 0)}


def test_a_torn_line_is_dropped_and_the_file_goes_on_after_the_last_whole_one(tmp_path: Path) -> None:
    Draft(tmp_path, "a").append(ENTRIES)
    file = tmp_path / DRAFT_FILE
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    torn = Draft(tmp_path, "a")
    assert list(torn.entries.values()) == ENTRIES[:2]
    torn.append(ENTRIES[2:])
    assert file.read_bytes() == content


def test_nothing_after_a_damaged_line_is_trusted(tmp_path: Path) -> None:
    Draft(tmp_path, "a").append(ENTRIES)
    file = tmp_path / DRAFT_FILE
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([*lines[:2], b"\0\0\0", *lines[3:]]))
    assert list(Draft(tmp_path, "a").entries.values()) == ENTRIES[:1]
    assert len(file.read_bytes().split(b"\n")) == 3


def test_a_draft_of_something_else_is_begun_anew(tmp_path: Path) -> None:
    Draft(tmp_path, "a").append(ENTRIES)
    assert Draft(tmp_path, "b").entries == {}
    assert json.loads((tmp_path / DRAFT_FILE).read_text()) == {"identity": "b"}


def test_without_a_folder_entries_are_kept_in_memory() -> None:
    draft = Draft(None, "a")
    draft.append(ENTRIES)
    assert len(draft.entries) == 3
