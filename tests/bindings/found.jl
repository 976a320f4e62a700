# Uses the package Found; what it prints is read by test_bindings_sets.py.
using Found

fails(name, action) =
    try
        action()
        println("$name: no error")
    catch e
        println("$name: $(sprint(showerror, e))")
    end

picture = permutedims(reshape(read(ARGS[1]), 3, 7, 5), 3:-1:1)
first_ = fill(1.5f0, 192)
p = Predictor()
set_threads(p, 2)
set_shape_of(p, "image", (1, 3, 8, 8))
twice = run(p, "image" => first_)["twice"]
println("set ", shape(p), " ", length(twice), " ", twice[1, 3, 8, 8])
set_shape(p, 0)
twice = run(p, "image" => fill(2.5f0, (1, 3, 6, 6)))["twice"]
println("set ", shape(p), " ", length(twice), " ", twice[1, 3, 6, 6])
for d in detect(p, picture)
    println("found ", d.index, " ", d.label, " ", join((d.score, d.x, d.y, d.width, d.height), " "))
end
println("sure ", length(detect(p, picture; threshold = 2)))
small = Predictor(largest = ["image" => (1, 3, 8, 8)])
set_shape_of(small, "image", (1, 3, 8, 8))
println("small ", run(small, "image" => first_)["twice"][1, 3, 8, 8])
fails("memory", () -> set_shape_of(small, "image", (1, 3, 206, 206)))
fails("memory", () -> set_shape(small, 10200))
fails("largest", () -> Predictor(largest = ["image" => (1, 3, 8, 7)]))
fails("input", () -> Predictor(largest = ["picture" => (1, 3, 8, 8)]))
fails("bounds", () -> set_shape_of(p, "image", (1, 3, 8, 208)))
fails("step", () -> set_shape_of(p, "image", (1, 3, 8, 7)))
fails("name", () -> set_shape_of(p, "picture", (1, 3, 8, 8)))
fails("length", () -> run(p, "image" => first_))
fails("picture", () -> detect(p, picture[:, :, 1:2]))
fails("shape", () -> set_shape(p, 10201))
fails("threads", () -> set_threads(p, 3))
close(p)
fails("closed", () -> set_shape(p, 0))
fails("closed", () -> set_shape_of(p, "image", (1, 3, 8, 8)))
fails("closed", () -> set_threads(p, 1))
fails("closed", () -> detect(p, picture))
