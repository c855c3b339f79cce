"""The sections of a PaddleSlim file about data and scoring, as typed frozen settings.

``Train`` and ``Eval`` (PaddleOCR's ``dataset``, ``loader`` and ``sampler``), ``PostProcess`` and ``Metric``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from ocrslim.config.located import Located, Section
from ocrslim.config.profile import DetProfile, Task
from ocrslim.config.transform_list import KEYS, read_transforms
from ocrslim.config.transforms import (
    CTCLabelEncode,
    DecodeImage,
    DetResizeForTest,
    EastRandomCropData,
    IaaAugment,
    KeepKeys,
    MakeShrinkMap,
    NormalizeImage,
    RecAug,
    RecConAug,
    RecResizeImg,
    Transform,
)

__all__ = ["Dataset", "ExampleMetric", "det_profile", "read_dataset", "read_metric", "read_post_process"]

Warn = Callable[[str], None]
KINDS = ("SimpleDataSet", "LMDBDataSet", "MultiScaleDataSet")


@dataclass(frozen=True)
class Dataset:
    """Labelled images and what is done to them.

    Args:
        name: ``Train`` or ``Eval``.
        kind: ``files`` are label files, ``lmdb`` a folder of LMDBs.
        data_dir: what image paths are relative to, or the folder of the LMDBs; relative to the working directory.
        label_files: for ``files``; relative to the working directory.
        ratios: share of each file's lines that is drawn.
        transforms: in order.
        shuffle: a new order in each epoch.
        drop_last: leave out an epoch's last, smaller batch.
        batch: images in a batch.
        workers: threads that make batches.
        partner_transforms: how many of the transforms a line goes through before ``RecConAug`` joins it to another.
        where: in the file, for messages.
    """

    name: str
    kind: Literal["files", "lmdb"]
    data_dir: Path
    label_files: tuple[Path, ...]
    ratios: tuple[float, ...]
    transforms: tuple[Transform, ...]
    shuffle: bool
    drop_last: bool
    batch: int
    workers: int
    partner_transforms: int
    where: str


@dataclass(frozen=True)
class ExampleMetric:
    """What is scored: by which indicator, and whether spaces count in texts."""

    indicator: Literal["hmean", "precision", "recall", "acc", "norm_edit_dis"]
    ignore_space: bool = True


def read_dataset(node: Located, name: str, task: Task, warn: Warn) -> Dataset:
    """Read ``Train`` or ``Eval``.

    Args:
        node: the section.
        name: its name.
        task: det or rec; transforms have to fit.
        warn: told what has no effect.

    Raises:
        InputError: an unknown key or transform, a wrong type, or ratios that do not fit the files.
    """
    section = Section(node, name, ("dataset", "loader", "sampler"))
    known = (
        *("name", "data_dir", "label_file_list", "ratio_list", "ext_op_transform_idx", "delimiter", "transforms"),
        *("ds_width", "max_ratio"),
    )
    data = Section(section.node("dataset"), f"{name}.dataset", known)
    loader = Section(
        section.node("loader"),
        f"{name}.loader",
        ("shuffle", "drop_last", "batch_size_per_card", "num_workers", "use_shared_memory", "collate_fn"),
    )
    loader.without_effect(("use_shared_memory",), warn, "batches are made by threads")
    kind = data.choice("name", KINDS, "SimpleDataSet")
    transforms = read_transforms(data.items("transforms"), f"{name}.dataset.transforms", warn)
    if kind == "MultiScaleDataSet" or "sampler" in section:
        warn(f"{section.where}: {name}: all batches have one size, 48 x 320; MultiScaleSampler has no effect")
        transforms = _with_resize(transforms)
    for place, key in ((data, "ds_width"), (data, "max_ratio"), (loader, "collate_fn")):
        if key in place and place.node(key).value is not False:
            warn(f"{place.node(key).where}: {place.name}.{key}: has no effect, all batches have one size")
    if data.text("delimiter", "\t") != "\t":
        raise data.error("delimiter", "must be a tab, or left out")
    _require(data, transforms, task)
    own = _lost_labels(transforms, task) if name == "Train" else _without_effect(transforms)
    for line in (*_other_colours(transforms), *own):
        warn(f"{data.node('transforms').where}: {name}.dataset.transforms: {line}")
    files = data.texts("label_file_list") if kind != "LMDBDataSet" else ()
    return Dataset(
        name,
        "lmdb" if kind == "LMDBDataSet" else "files",
        Path(data.text("data_dir")),
        tuple(Path(file) for file in files),
        _ratios(data, max(1, len(files))),
        transforms,
        loader.flag("shuffle", name == "Train"),
        loader.flag("drop_last", False),
        loader.integer("batch_size_per_card", 8 if name == "Train" else 1, 1),
        min(64, loader.integer("num_workers", 0)),
        data.integer("ext_op_transform_idx", 1),
        data.where,
    )


def read_post_process(node: Located, task: Task, warn: Warn) -> DetProfile:
    """Read ``PostProcess``; a recogniser's has nothing to set, and the default comes back.

    Raises:
        InputError: another post-processing than DB's and CTC's, an unknown key, or a wrong type.
    """
    known = ("name", "thresh", "box_thresh", "max_candidates", "unclip_ratio", "use_dilation", "score_mode", "box_type")
    section = Section(node, "PostProcess", (*known, "use_space_char", "character_dict_path"))
    name = "DBPostProcess" if task == "det" else "CTCLabelDecode"
    section.choice("name", (name,), name)
    if section.choice("box_type", ("quad", "poly"), "quad") == "poly":
        warn(f"{section.node('box_type').where}: PostProcess.box_type poly: boxes of four corners are made and scored")
    return DetProfile(
        thresh=section.number("thresh", 0.3, most=1.0),
        box_thresh=section.number("box_thresh", 0.7 if task == "det" else 0.6, most=1.0),
        max_candidates=section.integer("max_candidates", 1000, 1),
        unclip_ratio=section.number("unclip_ratio", 2.0, 0.1, 10.0),
        use_dilation=section.flag("use_dilation", False),
        score_mode=cast(Any, section.choice("score_mode", ("fast", "slow"), "fast")),
    )


def read_metric(node: Located, task: Task) -> ExampleMetric:
    """Read ``Metric``.

    Raises:
        InputError: another metric than the task's, an unknown key, or a wrong type.
    """
    section = Section(node, "Metric", ("name", "main_indicator", "ignore_space", "is_filter"))
    name = "DetMetric" if task == "det" else "RecMetric"
    section.choice("name", (name,), name)
    if section.flag("is_filter", False):
        raise section.error("is_filter", "true is not supported: texts are scored as they are; take it out")
    among = ("hmean", "precision", "recall") if task == "det" else ("acc", "norm_edit_dis")
    return ExampleMetric(
        cast(Any, section.choice("main_indicator", among, among[0])), section.flag("ignore_space", True)
    )


def det_profile(post: DetProfile, transforms: tuple[Transform, ...]) -> DetProfile:
    """Return post-processing and the resizing and normalisation of ``Eval``'s transforms as one profile.

    Args:
        post: see :func:`read_post_process`.
        transforms: of ``Eval``.
    """
    changes: dict[str, Any] = {}
    for transform in transforms:
        if isinstance(transform, DetResizeForTest):
            changes |= {"limit_side_len": transform.limit_side_len, "limit_type": transform.limit_type}
            changes["max_side"] = transform.max_side_limit
            if transform.resize_long is not None:
                changes |= {"limit_side_len": transform.resize_long, "limit_type": "max"}
        elif isinstance(transform, NormalizeImage):
            # A profile takes values of 0 to 1: what is subtracted and divided by there is scaled accordingly.
            unit = 255.0 * transform.scale
            changes["mean"] = tuple(value / unit for value in transform.mean)
            changes["std"] = tuple(value / unit for value in transform.std)
    return DetProfile(**({"box_thresh": post.box_thresh} | _fields(post) | changes))


def _fields(post: DetProfile) -> dict[str, Any]:
    names = ("thresh", "box_thresh", "max_candidates", "unclip_ratio", "use_dilation", "score_mode")
    return {name: getattr(post, name) for name in names}


def _ratios(data: Section, count: int) -> tuple[float, ...]:
    """Return a share for each file; one number is for all of them."""
    single = not isinstance(data.node("ratio_list").value, list)
    ratios = data.numbers("ratio_list", (1.0,))
    if single:
        ratios = ratios * count
    if len(ratios) == 1 and "ratio_list" not in data:
        ratios = ratios * count
    if len(ratios) != count:
        raise data.error("ratio_list", f"has {len(ratios)} shares for {count} label files; give one for each")
    if min(ratios) <= 0 or max(ratios) > 1:
        raise data.error("ratio_list", "must be above 0 and at most 1")
    return ratios


def _with_resize(transforms: tuple[Transform, ...]) -> tuple[Transform, ...]:
    """Put ``RecResizeImg`` before ``KeepKeys``, as the sampler of several sizes would have done."""
    if any(isinstance(transform, RecResizeImg) for transform in transforms):
        return transforms
    place = next((i for i, item in enumerate(transforms) if isinstance(item, KeepKeys)), len(transforms))
    return (*transforms[:place], RecResizeImg(), *transforms[place:])


def _without_effect(transforms: tuple[Transform, ...]) -> Iterator[str]:
    """Yield what of ``Eval``'s transforms a profile can't say: images are scored as at deployment, by a profile."""
    for transform in transforms:
        kind = type(transform).__name__
        if isinstance(transform, (IaaAugment, EastRandomCropData, RecConAug, RecAug)):
            yield f"{kind}: has no effect, images are scored as they are"
        elif isinstance(transform, DetResizeForTest) and transform.image_shape is not None:
            rule = f"limit_type {transform.limit_type} with limit_side_len {transform.limit_side_len}"
            if transform.resize_long is not None:
                rule = f"resize_long {transform.resize_long}"
            yield f"{kind}.image_shape: has no effect, {rule} is how images are resized where models are scored"
        elif isinstance(transform, RecResizeImg) and not transform.padding:
            yield f"{kind}.padding false: narrow lines keep their shape and are padded where models are scored"


def _other_colours(transforms: tuple[Transform, ...]) -> Iterator[str]:
    for transform in transforms:
        if isinstance(transform, DecodeImage) and transform.img_mode != "BGR":
            yield f"DecodeImage.img_mode {transform.img_mode}: what is calibrated, judged and scored is BGR"


def _lost_labels(transforms: tuple[Transform, ...], task: Task) -> Iterator[str]:
    """Yield what the loss against labels needs and ``Train``'s batches will lack; training goes on without it."""
    made = {key for transform in transforms for key in KEYS.get(type(transform).__name__, ())}
    kept = next((transform.keep_keys for transform in transforms if isinstance(transform, KeepKeys)), tuple(made))
    text = "label_ctc"
    if any(isinstance(transform, CTCLabelEncode) for transform in transforms) and text not in kept:
        text = "label"  # its name for the same numbers
    needed = ("shrink_map", "shrink_mask") if task == "det" else (text, "length")
    lost = [key for key in needed if key not in kept]
    if lost:
        who = "KeepKeys leaves out" if made.issuperset(lost) else "no transform makes"
        yield f"{who} {' and '.join(lost)}: scales and biases learn from the teacher alone, without the loss on labels"


def _require(data: Section, transforms: tuple[Transform, ...], task: Task) -> None:
    """Refuse transforms of the other task."""
    other = RecResizeImg if task == "det" else (MakeShrinkMap, DetResizeForTest)
    if not transforms:
        raise data.error("transforms", "is missing; expected a list such as DecodeImage, ..., KeepKeys")
    for transform in transforms:
        if isinstance(transform, other):
            name = type(transform).__name__
            raise data.error("transforms", f"{name} is for the other task; Global.model_type says {task}")
