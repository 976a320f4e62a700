#include "output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "failure.h"

Output::Output(const std::string& path)
    : path_(path == "-" ? "standard output" : path),
      file_(path == "-" ? dup(STDOUT_FILENO) : open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (file_ < 0) fail();
}

Output::~Output() {
  if (file_ >= 0) ::close(file_);
}

void Output::write(const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes != 0) {
    const ssize_t done = ::write(file_, from, bytes);
    if (done < 0 && errno != EINTR) fail();
    if (done > 0) from += done, bytes -= static_cast<size_t>(done);
  }
}

void Output::close() {
  const int file = file_;
  file_ = -1;
  if (::close(file) != 0 && errno != EINTR) fail();
}

void Output::fail() const { throw Failure(path_ + ": " + std::strerror(errno)); }
