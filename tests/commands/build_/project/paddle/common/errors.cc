#include "paddle/common/errors.h"

#include "greet.h"

namespace common {
std::string Describe(int code) { return code == 0 ? kGreeting : "error " + std::to_string(code); }
}  // namespace common
