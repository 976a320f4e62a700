"""Half precision, which a bundle computes in float32."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper


def widen(model: ModelProto) -> None:
    """Converts float16 and bfloat16 to float32, in place: a bundle computes in float32, and what is stored in
    fewer bits keeps its value."""
    narrow = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

    def tensor(t: TensorProto) -> None:
        if t.data_type in narrow:
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float32), t.name))

    def graph(g: GraphProto) -> None:
        for t in g.initializer:
            tensor(t)
        for value in (*g.input, *g.output, *g.value_info):
            if value.type.tensor_type.elem_type in narrow:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in g.node:
            for a in node.attribute:
                if a.name in ("to", "dtype", "output_dtype") and a.i in narrow:
                    a.i = TensorProto.FLOAT
                if a.HasField("t"):
                    tensor(a.t)
                for inner in (*([a.g] if a.HasField("g") else []), *a.graphs):
                    graph(inner)

    graph(model.graph)
