"""Uses the installed wheel digits, with numpy or without; what it prints is read by test_bindings.py."""

import sys
from array import array
from pathlib import Path

import digits


def fails(name, action, *arguments):
    try:
        action(*arguments)
        print(f"{name}: no error")
    except (ValueError, TypeError, RuntimeError) as e:
        print(f"{name}: {type(e).__name__} {e}")


image = array("f", Path(sys.argv[1]).read_bytes())
picture = memoryview(Path(sys.argv[2]).read_bytes()).cast("B", (8, 8, 3))
assert "dlpack" not in sys.modules
with digits.Predictor() as predictor:
    probability = predictor.run({"image": image})["probability"]
    assert probability.shape == (1, 10)
    for p in probability.tolist()[0]:
        print("run", p)
    if "numpy" in sys.modules:
        import numpy

        again = predictor.run({"image": numpy.array(image, "f").reshape(1, 1, 8, 8)})["probability"]
        assert isinstance(again, numpy.ndarray) and (again == probability).all()
    for c in predictor.classify(picture, 3):
        print("class", c.index, c.label, c.probability)
    fails("length", predictor.run, {"image": image[1:]})
    fails("missing", predictor.run, {})
    fails("type", predictor.run, {"image": array("d", image)})
    fails("type", predictor.run, {"image": 3})
    fails("unknown", predictor.run, {"image": image, "mask": image})
    fails("picture", predictor.classify, memoryview(bytes(64)).cast("B", (8, 8)))
    fails("count", predictor.classify, picture, 0)
predictor.close()
fails("closed", predictor.run, {"image": image})
fails("closed", predictor.classify, picture)
