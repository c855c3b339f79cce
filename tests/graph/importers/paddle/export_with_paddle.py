"""Run by another Python, one that has paddle: export layers, and what they compute, in the format of that version.

``python export_with_paddle.py layers FOLDER`` writes ``FOLDER/NAME/inference.*`` and ``io.npz`` (x, y) for each layer
below. ``python export_with_paddle.py pir MODEL FOLDER`` writes the classic model of a folder anew as Paddle 3 has it.
"""

import sys
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn


class Crnn(nn.Layer):
    """Convolution, batch norm and two LSTM layers in both directions: the recognisers of PP-OCRv2."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2D(3, 8, 3, stride=2, padding=1), nn.BatchNorm2D(8)
        self.lstm = nn.LSTM(8 * 24, 16, num_layers=2, direction="bidirect")
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        x = paddle.reshape(x, [x.shape[0], 8 * 24, x.shape[3]]).transpose([0, 2, 1])
        x, _ = self.lstm(x)
        return F.softmax(self.head(x), -1)


class Mixture(nn.Layer):
    """Whatever else there is: SAME padding, both interpolations, attention, indices, reductions."""

    def __init__(self):
        super().__init__()
        self.conv, self.group, self.slope = (
            nn.Conv2D(3, 8, 3, padding="SAME", stride=2),
            nn.GroupNorm(2, 8),
            nn.PReLU(8),
        )
        self.pad = nn.Pad2D([1, 2, 0, 3])
        self.up = nn.Conv2DTranspose(8, 8, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.norm, self.qkv = nn.LayerNorm(8), nn.Linear(8, 24)

    def forward(self, x):
        y = F.gelu(self.pad(self.slope(self.group(self.conv(x)))))
        a, b = paddle.split(y, 2, axis=1)
        y = paddle.concat([b * a.mean(axis=[2, 3], keepdim=True), a], axis=1)
        y = self.up(F.interpolate(y, scale_factor=2, mode="bilinear"))
        y = F.max_pool2d(y, 3, 2, padding=1)
        z = F.interpolate(y, size=paddle.shape(x)[2:], mode="nearest")
        z = F.hardswish(z) + F.hardsigmoid(z) * F.relu6(z) + F.silu(z) + F.leaky_relu(z, 0.1)
        tokens = self.norm(F.avg_pool2d(z, [3, 2]).flatten(2).transpose([0, 2, 1]))
        qkv = self.qkv(tokens).reshape([0, -1, 3, 2, 4]).transpose([2, 0, 3, 1, 4])
        q, k, v = qkv[0] * 0.5, qkv[1], qkv[2]
        weights = F.dropout(F.softmax(q.matmul(k.transpose([0, 1, 3, 2])), -1), 0.1, training=self.training)
        out = weights.matmul(v).transpose([0, 2, 1, 3]).reshape([0, -1, 8])
        out = paddle.clip(paddle.stack([out, tokens], axis=0).sum(axis=0), -1.5, 1.5) ** 2
        out = out.unsqueeze(1).squeeze(1)
        peak = paddle.max(out, axis=-1, keepdim=True)
        return paddle.sqrt(out + 1.0) + paddle.exp(-out) + out[:, ::1] - peak


def layers(folder):
    """Export each layer with what it computes on one input."""
    paddle.seed(0)
    x = np.random.default_rng(0).normal(size=(2, 3, 48, 96)).astype("float32")
    for name, layer, size in (("crnn", Crnn(), [48, None]), ("mixture", Mixture(), [None, None])):
        layer.eval()
        spec = paddle.static.InputSpec([None, 3, *size], "float32", name="x")
        paddle.jit.save(
            paddle.jit.to_static(layer, input_spec=[spec], full_graph=True), str(folder / name / "inference")
        )
        np.savez(folder / name / "io.npz", x=x, y=layer(paddle.to_tensor(x)).numpy())


def pir(model, folder):
    """Translate a classic model and write it as a native export is: the inputs are ``data``, not ``feed``."""
    paddle.enable_static()
    with paddle.pir_utils.OldIrGuard():
        executor = paddle.static.Executor(paddle.CPUPlace())
        program, _, _ = paddle.static.load_inference_model(str(model / "inference"), executor)
    program = paddle.pir.translate_to_pir(program.desc)
    operations = program.global_block().ops
    feeds = [op.results()[0] for op in operations if op.name() == "pd_op.feed"]
    fetches = [op.operand_source(0) for op in operations if op.name() == "pd_op.fetch"]
    with paddle.pir_utils.IrGuard():
        executor = paddle.static.Executor(paddle.CPUPlace())
        paddle.static.save_inference_model(str(folder / "inference"), feeds, fetches, executor, program=program)


if __name__ == "__main__":
    what, *paths = sys.argv[1:]
    {"layers": layers, "pir": pir}[what](*map(Path, paths))
