#include "camera.h"

#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "colour.h"
#include "failure.h"
#include "pictures.h"

namespace {

constexpr int kPatience = 5000;  // milliseconds without a frame

class Camera : public Source {
 public:
  Camera(const std::string& device, const CameraOptions& options) : device_(device) {
    file_ = open(device.c_str(), O_RDWR | O_NONBLOCK);
    if (file_ < 0) throw Failure(device_ + ": " + std::strerror(errno));
    try {
      check_kind();
      choose_format(options);
      choose_rate(options);
      start();
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Camera() override { stop(); }
  Camera(const Camera&) = delete;
  Camera& operator=(const Camera&) = delete;

  Rate rate() const override { return rate_; }

  bool next(Frame& frame) override {
    for (;;) {
      pollfd waited = {file_, POLLIN, 0};
      const int ready = poll(&waited, 1, kPatience);
      if (ready < 0 && errno == EINTR) return false;
      if (ready < 0) fail("poll");
      if (ready == 0) throw Failure(device_ + ": no frame in " + std::to_string(kPatience / 1000) + " seconds");
      v4l2_buffer newest = {};
      if (!take(newest)) continue;
      for (v4l2_buffer later = {}; take(later); newest = later) give_back(newest);
      const bool good = (newest.flags & V4L2_BUF_FLAG_ERROR) == 0 && convert(newest, frame);
      if (first_ < 0) first_ = newest.sequence;
      frame.number = static_cast<uint32_t>(newest.sequence - static_cast<uint32_t>(first_));
      give_back(newest);
      if (good) return true;
    }
  }

 private:
  struct Mapped {
    uint8_t* data;
    size_t bytes;
  };

  [[noreturn]] void fail(const char* what) const { throw Failure(device_ + ": " + what + ": " + std::strerror(errno)); }

  // An ioctl that a signal does not interrupt.
  int ask(unsigned long request, void* argument) const {
    int result;
    do {
      result = ioctl(file_, request, argument);
    } while (result < 0 && errno == EINTR);
    return result;
  }

  void check_kind() const {
    v4l2_capability told = {};
    if (ask(VIDIOC_QUERYCAP, &told) < 0) throw Failure(device_ + " is no camera");
    const uint32_t can = (told.capabilities & V4L2_CAP_DEVICE_CAPS) != 0 ? told.device_caps : told.capabilities;
    if ((can & V4L2_CAP_VIDEO_CAPTURE) == 0 || (can & V4L2_CAP_STREAMING) == 0) {
      throw Failure(device_ + " sends no video");
    }
  }

  // YUYV where the camera has it in this size, which costs less to read; else Motion JPEG; else YUYV in another size.
  void choose_format(const CameraOptions& options) {
    const bool exact = set_format(options, V4L2_PIX_FMT_YUYV) && wide(options) && high(options);
    if (exact || (has_jpeg() && set_format(options, V4L2_PIX_FMT_MJPEG))) return;
    if (!set_format(options, V4L2_PIX_FMT_YUYV)) {
      throw Failure(device_ + " sends neither YUYV nor " + (has_jpeg() ? "" : "(this program was built without libjpeg) ") +
                    "Motion JPEG");
    }
  }

  bool wide(const CameraOptions& options) const { return format_.fmt.pix.width == static_cast<uint32_t>(options.width); }
  bool high(const CameraOptions& options) const { return format_.fmt.pix.height == static_cast<uint32_t>(options.height); }

  bool set_format(const CameraOptions& options, uint32_t pixels) {
    format_ = {};
    format_.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    format_.fmt.pix.width = static_cast<uint32_t>(options.width);
    format_.fmt.pix.height = static_cast<uint32_t>(options.height);
    format_.fmt.pix.pixelformat = pixels;
    format_.fmt.pix.field = V4L2_FIELD_ANY;
    if (ask(VIDIOC_S_FMT, &format_) < 0 && errno != EINVAL) fail("its format");
    const auto& got = format_.fmt.pix;
    return got.pixelformat == pixels && got.width >= 2 && got.width <= 1 << 14 && got.height >= 1 && got.height <= 1 << 14;
  }

  void choose_rate(const CameraOptions& options) {
    v4l2_streamparm asked = {};
    asked.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    asked.parm.capture.timeperframe = {1, static_cast<uint32_t>(options.rate)};
    const bool told = ask(VIDIOC_S_PARM, &asked) == 0;  // not every camera can choose
    const v4l2_fract& time = asked.parm.capture.timeperframe;
    rate_ = {options.rate, 1};
    if (told && time.numerator != 0 && time.denominator != 0) {
      rate_ = {static_cast<int>(time.denominator), static_cast<int>(time.numerator)};
    }
  }

  void start() {
    v4l2_requestbuffers wanted = {};
    wanted.count = 4;
    wanted.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    wanted.memory = V4L2_MEMORY_MMAP;
    if (ask(VIDIOC_REQBUFS, &wanted) < 0) fail("its buffers");
    for (uint32_t k = 0; k < wanted.count; ++k) {
      v4l2_buffer buffer = numbered(k);
      if (ask(VIDIOC_QUERYBUF, &buffer) < 0) fail("its buffers");
      void* const data = mmap(nullptr, buffer.length, PROT_READ | PROT_WRITE, MAP_SHARED, file_, buffer.m.offset);
      if (data == MAP_FAILED) fail("mmap");
      mapped_.push_back({static_cast<uint8_t*>(data), buffer.length});
      give_back(buffer);
    }
    int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    if (ask(VIDIOC_STREAMON, &type) < 0) fail("it does not start");
  }

  void stop() {
    int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    ask(VIDIOC_STREAMOFF, &type);
    for (const Mapped& m : mapped_) munmap(m.data, m.bytes);
    close(file_);
  }

  static v4l2_buffer numbered(uint32_t index) {
    v4l2_buffer buffer = {};
    buffer.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    buffer.memory = V4L2_MEMORY_MMAP;
    buffer.index = index;
    return buffer;
  }

  bool take(v4l2_buffer& buffer) const {
    buffer = numbered(0);
    if (ask(VIDIOC_DQBUF, &buffer) == 0) return true;
    if (errno != EAGAIN) fail("it sends no more");
    return false;
  }

  void give_back(v4l2_buffer& buffer) const {
    if (ask(VIDIOC_QBUF, &buffer) < 0) fail("its buffers");
  }

  // False where the frame is damaged.
  bool convert(const v4l2_buffer& buffer, Frame& frame) const {
    const Mapped& m = mapped_[buffer.index];
    const size_t bytes = std::min<size_t>(buffer.bytesused, m.bytes);
    const v4l2_pix_format& pix = format_.fmt.pix;
    if (pix.pixelformat == V4L2_PIX_FMT_MJPEG) return read_jpeg(m.data, bytes, frame);
    const size_t stride = std::max(pix.bytesperline, 2 * pix.width);
    if (bytes < stride * (pix.height - 1) + 2 * size_t{pix.width}) return false;
    frame.resize(static_cast<int>(pix.width & ~1u), static_cast<int>(pix.height));
    yuyv_to_rgb(m.data, stride, frame.width, frame.height, frame.rgb.data());
    return true;
  }

  std::string device_;
  int file_ = -1;
  v4l2_format format_ = {};
  Rate rate_;
  std::vector<Mapped> mapped_;
  int64_t first_ = -1;  // the number that the first frame had
};

}  // namespace

std::unique_ptr<Source> open_camera(const std::string& device, const CameraOptions& options) {
  return std::make_unique<Camera>(device, options);
}
