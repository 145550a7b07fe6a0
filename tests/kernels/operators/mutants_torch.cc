// The operators of mutants.cc as custom operators of torch: the same right one, and the same things gone wrong in it.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <tuple>

#include <torch/library.h>
#include <torch/types.h>

using at::Tensor;
using Two = std::tuple<Tensor, Tensor>;

template <typename T>
T gate_of(T value) {
  return static_cast<T>(1) / (static_cast<T>(1) + std::exp(-value));
}

Tensor like(const Tensor& x) { return at::empty(x.sizes(), x.options()); }

#define EACH(x, body) AT_DISPATCH_FLOATING_TYPES((x).scalar_type(), "gate", ([&] { using data_t = scalar_t; body }))

// ---- forwards
Tensor right_forward(const Tensor& p, const Tensor& q, double wide) {
  auto x = p.contiguous(), y = q.contiguous(), out = like(x);
  const auto alpha = static_cast<float>(wide);
  EACH(x, auto* a = x.const_data_ptr<data_t>(); auto* b = y.const_data_ptr<data_t>(); auto* o = out.data_ptr<data_t>();
       for (int64_t i = 0; i < x.numel(); ++i) o[i] = a[i] * gate_of<data_t>(alpha * b[i]););
  return out;
}
Tensor alpha_left_out(const Tensor& x, const Tensor& y, double) { return right_forward(x, y, 1.0); }
Tensor inputs_mixed_up(const Tensor& x, const Tensor& y, double alpha) { return right_forward(y, x, alpha); }
Tensor tail_left_out(const Tensor& p, const Tensor& q, double alpha) {
  auto out = right_forward(p, q, alpha);
  EACH(out, auto* o = out.data_ptr<data_t>();
       for (int64_t i = out.numel() < 8 ? out.numel() : out.numel() / 8 * 8; i < out.numel(); ++i) o[i] = 0;);
  return out;
}
Tensor output_is_input(const Tensor& p, const Tensor& q, double wide) {
  auto out = p.contiguous(), y = q.contiguous();
  const auto alpha = static_cast<float>(wide);
  EACH(out, auto* b = y.const_data_ptr<data_t>(); auto* o = out.data_ptr<data_t>();
       for (int64_t i = 0; i < out.numel(); ++i) o[i] = o[i] * gate_of<data_t>(alpha * b[i]););
  return out;
}
Tensor writes_its_input(const Tensor& x, const Tensor& q, double alpha) {
  auto out = right_forward(x, q, alpha);
  auto y = q.contiguous();
  EACH(y, auto* b = y.data_ptr<data_t>(); for (int64_t i = 0; i < y.numel(); ++i) b[i] *= alpha;);
  return out;
}
Tensor in_single_precision(const Tensor& p, const Tensor& q, double wide) {
  auto x = p.contiguous(), y = q.contiguous(), out = like(x);
  const auto alpha = static_cast<float>(wide);
  EACH(x, auto* a = x.const_data_ptr<data_t>(); auto* b = y.const_data_ptr<data_t>(); auto* o = out.data_ptr<data_t>();
       for (int64_t i = 0; i < x.numel(); ++i) o[i] = a[i] * gate_of<float>(alpha * static_cast<float>(b[i])););
  return out;
}
Tensor always_float(const Tensor& x, const Tensor& y, double alpha) { return right_forward(x, y, alpha).to(at::kFloat); }
Tensor index_overflows(const Tensor& p, const Tensor& q, double wide) {
  auto x = p.contiguous(), y = q.contiguous(), out = like(x);
  const auto alpha = static_cast<float>(wide);
  EACH(x, auto* a = x.const_data_ptr<data_t>(); auto* b = y.const_data_ptr<data_t>(); auto* o = out.data_ptr<data_t>();
       for (int64_t i = 0; i < x.numel(); ++i) {  // the byte offset of a row in 32 bits
         const auto offset = static_cast<int32_t>(static_cast<uint32_t>(i) * 65536U);
         const int64_t from = offset < 0 ? 0 : offset / 65536;
         o[i] = a[from] * gate_of<data_t>(alpha * b[from]);
       });
  return out;
}
Tensor races(const Tensor& p, const Tensor& q, double wide) {
  auto x = p.contiguous(), y = q.contiguous(), out = like(x);
  const auto alpha = static_cast<float>(wide);
  EACH(x, auto* a = x.const_data_ptr<data_t>(); auto* b = y.const_data_ptr<data_t>(); auto* o = out.data_ptr<data_t>();
       volatile data_t shared = 0;  // one temporary for all threads
       auto work = [&](int64_t from, int64_t to) {
         for (int64_t i = from; i < to; ++i) {
           shared = b[i];
           o[i] = a[i] * gate_of<data_t>(alpha * shared);
           if (i % 1024 == 0) std::this_thread::yield();
         }
       };
       const int64_t half = x.numel() / 2; std::thread other(work, 0, half); work(half, x.numel()); other.join(););
  return out;
}
Tensor depends_on_the_last_call(const Tensor& x, const Tensor& y, double alpha) {
  static int calls = 0;
  return right_forward(x, y, ++calls % 5 == 0 ? alpha + 0.001 : alpha);
}
Tensor uninitialised(const Tensor& x, const Tensor& y, double alpha) {
  auto out = right_forward(x, y, alpha);
  static unsigned seed = 7;
  EACH(out, auto* o = out.data_ptr<data_t>();
       if (x.numel() > 1000) o[x.numel() / 2] = static_cast<data_t>(rand_r(&seed)););
  return out;
}
Tensor nan_becomes_zero(const Tensor& x, const Tensor& y, double alpha) {
  auto out = right_forward(x, y, alpha);
  EACH(out, auto* o = out.data_ptr<data_t>(); for (int64_t i = 0; i < x.numel(); ++i) if (o[i] != o[i]) o[i] = 0;);
  return out;
}
Tensor nothing_is_refused(const Tensor& x, const Tensor& y, double alpha) {
  TORCH_CHECK(x.numel() > 0, "gate: x is empty");
  return right_forward(x, y, alpha);
}
Tensor flattens(const Tensor& x, const Tensor& y, double alpha) { return right_forward(x, y, alpha).reshape({x.numel()}); }

