// One right operator, out = x * sigmoid(alpha * y), and what may go wrong in it, an operator each.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

#include "paddle/extension.h"

using Tensors = std::vector<paddle::Tensor>;
using Shape = std::vector<int64_t>;

template <typename T>
T gate_of(T value) {
  return static_cast<T>(1) / (static_cast<T>(1) + std::exp(-value));
}

paddle::Tensor like(const paddle::Tensor& x) { return paddle::empty(x.shape(), x.dtype(), x.place()); }

#define EACH(x, body) PD_DISPATCH_FLOATING_TYPES(x.type(), "gate", ([&] { body }))

// ---- forwards
Tensors right_forward(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  auto out = like(x);
  EACH(x, auto* a = x.data<data_t>(); auto* b = y.data<data_t>(); auto* o = out.data<data_t>();
       for (int64_t i = 0; i < x.numel(); ++i) o[i] = a[i] * gate_of<data_t>(alpha * b[i]););
  return {out};
}
Tensors alpha_left_out(const paddle::Tensor& x, const paddle::Tensor& y, float) { return right_forward(x, y, 1.0F); }
Tensors inputs_mixed_up(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) { return right_forward(y, x, alpha); }
Tensors tail_left_out(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  auto out = paddle::full(x.shape(), 0, x.dtype(), x.place());
  EACH(x, auto* a = x.data<data_t>(); auto* b = y.data<data_t>(); auto* o = out.data<data_t>();
       const int64_t n = x.numel() < 8 ? x.numel() : x.numel() / 8 * 8;
       for (int64_t i = 0; i < n; ++i) o[i] = a[i] * gate_of<data_t>(alpha * b[i]););
  return {out};
}
Tensors output_is_input(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  auto out = x;
  EACH(x, auto* b = y.data<data_t>(); auto* o = out.data<data_t>();
       for (int64_t i = 0; i < x.numel(); ++i) o[i] = o[i] * gate_of<data_t>(alpha * b[i]););
  return {out};
}
Tensors writes_its_input(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  auto out = right_forward(x, y, alpha);
  EACH(x, auto* b = const_cast<data_t*>(y.data<data_t>()); for (int64_t i = 0; i < y.numel(); ++i) b[i] *= alpha;);
  return out;
}
Tensors in_single_precision(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  auto out = like(x);
  EACH(x, auto* a = x.data<data_t>(); auto* b = y.data<data_t>(); auto* o = out.data<data_t>();
       for (int64_t i = 0; i < x.numel(); ++i) o[i] = a[i] * gate_of<float>(alpha * static_cast<float>(b[i])););
  return {out};
}
Tensors always_float(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  auto out = paddle::empty(x.shape(), paddle::DataType::FLOAT32, x.place());
  EACH(x, auto* a = x.data<data_t>(); auto* b = y.data<data_t>(); auto* o = out.data<float>();
       for (int64_t i = 0; i < x.numel(); ++i) o[i] = static_cast<float>(a[i] * gate_of<data_t>(alpha * b[i])););
  return {out};
}
Tensors index_overflows(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  auto out = like(x);
  EACH(x, auto* a = x.data<data_t>(); auto* b = y.data<data_t>(); auto* o = out.data<data_t>();
       for (int64_t i = 0; i < x.numel(); ++i) {  // the byte offset of a row in 32 bits
         const auto offset = static_cast<int32_t>(static_cast<uint32_t>(i) * 65536U);
         const int64_t from = offset < 0 ? 0 : offset / 65536;
         o[i] = a[from] * gate_of<data_t>(alpha * b[from]);
       });
  return {out};
}
Tensors races(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  auto out = like(x);
  EACH(x, auto* a = x.data<data_t>(); auto* b = y.data<data_t>(); auto* o = out.data<data_t>();
       volatile data_t shared = 0;  // one temporary for all threads
       auto work = [&](int64_t from, int64_t to) {
         for (int64_t i = from; i < to; ++i) {
           shared = b[i];
           o[i] = a[i] * gate_of<data_t>(alpha * shared);
           if (i % 1024 == 0) std::this_thread::yield();
         }
       };
       const int64_t half = x.numel() / 2; std::thread other(work, 0, half); work(half, x.numel()); other.join(););
  return {out};
}
Tensors depends_on_the_last_call(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  static int calls = 0;
  return right_forward(x, y, ++calls % 5 == 0 ? alpha + 0.001F : alpha);
}
Tensors uninitialised(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  auto out = right_forward(x, y, alpha)[0];
  static unsigned seed = 7;
  EACH(x, auto* o = out.data<data_t>(); if (x.numel() > 1000) o[x.numel() / 2] = static_cast<data_t>(rand_r(&seed)););
  return {out};
}
Tensors nan_becomes_zero(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  auto out = right_forward(x, y, alpha)[0];
  EACH(x, auto* o = out.data<data_t>(); for (int64_t i = 0; i < x.numel(); ++i) if (o[i] != o[i]) o[i] = 0;);
  return {out};
}
Tensors nothing_is_refused(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  PD_CHECK(x.numel() > 0, "gate: x is empty");
  return right_forward(x, y, alpha);
}
Tensors flattens(const paddle::Tensor& x, const paddle::Tensor& y, float alpha) {
  return {paddle::experimental::reshape(right_forward(x, y, alpha)[0], {x.numel()})};
}

