"""The operators of ai.onnx.ml, compiled and run, against onnxruntime: all modes, transforms, aggregates, types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conformance.batch import compile_case, run_cases
from conformance.cases import Case, freeze
from onnx import TensorProto, compose, helper, numpy_helper

from dlpack.errors import UnsupportedError
from dlpack.operators.ml_forest import order_keys
from dlpack.targets.cpu.machine import AVX2

Array = np.ndarray[Any, Any]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


def case(name: str, nodes: Sequence[onnx.NodeProto], x: Array, types: dict[str, int], version: int = 3) -> Case:
    """A model of input X and the outputs `types`, with what onnxruntime computes."""
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info("X", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info(output, kind, None) for output, kind in types.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    want = tuple(np.asarray(y) for y in session.run(None, {"X": x}))
    absolute = 1e-4 if "PROBIT" in name else 1e-5  # a difference of nearly equal numbers around zero
    return Case(name, nodes[-1].op_type, "ai.onnx.ml", model, (((x,), want),), 1e-4, absolute)


def ml(op: str, outputs: Sequence[str], **attributes: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(op, ["X"], list(outputs), domain="ai.onnx.ml", **attributes)]


def floats(values: Any) -> list[float]:
    return [float(v) for v in np.asarray(values, np.float32).reshape(-1)]


def table(random: np.random.Generator, rows: int, columns: int, dtype: Any = np.float32) -> Array:
    """Numbers, among them thresholds, both zeros, infinities and NaN where the type has them."""
    x = random.choice([-1.5, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0, 3.25], size=(rows, columns)).astype(dtype)
    if x.dtype.kind == "f":
        for odd in (np.nan, -0.0, np.inf, -np.inf):
            x[random.random(x.shape) < 0.07] = odd
    return x


def trees(random: np.random.Generator, what: str, count: int, modes: Sequence[str], weights: Callable[[int], Any],
          missing: bool = False, depth: int = 4) -> dict[str, Any]:  # fmt: skip
    """The attributes of a random ensemble over 3 features; ``weights(tree)`` lists a leaf's (target, weight)."""
    nodes: dict[str, list[Any]] = {
        k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    nodes["missing_value_tracks_true"] = []
    leaves: dict[str, list[Any]] = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}

    def grow(tree: int, level: int, first: int) -> int:
        at = len(nodes["modes"])
        leaf = level == depth or (level > 0 and random.random() < 0.25)
        row = (tree, at - first, int(random.integers(3)), "LEAF" if leaf else str(random.choice(modes)))
        row += (float(random.choice([-1.0, 0.0, -0.0, 0.5, 1.0, 2.5])), 0, 0, int(missing and random.random() < 0.5))
        for values, value in zip(nodes.values(), row, strict=True):
            values.append(value)
        if leaf:
            for target, weight in weights(tree):
                for values, value in zip(leaves.values(), (tree, at - first, target, float(weight)), strict=True):
                    values.append(value)
        else:
            nodes["truenodeids"][at] = grow(tree, level + 1, first)
            nodes["falsenodeids"][at] = grow(tree, level + 1, first)
        return at - first

    for tree in range(count):
        grow(tree, 0, len(nodes["modes"]))
    return {f"nodes_{k}": v for k, v in nodes.items()} | {f"{what}_{k}": v for k, v in leaves.items()}


