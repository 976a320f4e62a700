// Detector: from a network's outputs to boxes in a picture, by the steps of dlpack.meaning.detect.
// Sections as in vectors.h; amalgamate/detector.py puts the declarations into NAME.h and the
// definitions into NAME.cc, behind constants and the functions *_of(p), which read an output.

//@ section detections_declaration
/* A box in a picture: its class, its score, its upper left corner and size in pixels, and the
   name of the class (or null). */
typedef struct @name@_detection {
  int32_t index;
  float score, x, y, width, height;
  const char* label;
} @name@_detection;

#define @NAME@_THRESHOLD @threshold@       /* the model's own `threshold` below */
#define @NAME@_MOST_DETECTIONS @kept@ /* there are never more */

/* What the last run has found in a picture of this size, which @name@_preprocess_rgb() had been
   given: writes up to `most` boxes, the surest first, and their number to `count`. They have a
   score of at least `threshold`. Of boxes of one class that overlap by more than @iou@
   (intersection over union), only the surest counts. */
@NAME@_API @name@_status @name@_detections(const @name@_predictor* predictor, int32_t width,
                                           int32_t height, double threshold, int32_t most,
                                           @name@_detection* found, int32_t* count);

//@ section detections_method
@name@_status detections(int32_t width, int32_t height, double threshold, int32_t most,
                         @name@_detection* found, int32_t* count) const {
  return @name@_detections(handle_, width, height, threshold, most, found, count);
}

//@ section box_types
// Corners relative to the sides of the input.
struct box { double left, top, right, bottom; };

// A class and its score; index -1: none.
struct scored {
  int32_t index;
  double score;
};

// An output's elements as real numbers; `scale` 0: they are not quantised.
template <class T> struct reals {
  const T* data;
  double scale, zero;
  double operator[](int64_t k) const {
    const double x = static_cast<double>(data[k]);
    return scale == 0 ? x : static_cast<double>(static_cast<float>((x - zero) * scale));
  }
};

INLINE double cut(double x, double most) { return x < 0 ? 0 : x > most ? most : x; }

// Intersection over union.
INLINE double overlap(const box& a, const box& b) {
  const auto common = [](double low, double high, double other_low, double other_high) {
    const double side =
        (high < other_high ? high : other_high) - (low > other_low ? low : other_low);
    return side > 0 ? side : 0;
  };
  const double both =
      common(a.left, a.right, b.left, b.right) * common(a.top, a.bottom, b.top, b.bottom);
  const double either =
      (a.right - a.left) * (a.bottom - a.top) + (b.right - b.left) * (b.bottom - b.top) - both;
  return either > 0 ? both / either : 0;
}

// The likeliest of `classes` classes but the background; their scores lie `apart` elements apart.
template <class T>
scored likeliest(const reals<T>& scores, int64_t at, int64_t classes, int64_t apart,
                 int32_t background) {
  scored best = {-1, 0};
  for (int64_t c = 0; c < classes; ++c) {
    const double score = scores[at + c * apart];
    if (c != background && (best.index < 0 || score > best.score))
      best = {static_cast<int32_t>(c), score};
  }
  return best;
}

//@ section scores_of_rows
INLINE int64_t candidates([[maybe_unused]] const @name@_predictor* p) {
  return @outputs(p)@[kScores].shape[1];
}
INLINE scored score_of([[maybe_unused]] const @name@_predictor* p, int64_t n) {
  const int64_t classes = @outputs(p)@[kScores].shape[2];
  return likeliest(scores_of(p), n * classes, classes, 1, kBackground);
}

//@ section corners
INLINE box box_of([[maybe_unused]] const @name@_predictor* p, int64_t n) {
  const picture_size& size = @picture(p)@;
  const double across = kBoxesInPixels ? static_cast<double>(size.width) : 1,
               down = kBoxesInPixels ? static_cast<double>(size.height) : 1;
  const auto boxes = boxes_of(p);
  return {boxes[4 * n] / across, boxes[4 * n + 1] / down, boxes[4 * n + 2] / across,
          boxes[4 * n + 3] / down};
}

