"""The images where two models differ: side by side, with what each of them said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocrslim.report.html_differences import differences
from ocrslim.report.html_parts import section
from ocrslim.report.thumbnails import Album

Parse = Callable[[str], Any]


def markup(result: dict[str, Any], room: int = 10**6) -> str:
    return section(differences(result, Album(room), "p-", 3), 2).markup


def page_of(image: str | None, **answers: Any) -> dict[str, Any]:
    return {
        **{"image": image, "labelled": 3},
        "float": {"matched": 2, "both": ["0,0 9,0 9,9 0,9"], "alone": ["10,10 20,10 20,20"]},
        "int8": {"matched": 1, "both": ["1,0 9,0 9,9 0,9"], "alone": []},
        **answers,
    }


@pytest.fixture
def pages(result: dict[str, Any], picture: Path) -> dict[str, Any]:
    """A detector's result with one image that is there, and one that is not."""
    result["model"]["task"] = "det"
    result["differences"] = {"n": 2, "worse": 1, "better": 0, "shown": [page_of(str(picture)), page_of("/no/such.png")]}
    return result


def test_lines_stand_beside_their_texts(result: dict[str, Any], picture: Path, parse: Parse) -> None:
    result["differences"]["shown"][0]["image"] = str(picture)
    page = parse(markup(result))
    (rows,) = page.tables.values()
    assert rows[0] == ["No.", "Image", "Label", "float", "int8"]
    assert rows[1] == ["1", "", "total", "total", "tota1"]
    assert rows[2] == ["2", "The image was rendered or given as pixels and is not kept.", "", "(nothing)", "x"]
    (image,) = [attributes for tag, attributes in page.elements if tag == "img"]
    assert image["alt"] == "1: a picture.png"
    assert (image["width"], image["height"]) == ("320", "100")
    text = "".join(page.words)
    assert "3 of 1601 images differ: 2 worse in the int8 model, 1 better, 0 neither. Shown: 2" in text


def test_the_letters_that_differ_are_marked(result: dict[str, Any]) -> None:
    source = markup(result)
    assert "tota<mark>l</mark>" in source
    assert "tota<mark>1</mark>" in source


def test_a_missing_image_is_told_of_in_a_line(result: dict[str, Any], parse: Parse) -> None:
    assert "The image is not there any more: /not/there.png" in "".join(parse(markup(result)).words)
    result["differences"]["shown"][0]["image"] = "/a\x00b"
    assert "The image is not there any more" in markup(result)


def test_pages_show_the_boxes_of_both(pages: dict[str, Any], parse: Parse) -> None:
    source = markup(pages)
    page = parse(source)
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert [item["aria-label"] for item in pictures] == ["float: a picture.png", "int8: a picture.png"]
    assert {item["viewbox"] for item in pictures} == {"0 0 640 200"}
    polygons = [(item.get("class"), item["points"]) for tag, item in page.elements if tag == "polygon"]
    assert polygons == [
        *((None, "0,0 9,0 9,9 0,9"), ("alone", "10,10 20,10 20,20")),
        (None, "1,0 9,0 9,9 0,9"),
    ]
    assert source.count("data:image/jpeg") == 1  # the pixels stand there once
    assert '<use href="#p-image1"/>' in source
    text = "".join(page.words)
    assert "float: 2 boxes, 1 without a partner; 2 of 3 labels found" in text
    assert "int8: 1 boxes, 0 without a partner; 1 of 3 labels found" in text
    assert "The image is not there any more: /no/such.png" in text


@pytest.mark.parametrize("box", ['0,0 1,1 2,2"/><script>', "0,0 1,1", "a", 5, None, "1e9,0 1,1 2,2"])
def test_a_damaged_box_is_not_drawn(pages: dict[str, Any], picture: Path, parse: Parse, box: Any) -> None:
    pages["differences"]["shown"] = [page_of(str(picture), float={"both": [box], "alone": "x"}, int8=[])]
    page = parse(markup(pages))
    assert not [tag for tag, _ in page.elements if tag in ("polygon", "script")]


def test_no_room_for_a_picture(pages: dict[str, Any], parse: Parse) -> None:
    text = "".join(parse(markup(pages, 10)).words)
    assert "The image is left out: this file would be too large." in text
    assert "float: 2 boxes, 1 without a partner" in text


def test_none_differ_and_none_are_known(result: dict[str, Any]) -> None:
    result["differences"] = {"n": 0, "worse": 0, "better": 0, "shown": []}
    assert "Both models gave the same answer on all 1601 images." in markup(result)
    result["differences"] = None
    assert "written by an older ocrslim" in markup(result)


def test_without_labels_nothing_is_worse(result: dict[str, Any]) -> None:
    result["drop"]["openvino"]["against"] = "float"
    source = markup(result)
    assert "3 of 1601 images differ. Shown: 2, the farthest first." in source
    assert "worse" not in source
