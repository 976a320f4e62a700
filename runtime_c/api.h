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

/* The release of dlpack that wrote this file. */
#define @NAME@_VERSION "@version@"
#define @NAME@_VERSION_MAJOR @version_major@
#define @NAME@_VERSION_MINOR @version_minor@
#define @NAME@_VERSION_PATCH @version_patch@

/* The status that functions return: 0, or an error. @name@_error_text() describes it. */
typedef int32_t @name@_status;
enum {
  @NAME@_OK = 0,
  @NAME@_BAD_ARGUMENT = 1, /* null or misaligned pointer, index out of range, wrong byte count */
  @NAME@_NO_MEMORY = 2,    /* the memory is too small, or none could be allocated */
  @NAME@_NO_WEIGHTS = 3,   /* the weights are in a separate file, or not yet complete */
  @NAME@_BAD_WEIGHTS = 4,  /* the weights do not match this file (size or content) */
  @NAME@_NO_FILE = 5,      /* the weights file cannot be read or is not a regular file */
//@ limited
  @NAME@_TOO_MANY = 8,     /* a run exceeds a maximum that this file was built with; see run() */
//@ end
//@ strings
  @NAME@_TOO_LONG = 9,     /* a string has more bytes than an element of the input */
//@ end
//@ text_alone
  @NAME@_TOO_LONG = 9,     /* a text is too long, or the memory for a result too small */
//@ end
//@ decoder
  @NAME@_FULL = 10,        /* the text would get longer than a predictor can keep */
//@ end
//@ no_cuda
  @NAME@_BAD_CPU = 6       /* compiled for a CPU with instructions that this CPU lacks */
//@ end
//@ cuda
  @NAME@_BAD_CPU = 6,      /* compiled for a CPU or GPU that this computer lacks */
  @NAME@_DEVICE_FAILED = 7 /* the GPU failed; @name@_device() has the words of its driver */
//@ end
};

/* A predictor. Use each from one thread at a time. Predictors have no global state and may share
   weights. */
typedef struct @name@_predictor @name@_predictor;

/* An input or output. `dtype` is NumPy's name ("float32"); `shape` has `rank` dimensions,
   row-major; `bytes` is the total size. Integers q of a quantised tensor represent (q -
   zero_point) * scale; `scale` is 0 if the tensor is not quantised. */
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
@NAME@_API const @name@_tensor* @name@_input(int32_t index);  /* null if out of range */
@NAME@_API const @name@_tensor* @name@_output(int32_t index); /* null if out of range */
@NAME@_API const char* @name@_error_text(@name@_status status);

//@ shapes
//@ whole
/* The model was compiled for several sets of input shapes. A predictor uses one set at a time and
   starts with set 0. @name@_input() and @name@_output() describe set 0;
   the functions below describe the predictor's current set. */
//@ end
//@ samples
//@ pictures
/* The model takes any number of samples within bounds, all of one size within bounds; each such
   number and size is a set of input shapes, and a predictor starts with set 0, the smallest. A run
   computes one sample after the other in the same working memory. @name@_input() and
   @name@_output() describe set 0; the functions below describe the predictor's current set. */
//@ end
//@ linear
/* The model takes any number of samples up to a largest. Set k of input shapes has k + 1 samples; a
   predictor starts with one. A run computes one sample after the other in the same working memory.
   @name@_input() and @name@_output() describe one sample; the functions below describe the
   predictor's current set. */
//@ end
//@ end
@NAME@_API int32_t @name@_shape_count(void);
@NAME@_API int32_t @name@_shape(const @name@_predictor* predictor);
@NAME@_API const @name@_tensor* @name@_input_of(const @name@_predictor* predictor, int32_t index);
@NAME@_API const @name@_tensor* @name@_output_of(const @name@_predictor* predictor, int32_t index);

/* reshape() switches to a set in which this input has this shape. If there are several, it picks
   the one that keeps the most other input shapes, then the first. set_shape() switches by number.
   If no set matches, nothing changes and @NAME@_BAD_ARGUMENT is returned. Inputs and outputs
   whose shape changes are unbound and filled with zeros; the others are kept. Neither function
   allocates. */
@NAME@_API @name@_status @name@_reshape(@name@_predictor* predictor, int32_t input,
                                        const int64_t* shape, int32_t rank);
@NAME@_API @name@_status @name@_set_shape(@name@_predictor* predictor, int32_t number);

//@ end
//@ counted
/* A predictor may have less than @name@_memory_size() bytes, if it is to take no more than some
   shapes. These functions give the bytes that suffice for this shape of an input and all smaller
   ones, of a predictor and of one that shares another's weights; 0 if no set has this shape. Give
   as many to a function that creates a predictor, with memory or with null to have as much
   allocated (0: for all shapes). In a predictor of less memory than a set of shapes needs,
   reshape() and set_shape() change nothing and return @NAME@_NO_MEMORY. */
