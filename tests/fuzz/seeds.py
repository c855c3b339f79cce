"""The files that are mutated: real models cut to their first operations, the project's own YAML, labels and images."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import onnx
from onnx import helper, numpy_helper

from ocrslim.errors import OcrslimError
from ocrslim.graph.importers.paddle.program import (
    Program,
    read_parameters,
    read_program,
    write_parameters,
    write_program,
)
from ocrslim.graph.importers.paddle.zoo import pull_paddle
from ocrslim.graph.importers.zoo import pull

__all__ = ["SEEDS", "SURFACES", "Seed"]

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Seed:
    """A valid input.

    Args:
        files: by name.
        kinds: of the files that may be mutated; see :data:`tests.fuzz.mutate.MUTATORS`.
        open: what is opened: one of the names, or ``.`` for the folder.
    """

    files: dict[str, bytes]
    kinds: dict[str, str]
    open: str


def importer_seeds(folder: Path) -> list[Seed]:
    """Return models in every form that is opened. Without the zoo's models the hand-made ones remain."""
    seeds = []
    try:
        seeds += [_trimmed(pull(name), 10) for name in ("PP-OCRv6_tiny_det", "PP-OCRv6_tiny_rec")]
        seeds += _paddle_seeds(pull_paddle("PP-OCRv4_mobile_det"), folder)
    except OcrslimError:
        pass  # not to be fetched here
    return [*seeds, _with_constants(), _with_subgraph(), _with_external_data(), _pir()]


def _save(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString())


def _trimmed(folder: Path, count: int) -> Seed:
    """Return the first nodes of a real model, with its inference.yml shortened to a few characters."""
    model = onnx.load(folder / "inference.onnx")
    nodes = list(model.graph.node)[:count]
    read = {name for node in nodes for name in node.input}
    kept = [item for item in model.graph.initializer if item.name in read]
    output = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, ["N", "C", "H", "W"])
    if folder.name.endswith("rec"):
        output = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, ["N", "T", 4])
    graph = helper.make_graph(nodes, "trimmed", list(model.graph.input), [output], kept)
    small = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    text = (folder / "inference.yml").read_text("utf-8").split("  character_dict:")[0]
    yml = text + ("  character_dict:\n  - a\n  - b\n" if folder.name.endswith("rec") else "")
    files = {"inference.onnx": _save(small), "inference.yml": yml.encode(), "dictionary.txt": b"a\nb\n"}
    kinds = {"inference.onnx": "protobuf", "inference.yml": "yaml", "dictionary.txt": "text"}
    return Seed(files, kinds, ".")


def _with_constants() -> Seed:
    """Return a model of little but what is computed of constants when it is read."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,H,W] x) => (float[N,3,H,W] y) {
        a = Mul(c, r)  b = Concat<axis=0>(a, a)  d = Gather<axis=0>(b, one)  e = Expand(d, shape)
        f = Reshape(e, shape)  g = MatMul(c, r)  h = Pad(g, pads)  i = Slice(h, zero, one, zero)
        j = Tile(i, pads)  k = Range(zero0, three0, one0)  l = Cast<to=1>(k)  m = Unsqueeze(l, zero)
        n = Transpose<perm=[1,0]>(m)  o = Where(yes, f, n)  p = ConstantOfShape<value=float[1]{2.0}>(one)
        q = Clip(o, , half)  s = OneHot(one, three0, ends)  t = ReduceSum(s, zero)  u = Sum(p, t, half)
        v = Erf(u)  w = ReduceMean<axes=[0,1], keepdims=0>(q)  z = Add(w, half)  y0 = Mul(x, z)  y = Relu(y0)
    }"""
    model = onnx.parser.parse_model(text)
    numbers: dict[str, Any] = {
        **{"c": np.ones((3, 1), np.float32), "r": np.ones((1, 3), np.float32), "half": np.float32(0.5)},
        **{"ends": np.float32([0, 1]), "yes": np.array(True)},
    }
    integers = {"one": [1], "zero": [0], "shape": [3, 3], "pads": [1, 0, 0, 1], "zero0": 0, "one0": 1, "three0": 3}
    numbers |= {name: np.array(value, np.int64) for name, value in integers.items()}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items())
    return Seed({"det.onnx": _save(model)}, {"det.onnx": "protobuf"}, "det.onnx")


