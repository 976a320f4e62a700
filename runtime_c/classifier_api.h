// The classifier's part of the API: sections as in vectors.h, of which amalgamate/classifier.py
// puts the declarations into NAME.h and the class of C++, and the definitions into NAME.cc, each
// where the model has what it needs.

//@ section label_declaration
/* The name of a class, or null. */
@NAME@_API const char* @name@_label(int32_t index);
@NAME@_API int32_t @name@_label_count(void);

//@ section top_k_declaration
/* A class: its index in an output, its probability, and its name (or null). */
typedef struct @name@_class {
  int32_t index;
  float probability;
  const char* label;
} @name@_class;

/* Returns the `k` most probable classes of an output, best first, ties by index, NaN last.
   Quantised outputs are dequantised. Scores pass through softmax unless they are probabilities:
   the model computes them with Softmax or Sigmoid, or none is negative and their sum is within
   0.001 of 1 (plus half a quantisation step per element). If the output has fewer than `k`
   elements, the remaining entries have index -1. */
@NAME@_API @name@_status @name@_top_k(const @name@_predictor* predictor, int32_t output, int32_t k,
                                      @name@_class* classes);

//@ section preprocess_rgb_declaration
/* Fills input @input@ from a picture: `height` rows of `width` RGB pixels, a byte per
   channel. `stride` is the distance between rows in bytes (negative: bottom row first).
   Up to 1048576 pixels per side.
//@ shapes
   Only for sets of shapes with batch 1; otherwise returns @NAME@_BAD_ARGUMENT.
//@ end
   @how@@quantised@ */
@NAME@_API @name@_status @name@_preprocess_rgb(@name@_predictor* predictor, const uint8_t* rgb,
                                               int32_t width, int32_t height, ptrdiff_t stride);

//@ section top_k_method
@name@_status top_k(int32_t output, int32_t k, @name@_class* classes) const {
  return @name@_top_k(handle_, output, k, classes);
}

//@ section preprocess_rgb_method
@name@_status preprocess_rgb(const uint8_t* rgb, int32_t width, int32_t height, ptrdiff_t stride) {
  return @name@_preprocess_rgb(handle_, rgb, width, height, stride);
}

//@ section label_definition
int32_t @name@_label_count(void) { return impl::kLabelCount; }
const char* @name@_label(int32_t index) {
  return index >= 0 && index < impl::kLabelCount ? impl::kLabels[index] : nullptr;
}

//@ section top_k_definition
@name@_status @name@_top_k(const @name@_predictor* p, int32_t index, int32_t k,
                           @name@_class* classes) {
  if (p == nullptr || index < 0 || index >= impl::kOutputCount || p->outputs[index] == nullptr ||
      k < 1 || classes == nullptr)
    return @NAME@_BAD_ARGUMENT;
//@ cuda
  if (impl::device::bound(*p, impl::kInputCount + index))
    return @NAME@_BAD_ARGUMENT;  // the scores are not on the host
//@ end
  int32_t count = 0;
  switch (index) {
@cases@
    default: break;
  }
  for (int32_t j = 0; j < k; ++j) {
    if (j >= count) classes[j].index = -1, classes[j].probability = 0;
    classes[j].label = @label@;
  }
  return @NAME@_OK;
}

