// What drive.cc needs of a board with a Cortex-M core under QEMU: the start, memory, and this computer's files by Arm's
// semihosting (its specification is "Semihosting for AArch32 and AArch64"). A linker script places what is extern here.
extern "C" {
extern uint32_t data_start[], data_end[], data_source[], bss_start[], bss_end[], stack_end[];
extern char heap_start[], heap_end[];
[[gnu::used, noreturn]] void reset();
}

namespace driving {  // a name of its own: the model may have any
enum { kOpen = 1, kClose = 2, kWriteText = 4, kWrite = 5, kRead = 6, kCommandLine = 21, kExit = 24 };
enum { kReadBytes = 1, kWriteBytes = 5 };            // modes rb and wb
enum { kEnded = 0x20026, kFailed = 0x20023 };        // reasons to exit: the application did, a run-time error

static int32_t host(int32_t operation, const void* arguments) {
  register int32_t r0 __asm__("r0") = operation;
  register const void* r1 __asm__("r1") = arguments;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

[[noreturn]] static void leave(bool well) {
  for (;;) host(kExit, reinterpret_cast<const void*>(static_cast<uintptr_t>(well ? kEnded : kFailed)));
}

static void say(const char* text) { host(kWriteText, text); }

static void* allocate(size_t bytes) {
  static char* next = heap_start;
  char* const at = next;
  bytes = (bytes + 63) / 64 * 64;
  if (bytes > static_cast<size_t>(heap_end - at)) return nullptr;
  next += bytes;
  return at;
}

// Moves bytes between a file and memory; all or nothing.
static bool transfer(int32_t operation, const char* path, int32_t mode, void* data, size_t bytes) {
  size_t length = 0;
  while (path[length] != 0) ++length;
  const uintptr_t name[] = {reinterpret_cast<uintptr_t>(path), static_cast<uintptr_t>(mode), length};
  const int32_t file = host(kOpen, name);
  if (file < 0) return false;
  const uintptr_t part[] = {static_cast<uintptr_t>(file), reinterpret_cast<uintptr_t>(data), bytes};
  const bool whole = host(operation, part) == 0;  // the number of bytes that are left
  host(kClose, part);
  return whole;
}

static bool read_file(const char* path, void* data, size_t bytes) {
  return bytes == 0 || transfer(kRead, path, kReadBytes, data, bytes);
}

static bool write_file(const char* path, const void* data, size_t bytes) {
  return transfer(kWrite, path, kWriteBytes, const_cast<void*>(data), bytes);
}

int drive(int argc, char** argv);

// Cuts the command line at its blanks and starts.
[[noreturn]] static void begin() {
  static char line[4096];
  static char* words[256];
  const uintptr_t place[] = {reinterpret_cast<uintptr_t>(line), sizeof line};
  if (host(kCommandLine, place) != 0) leave(false);
  int count = 0;
  for (char* at = line; *at != 0 && count < 256;) {
    words[count++] = at;
    while (*at != 0 && *at != ' ') ++at;
    if (*at == ' ') *at++ = 0;
  }
  leave(drive(count, words) == 0);
}
}  // namespace driving

extern "C" {
void reset() {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  *reinterpret_cast<volatile uint32_t*>(0xe000ed88) |= 0xfu << 20;  // CPACR: the FPU and the vectors may be used
  __asm__ volatile("dsb\n  isb");
#endif
  for (uint32_t *to = data_start, *from = data_source; to < data_end;) *to++ = *from++;
  for (uint32_t* to = bss_start; to < bss_end;) *to++ = 0;
  driving::begin();
}

[[gnu::used]] static void fault() {
  driving::say("the processor reports a fault\n");
  driving::leave(false);
}

// The stack's end, and what is called at reset, by NMI and faults; what else may be interrupted is not.
typedef void (*handler)();
__attribute__((section(".vectors"), used)) extern const handler vectors[16] = {
    reinterpret_cast<handler>(stack_end), reset, fault, fault, fault, fault, fault, fault, nullptr, nullptr, nullptr, fault, fault, nullptr, fault, fault};
}
