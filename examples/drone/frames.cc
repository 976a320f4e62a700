#include "frames.h"

#include <dirent.h>
#include <strings.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "camera.h"
#include "failure.h"
#include "pictures.h"
#include "video.h"

namespace {

class PictureSource : public Source {
 public:
  explicit PictureSource(std::vector<std::string> paths) : paths_(std::move(paths)) {}

  bool next(Frame& frame) override {
    if (number_ == paths_.size()) return false;
    read_picture(paths_[number_], frame);
    frame.number = static_cast<int64_t>(number_++);
    return true;
  }

 private:
  std::vector<std::string> paths_;
  size_t number_ = 0;
};

bool is_picture_name(const char* name) {
  const char* const dot = std::strrchr(name, '.');
  if (dot == nullptr || name[0] == '.') return false;
  for (const char* ending : {".ppm", ".pgm", ".png", ".jpg", ".jpeg"}) {
    if (strcasecmp(dot, ending) == 0) return true;
  }
  return false;
}

// The pictures of a folder in the order of their names, in which 9.ppm comes before 10.ppm.
std::vector<std::string> pictures_in(const std::string& folder) {
  DIR* const dir = opendir(folder.c_str());
  if (dir == nullptr) throw Failure(folder + ": " + std::strerror(errno));
  std::vector<std::string> names;
  while (const dirent* entry = readdir(dir)) {
    if (is_picture_name(entry->d_name)) names.push_back(entry->d_name);
  }
  closedir(dir);
  if (names.empty()) throw Failure(folder + ": no pictures in it (.ppm, .pgm, .png, .jpg)");
  const auto before = [](const std::string& a, const std::string& b) { return strverscmp(a.c_str(), b.c_str()) < 0; };
  std::sort(names.begin(), names.end(), before);
  for (std::string& name : names) name = folder + "/" + name;
  return names;
}

}  // namespace

std::unique_ptr<Source> open_source(const std::string& path, const CameraOptions& camera) {
  if (path == "-") return std::make_unique<Y4mReader>(stdin, "standard input");
  struct stat about = {};
  if (stat(path.c_str(), &about) != 0) throw Failure(path + ": " + std::strerror(errno));
  if (S_ISCHR(about.st_mode)) return open_camera(path, camera);
  if (S_ISDIR(about.st_mode)) return std::make_unique<PictureSource>(pictures_in(path));
  if (S_ISREG(about.st_mode) && is_picture(path)) return std::make_unique<PictureSource>(std::vector<std::string>{path});
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) throw Failure(path + ": " + std::strerror(errno));
  return std::make_unique<Y4mReader>(file, path);
}