//@ section anchors
// The box of offsets to an anchor; anchors are ordered by level, row, column and size.
box box_of([[maybe_unused]] const @name@_predictor* p, int64_t n) {
  const double width = static_cast<double>(@picture(p)@.width),
               height = static_cast<double>(@picture(p)@.height);
  const auto steps = [](double side, double stride) {
    const int64_t whole = static_cast<int64_t>(side / stride);
    return static_cast<double>(whole) * stride < side ? whole + 1 : whole;
  };
  int64_t k = n;
  const anchor_level* level = kAnchors;
  for (; level < kAnchors + sizeof kAnchors / sizeof kAnchors[0] - 1; ++level) {
    const int64_t count = steps(width, level->stride) * steps(height, level->stride) * level->count;
    if (k < count) break;
    k -= count;
  }
  const double* const sides = kAnchorSizes + 2 * (level->first + k % level->count);
  const int64_t cell = k / level->count, columns = steps(width, level->stride);
  double x = (static_cast<double>(cell % columns) + 0.5) * level->stride / width;
  double y = (static_cast<double>(cell / columns) + 0.5) * level->stride / height;
  double w = sides[0] / width, h = sides[1] / height;
  if (kClipAnchors) x = cut(x, 1), y = cut(y, 1), w = cut(w, 1), h = cut(h, 1);
  const auto offsets = boxes_of(p);
  x += offsets[4 * n] * kVariances[0] * w, y += offsets[4 * n + 1] * kVariances[0] * h;
  w *= exp_(offsets[4 * n + 2] * kVariances[1]) / 2,
      h *= exp_(offsets[4 * n + 3] * kVariances[1]) / 2;
  return {x - w, y - h, x + w, y + h};
}

//@ section rows
// A row per box: class, score, corners; they are the last of its numbers.
INLINE int64_t row_length([[maybe_unused]] const @name@_predictor* p) {
  return @outputs(p)@[kFound].shape[@outputs(p)@[kFound].rank - 1];
}
INLINE int64_t candidates([[maybe_unused]] const @name@_predictor* p) {
  return @outputs(p)@[kFound].shape[@outputs(p)@[kFound].rank - 2];
}
INLINE scored score_of([[maybe_unused]] const @name@_predictor* p, int64_t n) {
  const int64_t at = (n + 1) * row_length(p) - 6;
  const double index = found_of(p)[at];
  const bool named = index > -1 && index < 0x1p31 && static_cast<int32_t>(index) != kBackground;
  return {named ? static_cast<int32_t>(index) : -1, found_of(p)[at + 1]};
}
INLINE box box_of([[maybe_unused]] const @name@_predictor* p, int64_t n) {
  const int64_t at = (n + 1) * row_length(p) - 4;
  const auto found = found_of(p);
  return {found[at], found[at + 1], found[at + 2], found[at + 3]};
}

//@ section grid
// Channels: objectness, x, y, width, height, shares of the classes.
INLINE int64_t candidates([[maybe_unused]] const @name@_predictor* p) {
  return @outputs(p)@[kFound].shape[2] * @outputs(p)@[kFound].shape[3];
}
scored score_of([[maybe_unused]] const @name@_predictor* p, int64_t n) {
  const int64_t cells = candidates(p);
  const scored share =
      likeliest(found_of(p), 5 * cells + n, @outputs(p)@[kFound].shape[1] - 5, cells, -1);
  return {share.index, pow_(found_of(p)[n], 0.6) * pow_(share.score, 0.4)};
}
box box_of([[maybe_unused]] const @name@_predictor* p, int64_t n) {
  const auto found = found_of(p);
  const int64_t cells = candidates(p), rows = @outputs(p)@[kFound].shape[2],
                columns = @outputs(p)@[kFound].shape[3];
  const double x =
      (static_cast<double>(n % columns) + tanh_(found[cells + n])) / static_cast<double>(columns);
  const double y =
      (static_cast<double>(n / columns) + tanh_(found[2 * cells + n])) / static_cast<double>(rows);
  const double w = 0.5 / (1 + exp_(-found[3 * cells + n])),
               h = 0.5 / (1 + exp_(-found[4 * cells + n]));
  return {x - w, y - h, x + w, y + h};
}

