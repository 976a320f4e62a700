// Times the steps of two predictors in turn: loaded by times.py.
#include <stdint.h>
#include <time.h>

typedef int (*run_step)(void* predictor, int32_t index);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static void one_run(run_step step, void* predictor, int32_t count, double* least) {
  for (int32_t k = 0; k < count; ++k) {
    const double began = now();
    step(predictor, k);
    const double took = now() - began;
    if (took < least[k]) least[k] = took;
  }
}

// Gives the least time of each step in nanoseconds. In a round, one predictor runs several times, then the other, so
// that each finds what it left in the caches; a program that takes the processor meanwhile costs a step its run only.
void least_times(run_step step, void* predictor, int32_t count, double* least, run_step other_step, void* other,
                 int32_t other_count, double* other_least, int32_t rounds, int32_t runs) {
  for (int32_t round = 0; round < rounds; ++round) {
    for (int32_t k = 0; k < runs; ++k) one_run(step, predictor, count, least);
    for (int32_t k = 0; k < runs; ++k) one_run(other_step, other, other_count, other_least);
  }
}
