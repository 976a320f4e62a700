"""To come."""

from dlpack.bindings.base import Binding

BINDING = Binding("julia", "", lambda b, f: None)
