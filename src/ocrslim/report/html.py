"""``report.html``: what a run measured, or several, as one file that a browser shows without asking for another.

It says what ``result.json`` says, with pictures; the only thing read beside it are the model's constants (for the size
by layer) and the images where the two models differ, if they are still there. It is in English and in Chinese at once,
and a button changes between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ocrslim import __version__
from ocrslim.errors import InputError, OcrslimError
from ocrslim.report.html_comparison import comparison
from ocrslim.report.html_differences import differences
from ocrslim.report.html_made import again, channels, kept_float, layers, sensitivity, training
from ocrslim.report.html_measured import candidates, figures, latency, verdict
from ocrslim.report.html_parts import Html, Section, heading, paragraph, section, text
from ocrslim.report.html_style import POLICY, SCRIPT, STYLE
from ocrslim.report.html_words import TAGS, Lang, Said, escape, said
from ocrslim.report.result import made_of, title_of, write_text
from ocrslim.report.run_folder import Run, read_run
from ocrslim.report.thumbnails import Album

__all__ = ["MOST_BYTES", "NAME", "report_page", "try_report", "write_report"]

NAME = "report.html"
MOST_BYTES = 5_000_000  # of the file
LONGEST_START = 1024  # bytes of a file by which a page is known
FOR_PICTURES = 3_000_000  # of these


def write_report(
    folders: Sequence[Path], out: Path | None = None, lang: Lang = "en", times: Sequence[float] | None = None
) -> Path:
    """Write the report of one run or of several.

    Args:
        folders: that ``ocrslim compress`` or ``ocrslim prune`` wrote.
        out: the file; ``None`` is ``report.html`` in the run's folder, for several in the current one.
        lang: what the page opens in.
        times: of each folder's model to float's, where all were timed in turns; see :class:`.run_folder.Run`.

    Returns:
        Path: the file.

    Raises:
        InputError: a folder is no run's, or the file can't be written, would be too large, or is there and no page.
    """
    if not folders:
        raise InputError("report: name the folder of a run")
    runs = [read_run(folder) for folder in folders]
    if times is not None:
        runs = [replace(run, time=time) for run, time in zip(runs, times, strict=True)]
    path = out or (runs[0].folder / NAME if len(runs) == 1 else Path(NAME))
    _refuse_others(path)
    page = report_page(runs, lang)
    try:
        write_text(path, page)
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror}); give --out FILE") from error
    return path


def _refuse_others(path: Path) -> None:
    """Refuse to write over a folder, or a file that is no page: it is somebody's, and named by mistake."""
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder; name a file")
    try:
        with path.open("rb") as file:
            start = file.read(LONGEST_START)
    except OSError:
        return  # it is not there, or the writing says why it can't be
    begins = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start and not begins.startswith((b"<!doctype html", b"<html")):
        raise InputError(f"--out {path}: is there and no HTML page; name another file")


def try_report(
    folders: Sequence[Path], console: Console | None, out: Path | None = None, times: Sequence[float] | None = None
) -> None:
    """Write the report where a run has ended; what it left is there, whatever becomes of the page.

    Args:
        folders: see :func:`write_report`.
        console: where it is said that there is no page; nowhere when ``None``.
        out: see :func:`write_report`.
        times: see :func:`write_report`.
    """
    try:
        write_report(folders, out, times=times)
    except (OcrslimError, OSError) as error:
        told = f"without {NAME}: {' '.join(str(error).split())}"
        (console or Console(quiet=True)).print(told, markup=False, soft_wrap=True)


def report_page(runs: Sequence[Run], lang: Lang = "en") -> str:
    """Return the page.

    Args:
        runs: one, or several to be compared; at least one.
        lang: what it opens in.

    Raises:
        InputError: so many runs that the page would be larger than :data:`MOST_BYTES`.
    """
    page = _page(runs, lang, FOR_PICTURES)
    if len(page.encode()) > MOST_BYTES:
        page = _page(runs, lang, 0)  # without pictures rather than not at all
    if len(page.encode()) > MOST_BYTES:
        raise InputError(f"report: {len(runs)} runs make a page of over {MOST_BYTES / 1e6:g} MB; name fewer")
    return page


def _page(runs: Sequence[Run], lang: Lang, room: int) -> str:
    album = Album(room)
    several = len(runs) > 1
    if several:
        title, head = said("title many", n=len(runs)), said("heading many", n=len(runs))
        parts = [section(comparison(runs), 2)]
        links = [("comparison", said("comparison"))]
        for number, run in enumerate(runs, 1):
            name = f"run{number}"
            inside = "\n".join(section(part, 3, name).markup for part in _sections(run, album, f"{name}-", 4))
            what = _numbered(number, _name(run))
            parts.append(Html(f'<article aria-labelledby="{name}">{heading(what, 2, name).markup}\n{inside}</article>'))
            links.append((name, what))
    else:
        sections = _sections(runs[0], album, "", 3)
        title, head = _name(runs[0], "title one"), _name(runs[0])
        parts = [section(part, 2) for part in sections]
        links = [(part.key, part.title) for part in sections]
    body = "\n".join(part.markup for part in (_navigation(links), Html('<main id="content">'), *parts))
    return _document(title, head, f"{body}\n</main>", lang)


def _sections(run: Run, album: Album, prefix: str, level: int) -> list[Section]:
    """Return the sections of a run, in the order of what a reader wants to know."""
    result, made = run.result, made_of(run.result)
    of_int8 = made == "int8"
    return [
        verdict(result),
        figures(result),
        latency(result),
        *([candidates(result)] if of_int8 else []),
        differences(result, album, prefix, level),
        *([sensitivity(result)] if of_int8 else []),
        *([training(result)] if made != "rewritten" else []),
        *([channels(result)] if made == "pruned" else []),
        layers(result, run.folder),
        *([kept_float(result)] if of_int8 else []),
        again(result),
    ]


def _name(run: Run, key: str = "heading one") -> Said:
    return said(key, name=title_of(run.result), target=run.result["target"])


def _numbered(number: int, words: Said) -> Said:
    return Said(*(f"{number}. {text}" for text in words))


def _navigation(links: Sequence[tuple[str, Said]]) -> Html:
    items = "".join(f'<li><a href="#{escape(name)}">{text(words)}</a></li>' for name, words in links)
    head = heading(said("contents"), 2, "contents").markup
    return Html(f'<nav aria-labelledby="contents">{head}<ul>{items}</ul></nav>')


def _document(title: Said, head: Said, body: str, lang: Lang) -> str:
    """Return the whole file around its body."""
    other = ("English", "en") if lang == "zh" else ("中文", "zh-Hans")
    titles = f'data-title-en="{escape(title.en)}" data-title-zh="{escape(title.zh)}"'
    made = paragraph(said("made", version=__version__), "small").markup + paragraph(said("private"), "small").markup
    return f"""<!DOCTYPE html>
<html lang="{TAGS[lang]}" data-lang="{lang}" {titles}>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(getattr(title, lang))}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#content">{text(said("skip"))}</a>
<header><h1>{text(head)}</h1><button id="language" type="button" lang="{other[1]}" hidden>{other[0]}</button></header>
{body}
<footer>{made}</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""
