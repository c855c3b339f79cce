"""What a person reads: ``result.json``, terminal tables and the log of a run."""

__all__: list[str] = []
