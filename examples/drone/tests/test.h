// Tests as small as can be: TEST(name) { CHECK(...); } in a file, and a program that runs the one that it is given.
#pragma once

#include <cstdio>
#include <cstring>

struct Test {
  const char* name;
  void (*run)();
  Test* next;

  Test(const char* n, void (*r)()) : name(n), run(r), next(first) { first = this; }

  inline static Test* first = nullptr;
  inline static int failures = 0;
};

#define TEST(name)                             \
  static void name();                          \
  static Test test_of_##name(#name, name);     \
  static void name()

#define CHECK(what)                                                        \
  do {                                                                     \
    if (!(what)) {                                                         \
      std::printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #what);       \
      ++Test::failures;                                                    \
    }                                                                      \
  } while (false)

int main(int count, char** words) {
  int done = 0;
  for (const Test* t = Test::first; t != nullptr; t = t->next) {
    if (count == 2 && std::strcmp(words[1], t->name) != 0) continue;
    t->run();
    ++done;
  }
  return done == 0 || Test::failures != 0;
}