def forests() -> list[Case]:
    random = np.random.default_rng(5)
    cases = []

    def alike() -> np.random.Generator:
        """For trees of the same form, which share kernels."""
        return np.random.default_rng(6)

    def dense(targets: int, low: float = -1.0) -> Callable[[int], Any]:
        return lambda _: [(t, random.uniform(low, 1)) for t in range(targets)]

    def lone(target: int, low: float) -> Callable[[int], Any]:
        return lambda _: [(target, random.uniform(low, 1))]

    def regressor(name: str, attributes: dict[str, Any], targets: int, rows: int = 7, dtype: Any = np.float32) -> None:
        node = ml("TreeEnsembleRegressor", ["Y"], n_targets=targets, **attributes)
        cases.append(case(name, node, table(random, rows, 3, dtype), {"Y": FLOAT}))

    def classifier(name: str, attributes: dict[str, Any], labels: list[int], dtype: Any = np.float32) -> None:
        node = ml("TreeEnsembleClassifier", ["L", "Y"], classlabels_int64s=labels, **attributes)
        cases.append(case(name, node, table(random, 9, 3, dtype), {"L": INT64, "Y": FLOAT}))

    for mode in MODES:
        for missing in (False, True):
            made = trees(alike(), "target", 3, [mode], dense(1), missing)
            regressor(f"{mode}_{missing}", made, 1)
    regressor("all_modes_float64", trees(random, "target", 19, MODES, dense(2), True), 2, 40, np.float64)
    for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
        one = trees(random, "target", 9, MODES[:1], lambda tree: [(tree % 2, random.normal())])
        regressor(f"{aggregate}_sparse", one | {"aggregate_function": aggregate, "base_values": [0.5, 1.5, -1.0]}, 3)
        made = trees(random, "target", 10, MODES[:1], dense(2))
        regressor(f"{aggregate}_dense", made | {"aggregate_function": aggregate}, 2, 1)
    for kind in TRANSFORMS:
        made = trees(alike(), "target", 2, MODES[:2], dense(3, 0.1)) | {"post_transform": kind}
        regressor(f"values_{kind}", made, 3)
        made = trees(alike(), "class", 8, MODES, dense(4), True) | {"post_transform": kind}
        classifier(f"classes_{kind}", made, [4, 2, 9, 7], np.float64)
    for dtype in (np.int64, np.int32):
        classifier(f"input_{dtype.__name__}", trees(random, "class", 4, MODES[:4], dense(3)), [0, 1, 2], dtype)
    sparse = trees(random, "class", 3, MODES[:1], lambda _: [(int(random.integers(4)), -1 - random.random())])
    classifier("classes_sparse_negative", sparse, [5, 6, 7, 8])
    for base in ([], [0.25], [0.25, -0.5]):
        for low in (0.0, -1.0):
            for scored in (0, 1):
                for kind in ("NONE", "LOGISTIC"):
                    made = trees(alike(), "class", 5, MODES[:1], lone(scored, low))
                    made |= {"post_transform": kind, "base_values": base} if base else {"post_transform": kind}
                    classifier(f"class_{scored}_of_2_{kind}_from_{low}_base_{len(base)}", made, [30, 20])
        made = trees(random, "class", 5, MODES[:1], dense(2)) | ({"base_values": base} if base else {})
        classifier(f"both_of_2_base_{len(base)}", made, [3, 8])
    classifier("one_class", trees(random, "class", 2, MODES[:1], dense(1)), [3])
    return cases


def numbered_trees(random: np.random.Generator, count: int, targets: int, dtype: Any) -> dict[str, Any]:
    """The attributes of a random TreeEnsemble: all modes in turn, leaves apart from the inner nodes."""
    names = ("featureids", "splits", "modes", "truenodeids", "falsenodeids", "trueleafs", "falseleafs")
    nodes: dict[str, list[Any]] = {k: [] for k in (*names, "missing_value_tracks_true")}
    weights: list[float] = []
    members: list[float] = []

    def grow(level: int) -> int:
        at = len(nodes["modes"])
        mode, missing = at % (len(MODES) + 1), int(random.random() < 0.3)
        row = (int(random.integers(3)), float(random.integers(-2, 4)), mode, 0, 0, 0, 0, missing)
        for values, value in zip(nodes.values(), row, strict=True):
            values.append(value)
        if mode == len(MODES):  # BRANCH_MEMBER
            members.extend([*random.integers(-2, 4, size=int(random.integers(1, 5))).tolist(), np.nan])
        for side in ("true", "false"):
            leaf = level == 3 or random.random() < 0.3
            nodes[f"{side}leafs"][at] = int(leaf)
            if leaf:
                weights.append(random.normal())
            nodes[f"{side}nodeids"][at] = len(weights) - 1 if leaf else grow(level + 1)
        return at

    attributes: dict[str, Any] = {"tree_roots": [grow(0) for _ in range(count)], "n_targets": targets}
    attributes |= {f"nodes_{k}": v for k, v in nodes.items()}
    tensors = {"nodes_splits": nodes["splits"], "leaf_weights": weights, "membership_values": members}
    attributes |= {k: numpy_helper.from_array(np.array(v, dtype)) for k, v in tensors.items()}
    attributes["nodes_modes"] = numpy_helper.from_array(np.array(nodes["modes"], np.uint8))
    return attributes | {"leaf_targetids": [k % targets for k in range(len(weights))]}


