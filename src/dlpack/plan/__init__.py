"""The plan: steps, weights, and an offset in one arena for every intermediate value."""
