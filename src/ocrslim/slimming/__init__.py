"""Making a graph smaller and faster."""

__all__: list[str] = []
