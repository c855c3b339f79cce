"""Ways in from Paddle: inference programs (``.pdmodel``, PIR ``.json``) and their parameters, read without paddle."""

__all__: list[str] = []
