// With @NAME@_MXNET_API, programs written for MXNet's c_predict_api.h link with this file
// unchanged. Differences:
// - The network is compiled in: symbol_json_str is ignored and may be null. dev_type is 1 (CPU).
//@ no_side_file
// - The weights are inside this file: param_bytes is ignored.
//@ end
//@ side_file
// - param_bytes is the content of @name@.weights (checked by its SHA-256). It is copied once for a
//   handle and all handles that MXPredReshape derives from it.
//@ end
//@ one_shape
// - Input keys are the model's inputs. Shapes must be the compiled ones, also in MXPredReshape.
//   Inputs of a new or reshaped handle are zeros. MXPredSetInput and MXPredGetOutput support only
//   float32.
//@ end
//@ shapes
// - Input keys are the model's inputs. Shapes select one of the compiled sets of shapes; in
//   MXPredReshape, inputs that are not named keep their shapes if possible. Inputs of a new or
//   reshaped handle are zeros. MXPredSetInput and MXPredGetOutput support only float32.
//@ end
// - MXPredCreatePartialOut selects among the model's outputs, with or without the suffix "_output".
// - Returned shapes and arrays live as long as their handle. After a failure, *out is unchanged.
// - MXNDListCreate reads all versions of MXNet's files of dense arrays and converts elements to float.
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

