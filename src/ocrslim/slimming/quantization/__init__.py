"""Fake quantizers in the graph: where, on which grid, learned how."""

__all__: list[str] = []
