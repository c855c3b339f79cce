"""A hook of MkDocs: Chinese pages say in their HTML that they are Chinese, and Chinese lines join without a space."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["on_page_markdown", "on_post_page"]

WORDS = {
    'html lang="en"': 'html lang="zh"',
    "Table of contents": "目录",
    "Back to top": "回到顶部",
    "Skip to content": "跳到正文",
    "Copy to clipboard": "复制",
}
CHINESE = "\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"
BREAK = re.compile(rf"(?<=[{CHINESE}])\n *(?=[{CHINESE}])")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return the Markdown of a page with its Chinese paragraphs each on a line: HTML shows a line's end as a space.

    Args:
        markdown: of the page.
        page: that it is of.
        config: of the site.
        files: of the site.
    """
    return BREAK.sub("", markdown) if page.file.src_uri.startswith("zh/") else markdown


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Return the HTML of a page in its language.

    Args:
        output: the HTML.
        page: that it is of.
        config: of the site.
    """
    if page.file.src_uri.startswith("zh/"):
        for english, chinese in WORDS.items():
            output = output.replace(english, chinese)
    return output
