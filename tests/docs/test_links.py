"""The documentation holds together: links and anchors, English and Chinese, and every command that it names.

Nothing is fetched: what a link to another host leads to is not looked at.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ocrslim.arguments import build_parser

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ENGLISH = sorted(page for page in DOCS.rglob("*.md") if "zh" not in page.relative_to(DOCS).parts)
TWINS = [(ROOT / "README.md", ROOT / "README.zh-CN.md")]
TWINS += [(page, DOCS / "zh" / page.relative_to(DOCS)) for page in ENGLISH]
PAGES = sorted({*ROOT.glob("README*.md"), ROOT / "configs" / "README.md", *DOCS.rglob("*.md")})

FENCE = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(<?([^()\s>]+(?:\([^()]*\))?)>?(?:\s+\"[^\"]*\")?\)")
REFERENCE = re.compile(r"^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
HTML = re.compile(r"\b(?:href|src)=\"([^\"]+)\"")
HEADING = re.compile(r"^(#{1,6}) +(.+?) *#*$", re.MULTILINE)
GENERATED = re.compile(r"^::: +(\S+)", re.MULTILINE)  # mkdocstrings makes an anchor of the name
ELSEWHERE = ("http://", "https://", "mailto:")

FOREIGN = {
    **dict.fromkeys(("--train", "--models", "--det-size", "--limit", "--batch"), "benchmarks/vs_paddleslim.py"),
    **dict.fromkeys(("--no-pact", "--paddleslim-python"), "benchmarks/vs_paddleslim.py"),
    "--stronglyTyped": "src/ocrslim/export/tensorrt_scripts.py",
}
"""Options of other programs that pages name alone, and the file of ours that has them."""


def name_of(page: Path) -> str:
    """Return what a test of a page is called."""
    return page.relative_to(ROOT).as_posix()


@cache
def text_of(page: Path) -> str:
    """Return a page's text without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def slug(heading: str) -> str:
    """Return the anchor that GitHub and, with the slugs of mkdocs.yml, MkDocs make of a heading."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    return re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page."""
    seen: dict[str, int] = {}
    found = set(GENERATED.findall(text_of(page)))
    for _, heading in HEADING.findall(text_of(page)):
        made = slug(heading)
        count = seen.get(made, 0)
        seen[made] = count + 1
        found.add(f"{made}-{count}" if count else made)
    return frozenset(found)


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links, without those to other hosts."""
    text = CODE.sub("", text_of(page))
    for pattern in (LINK, REFERENCE, HTML):
        for target in pattern.findall(text):
            if not target.startswith(ELSEWHERE):
                yield target


def broken(page: Path, target: str) -> str | None:
    """Say what is wrong with a link, or return ``None``."""
    path, _, anchor = target.partition("#")
    if path.startswith("/"):
        return "is absolute"
    aim = (page.parent / path).resolve() if path else page
    if not aim.exists():
        return "does not exist"
    if DOCS in page.parents and DOCS not in aim.parents:
        return "leaves docs/, which the built pages cannot follow"
    if anchor and (aim.suffix != ".md" or anchor not in anchors(aim)):
        return "has no such anchor"
    return None


def commands(page: Path) -> Iterator[str]:
    """Yield the ``ocrslim`` commands of a page, each on one line, in blocks of code and in the text."""
    whole = page.read_text(encoding="utf-8")
    lines = [line for _, _, block in FENCE.findall(whole) for line in block.replace("\\\n", " ").splitlines()]
    for piece in (*lines, *CODE.findall(text_of(page))):
        for part in re.split(r"&&|\s#\s", piece):
            said = " ".join(part.removeprefix("$").split())
            if said.startswith("ocrslim "):
                yield said


def lone_options(page: Path) -> Iterator[str]:
    """Yield what a page names as an option alone, such as ``--effort quick``."""
    for piece in CODE.findall(text_of(page)):
        if piece.startswith("--"):
            yield " ".join(piece.split())


@cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each subcommand."""
    (commands,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(commands.choices)


def wrong(words: list[str], among: list[argparse.ArgumentParser]) -> list[str]:
    """Return what is no option, or no choice of one, of any of the parsers.

    Args:
        words: of a command.
        among: one of these has to know an option.
    """
    found = []
    for place, word in enumerate(words):
        if not word.startswith("--"):
            continue
        for option in word.split("|"):
            name = option.partition("=")[0]
            actions = [parser._option_string_actions[name] for parser in among if name in parser._option_string_actions]
            if not actions:
                found.append(name)
                continue
            values = [option.partition("=")[2]] if "=" in option else words[place + 1 : place + 2]
            found += [f"{name} {value}" for value in values if not any(takes(action, value) for action in actions)]
    return found


def takes(action: argparse.Action, value: str) -> bool:
    """Tell whether an option takes a value; a capital stands for any, and ``a|b`` for each of them."""
    if action.choices is None or not value or value.startswith("--") or value.isupper() or value == "...":
        return True
    return all(part in action.choices for part in value.split("|"))


def words_of(said: str) -> list[str]:
    """Split a command; brackets mark what may be left out."""
    words = re.sub(r"[\[\](),;]", " ", said).split()
    return [word.rstrip(".:。，") if word != "..." else word for word in words]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    assert {target: said for target in links(page) if (said := broken(page, target))} == {}


@pytest.mark.parametrize(("english", "chinese"), TWINS, ids=lambda page: name_of(page))
def test_a_page_has_a_twin_of_the_same_build(english: Path, chinese: Path) -> None:
    assert chinese.is_file()
    ours, theirs = text_of(english), text_of(chinese)
    assert [len(marks) for marks, _ in HEADING.findall(ours)] == [len(marks) for marks, _ in HEADING.findall(theirs)]
    assert sorted(map(bare, commands(english))) == sorted(map(bare, commands(chinese)))
    generated = GENERATED.findall(ours)
    if generated:  # the docstrings are English: the twin links to each of them
        assert [target.partition("#")[2] for target in links(chinese) if "#" in target] == generated
        return
    for pattern in (r"^\|", r"^ *(?:[-*]|\d+\.) "):  # rows of tables, items of lists
        assert len(re.findall(pattern, ours, re.MULTILINE)) == len(re.findall(pattern, theirs, re.MULTILINE)), pattern
    assert [aim_of(english, target) for target in links(english)][1:] == [
        aim_of(chinese, target) for target in links(chinese)
    ][1:]


def aim_of(page: Path, target: str) -> str:
    """Return the file that a link leads to, by its name alone: that of a twin is the same."""
    return (page.parent / target.partition("#")[0]).name if not target.startswith("#") else page.name


def bare(said: str) -> str:
    """Return a command without what is said in brackets or in either language."""
    return re.sub(r"\s+", " ", re.sub(r"[^\x00-\x7f]", "", said)).strip()


def test_every_chinese_page_has_an_english_one() -> None:
    there = {page.relative_to(DOCS / "zh") for page in (DOCS / "zh").rglob("*.md")}
    assert there == {page.relative_to(DOCS) for page in ENGLISH}


@pytest.mark.parametrize(("english", "chinese"), TWINS, ids=lambda page: name_of(page))
def test_twins_link_to_each_other(english: Path, chinese: Path) -> None:
    for page, other in ((english, chinese), (chinese, english)):
        assert other in {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page: Path) -> None:
    for said in commands(page):
        _, command, *words = words_of(said)
        if command in ("--help", "--version"):
            continue
        assert command in parsers(), said
        assert wrong(words, [parsers()[command]]) == [], said
    foreign = {option for option, file in FOREIGN.items() if option in (ROOT / file).read_text(encoding="utf-8")}
    assert foreign == set(FOREIGN)
    for said in lone_options(page):
        words = words_of(said)
        if words[0] not in foreign:
            assert wrong(words, list(parsers().values())) == [], said


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_on_a_page_is_python(page: Path) -> None:
    for _, language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language.strip() == "python":
            ast.parse(block)


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"^\s*- (?:[^:\n]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_the_checks_find_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` c!\n\n[x](#a-b-c) [y](page.md#no) [z](none.md)\n```\n[q](none.md)\n```\n", "utf-8")
    assert [broken(page, target) for target in links(page)] == [None, "has no such anchor", "does not exist"]
    among = [parsers()["compress"]]
    assert wrong(words_of("--target openvino [--effort quick|max]"), among) == []
    assert wrong(words_of("--target tpu --effort quick|fast --no-such X"), among) == [
        "--target tpu",
        "--effort quick|fast",
        "--no-such",
    ]
    page = tmp_path / "commands.md"
    page.write_text("`ocrslim eval\nM --data D` and\n```\nx && ocrslim demo  # yes\n```\n", "utf-8")
    assert sorted(commands(page)) == ["ocrslim demo", "ocrslim eval M --data D"]


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "docs/index.md", "docs/zh/index.md"])
def test_what_a_new_user_needs_is_said_before_the_first_command(page: str) -> None:
    """The pinned versions want a newer Python than the package itself does."""
    before, command, _ = (ROOT / page).read_text(encoding="utf-8").partition("\npip install -c constraints.txt")
    assert command
    for need in ("git clone", "Python 3.11", "Python 3.10", "python3 -m venv .venv && . .venv/bin/activate"):
        assert need in before, need


@pytest.mark.parametrize("page", ["docs/index.md", "docs/zh/index.md"])
def test_the_completion_is_named(page: str) -> None:
    assert '`eval "$(ocrslim completion bash)"`' in (ROOT / page).read_text(encoding="utf-8")
