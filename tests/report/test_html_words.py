"""Every sentence stands in both languages, with the same values, and phrases of other rooms are known in both."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.placing import SLOW_REASON, SMALL_REASON
from ocrslim.report.html_sentences import SENTENCES
from ocrslim.report.html_words import LONGEST, Said, as_html, escape, interval, loss, plain, said, translated
from ocrslim.report.result import loss_in_words
from ocrslim.scene import FLOAT_REASON

LATIN = set(string.ascii_letters)


def fields(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


@pytest.mark.parametrize("key", SENTENCES)
def test_both_languages_say_the_same_values(key: str) -> None:
    english, chinese = SENTENCES[key]
    assert english
    assert chinese
    assert fields(english) == fields(chinese)


# What is called the same in both languages.
SAME = {"the int8", "int8", "cpu", "layers axis", "metric hmean"}


@pytest.mark.parametrize("key", sorted(SENTENCES.keys() - SAME))
def test_the_chinese_is_chinese(key: str) -> None:
    english, chinese = SENTENCES[key]
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in english)


def test_values_are_filled_in_and_escaped_only_in_html() -> None:
    told = said("image of", n=3, name="<b>.png")
    assert told == ("Image 3: <b>.png", "图像 3：<b>.png")
    assert as_html(told) == (
        '<span class="en" lang="en">Image 3: &lt;b&gt;.png</span>'
        '<span class="zh" lang="zh-Hans">图像 3：&lt;b&gt;.png</span>'
    )


def test_a_value_in_two_languages_goes_into_each() -> None:
    told = said("headline missed", time=said("faster", times="2.00", engine="e"))
    assert told.en == "Not within the budget, 2.00 times as fast on e"
    assert told.zh == "超出预算，在 e 上速度为浮点的 2.00 倍"


def test_braces_in_a_value_are_no_fields() -> None:
    assert said("layers none", why="{0.__class__} {x}").en == "Not known: {0.__class__} {x}."


def test_a_name_is_told_once_and_a_long_one_is_cut() -> None:
    assert as_html(plain("a & b")) == "a &amp; b"
    assert len(plain("x" * 10_000).en) == LONGEST + 1


@given(st.text(st.characters(blacklist_categories=())))
def test_any_text_can_be_written_and_ends_no_attribute(text: str) -> None:
    found = escape(text)
    found.encode()
    assert not set("<>\"'") & set(found)


@pytest.mark.parametrize(
    ("drop", "chinese"),
    [
        ({"metric": "accuracy", "points": 0.684}, "准确率损失 0.68 个百分点"),
        ({"metric": "hmean", "points": -1.5}, "hmean提高 1.50 个百分点"),
        ({"metric": "accuracy", "points": 2.0, "against": "float"}, "无标注：2.00% 的文本行与浮点模型的读法不同"),
        (
            {"metric": "hmean", "points": 2.0, "against": "float"},
            "无标注：与浮点模型检出的框相差 2.00 个百分点（hmean）",
        ),
    ],
)
def test_a_loss_in_words(drop: dict[str, Any], chinese: str) -> None:
    assert loss(drop) == Said(loss_in_words(drop), chinese)


def test_an_interval_is_that_of_the_gain_where_there_is_one() -> None:
    assert interval({"metric": "hmean", "points": -1.0, "low": -2.5, "high": 0.5}).en == "-0.50 to +2.50"


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("sums of 16 products only: no time to gain from int8", "每个输出只累加 16 个乘积：int8 省不了时间"),
        ("calibrated (output, a scale for each channel)", "校准（output，每个通道一个尺度）"),
        ("equalised and calibrated (output)", "均衡后校准（output）"),
        ("calibrated (output, outputs too)", "校准（output，输出也量化）"),
        (
            "calibrated (output, a scale for each channel, 3 more sites in int8, outputs too)",
            "校准（output，每个通道一个尺度，另有 3 处为 int8，输出也量化）",
        ),
        ("3 sites float: a, b", "3 处保持浮点：a, b"),
        ("the labels of the part of x.txt held back from training", "x.txt 中未参与训练部分的标注"),
        ("the labels of x.txt", "x.txt 的标注"),
        (SMALL_REASON, "不在最大的之列，而只要求最大的"),
        (SLOW_REASON, "按实测，在这里浮点更快"),
        (FLOAT_REASON, "敏感：量化所失的精度大于省下的时间"),
        ("said by nobody yet", "said by nobody yet"),
    ],
)
def test_phrases_of_other_rooms(english: str, chinese: str) -> None:
    assert translated(english) == Said(english, chinese)
