"""The report in a real browser: Debian's ``chromium`` and ``chromium-driver``, and selenium in a Python of its own.

``OCRSLIM_BROWSER_PYTHON`` names that Python, if it is another than this one; ``OCRSLIM_AXE`` names ``axe.min.js`` of
axe-core, without which accessibility is not checked. What is missing is skipped, with a line that says what.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocrslim.report.bars import DARK, LIGHT
from ocrslim.report.html import write_report

pytestmark = pytest.mark.slow

SECONDS = 300


def opened(page: Path, axe: Path | None = None) -> dict[str, Any]:
    """Return what Chromium shows, and what axe-core finds if it is named; skip where there is no browser."""
    if not (shutil.which("chromium") or shutil.which("chromium-browser")) or not shutil.which("chromedriver"):
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    python = os.environ.get("OCRSLIM_BROWSER_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import selenium"], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} has no selenium: OCRSLIM_BROWSER_PYTHON names a Python that has it")
    command = [python, str(Path(__file__).with_name("chromium.py")), str(page), *([] if axe is None else [str(axe)])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert not done.returncode, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def axe() -> Path:
    """``axe.min.js`` of axe-core; skips where there is none."""
    path = os.environ.get("OCRSLIM_AXE")
    if not path:
        pytest.skip("no axe-core here: npm install axe-core; OCRSLIM_AXE names its axe.min.js")
    return Path(path)


def violations(found: dict[str, Any]) -> dict[str, Any]:
    """Return what axe-core found, by language, scheme and size; nothing where there is nothing."""
    return {setting: seen["violations"] for setting, seen in found["axe"].items() if seen["violations"]}


def colour(text: str) -> str:
    """Return ``#rrggbb`` as a browser tells it."""
    return f"rgb({', '.join(str(int(text[place : place + 2], 16)) for place in (1, 3, 5))})"


def test_a_run(result: dict[str, Any], write_run: Callable[..., Path], picture: Path) -> None:
    result["differences"]["shown"][0]["image"] = str(picture)
    result["model"]["name"] = "<script>document.title = 'taken'</script>"
    result["differences"]["shown"][1]["int8"] = "<img src=x onerror=\"document.title = 'taken'\">"
    found = opened(write_report([write_run(result)]))
    assert found["console"] == []
    wide = found["light wide"]
    assert wide["title"].startswith("<script>document.title = 'taken'</script> for openvino")
    assert wide["headline"] == "Not within the budget, 1.28 times as fast on openvino"
    figures = [row for table in wide["tables"] for row in table]
    assert ["accuracy", "openvino", "0.6002", "0.5934", "-0.68", "-1.40 to +0.10", "1601"] in figures
    assert ["int8", "openvino 2026.4.1", "2", "8.86", "7.86-10.86", "0.78", "120"] in figures
    for seen in (wide, found["other"], found["dark narrow"]):
        assert seen["broken"] == 0
        assert all(name.startswith("data:") for name in seen["requests"])


def test_light_dark_narrow_and_chinese(result: dict[str, Any], write_run: Callable[..., Path]) -> None:
    first, second = write_run(result), write_run(result | {"differences": None}, "second")
    found = opened(write_report([first, second], first / "both.html"))
    assert found["console"] == []
    for size, width in (("wide", 1200), ("narrow", 360)):
        assert found[f"light {size}"]["paper"] == colour(LIGHT["paper"])
        assert found[f"dark {size}"]["paper"] == colour(DARK["paper"])
        assert found[f"light {size}"]["width"] <= width  # the page itself does not scroll sideways
    assert found["light wide"]["lang"] == "en"
    assert found["light wide"]["chinese"] == 0
    other = found["other"]
    assert (other["lang"], other["english"]) == ("zh-Hans", 0)
    assert other["title"] == "2 次运行对比：OCRSlim 报告"
    assert other["headline"].startswith("超出预算")
    assert found["back"] == found["light wide"]


def detection(result: dict[str, Any], picture: Path) -> dict[str, Any]:
    """Make a detector's result of a recogniser's: one page, a box that both found and one that only int8 did."""
    both, alone = "10,10 200,10 200,60 10,60", "300,100 500,100 500,150 300,150"
    shown = {"image": str(picture), "labelled": 1, "float": {"both": [both], "alone": [], "matched": 1}}
    shown["int8"] = {"both": [both], "alone": [alone], "matched": 1}
    return result | {
        "model": result["model"] | {"task": "det"},
        "differences": {"n": 1, "worse": 1, "better": 0, "shown": [shown]},
    }


@pytest.mark.parametrize("kind", ["rec", "det", "rewritten", "pruned", "several"])
def test_nothing_keeps_anyone_from_reading_it(
    kind: str,
    axe: Path,
    result: dict[str, Any],
    of_kind: Callable[..., Any],
    write_run: Callable[..., Path],
    picture: Path,
) -> None:
    result["differences"]["shown"][0]["image"] = str(picture)
    runs = {"rec": [result], "det": [detection(result, picture)], "several": [result, detection(result, picture)]}
    runs |= {name: [of_kind(result, name)] for name in ("rewritten", "pruned")}
    folders = [write_run(run, f"run {number}") for number, run in enumerate(runs[kind])]
    found = opened(write_report(folders, folders[0] / "report.html"), axe)
    assert list(found["axe"]) == [
        f"{lang} {setting}" for lang in ("en", "zh-Hans") for setting in ("light wide", "dark wide", "light narrow")
    ]
    assert violations(found) == {}
    for seen in found["axe"].values():  # it did look: at colours, names, tables
        assert {"color-contrast", "html-has-lang", "button-name", "heading-order"} <= set(seen["passed"])


def test_the_check_sees_what_is_wrong(axe: Path, result: dict[str, Any], write_run: Callable[..., Path]) -> None:
    page = write_report([write_run(result)])
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<main", '<p style="color: #ccc; background: #fff">pale</p><main', 1), "utf-8")
    assert [(row[0], row[1]) for row in violations(opened(page, axe))["en light wide"]] == [
        ("serious", "color-contrast"),
        ("moderate", "region"),
    ]
