"""Damaged model files of every format, read and built within limits; `__main__.py` is the command, `script/fuzz`."""
