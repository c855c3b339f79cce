"""The label maps of DB against a brute force of their own: distances of each pixel to each edge, on a finer grid."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ocrslim.ocr.det_targets import border_maps, offset_distance, shrink_maps
from ocrslim.ocr.polygon import is_valid, polygon_area

SIZE = 128
SHAPE = (SIZE, SIZE)
FINE = 4  # points to a pixel's side in the brute force
Points = NDArray[np.float32]


def random_polygon(seed: int) -> Points:
    """Return a whole-numbered simple polygon: quadrilaterals, convex and star-shaped ones in turn."""
    rng = np.random.default_rng([seed, 7])
    while True:
        middle = rng.uniform(40, SIZE - 40, 2)
        if seed % 3 == 0:  # a turned rectangle, as text boxes are
            half, angle = rng.uniform((18, 6), (38, 20)), rng.uniform(0, math.pi)
            turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ turn.T
        else:
            count = int(rng.integers(4, 9))
            angles = np.sort(rng.uniform(0, 2 * math.pi, count))
            radii = rng.uniform(14, 38, count) if seed % 3 == 1 else np.full(count, rng.uniform(15, 38))
            corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
        polygon = np.rint(corners + middle).astype(np.float32)
        inside = polygon.min() >= 0 and polygon.max() <= SIZE - 1
        if is_valid(polygon) and inside and polygon_area(polygon) > 200 and np.ptp(polygon, axis=0).min() >= 8:
            return polygon if seed % 2 else polygon[::-1].copy()


def brute_distances(polygon: Points, fine: int = 1) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return of each point of a grid the distance to the outline, and whether it is inside (by counting crossings)."""
    count = (SIZE - 1) * fine + 1
    x, y = np.meshgrid(np.arange(count) / fine, np.arange(count) / fine)
    nearest, crossings = np.full(x.shape, np.inf), np.zeros(x.shape, int)
    for index in range(len(polygon)):
        (ax, ay), (bx, by) = polygon[index - 1].astype(float), polygon[index].astype(float)
        length = (bx - ax) ** 2 + (by - ay) ** 2
        share = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length, 0, 1) if length else np.zeros_like(x)
        nearest = np.minimum(nearest, np.hypot(x - ax - share * (bx - ax), y - ay - share * (by - ay)))
        if ay != by:
            crosses = (ay > y) != (by > y)
            crossings += crosses & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return nearest, crossings % 2 == 1


def brute_offset(polygon: Points, ratio: float) -> float:
    edges = sum(math.dist(polygon[i - 1], polygon[i]) for i in range(len(polygon)))
    doubled = sum(
        float(polygon[i - 1][0]) * float(polygon[i][1]) - float(polygon[i][0]) * float(polygon[i - 1][1])
        for i in range(len(polygon))
    )
    return abs(doubled) / 2 * (1 - ratio**2) / edges