namespace impl { namespace {

thread_local char mx_error_text[1024];

[[gnu::format(printf, 1, 2)]] int mx_fail(const char* format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(mx_error_text, sizeof mx_error_text, format, values);
  va_end(values);
  return -1;
}

// --- predictors

// A copy of @name@.weights, freed with its last user. `bytes` is in the same allocation.
struct mx_weights {
  uint32_t users;
  uint8_t* bytes;
};

struct mx_handle {
  @name@_predictor* predictor;
  mx_weights* weights;  // null if they are inside this file
  mx_uint output_count;
  int32_t outputs[kOutputCount + 1];  // for each output of the handle, its index in the model
  mx_uint* shapes[kOutputCount + 1];  // of the model's outputs, in the same allocation
};

// A shape as text, as in "1x3x224x224".
struct mx_shape_text {
  char chars[192];
  template <class T> mx_shape_text(const T* shape, size_t rank) {
    size_t at = 0;
    chars[0] = 0;
    for (size_t d = 0; d < rank && d < 8; ++d) {
      const int n = snprintf(chars + at, sizeof chars - at, "%s%lld", d == 0 ? "" : "x", static_cast<long long>(shape[d]));
      at += n > 0 ? static_cast<size_t>(n) : 0;
    }
    if (rank == 0 || rank > 8) snprintf(chars + at, sizeof chars - at, rank == 0 ? "that of a scalar" : "...");
  }
};

// The names of inputs or outputs, separated by commas, as many as fit.
struct mx_names_text {
  char chars[256];
  mx_names_text(const @name@_tensor* tensors, int32_t count) {
    size_t at = 0;
    chars[0] = 0;
    for (int32_t i = 0; i < count && at < sizeof chars; ++i) {
      const int n = snprintf(chars + at, sizeof chars - at, "%s%s", i == 0 ? "" : ", ", tensors[i].name);
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

bool mx_is_float(const @name@_tensor& tensor) { return strcmp(tensor.dtype, "float32") == 0; }

int mx_check_inputs(const char* call, mx_uint count, const char** keys, const mx_uint* starts, const mx_uint* shapes) {
  if (count != 0 && (keys == nullptr || starts == nullptr)) return mx_fail("%s: input_keys or input_shape_indptr is null", call);
  for (mx_uint k = 0; k < count; ++k) {
    if (keys[k] == nullptr) return mx_fail("%s: input_keys[%u] is null", call, k);
    const int32_t index = mx_find_input(keys[k]);
    if (index < 0)
      return mx_fail("%s: the model has no input \"%.100s\"; it has: %s", call, keys[k],
                     mx_names_text(kInputs, kInputCount).chars);
    if (starts[k + 1] < starts[k]) return mx_fail("%s: input_shape_indptr decreases at \"%.100s\"", call, keys[k]);
    const size_t rank = starts[k + 1] - starts[k];
    if (rank != 0 && shapes == nullptr) return mx_fail("%s: input_shape_data is null", call);
//@ one_shape
    const mx_uint* const shape = rank != 0 ? shapes + starts[k] : nullptr;
    const @name@_tensor& own = kInputs[index];
    const size_t own_rank = static_cast<size_t>(own.rank);
    bool same = rank == own_rank;
    for (size_t d = 0; same && d < rank; ++d) same = own.shape[d] == static_cast<int64_t>(shape[d]);
    if (!same)
      return mx_fail("%s: the shape given for input \"%.100s\" is %s, the one compiled is %s; for another, build the model "
                     "again with --shape", call, keys[k], mx_shape_text(shape, rank).chars,
                     mx_shape_text(own.shape, own_rank).chars);
//@ end
  }
  return 0;
}
//@ shapes

// The set in which the given inputs have the given shapes; among several, the one closest to `now`.
int32_t mx_find_set(const char* call, const shape_set& now, mx_uint count, const char** keys, const mx_uint* starts,
                    const mx_uint* shapes) {
  int32_t best = -1, most = -1;
  for (int32_t s = 0; s < kShapeCount; ++s) {
    bool same = true;
    for (mx_uint k = 0; same && k < count; ++k) {
      const @name@_tensor& own = kShapes[s].inputs[mx_find_input(keys[k])];
      const size_t rank = starts[k + 1] - starts[k];
      same = rank == static_cast<size_t>(own.rank);
      for (size_t d = 0; same && d < rank; ++d) same = own.shape[d] == static_cast<int64_t>(shapes[starts[k] + d]);
    }
    const int32_t kept = same_inputs(kShapes[s], now);
    if (same && kept > most) best = s, most = kept;
  }
  if (best < 0)
    return mx_fail("%s: the shapes given (input \"%.100s\": %s) are none of the %d sets compiled; for another, build the model "
                   "again with --shape", call, keys[0], mx_shape_text(shapes + starts[0], starts[1] - starts[0]).chars,
                   static_cast<int>(kShapeCount));
  return best;
}
//@ end

//@ side_file
// Copies and checks @name@.weights; the copy has one user.
int mx_copy_weights(const char* call, const void* data, int size, mx_weights** out) {
  if (data == nullptr || size < 0 || static_cast<size_t>(size) != kWeightsBytes)
    return mx_fail("%s: param_bytes has to be the content of @name@.weights (%zu bytes), and is %d bytes%s; only a model "
                   "built with --weights embed takes MXNet's own file", call, kWeightsBytes, size,
                   data == nullptr ? " at null" : "");
  uint8_t digest[32];
  sha256(static_cast<const uint8_t*>(data), kWeightsBytes, digest);
  if (memcmp(digest, kWeightsDigest, sizeof digest) != 0)
    return mx_fail("%s: param_bytes has the size of @name@.weights, but its SHA-256 is not the one that this file was built "
                   "with", call);
  constexpr size_t before = round_up(sizeof(mx_weights)) + 64;
  mx_weights* const w = static_cast<mx_weights*>(malloc(before + kWeightsBytes));
  if (w == nullptr) return mx_fail("%s: no memory for %zu bytes of weights", call, kWeightsBytes);
  uint8_t* const end = reinterpret_cast<uint8_t*>(w) + before;
  w->users = 1;
  w->bytes = end - reinterpret_cast<uintptr_t>(end) % 64;
  memcpy(w->bytes, data, kWeightsBytes);
  *out = w;
  return 0;
}
//@ end

void mx_release_weights(mx_weights* w) {
  if (w != nullptr && __atomic_sub_fetch(&w->users, 1, __ATOMIC_ACQ_REL) == 0) free(w);
}

// Creates a handle, which becomes a user of the weights.
//@ one_shape
int mx_new_predictor(const char* call, mx_weights* weights, const int32_t* outputs, mx_uint output_count, PredictorHandle* out) {
  size_t ranks = 0;
  for (int32_t i = 0; i < kOutputCount; ++i) ranks += static_cast<size_t>(kOutputs[i].rank);
//@ end
//@ shapes
int mx_new_predictor(const char* call, mx_weights* weights, const int32_t* outputs, mx_uint output_count, int32_t set,
                     PredictorHandle* out) {
  size_t ranks = 0;
  for (int32_t i = 0; i < kOutputCount; ++i) ranks += static_cast<size_t>(kShapes[set].outputs[i].rank);
//@ end
  mx_handle* const p = static_cast<mx_handle*>(malloc(sizeof(mx_handle) + ranks * sizeof(mx_uint)));
  if (p == nullptr) return mx_fail("%s: no memory", call);
  const void* const bytes = weights != nullptr ? weights->bytes : nullptr;
  const @name@_status status = @name@_create(&p->predictor, nullptr, 0, bytes, bytes != nullptr ? kWeightsBytes : 0);
  if (status != @NAME@_OK) {
    free(p);
    return mx_fail("%s: %s", call, @name@_error_text(status));
  }
//@ shapes
  @name@_set_shape(p->predictor, set);
//@ end
  p->weights = weights;
  if (weights != nullptr) __atomic_add_fetch(&weights->users, 1, __ATOMIC_RELAXED);
  p->output_count = output_count;
  for (mx_uint i = 0; i < output_count; ++i) p->outputs[i] = outputs[i];
  mx_uint* at = reinterpret_cast<mx_uint*>(p + 1);
  for (int32_t i = 0; i < kOutputCount; ++i) {
    p->shapes[i] = at;
    for (int32_t d = 0; d < @outputs(p->predictor)@[i].rank; ++d) *at++ = static_cast<mx_uint>(@outputs(p->predictor)@[i].shape[d]);
  }
  *out = p;
  return 0;
}

// --- array files: u64 0x112, u64 0, u64 count, arrays, u64 count or 0, names

struct mx_array {
  char* name;
  mx_float* data;
  mx_uint* shape;
  mx_uint rank;
};

struct mx_list {
  mx_array* arrays;
  size_t size;
};

// Reads untrusted bytes, never beyond their end.
struct mx_reader {
  const char* data;
  size_t size, at;

  size_t left() const { return size - at; }
  template <class T> bool read(T* value) {
    if (left() < sizeof(T)) return false;
    memcpy(value, data + at, sizeof(T));
    at += sizeof(T);
    return true;
  }
  int cut_off(const char* what, size_t index) const {
    return mx_fail("MXNDListCreate: %s %zu goes beyond the end of the file (%zu bytes); it is damaged or cut off", what,
                   index, size);
  }
};

template <class T> T* mx_allocate(size_t count) {
  return count < SIZE_MAX / sizeof(T) ? static_cast<T*>(calloc(count + 1, sizeof(T))) : nullptr;
}

// IEEE half precision, exactly.
mx_float mx_from_half(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  const mx_float subnormal = static_cast<mx_float>(fraction) * 5.9604644775390625e-8f;  // in units of 2^-24
  uint32_t all_bits = (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13;
  if (exponent == 0) memcpy(&all_bits, &subnormal, sizeof all_bits);
  all_bits |= sign;
  mx_float value;
  memcpy(&value, &all_bits, sizeof value);
  return value;
}

mx_float mx_from_bfloat(uint16_t bits) {
  const uint32_t all_bits = static_cast<uint32_t>(bits) << 16;
  mx_float value;
  memcpy(&value, &all_bits, sizeof value);
  return value;
}

template <class T, class F> void mx_convert(const char* from, size_t count, mx_float* to, F convert) {
  for (size_t i = 0; i < count; ++i) {
    T value;
    memcpy(&value, from + i * sizeof(T), sizeof(T));
    to[i] = convert(value);
  }
}

// Sizes of MXNet's (mshadow's) element types by number.
constexpr uint8_t mx_type_bytes[] = {4, 8, 2, 1, 4, 1, 8, 1, 2, 2, 4, 8, 2};

void mx_to_floats(int32_t type, const char* from, size_t count, mx_float* to) {
  const auto cast = [](auto x) { return static_cast<mx_float>(x); };
  switch (type) {
    case 0: return mx_convert<mx_float>(from, count, to, cast);
    case 1: return mx_convert<double>(from, count, to, cast);
    case 2: return mx_convert<uint16_t>(from, count, to, mx_from_half);
    case 3: return mx_convert<uint8_t>(from, count, to, cast);
    case 4: return mx_convert<int32_t>(from, count, to, cast);
    case 5: return mx_convert<int8_t>(from, count, to, cast);
    case 6: return mx_convert<int64_t>(from, count, to, cast);
    case 7: return mx_convert<uint8_t>(from, count, to, [](uint8_t x) { return x != 0 ? 1.0f : 0.0f; });
    case 8: return mx_convert<int16_t>(from, count, to, cast);
    case 9: return mx_convert<uint16_t>(from, count, to, cast);
    case 10: return mx_convert<uint32_t>(from, count, to, cast);
    case 11: return mx_convert<uint64_t>(from, count, to, cast);
    default: return mx_convert<uint16_t>(from, count, to, mx_from_bfloat);
  }
}

// One array. v0: u32 rank, u32 sizes; v1 0xF993fac8: i32 rank, i64 sizes; v2 0xF993fac9: i32
// storage type before them; v3 0xF993faca: the same, but rank 0 is a scalar, not an empty array.
// Then i32 device, i32 device number, i32 type, elements.
int mx_read_array(mx_reader& r, size_t index, mx_array& a) {
  constexpr uint32_t mx_v1 = 0xF993fac8u, mx_v2 = 0xF993fac9u, mx_v3 = 0xF993facau;
  uint32_t magic = 0;
  int32_t storage = 0, rank = -1;
  if (!r.read(&magic)) return r.cut_off("array", index);
  if ((magic == mx_v2 || magic == mx_v3) && !r.read(&storage)) return r.cut_off("array", index);
  if (storage != 0 && storage != -1)
    return mx_fail("MXNDListCreate: array %zu is sparse (storage type %d); save it densely", index, static_cast<int>(storage));
  const bool wide_sizes = magic == mx_v1 || magic == mx_v2 || magic == mx_v3;
  if (wide_sizes && !r.read(&rank)) return r.cut_off("array", index);
  if (!wide_sizes && magic > INT32_MAX) return r.cut_off("the shape of array", index);
  if (!wide_sizes) rank = static_cast<int32_t>(magic);
  a.rank = rank > 0 ? static_cast<mx_uint>(rank) : 0;
  if (rank < -1 || a.rank > r.left() / (wide_sizes ? 8 : 4)) return r.cut_off("the shape of array", index);
  a.shape = mx_allocate<mx_uint>(a.rank);
  if (a.shape == nullptr) return mx_fail("MXNDListCreate: no memory for array %zu", index);
  bool empty = rank == -1 || (rank == 0 && magic != mx_v3);
  const bool nothing = empty;
  for (mx_uint d = 0; d < a.rank; ++d) {
    int64_t extent = 0;
    uint32_t narrow = 0;
    if (wide_sizes ? !r.read(&extent) : !r.read(&narrow)) return r.cut_off("the shape of array", index);
    if (!wide_sizes) extent = narrow;
    if (extent < 0 || extent > INT64_C(0xffffffff))
      return mx_fail("MXNDListCreate: array %zu claims %lld elements in dimension %u; the file is damaged", index,
                     static_cast<long long>(extent), d);
    a.shape[d] = static_cast<mx_uint>(extent);
    empty = empty || extent == 0;
  }
  int32_t device = 0, device_id = 0, type = 0;
  if (!nothing && !(r.read(&device) && r.read(&device_id) && r.read(&type))) return r.cut_off("array", index);
  if (type < 0 || static_cast<size_t>(type) >= sizeof mx_type_bytes)
    return mx_fail("MXNDListCreate: array %zu has the unknown element type %d; the file is damaged", index,
                   static_cast<int>(type));
  const size_t each = mx_type_bytes[type], room = r.left() / each;
  size_t count = empty ? 0 : 1;
  for (mx_uint d = 0; d < a.rank && !empty; ++d) {
    if (count > room / a.shape[d]) return r.cut_off("array", index);
    count *= a.shape[d];
  }
  if (count > room) return r.cut_off("array", index);
  a.data = mx_allocate<mx_float>(count);
  if (a.data == nullptr) return mx_fail("MXNDListCreate: no memory for array %zu", index);
  mx_to_floats(type, r.data + r.at, count, a.data);
  r.at += count * each;
  return 0;
}

int mx_read_list(mx_reader& r, mx_list& list) {
  uint64_t magic = 0, reserved = 0, count = 0, names = 0;
  if (!r.read(&magic) || !r.read(&reserved) || magic != 0x112 || reserved != 0)
    return mx_fail("MXNDListCreate: this is not an MXNet array file: it does not begin with 0x112");
  if (!r.read(&count) || count > r.left() / 4 || count > UINT32_MAX)
    return mx_fail("MXNDListCreate: the file claims %llu arrays and has %zu bytes; it is damaged",
                   static_cast<unsigned long long>(count), r.size);
  list.arrays = mx_allocate<mx_array>(static_cast<size_t>(count));
  if (list.arrays == nullptr) return mx_fail("MXNDListCreate: no memory");
  list.size = static_cast<size_t>(count);
  for (size_t i = 0; i < list.size; ++i)
    if (mx_read_array(r, i, list.arrays[i]) != 0) return -1;
  if (!r.read(&names) || (names != 0 && names != count))
    return mx_fail("MXNDListCreate: the file has %zu arrays and %llu names; it is damaged or cut off", list.size,
                   static_cast<unsigned long long>(names));
  for (size_t i = 0; i < list.size; ++i) {
    uint64_t length = 0;
    if (names != 0 && (!r.read(&length) || length > r.left())) return r.cut_off("name", i);
    char* const name = mx_allocate<char>(static_cast<size_t>(length));
    if (name == nullptr) return mx_fail("MXNDListCreate: no memory");
    memcpy(name, r.data + r.at, static_cast<size_t>(length));
    r.at += static_cast<size_t>(length);
    list.arrays[i].name = name;
  }
  return 0;
}

void mx_free_list(mx_list* list) {
  if (list == nullptr) return;
  for (size_t i = 0; i < list->size; ++i) {
    free(list->arrays[i].name);
    free(list->arrays[i].data);
    free(list->arrays[i].shape);
  }
  free(list->arrays);
  free(list);
}

}}  // namespace impl

#pragma GCC visibility push(default)
extern "C" {

const char* MXGetLastError() { return impl::mx_error_text; }

int MXPredCreatePartialOut(const char* symbol_json_str, const void* param_bytes, int param_size, int dev_type, int dev_id,
                           mx_uint num_input_nodes, const char** input_keys, const mx_uint* input_shape_indptr,
                           const mx_uint* input_shape_data, mx_uint num_output_nodes, const char** output_keys,
                           PredictorHandle* out) {
  (void)symbol_json_str, (void)dev_id;
  static constexpr char call[] = "MXPredCreate";
  if (out == nullptr) return impl::mx_fail("%s: out is null", call);
  if (!impl::cpu_suffices()) return impl::mx_fail("%s: %s", call, @name@_error_text(@NAME@_BAD_CPU));
  if (dev_type != 1) return impl::mx_fail("%s: this build is for the CPU: dev_type has to be 1, and is %d", call, dev_type);
  if (impl::mx_check_inputs(call, num_input_nodes, input_keys, input_shape_indptr, input_shape_data) != 0) return -1;
  int32_t outputs[impl::kOutputCount + 1];
  if (num_output_nodes > static_cast<mx_uint>(impl::kOutputCount))
    return impl::mx_fail("%s: %u outputs are asked for, the model has %d: %s", call, num_output_nodes, static_cast<int>(impl::kOutputCount),
                   impl::mx_names_text(impl::kOutputs, impl::kOutputCount).chars);
  if (num_output_nodes != 0 && output_keys == nullptr) return impl::mx_fail("%s: output_keys is null", call);
  for (int32_t i = 0; i < impl::kOutputCount; ++i) outputs[i] = i;
  for (mx_uint i = 0; i < num_output_nodes; ++i) {
    if (output_keys[i] == nullptr) return impl::mx_fail("%s: output_keys[%u] is null", call, i);
    outputs[i] = impl::mx_find_output(output_keys[i]);
    if (outputs[i] < 0)
      return impl::mx_fail("%s: the model has no output \"%.100s\"; it has: %s (an inner node has to be made an output before the "
                     "model is built)", call, output_keys[i], impl::mx_names_text(impl::kOutputs, impl::kOutputCount).chars);
  }
//@ shapes
  const int32_t set = impl::mx_find_set(call, impl::kShapes[0], num_input_nodes, input_keys, input_shape_indptr, input_shape_data);
  if (set < 0) return -1;
//@ end
  impl::mx_weights* weights = nullptr;
//@ side_file
  if (impl::mx_copy_weights(call, param_bytes, param_size, &weights) != 0) return -1;
//@ end
//@ no_side_file
  (void)param_bytes, (void)param_size;
//@ end
  const mx_uint count = num_output_nodes != 0 ? num_output_nodes : static_cast<mx_uint>(impl::kOutputCount);
  const int status = impl::mx_new_predictor(call, weights, outputs, count, @set()@out);
  impl::mx_release_weights(weights);
  return status;
}

int MXPredCreate(const char* symbol_json_str, const void* param_bytes, int param_size, int dev_type, int dev_id,
                 mx_uint num_input_nodes, const char** input_keys, const mx_uint* input_shape_indptr,
                 const mx_uint* input_shape_data, PredictorHandle* out) {
  return MXPredCreatePartialOut(symbol_json_str, param_bytes, param_size, dev_type, dev_id, num_input_nodes, input_keys,
                                input_shape_indptr, input_shape_data, 0, nullptr, out);
}

int MXPredReshape(mx_uint num_input_nodes, const char** input_keys, const mx_uint* input_shape_indptr,
                  const mx_uint* input_shape_data, PredictorHandle handle, PredictorHandle* out) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr || out == nullptr) return impl::mx_fail("MXPredReshape: handle or out is null");
  if (impl::mx_check_inputs("MXPredReshape", num_input_nodes, input_keys, input_shape_indptr, input_shape_data) != 0) return -1;
//@ shapes
  const int32_t set = impl::mx_find_set("MXPredReshape", impl::kShapes[p->predictor->set], num_input_nodes, input_keys, input_shape_indptr,
                                  input_shape_data);
  if (set < 0) return -1;
//@ end
  return impl::mx_new_predictor("MXPredReshape", p->weights, p->outputs, p->output_count, @set()@out);
}

int MXPredGetOutputShape(PredictorHandle handle, mx_uint index, mx_uint** shape_data, mx_uint* shape_ndim) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr || shape_data == nullptr || shape_ndim == nullptr)
    return impl::mx_fail("MXPredGetOutputShape: handle, shape_data or shape_ndim is null");
  if (index >= p->output_count)
    return impl::mx_fail("MXPredGetOutputShape: there is no output %u; the predictor has %u", index, p->output_count);
  *shape_data = p->shapes[p->outputs[index]];
  *shape_ndim = static_cast<mx_uint>(@outputs(p->predictor)@[p->outputs[index]].rank);
  return 0;
}

int MXPredSetInput(PredictorHandle handle, const char* key, const mx_float* data, mx_uint size) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr || key == nullptr || data == nullptr) return impl::mx_fail("MXPredSetInput: handle, key or data is null");
  const int32_t index = impl::mx_find_input(key);
  if (index < 0)
    return impl::mx_fail("MXPredSetInput: the model has no input \"%.100s\"; it has: %s", key,
                   impl::mx_names_text(impl::kInputs, impl::kInputCount).chars);
  const @name@_tensor& own = @inputs(p->predictor)@[index];
  if (!impl::mx_is_float(own))
    return impl::mx_fail("MXPredSetInput: input \"%.100s\" is %s, and MXNet's API takes only float32; use @name@_set_input()", key,
                   own.dtype);
  if (size != own.bytes / sizeof(mx_float))
    return impl::mx_fail("MXPredSetInput: input \"%.100s\" has %zu elements (%s), and %u are given", key,
                   own.bytes / sizeof(mx_float), impl::mx_shape_text(own.shape, static_cast<size_t>(own.rank)).chars, size);
  const @name@_status status = @name@_set_input(p->predictor, index, data, own.bytes);
  return status == @NAME@_OK ? 0 : impl::mx_fail("MXPredSetInput: %s", @name@_error_text(status));
}

