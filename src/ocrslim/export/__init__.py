"""Writing a compressed model back: Q/DQ nodes, the files beside it, and the proof that the engine agrees."""

__all__: list[str] = []
