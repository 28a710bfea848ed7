from __future__ import annotations

from pathlib import Path

import pytest

from compress.errors import UsageError
from compress.yaml_source import Source, parse_yaml, path_of, place_of, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("-2.", -2.0),
        ("3", 3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        (".inf", float("inf")),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("12:30:00", "12:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("1_000", "1_000"),
        ("resnet8", "resnet8"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    read = parse_yaml(f"key: {text}").data["key"]
    assert read == value
    assert type(read) is type(value)


def test_every_place_knows_its_line() -> None:
    source = parse_yaml("a: 1\nb:\n  - c: 2\n  - d:\n      e: 3\n", "file.yaml")
    assert source.data == {"a": 1, "b": [{"c": 2}, {"d": {"e": 3}}]}
    for place, line in {
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 0, "c"): 3,
        ("b", 1, "d"): 4,
        ("b", 1, "d", "e"): 5,
    }.items():
        assert source.fault(place, "wrong").line == line
    missing = source.fault(("b", 1, "d", "missing"), "is missing")
    assert (missing.where, missing.file, missing.line) == ("b[1].d.missing", "file.yaml", 4)


def test_duplicate_keys_are_faults_with_both_lines() -> None:
    source = parse_yaml("a: 1\nb: 2\na: 3\n", "file.yaml")
    assert [str(fault) for fault in source.faults] == ["file.yaml:3: a: this key was already given on line 1"]
    assert source.data == {"a": 1, "b": 2}


def test_anchors_and_merges_are_read_and_own_keys_win() -> None:
    source = parse_yaml("base: &base {x: 1, y: 2}\nmore: {<<: *base, y: 3}\nboth: {<<: [*base, {z: 4, x: 9}]}\n")
    assert source.data["more"] == {"x": 1, "y": 3}
    assert source.data["both"] == {"x": 1, "y": 2, "z": 4}
    assert not source.faults


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !secret x", "tag"),
        ("a: &loop [*loop]", "alias may not contain itself"),
        ("? [1, 2]\n: 3", "key must be a plain name"),
        ("a: {<<: 3}", "must be given a mapping"),
    ],
)
def test_what_is_not_plain_data_is_a_fault(text: str, message: str) -> None:
    assert message in str(parse_yaml(text).faults[0])


@pytest.mark.parametrize("text", ["a: [1, 2", "a: 1\n\tb: 2", "a: 'x", "a: *nowhere", "a: 1\n---\nb: 2", "\x00"])
def test_broken_yaml_is_one_message_with_its_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_yaml(text, "file.yaml")
    assert len(caught.value.faults) == 1
    assert "is not valid YAML" in str(caught.value)


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="is a folder"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


def test_an_empty_file_holds_nothing() -> None:
    assert parse_yaml("").data is None
    assert parse_yaml("# only a comment\n").data is None


def test_paths_and_places_are_inverse() -> None:
    for text in ("a", "stages[1].prune.keep", "a.b[0][2].c"):
        assert path_of(place_of(text)) == text
    for text in ("", ".a", "a.", "a..b", "a[x]", "[0]", "a[0", "a b]"):
        with pytest.raises(ValueError, match="is no address"):
            place_of(text)


def test_set_makes_mappings_and_forgets_lines() -> None:
    source = parse_yaml("a: {b: {c: 1}}\nl: [1, {x: 2}]\n", "file.yaml")
    source.set(("a", "b"), {"d": 5})
    source.set(("new", "deep", "er"), 1)
    source.set(("l", 1, "x"), 3)
    assert source.data == {"a": {"b": {"d": 5}}, "l": [1, {"x": 3}], "new": {"deep": {"er": 1}}}
    assert str(source.fault(("a", "b", "d"), "wrong")) == "--set: a.b.d: wrong"
    assert str(source.fault(("a",), "wrong")) == "file.yaml:1: a: wrong"
    for place in (("l", 2), ("l", "x"), ("a", "b", "d", "e"), ("l", 0, "x")):
        with pytest.raises(ValueError, match=r"items, counted from 0|is not a mapping"):
            source.set(place, 1)


def test_a_source_without_a_file_gives_faults_without_one() -> None:
    assert str(Source({}).fault(("a",), "wrong")) == "a: wrong"
