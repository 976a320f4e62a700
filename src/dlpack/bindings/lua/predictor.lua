--- The model @name@. @about@
--
-- Inputs of run, each a table of numbers or a cdata array, row-major:
--
@input_docs@
--
-- Outputs, each a table of numbers:
--
@output_docs@
local ffi = require("ffi")
local C = require("@name@_c")

local INPUTS = {
  @inputs@
}
local OUTPUTS = {
  @outputs@
}
local KNOWN = { @known@ }

local Predictor = {}
Predictor.__index = Predictor

local function check(status)
  if status ~= 0 then error(ffi.string(C.@name@_error_text(status)), 3) end
end

local function open(self)
  if not self.handle then error("the predictor is closed", 3) end
  return self.handle
end

--@ if open
-- What gives an input's number, counted from 0, and shape to `call`, and what that gives; nil where it is no shape.
local function sized(name, extents, call)
  for i, input in ipairs(INPUTS) do
    if input.name == name then
      local whole, shape = true, ffi.new("int64_t[?]", #extents, extents)
      for _, extent in ipairs(extents) do whole = whole and extent % 1 == 0 end
      return whole and call(i - 1, shape, #extents) or error(("input %s can be %s, not %s"):format(
        name, input.shapes, table.concat(extents, "x")), 3)
    end
  end
  error("unknown input " .. tostring(name), 3)
end

local function memory_for(how)
  local most = 0
  for name, extents in pairs(how and how.largest or {}) do
    most = math.max(most, sized(name, extents, function(index, shape, rank)
      local bytes = tonumber(C.@name@_memory_size_for(index, shape, rank))
      return bytes > 0 and bytes
    end))
  end
  return most
end

--@ end
--@ if side
--- A predictor with the weights in a file: @weights@ of the bundle.
--@ if open
-- how.largest, as in { image = { 1, 3, 64, 64 } }: it takes memory for no larger inputs.
--@ end
function Predictor.new(weights@more_how@)
  if type(weights) ~= "string" then error("new takes the path of the file @weights@", 2) end
  local made = ffi.new("@name@_predictor*[1]")
--@ if open
  check(C.@name@_create_from_file_within(made, weights, memory_for(how)))
--@ else
  check(C.@name@_create_from_file(made, weights))
--@ end
--@ else
--- A predictor.
--@ if open
-- how.largest, as in { image = { 1, 3, 64, 64 } }: it takes memory for no larger inputs.
--@ end
function Predictor.new(@how@)
  local made = ffi.new("@name@_predictor*[1]")
  check(C.@name@_create(made, nil, @memory@, nil, 0))
--@ end
  return setmetatable({ handle = ffi.gc(made[0], C.@name@_destroy) }, Predictor)
end

local function elements(input, data, size)
  local what, array = ("input %s (%s)"):format(input.name, input.kind), input.type .. "[" .. size .. "]"
  if data == nil then error(what .. " is missing", 3) end
  if type(data) == "table" then
    if #data ~= size then error(("%s has %d elements; %d are needed"):format(what, #data, size), 3) end
    return ffi.new(array, data)
  end
  local fits = ffi.istype(array, data) or ffi.istype(input.type .. "[?]", data)
  if not fits or ffi.sizeof(data) ~= ffi.sizeof(array) then
    local given = type(data) == "cdata" and tostring(ffi.typeof(data)) or type(data)
    error(("%s is %s; a table or %s is needed"):format(what, given, array), 3)
  end
  return data
end
--@ if shapes

--- The number of the set of shapes that inputs and outputs have, at first 0.
function Predictor:shape() return C.@name@_shape(open(self)) end

--- Chooses a set of shapes for what comes next:
--
@shape_docs@
function Predictor:set_shape(number)
  local handle = open(self)
  if type(number) ~= "number" or number % 1 ~= 0 or number < 0 or number >= @shape_count@ then
    error(("set of shapes %s: there are @shape_count@, from 0 on"):format(tostring(number)), 2)
  end
  check(C.@name@_set_shape(handle, number))
end
--@ if open

--- Gives an input another shape, as in reshape("image", { 1, 3, 64, 64 }), and all else what goes with it.
function Predictor:reshape(name, extents)
  local handle = open(self)
  check(sized(name, extents, function(index, shape, rank)
    local status = C.@name@_reshape(handle, index, shape, rank)
    return status ~= 1 and status
  end))
