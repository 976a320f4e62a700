local Predictor = require("writer")

local prompt = arg[1]
local p = Predictor.new()

local function told(text)
  local sum = 0
  for i = 1, #text do sum = sum + text:byte(i) end
  return #text .. " " .. sum
end

local function drawn(most) return { max_tokens = most, temperature = 1.2, top_k = 50, top_p = 0.95, seed = 7 } end

local function refused(name, call)
  local fine, why = pcall(call)
  print(name .. ": " .. (fine and "no error" or tostring(why)))
  return why
end

local ids = p:tokenize(prompt)
print("ids " .. table.concat(ids, " "))
print("back " .. p:detokenize(ids))
print("plain " .. #p:tokenize(prompt, false))
print("tokens " .. table.concat(p:generate(ids, drawn(6)), " "))
local pieces, how = 0, drawn(20)
how.on_text = function() pieces = pieces + 1 end
print("text " .. told(p:write(prompt, how)) .. " " .. pieces)
how.on_text = function() return true end
print("first " .. told(p:write(prompt, how)))
p:write(prompt, drawn(5))
print("kept " .. told(p:write("and", { max_tokens = 4, keep = true })))
print("written " .. told(refused("full", function() p:write(prompt, { max_tokens = 99, stop = {} }) end).text))
print("made " .. #refused("full", function() p:generate(ids, { max_tokens = 99 }) end).tokens)
print("broken " .. tostring(table.concat(p:tokenize("a\255"), " ") == table.concat(p:tokenize("a\239\191\189"), " ")))
refused("long", function() p:tokenize(("a"):rep(40000)) end)
refused("empty", function() p:generate({}) end)
refused("token", function() p:generate({ 9999 }) end)
refused("sampler", function() p:write(prompt, { temperature = 1, top_p = 2 }) end)
refused("callback", function() p:write(prompt, { on_text = function() error("of its own") end }) end)
refused("type", function() p:tokenize(5) end)
refused("nested", function() p:write(prompt, { on_text = function() p:close() p:tokenize("a") end }) end)
p:close()
refused("closed", function() p:tokenize(prompt) end)
