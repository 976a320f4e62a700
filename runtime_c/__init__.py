"""The C++ text that is the same for every model: API, vectors and their maths, threads, device loaders."""