//@ section detections_definition
@name@_status @name@_detections(const @name@_predictor* p, int32_t width, int32_t height,
                                double threshold, int32_t most, @name@_detection* found,
                                int32_t* count) {
  constexpr int32_t kLongest = 1 << 20;
  if (count != nullptr) *count = 0;
  if (p == nullptr || count == nullptr || most < 0 || (most != 0 && found == nullptr) ||
      threshold != threshold)
    return @NAME@_BAD_ARGUMENT;
  if (width < 1 || width > kLongest || height < 1 || height > kLongest) return @NAME@_BAD_ARGUMENT;
  for (int32_t i = 0; i < impl::kOutputCount; ++i) {
    if (p->outputs[i] == nullptr) return @NAME@_BAD_ARGUMENT;
  }
  const impl::picture_size& size = @picture(p)@;
//@ shapes
  if (size.height == 0) return @NAME@_BAD_ARGUMENT;
//@ end
  const int64_t shorter = width < height ? width : height;
  const auto in_picture = [&](double part, int64_t side, int64_t sides) {
    const int64_t scaled =
        size.resize == 0 ? side : (2 * sides * size.resize + shorter) / (2 * shorter);
    const double at = static_cast<double>((scaled - side) / 2) + part * static_cast<double>(side),
                 full = static_cast<double>(sides);
    return impl::cut(at * full / static_cast<double>(scaled), full);
  };
  constexpr int64_t kFew = 512;
  int32_t likely[kFew];  // the candidates, if they are few
  int64_t passing = 0;
  const int64_t all = impl::candidates(p);
  for (int64_t n = 0; n < all; ++n) {
    const impl::scored s = impl::score_of(p, n);
    if (s.index < 0 || !(s.score >= threshold)) continue;
    if (passing < kFew) likely[passing] = static_cast<int32_t>(n);
    ++passing;
  }
  const bool few = passing <= kFew;
  int32_t kept[impl::kMostDetections];  // in the order of scores, ties by number
  double score = __builtin_inf();
  int64_t last = -1;
  for (int32_t number = 0; number < impl::kMostDetections && *count < most; ++number) {
    impl::scored surest = {-1, 0};
    impl::box place = {};
    int64_t at = -1;
    for (int64_t k = 0; k < (few ? passing : all); ++k) {
      const int64_t n = few ? likely[k] : k;
      const impl::scored s = impl::score_of(p, n);
      const bool later = s.score < score || (s.score == score && n > last);
      if (s.index < 0 || !(s.score >= threshold) || !later ||
          (at >= 0 && !(s.score > surest.score)))
        continue;
      const impl::box b = impl::box_of(p, n);
      bool alone = true;
      for (int32_t j = 0; alone && j < number; ++j) {
        alone = impl::score_of(p, kept[j]).index != s.index ||
            impl::overlap(impl::box_of(p, kept[j]), b) <= impl::kIou;
      }
      if (alone) surest = s, place = b, at = n;
    }
    if (at < 0) break;
    kept[number] = static_cast<int32_t>(at), score = surest.score, last = at;
    const double x = in_picture(place.left, size.width, width),
                 right = in_picture(place.right, size.width, width);
    const double y = in_picture(place.top, size.height, height),
                 bottom = in_picture(place.bottom, size.height, height);
    if (!(right > x && bottom > y)) continue;
    @name@_detection& d = found[(*count)++];
    d.index = surest.index, d.score = static_cast<float>(surest.score);
    d.x = static_cast<float>(x), d.y = static_cast<float>(y);
    d.width = static_cast<float>(right - x), d.height = static_cast<float>(bottom - y);
    d.label = @label@;
  }
  return @NAME@_OK;
}
