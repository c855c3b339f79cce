"""Graph passes and the canonical form that they lead to."""
