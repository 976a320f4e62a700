// Tokenizer: the functions of the API. Sections as in vectors.h; amalgamate/tokenizer.py puts the
// declarations into NAME.h and the definitions into NAME.cc, behind the sections of tokenizer.h.

//@ section text_declaration
#define @NAME@_TEXT_BYTES @most_bytes@ /* the longest text, in bytes (dlpack build --text-bytes) */
#define @NAME@_TOKENS @tokens@ /* ids are below this */

/* Converts a text in UTF-8 to the model's ids, as the model's tokenizer.json says, which also cuts or pads them if
   it says so. Broken UTF-8 counts as U+FFFD. `special`: whether the tokens around a text, such as [CLS], are added.
   `count` becomes the number of ids. @NAME@_TOO_LONG: if `count` is 0 the text is too long, else there are more ids
   than `capacity`. */
@NAME@_API @name@_status @name@_tokenize(@name@_predictor* predictor, const char* text,
                                         size_t bytes, int32_t special, int32_t* ids,
                                         size_t capacity, size_t* count);

/* Converts ids to a text in UTF-8 without a zero at its end; `bytes` becomes its size, even if that is more than
   `capacity` (@NAME@_TOO_LONG). `special`: whether special tokens are written, too. Ids without a token are left
   out, and bytes that are no UTF-8 become U+FFFD. */
@NAME@_API @name@_status @name@_detokenize(const @name@_predictor* predictor, const int32_t* ids,
                                           size_t count, int32_t special, char* text,
                                           size_t capacity, size_t* bytes);

/* What one more id adds to the text of `count` ids, for writing a text as it comes: whole characters only, so that
   a token which ends within a character adds it when its last byte has come. The id -1 ends the text: it adds
   U+FFFD where a character is not complete. Special tokens add nothing. */
@NAME@_API @name@_status @name@_detokenize_next(const @name@_predictor* predictor,
                                                const int32_t* ids, size_t count, int32_t id,
                                                char* text, size_t capacity, size_t* bytes);

//@ section text_method
@name@_status tokenize(const char* text, size_t bytes, bool special, int32_t* ids, size_t capacity,
                       size_t* count) {
  return @name@_tokenize(handle_, text, bytes, special ? 1 : 0, ids, capacity, count);
}
@name@_status detokenize(const int32_t* ids, size_t count, bool special, char* text,
                         size_t capacity, size_t* bytes) const {
  return @name@_detokenize(handle_, ids, count, special ? 1 : 0, text, capacity, bytes);
}
@name@_status detokenize_next(const int32_t* ids, size_t count, int32_t id, char* text,
                              size_t capacity, size_t* bytes) const {
  return @name@_detokenize_next(handle_, ids, count, id, text, capacity, bytes);
}

