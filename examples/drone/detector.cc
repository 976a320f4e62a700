#include "detector.h"

#include <fstream>

#include "bundle.h"
#include "failure.h"

namespace {

void check(int32_t status, const std::string& what) {
  if (status != 0) throw Failure(what + ": " + bundle::error_text(status));
}

// The content of a weights file, aligned as predictors need it; nothing where the code has the weights inside.
struct Weights {
  struct alignas(16) Block {
    char bytes[16];
  };
  std::vector<Block> blocks;
  size_t bytes = 0;

  const void* data() const { return bytes == 0 ? nullptr : blocks.data(); }
};

Weights read(const std::string& path) {
  Weights weights;
  if (path.empty()) return weights;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file.tellg();
  if (!file || size < 0) throw Failure(path + " cannot be opened");
  weights.bytes = static_cast<size_t>(size);
  weights.blocks.resize((weights.bytes + sizeof(Weights::Block) - 1) / sizeof(Weights::Block));
  if (!file.seekg(0).read(reinterpret_cast<char*>(weights.blocks.data()), size)) throw Failure(path + " cannot be read");
  return weights;
}

bundle::Predictor make(const DetectorOptions& options, const Weights& weights) {
  if (!options.device.empty()) return bundle::on(options.device.c_str(), weights.data(), weights.bytes);
  return options.weights.empty() ? bundle::Predictor() : bundle::Predictor(options.weights.c_str());
}

}  // namespace

struct Detector::Model {
  explicit Model(const DetectorOptions& options)
      : weights(options.device.empty() ? Weights() : read(options.weights)), predictor(make(options, weights)) {}

  Weights weights;  // where a device is asked for; otherwise the predictor maps the file
  bundle::Predictor predictor;
  bundle::Detection found[bundle::most_detections];
};

Detector::Detector(const DetectorOptions& options) : model_(new Model(options)), low_(options.low) {
  bundle::Predictor& predictor = model_->predictor;
  check(predictor.status(), options.weights.empty() ? "the model cannot run" : options.weights);
  if (options.device.rfind("cuda", 0) == 0 && device().rfind("cuda", 0) != 0) {
    throw Failure("--device " + options.device + " does not work: " + device());
  }
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

std::string Detector::device() const { return bundle::device(model_->predictor); }

std::string Detector::label(int index) {
  const char* const name = bundle::label(index);
  return name != nullptr ? name : std::to_string(index);
}

std::string Detector::weights_file() { return bundle::weights_file(); }

double Detector::threshold() { return bundle::threshold; }
