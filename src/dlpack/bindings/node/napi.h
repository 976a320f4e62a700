// What addon code calls of node's N-API, whose binary interface is stable: nodejs.org/api/n-api.html. It stands for
// node's own header, which is not everywhere that node is.
#pragma once

#include <stddef.h>
#include <stdint.h>

extern "C" {
struct napi_env__;
struct napi_value__;
struct napi_callback_info__;
typedef napi_env__* napi_env;
typedef napi_value__* napi_value;
typedef napi_callback_info__* napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
typedef void (*napi_finalize)(napi_env, void*, void*);
int napi_call_function(napi_env, napi_value, napi_value, size_t, const napi_value*, napi_value*);
int napi_create_array(napi_env, napi_value*);
int napi_create_double(napi_env, double, napi_value*);
int napi_create_external(napi_env, void*, napi_finalize, void*, napi_value*);
int napi_create_function(napi_env, const char*, size_t, napi_callback, void*, napi_value*);
int napi_create_int32(napi_env, int32_t, napi_value*);
int napi_create_object(napi_env, napi_value*);
int napi_create_string_utf8(napi_env, const char*, size_t, napi_value*);
int napi_get_cb_info(napi_env, napi_callback_info, size_t*, napi_value*, napi_value*, void**);
int napi_get_typedarray_info(napi_env, napi_value, int*, size_t*, void**, napi_value*, size_t*);
int napi_get_undefined(napi_env, napi_value*);
int napi_get_value_bool(napi_env, napi_value, bool*);
int napi_get_value_double(napi_env, napi_value, double*);
int napi_get_value_external(napi_env, napi_value, void**);
int napi_get_value_int32(napi_env, napi_value, int32_t*);
int napi_get_value_string_utf8(napi_env, napi_value, char*, size_t, size_t*);
int napi_set_element(napi_env, napi_value, uint32_t, napi_value);
int napi_set_named_property(napi_env, napi_value, const char*, napi_value);
int napi_throw_error(napi_env, const char*, const char*);
}

namespace napi {
namespace {

// A typed array, and how many elements it has.
struct Array {
  void* address = nullptr;
  size_t size = 0;
  template <class T>
  T* as() const {
    return static_cast<T*>(address);
  }
};

// A call from JavaScript, which has checked the types of its arguments.
struct Call {
  napi_env env;
  napi_value arguments[6] = {};

  Call(napi_env e, napi_callback_info info) : env(e) {
    size_t count = 6;
    napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  }
  int32_t number(int place) const {
    int32_t value = -1;
    napi_get_value_int32(env, arguments[place], &value);
    return value;
  }
  double real(int place) const {
    double value = 0;
    napi_get_value_double(env, arguments[place], &value);
    return value;
  }
  Array array(int place) const {
    Array found;
    napi_get_typedarray_info(env, arguments[place], nullptr, &found.size, &found.address, nullptr, nullptr);
    return found;
  }
  template <class T>
  T* external(int place) const {
    void* address = nullptr;
    napi_get_value_external(env, arguments[place], &address);
    return static_cast<T*>(address);
  }
  napi_value integer(int32_t number) const {
    napi_value value = nullptr;
    napi_create_int32(env, number, &value);
    return value;
  }
  napi_value real_number(double number) const {
    napi_value value = nullptr;
    napi_create_double(env, number, &value);
    return value;
  }
};

struct Function {
  const char* name;
  napi_value (*call)(const Call&);
};

napi_value enter(napi_env env, napi_callback_info info) {
  void* function = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &function);
  return static_cast<const Function*>(function)->call(Call(env, info));
}

// Enters functions, which stay where they are, into an addon's exports.
template <size_t N>
napi_value exported(napi_env env, napi_value exports, const Function (&functions)[N]) {
  for (const Function& f : functions) {
    napi_value value = nullptr;
    napi_create_function(env, f.name, SIZE_MAX, enter, const_cast<Function*>(&f), &value);
    napi_set_named_property(env, exports, f.name, value);
  }
  return exports;
}

}  // namespace
}  // namespace napi
