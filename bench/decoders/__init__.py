"""`python -m bench.decoders`: how fast decoders read prompts and write, beside other engines."""
