"""A word-level LSTM language model, two layers over 35 words, trained here on sentences made by a small grammar.

python examples/language_model.py build/language_model
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _example import Example, main
from _mxnet import Net
from _train import adam

Array = np.ndarray
STEPS, BATCH = 35, 16
NOUNS = {"dog": "dogs", "cat": "cats", "bird": "birds", "child": "children", "tree": "trees", "river": "rivers"}
VERBS = {"sees": "see", "likes": "like", "follows": "follow", "hears": "hear"}
RESTS = {"sleeps": "sleep", "waits": "wait", "grows": "grow"}
ADJECTIVES = ["old", "small", "green", "quiet"]


def sentence(rng: np.random.Generator) -> list[str]:
    """The verb agrees with its subject, also where a relative clause stands between the two."""

    def pick(words: dict[str, str], number: int) -> str:
        return list(words.items())[rng.integers(len(words))][number]

    def phrase(number: int, clause: float) -> list[str]:
        adjective = [ADJECTIVES[rng.integers(len(ADJECTIVES))]] if rng.random() < 0.3 else []
        words = ["the", *adjective, pick(NOUNS, number)]
        if rng.random() < clause:
            other = int(rng.integers(2))
            words += ["that", *phrase(other, 0), pick(VERBS, other)]
        return words

    number = int(rng.integers(2))
    words = phrase(number, 0.4)
    if rng.random() < 0.5:
        return [*words, pick(RESTS, number), "."]
    return [*words, pick(VERBS, number), *phrase(int(rng.integers(2)), 0.2), "."]


class Layer:
    """An LSTM layer (gates i, f, g, o, as in MXNet), for T x N x inputs."""

    def __init__(self, rng: np.random.Generator, inputs: int, hidden: int) -> None:
        bound = hidden**-0.5
        self.weights = [rng.uniform(-bound, bound, (4 * hidden, n)).astype(np.float32) for n in (inputs, hidden)]
        self.weights.append(np.repeat(np.float32([0, 1, 0, 0]), hidden))

    def forward(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
        w, r, b = self.weights
        self.x, self.trips, out = x, [], []
        for t in range(len(x)):
            i, f, g, o = np.split(x[t] @ w.T + h @ r.T + b, 4, axis=1)
            i, f, o, g = (*(1 / (1 + np.exp(-v)) for v in (i, f, o)), np.tanh(g))
            new = f * c + i * g
            squashed = np.tanh(new)
            self.trips.append((h, c, i, f, g, o, squashed))
            h, c = o * squashed, new
            out.append(h)
        return np.stack(out), h, c

    def backward(self, dy: Array) -> tuple[Array, list[Array]]:
        """Gradients of the input and the weights, over these trips alone (truncated)."""
        w, r, _ = self.weights
        dx, grads = np.zeros_like(self.x), [np.zeros_like(v) for v in self.weights]
        dh = dc = np.zeros_like(dy[0])
        for t in reversed(range(len(dy))):
            h, c, i, f, g, o, squashed = self.trips[t]
            dh = dh + dy[t]
            dc = dc + dh * o * (1 - squashed**2)
            parts = (dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), dh * squashed * o * (1 - o))
            gates = np.concatenate(parts, 1)
            for total, part in zip(grads, (gates.T @ self.x[t], gates.T @ h, gates.sum(0)), strict=True):
                total += part
            dx[t], dh, dc = gates @ w, gates @ r, dc * f
        return dx, grads


class Model:
    """Embedding, two LSTM layers, and the scores of the words."""

    def __init__(self, words: int, hidden: int) -> None:
        rng = np.random.default_rng(7)
        self.table = rng.normal(0, 0.1, (words, hidden)).astype(np.float32)
        self.layers = [Layer(rng, hidden, hidden) for _ in range(2)]
        self.out = [rng.normal(0, 0.1, (words, hidden)).astype(np.float32), np.zeros(words, np.float32)]
        self.states = np.zeros((2, 2, BATCH, hidden), np.float32)

    def parameters(self) -> list[Array]:
        return [self.table, *self.layers[0].weights, *self.layers[1].weights, *self.out]

    def step(self, words: Array, following: Array) -> tuple[float, list[Array]]:
        """The mean cross-entropy of T x N words' successors, and its gradients; the states go on to the next call."""
        x = self.table[words]
        for k, layer in enumerate(self.layers):
            x, self.states[0, k], self.states[1, k] = layer.forward(x, *self.states[:, k])
        scores = x @ self.out[0].T + self.out[1]
        p = np.exp(scores - scores.max(2, keepdims=True))
        p /= p.sum(2, keepdims=True)
        at = (*np.indices(words.shape), following)
        loss = -float(np.log(p[at]).mean())
        p[at] -= 1
        p /= words.size
        dy = p @ self.out[0]
        grads = [np.tensordot(p, x, ([0, 1], [0, 1])), p.sum((0, 1))]
        for layer in reversed(self.layers):
            dy, own = layer.backward(dy)
            grads = own + grads
        table = np.zeros_like(self.table)
        np.add.at(table, words, dy)
        return loss, [table, *grads]


def to_mxnet(model: Model, folder: Path) -> Path:
    """Scores of the word after each of 35; the LSTM's states come in and go out, so that a text can go on."""
    words, hidden = model.table.shape
    net = Net()
    vector = [v.reshape(-1) for layer in model.layers for v in layer.weights[:2]]
    vector += [v for layer in model.layers for v in (layer.weights[2], np.zeros(4 * hidden))]
    x = net.op("Embedding", "embedding", net.data("words"), net.weight("embedding_weight", model.table),
               input_dim=words, output_dim=hidden)  # fmt: skip
    inputs = x, net.weight("lstm_parameters", np.concatenate(vector)), net.data("hidden"), net.data("cell")
    lstm = net.op("RNN", "lstm", *inputs, mode="lstm", state_size=hidden, num_layers=2, state_outputs=True)
    scores = net.dense(lstm, "scores", hidden, words, tuple(model.out), flatten=False)
    out = net.op("softmax", "following", scores, axis=-1)
    return net.save(folder, "language_model", out, (lstm, 1), (lstm, 2))


def write(folder: Path, small: bool) -> Example:
    rng = np.random.default_rng(8)
    steps = 10 if small else 600
    text: list[str] = []
    while len(text) <= BATCH * (STEPS * (steps + 20) + 1):
        text += sentence(rng)
    vocabulary = sorted(set(text))
    numbers = {word: k for k, word in enumerate(vocabulary)}
    stream = np.array([numbers[w] for w in text[: BATCH * (STEPS * (steps + 20) + 1)]]).reshape(BATCH, -1).T
    model = Model(len(vocabulary), 16 if small else 100)
    update = adam(model.parameters(), steps, 5e-3)
    held = []
    for k in range(steps + 20):
        part = stream[k * STEPS : (k + 1) * STEPS + 1]
        loss, grads = model.step(part[:-1], part[1:])
        if k < steps:
            norm = np.sqrt(sum(float((g * g).sum()) for g in grads))
            update([g * np.float32(min(1.0, 1.0 / norm)) for g in grads])
        else:
            held.append(loss)
    print(f"# perplexity {np.exp(np.mean(held)):.1f} on text it has not seen, of {len(vocabulary)} words")
    labels = folder / "words.txt"
    labels.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return Example(to_mxnet(model, folder), {"words": (STEPS, 1)}, labels)


if __name__ == "__main__":
    main(write, __doc__)
