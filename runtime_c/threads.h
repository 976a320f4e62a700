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
// Hints to the CPU that this is a spin loop.
#if defined(__x86_64__) || defined(__i386__)
INLINE void spin() { __builtin_ia32_pause(); }
#elif defined(__aarch64__) || defined(__arm__)
INLINE void spin() { __asm__ volatile("yield"); }
#else
INLINE void spin() {}
#endif

// A predictor's threads. They run one job at a time: the trips of one step, split into parts. The
// caller and the workers claim parts one by one, so a slow core claims fewer. After a job, workers
// spin briefly for the next one, then sleep. Nothing is allocated after create.
}  // namespace
struct worker_id {
  @name@_predictor* predictor;
  int32_t number;
};

struct thread_pool {
  uint64_t ticket;  // job number * 2^32 + number of unclaimed parts
  int32_t step, trips, part;  // the job: a step, its trips, and the trips per part
  int32_t flush;    // whether the job treats denormals as zeros
  int32_t done;     // finished parts
  int32_t jobs;     // job counter; workers wait for it to change
  int32_t asleep;   // sleeping workers
  int32_t stop;     // nonzero: workers exit
  int32_t count;    // threads, including the caller
#if defined(@NAME@_POSIX_THREADS)
  pid_t process;    // the process that the workers belong to
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
// Runs parts of the job until none is left. Decrementing the ticket claims a part. Its upper half
// is the job number, so the exchange fails if a new job has started since step and trips were read.
void take_parts(const @name@_predictor& p, int32_t worker) {
  thread_pool& pool = *p.pool;
  uint64_t ticket = __atomic_load_n(&pool.ticket, __ATOMIC_ACQUIRE);
  while (static_cast<uint32_t>(ticket) != 0) {
    const int32_t step = look(pool.step), trips = look(pool.trips), part = look(pool.part);
    // The caller has set its mode for the whole run.
    const bool flush = worker != 0 && look(pool.flush) != 0;
    if (!__atomic_compare_exchange_n(&pool.ticket, &ticket, ticket - 1, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
      continue;
    const int32_t begin = (static_cast<int32_t>(static_cast<uint32_t>(ticket)) - 1) * part;
    const uint64_t floats = flush ? flush_denormals() : 0;
    run_part(p, step, begin, trips - begin < part ? trips : begin + part, worker);
    if (flush) restore_floats(floats);
    __atomic_add_fetch(&pool.done, 1, __ATOMIC_RELEASE);
    ticket = __atomic_load_n(&pool.ticket, __ATOMIC_ACQUIRE);
  }
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

// Runs all trips of a step on all threads and waits for them.
void share_trips(const @name@_predictor& p, int32_t step, int32_t trips) {
  thread_pool& pool = *p.pool;
  if (pool.count == 1) return run_part(p, step, 0, trips, 0);
#if defined(@NAME@_WORKERS)
  const int32_t part = (trips - 1) / (4 * pool.count) + 1, parts = (trips - 1) / part + 1;
  put(pool.step, step), put(pool.trips, trips), put(pool.part, part), put(pool.flush, p.flush),
      put(pool.done, 0);
  const uint64_t number = (look(pool.ticket) >> 32) + 1;
  __atomic_store_n(&pool.ticket, number << 32 | static_cast<uint64_t>(parts), __ATOMIC_SEQ_CST);
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
// A worker's main loop: waits for a job (spins for about 50 microseconds, then sleeps) and runs
// parts of it.
void work(const @name@_predictor& p, int32_t worker) {
  thread_pool& pool = *p.pool;
  int32_t seen = 0;
  while (__atomic_load_n(&pool.stop, __ATOMIC_ACQUIRE) == 0) {
    for (int32_t turns = 0; turns < 2000 && look(pool.jobs) == seen; ++turns) spin();
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
