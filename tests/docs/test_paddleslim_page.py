"""The page about PaddleSlim quotes the warnings as they are said: a file is made here that earns all of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ocrslim.config.paddleslim import load_config
from ocrslim.engines.targets import get_target
from ocrslim.following import Following
from ocrslim.slimming.example import calibration_plan, fit_target, named_terms, origin_warning, train_settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [DOCS / "coming-from-paddleslim.md", DOCS / "zh" / "coming-from-paddleslim.md"]
DET = """\
Global:
  model_type: det
  model_dir: model
  algorithm: EAST
  deploy_hardware: x
  input_name: x
Distillation: {loss: fsp, node: [conv_1]}
MultiTeacherDistillation: {}
HyperParameterOptimization: {}
UnstructurePrune: {}
TransformerPrune: {}
ASPPrune: {}
QuantAware:
  moving_rate: 0.8
  dtype: uint8
  for_tensorrt: true
  onnx_format: false
  is_full_quantize: true
  quantize_op_types: [conv2d, depthwise_conv2d]
  weight_quantize_type: abs_max
QuantPost:
  algo: KL
  epochs: 20
  hist_percent: 0.999
  recon_level: layer-wise
ChannelPrune: {pruned_ratio: 0.3}
TrainConfig:
  learning_rate: {type: PolynomialDecay, learning_rate: 0.0001}
  optimizer_builder: {optimizer: {type: SGD, use_nesterov: true}}
  amp_config: {}
  recompute_config: {}
  origin_metric: 0.9
PostProcess: {box_type: poly}
Train:
  dataset:
    data_dir: data
    label_file_list: [train.txt]
    transforms:
    - DecodeImage: {img_mode: BGR, ignore_orientation: true}
    - DetLabelEncode:
    - MakeShrinkMap: {total_epoch: 500}
    - KeepKeys: {keep_keys: [image, shrink_map, shrink_mask]}
Eval:
  dataset:
    data_dir: data
    label_file_list: [val.txt]
    transforms:
    - DecodeImage:
    - IaaAugment:
    - DetResizeForTest: {image_shape: [736, 1280]}
    - DetResizeForTest: {resize_long: 960}
    - KeepKeys: {keep_keys: [image]}
"""
REC = """\
Global: {model_type: rec, model_dir: model}
QuantPost: {bias_correction: false}
TrainConfig:
  learning_rate: {type: LinearWarmup, learning_rate: 0.0001, warmup_steps: 10, start_lr: 0.00001}
  optimizer_builder: {optimizer: {type: Adam, beta1: 0.8}, weight_decay: 0.00005}
Train:
  sampler: {name: MultiScaleSampler}
  dataset:
    name: MultiScaleDataSet
    data_dir: data
    ds_width: true
    label_file_list: [train.txt]
    transforms: [{DecodeImage: }, {CTCLabelEncode: }, {KeepKeys: {keep_keys: [image, label]}}]
Eval:
  dataset:
    data_dir: data
    label_file_list: [val.txt]
    transforms:
    - DecodeImage:
    - RecResizeImg: {infer_mode: true, padding: false}
    - KeepKeys: {keep_keys: [image]}
"""


def warnings(folder: Path) -> list[str]:
    """Return all that the two files are told, without the place in the file."""
    said: list[str] = []
    for name, text in (("det", DET), ("rec", REC)):
        path = folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        config = load_config(path)
        plan = calibration_plan(config)
        terms, nodes = named_terms(config.distillation, {"logits"}, "logits")
        assert terms
        assert config.training is not None
        nothing = cast(Any, None)  # the model and the data say nothing here
        follow = Following(config, nothing, nothing, plan, train_settings(config.training, 100))
        said += [*config.warnings, *follow.notes(), *nodes]
        said += fit_target(get_target("openvino", ["avx2"]), plan.quantization)[1]
        said += filter(None, [origin_warning(config, {"hmean": 0.5, "accuracy": 0.5})])
        said += calibration_plan(replace(config, quantization=None, post_quantization=None)).warnings
    return [re.sub(r"^\S+\.yaml(:\d+)?: ", "", line) for line in said]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_page_quotes_every_warning(page: Path, tmp_path: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").split())
    said = warnings(tmp_path)
    assert len(set(said)) > 40
    assert [line for line in dict.fromkeys(said) if line not in text] == []
