"""To come."""

from dlpack.bindings.base import Binding

BINDING = Binding("lua", "", lambda b, f: None)
