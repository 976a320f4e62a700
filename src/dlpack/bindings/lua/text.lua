
local TOO_LONG = 9
--@ if decodes
local REFUSED, FULL = 1, 10
--@ end

local function check_text(status)
  if status == TOO_LONG then error("@too_long@", 3) end
--@ if decodes
  if status == REFUSED then error("@refused@", 3) end
--@ end
  check(status)
end

local function text_of(text)
  if type(text) ~= "string" then error("a text is a string, not a " .. type(text), 3) end
  return text
end
--@ if tokenizer

--- The ids of a text; special (by default true): with the tokens around it. Broken UTF-8 counts as U+FFFD.
function Predictor:tokenize(text, special)
  local handle, count, found = open(self), ffi.new("size_t[1]", #text_of(text) + 16), {}
  local ids, status
  repeat
    local capacity = count[0]
    ids = ffi.new("int32_t[?]", capacity)
    status = C.@name@_tokenize(handle, text, #text, special ~= false, ids, capacity, count)
  until status ~= TOO_LONG or count[0] == 0
  check_text(status)
  for i = 1, tonumber(count[0]) do found[i] = ids[i - 1] end
  return found
end

--- The text of ids; special (by default false): with special tokens. Ids without a token are left out.
function Predictor:detokenize(ids, special)
  local handle, bytes, given = open(self), ffi.new("size_t[1]", 16 * #ids), ffi.new("int32_t[?]", #ids, ids)
  local text, status
  repeat
    local capacity = bytes[0]
    text = ffi.new("char[?]", capacity)
    status = C.@name@_detokenize(handle, given, #ids, special == true, text, capacity, bytes)
  until status ~= TOO_LONG
  check_text(status)
  return ffi.string(text, bytes[0])
end
--@ end
--@ if embeds

--- The embedding of a text, a table of @embedding@ numbers; cut: of the beginning of a text that is too long.
function Predictor:embed(text, cut)
  local handle, numbers, embedding = open(self), ffi.new("float[@embedding@]"), {}
  local status = C.@name@_embed(handle, text_of(text), #text, cut == true, numbers)
  if status == TOO_LONG and #text <= @text_bytes@ then error("@too_many_tokens@", 2) end
  check_text(status)
  for i = 1, @embedding@ do embedding[i] = numbers[i - 1] end
  return embedding
end
--@ end
--@ if decodes

--- What is thrown where the text would get longer than a predictor keeps: it has the tokens or the text so far.
local Full = { __tostring = function() return "@full@" end }

-- Calls what writes a text, with what C calls for each piece. The predictor is as if closed meanwhile, so that nothing
-- that is called can free it; an error there ends the text, and is thrown when C has returned.
local function written(self, how, kind, take, call)
  local handle, most, thrown = open(self), how.max_tokens or 128, nil
  if most < 0 then error(most .. " is no number of tokens", 3) end
  local sampler = ffi.new("@name@_sampler", how.temperature or 0, how.top_k or 0, how.top_p or 1, how.seed or 0)
  local stop = how.stop and ffi.new("int64_t[?]", #how.stop + 1, how.stop)
  local callback = ffi.cast(kind, function(_, ...)
    local fine, last = pcall(take, ...)
    if not fine then thrown = { last } end
    return (not fine or last == true) and 1 or 0
  end)
  if not how.keep then check(C.@name@_rewind(handle, 0)) end
  self.handle = nil
  local fine, status = pcall(call, handle, most, sampler, stop, how.stop and #how.stop or 0, callback)
  self.handle = handle
  callback:free()
  if thrown then error(thrown[1], 0) end
  return fine and status or error(status, 3)
end
jit.off(written, true) -- compiled code must not be called back

--- The tokens that the model writes after a prompt, a table of tokens. how: max_tokens (128), temperature (0: the
-- likeliest token each time, else its chance is softmax(scores / temperature)), top_k (only the so many likeliest; 0:
-- all), top_p (of those the likeliest that together have this share; 1), seed, stop (tokens that end the text), keep
-- (the prompt goes on from the text so far), on_token (is called with each token; true ends the text).
function Predictor:generate(prompt, how)
  how = how or {}
  local tokens = {}
  local given = ffi.new("int64_t[?]", #prompt + 1, prompt)
  local status = written(self, how, "@name@_on_token", function(token)
    tokens[#tokens + 1] = tonumber(token)
    return how.on_token and how.on_token(tonumber(token))
  end, function(handle, most, sampler, stop, stops, take)
    return C.@name@_generate(handle, given, #prompt, most, sampler, stop, stops, take, nil, nil, nil)
  end)
  if status == FULL then error(setmetatable({ tokens = tokens }, Full), 2) end
  check_text(status)
  return tokens
end
jit.off(Predictor.generate, true)
--@ end
--@ if writes

--- What the model writes after a prompt. how: as of generate, with on_text (is called with each piece) in place of
-- on_token; without stop the text ends at the tokens that the model names.
function Predictor:write(prompt, how)
  how = how or {}
  local pieces = {}
  text_of(prompt)
  local status = written(self, how, "@name@_on_text", function(text, bytes)
    pieces[#pieces + 1] = ffi.string(text, bytes)
    return how.on_text and how.on_text(pieces[#pieces])
  end, function(handle, most, sampler, stop, stops, take)
    return C.@name@_write(handle, prompt, #prompt, most, sampler, stop, stops, take, nil, nil, 0, nil)
  end)
  local text = table.concat(pieces)
  if status == FULL then error(setmetatable({ text = text }, Full), 2) end
  check_text(status)
  return text
end
jit.off(Predictor.write, true)
--@ end
