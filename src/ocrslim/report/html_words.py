"""What the report says, in English and in Chinese: every sentence stands here once in each, under one key.

Values go into a sentence as text and are escaped when it becomes HTML, so that nothing that comes from a model, a path
or an image is ever read as markup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape as html_escape
from typing import Any, Literal, NamedTuple, TypeAlias

from ocrslim.report.bars import FORBIDDEN
from ocrslim.report.html_sentences import SENTENCES
from ocrslim.report.result import interval_in_words, loss_in_words

__all__ = [
    "LANGUAGES",
    "TAGS",
    "Lang",
    "Said",
    "as_html",
    "between",
    "escape",
    "interval",
    "loss",
    "metric_name",
    "plain",
    "said",
    "translated",
]

Lang: TypeAlias = Literal["en", "zh"]
LANGUAGES: tuple[Lang, Lang] = ("en", "zh")
TAGS = {"en": "en", "zh": "zh-Hans"}
LONGEST = 300  # characters of a text that is shown


class Said(NamedTuple):
    """One text in both languages, not escaped."""

    en: str
    zh: str


def plain(value: object) -> Said:
    """Return a text that is the same in both languages: a name, a number, a path; a very long one loses its end."""
    text = str(value)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}\N{HORIZONTAL ELLIPSIS}"
    return Said(text, text)


def said(key: str, **values: object) -> Said:
    """Return a sentence of :data:`ocrslim.report.html_sentences.SENTENCES` with its values filled in.

    Args:
        key: of the sentence.
        **values: by their names in it; a :class:`Said` goes into each language as it is there.
    """
    told = {name: value if isinstance(value, Said) else plain(value) for name, value in values.items()}
    english, chinese = SENTENCES[key]
    return Said(
        english.format(**{name: value.en for name, value in told.items()}),
        chinese.format(**{name: value.zh for name, value in told.items()}),
    )


def escape(text: str) -> str:
    """Return a text as HTML shows it, in quotes too; characters that HTML has not are shown as U+FFFD."""
    return html_escape(FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text))


def as_html(text: Said | str) -> str:
    """Return a text as HTML: escaped; where the languages differ, each in a span that the other's readers do not see.

    >>> as_html("a<b")
    'a&lt;b'
    """
    if isinstance(text, str) or text.en == text.zh:
        return escape(text if isinstance(text, str) else text.en)
    return "".join(
        f'<span class="{lang}" lang="{TAGS[lang]}">{escape(words)}</span>'
        for lang, words in zip(LANGUAGES, text, strict=True)
    )


def interval(drop: Mapping[str, Any]) -> Said:
    """Return the interval of what :func:`loss` says, in points."""
    english = interval_in_words(drop)
    return Said(english, english.replace(" to ", " 至 "))


def between(low: float, high: float) -> Said:
    """Return an interval, in points."""
    return Said(f"{low:+.2f} to {high:+.2f}", f"{low:+.2f} 至 {high:+.2f}")


def metric_name(name: str) -> Said:
    """Return a metric's name in both languages; as it is where it is not known."""
    key = f"metric {name}"
    return said(key) if key in SENTENCES else plain(name)


def loss(drop: Mapping[str, Any]) -> Said:
    """Say what was lost or gained; in English as everywhere else.

    Args:
        drop: of ``result.json``; see :func:`ocrslim.report.result.loss_in_words`.
    """
    points, metric = drop["points"], metric_name(drop["metric"]).zh
    if drop.get("against", "labels") == "labels":
        key = "gained" if points < 0 else "lost"
    else:
        key = "lines differ" if drop["metric"] == "accuracy" else "boxes differ"
    return Said(loss_in_words(drop), SENTENCES[key][1].format(points=f"{abs(points):.2f}", metric=metric))


# Why channels stay, as pruning says after an operator's kind and name.
AT_A_NODE = (
    (r"channels can't be followed through this operator", r"通道无法穿过此算子追踪"),
    (r"a transposed convolution in groups", r"分组的转置卷积"),
    (r"each channel's share depends on all", r"每个通道的份额取决于全部通道"),
    (r"it normalizes several axes", r"对多个轴归一化"),
    (r"a product with a vector", r"与向量相乘"),
    (r"no layer with constant weights", r"不是带常量权重的层"),
    (r"it sums up over channels", r"对通道求和"),
    (r"the shape is computed at run time", r"形状在运行时计算"),
    (r"channels are mixed with others", r"通道与别的混在一起"),
    (r"its bounds are computed at run time", r"边界在运行时计算"),
    (r"it takes every (\d+)th channel", r"每 \2 个通道取一个"),
)

# A rung of the climb and what is told of it, each part a phrase of its own.
CALIBRATED = re.compile(r"((?:equalised and )?calibrated) \((.+)\)")
IN_CHINESE = {"calibrated": "校准", "equalised and calibrated": "均衡后校准"}

