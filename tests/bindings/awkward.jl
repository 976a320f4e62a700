# Uses the bindings of the model of test_bindings.py's `awkward`, which reads what it prints. Its argument: the weights.
using Awkward

p = Predictor(ARGS[1])
inputs = ("my input" => Float32[1, 2, 3, 4], "class" => [10, 20, 30])
y = run(p, inputs...)
println("func ", join(Int.(y["func"]), " "))
println("in ", join(y["in:0"], " "))
println("class ", classify(p, inputs...; count = 1)[1].label)
fails(action) =
    try
        action()
        "none"
    catch
        "error"
    end
println("length ", fails(() -> run(p, "my input" => Float32[1], "class" => [1, 2, 3])))
println("weights ", fails(() -> Predictor("absent")))
