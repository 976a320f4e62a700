// Videos in Y4M (YUV4MPEG2): a line of text, then per frame a line of text and the planes Y, U, V as they are.
#pragma once

#include <cstdio>

#include "colour.h"
#include "frames.h"
#include "output.h"

class Y4mReader : public Source {
 public:
  // Takes the file over. Throws Failure where it is no Y4M, or of a kind that is not read: more than 8 bits, alpha.
  Y4mReader(std::FILE* file, const std::string& name);
  ~Y4mReader() override;
  Y4mReader(const Y4mReader&) = delete;
  Y4mReader& operator=(const Y4mReader&) = delete;

  // A file that ends within a frame ends before it, with a line on standard error.
  bool next(Frame& frame) override;
  Rate rate() const override { return rate_; }

 private:
  bool read_line(std::string& line);
  void read_header(const std::string& line);

  std::FILE* file_;
  std::string name_;
  Rate rate_;
  int width_ = 0, height_ = 0;
  Planes planes_;
  std::vector<uint8_t> data_;
  int64_t number_ = 0;
};

// Writes 4:2:0 in the limited range, which every player takes.
class Y4mWriter {
 public:
  // "-" is standard output. Throws Failure where the file cannot be written.
  Y4mWriter(const std::string& path, Rate rate) : file_(path), rate_(rate) {}

  // Frames of one size. Throws Failure.
  void write(const Frame& frame);
  void close() { file_.close(); }

 private:
  Output file_;
  Rate rate_;
  int width_ = 0, height_ = 0;
  std::vector<uint8_t> data_;  // a frame as it stands in the file
};
