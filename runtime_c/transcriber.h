// Writing speech: a decoder with an encoder of sound, and a tokenizer. Sections as in vectors.h;
// amalgamate/transcriber.py puts the declaration into NAME.h and the definition into NAME.cc, behind
// those of sound.h and text_writer.h.

//@ section transcriber_declaration
/* Writes what is said in `count` samples of one channel in -1..1, @NAME@_SOUND_RATE per second: to
   `text` (or null), of which `written` (or null) becomes the size even if that is more than
   `capacity` (@NAME@_TOO_LONG), and calls `on_text` (or null) with each piece. Sound of any length is
   taken in windows of @NAME@_SOUND_SAMPLES; a text that reaches @NAME@_CONTEXT tokens ends its
   window. `language` is a code such as "en"; null: the model finds it out in the first window.
   `translate`: not 0 writes English. A sampler of null takes the likeliest tokens.
   @NAME@_BAD_ARGUMENT: samples as preprocess_sound() refuses them, a language or a translation that
   the model does not know. */
@NAME@_API @name@_status @name@_transcribe(@name@_predictor* predictor, const float* samples,
                                           size_t count, int32_t rate, const char* language,
                                           int32_t translate, @name@_sampler* sampler,
                                           @name@_on_text on_text, void* user, char* text,
                                           size_t capacity, size_t* written);

//@ section transcriber_method
@name@_status transcribe(const float* samples, size_t count, int32_t rate, const char* language,
                         int32_t translate, @name@_sampler* sampler, @name@_on_text on_text,
                         void* user, char* text, size_t capacity, size_t* written) {
  return @name@_transcribe(handle_, samples, count, rate, language, translate, sampler, on_text,
                           user, text, capacity, written);
}

//@ section transcriber_definition
namespace impl { namespace {

// The token of a language; -1 where the model does not know it. Models of one language have no tokens
// for languages.
int64_t token_of(const char* language) {
  for (int32_t k = 0; k < kLanguageCount; ++k) {
    const char* a = kLanguages[k].code;
    const char* b = language;
    while (*a != 0 && *a == *b) ++a, ++b;
    if (*a == *b) return kLanguages[k].token;
  }
  return kNoToken;
}

// The language that the scores after the first token say.
int64_t likeliest_language(const float* scores) {
  int64_t best = kLanguages[0].token;
  for (int32_t k = 1; k < kLanguageCount; ++k) {
    if (scores[kLanguages[k].token] > scores[best]) best = kLanguages[k].token;
  }
  return best;
}

// Reads the tokens before a text; `language` of kNoToken becomes what the model hears.
@name@_status begin_speech(@name@_predictor& p, int64_t& language, bool translate) {
  int64_t prompt[4] = {kSpeechStart};
  size_t count = 1;
  if (kLanguageCount > 0) {
    if (language == kNoToken) {
      const @name@_status status = @name@_append(&p, prompt, 1);
      if (status != @NAME@_OK) return status;
      language = likeliest_language(@name@_scores(&p)), count = 0;
    }
    prompt[count++] = language;
    prompt[count++] = translate ? kSpeechTranslate : kSpeechTranscribe;
  }
  if (kSpeechQuiet != kNoToken) prompt[count++] = kSpeechQuiet;
  return @name@_append(&p, prompt, count);
}

// Makes tokens impossible; the last of the list is kNoToken.
void suppress(float* scores, const int32_t* tokens) {
  for (; *tokens != kNoToken; ++tokens) scores[*tokens] = -__builtin_inff();
}

bool ends_speech(int64_t token) {
  const int32_t* end = kSpeechEnds;
  while (*end != kNoToken && *end != token) ++end;
  return *end != kNoToken;
}

// Writes what is said in a window; `last` becomes true where `on_text` ends the text.
@name@_status write_window(@name@_predictor& p, @name@_sampler* sampler, text_writer& w,
                           bool& last) {
  w.count = 0;
  for (bool first = true; @name@_length(&p) < @NAME@_CONTEXT; first = false) {
    const float* const scores = @name@_scores(&p);
    if (scores == nullptr) return @NAME@_BAD_ARGUMENT;
    suppress(const_cast<float*>(scores), kSuppressed);
    if (first) suppress(const_cast<float*>(scores), kSuppressedFirst);
    int64_t token = 0;
    const @name@_status status = @name@_sample(&p, sampler, &token);
    if (status != @NAME@_OK) return status;
    if (ends_speech(token)) break;
    p.waiting = token;  // sample() has read the one before
    last = write_token(&w, token) != 0;
    if (last) return w.status;
  }
  last = write_id(w, -1) != 0;
  return w.status;
}

}}  // namespace impl

@name@_status @name@_transcribe(@name@_predictor* p, const float* samples, size_t count,
                                int32_t rate, const char* language, int32_t translate,
                                @name@_sampler* sampler, @name@_on_text on_text, void* user,
                                char* text, size_t capacity, size_t* written) {
  if (written != nullptr) *written = 0;
  if (p == nullptr || !impl::is_sound(samples, count, rate) ||
      (sampler != nullptr && !impl::makes_sense(*sampler)) ||
      (translate != 0 && impl::kSpeechTranslate == impl::kNoToken))
    return @NAME@_BAD_ARGUMENT;
  int64_t spoken = impl::kNoToken;
  if (language != nullptr && (spoken = impl::token_of(language)) == impl::kNoToken)
    return @NAME@_BAD_ARGUMENT;
  uint8_t* const memory = p->text + impl::kWriterOffset;
  int32_t* const ids = reinterpret_cast<int32_t*>(memory + impl::kMostWritten * sizeof(int64_t));
  char* const piece = reinterpret_cast<char*>(ids + impl::kMostWritten);
  impl::text_writer w = {p, ids, 0, piece, on_text, user, text, capacity, 0, @NAME@_OK};
  @name@_status status = @NAME@_OK;
  bool last = false;
  for (size_t at = 0; at < count && !last && status == @NAME@_OK; at += @NAME@_SOUND_SAMPLES) {
    const size_t left = count - at;
    const size_t taken = left < @NAME@_SOUND_SAMPLES ? left : size_t{@NAME@_SOUND_SAMPLES};
    status = @name@_preprocess_sound(p, samples + at, taken, rate);
    if (status == @NAME@_OK) status = impl::begin_speech(*p, spoken, translate != 0);
    if (status == @NAME@_OK) status = impl::write_window(*p, sampler, w, last);
  }
  if (written != nullptr) *written = w.written;
  return status == @NAME@_OK && text != nullptr && w.written > capacity ? @NAME@_TOO_LONG : status;
}