//@ section text_definition
namespace impl { namespace {

text_work work_of(const @name@_predictor& p) {
  text_work w = {};
  w.tables = p.weights + kTextOffset;
  w.raw = reinterpret_cast<uint32_t*>(p.text);
  w.text = w.raw + kTextBytes;
  w.spare = w.text + kTextRoom;
  w.model = p.text + round_up((kTextBytes + 2 * size_t{kTextRoom}) * sizeof(uint32_t));
  return w;
}

// A part of the text between added tokens: normalised, searched for those that are in normalised
// text, cut and given to the model.
bool text_part(text_work& w, const text_piece& p) {
  if (p.count > kTextRoom) return false;
  for (int32_t k = 0; k < p.count; ++k) w.text[k] = p.at[k];
  w.count = p.count;
  w.start = p.start;
  if (!normalized(w)) return false;
  w.used = 0;
  const auto cut = [&w](const text_piece& q) { return next_level(w, 0, q); };
  return find_added(w, kTextNormalized, {w.text, w.count, w.start}, cut);
}

// Finds the ids of the text in w.raw.
bool text_ids(text_work& w, int32_t count) {
  w.made = 0;
  return find_added(w, kTextPlain, {w.raw, count, true},
                    [&w](const text_piece& p) { return text_part(w, p); });
}

// The ids of a text with those around it, at most `most` of them (0: all), not padded.
@name@_status ids_of(const @name@_predictor& p, const char* text, size_t bytes, bool special,
                     size_t most, int32_t* ids, size_t capacity, size_t* count) {
  const size_t before = special ? kTextBefore : 0, around = before + (special ? kTextBehind : 0);
  text_work w = work_of(p);
  if (bytes > kTextBytes) return @NAME@_TOO_LONG;
  int32_t codes = 0;
  for (size_t at = 0; at < bytes; ++codes)
    w.raw[codes] = next_code(reinterpret_cast<const uint8_t*>(text), bytes, at);
  w.ids = ids + (capacity > around ? before : 0);
  w.capacity = capacity > around ? capacity - around : 0;
  if (!text_ids(w, codes)) return @NAME@_TOO_LONG;
  size_t kept = w.made;
  if (most != 0 && kept + around > most) {
    const size_t wanted = most > around ? most - around : 0;
    if (kTextCutLeft) {
      w.skipped = kept - wanted;
      (void)text_ids(w, codes);
    }
    kept = wanted;
  }
  *count = kept + around;
  if (*count > capacity) return @NAME@_TOO_LONG;
  for (size_t k = 0; k < before; ++k) ids[k] = kTextAround[k].id;
  for (size_t k = before; k < around; ++k) ids[kept + k] = kTextAround[k].id;
  return @NAME@_OK;
}

// Pads ids to a count, which they fit.
void pad_ids(int32_t* ids, size_t count, size_t padded) {
  const size_t more = padded - count;
  for (size_t k = count; kTextPadLeft && more != 0 && k-- > 0;) ids[k + more] = ids[k];
  for (size_t k = 0; k < more; ++k) ids[kTextPadLeft ? k : count + k] = kTextPadId;
}

// Where a text is written to, piece by piece. Bytes are held back until they are a character.
struct text_out {
  char* text;
  size_t capacity, made;
  bool writes;  // otherwise nothing counts
  int32_t to_strip;  // of the character kTextStripped at the beginning
  uint8_t held[4];
  int32_t held_count;
  bool broken;  // something was no UTF-8
};

INLINE void write_byte(text_out& o, uint8_t byte) {
  if (o.to_strip > 0) {
    --o.to_strip;
    if (byte == kTextStripped) return;
    o.to_strip = 0;
  }
  if (!o.writes) return;
  if (o.made < o.capacity) o.text[o.made] = static_cast<char>(byte);
  ++o.made;
}

INLINE void write_replacement(text_out& o) {
  o.broken = true;
  write_byte(o, 0xEF), write_byte(o, 0xBF), write_byte(o, 0xBD);
}

// Writes what is held: a character, or U+FFFD.
void release(text_out& o) {
  if (o.held_count != 0) write_replacement(o);
  o.held_count = 0;
}

// Takes a byte of a character.
void take_byte(text_out& o, uint8_t byte) {
  for (;;) {
    const uint8_t a = o.held_count == 0 ? byte : o.held[0];
    const int32_t size = a < 0x80 ? 1
        : a >= 0xC2 && a < 0xE0   ? 2
        : (a & 0xF0) == 0xE0      ? 3
        : a >= 0xF0 && a < 0xF5   ? 4
                                  : 0;
    const uint8_t low = o.held_count != 1 ? 0x80 : a == 0xE0 ? 0xA0 : a == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = o.held_count != 1 ? 0xBF : a == 0xED ? 0x9F : a == 0xF4 ? 0x8F : 0xBF;
    if (o.held_count == 0 ? size == 0 : byte < low || byte > high) {
      write_replacement(o);
      if (o.held_count == 0) return;
      o.held_count = 0;
      continue;  // the byte may begin the next one
    }
    o.held[o.held_count++] = byte;
    if (o.held_count < size) return;
    for (int32_t k = 0; k < size; ++k) write_byte(o, o.held[k]);
    o.held_count = 0;
    return;
  }
}

// A token that is not as the general rule has it: see dlpack.tokenizer.tables.
struct odd_token { uint32_t id, flags, first, first_bytes, later, later_bytes; };
enum odd_flag { kOddSpecial = 1, kOddByte = 2, kOddOwn = 4, kOddMissing = 8 };

const odd_token* odd_of(const text_work& w, int32_t id) {
  const odd_token* const odd = text_table<odd_token>(w, kTextOdd);
  int32_t low = 0, high = kTextOddCount;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (odd[middle].id < static_cast<uint32_t>(id)) low = middle + 1;
    else high = middle;
  }
  return low < kTextOddCount && odd[low].id == static_cast<uint32_t>(id) ? odd + low : nullptr;
}

INLINE bool is_marked(const uint8_t* at, int32_t bytes) {
  bool same = bytes >= kTextMarkBytes && kTextMarkBytes > 0;
  for (int32_t k = 0; same && k < kTextMarkBytes; ++k) same = at[k] == kTextMark[k];
  return same;
}

// Whether an id has a token that is to be written.
INLINE bool is_written(const odd_token* odd, int32_t id, bool special) {
  if (id < 0 || id >= kTextTokens) return false;
  return odd == nullptr || !(odd->flags & (kOddMissing | (special ? 0 : kOddSpecial)));
}

// Writes a token; `first`: it is the first of its text.
void write_token(text_out& o, const text_work& w, const odd_token* odd, int32_t id, bool first) {
  int32_t bytes = 0;
  const uint8_t* string = text_string(w, id, bytes);
  const bool own = odd != nullptr && (odd->flags & kOddOwn);
  if (own) {
    string = text_table<uint8_t>(w, kTextOddBytes) + (first ? odd->first : odd->later);
    bytes = static_cast<int32_t>(first ? odd->first_bytes : odd->later_bytes);
  }
  if (kTextSink != kTextLossy) release(o);
  const auto write = [&o](uint8_t byte) {
    if (kTextSink == kTextLossy) take_byte(o, byte);
    else write_byte(o, byte);
  };
  int32_t at = 0;
  if (!own && kTextDecoder == kTextSpaced && !first) {
    if (is_marked(string, bytes)) at = kTextMarkBytes;
    else write(' ');
  }
  while (at < bytes) {
    if (!own && kTextDecoder == kTextMarked && is_marked(string + at, bytes - at)) {
      if (!first || !kTextFirstUnmarked) write(' ');
      at += kTextMarkBytes;
    } else {
      write(string[at++]);
    }
  }
}

// Whether the byte tokens from `at` on are UTF-8 together; their end to `end`.
bool bytes_are_text(const text_work& w, const int32_t* ids, size_t count, bool special, size_t at,
                    size_t& end) {
  text_out check = {nullptr, 0, 0, false, 0, {}, 0, false};
  for (end = at; end < count; ++end) {
    const odd_token* const odd = odd_of(w, ids[end]);
    if (!is_written(odd, ids[end], special)) continue;
    if (odd == nullptr || !(odd->flags & kOddByte)) break;
    take_byte(check, static_cast<uint8_t>(odd->first));
  }
  return !check.broken && check.held_count == 0;
}

// Writes the text of ids. `whole`: they are the whole text, in which byte tokens that are no UTF-8
// become U+FFFD one by one.
void write_ids(text_out& o, const text_work& w, const int32_t* ids, size_t count, bool special,
               bool whole, bool& first) {
  size_t checked = 0;  // byte tokens before it are known to be UTF-8, or not
  bool good = true;
  for (size_t k = 0; k < count; ++k) {
    const odd_token* const odd = odd_of(w, ids[k]);
    if (!is_written(odd, ids[k], special)) continue;
    if (odd != nullptr && (odd->flags & kOddByte)) {
      if (whole && k >= checked) good = bytes_are_text(w, ids, count, special, k, checked);
      if (good) take_byte(o, static_cast<uint8_t>(odd->first));
      else write_replacement(o);
    } else {
      write_token(o, w, odd, ids[k], first);
    }
    first = false;
  }
}
}}  // namespace impl

