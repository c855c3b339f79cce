"""The report in a real browser: Debian's ``chromium`` and ``chromium-driver``, and selenium in a Python of its own.

``OCRSLIM_BROWSER_PYTHON`` names that Python, if it is another than this one; ``OCRSLIM_AXE`` names ``axe.min.js`` of
axe-core, if accessibility is to be checked.
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


def opened(page: Path) -> dict[str, Any]:
    """Return what Chromium shows; skip where there is none."""
    if not (shutil.which("chromium") or shutil.which("chromium-browser")) or not shutil.which("chromedriver"):
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    python = os.environ.get("OCRSLIM_BROWSER_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import selenium"], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} has no selenium: OCRSLIM_BROWSER_PYTHON names a Python that has it")
    axe = [os.environ["OCRSLIM_AXE"]] if os.environ.get("OCRSLIM_AXE") else []
    script = Path(__file__).with_name("chromium.py")
    done = subprocess.run(
        [python, str(script), str(page), *axe], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert not done.returncode, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def colour(text: str) -> str:
    """Return ``#rrggbb`` as a browser tells it."""
    return f"rgb({', '.join(str(int(text[place : place + 2], 16)) for place in (1, 3, 5))})"


def test_a_run(result: dict[str, Any], write_run: Callable[..., Path], picture: Path) -> None:
    result["differences"]["shown"][0]["image"] = str(picture)
    result["model"]["name"] = "<script>document.title = 'taken'</script>"
    result["differences"]["shown"][1]["int8"] = "<img src=x onerror=\"document.title = 'taken'\">"
    found = opened(write_report([write_run(result)]))
    assert found["console"] == []
    assert not found.get("axe")
    wide = found["light wide"]
    assert wide["title"].startswith("<script>document.title = 'taken'</script> for openvino")
    assert wide["headline"] == "Not within the budget, 1.28 times as fast on openvino"
    figures = [row for table in wide["tables"] for row in table]
    assert ["accuracy", "openvino", "0.6002", "0.5934", "-0.68", "-1.40 to +0.10", "1601"] in figures
    assert ["int8", "openvino 2026.4.1", "8.86", "7.86-10.86", "0.78", "120"] in figures
    for seen in (wide, found["other"], found["dark narrow"]):
        assert seen["broken"] == 0
        assert all(name.startswith("data:") for name in seen["requests"])


def test_light_dark_narrow_and_chinese(result: dict[str, Any], write_run: Callable[..., Path]) -> None:
    first, second = write_run(result), write_run(result | {"differences": None}, "second")
    found = opened(write_report([first, second], first / "both.html"))
    assert found["console"] == []
    assert not found.get("axe")
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
