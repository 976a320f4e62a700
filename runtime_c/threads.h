// Threads that share the trips of a kernel's loop. The top of vectors.h explains the sections; a
// document that may use threads has thread_host at its top, thread_pool before the
// predictor's struct and thread_work after the steps.

//@ section thread_host
#if defined(@NAME@_HOST_THREADS)
// The program has threads of its own do work(), and functions by which they sleep until a number
// changes, and wake.
extern "C" void host_wait(const int32_t* number, int32_t value);
extern "C" void host_wake(const int32_t* number);
#elif !defined(@NAME@_FREESTANDING) && !defined(_WIN32)
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#define @NAME@_POSIX_THREADS
#if defined(__linux__)
// glibc's condition variables can lose a wake-up before 2.41 (its bug 25847).
#include <sys/syscall.h>
#if defined(SYS_futex)
#define @NAME@_FUTEXES
#endif
#endif
#endif
#if defined(@NAME@_POSIX_THREADS) || defined(@NAME@_HOST_THREADS) || defined(__wasm_atomics__)
#define @NAME@_WORKERS  // otherwise there is one thread
#endif

//@ section thread_pool
// A turn of a spin loop, and the turns of about half a millisecond: longer than the steps between two
// shared ones, since to wake a sleeping thread takes tens of microseconds.
#if defined(__x86_64__) || defined(__i386__)
INLINE void spin() { __builtin_ia32_pause(); }
constexpr int32_t kSpinTurns = 20000;
#elif defined(__aarch64__)
INLINE void spin() { __asm__ volatile("isb" ::: "memory"); }  // "yield" does nothing on most cores
constexpr int32_t kSpinTurns = 20000;
#else
INLINE void spin() {}
constexpr int32_t kSpinTurns = 200000;
#endif

// A predictor's threads. They run one job at a time: the trips of one step, split into parts. Each
// thread has a share of the parts, the same fraction of every step, so that it mostly reads what it
// has written itself in the step before. A thread whose share is empty takes from the others', so a
// slow core does less. After a job, workers spin briefly for the next one, then sleep. Nothing is
// allocated after create.
}  // namespace
struct worker_id {
  @name@_predictor* predictor;
  int32_t number;
};

// What one thread changes often lies in a cache line of its own.
struct alignas(64) thread_share {
  uint64_t parts;  // job number * 2^32 + first unclaimed part * 2^16 + end of the unclaimed parts
};

struct thread_pool {
  alignas(64) int32_t step;  // the job: a step,
  int32_t trips, parts;  // its trips, and the parts that they are split into
  size_t trip;  // the trip of the loop that the step stands in
  int32_t flush;  // whether the job treats denormals as zeros
  int32_t jobs;  // job counter; workers wait for it to change
  int32_t stop;  // nonzero: workers exit
  int32_t count;  // threads, including the caller
  alignas(64) int32_t done;  // finished parts
  int32_t asleep;  // sleeping workers
  thread_share shares[kMostThreads];
#if defined(@NAME@_POSIX_THREADS)
  pid_t process;  // the process that the workers belong to
#if !defined(@NAME@_FUTEXES)
  pthread_mutex_t mutex;
  pthread_cond_t wake;
#endif
  pthread_t threads[kMostThreads];
  worker_id workers[kMostThreads];
#endif
};

