// With @NAME@_MXNET_API, programs written for MXNet's c_predict_api.h link with this file
// unchanged. Differences:
//@ mxnet_model
// - The network is compiled in. symbol_json_str and param_bytes have to be the files that it was
//   built from, which is checked by their SHA-256. symbol_json_str is read to the end of its JSON
//   and no further, since MXNet's own examples pass text that no 0 ends.
//@ end
//@ no_mxnet_model
// - The network is compiled in: symbol_json_str is ignored and may be null.
//@ end
// - dev_type is 1 (CPU).
//@ no_side_file
//@ mxnet_model
// - The weights are inside this file. The content of a @name@.weights is accepted as well.
//@ end
//@ no_mxnet_model
// - The weights are inside this file: param_bytes is empty, or the content of a @name@.weights.
//@ end
//@ end
//@ side_file
// - param_bytes is the content of @name@.weights (checked by a fingerprint). It is copied once for
//   all handles that MXPredCreateMultiThread and MXPredReshape make of it.
//@ end
//@ one_shape
// - Input keys are the model's inputs. Shapes must be the compiled ones, also in MXPredReshape.
//   Inputs of a new or reshaped handle are zeros.
//@ end
//@ shapes
// - Input keys are the model's inputs. Shapes select one of the compiled sets of shapes; in
//   MXPredReshape, inputs that are not named keep their shapes if possible. Inputs of a new or
//   reshaped handle are zeros.
//@ end
// - MXPredSetInput and MXPredGetOutput take and give elements of the tensor's own type, as in
//   MXNet. An input that is not float32 must have been given its type with MXPredCreateEx.
// - MXPredCreatePartialOut selects among the model's outputs and the inner values that it was built
//   with (dlpack build --keep-internals), with or without the suffix "_output".
// - A monitor sees the model's outputs and these inner values, each after the step that computes
//   it; with monitor_all the inputs as well. The arrays it is given are read with
//   MXNDArrayGetShape, MXNDArrayGetShapeEx, MXNDArrayGetDType, MXNDArrayGetData and
//   MXNDArraySyncCopyToCPU. They belong to the predictor; MXNDArrayFree does nothing.
// - Handles from one MXPredCreate, MXPredCreateMultiThread or MXPredReshape share their weights.
//   The memory of the first is released with the last of them.
// - Returned shapes and arrays live as long as their handle. After a failure, *out is null.
// - MXNDListCreate reads all versions of MXNet's files of dense arrays and converts elements to
//   float.
// The functions have MXNet's names: compile only one file of a program with this macro. They
// allocate. The only writable global is MXGetLastError's text, one buffer per thread.
#if defined(@NAME@_MXNET_API)
#if defined(@NAME@_FREESTANDING)
#error "@NAME@_MXNET_API needs a C library (it allocates): leave it or @NAME@_FREESTANDING out"
#else
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned int mx_uint;
typedef float mx_float;
typedef void* PredictorHandle;
typedef void* NDListHandle;
typedef void* NDArrayHandle;
typedef void (*PredMonitorCallback)(const char*, NDArrayHandle, void*);

