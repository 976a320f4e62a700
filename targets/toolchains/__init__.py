"""C++ compilers, and what the computer that builds can run."""
