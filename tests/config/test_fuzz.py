"""Whatever a user writes into a file of the example: it is read, or refused in one line; never a traceback."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocrslim.config.paddleslim import ExampleConfig, load_config
from ocrslim.errors import InputError
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.pipeline import Pipeline

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = {
    task: yaml.safe_load((CONFIGS / f"ppocrv3_{task}_qat_dist.yaml").read_text("utf-8")) for task in ("det", "rec")
}
MORE = {
    "QuantPost": {"algo": "hist", "hist_percent": 0.999, "batch_nums": 4, "bias_correction": True},
    "ChannelPrune": {"pruned_ratio": 0.2, "prune_params_name": ["a"], "criterion": "l1_norm"},
}
CHARSET = Charset(list("ab"))

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=6)
    | st.sampled_from(["det", "rec", "l2", "skd", "Adam", "1./255.", "0", "-1", "1e999", "None", "2020-01-01", "~"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "p", "a", "size"]), inner),
    max_leaves=6,
)


def places(tree: Any, trail: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a tree, the tree itself left out."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield (*trail, key)
        yield from places(value, (*trail, key))


def parent_of(tree: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        tree = tree[key]
    return tree


TREES = {task: copy.deepcopy(tree) | MORE for task, tree in FILES.items()}
PLACES = {task: list(places(tree)) for task, tree in TREES.items()}


def attempt(tree: Any, folder: Path) -> ExampleConfig | None:
    """Read a tree as a file; ``None`` where it was refused, in one line that names the file."""
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    config, said = read(path)
    assert config is not None or ("x.yaml" in said and "\n" not in said)
    for data in (config.train, config.eval) if config is not None else ():
        if config is not None and data is not None:
            Pipeline(data.transforms, CHARSET, config.model.max_text_length, data.partner_transforms)
    return config


def read(path: Path) -> tuple[ExampleConfig | None, str]:
    """Return what was read, or why it was not."""
    try:
        return load_config(path), ""
    except InputError as error:
        return None, str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("task", ["det", "rec"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_at_any_place(folder: Path, task: str, data: st.DataObject) -> None:
    tree = copy.deepcopy(TREES[task])
    place = data.draw(st.sampled_from(PLACES[task]))
    parent_of(tree, place)[place[-1]] = data.draw(values)
    attempt(tree, folder)


@pytest.mark.parametrize("task", ["det", "rec"])
def test_any_key_may_be_missing(folder: Path, task: str) -> None:
    needed = set()
    for place in PLACES[task]:
        tree = copy.deepcopy(TREES[task])
        del parent_of(tree, place)[place[-1]]
        if attempt(tree, folder) is None:
            needed.add(".".join(str(key) for key in place if not isinstance(key, int)))
    # Whatever else is missing has a default.
    assert {name for name in needed if name.count(".") < 2} == {
        *("Global", "Global.model_type", "Global.model_dir"),
        *("ChannelPrune.pruned_ratio", "TrainConfig.learning_rate", "Train.dataset", "Eval.dataset"),
        *(("Distillation.loss", "Distillation.alpha", "Distillation.node") if task == "rec" else ()),
    }


@pytest.mark.parametrize("task", ["det", "rec"])
def test_any_key_may_be_null_or_is_named(folder: Path, task: str) -> None:
    read = 0
    for place in PLACES[task]:
        tree = copy.deepcopy(TREES[task])
        parent_of(tree, place)[place[-1]] = None
        read += attempt(tree, folder) is not None
    assert read > len(PLACES[task]) / 3


@pytest.mark.parametrize("task", ["det", "rec"])
def test_any_misspelt_key_is_named_with_the_right_one(tmp_path: Path, task: str) -> None:
    for place in PLACES[task]:
        if not isinstance(place[-1], str):
            continue
        tree = copy.deepcopy(TREES[task])
        parent = parent_of(tree, place)
        wrong = place[-1] + "x"
        parent[wrong] = parent.pop(place[-1])
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        with pytest.raises(InputError) as caught:
            load_config(tmp_path / "x.yaml")
        said = str(caught.value)
        assert wrong in said
        assert place[-1] in said.replace(wrong, "")


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_for_a_file(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("t") / "x.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert "x.yaml" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 3000), task=st.sampled_from(["det", "rec"]))
def test_any_file_cut_short(tmp_path_factory: pytest.TempPathFactory, cut: int, task: str) -> None:
    path = tmp_path_factory.mktemp("c") / "x.yaml"
    path.write_text((CONFIGS / f"ppocrv3_{task}_qat_dist.yaml").read_text("utf-8")[:cut], encoding="utf-8")
    config, said = read(path)
    assert config is not None or ("x.yaml" in said and "\n" not in said)
