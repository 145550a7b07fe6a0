#include "paddle/common/errors.h"

int main() { return common::Describe(3) == "error 3" ? 0 : 1; }
