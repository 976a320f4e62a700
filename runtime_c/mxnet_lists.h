// MXNet's files of arrays: u64 0x112, u64 0, u64 count, arrays, u64 count or 0, names.

namespace impl { namespace {

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
    return mx_fail(
        "MXNDListCreate: %s %zu goes beyond the end of the file (%zu bytes); it is damaged or cut "
        "off",
        what, index, size);
  }
};

template <class T> T* mx_allocate(size_t count) {
  return count < SIZE_MAX / sizeof(T) ? static_cast<T*>(calloc(count + 1, sizeof(T))) : nullptr;
}

// IEEE half precision, exactly.
mx_float mx_from_half(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = bits >> 10 & 31,
                 fraction = bits & 1023;
  const mx_float subnormal =
      static_cast<mx_float>(fraction) * 5.9604644775390625e-8f;  // in units of 2^-24
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

template <class T, class F>
void mx_convert(const char* from, size_t count, mx_float* to, F convert) {
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
    case 7:
      return mx_convert<uint8_t>(from, count, to, [](uint8_t x) { return x != 0 ? 1.0f : 0.0f; });
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
    return mx_fail("MXNDListCreate: array %zu is sparse (storage type %d); save it densely", index,
                   static_cast<int>(storage));
  const bool wide_sizes = magic == mx_v1 || magic == mx_v2 || magic == mx_v3;
  if (wide_sizes && !r.read(&rank)) return r.cut_off("array", index);
  if (!wide_sizes && magic > INT32_MAX) return r.cut_off("the shape of array", index);
  if (!wide_sizes) rank = static_cast<int32_t>(magic);
  a.rank = rank > 0 ? static_cast<mx_uint>(rank) : 0;
  if (rank < -1 || a.rank > r.left() / (wide_sizes ? 8 : 4))
    return r.cut_off("the shape of array", index);
  a.shape = mx_allocate<mx_uint>(a.rank);
  if (a.shape == nullptr) return mx_fail("MXNDListCreate: no memory for array %zu", index);
  bool empty = rank == -1 || (rank == 0 && magic != mx_v3);
  const bool nothing = empty;
  for (mx_uint d = 0; d < a.rank; ++d) {
    int64_t extent = 0;
    uint32_t narrow = 0;
    if (wide_sizes ? !r.read(&extent) : !r.read(&narrow))
      return r.cut_off("the shape of array", index);
    if (!wide_sizes) extent = narrow;
    if (extent < 0 || extent > INT64_C(0xffffffff))
      return mx_fail(
          "MXNDListCreate: array %zu claims %lld elements in dimension %u; the file is damaged",
          index, static_cast<long long>(extent), d);
    a.shape[d] = static_cast<mx_uint>(extent);
    empty = empty || extent == 0;
  }
  int32_t device = 0, device_id = 0, type = 0;
  if (!nothing && !(r.read(&device) && r.read(&device_id) && r.read(&type)))
    return r.cut_off("array", index);
  if (type < 0 || static_cast<size_t>(type) >= sizeof mx_type_bytes)
    return mx_fail("MXNDListCreate: array %zu has the unknown element type %d; the file is damaged",
                   index, static_cast<int>(type));
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
    return mx_fail(
        "MXNDListCreate: the file has %zu arrays and %llu names; it is damaged or cut off",
        list.size, static_cast<unsigned long long>(names));
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

int MXNDListCreate(const char* nd_file_bytes, int nd_file_size, NDListHandle* out,
                   mx_uint* out_length) {
  if (out != nullptr) *out = nullptr;
  if (out_length != nullptr) *out_length = 0;
  if (nd_file_bytes == nullptr || nd_file_size < 0 || out == nullptr || out_length == nullptr)
    return impl::mx_fail(
        "MXNDListCreate: nd_file_bytes, out or out_length is null, or nd_file_size is negative");
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
  if (list == nullptr || out_key == nullptr || out_data == nullptr || out_shape == nullptr ||
      out_ndim == nullptr)
    return impl::mx_fail("MXNDListGet: handle or an out pointer is null");
  if (index >= list->size)
    return impl::mx_fail("MXNDListGet: there is no array %u; the list has %zu", index, list->size);
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
