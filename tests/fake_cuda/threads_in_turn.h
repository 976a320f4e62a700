// CUDA C on the CPU where no kernel has barriers: one thread after the other.
#pragma once
#define __global__ __attribute__((visibility("default")))
#define __restrict__ __restrict
#define __launch_bounds__(n)
struct three { unsigned x, y, z; };
static three threadIdx, blockIdx, blockDim, gridDim;
extern "C" __global__ void cuda_on_host_launch(void (*kernel)(void**), void** arguments, const unsigned* shape) {
  gridDim = {shape[0], shape[1], shape[2]}, blockDim = {shape[3], shape[4], shape[5]};
  const auto each = [](three& at, const three& size, auto inner) {
    for (at.z = 0; at.z < size.z; ++at.z)
      for (at.y = 0; at.y < size.y; ++at.y)
        for (at.x = 0; at.x < size.x; ++at.x) inner();
  };
  each(blockIdx, gridDim, [&] { each(threadIdx, blockDim, [&] { kernel(arguments); }); });
}
