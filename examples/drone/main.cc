// drone: finds objects in a video, follows them, and draws them.

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>

#include "detector.h"
#include "draw.h"
#include "failure.h"
#include "frames.h"
#include "output.h"
#include "tracker.h"
#include "video.h"

namespace {

const char kUsage[] =
    "usage: drone INPUT [-o VIDEO] [--boxes FILE] [options]\n"
    "\n"
    "INPUT is a Y4M video (-: standard input), a folder of pictures, a picture, or a camera such as /dev/video0.\n"
    "\n"
    "  -o VIDEO         write the frames with boxes and ids as Y4M (-: standard output)\n"
    "  --boxes FILE     write a line per object and frame: frame,id,left,top,width,height,score,-1,-1,-1\n"
    "  --size WxH       the camera's frames (640x480)\n"
    "  --rate N         the camera's frames per second (30)\n"
    "  --frames N       stop after N frames\n"
    "  --threads N      threads of the model (1), at most those that dlpack build was told\n"
    "  --device NAME    cuda or cuda:1: that GPU, or an error; cpu (a GPU if the bundle has kernels for it and one works)\n"
    "  --weights FILE   the weights file, where it does not lie beside the program\n"
    "  --high SCORE     from this score on a detection may begin a track (the bundle's threshold)\n"
    "  --low SCORE      from this score on it can go on with one (0.1)\n"
    "  --patience N     frames for which an object is remembered that is not seen (30)\n"
    "\n"
    "Ctrl-C ends it well. Exit codes: 0 done, 2 wrong options or files.\n";

struct Options {
  std::string input, video, boxes;
  int64_t frames = 0;  // 0: all
  CameraOptions camera;
  DetectorOptions detector;
  TrackerOptions tracker;
};

volatile std::sig_atomic_t stopped = 0;

void stop(int) { stopped = 1; }

// The first signal interrupts a read, so that the loop sees it; the second ends the program. Writing to a pipe without a
// reader is an error.
void handle_signals() {
  struct sigaction action = {};
  action.sa_handler = stop;
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action = {};
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

int whole(const std::string& option, const char* text, int least, int most) {
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0 || value < least || value > most) {
    throw Failure(option + " takes a whole number from " + std::to_string(least) + " to " + std::to_string(most) +
                  ", not " + text);
  }
  return static_cast<int>(value);
}

double share(const std::string& option, const char* text) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= 0 && value <= 1)) {
    throw Failure(option + " takes a number from 0 to 1, not " + text);
  }
  return value;
}

void set_size(CameraOptions& camera, const std::string& text) {
  const size_t cross = text.find('x');
  if (cross == std::string::npos) throw Failure("--size takes WIDTHxHEIGHT, not " + text);
  camera.width = whole("--size", text.substr(0, cross).c_str(), 2, 1 << 14);
  camera.height = whole("--size", text.substr(cross + 1).c_str(), 1, 1 << 14);
}

void set_option(Options& o, const std::string& name, const char* value) {
  constexpr int kMany = 1000000000;
  if (name == "-o") {
    o.video = value;
  } else if (name == "--boxes") {
    o.boxes = value;
  } else if (name == "--size") {
    set_size(o.camera, value);
  } else if (name == "--rate") {
    o.camera.rate = whole(name, value, 1, 1000);
  } else if (name == "--frames") {
    o.frames = whole(name, value, 1, kMany);
  } else if (name == "--threads") {
    o.detector.threads = whole(name, value, 1, 1024);
  } else if (name == "--device") {
    o.detector.device = value;
  } else if (name == "--weights") {
    o.detector.weights = value;
  } else if (name == "--high") {
    o.tracker.high = share(name, value);
  } else if (name == "--low") {
    o.tracker.low = share(name, value);
  } else if (name == "--patience") {
    o.tracker.patience = whole(name, value, 0, kMany);
  } else {
    throw Failure("unknown option " + name + "; drone --help lists the options");
  }
}

Options read_options(int count, char** words) {
  Options o;
  o.tracker.high = Detector::threshold();
  if (!Detector::weights_file().empty()) {  // beside the program
    const std::string program = words[0];
    const size_t slash = program.rfind('/');
    o.detector.weights = (slash == std::string::npos ? "" : program.substr(0, slash + 1)) + Detector::weights_file();
  }
  for (int k = 1; k < count; ++k) {
    const std::string word = words[k];
    if (word.size() > 1 && word[0] == '-') {
      if (k + 1 == count) throw Failure(word + (word == "-o" || word[1] == '-' ? " lacks its value" : " is no option"));
      set_option(o, word, words[++k]);
    } else if (o.input.empty()) {
      o.input = word;
    } else {
      throw Failure("two inputs: " + o.input + " and " + word);
    }
  }
  if (o.input.empty()) throw Failure("no input; drone --help explains the usage");
  o.tracker.low = std::min(o.tracker.low, o.tracker.high);
  o.detector.low = o.tracker.low;
  return o;
}

