"""What a stream that lacks characters gets."""

from __future__ import annotations

import io
import json
import sys

import pytest

from ocrslim.streams import escape_what_cannot_be_written, json_line

TEXT = "ö 中 😀"


@pytest.mark.parametrize("encoding", ["ascii", "cp936", "utf-8"])
def test_nothing_that_is_printed_fails_and_json_stays_json(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    escape_what_cannot_be_written()
    sys.stdout.write(f"{TEXT}\n{json_line({'text': TEXT})}\n")
    sys.stdout.flush()
    plain, line = raw.getvalue().decode(encoding).splitlines()
    assert json.loads(line) == {"text": TEXT}
    assert (plain == TEXT) == (encoding == "utf-8")


def test_where_all_can_be_written_nothing_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write(json_line({"text": TEXT}))
    assert capsys.readouterr().out == f'{{"text": "{TEXT}"}}'
