#include "colour.h"

#include <algorithm>

namespace {

// Coefficients times 65536. R = (y - black) * luma + (v - 128) * red_v, and so on.
struct ToRgb {
  int black, luma, red_v, green_u, green_v, blue_u;
};
constexpr ToRgb kLimited = {16, 76309, 104597, -25675, -53279, 132201};
constexpr ToRgb kFull = {0, 65536, 91881, -22554, -46802, 116130};

inline uint8_t byte(int fixed) { return static_cast<uint8_t>(std::clamp((fixed + 32768) >> 16, 0, 255)); }

inline void put(const ToRgb& k, int y, int u, int v, uint8_t* rgb) {
  const int luma = (y - k.black) * k.luma;
  rgb[0] = byte(luma + (v - 128) * k.red_v);
  rgb[1] = byte(luma + (u - 128) * k.green_u + (v - 128) * k.green_v);
  rgb[2] = byte(luma + (u - 128) * k.blue_u);
}

}  // namespace

void planes_to_rgb(const Planes& planes, int width, int height, uint8_t* rgb) {
  const ToRgb& k = planes.range == Range::full ? kFull : kLimited;
  const int chroma_width = (width + planes.across - 1) / planes.across;
  for (int row = 0; row < height; ++row) {
    const uint8_t* const y = planes.y + ptrdiff_t{row} * width;
    const ptrdiff_t chroma_row = ptrdiff_t{row / planes.down} * chroma_width;
    for (int x = 0; x < width; ++x, rgb += 3) {
      const ptrdiff_t at = chroma_row + x / planes.across;
      put(k, y[x], planes.u == nullptr ? 128 : planes.u[at], planes.v == nullptr ? 128 : planes.v[at], rgb);
    }
  }
}

void yuyv_to_rgb(const uint8_t* yuyv, size_t stride, int width, int height, uint8_t* rgb) {
  for (int row = 0; row < height; ++row, yuyv += stride) {
    for (int x = 0; x + 1 < width; x += 2, rgb += 6) {
      const uint8_t* const two = yuyv + 2 * x;
      put(kLimited, two[0], two[1], two[3], rgb);
      put(kLimited, two[2], two[1], two[3], rgb + 3);
    }
  }
}

size_t bytes_of_420(int width, int height) {
  const size_t w = static_cast<size_t>(width), h = static_cast<size_t>(height);
  return w * h + 2 * ((w + 1) / 2) * ((h + 1) / 2);
}

void rgb_to_420(const uint8_t* rgb, int width, int height, uint8_t* planes) {
  for (ptrdiff_t k = 0; k < ptrdiff_t{width} * height; ++k) {
    const uint8_t* const p = rgb + 3 * k;
    planes[k] = byte(16829 * p[0] + 33039 * p[1] + 6416 * p[2] + (16 << 16));
  }
  const int chroma_width = (width + 1) / 2, chroma_height = (height + 1) / 2;
  uint8_t* u = planes + ptrdiff_t{width} * height;
  uint8_t* v = u + ptrdiff_t{chroma_width} * chroma_height;
  for (int row = 0; row < height; row += 2) {
    const ptrdiff_t below = row + 1 < height ? ptrdiff_t{3} * width : 0;
    for (int x = 0; x < width; x += 2) {
      const ptrdiff_t beside = x + 1 < width ? 3 : 0;
      const uint8_t* const p = rgb + 3 * (ptrdiff_t{row} * width + x);
      int sum[3];
      for (int c = 0; c < 3; ++c) sum[c] = p[c] + p[c + beside] + p[c + below] + p[c + below + beside];
      *u++ = byte((-9714 * sum[0] - 19070 * sum[1] + 28784 * sum[2]) / 4 + (128 << 16));
      *v++ = byte((28784 * sum[0] - 24103 * sum[1] - 4681 * sum[2]) / 4 + (128 << 16));
    }
  }
}
