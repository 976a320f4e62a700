// Loads a library of an AAR as Android's linker does, and calls its native methods as a virtual machine would:
// load LIBRARY LIBRARY_BYTES INPUT INPUT_BYTES OUTPUT OUTPUT_BYTES. It needs no C library, so that it runs under QEMU.
// -DMETHOD_PREFIX="Java_dlpack_digits_Predictor_".
#include <stddef.h>
#include <stdint.h>

#include "drive_linux.h"

namespace driving {

#if defined(__LP64__)
struct header { uint8_t ident[16]; uint16_t type, machine; uint32_t version; uint64_t entry, phoff, shoff; uint32_t flags; uint16_t ehsize, phentsize, phnum; };
struct segment { uint32_t type, flags; uint64_t offset, vaddr, paddr, filesz, memsz, align; };
struct dynamic { uint64_t tag, value; };
struct symbol { uint32_t name; uint8_t info, other; uint16_t index; uint64_t value, size; };
struct relocation { uint64_t offset, info; int64_t addend; };
enum : uint64_t { kRelocations = 7, kRelocationsBytes = 8, kSymbolShift = 32, kTypes = 0xffffffff };
#else
struct header { uint8_t ident[16]; uint16_t type, machine; uint32_t version, entry, phoff, shoff, flags; uint16_t ehsize, phentsize, phnum; };
struct segment { uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align; };
struct dynamic { uint32_t tag, value; };
struct symbol { uint32_t name, value, size; uint8_t info, other; uint16_t index; };
struct relocation { uint32_t offset, info; };
enum : uint64_t { kRelocations = 17, kRelocationsBytes = 18, kSymbolShift = 8, kTypes = 0xff };
#endif
#if defined(__aarch64__)
enum : uint64_t { kAbsolute = 257, kGlobal = 1025, kJump = 1026, kRelative = 1027 };
#elif defined(__arm__)
enum : uint64_t { kAbsolute = 2, kGlobal = 21, kJump = 22, kRelative = 23 };
#else
enum : uint64_t { kAbsolute = 1, kGlobal = 6, kJump = 7, kRelative = 8 };
#endif

static bool same(const char* a, const char* b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return *a == *b;
}

static size_t number(const char* text) {
  size_t n = 0;
  for (; *text >= '0' && *text <= '9'; ++text) n = n * 10 + static_cast<size_t>(*text - '0');
  return n;
}

struct library {
  uint8_t* base;
  const symbol* symbols;
  const char* names;
  const uint32_t* hash;

  void* find(const char* name) const {
    for (uint32_t i = 0; i < hash[1]; ++i) {
      if (symbols[i].index != 0 && same(names + symbols[i].name, name)) return base + symbols[i].value;
    }
    say(name), say(": not in the library\n");
    return nullptr;
  }