def brute_shrunk(polygon: Points) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Return distance and inside at pixels, and the offset: of ratio 0.4, or 0.8 where 0.4 leaves not one piece."""
    nearest, inside = brute_distances(polygon, FINE)
    offset = 0.0
    for ratio in (0.4, 0.8):
        offset = brute_offset(polygon, ratio)
        pieces = cv2.connectedComponents(((nearest >= offset) & inside).astype(np.uint8), connectivity=8)[0] - 1
        if pieces == 1:
            break
    return nearest[::FINE, ::FINE], inside[::FINE, ::FINE], offset


SEEDS = range(50)


def pieces_are_clear(polygon: Points) -> bool:
    """Say whether a pixel more or less makes no other number of pieces: there the rounding of Clipper decides."""
    nearest, inside = brute_distances(polygon, FINE)
    offset = brute_offset(polygon, 0.4)
    counts = [
        cv2.connectedComponents(((nearest >= offset + slack) & inside).astype(np.uint8))[0]
        for slack in (-1, -0.5, 0.5, 1)
    ]
    return len(set(counts)) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_shrunk_text_is_what_lies_deep_enough_inside(seed: int) -> None:
    polygon = random_polygon(seed)
    text, mask = shrink_maps(SHAPE, [polygon], [False])
    nearest, inside, offset = brute_shrunk(polygon)
    assert mask.all()
    if not pieces_are_clear(polygon):
        assert not text[~inside & (nearest > 1)].any()
        return
    # Clipper's corners are whole pixels and fillPoly draws the outline itself: 1.5 pixels either way.
    deep = inside & (nearest >= offset + 1.5)
    outside = ~inside | (nearest <= offset - 1.5)
    assert (text[deep] == 1).all()
    assert (text[outside] == 0).all()
    expected = inside & (nearest >= offset)
    overlap = (text.astype(bool) & expected).sum() / max(1, (text.astype(bool) | expected).sum())
    assert overlap > 0.75 or expected.sum() < 150


def test_nearly_all_polygons_are_clear() -> None:
    assert sum(pieces_are_clear(random_polygon(seed)) for seed in SEEDS) >= 40


@pytest.mark.parametrize("seed", SEEDS)
def test_the_border_is_a_ramp_of_the_distance(seed: int) -> None:
    polygon = random_polygon(seed)
    drawn, mask = border_maps(SHAPE, [polygon], [False])
    nearest, inside = brute_distances(polygon)
    offset = brute_offset(polygon, 0.4)
    expected = 0.3 + 0.4 * np.maximum(0, 1 - nearest / offset)
    # Cut where the box of the grown polygon ends, whose corners are whole pixels: the ramp is next to nothing there.
    assert np.abs(drawn - expected).max() < 0.4 * 1.0 / offset + 1e-4
    assert np.abs(drawn - expected)[nearest < offset - 1].max() < 1e-4
    assert (mask[inside | (nearest < offset - 1.5)] == 1).all()
    assert (mask[~inside & (nearest > offset + 1.5)] == 0).all()


@pytest.mark.parametrize("seed", range(8))
def test_several_texts_take_the_highest_border_and_all_insides(seed: int) -> None:
    polygons = [random_polygon(seed), random_polygon(seed + 100)]
    together, _ = border_maps(SHAPE, polygons, [False, False])
    alone = [border_maps(SHAPE, [polygon], [False])[0] for polygon in polygons]
    assert np.array_equal(together, np.maximum(*alone))
    text, _ = shrink_maps(SHAPE, polygons, [False, False])
    parts = [shrink_maps(SHAPE, [polygon], [False])[0] for polygon in polygons]
    assert np.array_equal(text, np.maximum(*parts))


def test_a_rectangle_by_hand() -> None:
    # 60 x 20: area 1200, perimeter 160, offset 1200 * 0.84 / 160 = 6.3. Clipper: 26.3 -> 26, 93.7 - 1 ...
    box = np.array([[20, 30], [80, 30], [80, 50], [20, 50]], np.float32)
    assert offset_distance(box, 0.4) == pytest.approx(6.3)
    text, mask = shrink_maps(SHAPE, [box], [False])
    rows, columns = np.nonzero(text)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (26, 74, 36, 44)
    assert text.sum() == 49 * 9
    assert mask.all()
    drawn, border_mask = border_maps(SHAPE, [box], [False])
    assert drawn[30, 50] == pytest.approx(0.7)  # on the outline
    assert drawn[33, 50] == pytest.approx(0.3 + 0.4 * (1 - 3 / 6.3), abs=1e-5)
    assert drawn[27, 50] == pytest.approx(0.3 + 0.4 * (1 - 3 / 6.3), abs=1e-5)
    assert drawn[26, 16] == pytest.approx(0.3 + 0.4 * (1 - math.hypot(4, 4) / 6.3), abs=1e-5)
    assert drawn[40, 50] == pytest.approx(0.3)
    assert (border_mask[24, 50], border_mask[23, 50], border_mask[40, 50]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("polygon", "ignore"),
    [
        ([[10, 10], [60, 10], [60, 40], [10, 40]], True),  # by its label
        ([[10, 10], [60, 10], [60, 17], [10, 17]], False),  # 7 pixels high
        ([[-50, 10], [5, 10], [5, 40], [-50, 40]], False),  # 5 pixels wide within the image
    ],
)
def test_ignored_and_small_texts_leave_the_mask(polygon: list[list[int]], ignore: bool) -> None:
    points = np.array(polygon, np.float32)
    text, mask = shrink_maps(SHAPE, [points], [ignore])
    assert not text.any()
    low, high = np.clip(points.min(0), 0, SIZE - 1).astype(int), np.clip(points.max(0), 0, SIZE - 1).astype(int)
    assert not mask[low[1] : high[1] + 1, low[0] : high[0] + 1].any()
    assert mask.sum() == SIZE * SIZE - (high - low + 1).prod()


def test_an_ignored_text_draws_no_border() -> None:
    points = np.array([[10, 10], [60, 10], [60, 40], [10, 40]], np.float32)
    drawn, mask = border_maps(SHAPE, [points], [True])
    assert (drawn == np.float32(0.3)).all()
    assert not mask.any()


def test_texts_over_the_edge_are_cut_and_those_outside_do_nothing() -> None:
    over = np.array([[100, 100], [180, 100], [180, 180], [100, 180]], np.float32)
    text, _ = shrink_maps(SHAPE, [over], [False])
    cut = np.minimum(over, SIZE - 1)
    assert np.array_equal(text, shrink_maps(SHAPE, [cut], [False])[0])
    drawn, mask = border_maps(SHAPE, [over], [False])
    assert drawn[100, 110] == pytest.approx(0.7)
    assert mask[127, 127] == 1
    far = over + 500
    assert not shrink_maps(SHAPE, [far], [False])[0].any()
    drawn, mask = border_maps(SHAPE, [far], [False])
    assert (drawn == np.float32(0.3)).all()
    assert not mask.any()


def test_a_waist_that_would_part_the_text_is_shrunk_less() -> None:
    # Two squares of 40 with a bridge 12 high: the offset of ratio 0.4 eats the bridge, that of 0.8 does not.
    left = [[10, 40], [50, 40], [50, 54], [70, 54], [70, 40], [110, 40]]
    right = [[110, 80], [70, 80], [70, 66], [50, 66], [50, 80], [10, 80]]
    polygon = np.array(left + right, np.float32)
    assert brute_offset(polygon, 0.4) > 6 > brute_offset(polygon, 0.8)
    text, _ = shrink_maps(SHAPE, [polygon], [False])
    assert cv2.connectedComponents(text.astype(np.uint8))[0] - 1 == 1
    assert text[60, 60] == 1


@pytest.mark.parametrize(
    "polygon",
    [
        [[5, 5], [5, 5], [5, 5]],
        [[0, 0], [50, 50], [100, 100]],
        [[20, 20], [80, 80], [80, 20], [20, 80]],  # crosses itself; its halves have opposite areas
        [[20.5, 20.5], [20.6, 80.5], [20.7, 20.5]],
    ],
)
def test_what_is_no_polygon_is_no_error(polygon: list[list[float]]) -> None:
    points = np.array(polygon, np.float32)
    text, mask = shrink_maps(SHAPE, [points], [False])
    assert text.shape == mask.shape == SHAPE
    assert not text.any()
    drawn, _ = border_maps(SHAPE, [points], [False])
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize(
    ("polygon", "place"),
    [
        ([[200, 10], [260, 10], [260, 40], [200, 40]], np.s_[10:41, -1:]),  # right of the image
        ([[10, -60], [40, -60], [40, -20], [10, -20]], np.s_[:1, 10:41]),  # above it
        ([[10, 20], [40, 20], [40, 20], [10, 20]], np.s_[20:21, 10:41]),  # without area
        ([[20, 20], [80, 80], [80, 20], [20, 80]], np.s_[20:81, 20:81]),
    ],
)
def test_a_box_outside_or_without_area_is_no_text_and_its_place_counts_neither_way(
    polygon: list[list[float]], place: tuple[slice, slice]
) -> None:
    text, mask = shrink_maps(SHAPE, [np.array(polygon, np.float32)], [False])
    assert not text.any()
    assert not mask[place].all()
    mask[place] = 1
    assert mask.all()


@pytest.mark.parametrize("seed", range(20))
def test_a_window_is_a_part_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygons = [random_polygon(3 * seed + turn) + rng.uniform(-70, 70, 2).astype(np.float32) for turn in range(4)]
    ignore = [False, True, False, False]
    height, width = (int(side) for side in rng.integers(1, SIZE, 2))
    top, left = int(rng.integers(0, SIZE - height + 1)), int(rng.integers(0, SIZE - width + 1))
    whole = shrink_maps(SHAPE, polygons, ignore)
    window = shrink_maps(SHAPE, polygons, ignore, window=(top, left, height, width))
    for page, part in zip(whole, window, strict=True):
        assert np.array_equal(part, page[top : top + height, left : left + width])


def test_corners_are_not_changed_in_place() -> None:
    points = np.array([[-10, 10], [160, 10], [160, 40], [-10, 40]], np.float32)
    copy = points.copy()
    shrink_maps(SHAPE, [points], [False])
    border_maps(SHAPE, [points], [False])
    assert np.array_equal(points, copy)


def test_no_texts() -> None:
    text, mask = shrink_maps(SHAPE, [], [])
    drawn, border_mask = border_maps(SHAPE, [], [], low=0.2, high=0.9)
    assert not text.any()
    assert mask.all()
    assert (drawn == np.float32(0.2)).all()
    assert not border_mask.any()
