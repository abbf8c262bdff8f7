// What this processor can do. Functions for AVX2 are compiled with a target attribute, so that one binary runs
// everywhere and chooses at run time.
#pragma once

#if defined(__GNUC__)
#define LOWWATT_INLINE inline __attribute__((always_inline))
#else
#define LOWWATT_INLINE inline
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define LOWWATT_X86 1
#define LOWWATT_AVX2 __attribute__((target("avx2")))
#endif

namespace lowwatt {

inline bool has_avx2() {
#ifdef LOWWATT_X86
    return __builtin_cpu_supports("avx2");
#else
    return false;
#endif
}

inline bool has_avx512vnni() {
#ifdef LOWWATT_X86
    return has_avx2() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

}  // namespace lowwatt
