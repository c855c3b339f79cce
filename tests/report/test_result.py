"""``result.json`` is whole or not there, and says nothing that JSON cannot."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ocrslim import atomic
from ocrslim.report.result import (
    budget_in_words,
    chosen_rung,
    doubt_of_labels,
    over_budget,
    sha256_of,
    title_of,
    verdict,
    write_json,
    write_text,
)


def test_json_goes_and_comes_back(tmp_path: Path) -> None:
    data = {"模型": "PP-OCRv4", "metrics": {"accuracy": 0.6002}, "none": None, "list": [1, 2.5]}
    path = tmp_path / "result.json"
    write_json(path, data)
    assert json.loads(path.read_text(encoding="utf-8")) == data
    assert "模型" in path.read_text(encoding="utf-8")
    assert [item.name for item in tmp_path.iterdir()] == ["result.json"]


def test_without_labels_the_verdict_speaks_of_agreement() -> None:
    said = verdict(_measured(0.78, metric="accuracy", points=2.5), "openvino")
    assert "accuracy lost" in said
    result = _measured(0.78, metric="accuracy", points=2.5)
    result["drop"]["openvino"]["against"] = "float"
    said = verdict(result, "openvino")
    assert "no labels: 2.50 % of the lines read otherwise than float reads them" in said
    assert "lost" not in said
    result["drop"]["openvino"]["metric"] = "hmean"
    assert "2.50 points of hmean away from the boxes that float finds" in verdict(result, "openvino")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_lacks_is_refused_and_the_old_file_stays(tmp_path: Path, value: float) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": value})
    assert json.loads(path.read_text()) == {"a": 1}


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new" * 1000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_written_in_utf8_with_its_own_newlines(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "一\r\n二\n")
    assert (tmp_path / "a.txt").read_bytes() == "一\r\n二\n".encode()


def test_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than one read
    path = tmp_path / "data.bin"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_sha256_of_a_folder_follows_names_and_contents(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, bytes]) -> Path:
        for file, content in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / name

    first = sha256_of(folder("a", {"x.png": b"1", "sub/y.png": b"2"}))
    assert sha256_of(folder("b", {"sub/y.png": b"2", "x.png": b"1"})) == first  # wherever it lies
    assert sha256_of(folder("c", {"x.png": b"1", "sub/z.png": b"2"})) != first
    assert sha256_of(folder("d", {"x.png": b"1", "sub/y.png": b"3"})) != first


def test_sha256_of_a_folder_is_that_of_names_sizes_and_beginnings(tmp_path: Path) -> None:
    """Beyond its first megabyte only a file's size counts: a folder of images is hashed in seconds."""
    for name, last in (("a", b"1"), ("b", b"2"), ("c", b"12")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.bin").write_bytes(b"0" * (1 << 20) + last)
    first, same, longer = (sha256_of(tmp_path / name) for name in "abc")
    assert first == same
    assert longer != first
    assert sha256_of(tmp_path) not in (first, longer)


def test_names_that_are_not_utf8_are_written_and_hashed(tmp_path: Path) -> None:
    """As those of files from an old archive are; Linux keeps them as the bytes they are."""
    name = os.fsdecode("中文.png".encode("gbk"))
    try:
        (tmp_path / name).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such name")
    digest = sha256_of(tmp_path)
    (tmp_path / name).rename(tmp_path / os.fsdecode("文.png".encode("gbk")))
    assert sha256_of(tmp_path) != digest
    write_json(tmp_path / "a.json", {"skipped": name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"skipped": name}
    write_text(tmp_path / "a.txt", name)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8").startswith("\\udc")


def test_a_loss_on_eval_beyond_the_budget_is_said() -> None:
    """The held-back part held the budget; the images that steered nothing do not."""
    told = _measured(0.7) | {"engine": "openvino", "settings": {"eval": "val.txt"}}
    told["budget"] = {"max_drop": 0.3, "kept": True}
    assert over_budget(told) == (
        "NOT within the budget of 0.3 points on --eval: 0.31 lost there (-0.25 to +0.87, 1601 images)"
    )
    for change in (
        {"settings": {"eval": None}},  # judged on the held-back part itself, of which the budget speaks
        {"budget": {"max_drop": 0.4, "kept": True}},
        {"budget": {"max_drop": 0.3, "kept": False}},  # said already
        {"budget": None},
    ):
        assert over_budget(told | change) == ""


def test_a_float_model_that_reads_nothing_is_doubted() -> None:
    told = _measured(0.7) | {"engine": "openvino", "metrics": {"float": {"openvino": {"accuracy": 0.0123}}}}
    assert doubt_of_labels(told).startswith("float itself scores 0.0123 on these labels")
    assert doubt_of_labels(told | {"metrics": {"float": {"openvino": {"accuracy": 0.06}}}}) == ""
    few, agreed = _measured(0.7, n=19), _measured(0.7, against="float")
    assert doubt_of_labels(told | {"drop": few["drop"]}) == ""
    assert doubt_of_labels(told | {"drop": agreed["drop"]}) == ""


def test_a_pruned_models_int8_is_called_so() -> None:
    told: dict[str, Any] = {"model": {"name": "PP-OCRv4_mobile_rec"}, "settings": {}}
    assert title_of(told) == "PP-OCRv4_mobile_rec"
    assert title_of(told | {"settings": {"reference": "m.onnx"}}) == "PP-OCRv4_mobile_rec, pruned"


def test_sha256_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    assert sha256_of(tmp_path / "empty") == sha256_of(tmp_path / "folder") == hashlib.sha256().hexdigest()
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "none")


def _measured(ratio: float, **drop: object) -> dict[str, Any]:
    figures = {"metric": "accuracy", "points": 0.31, "low": -0.25, "high": 0.87, "n": 1601}
    return {
        "drop": {"openvino": figures | drop},
        "latency": [
            {"engine": "onnxruntime", "label": "float", "ratio_on_engine": 1.0},
            {"engine": "onnxruntime", "label": "int8", "ratio_on_engine": 1.4},
            {"engine": "openvino", "label": "float", "ratio_on_engine": 1.0},
            {"engine": "openvino", "label": "int8", "ratio_on_engine": ratio},
        ],
        "size": {"float": 100, "int8": 32, "ratio": 0.32},
    }


def test_the_verdict_gives_cost_interval_and_gain() -> None:
    said = verdict(_measured(0.78), "openvino")
    assert said == (
        "int8: 0.31 points of accuracy lost (95 % interval -0.25 to +0.87, 1601 images),"
        " 0.78 times the time of float on openvino, 0.32 times the size"
    )
    assert "0.40 points of hmean gained" in verdict(_measured(0.78, metric="hmean", points=-0.4), "openvino")


@pytest.mark.parametrize(("ratio", "float_wins"), [(0.5, False), (0.999, False), (1.0, True), (1.3, True)])
def test_the_verdict_is_free_to_keep_the_float_model(ratio: float, float_wins: bool) -> None:
    said = verdict(_measured(ratio), "openvino")
    assert said.startswith("float is better here: int8 gains no time on openvino") == float_wins
    assert f"{ratio:.2f} times the time" in said


def _budget(points: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    drop = {"metric": "accuracy", "against": "labels", "points": points, "low": low, "high": high, "n": 1000}
    budget = {"max_drop": 0.3, "kept": points <= 0.3, "sure": high <= 0.3, "drop": drop, "images_to_tell": 11112}
    return budget | more


def test_a_budget_that_surely_holds_needs_no_more_images() -> None:
    said = budget_in_words(_budget(-0.5, -1.0, 0.1))
    assert said.startswith("the budget of 0.3 points held on what was held back: 0.50 points of accuracy gained")
    assert "too few" not in said


def test_a_budget_that_holds_by_luck_perhaps_says_how_many_images_would_tell() -> None:
    said = budget_in_words(_budget(0.1, -0.9, 1.1))
    assert "held" in said
    assert "too few to be sure, some 11,112 images would tell" in said


def test_a_budget_that_did_not_hold_is_said_so_with_the_best_found() -> None:
    said = budget_in_words(_budget(0.8, -0.2, 1.8))
    assert said.startswith("NOT within the budget of 0.3 points")
    assert "0.80 points of accuracy lost (-0.20 to +1.80, 1000 images) is the best of what was tried" in said
    assert "too few to be sure" in said
    assert "too few" not in budget_in_words(_budget(2.0, 1.0, 3.0))  # that many images did tell
    assert "too few" not in budget_in_words(_budget(0.8, -0.2, 1.8, images_to_tell=None))


def test_the_clock_may_be_that_of_another_mode_of_the_engine() -> None:
    result = _measured(1.5)
    result["latency"].append({"engine": "openvino-int8", "label": "int8", "ratio_on_engine": 0.5})
    said = verdict(result | {"timed_on": "openvino-int8"}, "openvino")
    assert "0.50 times the time of float on openvino-int8" in said


def test_without_labels_a_budget_of_points_is_no_verdict() -> None:
    budget = _budget(10.75, 8.0, 13.75)
    budget["drop"]["against"] = "float"
    said = budget_in_words(budget)
    assert said.startswith("without labels nobody can tell a budget of 0.3 points: no labels: 10.75 % of the lines")
    assert "NOT within" not in said


def test_the_candidate_that_was_taken_is_the_one_whose_loss_the_budget_was_held_against() -> None:
    first, second = ({"points": points, "n": 10} for points in (0.2, 0.1))
    rungs = [{"rung": "a", "drop": None}, {"rung": "b", "drop": first}, {"rung": "c", "drop": second}]
    assert chosen_rung({"budget": {"drop": second, "rungs": rungs}}) == "c"
    assert chosen_rung({"budget": {"drop": {"points": 0.3, "n": 10}, "rungs": rungs}}) is None
    assert chosen_rung({"budget": {"drop": None, "rungs": rungs}}) is None  # what was not judged was not taken
    assert chosen_rung({}) is None
