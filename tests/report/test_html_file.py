"""The report as a file: it asks for nothing, takes nothing that it is given for markup, and stays small."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocrslim.cli import main
from ocrslim.errors import InputError
from ocrslim.report import html as module
from ocrslim.report.html import report_page, write_report
from ocrslim.report.run_folder import Run, read_run

EVIL = "<script>alert('1')</script>\"'>&amp;"
Write = Callable[..., Path]
Parse = Callable[[str], Any]


def test_it_asks_for_nothing(result: dict[str, Any], write_run: Write, parse: Parse) -> None:
    source = report_page([read_run(write_run(result))])
    for tag, attributes in parse(source).elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), f"<{tag} {name}={value}>"
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in source
    assert "@import" not in source
    # What looks like an address is the name of the SVG language, nothing to fetch.
    assert set(re.findall(r"https?://[^\s\"'<]+", source)) <= {"http://www.w3.org/2000/svg"}


def test_a_browser_is_told_to_run_no_other_script(result: dict[str, Any], write_run: Write) -> None:
    source = report_page([read_run(write_run(result))])
    (script,) = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', source)
    assert policy
    assert f"script-src &#x27;sha256-{digest}&#x27;" in policy[1]
    assert policy[1].startswith("default-src &#x27;none&#x27;")


def poison(value: Any) -> Any:
    """Return the same with markup at the end of each text that says nothing to the report itself."""
    if isinstance(value, dict):
        kept = ("engine", "task", "metric", "against", "timed_on", "delivered", "image")
        return {key: item if key in kept else poison(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poison(item) for item in value]
    return value + EVIL if isinstance(value, str) and value not in ("float", "int8") else value


def test_nothing_that_it_is_given_is_markup(result: dict[str, Any], write_run: Write, parse: Parse) -> None:
    clean = parse(report_page([read_run(write_run(result))]))
    evil = poison(result)
    evil["differences"]["shown"][0]["image"] = f"/not/there{EVIL}"
    evil["model"]["name"] = EVIL
    run = read_run(write_run(evil, "evil"))
    for runs in ([run], [run, run]):
        found = parse(report_page(runs))
        assert [tag for tag, _ in found.elements].count("script") == 1
        assert EVIL in "".join(found.words)
        assert not [name for _, names in found.elements for name in names if name.startswith("on")]
    single = parse(report_page([run]))
    shape = [tag for tag, _ in single.elements if tag not in ("span", "mark", "em")]
    assert shape == [tag for tag, _ in clean.elements if tag not in ("span", "mark", "em")]


def test_characters_that_no_page_may_hold(result: dict[str, Any], parse: Parse, tmp_path: Path) -> None:
    result["model"]["name"] = "a\x00b\x1b\ud800c"
    result["differences"]["shown"][0]["int8"] = "\x01\udfff"
    source = report_page([Run(tmp_path, result)])
    source.encode()
    assert "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}c" in "".join(
        parse(source).words
    )


def test_pictures_give_way_before_it_grows_too_large(
    result: dict[str, Any], write_run: Write, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result["differences"]["shown"] = [{"image": str(picture), "label": "a", "float": "a", "int8": "b"}] * 4
    run = read_run(write_run(result))
    whole = report_page([run])
    assert whole.count("data:image/jpeg") == 4
    without = len(whole.encode()) - sum(map(len, re.findall(r"data:image/jpeg[^\"]*", whole)))
    monkeypatch.setattr(module, "FOR_PICTURES", 60_000)
    some = report_page([run])
    assert 0 < some.count("data:image/jpeg") < 4
    assert "The image is left out" in some
    monkeypatch.setattr(module, "MOST_BYTES", without + 1000)
    assert "data:image/jpeg" not in report_page([run])
    monkeypatch.setattr(module, "MOST_BYTES", 20_000)
    with pytest.raises(InputError, match=r"1 runs make a page of over 0\.02 MB; name fewer"):
        report_page([run])


def test_a_folder_of_many_layers_and_texts_stays_small(result: dict[str, Any], tmp_path: Path) -> None:
    result["sensitivity"] = result["sensitivity"] * 3000
    result["placement"]["float"] = [{"node": f"n{i}" * 50, "op": "Conv", "reason": "x" * 5000} for i in range(3000)]
    result["differences"]["shown"][0] |= {"float": "y" * 100_000, "int8": "z" * 100_000}
    page = report_page([Run(tmp_path, result)])
    assert len(page.encode()) < 1_000_000
    assert "and 2960 less sensitive sites" in page


def test_where_it_is_written(
    result: dict[str, Any], write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(result)
    assert write_report([folder]) == folder / "report.html"
    assert write_report([folder / "result.json"]) == folder / "report.html"
    monkeypatch.chdir(tmp_path)
    assert write_report([folder, folder]) == Path("report.html")
    assert (tmp_path / "report.html").is_file()
    other = write_report([folder], tmp_path / "other.html", "zh")
    assert 'data-lang="zh"' in other.read_text(encoding="utf-8")
    assert write_report([folder], other).read_text(encoding="utf-8") != ""  # a page is replaced
    for content in (b'{"mine": 1}', b"\x00<html", b"text about <html>"):
        (tmp_path / "notes.json").write_bytes(content)
        with pytest.raises(InputError, match=r"--out .*notes.json: is there and no HTML page; name another file"):
            write_report([folder], tmp_path / "notes.json")
        assert (tmp_path / "notes.json").read_bytes() == content
    with pytest.raises(InputError, match="is a folder; name a file"):
        write_report([folder], tmp_path)
    with pytest.raises(InputError, match=r"can't be written .*; give --out FILE"):
        write_report([folder], tmp_path / "no" / "such" / "report.html")
    with pytest.raises(InputError, match="name the folder of a run"):
        write_report([])


def test_the_command(
    result: dict[str, Any], write_run: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(result)
    assert main(["report", str(folder), str(folder), "--out", str(tmp_path / "r.html"), "--lang", "zh"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "r.html")
    assert "2 次运行对比" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path / 'result.json'}: no such file; name a folder that `ocrslim compress` or `prune` wrote" in error
