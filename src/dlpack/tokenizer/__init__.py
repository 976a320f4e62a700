"""Hugging Face's tokenizer.json: read, checked, and made into tables for the text functions of an emitted file."""
