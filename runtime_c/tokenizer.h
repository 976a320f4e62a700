// Tokenizer: from text to the model's ids and back, as Hugging Face's tokenizers does it. Sections
// as in vectors.h; amalgamate/tokenizer.py writes the constants (kText...) and the lists of steps
// in front of them, from the tables that dlpack.tokenizer makes. The tables lie behind the weights.
//
// A text is an array of code points. Broken UTF-8 counts as U+FFFD, once for each run of bytes that
// could have begun a character (as in Python, browsers and Rust).

//@ section text_types
// A sorted list of ids: where it is, and where the strings begin that have each first byte.
struct text_order {
  size_t ids;
  int32_t count;
  size_t firsts;
};

// Added tokens: their strings, and the flags and ids of these.
struct added_list {
  text_order order;
  size_t flags, ids;
};

// What characters become: their codes, sorted; where each result begins, and its end; the results.
struct text_map {
  size_t keys;
  int32_t count;
  size_t begins, codes;
};

// The tokens of single characters: those of codes below 512, then codes, sorted, and their ids.
struct bpe_initial {
  size_t low, codes, ids;
  int32_t count;
};

struct around_token { int32_t id, type; };

// The steps of the pre-tokenizer, each on the pieces of the one before; the last one's go to the
// model. `program`: of a pattern, or a character; `first`, `second`: behaviour and whether the
// matches are what lies between, or where a character is put in front.
enum text_step { kStepSplit, kStepMetaspace, kStepSpace, kStepBytes };
enum text_behaviour { kRemoved, kIsolated, kWithPrevious, kWithNext, kContiguous };
enum text_prepending { kNever, kFirst, kAlways };
struct text_level {
  int32_t kind;
  uint32_t program;
  int32_t first, second;
};

// How tokens become text, see dlpack.tokenizer.spec.Decoder; how outputs are pooled.
enum text_decoder { kTextRaw, kTextMarked, kTextSpaced };
enum text_sink { kTextPlainSink, kTextLossy, kTextRuns };
enum text_pooling { kPoolCls, kPoolMean, kPoolMax, kPoolLast };

//@ section text_work
// What a call works in. It lies in the predictor's memory; nothing is allocated.
struct text_work {
  const uint8_t* tables;
  uint32_t* raw;  // the text as it came, kTextBytes
  uint32_t* text;  // a part of it, normalised, kTextRoom
  uint32_t* spare;  // the next step's result; then words with something added
  int32_t count;  // of `text`
  int32_t used;  // of `spare`, by words
  uint8_t* model;  // the model's own
  bool start;  // `text` begins where the text as it came does
  int32_t* ids;
  size_t capacity;  // of `ids`
  size_t skipped;  // tokens to leave out first
  size_t made;  // tokens found so far
};

template <class T> const T* text_table(const text_work& w, size_t offset) {
  return reinterpret_cast<const T*>(w.tables + offset);
}

// A step that leaves characters out: one, after so many that remain.
INLINE void left_out(text_work& w, int32_t made) {
  if (made == 0) w.start = false;
}

INLINE void add_id(text_work& w, int32_t id) {
  const size_t at = w.made - w.skipped;  // wraps where it is left out
  if (w.made >= w.skipped && at < w.capacity) w.ids[at] = id;
  ++w.made;
}

// Reads a code point; broken bytes are U+FFFD.
uint32_t next_code(const uint8_t* text, size_t bytes, size_t& at) {
  const uint32_t a = text[at++];
  if (a < 0x80) return a;
  const int more = a >= 0xC2 && a < 0xE0 ? 1
      : (a & 0xF0) == 0xE0               ? 2
      : a >= 0xF0 && a < 0xF5            ? 3
                                         : 0;
  uint32_t low = a == 0xE0 ? 0xA0 : a == 0xF0 ? 0x90 : 0x80;
  uint32_t high = a == 0xED ? 0x9F : a == 0xF4 ? 0x8F : 0xBF;
  uint32_t code = more == 1 ? a & 0x1F : more == 2 ? a & 0x0F : a & 7;
  if (more == 0) return 0xFFFD;
  for (int k = 0; k < more; ++k, low = 0x80, high = 0xBF) {
    if (at >= bytes || text[at] < low || text[at] > high) return 0xFFFD;
    code = code << 6 | (text[at++] & 0x3Fu);
  }
  return code;
}

// Writes a code point as UTF-8; returns the number of bytes.
INLINE int32_t put_code(uint32_t c, uint8_t* to) {
  if (c < 0x80) {
    to[0] = static_cast<uint8_t>(c);
    return 1;
  }
  const int32_t more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  to[0] = static_cast<uint8_t>((more == 1 ? 0xC0 : more == 2 ? 0xE0 : 0xF0) | c >> 6 * more);
  for (int32_t k = 1; k <= more; ++k)
    to[k] = static_cast<uint8_t>(0x80 | (c >> 6 * (more - k) & 0x3F));
  return more + 1;
}

