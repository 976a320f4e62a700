"""Tokenizers of every kind, and texts to try them with."""
