"""Graph passes and the canonical form that they lead to."""

__all__: list[str] = []
