"""The parts of TensorFlow Lite's schema (schema.fbs) in use: numbers of operators and types, fields of options."""

from __future__ import annotations

from typing import Any

CUSTOM = 32

_NAMES = (
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR "
    "FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC "
    "LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX "
    "SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD "
    "UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE "
    "UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE "
    "BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL "
    "LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT "
    "RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT "
    "UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR "
    "LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK "
    "ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 "
    "NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL "
    "PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS "
    "HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE "
    "READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL "
    "GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 "
    "UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT"
)
OPERATORS = dict(enumerate(_NAMES.split()))

LOOK_UP = "look words up outside of the network, which then has their numbers"
_RANDOM = "give the random numbers as an input"
REASONS = {
    "UNIQUE": "how many values it gives depends on the data",
    "WHERE": "how many places it gives depends on the data; tf.where(c, x, y), or a product with a mask, keeps it",
    **dict.fromkeys(("RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL"), _RANDOM),
    **dict.fromkeys(("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "HASHTABLE_LOOKUP"), LOOK_UP),
}
"""Why operators are not read, or what to do."""

CUSTOM_OPERATORS = ("TFLite_Detection_PostProcess",)

# complex, variant, bfloat16 and 2-bit types are not accepted; of resources, variables are
TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 9: "int8",
         10: "float64", 12: "uint64", 15: "uint32", 16: "uint16", 17: "int4"}  # fmt: skip

ACTIVATIONS = ("", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")

# The options' fields in the schema's order: name:kind=default; kinds b (one byte), f, v (vector of int32), s (a text),
# else int32.
_FIELDS = {
    "CONV_2D": "valid:b stride_w stride_h activation:b dilation_w=1 dilation_h=1",
    **dict.fromkeys(
        ("CONV_3D", "CONV_3D_TRANSPOSE"),
        "valid:b stride_d stride_w stride_h activation:b dilation_d=1 dilation_w=1 dilation_h=1",
    ),
    "DEPTHWISE_CONV_2D": "valid:b stride_w stride_h multiplier activation:b dilation_w=1 dilation_h=1",
    "TRANSPOSE_CONV": "valid:b stride_w stride_h activation:b",
    "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D": "valid:b stride_w stride_h filter_w filter_h activation:b",
    "FULLY_CONNECTED": "activation:b format:b keep_dims:b",
    "ADD SUB MUL DIV L2_NORMALIZATION": "activation:b",
    "SOFTMAX": "beta:f",
    "CONCATENATION": "axis activation:b",
    "LEAKY_RELU": "alpha:f",
    "RESHAPE": "shape:v",
    "SQUEEZE": "dims:v",
    "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY REDUCE_ALL": "keep_dims:b",
    "RESIZE_BILINEAR": "old_height old_width align_corners:b half_pixel:b",
    "RESIZE_NEAREST_NEIGHBOR": "align_corners:b half_pixel:b",
    "STRIDED_SLICE": "begin_mask end_mask ellipsis_mask new_axis_mask shrink_axis_mask offset:b",
    "SPLIT SPLIT_V": "count",
    "PACK": "count axis",
    "UNPACK": "count axis",
    "GATHER": "axis batch_dims",
    "BATCH_MATMUL": "adj_x:b adj_y:b",
    "ARG_MAX ARG_MIN": "output_type:b",
    "CAST": "from:b to:b",
    "SPACE_TO_DEPTH DEPTH_TO_SPACE": "block",
    "MIRROR_PAD": "symmetric:b",
    "GELU": "approximate:b",
    "LOCAL_RESPONSE_NORMALIZATION": "radius bias:f alpha:f beta:f",
    "ONE_HOT": "axis",
    "CUMSUM": "exclusive:b reverse:b",
    "REVERSE_SEQUENCE": "sequence_axis batch_axis",
    "LSTM": "activation:b cell_clip:f projection_clip:f kernel:b",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "activation:b cell_clip:f projection_clip:f time_major:b",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "activation:b cell_clip:f projection_clip:f merge:b time_major:b=1",
    "RNN": "activation:b",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "time_major:b activation:b",
    "BIDIRECTIONAL_SEQUENCE_RNN": "time_major:b activation:b merge:b",
    "SVDF": "rank activation:b",
    "IF": "then otherwise",
    "WHILE": "condition body",
    "CALL_ONCE": "subgraph",
    "VAR_HANDLE": "container:s name:s",
}  # fmt: skip


def _parse(text: str) -> tuple[tuple[str, str, Any], ...]:
    fields = []
    for word in text.split():
        head, _, default = word.partition("=")
        name, _, kind = head.partition(":")
        fields.append((name, kind or "i", float(default or 0) if kind == "f" else int(default or 0)))
    return tuple(fields)


OPTIONS = {kind: _parse(text) for kinds, text in _FIELDS.items() for kind in kinds.split()}
