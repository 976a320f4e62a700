--- The C API, as @header@ describes it.
local ffi = require("ffi")

ffi.cdef([[
typedef struct @name@_predictor @name@_predictor;
//@ if shapes
typedef struct @name@_tensor {
  const char* name; const char* dtype; const int64_t* shape; int32_t rank; size_t bytes; float scale; int32_t zero_point;
} @name@_tensor;
//@ end
//@ if classes
typedef struct @name@_class { int32_t index; float probability; const char* label; } @name@_class;
//@ end
//@ if boxes
typedef struct @name@_detection { int32_t index; float score, x, y, width, height; const char* label; } @name@_detection;
//@ end
//@ if decodes
typedef struct @name@_sampler { float temperature; int32_t top_k; float top_p; uint64_t seed; } @name@_sampler;
typedef int32_t (*@name@_on_token)(void* user, int64_t token);
//@ end
//@ if writes
typedef int32_t (*@name@_on_text)(void* user, const char* text, size_t bytes);
//@ end
@declarations@
]])

local folder = debug.getinfo(1, "S").source:match("^@(.*[/\\])") or "./"
return ffi.load(folder .. "@library@")