//@ section preprocess_rgb_definition
@name@_status @name@_preprocess_rgb(@name@_predictor* p, const uint8_t* rgb, int32_t width,
                                    int32_t height, ptrdiff_t stride) {
  constexpr int32_t kLongest = 1 << 20;
  if (p == nullptr || rgb == nullptr || !impl::kOwnTensors || width < 1 || width > kLongest ||
      height < 1 || height > kLongest)
    return @NAME@_BAD_ARGUMENT;
  if ((stride < 0 ? -stride : stride) < 3 * ptrdiff_t{width}) return @NAME@_BAD_ARGUMENT;
  const impl::picture_size& size = @picture(p)@;
//@ shapes
  if (size.height == 0) return @NAME@_BAD_ARGUMENT;
//@ end
  const int64_t shorter = width < height ? width : height;
  const auto resized = [](int64_t side, int64_t shortest, int64_t to) {
    return (2 * side * to + shortest) / (2 * shortest);
  };
  const int64_t new_width = size.resize == 0 ? size.width : resized(width, shorter, size.resize);
  const int64_t new_height = size.resize == 0 ? size.height : resized(height, shorter, size.resize);
  const int64_t left = (new_width - size.width) / 2, top = (new_height - size.height) / 2;
  impl::picture_value* const to =
      reinterpret_cast<impl::picture_value*>(impl::own_input(*p, impl::kPictureInput));
  const auto place_of = [&](int64_t y, int64_t x, int c) {
    return impl::kPictureInterleaved ? (y * size.width + x) * impl::kPictureChannels + c
                                     : (c * size.height + y) * size.width + x;
  };
  p->inputs[impl::kPictureInput] = to;
  constexpr int kChannels = impl::kPictureChannels;
  impl::picture_value table[kChannels][256];
  for (int c = 0; c < kChannels; ++c) {
    for (int byte = 0; byte < 256; ++byte) table[c][byte] = impl::picture_element(byte, c);
  }
  if (new_width == width && new_height == height) {  // nothing is resized
    for (int64_t y = 0; y < size.height; ++y) {
      const uint8_t* pixel =
          rgb + static_cast<ptrdiff_t>(top + y) * stride + static_cast<ptrdiff_t>(3 * left);
      for (int64_t x = 0; x < size.width; ++x, pixel += 3) {
        if constexpr (kChannels == 1) to[place_of(y, x, 0)] = table[0][impl::grey_of(pixel)];
        else
          for (int c = 0; c < 3; ++c)
            to[place_of(y, x, c)] = table[c][pixel[impl::kPictureBgr ? 2 - c : c]];
      }
    }
    return @NAME@_OK;
  }
  // Strips of columns, in each the rows from the top. What a source row is across is kept, as the
  // next rows of the result need it too; of their window that is more than kRows it is made anew.
  constexpr int kStrip = 32, kLanes = kStrip * kChannels, kRows = 8;
  for (int64_t first = 0; first < size.width; first += kStrip) {
    const int count = first + kStrip < size.width ? kStrip : static_cast<int>(size.width - first);
    impl::taps columns[kStrip];
    impl::tap_sum totals[kLanes];
    double parts[kLanes];
    for (int k = 0; k < kLanes; ++k) totals[k] = 1, parts[k] = 0.5;
    for (int x = 0; x < count; ++x) {
      columns[x] = impl::taps_of(left + first + x, width, new_width);
      for (int k = x * kChannels; k < (x + 1) * kChannels; ++k)
        totals[k] = static_cast<impl::tap_sum>(columns[x].total), parts[k] = columns[x].per_part;
    }
    uint8_t across[kRows][kLanes];
    int64_t held[kRows];
    for (int64_t& row : held) row = -1;
    for (int64_t y = 0; y < size.height; ++y) {
      const impl::taps rows = impl::taps_of(top + y, height, new_height);
      impl::tap_sum down[kLanes] = {};
      for (int64_t j = rows.low, place = rows.offset; j < rows.high; ++j, place += rows.step) {
        uint8_t* const row = across[j % kRows];
        if (held[j % kRows] != j) {
          held[j % kRows] = j;
          impl::tap_sum sums[kLanes] = {};
          for (int x = 0; x < count; ++x) {
            const impl::taps& t = columns[x];
            const uint8_t* pixel =
                rgb + static_cast<ptrdiff_t>(j) * stride + static_cast<ptrdiff_t>(3 * t.low);
            int64_t sum[3] = {};
            for (int64_t i = t.low, at = t.offset; i < t.high; ++i, at += t.step, pixel += 3) {
              const int64_t weight = impl::tap(t, at);
              if constexpr (kChannels == 1) {
                sum[0] += weight * impl::grey_of(pixel);
              } else {
                sum[0] += weight * pixel[0], sum[1] += weight * pixel[1],
                    sum[2] += weight * pixel[2];
              }
            }
            for (int c = 0; c < kChannels; ++c)
              sums[x * kChannels + c] = static_cast<impl::tap_sum>(sum[c]);
          }
          for (int k = 0; k < kLanes; ++k)
            row[k] = static_cast<uint8_t>(impl::mean_of(totals[k], parts[k], sums[k]));
        }
        const impl::tap_sum weight = static_cast<impl::tap_sum>(impl::tap(rows, place));
        for (int k = 0; k < kLanes; ++k) down[k] += weight * row[k];
      }
      uint8_t bytes[kLanes];
      for (int k = 0; k < kLanes; ++k) {
        const impl::tap_sum total = static_cast<impl::tap_sum>(rows.total);
        bytes[k] = static_cast<uint8_t>(impl::mean_of(total, rows.per_part, down[k]));
      }
      for (int x = 0; x < count; ++x) {
        const uint8_t* const pixel = bytes + x * kChannels;
        for (int c = 0; c < kChannels; ++c)
          to[place_of(y, first + x, c)] = table[c][pixel[impl::kPictureBgr ? 2 - c : c]];
      }
    }
  }
  return @NAME@_OK;
}