@NAME@_API size_t @name@_memory_size_for(int32_t input, const int64_t* shape, int32_t rank);
@NAME@_API size_t @name@_shared_memory_size_for(int32_t input, const int64_t* shape, int32_t rank);

//@ end
/* Sizes in bytes: a predictor's working memory, that of a predictor which shares another's weights,
   and the weights. */
@NAME@_API size_t @name@_memory_size(void);
@NAME@_API size_t @name@_shared_memory_size(void);
@NAME@_API size_t @name@_weights_size(void);

//@ known_memory
/* @name@_memory_size(), or a little more, as a constant: for memory that is not
   allocated. With @NAME@_BIND_ONLY a predictor has no memory for inputs and outputs: bind all
   of them before run(). */
#if defined(@NAME@_BIND_ONLY)
#define @NAME@_MEMORY_BYTES ((@handle_words@ * sizeof(void*) + 63) / 64 * 64 + @bound_bytes@)
#else
#define @NAME@_MEMORY_BYTES ((@handle_words@ * sizeof(void*) + 63) / 64 * 64 + @own_bytes@)
#endif

//@ end
/* Creates a predictor in `memory`, at least @name@_memory_size() bytes (null: allocated).
   `weights` must stay valid while the predictor lives and be 16-byte aligned
   (null: the weights inside this file). Inputs start as zeros. Later calls do not allocate. */
@NAME@_API @name@_status @name@_create(@name@_predictor** predictor, void* memory,
                                       size_t memory_bytes, const void* weights,
                                       size_t weights_bytes);

/* Creates a predictor before its weights arrive. Call @name@_weights_arrived(n) when the first
   n bytes at `weights` are final; work that depends on them runs then. The predictor can run once
   all bytes have arrived. */
@NAME@_API @name@_status @name@_create_early(@name@_predictor** predictor, void* memory,
                                             size_t memory_bytes, const void* weights,
                                             size_t weights_bytes);
@NAME@_API @name@_status @name@_weights_arrived(@name@_predictor* predictor, size_t bytes);

/* Creates another predictor, for another thread, that shares the weights of `like`, including what
   was computed from them. `like` must outlive it. `memory` needs @name@_shared_memory_size()
   bytes. */
@NAME@_API @name@_status @name@_create_shared(@name@_predictor** predictor, void* memory,
                                              size_t memory_bytes, const @name@_predictor* like);

/* Creates a predictor with weights from a file, which is memory-mapped. One that is damaged or
   belongs to another build gives @NAME@_BAD_WEIGHTS; it is recognised by a fingerprint, which
   does not stop somebody who makes a file to pass: for that, compare the SHA-256 in
   manifest.json. Do not change the file while it is mapped: if it is truncated then, reading the
   missing pages raises SIGBUS. To update it, write a new file and rename it over the old one.
   Returns @NAME@_NO_FILE if the weights are inside this file. */
@NAME@_API @name@_status @name@_create_from_file(@name@_predictor** predictor,
                                                 const char* weights_path);

//@ counted
/* The same with `memory_bytes` bytes of memory, as @name@_memory_size_for() gives them (0: for all
   shapes). */
@NAME@_API @name@_status @name@_create_from_file_within(@name@_predictor** predictor,
                                                        const char* weights_path,
                                                        size_t memory_bytes);

//@ end
/* Maps and checks a weights file that several predictors share (as above; the same holds for
   truncation). Pass the result to create_mapped(). Unmap it after destroying the last of them. */
@NAME@_API @name@_status @name@_map_weights(const char* weights_path, const void** weights,
                                            size_t* weights_bytes);
@NAME@_API @name@_status @name@_create_mapped(@name@_predictor** predictor, void* memory,
                                              size_t memory_bytes, const void* weights,
                                              size_t weights_bytes);
@NAME@_API void @name@_unmap_weights(const void* weights, size_t weights_bytes);

//@ strings
/* An input or output of strings has a dtype such as "S64": each element is 64 bytes, UTF-8, the
   rest of them zeros, and ends with a zero at least. set_string() sets an element of an input;
   @NAME@_TOO_LONG if the text does not fit. Elements of outputs are C strings, as many bytes
   apart. */
@NAME@_API @name@_status @name@_set_string(@name@_predictor* predictor, int32_t index,
                                           size_t element, const char* text);

//@ end
/* set_input() copies the data. bind_input() makes the predictor read it in place until the next
   set_input() or bind_input(). input_data() returns the address that runs read from. */
@NAME@_API @name@_status @name@_set_input(@name@_predictor* predictor, int32_t index,
                                          const void* data, size_t bytes);
@NAME@_API @name@_status @name@_bind_input(@name@_predictor* predictor, int32_t index,
                                           const void* data, size_t bytes);
