-- Uses the module digits; what it prints is read by test_bindings.py.
local ffi = require("ffi")
local Predictor = require("digits")

local function read(path)
  local file = assert(io.open(path, "rb"))
  return file:read("*a"), file:close()
end

local function fails(name, action, ...)
  local done, message = pcall(action, ...)
  print(name .. ": " .. (done and "no error" or message))
end

local image, raw, picture = ffi.new("float[64]"), read(arg[1]), read(arg[2])
ffi.copy(image, raw, 256)
local numbers = {}
for i = 0, 63 do numbers[i + 1] = image[i] end

local predictor = Predictor.new()
for _, p in ipairs(predictor:run({ image = image }).probability) do print("run", ("%.9g"):format(p)) end
local first = predictor:run({ image = numbers }).probability[1]
assert(first == predictor:run({ image = image }).probability[1])
for _, c in ipairs(predictor:classify(picture, 8, 8, 3)) do
  print("class", c.index, c.label, ("%.9g"):format(c.probability))
end
fails("length", predictor.run, predictor, { image = { 1, 2, 3 } })
fails("length", predictor.run, predictor, { image = ffi.new("float[63]") })
fails("missing", predictor.run, predictor, {})
fails("type", predictor.run, predictor, { image = "text" })
fails("type", predictor.run, predictor, { image = ffi.new("double[32]") })
fails("unknown", predictor.run, predictor, { image = image, mask = image })
fails("picture", predictor.classify, predictor, picture, 9, 8)
fails("count", predictor.classify, predictor, picture, 8, 8, 0)
predictor:close()
predictor:close()
fails("closed", predictor.run, predictor, { image = image })
fails("closed", predictor.classify, predictor, picture, 8, 8)
for _ = 1, 1000 do Predictor.new() end
