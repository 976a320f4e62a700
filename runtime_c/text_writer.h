// Writing text: a decoder and a tokenizer together. Sections as in vectors.h; amalgamate/text_writer.py
// puts the declaration into NAME.h and the definition into NAME.cc, behind those of the two.

//@ section writer_declaration
/* Called with what has been added to the text: whole characters in UTF-8, without a zero at the end;
   `user` is what write() was given. Not 0: the text ends there. */
typedef int32_t (*@name@_on_text)(void* user, const char* text, size_t bytes);

//@ answers
/* Reads a prompt in UTF-8 as read() does, unless it is empty and there is an answer, which goes on
   then; and writes up to `most` tokens of the answer: to `text` (or null),
//@ end
//@ no_answers
/* Reads a prompt in UTF-8 behind the text so far, then writes up to `most` tokens: to `text` (or
   null),
//@ end
   of which `written` (or null) becomes the size even if that is more than `capacity`
   (@NAME@_TOO_LONG), and calls `on_text` (or null) with each piece. `stop` are the tokens that end
   the text and are not given; null: the model's own, @stops@. reset() begins a new text, and the
   first prompt of a text gets the tokens around it that the tokenizer has, such as <s>.
   @NAME@_FULL as of generate(). */
@NAME@_API @name@_status @name@_write(@name@_predictor* predictor, const char* prompt,
                                      size_t prompt_bytes, size_t most, @name@_sampler* sampler,
                                      const int64_t* stop, size_t stop_count,
                                      @name@_on_text on_text, void* user, char* text,
                                      size_t capacity, size_t* written);

//@ section writer_method
@name@_status write(const char* prompt, size_t prompt_bytes, size_t most, @name@_sampler* sampler,
                    const int64_t* stop, size_t stop_count, @name@_on_text on_text, void* user,
                    char* text, size_t capacity, size_t* written) {
  return @name@_write(handle_, prompt, prompt_bytes, most, sampler, stop, stop_count, on_text, user,
                      text, capacity, written);
}

//@ section writer_definition
namespace impl { namespace {

constexpr int64_t kTextStops[] = {@stop_list@};
constexpr size_t kTextStopCount = @stop_count@;
constexpr size_t kPieceBytes = @piece_bytes@;  // more than a token adds to a text
constexpr size_t kMostWritten = @most_tokens@ + 1;  // the last one is not read

// A text while it is written.
struct text_writer {
  const @name@_predictor* predictor;
  int32_t* ids;  // of the prompt and of what has been written behind it
  size_t count;
  char* piece;
  @name@_on_text on_text;
  void* user;
  char* text;
  size_t capacity, written;
  @name@_status status;
};

// Adds what one more id adds to the text; -1 ends it. Returns what `on_text` does.
int32_t write_id(text_writer& w, int32_t id) {
  size_t bytes = 0;
  w.status = @name@_detokenize_next(w.predictor, w.ids, w.count, id, w.piece, kPieceBytes, &bytes);
  if (w.status != @NAME@_OK) return 1;
  for (size_t k = 0; k < bytes; ++k, ++w.written)
    if (w.text != nullptr && w.written < w.capacity) w.text[w.written] = w.piece[k];
  return bytes != 0 && w.on_text != nullptr ? w.on_text(w.user, w.piece, bytes) : 0;
}

int32_t write_token(void* user, int64_t token) {
  text_writer& w = *static_cast<text_writer*>(user);
  const int32_t last = write_id(w, static_cast<int32_t>(token));
  w.ids[w.count++] = static_cast<int32_t>(token);
  return last;
}

}}  // namespace impl

@name@_status @name@_write(@name@_predictor* p, const char* prompt, size_t prompt_bytes,
                           size_t most, @name@_sampler* sampler, const int64_t* stop,
                           size_t stop_count, @name@_on_text on_text, void* user, char* text,
                           size_t capacity, size_t* written) {
  if (written != nullptr) *written = 0;
  if (p == nullptr || (prompt == nullptr && prompt_bytes != 0)) return @NAME@_BAD_ARGUMENT;
  uint8_t* const memory = p->text + impl::kWriterOffset;
  int64_t* const tokens = reinterpret_cast<int64_t*>(memory);
  int32_t* const ids = reinterpret_cast<int32_t*>(tokens + impl::kMostWritten);
  size_t count = 0;
//@ answers
  const int32_t special = @name@_length(p) == 0 || prompt_bytes != 0 ? 1 : 0;
//@ end
//@ no_answers
  const int32_t special = @name@_length(p) == 0 ? 1 : 0;
//@ end
  @name@_status status =
      @name@_tokenize(p, prompt, prompt_bytes, special, ids, impl::kMostWritten - 1, &count);
  if (status == @NAME@_TOO_LONG && count != 0) return @NAME@_FULL;
  if (status != @NAME@_OK) return status;
  for (size_t k = 0; k < count; ++k) tokens[k] = ids[k];
  char* const piece = reinterpret_cast<char*>(ids + impl::kMostWritten);
//@ answers
  impl::text_writer w = {p, ids, 0, piece, on_text, user, text, capacity, 0, @NAME@_OK};
//@ end
//@ no_answers
  impl::text_writer w = {p, ids, count, piece, on_text, user, text, capacity, 0, @NAME@_OK};
//@ end
  if (stop == nullptr) stop = impl::kTextStops, stop_count = impl::kTextStopCount;
  status = @name@_generate(p, tokens, count, most, sampler, stop, stop_count, impl::write_token, &w,
                           nullptr, nullptr);
  if (w.status == @NAME@_OK) (void)impl::write_id(w, -1);
  if (written != nullptr) *written = w.written;
  if (status == @NAME@_OK) status = w.status;
  return status == @NAME@_OK && text != nullptr && w.written > capacity ? @NAME@_TOO_LONG : status;
}
