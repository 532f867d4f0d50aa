// KVS_CHECK: for what only a bug of ours can make false. Stays on in release builds; prints the
// expression, both operands where they print, and aborts. A user's mistake is a Status, never this.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace kvs::internal {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* expression) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, expression);
  std::fflush(stderr);
  std::abort();
}

template <class A, class B>
[[noreturn]] void CheckOpFailed(const char* file, int line, const char* expression, const A& a,
                                const B& b) {
  std::fprintf(stderr, "%s:%d: check failed: %s (%lld vs %lld)\n", file, line, expression,
               static_cast<long long>(a), static_cast<long long>(b));
  std::fflush(stderr);
  std::abort();
}

}  // namespace kvs::internal

#define KVS_CHECK(condition)                                                        \
  do {                                                                              \
    if (!(condition)) ::kvs::internal::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

// For integers: prints both sides.
#define KVS_CHECK_OP(a, op, b)                                                           \
  do {                                                                                   \
    const auto kvs_check_a = (a);                                                        \
    const auto kvs_check_b = (b);                                                        \
    if (!(kvs_check_a op kvs_check_b))                                                   \
      ::kvs::internal::CheckOpFailed(__FILE__, __LINE__, #a " " #op " " #b, kvs_check_a, \
                                     kvs_check_b);                                       \
  } while (false)

#ifdef NDEBUG
#define KVS_DCHECK(condition) ((void)0)
#else
#define KVS_DCHECK(condition) KVS_CHECK(condition)
#endif
