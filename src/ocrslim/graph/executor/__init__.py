"""An ONNX graph as a differentiable torch module; importing it registers the operators."""

from ocrslim.graph.executor import ops

__all__ = ["ops"]
