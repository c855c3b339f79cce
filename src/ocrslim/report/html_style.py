"""The style sheet and the script of the report: both stand inside the file, which asks for nothing else."""

from __future__ import annotations

import base64
import hashlib

from ocrslim.report.bars import DARK, LIGHT

__all__ = ["POLICY", "SCRIPT", "STYLE"]


def _variables(palette: dict[str, str], link: str, good: str, bad: str, soft: str) -> str:
    told = palette | {"link": link, "good": good, "bad": bad, "soft": soft}
    return "; ".join(f"--{name}: {colour}" for name, colour in told.items())


# The pairs of text and ground have a contrast of 4.5 and more (WCAG 2.2, 1.4.3).
STYLE = f"""
:root {{ color-scheme: light dark; {_variables(LIGHT, "#0550ae", "#116329", "#a40e26", "#f6f8fa")} }}
@media (prefers-color-scheme: dark) {{
  :root {{ {_variables(DARK, "#79c0ff", "#56d364", "#ff9492", "#161b22")} }}
}}
html[data-lang="en"] .zh, html[data-lang="zh"] .en {{ display: none }}
* {{ box-sizing: border-box }}
body {{
  margin: 0 auto; max-width: 68rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
}}
h1, h2, h3, h4 {{ line-height: 1.25; overflow-wrap: break-word; min-width: 0 }}
h1 {{ font-size: 1.75rem; margin: 0 }}
h2 {{ font-size: 1.35rem; margin: 2.5rem 0 .75rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem }}
h3 {{ font-size: 1.1rem; margin: 1.75rem 0 .5rem }}
p {{ overflow-wrap: anywhere }}
a {{ color: var(--link) }}
.skip {{ position: absolute; left: -100rem }}
.skip:focus {{ position: static }}
:focus-visible {{ outline: 3px solid var(--link); outline-offset: 2px }}
header {{ display: flex; gap: 1rem; align-items: start; justify-content: space-between }}
button {{
  font: inherit; padding: .25rem .9rem; border: 1px solid var(--faint); border-radius: 6px;
  background: var(--soft); color: var(--ink); cursor: pointer; white-space: nowrap;
}}
nav ul {{ display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none }}
nav a {{ display: inline-block; padding: .15rem 0 }}
.headline {{ font-size: 1.3rem; font-weight: 600; margin: 1rem 0 }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .75rem; margin: 1rem 0 }}
.tiles > div {{ border: 1px solid var(--line); border-radius: 8px; padding: .75rem 1rem; background: var(--soft) }}
.tiles dt {{ color: var(--faint); font-size: .9rem }}
.tiles dd {{ margin: 0; overflow-wrap: anywhere }}
.tiles .large {{ font-size: 1.15rem; font-weight: 600 }}
.small {{ font-size: .9rem; color: var(--faint) }}
.good {{ color: var(--good) }}
.bad {{ color: var(--bad) }}
figure {{ margin: 1rem 0 }}
.scroll {{ overflow-x: auto; max-width: 100% }}
.scroll > svg {{ display: block; width: 100%; height: auto }}
.scroll > svg.ocrslim-bars {{ min-width: 760px }}
.scroll > svg.ocrslim-plot {{ min-width: 560px; max-width: 760px }}
.curves {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1rem }}
.curves figure {{ margin: 0 }}
.curves .scroll > svg.ocrslim-plot {{ min-width: 0; max-width: 420px }}
table {{ border-collapse: collapse; min-width: 100%; font-variant-numeric: tabular-nums }}
caption {{ text-align: left; padding: .25rem 0; color: var(--faint); font-size: .9rem }}
th, td {{ border-bottom: 1px solid var(--line); padding: .35rem .75rem .35rem 0 }}
th, td {{ text-align: left; vertical-align: top }}
thead th {{ color: var(--faint); font-weight: 600; font-size: .9rem }}
tbody th {{ font-weight: 400; overflow-wrap: break-word; min-width: 2rem }}
td.number, th.number {{ text-align: right }}
td.number {{ white-space: nowrap }}
td.text {{ overflow-wrap: break-word; min-width: 5rem; max-width: 34rem }}
td img {{ display: block; max-width: 320px; background: #fff }}
code {{ font: .9em ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere }}
pre {{ overflow-x: auto; background: var(--soft); border: 1px solid var(--line); border-radius: 8px }}
pre {{ padding: .75rem; margin: 0 }}
pre code {{ overflow-wrap: normal }}
mark {{ background: none; color: var(--bad); font-weight: 600; text-decoration: underline 2px }}
nav h2 {{ font-size: .9rem; border: 0; margin: 1rem 0 0; padding: 0; color: var(--faint) }}
details {{ margin: .75rem 0 }}
summary {{ cursor: pointer; padding: .25rem 0 }}
dl.facts {{ display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .35rem 1rem }}
dl.facts dt {{ color: var(--faint) }}
dl.facts dd {{ margin: 0; overflow-wrap: anywhere; min-width: 0 }}
.pair {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1rem }}
.pair svg {{ display: block; width: 100%; max-width: 480px; max-height: 640px; border: 1px solid var(--line) }}
.pair polygon {{ fill: none; vector-effect: non-scaling-stroke; stroke: #009e73; stroke-width: 1.5 }}
.pair polygon.alone {{ stroke: #d55e00; stroke-width: 3.5; stroke-dasharray: 7 3 }}
@media (max-width: 40rem) {{
  dl.facts {{ grid-template-columns: 1fr; gap: 0 }}
  dl.facts dd {{ margin-bottom: .6rem }}
  body {{ padding: .75rem }}
  h1 {{ font-size: 1.35rem }}
}}
@media print {{ button, nav, .skip {{ display: none }} }}
"""

SCRIPT = """
(function () {
  var page = document.documentElement, button = document.getElementById("language");
  button.hidden = false;
  button.addEventListener("click", function () {
    var zh = page.dataset.lang !== "zh";
    page.dataset.lang = zh ? "zh" : "en";
    page.lang = zh ? "zh-Hans" : "en";
    button.textContent = zh ? "English" : "中文";
    button.lang = zh ? "en" : "zh-Hans";
    document.title = zh ? page.dataset.titleZh : page.dataset.titleEn;
  });
})();
"""

_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    f" script-src 'sha256-{_HASH}'"
)
"""What a browser may do with the file: no script but ours, nothing from anywhere else."""
