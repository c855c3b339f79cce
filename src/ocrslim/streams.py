"""What is printed, on a terminal or into a file of whatever encoding."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

__all__ = ["escape_what_cannot_be_written", "json_line"]


def escape_what_cannot_be_written() -> None:
    """Let an escape stand for a character that stdout or stderr does not have in its encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def json_line(data: Any) -> str:
    """Return JSON on one line; where stdout does not have every character, with JSON's own escapes."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "")
    return json.dumps(data, ensure_ascii=not encoding.startswith("utf8"))