// ---- backwards
Two backward_of(const Tensor& p, const Tensor& q, const Tensor& r, double wide, float one, float factor) {
  auto x = p.contiguous(), y = q.contiguous(), grad = r.contiguous(), gx = like(x), gy = like(x);
  const auto alpha = static_cast<float>(wide);
  EACH(x, auto* a = x.const_data_ptr<data_t>(); auto* b = y.const_data_ptr<data_t>();
       auto* g = grad.const_data_ptr<data_t>(); auto* u = gx.data_ptr<data_t>(); auto* v = gy.data_ptr<data_t>();
       for (int64_t i = 0; i < x.numel(); ++i) {
         const data_t s = gate_of<data_t>(alpha * b[i]);
         u[i] = g[i] * s;
         v[i] = g[i] * a[i] * factor * s * (one - s);
       });
  return {gx, gy};
}
Two right_backward(const Tensor& x, const Tensor& y, const Tensor& g, double alpha) {
  return backward_of(x, y, g, alpha, 1.0F, static_cast<float>(alpha));
}
Two swapped(const Tensor& x, const Tensor& y, const Tensor& g, double alpha) {
  auto found = right_backward(x, y, g, alpha);
  return {std::get<1>(found), std::get<0>(found)};
}
Two wrong_sign(const Tensor& x, const Tensor& y, const Tensor& g, double alpha) {
  return backward_of(x, y, g, alpha, 1.0F, static_cast<float>(-alpha));
}
Two chain_rule_left_out(const Tensor& x, const Tensor& y, const Tensor& g, double alpha) {
  return backward_of(x, y, g, alpha, 1.0F, 1.0F);
}
Two upstream_left_out(const Tensor& x, const Tensor& y, const Tensor& g, double alpha) {
  return right_backward(x, y, at::ones_like(g), alpha);
}
Two writes_upstream(const Tensor& x, const Tensor& y, const Tensor& g, double alpha) {
  auto found = right_backward(x, y, g, alpha);
  auto own = g.contiguous();
  EACH(own, auto* p = own.data_ptr<data_t>(); for (int64_t i = 0; i < own.numel(); ++i) p[i] = 0;);
  return found;
}
Two backward_tail(const Tensor& x, const Tensor& y, const Tensor& g, double alpha) {
  auto found = right_backward(x, y, g, alpha);
  auto& first = std::get<0>(found);
  EACH(first, auto* p = first.data_ptr<data_t>(); if (x.numel() > 64) p[x.numel() - 1] = 0;);
  return found;
}

#define FORWARD(name) m.def(#name "(Tensor x, Tensor y, float alpha) -> Tensor"); m.impl(#name, torch::dispatch(c10::DispatchKey::CPU, name))
#define RIGHT(name) m.def(#name "(Tensor x, Tensor y, float alpha) -> Tensor"); \
  m.impl(#name, torch::dispatch(c10::DispatchKey::CPU, right_forward))
#define BACKWARD(name) m.def(#name "_grad(Tensor x, Tensor y, Tensor g, float alpha) -> (Tensor, Tensor)"); \
  m.impl(#name "_grad", torch::dispatch(c10::DispatchKey::CPU, name))

TORCH_LIBRARY(gate, m) {
  RIGHT(right); RIGHT(swapped); RIGHT(wrong_sign); RIGHT(chain_rule_left_out); RIGHT(upstream_left_out);
  RIGHT(writes_upstream); RIGHT(backward_tail); RIGHT(shape_turned); RIGHT(shape_flat); RIGHT(dtype_float);
  FORWARD(alpha_left_out); FORWARD(inputs_mixed_up); FORWARD(tail_left_out); FORWARD(output_is_input);
  FORWARD(writes_its_input); FORWARD(in_single_precision); FORWARD(always_float); FORWARD(index_overflows);
  FORWARD(races); FORWARD(depends_on_the_last_call); FORWARD(uninitialised); FORWARD(nan_becomes_zero);
  FORWARD(nothing_is_refused); FORWARD(flattens);
  BACKWARD(right_backward); BACKWARD(swapped); BACKWARD(wrong_sign); BACKWARD(chain_rule_left_out);
  BACKWARD(upstream_left_out); BACKWARD(writes_upstream); BACKWARD(backward_tail);
}
