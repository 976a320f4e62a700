// From a detector's outputs to boxes in the picture, by the steps of src/dlpack/meaning/detect.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "box.h"

// The manifest's `preprocess`: the size of the model's input, and how a picture is brought to it.
struct Input {
  int width = 0, height = 0;
  int resize = 0;  // what the picture's shorter side becomes before the middle is cut out; 0: stretched to the size
};

// The manifest's `task`. web/README.md describes the formats.
struct Task {
  enum class Format { corners, anchors, rows, grid };
  struct Level {
    int stride;
    std::vector<std::pair<double, double>> sizes;  // widths and heights
  };

  Format format = Format::corners;
  double threshold = 0.5, iou = 0.45;
  int most = 100;
  int background = -1;                  // the class that means nothing is there; -1: none
  bool pixels = false;                  // corners: in pixels of the input, not in parts of its size
  bool clip = false;                    // anchors
  double variances[2] = {0.1, 0.2};     // anchors
  std::vector<Level> levels = {};       // anchors
  std::string boxes, scores, output;    // names of outputs; rows and grid have but `output`
};

// An output: as NAME.h describes it, and where it lies.
struct ModelOutput {
  std::string name, dtype;
  std::vector<int64_t> shape;
  float scale = 0;  // of quantised numbers; 0: they are real
  int32_t zero_point = 0;
  const void* data = nullptr;
};

// The detections in a picture of this size with a score of at least `threshold`, after non-maximum suppression, the
// surest first. Throws Failure where outputs are not what the task says.
std::vector<Detection> decode(const Task& task, const Input& input, const std::vector<ModelOutput>& outputs,
                              double threshold, int picture_width, int picture_height);
