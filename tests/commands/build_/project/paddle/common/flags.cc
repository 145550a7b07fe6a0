#include <cstdlib>

#include "paddle/common/errors.h"

namespace common {
int Flag(const char* name) {
  const char* value = std::getenv(name);
  return value ? std::atoi(value) : 0;
}
}  // namespace common
