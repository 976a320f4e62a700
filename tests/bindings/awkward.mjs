// Uses the bindings of the model of test_bindings.py's `awkward`, which reads what it prints. Its argument: the weights.
import { Predictor } from "awkward";
const inputs = { "my input": Float32Array.of(1, 2, 3, 4), class: BigInt64Array.of(10n, 20n, 30n) };
const p = new Predictor();
const y = p.run(inputs);
console.log("func", y.func.join(" "));
console.log("in", y["in:0"].join(" "));
console.log("class", p.classify(inputs, 1)[0].label);
try {
  p.run({ ...inputs, class: new BigInt64Array(1) });
} catch {
  console.log("length error");
}
try {
  new Predictor("absent");
} catch {
  console.log("weights error");
}