int MXPredForward(PredictorHandle handle) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr) return impl::mx_fail("MXPredForward: handle is null");
  const @name@_status status = @name@_run(p->predictor);
  return status == @NAME@_OK ? 0 : impl::mx_fail("MXPredForward: %s", @name@_error_text(status));
}

// As in MXNet, a step beyond the last does nothing, and none are left.
int MXPredPartialForward(PredictorHandle handle, int step, int* step_left) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr || step_left == nullptr) return impl::mx_fail("MXPredPartialForward: handle or step_left is null");
  if (step < 0) return impl::mx_fail("MXPredPartialForward: step is %d; it begins at 0", step);
  if (step < @steps(p->predictor)@ && @name@_run_step(p->predictor, step) != @NAME@_OK)
    return impl::mx_fail("MXPredPartialForward: step %d failed", step);
  *step_left = step < @steps(p->predictor)@ ? @steps(p->predictor)@ - step - 1 : 0;
  return 0;
}

int MXPredGetOutput(PredictorHandle handle, mx_uint index, mx_float* data, mx_uint size) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr || data == nullptr) return impl::mx_fail("MXPredGetOutput: handle or data is null");
  if (index >= p->output_count)
    return impl::mx_fail("MXPredGetOutput: there is no output %u; the predictor has %u", index, p->output_count);
  const int32_t own_index = p->outputs[index];
  const @name@_tensor& own = @outputs(p->predictor)@[own_index];
  if (!impl::mx_is_float(own))
    return impl::mx_fail("MXPredGetOutput: output \"%.100s\" is %s, and MXNet's API gives only float32; use @name@_get_output()",
                   own.name, own.dtype);
  if (size != own.bytes / sizeof(mx_float))
    return impl::mx_fail("MXPredGetOutput: output \"%.100s\" has %zu elements (%s), and %u are asked for", own.name,
                   own.bytes / sizeof(mx_float), impl::mx_shape_text(own.shape, static_cast<size_t>(own.rank)).chars, size);
  const @name@_status status = @name@_get_output(p->predictor, own_index, data, own.bytes);
  return status == @NAME@_OK ? 0 : impl::mx_fail("MXPredGetOutput: %s", @name@_error_text(status));
}

