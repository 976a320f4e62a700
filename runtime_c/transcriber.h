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

//@ section timed_transcriber_declaration
/* Called with a segment of what is said, from `begin` to `end` in seconds from the first sample on,
   and its text, without a zero at the end; `user` is what transcribe_timed() was given. Not 0: that
   was the last one. */
typedef int32_t (*@name@_on_segment)(void* user, double begin, double end, const char* text,
                                     size_t bytes);

/* Writes what transcribe() does in segments with their times, which the model tells to
   @NAME@_TIME_STEP samples. A window begins where the last whole segment before it has ended, so no
   word is cut at its border. `text` is room for a segment's text; @NAME@_TOO_LONG: it has less than
   one needs. */
#define @NAME@_TIME_STEP @time_step@
@NAME@_API @name@_status @name@_transcribe_timed(@name@_predictor* predictor, const float* samples,
                                                 size_t count, int32_t rate, const char* language,
                                                 int32_t translate, @name@_sampler* sampler,
                                                 @name@_on_segment on_segment, void* user,
                                                 char* text, size_t capacity);

//@ section transcriber_method
@name@_status transcribe(const float* samples, size_t count, int32_t rate, const char* language,
                         int32_t translate, @name@_sampler* sampler, @name@_on_text on_text,
                         void* user, char* text, size_t capacity, size_t* written) {
  return @name@_transcribe(handle_, samples, count, rate, language, translate, sampler, on_text,
                           user, text, capacity, written);
}