# What other rooms write into result.json in English, and the same in Chinese.
PHRASES = tuple(
    (re.compile(english), chinese)
    for english, chinese in (
        (r"stem: reads the image, whose values lie on rounding ties", "首层：直接读取图像，其取值正好落在舍入边界上"),
        (
            r"depthwise convolution: on many CPUs slower in int8 than in float",
            "深度卷积：在许多 CPU 上 int8 比浮点更慢",
        ),
        (r"grouped convolution: no int8 kernel that is worth it", "分组卷积：没有值得使用的 int8 内核"),
        (r"faster in float here, by the clock", "按实测，在这里浮点更快"),
        (r"not among the largest, which alone were asked for", "不在最大的之列，而只要求最大的"),
        (r"sites \(all that may be int8\)", "所有可用 int8 的算子"),
        (r"outputs of sites", "各算子的输出"),
        (r"sites \(all but the largest\)", "最大的以外的算子"),
        (r"depthwise convolutions at (\S+)", r"\1 处的深度卷积"),
        (r"convolutions of few products at (\S+)", r"\1 处求和项少的卷积"),
        (r"convolutions at (\S+)", r"\1 处的卷积"),
        (r"products at (\S+)", r"\1 处的矩阵乘积"),
        (r"sums of (\d+) products only: no time to gain from int8", r"每个输出只累加 \1 个乘积：int8 省不了时间"),
        (r"squeeze-and-excitation: little work, much error", "SE 模块：计算量小，误差大"),
        (
            r"no constant weight: a product of two activations, as in attention",
            "没有常量权重：两个激活值相乘，如注意力",
        ),
        (r"transposed convolution: no int8 kernel that is worth it", "转置卷积：没有值得使用的 int8 内核"),
        (r"sensitive: quantized, it costs more accuracy than its time is worth", "敏感：量化所失的精度大于省下的时间"),
        (r"kept float on request", "按要求保持浮点"),
        (r"smaller is not faster", "更窄也不会更快"),
        (r"(\d+) channels are the least", r"至少要 \1 个通道"),
        (r"too narrow for multiples of (\d+)", r"太窄，不足 \1 的倍数"),
        (r"the goal was reached", "已达到目标"),
        (r"others lose less for the time that they save", "别的组省同样的时间损失更小"),
        (r"the model's answer", "模型的输出"),
        (r"no layer with weights reads the channels", "没有带权重的层读取这些通道"),
        (r"(.+) has no channels along axis (-?\d+)", r"\1 的第 \2 轴不是通道"),
        *((rf"(.+): {english}", rf"\1：{chinese}") for english, chinese in AT_A_NODE),
        (r"makes the model's output, which stays float", "产生模型的输出，输出保持浮点"),
        (r"weight of unknown shape", "权重形状未知"),
        (r"batched weight", "带批次维的权重"),
        (r"Gemm with a transposed or scaled input", "输入经转置或缩放的 Gemm"),
        (r"the labels of the part of (.+) held back from training", r"\1 中未参与训练部分的标注"),
        (r"the labels of (.+)", r"\1 的标注"),
        (
            r"agreement with the float model \(no labels\) on rendered text held back from training",
            "未参与训练的合成文本上与浮点模型的一致性（无标注）",
        ),
        (
            r"agreement with the float model \(no labels\) on images of (.+) held back from training",
            r"\1 中未参与训练的图像上与浮点模型的一致性（无标注）",
        ),
        (r"a scale for each channel", "每个通道一个尺度"),
        (r"(\d+) more sites in int8", r"另有 \1 处为 int8"),
        (r"outputs too", "输出也量化"),
        (r"trained (\d+) steps", r"训练 \1 步"),
        (
            r"TensorRT did not run the model here; all figures are those of (\S+) on the CPU",
            r"TensorRT 没有在这里运行模型；所有数字都是 \1 在 CPU 上的",
        ),
        (
            r"Paddle did not run the int8 model here: paddlepaddle is not installed \((.+)\); all figures are those of"
            r" (\S+) for the same integers in model\.onnx",
            r"Paddle 没有在这里运行 int8 模型：未安装 paddlepaddle（\1）；所有数字都是 \2 对 model.onnx 中同样的整数的",
        ),
        (r"(\d+) sites float: (.+)", r"\1 处保持浮点：\2"),
    )
)


def translated(text: str) -> Said:
    """Return a phrase that another room wrote in English, in both languages; in English only where it is not known."""
    text = plain(text).en
    if found := CALIBRATED.fullmatch(text):
        return Said(
            text, f"{IN_CHINESE[found[1]]}（{'，'.join(translated(part).zh for part in found[2].split(', '))}）"
        )
    for pattern, chinese in PHRASES:
        if found := pattern.fullmatch(text):
            return Said(text, found.expand(chinese))
    return plain(text)
