#include "runtime/exec/attention_rows.h"

#include <algorithm>
#include <cstring>
#include <limits>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

namespace autospc::exec {
namespace {

namespace baseline {
#include "runtime/exec/attention_rows.inc"
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define AUTOSPC_X86_TARGETS 1
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#include "runtime/exec/attention_rows.inc"
}
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl")
namespace avx512 {
#include "runtime/exec/attention_rows.inc"
}
#pragma GCC pop_options
#endif

template <typename T>
const AttentionRows<T>& Choose() {
#ifdef AUTOSPC_X86_TARGETS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl")) {
    return avx512::kRows<T>;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kRows<T>;
#endif
  return baseline::kRows<T>;
}

}  // namespace

template <typename T>
const AttentionRows<T>& RowLoops() {
  static const AttentionRows<T>& loops = Choose<T>();
  return loops;
}

template const AttentionRows<float>& RowLoops<float>();
template const AttentionRows<double>& RowLoops<double>();

}  // namespace autospc::exec
