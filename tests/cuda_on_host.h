// Runs CUDA C on a CPU, one block after the other, with barriers and warp shuffles: for tests without a GPU.
//
// A block's threads are fibers. At a barrier each waits until all have come: a thread that returns while others wait,
// or two that wait at different barriers, count as faults (cuda_on_host_faults), since a GPU does not define them.
// Between barriers the threads run one by one, in an order that cuda_on_host_order sets: 'f' forward, 'b' backward,
// 's' shuffled. What depends on the order is a race. Memory that the threads of a block share holds NaN when a block
// begins (of a launch's first blocks), and vector accesses stop the program where they are not aligned.
//
// Before this header come the kernels' needs of a C library; after it their text, then for each kernel `params_NAME`,
// the number of its parameters, and `run_NAME(void** args)`, as cuLaunchKernel passes them (tests/gpu_text.py).
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define CUDA_ON_HOST 1
#define __global__ __attribute__((visibility("default")))
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __shared__ [[gnu::section("cuda_shared")]] static
#define ALIGNED(p) (reinterpret_cast<uintptr_t>(p) % 16 ? host::misaligned(p) : (p))

extern "C" [[gnu::weak, gnu::visibility("hidden")]] char __start_cuda_shared[], __stop_cuda_shared[];

namespace host {

struct size3 {
  unsigned x, y, z;
};

constexpr int kStackBytes = 128 << 10, kFilledBlocks = 16;
constexpr int kShuffleIn = -1, kShuffleOut = -2;  // where a fiber waits, other than at a barrier: that is its line

struct fiber {
  ucontext_t start;
  jmp_buf at;
  char* stack;
  bool begun, done;
  int barrier;  // where it waits; 0: nowhere
  unsigned lane_value;
};

static fiber* fibers;
static int fiber_count, current;
static bool alone;  // the threads of this block run to their end one by one: the first met no barrier
static jmp_buf scheduler;
static void (*kernel_body)(void**);
static void** kernel_arguments;
static size3 block_index, block_size, grid_size;
static char thread_order = 'f';
static unsigned long long faults;

static void fault(const char* what) {
  if (faults++ < 4) fprintf(stderr, "cuda_on_host: block %u %u %u: %s\n", block_index.x, block_index.y, block_index.z, what);
}

template <class T> T* misaligned(T* p) {
  fprintf(stderr, "cuda_on_host: four floats are accessed at %p\n", static_cast<const void*>(p));
  abort();
}

static size3 thread_index() {
  const unsigned i = static_cast<unsigned>(current);
  return {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
}

static void wait_at(int barrier) {
  if (alone) return fault("some threads meet a barrier, others do not");
  fibers[current].barrier = barrier;
  if (!_setjmp(fibers[current].at)) _longjmp(scheduler, 1);
}

static void fiber_main() {
  kernel_body(kernel_arguments);
  fibers[current].done = true;
  fibers[current].barrier = 0;
  _longjmp(scheduler, 1);
}

// Lets a thread run to its next barrier or its end.
static void resume(int thread) {
  current = thread;
  fiber& f = fibers[thread];
  if (_setjmp(scheduler)) return;
  if (f.begun) _longjmp(f.at, 1);
  f.begun = true;
  getcontext(&f.start);
  f.start.uc_stack.ss_sp = f.stack;
  f.start.uc_stack.ss_size = kStackBytes;
  f.start.uc_link = nullptr;
  makecontext(&f.start, fiber_main, 0);
  setcontext(&f.start);
}

static int in_order(int k, int count) {
  if (thread_order == 'b') return count - 1 - k;
  return thread_order == 's' ? static_cast<int>((k * 97u + 13u) % static_cast<unsigned>(count)) : k;
}

// Lets the threads of a warp run until each waits at a barrier of the block or has come to its end; a shuffle is where
// the warp's threads alone wait for each other.
static void run_warp(int first, int lanes) {
  for (;;) {
    int shuffle = 0, barriers = 0;
    for (int k = 0; k < lanes; ++k) {
      const int i = first + in_order(k, lanes);
      if (!fibers[i].done && fibers[i].barrier == 0) resume(i);
      barriers += !fibers[i].done && fibers[i].barrier > 0;
      if (!fibers[i].done && fibers[i].barrier < 0) {
        if (shuffle && fibers[i].barrier != shuffle) fault("threads of a warp wait at different shuffles");
        shuffle = fibers[i].barrier;
      }
    }
    if (!shuffle) return;
    if (barriers) fault("threads of a warp wait at a shuffle, others at a barrier");
    for (int i = first; i < first + lanes; ++i) fibers[i].barrier = fibers[i].barrier < 0 ? 0 : fibers[i].barrier;
  }
}

static void run_block(int count) {
  alone = false;
  for (int i = 0; i < count; ++i) fibers[i].begun = fibers[i].done = false, fibers[i].barrier = 0;
  resume(in_order(0, count));
  if (fibers[current].done) {
    alone = true;
    for (int k = 1; k < count; ++k) current = in_order(k, count), kernel_body(kernel_arguments);
    return;
  }
  for (;;) {
    const int warps = (count + 31) / 32;
    for (int k = 0; k < warps; ++k) {
      const int warp = in_order(k, warps);
      run_warp(32 * warp, count - 32 * warp < 32 ? count - 32 * warp : 32);
    }
    int waiting = 0, where = 0;
    for (int i = 0; i < count; ++i) {
      if (fibers[i].done) continue;
      ++waiting;
      if (where && fibers[i].barrier != where) fault("threads wait at different barriers");
      where = fibers[i].barrier;
      fibers[i].barrier = 0;
    }
    if (!waiting) return;
    if (waiting != count) fault("threads have returned while others wait at a barrier");
  }
}

static void launch(void (*body)(void**), void** arguments, size3 grid, size3 block) {
  const int count = static_cast<int>(block.x * block.y * block.z);
  if (count > fiber_count) {
    fibers = static_cast<fiber*>(realloc(fibers, sizeof(fiber) * static_cast<size_t>(count)));
    for (int i = fiber_count; i < count; ++i) fibers[i].stack = static_cast<char*>(aligned_alloc(64, kStackBytes));
    fiber_count = count;
  }
  kernel_body = body, kernel_arguments = arguments, grid_size = grid, block_size = block;
  int filled = 0;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        block_index = {x, y, z};
        if (__start_cuda_shared && filled++ < kFilledBlocks)
          memset(__start_cuda_shared, 0xff, static_cast<size_t>(__stop_cuda_shared - __start_cuda_shared));
        run_block(count);
      }
}

// The value of another lane of the warp: 32 consecutive threads of a one-dimensional block.
static unsigned shuffle(unsigned value, int lane) {
  const int self = current;
  fibers[self].lane_value = value;
  wait_at(kShuffleIn);
  const unsigned out = fibers[(self & ~31) + lane].lane_value;
  wait_at(kShuffleOut);
  return out;
}

}  // namespace host

#define threadIdx (host::thread_index())
#define blockIdx host::block_index
#define blockDim host::block_size
#define gridDim host::grid_size
#define __syncthreads() host::wait_at(__LINE__)

template <class T> static T __shfl_xor_sync(unsigned, T value, int distance) {
  static_assert(sizeof(T) % 4 == 0, "registers are exchanged whole");
  unsigned words[sizeof(T) / 4];
  memcpy(words, &value, sizeof value);
  for (unsigned& word : words) word = host::shuffle(word, (host::current & 31) ^ distance);
  memcpy(&value, words, sizeof value);
  return value;
}

#define CUDA_ON_HOST_API extern "C" __attribute__((visibility("default")))
CUDA_ON_HOST_API void cuda_on_host_order(char order) { host::thread_order = order; }
CUDA_ON_HOST_API unsigned long long cuda_on_host_faults() { return host::faults; }
// grid_block: the grid's x, y, z, then the block's.
CUDA_ON_HOST_API void cuda_on_host_launch(void (*run)(void**), void** args, const unsigned grid_block[6]) {
  host::launch(run, args, {grid_block[0], grid_block[1], grid_block[2]}, {grid_block[3], grid_block[4], grid_block[5]});
}
