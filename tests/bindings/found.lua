-- Uses the module found; what it prints is read by test_bindings_sets.py.
local ffi = require("ffi")
local Predictor = require("found")

local function fails(name, action, ...)
  local done, message = pcall(action, ...)
  print(name .. ": " .. (done and "no error" or message))
end

local function numbers(value, size)
  local all = {}
  for i = 1, size do all[i] = value end
  return all
end

local picture = assert(io.open(arg[1], "rb")):read("*a")
local p = Predictor.new()
p:set_threads(2)
p:reshape("image", { 1, 3, 8, 8 })
local twice = p:run({ image = numbers(1.5, 192) }).twice
print("set", p:shape(), #twice, twice[192])
p:set_shape(0)
twice = p:run({ image = numbers(2.5, 108) }).twice
print("set", p:shape(), #twice, twice[108])
for _, d in ipairs(p:detect(picture, 7, 5)) do
  print("found", d.index, d.label, ("%.9g %.9g %.9g %.9g %.9g"):format(d.score, d.x, d.y, d.width, d.height))
end
print("sure", #p:detect(picture, 7, 5, 2))
local small = Predictor.new({ largest = { image = { 1, 3, 8, 8 } } })
small:reshape("image", { 1, 3, 8, 8 })
print("small", small:run({ image = numbers(1.5, 192) }).twice[192])
fails("memory", small.reshape, small, "image", { 1, 3, 206, 206 })
fails("memory", small.set_shape, small, 10200)
fails("largest", Predictor.new, { largest = { image = { 1, 3, 8, 7 } } })
fails("input", Predictor.new, { largest = { picture = { 1, 3, 8, 8 } } })
fails("bounds", p.reshape, p, "image", { 1, 3, 8, 208 })
fails("step", p.reshape, p, "image", { 1, 3, 8, 7 })
fails("name", p.reshape, p, "picture", { 1, 3, 8, 8 })
fails("length", p.run, p, { image = ffi.new("float[192]") })
fails("picture", p.detect, p, picture, 8, 5)
fails("shape", p.set_shape, p, 10201)
fails("threads", p.set_threads, p, 3)
p:close()
fails("closed", p.set_shape, p, 0)
fails("closed", p.reshape, p, "image", { 1, 3, 8, 8 })
fails("closed", p.set_threads, p, 1)
fails("closed", p.detect, p, picture, 7, 5)
