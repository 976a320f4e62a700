#ifndef @NAME@_H
#define @NAME@_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if !defined(@NAME@_API)
#define @NAME@_API __attribute__((visibility("default")))
#endif

/* What every function returns: 0, or what went wrong. @name@_error_text() says it in words. */
typedef int32_t @name@_status;
enum {
  @NAME@_OK = 0,
  @NAME@_BAD_ARGUMENT = 1, /* a null or misaligned pointer, an index out of range, a wrong number of bytes */
  @NAME@_NO_MEMORY = 2,    /* the memory given is too small, or none could be had */
  @NAME@_NO_WEIGHTS = 3,   /* the weights lie in a file of their own and were not given */
  @NAME@_BAD_WEIGHTS = 4,  /* the weights are not those that this file was built with */
  @NAME@_NO_FILE = 5,      /* the weights file cannot be read, or is no regular file */
  @NAME@_BAD_CPU = 6       /* this file was compiled for a CPU with instructions that this one lacks */
};

/* A predictor: one per thread. It owns no global state; the weights may be shared. */
typedef struct @name@_predictor @name@_predictor;

/* An input or output: dtype as in numpy ("float32"), shape of `rank` dimensions, row-major, `bytes` in all.
   If it is quantised, its integers q stand for the real numbers (q - zero_point) * scale; else scale is 0. */
typedef struct @name@_tensor {
  const char* name;
  const char* dtype;
  const int64_t* shape;
  int32_t rank;
  size_t bytes;
  float scale;
  int32_t zero_point;
} @name@_tensor;

@NAME@_API int32_t @name@_input_count(void);
@NAME@_API int32_t @name@_output_count(void);
@NAME@_API const @name@_tensor* @name@_input(int32_t index);  /* null where there is none */
@NAME@_API const @name@_tensor* @name@_output(int32_t index); /* null where there is none */
@NAME@_API const char* @name@_error_text(@name@_status status);

//@ shapes
/* The model was compiled for several sets of input shapes. A predictor has one of them at a time, the first (0) when it is
   made: @name@_input() and @name@_output() describe that one, these functions the one that the predictor has now. */
@NAME@_API int32_t @name@_shape_count(void);
@NAME@_API int32_t @name@_shape(const @name@_predictor* predictor);
@NAME@_API const @name@_tensor* @name@_input_of(const @name@_predictor* predictor, int32_t index);
@NAME@_API const @name@_tensor* @name@_output_of(const @name@_predictor* predictor, int32_t index);

/* Takes the set in which an input has this shape; of several that in which the most inputs keep their shapes, of these the
   first. Or takes the set of that number. Without such a set nothing changes (@NAME@_BAD_ARGUMENT). Inputs and outputs whose
   shape changes are bound no more and become zeros; the others stay. Nothing is allocated: there is memory for the largest. */
@NAME@_API @name@_status @name@_reshape(@name@_predictor* predictor, int32_t input, const int64_t* shape, int32_t rank);
@NAME@_API @name@_status @name@_set_shape(@name@_predictor* predictor, int32_t number);

//@ end
/* Bytes of memory that a predictor works in, that one with another's weights works in, and of the weights. */
@NAME@_API size_t @name@_memory_size(void);
@NAME@_API size_t @name@_shared_memory_size(void);
@NAME@_API size_t @name@_weights_size(void);

/* Makes a predictor in `memory` (of at least @name@_memory_size() bytes; null: it is allocated), with `weights` in
   memory for as long as the predictor lives, at a multiple of 16 bytes (null: those inside this file).
   After it nothing allocates. All inputs start as zeros. */
@NAME@_API @name@_status @name@_create(@name@_predictor** predictor, void* memory, size_t memory_bytes, const void* weights,
                           size_t weights_bytes);

/* A predictor whose weights are still on their way to `weights`: what hangs on them is computed as they come. Tell each time that the first `bytes`
   bytes of them are there for good; it runs when all are. */
