// What ends the program with exit code 2: a file, a camera or an option that is not as it should be.
#pragma once

#include <stdexcept>
#include <string>

struct Failure : std::runtime_error {
  explicit Failure(const std::string& text) : std::runtime_error(text) {}
};