  bool relocate(const relocation* r, size_t bytes) const {
    for (size_t i = 0; i < bytes / sizeof(relocation); ++i) {
      uintptr_t* const at = reinterpret_cast<uintptr_t*>(base + r[i].offset);
      const uintptr_t target = reinterpret_cast<uintptr_t>(base) + static_cast<uintptr_t>(symbols[r[i].info >> kSymbolShift].value);
#if defined(__LP64__)
      const uintptr_t addend = static_cast<uintptr_t>(r[i].addend);
#else
      const uintptr_t addend = (r[i].info & kTypes) == kJump || (r[i].info & kTypes) == kGlobal ? 0 : *at;
#endif
      switch (r[i].info & kTypes) {
        case kRelative: *at = reinterpret_cast<uintptr_t>(base) + addend; break;
        case kAbsolute: case kGlobal: case kJump: *at = target + addend; break;
        default: return false;
      }
    }
    return true;
  }
};

static bool load(const uint8_t* file, library& out) {
  const header& h = *reinterpret_cast<const header*>(file);
  const segment* const segments = reinterpret_cast<const segment*>(file + h.phoff);
  size_t end = 0;
  for (int i = 0; i < h.phnum; ++i) {
    if (segments[i].type == 1 && segments[i].vaddr + segments[i].memsz > end) end = segments[i].vaddr + segments[i].memsz;
  }
  const long at = system_call(kMap, 0, static_cast<long>(end), 7, 0x22, -1, 0);  // readable, writable, executable
  if (static_cast<unsigned long>(at) > ~4095ul) return false;
  out = {reinterpret_cast<uint8_t*>(at), nullptr, nullptr, nullptr};
  const dynamic* d = nullptr;
  for (int i = 0; i < h.phnum; ++i) {
    if (segments[i].type == 1) bare::copy(out.base + segments[i].vaddr, file + segments[i].offset, segments[i].filesz);
    if (segments[i].type == 2) d = reinterpret_cast<const dynamic*>(out.base + segments[i].vaddr);
  }
  const relocation* tables[2] = {};
  size_t bytes[2] = {};
  for (; d != nullptr && d->tag != 0; ++d) {
    uint8_t* const address = out.base + d->value;
    if (d->tag == 1) return false;  // it needs another library
    if (d->tag == 4) out.hash = reinterpret_cast<const uint32_t*>(address);
    if (d->tag == 5) out.names = reinterpret_cast<const char*>(address);
    if (d->tag == 6) out.symbols = reinterpret_cast<const symbol*>(address);
    if (d->tag == kRelocations) tables[0] = reinterpret_cast<const relocation*>(address);
    if (d->tag == kRelocationsBytes) bytes[0] = d->value;
    if (d->tag == 23) tables[1] = reinterpret_cast<const relocation*>(address);
    if (d->tag == 2) bytes[1] = d->value;
  }
  return out.hash != nullptr && out.relocate(tables[0], bytes[0]) && out.relocate(tables[1], bytes[1]);
}

// An array of Java's, and the functions of the virtual machine that copy to it and from it.
struct array { void* data; int32_t elements; };
static void* elements_of(void*, array* a, void*) { return a->data; }
static void release(void*, array*, void*, int32_t) {}
static void set_longs(void*, array* a, int32_t begin, int32_t count, const int64_t* from) {
  bare::copy(static_cast<int64_t*>(a->data) + begin, from, static_cast<size_t>(count) * 8);
}

int drive(int argc, char** argv) {
  if (argc != 7) return 2;
  const size_t sizes[] = {number(argv[2]), number(argv[4]), number(argv[6])};
  uint8_t* const file = static_cast<uint8_t*>(allocate(sizes[0]));
  void* const input = allocate(sizes[1]);
  void* const output = allocate(sizes[2]);
  library lib;
  if (!read_file(argv[1], file, sizes[0]) || !read_file(argv[3], input, sizes[1]) || !load(file, lib)) return 3;
  void* table[240] = {};
  table[212] = reinterpret_cast<void*>(set_longs);
  table[222] = reinterpret_cast<void*>(elements_of);
  table[223] = reinterpret_cast<void*>(release);
  void* functions = table;
  void* const env = &functions;
  int64_t handle = 0;
  array made = {&handle, 1}, given = {input, static_cast<int32_t>(sizes[1] / 4)}, got = {output, static_cast<int32_t>(sizes[2] / 4)};
#define METHOD(name, result, ...) reinterpret_cast<result (*)(void*, void*, __VA_ARGS__)>(lib.find(METHOD_PREFIX name))
  if (METHOD("create", int32_t, array*)(env, nullptr, &made) != 0) return 4;
  const auto set = METHOD("setInput", int32_t, int64_t, int32_t, array*, int32_t);
  if (set(env, nullptr, handle, 0, &given, static_cast<int32_t>(sizes[1])) != 0) return 5;
  if (set(env, nullptr, handle, 1, &given, static_cast<int32_t>(sizes[1])) == 0) return 6;  // there is no second input
  if (METHOD("compute", int32_t, int64_t)(env, nullptr, handle) != 0) return 7;
  const auto get = METHOD("getOutput", int32_t, int64_t, int32_t, array*, int32_t);
  if (get(env, nullptr, handle, 0, &got, static_cast<int32_t>(sizes[2])) != 0) return 8;
  METHOD("destroy", void, int64_t)(env, nullptr, handle);
  return write_file(argv[5], output, sizes[2]) ? 0 : 9;
}

}  // namespace driving
