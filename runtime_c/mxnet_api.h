#pragma GCC visibility push(default)
extern "C" {

const char* MXGetLastError() { return impl::mx_error_text; }

int MXPredCreate(const char* symbol_json_str, const void* param_bytes, int param_size, int dev_type,
                 int dev_id, mx_uint num_input_nodes, const char** input_keys,
                 const mx_uint* input_shape_indptr, const mx_uint* input_shape_data,
                 PredictorHandle* out) {
  (void)dev_id;
  return impl::mx_create({"MXPredCreate", symbol_json_str, param_bytes, param_size, dev_type,
                          num_input_nodes, input_keys, input_shape_indptr, input_shape_data, 0,
                          nullptr, 0, nullptr, nullptr, 1, out});
}

int MXPredCreateEx(const char* symbol_json_str, const void* param_bytes, int param_size,
                   int dev_type, int dev_id, mx_uint num_input_nodes, const char** input_keys,
                   const mx_uint* input_shape_indptr, const mx_uint* input_shape_data,
                   mx_uint num_provided_arg_dtypes, const char** provided_arg_dtype_names,
                   const int* provided_arg_dtypes, PredictorHandle* out) {
  (void)dev_id;
  return impl::mx_create({"MXPredCreateEx", symbol_json_str, param_bytes, param_size, dev_type,
                          num_input_nodes, input_keys, input_shape_indptr, input_shape_data, 0,
                          nullptr, num_provided_arg_dtypes, provided_arg_dtype_names,
                          provided_arg_dtypes, 1, out});
}

int MXPredCreatePartialOut(const char* symbol_json_str, const void* param_bytes, int param_size,
                           int dev_type, int dev_id, mx_uint num_input_nodes,
                           const char** input_keys, const mx_uint* input_shape_indptr,
                           const mx_uint* input_shape_data, mx_uint num_output_nodes,
                           const char** output_keys, PredictorHandle* out) {
  (void)dev_id;
  return impl::mx_create({"MXPredCreatePartialOut", symbol_json_str, param_bytes, param_size,
                          dev_type, num_input_nodes, input_keys, input_shape_indptr,
                          input_shape_data, num_output_nodes, output_keys, 0, nullptr, nullptr, 1,
                          out});
}

int MXPredCreateMultiThread(const char* symbol_json_str, const void* param_bytes, int param_size,
                            int dev_type, int dev_id, mx_uint num_input_nodes,
                            const char** input_keys, const mx_uint* input_shape_indptr,
                            const mx_uint* input_shape_data, int num_threads,
                            PredictorHandle* out) {
  (void)dev_id;
  return impl::mx_create({"MXPredCreateMultiThread", symbol_json_str, param_bytes, param_size,
                          dev_type, num_input_nodes, input_keys, input_shape_indptr,
                          input_shape_data, 0, nullptr, 0, nullptr, nullptr, num_threads, out});
}

int MXPredReshape(mx_uint num_input_nodes, const char** input_keys,
                  const mx_uint* input_shape_indptr, const mx_uint* input_shape_data,
                  PredictorHandle handle, PredictorHandle* out) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (out != nullptr) *out = nullptr;
  if (p == nullptr || out == nullptr) return impl::mx_fail("MXPredReshape: handle or out is null");
  if (impl::mx_check_inputs("MXPredReshape", num_input_nodes, input_keys, input_shape_indptr,
                            input_shape_data) != 0)
    return -1;
//@ shapes
  const int32_t set =
      impl::mx_find_set("MXPredReshape", impl::kShapes[p->predictor->set], num_input_nodes,
                        input_keys, input_shape_indptr, input_shape_data);
  if (set < 0) return -1;
//@ end
  return impl::mx_new_handle("MXPredReshape", *p, false, @set()@out);
}

