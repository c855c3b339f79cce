"""The search: what it does when int8 is fast enough and when not, what it gives, and that nothing is done twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from ocrslim import compress as compressing
from ocrslim import learning, pruned, searching
from ocrslim.cli import main
from ocrslim.compress import CompressSettings
from ocrslim.errors import InputError
from ocrslim.export import verify
from ocrslim.lock import alone_in
from ocrslim.pruned import PruneSettings
from ocrslim.report.search import search_table
from ocrslim.searching import PARTS, SEARCH, Found, search
from ocrslim.slimming.training import data as data_module

NAME = "PP-OCRv6_tiny_rec"
HALF = {"int8": 0.5, "pruned": 0.75, "pruned-int8": 0.4}


class Parts:
    """Stands for compress, prune and the clock: writes what they would leave and remembers what was asked."""

    def __init__(self, times: Mapping[str, float], held: Mapping[str, float]) -> None:
        self.times, self.held = times, held
        self.delivered: dict[str, str] = {}
        self.runs: list[CompressSettings] = []
        self.prunings: list[PruneSettings] = []

    def compress(self, model: object, settings: CompressSettings, console: object) -> dict[str, Any]:
        self.runs.append(settings)
        points = self.held[settings.out.name]
        result = {
            "engine": "openvino",
            "delivered": self.delivered.get(settings.out.name, "int8"),
            "stages": [{"seconds": 60.0}],
            "drop": {"openvino": {"points": points + 0.1, "low": points - 1, "high": points + 1}},
            "budget": {"kept": points <= settings.max_drop, "drop": {"points": points}},
            "cpu": {"model": "Some CPU"},
        }
        return self._leave(settings.out, result)

    def prune(self, model: object, settings: PruneSettings, console: object) -> dict[str, Any]:
        self.prunings.append(settings)
        drop = {"points": 0.2, "low": -1.0, "high": 1.0}
        return self._leave(settings.out, {"engine": "openvino", "drop": {"openvino": drop}})

    def bench(self, models: Any, engines: Any, *given: Any, **named: Any) -> list[Any]:
        assert models[0][0] == "float"
        assert all(path.is_file() for _, path in models)
        return [SimpleNamespace(label=label, ratio_on_engine=self.times.get(label, 1.0)) for label, _ in models]

    @staticmethod
    def _leave(out: Path, result: dict[str, Any]) -> dict[str, Any]:
        out.mkdir(parents=True)
        (out / "model.onnx").write_text(out.name)
        (out / "log.txt").write_text("a log")
        (out / "result.json").write_text(json.dumps(result))
        return result


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, zoo: Callable[[str], Path]) -> Callable[..., Parts]:
    """Return a function that puts stand-ins in the place of the parts."""
    zoo(NAME)

    def put(times: Mapping[str, float] = HALF, **held: float) -> Parts:
        parts = Parts(times, {"int8": held.get("int8", 0.0), "pruned-int8": held.get("both", 0.1)})
        monkeypatch.setattr(searching, "compress", parts.compress)
        monkeypatch.setattr(searching, "prune_and_distil", parts.prune)
        monkeypatch.setattr(searching, "bench", parts.bench)
        monkeypatch.setattr(searching, "try_report", lambda runs, console, out: out.write_text(f"{len(runs)} runs"))
        return parts

    return put


def test_int8_alone_is_enough(stand: Callable[..., Parts], tmp_path: Path) -> None:
    parts = stand()
    result = search(NAME, CompressSettings("openvino", tmp_path), 1.9)
    assert result["chosen"] == "int8"
    assert result["reached"]
    assert not parts.prunings
    assert (tmp_path / "model.onnx").read_text() == "int8"
    assert json.loads((tmp_path / SEARCH).read_text()) == result
    assert not (tmp_path / "log.txt").exists()  # it stays with its part


def test_channels_go_where_it_is_not(stand: Callable[..., Parts], tmp_path: Path) -> None:
    parts = stand()
    result = search(NAME, CompressSettings("openvino", tmp_path, seed=3), 2.4)
    assert (result["chosen"], result["reached"]) == ("pruned-int8", True)
    (pruning,) = parts.prunings
    assert pruning.speedup == pytest.approx(2.4 * 0.5 * searching.SPARE)  # int8 has made 2 of it
    assert (pruning.seed, pruning.out) == (3, tmp_path / "pruned")
    assert parts.runs[1].reference is not None  # losses are counted from the model that came in
    assert parts.runs[0].reference is None
    assert [item["part"] for item in result["found"]] == list(PARTS)
    assert {item["part"] for item in result["found"] if item["front"]} == {"int8", "pruned-int8"}
    assert (tmp_path / "report.html").read_text() == "3 runs"
    assert result["verdict"] == (
        "pruned-int8: 2.50 times as fast as float, 0.20 points lost; 2.4 times within 0.3 points was asked"
    )


def test_nothing_is_done_twice(stand: Callable[..., Parts], tmp_path: Path) -> None:
    settings = CompressSettings("openvino", tmp_path)
    first = stand()
    search(NAME, settings, 2.4)
    again = stand()
    search(NAME, settings, 2.4)
    assert (len(first.runs), len(first.prunings)) == (2, 1)
    assert (len(again.runs), len(again.prunings)) == (0, 0)
    with pytest.raises(InputError, match=r"holds another search \(speedup was 2\.4, is 3"):
        search(NAME, settings, 3.0)


def test_pruning_goes_on_with_what_was_asked_of_it_though_the_clock_says_otherwise(
    stand: Callable[..., Parts], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CompressSettings("openvino", tmp_path)
    first = stand()

    def interrupted(*given: Any) -> None:
        first.prunings.append(given[1])
        raise KeyboardInterrupt

    monkeypatch.setattr(searching, "prune_and_distil", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(NAME, settings, 2.4)
    again = stand({"int8": 0.41, "pruned": 0.7, "pruned-int8": 0.4})  # fast enough by itself, says another day's clock
    search(NAME, settings, 2.4)
    assert again.prunings == first.prunings
    assert [settings.out.name for settings in again.runs] == ["pruned-int8"]  # the first part was done


def test_a_request_that_failed_at_once_may_be_corrected(stand: Callable[..., Parts], tmp_path: Path) -> None:
    stand()
    wrong = CompressSettings("openvino", tmp_path, data=tmp_path / "trian.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "compress", lambda *given: (_ for _ in ()).throw(InputError("no such label file")))
        with pytest.raises(InputError, match="no such label file"):
            search(NAME, wrong, 1.9)
    assert search(NAME, CompressSettings("openvino", tmp_path), 1.9)["chosen"] == "int8"


def test_no_part_begins_after_the_minutes(stand: Callable[..., Parts], tmp_path: Path) -> None:
    parts = stand()
    result = search(NAME, CompressSettings("openvino", tmp_path, max_minutes=0.5), 2.4)  # int8 took one minute
    assert not parts.prunings
    assert not result["reached"]


def test_a_second_search_in_the_folder_is_told_of_the_first(stand: Callable[..., Parts], tmp_path: Path) -> None:
    stand()
    with alone_in(tmp_path), pytest.raises(InputError, match=rf"process {os.getpid()} on .*wait for it"):
        search(NAME, CompressSettings("openvino", tmp_path), 1.5)
    search(NAME, CompressSettings("openvino", tmp_path), 1.5)
    assert not (tmp_path / ".lock").exists()


def test_where_int8_is_no_faster_the_float_model_is_what_is_timed_and_given(
    stand: Callable[..., Parts], tmp_path: Path
) -> None:
    parts = stand({"int8": 1.0, "pruned": 0.7, "pruned-int8": 0.75})
    parts.delivered = {"int8": "float", "pruned-int8": "float"}
    result = search(NAME, CompressSettings("openvino", tmp_path), 1.3)
    assert [item["part"] for item in result["found"]] == ["int8", "pruned"]
    assert (result["found"][0]["points"], result["chosen"]) == (0.0, "int8")


def test_another_choice_leaves_no_files_of_the_first(stand: Callable[..., Parts], tmp_path: Path) -> None:
    stand()
    search(NAME, CompressSettings("openvino", tmp_path), 2.4)
    (tmp_path / "int8.onnx").write_text("of an earlier choice")
    search(NAME, CompressSettings("openvino", tmp_path), 2.4)
    assert not (tmp_path / "int8.onnx").exists()
    assert (tmp_path / "model.onnx").read_text() == "pruned-int8"


@pytest.mark.parametrize(
    ("int8", "both", "chosen", "said"),
    [
        (0.1, 0.9, "int8", "asked and not reached"),  # the faster one loses too much
        (0.5, 0.9, "pruned-int8", "nothing that was tried keeps the budget"),  # of those fast enough the best
    ],
)
def test_what_loses_too_much_is_not_given_for_speed(
    stand: Callable[..., Parts], tmp_path: Path, int8: float, both: float, chosen: str, said: str
) -> None:
    stand(int8=int8, both=both)
    result = search(NAME, CompressSettings("openvino", tmp_path), 2.4)
    assert result["chosen"] == chosen
    assert not result["reached"]
    assert said in result["verdict"]


def test_the_table_tells_the_fastest_first(stand: Callable[..., Parts], tmp_path: Path) -> None:
    stand()
    result = search(NAME, CompressSettings("openvino", tmp_path), 2.4)
    console = Console(width=120, record=True, quiet=False, file=(tmp_path / "x").open("w"))
    console.print(search_table(result))
    lines = [line.split() for line in console.export_text().splitlines()]
    rows = [[cell for cell in line if cell not in "│┃"] for line in lines if line and line[0] == "│"]
    assert [row[0] for row in rows] == ["pruned-int8", "int8", "pruned", "float"]
    assert rows[0][1:3] == ["2.50", "+0.20"]
    assert rows[0][-2:] == ["kept", "*<"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "paddle", "--speedup", "2"], "--speedup: for onnxruntime or openvino"),
        (["--target", "openvino", "--speedup", "0.9"], "--speedup 0.9 is no gain"),
        (["--target", "openvino", "--speedup", "nan"], "--speedup nan is no gain"),
        (["--target", "openvino", "--speedup", "2", "--ptq-only"], "leave out --ptq-only"),
        (["--target", "openvino", "--float", "--speedup", "2"], "leave out --speedup"),
    ],
)
def test_mistakes_are_told(
    zoo: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    zoo(NAME)
    assert main(["compress", NAME, "--out", str(tmp_path / "o"), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_of_models_that_all_miss_the_least_loss_is_given() -> None:
    slow = Found("int8", 0.9, 1.0, 0.0, 2.0, 1.0, kept=False)
    assert searching._choose([slow, Found("pruned", 0.8, 0.0, 0.0, 0.0, None, kept=False)], 2.0) is slow


@pytest.mark.slow
def test_a_real_search(zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but its size is real: channels are cut by the clock, both models are trained, int8 and timed."""
    zoo(NAME)
    monkeypatch.setattr(data_module, "RENDERED", {"rec": 60, "det": 6})
    monkeypatch.setattr(data_module, "CALIBRATION_IMAGES", {"rec": 16, "det": 2})
    monkeypatch.setattr(compressing, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr(searching, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr(pruned, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr(pruned, "STEPS", {"rec": 2, "det": 1})
    monkeypatch.setattr(learning, "STEPS", {"rec": 2, "det": 1})
    monkeypatch.setattr(verify, "REQUIRED_AGREEMENT", 0.8)
    arguments = ["compress", NAME, "--target", "openvino", "--speedup", "9", "--effort", "quick", "--max-drop", "100"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / SEARCH).read_text("utf-8"))
    assert [item["part"] for item in result["found"]] == list(PARTS)
    assert all(0 < item["time"] < 3 for item in result["found"])
    assert not result["reached"]
    assert {"model.onnx", "result.json", "report.html", SEARCH} <= {path.name for path in tmp_path.iterdir()}
    judged = json.loads((tmp_path / "pruned-int8/result.json").read_text("utf-8"))
    assert judged["settings"]["reference"]
