// Between RGB and YUV (BT.601), which cameras and videos speak.
#pragma once

#include <cstddef>
#include <cstdint>

// Limited: Y in 16..235, U and V in 16..240. Full: all three in 0..255.
enum class Range { limited, full };

// A picture's planes; a row has no gap. U and V have an element for `across` x `down` pixels; without them it is grey.
struct Planes {
  const uint8_t* y = nullptr;
  const uint8_t* u = nullptr;
  const uint8_t* v = nullptr;
  int across = 1, down = 1;
  Range range = Range::limited;
};

void planes_to_rgb(const Planes& planes, int width, int height, uint8_t* rgb);

// Y, U, Y, V for every two pixels, limited range; `stride` bytes from a row to the next. The width is even.
void yuyv_to_rgb(const uint8_t* yuyv, size_t stride, int width, int height, uint8_t* rgb);

// Planes Y, U, V one after the other, limited range; U and V for 2 x 2 pixels, the mean of which they are.
size_t bytes_of_420(int width, int height);
void rgb_to_420(const uint8_t* rgb, int width, int height, uint8_t* planes);
