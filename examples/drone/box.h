// Boxes, and what a detector says of one.
#pragma once

#include <algorithm>

// Corners in pixels of the picture.
struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;

  double width() const { return right - left; }
  double height() const { return bottom - top; }
};

struct Detection {
  Box box;
  int label = 0;     // the class's number
  double score = 0;  // 0..1
};

// Intersection over union, 0 where the boxes do not meet.
inline double overlap(const Box& a, const Box& b) {
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  if (!(width > 0 && height > 0)) return 0;
  const double common = width * height;
  return common / (a.width() * a.height() + b.width() * b.height() - common);
}
