"""skl2onnx's container, which changes the nodes that a converter of skl2onnx adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

Attributes = dict[str, Any]


class Changed:
    """Wraps skl2onnx's `container` for one of its converters, and changes its nodes as the arguments say.

    `renamed` gives values other names; `trees` changes the attributes of a TreeEnsemble node. Lists of booleans
    and of NumPy's integers, which onnx does not take, become lists of int.
    """

    def __init__(
        self,
        container: Any,
        renamed: Mapping[str, str] | None = None,
        trees: Callable[[Attributes], None] | None = None,
    ) -> None:
        self._container, self._renamed, self._trees = container, renamed or {}, trees

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, op: str, inputs: Any, outputs: Any, *arguments: Any, **attributes: Any) -> None:
        if self._trees and op.startswith("TreeEnsemble"):
            self._trees(attributes)
        plain = {name: _plain(value) for name, value in attributes.items()}
        self._container.add_node(op, self._names(inputs), self._names(outputs), *arguments, **plain)

    def _names(self, names: Any) -> list[str]:
        return [self._renamed.get(n, n) for n in ([names] if isinstance(names, str) else names)]


def _plain(value: Any) -> Any:
    whole = isinstance(value, list) and all(isinstance(v, bool | int | np.integer) for v in value)
    return [int(v) for v in value] if whole else value


class Graph:
    """Creates nodes and constants with unique names in a converter's graph."""

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope, self.container = scope, container

    def op(self, kind: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        """A node with one output, named `output` if given."""
        output = output or self.scope.get_unique_variable_name(kind.lower())
        name = self.scope.get_unique_operator_name(kind)
        self.container.add_node(kind, list(inputs), [output], op_domain=domain, name=name, **attributes)
        return output

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        names = [self.scope.get_unique_variable_name(kind.lower()) for _ in range(outputs)]
        self.container.add_node(kind, list(inputs), names, name=self.scope.get_unique_operator_name(kind), **attributes)
        return names

    def ints(self, *values: int) -> str:
        return self._constant(TensorProto.INT64, [len(values)], [int(v) for v in values])

    def floats(self, *values: float) -> str:
        return self._constant(TensorProto.FLOAT, [len(values)], [float(v) for v in values])

    def strings(self, *values: str) -> str:
        return self._constant(TensorProto.STRING, [len(values)], [v.encode() for v in values])

    def tensor(self, tensor: TensorProto) -> str:
        """An ONNX tensor as a constant of the graph."""
        array = numpy_helper.to_array(tensor)
        return self._constant(tensor.data_type, list(array.shape), array.reshape(-1).tolist())

    def _constant(self, kind: int, shape: list[int], values: list[Any]) -> str:
        name = str(self.scope.get_unique_variable_name("constant"))
        self.container.add_initializer(name, kind, shape, values)
        return name

    def estimator(self, estimator: Any, inputs: list[Any], outputs: list[Any]) -> list[str]:
        """The outputs of an inner estimator, one for each of these skl2onnx types. `inputs` are its variables."""
        from skl2onnx._supported_operators import sklearn_operator_name_map

        operator = self.scope.declare_local_operator(sklearn_operator_name_map[type(estimator)], estimator)
        operator.inputs = inputs
        for kind in outputs:
            operator.outputs.append(self.scope.declare_local_variable("inner", kind))
        return [v.full_name for v in operator.outputs]