namespace {

template <class T> INLINE T look(const T& x) { return __atomic_load_n(&x, __ATOMIC_RELAXED); }
template <class T> INLINE void put(T& x, T value) { __atomic_store_n(&x, value, __ATOMIC_RELAXED); }

//@ section thread_work
#if defined(@NAME@_WORKERS)
// Runs parts of the job until none is left: the thread's own share from its front, then the others'
// from their ends. The upper half of a share is the job number, so the exchange that claims a part
// fails if a new job has started since step, trips and parts were read.
void take_parts(const @name@_predictor& p, int32_t worker) {
  thread_pool& pool = *p.pool;
  const int32_t count = look(pool.count);
  int32_t done = 0;
  for (int32_t k = 0; k < count; ++k) {
    uint64_t& share = pool.shares[(worker + k) % count].parts;
    uint64_t unclaimed = __atomic_load_n(&share, __ATOMIC_ACQUIRE);
    for (;;) {
      const int32_t first = static_cast<int32_t>(unclaimed >> 16 & 0xffff);
      const int32_t last = static_cast<int32_t>(unclaimed & 0xffff) - 1;
      if (first > last) break;
      const int32_t step = look(pool.step);
      const int64_t trips = look(pool.trips), parts = look(pool.parts);
      // The caller has set its mode for the whole run.
      const bool flush = worker != 0 && look(pool.flush) != 0;
      if (!__atomic_compare_exchange_n(&share, &unclaimed,
                                       k == 0 ? unclaimed + 0x10000 : unclaimed - 1, false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        continue;
      const int64_t part = k == 0 ? first : last;
      const uint64_t floats = flush ? flush_denormals() : 0;
      run_part(p, step, static_cast<int32_t>(trips * part / parts),
               static_cast<int32_t>(trips * (part + 1) / parts), worker);
      if (flush) restore_floats(floats);
      ++done;
      unclaimed = __atomic_load_n(&share, __ATOMIC_ACQUIRE);
    }
  }
  if (done != 0) __atomic_add_fetch(&pool.done, done, __ATOMIC_RELEASE);
}

void wake_workers(thread_pool& pool) {
  if (__atomic_load_n(&pool.asleep, __ATOMIC_SEQ_CST) == 0) return;
#if defined(@NAME@_FUTEXES)
  constexpr int wake = 1 | 128;  // FUTEX_WAKE among the threads of one process
  syscall(SYS_futex, &pool.jobs, wake, 0x7fffffff, nullptr, nullptr, 0);
#elif defined(@NAME@_POSIX_THREADS)
  pthread_mutex_lock(&pool.mutex);
  pthread_cond_broadcast(&pool.wake);
  pthread_mutex_unlock(&pool.mutex);
#elif defined(@NAME@_HOST_THREADS)
  host_wake(&pool.jobs);
#elif defined(__wasm_atomics__)
  __builtin_wasm_memory_atomic_notify(&pool.jobs, 0x7fffffff);
#endif
}

#endif  // @NAME@_WORKERS

// Runs all trips of a step on all threads and waits for them. A step in a loop has a number behind
// the program's steps; `trip` is that of the loop.
void share_trips(const @name@_predictor& p, int32_t step, int32_t trips, size_t trip) {
  thread_pool& pool = *p.pool;
  put(pool.trip, trip);
  if (pool.count == 1) return run_part(p, step, 0, trips, 0);
#if defined(@NAME@_WORKERS)
  const int32_t most = 8 * pool.count, parts = trips < most ? trips : most;
  put(pool.step, step), put(pool.trips, trips), put(pool.parts, parts), put(pool.flush, p.flush),
      put(pool.done, 0);
  const uint64_t number = (look(pool.shares[0].parts) >> 32) + 1;
  int32_t first = 0;
  for (int32_t k = 0; k < pool.count; ++k) {
    const int32_t end = parts * (k + 1) / pool.count;
    __atomic_store_n(&pool.shares[k].parts, number << 32 | static_cast<uint32_t>(first << 16 | end),
                     __ATOMIC_RELEASE);
    first = end;
  }
  __atomic_add_fetch(&pool.jobs, 1, __ATOMIC_SEQ_CST);
  wake_workers(pool);
  take_parts(p, 0);
  for (int32_t turns = 0; __atomic_load_n(&pool.done, __ATOMIC_ACQUIRE) != parts; ++turns) {
#if defined(@NAME@_POSIX_THREADS)
    if (turns > 4000) sched_yield();
#endif
    spin();
  }
#endif
}

#if defined(@NAME@_WORKERS)
// A worker's main loop: waits for a job (spins for a while, then sleeps) and runs parts of it.
void work(const @name@_predictor& p, int32_t worker) {
  thread_pool& pool = *p.pool;
  int32_t seen = 0;
  while (__atomic_load_n(&pool.stop, __ATOMIC_ACQUIRE) == 0) {
    for (int32_t turns = 0; turns < kSpinTurns && look(pool.jobs) == seen; ++turns) spin();
    if (look(pool.jobs) == seen) {
#if defined(@NAME@_POSIX_THREADS) && !defined(@NAME@_FUTEXES)
      pthread_mutex_lock(&pool.mutex);
      __atomic_add_fetch(&pool.asleep, 1, __ATOMIC_SEQ_CST);
      while (__atomic_load_n(&pool.jobs, __ATOMIC_SEQ_CST) == seen)
        pthread_cond_wait(&pool.wake, &pool.mutex);
      __atomic_sub_fetch(&pool.asleep, 1, __ATOMIC_SEQ_CST);
      pthread_mutex_unlock(&pool.mutex);
#else
      __atomic_add_fetch(&pool.asleep, 1, __ATOMIC_SEQ_CST);
#if defined(@NAME@_FUTEXES)
      constexpr int wait = 0 | 128;  // FUTEX_WAIT, unless the number has changed
      syscall(SYS_futex, &pool.jobs, wait, seen, nullptr, nullptr, 0);
#elif defined(@NAME@_HOST_THREADS)
      host_wait(&pool.jobs, seen);
#else
      __builtin_wasm_memory_atomic_wait32(&pool.jobs, seen, -1);
#endif
      __atomic_sub_fetch(&pool.asleep, 1, __ATOMIC_SEQ_CST);
#endif
    }
    seen = __atomic_load_n(&pool.jobs, __ATOMIC_ACQUIRE);
    take_parts(p, worker);
  }
}
#endif

#if defined(@NAME@_POSIX_THREADS)
void* work_of(void* id) {
  const worker_id& me = *static_cast<const worker_id*>(id);
  work(*me.predictor, me.number);
  return nullptr;
}
#endif

// Call before the first start_workers().
void init_pool([[maybe_unused]] thread_pool& pool) {
#if defined(@NAME@_POSIX_THREADS)
  pool.process = getpid();
#if !defined(@NAME@_FUTEXES)
  pthread_mutex_init(&pool.mutex, nullptr);
  pthread_cond_init(&pool.wake, nullptr);
#endif
#endif
}

// After fork(), the child has no workers, and a mutex that one of them held would stay locked: reset
// the pool to one thread.
void notice_fork([[maybe_unused]] thread_pool& pool) {
#if defined(@NAME@_POSIX_THREADS)
  if (pool.process == getpid()) return;
  init_pool(pool);
  pool.asleep = 0;
  pool.count = 1;
#endif
}

void stop_workers(const @name@_predictor& p) {
  thread_pool& pool = *p.pool;
  notice_fork(pool);
#if defined(@NAME@_WORKERS)
  __atomic_store_n(&pool.stop, 1, __ATOMIC_SEQ_CST);
  __atomic_add_fetch(&pool.jobs, 1, __ATOMIC_SEQ_CST);
  wake_workers(pool);
#endif
#if defined(@NAME@_POSIX_THREADS)
  for (int32_t k = 1; k < pool.count; ++k) pthread_join(pool.threads[k], nullptr);
#endif
  pool.count = 1;
}

// Starts workers for `count` threads including the caller, or fewer if the system refuses.
void start_workers(@name@_predictor& p, int32_t count) {
  thread_pool& pool = *p.pool;
  pool.stop = pool.jobs = pool.asleep = 0;
  pool.count = 1;
#if defined(@NAME@_POSIX_THREADS)
  while (pool.count < count) {
    worker_id& id = pool.workers[pool.count];
    id = {&p, pool.count};
    if (pthread_create(&pool.threads[pool.count], nullptr, work_of, &id) != 0) return;
    ++pool.count;
  }
#elif defined(@NAME@_WORKERS)
  pool.count = count;  // the page or program starts the workers, which work()
#else
  (void)count;
#endif
}

// Initial number of threads: the number of processors, at most kMostThreads.
int32_t first_count() {
#if defined(@NAME@_POSIX_THREADS)
  const long processors = sysconf(_SC_NPROCESSORS_ONLN);
  if (processors < 1) return 1;
  return processors < kMostThreads ? static_cast<int32_t>(processors) : kMostThreads;
#else
  return 1;
#endif
}
