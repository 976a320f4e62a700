#include "video.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <sstream>

#include "failure.h"

namespace {

constexpr int kLongest = 1 << 14;  // pixels a side, and characters of a line

const char kOthers[] = "; ffmpeg makes Y4M of any video: ffmpeg -i FILE -pix_fmt yuv420p -f yuv4mpegpipe - | drone -";

// A whole number, 0 where it is none or has more than nine digits, and what comes after it.
std::pair<int, const char*> number(const char* text) {
  char* rest = nullptr;
  const long value = std::strtol(text, &rest, 10);
  return {value > 0 && value < 1000000000 ? static_cast<int>(value) : 0, rest};
}

}  // namespace

Y4mReader::Y4mReader(std::FILE* file, const std::string& name) : file_(file), name_(name) {
  try {
    std::string line;
    if (!read_line(line) || line.compare(0, 9, "YUV4MPEG2") != 0) {
      throw Failure(name + " is neither a Y4M video nor a picture that is read here" + kOthers);
    }
    read_header(line);
  } catch (...) {
    if (file_ != stdin) std::fclose(file_);
    throw;
  }
}

Y4mReader::~Y4mReader() {
  if (file_ != stdin) std::fclose(file_);
}

bool Y4mReader::read_line(std::string& line) {
  line.clear();
  for (int c; (c = std::getc(file_)) != EOF && line.size() < size_t{kLongest};) {
    if (c == '\n') return true;
    line.push_back(static_cast<char>(c));
  }
  return false;
}

void Y4mReader::read_header(const std::string& line) {
  std::istringstream words(line.substr(9));
  std::string chroma = "420jpeg", word;
  planes_.range = Range::limited;
  while (words >> word) {
    const std::string value = word.substr(1);
    if (word[0] == 'W') width_ = number(value.c_str()).first;
    if (word[0] == 'H') height_ = number(value.c_str()).first;
    if (word[0] == 'C') chroma = value;
    if (word == "XCOLORRANGE=FULL") planes_.range = Range::full;
    if (word[0] != 'F') continue;
    const auto [count, rest] = number(value.c_str());
    const int seconds = *rest == ':' ? number(rest + 1).first : 0;
    if (count > 0 && seconds > 0) rate_ = {count, seconds};
  }
  if (width_ < 1 || width_ > kLongest || height_ < 1 || height_ > kLongest) {
    throw Failure(name_ + ": the Y4M header names no size from 1 to " + std::to_string(kLongest) + ": " + line);
  }
  if (chroma == "420" || chroma == "420jpeg" || chroma == "420mpeg2" || chroma == "420paldv") {
    planes_.across = 2, planes_.down = 2;
  } else if (chroma == "422") {
    planes_.across = 2, planes_.down = 1;
  } else if (chroma == "444") {
    planes_.across = 1, planes_.down = 1;
  } else if (chroma != "mono") {
    throw Failure(name_ + ": Y4M of the kind C" + chroma + " is not read, only 8 bits of 420, 422, 444 and mono" + kOthers);
  }
  const size_t luma = static_cast<size_t>(width_) * static_cast<size_t>(height_);
  size_t chroma_bytes = 0;
  if (chroma != "mono") {
    chroma_bytes = static_cast<size_t>((width_ + planes_.across - 1) / planes_.across) *
                   static_cast<size_t>((height_ + planes_.down - 1) / planes_.down);
  }
  data_.resize(luma + 2 * chroma_bytes);
  planes_.y = data_.data();
  planes_.u = chroma_bytes == 0 ? nullptr : planes_.y + luma;
  planes_.v = chroma_bytes == 0 ? nullptr : planes_.u + chroma_bytes;
}

bool Y4mReader::next(Frame& frame) {
  std::string line;
  errno = 0;
  const bool begins = read_line(line);
  if (!begins && line.empty()) return false;
  if (line.compare(0, 5, "FRAME", std::min<size_t>(line.size(), 5)) != 0) {
    throw Failure(name_ + ": no frame begins where frame " + std::to_string(number_ + 1) + " should");
  }
  const bool whole = begins && std::fread(data_.data(), 1, data_.size(), file_) == data_.size();
  if (!whole && errno == EINTR) return false;
  if (!whole) {
    std::fprintf(stderr, "drone: %s ends within frame %lld\n", name_.c_str(), static_cast<long long>(number_ + 1));
    return false;
  }
  frame.resize(width_, height_);
  planes_to_rgb(planes_, width_, height_, frame.rgb.data());
  frame.number = number_++;
  return true;
}

void Y4mWriter::write(const Frame& frame) {
  static const std::string kBegin = "FRAME\n";
  if (width_ == 0) {
    width_ = frame.width, height_ = frame.height;
    data_.resize(kBegin.size() + bytes_of_420(width_, height_));
    std::copy(kBegin.begin(), kBegin.end(), data_.begin());
    std::ostringstream header;
    header << "YUV4MPEG2 W" << width_ << " H" << height_ << " F" << rate_.count << ":" << rate_.seconds
           << " Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n";
    file_.write(header.str().data(), header.str().size());
  }
  if (frame.width != width_ || frame.height != height_) {
    throw Failure("frame " + std::to_string(frame.number + 1) + " is " + std::to_string(frame.width) + " x " +
                  std::to_string(frame.height) + ", those before " + std::to_string(width_) + " x " +
                  std::to_string(height_) + ": a video has one size");
  }
  rgb_to_420(frame.rgb.data(), width_, height_, data_.data() + kBegin.size());
  file_.write(data_.data(), data_.size());
}