@NAME@_API const void* @name@_input_data(const @name@_predictor* predictor, int32_t index);

//@ no_limits
/* Computes all outputs from the inputs. */
//@ end
//@ limited
/* Computes all outputs from the inputs. Where the data exceeds a maximum that this file was built
   with (--max), @NAME@_TOO_MANY is returned: selections and loops stopped at the maximum, and the
   outputs are what follows from that. */
//@ end
@NAME@_API @name@_status @name@_run(@name@_predictor* predictor);

/* Whether runs treat denormals (magnitudes below 1.2e-38) as zeros; default: no. Denormals are
   several times slower on many CPUs. The CPU's mode is set for the duration of a run, on all its
   threads, and restored. Effective on x86 with SSE and on 64-bit Arm; ignored elsewhere. */
@NAME@_API @name@_status @name@_set_flush_denormals(@name@_predictor* predictor, int32_t flush);

/* Number of threads per run, including the caller. A count beyond the file's maximum (dlpack
   build --threads, default 1) is lowered to it; threads() returns the number in use, which
   starts as the number of processors. Do not call it during a run.
   After fork(), the child's predictor has one thread until set_threads() is called; do not fork
   during a run. */
@NAME@_API @name@_status @name@_set_threads(@name@_predictor* predictor, int32_t count);
@NAME@_API int32_t @name@_threads(const @name@_predictor* predictor);

/* Runs one step at a time, in order from 0 to @name@_step_count() - 1: for progress and
   profiling. */
@NAME@_API int32_t @name@_step_count(void);
@NAME@_API const char* @name@_step_name(int32_t index);
@NAME@_API @name@_status @name@_run_step(@name@_predictor* predictor, int32_t index);
//@ choices

/* The steps of a predictor, which @name@_run_step() does; the functions above are for a new one. */
@NAME@_API int32_t @name@_step_count_of(const @name@_predictor* predictor);
@NAME@_API const char* @name@_step_name_of(const @name@_predictor* predictor, int32_t index);
//@ end

//@ machines
/* The file has kernels for several machines, the best first. A predictor uses the first one that
   the processor supports. set_variant() chooses another: BAD_CPU if the processor does not support
   it, BAD_ARGUMENT for a predictor that shares its weights. */
@NAME@_API int32_t @name@_variant_count(void);
@NAME@_API const char* @name@_variant_name(int32_t index); /* null if there is none */
@NAME@_API const char* @name@_variant(const @name@_predictor* predictor);
@NAME@_API @name@_status @name@_set_variant(@name@_predictor* predictor, int32_t index);

//@ end
//@ cuda
/* What the predictor runs on, and why not on a GPU if one was asked for, in words: "cuda: NVIDIA H200 (sm_90)",
   "cpu: avx512: no CUDA driver (libcuda.so.1 ...)". After @NAME@_DEVICE_FAILED it ends with what the driver said;
   @name@_set_variant() can then go on with the CPU's kernels. */
@NAME@_API const char* @name@_device(const @name@_predictor* predictor);

/* @name@_create(), and so the other functions that create, takes the GPU of the CUDA context that is current in the calling
   thread, and that context; without one, GPU 0 and its primary context; without a GPU that works, the CPU. This
   function takes the GPU `device`: "cpu" none, "cuda:1" that number, "cuda" or null as above. It too falls to the CPU:
   @name@_device() says which it is. */
@NAME@_API @name@_status @name@_create_on(@name@_predictor** predictor, const char* device,
                                          void* memory, size_t memory_bytes, const void* weights,
                                          size_t weights_bytes);

/* Makes runs read an input from the GPU's memory, or write an output there, without a copy if it is 16-byte aligned: an
   address that the predictor's GPU reaches, `bytes` bytes, until the next call that sets or binds it. @NAME@_BAD_ARGUMENT where the size is
   wrong, the memory is not the GPU's, or the predictor runs on the CPU. Input data must be complete before run(), as after
   work on cuda_stream(), a CUstream; output data is complete when run() returns. input_data() and output_data() then give
   the GPU's address; get_output() copies from there. */
@NAME@_API @name@_status @name@_bind_input_device(@name@_predictor* predictor, int32_t index,
                                                  const void* data, size_t bytes);
@NAME@_API @name@_status @name@_bind_output_device(@name@_predictor* predictor, int32_t index,
                                                   void* data, size_t bytes);
@NAME@_API void* @name@_cuda_stream(const @name@_predictor* predictor); /* null on the CPU */

//@ end
/* get_output() copies the data. output_data() returns its address, valid until the next run.
   bind_output() makes runs write to `data`. */
@NAME@_API @name@_status @name@_get_output(@name@_predictor* predictor, int32_t index, void* data,
                                           size_t bytes);
