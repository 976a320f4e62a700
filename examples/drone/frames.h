// Frames, and where they come from: a video in Y4M, a folder of pictures, a camera.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// Rows of the bytes R, G, B, without gaps.
struct Frame {
  int width = 0, height = 0;
  int64_t number = 0;  // from 0 on; a camera leaves out those that it was not asked for in time
  std::vector<uint8_t> rgb;

  void resize(int w, int h) { width = w, height = h, rgb.resize(size_t{3} * static_cast<size_t>(w) * static_cast<size_t>(h)); }
};

// Frames per second, as a fraction.
struct Rate {
  int count = 30, seconds = 1;
};

class Source {
 public:
  virtual ~Source() = default;
  // The next frame; false at the end, or where a signal came. Throws Failure.
  virtual bool next(Frame& frame) = 0;
  virtual Rate rate() const { return {}; }
};

struct CameraOptions {
  int width = 640, height = 480;
  int rate = 30;
};

// `path` is a Y4M file ("-": standard input), a folder with pictures, a picture, or a camera's device. Throws Failure.
std::unique_ptr<Source> open_source(const std::string& path, const CameraOptions& camera);
