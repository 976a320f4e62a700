// What R's functions call. The model is compiled with it, to one object.
#include "@source@"

#include "values.h"

namespace @name@_r {  // whose names hide those of the model's code
namespace {

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
SEXP create(SEXP path@memory_parameter@) {
  @name@_predictor* p = nullptr;
  const char* const file = R_ExpandFileName(Rf_translateChar(STRING_ELT(path, 0)));
//@ if open
  check(@name@_create_from_file_within(&p, file, @memory@));
//@ else
  check(@name@_create_from_file(&p, file));
//@ end
//@ else
SEXP create(@only_memory@) {
  @name@_predictor* p = nullptr;
  check(@name@_create(&p, nullptr, @memory@, nullptr, 0));
//@ end
  return values::boxed(p, release);
}

SEXP destroy(SEXP box) {
  release(box);
  return R_NilValue;
}

//@ if inputs
SEXP set_input(SEXP box, SEXP index, SEXP elements) {
  values::Data data = {nullptr, 0};
  switch (Rf_asInteger(index)) {
    @to_c@
  }
  check(@name@_set_input(open(box), Rf_asInteger(index), data.address, data.bytes));
  return R_NilValue;
}

//@ end
SEXP compute(SEXP box) {
  check(@name@_run(open(box)));
  return R_NilValue;
}

SEXP get_output(SEXP box, SEXP index, SEXP elements) {
  const auto size = static_cast<R_xlen_t>(Rf_asReal(elements));
  const int32_t k = Rf_asInteger(index);
  const auto get = [&](void* data, size_t bytes) { check(@name@_get_output(open(box), k, data, bytes)); };
  switch (k) {
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
//@ if open

struct Extents {
  explicit Extents(SEXP from)
      : numbers(static_cast<const int64_t*>(values::given<int64_t>(from).address)),
        rank(static_cast<int32_t>(XLENGTH(from))) {}
  const int64_t* numbers;
  int32_t rank;
};

// Whether an input may have these extents.
SEXP reshape(SEXP box, SEXP input, SEXP extents) {
  const Extents shape(extents);
  const int32_t status = @name@_reshape(open(box), Rf_asInteger(input), shape.numbers, shape.rank);
  if (status != @NAME@_BAD_ARGUMENT) check(status);
  return Rf_ScalarLogical(status == 0);
}

SEXP memory_size_for(SEXP input, SEXP extents) {
  const Extents shape(extents);
  return Rf_ScalarReal(static_cast<double>(@name@_memory_size_for(Rf_asInteger(input), shape.numbers, shape.rank)));
}
//@ end

SEXP dimensions(const @name@_tensor* tensor) {
  const SEXP shape = PROTECT(Rf_allocVector(INTSXP, tensor->rank));
  for (int32_t k = 0; k < tensor->rank; ++k) INTEGER(shape)[k] = static_cast<int32_t>(tensor->shape[k]);
  UNPROTECT(1);
  return shape;
}

SEXP input_of(SEXP box, SEXP index) { return dimensions(@name@_input_of(open(box), Rf_asInteger(index))); }

SEXP output_of(SEXP box, SEXP index) { return dimensions(@name@_output_of(open(box), Rf_asInteger(index))); }
//@ end
//@ if threads

SEXP set_threads(SEXP box, SEXP count) {
  check(@name@_set_threads(open(box), Rf_asInteger(count)));
  return R_NilValue;
}
//@ end
@text_calls@

}  // namespace

extern "C" __attribute__((visibility("default"))) void R_init_@r_symbol@(DllInfo* library) {
  const R_CallMethodDef methods[] = {
      @methods@
      {nullptr, nullptr, 0},
  };
  values::enter(library, methods);
}

}  // namespace @name@_r
