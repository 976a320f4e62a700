"""onnxruntime's operators of state space and linear attention models."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import GraphProto, TensorProto

from dlpack.model.contrib_body import Body
from dlpack.model.contrib_node import Call, contrib, number


@contrib("CausalConvWithState")
def causal_convolution(call: Call) -> None:
    """A depthwise convolution along the last dimension over the past's values and the input's; the present ones are the
    last of both.
    """
    call.require_opset(11)
    call.refuse_attributes(ndim=1, state_window=0, channels_last=0, state_length=0, state_update_capacity=0)
    batch, channels, length = call.shape(0)
    dilation = call.attr("dilation", 1)
    room = (call.shape(1)[-1] - 1) * dilation
    past = call.input(3) if call.has(3) else call.array(np.zeros((batch, channels, room)), call.dtype(0))
    whole = call.add("Concat", past, call.input(0), axis=2)
    operands = [call.input(k) for k in (1, 2) if call.has(k)]
    y = call.add("Conv", whole, *operands, group=channels, dilations=[dilation])
    activation = call.attr("activation", "none")
    if activation in ("silu", "swish"):
        y = call.add("Mul", y, call.add("Sigmoid", y))
    elif activation not in ("none", ""):
        call.refuse(f"its activation '{activation}' is not supported")
    call.give(0, y)
    call.give(1, call.slice(whole, 2, length, length + room))


@contrib("LinearAttentionGate")
def linear_attention_gate(call: Call) -> None:
    """decay_scale softplus(a + dt_bias), and sigmoid(b); the first in float32."""
    elem = onnx.helper.np_dtype_to_tensor_dtype(call.dtype(0))
    x = call.add("Softplus", call.add("Add", call.add("Cast", call.input(0), to=TensorProto.FLOAT), call.input(1)))
    call.give(0, call.add("Cast", call.add("Mul", x, call.input(2)), to=elem))
    if call.has(3):
        call.give(1, call.add("Sigmoid", call.input(3)))


@contrib("LinearAttention")
def linear_attention(call: Call) -> None:
    """o = scale q' S, where each step updates the state S [batch, heads, key size, value size]:
    S = exp(decay) S + k (beta (v - k' exp(decay) S))', in which rules leave out the decay or what has a beta.
    """
    call.require_opset(13)
    call.refuse_attributes(state_window=0)
    rule = call.attr("update_rule", "gated_delta")
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        call.refuse(f"its update_rule '{rule}' is not supported")
    heads, kv_heads = call.attr("q_num_heads", 1), call.attr("kv_num_heads", 1)
    if heads % kv_heads and kv_heads % heads:
        call.refuse(f"{heads} heads of queries for {kv_heads} of values are not supported")
    batch, length, hidden = call.shape(0)
    size, value_size = hidden // heads, call.shape(2)[2] // kv_heads
    group = max(1, heads // kv_heads)  # queries of a state

    def steps(index: int, width: int) -> str:
        """[batch, length, heads * width] as [length, batch, heads, width], as many heads as the values have."""
        count = call.shape(index)[2] // width
        x = call.transpose(call.reshape(call.input(index), batch, length, count, width), 1, 0, 2, 3)
        if count % kv_heads == 0:
            return x
        return call.add("Gather", x, call.array(np.arange(kv_heads) * count // kv_heads, np.int64), axis=2)

    widths = [call.shape(4)[2] // kv_heads if "gated" in rule else 0, int("delta" in rule)]
    scanned = [steps(0, size), steps(1, size), steps(2, value_size)]
    scanned += [steps(4 + k, width) for k, width in enumerate(widths) if width]
    shape = [batch, kv_heads, size, value_size]
    state = call.input(3) if call.has(3) else call.array(np.zeros(shape), call.dtype(0))
    elem = onnx.helper.np_dtype_to_tensor_dtype(call.dtype(0))
    body = _step(f"{call.node.name}/step", shape, group, widths, elem)
    last, each = call.add_many(2, "Scan", state, *scanned, body=body, num_scan_inputs=len(scanned))
    scale = call.attr("scale", 0.0) or 1 / math.sqrt(size)
    y = call.add("Mul", call.reshape(each, length, batch, kv_heads * group * value_size), number(call, scale))
    call.give(0, call.transpose(y, 1, 0, 2))
    call.give(1, last)


def _step(prefix: str, shape: list[int], group: int, widths: list[int], elem: int) -> GraphProto:
    """(S, q, k, v, decay, beta) to (S, o); `widths` are those of the last two, 0 where the rule has none."""
    batch, heads, size, value_size = shape
    b = Body(prefix)
    s = b.input("s", elem, shape)
    q = b.input("q", elem, [batch, heads * group, size])
    k = b.input("k", elem, [batch, heads, size])
    v = b.input("v", elem, [batch, heads, value_size])
    value, old = b.reshape(v, batch, heads, 1, value_size), s
    if widths[0]:
        decay = b.input("decay", elem, [batch, heads, widths[0]])
        old = b.add("Mul", s, b.add("Exp", b.reshape(decay, batch, heads, widths[0], 1)))
    if widths[1]:
        beta = b.input("beta", elem, [batch, heads, widths[1]])
        known = b.add("MatMul", b.reshape(k, batch, heads, 1, size), old)
        value = b.add("Mul", b.add("Sub", value, known), b.reshape(beta, batch, heads, 1, 1))
    new = b.add("Add", old, b.add("MatMul", b.reshape(k, batch, heads, size, 1), value))
    y = b.add("MatMul", b.reshape(q, batch, heads, group, size), new)
    y = b.reshape(y, batch, heads * group, value_size)
    return b.graph((b.add("Identity", new), elem, shape), (y, elem, [batch, heads * group, value_size]))
