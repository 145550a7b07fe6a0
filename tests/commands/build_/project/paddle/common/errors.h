#pragma once
#include <string>

namespace common {
std::string Describe(int code);
int Flag(const char* name);
}  // namespace common