// A piece of the text, as the steps hand it on; `start`: at the text's beginning.
struct text_piece {
  const uint32_t* at;
  int32_t count;
  bool start;
};

// The last of the sorted runs, "where it begins << 8 | value", that begins at or before a code.
INLINE uint32_t run_of(const uint32_t* runs, int32_t count, uint32_t code) {
  int32_t low = 0, high = count;
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    if (runs[middle] >> 8 <= code) low = middle;
    else high = middle;
  }
  return runs[low] & 0xFF;
}

//@ section text_categories
//@ needs text_work
// Unicode's general categories, in the order of dlpack.tokenizer.characters.
enum text_category {
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCs,
  kCo,
  kCn
};

INLINE uint32_t category_run(const text_work& w, uint32_t code) {
  return run_of(text_table<uint32_t>(w, kTextCategories), kTextCategoryRuns, code);
}
INLINE int category_of(const text_work& w, uint32_t code) {
  return static_cast<int>(category_run(w, code) & 31);
}
INLINE bool is_space(const text_work& w, uint32_t code) {
  if (code < 0x80) return code == ' ' || (code >= 9 && code <= 13);
  const int kind = category_of(w, code);
  return code == 0x85 || kind == kZs || kind == kZl || kind == kZp;
}

//@ section text_pattern
//@ needs text_categories
// Regular expressions, compiled by dlpack.tokenizer.regex, which lists the instructions.
enum text_instruction { kMatch, kSet, kPossessive, kSplit, kJump, kAhead, kBegin, kEnd };

bool in_set(const text_work& w, uint32_t number, uint32_t code) {
  const uint32_t* const sets = text_table<uint32_t>(w, kTextSets);
  const uint32_t* const set = sets + 7 * number;
  if (code < 128) return set[code >> 5] >> (code & 31) & 1;
  if (set[4] != 0 && (set[4] >> category_of(w, code) & 1)) return true;
  const uint32_t* const ranges = sets + 7 * kTextSetCount + 2 * static_cast<size_t>(set[5]);
  int32_t low = 0, high = static_cast<int32_t>(set[6]);
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (ranges[2 * middle + 1] < code) low = middle + 1;
    else high = middle;
  }
  return low < static_cast<int32_t>(set[6]) && ranges[2 * low] <= code;
}

// The end of the match of the instructions from `pc` on at `at`, or -1.
int32_t matched(const text_work& w, const text_piece& p, int32_t at, uint32_t pc) {
  struct retry {
    uint32_t pc;
    int32_t at, low;  // go on there, then one before it, down to `low`
  } retries[kTextRetries];
  int32_t depth = 0;
  const uint32_t* const code = text_table<uint32_t>(w, kTextProgram);
  for (;;) {
    bool fails = false;
    switch (code[pc]) {
      case kMatch: return at;
      case kSet:
      case kPossessive: {
        const int32_t least = static_cast<int32_t>(code[pc + 2]);
        const int32_t most = static_cast<int32_t>(code[pc + 3]);
        const int32_t from = at;
        while (at - from < most && at < p.count && in_set(w, code[pc + 1], p.at[at])) ++at;
        fails = at - from < least;
        if (code[pc] == kSet && at - from > least)
          retries[depth++] = {pc + 4, at - 1, from + least};
        pc += 4;
        break;
      }
      case kSplit:
        retries[depth++] = {code[pc + 1], at, at};
        pc += 2;
        break;
      case kJump: pc = code[pc + 1]; break;
      case kAhead:
        fails = (matched(w, p, at, pc + 3) < 0) != (code[pc + 1] != 0);
        pc = code[pc + 2];
        break;
      case kBegin: fails = at != 0, ++pc; break;
      default: fails = at != p.count, ++pc; break;
    }
    if (!fails) continue;
    if (depth == 0) return -1;
    retry& last = retries[depth - 1];
    pc = last.pc, at = last.at;
    if (last.at > last.low) --last.at;
    else --depth;
  }
}

// The next match from `from` on: where it begins (the piece's end: none); its end to `end`.
int32_t next_match(const text_work& w, const text_piece& p, int32_t from, uint32_t program,
                   int32_t& end) {
  for (; from < p.count; ++from) {
    end = matched(w, p, from, program);
    if (end > from) return from;
  }
  return end = p.count;
}

//@ section text_turn
//@ needs text_work
// The end of a step over all characters: its result becomes the text.
INLINE bool turned(text_work& w, int32_t count) {
  uint32_t* const made = w.spare;
  w.spare = w.text, w.text = made, w.count = count;
  return true;
}

// Puts a code point into the step's result; false where there is no more room.
INLINE bool put(text_work& w, int32_t& made, uint32_t code) {
  if (made >= kTextRoom) return false;
  w.spare[made++] = code;
  return true;
}
INLINE bool put_all(text_work& w, int32_t& made, const uint32_t* codes, size_t count) {
  for (size_t k = 0; k < count; ++k)
    if (!put(w, made, codes[k])) return false;
  return true;
}

