#include "decode.h"

#include <algorithm>
#include <cmath>

#include "failure.h"

namespace {

// An output's elements as real numbers, whatever their type.
class Numbers {
 public:
  Numbers(const std::vector<ModelOutput>& outputs, const std::string& name, size_t rank) {
    const auto is_named = [&](const ModelOutput& o) { return o.name == name; };
    const auto found = std::find_if(outputs.begin(), outputs.end(), is_named);
    if (found == outputs.end()) throw Failure("the model has no output " + name);
    output_ = &*found;
    // Of `rows` the leading dimensions do not matter: rank 0.
    if (output_->shape.empty() || (rank != 0 && output_->shape.size() != rank)) {
      throw Failure("output " + name + " is not of rank " + std::to_string(rank));
    }
    read_ = reader(output_->dtype);
    if (read_ == nullptr) throw Failure("output " + name + " is of type " + output_->dtype + ", which is not read");
  }

  double operator[](size_t k) const {
    const double x = read_(output_->data, k);
    return output_->scale == 0 ? x : (x - output_->zero_point) * static_cast<double>(output_->scale);
  }
  size_t side(size_t axis) const { return static_cast<size_t>(output_->shape[axis]); }
  size_t last() const { return static_cast<size_t>(output_->shape.back()); }
  size_t size() const {
    size_t n = 1;
    for (const int64_t s : output_->shape) n *= static_cast<size_t>(s);
    return n;
  }

 private:
  using Reader = double (*)(const void*, size_t);

  template <class T>
  static double element(const void* data, size_t k) {
    return static_cast<double>(static_cast<const T*>(data)[k]);
  }

  static Reader reader(const std::string& dtype) {
    if (dtype == "float32") return element<float>;
    if (dtype == "float64") return element<double>;
    if (dtype == "int8") return element<int8_t>;
    if (dtype == "uint8") return element<uint8_t>;
    if (dtype == "int16") return element<int16_t>;
    if (dtype == "uint16") return element<uint16_t>;
    if (dtype == "int32") return element<int32_t>;
    if (dtype == "int64") return element<int64_t>;
    return nullptr;
  }

