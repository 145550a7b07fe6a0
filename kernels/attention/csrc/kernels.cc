// The kernels for one instruction set: compiled once for each, with DEVKIT_ISA its name and the compiler's flags for it.
#include <type_traits>

#include "backward.h"
#include "decode.h"
#include "forward.h"
#include "peak.h"

#define DEVKIT_STRING_OF(x) #x
#define DEVKIT_NAME(x) DEVKIT_STRING_OF(x)

namespace devkit {
namespace DEVKIT_ISA {

extern const Kernels kKernels;
const Kernels kKernels{DEVKIT_NAME(DEVKIT_ISA), Forward, Backward, DecodeAttention, Peak, Read};

}  // namespace DEVKIT_ISA
}  // namespace devkit
