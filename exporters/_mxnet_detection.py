"""MXNet's detection operators: prior boxes, decoding with non-maximum suppression, region pooling."""
