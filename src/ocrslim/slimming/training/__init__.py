"""Distilling a teacher into a student; knows modules and batches only."""

__all__: list[str] = []
