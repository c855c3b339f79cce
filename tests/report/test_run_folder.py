"""A damaged ``result.json`` is told of in one line that names the file, what was expected and how to mend it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocrslim.errors import InputError
from ocrslim.report.html import report_page
from ocrslim.report.run_folder import read_run

Change = Callable[[dict[str, Any]], object]


def test_a_run_is_read(result: dict[str, Any], write_run: Callable[..., Path]) -> None:
    folder = write_run(result)
    for path in (folder, folder / "result.json"):
        run = read_run(path)
        assert run.folder == folder
        assert run.result == json.loads(json.dumps(result))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"result\.json: no such file; name a folder that `ocrslim compress` or `prune` wrote"
    ):
        read_run(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "damaged, JSON was expected"),
        (b'{"ocrslim": "0.1', "damaged, JSON was expected"),
        (b"\xff\xfe", "damaged, JSON was expected"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b"[" * 100_000, "damaged, JSON was expected"),
        (b"[]", "it is list, an object was expected"),
        (b"{}", "ocrslim is missing"),
        (b'{"metrics": {"pruned": {}}}', "not what `ocrslim prune` writes: ocrslim is missing"),
        (b'{"metrics": {"rewritten": {}}}', "not what `ocrslim compress --float` writes: ocrslim is missing"),
    ],
)
def test_what_is_no_result(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_run(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'result.json'}: ")
    assert told in str(caught.value)
    assert "run the command again with this --out" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.pop("verdict"), "verdict is missing"),
        (lambda r: r["model"].pop("name"), "model.name is missing"),
        (lambda r: r["model"].update(task="cls"), "model.task is cls, det or rec was expected"),
        (lambda r: r.update(latency={}), "latency is no list"),
        (lambda r: r["latency"][1].update(median_ms="1"), "latency[1].median_ms is str, int or float was expected"),
        (lambda r: r["budget"].update(kept=1), "budget.kept is int, bool was expected"),
        (lambda r: r["budget"].update(max_drop=True), "budget.max_drop is true or false"),
        (lambda r: r["budget"]["rungs"][2].update(divergence=1e300), "budget.rungs[2].divergence is 1e+300"),
        (lambda r: r["drop"]["openvino"].pop("low"), "drop.openvino.low is missing"),
        (
            lambda r: r["training"]["history"].append({"loss": []}),
            "training.history[2].loss is list, int or float was expected",
        ),
        (lambda r: r.update(metrics=1), "metrics is int, an object was expected"),
        (lambda r: r.update(engine="paddle"), "drop says nothing of paddle"),
        (lambda r: r["metrics"]["int8"].clear(), "int8 says nothing of openvino"),
        (lambda r: r["differences"].update(shown=[1]), "differences.shown[0] is int, an object was expected"),
    ],
)
def test_what_is_not_as_expected(
    result: dict[str, Any], write_run: Callable[..., Path], change: Change, told: str
) -> None:
    change(result)
    with pytest.raises(InputError) as caught:
        read_run(write_run(result))
    assert f"not what `ocrslim compress` writes: {told}; run" in str(caught.value)


def places(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [where, *(place for key, item in items for place in places(item, (*where, key)))]


@pytest.mark.parametrize("kind", ["int8", "rewritten", "pruned"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it is copied each time
@given(data=st.data())
def test_whatever_is_damaged_is_told_of_or_shown(
    kind: str, data: st.DataObject, result: dict[str, Any], tmp_path_factory: Any, of_kind: Any
) -> None:
    folder = tmp_path_factory.mktemp("run")
    damaged: Any = copy.deepcopy(of_kind(result, kind))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(damaged)[1:]))
        item = damaged
        for key in way:
            item = item[key]
        item[last] = data.draw(st.sampled_from([None, 0, -1, 1.5, True, "", "x", [], {}, [1], {"a": 1}, 10**14]))
    (folder / "result.json").write_text(json.dumps(damaged), encoding="utf-8")
    try:
        run = read_run(folder)
    except InputError:
        return
    report_page([run])  # no error