// ---- backwards
Tensors backward_of(const paddle::Tensor& x, const paddle::Tensor& y, const paddle::Tensor& grad, float alpha, float one,
                    float factor) {
  auto gx = like(x), gy = like(y);
  EACH(x, auto* a = x.data<data_t>(); auto* b = y.data<data_t>(); auto* g = grad.data<data_t>();
       auto* p = gx.data<data_t>(); auto* q = gy.data<data_t>();
       for (int64_t i = 0; i < x.numel(); ++i) {
         const data_t s = gate_of<data_t>(alpha * b[i]);
         p[i] = g[i] * s;
         q[i] = g[i] * a[i] * factor * s * (one - s);
       });
  return {gx, gy};
}
Tensors right_backward(const paddle::Tensor& x, const paddle::Tensor& y, const paddle::Tensor& g, float alpha) {
  return backward_of(x, y, g, alpha, 1.0F, alpha);
}
Tensors swapped(const paddle::Tensor& x, const paddle::Tensor& y, const paddle::Tensor& g, float alpha) {
  auto found = right_backward(x, y, g, alpha);
  return {found[1], found[0]};
}
Tensors wrong_sign(const paddle::Tensor& x, const paddle::Tensor& y, const paddle::Tensor& g, float alpha) {
  return backward_of(x, y, g, alpha, 1.0F, -alpha);
}
Tensors chain_rule_left_out(const paddle::Tensor& x, const paddle::Tensor& y, const paddle::Tensor& g, float alpha) {
  return backward_of(x, y, g, alpha, 1.0F, 1.0F);
}
Tensors upstream_left_out(const paddle::Tensor& x, const paddle::Tensor& y, const paddle::Tensor& g, float alpha) {
  return right_backward(x, y, paddle::full(g.shape(), 1, g.dtype(), g.place()), alpha);
}
Tensors writes_upstream(const paddle::Tensor& x, const paddle::Tensor& y, const paddle::Tensor& g, float alpha) {
  auto found = right_backward(x, y, g, alpha);
  EACH(g, auto* p = const_cast<data_t*>(g.data<data_t>()); for (int64_t i = 0; i < g.numel(); ++i) p[i] = 0;);
  return found;
}
Tensors backward_tail(const paddle::Tensor& x, const paddle::Tensor& y, const paddle::Tensor& g, float alpha) {
  auto found = right_backward(x, y, g, alpha);
  EACH(x, auto* p = found[0].data<data_t>(); if (x.numel() > 64) p[x.numel() - 1] = 0;);
  return found;
}

