"""Uses the installed wheel found; what it prints is read by test_bindings_sets.py."""

import sys
from array import array
from pathlib import Path

import found


def fails(name, action, *arguments):
    try:
        action(*arguments)
        print(f"{name}: no error")
    except (ValueError, TypeError, RuntimeError) as e:
        print(f"{name}: {type(e).__name__} {e}")


picture = memoryview(Path(sys.argv[1]).read_bytes()).cast("B", (5, 7, 3))
first = array("f", 192 * [1.5])
p = found.Predictor()
p.set_threads(2)
p.set_shape({"image": (1, 3, 8, 8)})
twice = p.run({"image": first})["twice"]
print("set", p.shape, twice.nbytes // 4, twice.tolist()[0][2][7][7])
p.set_shape(0)
twice = p.run({"image": array("f", 108 * [2.5])})["twice"]
print("set", p.shape, twice.nbytes // 4, twice.tolist()[0][2][5][5])
for d in p.detect(picture):
    assert isinstance(d, found.Detection)
    print("found", d.index, d.label, d.score, d.x, d.y, d.width, d.height)
print("sure", len(p.detect(picture, 2.0)))
with found.Predictor(largest={"image": (1, 3, 8, 8)}) as small:
    small.set_shape({"image": (1, 3, 8, 8)})
    print("small", small.run({"image": first})["twice"].tolist()[0][2][7][7])
    fails("memory", small.set_shape, {"image": (1, 3, 206, 206)})
    fails("memory", small.set_shape, 10200)
fails("largest", found.Predictor, {"image": (1, 3, 8, 7)})
fails("input", found.Predictor, {"picture": (1, 3, 8, 8)})
fails("bounds", p.set_shape, {"image": (1, 3, 8, 208)})
fails("step", p.set_shape, {"image": (1, 3, 8, 7)})
fails("length", p.run, {"image": first})
fails("picture", p.detect, memoryview(bytes(35)).cast("B", (5, 7)))
fails("shape", p.set_shape, 10201)
fails("threads", p.set_threads, 3)
fails("classify", p.classify, picture)
p.close()
fails("closed", p.set_shape, 0)
fails("closed", p.set_threads, 1)
fails("closed", p.detect, picture)