int MXPredGetOutputShape(PredictorHandle handle, mx_uint index, mx_uint** shape_data,
                         mx_uint* shape_ndim) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr || shape_data == nullptr || shape_ndim == nullptr)
    return impl::mx_fail("MXPredGetOutputShape: handle, shape_data or shape_ndim is null");
  if (index >= p->output_count)
    return impl::mx_fail("MXPredGetOutputShape: there is no output %u; the predictor has %u", index,
                         p->output_count);
  *shape_data = impl::mx_output(*p, index).shape;
  *shape_ndim = static_cast<mx_uint>(impl::mx_output(*p, index).tensor->rank);
  return 0;
}

int MXPredGetOutputType(PredictorHandle handle, mx_uint out_index, int* out_dtype) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr || out_dtype == nullptr)
    return impl::mx_fail("MXPredGetOutputType: handle or out_dtype is null");
  if (out_index >= p->output_count)
    return impl::mx_fail("MXPredGetOutputType: there is no output %u; the predictor has %u",
                         out_index, p->output_count);
  *out_dtype = impl::mx_type(*impl::mx_output(*p, out_index).tensor);
  return 0;
}

int MXPredSetInput(PredictorHandle handle, const char* key, const mx_float* data, mx_uint size) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr || key == nullptr || data == nullptr)
    return impl::mx_fail("MXPredSetInput: handle, key or data is null");
  const int32_t index = impl::mx_find_input(key);
  if (index < 0)
    return impl::mx_fail("MXPredSetInput: the model has no input \"%.100s\"; it has: %s", key,
                         impl::mx_names_text(impl::kInputs, impl::kInputCount).chars);
  const @name@_tensor& own = *p->arrays[index].tensor;
  if (impl::mx_type(own) != 0 && !p->typed[index])
    return impl::mx_fail(
        "MXPredSetInput: input \"%.100s\" is %s: create the predictor with MXPredCreateEx and this "
        "type (%d) to give such elements, or use @name@_set_input()",
        key, own.dtype, impl::mx_type(own));
  if (size != impl::mx_elements(own))
    return impl::mx_fail("MXPredSetInput: input \"%.100s\" has %zu elements (%s), and %u are given",
                         key, impl::mx_elements(own),
                         impl::mx_shape_text(own.shape, static_cast<size_t>(own.rank)).chars, size);
  const @name@_status status = @name@_set_input(p->predictor, index, data, own.bytes);
  return status == @NAME@_OK ? 0 : impl::mx_fail("MXPredSetInput: %s", @name@_error_text(status));
}

int MXPredForward(PredictorHandle handle) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr) return impl::mx_fail("MXPredForward: handle is null");
  if (p->monitor == nullptr && p->steps == @steps(p->predictor)@) {
    const @name@_status status = @name@_run(p->predictor);
    return status == @NAME@_OK ? 0 : impl::mx_fail("MXPredForward: %s", @name@_error_text(status));
  }
  for (int32_t step = 0; step < p->steps; ++step)
    if (impl::mx_run_step(*p, "MXPredForward", step) != 0) return -1;
  return 0;
}

// As in MXNet, a step beyond the last does nothing, and none are left.
int MXPredPartialForward(PredictorHandle handle, int step, int* step_left) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr || step_left == nullptr)
    return impl::mx_fail("MXPredPartialForward: handle or step_left is null");
  if (step < 0) return impl::mx_fail("MXPredPartialForward: step is %d; it begins at 0", step);
  if (step < p->steps && impl::mx_run_step(*p, "MXPredPartialForward", step) != 0) return -1;
  *step_left = step < p->steps ? p->steps - step - 1 : 0;
  return 0;
}

int MXPredSetMonitorCallback(PredictorHandle handle, PredMonitorCallback callback,
                             void* callback_handle, bool monitor_all) {
  impl::mx_handle* const p = static_cast<impl::mx_handle*>(handle);
  if (p == nullptr) return impl::mx_fail("MXPredSetMonitorCallback: handle is null");
  p->monitor = callback;
  p->monitored_for = callback_handle;
  p->monitor_inputs = monitor_all;
  return 0;
}