// Throws Failure where `output` is the file that is read, which opening would empty.
void check_distinct(const std::string& input, const std::string& output) {
  struct stat a = {}, b = {};
  if (input == "-" || output == "-" || stat(input.c_str(), &a) != 0 || stat(output.c_str(), &b) != 0) return;
  if (a.st_dev == b.st_dev && a.st_ino == b.st_ino) throw Failure(output + " is the input");
}

// A line per track, in the form of the MOT challenge; frames are counted from 1.
std::string lines(int64_t frame, const std::vector<Track>& tracks) {
  std::string text;
  for (const Track& t : tracks) {
    char line[200];
    std::snprintf(line, sizeof line, "%lld,%lld,%.2f,%.2f,%.2f,%.2f,%.4f,-1,-1,-1\n", static_cast<long long>(frame + 1),
                  static_cast<long long>(t.id), t.box.left, t.box.top, t.box.width(), t.box.height(), t.score);
    text += line;
  }
  return text;
}

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

// The time that each part takes, printed once a second and at the end.
class Stopwatch {
 public:
  enum Part { read, detect, track, draw, parts };

  // The time since the last call, or since the start of the frame, went into this part.
  void lap(Part part) {
    const Clock::time_point now = Clock::now();
    spent_[part] += now - last_, all_[part] += now - last_;
    last_ = now;
  }

  void frame_done(int64_t number, size_t objects) {
    ++frames_, ++all_frames_;
    if (last_ - told_ < std::chrono::seconds(1)) return;
    std::fprintf(stderr, "frame %lld: %.1f frames/s, %zu in sight;", static_cast<long long>(number + 1),
                 1000 * static_cast<double>(frames_) / milliseconds(last_ - told_), objects);
    tell(spent_, frames_);
    told_ = last_, frames_ = 0;
    for (Clock::duration& time : spent_) time = {};
  }

  void finish(int64_t ids) const {
    std::fprintf(stderr, "%lld frames, %lld ids, %.1f frames/s;", static_cast<long long>(all_frames_),
                 static_cast<long long>(ids), 1000 * static_cast<double>(all_frames_) / milliseconds(last_ - start_));
    tell(all_, all_frames_);
  }

 private:
  static void tell(const Clock::duration (&spent)[parts], int64_t frames) {
    const double n = static_cast<double>(std::max<int64_t>(frames, 1));
    std::fprintf(stderr, " ms per frame: read %.2f, detect %.2f, track %.2f, draw and write %.2f\n",
                 milliseconds(spent[read]) / n, milliseconds(spent[detect]) / n, milliseconds(spent[track]) / n,
                 milliseconds(spent[draw]) / n);
  }

  Clock::time_point start_ = Clock::now(), last_ = start_, told_ = start_;
  Clock::duration spent_[parts] = {}, all_[parts] = {};
  int64_t frames_ = 0, all_frames_ = 0;
};

void draw(Frame& frame, const std::vector<Track>& tracks) {
  for (const Track& t : tracks) draw_box(frame, t.box, colour_of(t.id));
  for (const Track& t : tracks) {
    const std::string share = std::to_string(static_cast<int>(100 * t.score + 0.5));
    draw_text(frame, t.box, std::to_string(t.id) + " " + Detector::label(t.label) + " " + share + "%", colour_of(t.id));
  }
}

void run(const Options& o) {
  Detector detector(o.detector);
  const std::unique_ptr<Source> source = open_source(o.input, o.camera);
  std::unique_ptr<Y4mWriter> video;
  std::unique_ptr<Output> boxes;
  for (const std::string& output : {o.video, o.boxes}) check_distinct(o.input, output);
  if (!o.video.empty()) video = std::make_unique<Y4mWriter>(o.video, source->rate());
  if (!o.boxes.empty()) boxes = std::make_unique<Output>(o.boxes);
  std::fprintf(stderr, "drone runs on %s\n", detector.device().c_str());

  Tracker tracker(o.tracker);
  Stopwatch watch;
  Frame frame;
  int64_t before = -1;
  for (int64_t done = 0; stopped == 0 && (o.frames == 0 || done < o.frames) && source->next(frame); ++done) {
    watch.lap(Stopwatch::read);
    const std::vector<Detection> found = detector.find(frame);
    watch.lap(Stopwatch::detect);
    const std::vector<Track> tracks = tracker.update(found, static_cast<int>(frame.number - before));
    watch.lap(Stopwatch::track);
    if (boxes) {
      const std::string text = lines(frame.number, tracks);
      boxes->write(text.data(), text.size());
    }
    if (video) {
      draw(frame, tracks);
      video->write(frame);
    }
    watch.lap(Stopwatch::draw);
    watch.frame_done(frame.number, tracks.size());
    before = frame.number;
  }
  if (video) video->close();
  if (boxes) boxes->close();
  watch.finish(tracker.count());
}

}  // namespace

int main(int count, char** words) {
  for (int k = 1; k < count; ++k) {
    if (std::strcmp(words[k], "--help") == 0) return std::fputs(kUsage, stdout) < 0 ? 2 : 0;
  }
  try {
    handle_signals();
    run(read_options(count, words));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "drone: %s\n", e.what());
    return 2;
  }
  return 0;
}
