# Uses the package Digits; what it prints is read by test_bindings.py.
using Digits

fails(name, action) =
    try
        action()
        println("$name: no error")
    catch e
        println("$name: $(typeof(e)) $(sprint(showerror, e))")
    end

numbers = Vector{Float32}(undef, 64)
read!(ARGS[1], numbers)
image = permutedims(reshape(numbers, 8, 8, 1, 1), 4:-1:1)
picture = permutedims(reshape(read(ARGS[2]), 3, 8, 8), 3:-1:1)
predictor = Predictor()
probability = run(predictor, "image" => image)["probability"]
@assert size(probability) == (1, 10)
@assert probability == run(predictor, "image" => numbers)["probability"]
foreach(p -> println("run ", p), probability)
foreach(c -> println("class ", c.index, " ", c.label, " ", c.probability), classify(predictor, picture; count = 3))
fails("length", () -> run(predictor, "image" => numbers[2:end]))
fails("missing", () -> run(predictor))
fails("type", () -> run(predictor, "image" => zeros(64)))
fails("unknown", () -> run(predictor, "image" => image, "mask" => image))
fails("picture", () -> classify(predictor, picture[:, :, 1:2]))
fails("count", () -> classify(predictor, picture; count = 0))
close(predictor)
close(predictor)
fails("closed", () -> run(predictor, "image" => image))
fails("closed", () -> classify(predictor, picture))
