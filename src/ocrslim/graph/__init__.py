"""The user's model as an ONNX graph: reading it, bringing it into one form, running it with gradients."""

__all__: list[str] = []
