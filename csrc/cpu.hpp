// What this processor can do. One binary runs everywhere: code for an instruction set stands in a file compiled with
// its flags (kernel_*.cpp), or behind a target attribute, and is chosen at run time.
#pragma once

#if defined(__GNUC__)
#define LOWWATT_ALWAYS_INLINE __attribute__((always_inline))
#define LOWWATT_INLINE inline LOWWATT_ALWAYS_INLINE
#else
#define LOWWATT_ALWAYS_INLINE
#define LOWWATT_INLINE inline
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define LOWWATT_X86 1
#define LOWWATT_AVX2 __attribute__((target("avx2")))
#endif

#if defined(__aarch64__) && defined(__GNUC__)
#define LOWWATT_ARM 1
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
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
    return has_avx2() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

// The dot product of bytes; every aarch64 processor of Apple has it.
inline bool has_neon_dot() {
#if defined(LOWWATT_ARM) && defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#elif defined(LOWWATT_ARM) && defined(__APPLE__)
    return true;
#else
    return false;
#endif
}

}  // namespace lowwatt