end
--@ end

local function size(now, tensor) return tonumber(now.bytes) / ffi.sizeof(tensor.type) end
--@ end
--@ if threads

--- Computes on this many threads from now on, at most @threads@; at first on as many as there are processors.
function Predictor:set_threads(count)
  local handle = open(self)
  if type(count) ~= "number" or count % 1 ~= 0 or count < 1 or count > @threads@ then
    error(("%s threads: from 1 to @threads@ can be chosen"):format(tostring(count)), 2)
  end
  check(C.@name@_set_threads(handle, count))
end
--@ end

--- Computes all outputs: tables of numbers by name. An error for an input that is missing, unknown or ill-formed.
function Predictor:run(inputs)
  local handle, data, outputs = open(self), {}, {}
  for name in pairs(inputs) do
    if not KNOWN[name] then error("unknown input " .. tostring(name), 2) end
  end
  for i, input in ipairs(INPUTS) do data[i] = elements(input, inputs[input.name], @input_size@) end
  for i, x in ipairs(data) do check(C.@name@_set_input(handle, i - 1, x, ffi.sizeof(x))) end
  check(C.@name@_run(handle))
  for i, output in ipairs(OUTPUTS) do
    local array, values = ffi.new(output.type .. "[?]", @output_size@), {}
    check(C.@name@_get_output(handle, i - 1, array, ffi.sizeof(array)))
    for k = 0, @output_size@ - 1 do values[k + 1] = array[k] end
    outputs[output.name] = values
  end
  return outputs
end
--@ if lists

local function label(c) return c.label ~= nil and ffi.string(c.label) or tostring(c.index) end
--@ end
--@ if classes

local function top(handle, count)
  if type(count) ~= "number" or count < 1 then error("count is to be at least 1", 3) end
  count = math.min(math.floor(count), @class_count@)
  local found, classes = ffi.new("@name@_class[?]", count), {}
  check(C.@name@_top_k(handle, @scores@, count, found))
  for i = 0, count - 1 do
    local c = found[i]
    classes[i + 1] = { index = c.index, label = label(c), probability = c.probability }
  end
  return classes
end
--@ end
--@ if pictures

local function run_picture(handle, rgb, width, height)
  if type(rgb) ~= "string" then error("the picture is a " .. type(rgb) .. "; give its bytes in a string", 3) end
  if width < 1 or height < 1 or #rgb ~= 3 * width * height then
    error(("the picture has %d bytes; 3 x %d x %d are needed"):format(#rgb, width, height), 3)
  end
  check(C.@name@_preprocess_rgb(handle, ffi.cast("const uint8_t*", rgb), width, height, 3 * width))
  check(C.@name@_run(handle))
end
--@ if classes

--- The count likeliest classes (default 5) of a picture, the likeliest first: a string of height rows of width
-- pixels, the bytes R, G, B of each. Classes have index, label and probability.
function Predictor:classify(rgb, width, height, count)
  local handle = open(self)
  run_picture(handle, rgb, width, height)
  return top(handle, count or 5)
end
--@ end
--@ if boxes

--- What is in a picture, the surest first: a string of height rows of width pixels, the bytes R, G, B of each.
-- Detections have index, label, score (at least the threshold, by default @threshold@), and the upper left corner x, y,
-- width and height in pixels.
function Predictor:detect(rgb, width, height, threshold)
  local handle = open(self)
  run_picture(handle, rgb, width, height)
  local raw, count, found = ffi.new("@name@_detection[@most@]"), ffi.new("int32_t[1]"), {}
  check(C.@name@_detections(handle, width, height, threshold or @threshold@, @most@, raw, count))
  for i = 1, count[0] do
    local d = raw[i - 1]
    found[i] = {
      index = d.index, label = label(d), score = d.score, x = d.x, y = d.y, width = d.width, height = d.height,
    }
  end
  return found
end
--@ end
--@ end
--@ if numbers

--- The count likeliest classes (default 5) of the inputs that run takes, the likeliest first. Classes have index,
-- label and probability.
function Predictor:classify(inputs, count)
  self:run(inputs)
  return top(self.handle, count or 5)
end
--@ end
@text_functions@

--- Gives the memory back; closing twice is no error.
function Predictor:close()
  if self.handle then C.@name@_destroy(ffi.gc(self.handle, nil)) end
  self.handle = nil
end

return Predictor
