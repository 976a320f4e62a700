// Decoder: reads and writes tokens with the keys and values of those before in the predictor's
// caches. Sections as in vectors.h; amalgamate/decoder.py puts the declarations into NAME.h and the
// definitions into NAME.cc, behind the tables of caches and sets of shapes.

//@ section decoder_declaration
/* The model reads and writes text as tokens, whole numbers below @NAME@_VOCABULARY. A predictor
   keeps what it knows of the text so far, at most @NAME@_CONTEXT tokens, so each token is read
   once. set_shape(), reshape() and run() are not needed; they leave the text alone only where no
   token is read after them. With @NAME@_BIND_ONLY the functions here return @NAME@_BAD_ARGUMENT. */
#define @NAME@_CONTEXT @context@
#define @NAME@_VOCABULARY @vocabulary@

/* How a token is chosen from the scores of all. `temperature` 0: the likeliest. Else its chance is
   softmax(scores / temperature), among the `top_k` likeliest (0: all) and of those among the
   likeliest that together have at least the share `top_p` (1: all). `seed` may be any number, and
   changes with each token: a sampler that starts with the same seed gives the same tokens. */
typedef struct @name@_sampler {
  float temperature;
  int32_t top_k;
  float top_p;
  uint64_t seed;
} @name@_sampler;

//@ speech
/* Takes what a text is about, the numbers of input @features@, and begins a new text: they are read
   together with its first token. After rewind(p, 0) another text about the same begins.
   @NAME@_BAD_ARGUMENT for another size. */
@NAME@_API @name@_status @name@_hear(@name@_predictor* predictor, const float* features,
                                     size_t bytes);

//@ end
//@ answers
/* The model reads one text and writes another, its answer: a translation, say. read() takes the
   tokens of the text that is read, at most @NAME@_SOURCE of those below @NAME@_SOURCE_VOCABULARY,
   and begins an answer with the tokens @start@. To begin with others, rewind(p, 0) and
   append() them: what was read stays. @NAME@_FULL for more tokens, and @NAME@_BAD_ARGUMENT for none
   and for one that is none: nothing is read then. All other functions are about the answer. */
#define @NAME@_SOURCE @source@
#define @NAME@_SOURCE_VOCABULARY @readable@
@NAME@_API @name@_status @name@_read(@name@_predictor* predictor, const int64_t* tokens,
                                     size_t count);

//@ end
/* append() reads tokens behind those that were read before, several at a time.
   @NAME@_BAD_ARGUMENT for a token that is none; @NAME@_FULL if the text would get longer than
   @NAME@_CONTEXT: in both cases nothing is read. length() is the number of tokens
   of the text. rewind() forgets all but its first `length`; reset() forgets the text and clears the
   memory where it was. */
@NAME@_API @name@_status @name@_append(@name@_predictor* predictor, const int64_t* tokens,
                                       size_t count);
@NAME@_API size_t @name@_length(const @name@_predictor* predictor);
@NAME@_API @name@_status @name@_rewind(@name@_predictor* predictor, size_t length);
@NAME@_API @name@_status @name@_reset(@name@_predictor* predictor);

/* The scores of all tokens to follow the text, valid until the next call that reads; null if there
   are none: after reset(), rewind() and errors. sample() chooses a token by them, and does not add
   it to the text; @NAME@_BAD_ARGUMENT if there are none or the sampler's numbers make no
   sense. A sampler of null takes the likeliest token. accept() adds a token to the text, and reads
   it when something needs it. */
@NAME@_API const float* @name@_scores(@name@_predictor* predictor);
@NAME@_API @name@_status @name@_sample(@name@_predictor* predictor, @name@_sampler* sampler,
                                       int64_t* token);
@NAME@_API @name@_status @name@_accept(@name@_predictor* predictor, int64_t token);

/* Called with each token; `user` is what generate() was given. Not 0: that was the last one. */
typedef int32_t (*@name@_on_token)(void* user, int64_t token);

//@ answers
/* Reads `prompt` as read() does, unless it is empty: then the answer so far goes on. The model's
   answer is up to `most` tokens, written to `tokens` (or null) and
//@ end
//@ no_answers
/* Reads `prompt` behind the text so far, then writes up to `most` tokens, to `tokens` (or null) and
//@ end
   their number to `made` (or null), and calls `on_token` (or null) with each. A token among the
   `stop_count` of `stop` ends the text; it is not given. All tokens that are given belong to the
   text, so a next generate() goes on from there; reset() begins a new one. An empty prompt is
   possible where there is a text. @NAME@_FULL: the text has @NAME@_CONTEXT tokens, `made` of
   them are new. */
