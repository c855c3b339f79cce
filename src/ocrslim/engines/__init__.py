"""What runs a model: sessions of the engines, what each can run, and how long it takes."""

__all__: list[str] = []
