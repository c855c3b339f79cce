"""The model card says what ``result.json`` says, and no more."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ocrslim.report.model_card import model_card

SHA = "ab" * 32


def row(label: str, engine: str, median: float, ratio: float, load: float = 0.0) -> dict[str, Any]:
    return {
        **{"label": label, "engine": engine, "median_ms": median, "ratio_on_engine": ratio, "other_load": load},
        **{"threads": 2, "shape": [1, 3, 48, 320], "cpu": "Some CPU", "flags": ["avx2", "fma"]},
        "versions": {"openvino": "2026.4.1", "onnxruntime": "1.32.0"},
    }


RESULT: dict[str, Any] = {
    "ocrslim": "0.1.0",
    "model": {
        "name": "PP-OCRv4_mobile_rec",
        "task": "rec",
        "sha256": "cd" * 32,
        "licence": "Apache-2.0",
        "path": "/p/a",
    },
    "data": {
        **{"path": "/home/somebody/train.txt", "sha256": "ef" * 32, "n_train": 4437, "n_held": 1000, "n_eval": 1601},
        "judged_by": "the labels of /home/somebody/val.txt",
    },
    "settings": {
        **{"data": "/home/somebody/train.txt", "eval": "/home/somebody/val.txt", "effort": "normal", "max_drop": 0.3},
        **{"seed": 0, "observer": "output", "steps": None, "profile": None, "ptq_only": False},
    },
    "target": "openvino",
    "engine": "openvino",
    "notes": [],
    "metrics": {
        "float": {"openvino": {"accuracy": 0.6002, "norm_edit_distance": 0.8741, "loose": {"accuracy": 0.78}}},
        "int8": {"openvino": {"accuracy": 0.5934, "norm_edit_distance": 0.8755, "loose": {"accuracy": 0.78}}},
    },
    "drop": {
        "openvino": {
            **{"metric": "accuracy", "against": "labels", "points": 0.68, "low": -0.1, "high": 1.4, "n": 1601},
        }
    },
    "latency": [row("float", "openvino", 11.36, 1.0), row("int8", "openvino", 8.86, 0.78)],
    "size": {"float": 10857958, "int8": 3623362, "ratio": 0.3337},
    "placement": {
        "quantized": [{"node": "a", "reason": "fast"}, {"node": "b", "reason": "fast"}],
        "float": [{"node": "c", "op": "Conv", "reason": "stem: ties"}, {"node": "d", "op": "Conv", "reason": "slow"}]
        * 2,
    },
    "verify": [{"kind": "frame_agreement", "value": 0.9984, "required": 0.99, "passed": True, "n": 6184, "images": 64}],
    "training": None,
    "cpu": {"model": "Some CPU", "cores": 2, "flags": ["avx2"], "has_vnni": False},
    "verdict": "int8: +0.68 points of accuracy lost, 0.78 times the time of float on openvino",
}


@pytest.fixture
def result() -> dict[str, Any]:
    return copy.deepcopy(RESULT)


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n")[1].split("\n## ")[0]


def test_its_sections_in_their_order(result: dict[str, Any]) -> None:
    card = model_card(result, SHA)
    assert card.startswith("# PP-OCRv4_mobile_rec, int8 for openvino\n\n**int8: +0.68 points")
    titles = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert titles == [
        *("What it is", "What it was made from", "How it was made", "What was measured, and where", "Limits"),
    ]


def test_it_says_with_what_options_it_was_timed(result: dict[str, Any]) -> None:
    result["session"] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 2}
    card = model_card(result, SHA)
    told = section(card, "How to run it")
    assert "these options of openvino" in told
    assert "- `PERFORMANCE_HINT`: `LATENCY`\n- `INFERENCE_NUM_THREADS`: `2`" in told
    result["target"] = "tensorrt"  # another engine judged it in its place
    assert "How to run it" not in model_card(result, SHA)


def test_hashes_and_licence(result: dict[str, Any]) -> None:
    card = model_card(result, SHA)
    assert f"SHA-256 `{SHA}`" in section(card, "What it is")
    origin = section(card, "What it was made from")
    assert "SHA-256 `" + "cd" * 32 in origin
    assert "SHA-256 `" + "ef" * 32 in origin
    assert "Licence: Apache-2.0." in origin
    result["model"]["licence"] = None
    assert "Licence: not known; ask where the float model came from." in model_card(result, SHA)


def test_the_figures_are_those_of_the_result(result: dict[str, Any]) -> None:
    card = model_card(result, SHA)
    assert "2 operators in int8, 4 convolutions and products in float; 3.62 MB, the float model has 10.86 MB" in card
    measured = section(card, "What was measured, and where")
    assert "| accuracy | 0.6002 | 0.5934 |" in measured
    assert "| norm_edit_distance | 0.8741 | 0.8755 |" in measured
    assert "0.68 points of accuracy lost (95 % interval -0.10 to +1.40)." in measured
    assert "| openvino 2026.4.1 | 2 | int8 | 8.86 | 0.78 |" in measured
    assert "input 1x3x48x320, Some CPU (avx2 fma)" in measured
    assert "frame_agreement 0.9984 of 6184" in measured
    assert "busy" not in measured


def test_nobodys_folders_are_in_it(result: dict[str, Any]) -> None:
    card = model_card(result, SHA)
    assert "somebody" not in card
    assert "/p/a" not in card
    assert "the labels of val.txt" in card
    assert "--data train.txt --eval val.txt --effort normal --max-drop 0.3 --seed 0" in section(card, "How it was made")


HELD = "held back from training"


@pytest.mark.parametrize(
    ("data", "evaluated", "judged_by", "told"),
    [
        # A file of the example names several label files, which no setting repeats.
        (None, None, "the labels of /home/somebody/a.txt, /home/somebody/x/b.txt", "the labels of a.txt, b.txt"),
        (None, None, "the labels of /home/somebody/lmdb", "the labels of lmdb"),
        (None, None, "the labels of /home/some body/my val.txt", "the labels of my val.txt"),
        (None, "/home/some, body/val.txt", "the labels of /home/some, body/val.txt", "the labels of val.txt"),
        # --data is a folder that the path of --eval begins with.
        ("/home/somebody/d", "/home/somebody/d/v.txt", "the labels of /home/somebody/d/v.txt", "the labels of v.txt"),
        (
            *("/home/somebody/set", None, f"the labels of the part of /home/somebody/set {HELD}"),
            f"the labels of the part of set {HELD}",
        ),
        (
            *(None, None, f"agreement with the float model (no labels) on images of /home/somebody/im {HELD}"),
            f"agreement with the float model (no labels) on images of im {HELD}",
        ),
        (
            *(None, None, f"agreement with the float model (no labels) on rendered text {HELD}"),
            f"agreement with the float model (no labels) on rendered text {HELD}",
        ),
    ],
)
def test_what_it_was_judged_by_names_no_folder(
    data: str | None, evaluated: str | None, judged_by: str, told: str, result: dict[str, Any]
) -> None:
    result["data"] |= {"path": "/home/somebody/t.txt, /home/somebody/u.txt", "judged_by": judged_by}
    result["settings"] |= {"data": data, "eval": evaluated}
    card = model_card(result, SHA)
    assert f"judged by {told}, 1601 images" in card
    assert "Data: `t.txt`, `u.txt`" in card
    for part in ("home", "some, ", "somebody", "some body"):
        assert part not in card


def test_how_it_was_made(result: dict[str, Any]) -> None:
    how = section(model_card(result, SHA), "How it was made")
    assert "not trained" in how
    assert "- Float, 2 operators: stem: ties." in how
    assert "--steps" not in how
    result |= {"training": {"steps": 100, "best_step": 80}, "budget": {"trained": True}}
    result["settings"]["steps"] = 100
    result["settings"]["ptq_only"] = True
    how = section(model_card(result, SHA), "How it was made")
    assert "100 steps, the best after 80" in how
    assert "--steps 100 --ptq-only`" in how


def test_what_labels_taught_is_told_and_which_model_has_it(result: dict[str, Any]) -> None:
    taught = {"lines": 300, "held": 200, "points": 1.5, "folded": 0.25}
    result |= {"budget": {"trained": False, "taught": taught}}
    how = section(model_card(result, SHA), "How it was made")
    assert "labels of 300 lines before anything was quantized: +1.50 points of accuracy on 200 others" in how
    assert "Not so model.onnx" not in how
    result["delivered"] = "float"
    assert "Not so model.onnx, which is the float model that came in." in section(
        model_card(result, SHA), "How it was made"
    )


def test_a_training_that_was_not_taken_is_not_claimed(result: dict[str, Any]) -> None:
    result |= {"training": {"steps": 100, "best_step": 80}, "budget": {"trained": False}}
    how = section(model_card(result, SHA), "How it was made")
    assert "covariance; a training of 100 steps was tried and not taken." in how
    assert "then trained" not in how
    result["budget"]["trained"] = True
    assert "then trained" in section(model_card(result, SHA), "How it was made")


def test_rendered_text_is_told(result: dict[str, Any]) -> None:
    result["data"] |= {"path": None, "sha256": None, "judged_by": "agreement"}
    result["settings"] |= {"data": None, "eval": None}
    card = model_card(result, SHA)
    assert "Data: rendered text, 4437 images to learn from; no labels of real images." in card
    assert "--data" not in card


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "Timed on a CPU without VNNI"),
        ({"cpu": {"has_vnni": True}}, "Its weights have 8 bits: a CPU without VNNI saturates"),
        ({"target": "tensorrt"}, "never run in TensorRT; all figures are those of ONNX Runtime"),
        ({"notes": ["Paddle did not run it."]}, "- Paddle did not run it."),
    ],
)
def test_limits(change: dict[str, Any], said: str, result: dict[str, Any]) -> None:
    limits = section(model_card(result | change, SHA), "Limits")
    assert said in limits
    assert f"Right on {change.get('target', 'openvino')}. In another engine the same file may read garbage" in limits


def test_limits_of_the_judgement(result: dict[str, Any]) -> None:
    limits = section(model_card(result, SHA), "Limits")
    assert "agreement" not in limits
    assert "1601 images" not in limits, "enough of them"
    result["drop"]["openvino"] |= {"against": "float", "n": 40}
    limits = section(model_card(result, SHA), "Limits")
    assert "Judged by agreement with the float model, not by labels" in limits
    assert "Judged on 40 images" in limits


def test_a_noisy_machine_is_told_of(result: dict[str, Any]) -> None:
    result["latency"][1]["other_load"] = 1.4
    assert "Other programs kept 1.4 cores busy meanwhile" in model_card(result, SHA)
    result["latency"] = []
    assert "Time of one run" not in model_card(result, SHA)


def test_a_detector(result: dict[str, Any]) -> None:
    result["model"]["task"] = "det"
    assert "finds lines of text in an image" in model_card(result, SHA)


@pytest.mark.parametrize(
    ("delivered", "title", "what"),
    [
        ("float", "float", "the float model that came in, byte for byte, 10.86 MB"),
        (
            *("rewritten", "float, rewritten"),
            "the float model written as the engine runs it faster; nothing in it is rounded, 10.80 MB",
        ),
    ],
)
def test_where_the_float_model_is_the_answer_the_card_is_of_it(
    result: dict[str, Any], delivered: str, title: str, what: str
) -> None:
    result["delivered"] = delivered
    result["latency"].append(row("rewritten", "openvino", 8.0, 0.7) | {"bytes": 10_800_000})
    card = model_card(result, SHA)
    assert card.startswith(f"# PP-OCRv4_mobile_rec, {title} for openvino\n")
    told = section(card, "What it is")
    assert f"- `model.onnx`: {what}. SHA-256 `{SHA}`." in told
    assert "- `int8.onnx`: the int8 model, which was no faster here. 2 operators in int8, 4 convolutions" in told
    assert "3.62 MB." in told
    limits = section(card, "Limits")
    assert "- `int8.onnx`: Right on openvino." in limits
    assert "- Right on" not in limits
    assert ("Written for openvino" in limits) == (delivered == "rewritten")
    assert "`int8.onnx`: 0.68 points of accuracy lost" in section(card, "What was measured, and where")
    assert "`int8.onnx`: Ranges calibrated" in section(card, "How it was made")
    result["cpu"]["has_vnni"] = True
    assert "- `int8.onnx`: Its weights have 8 bits" in section(model_card(result, SHA), "Limits")


def test_a_size_that_is_anothers_is_not_told(result: dict[str, Any]) -> None:
    result["delivered"] = "float"
    result["settings"]["reference"] = "/p/whole.onnx"
    assert "byte for byte. SHA-256" in model_card(result, SHA)


def test_int8_names_no_second_file(result: dict[str, Any]) -> None:
    result["delivered"] = "int8"
    assert "int8.onnx" not in model_card(result, SHA)


@pytest.fixture
def rewritten(result: dict[str, Any]) -> dict[str, Any]:
    """Return what ``compress --float`` writes."""
    for name in ("placement", "notes", "training"):
        del result[name]
    result["data"] = {"judged_by": "the labels of /home/somebody/val.txt", "n_eval": 1601}
    result["settings"] = {"eval": "/home/somebody/val.txt", "data": None, "seed": 0, "shape": None, "profile": None}
    result["metrics"]["rewritten"] = result["metrics"].pop("int8")
    result["latency"] = [row("float", "openvino", 11.36, 1.0), row("rewritten", "openvino", 8.86, 0.78)]
    return result | {"delivered": "rewritten", "size": {"float": 10857958, "rewritten": 10700000}}


def test_a_card_of_a_model_that_was_only_rewritten(rewritten: dict[str, Any]) -> None:
    card = model_card(rewritten, SHA)
    assert card.startswith("# PP-OCRv4_mobile_rec, float, rewritten for openvino\n")
    assert "nothing in it is rounded, 10.70 MB. SHA-256" in section(card, "What it is")
    assert "Data:" not in section(card, "What it was made from")
    assert "Licence: Apache-2.0." in card
    how = section(card, "How it was made")
    assert "`ocrslim compress PP-OCRv4_mobile_rec --float --target openvino --eval val.txt --seed 0`" in how
    assert "Nothing was learned or rounded" in how
    measured = section(card, "What was measured, and where")
    assert "| | float | rewritten |" in measured
    assert "The rewritten file in its engine against the original: frame_agreement 0.9984" in measured
    limits = section(card, "Limits")
    assert "Written for openvino: another engine may run it slower" in limits
    assert "8 bits" not in card
    assert "int8" not in card.split("\n", 3)[3].replace("int8: +0.68", "")
    assert "somebody" not in card


def test_a_card_of_a_pruned_model(result: dict[str, Any]) -> None:
    del result["placement"]
    result["metrics"]["pruned"] = result["metrics"].pop("int8")
    result["latency"][1]["label"] = "pruned"
    groups = [{"name": "a", "before": 64, "after": 48}, {"name": "b", "before": 32, "after": 32}]
    result |= {"delivered": "pruned", "size": {"float": 10857958, "pruned": 9100000}}
    result |= {"pruning": {"groups": groups}, "training": {"steps": 1500, "best_step": 1400}}
    result["taught"] = {"lines": 4437, "held": 1000, "points": 1.25, "folded": -0.5}
    result["settings"] |= {"speedup": 1.2371999, "ratio": None, "effort": None, "max_drop": None, "observer": None}
    result["settings"] |= {"align": 16, "importance": "l1", "learning_rate": 5e-4}
    result["settings"] |= {"distillation": {"label_ratio": 0.0}, "compute": {"accumulate": 1}}
    card = model_card(result, SHA)
    assert card.startswith("# PP-OCRv4_mobile_rec, float, pruned for openvino\n")
    assert "fewer channels, 9.10 MB" in section(card, "What it is")
    assert "4437 images to learn from, 1000 held back" in section(card, "What it was made from")
    how = section(card, "How it was made")
    options = "--target openvino --speedup 1.2372 --align 16 --importance l1 --data train.txt --eval val.txt --seed 0"
    options += " --learning-rate 0.0005 --label-ratio 0"
    assert f"`ocrslim prune PP-OCRv4_mobile_rec {options}`" in how
    assert "16 channels of 1 groups of layers cut, 1 groups left whole." in how
    assert "1500 steps, the best after 1400." in how
    assert "the labels of 4437 lines after that: +1.25 points" in how
    assert "| | float | pruned |" in section(card, "What was measured, and where")
    limits = section(card, "Limits")
    assert "Cut for openvino: another engine may gain less time by it." in limits
    assert "8 bits" not in card
    assert "somebody" not in card
    result["training"]["steps"] = 0
    assert "- Not trained after that." in model_card(result, SHA)


def test_a_card_of_one_shape_and_one_of_the_original(rewritten: dict[str, Any]) -> None:
    rewritten["settings"]["shape"] = [48, 640]
    card = model_card(rewritten, SHA)
    assert "--shape 48x640`" in card
    assert "It takes images of 48 x 640 pixels alone, one at a time." in card
    card = model_card(rewritten | {"delivered": "float"}, SHA)
    assert card.startswith("# PP-OCRv4_mobile_rec, float for openvino\n")
    assert "so that the original is given" in card
    assert "It takes images of" not in card
    assert "10.86 MB" in section(card, "What it is")
