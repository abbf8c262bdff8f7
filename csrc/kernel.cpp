#include "kernel.hpp"

#include <stdexcept>

#include "cpu.hpp"

namespace lowwatt {

std::vector<const Kernel*> available_kernels() {
    std::vector<const Kernel*> kernels{plain_kernel()};
    if (has_avx2()) kernels.push_back(avx2_kernel());
    if (has_avx512vnni()) kernels.push_back(avx512vnni_kernel());
    if (const Kernel* neon = neon_kernel()) kernels.push_back(neon);
    if (has_neon_dot()) kernels.push_back(neon_dot_kernel());
    return kernels;
}

const Kernel& choose_kernel(const std::string& name) {
    const auto kernels = available_kernels();
    if (name == "auto") return *kernels.back();
    for (const Kernel* kernel : kernels)
        if (name == kernel->name) return *kernel;
    throw std::invalid_argument("this processor has no kernel " + name);
}

}  // namespace lowwatt
