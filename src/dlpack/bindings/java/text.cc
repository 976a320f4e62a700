// The elements of an array, or a copy of them, for as long as this lives. `kind` is the place of the function that
// gives those of its type; `written`: what is written to them gets into the array.
enum Kind { kBytes = 184, kInts = 187, kLongs = 188, kFloats = 189 };

template <class T>
struct Array {
  Environment e;
  Object array;
  Kind kind;
  int32_t mode;
  size_t count = 0;
  T* data = nullptr;
  Array(Environment environment, Object from, Kind type, bool written)
      : e(environment), array(from), kind(type), mode(written ? 0 : 2) {
    if (from == nullptr) return;
    count = static_cast<size_t>(call<int32_t>(e, 171, from));
    data = call<T*>(e, kind, from, nullptr);
  }
  ~Array() {
    if (data != nullptr) call<void>(e, kind + 8, array, data, mode);
  }
};

void set_count(Environment e, Object array, size_t count) {
  const int32_t value = static_cast<int32_t>(count);
  call<void>(e, 211, array, 0, 1, &value);
}
//@ if decodes

// A Taken of Predictor.java, and its method `take` for tokens or for pieces of text.
struct Taker {
  Environment e;
  Object object;
  void* method;
  Taker(Environment environment, Object taken, const char* type)
      : e(environment), object(taken), method(call<void*>(e, 33, call<Object>(e, 31, taken), "take", type)) {}
  // Whether that was the last: the method returned true or threw.
  int32_t take(int64_t value) const {
    return call<uint8_t>(e, 39, object, method, &value) != 0 || call<uint8_t>(e, 228) != 0 ? 1 : 0;
  }
};

int32_t on_token(void* user, int64_t token) { return static_cast<const Taker*>(user)->take(token); }
//@ end
//@ if writes

int32_t on_text(void* user, const char* text, size_t size) {
  const Taker& taker = *static_cast<const Taker*>(user);
  const Object array = call<Object>(taker.e, 176, static_cast<int32_t>(size));
  if (array == nullptr) return 1;
  call<void>(taker.e, 208, array, 0, static_cast<int32_t>(size), text);
  const int32_t last = taker.take(static_cast<int64_t>(reinterpret_cast<intptr_t>(array)));
  call<void>(taker.e, 23, array);
  return last;
}
//@ end
