"""Ways in: ONNX files, folders and the model zoo."""

__all__: list[str] = []
