#pragma once

namespace phi {
double Add(double x, double y);
double Scale(double x, double by);
}  // namespace phi
