//@ if tokenizer

/** The ids of a text; `special`: with the tokens around it. */
tokenize(text, { special = true } = {}) {
  return checked(addon.tokenize(this.#open(), utf8(text), special ? 1 : 0));
}

/** The text of ids; `special`: with special tokens. Ids without a token are left out. */
detokenize(ids, { special = false } = {}) {
  return checked(addon.detokenize(this.#open(), Int32Array.from(ids), special ? 1 : 0));
}
//@ end
//@ if embeds

/** The embedding of a text, @embedding@ numbers; `cut`: of the beginning of a text that is too long. */
embed(text, { cut = false } = {}) {
  const embedding = new Float32Array(@embedding@);
  const data = utf8(text);
  const status = addon.embed(this.#open(), data, cut ? 1 : 0, embedding);
  if (status === TOO_LONG && data.length <= @text_bytes@) throw new RangeError('@too_many_tokens@');
  checked(status);
  return embedding;
}
//@ end
//@ if decodes

/** The tokens that the model writes after a prompt. */
generate(prompt, { onToken, ...options } = {}) {
  const tokens = [];
  const given = [integers(prompt), ...chosen({ stop: [], ...options })];
  const take = (token) => tokens.push(token) && onToken?.(token) === true;
  checked(this.#lend(options, (handle) => addon.generate(handle, ...given, take)), { tokens });
  return tokens;
}
//@ end
//@ if writes

/** What the model writes after a prompt. */
write(prompt, { onText, ...options } = {}) {
  let text = '';
  const given = [utf8(prompt), ...chosen(options)];
  const take = (piece) => ((text += piece), onText?.(piece) === true);
  const status = this.#lend(options, (handle) => addon.write(handle, ...given, take));
  checked(status, { text });
  return text;
}
//@ end
//@ if decodes

/** Calls with the handle, which the predictor is without meanwhile, so that nothing that is called can free it. */
#lend({ keep = false }, call) {
  const handle = this.#open();
  if (!keep) checked(addon.rewind(handle));
  this.#handle = undefined;
  try {
    return call(handle);
  } finally {
    this.#handle = handle;
  }
}
//@ end
