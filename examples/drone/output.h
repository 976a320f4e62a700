// A file, pipe or standard output that is written to, in which no signal leaves a gap.
#pragma once

#include <cstddef>
#include <string>

class Output {
 public:
  // "-" is standard output. Throws Failure.
  explicit Output(const std::string& path);
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // All of it, at once. Throws Failure.
  void write(const void* data, size_t bytes);
  // Throws Failure if the system reports only now that something could not be written.
  void close();

 private:
  [[noreturn]] void fail() const;

  std::string path_;
  int file_;
};
