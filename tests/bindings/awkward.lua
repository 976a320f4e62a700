-- Uses the bindings of the model of test_bindings.py's `awkward`, which reads what it prints. Its argument: the weights.
local Predictor = require("awkward")
local p = Predictor.new(arg[1])
local inputs = { ["my input"] = { 1, 2, 3, 4 }, class = { 10, 20, 30 } }
local y = p:run(inputs)
print("func " .. table.concat(y.func, " "))
print("in " .. tonumber(y["in:0"][1]) .. " " .. tonumber(y["in:0"][2]) .. " " .. tonumber(y["in:0"][3]))
print("class " .. p:classify(inputs, 1)[1].label)
if not pcall(p.run, p, { ["my input"] = { 1 }, class = { 1, 2, 3 } }) then print("length error") end
if not pcall(Predictor.new, "absent") then print("weights error") end
