// Sound: from samples to a log-mel spectrogram, as dlpack/meaning/sound.py defines it. Sections as in
// vectors.h; amalgamate/sound.py puts the declaration into NAME.h and the definition, behind its
// tables, into NAME.cc.

//@ section sound_declaration
#define @NAME@_SOUND_RATE @rate@ /* samples per second */
#define @NAME@_SOUND_SAMPLES @samples@ /* of the input: @seconds@ seconds */

/* Fills input @input@ from samples of one channel in -1..1: their log-mel spectrogram,
   @mels@ mels x @frames@ frames. Where there are fewer than @NAME@_SOUND_SAMPLES, silence follows.
//@ speech
   A new text begins, as with hear().
//@ end
   @NAME@_BAD_ARGUMENT: no samples or more than these, another rate, numbers that are not finite. */
@NAME@_API @name@_status @name@_preprocess_sound(@name@_predictor* predictor, const float* samples,
                                                 size_t count, int32_t rate);

//@ section sound_method
@name@_status preprocess_sound(const float* samples, size_t count, int32_t rate) {
  return @name@_preprocess_sound(handle_, samples, count, rate);
}

//@ section sound_definition
namespace impl { namespace {

// The sample at a place, which lies before the first one or behind the last one in the mirror.
INLINE double sample_at(const float* samples, size_t count, int64_t at) {
  if (at < 0) at = -at;
  if (at >= @NAME@_SOUND_SAMPLES) at = 2 * (@NAME@_SOUND_SAMPLES - 1) - at;
  return static_cast<size_t>(at) < count ? static_cast<double>(samples[at]) : 0;
}

// cos and -sin of 2 pi j / kSoundWindow.
INLINE double cos_of(int32_t j) { return kSoundCos[j]; }
INLINE double minus_sin_of(int32_t j) { return kSoundCos[j + kSoundWindow / 4]; }

// The powers of a frame's frequencies. The transform is one of kSoundRows x kSoundColumns: first
// along the columns, whose numbers are real, so half of the results are conjugates of the others.
void powers_of(const double* frame, double* power) {
  constexpr int32_t n = kSoundWindow, rows = kSoundRows, columns = kSoundColumns;
  constexpr int32_t half = rows / 2 + 1;
  double re[half * columns], im[half * columns];
  for (int32_t c = 0; c < half; ++c) {
    for (int32_t b = 0; b < columns; ++b) {
      double x = 0, y = 0;
      for (int32_t a = 0, j = 0; a < rows; ++a) {
        x += frame[a * columns + b] * cos_of(j);
        y += frame[a * columns + b] * minus_sin_of(j);
        j += columns * c;
        if (j >= n) j -= n;
      }
      re[c * columns + b] = x, im[c * columns + b] = y;
    }
  }
  for (int32_t k = 0; k <= n / 2; ++k) {
    const int32_t row = k % rows, place = (row < half ? row : rows - row) * columns;
    const double sign = row < half ? 1 : -1;
    double x = 0, y = 0;
    for (int32_t b = 0, j = 0; b < columns; ++b) {
      const double u = re[place + b], v = sign * im[place + b];
      x += u * cos_of(j) - v * minus_sin_of(j);
      y += u * minus_sin_of(j) + v * cos_of(j);
      j += k;
      if (j >= n) j -= n;
    }
    power[k] = x * x + y * y;
  }
}

// Writes the spectrogram of up to @NAME@_SOUND_SAMPLES samples.
void spectrogram(const float* samples, size_t count, float* to) {
  double frame[kSoundWindow], power[kSoundWindow / 2 + 1];
  constexpr double floor_ = kSoundFloor;
  [[maybe_unused]] double most = -1e300;
  for (int32_t t = 0; t < kSoundFrames; ++t) {
    const int64_t begin = int64_t{t} * kSoundHop - kSoundWindow / 2;
    for (int32_t j = 0; j < kSoundWindow; ++j)
      frame[j] = sample_at(samples, count, begin + j) * (0.5 - 0.5 * cos_of(j));
    powers_of(frame, power);
    const float* weight = kSoundWeights;
    for (int32_t m = 0; m < kSoundMels; ++m) {
      double mel = 0;
      for (int32_t k = kSoundBins[m].begin; k < kSoundBins[m].end; ++k)
        mel += power[k] * static_cast<double>(*weight++);
      const double value = log_(mel > floor_ ? mel : floor_) * kSoundLog;
      if (value > most) most = value;
      to[t * kSoundFrameStep + m * kSoundMelStep] = static_cast<float>(value);
    }
  }
//@ sound_scaled
  for (int32_t k = 0; k < kSoundMels * kSoundFrames; ++k) {
    const double value = static_cast<double>(to[k]), least = most - 8;
    to[k] = static_cast<float>(((value > least ? value : least) + 4) / 4);
  }
//@ end
}

// Whether samples are such: at least one, all finite, and of the model's rate.
bool is_sound(const float* samples, size_t count, int32_t rate) {
  if (samples == nullptr || count == 0 || rate != @NAME@_SOUND_RATE) return false;
  for (size_t k = 0; k < count; ++k) {
    if (samples[k] - samples[k] != 0) return false;
  }
  return true;
}

}}  // namespace impl

@name@_status @name@_preprocess_sound(@name@_predictor* p, const float* samples, size_t count,
                                      int32_t rate) {
  if (p == nullptr || !impl::kOwnTensors || count > @NAME@_SOUND_SAMPLES ||
      !impl::is_sound(samples, count, rate))
    return @NAME@_BAD_ARGUMENT;
//@ speech
  const @name@_status begun = impl::begin_hearing(*p);
  if (begun != @NAME@_OK) return begun;
//@ end
  float* const to = reinterpret_cast<float*>(impl::own_input(*p, impl::kSoundInput));
  p->inputs[impl::kSoundInput] = to;
  impl::spectrogram(samples, count, to);
  return @NAME@_OK;
}
