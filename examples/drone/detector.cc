#include "detector.h"

#include <cstring>

#include "bundle.h"
#include "decode.h"
#include "failure.h"

namespace {

void check(int32_t status, const std::string& what) {
  if (status != 0) throw Failure(what + ": " + bundle::error_text(status));
}

// The input of a frame that has its size already, as cameras send it: a table of 256 numbers for each colour gives the
// same as the bundle's preprocessing of any size, in a fraction of its time.
class InputPlanes {
 public:
  InputPlanes() {
    for (int c = 0; c < 3; ++c) {
      for (int byte = 0; byte < 256; ++byte) {
        const double value = (byte * pixels_.scale - pixels_.mean[c]) / pixels_.deviation[c];
        tables_[c][byte] = static_cast<float>(value);
      }
    }
    while (std::strcmp(bundle::input(number_)->name, bundle::input_name()) != 0) ++number_;
  }

  bool fit(const Frame& frame) const {
    return pixels_.plain && frame.width == bundle::input().width && frame.height == bundle::input().height;
  }

  void set(bundle::Predictor& predictor, const Frame& frame) {
    const size_t plane = frame.rgb.size() / 3;
    values_.resize(3 * plane);
    float* const reds = values_.data() + (pixels_.bgr ? 2 * plane : 0);
    float* const greens = values_.data() + plane;
    float* const blues = values_.data() + (pixels_.bgr ? 0 : 2 * plane);
    const auto& red = tables_[pixels_.bgr ? 2 : 0];
    const auto& blue = tables_[pixels_.bgr ? 0 : 2];
    const uint8_t* rgb = frame.rgb.data();
    for (size_t k = 0; k < plane; ++k, rgb += 3) {
      reds[k] = red[rgb[0]], greens[k] = tables_[1][rgb[1]], blues[k] = blue[rgb[2]];
    }
    check(predictor.bind_input(number_, values_.data(), values_.size() * sizeof(float)), "a frame");
  }

 private:
  const bundle::Pixels pixels_ = bundle::pixels();
  int32_t number_ = 0;
  float tables_[3][256];  // in the order of the input's channels
  std::vector<float> values_;
};

}  // namespace

struct Detector::Model {
  explicit Model(const std::string& weights)
      : predictor(weights.empty() ? bundle::Predictor() : bundle::Predictor(weights.c_str())) {}

  bundle::Predictor predictor;
  Task task = bundle::task();
  std::vector<ModelOutput> outputs;
  InputPlanes planes;
};

Detector::Detector(const DetectorOptions& options) : model_(new Model(options.weights)), low_(options.low) {
  bundle::Predictor& predictor = model_->predictor;
  check(predictor.status(), options.weights.empty() ? "the model cannot run" : options.weights);
  check(bundle::set_threads(predictor.get(), options.threads), "--threads");
  if (bundle::threads(predictor.get()) < options.threads) {
    throw Failure("the model has at most " + std::to_string(bundle::threads(predictor.get())) +
                  " threads; dlpack build --threads makes one for more, if it is large enough to gain by them");
  }
  for (int32_t k = 0; k < bundle::output_count(); ++k) {
    const auto* told = bundle::output(k);
    const std::vector<int64_t> shape(told->shape, told->shape + told->rank);
    model_->outputs.push_back({told->name, told->dtype, shape, told->scale, told->zero_point, nullptr});
  }
}

Detector::~Detector() = default;

std::vector<Detection> Detector::find(const Frame& frame) {
  bundle::Predictor& predictor = model_->predictor;
  if (model_->planes.fit(frame)) {
    model_->planes.set(predictor, frame);
  } else {
    check(predictor.preprocess_rgb(frame.rgb.data(), frame.width, frame.height, ptrdiff_t{3} * frame.width), "a frame");
  }
  check(predictor.run(), "the model");
  int32_t number = 0;
  for (ModelOutput& output : model_->outputs) output.data = predictor.output<void>(number++);
  return decode(model_->task, bundle::input(), model_->outputs, low_, frame.width, frame.height);
}

std::string Detector::label(int index) {
  const char* const name = bundle::label(index);
  return name != nullptr ? name : std::to_string(index);
}

std::string Detector::weights_file() { return bundle::weights_file(); }

double Detector::threshold() { return bundle::task().threshold; }
