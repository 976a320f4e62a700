// What frames, colours and pictures promise. Run in an empty folder, into which it writes.

#include "../frames.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "../colour.h"
#include "../draw.h"
#include "../failure.h"
#include "../pictures.h"
#include "../video.h"
#include "test.h"

namespace {

using Bytes = std::vector<uint8_t>;

void save(const char* path, const std::string& text) {
  std::FILE* const file = std::fopen(path, "wb");
  std::fwrite(text.data(), 1, text.size(), file);
  std::fclose(file);
}

std::string text_of(const Bytes& bytes) { return std::string(bytes.begin(), bytes.end()); }

// The frames of a file, and the text of its Failure, if any.
std::vector<Frame> frames_of(const char* path, std::string* failure = nullptr) {
  std::vector<Frame> frames;
  try {
    const auto source = open_source(path, {});
    for (Frame frame; source->next(frame);) frames.push_back(frame);
  } catch (const Failure& e) {
    if (failure != nullptr) *failure = e.what();
  }
  return frames;
}

bool near(const Bytes& a, const Bytes& b, int most) {
  if (a.size() != b.size()) return false;
  for (size_t k = 0; k < a.size(); ++k) {
    if (std::abs(a[k] - b[k]) > most) return false;
  }
  return true;
}

// A smooth picture, in which chroma at half the resolution loses little.
Frame gradient(int width, int height) {
  Frame frame;
  frame.resize(width, height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      uint8_t* const p = frame.rgb.data() + 3 * (y * width + x);
      p[0] = static_cast<uint8_t>(x * 255 / width);
      p[1] = static_cast<uint8_t>(y * 255 / height);
      p[2] = static_cast<uint8_t>(255 - x * 128 / width);
    }
  }
  return frame;
}

}  // namespace

TEST(yuyv_is_bt601_in_the_limited_range) {
  // Two pixels of each: black, white, the primaries as BT.601 has them in 8 bits, and a grey beside a brighter one.
  const Bytes yuyv = {16, 128, 16, 128, 235, 128, 235, 128, 81, 90, 81, 240, 145, 54, 145, 34, 41, 240, 41, 110,
                      126, 128, 180, 128};
  const Bytes want = {0,   0, 0, 0,   0, 0, 255, 255, 255, 255, 255, 255, 255, 0, 0, 255, 0, 0,
                      0, 255, 0, 0, 255, 0, 0,   0,   255, 0,   0,   255, 128, 128, 128, 191, 191, 191};
  Bytes rgb(want.size());
  yuyv_to_rgb(yuyv.data(), yuyv.size(), 12, 1, rgb.data());
  CHECK(near(rgb, want, 2));
}

TEST(yuyv_rows_may_lie_apart) {
  const Bytes yuyv = {16, 128, 235, 128, 99, 99, 235, 128, 16, 128, 99, 99};
  Bytes rgb(12);
  yuyv_to_rgb(yuyv.data(), 6, 2, 2, rgb.data());
  CHECK((rgb == Bytes{0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0}));
}

TEST(the_two_pixels_of_yuyv_share_their_colour) {
  const Bytes yuyv = {100, 90, 150, 200};
  Bytes rgb(6);
  yuyv_to_rgb(yuyv.data(), 4, 2, 1, rgb.data());
  for (int k = 0; k < 2; ++k) {
    const double y = 255.0 / 219 * (yuyv[2 * k] - 16.0), u = 255.0 / 224 * (90 - 128), v = 255.0 / 224 * (200 - 128);
    CHECK(std::fabs(rgb[3 * k] - std::fmin(y + 1.402 * v, 255)) <= 1);
    CHECK(std::fabs(rgb[3 * k + 1] - (y - 0.344136 * u - 0.714136 * v)) <= 1);
    CHECK(std::fabs(rgb[3 * k + 2] - (y + 1.772 * u)) <= 1);
  }
}

TEST(what_is_written_can_be_read_again) {
  for (const auto& [width, height] : {std::pair{64, 48}, {63, 47}, {1, 1}, {2, 5}}) {
    Y4mWriter writer("video.y4m", {25, 2});
    for (int k = 0; k < 3; ++k) writer.write(gradient(width, height));
    writer.close();
    const std::vector<Frame> frames = frames_of("video.y4m");
    CHECK(frames.size() == 3);
    for (const Frame& frame : frames) {
      CHECK(frame.width == width && frame.height == height);
      CHECK(frame.number == &frame - frames.data());
      CHECK(width < 32 || near(frame.rgb, gradient(width, height).rgb, 6));
    }
    const Rate rate = open_source("video.y4m", {})->rate();
    CHECK(rate.count == 25 && rate.seconds == 2);
  }
}

TEST(y4m_has_its_kinds_of_chroma) {
  // 2 x 2 pixels; the primary red in the limited range, once for each pixel, pair or square.
  const struct {
    const char* kind;
    size_t chroma;
  } kinds[] = {{"", 1}, {" C420jpeg", 1}, {" C420mpeg2", 1}, {" C420paldv", 1}, {" C422", 2}, {" C444", 4}};
  for (const auto& [kind, chroma] : kinds) {
    save("video.y4m", std::string("YUV4MPEG2 W2 H2 F30:1") + kind + "\nFRAME Ip\n" + std::string(4, 81) +
                          std::string(chroma, 90) + std::string(chroma, '\xf0'));
    const std::vector<Frame> frames = frames_of("video.y4m");
    CHECK(frames.size() == 1);
    CHECK(!frames.empty() && near(frames[0].rgb, {255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0}, 2));
  }
  save("video.y4m", "YUV4MPEG2 H1 W2 Cmono XCOLORRANGE=FULL\nFRAME\nd\xc8");
  CHECK(frames_of("video.y4m").at(0).rgb == (Bytes{100, 100, 100, 200, 200, 200}));
}

