// The model: a picture in, detections out. The one file pair that knows the bundle, by bundle.h, which CMake makes of its
// manifest; what another device needs to run the model belongs here.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "box.h"
#include "frames.h"

struct DetectorOptions {
  std::string weights;  // the weights file of a bundle that has one
  std::string device;   // "cuda", "cuda:1": that GPU, and no other; "cpu"; empty: a GPU that works, else the processor
  int threads = 1;
  double low = 0.1;  // least score of a detection
};

class Detector {
 public:
  // Throws Failure where the predictor cannot be made: not enough memory, a CPU that lacks instructions, no
  // weights, a GPU that is asked for and does not work.
  explicit Detector(const DetectorOptions& options);
  ~Detector();

  // The detections of a frame, the surest first. The frame is brought to the size of the model's input as the bundle's
  // preprocessing says, and boxes come back in the frame's pixels.
  std::vector<Detection> find(const Frame& frame);

  // What computes, in words: "cuda: NVIDIA Tegra X1 (sm_53)".
  std::string device() const;

  // The name of a class; its number where it has none.
  static std::string label(int index);
  // The name of the weights file beside the bundle's code; empty where the code has them inside.
  static std::string weights_file();
  // The score from which on a detection counts, as the bundle says.
  static double threshold();

 private:
  struct Model;
  std::unique_ptr<Model> model_;
  double low_;
};