def _with_subgraph() -> Seed:
    """Return a model with a branch in a branch, a function, a sparse tensor and one of texts."""
    value = helper.make_tensor_value_info
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])], "inner", [], [value("z", 1, ["N", 3, "H", "W"])]
    )
    branch = helper.make_node("If", ["c"], ["y1"], then_branch=inner, else_branch=inner)
    outer = helper.make_graph([branch], "outer", [], [value("y1", 1, ["N", 3, "H", "W"])])
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32)))
    nodes = [
        constant,
        helper.make_node("Call", ["x"], ["s"], domain="local"),
        helper.make_node("If", ["c"], ["t"], then_branch=outer, else_branch=outer),
        helper.make_node("Mul", ["s", "k"], ["u"]),
        helper.make_node("Mul", ["u", "t"], ["y"]),
    ]
    texts = onnx.TensorProto(name="texts", data_type=onnx.TensorProto.STRING, dims=[2], string_data=[b"a", b"b"])
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", 1, ["N", 3, "H", "W"])],
        [value("y", 1, ["N", 3, "H", "W"])],
        [numpy_helper.from_array(np.array(True), "c"), texts],
    )
    call = helper.make_function(
        "local", "Call", ["a"], ["b"], [helper.make_node("Sigmoid", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, functions=[call], opset_imports=imports, ir_version=8)
    model.metadata_props.add(key="character", value="a\nb")
    return Seed({"det.onnx": _save(model)}, {"det.onnx": "protobuf"}, "det.onnx")


def _with_external_data() -> Seed:
    value = helper.make_tensor_value_info
    weights = np.arange(27, dtype=np.float32)
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1, 3, 3, 3], data_location=onnx.TensorProto.EXTERNAL)
    for key, said in (("location", "weights.bin"), ("offset", "0"), ("length", str(weights.nbytes))):
        tensor.external_data.add(key=key, value=said)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "g",
        [value("x", 1, ["N", 3, "H", "W"])],
        [value("y", 1, ["N", 1, "H", "W"])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    files = {"model.onnx": _save(model), "weights.bin": weights.tobytes()}
    return Seed(files, {"model.onnx": "protobuf", "weights.bin": "bytes"}, ".")


def _paddle_seeds(source: Path, folder: Path) -> list[Seed]:
    """Return the first operations of a real Paddle model: as two files, in the old names, and in archives."""
    program = read_program(source / "inference.pdmodel")
    arrays = read_parameters(source / "inference.pdiparams", program.persistable_names)
    small, kept = _trimmed_program(program, arrays, 9)
    write_program(small, folder / "a.pdmodel")
    write_parameters(folder / "a.pdiparams", kept)
    model, parameters = (folder / "a.pdmodel").read_bytes(), (folder / "a.pdiparams").read_bytes()
    yml = (source / "inference.yml").read_bytes()
    files = {"inference.pdmodel": model, "inference.pdiparams": parameters, "inference.yml": yml}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"model/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    plain = archive.getvalue()
    return [
        Seed(files, {"inference.pdmodel": "protobuf", "inference.pdiparams": "bytes", "inference.yml": "yaml"}, "."),
        Seed({"__model__": model, "__params__": parameters}, {"__model__": "protobuf", "__params__": "bytes"}, "."),
        Seed({"model.tar": plain}, {"model.tar": "tar"}, "model.tar"),
        Seed({"model.tar.gz": gzip.compress(plain)}, {"model.tar.gz": "bytes"}, "model.tar.gz"),
    ]


def _trimmed_program(program: Program, arrays: dict[str, Any], count: int) -> tuple[Program, dict[str, Any]]:
    small = program.clone()
    ops = small.ops
    fetch = ops[len(ops) - 1]
    first = [op for op in ops if op.type != "fetch"][: count + 1]
    last = next(slot for slot in first[-1].outputs if slot.arguments).arguments[0]
    fetch_bytes, kept_bytes = fetch.SerializeToString(), [op.SerializeToString() for op in first]
    del ops[:]
    for content in (*kept_bytes, fetch_bytes):
        ops.add().ParseFromString(content)
    ops[len(ops) - 1].inputs[0].arguments[:] = [last]
    used = {name for op in ops for slot in (*op.inputs, *op.outputs) for name in slot.arguments}
    variables = [var.SerializeToString() for var in small.desc.blocks[0].vars if var.name in used]
    del small.desc.blocks[0].vars[:]
    for content in variables:
        small.desc.blocks[0].vars.add().ParseFromString(content)
    kept = {name: array for name, array in arrays.items() if name in small.persistable_names}
    return small, kept


def _pir() -> Seed:
    """Return a convolution and a sigmoid as Paddle 3 writes them."""

    def type_(sizes: list[int]) -> dict[str, Any]:
        return {"#": "0.t_dtensor", "D": [{"#": "0.t_f32"}, sizes, "NCHW", [], 0]}

    def op(kind: str, read: list[int], made: int, sizes: list[int], /, **given: Any) -> dict[str, Any]:
        attributes = [{"N": key, "AT": value} for key, value in given.items()]
        outputs = [{"%": made, "TT": type_(sizes)}]
        return {"#": kind, "A": attributes, "I": [{"%": value} for value in read], "O": outputs, "OA": []}

    def numbers(*values: int) -> dict[str, Any]:
        return {"#": "0.a_array", "D": [{"#": "0.a_i32", "D": value} for value in values]}

    open_map = [-1, 1, -1, -1]
    parameter = {"#": "p", "A": [0, 1, 0, "w"], "DA": [], "O": {"%": 1, "TT": type_([1, 3, 3, 3])}, "OA": [1, 0, 1]}
    operations = [
        parameter,
        op("1.data", [], 2, [-1, 3, -1, -1], name={"#": "0.a_str", "D": "x"}),
        op("1.conv2d", [2, 1], 3, open_map, strides=numbers(1, 1), paddings=numbers(1, 1)),
        op("1.full_int_array", [], 4, [4], value=numbers(0, 1, -1, 1)),
        op("1.reshape", [3, 4], 5, open_map),
        op("1.sigmoid", [5], 6, open_map),
        op("1.fetch", [6], 7, open_map, name={"#": "0.a_str", "D": "fetch_name_0"}),
    ]
    content = {
        "base_code": {"magic": "pir", "trainable": True, "version": 3},
        "program": {"regions": [{"#": "region_0", "blocks": [{"#": "block_0", "args": [], "ops": operations}]}]},
    }
    head = bytes(16) + (12).to_bytes(4, "little") + bytes([8, 5, 16, 1, 16, 3, 16, 3, 16, 3, 40, 0])
    files = {"inference.json": json.dumps(content).encode(), "inference.pdiparams": head + bytes(108)}
    return Seed(files, {"inference.json": "json", "inference.pdiparams": "bytes"}, ".")


def label_seeds(folder: Path) -> list[Seed]:
    """Return label files of both tasks beside two images, and an LMDB, of which only the length is changed."""
    image = _encoded(".png")
    square = [[1, 1], [20, 1], [20, 12], [1, 12]]
    box = {"transcription": "word", "points": square}
    odd = {"transcription": "###", "points": [[0, 0], [30, 20], [30, 0], [0, 20]], "difficult": False}
    det = "".join(
        f"images/{name}.png\t{json.dumps(boxes, ensure_ascii=False)}\n"
        for name, boxes in (("a", [box, odd]), ("b", []), ("a", [box | {"transcription": "第6 节"}] * 3))
    )
    rec = "images/a.png\tword\nimages/b.png\t第6 节\nimages/a.png\ta b c\n"
    images = {"images/a.png": image, "images/b.png": image}
    seeds = [
        Seed(images | {"labels.txt": text.encode()}, {"labels.txt": "lines"}, "labels.txt") for text in (det, det, rec)
    ]
    with lmdb.open(str(folder), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for key, value in (("num-samples", b"1"), ("image-000000001", image), ("label-000000001", b"word")):
            transaction.put(key.encode(), value)
    data = (folder / "data.mdb").read_bytes()
    return [*seeds, Seed({"data.mdb": data}, {"data.mdb": "cut"}, ".")]


def yaml_seeds(folder: Path) -> list[Seed]:
    """Return the example's configurations."""
    more = "QuantPost: {algo: hist, hist_percent: 0.999, batch_nums: 4}\nChannelPrune: {pruned_ratio: 0.2}\n"
    texts = [path.read_text("utf-8") for path in sorted((PROJECT / "configs").glob("*.yaml"))]
    return [
        Seed({"x.yaml": text.encode()}, {"x.yaml": "yaml"}, "x.yaml")
        for text in (*texts, *(text + more for text in texts))
    ]


def _encoded(suffix: str, options: tuple[int, ...] = (), image: Any = None) -> bytes:
    if image is None:
        image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    done, content = cv2.imencode(suffix, image, options)
    assert done
    return bytes(content.tobytes())


def image_seeds(folder: Path) -> list[Seed]:
    """Return small images of every kind that is read, in their variants."""
    deep = np.random.default_rng(0).integers(0, 65536, (24, 40, 3)).astype(np.uint16)
    alpha = np.dstack([deep.astype(np.uint8), np.full((24, 40), 9, np.uint8)])
    contents = [_encoded(suffix) for suffix in (".png", ".jpg", ".gif", ".webp", ".tiff", ".bmp")]
    contents += [_encoded(suffix, image=deep) for suffix in (".png", ".tiff")]
    contents += [_encoded(suffix, image=alpha) for suffix in (".png", ".webp")]
    contents += [_encoded(suffix, image=deep[:, :, 0].astype(np.uint8)) for suffix in (".png", ".jpg", ".bmp")]
    contents += [
        _encoded(".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        _encoded(".webp", (cv2.IMWRITE_WEBP_QUALITY, 50)),
        *(_encoded(".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, kind)) for kind in (1, 5, 8, 32773)),
    ]
    # One colour compresses well: a small file whose data suffice for far more pixels than the others' have.
    flat = np.full((1200, 1200, 3), 77, np.uint8)
    contents += [_encoded(suffix, image=flat) for suffix in (".png", ".jpg")]
    contents += [_encoded(".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 8), flat)]
    animation = cv2.Animation()
    animation.frames, animation.durations = [alpha[:, :, :3], 255 - alpha[:, :, :3]], [100, 100]
    contents += [np.asarray(cv2.imencodeanimation(kind, animation)[1]).tobytes() for kind in (".gif", ".webp", ".png")]
    return [Seed({"a.img": content}, {"a.img": "image"}, "a.img") for content in contents]


SEEDS: dict[str, Callable[[Path], list[Seed]]] = {
    "importers": importer_seeds,
    "labels": label_seeds,
    "yaml": yaml_seeds,
    "images": image_seeds,
}
SURFACES = tuple(SEEDS)