@name@_status @name@_tokenize(@name@_predictor* p, const char* text, size_t bytes, int32_t special,
                              int32_t* ids, size_t capacity, size_t* count) {
  if (count != nullptr) *count = 0;
  if (p == nullptr || count == nullptr || (text == nullptr && bytes != 0) ||
      (ids == nullptr && capacity != 0))
    return @NAME@_BAD_ARGUMENT;
  if (p->arrived != impl::kWeightsBytes) return @NAME@_NO_WEIGHTS;
  const @name@_status status =
      impl::ids_of(*p, text, bytes, special != 0, impl::kTextMost, ids, capacity, count);
  size_t padded = *count;
  if (padded == 0 && status != @NAME@_OK) return status;
  if (padded < impl::kTextPadTo) padded = impl::kTextPadTo;
  padded = (padded + impl::kTextPadMultiple - 1) / impl::kTextPadMultiple * impl::kTextPadMultiple;
  const bool fits = status == @NAME@_OK && padded <= capacity;
  if (fits) impl::pad_ids(ids, *count, padded);
  *count = padded;
  return fits ? @NAME@_OK : @NAME@_TOO_LONG;
}

@name@_status @name@_detokenize(const @name@_predictor* p, const int32_t* ids, size_t count,
                                int32_t special, char* text, size_t capacity, size_t* bytes) {
  if (bytes != nullptr) *bytes = 0;
  if (p == nullptr || bytes == nullptr || (ids == nullptr && count != 0) ||
      (text == nullptr && capacity != 0))
    return @NAME@_BAD_ARGUMENT;
  if (p->arrived != impl::kWeightsBytes) return @NAME@_NO_WEIGHTS;
  impl::text_out o = {text, capacity, 0, true, impl::kTextStrips, {}, 0, false};
  bool first = true;
  impl::write_ids(o, impl::work_of(*p), ids, count, special != 0, true, first);
  impl::release(o);
  *bytes = o.made;
  return o.made <= capacity ? @NAME@_OK : @NAME@_TOO_LONG;
}

