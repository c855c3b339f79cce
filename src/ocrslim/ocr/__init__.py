"""What text is: labels and images, what models take and give, and how readings are scored."""

__all__: list[str] = []