int MXPredFree(PredictorHandle handle) {
  impl::mx_handle* const p = static_cast<impl::mx_handle*>(handle);
  if (p == nullptr) return 0;
  @name@_destroy(p->predictor);
  impl::mx_release_weights(p->weights);
  free(p);
  return 0;
}

int MXNDListCreate(const char* nd_file_bytes, int nd_file_size, NDListHandle* out, mx_uint* out_length) {
  if (nd_file_bytes == nullptr || nd_file_size < 0 || out == nullptr || out_length == nullptr)
    return impl::mx_fail("MXNDListCreate: nd_file_bytes, out or out_length is null, or nd_file_size is negative");
  impl::mx_list* const list = impl::mx_allocate<impl::mx_list>(1);
  if (list == nullptr) return impl::mx_fail("MXNDListCreate: no memory");
  impl::mx_reader r = {nd_file_bytes, static_cast<size_t>(nd_file_size), 0};
  if (impl::mx_read_list(r, *list) != 0) {
    impl::mx_free_list(list);
    return -1;
  }
  *out = list;
  *out_length = static_cast<mx_uint>(list->size);
  return 0;
}

int MXNDListGet(NDListHandle handle, mx_uint index, const char** out_key, const mx_float** out_data,
                const mx_uint** out_shape, mx_uint* out_ndim) {
  const impl::mx_list* const list = static_cast<const impl::mx_list*>(handle);
  if (list == nullptr || out_key == nullptr || out_data == nullptr || out_shape == nullptr || out_ndim == nullptr)
    return impl::mx_fail("MXNDListGet: handle or an out pointer is null");
  if (index >= list->size) return impl::mx_fail("MXNDListGet: there is no array %u; the list has %zu", index, list->size);
  const impl::mx_array& a = list->arrays[index];
  *out_key = a.name, *out_data = a.data, *out_shape = a.shape, *out_ndim = a.rank;
  return 0;
}

int MXNDListFree(NDListHandle handle) {
  impl::mx_free_list(static_cast<impl::mx_list*>(handle));
  return 0;
}

}  // extern "C"
#pragma GCC visibility pop
#endif  // !@NAME@_FREESTANDING
#endif  // @NAME@_MXNET_API
