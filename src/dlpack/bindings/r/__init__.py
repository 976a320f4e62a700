"""To come."""

from dlpack.bindings.base import Binding

BINDING = Binding("r", "", lambda b, f: None)
