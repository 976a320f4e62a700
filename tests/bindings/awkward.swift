// Uses the bindings of the model of test_bindings.py's `awkward`, which reads what it prints. Its argument: the weights.
import Awkward

let p = try Predictor(weights: CommandLine.arguments[1])
let x: [Float] = [1, 2, 3, 4]
let c: [Int64] = [10, 20, 30]
let y = try p.run(myInput: x, class2: c)
print("func", y.func2.map { String(Int($0)) }.joined(separator: " "))
print("in", y.in0.map(String.init).joined(separator: " "))
print("class", try p.classify(myInput: x, class2: c, count: 1)[0].label)
if (try? p.run(myInput: x, class2: [1])) == nil { print("length error") }
if (try? Predictor(weights: "absent")) == nil { print("weights error") }
