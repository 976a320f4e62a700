"""XGBoost: models saved as JSON or UBJSON."""