def numbered_forests() -> list[Case]:
    """TreeEnsemble (version 5)."""
    random = np.random.default_rng(6)
    cases = []
    for dtype, targets, aggregate in ((np.float32, 1, 1), (np.float64, 3, 1), (np.float32, 2, 2), (np.float64, 2, 0)):
        x = random.integers(-3, 5, size=(13, 3)).astype(dtype)
        x[random.random(x.shape) < 0.2] = np.nan
        attributes = numbered_trees(random, 11, targets, dtype)
        node = ml("TreeEnsemble", ["Y"], aggregate_function=aggregate, **attributes)
        output = {"Y": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}
        cases.append(case(f"version_5_{np.dtype(dtype)}_{targets}_{aggregate}", node, x, output, 5))
    return cases


def linear() -> list[Case]:
    random = np.random.default_rng(7)
    cases = []
    for k, kind in enumerate(TRANSFORMS):
        dtype = (np.float32, np.float64, np.int64, np.int32)[k % 4]
        x = (random.normal(size=(4, 5)) * 2).astype(dtype)
        weights = floats(random.normal(size=15) / 4)
        three = {"coefficients": weights, "intercepts": [0.5, 0.25, 0.75], "post_transform": kind}
        node = ml("LinearClassifier", ["L", "Y"], classlabels_ints=[9, 0, 4], **three)
        cases.append(case(f"linear_classes_{kind}", node, x, {"L": INT64, "Y": FLOAT}))
        node = ml("LinearRegressor", ["Y"], targets=3, **three)
        cases.append(case(f"linear_values_{kind}", node, x.astype(np.float32), {"Y": FLOAT}))
        if kind != "PROBIT":
            one = {"coefficients": weights[:5], "intercepts": [-0.5], "post_transform": kind}
            node = ml("LinearClassifier", ["L", "Y"], classlabels_ints=[9, 4], **one)
            cases.append(case(f"linear_two_{kind}", node, x, {"L": INT64, "Y": FLOAT}))
    one_row = random.normal(size=3).astype(np.float32)
    node = ml("LinearRegressor", ["Y"], targets=1, coefficients=[1.0, 2.0, 3.0])
    cases.append(case("linear_one_dimension", node, one_row, {"Y": FLOAT}))
    return cases


def machines() -> list[Case]:
    random = np.random.default_rng(8)
    cases = []
    x = random.normal(size=(6, 4)).astype(np.float32)

    def add(name: str, classes: int, vectors: Sequence[int], probable: bool, **attributes: Any) -> None:
        pairs, total = classes * (classes - 1) // 2, sum(vectors)
        made = {"rho": floats(random.normal(size=pairs) / 5), "kernel_params": [0.25, 0.5, 3.0]}
        made["classlabels_ints"] = [int(v) for v in random.permutation(40)[:classes]]
        rows = (classes - 1) * total if total else classes * 4
        made["coefficients"] = floats(random.normal(size=rows) / 2)
        if total:
            made |= {"vectors_per_class": list(vectors), "support_vectors": floats(random.normal(size=total * 4))}
        if probable:
            made |= {"prob_a": floats(-random.uniform(0.5, 2, pairs)), "prob_b": floats(random.normal(size=pairs))}
        node = ml("SVMClassifier", ["L", "Y"], **(made | attributes))
        cases.append(case(f"svm_{name}", node, x, {"L": INT64, "Y": FLOAT}))

    for kernel in KERNELS:
        add(f"{kernel}_3", 3, [4, 2, 5], False, kernel_type=kernel)
        add(f"{kernel}_4_probable", 4, [3, 1, 2, 4], True, kernel_type=kernel)
        made = {"kernel_type": kernel, "kernel_params": [0.5, -0.25, 2.0], "n_supports": 7, "rho": [0.3]}
        made["coefficients"], made["support_vectors"] = floats(random.normal(size=7)), floats(random.normal(size=28))
        cases.append(case(f"svm_values_{kernel}", ml("SVMRegressor", ["Y"], **made), x, {"Y": FLOAT}))
    add("2", 2, [3, 4], False, kernel_type="RBF")
    add("2_logistic", 2, [3, 4], False, kernel_type="RBF", post_transform="LOGISTIC")
    add("2_probable", 2, [3, 4], True, kernel_type="RBF")
    add("3_softmax", 3, [1, 2, 3], False, post_transform="SOFTMAX")
    for classes in (2, 3):
        add(f"without_vectors_{classes}", classes, [], False)
    add("without_vectors_positive", 2, [], False, coefficients=floats(random.uniform(0, 0.3, 8)))
    linear = {"coefficients": [1.0, -1.0, 0.5, 0.0], "rho": [0.1], "kernel_params": [0.0, 0.0, 0.0]}
    one = ml("SVMRegressor", ["Y"], one_class=1, **linear)
    cases.append(case("svm_one_class", one, x, {"Y": FLOAT}))
    return cases


