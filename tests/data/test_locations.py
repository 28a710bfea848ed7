from __future__ import annotations

from pathlib import Path

import pytest

from compress.data.locations import builtin_folder, cache_folder, expand, find_path, find_paths


def test_variables_are_expanded_and_missing_ones_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_ROOT", "/somewhere")
    monkeypatch.delenv("NOT_THERE", raising=False)
    assert expand("$SOME_ROOT/a") == expand("${SOME_ROOT}/a") == "/somewhere/a"
    with pytest.raises(ValueError, match="NOT_THERE, which is not set"):
        expand("$NOT_THERE/a")


def test_a_path_is_tried_beside_the_naming_file_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, working = tmp_path / "beside", tmp_path / "working"
    for folder in (beside, working):
        folder.mkdir()
        (folder / "both").touch()
    (working / "only").touch()
    monkeypatch.chdir(working)
    assert find_path("both", beside) == beside / "both"
    assert find_path("only", beside) == working / "only"
    assert find_path("both", None) == working / "both"
    assert find_path(str(beside / "both"), None) == beside / "both"
    with pytest.raises(ValueError, match=f"{beside / 'none'} nor {working / 'none'}"):
        find_path("none", beside)


def test_patterns_give_sorted_matches(tmp_path: Path) -> None:
    for name in ("train-2.csv", "train-1.csv", "test.csv"):
        (tmp_path / name).touch()
    assert find_paths("train-*.csv", tmp_path) == [tmp_path / "train-1.csv", tmp_path / "train-2.csv"]
    with pytest.raises(ValueError, match="no file matches"):
        find_paths("nothing-*.csv", tmp_path)


@pytest.mark.parametrize("folder", ["[2024] x", "a*b", "plain"])
def test_what_is_there_under_its_name_is_no_pattern(folder: str, tmp_path: Path) -> None:
    home = tmp_path / folder
    (home / "in[1]ner").mkdir(parents=True)
    names = ["a[1].csv", "b.csv", "in[1]ner/c.csv"]
    for name in names:
        (home / name).touch()
    for name in names:
        assert find_paths(name, home) == find_paths(str(home / name), None) == [home / name]
    for pattern in ("*.csv", str(home / "*.csv")):
        assert find_paths(pattern, home) == [home / name for name in names[:2]]
    assert find_paths("**/*.csv", home) == [home / name for name in names]
    assert find_paths("in[1]ner/[a-c].csv", home) == [home / names[2]]
    with pytest.raises(ValueError, match="no file matches"):
        find_paths("in[1]ner/[x-z].csv", home)


def test_built_in_files_and_cache(cache: Path) -> None:
    assert (builtin_folder("data") / "digits.yaml").is_file()
    assert cache_folder() == cache
