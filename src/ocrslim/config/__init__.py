"""What a user writes down: profiles of pre- and post-processing."""

__all__: list[str] = []
