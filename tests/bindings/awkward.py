"""Uses the wheel of the model of `awkward` in test_bindings.py, which reads what it prints."""

import os
from array import array

import awkward


def damaged():
    """A predictor of the package with other weights."""
    with open(os.path.join(os.path.dirname(awkward.__file__), "awkward.weights"), "wb") as file:
        file.write(b"damaged")
    awkward.Predictor()


inputs = {"my input": array("f", [1, 2, 3, 4]), "class": array("q", [10, 20, 30])}
p = awkward.Predictor()
y = p.run(inputs)
print("func", *map(int, y["func"].tolist()[0]))
print("in", *y["in:0"].tolist()[0])
print("class", p.classify(inputs, 1)[0].label)
for name, action in (("length", lambda: p.run({**inputs, "class": array("q", [1])})), ("weights", damaged)):
    try:
        action()
    except (ValueError, RuntimeError):
        print(name, "error")
