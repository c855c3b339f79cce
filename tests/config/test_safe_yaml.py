"""YAML made to hurt: it is refused at once, with the line; what people write is not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.config.located import DEEPEST, MOST, read_located
from ocrslim.config.safe_yaml import check_yaml
from ocrslim.errors import InputError

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)
MERGES = "m0: &m0 {k0: 1}\n" + "".join(
    f"m{level}: &m{level} {{<<: [{', '.join([f'*m{level - 1}'] * 20)}], k{level}: 1}}\n" for level in range(1, 9)
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc: -", max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)


def size(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + size(item) for item in value.values())
    return 1 + sum(map(size, value)) if isinstance(value, list) else 1


def depth(value: object) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(values)
def test_the_bounds_are_met_to_the_value(value: object) -> None:
    text = yaml.safe_dump(value)
    most, deepest = size(value), depth(value)
    check_yaml(text, deepest, most)
    with pytest.raises(yaml.YAMLError, match="more than"):
        check_yaml(text, deepest, most - 1)
    if deepest:
        with pytest.raises(yaml.YAMLError, match="deep"):
            check_yaml(text, deepest - 1, most)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, f"more than {MOST} values"),
        (MERGES, f"more than {MOST} values"),
        ("a: " + "[" * 100_000, f"nested more than {DEEPEST} deep"),
        ("a: " + "[" * 30_000 + "]" * 30_000, f"nested more than {DEEPEST} deep"),
        ("a: " + "{a: " * 30_000, f"nested more than {DEEPEST} deep"),
        ("\n".join(" " * level + "a:" for level in range(900)), f"nested more than {DEEPEST} deep"),
        ("- " * 50_000 + "a", f"nested more than {DEEPEST} deep"),
        ("a: &x {b: *x}", "x holds itself"),
        ("a: " + "1:" * 100_000 + "1", "a number of 200001 characters"),
        ("a: !!int '" + "1:" * 100_000 + "1'", "a number of 200001 characters"),
        ("a: " + "9" * 100_000, "a number of 100000 characters"),
        ("a: 2001-" + "1" * 100_000, "a number of"),
        ("x\n" * 40_000 + ": [", "not valid YAML"),
    ],
    ids=range(13),
)
def test_bombs_are_refused_at_once_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    started = time.process_time()
    with pytest.raises(InputError, match=said) as caught:
        read_located(path)
    assert time.process_time() - started < 2
    assert str(caught.value).startswith(f"{path}:")
    assert len(str(caught.value)) < 600


def test_aliases_as_people_use_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("length: &n 25\nshape: &s [3, 48, 320]\na: {n: *n, s: *s}\nb: {n: *n, s: *s}\n", encoding="utf-8")
    root = read_located(path).value
    assert [item.value for item in root["b"].value["s"].value] == [3, 48, 320]
    assert root["a"].value["n"].value == 25


def test_long_texts_are_no_numbers() -> None:
    check_yaml("a: " + "x" * 10_000 + "\nb: '" + "1" * 10_000 + "'\nc: \"" + "1:" * 1000 + '"', 2, 10)
