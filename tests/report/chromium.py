"""Opens a page in a headless Chromium and prints what it found there, as JSON. Run by ``test_html_browser.py``.

It runs in whichever Python has selenium: ``python chromium.py PAGE [AXE]``, where AXE is ``axe.min.js`` of axe-core.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

SEEN = """
const shown = element => !!element.getClientRects().length;
const rows = table => [...table.rows].map(row => [...row.cells].map(cell => cell.innerText.trim()));
return {
  title: document.title,
  lang: document.documentElement.lang,
  headline: [...document.querySelectorAll('.headline span')].filter(shown).map(span => span.innerText).join(''),
  english: [...document.querySelectorAll('.en')].filter(shown).length,
  chinese: [...document.querySelectorAll('.zh')].filter(shown).length,
  paper: getComputedStyle(document.body).backgroundColor,
  width: document.documentElement.scrollWidth,
  tables: [...document.querySelectorAll('table')].filter(shown).map(rows),
  broken: [...document.images].filter(image => shown(image) && !image.naturalWidth).length,
  requests: performance.getEntriesByType('resource').map(entry => entry.name.slice(0, 80)),
};
"""
UNFOLD = "document.querySelectorAll('details').forEach(part => { part.open = true })"
AXE = """
const done = arguments[0];
axe.run(document).then(found => done({
  passed: found.passes.map(rule => rule.id),
  violations: found.violations.map(rule => [
    rule.impact, rule.id, rule.help, ...rule.nodes.slice(0, 3).map(node => node.html.slice(0, 200))
  ]),
}))
"""
SIZES = {"wide": (1200, 900), "narrow": (360, 740)}
SCHEMES = ("light", "dark")


def _open() -> Any:
    webdriver = importlib.import_module("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = importlib.import_module("selenium.webdriver.chrome.service").Service(shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


def _set(browser: Any, scheme: str, size: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    width, height = SIZES[size]
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def _look(browser: Any, scheme: str, size: str) -> dict[str, Any]:
    _set(browser, scheme, size)
    seen: dict[str, Any] = browser.execute_script(SEEN)
    return seen


def _check(browser: Any, axe: Path) -> dict[str, Any]:
    """Return what axe-core passed and what it found in each language, scheme and size, all that is folded unfolded."""
    browser.execute_script(axe.read_text(encoding="utf-8"))
    browser.execute_script(UNFOLD)
    browser.set_script_timeout(120)  # seconds; a page of many tables on a busy machine
    found = {}
    for _ in range(2):
        lang = browser.execute_script("return document.documentElement.lang")
        for scheme, size in (("light", "wide"), ("dark", "wide"), ("light", "narrow")):
            _set(browser, scheme, size)
            found[f"{lang} {scheme} {size}"] = browser.execute_async_script(AXE)
        browser.find_element("id", "language").click()
    return found


def main(page: Path, axe: Path | None) -> dict[str, Any]:
    """Return what a reader sees in each setting, the messages of the console, and what axe-core found."""
    browser = _open()
    try:
        browser.get(page.resolve().as_uri())
        found = {f"{scheme} {size}": _look(browser, scheme, size) for scheme in SCHEMES for size in SIZES}
        keys = importlib.import_module("selenium.webdriver.common.keys").Keys
        browser.find_element("id", "language").send_keys(keys.ENTER)  # by the keyboard
        found["other"] = _look(browser, "light", "wide")
        browser.find_element("id", "language").click()
        found["back"] = _look(browser, "light", "wide")
        console = browser.get_log("browser")  # before axe-core, which is no part of the page
        if axe is not None:
            found["axe"] = _check(browser, axe)
    finally:
        browser.quit()
    return found | {"console": console}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)))
