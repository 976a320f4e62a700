"""LightGBM: models saved as text."""