@NAME@_API @name@_status @name@_create_early(@name@_predictor** predictor, void* memory, size_t memory_bytes, const void* weights,
                                 size_t weights_bytes);
@NAME@_API @name@_status @name@_weights_arrived(@name@_predictor* predictor, size_t bytes);

/* Another predictor, for another thread, with the weights of `like`, which must outlive it. It works in memory of at least
   @name@_shared_memory_size() bytes: what `like` computed from its weights is not computed again. */
@NAME@_API @name@_status @name@_create_shared(@name@_predictor** predictor, void* memory, size_t memory_bytes,
                                  const @name@_predictor* like);

/* The same with the weights in a file, which is mapped and checked against its SHA-256. The file must stay as it is while it is mapped: where somebody
   cuts it short, reading the missing part ends the process (SIGBUS). Replace a file by renaming another to its name. */
@NAME@_API @name@_status @name@_create_from_file(@name@_predictor** predictor, const char* weights_path);

/* Maps and checks a weights file for several predictors, which create_mapped() makes; unmap it after the last one is destroyed. */
@NAME@_API @name@_status @name@_map_weights(const char* weights_path, const void** weights, size_t* weights_bytes);
@NAME@_API @name@_status @name@_create_mapped(@name@_predictor** predictor, void* memory, size_t memory_bytes, const void* weights,
                                  size_t weights_bytes);
@NAME@_API void @name@_unmap_weights(const void* weights, size_t weights_bytes);

/* Copies an input in, lets the predictor read it where it is (until bound anew), or tells from where it is read. */
@NAME@_API @name@_status @name@_set_input(@name@_predictor* predictor, int32_t index, const void* data, size_t bytes);
@NAME@_API @name@_status @name@_bind_input(@name@_predictor* predictor, int32_t index, const void* data, size_t bytes);
@NAME@_API const void* @name@_input_data(const @name@_predictor* predictor, int32_t index);

/* Computes all outputs from the inputs. */
@NAME@_API @name@_status @name@_run(@name@_predictor* predictor);

/* Whether runs take denormals, numbers closer to zero than 1.2e-38, for zeros (at first they do not). Many processors compute several times as slowly
   where there are denormals. Set for the time of a run on its threads, and put back; x86 (SSE) and 64-bit Arm, elsewhere it changes nothing. */
@NAME@_API @name@_status @name@_set_flush_denormals(@name@_predictor* predictor, int32_t flush);

/* How many threads a run uses, the caller's included. At most as many as the file was made for (dlpack build --threads), 1 in a file made for
   one; at first as many as there are processors. Not while a run is under way. A process that fork() makes has none of these threads: there a predictor
   has one thread until set_threads gives it others. Not to be forked while a run is under way. */
@NAME@_API @name@_status @name@_set_threads(@name@_predictor* predictor, int32_t count);
@NAME@_API int32_t @name@_threads(const @name@_predictor* predictor);

/* The same step by step, 0 to @name@_step_count() - 1 in order: for progress and for profiles. */
@NAME@_API int32_t @name@_step_count(void);
@NAME@_API const char* @name@_step_name(int32_t index);
@NAME@_API @name@_status @name@_run_step(@name@_predictor* predictor, int32_t index);
//@ choices

/* The steps of a predictor, which @name@_run_step() does; those above are what a new predictor has. */
@NAME@_API int32_t @name@_step_count_of(const @name@_predictor* predictor);
@NAME@_API const char* @name@_step_name_of(const @name@_predictor* predictor, int32_t index);
//@ end

//@ machines
/* The file has kernels for several machines, the best first; a predictor runs the first that the processor can. These
   are their names, the one that a predictor has, and a choice of another: BAD_CPU where the processor cannot run it,
   BAD_ARGUMENT for a predictor that shares its weights. */
