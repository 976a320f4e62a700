#include "draw.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>

namespace {

constexpr int kGlyphWidth = 3, kGlyphHeight = 5;
constexpr char kCharacters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-.%";

// A glyph's rows from the top, each an octal digit: 4 is the left dot, 1 the right one.
constexpr const char* kGlyphs[] = {
    "75557", "26227", "71747", "71717", "55711", "74717", "74757", "71122", "75757", "75717",  // 0 to 9
    "25755", "65656", "34443", "65556", "74647", "74644", "34553", "55755", "72227", "11152",  // A to J
    "55655", "44447", "57755", "65555", "25552", "65644", "25563", "65655", "34216", "72222",  // K to T
    "55557", "55552", "55775", "55255", "55222", "71247", "00700", "00002", "51245",           // U to Z, - . %
};
static_assert(sizeof(kGlyphs) / sizeof(kGlyphs[0]) == sizeof(kCharacters) - 1, "a glyph for each character");

int line_width(const Frame& frame) { return std::max(2, frame.height / 240); }

void fill(Frame& frame, int left, int top, int right, int bottom, Colour colour) {
  for (int y = std::max(top, 0); y < std::min(bottom, frame.height); ++y) {
    uint8_t* const row = frame.rgb.data() + ptrdiff_t{3} * y * frame.width;
    for (int x = std::max(left, 0); x < std::min(right, frame.width); ++x) {
      row[3 * x] = colour.red, row[3 * x + 1] = colour.green, row[3 * x + 2] = colour.blue;
    }
  }
}

// A coordinate as a pixel of the frame or one just beyond its edge.
int pixel(double at, int side) { return static_cast<int>(std::lround(std::clamp(at, -1.0, side + 1.0))); }

}  // namespace

Colour colour_of(int64_t id) {
  const double turn = std::fmod(static_cast<double>(id) * 0.618033988749895, 1.0) * 6;  // golden section of the circle
  const auto part = [&](double shift) {
    const double distance = std::fabs(std::fmod(turn + shift, 6.0) - 3);
    return static_cast<uint8_t>(std::lround(255 * std::clamp(distance - 1, 0.0, 1.0)));
  };
  return {part(0), part(4), part(2)};
}

void draw_box(Frame& frame, const Box& box, Colour colour) {
  const int t = line_width(frame);
  const int left = pixel(box.left, frame.width), right = pixel(box.right, frame.width);
  const int top = pixel(box.top, frame.height), bottom = pixel(box.bottom, frame.height);
  fill(frame, left, top, right, top + t, colour);
  fill(frame, left, bottom - t, right, bottom, colour);
  fill(frame, left, top, left + t, bottom, colour);
  fill(frame, right - t, top, right, bottom, colour);
}

void draw_text(Frame& frame, const Box& box, const std::string& text, Colour colour) {
  const int dot = line_width(frame), advance = (kGlyphWidth + 1) * dot;
  const int width = static_cast<int>(text.size()) * advance + dot, height = (kGlyphHeight + 2) * dot;
  const int left = std::max(0, std::min(pixel(box.left, frame.width), frame.width - width));
  const int over = pixel(box.top, frame.height) - height;
  const int top = over >= 0 ? over : std::max(0, pixel(box.top, frame.height));
  fill(frame, left, top, left + width, top + height, colour);
  const bool bright = 299 * colour.red + 587 * colour.green + 114 * colour.blue > 128 * 1000;
  const Colour ink = bright ? Colour{0, 0, 0} : Colour{255, 255, 255};
  int x = left + dot;
  for (const char c : text) {
    const char* const found = std::strchr(kCharacters, std::toupper(static_cast<unsigned char>(c)));
    for (int row = 0; row < kGlyphHeight && found != nullptr && *found != '\0'; ++row) {
      const int dots = kGlyphs[found - kCharacters][row] - '0', y = top + (row + 1) * dot;
      for (int k = 0; k < kGlyphWidth; ++k) {
        if ((dots >> (kGlyphWidth - 1 - k) & 1) != 0) fill(frame, x + k * dot, y, x + (k + 1) * dot, y + dot, ink);
      }
    }
    x += advance;
  }
}
