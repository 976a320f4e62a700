"""GPUs: how kernels for them are compiled and what runs them."""