//@ section text_mapped
//@ needs text_turn
// The number of a code in a map, or -1.
INLINE int32_t in_map(const text_work& w, const text_map& map, uint32_t code) {
  const uint32_t* const keys = text_table<uint32_t>(w, map.keys);
  int32_t low = 0, high = map.count;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (keys[middle] < code) low = middle + 1;
    else high = middle;
  }
  return low < map.count && keys[low] == code ? low : -1;
}

bool put_mapped(text_work& w, int32_t& made, const text_map& map, uint32_t code) {
  const int32_t found = in_map(w, map, code);
  if (found < 0) return put(w, made, code);
  const uint32_t* const begins = text_table<uint32_t>(w, map.begins) + found;
  const uint32_t* const codes = text_table<uint32_t>(w, map.codes);
  return put_all(w, made, codes + begins[0], begins[1] - begins[0]);
}

//@ section text_lowercase
//@ needs text_mapped
bool lowercase(text_work& w, const text_map& map) {
  int32_t made = 0;
  for (int32_t k = 0; k < w.count; ++k) {
    const uint32_t c = w.text[k];
    if (c < 128 ? !put(w, made, c >= 'A' && c <= 'Z' ? c + 32 : c) : !put_mapped(w, made, map, c))
      return false;
  }
  return turned(w, made);
}

//@ section text_decompose
//@ needs text_mapped
INLINE uint32_t combining(const text_work& w, uint32_t code) {
  if (code < 0x300) return 0;
  return run_of(text_table<uint32_t>(w, kTextCombining), kTextCombiningRuns, code);
}

// NFD or NFKD: characters in parts, and marks in their order.
bool decompose(text_work& w, const text_map& map) {
  int32_t made = 0;
  for (int32_t k = 0; k < w.count; ++k) {
    const uint32_t c = w.text[k], hangul = c - 0xAC00;
    if (hangul < 11172) {
      const uint32_t parts[] = {0x1100 + hangul / 588, 0x1161 + hangul % 588 / 28,
                                0x11A7 + hangul % 28};
      if (!put_all(w, made, parts, hangul % 28 == 0 ? 2 : 3)) return false;
    } else if (c < 0xA0 ? !put(w, made, c) : !put_mapped(w, made, map, c)) {
      return false;
    }
  }
  for (int32_t k = 1; k < made; ++k) {
    const uint32_t c = w.spare[k], rank = combining(w, c);
    int32_t at = k;
    for (; rank != 0 && at > 0 && combining(w, w.spare[at - 1]) > rank; --at)
      w.spare[at] = w.spare[at - 1];
    w.spare[at] = c;
  }
  return turned(w, made);
}

//@ section text_compose
//@ needs text_decompose
// What two characters make, or 0.
uint32_t composed(const text_work& w, uint32_t a, uint32_t b) {
  const uint32_t lead = a - 0x1100, vowel = b - 0x1161, syllable = a - 0xAC00, tail = b - 0x11A7;
  if (lead < 19 && vowel < 21) return 0xAC00 + (lead * 21 + vowel) * 28;
  if (syllable < 11172 && syllable % 28 == 0 && tail > 0 && tail < 28) return a + tail;
  const uint32_t* const rows = text_table<uint32_t>(w, kTextCompositions);
  int32_t low = 0, high = kTextCompositionCount;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    const uint32_t* const row = rows + 3 * middle;
    if (row[0] < a || (row[0] == a && row[1] < b)) low = middle + 1;
    else high = middle;
  }
  const uint32_t* const row = rows + 3 * low;
  return low < kTextCompositionCount && row[0] == a && row[1] == b ? row[2] : 0;
}

// NFC or NFKC of a text in parts.
bool compose(text_work& w) {
  int32_t made = 0, starter = -1;
  uint32_t last = 0;  // the rank of the last mark since the starter
  for (int32_t k = 0; k < w.count; ++k) {
    const uint32_t c = w.text[k], rank = combining(w, c);
    const bool next = starter >= 0 && (made == starter + 1 || last < rank);
    const uint32_t both = next ? composed(w, w.text[starter], c) : 0;
    if (both != 0) {
      w.text[starter] = both;
      continue;
    }
    if (rank == 0) starter = made;
    last = rank;
    w.text[made++] = c;
  }
  w.count = made;
  return true;
}

//@ section text_without_marks
//@ needs text_categories
bool without_marks(text_work& w, bool every) {
  int32_t made = 0;
  for (int32_t k = 0; k < w.count; ++k) {
    const int kind = w.text[k] < 0x300 ? kCn : category_of(w, w.text[k]);
    if (kind == kMn || (every && (kind == kMc || kind == kMe))) left_out(w, made);
    else w.text[made++] = w.text[k];
  }
  w.count = made;
  return true;
}

