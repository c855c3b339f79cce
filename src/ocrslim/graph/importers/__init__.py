"""Ways in: ONNX files, folders and the model zoo."""