//@ section timed_transcriber_method
@name@_status transcribe_timed(const float* samples, size_t count, int32_t rate,
                               const char* language, int32_t translate, @name@_sampler* sampler,
                               @name@_on_segment on_segment, void* user, char* text,
                               size_t capacity) {
  return @name@_transcribe_timed(handle_, samples, count, rate, language, translate, sampler,
                                 on_segment, user, text, capacity);
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
@name@_status begin_speech(@name@_predictor& p, int64_t& language, bool translate, bool timed) {
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
  if (kSpeechQuiet != kNoToken && !timed) prompt[count++] = kSpeechQuiet;
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

// Chooses the next token of a text; kNoToken: the text is at its end.
@name@_status next_spoken(@name@_predictor& p, @name@_sampler* sampler, int64_t* token) {
  const @name@_status status = @name@_sample(&p, sampler, token);
  if (status != @NAME@_OK) return status;
  if (ends_speech(*token)) *token = kNoToken;
  else p.waiting = *token;  // sample() has read the one before
  return @NAME@_OK;
}

// The scores of the next token, without tokens that are never written; null where there are none.
float* spoken_scores(@name@_predictor& p, bool first) {
  float* const scores = const_cast<float*>(@name@_scores(&p));
  if (scores == nullptr) return nullptr;
  suppress(scores, kSuppressed);
  if (first) suppress(scores, kSuppressedFirst);
  return scores;
}

bool is_speech(const @name@_predictor* p, const float* samples, size_t count, int32_t rate,
               const char* language, int32_t translate, const @name@_sampler* sampler,
               int64_t* spoken) {
  *spoken = language == nullptr ? kNoToken : token_of(language);
  return p != nullptr && is_sound(samples, count, rate) &&
      (sampler == nullptr || makes_sense(*sampler)) &&
      (translate == 0 || kSpeechTranslate != kNoToken) &&
      (language == nullptr || *spoken != kNoToken);
}

// Hears the window of the sound that begins at `at`, and reads the tokens before its text.
@name@_status begin_window(@name@_predictor& p, const float* samples, size_t count, size_t at,
                           int32_t rate, int64_t& spoken, bool translate, bool timed) {
  const size_t left = count - at;
  const size_t taken = left < @NAME@_SOUND_SAMPLES ? left : size_t{@NAME@_SOUND_SAMPLES};
  const @name@_status status = @name@_preprocess_sound(&p, samples + at, taken, rate);
  return status == @NAME@_OK ? begin_speech(p, spoken, translate, timed) : status;
}

// Writes what is said in a window; `last` becomes true where `on_text` ends the text.
@name@_status write_window(@name@_predictor& p, @name@_sampler* sampler, text_writer& w,
                           bool& last) {
  w.count = 0;
  for (bool first = true; @name@_length(&p) < @NAME@_CONTEXT; first = false) {
    if (spoken_scores(p, first) == nullptr) return @NAME@_BAD_ARGUMENT;
    int64_t token = 0;
    const @name@_status status = next_spoken(p, sampler, &token);
    if (status != @NAME@_OK) return status;
    if (token == kNoToken) break;
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
  int64_t spoken = 0;
  if (!impl::is_speech(p, samples, count, rate, language, translate, sampler, &spoken))
    return @NAME@_BAD_ARGUMENT;
  uint8_t* const memory = p->text + impl::kWriterOffset;
  int32_t* const ids = reinterpret_cast<int32_t*>(memory + impl::kMostWritten * sizeof(int64_t));
  char* const piece = reinterpret_cast<char*>(ids + impl::kMostWritten);
  impl::text_writer w = {p, ids, 0, piece, on_text, user, text, capacity, 0, @NAME@_OK};
  @name@_status status = @NAME@_OK;
  bool last = false;
  for (size_t at = 0; at < count && !last && status == @NAME@_OK; at += @NAME@_SOUND_SAMPLES) {
    status = impl::begin_window(*p, samples, count, at, rate, spoken, translate != 0, false);
    if (status == @NAME@_OK) status = impl::write_window(*p, sampler, w, last);
  }
  if (written != nullptr) *written = w.written;
  return status == @NAME@_OK && text != nullptr && w.written > capacity ? @NAME@_TOO_LONG : status;
}

//@ section timed_transcriber_definition
namespace impl { namespace {

bool is_time(int64_t token) { return token >= kFirstTime; }

// Makes the tokens from `from` up to `to` impossible.
void suppress_range(float* scores, int64_t from, int64_t to) {
  for (int64_t t = from; t < to; ++t) scores[t] = -__builtin_inff();
}

// Whether all times together are likelier than the likeliest other token.
bool times_are_likelier(const float* scores) {
  double text = -__builtin_inf(), sum = 0;
  for (int64_t t = 0; t < kFirstTime; ++t) text = scores[t] > text ? scores[t] : text;
  for (int64_t t = kFirstTime; t < @NAME@_VOCABULARY; ++t) {
    if (scores[t] > text) return true;
    const double power = scores[t] - text;
    sum += power > -700 ? exp_(power) : 0;
  }
  return sum > 1;
}

// Makes impossible what cannot follow the `count` tokens of a text: it begins with a time, times
// come in pairs between segments, and none is before the one before.
void keep_times(float* scores, const int32_t* ids, size_t count) {
  const bool last = count > 0 && is_time(ids[count - 1]);
  const bool before_last = count < 2 || is_time(ids[count - 2]);
  if (kSpeechQuiet != kNoToken) scores[kSpeechQuiet] = -__builtin_inff();
  if (last && before_last) suppress_range(scores, kFirstTime, @NAME@_VOCABULARY);
  if (last && !before_last) suppress_range(scores, 0, kSpeechEnds[0]);
  size_t k = count;
  while (k > 0 && !is_time(ids[k - 1])) --k;
  if (k > 0) suppress_range(scores, kFirstTime, ids[k - 1] + (last && !before_last ? 0 : 1));
  if (count == 0) {
    suppress_range(scores, 0, kFirstTime);
    if (kLatestFirst >= 0) suppress_range(scores, kFirstTime + kLatestFirst + 1, @NAME@_VOCABULARY);
  }
  if (times_are_likelier(scores)) suppress_range(scores, 0, kFirstTime);
}

// A window's tokens, and what is told of them.
struct timed_window {
  text_writer writer;
  const int32_t* ids;
  @name@_on_segment on_segment;
  void* user;
  size_t at;  // the sample where the window begins
  bool last;
};

// Tells of the segment of tokens from `from` up to `to`, unless it has no text.
@name@_status tell_segment(timed_window& w, size_t from, size_t to, int64_t begin, int64_t end) {
  w.writer.written = 0, w.writer.count = 0;
  for (size_t k = from; k < to; ++k) {
    if (is_time(w.ids[k])) continue;
    (void)write_token(&w.writer, w.ids[k]);
    if (w.writer.status != @NAME@_OK) return w.writer.status;
  }
  (void)write_id(w.writer, -1);
  if (w.writer.status != @NAME@_OK) return w.writer.status;
  if (w.writer.written > w.writer.capacity) return @NAME@_TOO_LONG;
  if (w.writer.written == 0 || w.on_segment == nullptr) return @NAME@_OK;
  const double first = static_cast<double>(w.at) / @NAME@_SOUND_RATE;
  const double step = static_cast<double>(kTimeStep) / @NAME@_SOUND_RATE;
  w.last =
      w.on_segment(w.user, first + step * static_cast<double>(begin),
                   first + step * static_cast<double>(end), w.writer.text, w.writer.written) != 0;
  return @NAME@_OK;
}

// Tells of a window's segments; `seen` becomes the samples until the next window. Where two times
// stand side by side, one segment ends and the next begins; what follows the last such pair is not
// whole, and is heard again, unless a single time ends it.
@name@_status tell_window(timed_window& w, size_t count, size_t heard, size_t* seen) {
  const int32_t* const ids = w.ids;
  const bool closed = count >= 2 && is_time(ids[count - 1]) && !is_time(ids[count - 2]);
  *seen = heard;
  size_t from = 0;
  for (size_t k = 1; k <= count && !w.last; ++k) {
    const bool pair = k < count && is_time(ids[k - 1]) && is_time(ids[k]);
    if (!pair && (k < count || !closed || from == 0)) continue;
    const int64_t end = ids[k - 1] - kFirstTime;
    const @name@_status status = tell_segment(w, from, k, ids[from] - kFirstTime, end);
    if (status != @NAME@_OK) return status;
    if (!closed && end > 0) *seen = static_cast<size_t>(end * kTimeStep);
    from = k;
  }
  if (from != 0) return @NAME@_OK;
  int64_t end = static_cast<int64_t>(heard) / kTimeStep;
  for (size_t k = count; k > 0; --k) {
    if (!is_time(ids[k - 1])) continue;
    if (ids[k - 1] > kFirstTime) end = ids[k - 1] - kFirstTime;
    break;
  }
  return tell_segment(w, 0, count, 0, end);
}

// Writes the tokens of a window with times, and their number.
@name@_status write_times(@name@_predictor& p, @name@_sampler* sampler, int32_t* ids,
                          size_t* count) {
  for (*count = 0; @name@_length(&p) < @NAME@_CONTEXT; ++*count) {
    float* const scores = spoken_scores(p, *count == 0);
    if (scores == nullptr) return @NAME@_BAD_ARGUMENT;
    keep_times(scores, ids, *count);
    int64_t token = 0;
    const @name@_status status = next_spoken(p, sampler, &token);
    if (status != @NAME@_OK || token == kNoToken) return status;
    ids[*count] = static_cast<int32_t>(token);
  }
  return @NAME@_OK;
}

}}  // namespace impl

@name@_status @name@_transcribe_timed(@name@_predictor* p, const float* samples, size_t count,
                                      int32_t rate, const char* language, int32_t translate,
                                      @name@_sampler* sampler, @name@_on_segment on_segment,
                                      void* user, char* text, size_t capacity) {
  int64_t spoken = 0;
  if (!impl::is_speech(p, samples, count, rate, language, translate, sampler, &spoken) ||
      text == nullptr)
    return @NAME@_BAD_ARGUMENT;
  int32_t* const ids = reinterpret_cast<int32_t*>(p->text + impl::kWriterOffset);
  int32_t* const words = ids + 2 * impl::kMostWritten;
  char* const piece = reinterpret_cast<char*>(words + impl::kMostWritten);
  const impl::text_writer writer = {p,       words, 0,        piece, nullptr,
                                    nullptr, text,  capacity, 0,     @NAME@_OK};
  impl::timed_window w = {writer, ids, on_segment, user, 0, false};
  while (w.at < count && !w.last) {
    const size_t left = count - w.at;
    const size_t heard = left < @NAME@_SOUND_SAMPLES ? left : size_t{@NAME@_SOUND_SAMPLES};
    size_t made = 0, seen = heard;
    @name@_status status =
        impl::begin_window(*p, samples, count, w.at, rate, spoken, translate != 0, true);
    if (status == @NAME@_OK) status = impl::write_times(*p, sampler, ids, &made);
    if (status == @NAME@_OK) status = impl::tell_window(w, made, heard, &seen);
    if (status != @NAME@_OK) return status;
    w.at += seen;
  }
  return @NAME@_OK;
}
