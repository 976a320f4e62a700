"""CatBoost: models saved as .cbm or JSON."""