@name@_status @name@_detokenize_next(const @name@_predictor* p, const int32_t* ids, size_t count,
                                     int32_t id, char* text, size_t capacity, size_t* bytes) {
  if (bytes != nullptr) *bytes = 0;
  if (p == nullptr || bytes == nullptr || (ids == nullptr && count != 0) ||
      (text == nullptr && capacity != 0))
    return @NAME@_BAD_ARGUMENT;
  if (p->arrived != impl::kWeightsBytes) return @NAME@_NO_WEIGHTS;
  impl::text_out o = {text, capacity, 0, false, impl::kTextStrips, {}, 0, false};
  const impl::text_work w = impl::work_of(*p);
  bool first = true;
  impl::write_ids(o, w, ids, count, false, false, first);
  o.writes = true;
  if (id < 0) impl::release(o);
  else impl::write_ids(o, w, &id, 1, false, false, first);
  *bytes = o.made;
  return o.made <= capacity ? @NAME@_OK : @NAME@_TOO_LONG;
}

//@ section embed_declaration
#define @NAME@_EMBEDDING @size@ /* numbers of an embedding */
#define @NAME@_EMBEDDED_TOKENS @longest@ /* the most tokens of a text, those around it included */

/* Computes the embedding of a text: its tokens go into the inputs, padded to their length, and the output is
   @pooled@. A text that is too long is cut if `cut` is not 0,
   and @NAME@_TOO_LONG otherwise. Writes @NAME@_EMBEDDING numbers. */
@NAME@_API @name@_status @name@_embed(@name@_predictor* predictor, const char* text, size_t bytes,
                                      int32_t cut, float* embedding);

//@ section embed_method
@name@_status embed(const char* text, size_t bytes, bool cut, float* embedding) {
  return @name@_embed(handle_, text, bytes, cut ? 1 : 0, embedding);
}

