#include "detector.h"

#include "bundle.h"
#include "failure.h"

namespace {

void check(int32_t status, const std::string& what) {
  if (status != 0) throw Failure(what + ": " + bundle::error_text(status));
}

}  // namespace

struct Detector::Model {
  explicit Model(const std::string& weights)
      : predictor(weights.empty() ? bundle::Predictor() : bundle::Predictor(weights.c_str())) {}

  bundle::Predictor predictor;
  bundle::Detection found[bundle::most_detections];
};

Detector::Detector(const DetectorOptions& options) : model_(new Model(options.weights)), low_(options.low) {
  bundle::Predictor& predictor = model_->predictor;
  check(predictor.status(), options.weights.empty() ? "the model cannot run" : options.weights);
  check(bundle::set_threads(predictor.get(), options.threads), "--threads");
  if (bundle::threads(predictor.get()) < options.threads) {
    throw Failure("the model has at most " + std::to_string(bundle::threads(predictor.get())) +
                  " threads; dlpack build --threads makes one for more, if it is large enough to gain by them");
  }
}

Detector::~Detector() = default;

std::vector<Detection> Detector::find(const Frame& frame) {
  bundle::Predictor& predictor = model_->predictor;
  check(predictor.preprocess_rgb(frame.rgb.data(), frame.width, frame.height, ptrdiff_t{3} * frame.width), "a frame");
  check(predictor.run(), "the model");
  int32_t count = 0;
  check(predictor.detections(frame.width, frame.height, low_, bundle::most_detections, model_->found, &count), "boxes");
  std::vector<Detection> detections;
  for (const bundle::Detection* d = model_->found; d < model_->found + count; ++d) {
    detections.push_back({{d->x, d->y, d->x + d->width, d->y + d->height}, d->index, d->score});
  }
  return detections;
}

std::string Detector::label(int index) {
  const char* const name = bundle::label(index);
  return name != nullptr ? name : std::to_string(index);
}

std::string Detector::weights_file() { return bundle::weights_file(); }

double Detector::threshold() { return bundle::threshold; }
