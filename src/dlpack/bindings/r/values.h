// R's numbers and those of a model. An error of R leaves by a long jump: where one may be, no object with a destructor
// may be alive.
#pragma once

#include <stdint.h>

#define R_NO_REMAP
#include <R_ext/Rdynload.h>
#include <Rinternals.h>

namespace values {
namespace {

struct Data {
  void* address;
  size_t bytes;
};

// Numbers of R are double, integer or logical; `values` are double. Memory of R_alloc goes with the call from R.
template <class T>
Data given(SEXP values) {
  const R_xlen_t size = XLENGTH(values);
  auto* const data = reinterpret_cast<T*>(R_alloc(static_cast<size_t>(size) + 1, sizeof(T)));
  constexpr bool integers = static_cast<T>(0.5) == T{0};
  for (R_xlen_t i = 0; i < size; ++i) {
    const double value = REAL(values)[i];
    if (integers && !(value > -9.2e18 && value < 9.2e18)) Rf_error("%g is no integer", value);  // NA, NaN, too large
    data[i] = integers ? static_cast<T>(static_cast<int64_t>(value)) : static_cast<T>(value);
  }
  return {data, static_cast<size_t>(size) * sizeof(T)};
}

// The numbers that `get(address, bytes)` writes.
template <class T, class Get>
SEXP taken(R_xlen_t size, Get get) {
  auto* const data = reinterpret_cast<T*>(R_alloc(static_cast<size_t>(size) + 1, sizeof(T)));
  get(data, static_cast<size_t>(size) * sizeof(T));
  const SEXP values = PROTECT(Rf_allocVector(REALSXP, size));
  for (R_xlen_t i = 0; i < size; ++i) REAL(values)[i] = static_cast<double>(data[i]);
  UNPROTECT(1);
  return values;
}

template <class Result, class... Arguments>
R_CallMethodDef method(const char* name, Result (*function)(Arguments...)) {
  return {name, reinterpret_cast<DL_FUNC>(function), static_cast<int>(sizeof...(Arguments))};
}

inline void enter(DllInfo* library, const R_CallMethodDef* methods) {
  R_registerRoutines(library, nullptr, methods, nullptr, nullptr);
  R_useDynamicSymbols(library, FALSE);
}

// A pointer as R has it; the garbage collector calls `release`.
inline SEXP boxed(void* pointer, R_CFinalizer_t release) {
  const SEXP box = PROTECT(R_MakeExternalPtr(pointer, R_NilValue, R_NilValue));
  R_RegisterCFinalizerEx(box, release, TRUE);
  UNPROTECT(1);
  return box;
}

}  // namespace
}  // namespace values