TEST(wrong_videos_are_told) {
  const struct {
    std::string content, told;
  } cases[] = {
      {"RIFF and so on", "neither a Y4M video nor a picture"},
      {"", "neither a Y4M video nor a picture"},
      {std::string(1 << 20, 'Y'), "neither a Y4M video nor a picture"},
      {"YUV4MPEG2 W2 H2 C420p10\n", "C420p10 is not read"},
      {"YUV4MPEG2 W2 H2 C444alpha\n", "C444alpha is not read"},
      {"YUV4MPEG2 W0 H2\n", "names no size"},
      {"YUV4MPEG2 W2\n", "names no size"},
      {"YUV4MPEG2 W99999999999 H99999999999\n", "names no size"},
      {"YUV4MPEG2 W-2 H2\n", "names no size"},
      {"YUV4MPEG2 W1 H1 Cmono\nFRAME\nxframe\nx", "no frame begins where frame 2 should"},
  };
  for (const auto& [content, told] : cases) {
    save("video.y4m", content);
    std::string failure;
    frames_of("video.y4m", &failure);
    CHECK(failure.find(told) != std::string::npos);
  }
}

TEST(a_video_that_is_cut_off_ends_with_its_last_whole_frame) {
  const std::string whole = "YUV4MPEG2 W2 H1 Cmono\nFRAME\nabFRAME\ncd";
  const size_t header = whole.find('\n') + 1;
  for (size_t bytes = header; bytes < whole.size(); ++bytes) {
    save("video.y4m", whole.substr(0, bytes));
    std::string failure;
    CHECK(frames_of("video.y4m", &failure).size() == (bytes - header) / 8 && failure.empty());
  }
}

TEST(a_video_has_one_size) {
  Y4mWriter writer("video.y4m", {});
  writer.write(gradient(8, 8));
  bool refused = false;
  try {
    writer.write(gradient(8, 6));
  } catch (const Failure&) {
    refused = true;
  }
  CHECK(refused);
}

TEST(what_cannot_be_written_is_told) {
  bool refused = false;
  try {
    Y4mWriter writer("/dev/full", {});
    writer.write(gradient(8, 8));
  } catch (const Failure&) {
    refused = true;
  }
  CHECK(refused);
}

TEST(ppm_and_pgm_are_read) {
  save("a.ppm", "P6 # a comment\n2 1\n255\n" + text_of({1, 2, 3, 250, 251, 252}));
  CHECK(frames_of("a.ppm").at(0).rgb == (Bytes{1, 2, 3, 250, 251, 252}));
  save("a.pgm", "P5\n2\n1\n100\n" + text_of({0, 50}));
  CHECK(frames_of("a.pgm").at(0).rgb == (Bytes{0, 0, 0, 128, 128, 128}));
  for (const char* broken : {"P6 2 1 255\nabc", "P6 2 1 65535\nabcdefabcdef", "P6 0 1 255\n", "P6 2", "P6 x 1 255 ",
                             "P6 99999999 99999999 255\n"}) {
    save("a.ppm", broken);
    std::string failure;
    CHECK(frames_of("a.ppm", &failure).empty() && failure.find("damaged") != std::string::npos);
  }
}

TEST(a_drawn_box_stays_in_the_frame) {
  Frame frame = gradient(64, 48);
  const Bytes before = frame.rgb;
  draw_box(frame, {-1e9, -1e9, 1e9, 1e9}, {255, 0, 0});  // no edge of it is seen
  draw_text(frame, {60, 45, 90, 90}, "1 A LONGER TEXT THAN FITS % \xff", {0, 0, 255});
  draw_text(frame, {-50, -50, -20, -20}, "", {0, 0, 255});
  frame = gradient(64, 48);
  draw_box(frame, {10, 12, 30, 40}, {255, 0, 0});
  int changed = 0;
  for (int y = 0; y < 48; ++y) {
    for (int x = 0; x < 64; ++x) {
      const size_t at = static_cast<size_t>(3 * (y * 64 + x));
      const bool in = x >= 10 && x < 30 && y >= 12 && y < 40;
      const bool edge = in && !(x >= 12 && x < 28 && y >= 14 && y < 38);
      const bool red = frame.rgb[at] == 255 && frame.rgb[at + 1] == 0 && frame.rgb[at + 2] == 0;
      CHECK(edge ? red : frame.rgb[at] == before[at] && frame.rgb[at + 2] == before[at + 2]);
      changed += edge;
    }
  }
  CHECK(changed == 20 * 28 - 16 * 24);
}

TEST(ids_beside_each_other_have_unlike_colours) {
  for (int64_t id = 1; id < 1000; ++id) {
    const Colour a = colour_of(id), b = colour_of(id + 1);
    CHECK(std::abs(a.red - b.red) + std::abs(a.green - b.green) + std::abs(a.blue - b.blue) > 150);
  }
}
