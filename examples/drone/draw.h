// Draws tracks into a frame: a rectangle in the id's colour, and over it a line of text.
#pragma once

#include <cstdint>
#include <string>

#include "box.h"
#include "frames.h"

struct Colour {
  uint8_t red, green, blue;
};

// Bright, and far from the colours of the ids beside it.
Colour colour_of(int64_t id);

void draw_box(Frame& frame, const Box& box, Colour colour);

// Letters without case, digits and - . % (others are left blank), on a ground of the colour, above the box or, where
// the frame ends, in it.
void draw_text(Frame& frame, const Box& box, const std::string& text, Colour colour);
