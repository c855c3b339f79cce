"""What predict prints."""

from __future__ import annotations

from typing import Any

from ocrslim.report.reading import reading_text, summary_lines


def _page(*texts: str, file: str = "a.png", page: int | None = None, **more: Any) -> dict[str, Any]:
    return {"file": file, "page": page, "lines": [{"text": text} for text in texts]} | more


def _result(*pages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"pages": list(pages), "skipped": [], "seconds": 1.26} | more


DIFFERENCE = {
    "equal": 1,
    "changed": [{"line": 1, "other": {"text": "sitting"}}],
    "only_here": [2],
    "only_there": [{"text": "there"}],
}
AGAINST = {
    "models": {"det": {"name": "D"}, "rec": {"name": "R"}},
    **{"boxes_in_both": 2, "only_here": 1, "only_there": 1, "texts_equal": 1, "texts_changed": 1, "pages_changed": 1},
    "norm_edit_distance": 0.42857,
}


def test_one_page_is_its_text_and_nothing_else() -> None:
    assert reading_text(_result(_page("one", "two"))) == "one\ntwo\n"
    assert reading_text(_result(_page())) == ""


def test_several_pages_have_headings() -> None:
    result = _result(_page("one"), _page("two", file="b.pdf", page=3), _page())
    assert reading_text(result) == "==> a.png <==\none\n\n==> b.pdf, page 3 <==\ntwo\n\n==> a.png <==\n\n"


def test_differences_are_marked_line_by_line() -> None:
    page = _page("same", "kitten", "here", difference=DIFFERENCE)
    assert reading_text(_result(page)) == " same\n-sitting\n+kitten\n+here\n-there\n"


def test_the_summary_counts() -> None:
    result = _result(_page("one", "two"), _page("three"))
    assert summary_lines(result) == ["2 of 2 pages read, 0 skipped, 3 lines of text, 1.3 s"]


def test_what_was_skipped_is_named_with_its_reason() -> None:
    skipped = [
        {"file": "x.png", "page": None, "reason": "it is empty"},
        {"file": "b.pdf", "page": 7, "reason": "the page is damaged"},
    ]
    assert summary_lines(_result(_page("one"), skipped=skipped)) == [
        "skipped x.png: it is empty",
        "skipped b.pdf, page 7: the page is damaged",
        "1 of 3 pages read, 2 skipped, 1 lines of text, 1.3 s",
    ]


def test_a_picture_that_could_not_be_written_is_told_and_its_page_counts_as_read() -> None:
    assert summary_lines(_result(_page("one"), _page("two", file="b.pdf", page=3, note="the disk is full"))) == [
        "b.pdf, page 3: the disk is full",
        "2 of 2 pages read, 0 skipped, 2 lines of text, 1.3 s",
    ]


def test_a_comparison_is_one_more_line() -> None:
    assert summary_lines(_result(_page(), against=AGAINST))[-1] == (
        "against D + R: 2 boxes in both, 1 only here, 1 only there; 1 texts equal, 1 differ; 1-NED 0.4286;"
        " 1 pages differ"
    )
