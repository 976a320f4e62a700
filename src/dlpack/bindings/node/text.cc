//@ if tokenizer
napi_value tokenize(const Call& call) {
  const Array text = call.array(1);
  size_t count = text.size + 16;
  int32_t status = @NAME@_TOO_LONG;
  int32_t* ids = nullptr;
  for (int32_t attempt = 0; attempt < 2 && status == @NAME@_TOO_LONG && count != 0; ++attempt) {
    free(ids);  // the first time it is null; the second time `count` is what is needed
    const size_t capacity = count;
    ids = static_cast<int32_t*>(malloc(capacity * sizeof(int32_t)));
    if (ids == nullptr) return call.integer(@NAME@_NO_MEMORY);
    status = @name@_tokenize(predictor(call), text.as<const char>(), text.size, call.number(2), ids, capacity, &count);
  }
  napi_value list = call.integer(status);
  if (status == 0) napi_create_array(call.env, &list);
  for (size_t i = 0; status == 0 && i < count; ++i) {
    napi_set_element(call.env, list, static_cast<uint32_t>(i), call.integer(ids[i]));
  }
  free(ids);
  return list;
}

napi_value detokenize(const Call& call) {
  const Array ids = call.array(1);
  const int32_t special = call.number(2);
  size_t bytes = 0;
  int32_t status =
      @name@_detokenize(predictor(call), ids.as<const int32_t>(), ids.size, special, nullptr, 0, &bytes);
  auto* const text = static_cast<char*>(malloc(bytes + 1));
  if (text == nullptr) return call.integer(@NAME@_NO_MEMORY);
  if (status == @NAME@_TOO_LONG)
    status = @name@_detokenize(predictor(call), ids.as<const int32_t>(), ids.size, special, text, bytes, &bytes);
  napi_value value = call.integer(status);
  if (status == 0) napi_create_string_utf8(call.env, text, bytes, &value);
  free(text);
  return value;
}
//@ end
//@ if embeds

napi_value embed(const Call& call) {
  const Array text = call.array(1), embedding = call.array(3);
  return call.integer(
      @name@_embed(predictor(call), text.as<const char>(), text.size, call.number(2), embedding.as<float>()));
}
//@ end
//@ if decodes

napi_value rewind(const Call& call) { return call.integer(@name@_rewind(predictor(call), 0)); }

// A function of JavaScript that is called with each token or piece of a text; it ends the text by true, or by throwing.
struct Taker {
  napi_env env;
  napi_value function;
  int32_t take(napi_value value) const {
    napi_value receiver = nullptr, result = nullptr;
    bool last = false;
    napi_get_undefined(env, &receiver);
    if (napi_call_function(env, receiver, function, 1, &value, &result) != 0) return 1;
    return napi_get_value_bool(env, result, &last) == 0 && last ? 1 : 0;
  }
};

int32_t on_token(void* user, int64_t token) {
  const Taker& taker = *static_cast<const Taker*>(user);
  napi_value value = nullptr;
  napi_create_double(taker.env, static_cast<double>(token), &value);
  return taker.take(value);
}

napi_value generate(const Call& call) {
  const Array prompt = call.array(1), stop = call.array(4);
  Taker taker = {call.env, call.arguments[5]};
  return call.integer(@name@_generate(
      predictor(call), prompt.as<const int64_t>(), prompt.size, static_cast<size_t>(call.number(2)),
      call.array(3).as<@name@_sampler>(), stop.as<const int64_t>(), stop.size, on_token, &taker, nullptr, nullptr));
}
//@ end
//@ if writes

int32_t on_text(void* user, const char* text, size_t bytes) {
  const Taker& taker = *static_cast<const Taker*>(user);
  napi_value value = nullptr;
  napi_create_string_utf8(taker.env, text, bytes, &value);
  return taker.take(value);
}

napi_value write(const Call& call) {
  const Array prompt = call.array(1), stop = call.array(4);
  Taker taker = {call.env, call.arguments[5]};
  return call.integer(@name@_write(
      predictor(call), prompt.as<const char>(), prompt.size, static_cast<size_t>(call.number(2)),
      call.array(3).as<@name@_sampler>(), stop.as<const int64_t>(), stop.size, on_text, &taker, nullptr, 0, nullptr));
}
//@ end

napi_value error_text(const Call& call) {
  napi_value value = nullptr;
  napi_create_string_utf8(call.env, @name@_error_text(call.number(0)), SIZE_MAX, &value);
  return value;
}