// ---- written into X, as its declaration says
void in_place_forward(paddle::Tensor& x, const paddle::Tensor& y, float alpha) {  // NOLINT - X becomes Out
  EACH(x, auto* a = x.data<data_t>(); auto* b = y.data<data_t>();
       for (int64_t i = 0; i < x.numel(); ++i) a[i] *= gate_of<data_t>(alpha * b[i]););
}
Tensors in_place_backward(const paddle::Tensor& y, const paddle::Tensor& out, const paddle::Tensor& grad, float alpha) {
  auto gx = like(y), gy = like(y);
  EACH(y, auto* b = y.data<data_t>(); auto* o = out.data<data_t>(); auto* g = grad.data<data_t>();
       auto* p = gx.data<data_t>(); auto* q = gy.data<data_t>();
       for (int64_t i = 0; i < y.numel(); ++i) {
         const data_t s = gate_of<data_t>(alpha * b[i]);
         p[i] = g[i] * s;
         q[i] = g[i] * o[i] * alpha * (1 - s);
       });
  return {gx, gy};
}

// ---- InferMeta
std::vector<Shape> right_shape(const Shape& x, const Shape&, float) { return {x}; }
std::vector<Shape> flat_shape(const Shape& x, const Shape&, float) {
  int64_t count = 1;
  for (auto each : x) count *= each;
  return {{count}};
}
std::vector<Shape> turned_shape(const Shape& x, const Shape&, float) { return {Shape(x.rbegin(), x.rend())}; }
std::vector<paddle::DataType> right_dtype(const paddle::DataType& x, const paddle::DataType&) { return {x}; }
std::vector<paddle::DataType> float_dtype(const paddle::DataType&, const paddle::DataType&) {
  return {paddle::DataType::FLOAT32};
}

// What follows is written out by the test, since Paddle reads the names of operators from the source text.
//@ OPERATOR(gate_right, right_forward, right_backward, right_shape, right_dtype)
//@ FORWARD(alpha_left_out)
//@ FORWARD(inputs_mixed_up)
//@ FORWARD(tail_left_out)
//@ FORWARD(output_is_input)
//@ FORWARD(writes_its_input)
//@ FORWARD(in_single_precision)
//@ FORWARD(always_float)
//@ FORWARD(index_overflows)
//@ FORWARD(races)
//@ FORWARD(depends_on_the_last_call)
//@ FORWARD(uninitialised)
//@ FORWARD(nan_becomes_zero)
//@ FORWARD(nothing_is_refused)
//@ FORWARD(flattens)
//@ BACKWARD(swapped)
//@ BACKWARD(wrong_sign)
//@ BACKWARD(chain_rule_left_out)
//@ BACKWARD(upstream_left_out)
//@ BACKWARD(writes_upstream)
//@ BACKWARD(backward_tail)
//@ OPERATOR(gate_shape_turned, right_forward, right_backward, turned_shape, right_dtype)
//@ OPERATOR(gate_shape_flat, right_forward, right_backward, flat_shape, right_dtype)
//@ OPERATOR(gate_dtype_float, right_forward, right_backward, right_shape, float_dtype)

PD_BUILD_OP(gate_in_place)
    .Inputs({"X", "Y"})
    .Outputs({"Out"})
    .Attrs({"alpha: float"})
    .SetInplaceMap({{"X", "Out"}})
    .SetKernelFn(PD_KERNEL(in_place_forward))
    .SetInferShapeFn(PD_INFER_SHAPE(right_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(right_dtype));
PD_BUILD_GRAD_OP(gate_in_place)
    .Inputs({"Y", "Out", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Y")})
    .Attrs({"alpha: float"})
    .SetKernelFn(PD_KERNEL(in_place_backward));