@NAME@_API int32_t @name@_variant_count(void);
@NAME@_API const char* @name@_variant_name(int32_t index); /* null where there is none */
@NAME@_API const char* @name@_variant(const @name@_predictor* predictor);
@NAME@_API @name@_status @name@_set_variant(@name@_predictor* predictor, int32_t index);

//@ end
/* Copies an output out, tells where it lies (valid until the next run), or has it written where you want it. */
@NAME@_API @name@_status @name@_get_output(@name@_predictor* predictor, int32_t index, void* data, size_t bytes);
@NAME@_API const void* @name@_output_data(@name@_predictor* predictor, int32_t index);
@NAME@_API @name@_status @name@_bind_output(@name@_predictor* predictor, int32_t index, void* data, size_t bytes);

@declarations@@NAME@_API void @name@_destroy(@name@_predictor* predictor);

#ifdef __cplusplus
}  // extern "C"

namespace @name@ {

// Owns a predictor. No exceptions: it is false where none could be made (status() tells why) or after it was moved
// from, and each call returns its own status.
class Predictor {
 public:
  Predictor() { status_ = @name@_create(&handle_, nullptr, 0, nullptr, 0); }
  Predictor(const void* weights, size_t bytes) { status_ = @name@_create(&handle_, nullptr, 0, weights, bytes); }
  explicit Predictor(const char* weights_path) { status_ = @name@_create_from_file(&handle_, weights_path); }
  ~Predictor() { @name@_destroy(handle_); }
  Predictor(const Predictor&) = delete;
  Predictor& operator=(const Predictor&) = delete;
  Predictor(Predictor&& other) noexcept : handle_(other.handle_), status_(other.status_) { other.handle_ = nullptr; }
  Predictor& operator=(Predictor&& other) noexcept {
    @name@_predictor* const handle = handle_;
    const @name@_status status = status_;
    handle_ = other.handle_, status_ = other.status_;
    other.handle_ = handle, other.status_ = status;
    return *this;
  }

  // Another predictor with the same weights, for another thread; this one must outlive it.
  Predictor share() const {
    @name@_predictor* handle = nullptr;
    const @name@_status status = @name@_create_shared(&handle, nullptr, 0, handle_);
    return Predictor(handle, status);
  }

  @name@_status status() const { return status_; }
  explicit operator bool() const { return handle_ != nullptr; }
  @name@_predictor* get() const { return handle_; }

  @name@_status set_input(int32_t index, const void* data, size_t bytes) {
    return @name@_set_input(handle_, index, data, bytes);
  }
  @name@_status bind_input(int32_t index, const void* data, size_t bytes) {
    return @name@_bind_input(handle_, index, data, bytes);
  }
  @name@_status bind_output(int32_t index, void* data, size_t bytes) {
    return @name@_bind_output(handle_, index, data, bytes);
  }
  @name@_status run() { return @name@_run(handle_); }
  @name@_status set_flush_denormals(bool flush) { return @name@_set_flush_denormals(handle_, flush ? 1 : 0); }
//@ shapes
  // As in predictor.reshape(0, {1, 3, 224, 224}).
  template <size_t rank>
  @name@_status reshape(int32_t input, const int64_t (&shape)[rank]) {
    return @name@_reshape(handle_, input, shape, static_cast<int32_t>(rank));
  }
  @name@_status set_shape(int32_t number) { return @name@_set_shape(handle_, number); }
  int32_t shape() const { return @name@_shape(handle_); }
//@ end
  template <class T>
  const T* output(int32_t index) const {
    return static_cast<const T*>(@name@_output_data(handle_, index));
  }
@methods@
 private:
  Predictor(@name@_predictor* handle, @name@_status status) : handle_(handle), status_(status) {}

  @name@_predictor* handle_ = nullptr;
  @name@_status status_ = @NAME@_NO_MEMORY;
};

}  // namespace @name@
#endif  // __cplusplus

#endif  // @NAME@_H