namespace impl { namespace {

thread_local char mx_error_text[1024];

[[gnu::format(printf, 1, 2)]] int mx_fail(const char* format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(mx_error_text, sizeof mx_error_text, format, values);
  va_end(values);
  return -1;
}

@mxnet_tables@

// --- names, shapes and types

// A shape as text, as in "1x3x224x224".
struct mx_shape_text {
  char chars[192];
  template <class T> mx_shape_text(const T* shape, size_t rank) {
    size_t at = 0;
    chars[0] = 0;
    for (size_t d = 0; d < rank && d < 8; ++d) {
      const int n = snprintf(chars + at, sizeof chars - at, "%s%lld", d == 0 ? "" : "x",
                             static_cast<long long>(shape[d]));
      at += n > 0 ? static_cast<size_t>(n) : 0;
    }
    if (rank == 0 || rank > 8)
      snprintf(chars + at, sizeof chars - at, rank == 0 ? "that of a scalar" : "...");
  }
};

// The names of inputs or outputs, separated by commas, as many as fit.
struct mx_names_text {
  char chars[256];
  mx_names_text(const @name@_tensor* tensors, int32_t count) {
    size_t at = 0;
    chars[0] = 0;
    for (int32_t i = 0; i < count && at < sizeof chars; ++i) {
      const int n =
          snprintf(chars + at, sizeof chars - at, "%s%s", i == 0 ? "" : ", ", tensors[i].name);
      at += n > 0 ? static_cast<size_t>(n) : 0;
    }
  }
};

int32_t mx_find_input(const char* key) {
  for (int32_t i = 0; i < kInputCount; ++i)
    if (strcmp(kInputs[i].name, key) == 0) return i;
  return -1;
}

int32_t mx_find_output(const char* key) {
  for (int32_t i = 0; i < kOutputCount; ++i)
    if (strcmp(kOutputs[i].name, key) == 0) return i;
  static constexpr char ending[] = "_output";
  constexpr size_t extra = sizeof ending - 1;
  const size_t n = strlen(key);
  for (int32_t i = 0; i < kOutputCount; ++i) {
    const char* const own = kOutputs[i].name;
    const size_t m = strlen(own);
    if (m == n + extra && memcmp(own, key, n) == 0 && strcmp(own + n, ending) == 0) return i;
    if (n == m + extra && memcmp(own, key, m) == 0 && strcmp(key + m, ending) == 0) return i;
  }
  return -1;
}

// MXNet's element types; the index is its number for the type.
constexpr const char* mx_types[] = {"float32", "float64", "float16", "uint8", "int32",
                                    "int8",    "int64",   "bool",    "int16", "uint16",
                                    "uint32",  "uint64",  "bfloat16"};
constexpr int mx_type_count = sizeof mx_types / sizeof mx_types[0];

int mx_type(const @name@_tensor& tensor) {
  for (int k = 0; k < mx_type_count; ++k)
    if (strcmp(mx_types[k], tensor.dtype) == 0) return k;
  return -1;
}

size_t mx_elements(const @name@_tensor& tensor) {
  size_t count = 1;
  for (int32_t d = 0; d < tensor.rank; ++d) count *= static_cast<size_t>(tensor.shape[d]);
  return count;
}

int mx_check_inputs(const char* call, mx_uint count, const char** keys, const mx_uint* starts,
                    const mx_uint* shapes) {
  if (count != 0 && (keys == nullptr || starts == nullptr))
    return mx_fail("%s: input_keys or input_shape_indptr is null", call);
  for (mx_uint k = 0; k < count; ++k) {
    if (keys[k] == nullptr) return mx_fail("%s: input_keys[%u] is null", call, k);
    const int32_t index = mx_find_input(keys[k]);
    if (index < 0)
      return mx_fail("%s: the model has no input \"%.100s\"; it has: %s", call, keys[k],
                     mx_names_text(kInputs, kInputCount).chars);
    if (starts[k + 1] < starts[k])
      return mx_fail("%s: input_shape_indptr decreases at \"%.100s\"", call, keys[k]);
    const size_t rank = starts[k + 1] - starts[k];
    if (rank != 0 && shapes == nullptr) return mx_fail("%s: input_shape_data is null", call);
//@ one_shape
    const mx_uint* const shape = rank != 0 ? shapes + starts[k] : nullptr;
    const @name@_tensor& own = kInputs[index];
    const size_t own_rank = static_cast<size_t>(own.rank);
    bool same = rank == own_rank;
    for (size_t d = 0; same && d < rank; ++d) same = own.shape[d] == static_cast<int64_t>(shape[d]);
    if (!same)
      return mx_fail(
          "%s: the shape given for input \"%.100s\" is %s, the one compiled is %s; for another, "
          "build the model again with --shape",
          call, keys[k], mx_shape_text(shape, rank).chars,
          mx_shape_text(own.shape, own_rank).chars);
//@ end
  }
  return 0;
}
//@ shapes

// The set in which the given inputs have the given shapes; among several, the one closest to `now`.
int32_t mx_find_set(const char* call, const shape_set& now, mx_uint count, const char** keys,
                    const mx_uint* starts, const mx_uint* shapes) {
  int32_t best = -1, most = -1;
  for (int32_t s = 0; s < kShapeCount; ++s) {
    bool same = true;
    for (mx_uint k = 0; same && k < count; ++k) {
      const @name@_tensor& own = kShapes[s].inputs[mx_find_input(keys[k])];
      const size_t rank = starts[k + 1] - starts[k];
      same = rank == static_cast<size_t>(own.rank);
      for (size_t d = 0; same && d < rank; ++d)
        same = own.shape[d] == static_cast<int64_t>(shapes[starts[k] + d]);
    }
    const int32_t kept = same_inputs(kShapes[s], now);
    if (same && kept > most) best = s, most = kept;
  }
  if (best < 0)
    return mx_fail(
        "%s: the shapes given (input \"%.100s\": %s) are none of the %d sets compiled; for "
        "another, build the model again with --shape",
        call, keys[0], mx_shape_text(shapes + starts[0], starts[1] - starts[0]).chars,
        static_cast<int>(kShapeCount));
  return best;
}
//@ end

// --- the model's files
//@ mxnet_model

// Whether these bytes have this SHA-256.
bool mx_has_digest(const void* data, size_t size, const uint8_t* digest) {
  uint8_t own[32];
  sha256(static_cast<const uint8_t*>(data), size, own);
  return memcmp(own, digest, sizeof own) == 0;
}

// The first bytes of a SHA-256 as text, to tell files apart.
struct mx_digest_text {
  char chars[17];
  explicit mx_digest_text(const uint8_t* digest) {
    for (size_t i = 0; i < 8; ++i)
      snprintf(chars + 2 * i, 3, "%02x", static_cast<unsigned>(digest[i]));
  }
};

// The size of the JSON at `text`, to the bracket that closes it; at most `most`, and up to a 0.
size_t mx_json_size(const char* text, size_t most) {
  size_t depth = 0;
  bool quoted = false, escaped = false;
  for (size_t n = 0; n < most; ++n) {
    const char c = text[n];
    if (c == 0) return n;
    if (quoted) {
      quoted = escaped || c != '"';
      escaped = !escaped && c == '\\';
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if ((c == '}' || c == ']') && (depth == 0 || --depth == 0)) {
      return n + 1;
    }
  }
  return most;
}

int mx_check_symbol(const char* call, const char* json) {
  if (kMxSymbolBytes == 0) return 0;  // it is not known how the symbol was written
  const size_t n = json != nullptr ? mx_json_size(json, kMxSymbolBytes) : 0;
  if (n == kMxSymbolBytes && mx_has_digest(json, n, kMxSymbolDigest)) return 0;
  return mx_fail(
      "%s: symbol_json_str is not the file that this model was built from (%zu bytes, SHA-256 "
      "%s...)%s; to run another, build it with dlpack",
      call, kMxSymbolBytes, mx_digest_text(kMxSymbolDigest).chars,
      json == nullptr  ? ", but null"
          : *json == 0 ? ", but empty"
                       : "");
}
//@ end

// What handles share, freed with the last of them: their first predictor, whose prepared weights
// all of them use, and a copy of @name@.weights if the weights are not inside this file.
struct mx_shared {
  uint32_t users;
  @name@_predictor* first;
  uint8_t* bytes;  // null, or in the same allocation
};

// Checks param_bytes. `copied`: whether they are the weights to use; else those inside this file
// are.
int mx_check_params(const char* call, const void* data, int given, bool* copied) {
  const size_t size = given > 0 ? static_cast<size_t>(given) : 0;
  if (given < 0 || (data == nullptr && size != 0))
    return mx_fail("%s: param_bytes is %d bytes%s", call, given, data == nullptr ? " at null" : "");
  const bool packed = size != 0 && size == kWeightsBytes &&
      has_fingerprint(static_cast<const uint8_t*>(data), size, kWeightsFingerprint);
//@ side_file
  *copied = packed;
  if (packed) return 0;
//@ mxnet_model
  if (size == kMxParamsBytes && mx_has_digest(data, size, kMxParamsDigest))
    return mx_fail(
        "%s: param_bytes is MXNet's file, but the weights of this build are in @name@.weights: "
        "give its content, or build the model with --weights embed",
        call);
//@ end
  return mx_fail(
      "%s: param_bytes has to be the content of @name@.weights (%zu bytes, checked by a "
      "fingerprint), and is other %d bytes; only a model from MXNet that is built with --weights "
      "embed takes MXNet's own file",
      call, kWeightsBytes, given);
//@ end
//@ no_side_file
  *copied = false;
//@ mxnet_model
  if (packed || (size == kMxParamsBytes && mx_has_digest(data, size, kMxParamsDigest))) return 0;
  return mx_fail(
      "%s: param_bytes is not the file that this model was built from (%zu bytes, SHA-256 %s...), "
      "but other %d bytes; to run with other weights, build the model with them",
      call, kMxParamsBytes, mx_digest_text(kMxParamsDigest).chars, given);
//@ end
//@ no_mxnet_model
  if (packed || size == 0) return 0;
  return mx_fail(
      "%s: param_bytes has to be empty, since the weights are inside this file, or the content of "
      "a @name@.weights (%zu bytes), and is other %d bytes",
      call, kWeightsBytes, given);
//@ end
//@ end
}

// Creates the first predictor; the result has one user.
int mx_share(const char* call, const void* data, bool copied, mx_shared** out) {
  constexpr size_t before = round_up(sizeof(mx_shared)) + 64;
  mx_shared* const s = static_cast<mx_shared*>(malloc(before + (copied ? kWeightsBytes : 0)));
  if (s == nullptr) return mx_fail("%s: no memory for the weights", call);
  s->users = 1;
  s->bytes = nullptr;
  if (copied) {
    uint8_t* const end = reinterpret_cast<uint8_t*>(s) + before;
    s->bytes = end - reinterpret_cast<uintptr_t>(end) % 64;
    memcpy(s->bytes, data, kWeightsBytes);
  }
  const @name@_status status =
      @name@_create(&s->first, nullptr, 0, s->bytes, copied ? kWeightsBytes : 0);
  if (status == @NAME@_OK) return *out = s, 0;
  free(s);
  return mx_fail("%s: %s", call, @name@_error_text(status));
}

void mx_release(mx_shared* s) {
  if (__atomic_sub_fetch(&s->users, 1, __ATOMIC_ACQ_REL) != 0) return;
  @name@_destroy(s->first);
  free(s);
}

// --- handles

// What an NDArrayHandle points to: an input or output of a handle.
struct mx_ndarray {
  const @name@_predictor* predictor;
  bool is_input;
  int32_t index;
  const @name@_tensor* tensor;
  mx_uint* shape;

  const void* data() const {
    return is_input ? predictor->inputs[index] : predictor->outputs[index];
  }
};

struct mx_handle {
  @name@_predictor* predictor;
  mx_shared* shared;
  mx_uint output_count;
  int32_t outputs[kOutputCount + 1];  // for each output of the handle, its index in the model
  int32_t steps;                      // how many compute these
  bool typed[kInputCount + 1];        // the inputs whose types the program has given
  PredMonitorCallback monitor;
  void* monitored_for;
  bool monitor_inputs;
  mx_ndarray arrays[kInputCount + kOutputCount + 1];  // inputs, then outputs
};

const mx_ndarray& mx_output(const mx_handle& p, mx_uint index) {
  return p.arrays[kInputCount + p.outputs[index]];
}

// Creates a handle, with what it takes over from `like`, and adds it to the users of its predictor.
//@ one_shape
int mx_new_handle(const char* call, const mx_handle& like, bool first, PredictorHandle* out) {
  const @name@_tensor* const inputs = kInputs;
  const @name@_tensor* const outputs = kOutputs;
//@ end
//@ shapes
int mx_new_handle(const char* call, const mx_handle& like, bool first, int32_t set,
                  PredictorHandle* out) {
  const @name@_tensor* const inputs = kShapes[set].inputs;
  const @name@_tensor* const outputs = kShapes[set].outputs;
//@ end
  size_t ranks = 0;
  for (int32_t i = 0; i < kInputCount; ++i) ranks += static_cast<size_t>(inputs[i].rank);
  for (int32_t i = 0; i < kOutputCount; ++i) ranks += static_cast<size_t>(outputs[i].rank);
  mx_handle* const p = static_cast<mx_handle*>(malloc(sizeof(mx_handle) + ranks * sizeof(mx_uint)));
  if (p == nullptr) return mx_fail("%s: no memory", call);
  *p = like;
  p->predictor = like.shared->first;
  p->monitor = nullptr;
  const @name@_status status =
      first ? @NAME@_OK : @name@_create_shared(&p->predictor, nullptr, 0, like.shared->first);
  if (status != @NAME@_OK) {
    free(p);
    return mx_fail("%s: %s", call, @name@_error_text(status));
  }
//@ shapes
  @name@_set_shape(p->predictor, set);
//@ end
  __atomic_add_fetch(&p->shared->users, 1, __ATOMIC_RELAXED);
  p->steps = 0;
  for (mx_uint i = 0; i < p->output_count; ++i) {
    const int32_t end = mx_output_step(p->predictor, p->outputs[i]) + 1;
    if (end > p->steps) p->steps = end;
  }
  mx_uint* at = reinterpret_cast<mx_uint*>(p + 1);
  for (int32_t i = 0; i < kInputCount + kOutputCount; ++i) {
    const bool is_input = i < kInputCount;
    const int32_t index = is_input ? i : i - kInputCount;
    const @name@_tensor* const tensor = is_input ? &inputs[index] : &outputs[index];
    p->arrays[i] = {p->predictor, is_input, index, tensor, at};
    for (int32_t d = 0; d < tensor->rank; ++d) *at++ = static_cast<mx_uint>(tensor->shape[d]);
  }
  *out = p;
  return 0;
}

void mx_free_handle(mx_handle* p) {
  if (p->predictor != p->shared->first) @name@_destroy(p->predictor);
  else @name@_set_threads(p->predictor, 1);
  mx_release(p->shared);
  free(p);
}

// What a program asks for when it creates handles.
struct mx_request {
  const char* call;
  const char* symbol;
  const void* params;
  int params_size;
  int device;
  mx_uint input_count;
  const char** input_keys;
  const mx_uint* input_starts;
  const mx_uint* input_shapes;
  mx_uint output_count;  // 0: the model's own outputs
  const char** output_keys;
  mx_uint type_count;
  const char** type_names;
  const int* types;
  int handle_count;
  PredictorHandle* out;
};

int mx_choose_outputs(const mx_request& r, mx_handle& p) {
  if (r.output_count > static_cast<mx_uint>(kOutputCount))
    return mx_fail("%s: %u outputs are requested, the model has %d: %s", r.call, r.output_count,
                   static_cast<int>(kOutputCount), mx_names_text(kOutputs, kOutputCount).chars);
  if (r.output_count != 0 && r.output_keys == nullptr)
    return mx_fail("%s: output_keys is null", r.call);
  p.output_count = r.output_count != 0 ? r.output_count : static_cast<mx_uint>(kMxOwnOutputs);
  for (int32_t i = 0; i < kMxOwnOutputs; ++i) p.outputs[i] = i;
  for (mx_uint i = 0; i < r.output_count; ++i) {
    if (r.output_keys[i] == nullptr) return mx_fail("%s: output_keys[%u] is null", r.call, i);
    p.outputs[i] = mx_find_output(r.output_keys[i]);
    if (p.outputs[i] < 0)
      return mx_fail(
          "%s: the model has no output \"%.100s\"; it has: %s (to keep an inner value, build the "
          "model with --keep-internals)",
          r.call, r.output_keys[i], mx_names_text(kOutputs, kOutputCount).chars);
  }
  return 0;
}

int mx_check_types(const mx_request& r, mx_handle& p) {
  if (r.type_count != 0 && (r.type_names == nullptr || r.types == nullptr))
    return mx_fail("%s: provided_arg_dtype_names or provided_arg_dtypes is null", r.call);
  for (mx_uint i = 0; i < r.type_count; ++i) {
    if (r.type_names[i] == nullptr)
      return mx_fail("%s: provided_arg_dtype_names[%u] is null", r.call, i);
    const int32_t index = mx_find_input(r.type_names[i]);
    if (index < 0)
      return mx_fail(
          "%s: a type is given for \"%.100s\", which is no input of the model; it has: %s", r.call,
          r.type_names[i], mx_names_text(kInputs, kInputCount).chars);
    const int own = mx_type(kInputs[index]);
    if (r.types[i] != own)
      return mx_fail(
          "%s: the type given for input \"%.100s\" is %d (%s), the one compiled is %d (%s)", r.call,
          r.type_names[i], r.types[i],
          r.types[i] >= 0 && r.types[i] < mx_type_count ? mx_types[r.types[i]] : "unknown", own,
          kInputs[index].dtype);
    p.typed[index] = true;
  }
  return 0;
}

int mx_create(const mx_request& r) {
  if (r.out == nullptr) return mx_fail("%s: out is null", r.call);
  for (int i = 0; i < r.handle_count; ++i) r.out[i] = nullptr;
  if (r.handle_count < 1) return mx_fail("%s: num_threads is %d", r.call, r.handle_count);
  if (!cpu_suffices()) return mx_fail("%s: %s", r.call, @name@_error_text(@NAME@_BAD_CPU));
  if (r.device != 1)
    return mx_fail("%s: this build is for the CPU: dev_type has to be 1, and is %d", r.call,
                   r.device);
  if (mx_check_inputs(r.call, r.input_count, r.input_keys, r.input_starts, r.input_shapes) != 0)
    return -1;
//@ shapes
  const int32_t set =
      mx_find_set(r.call, kShapes[0], r.input_count, r.input_keys, r.input_starts, r.input_shapes);
  if (set < 0) return -1;
//@ end
  mx_handle like = {};
  if (mx_choose_outputs(r, like) != 0 || mx_check_types(r, like) != 0) return -1;
//@ mxnet_model
  if (mx_check_symbol(r.call, r.symbol) != 0) return -1;
//@ end
  bool copied = false;
  if (mx_check_params(r.call, r.params, r.params_size, &copied) != 0) return -1;
  if (mx_share(r.call, r.params, copied, &like.shared) != 0) return -1;
  int status = 0;
  for (int i = 0; i < r.handle_count && status == 0; ++i)
    status = mx_new_handle(r.call, like, i == 0, @set()@r.out + i);
  for (int i = 0; i < r.handle_count; ++i) {
    mx_handle* const p = static_cast<mx_handle*>(r.out[i]);
    if (status != 0 && p != nullptr) mx_free_handle(p), r.out[i] = nullptr;
//@ threads
    // The program's threads share the processors.
    const int32_t threads = p != nullptr && status == 0 && r.handle_count > 1
        ? @name@_threads(p->predictor) / r.handle_count
        : 0;
    if (r.handle_count > 1 && status == 0)
      @name@_set_threads(p->predictor, threads > 1 ? threads : 1);
//@ end
  }
  mx_release(like.shared);
  return status;
}

// --- runs

void mx_report(const mx_handle& p, const mx_ndarray& array) {
  p.monitor(array.tensor->name, const_cast<mx_ndarray*>(&array), p.monitored_for);
}

// Passes the monitor what a step has computed: inner values in the order of the model, then its
// outputs. The step before the first has computed the inputs.
void mx_monitor(const mx_handle& p, int32_t step) {
  if (p.monitor == nullptr) return;
  if (step < 0 && p.monitor_inputs)
    for (int32_t i = 0; i < kInputCount; ++i) mx_report(p, p.arrays[i]);
  for (int32_t k = 0; k < kOutputCount; ++k) {
    const int32_t i = (kMxOwnOutputs + k) % kOutputCount;
    if (mx_output_step(p.predictor, i) == step) mx_report(p, p.arrays[kInputCount + i]);
  }
}

int mx_run_step(const mx_handle& p, const char* call, int32_t step) {
  if (step == 0) mx_monitor(p, -1);
  const @name@_status status = @name@_run_step(p.predictor, step);
  if (status != @NAME@_OK)
    return mx_fail("%s: step %d: %s", call, static_cast<int>(step), @name@_error_text(status));
  mx_monitor(p, step);
  return 0;
}

}}  // namespace impl
