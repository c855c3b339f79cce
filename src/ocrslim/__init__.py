"""OCRSlim makes PP-OCR models small and fast, and measures what that cost on the engine that runs them."""

__all__ = ["__version__"]

__version__ = "0.1.0"