@NAME@_API const void* @name@_output_data(@name@_predictor* predictor, int32_t index);
@NAME@_API @name@_status @name@_bind_output(@name@_predictor* predictor, int32_t index, void* data,
                                            size_t bytes);

//@ sized
/* The shape of output `index` in the last run, `rank` numbers, valid until the next run; null if
   out of range. @name@_output() has the largest shape of an output whose size only a run knows,
   and its elements lie as in that shape: those beyond the true one are undefined. The last outputs,
   named NAME.shape, hold these shapes. */
@NAME@_API const int64_t* @name@_output_shape(const @name@_predictor* predictor, int32_t index);

//@ end
@declarations@@NAME@_API void @name@_destroy(@name@_predictor* predictor);

#ifdef __cplusplus
}  // extern "C"

namespace @name@ {

// Owns a predictor. It throws nothing: it converts to false if creation failed (see status()) or
// after a move, and calls return their status.
class Predictor {
 public:
  Predictor() { status_ = @name@_create(&handle_, nullptr, 0, nullptr, 0); }
  Predictor(const void* weights, size_t bytes) {
    status_ = @name@_create(&handle_, nullptr, 0, weights, bytes);
  }
  explicit Predictor(const char* weights_path) {
    status_ = @name@_create_from_file(&handle_, weights_path);
  }
  ~Predictor() { @name@_destroy(handle_); }
  Predictor(const Predictor&) = delete;
  Predictor& operator=(const Predictor&) = delete;
  Predictor(Predictor&& other) noexcept : handle_(other.handle_), status_(other.status_) {
    other.handle_ = nullptr;
  }
  Predictor& operator=(Predictor&& other) noexcept {
    @name@_predictor* const handle = handle_;
    const @name@_status status = status_;
    handle_ = other.handle_, status_ = other.status_;
    other.handle_ = handle, other.status_ = status;
    return *this;
  }

//@ counted
  // With as much memory as @name@_memory_size_for() gives for the largest shape that it is to take,
  // and with the weights inside this file or `weights`.
  static Predictor within(size_t memory_bytes, const void* weights = nullptr, size_t bytes = 0) {
    @name@_predictor* handle = nullptr;
    const @name@_status status = @name@_create(&handle, nullptr, memory_bytes, weights, bytes);
    return Predictor(handle, status);
  }
//@ end
  // Another predictor with the same weights, for another thread. This one must outlive it.
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
//@ strings
  @name@_status set_string(int32_t index, size_t element, const char* text) {
    return @name@_set_string(handle_, index, element, text);
  }
//@ end
  @name@_status bind_input(int32_t index, const void* data, size_t bytes) {
    return @name@_bind_input(handle_, index, data, bytes);
  }
  @name@_status bind_output(int32_t index, void* data, size_t bytes) {
    return @name@_bind_output(handle_, index, data, bytes);
  }
  @name@_status run() { return @name@_run(handle_); }
//@ cuda
  // On the GPU `device` ("cuda:1"), with the weights inside this file or `weights`; see @name@_create_on().
  static Predictor on(const char* device, const void* weights = nullptr, size_t bytes = 0) {
    @name@_predictor* handle = nullptr;
    const @name@_status status = @name@_create_on(&handle, device, nullptr, 0, weights, bytes);
    return Predictor(handle, status);
  }
  const char* device() const { return @name@_device(handle_); }
  @name@_status bind_input_device(int32_t index, const void* data, size_t bytes) {
    return @name@_bind_input_device(handle_, index, data, bytes);
  }
  @name@_status bind_output_device(int32_t index, void* data, size_t bytes) {
    return @name@_bind_output_device(handle_, index, data, bytes);
  }
//@ end
  @name@_status set_flush_denormals(bool flush) {
    return @name@_set_flush_denormals(handle_, flush ? 1 : 0);
  }
//@ shapes
  // Example: predictor.reshape(0, {1, 3, 224, 224}).
  template <size_t rank> @name@_status reshape(int32_t input, const int64_t (&shape)[rank]) {
    return @name@_reshape(handle_, input, shape, static_cast<int32_t>(rank));
  }
  @name@_status set_shape(int32_t number) { return @name@_set_shape(handle_, number); }
  int32_t shape() const { return @name@_shape(handle_); }
//@ end
  template <class T> const T* output(int32_t index) const {
    return static_cast<const T*>(@name@_output_data(handle_, index));
  }
//@ sized
  const int64_t* output_shape(int32_t index) const { return @name@_output_shape(handle_, index); }
//@ end
@methods@
 private:
  Predictor(@name@_predictor* handle, @name@_status status) : handle_(handle), status_(status) {}

  @name@_predictor* handle_ = nullptr;
  @name@_status status_ = @NAME@_NO_MEMORY;
};

}  // namespace @name@
#endif  // __cplusplus

#endif  // @NAME@_H
