"""Mutated files for everything that reads files of unknown origin; ``python -m tests.fuzz`` runs it."""
