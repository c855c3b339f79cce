"""Text can be read on its ground in light and in dark, and the style sheet asks for nothing."""

from __future__ import annotations

import re

import pytest

from ocrslim.report.html_style import POLICY, SCRIPT, STYLE

ENOUGH = 4.5  # WCAG 2.2, 1.4.3
TEXTS, GROUNDS = ("ink", "faint", "link", "good", "bad"), ("paper", "soft")
LIGHT_AND_DARK = re.findall(r":root \{([^}]*)\}", STYLE)


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb``, WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_as_it_is_defined() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("rules", LIGHT_AND_DARK, ids=["light", "dark"])
@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("text", TEXTS)
def test_text_can_be_read(rules: str, ground: str, text: str) -> None:
    palette = dict(re.findall(r"--(\w+): (#\w{6})", rules))
    assert contrast(palette[text], palette[ground]) >= ENOUGH


def test_both_schemes_name_the_same_colours() -> None:
    light, dark = (set(re.findall(r"--(\w+):", rules)) for rules in LIGHT_AND_DARK)
    assert light == dark
    assert set(re.findall(r"var\(--(\w+)\)", STYLE)) <= light


def test_nothing_is_fetched() -> None:
    for text in (STYLE, SCRIPT):
        assert not re.search(r"url\(|@import|https?:|//\w", text)
        assert "</" not in text
    assert "default-src 'none'" in POLICY
