"""Pruning: which channels hang together, which matter least, and the smaller graph without them."""

__all__: list[str] = []
