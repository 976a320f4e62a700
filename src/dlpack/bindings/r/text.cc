
// Texts come as raw vectors of UTF-8, ids and tokens as doubles; a status that is an error comes back in place of what
// is asked for. Memory of R_alloc goes with the call.
SEXP failed(int32_t status) { return Rf_ScalarInteger(status); }
//@ if tokenizer

SEXP tokenize(SEXP box, SEXP text, SEXP special) {
  size_t count = static_cast<size_t>(XLENGTH(text)) + 16, capacity = 0;
  int32_t* ids = nullptr;
  int32_t status = @NAME@_TOO_LONG;
  while (status == @NAME@_TOO_LONG && count > capacity) {
    capacity = count;
    ids = reinterpret_cast<int32_t*>(R_alloc(capacity, sizeof(int32_t)));
    status = @name@_tokenize(open(box), reinterpret_cast<const char*>(RAW(text)), static_cast<size_t>(XLENGTH(text)),
                             Rf_asLogical(special), ids, capacity, &count);
  }
  if (status != 0) return failed(status);
  const SEXP found = PROTECT(Rf_allocVector(REALSXP, static_cast<R_xlen_t>(count)));
  for (size_t i = 0; i < count; ++i) REAL(found)[i] = ids[i];
  UNPROTECT(1);
  return found;
}

SEXP detokenize(SEXP box, SEXP ids, SEXP special) {
  const size_t count = static_cast<size_t>(XLENGTH(ids));
  size_t bytes = 16 * count + 1, capacity = 0;
  char* text = nullptr;
  int32_t status = @NAME@_TOO_LONG;
  while (status == @NAME@_TOO_LONG && bytes > capacity) {
    capacity = bytes;
    text = R_alloc(capacity, 1);
    status = @name@_detokenize(open(box), INTEGER(ids), count, Rf_asLogical(special), text, capacity, &bytes);
  }
  return status != 0 ? failed(status) : Rf_ScalarString(Rf_mkCharLenCE(text, static_cast<int>(bytes), CE_UTF8));
}
//@ end
//@ if embeds

SEXP embed(SEXP box, SEXP text, SEXP cut) {
  float embedding[@embedding@];
  const auto* const data = reinterpret_cast<const char*>(RAW(text));
  const int32_t status =
      @name@_embed(open(box), data, static_cast<size_t>(XLENGTH(text)), Rf_asLogical(cut), embedding);
  if (status != 0) return failed(status);
  const SEXP found = PROTECT(Rf_allocVector(REALSXP, @embedding@));
  for (int32_t i = 0; i < @embedding@; ++i) REAL(found)[i] = static_cast<double>(embedding[i]);
  UNPROTECT(1);
  return found;
}
//@ end
//@ if decodes

// What C calls: a function of R. An error there ends the text; R raises it again when C has returned, which a long jump
// would not let it.
struct Taker {
  SEXP function, environment;
  int32_t take(SEXP value) const {
    int thrown = 0;
    const SEXP call = PROTECT(Rf_lang2(function, PROTECT(value)));
    const SEXP last = R_tryEvalSilent(call, environment, &thrown);
    UNPROTECT(2);
    return thrown != 0 || Rf_asLogical(last) == 1 ? 1 : 0;
  }
};

int32_t on_token(void* user, int64_t token) {
  return static_cast<const Taker*>(user)->take(Rf_ScalarReal(static_cast<double>(token)));
}
//@ if writes

int32_t on_text(void* user, const char* text, size_t bytes) {
  const SEXP piece = PROTECT(Rf_mkCharLenCE(text, static_cast<int>(bytes), CE_UTF8));
  const int32_t last = static_cast<const Taker*>(user)->take(Rf_ScalarString(piece));
  UNPROTECT(1);
  return last;
}
//@ end

struct Tokens {
  int64_t* data = nullptr;
  size_t count = 0;
  explicit Tokens(SEXP from) {
    if (from == R_NilValue) return;
    count = static_cast<size_t>(XLENGTH(from));
    data = reinterpret_cast<int64_t*>(R_alloc(count + 1, sizeof(int64_t)));
    for (size_t i = 0; i < count; ++i) data[i] = static_cast<int64_t>(REAL(from)[i]);
  }
};

// Writes behind a text or tokens; `how` has the most tokens, temperature, top_k, top_p and seed. Meanwhile the predictor
// is as if closed, so that nothing that is called can free it.
SEXP generate(SEXP box, SEXP prompt, SEXP how, SEXP stop, SEXP keep, SEXP take, SEXP environment) {
  @name@_predictor* const p = open(box);
  const double* const numbers = REAL(how);
  const auto most = static_cast<size_t>(numbers[0]);
  @name@_sampler sampler = {static_cast<float>(numbers[1]), static_cast<int32_t>(numbers[2]),
                            static_cast<float>(numbers[3]), static_cast<uint64_t>(static_cast<int64_t>(numbers[4]))};
  Taker taker = {take, environment};
  const Tokens ends(stop);
  if (Rf_asLogical(keep) == 0) check(@name@_rewind(p, 0));
  R_ClearExternalPtr(box);
  int32_t status = 0;
//@ if writes
  if (TYPEOF(prompt) == RAWSXP) {
    const auto* const text = reinterpret_cast<const char*>(RAW(prompt));
    status = @name@_write(p, text, static_cast<size_t>(XLENGTH(prompt)), most, &sampler, ends.data, ends.count, on_text,
                          &taker, nullptr, 0, nullptr);
  } else {
//@ else
  {
//@ end
    const Tokens given(prompt);
    status = @name@_generate(p, given.data, given.count, most, &sampler, ends.data, ends.count, on_token, &taker, nullptr,
                             nullptr);
  }
  R_SetExternalPtrAddr(box, p);
  return failed(status);
}
//@ end
