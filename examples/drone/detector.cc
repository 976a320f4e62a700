#include "detector.h"

#include "bundle.h"
#include "decode.h"
#include "failure.h"

struct Detector::Model {
  explicit Model(const std::string& weights)
      : predictor(weights.empty() ? bundle::Predictor() : bundle::Predictor(weights.c_str())) {}

  bundle::Predictor predictor;
  Task task = bundle::task();
  std::vector<ModelOutput> outputs;
};

namespace {

void check(int32_t status, const std::string& what) {
  if (status != 0) throw Failure(what + ": " + bundle::error_text(status));
}

}  // namespace

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
  check(predictor.preprocess_rgb(frame.rgb.data(), frame.width, frame.height, ptrdiff_t{3} * frame.width), "a frame");
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
