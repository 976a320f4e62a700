// What index.js calls. It needs no header of node's: the functions of N-API are declared here, and their binary interface
// is stable (nodejs.org/api/n-api.html). dlpack compiles it beside @source@, to one addon with the model.
#include "@source@"

#include <stdint.h>
#include <stdlib.h>

extern "C" {
struct napi_env__;
struct napi_value__;
struct napi_callback_info__;
typedef napi_env__* napi_env;
typedef napi_value__* napi_value;
typedef napi_callback_info__* napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
typedef void (*napi_finalize)(napi_env, void*, void*);
int napi_get_cb_info(napi_env, napi_callback_info, size_t*, napi_value*, napi_value*, void**);
int napi_create_function(napi_env, const char*, size_t, napi_callback, void*, napi_value*);
int napi_set_named_property(napi_env, napi_value, const char*, napi_value);
int napi_set_element(napi_env, napi_value, uint32_t, napi_value);
int napi_create_object(napi_env, napi_value*);
int napi_create_array(napi_env, napi_value*);
int napi_create_int32(napi_env, int32_t, napi_value*);
int napi_create_double(napi_env, double, napi_value*);
int napi_create_string_utf8(napi_env, const char*, size_t, napi_value*);
int napi_create_external(napi_env, void*, napi_finalize, void*, napi_value*);
int napi_get_value_external(napi_env, napi_value, void**);
//@ if boxes
int napi_get_value_double(napi_env, napi_value, double*);
//@ end
int napi_get_value_int32(napi_env, napi_value, int32_t*);
int napi_get_value_string_utf8(napi_env, napi_value, char*, size_t, size_t*);
int napi_get_typedarray_info(napi_env, napi_value, int*, size_t*, void**, napi_value*, size_t*);
int napi_throw_error(napi_env, const char*, const char*);
}

namespace @name@_node {  // whose names hide those of the model's code
namespace {

constexpr size_t kWhole = SIZE_MAX;  // a string up to its zero

// The arguments of a call from JavaScript, of which index.js has checked the types.
struct Call {
  napi_env env;
  napi_value arguments[5] = {};