def features() -> list[Case]:
    random = np.random.default_rng(9)
    cases = []
    places = helper.make_node("Constant", [], ["I"], value=numpy_helper.from_array(np.array([[2], [0]])))
    extract = helper.make_node("ArrayFeatureExtractor", ["X", "I"], ["Y"], domain="ai.onnx.ml")
    vectorize = helper.make_node("FeatureVectorizer", ["X", "X"], ["Y"], domain="ai.onnx.ml", inputdimensions=[2, 5])
    for dtype in (np.float32, np.float64, np.int64, np.int32):
        name = np.dtype(dtype).name
        x = (random.normal(size=(4, 3)) * 3).astype(dtype)
        x[1] = 0
        for norm in ("MAX", "L1", "L2"):
            cases.append(case(f"normalizer_{norm}_{name}", ml("Normalizer", ["Y"], norm=norm), x, {"Y": FLOAT}))
        scaler = ml("Scaler", ["Y"], offset=[1.0, 2.0, -3.0], scale=[0.5, 2.0, 1.0])
        cases.append(case(f"scaler_{name}", scaler, x, {"Y": FLOAT}))
        cases.append(case(f"vectorizer_{name}", [vectorize], x, {"Y": FLOAT}))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        for rows in (x, x[0]):
            cases.append(case(f"extractor_{name}_{rows.ndim}", [places, extract], rows, {"Y": kind}))
        if dtype is not np.int32:
            encoder = ml("OneHotEncoder", ["Y"], cats_int64s=[3, -1, 0, 2, 3])
            cases.append(case(f"one_hot_{name}", encoder, x, {"Y": FLOAT}))
    x = np.array([[1, np.nan, 3], [np.nan, 2, -0.0]], np.float32)
    cases.append(case("binarizer", ml("Binarizer", ["Y"], threshold=1.0), np.nan_to_num(x), {"Y": FLOAT}))
    for replaced in (np.nan, 3.0):
        for values in ([7.0, 8.0, 9.0], [5.0]):
            node = ml("Imputer", ["Y"], imputed_value_floats=values, replaced_value_float=replaced)
            cases.append(case(f"imputer_{replaced}_{len(values)}", node, x, {"Y": FLOAT}))
    whole = np.array([[2, 2, 3], [1, 2, -7]])
    node = ml("Imputer", ["Y"], imputed_value_int64s=[7, 8, 9], replaced_value_int64=2)
    cases.append(case("imputer_int64", node, whole, {"Y": INT64}))
    keys = {"keys_floats": [3.0, 0.0, np.nan, 1.0]}
    for version in (2, 4):
        node = ml("LabelEncoder", ["Y"], values_floats=[10.0, 20.0, 30.0, 4.0], default_float=-1.0, **keys)
        cases.append(case(f"encoder_floats_{version}", node, x, {"Y": FLOAT}, version))
        node = ml("LabelEncoder", ["Y"], keys_int64s=[2, -7, 2], values_int64s=[10, 20, 30])
        cases.append(case(f"encoder_int64_{version}", node, whole, {"Y": INT64}, version))
    doubles = {f"{k}_tensor": numpy_helper.from_array(np.array(v)) for k, v in
               (("keys", [3.0, np.nan]), ("values", [1.5, 2.5]), ("default", [9.0]))}  # fmt: skip
    node = ml("LabelEncoder", ["Y"], **doubles)
    cases.append(case("encoder_tensors", node, x.astype(np.float64), {"Y": TensorProto.DOUBLE}, 4))
    return cases


