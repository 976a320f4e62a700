// What drive.cc needs of a system, from the C library.
#include <stdio.h>
#include <stdlib.h>

namespace driving {  // a name of its own: the model may have any

static void say(const char* text) { fputs(text, stderr); }
static void* allocate(size_t bytes) { return malloc(bytes); }

static bool read_file(const char* path, void* data, size_t bytes) {
  FILE* const file = fopen(path, "rb");
  const bool read = file != nullptr && fread(data, 1, bytes, file) == bytes;
  if (file != nullptr) fclose(file);
  return read;
}

static bool write_file(const char* path, const void* data, size_t bytes) {
  FILE* const file = fopen(path, "wb");
  const bool written = file != nullptr && fwrite(data, 1, bytes, file) == bytes;
  return file != nullptr && fclose(file) == 0 && written;
}

int drive(int argc, char** argv);
}  // namespace driving

int main(int argc, char** argv) { return driving::drive(argc, argv); }