//@ section text_bert_clean
//@ needs text_categories
// Without control characters; every space is the same.
bool bert_clean(text_work& w) {
  int32_t made = 0;
  for (int32_t k = 0; k < w.count; ++k) {
    const uint32_t c = w.text[k];
    const bool space = is_space(w, c) && c != 11 && c != 12 && c != 0x85;
    const int kind = space ? kZs : category_of(w, c);
    if (c == 0xFFFD || kind == kCc || kind == kCf || kind == kCo) left_out(w, made);
    else w.text[made++] = space ? ' ' : c;
  }
  w.count = made;
  return true;
}

//@ section text_bert_chinese
//@ needs text_turn
// Spaces around Chinese characters.
bool bert_chinese(text_work& w) {
  int32_t made = 0;
  for (int32_t k = 0; k < w.count; ++k) {
    const uint32_t c = w.text[k];
    const bool chinese = (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
        (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
        (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
        (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
    if (chinese && !put(w, made, ' ')) return false;
    if (!put(w, made, c)) return false;
    if (chinese && !put(w, made, ' ')) return false;
  }
  return turned(w, made);
}

//@ section text_nmt
//@ needs text_work
bool nmt(text_work& w) {
  int32_t made = 0;
  for (int32_t k = 0; k < w.count; ++k) {
    const uint32_t c = w.text[k];
    if ((c >= 1 && c <= 8) || c == 11 || (c >= 14 && c <= 31) || c == 0x7F || c == 0x8F ||
        c == 0x9F) {
      left_out(w, made);
      continue;
    }
    const bool space = c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 ||
        (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF ||
        c == 0xFFFD;
    w.text[made++] = space ? ' ' : c;
  }
  w.count = made;
  return true;
}

//@ section text_strip
//@ needs text_categories
bool strip(text_work& w, bool left, bool right) {
  int32_t begin = 0, end = w.count;
  while (left && begin < end && is_space(w, w.text[begin])) ++begin;
  while (right && end > begin && is_space(w, w.text[end - 1])) --end;
  if (begin > 0) left_out(w, 0);
  for (int32_t k = begin; k < end; ++k) w.text[k - begin] = w.text[k];
  w.count = end - begin;
  return true;
}

//@ section text_replace
//@ needs text_pattern text_turn
bool replace(text_work& w, uint32_t program, size_t with, size_t count) {
  const text_piece p = {w.text, w.count, true};
  int32_t made = 0, end = 0;
  for (int32_t at = 0; at < w.count; at = end) {
    const int32_t begin = next_match(w, p, at, program, end);
    if (!put_all(w, made, w.text + at, static_cast<size_t>(begin - at))) return false;
    if (begin == 0 && (end > 1 || count == 0)) left_out(w, made);
    if (begin < end && !put_all(w, made, text_table<uint32_t>(w, with), count)) return false;
  }
  return turned(w, made);
}

//@ section text_prepend
//@ needs text_turn
bool prepend(text_work& w, size_t what, size_t count) {
  int32_t made = 0;
  if (w.count == 0) return true;
  if (!put_all(w, made, text_table<uint32_t>(w, what), count)) return false;
  return put_all(w, made, w.text, static_cast<size_t>(w.count)) && turned(w, made);
}

//@ section text_bytes
//@ needs text_turn
// The character that stands for a byte in byte-level tokenizers.
INLINE uint32_t byte_character(uint32_t b) {
  if (b < 33) return 0x100 + b;
  if (b < 127) return b;
  if (b < 0xA1) return 0x100 + b - 127 + 33;
  return b == 0xAD ? 0x143 : b;
}

// The byte that a character stands for.
INLINE uint32_t character_byte(uint32_t c) {
  if (c < 0x100) return c;
  return c < 0x121 ? c - 0x100 : c < 0x143 ? c - 0x121 + 127 : 0xAD;
}

//@ section text_bytes_to_characters
//@ needs text_bytes
bool bytes_to_characters(text_work& w) {
  int32_t made = 0;
  for (int32_t k = 0; k < w.count; ++k) {
    uint8_t utf8[4];
    const int32_t bytes = put_code(w.text[k], utf8);
    for (int32_t b = 0; b < bytes; ++b)
      if (!put(w, made, byte_character(utf8[b]))) return false;
  }
  return turned(w, made);
}

//@ section text_precompiled
//@ needs text_categories text_turn
// The map of a SentencePiece model: a trie of units (darts-clone), which leads to texts. What the
// shortest prefix of `key` leads to is put instead of all of it; false in `found` where there is
// none.
bool put_charsmap(text_work& w, int32_t& made, const uint8_t* key, int32_t bytes, bool& found) {
  const uint32_t* const units = text_table<uint32_t>(w, kTextUnits);
  const uint8_t* const texts = text_table<uint8_t>(w, kTextTexts);
  const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); };
  uint32_t at = offset(units[0]);
  found = false;
  for (int32_t k = 0; k < bytes && key[k] != 0; ++k) {
    at ^= key[k];
    if (at >= kTextUnitCount || (units[at] & 0x800000FF) != key[k]) return true;
    const uint32_t unit = units[at];
    at ^= offset(unit);
    if (!(unit >> 8 & 1) || at >= kTextUnitCount) continue;
    found = true;
    size_t from = units[at] & 0x7FFFFFFF;
    while (from < kTextTextBytes && texts[from] != 0)
      if (!put(w, made, next_code(texts, kTextTextBytes, from))) return false;
    return true;
  }
  return true;
}

bool precompiled(text_work& w) {
  int32_t made = 0;
  for (int32_t begin = 0; begin < w.count;) {
    // A character with what joins it is looked up as a whole where that is less than six bytes.
    int32_t end = begin;
    uint32_t before = 0;
    do {
      const uint32_t kind = category_run(w, w.text[end]) >> 5;
      const bool joins = (kind == 1 && before != 2) || (before == 3 && kind != 2) ||
          (end > begin && w.text[end] == '\n' && w.text[end - 1] == '\r');
      if (end > begin && !joins) break;
      before = kind;
      ++end;
    } while (end < w.count);
    uint8_t key[8];
    int32_t bytes = 0;
    for (int32_t k = begin; k < end && bytes < 6; ++k)
      bytes += bytes < 5 ? put_code(w.text[k], key + bytes) : 6;
    bool found = false;
    if (bytes < 6 && !put_charsmap(w, made, key, bytes, found)) return false;
    for (int32_t k = begin; k < end && !found; ++k) {
      bool alone = false;
      bytes = put_code(w.text[k], key);
      if (!put_charsmap(w, made, key, bytes, alone)) return false;
      if (!alone && !put(w, made, w.text[k])) return false;
    }
    begin = end;
  }
  return turned(w, made);
}

//@ section text_vocabulary
//@ needs text_work
// Tokens as strings of bytes by id, and ids in the order of their strings. A search narrows the
// range of ids whose strings begin with the bytes read so far.
struct text_range { int32_t low, high, depth; };

INLINE const uint8_t* text_string(const text_work& w, int32_t id, int32_t& bytes) {
  const uint32_t* const begins = text_table<uint32_t>(w, kTextStrings) + id;
  bytes = static_cast<int32_t>(begins[1] - begins[0]);
  return text_table<uint8_t>(w, kTextStringBytes) + begins[0];
}

//@ section text_search
//@ needs text_vocabulary
INLINE text_range everything(const text_order& order) { return {0, order.count, 0}; }

// Narrows the range to the strings that have this byte next; false where there is none.
bool narrowed(const text_work& w, const text_order& order, text_range& range, uint32_t byte) {
  const int32_t* const ids = text_table<int32_t>(w, order.ids);
  const auto first_from = [&](int32_t low, uint32_t wanted) {
    int32_t high = range.high;
    while (low < high) {
      const int32_t middle = (low + high) / 2;
      int32_t bytes = 0;
      const uint8_t* const string = text_string(w, ids[middle], bytes);
      if (bytes <= range.depth || string[range.depth] < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  if (range.depth == 0) {
    const int32_t* const firsts = text_table<int32_t>(w, order.firsts);
    range = {firsts[byte], firsts[byte + 1], 1};
    return range.low < range.high;
  }
  range.low = first_from(range.low, byte);
  if (range.low < range.high) {
    int32_t bytes = 0;
    const uint8_t* const string = text_string(w, ids[range.low], bytes);
    if (string[range.depth] == byte) range.high = first_from(range.low, byte + 1);
    else range.high = range.low;
  }
  ++range.depth;
  return range.low < range.high;
}

// The id of the token that is the bytes read so far, or -1.
INLINE int32_t token_of(const text_work& w, const text_order& order, const text_range& range) {
  int32_t bytes = 0;
  const int32_t id = text_table<int32_t>(w, order.ids)[range.low];
  text_string(w, id, bytes);
  return bytes == range.depth ? id : -1;
}

// Narrows the range to the strings that have this character next.
INLINE bool narrowed_by_code(const text_work& w, const text_order& order, text_range& range,
                             uint32_t code) {
  uint8_t utf8[4];
  const int32_t bytes = put_code(code, utf8);
  for (int32_t k = 0; k < bytes; ++k)
    if (!narrowed(w, order, range, utf8[k])) return false;
  return true;
}

//@ section text_bpe
//@ needs text_search text_bytes
// Byte-pair encoding. Symbols are a list; a heap has those that can be joined with their next one,
// the lowest rank first, then the leftmost.
struct bpe_list {
  int32_t *id, *before, *next;  // of a symbol; `next` of the last one is -1
  int32_t *rank, *merged;  // of it and the next one
  int32_t *heap, *place;  // symbols; where a symbol is in the heap, or -1
  int32_t size;  // of the heap
};

INLINE bool comes_first(const bpe_list& l, int32_t a, int32_t b) {
  return l.rank[a] < l.rank[b] || (l.rank[a] == l.rank[b] && a < b);
}

// Puts a symbol where it belongs in the heap, from the place that it has or may take.
void settle(bpe_list& l, int32_t at, int32_t symbol) {
  for (; at > 0 && comes_first(l, symbol, l.heap[(at - 1) / 2]); at = (at - 1) / 2)
    l.place[l.heap[at] = l.heap[(at - 1) / 2]] = at;
  for (;;) {
    int32_t child = 2 * at + 1;
    if (child >= l.size) break;
    if (child + 1 < l.size && comes_first(l, l.heap[child + 1], l.heap[child])) ++child;
    if (!comes_first(l, l.heap[child], symbol)) break;
    l.place[l.heap[at] = l.heap[child]] = at;
    at = child;
  }
  l.place[l.heap[at] = symbol] = at;
}

void leave(bpe_list& l, int32_t symbol) {
  const int32_t at = l.place[symbol];
  if (at < 0) return;
  l.place[symbol] = -1;
  const int32_t last = l.heap[--l.size];
  if (last != symbol) settle(l, at, last);
}

// Looks up what a symbol and its next one make, and enters it.
void look_up(const text_work& w, bpe_list& l, int32_t symbol) {
  const int32_t next = l.next[symbol];
  leave(l, symbol);
  if (next < 0) return;
  const uint32_t* const begins = text_table<uint32_t>(w, kTextMerges) + l.id[symbol];
  const int32_t* const rights = text_table<int32_t>(w, kTextMergeRights);
  uint32_t low = begins[0], high = begins[1];
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (rights[middle] < l.id[next]) low = middle + 1;
    else high = middle;
  }
  if (low >= begins[1] || rights[low] != l.id[next]) return;
  l.rank[symbol] = text_table<int32_t>(w, kTextMergeRanks)[low];
  l.merged[symbol] = text_table<int32_t>(w, kTextMerged)[low];
  settle(l, l.size++, symbol);
}

// The token of a character, or -1; `variant`: 1 for those behind the first, 2 for the last.
INLINE int32_t initial_token(const text_work& w, uint32_t code, int variant) {
  const bpe_initial& table = kTextInitial[variant];
  if (code < 512) return text_table<int32_t>(w, table.low)[code];
  const uint32_t* const codes = text_table<uint32_t>(w, table.codes);
  int32_t low = 0, high = table.count;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (codes[middle] < code) low = middle + 1;
    else high = middle;
  }
  return low < table.count && codes[low] == code ? text_table<int32_t>(w, table.ids)[low] : -1;
}

// A word that is a token as it is, or -1.
INLINE int32_t whole_token([[maybe_unused]] const text_work& w,
                           [[maybe_unused]] const text_piece& p) {
  if constexpr (kTextWholeWords) {
    text_range range = everything(kTextOrder);
    for (int32_t k = 0; k < p.count; ++k) {
      if (kTextByteLevel ? !narrowed(w, kTextOrder, range, character_byte(p.at[k]))
                         : !narrowed_by_code(w, kTextOrder, range, p.at[k]))
        return -1;
    }
    return token_of(w, kTextOrder, range);
  }
  return -1;
}

// The symbols that a word begins as; -1 where they do not fit.
int32_t initial_symbols(const text_work& w, const text_piece& p, int32_t* ids) {
  int32_t count = 0;
  bool unknown = false;  // one is to be added
  for (int32_t k = 0; k < p.count; ++k) {
    if (count + 6 > kTextSymbols) return -1;
    const int32_t id = initial_token(w, p.at[k], (k > 0) + 2 * (k == p.count - 1));
    if (id >= 0) {
      if (unknown) ids[count++] = kTextUnknown;
      unknown = false;
      ids[count++] = id;
      continue;
    }
    if constexpr (kTextByteFallback) {
      const int32_t* const tokens = text_table<int32_t>(w, kTextByteTokens);
      uint8_t utf8[4];
      const int32_t bytes = put_code(p.at[k], utf8);
      bool all = true;
      for (int32_t b = 0; b < bytes; ++b) all = all && tokens[utf8[b]] >= 0;
      for (int32_t b = 0; all && b < bytes; ++b) ids[count++] = tokens[utf8[b]];
      if (all) continue;
    }
    if constexpr (kTextUnknown >= 0) {
      if (unknown && !kTextFuseUnknown) ids[count++] = kTextUnknown;
      unknown = true;
    }
  }
  if (unknown) ids[count++] = kTextUnknown;
  return count;
}

bool model_word(text_work& w, const text_piece& p) {
  const int32_t whole = whole_token(w, p);
  if (whole >= 0) {
    add_id(w, whole);
    return true;
  }
  int32_t* const memory = reinterpret_cast<int32_t*>(w.model);
  const auto array = [memory](int k) { return memory + static_cast<size_t>(k) * kTextSymbols; };
  bpe_list l = {array(0), array(1), array(2), array(3), array(4), array(5), array(6), 0};
  const int32_t count = initial_symbols(w, p, l.id);
  if (count < 0) return false;
  for (int32_t k = 0; k < count; ++k) {
    l.before[k] = k - 1;
    l.next[k] = k + 1 < count ? k + 1 : -1;
    l.place[k] = -1;
  }
  for (int32_t k = 0; k < count; ++k) look_up(w, l, k);
  while (l.size > 0) {
    const int32_t symbol = l.heap[0], gone = l.next[symbol];
    l.id[symbol] = l.merged[symbol];
    leave(l, gone);
    l.next[symbol] = l.next[gone];
    if (l.next[gone] >= 0) l.before[l.next[gone]] = symbol;
    look_up(w, l, symbol);
    if (l.before[symbol] >= 0) look_up(w, l, l.before[symbol]);
  }
  for (int32_t k = 0; k >= 0 && k < count; k = l.next[k]) add_id(w, l.id[k]);
  return true;
}

//@ section text_word_piece
//@ needs text_search
// WordPiece: the longest token from the left, again and again; a word that cannot be cut so is
// unknown.
bool model_word(text_work& w, const text_piece& p) {
  const size_t made = w.made;
  bool good = p.count <= kTextLongestWord;
  for (int32_t begin = 0; good && begin < p.count;) {
    text_range range = everything(kTextOrder);
    bool on = true;
    for (size_t k = 0; begin > 0 && on && k < kTextPrefixBytes; ++k)
      on = narrowed(w, kTextOrder, range, text_table<uint8_t>(w, kTextPrefix)[k]);
    int32_t longest = -1, end = begin;
    for (int32_t k = begin; on && k < p.count; ++k) {
      on = narrowed_by_code(w, kTextOrder, range, p.at[k]);
      const int32_t token =
          on && (!kTextWholeWords || k == p.count - 1) ? token_of(w, kTextOrder, range) : -1;
      if (token >= 0) longest = token, end = k + 1;
    }
    good = longest >= 0;
    if (good) add_id(w, longest);
    begin = end;
  }
  if (!good) {
    w.made = made;
    add_id(w, kTextUnknown);
  }
  return true;
}

//@ section text_unigram
//@ needs text_search
// Unigram: the tokens whose scores have the greatest sum.
struct unigram_node {
  double score;
  int32_t from, id;  // the last token begins there; from -1: not reached
};

// Tokens of an unknown part, as bytes where the vocabulary has them.
void add_unknown(text_work& w, [[maybe_unused]] const text_piece& p, [[maybe_unused]] int32_t from,
                 [[maybe_unused]] int32_t to) {
  if constexpr (kTextByteFallback) {
    const int32_t* const tokens = text_table<int32_t>(w, kTextByteTokens);
    uint8_t utf8[4];
    bool all = true;
    for (int32_t k = from; k < to; ++k) {
      const int32_t bytes = put_code(p.at[k], utf8);
      for (int32_t b = 0; b < bytes; ++b) all = all && tokens[utf8[b]] >= 0;
    }
    for (int32_t k = from; all && k < to; ++k) {
      const int32_t bytes = put_code(p.at[k], utf8);
      for (int32_t b = 0; b < bytes; ++b) add_id(w, tokens[utf8[b]]);
    }
    if (all) return;
  }
  add_id(w, kTextUnknown);
}

bool model_word(text_work& w, const text_piece& p) {
  unigram_node* const best = reinterpret_cast<unigram_node*>(w.model);
  const double* const scores = text_table<double>(w, kTextScores);
  if (p.count >= kTextSymbols) return false;
  for (int32_t k = 0; k <= p.count; ++k) best[k] = {0, -1, 0};
  const auto reach = [best](int32_t from, int32_t to, double score, int32_t id) {
    const double sum = score + best[from].score;
    if (best[to].from < 0 || sum > best[to].score) best[to] = {sum, from, id};
  };
  for (int32_t from = 0; from < p.count; ++from) {
    text_range range = everything(kTextOrder);
    bool alone = false;  // the character is a token
    for (int32_t to = from; to < p.count && narrowed_by_code(w, kTextOrder, range, p.at[to]);
         ++to) {
      const int32_t id = token_of(w, kTextOrder, range);
      if (id < 0) continue;
      reach(from, to + 1, scores[id], id);
      alone = alone || to == from;
    }
    if (!alone) reach(from, from + 1, kTextUnknownScore, kTextUnknown);
  }
  // The way back, turned around: `from` becomes where the token ends.
  int32_t end = -1;
  for (int32_t at = p.count; at > 0;) {
    const int32_t from = best[at].from;
    best[at].from = end;
    end = at;
    at = from;
  }
  for (int32_t at = 0; end >= 0;) {
    const int32_t begin = at, id = best[end].id;
    do {
      at = end;
      end = best[end].from;
    } while (id == kTextUnknown && end >= 0 && best[end].id == kTextUnknown);
    if (id == kTextUnknown) add_unknown(w, p, begin, at);
    else add_id(w, id);
  }
  return true;
}

//@ section text_rewritten
//@ needs text_bytes
bool next_level(text_work& w, int32_t level, const text_piece& p);

// Copies a piece with something in front of it, or as bytes.
bool rewritten(text_work& w, int32_t level, const text_piece& p) {
  const text_level& step = kTextLevels[level];
  const int32_t used = w.used;
  uint32_t* const to = w.spare + used;
  const int32_t room = kTextRoom - used;
  int32_t made = 0;
  const auto add = [&](uint32_t code) {
    if (made < room) to[made] = code;
    ++made;
  };
  const uint32_t mark = step.kind == kStepSpace ? ' ' : step.program;
  const bool marked = step.kind == kStepSpace ? p.at[0] == ' ' : p.at[0] == mark || p.at[0] == ' ';
  if (step.kind != kStepBytes && !marked &&
      (step.first == kAlways || (step.first == kFirst && p.start)))
    add(mark);
  for (int32_t k = 0; k < p.count; ++k) {
    const uint32_t c = p.at[k];
    uint8_t utf8[4];
    if (step.kind == kStepBytes) {
      const int32_t bytes = put_code(c, utf8);
      for (int32_t b = 0; b < bytes; ++b) add(byte_character(utf8[b]));
    } else {
      add(step.kind == kStepMetaspace && c == ' ' ? mark : c);
    }
  }
  if (made > room) return false;
  w.used += made;
  const bool good = next_level(w, level + 1, {to, made, p.start});
  w.used = used;
  return good;
}

//@ section text_level
//@ needs text_pattern text_rewritten
// Cuts a piece at the matches of a pattern.
bool split(text_work& w, int32_t level, const text_piece& p) {
  const text_level& step = kTextLevels[level];
  int32_t from = 0, to = 0;  // the piece that waits for what may belong to it
  bool held_match = false, last_match = false;
  const auto pass = [&]() {
    const text_piece part = {p.at + from, to - from, p.start && from == 0};
    return from == to || (step.first == kRemoved && held_match) || next_level(w, level + 1, part);
  };
  const auto take = [&](int32_t begin, int32_t end, bool match) {
    if (begin == end) return true;
    const bool waits = from != to;
    const bool joins = waits &&
        (step.first == kContiguous         ? match == held_match
             : step.first == kWithPrevious ? match && !last_match
             : step.first == kWithNext     ? held_match && !match
                                           : false);
    const bool good = joins || pass();
    last_match = match;
    if (!joins) from = begin;
    to = end;
    held_match = match;
    return good;
  };
  for (int32_t at = 0; at < p.count;) {
    int32_t end = 0;
    const int32_t begin = next_match(w, p, at, step.program, end);
    if (!take(at, begin, step.second != 0) || !take(begin, end, step.second == 0)) return false;
    at = end;
  }
  return pass();
}

bool next_level(text_work& w, int32_t level, const text_piece& p) {
  if (level == kTextLevelCount) return model_word(w, p);
  return kTextLevels[level].kind == kStepSplit ? split(w, level, p) : rewritten(w, level, p);
}

//@ section text_level_unsplit
//@ needs text_rewritten
// No step of the pre-tokenizer cuts.
bool next_level(text_work& w, int32_t level, const text_piece& p) {
  return level == kTextLevelCount ? model_word(w, p) : rewritten(w, level, p);
}

//@ section text_direct
//@ needs text_work
// There is no pre-tokenizer.
INLINE bool next_level(text_work& w, int32_t, const text_piece& p) { return model_word(w, p); }

//@ section text_added
//@ needs text_search text_categories
// The tokens that are found in a text before the model sees it.
enum text_flag { kSingleWord = 1, kLstrip = 2, kRstrip = 4 };

[[maybe_unused]] bool is_word(const text_work& w, uint32_t c) {
  if (c < 128)
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  const int kind = category_of(w, c);
  return kind <= kNl || kind == kPc || c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
      (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
      (c >= 0x1F170 && c <= 0x1F189);
}

// Finds the tokens of a list in a piece; what lies between goes to `other`, in which `start` says
// whether it is the text's beginning.
template <class Other>
bool find_added(text_work& w, const added_list& list, const text_piece& p, const Other& other) {
  int32_t done = 0;
  for (int32_t at = 0; at < p.count;) {
    int32_t found = -1, end = at + 1;
    text_range range = everything(list.order);
    for (int32_t k = at; k < p.count && narrowed_by_code(w, list.order, range, p.at[k]); ++k)
      if (token_of(w, list.order, range) >= 0) found = range.low, end = k + 1;
    const int32_t begin = at;
    at = end;
    if (found < 0) continue;
    const uint8_t flags = text_table<uint8_t>(w, list.flags)[found];
    const bool in_word =
        (begin > 0 && is_word(w, p.at[begin - 1])) || (end < p.count && is_word(w, p.at[end]));
    if ((flags & kSingleWord) && in_word) continue;
    int32_t from = begin;
    while ((flags & kLstrip) && from > 0 && is_space(w, p.at[from - 1])) --from;
    if (from < done) from = done;
    while ((flags & kRstrip) && end < p.count && is_space(w, p.at[end])) ++end;
    if (done < from && !other(text_piece{p.at + done, from - done, p.start && done == 0}))
      return false;
    add_id(w, text_table<int32_t>(w, list.ids)[found]);
    done = end;
  }
  return done == p.count || other(text_piece{p.at + done, p.count - done, p.start && done == 0});
}
