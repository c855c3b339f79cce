"""The search: what it does when int8 is fast enough and when not, what it gives, and that nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
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
from ocrslim.errors import InputError, VerifyError
from ocrslim.export import verify
from ocrslim.lock import alone_in
from ocrslim.pruned import PruneSettings
from ocrslim.report.search import search_table
from ocrslim.searching import INT8, SEARCH, Found, parts_of, search
from ocrslim.slimming.training import data as data_module

NAME = "PP-OCRv6_tiny_rec"
PARTS = (INT8, *parts_of(0))
HALF = {"int8": 0.5, "pruned": 0.75, "pruned-int8": 0.4}


class Parts:
    """Stands for compress, prune and the clock: writes what they would leave and remembers what was asked."""

    def __init__(self, times: Mapping[str, float], held: Mapping[str, float]) -> None:
        self.times, self.held = times, held
        self.lost, self.reached = 0.2, True  # of what is pruned
        self.rewritten = 1.0  # time of the float model as its engine likes it
        self.delivered: dict[str, str] = {}
        self.failing = ""  # folder of a part
        self.runs: list[CompressSettings] = []
        self.prunings: list[PruneSettings] = []

    def compress(self, model: object, settings: CompressSettings, console: object) -> dict[str, Any]:
        self.runs.append(settings)
        if settings.out.name == self.failing:
            raise VerifyError("the exported model does not agree")
        points = self.held[settings.out.name]
        result = {
            "engine": "openvino",
            "delivered": self.delivered.get(settings.out.name, "int8"),
            "stages": [{"seconds": 60.0}],
            "latency": [{"label": "rewritten", "engine": "openvino", "ratio_on_engine": self.rewritten}],
            "drop": {"openvino": {"points": points + 0.1, "low": points - 1, "high": points + 1}},
            "budget": {"kept": points <= settings.max_drop, "drop": {"points": points}},
            "cpu": {"model": "Some CPU"},
        }
        return self._leave(settings.out, result)

    def prune(self, model: object, settings: PruneSettings, console: object) -> dict[str, Any]:
        self.prunings.append(settings)
        if settings.out.name == self.failing:
            raise VerifyError("the exported model does not agree")
        drop = {"points": self.lost, "low": -1.0, "high": 1.0}
        told = {"engine": "openvino", "drop": {"openvino": drop}, "held": drop, "delivered": "pruned"}
        told |= {"stages": [{"seconds": 60.0}], "pruning": {"reached": self.reached}}
        return self._leave(settings.out, told)

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
        both = held.get("both", 0.1)
        parts = Parts(times, {"int8": held.get("int8", 0.0), "pruned-int8": both, "pruned-2-int8": both})
        parts.lost = held.get("pruned", 0.2)
        monkeypatch.setattr(searching, "compress", parts.compress)
        monkeypatch.setattr(searching, "prune_and_distil", parts.prune)
        monkeypatch.setattr(searching, "bench", parts.bench)
        monkeypatch.setattr(searching, "try_report", lambda runs, console, out, times: out.write_text(f"{times}"))
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
    assert (tmp_path / "report.html").read_text() == "[0.5, 0.75, 0.4]"  # those of one moment
    assert result["verdict"] == (
        "pruned-int8: 2.50 times as fast as float, 0.20 points lost; 2.4 times within 0.3 points was asked"
    )


@pytest.mark.parametrize(("failing", "given", "done"), [("pruned", "int8", 1), ("pruned-int8", "int8", 2)])
def test_a_part_that_fails_does_not_take_those_before_it_away(
    failing: str, given: str, done: int, stand: Callable[..., Parts], tmp_path: Path
) -> None:
    parts = stand()
    parts.failing = failing
    result = search(NAME, CompressSettings("openvino", tmp_path), 2.4)
    assert (result["chosen"], len(result["found"])) == (given, done)
    assert result["failed"] == "the exported model does not agree"
    assert result["verdict"].endswith("what came next failed: the exported model does not agree")
    assert (tmp_path / "model.onnx").read_text() == given
    parts.failing = ""
    assert search(NAME, CompressSettings("openvino", tmp_path), 2.4)["chosen"] == "pruned-int8"


def test_what_rewriting_gained_is_not_cut_again(stand: Callable[..., Parts], tmp_path: Path) -> None:
    parts = stand()
    parts.rewritten = 0.8  # of the 2 that int8 has made, 1.25 are the graph's
    search(NAME, CompressSettings("openvino", tmp_path), 2.4)
    assert parts.prunings[0].speedup == pytest.approx(2.4 * 0.5 / 0.8 * searching.SPARE)


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
    assert result["found"][0]["points"] == 0.0
    assert (result["chosen"], result["reached"]) == ("pruned", True)  # float with fewer channels, within the budget
    parts.lost = 0.4
    other = search(NAME, CompressSettings("openvino", tmp_path / "other"), 1.3)
    assert other["chosen"] == "int8"  # which is the float model; the pruned one loses too much


def test_another_choice_leaves_no_files_of_the_first_and_all_of_the_users(
    stand: Callable[..., Parts], tmp_path: Path
) -> None:
    stand()
    (tmp_path / "labels.txt").write_text("mine")
    first = search(NAME, CompressSettings("openvino", tmp_path), 2.4)
    assert first["given"] == ["model.onnx", "result.json"]
    told = json.loads((tmp_path / SEARCH).read_text())
    (tmp_path / SEARCH).write_text(json.dumps(told | {"given": ["model.onnx", "extra.bin", "../outside"]}))
    (tmp_path / "int8.onnx").write_text("of an earlier choice")
    (tmp_path / "extra.bin").write_text("the same")
    search(NAME, CompressSettings("openvino", tmp_path), 2.4)
    assert not (tmp_path / "int8.onnx").exists()
    assert not (tmp_path / "extra.bin").exists()
    assert (tmp_path / "model.onnx").read_text() == "pruned-int8"
    assert (tmp_path / "labels.txt").read_text() == "mine"


def test_another_model_in_the_folder_is_not_ours_to_delete(stand: Callable[..., Parts], tmp_path: Path) -> None:
    stand()
    for name in ("inference.pdmodel", "inference.pdiparams", "inference.yml", "dictionary.txt"):
        (tmp_path / name).write_text("mine")
    search(NAME, CompressSettings("openvino", tmp_path), 1.9)
    for name in ("inference.pdmodel", "inference.pdiparams", "inference.yml", "dictionary.txt"):
        assert (tmp_path / name).read_text() == "mine"


def test_a_search_that_ran_out_of_time_goes_on_as_if_it_had_not(stand: Callable[..., Parts], tmp_path: Path) -> None:
    parts = stand()
    short = CompressSettings("openvino", tmp_path, max_minutes=1.5)
    assert [item["part"] for item in search(NAME, short, 2.4)["found"]] == ["int8", "pruned"]
    result = search(NAME, CompressSettings("openvino", tmp_path), 2.4)
    assert (result["chosen"], result["reached"]) == ("pruned-int8", True)
    assert len(parts.prunings) == 1  # no second round: the first has reached what was asked
    again = search(NAME, short, 2.4)  # parts that are done need no time
    assert [item["part"] for item in again["found"]] == list(PARTS)
    assert again["chosen"] == "pruned-int8"


def test_the_models_own_folder_is_no_place_for_a_search(zoo: Callable[[str], Path]) -> None:
    model = zoo(NAME)
    with pytest.raises(InputError, match="is the folder of the model itself"):
        search(str(model), CompressSettings("openvino", model.parent), 2.0)
    assert model.is_file()


def test_a_round_that_keeps_the_budget_and_is_too_slow_is_followed_by_another(
    stand: Callable[..., Parts], tmp_path: Path
) -> None:
    times = {**HALF, "pruned-int8": 0.45, "pruned-2": 0.6, "pruned-2-int8": 0.35}
    parts = stand(times)
    result = search(NAME, CompressSettings("openvino", tmp_path), 2.5)
    first, second = parts.prunings
    assert first.speedup == pytest.approx(2.5 * 0.5 * searching.SPARE)
    assert second.speedup == pytest.approx(first.speedup * 2.5 * 0.45 * searching.SPARE)
    assert [item["part"] for item in result["found"]] == [*PARTS, *parts_of(1)]
    assert (result["chosen"], result["reached"]) == ("pruned-2-int8", True)


@pytest.mark.parametrize(("both", "reached"), [(0.9, True), (0.1, False)])
def test_no_other_round_where_it_can_bring_nothing(
    stand: Callable[..., Parts], tmp_path: Path, both: float, reached: bool
) -> None:
    """More channels gone lose more, and where no channel pays any more there is none to cut."""
    parts = stand(both=both)
    parts.reached = reached
    result = search(NAME, CompressSettings("openvino", tmp_path), 2.6)
    assert len(parts.prunings) == 1
    assert not result["reached"]


@pytest.mark.parametrize(
    ("given", "steps"),
    [({}, None), ({"effort": "quick"}, 1250), ({"effort": "max"}, 10000), ({"steps": 7, "learning_rate": 2e-4}, 7)],
)
def test_pruning_trains_as_long_as_was_asked(
    stand: Callable[..., Parts], tmp_path: Path, given: dict[str, Any], steps: int | None
) -> None:
    parts = stand()
    search(NAME, CompressSettings("openvino", tmp_path, **given), 2.4)
    (pruning,) = parts.prunings
    assert pruning.steps == steps
    assert pruning.learning_rate == given.get("learning_rate")


def test_the_last_part_gets_the_minutes_that_are_left(stand: Callable[..., Parts], tmp_path: Path) -> None:
    parts = stand()
    search(NAME, CompressSettings("openvino", tmp_path, max_minutes=5.0), 2.4)  # a minute each for int8 and pruning
    assert parts.runs[0].max_minutes == 5.0
    assert parts.runs[1].max_minutes == pytest.approx(3.0, abs=0.1)


def test_a_part_that_has_no_time_is_left_out(stand: Callable[..., Parts], tmp_path: Path) -> None:
    parts = stand()
    result = search(NAME, CompressSettings("openvino", tmp_path, max_minutes=1.5), 2.4)
    assert len(parts.prunings) == len(parts.runs) == 1
    assert [item["part"] for item in result["found"]] == ["int8", "pruned"]


def test_what_an_earlier_search_wanted_does_not_steer_a_new_one(stand: Callable[..., Parts], tmp_path: Path) -> None:
    stand()
    search(NAME, CompressSettings("openvino", tmp_path), 2.4)
    for part in PARTS:
        shutil.rmtree(tmp_path / part)
    parts = stand()
    search(NAME, CompressSettings("openvino", tmp_path), 2.2)
    assert parts.prunings[0].speedup == pytest.approx(2.2 * 0.5 * searching.SPARE)


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
    stand(int8=int8, both=both, pruned=0.9)
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
    less = Found("int8", 0.9, 1.0, 0.0, 2.0, 1.0, kept=False)
    assert searching._choose([less, Found("pruned", 0.8, 2.0, 1.0, 3.0, 2.0, kept=False)], 2.0) is less


@pytest.mark.slow
def test_a_real_search(zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but its size is real: channels are cut by the clock, both models are trained, int8 and timed."""
    zoo(NAME)
    monkeypatch.setattr(data_module, "RENDERED", {"rec": 60, "det": 6})
    monkeypatch.setattr(data_module, "CALIBRATION_IMAGES", {"rec": 16, "det": 2})
    monkeypatch.setattr(compressing, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr(searching, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr(pruned, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr("ocrslim.slimming.pruning.cost.SECONDS", 0.0)
    monkeypatch.setattr(searching, "STEPS", {"rec": 8, "det": 4})  # of which quick takes a quarter
    monkeypatch.setattr(learning, "STEPS", {"rec": 2, "det": 1})
    monkeypatch.setattr(verify, "REQUIRED_AGREEMENT", 0.8)
    arguments = ["compress", NAME, "--target", "openvino", "--speedup", "9", "--effort", "quick", "--max-drop", "100"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / SEARCH).read_text("utf-8"))
    assert [item["part"] for item in result["found"]][:3] == list(PARTS)
    assert all(0 < item["time"] < 3 for item in result["found"])
    assert not result["reached"]
    assert {"model.onnx", "result.json", "report.html", SEARCH} <= {path.name for path in tmp_path.iterdir()}
    judged = json.loads((tmp_path / "pruned-int8/result.json").read_text("utf-8"))
    assert judged["settings"]["reference"]
