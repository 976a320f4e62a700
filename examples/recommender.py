"""Matrix factorisation: a user's rating of an item, from ratings made here and factorised by alternating least squares.

python examples/recommender.py build/recommender
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _example import Example, main
from _mxnet import Net

Array = np.ndarray


def ratings(rng: np.random.Generator, users: int, items: int, per_user: int) -> tuple[Array, Array, Array]:
    """Who rated what how (1 to 5): tastes of 6 numbers, a quirk per user and item, and noise of 0.3."""
    tastes, traits = rng.normal(0, 0.6, (users, 6)), rng.normal(0, 0.6, (items, 6))
    user = np.repeat(np.arange(users), per_user)
    item = rng.integers(0, items, users * per_user)
    score = 3 + rng.normal(0, 0.4, users)[user] + rng.normal(0, 0.4, items)[item] + rng.normal(0, 0.3, len(user))
    return user, item, np.clip(score + (tastes[user] * traits[item]).sum(1), 1, 5)


def solve(rows: Array, factors: Array, score: Array, count: int, penalty: float) -> Array:
    """Ridge regression of the scores of each of `count` rows on the other side's factors."""
    width = factors.shape[1]
    a = np.tile(penalty * np.eye(width), (count, 1, 1))
    b = np.zeros((count, width))
    np.add.at(a, rows, factors[:, :, None] * factors[:, None, :])
    np.add.at(b, rows, factors * score[:, None])
    return np.linalg.solve(a, b[:, :, None])[:, :, 0]


def write(folder: Path, small: bool) -> Example:
    users, items, width, batch = (60, 40, 8, 16) if small else (2000, 1000, 16, 256)
    rng = np.random.default_rng(4)
    user, item, score = ratings(rng, users, items, 20 if small else 60)
    held = rng.random(len(user)) < 0.1
    u, i, s = user[~held], item[~held], score[~held] - 3
    p, q = rng.normal(0, 0.1, (users, width)), rng.normal(0, 0.1, (items, width))
    for _ in range(10):
        p = solve(u, q[i], s, users, 3.0)
        q = solve(i, p[u], s, items, 3.0)
    error = np.sqrt(np.mean(((p[user] * q[item]).sum(1) + 3 - score)[held] ** 2))
    print(f"# root mean square error {error:.2f} on held-out ratings, whose deviation is {score[held].std():.2f}")

    net = Net()
    factors = [
        net.op("Embedding", f"{name}_factors", net.data(name), net.weight(f"{name}_weight", table),
               input_dim=len(table), output_dim=width)
        for name, table in (("user", p), ("item", q))
    ]  # fmt: skip
    dot = net.op("sum", "dot", net.op("elemwise_mul", "product", *factors), axis=1)
    rating = net.op("_plus_scalar", "rating", dot, scalar=3.0)
    return Example(net.save(folder, "recommender", rating), {"user": (batch,), "item": (batch,)})


if __name__ == "__main__":
    main(write, __doc__)