@NAME@_API @name@_status @name@_generate(@name@_predictor* predictor, const int64_t* prompt,
                                         size_t prompt_count, size_t most, @name@_sampler* sampler,
                                         const int64_t* stop, size_t stop_count,
                                         @name@_on_token on_token, void* user, int64_t* tokens,
                                         size_t* made);

//@ section hear_method
@name@_status hear(const float* features, size_t bytes) {
  return @name@_hear(handle_, features, bytes);
}

//@ section read_method
@name@_status read(const int64_t* tokens, size_t count) {
  return @name@_read(handle_, tokens, count);
}

//@ section decoder_method
@name@_status append(const int64_t* tokens, size_t count) {
  return @name@_append(handle_, tokens, count);
}
size_t length() const { return @name@_length(handle_); }
@name@_status rewind(size_t length) { return @name@_rewind(handle_, length); }
@name@_status reset() { return @name@_reset(handle_); }
const float* scores() { return @name@_scores(handle_); }
@name@_status sample(@name@_sampler* sampler, int64_t* token) {
  return @name@_sample(handle_, sampler, token);
}
@name@_status accept(int64_t token) { return @name@_accept(handle_, token); }
@name@_status generate(const int64_t* prompt, size_t prompt_count, size_t most,
                       @name@_sampler* sampler, const int64_t* stop, size_t stop_count,
                       @name@_on_token on_token, void* user, int64_t* tokens, size_t* made) {
  return @name@_generate(handle_, prompt, prompt_count, most, sampler, stop, stop_count, on_token,
                         user, tokens, made);
}

