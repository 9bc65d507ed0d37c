"""Damaged GGUF files against the binding: `python -m tests.fuzz --count N --seed S`."""