//@ section embed_definition
namespace impl { namespace {
template <class T>
void fill_input(@name@_predictor& p, int32_t index, const int32_t* values, int32_t count) {
  T* const to = reinterpret_cast<T*>(own_input(p, index));
  for (int32_t k = 0; k < count; ++k) to[k] = static_cast<T>(values[k]);
  p.inputs[index] = to;
}

// The mean, the largest, or one of the rows from `begin` to `end`, each of kEmbedSize numbers.
void pool_rows(const float* rows, int32_t begin, int32_t end, float* to) {
  for (int32_t d = 0; d < kEmbedSize; ++d) {
    double sum = rows[begin * kEmbedSize + d];
    if (kEmbedPooling == kPoolLast) sum = rows[(end - 1) * kEmbedSize + d];
    for (int32_t k = begin + 1; k < end; ++k) {
      const double x = rows[k * kEmbedSize + d];
      if (kEmbedPooling == kPoolMean) sum += x;
      else if (kEmbedPooling == kPoolMax && x > sum) sum = x;
    }
    to[d] = static_cast<float>(kEmbedPooling == kPoolMean ? sum / (end - begin) : sum);
  }
}
}}  // namespace impl

@name@_status @name@_embed(@name@_predictor* p, const char* text, size_t bytes, int32_t cut,
                           float* embedding) {
  if (p == nullptr || (text == nullptr && bytes != 0) || embedding == nullptr || !impl::kOwnTensors)
    return @NAME@_BAD_ARGUMENT;
  if (p->arrived != impl::kWeightsBytes) return @NAME@_NO_WEIGHTS;
  int32_t* const ids =
      reinterpret_cast<int32_t*>(p->text + impl::kTextWork) - 2 * impl::kEmbedLongest;
  int32_t* const others = ids + impl::kEmbedLongest;
  if (cut != 0 && bytes > impl::kTextBytes) {
    bytes = impl::kTextBytes;
    while (bytes > 0 && (static_cast<uint8_t>(text[bytes]) & 0xC0) == 0x80) --bytes;
  }
  constexpr size_t longest = impl::kEmbedLongest;
  const size_t most =
      cut != 0 && (impl::kTextMost == 0 || impl::kTextMost > longest) ? longest : impl::kTextMost;
  size_t made = 0;
  @name@_status status = impl::ids_of(*p, text, bytes, true, most, ids, longest, &made);
  if (status != @NAME@_OK) return status;
  const int32_t count = static_cast<int32_t>(made);
  if (count == 0) {  // an empty text without tokens around it
    for (int32_t d = 0; d < impl::kEmbedSize; ++d) embedding[d] = 0;
    return @NAME@_OK;
  }
  int32_t set = -1;
  for (int32_t k = 0; k < impl::kEmbedSets; ++k) {
    if (impl::embed_length(k) >= count &&
        (set < 0 || impl::embed_length(k) < impl::embed_length(set)))
      set = k;
  }
  const int32_t length = impl::embed_length(set);
  const int32_t begin = impl::kTextPadLeft ? length - count : 0, end = begin + count;
//@ shapes
  status = @name@_set_shape(p, set * impl::kEmbedApart);
  if (status != @NAME@_OK) return status;
//@ end
  impl::pad_ids(ids, made, static_cast<size_t>(length));
@fill@
  status = @name@_run(p);
  if (status != @NAME@_OK) return status;
//@ cuda
  if (impl::device::bound(*p, impl::kInputCount + impl::kEmbedOutput)) return @NAME@_BAD_ARGUMENT;
//@ end
  const float* const rows = static_cast<const float*>(p->outputs[impl::kEmbedOutput]);
  if (rows == nullptr) return @NAME@_BAD_ARGUMENT;
  impl::pool_rows(rows, impl::kEmbedPooled ? 0 : begin, impl::kEmbedPooled ? 1 : end, embedding);
//@ unit_embedding
  double sum = 0;
  for (int32_t d = 0; d < impl::kEmbedSize; ++d)
    sum += static_cast<double>(embedding[d]) * embedding[d];
  const double norm = impl::sqrt_(sum), divisor = norm > 1e-12 ? norm : 1e-12;
  for (int32_t d = 0; d < impl::kEmbedSize; ++d)
    embedding[d] = static_cast<float>(embedding[d] / divisor);
//@ end
  return @NAME@_OK;
}
