// What R's functions call. The model is compiled with it, to one object.
#include "@source@"

#define R_NO_REMAP
#include <R_ext/Rdynload.h>
#include <Rinternals.h>

namespace @name@_r {  // whose names hide those of the model's code
namespace {

// No object with a destructor may be alive where these are called: an error of R leaves by a long jump.
void check(int32_t status) {
  if (status != 0) Rf_error("%s", @name@_error_text(status));
}

@name@_predictor* open(SEXP box) {
  auto* const p = static_cast<@name@_predictor*>(R_ExternalPtrAddr(box));
  if (p == nullptr) Rf_error("the predictor is closed");
  return p;
}

void release(SEXP box) {
  @name@_destroy(static_cast<@name@_predictor*>(R_ExternalPtrAddr(box)));
  R_ClearExternalPtr(box);
}

//@ if side
SEXP create(SEXP path) {
  @name@_predictor* p = nullptr;
  check(@name@_create_from_file(&p, R_ExpandFileName(Rf_translateChar(STRING_ELT(path, 0)))));
//@ else
SEXP create() {
  @name@_predictor* p = nullptr;
  check(@name@_create(&p, nullptr, 0, nullptr, 0));
//@ end
  const SEXP box = PROTECT(R_MakeExternalPtr(p, R_NilValue, R_NilValue));
  R_RegisterCFinalizerEx(box, release, TRUE);
  UNPROTECT(1);
  return box;
}

SEXP destroy(SEXP box) {
  release(box);
  return R_NilValue;
}

// Numbers of R are double, integer or logical; `values` are double.
template <class T>
int32_t give(@name@_predictor* p, int32_t index, SEXP values) {
  const R_xlen_t size = XLENGTH(values);
  auto* const data = reinterpret_cast<T*>(R_alloc(static_cast<size_t>(size) + 1, sizeof(T)));
  constexpr bool integers = static_cast<T>(0.5) == T{0};
  for (R_xlen_t i = 0; i < size; ++i) {
    const double value = REAL(values)[i];
    if (integers && !(value > -9.2e18 && value < 9.2e18)) return @NAME@_BAD_ARGUMENT;  // NA, NaN and what no integer holds
    data[i] = integers ? static_cast<T>(static_cast<int64_t>(value)) : static_cast<T>(value);
  }
  return @name@_set_input(p, index, data, static_cast<size_t>(size) * sizeof(T));
}

template <class T>
SEXP take(@name@_predictor* p, int32_t index, R_xlen_t size) {
  auto* const data = reinterpret_cast<T*>(R_alloc(static_cast<size_t>(size) + 1, sizeof(T)));
  check(@name@_get_output(p, index, data, static_cast<size_t>(size) * sizeof(T)));
  const SEXP values = PROTECT(Rf_allocVector(REALSXP, size));
  for (R_xlen_t i = 0; i < size; ++i) REAL(values)[i] = static_cast<double>(data[i]);
  UNPROTECT(1);
  return values;
}

int32_t set(@name@_predictor* p, int index, SEXP values) {
  switch (index) {
    @to_c@
    default: return @NAME@_BAD_ARGUMENT;
  }
}

SEXP set_input(SEXP box, SEXP index, SEXP values) {
  check(set(open(box), Rf_asInteger(index), values));
  return R_NilValue;
}

SEXP compute(SEXP box) {
  check(@name@_run(open(box)));
  return R_NilValue;
}

SEXP get_output(SEXP box, SEXP index, SEXP elements) {
  const R_xlen_t size = static_cast<R_xlen_t>(Rf_asReal(elements));
  @name@_predictor* const p = open(box);
  switch (Rf_asInteger(index)) {
    @from_c@
    default: return R_NilValue;
  }
}
//@ if pictures

SEXP preprocess(SEXP box, SEXP rgb, SEXP width, SEXP height) {
  const int32_t w = Rf_asInteger(width);
  check(@name@_preprocess_rgb(open(box), RAW(rgb), w, Rf_asInteger(height), ptrdiff_t{3} * w));
  return R_NilValue;
}
//@ end
//@ if classes

SEXP top_k(SEXP box, SEXP count) {
  @name@_class found[@classes@];
  const int32_t k = Rf_asInteger(count);
  check(k > @classes@ ? @NAME@_BAD_ARGUMENT : @name@_top_k(open(box), @scores@, k, found));
  const SEXP columns = PROTECT(Rf_allocVector(VECSXP, 3));
  const SEXP indices = SET_VECTOR_ELT(columns, 0, Rf_allocVector(INTSXP, k));
  const SEXP labels = SET_VECTOR_ELT(columns, 1, Rf_allocVector(STRSXP, k));
  const SEXP probabilities = SET_VECTOR_ELT(columns, 2, Rf_allocVector(REALSXP, k));
  for (int32_t i = 0; i < k; ++i) {
    INTEGER(indices)[i] = found[i].index;
    REAL(probabilities)[i] = static_cast<double>(found[i].probability);
    SET_STRING_ELT(labels, i, found[i].label == nullptr ? NA_STRING : Rf_mkCharCE(found[i].label, CE_UTF8));
  }
  UNPROTECT(1);
  return columns;
}
//@ end
//@ if boxes

SEXP detections(SEXP box, SEXP width, SEXP height, SEXP threshold) {
  @name@_detection found[@most@];
  int32_t count = 0;
  check(@name@_detections(open(box), Rf_asInteger(width), Rf_asInteger(height), Rf_asReal(threshold), @most@, found, &count));
  const SEXP columns = PROTECT(Rf_allocVector(VECSXP, 7));
  const SEXP indices = SET_VECTOR_ELT(columns, 0, Rf_allocVector(INTSXP, count));
  const SEXP labels = SET_VECTOR_ELT(columns, 1, Rf_allocVector(STRSXP, count));
  for (int32_t k = 2; k < 7; ++k) SET_VECTOR_ELT(columns, k, Rf_allocVector(REALSXP, count));
  for (int32_t i = 0; i < count; ++i) {
    const float numbers[] = {found[i].score, found[i].x, found[i].y, found[i].width, found[i].height};
    INTEGER(indices)[i] = found[i].index;
    SET_STRING_ELT(labels, i, found[i].label == nullptr ? NA_STRING : Rf_mkCharCE(found[i].label, CE_UTF8));
    for (int32_t k = 0; k < 5; ++k) REAL(VECTOR_ELT(columns, k + 2))[i] = static_cast<double>(numbers[k]);
  }
  UNPROTECT(1);
  return columns;
}
//@ end
//@ if shapes

SEXP shape(SEXP box) { return Rf_ScalarInteger(@name@_shape(open(box))); }

SEXP set_shape(SEXP box, SEXP number) {
  check(@name@_set_shape(open(box), Rf_asInteger(number)));
  return R_NilValue;
}
//@ end
//@ if threads

SEXP set_threads(SEXP box, SEXP count) {
  check(@name@_set_threads(open(box), Rf_asInteger(count)));
  return R_NilValue;
}
//@ end
@text_calls@

template <class Result, class... Arguments>
R_CallMethodDef method(const char* name, Result (*function)(Arguments...)) {
  return {name, reinterpret_cast<DL_FUNC>(function), static_cast<int>(sizeof...(Arguments))};
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void R_init_@r_symbol@(DllInfo* library) {
  const R_CallMethodDef methods[] = {
      method("c_create", create), method("c_destroy", destroy), method("c_set_input", set_input),
      method("c_compute", compute), method("c_get_output", get_output),
//@ if pictures
      method("c_preprocess", preprocess),
//@ end
//@ if classes
      method("c_top_k", top_k),
//@ end
//@ if boxes
      method("c_detections", detections),
//@ end
//@ if shapes
      method("c_shape", shape), method("c_set_shape", set_shape),
//@ end
//@ if threads
      method("c_set_threads", set_threads),
//@ end
//@ if tokenizer
      method("c_tokenize", tokenize), method("c_detokenize", detokenize),
//@ end
//@ if embeds
      method("c_embed", embed),
//@ end
//@ if decodes
      method("c_generate", generate),
//@ end
      {nullptr, nullptr, 0},
  };
  R_registerRoutines(library, nullptr, methods, nullptr, nullptr);
  R_useDynamicSymbols(library, FALSE);
}

}  // namespace @name@_r