int MXPredGetOutput(PredictorHandle handle, mx_uint index, mx_float* data, mx_uint size) {
  const impl::mx_handle* const p = static_cast<const impl::mx_handle*>(handle);
  if (p == nullptr || data == nullptr)
    return impl::mx_fail("MXPredGetOutput: handle or data is null");
  if (index >= p->output_count)
    return impl::mx_fail("MXPredGetOutput: there is no output %u; the predictor has %u", index,
                         p->output_count);
  const @name@_tensor& own = *impl::mx_output(*p, index).tensor;
  if (size != impl::mx_elements(own))
    return impl::mx_fail(
        "MXPredGetOutput: output \"%.100s\" has %zu elements (%s), and %u are requested", own.name,
        impl::mx_elements(own), impl::mx_shape_text(own.shape, static_cast<size_t>(own.rank)).chars,
        size);
  const @name@_status status = @name@_get_output(p->predictor, p->outputs[index], data, own.bytes);
  return status == @NAME@_OK ? 0 : impl::mx_fail("MXPredGetOutput: %s", @name@_error_text(status));
}

int MXPredFree(PredictorHandle handle) {
  if (handle != nullptr) impl::mx_free_handle(static_cast<impl::mx_handle*>(handle));
  return 0;
}

// --- arrays that a monitor is given (MXNet's c_api.h)

int MXNDArrayGetShape(NDArrayHandle handle, mx_uint* out_dim, const mx_uint** out_pdata) {
  const impl::mx_ndarray* const a = static_cast<const impl::mx_ndarray*>(handle);
  if (a == nullptr || out_dim == nullptr || out_pdata == nullptr)
    return impl::mx_fail("MXNDArrayGetShape: handle, out_dim or out_pdata is null");
  *out_dim = static_cast<mx_uint>(a->tensor->rank);
  *out_pdata = a->shape;
  return 0;
}

int MXNDArrayGetShapeEx(NDArrayHandle handle, int* out_dim, const int** out_pdata) {
  const impl::mx_ndarray* const a = static_cast<const impl::mx_ndarray*>(handle);
  if (a == nullptr || out_dim == nullptr || out_pdata == nullptr)
    return impl::mx_fail("MXNDArrayGetShapeEx: handle, out_dim or out_pdata is null");
  *out_dim = a->tensor->rank;
  *out_pdata = reinterpret_cast<const int*>(a->shape);
  return 0;
}

int MXNDArrayGetDType(NDArrayHandle handle, int* out_dtype) {
  const impl::mx_ndarray* const a = static_cast<const impl::mx_ndarray*>(handle);
  if (a == nullptr || out_dtype == nullptr)
    return impl::mx_fail("MXNDArrayGetDType: handle or out_dtype is null");
  *out_dtype = impl::mx_type(*a->tensor);
  return 0;
}

int MXNDArrayGetData(NDArrayHandle handle, void** out_pdata) {
  const impl::mx_ndarray* const a = static_cast<const impl::mx_ndarray*>(handle);
  if (a == nullptr || out_pdata == nullptr)
    return impl::mx_fail("MXNDArrayGetData: handle or out_pdata is null");
  *out_pdata = const_cast<void*>(a->data());
  return 0;
}

int MXNDArraySyncCopyToCPU(NDArrayHandle handle, void* data, size_t size) {
  const impl::mx_ndarray* const a = static_cast<const impl::mx_ndarray*>(handle);
  if (a == nullptr || data == nullptr)
    return impl::mx_fail("MXNDArraySyncCopyToCPU: handle or data is null");
  if (size != impl::mx_elements(*a->tensor))
    return impl::mx_fail(
        "MXNDArraySyncCopyToCPU: \"%.100s\" has %zu elements, and %zu are requested",
        a->tensor->name, impl::mx_elements(*a->tensor), size);
  memcpy(data, a->data(), a->tensor->bytes);
  return 0;
}

int MXNDArrayFree(NDArrayHandle handle) {
  (void)handle;
  return 0;
}

}  // extern "C"
#pragma GCC visibility pop
#endif  // !@NAME@_FREESTANDING
#endif  // @NAME@_MXNET_API
