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
AXE = "const done = arguments[0]; axe.run(document).then(found => done(found.violations))"
SIZES = {"wide": (1200, 900), "narrow": (360, 740)}


def _open() -> Any:
    webdriver = importlib.import_module("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = importlib.import_module("selenium.webdriver.chrome.service").Service(shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


def _look(browser: Any, scheme: str, size: str) -> dict[str, Any]:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    width, height = SIZES[size]
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    seen: dict[str, Any] = browser.execute_script(SEEN)
    return seen


def main(page: Path, axe: Path | None) -> dict[str, Any]:
    """Return what a reader sees in each setting, the messages of the console, and what axe-core found."""
    browser = _open()
    try:
        browser.get(page.resolve().as_uri())
        found = {f"{scheme} {size}": _look(browser, scheme, size) for scheme in ("light", "dark") for size in SIZES}
        keys = importlib.import_module("selenium.webdriver.common.keys").Keys
        browser.find_element("id", "language").send_keys(keys.ENTER)  # by the keyboard
        found["other"] = _look(browser, "light", "wide")
        browser.find_element("id", "language").click()
        found["back"] = _look(browser, "light", "wide")
        console = browser.get_log("browser")  # before axe-core, which is no part of the page
        if axe is not None:
            browser.execute_script(axe.read_text(encoding="utf-8"))
            found["axe"] = browser.execute_async_script(AXE)
    finally:
        browser.quit()
    return found | {"console": console}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)))
