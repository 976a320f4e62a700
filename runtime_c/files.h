// Files: map a file of weights read-only. Hosted: only POSIX systems, and only where the document
// defines HOSTED_FILES. The top of vectors.h explains the sections.

//@ section files_headers
//@ scope file
#if defined(HOSTED_FILES) && (defined(__unix__) || defined(__APPLE__))
#include <fcntl.h>
#include <sys/mman.h>
#if !defined(__APPLE__)
#include <sys/stat.h>
#endif
#include <unistd.h>
#endif

//@ section files
//@ needs files_headers
// A file mapped read-only. An empty file has size 0 and no data.
struct mapped_file {
  const uint8_t* data;
  size_t size;
};

#if defined(HOSTED_FILES) && (defined(__unix__) || defined(__APPLE__))
// The size of a regular file in bytes; -1 for anything else. Apple asks programs that call fstat()
// to give a reason in their privacy manifest; there, what is not a file fails when it is mapped.
[[maybe_unused]] inline int64_t file_size(int descriptor) {
#if defined(__APPLE__)
  return lseek(descriptor, 0, SEEK_END);
#else
  struct stat about;
  return fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode) ? int64_t{about.st_size} : -1;
#endif
}

// Maps a regular file; returns false on failure.
[[maybe_unused]] inline bool map_file(const char* path, mapped_file* file) {
  *file = mapped_file{nullptr, 0};
  const int descriptor = open(
      path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // O_NONBLOCK: a pipe without a writer would block
  if (descriptor < 0) return false;
  void* data = MAP_FAILED;
  const int64_t size = file_size(descriptor);
  if (size > 0 && static_cast<uint64_t>(size) <= SIZE_MAX)
    data = mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, descriptor, 0);
  close(descriptor);  // the mapping remains valid
  if (size == 0) return true;
  if (data == MAP_FAILED) return false;
  *file = mapped_file{static_cast<const uint8_t*>(data), static_cast<size_t>(size)};
  return true;
}

[[maybe_unused]] inline void unmap_file(mapped_file* file) {
  if (file->data != nullptr) munmap(const_cast<uint8_t*>(file->data), file->size);
  *file = mapped_file{nullptr, 0};
}

// Releases the memory of pages of a mapped file; they are read again on the next access.
[[maybe_unused]] inline void forget_pages(const void* data, size_t bytes) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)),
                  begin = reinterpret_cast<uintptr_t>(data);
  const uintptr_t first = (begin + page - 1) / page * page, last = (begin + bytes) / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}
#else
[[maybe_unused]] inline bool map_file(const char*, mapped_file* file) {
  *file = mapped_file{nullptr, 0};
  return false;
}

[[maybe_unused]] inline void unmap_file(mapped_file* file) { *file = mapped_file{nullptr, 0}; }
[[maybe_unused]] inline void forget_pages(const void*, size_t) {}
#endif
