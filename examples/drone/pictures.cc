#include "pictures.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "failure.h"

#if defined(DRONE_JPEG)
#include <jerror.h>
#include <jpeglib.h>

#include <csetjmp>
#endif
#if defined(DRONE_PNG)
#include <png.h>
#endif

namespace {

enum class Kind { none, pnm, jpeg, png };

Kind kind_of(const uint8_t* data, size_t bytes) {
  if (bytes >= 3 && data[0] == 'P' && (data[1] == '5' || data[1] == '6') && std::isspace(data[2])) return Kind::pnm;
  if (bytes >= 3 && std::memcmp(data, "\xff\xd8\xff", 3) == 0) return Kind::jpeg;
  if (bytes >= 8 && std::memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0) return Kind::png;
  return Kind::none;
}

// The first `most` bytes of a file.
std::vector<uint8_t> bytes_of(const std::string& path, size_t most) {
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) throw Failure(path + ": " + std::strerror(errno));
  std::vector<uint8_t> data;
  size_t got = 1;
  while (got != 0 && data.size() < most) {
    const size_t before = data.size(), more = std::min<size_t>(most - before, 1 << 16);
    data.resize(before + more);
    got = std::fread(data.data() + before, 1, more, file);
    data.resize(before + got);
  }
  std::fclose(file);
  return data;
}

// A number of a PPM's header, after blanks and comments; -1 where there is none.
int header_number(const std::vector<uint8_t>& data, size_t& at) {
  while (at < data.size() && (std::isspace(data[at]) || data[at] == '#')) {
    if (data[at] == '#') {
      while (at < data.size() && data[at] != '\n') ++at;
    } else {
      ++at;
    }
  }
  int value = -1;
  for (; at < data.size() && std::isdigit(data[at]) && value < 100000; ++at) {
    value = 10 * std::max(value, 0) + (data[at] - '0');
  }
  return value;
}

bool read_pnm(const std::vector<uint8_t>& data, Frame& frame) {
  size_t at = 2;
  const int width = header_number(data, at), height = header_number(data, at), most = header_number(data, at);
  if (width < 1 || width > 1 << 14 || height < 1 || height > 1 << 14 || most < 1 || most > 255) return false;
  const size_t channels = data[1] == '6' ? 3 : 1;
  const size_t count = static_cast<size_t>(width) * static_cast<size_t>(height) * channels;
  ++at;  // one blank
  if (at > data.size() || data.size() - at < count) return false;
  frame.resize(width, height);
  for (size_t k = 0; k < frame.rgb.size(); ++k) {
    const int value = std::min<int>(data[at + (channels == 3 ? k : k / 3)], most);
    frame.rgb[k] = static_cast<uint8_t>((value * 255 + most / 2) / most);
  }
  return true;
}

#if defined(DRONE_PNG)
// Transparent pixels lie over white, as in dlpack's preprocessing.
bool read_png(const std::vector<uint8_t>& data, Frame& frame) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_memory(&image, data.data(), data.size()) == 0) return false;
  const bool fits = image.width <= 1 << 14 && image.height <= 1 << 14;
  image.format = PNG_FORMAT_RGB;
  const png_color white = {255, 255, 255};
  if (fits) frame.resize(static_cast<int>(image.width), static_cast<int>(image.height));
  const bool good = fits && png_image_finish_read(&image, &white, frame.rgb.data(), 0, nullptr) != 0;
  png_image_free(&image);
  return good;
}
#endif

}  // namespace

#if defined(DRONE_JPEG)
namespace {

struct JpegErrors {
  jpeg_error_mgr manager;
  std::jmp_buf back;
  bool damaged;
};

JpegErrors& errors_of(j_common_ptr info) { return *reinterpret_cast<JpegErrors*>(info->err); }

void jpeg_failed(j_common_ptr info) { std::longjmp(errors_of(info).back, 1); }

// Warnings (level -1) report damage; many cameras leave bytes over.
void jpeg_told(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code != JWRN_EXTRANEOUS_DATA) errors_of(info).damaged = true;
}

// Frames of Motion JPEG leave their Huffman tables out and mean the standard's, which libjpeg has for writing.
void set_standard_tables(jpeg_decompress_struct& reader) {
  jpeg_compress_struct writer;
  jpeg_error_mgr manager;
  writer.err = jpeg_std_error(&manager);
  jpeg_create_compress(&writer);
  writer.in_color_space = JCS_RGB;
  writer.input_components = 3;
  jpeg_set_defaults(&writer);
  const auto copy = [&](JHUFF_TBL*& to, const JHUFF_TBL* from) {
    if (to == nullptr) to = jpeg_alloc_huff_table(reinterpret_cast<j_common_ptr>(&reader));
    *to = *from;
  };
  for (int k = 0; k < 2; ++k) {
    copy(reader.dc_huff_tbl_ptrs[k], writer.dc_huff_tbl_ptrs[k]);
    copy(reader.ac_huff_tbl_ptrs[k], writer.ac_huff_tbl_ptrs[k]);
  }
  jpeg_destroy_compress(&writer);
}

}  // namespace

bool has_jpeg() { return true; }

// libjpeg reports errors by longjmp, so that no object with a destructor may live in here.
bool read_jpeg(const uint8_t* data, size_t bytes, Frame& frame) {
  jpeg_decompress_struct reader;
  JpegErrors errors;
  reader.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = jpeg_failed;
  errors.manager.emit_message = jpeg_told;
  errors.damaged = false;
  jpeg_create_decompress(&reader);
  if (setjmp(errors.back) != 0) {
    jpeg_destroy_decompress(&reader);
    return false;
  }
  set_standard_tables(reader);  // those of the file replace them
  jpeg_mem_src(&reader, const_cast<unsigned char*>(data), static_cast<unsigned long>(bytes));
  jpeg_read_header(&reader, TRUE);
  reader.out_color_space = JCS_RGB;
  jpeg_start_decompress(&reader);
  const bool fits = reader.output_width <= 1 << 14 && reader.output_height <= 1 << 14;
  if (fits) {
    frame.resize(static_cast<int>(reader.output_width), static_cast<int>(reader.output_height));
    while (reader.output_scanline < reader.output_height) {
      JSAMPROW row = frame.rgb.data() + size_t{3} * reader.output_width * reader.output_scanline;
      jpeg_read_scanlines(&reader, &row, 1);
    }
  }
  const bool whole = fits && !errors.damaged;
  jpeg_destroy_decompress(&reader);
  return whole;
}
#else
bool has_jpeg() { return false; }
bool read_jpeg(const uint8_t*, size_t, Frame&) { return false; }
#endif

bool is_picture(const std::string& path) {
  const std::vector<uint8_t> start = bytes_of(path, 8);
  return kind_of(start.data(), start.size()) != Kind::none;
}

void read_picture(const std::string& path, Frame& frame) {
  const std::vector<uint8_t> data = bytes_of(path, size_t{1} << 30);
  bool good = false;
  switch (kind_of(data.data(), data.size())) {
    case Kind::none: break;
    case Kind::pnm: good = read_pnm(data, frame); break;
    case Kind::jpeg:
      if (!has_jpeg()) throw Failure(path + ": this program was built without libjpeg");
      good = read_jpeg(data.data(), data.size(), frame);
      break;
    case Kind::png:
#if defined(DRONE_PNG)
      good = read_png(data, frame);
      break;
#else
      throw Failure(path + ": this program was built without libpng");
#endif
  }
  if (!good) throw Failure(path + ": not a picture, or a damaged one");
}
