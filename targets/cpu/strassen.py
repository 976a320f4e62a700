"""The cost model that says where Strassen's algorithm pays (graph/strassen.py)."""

from __future__ import annotations

from dlpack.kernels.backend import Product
from dlpack.targets.cpu.machine import Machine
from dlpack.targets.cpu.tiles import best_tile, bytes_per_cycle


def strassen_pays(product: Product, machine: Machine) -> bool:
    """Whether seven products of quarters take so much less than the product by estimate, with the sums around them,
    which move quarters of the input and of the result, and with the weights that are read more."""
    rows, depth, columns = product.rows, product.depth, product.columns
    if machine.lanes < LEAST_LANES or machine.lanes * machine.fma_ports > MOST_PRODUCTS or columns // 2 % machine.lanes:
        return False
    direct = best_tile(rows, columns, depth, machine, True, True)[1]
    products = 7 * best_tile(product.half, columns // 2, depth // 2, machine, True, True)[1]
    quarters = machine.itemsize * product.half * (depth + columns) // 2
    sums = QUARTERS_MOVED * quarters / bytes_per_cycle(machine, 4 * quarters)
    weights = machine.itemsize * depth * columns
    more = 3 * weights / 4 / bytes_per_cycle(machine, 7 * weights // 4) / 2  # most of it comes while others are used
    return products + sums + more + CALLS < WORTH_SUMS * direct


LEAST_LANES = 8
"""On narrower vectors it was not measured, and where they are, memory for more weights is scarce."""

MOST_PRODUCTS = 16
"""Of a core that multiplies more numbers in a cycle, sums and weights hold up what the products save (Zen 5: even)."""

QUARTERS_MOVED = 6
"""Sums of the input's quarters read eight and write four, as do those of the result; half of that time is seen, for
much is read and written while products are computed."""

CALLS = 5000
"""Cycles of twelve more calls of kernels, each of which begins with nothing in the core's window."""

WORTH_SUMS = 0.95
"""The sums round more often and the weights are 1.75 times as large, which less of a gain is not worth."""
