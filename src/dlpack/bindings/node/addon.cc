// What index.js calls. dlpack compiles it beside @source@, to one addon with the model.
#include "@source@"

#include <stdlib.h>

#include "napi.h"

namespace @name@_node {  // whose names hide those of the model's code
namespace {

using napi::Array;
using napi::Call;
using Box = @name@_predictor*;  // null after the predictor is closed, which C takes for a bad argument

@name@_predictor* predictor(const Call& call) { return *call.external<Box>(0); }

napi_value check(const Call& call, int32_t status) {
  if (status != 0) napi_throw_error(call.env, nullptr, @name@_error_text(status));
  return nullptr;
}

void release(napi_env, void* box, void*) {
  @name@_destroy(*static_cast<Box*>(box));
  free(box);
}

napi_value create(const Call& call) {
  auto* const box = static_cast<Box*>(calloc(1, sizeof(Box)));
  if (box == nullptr) return check(call, @NAME@_NO_MEMORY);
//@ if side
  char path[4096];
  napi_get_value_string_utf8(call.env, call.arguments[0], path, sizeof path, nullptr);
//@ if open
  const int32_t status = @name@_create_from_file_within(box, path, static_cast<size_t>(call.real(1)));
//@ else
  const int32_t status = @name@_create_from_file(box, path);
//@ end
//@ else
  const int32_t status = @name@_create(box, nullptr, @c_memory@, nullptr, 0);
//@ end
  napi_value value = nullptr;
  if (status != 0 || napi_create_external(call.env, box, release, nullptr, &value) != 0) {
    release(call.env, box, nullptr);
    return check(call, status);
  }
  return value;
}

napi_value destroy(const Call& call) {
  @name@_destroy(predictor(call));
  *call.external<Box>(0) = nullptr;
  return nullptr;
}

//@ if inputs
napi_value set_input(const Call& call) {
  const auto bytes = static_cast<size_t>(call.real(3));
  return check(call, @name@_set_input(predictor(call), call.number(1), call.array(2).address, bytes));
}

//@ end
napi_value run(const Call& call) { return check(call, @name@_run(predictor(call))); }

napi_value get_output(const Call& call) {
  const auto bytes = static_cast<size_t>(call.real(3));
  return check(call, @name@_get_output(predictor(call), call.number(1), call.array(2).address, bytes));
}
//@ if pictures

napi_value preprocess_rgb(const Call& call) {
  const auto* const rgb = call.array(1).as<const uint8_t>();
  const int32_t width = call.number(2);
  return check(call, @name@_preprocess_rgb(predictor(call), rgb, width, call.number(3), ptrdiff_t{3} * width));
}
//@ end
//@ if lists

// An object for each thing that was found, with its index, its label if it has one, and numbers by name.
template <class Found, class Numbers>
napi_value listed(napi_env env, const Found* found, int32_t count, Numbers numbers) {
  napi_value list = nullptr;
  napi_create_array(env, &list);
  for (int32_t i = 0; i < count; ++i) {
    napi_value entry = nullptr, value = nullptr;
    const auto set = [&](const char* name) { napi_set_named_property(env, entry, name, value); };
    napi_create_object(env, &entry);
    napi_create_int32(env, found[i].index, &value), set("index");
    if (found[i].label != nullptr) napi_create_string_utf8(env, found[i].label, SIZE_MAX, &value), set("label");
    numbers(found[i], [&](const char* name, float number) {
      napi_create_double(env, static_cast<double>(number), &value), set(name);
    });
    napi_set_element(env, list, static_cast<uint32_t>(i), entry);
  }
  return list;
}
//@ end
//@ if classes

napi_value top_k(const Call& call) {
  @name@_class found[@classes@];
  const int32_t k = call.number(1);
  const int32_t status = k > @classes@ ? @NAME@_BAD_ARGUMENT : @name@_top_k(predictor(call), @scores@, k, found);
  if (status != 0) return check(call, status);
  return listed(call.env, found, k, [](const auto& c, auto set) { set("probability", c.probability); });
}
//@ end
//@ if boxes

napi_value detections(const Call& call) {
  @name@_detection found[@most@];
  const int32_t width = call.number(1), height = call.number(2);
  int32_t count = 0;
  const int32_t status =
      @name@_detections(predictor(call), width, height, call.real(3), @most@, found, &count);
  if (status != 0) return check(call, status);
  return listed(call.env, found, count, [](const auto& d, auto set) {
    set("score", d.score), set("x", d.x), set("y", d.y), set("width", d.width), set("height", d.height);
  });
}
//@ end
//@ if shapes

napi_value shape(const Call& call) { return call.integer(@name@_shape(predictor(call))); }

napi_value set_shape(const Call& call) { return check(call, @name@_set_shape(predictor(call), call.number(1))); }
//@ if open

napi_value reshape(const Call& call) {
  const Array shape = call.array(2);
  const auto rank = static_cast<int32_t>(shape.size);
  const int32_t status = @name@_reshape(predictor(call), call.number(1), shape.as<const int64_t>(), rank);
  return status == 0 ? call.integer(0) : status == @NAME@_BAD_ARGUMENT ? nullptr : check(call, status);
}

napi_value memory_size_for(const Call& call) {
  const Array shape = call.array(1);
  const auto rank = static_cast<int32_t>(shape.size);
  const size_t bytes = @name@_memory_size_for(call.number(0), shape.as<const int64_t>(), rank);
  return bytes == 0 ? nullptr : call.real_number(static_cast<double>(bytes));
}
//@ end

napi_value input_bytes(const Call& call) {
  return call.integer(static_cast<int32_t>(@name@_input_of(predictor(call), call.number(1))->bytes));
}

napi_value output_bytes(const Call& call) {
  return call.integer(static_cast<int32_t>(@name@_output_of(predictor(call), call.number(1))->bytes));
}
//@ end
//@ if threads

napi_value set_threads(const Call& call) { return check(call, @name@_set_threads(predictor(call), call.number(1))); }
//@ end
//@ if texts

@text_calls@
//@ end

const napi::Function kFunctions[] = {
    @functions@
};

}  // namespace

extern "C" __attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  return napi::exported(env, exports, kFunctions);
}

}  // namespace @name@_node