def together(cases: Sequence[Case]) -> list[Case]:
    """The cases as few models, which take less time: side by side, their names before those of their values."""
    alike: dict[Any, list[Case]] = {}
    for c in cases:
        alike.setdefault((c.model.opset_import[1].version, c.rtol, c.atol), []).append(c)
    made = []
    for (version, rtol, atol), some in alike.items():
        parts = [compose.add_prefix(c.model, f"{c.name}/") for c in some]
        model = onnx.ModelProto()
        model.CopyFrom(parts[0])
        for part in parts[1:]:
            model.graph.MergeFrom(part.graph)
        inputs, outputs = (tuple(x for c in some for x in c.data_sets[0][k]) for k in (0, 1))
        made.append(Case(f"version {version}", "", "ai.onnx.ml", model, ((inputs, outputs),), rtol, atol))
    return made


def test_equal_to_onnxruntime() -> None:
    cases = [*forests(), *numbered_forests(), *linear(), *machines(), *features()]
    assert len({c.name for c in cases}) == len(cases) > 100
    results = run_cases(together(cases), AVX2, lambda _: None, flags=["-O0"])
    assert [(r.name, r.outcome, r.detail) for r in results if r.outcome != "passed"] == []


def test_order_keys_are_in_the_order_of_the_numbers() -> None:
    for dtype in (np.float32, np.float64):
        tiny, large = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
        x = np.array([-np.inf, -large, -1, -tiny, 0, tiny, 1, large, np.inf], dtype)
        keys = order_keys(x)
        assert (np.diff(keys) > 0).all()
        assert order_keys(np.array([-0.0], dtype))[0] == keys[4] == 0
        assert order_keys(np.array([np.nan], dtype))[0] < keys[0] - 1


def test_code_is_as_long_for_many_trees() -> None:
    from dlpack.amalgamate.batch import BatchPrinter
    from dlpack.runtime_c import read_runtime

    random = np.random.default_rng(0)
    lengths = []
    for count in (16, 128):
        made = trees(random, "target", count, MODES[:1], lambda _: [(0, 1.0)])
        # No value that fits into sixteen bits: those are stored so, and widened by code of their own.
        made["target_weights"] = [w + 0.1 for w in made["target_weights"]]
        made["nodes_values"] = [v + 0.1 for v in made["nodes_values"]]
        node = ml("TreeEnsembleRegressor", ["Y"], n_targets=1, **made)
        program = compile_case(freeze(case("forest", node, table(random, 1, 3), {"Y": FLOAT})), AVX2)
        lengths.append(len(BatchPrinter(read_runtime()).program(program, "forest")))
    assert abs(lengths[1] - lengths[0]) < 100


def refused(attributes: dict[str, Any]) -> str:
    node = ml("TreeEnsembleRegressor", ["Y"], n_targets=1, **attributes)
    x, y = helper.make_tensor_value_info("X", FLOAT, [2, 3]), helper.make_tensor_value_info("Y", FLOAT, None)
    graph = helper.make_graph(node, "g", [x], [y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    with pytest.raises(UnsupportedError) as e:
        compile_case(freeze(Case("refused", "", "", model, (((np.zeros((2, 3), np.float32),), ()),), 0, 0)), AVX2)
    return str(e.value)


def test_what_is_no_forest_is_refused() -> None:
    random = np.random.default_rng(1)
    good = trees(random, "target", 1, MODES[:1], lambda _: [(0, 1.0)], depth=2)
    inner = good["nodes_modes"].index("BRANCH_LEQ")

    def changed(name: str, value: Any, at: int = inner) -> dict[str, Any]:
        values = list(good[name])
        values[at] = value
        return good | {name: values}

    assert "several parents" in refused(changed("nodes_truenodeids", 0))  # a loop
    assert "not there" in refused(changed("nodes_falsenodeids", 99))
    assert "feature outside" in refused(changed("nodes_featureids", 3))
    assert "not among the 1" in refused(changed("target_ids", 1, 0))
    assert "BRANCH_MAYBE" in refused(changed("nodes_modes", "BRANCH_MAYBE"))
    assert "lengths" in refused(good | {"nodes_values": [0.5]})
