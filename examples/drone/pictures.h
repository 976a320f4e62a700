// Picture files: PPM and PGM; JPEG and PNG where the program was built with libjpeg and libpng.
#pragma once

#include <string>

#include "frames.h"

// Whether the file begins as a picture of one of these kinds.
bool is_picture(const std::string& path);

// Throws Failure where it cannot be read.
void read_picture(const std::string& path, Frame& frame);

// Whether the program can read JPEG, and a JPEG from memory. False where it is damaged.
bool has_jpeg();
bool read_jpeg(const uint8_t* data, size_t bytes, Frame& frame);