//@ section decoder_definition
namespace impl { namespace {

constexpr int64_t kNoToken = -1;

// Moves `count` rows of a cache to where the text ends. Of transposed ones the elements of all rows
// lie side by side, and are copied at once unless they overlap those at the end of the text.
void keep_rows(const @name@_predictor& p, const cache& c, int32_t from, int32_t to, int32_t count) {
  uint8_t* const data = p.arena - kCacheBytes + c.offset;
  const bool at_once = c.row == c.bytes && c.element != c.bytes && from - to >= count;
  const int32_t runs = at_once ? 1 : count;
  const size_t bytes = static_cast<size_t>(c.bytes) * static_cast<size_t>(at_once ? count : 1);
  for (int32_t h = 0; h < c.heads; ++h) {
    for (int32_t r = 0; r < runs; ++r) {
      uint8_t* const source = data + h * c.head + (from + r) * c.row;
      uint8_t* const target = data + h * c.head + (to + r) * c.row;
      if (c.element == c.bytes) {
        copy_bytes(target, source, static_cast<size_t>(c.size * c.bytes));
        continue;
      }
      for (int32_t e = 0; e < c.size; ++e)
        copy_bytes(target + e * c.element, source + e * c.element, bytes);
    }
  }
}

// Whether a set of shapes reads the next of `count` tokens better than another: the largest block
// that they fill, else the smallest that they do not fill; of equal ones that with fewer slots.
bool reads_better(const reading_set_sizes& a, const reading_set_sizes& b, size_t count) {
  if (a.rows == b.rows) return a.slots < b.slots;
  const bool fills = static_cast<size_t>(a.rows) <= count;
  return fills == (static_cast<size_t>(b.rows) <= count) ? (a.rows > b.rows) == fills : fills;
}

// The set of shapes that reads the next of `count` tokens: one, or a block of them.
int32_t reading_set(const @name@_predictor& p, size_t count) {
  int32_t best = -1;
//@ encoder
  if (p.length == 0 && p.set < kEncodingSets) return p.set;  // the first token of a text
//@ end
  for (int32_t k = kEncodingSets; k < kReadingSetCount; ++k) {
    const reading_set_sizes& s = kReadingSets[k];
    if (s.slots < p.length || (s.rows > 1) != (count > 1 && kMostRows > 1)) continue;
    if (best < 0 || reads_better(s, kReadingSets[best], count)) best = k;
  }
  return best;
}

//@ answers
// How many tokens of the text that is read a set of shapes has room for.
int32_t source_length(int32_t set) {
  return set < kEncodingSets ? kSourceLengths[set] : @NAME@_SOURCE;
}

// Gives the encoder a text, which it reads with the first token of the answer.
@name@_status begin_answer(@name@_predictor& p, const int64_t* tokens, int32_t count) {
  int32_t set = 0;
  while (kSourceLengths[set] < count) ++set;
  const @name@_status status = @name@_set_shape(&p, set);
  if (status != @NAME@_OK) return status;
  p.waiting = kNoToken, p.length = 0, p.scored = -1, p.heard = count;
  source_type* const ids = reinterpret_cast<source_type*>(own_input(p, kSourceInput));
  p.inputs[kSourceInput] = ids;
  for (int32_t s = 0; s < kSourceLengths[set]; ++s)
    ids[s] = static_cast<source_type>(s < count ? tokens[s] : 0);
  return @NAME@_OK;
}

//@ end
// Reads the first `rows` of `tokens`, or as many as a set of shapes reads at once; counts them.
@name@_status read_tokens(@name@_predictor& p, const int64_t* tokens, size_t count, size_t* read) {
  const int32_t set = reading_set(p, count);
  const int32_t rows = kReadingSets[set].rows, slots = kReadingSets[set].slots;
  const int32_t taken = count < static_cast<size_t>(rows) ? static_cast<int32_t>(count) : rows;
//@ shapes
  const @name@_status chosen = @name@_set_shape(&p, set);
  if (chosen != @NAME@_OK) return chosen;
//@ end
  token_type* const ids = reinterpret_cast<token_type*>(own_input(p, kTokensInput));
  mask_type* const mask = reinterpret_cast<mask_type*>(own_input(p, kMaskInput));
  p.inputs[kTokensInput] = ids, p.inputs[kMaskInput] = mask;
  for (int32_t r = 0; r < rows; ++r) ids[r] = static_cast<token_type>(r < taken ? tokens[r] : 0);
  for (int32_t s = 0; s < slots + rows; ++s)
    mask[s] = static_cast<mask_type>(s < p.length || (s >= slots && s < slots + taken) ? 1 : 0);
//@ answers
  source_mask_type* const there =
      reinterpret_cast<source_mask_type*>(own_input(p, kSourceMaskInput));
  p.inputs[kSourceMaskInput] = there;
  for (int32_t s = 0; s < source_length(set); ++s)
    there[s] = static_cast<source_mask_type>(s < p.heard ? 1 : 0);
//@ end
//@ positions
  position_type* const at = reinterpret_cast<position_type*>(own_input(p, kPositionsInput));
  p.inputs[kPositionsInput] = at;
  for (int32_t r = 0; r < rows; ++r)
    at[r] = static_cast<position_type>(p.length + (r < taken ? r : taken - 1));
//@ end
  const @name@_status status = @name@_run(&p);
  if (status != @NAME@_OK) return status;
  for (const cache& c : kCaches) {
    if (slots != p.length) keep_rows(p, c, slots, p.length, taken);
  }
  p.length += taken;
  p.scored = kScoresOfLast ? 0 : taken - 1;
  *read = static_cast<size_t>(taken);
  return @NAME@_OK;
}

@name@_status read_all(@name@_predictor& p, const int64_t* tokens, size_t count) {
  while (count > 0) {
    size_t read = 0;
    const @name@_status status = read_tokens(p, tokens, count, &read);
    if (status != @NAME@_OK) return status;
    tokens += read, count -= read;
  }
  return @NAME@_OK;
}

// Reads the token that generate() has given last and nothing has needed since.
@name@_status read_waiting(@name@_predictor& p) {
  if (p.waiting == kNoToken) return @NAME@_OK;
  if (p.length == @NAME@_CONTEXT) return @NAME@_FULL;
  const int64_t token = p.waiting;
  const @name@_status status = read_all(p, &token, 1);
  if (status == @NAME@_OK) p.waiting = kNoToken;
  return status;
}

// A number in [0, 1), by SplitMix64.
double next_number(uint64_t& seed) {
  uint64_t z = seed += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

// Whether token a comes before b: it is likelier, or as likely and has the smaller number.
INLINE bool before(const double* chance, int32_t a, int32_t b) {
  return chance[a] > chance[b] || (chance[a] == chance[b] && a < b);
}

// Puts the root of a heap of `count` tokens, whose first is the likeliest, to its place.
void sink(const double* chance, int32_t* heap, int32_t root, int32_t count) {
  const int32_t token = heap[root];
  for (int32_t child = 2 * root + 1; child < count; child = 2 * root + 1) {
    if (child + 1 < count && before(chance, heap[child + 1], heap[child])) ++child;
    if (!before(chance, heap[child], token)) break;
    heap[root] = heap[child], root = child;
  }
  heap[root] = token;
}

// Moves the likeliest token of a heap of `count` to its end, and gives it.
INLINE int32_t take_likeliest(const double* chance, int32_t* heap, int32_t count) {
  const int32_t token = heap[0];
  heap[0] = heap[count - 1], heap[count - 1] = token;
  sink(chance, heap, 0, count - 1);
  return token;
}

int32_t likeliest_token(const float* scores) {
  int32_t best = 0;
  for (int32_t t = 1; t < @NAME@_VOCABULARY; ++t) {
    if (scores[t] > scores[best] || scores[best] != scores[best]) best = t;
  }
  return best;
}

// Draws a token; the tokens to choose from lie at the end of `heap` then, the likeliest last.
int32_t draw_token(const float* scores, @name@_sampler& sampler, double* chance, int32_t* heap) {
  const double most = scores[likeliest_token(scores)], temperature = sampler.temperature;
  constexpr int32_t all = @NAME@_VOCABULARY;
  double sum = 0;
  for (int32_t t = 0; t < all; ++t) {
    const double power = (scores[t] - most) / temperature;
    chance[t] = power > -700 ? exp_(power) : power == power ? 0 : scores[t] == scores[t] ? 1 : 0;
    sum += chance[t];
    heap[t] = t;
  }
  const int32_t wanted = sampler.top_k > 0 && sampler.top_k < all ? sampler.top_k : all;
  int32_t kept = 0;
  double share = 0;
  if (wanted == all && sampler.top_p >= 1) {
    kept = all, share = sum;
    for (int32_t t = 0; t < all; ++t) heap[all - 1 - t] = t;
  } else {
    for (int32_t root = all / 2 - 1; root >= 0; --root) sink(chance, heap, root, all);
    int32_t taken = 0;
    if (wanted < all) {
      for (sum = 0; taken < wanted; ++taken)
        sum += chance[take_likeliest(chance, heap, all - taken)];
    }
    while (kept < wanted && (kept == 0 || share < sampler.top_p * sum)) {
      if (kept == taken) take_likeliest(chance, heap, all - taken), ++taken;
      share += chance[heap[all - 1 - kept]], ++kept;
    }
  }
  const double drawn = next_number(sampler.seed) * share;
  double passed = 0;
  int32_t token = heap[all - 1];
  for (int32_t k = 0; k < kept; ++k) {
    if (chance[heap[all - 1 - k]] > 0) token = heap[all - 1 - k];
    passed += chance[heap[all - 1 - k]];
    if (passed > drawn) break;
  }
  return token;
}

//@ speech
// Begins a text about other features, which can be written to the input then.
@name@_status begin_hearing(@name@_predictor& p) {
  p.waiting = kNoToken, p.length = 0, p.scored = -1;
  return @name@_set_shape(&p, 0);
}

//@ end
bool makes_sense(const @name@_sampler& s) {
  return s.temperature >= 0 && s.temperature < 0x1p127f && s.top_k >= 0 && s.top_p > 0 &&
      s.top_p <= 1;
}

}}  // namespace impl

//@ speech
@name@_status @name@_hear(@name@_predictor* p, const float* features, size_t bytes) {
  if (p == nullptr || features == nullptr || !impl::kOwnTensors ||
      bytes != impl::kInputs[impl::kFeaturesInput].bytes)
    return @NAME@_BAD_ARGUMENT;
  const @name@_status status = impl::begin_hearing(*p);
  if (status != @NAME@_OK) return status;
  uint8_t* const to = impl::own_input(*p, impl::kFeaturesInput);
  p->inputs[impl::kFeaturesInput] = to;
  impl::copy_bytes(to, features, bytes);
  return @NAME@_OK;
}

//@ end
//@ answers
@name@_status @name@_read(@name@_predictor* p, const int64_t* tokens, size_t count) {
  if (p == nullptr || tokens == nullptr || count == 0 || !impl::kOwnTensors)
    return @NAME@_BAD_ARGUMENT;
  for (size_t k = 0; k < count; ++k) {
    if (tokens[k] < 0 || tokens[k] >= @NAME@_SOURCE_VOCABULARY) return @NAME@_BAD_ARGUMENT;
  }
  if (count > @NAME@_SOURCE) return @NAME@_FULL;
  const @name@_status status = impl::begin_answer(*p, tokens, static_cast<int32_t>(count));
  if (status != @NAME@_OK) return status;
  return @name@_append(p, impl::kAnswerStart, sizeof impl::kAnswerStart / sizeof(int64_t));
}

//@ end
@name@_status @name@_append(@name@_predictor* p, const int64_t* tokens, size_t count) {
  if (p == nullptr || (tokens == nullptr && count != 0) || !impl::kOwnTensors)
    return @NAME@_BAD_ARGUMENT;
//@ answers
  if (p->heard == 0 && count != 0) return @NAME@_BAD_ARGUMENT;
//@ end
  for (size_t k = 0; k < count; ++k) {
    if (tokens[k] < 0 || tokens[k] >= @NAME@_VOCABULARY) return @NAME@_BAD_ARGUMENT;
  }
  if (count > @NAME@_CONTEXT - @name@_length(p) || @name@_length(p) > @NAME@_CONTEXT)
    return @NAME@_FULL;
  const @name@_status status = impl::read_waiting(*p);
  return status != @NAME@_OK ? status : impl::read_all(*p, tokens, count);
}

size_t @name@_length(const @name@_predictor* p) {
  if (p == nullptr) return 0;
  return static_cast<size_t>(p->length) + (p->waiting == impl::kNoToken ? 0 : 1);
}

@name@_status @name@_rewind(@name@_predictor* p, size_t length) {
  if (p == nullptr || length > @name@_length(p)) return @NAME@_BAD_ARGUMENT;
  if (length == @name@_length(p)) return @NAME@_OK;
  p->waiting = impl::kNoToken;
  if (length < static_cast<size_t>(p->length)) p->scored = -1;
  p->length = static_cast<int32_t>(length);
  return @NAME@_OK;
}

@name@_status @name@_reset(@name@_predictor* p) {
  if (p == nullptr) return @NAME@_BAD_ARGUMENT;
  impl::clear_text(*p);
  return @NAME@_OK;
}

const float* @name@_scores(@name@_predictor* p) {
  if (p == nullptr || impl::read_waiting(*p) != @NAME@_OK || p->scored < 0) return nullptr;
  return static_cast<const float*>(p->outputs[impl::kLogitsOutput]) +
      static_cast<size_t>(p->scored) * @NAME@_VOCABULARY;
}

@name@_status @name@_sample(@name@_predictor* p, @name@_sampler* sampler, int64_t* token) {
  if (p == nullptr || token == nullptr || (sampler != nullptr && !impl::makes_sense(*sampler)))
    return @NAME@_BAD_ARGUMENT;
  const @name@_status status = impl::read_waiting(*p);
  if (status != @NAME@_OK) return status;
//@ answers
  float* const scores = const_cast<float*>(@name@_scores(p));
  if (scores == nullptr) return @NAME@_BAD_ARGUMENT;
  for (const int32_t never : impl::kNeverWritten) {
    if (never >= 0) scores[never] = -__builtin_inff();
  }
//@ end
//@ no_answers
  const float* const scores = @name@_scores(p);
  if (scores == nullptr) return @NAME@_BAD_ARGUMENT;
//@ end
  if (sampler == nullptr || sampler->temperature == 0) {
    *token = impl::likeliest_token(scores);
  } else {
    double* const chance =
        reinterpret_cast<double*>(p->arena - impl::kCacheBytes + impl::kSamplerOffset);
    *token = impl::draw_token(scores, *sampler, chance,
                              reinterpret_cast<int32_t*>(chance + @NAME@_VOCABULARY));
  }
  return @NAME@_OK;
}

@name@_status @name@_accept(@name@_predictor* p, int64_t token) {
  if (p == nullptr || token < 0 || token >= @NAME@_VOCABULARY || !impl::kOwnTensors)
    return @NAME@_BAD_ARGUMENT;
  const @name@_status status = impl::read_waiting(*p);
  if (status == @NAME@_OK) p->waiting = token;
  return status;
}

@name@_status @name@_generate(@name@_predictor* p, const int64_t* prompt, size_t prompt_count,
                              size_t most, @name@_sampler* sampler, const int64_t* stop,
                              size_t stop_count, @name@_on_token on_token, void* user,
                              int64_t* tokens, size_t* made) {
  if (made != nullptr) *made = 0;
  if ((stop == nullptr && stop_count != 0) || (sampler != nullptr && !impl::makes_sense(*sampler)))
    return @NAME@_BAD_ARGUMENT;
//@ answers
  const @name@_status status = prompt_count != 0 ? @name@_read(p, prompt, prompt_count)
                                                 : @name@_append(p, nullptr, 0);
//@ end
//@ no_answers
  const @name@_status status = @name@_append(p, prompt, prompt_count);
//@ end
  if (status != @NAME@_OK) return status;
  for (size_t k = 0; k < most; ++k) {
    int64_t token = 0;
    const @name@_status sampled = @name@_sample(p, sampler, &token);
    if (sampled != @NAME@_OK) return sampled;
    for (size_t s = 0; s < stop_count; ++s) {
      if (token == stop[s]) return @NAME@_OK;
    }
    p->waiting = token;  // sample() has read the one before
    if (tokens != nullptr) tokens[k] = token;
    if (made != nullptr) *made = k + 1;
    if (on_token != nullptr && on_token(user, token) != 0) return @NAME@_OK;
  }
  return @NAME@_OK;
}
