// The compiled core: integer kernels and post-processing behind one Python module.
#include <nanobind/nanobind.h>

namespace nb = nanobind;

NB_MODULE(_core, module) { module.doc() = "lowwatt's compiled core"; }
