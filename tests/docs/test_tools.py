"""What MkDocs is helped by: docstrings become Markdown, Chinese pages say that they are Chinese."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "docs" / "_tools"


def load(name: str) -> ModuleType:
    """Import one of the tools, which are no package."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(path: str) -> SimpleNamespace:
    """Return what MkDocs hands to a hook, as far as the hooks look at it."""
    return SimpleNamespace(file=SimpleNamespace(src_uri=path))


@pytest.mark.parametrize(
    ("path", "text", "made"),
    [
        ("zh/a.md", "一行，\n第二行\n\n- 项\n  续\n- 项", "一行，第二行\n\n- 项续\n- 项"),
        ("zh/a.md", "一行\nword", "一行\nword"),
        ("a.md", "一行\n第二行", "一行\n第二行"),
    ],
)
def test_chinese_lines_join(path: str, text: str, made: str) -> None:
    assert load("language").on_page_markdown(text, page(path), None, None) == made


def test_a_chinese_page_says_so() -> None:
    hook = load("language").on_post_page
    assert hook('<html lang="en">', page("zh/a.md"), None) == '<html lang="zh">'
    assert hook('<html lang="en">', page("a.md"), None) == '<html lang="en">'


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("``a`` and ``b``", "`a` and `b`"),
        (
            "see :func:`x.do_it`",
            'see <autoref optional identifier="x.do_it"><code>x.do&#95;it</code></autoref>',
        ),
        ("Do.\n\n>>> 1 + 1\n2\n", "Do.\n\n\n```pycon\n>>> 1 + 1\n2\n```\n"),
    ],
)
def test_docstrings_become_markdown(text: str, made: str) -> None:
    pytest.importorskip("griffe", reason="pip install -c constraints.txt -e '.[docs]'")
    assert load("docstrings").to_markdown(text) == made
