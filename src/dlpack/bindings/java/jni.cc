// The native methods of dlpack.@package@.Predictor. It needs no jni.h: the places of JNI's functions in their table are
// fixed by its specification (docs.oracle.com/javase/8/docs/technotes/guides/jni/spec/functions.html).
// dlpack compiles it beside @source@, to one library with the model.
#include "@source@"

namespace @name@_jni {  // whose names hide those of the model's code
namespace {

using Object = void*;
using Environment = const void* const* const*;

template <class Result, class... Arguments>
Result call(Environment e, int place, Arguments... arguments) {
  return reinterpret_cast<Result (*)(Environment, Arguments...)>(const_cast<void*>((*e)[place]))(e, arguments...);
}

// The elements of an array of a primitive type, which stay where they are for as long as this lives.
struct Elements {
  Environment e;
  Object array;
  void* data;
  Elements(Environment environment, Object from)
      : e(environment), array(from), data(call<void*>(e, 222, from, nullptr)) {}
  ~Elements() {
    if (data != nullptr) call<void>(e, 223, array, data, 0);
  }
};

@name@_predictor* predictor(int64_t handle) {
  return reinterpret_cast<@name@_predictor*>(static_cast<intptr_t>(handle));
}

// A string as bytes of UTF-8, since JNI's own strings take UTF-8 of another kind.
Object bytes(Environment e, const char* text) {
  if (text == nullptr) return nullptr;
  int32_t length = 0;
  while (text[length] != '\0') ++length;
  const Object array = call<Object>(e, 176, length);
  if (array != nullptr) call<void>(e, 208, array, 0, length, text);
  return array;
}
//@ if texts

@text_calls@
//@ end

}  // namespace

#define METHOD(result, name) \
  extern "C" __attribute__((visibility("default"))) result @jni@_##name

//@ if side
METHOD(int32_t, create)(Environment e, Object, Object path, Object handle@c_memory_parameter@) {
  @name@_predictor* made = nullptr;
  const void* const name = call<void*>(e, 184, path, nullptr);  // bytes that end with a zero
  if (name == nullptr) return 2;
//@ if open
  const int32_t status =
      @name@_create_from_file_within(&made, static_cast<const char*>(name), static_cast<size_t>(memory));
//@ else
  const int32_t status = @name@_create_from_file(&made, static_cast<const char*>(name));
//@ end
  call<void>(e, 192, path, name, 2);
//@ else
//@ if asset
METHOD(int32_t, create)(Environment e, Object, Object weights, Object handle@c_memory_parameter@) {
  @name@_predictor* made = nullptr;
  const void* const data = call<void*>(e, 230, weights);  // null unless it is a direct buffer
  const int64_t bytes = call<int64_t>(e, 231, weights);
  const int32_t status =
      data == nullptr ? 1 : @name@_create(&made, nullptr, @c_memory@, data, static_cast<size_t>(bytes));
//@ else
METHOD(int32_t, create)(Environment e, Object, Object handle@c_memory_parameter@) {
  @name@_predictor* made = nullptr;
  const int32_t status = @name@_create(&made, nullptr, @c_memory@, nullptr, 0);
//@ end
//@ end
  const int64_t value = static_cast<int64_t>(reinterpret_cast<intptr_t>(made));
  call<void>(e, 212, handle, 0, 1, &value);
  return status;
}

//@ if asset
METHOD(Object, allocate)(Environment e, Object, int32_t size) {
  void* const data = __builtin_malloc(static_cast<size_t>(size));
  return data != nullptr ? call<Object>(e, 229, data, int64_t{size}) : nullptr;
}

METHOD(void, free)(Environment e, Object, Object buffer) { __builtin_free(call<void*>(e, 230, buffer)); }

METHOD(uint8_t, aligned)(Environment e, Object, Object buffer) {
  return reinterpret_cast<uintptr_t>(call<void*>(e, 230, buffer)) % 16 == 0;
}

//@ end
METHOD(void, destroy)(Environment, Object, int64_t handle) { @name@_destroy(predictor(handle)); }

METHOD(Object, errorText)(Environment e, Object, int32_t status) { return bytes(e, @name@_error_text(status)); }

//@ if shapes
METHOD(int32_t, currentShape)(Environment, Object, int64_t handle) { return @name@_shape(predictor(handle)); }

METHOD(int32_t, chooseShape)(Environment, Object, int64_t handle, int32_t number) {
  return @name@_set_shape(predictor(handle), number);
}

//@ if open
METHOD(int32_t, chooseExtents)(Environment e, Object, int64_t handle, int32_t input, Object extents) {
  const int32_t rank = call<int32_t>(e, 171, extents);
  const Elements elements(e, extents);
  return @name@_reshape(predictor(handle), input, static_cast<const int64_t*>(elements.data), rank);
}

METHOD(int64_t, memoryFor)(Environment e, Object, int32_t input, Object extents) {
  const int32_t rank = call<int32_t>(e, 171, extents);
  const Elements elements(e, extents);
  return static_cast<int64_t>(@name@_memory_size_for(input, static_cast<const int64_t*>(elements.data), rank));
}

//@ end
METHOD(int32_t, inputBytes)(Environment, Object, int64_t handle, int32_t index) {
  return static_cast<int32_t>(@name@_input_of(predictor(handle), index)->bytes);
}

METHOD(int32_t, outputBytes)(Environment, Object, int64_t handle, int32_t index) {
  return static_cast<int32_t>(@name@_output_of(predictor(handle), index)->bytes);
}

//@ end
//@ if threads
METHOD(int32_t, chooseThreads)(Environment, Object, int64_t handle, int32_t count) {
  return @name@_set_threads(predictor(handle), count);
}

//@ if android
METHOD(void, work)(Environment, Object, int64_t handle, int32_t number) { @name@_impl::work(*predictor(handle), number); }

METHOD(void, stop)(Environment, Object, int64_t handle) { @name@_impl::stop_workers(*predictor(handle)); }

//@ end
//@ end
METHOD(int32_t, setInput)(Environment e, Object, int64_t handle, int32_t index, Object array, int32_t size) {
  const Elements elements(e, array);
  return @name@_set_input(predictor(handle), index, elements.data, static_cast<size_t>(size));
}

METHOD(int32_t, compute)(Environment, Object, int64_t handle) { return @name@_run(predictor(handle)); }

METHOD(int32_t, getOutput)(Environment e, Object, int64_t handle, int32_t index, Object array, int32_t size) {
  const Elements elements(e, array);
  return @name@_get_output(predictor(handle), index, elements.data, static_cast<size_t>(size));
}
//@ if pictures

METHOD(int32_t, preprocess)(Environment e, Object, int64_t handle, Object rgb, int32_t width, int32_t height) {
  const Elements elements(e, rgb);
  return @name@_preprocess_rgb(predictor(handle), static_cast<const uint8_t*>(elements.data), width, height, ptrdiff_t{3} * width);
}
//@ end
//@ if boxes
//@ if labels

METHOD(Object, label)(Environment e, Object, int32_t index) { return bytes(e, @name@_label(index)); }
//@ end

// Fills the arrays with classes, and with score, x, y, width and height of each; gives their number, or -status.
METHOD(int32_t, detections)(Environment e, Object, int64_t handle, int32_t width, int32_t height, double threshold,
                            Object indices, Object numbers) {
  @name@_detection found[@most@];
  int32_t count = 0;
  const int32_t status = @name@_detections(predictor(handle), width, height, threshold, @most@, found, &count);
  for (int32_t i = 0; i < count; ++i) {
    const float all[] = {found[i].score, found[i].x, found[i].y, found[i].width, found[i].height};
    call<void>(e, 211, indices, i, 1, &found[i].index);
    call<void>(e, 213, numbers, 5 * i, 5, &all[0]);
  }
  return status == 0 ? count : -status;
}
//@ end
//@ if classes

// Fills the arrays with the likeliest classes; the labels are arrays of bytes, null where a class has no name.
METHOD(int32_t, topK)(Environment e, Object, int64_t handle, Object indices, Object probabilities, Object labels) {
  const int32_t k = call<int32_t>(e, 171, indices);
  @name@_class found[@classes@];
  if (k > @classes@) return 1;
  const int32_t status = @name@_top_k(predictor(handle), @scores@, k, found);
  for (int32_t i = 0; status == 0 && i < k; ++i) {
    call<void>(e, 211, indices, i, 1, &found[i].index);
    call<void>(e, 213, probabilities, i, 1, &found[i].probability);
    const Object label = bytes(e, found[i].label);
    call<void>(e, 174, labels, i, label);
    call<void>(e, 23, label);
  }
  return status;
}
//@ end
//@ if texts

@text_methods@
//@ end

}  // namespace @name@_jni
