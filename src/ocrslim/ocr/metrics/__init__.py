"""Scores by PaddleOCR's rules, and how sure one may be of a difference between two models."""

__all__: list[str] = []