  Call(napi_env e, napi_callback_info info) : env(e) {
    size_t count = 5;
    napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  }
  // The predictor; null after it is closed, which every function of the C API takes for a bad argument.
  @name@_predictor*& predictor() const {
    static @name@_predictor* none = nullptr;
    void* box = nullptr;
    return napi_get_value_external(env, arguments[0], &box) == 0 ? *static_cast<@name@_predictor**>(box) : none;
  }
  int32_t number(int place) const {
    int32_t value = -1;
    napi_get_value_int32(env, arguments[place], &value);
    return value;
  }
  void* data(int place) const {
    void* address = nullptr;
    napi_get_typedarray_info(env, arguments[place], nullptr, nullptr, &address, nullptr, nullptr);
    return address;
  }
  napi_value check(int32_t status) const {
    if (status != 0) napi_throw_error(env, nullptr, @name@_error_text(status));
    return nullptr;
  }
};

void release(napi_env, void* box, void*) {
  @name@_destroy(*static_cast<@name@_predictor**>(box));
  free(box);
}

napi_value create(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  auto* const box = static_cast<@name@_predictor**>(calloc(1, sizeof(@name@_predictor*)));
  if (box == nullptr) return call.check(@NAME@_NO_MEMORY);
//@ if side
  char path[4096];
  size_t length = 0;
  napi_get_value_string_utf8(env, call.arguments[0], path, sizeof path, &length);
  const int32_t status = @name@_create_from_file(box, path);
//@ else
  const int32_t status = @name@_create(box, nullptr, 0, nullptr, 0);
//@ end
  napi_value value = nullptr;
  if (status != 0 || napi_create_external(env, box, release, nullptr, &value) != 0) {
    release(env, box, nullptr);
    return call.check(status);
  }
  return value;
}

napi_value destroy(napi_env env, napi_callback_info info) {
  @name@_predictor*& predictor = Call(env, info).predictor();
  @name@_destroy(predictor);
  predictor = nullptr;
  return nullptr;
}

napi_value set_input(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  const auto bytes = static_cast<size_t>(call.number(3));
  return call.check(@name@_set_input(call.predictor(), call.number(1), call.data(2), bytes));
}

napi_value run(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  return call.check(@name@_run(call.predictor()));
}

napi_value get_output(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  const auto bytes = static_cast<size_t>(call.number(3));
  return call.check(@name@_get_output(call.predictor(), call.number(1), call.data(2), bytes));
}
//@ if pictures

napi_value preprocess_rgb(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  const auto* const rgb = static_cast<const uint8_t*>(call.data(1));
  const int32_t width = call.number(2);
  return call.check(@name@_preprocess_rgb(call.predictor(), rgb, width, call.number(3), ptrdiff_t{3} * width));
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
    napi_create_object(env, &entry);
    napi_create_int32(env, found[i].index, &value);
    napi_set_named_property(env, entry, "index", value);
    if (found[i].label != nullptr) {
      napi_create_string_utf8(env, found[i].label, kWhole, &value);
      napi_set_named_property(env, entry, "label", value);
    }
    numbers(found[i], [&](const char* name, float number) {
      napi_create_double(env, static_cast<double>(number), &value);
      napi_set_named_property(env, entry, name, value);
    });
    napi_set_element(env, list, static_cast<uint32_t>(i), entry);
  }
  return list;
}
//@ end
//@ if classes

napi_value top_k(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  @name@_class found[@classes@];
  const int32_t k = call.number(1);
  const int32_t status = k > @classes@ ? @NAME@_BAD_ARGUMENT : @name@_top_k(call.predictor(), @scores@, k, found);
  if (status != 0) return call.check(status);
  return listed(env, found, k, [](const auto& c, auto set) { set("probability", c.probability); });
}
//@ end
//@ if boxes

napi_value detections(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  @name@_detection found[@most@];
  int32_t count = 0;
  double least = 0;
  napi_get_value_double(env, call.arguments[3], &least);
  const int32_t status =
      @name@_detections(call.predictor(), call.number(1), call.number(2), least, @most@, found, &count);
  if (status != 0) return call.check(status);
  return listed(env, found, count, [](const auto& d, auto set) {
    set("score", d.score), set("x", d.x), set("y", d.y), set("width", d.width), set("height", d.height);
  });
}
//@ end
//@ if shapes

napi_value shape(napi_env env, napi_callback_info info) {
  napi_value number = nullptr;
  napi_create_int32(env, @name@_shape(Call(env, info).predictor()), &number);
  return number;
}

napi_value set_shape(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  return call.check(@name@_set_shape(call.predictor(), call.number(1)));
}
//@ end
//@ if threads

napi_value set_threads(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  return call.check(@name@_set_threads(call.predictor(), call.number(1)));
}
//@ end

}  // namespace

extern "C" __attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  const struct {
    const char* name;
    napi_callback function;
  } functions[] = {
      {"create", create}, {"destroy", destroy}, {"setInput", set_input}, {"run", run}, {"getOutput", get_output},
//@ if pictures
      {"preprocessRgb", preprocess_rgb},
//@ end
//@ if classes
      {"topK", top_k},
//@ end
//@ if boxes
      {"detections", detections},
//@ end
//@ if shapes
      {"shape", shape}, {"setShape", set_shape},
//@ end
//@ if threads
      {"setThreads", set_threads},
//@ end
  };
  for (const auto& f : functions) {
    napi_value value = nullptr;
    napi_create_function(env, f.name, kWhole, f.function, nullptr, &value);
    napi_set_named_property(env, exports, f.name, value);
  }
  return exports;
}

}  // namespace @name@_node
