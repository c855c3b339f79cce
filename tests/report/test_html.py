"""The report says what ``result.json`` says, of one run or several, in both languages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocrslim.report.html import report_page
from ocrslim.report.run_folder import Run, read_run

Write = Callable[..., Path]
Parse = Callable[[str], Any]


@pytest.fixture
def page(result: dict[str, Any], write_run: Write, parse: Parse) -> Any:
    return parse(report_page([read_run(write_run(result))]))


def test_the_verdict_comes_first(page: Any) -> None:
    headings = [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert headings[:3] == ["h1", "h2", "h2"]  # the contents, then the verdict
    text = "".join(page.words)
    assert "Not within the budget, 1.28 times as fast on openvino" in text
    assert text.index("Not within the budget") < text.index("1 - normalised edit distance")
    assert "On 1000 held-back images: 0.70 points of accuracy lost (-0.40 to +1.80)" in text
    assert "some 13,445 images would tell" in text
    assert "10.86 MB to 3.62 MB" in text
    assert "openvino, 2 threads, Some CPU" in text
    assert "a note for readers" in text


def test_its_figures_are_those_of_the_result(page: Any, result: dict[str, Any]) -> None:
    heads, *rows = page.tables["Judged by the labels of /home/me/val.txt."]
    assert heads == ["Metric", "Engine", "float", "int8", "Change, points", "95 % interval", "Images"]
    assert rows == [
        ["accuracy", "openvino", "0.6002", "0.5934", "-0.68", "-1.40 to +0.10", "1601"],
        ["1 - normalised edit distance", "openvino", "0.8741", "0.8755", "+0.14", "", "1601"],
        ["accuracy, loose", "openvino", "0.7814", "0.7711", "-1.03", "", "1601"],
    ]
    _, *rows = page.tables["Time of one run, median"]
    assert [row[0] for row in rows] == ["float", "int8", "float", "int8"]
    assert [row[1] for row in rows] == ["onnxruntime 1.32.0"] * 2 + ["openvino 2026.4.1"] * 2
    found = {(row["label"], f"{row['median_ms']:.2f}", f"{row['ratio_on_engine']:.2f}") for row in result["latency"]}
    assert {(row[0], row[3], row[5]) for row in rows} == found


def test_a_model_that_was_only_rewritten(
    result: dict[str, Any], of_kind: Callable[..., Any], write_run: Write, parse: Parse
) -> None:
    page = parse(report_page([read_run(write_run(of_kind(result, "rewritten")))]))
    text = "".join(page.words)
    assert "Float, rewritten: 1.28 times as fast on openvino" in text
    assert "The rewritten file in its engine agrees with the original: frame_agreement 0.9984" in text
    heads = page.tables["Judged by the labels of /home/me/val.txt."][0]
    assert heads[2:4] == ["float", "float, rewritten"]
    for absent in ("Budget", "Candidates tried", "What stayed float, and why", "Training curves", "int8:"):
        assert absent not in text.replace("int8: 0.68", "")  # the sentence of the fixture
    kept = of_kind(result, "rewritten") | {"delivered": "float"}
    text = "".join(parse(report_page([read_run(write_run(kept, "other"))])).words)
    assert "model.onnx is the float model that came in" in text
    assert "Float as it came in: rewriting it gains no time here" in text
    assert "MB to" not in text  # the file is not there


def test_a_pruned_model(result: dict[str, Any], of_kind: Callable[..., Any], write_run: Write, parse: Parse) -> None:
    pruned = of_kind(result, "pruned")
    page = parse(report_page([read_run(write_run(pruned))]))
    text = "".join(page.words)
    assert "Pruned, still float: 1.28 times as fast on openvino" in text
    assert "before any training: 9.50 points of accuracy lost (+8.00 to +11.00)." in text
    assert "not reached" not in text
    assert "the labels of 4437 lines: +1.25 points" in text
    heads, *rows = page.tables["2 groups of layers whose channels belong together; 1 have fewer now."]
    assert heads == ["Channels made by", "Before", "After", "Why no fewer"]
    assert rows == [
        ["Conv_3", "64", "48", "the goal was reached"],
        ["Conv_9", "32", "32", "Softmax attn: each channel's share depends on all"],
    ]
    chinese = "".join(page.chinese)
    assert "已达到目标" in chinese
    assert "Softmax attn：每个通道的份额取决于全部通道" in chinese
    assert "the goal was reached" not in chinese
    pruned["pruning"]["reached"] = False
    text = "".join(parse(report_page([read_run(write_run(pruned, "other"))])).words)
    assert "The goal was not reached, no further channel pays: 0.77 of the cost is left." in text


def test_runs_of_all_kinds_are_compared(
    result: dict[str, Any], of_kind: Callable[..., Any], write_run: Write, parse: Parse
) -> None:
    runs = [read_run(write_run(of_kind(result, kind), kind)) for kind in ("int8", "rewritten", "pruned")]
    runs[1].result["delivered"] = "float"
    page = parse(report_page(runs))
    _, *rows = page.tables["Each model against its own float model"]
    assert [row[1] for row in rows] == [
        "PP-OCRv9_rec",
        "PP-OCRv9_rec, float, rewritten, not kept",
        "PP-OCRv9_rec, pruned",
    ]
    assert [row[3] for row in rows] == ["not kept", "not held against one", "not held against one"]
    assert len({tuple(row[4:]) for row in rows}) == 1


def test_each_number_of_threads_has_its_bars(result: dict[str, Any], write_run: Write, parse: Parse) -> None:
    one = [row | {"threads": 1, "median_ms": 2 * row["median_ms"]} for row in result["latency"]]
    result["latency"] += one
    page = parse(report_page([read_run(write_run(result))]))
    heads, *rows = page.tables["Time of one run, median"]
    assert heads[1:4] == ["Engine", "Threads", "Median, ms"]
    assert [(row[0], row[1].split()[0], row[2]) for row in rows] == [
        (label, engine, threads)
        for engine in ("onnxruntime", "openvino")
        for threads in ("2", "1")
        for label in ("float", "int8")
    ]
    text = "".join(page.words)
    assert "int8, openvino, threads: 1: 17.72" in text
    assert "1.28 times as fast on openvino" in text  # of the threads that were asked for


def test_what_was_tried_is_told_and_what_was_chosen(page: Any, result: dict[str, Any]) -> None:
    _, *rows = page.tables["Judged by the labels of the part of /home/me/train.txt held back from training."]
    assert rows[0] == ["1", "calibrated (output)", "", "0.01782", "not judged", "", "0", "0.9926"]
    chosen = ["2", "trained 50 steps (chosen)", "0.62 *", "0.00354", "+0.70", "-0.40 to +1.80", "0", "0.9924"]
    assert rows[1] == chosen
    assert len(rows) == len(result["budget"]["rungs"])


def test_loss_is_drawn_against_time(page: Any) -> None:
    text = "".join(page.words)
    assert "Loss against time" in text
    assert "2: trained 50 steps: 0.62" in text
    assert "3: 1 sites float: Conv_31: 0.65" in text


def test_what_the_clock_said_of_the_placement_is_told(result: dict[str, Any], write_run: Write, parse: Parse) -> None:
    trial = {"group": "depthwise convolutions at 160x160", "nodes": ["a", "b"], "int8": True, "saved": 0.051}
    result["placement"]["measured"] = {
        **{"ratio": 0.87, "used": True, "fast": ["a", "b"], "slow": []},
        "trials": [trial | {"kept": True}],
    }
    page = parse(report_page([read_run(write_run(result))]))
    (key,) = [key for key in page.tables if key.startswith("The clock of this machine")]
    assert "0.87 of the usual one's time, and it is used." in key
    assert page.tables[key][1] == ["depthwise convolutions at 160x160", "2", "int8", "+5.1 %", "yes"]


def test_training_layers_and_what_stayed_float(page: Any) -> None:
    heads, *rows = page.tables["The same as a table"]
    assert heads == ["Step", "held_loss", "score", "loss"]
    assert rows == [["0", "4.5", "-0.0156", ""], ["50", "4.25", "-0.0033", "3.25"]]
    _, *rows = page.tables["1 operators in int8, 3 convolutions and products in float."]
    assert rows == [
        ["squeeze-and-excitation: little work, much error", "2", "c, d"],
        ["a reason from tomorrow", "1", "e"],
    ]
    text = "".join(page.words)
    assert "second: 0.037, int8, 53.6 %" in text  # 16 weights, 4 biases, scale and zero point: 37 bytes of 69
    assert "200 steps in 386 s; the best after 50." in text


def test_how_to_do_it_again(page: Any) -> None:
    text = "".join(page.words)
    for told in (
        *(
            "ocrslim compress PP-OCRv9_rec --target openvino --out 'my folder'",
            "openvino 2026.4.1",
            "Some CPU, 2 cores",
        ),
        *(
            "without VNNI",
            "avx2 fma",
            "cd" * 32,
            "Apache-2.0",
            "4437 images to learn from, 1000 held back, 1601 to judge",
        ),
        *("15 s in all, at most 300 MiB", "distillation.kd_ratio", "1 images or labels were left out"),
    ):
        assert told in text


def test_pictures_tables_and_sections_can_be_read_aloud(page: Any) -> None:
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes.get("role") == "img"
        if tag == "img":
            assert attributes.get("alt")
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
        if tag in ("section", "nav", "article"):
            assert set(attributes["aria-labelledby"].split()) <= set(page.ids())
        if tag == "a":
            assert (attributes["href"] or "")[1:] in page.ids()
        if tag == "div" and "scroll" in (attributes.get("class") or "").split():
            assert attributes.get("tabindex") == "0"
    assert len(set(page.ids())) == len(page.ids())


def test_both_languages_stand_in_it(result: dict[str, Any], write_run: Write, parse: Parse) -> None:
    run = read_run(write_run(result))
    english, chinese = report_page([run]), report_page([run], "zh")
    assert '<html lang="en" data-lang="en"' in english
    assert '<html lang="zh-Hans" data-lang="zh"' in chinese
    assert "<title>PP-OCRv9_rec（openvino）：OCRSlim 报告</title>" in chinese
    told = "".join(parse(english).chinese)
    for words in (
        "超出预算，在 openvino 上速度为浮点的 1.28 倍",
        "训练 50 步",
        "SE 模块",
        "准确率损失 0.68 个百分点",
        "各层大小",
    ):
        assert words in told
    assert "Candidates tried" not in told
    # But for the language that is shown first, the two files are the same.
    body = slice(english.index("<header>") + 200, english.index("<footer>"))
    assert (
        english[body].split("\n")[1:]
        == chinese[chinese.index("<header>") + 200 : chinese.index("<footer>")].split("\n")[1:]
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"kept": True, "sure": True}, "Within the budget, 1.28 times"),
        ({"kept": True, "sure": False}, "Within the budget as measured (too few images to be sure), 1.28"),
        ({"kept": False}, "Not within the budget, 1.28"),
        ({"drop": {"against": "float"}}, "Without labels nobody can tell whether the budget holds; 1.28"),
    ],
)
def test_what_became_of_the_budget(
    result: dict[str, Any], parse: Parse, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    drop = result["budget"]["drop"] | changed.pop("drop", {})
    result["budget"] |= changed | {"drop": drop}
    assert told in "".join(parse(report_page([Run(tmp_path, result)])).words)


def test_a_budget_that_was_missed_on_eval_is_not_said_to_be_kept(
    result: dict[str, Any], parse: Parse, tmp_path: Path
) -> None:
    """As the verdict in ``result.json`` says it: in the headline, the tile and the comparison, in both languages."""
    result["settings"]["eval"] = "/home/me/val.txt"
    result["budget"] |= {"kept": True, "sure": True, "max_drop": 0.3}
    for number, tiles in ((1, 1), (2, 4)):
        markup = report_page([Run(tmp_path, result)] * number)
        text = "".join(parse(markup).words)
        assert "Within the budget on what was held back, NOT on --eval; 1.28 times as fast" in text
        assert "在预留部分上在预算之内，在 --eval 上超出预算；" in markup
        assert "Within the budget, " not in text
        assert "as measured" not in text
        assert text.count("not kept on --eval") == tiles
        assert markup.count("在 --eval 上不满足") == tiles
        assert "On the images of --eval more than 0.3 points were lost" in text


def test_a_slow_int8_model_is_not_praised(result: dict[str, Any], parse: Parse, tmp_path: Path) -> None:
    result["latency"][3]["ratio_on_engine"] = 1.09
    result["delivered"] = "float"
    text = "".join(parse(report_page([Run(tmp_path, result)])).words)
    assert "Not within the budget, not faster on openvino" in text
    assert "int8 gains no time here: model.onnx is the float model" in text
    assert "1.09 of the time of float" in text


def test_a_rewritten_float_model_is_named(result: dict[str, Any], parse: Parse, tmp_path: Path) -> None:
    result["delivered"] = "rewritten"
    result["latency"].append(result["latency"][3] | {"label": "rewritten", "ratio_on_engine": 0.5})
    text = "".join(parse(report_page([Run(tmp_path, result)])).words)
    assert "model.onnx is the float one as this engine runs it fastest" in text
    assert "float, rewritten" in text


def test_what_an_older_run_did_not_write(result: dict[str, Any], parse: Parse, tmp_path: Path) -> None:
    for name in ("timed_on", "command", "differences", "notes"):
        del result[name]
    result |= {"training": None, "sensitivity": [], "latency": [], "stages": [], "skipped": []}
    result["budget"]["rungs"] = []
    text = "".join(parse(report_page([Run(tmp_path, result)])).words)
    for told in ("older ocrslim", "not recorded", "Nothing was timed", "Not trained", "Not measured", "not timed on"):
        assert told in text
    assert re.search(r"Not known: .*model\.onnx", text)  # the model is not there


def tupled(value: Any) -> Any:
    """Return the same with tuples for lists, as a run has them before they are written."""
    if isinstance(value, dict):
        return {key: tupled(item) for key, item in value.items()}
    return tuple(map(tupled, value)) if isinstance(value, list) else value


def test_it_is_the_same_before_the_result_is_written(result: dict[str, Any], write_run: Write) -> None:
    run = read_run(write_run(result))
    assert report_page([Run(run.folder, tupled(result))]) == report_page([run])


def test_several_runs(result: dict[str, Any], write_run: Write, parse: Parse) -> None:
    first = read_run(write_run(result))
    result["model"]["name"] = "PP-OCRv9_other"
    result["drop"]["openvino"]["points"] = 0.11
    result["data"]["n_eval"] = 12
    page = parse(report_page([first, read_run(write_run(result, "two"))]))
    _, *rows = page.tables["Each model against its own float model"]
    assert [row[:4] for row in rows] == [
        ["1", "PP-OCRv9_rec", "openvino", "not kept"],
        ["2", "PP-OCRv9_other", "openvino", "not kept"],
    ]
    assert [row[4:] for row in rows] == [
        ["accuracy", "0.6002", "0.5934", "+0.68", "-0.10 to +1.40", "8.86", "0.78", "0.33"],
        ["accuracy", "0.6002", "0.5934", "+0.11", "-0.10 to +1.40", "8.86", "0.78", "0.33"],
    ]
    assert [tag for tag, _ in page.elements].count("article") == 2
    assert len(set(page.ids())) == len(page.ids())
    text = "".join(page.words)
    assert "2 runs compared" in text
    assert "Judged on other images" in text
    links = [names["href"] for tag, names in page.elements if tag == "a"]
    assert {"#run1", "#run2", "#comparison"} <= set(links)