  const ModelOutput* output_;
  Reader read_;
};

// The likeliest of `count` classes whose scores stand `apart` elements from each other, the background left out.
Detection likeliest(const Numbers& scores, size_t first, size_t count, size_t apart, int background) {
  Detection best;
  best.label = -1;
  for (size_t c = 0; c < count; ++c) {
    const double score = scores[first + c * apart];
    if (static_cast<int>(c) != background && (best.label < 0 || score > best.score)) {
      best.label = static_cast<int>(c), best.score = score;
    }
  }
  return best;
}

// Boxes are relative to the input's width and height until they are put into the picture.

std::vector<Detection> corners(const Task& task, const Input& input, const std::vector<ModelOutput>& outputs, double least) {
  const Numbers boxes(outputs, task.boxes, 3), scores(outputs, task.scores, 3);
  const double width = task.pixels ? input.width : 1, height = task.pixels ? input.height : 1;
  std::vector<Detection> found;
  for (size_t k = 0; k < std::min(boxes.side(1), scores.side(1)); ++k) {
    Detection d = likeliest(scores, k * scores.last(), scores.last(), 1, task.background);
    if (d.label < 0 || !(d.score >= least)) continue;
    const size_t at = k * boxes.last();
    d.box = {boxes[at] / width, boxes[at + 1] / height, boxes[at + 2] / width, boxes[at + 3] / height};
    found.push_back(d);
  }
  return found;
}

// The box of offsets to an anchor that stands at (x, y) and is `wide` and `high`, all relative.
Box from_anchor(const Task& task, const Numbers& offsets, size_t at, double x, double y, double wide, double high) {
  if (task.clip) {
    for (double* part : {&x, &y, &wide, &high}) *part = std::clamp(*part, 0.0, 1.0);
  }
  x += offsets[at] * task.variances[0] * wide;
  y += offsets[at + 1] * task.variances[0] * high;
  const double half_width = wide * std::exp(offsets[at + 2] * task.variances[1]) / 2;
  const double half_height = high * std::exp(offsets[at + 3] * task.variances[1]) / 2;
  return {x - half_width, y - half_height, x + half_width, y + half_height};
}

std::vector<Detection> anchors(const Task& task, const Input& input, const std::vector<ModelOutput>& outputs, double least) {
  const Numbers boxes(outputs, task.boxes, 3), scores(outputs, task.scores, 3);
  const size_t count = std::min(boxes.side(1), scores.side(1));
  const double width = input.width, height = input.height;
  std::vector<Detection> found;
  size_t k = 0;
  for (const Task::Level& level : task.levels) {
    const int rows = (input.height + level.stride - 1) / level.stride;
    const int columns = (input.width + level.stride - 1) / level.stride;
    for (int cell = 0; cell < rows * columns; ++cell) {
      const double x = (cell % columns + 0.5) * level.stride / width, y = (cell / columns + 0.5) * level.stride / height;
      for (const auto& [wide, high] : level.sizes) {
        if (k == count) throw Failure("the task has more anchors than the model has boxes");
        Detection d = likeliest(scores, k * scores.last(), scores.last(), 1, task.background);
        if (d.label >= 0 && d.score >= least) {
          d.box = from_anchor(task, boxes, k * boxes.last(), x, y, wide / width, high / height);
          found.push_back(d);
        }
        ++k;
      }
    }
  }
  return found;
}

std::vector<Detection> rows(const Task& task, const Input&, const std::vector<ModelOutput>& outputs, double least) {
  const Numbers output(outputs, task.output, 0);
  if (output.last() < 6) throw Failure("output " + task.output + " has rows of less than 6 numbers");
  std::vector<Detection> found;
  for (size_t end = output.last(); end <= output.size(); end += output.last()) {
    const size_t at = end - 6;
    const Detection d = {{output[at + 2], output[at + 3], output[at + 4], output[at + 5]},
                         static_cast<int>(output[at]),
                         output[at + 1]};
    if (d.label >= 0 && d.label != task.background && d.score >= least) found.push_back(d);
  }
  return found;
}

std::vector<Detection> grid(const Task& task, const Input&, const std::vector<ModelOutput>& outputs, double least) {
  const Numbers output(outputs, task.output, 4);
  const size_t classes = output.side(1), columns = output.side(3), cells = output.side(2) * columns;
  if (classes < 6) throw Failure("output " + task.output + " has less than 6 channels");
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  std::vector<Detection> found;
  for (size_t k = 0; k < cells; ++k) {
    Detection d = likeliest(output, 5 * cells + k, classes - 5, cells, -1);
    d.score = std::pow(output[k], 0.6) * std::pow(d.score, 0.4);
    if (!(d.score >= least)) continue;
    const double x = (static_cast<double>(k % columns) + std::tanh(output[cells + k])) / static_cast<double>(columns);
    const double y = (static_cast<double>(k / columns) + std::tanh(output[2 * cells + k])) /
                     static_cast<double>(output.side(2));
    const double half_width = sigmoid(output[3 * cells + k]) / 2, half_height = sigmoid(output[4 * cells + k]) / 2;
    d.box = {x - half_width, y - half_height, x + half_width, y + half_height};
    found.push_back(d);
  }
  return found;
}

// Keeps the surest, and each next one that does not cover a kept one of its class.
std::vector<Detection> suppressed(std::vector<Detection> found, double iou, int most) {
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  std::vector<Detection> kept;
  for (const Detection& d : found) {
    if (kept.size() == static_cast<size_t>(most)) break;
    const auto covers = [&](const Detection& k) { return k.label == d.label && overlap(k.box, d.box) > iou; };
    if (std::none_of(kept.begin(), kept.end(), covers)) kept.push_back(d);
  }
  return kept;
}

// Undoes the preprocessing of one coordinate and cuts it to the picture.
double in_picture(double part, int side, int size, int shorter, int resize) {
  const int64_t scaled = resize != 0 ? (2 * int64_t{size} * resize + shorter) / (2 * int64_t{shorter}) : side;
  const double at = static_cast<double>((scaled - side) / 2) + part * side;
  return std::clamp(at * size / static_cast<double>(scaled), 0.0, static_cast<double>(size));
}

}  // namespace

std::vector<Detection> decode(const Task& task, const Input& input, const std::vector<ModelOutput>& outputs,
                              double threshold, int picture_width, int picture_height) {
  std::vector<Detection> found;
  switch (task.format) {
    case Task::Format::corners: found = corners(task, input, outputs, threshold); break;
    case Task::Format::anchors: found = anchors(task, input, outputs, threshold); break;
    case Task::Format::rows: found = rows(task, input, outputs, threshold); break;
    case Task::Format::grid: found = grid(task, input, outputs, threshold); break;
  }
  const int shorter = std::min(picture_width, picture_height);
  std::vector<Detection> seen;
  for (Detection& d : suppressed(std::move(found), task.iou, task.most)) {
    d.box = {in_picture(d.box.left, input.width, picture_width, shorter, input.resize),
             in_picture(d.box.top, input.height, picture_height, shorter, input.resize),
             in_picture(d.box.right, input.width, picture_width, shorter, input.resize),
             in_picture(d.box.bottom, input.height, picture_height, shorter, input.resize)};
    if (d.box.width() > 0 && d.box.height() > 0) seen.push_back(d);
  }
  return seen;
}
