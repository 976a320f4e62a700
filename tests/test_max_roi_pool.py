"""MaxRoiPool: compiled, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from test_contrib_operators import compare, floats, one_node


@pytest.mark.parametrize("spatial_scale", [1.0, 0.5])
@pytest.mark.parametrize("fixed", [False, True])
def test_max_roi_pool(fixed: bool, spatial_scale: float) -> None:
    """Regions inside of the image, across its edge, of one pixel, and smaller than the grid."""
    rois = np.array(
        [
            [0, 0, 0, 8, 6],
            [1, 2, 1, 5, 11],
            [0, 3, 3, 3, 3],
            [1, 4, 2, 20, 9],
            [0, 1.4, 2.6, 3.3, 4.4],
            [1, 9, 9, 30, 30],
        ],
        np.float32,
    )
    model, feeds = one_node(
        "MaxRoiPool", {"x": floats(2, 3, 12, 10), "r": rois}, run_time="x" if fixed else "x r", domain="",
        pooled_shape=[3, 2], spatial_scale=spatial_scale,
    )  # fmt: skip
    compare(model, feeds, rtol=0, atol=0)
