// Every aarch64 processor: pairs of int16 through smlal.
#include "kernel.hpp"

#if defined(__aarch64__)

#include "kernel_neon_lanes.hpp"

namespace lowwatt {
namespace {

constexpr Kernel kernel = make_kernel<NeonPairs, NeonPairs>("neon");

}  // namespace

const Kernel* neon_kernel() { return &kernel; }

}  // namespace lowwatt

#else

const lowwatt::Kernel* lowwatt::neon_kernel() { return nullptr; }

#endif
