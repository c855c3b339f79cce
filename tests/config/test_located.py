"""YAML with line numbers: what is read, and that each mistake names its file, line, key and the nearest name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.config.located import Located, Section, nearest, read_located
from ocrslim.errors import InputError

KNOWN = ("name", "count", "rate", "flag", "names", "rates", "kind")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def to(text: str) -> Path:
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to


def plain(node: Located) -> Any:
    """Take the lines out again."""
    if isinstance(node.value, dict):
        return {key: plain(item) for key, item in node.value.items()}
    return [plain(item) for item in node.value] if isinstance(node.value, list) else node.value


def section(text: str, tmp_path: Path, known: tuple[str, ...] = KNOWN) -> Section:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    return Section(read_located(path), "Part", known)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-10, 10) | st.text("abcxyz -_", max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_reads_what_pyyaml_reads(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("y") / "x.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    assert plain(read_located(path)) == yaml.safe_load(yaml.safe_dump(value))


def test_every_value_knows_the_line_of_its_key(write: Callable[[str], Path]) -> None:
    path = write("a: 1\nb:\n  c: [x,\n    y]\n  d:\ne: &n 25\nf: *n\n")
    root = read_located(path).value
    inner = root["b"].value
    lines = {
        "a": root["a"],
        "b": root["b"],
        "c": inner["c"],
        "y": inner["c"].value[1],
        "d": inner["d"],
        "e": root["e"],
        "f": root["f"],
    }
    found = {name: int(node.where.rsplit(":", 1)[1]) for name, node in lines.items()}
    assert found == {"a": 1, "b": 2, "c": 3, "y": 4, "d": 5, "e": 6, "f": 7}
    assert root["f"].value == 25
    assert all(node.where.startswith(str(path)) for node in lines.values())


def test_merges_and_a_byte_order_mark_are_read(write: Callable[[str], Path]) -> None:
    path = write("\ufeffbase: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\n")
    assert plain(read_located(path))["more"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a: [1\nb: 2", ":2: not valid YAML"),
        ("a: 1\na: 2\n", ":2: a is named twice"),
        ("a: &x [*x]", "deep"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: !!python/object:x.Y {}", "not valid YAML"),
        ("a: !!python/name:os.system", "not valid YAML"),
        ("a: *nothing", "not valid YAML"),
        ("a: 1\nb: !!int ''", "x.yaml:2: not valid YAML ('' can't be read as int)"),
        ("a: !!bool x", ":1: not valid YAML ('x' can't be read as bool)"),
        ("a: !!timestamp x", "'x' can't be read as timestamp"),
        ("a: 2001-13-01", "'2001-13-01' can't be read as timestamp"),
    ],
)
def test_what_is_not_yaml_is_refused_in_one_line(write: Callable[[str], Path], text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_located(write(text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "x.yaml" in str(caught.value)


def test_missing_binary_and_huge_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such configuration file"):
        read_located(tmp_path / "gone.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="UTF-8"):
        read_located(tmp_path / "b.yaml")
    (tmp_path / "h.yaml").write_bytes(b"#" * (5 << 20))
    with pytest.raises(InputError, match="at most"):
        read_located(tmp_path / "h.yaml")


def test_an_unknown_key_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"s\.yaml:2: Part\.cuont is unknown; did you mean count\?"):
        section("name: x\ncuont: 3\n", tmp_path)
    with pytest.raises(InputError, match=r"Part\.zzzz is unknown; known are name, count"):
        section("zzzz: 3\n", tmp_path)


@pytest.mark.parametrize("text", ["- a\n", "just text\n", "3\n"])
def test_a_section_is_a_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="Part must be a mapping"):
        section(text, tmp_path)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("3", 3.0),
        ("5e-5", 5e-5),
        ("5.0e-05", 5e-5),
        ("1./255.", 1 / 255),
        ("'1/255'", 1 / 255),
        (".5", 0.5),
        ("'0.25'", 0.25),
        ("1e3", 1000.0),
        (r'"2\x1f"', 2.0),
    ],
)
def test_numbers_in_all_their_spellings(tmp_path: Path, value: str, number: float) -> None:
    assert section(f"rate: {value}", tmp_path).number("rate") == pytest.approx(number)


@pytest.mark.parametrize(
    "value", ["true", "x", "[1]", "{a: 1}", "1/0", "-1", "1e999", ".nan", ".inf", "1/2/3", "'1 2'"]
)
def test_what_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(InputError, match=r"s\.yaml:1: Part\.rate must be a number of at least 0"):
        section(f"rate: {value}", tmp_path).number("rate")


@given(st.text(max_size=20))
def test_any_text_is_a_number_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("n") / "x.yaml"
    path.write_text(yaml.safe_dump({"rate": text}), encoding="utf-8")
    part = Section(read_located(path), "Part", ("rate",))
    try:
        found = part.number("rate", least=-1e9, most=1e9)
    except InputError:
        return
    assert -1e9 <= found <= 1e9


@pytest.mark.parametrize(
    ("call", "text", "expected"),
    [
        (lambda s: s.text("name"), "name: abc", "abc"),
        (lambda s: s.text("name", "d"), "count: 1", "d"),
        (lambda s: s.text("name", "d"), "name:", "d"),
        (lambda s: s.optional_text("name"), "name: None", None),
        (lambda s: s.optional_text("name"), "name: x", "x"),
        (lambda s: s.integer("count"), "count: 4", 4),
        (lambda s: s.integer("count"), "count: 4.0", 4),
        (lambda s: s.integer("count", 7), "", 7),
        (lambda s: s.flag("flag", False), "flag: True", True),
        (lambda s: s.flag("flag", True), "", True),
        (lambda s: s.texts("names"), "names: [a, b]", ("a", "b")),
        (lambda s: s.texts("names"), "names: a", ("a",)),
        (lambda s: s.numbers("rates"), "rates: [1, 2.5]", (1.0, 2.5)),
        (lambda s: s.numbers("rates"), "rates: 2", (2.0,)),
        (lambda s: s.choice("kind", ("a", "b"), "a"), "kind: b", "b"),
        (lambda s: len(s.items("names")), "names: [a, b]", 2),
        (lambda s: s.items("names"), "", []),
        (lambda s: list(s), "name: x\nflag:", ["name", "flag"]),
        (lambda s: "flag" in s, "flag:", False),
    ],
)
def test_values_are_read_by_their_type(
    tmp_path: Path, call: Callable[[Section], Any], text: str, expected: Any
) -> None:
    assert call(section(text or "{}", tmp_path)) == expected


@pytest.mark.parametrize(
    ("call", "text", "said"),
    [
        (lambda s: s.text("name"), "count: 1", "name is missing; expected a text"),
        (lambda s: s.text("name"), "name: 3", "must be a text, got 3"),
        (lambda s: s.text("name"), "name: ''", "must be a text"),
        (lambda s: s.integer("count"), "count: 1.5", "must be a whole number of at least 0, got 1.5"),
        (lambda s: s.integer("count", None, 2), "count: 1", "at least 2"),
        (lambda s: s.integer("count"), "count: true", "whole number"),
        (lambda s: s.flag("flag", False), "flag: 1", "must be true or false"),
        (lambda s: s.flag("flag", False), "flag: 'yes!'", "must be true or false"),
        (lambda s: s.texts("names"), "names: [a, 1]", "must be a list of texts"),
        (lambda s: s.numbers("rates"), "rates: [1, x]", "must be a list of numbers, got a list"),
        (lambda s: s.numbers("rates", None, 3), "rates: [1, 2]", "a list of 3 numbers"),
        (lambda s: s.items("names"), "names: {a: 1}", "must be a list, got a mapping"),
        (lambda s: s.choice("kind", ("left", "right")), "kind: lfet", "did you mean left?"),
        (lambda s: s.number("rate", most=1.0), "rate: 2", "from 0 to 1, got 2"),
    ],
)
def test_wrong_types_name_file_line_and_key(
    tmp_path: Path, call: Callable[[Section], Any], text: str, said: str
) -> None:
    part = section(text, tmp_path)
    with pytest.raises(InputError) as caught:
        call(part)
    assert said in str(caught.value)
    assert "s.yaml:1: Part." in str(caught.value)


def test_asking_for_an_undeclared_key_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        section("name: x", tmp_path).node("other")


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("Epochs", ["epochs"], "did you mean epochs?"),
        ("QuantAwre", ["QuantAware", "QuantPost"], "did you mean QuantAware?"),
        ("q", ["left", "right"], "known are left, right"),
    ],
)
def test_nearest(name: str, known: list[str], hint: str) -> None:
    assert nearest(name, known) == hint
