//@ if tokenizer
METHOD(int32_t, toIds)(Environment e, Object, int64_t handle, Object text, uint8_t special, Object ids, Object count) {
  const Array<char> given(e, text, kBytes, false);
  const Array<int32_t> made(e, ids, kInts, true);
  size_t found = 0;
  const int32_t status =
      @name@_tokenize(predictor(handle), given.data, given.count, special, made.data, made.count, &found);
  set_count(e, count, found);
  return status;
}

METHOD(int32_t, toText)(Environment e, Object, int64_t handle, Object ids, uint8_t special, Object text, Object bytes) {
  const Array<int32_t> given(e, ids, kInts, false);
  const Array<char> made(e, text, kBytes, true);
  size_t found = 0;
  const int32_t status =
      @name@_detokenize(predictor(handle), given.data, given.count, special, made.data, made.count, &found);
  set_count(e, bytes, found);
  return status;
}
//@ end
//@ if embeds

METHOD(int32_t, toEmbedding)(Environment e, Object, int64_t handle, Object text, uint8_t cut, Object embedding) {
  const Array<char> given(e, text, kBytes, false);
  const Array<float> made(e, embedding, kFloats, true);
  return @name@_embed(predictor(handle), given.data, given.count, cut, made.data);
}
//@ end
//@ if decodes

METHOD(int32_t, newText)(Environment, Object, int64_t handle) { return @name@_rewind(predictor(handle), 0); }

METHOD(int32_t, write)(Environment e, Object, int64_t handle, Object tokens, Object text, int32_t most,
                       float temperature, int32_t top_k, float top_p, int64_t seed, Object stop, Object taken) {
  const auto limit = static_cast<size_t>(most);
  const Array<int64_t> ends(e, stop, kLongs, false), prompt(e, tokens, kLongs, false);
  @name@_sampler sampler = {temperature, top_k, top_p, static_cast<uint64_t>(seed)};
//@ if writes
  const Array<char> words(e, text, kBytes, false);
  if (text != nullptr) {
    Taker taker(e, taken, "([B)Z");
    return @name@_write(predictor(handle), words.data, words.count, limit, &sampler, ends.data, ends.count, on_text,
                        &taker, nullptr, 0, nullptr);
  }
//@ else
  (void)text;
//@ end
  Taker taker(e, taken, "(J)Z");
  return @name@_generate(predictor(handle), prompt.data, prompt.count, limit, &sampler, ends.data, ends.count, on_token,
                         &taker, nullptr, nullptr);
}
//@ end
