// The model's pieces between the matrix products, each in one pass over memory, with their gradients.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "paddle/extension.h"

namespace {

using paddle::Tensor;
using Shape = std::vector<int64_t>;
using Type = paddle::DataType;

constexpr int64_t kRows = 16;  // rows of a task: enough work for a thread, and a fixed order of sums

int64_t Last(const Tensor& x) { return x.shape().back(); }
int64_t Rows(const Tensor& x) { return x.numel() / Last(x); }

void RequireFloatOnCpu(const Tensor& x) {
  PD_CHECK(x.is_cpu() && x.dtype() == Type::FLOAT32, "a float32 tensor on the CPU is wanted");
}

// exp to 2 ulp without a branch, so that loops over it become vector code; nan stays nan.
inline float Exp(float x) {
  x = x > 88.0f ? 88.0f : x;
  x = x < -87.0f ? -87.0f : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = x * 1.44269504f + magic;
  const float whole = shifted - magic;
  const float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * rest + 1.3981999507e-3f;
  y = y * rest + 8.3334519073e-3f;
  y = y * rest + 4.1665795894e-2f;
  y = y * rest + 1.6666665459e-1f;
  y = y * rest + 5.0000001201e-1f;
  y = y * rest * rest + rest + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  const int32_t power = (bits + 127) << 23;
  float scale;
  std::memcpy(&scale, &power, sizeof scale);
  return y * scale;
}

// y = x / rms(x) * weight; the reciprocal root mean squares are kept for the gradient.
std::vector<Tensor> RmsNorm(const Tensor& x, const Tensor& weight, float epsilon) {
  RequireFloatOnCpu(x);
  const int64_t rows = Rows(x), width = Last(x);
  Tensor y = paddle::empty(x.shape(), Type::FLOAT32, x.place());
  Tensor scale = paddle::empty({rows}, Type::FLOAT32, x.place());
  const float *from = x.data<float>(), *w = weight.data<float>();
  float *to = y.data<float>(), *scales = scale.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = from + row * width;
    float* out = to + row * width;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; ++i) sum += in[i] * in[i];
    const float s = 1.0f / std::sqrt(sum / width + epsilon);
    scales[row] = s;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) out[i] = in[i] * s * w[i];
  }
  return {y, scale};
}

std::vector<Tensor> RmsNormGrad(const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& dy) {
  const int64_t rows = Rows(x), width = Last(x), tasks = (rows + kRows * 8 - 1) / (kRows * 8);
  Tensor dx = paddle::empty(x.shape(), Type::FLOAT32, x.place());
  Tensor dw = paddle::empty(weight.shape(), Type::FLOAT32, x.place());
  std::vector<float> partial(tasks * width, 0.0f);
  const float *from = x.data<float>(), *w = weight.data<float>(), *s = scale.data<float>(), *g = dy.data<float>();
  float *to = dx.data<float>(), *total = dw.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < tasks; ++task) {
    float* sums = partial.data() + task * width;
    for (int64_t row = task * kRows * 8; row < std::min(rows, (task + 1) * kRows * 8); ++row) {
      const float *in = from + row * width, *grad = g + row * width;
      float* out = to + row * width;
      float dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t i = 0; i < width; ++i) dot += grad[i] * w[i] * in[i];
      const float r = s[row], back = dot * r * r * r / width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        out[i] = grad[i] * w[i] * r - in[i] * back;
        sums[i] += grad[i] * in[i] * r;
      }
    }
  }
  std::fill_n(total, width, 0.0f);
  for (int64_t task = 0; task < tasks; ++task) {
    for (int64_t i = 0; i < width; ++i) total[i] += partial[task * width + i];
  }
  return {dx, dw};
}

// Adds the bias to a row of [q heads | k heads | v heads], turns q and k by the position, and parts the three.
struct Heads {
  int64_t batch, seqlen, heads, kv_heads, head_dim, width;
  Heads(const Shape& rows, int64_t width_, int heads_, int kv_heads_)
      : batch(rows[0]),
        seqlen(rows[1]),
        heads(heads_),
        kv_heads(kv_heads_),
        head_dim(width_ / (heads_ + 2 * kv_heads_)),
        width(width_) {}
};

inline void Turn(const float* in, const float* add, const float* cos, const float* sin, int64_t half, float* out) {
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const float a = in[i] + add[i], b = in[half + i] + add[half + i];
    out[i] = a * cos[i] - b * sin[i];
    out[half + i] = b * cos[i] + a * sin[i];
  }
}

std::vector<Tensor> SplitRotate(const Tensor& qkv, const Tensor& bias, const Tensor& cos, const Tensor& sin, int heads,
                                int kv_heads) {
  RequireFloatOnCpu(qkv);
  const Heads h(qkv.shape(), Last(qkv), heads, kv_heads);
  const int64_t half = h.head_dim / 2;
  Tensor q = paddle::empty({h.batch, h.seqlen, h.heads, h.head_dim}, Type::FLOAT32, qkv.place());
  Tensor k = paddle::empty({h.batch, h.seqlen, h.kv_heads, h.head_dim}, Type::FLOAT32, qkv.place());
  Tensor v = paddle::empty({h.batch, h.seqlen, h.kv_heads, h.head_dim}, Type::FLOAT32, qkv.place());
  const float *from = qkv.data<float>(), *add = bias.data<float>(), *c = cos.data<float>(), *s = sin.data<float>();
  float *to_q = q.data<float>(), *to_k = k.data<float>(), *to_v = v.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < h.batch * h.seqlen; ++row) {
    const float *in = from + row * h.width, *b = add;
    const float *cr = c + row % h.seqlen * half, *sr = s + row % h.seqlen * half;
    for (int64_t head = 0; head < h.heads; ++head, in += h.head_dim, b += h.head_dim)
      Turn(in, b, cr, sr, half, to_q + (row * h.heads + head) * h.head_dim);
    for (int64_t head = 0; head < h.kv_heads; ++head, in += h.head_dim, b += h.head_dim)
      Turn(in, b, cr, sr, half, to_k + (row * h.kv_heads + head) * h.head_dim);
    float* out = to_v + row * h.kv_heads * h.head_dim;
#pragma omp simd
    for (int64_t i = 0; i < h.kv_heads * h.head_dim; ++i) out[i] = in[i] + b[i];
  }
  return {q, k, v};
}

inline void TurnBack(const float* in, const float* cos, const float* sin, int64_t half, float* out, float* sums) {
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const float a = in[i] * cos[i] + in[half + i] * sin[i], b = in[half + i] * cos[i] - in[i] * sin[i];
    out[i] = a;
    out[half + i] = b;
    sums[i] += a;
    sums[half + i] += b;
  }
}

std::vector<Tensor> SplitRotateGrad(const Tensor& bias, const Tensor& cos, const Tensor& sin, const Tensor& dq,
                                    const Tensor& dk, const Tensor& dv, int heads, int kv_heads) {
  const Heads h(dq.shape(), Last(bias), heads, kv_heads);
  const int64_t half = h.head_dim / 2, rows = h.batch * h.seqlen, tasks = (rows + kRows * 8 - 1) / (kRows * 8);
  Tensor dqkv = paddle::empty({h.batch, h.seqlen, h.width}, Type::FLOAT32, dq.place());
  Tensor dbias = paddle::empty(bias.shape(), Type::FLOAT32, dq.place());
  std::vector<float> partial(tasks * h.width, 0.0f);
  const float *c = cos.data<float>(), *s = sin.data<float>();
  const float *from_q = dq.data<float>(), *from_k = dk.data<float>(), *from_v = dv.data<float>();
  float *to = dqkv.data<float>(), *total = dbias.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < tasks; ++task) {
    for (int64_t row = task * kRows * 8; row < std::min(rows, (task + 1) * kRows * 8); ++row) {
      float *out = to + row * h.width, *sums = partial.data() + task * h.width;
      const float *cr = c + row % h.seqlen * half, *sr = s + row % h.seqlen * half;
      for (int64_t head = 0; head < h.heads; ++head, out += h.head_dim, sums += h.head_dim)
        TurnBack(from_q + (row * h.heads + head) * h.head_dim, cr, sr, half, out, sums);
      for (int64_t head = 0; head < h.kv_heads; ++head, out += h.head_dim, sums += h.head_dim)
        TurnBack(from_k + (row * h.kv_heads + head) * h.head_dim, cr, sr, half, out, sums);
      const float* in = from_v + row * h.kv_heads * h.head_dim;
#pragma omp simd
      for (int64_t i = 0; i < h.kv_heads * h.head_dim; ++i) {
        out[i] = in[i];
        sums[i] += in[i];
      }
    }
  }
  std::fill_n(total, h.width, 0.0f);
  for (int64_t task = 0; task < tasks; ++task) {
    for (int64_t i = 0; i < h.width; ++i) total[i] += partial[task * h.width + i];
  }
  return {dqkv, dbias};
}

// silu(gate) * up, of rows [gate | up].
std::vector<Tensor> SwiGlu(const Tensor& gate_up) {
  RequireFloatOnCpu(gate_up);
  const int64_t rows = Rows(gate_up), width = Last(gate_up) / 2;
  Shape shape = gate_up.shape();
  shape.back() = width;
  Tensor y = paddle::empty(shape, Type::FLOAT32, gate_up.place());
  const float* from = gate_up.data<float>();
  float* to = y.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const float *gate = from + row * 2 * width, *up = gate + width;
    float* out = to + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) out[i] = gate[i] * up[i] / (1.0f + Exp(-gate[i]));
  }
  return {y};
}

std::vector<Tensor> SwiGluGrad(const Tensor& gate_up, const Tensor& dy) {
  const int64_t rows = Rows(gate_up), width = Last(gate_up) / 2;
  Tensor dx = paddle::empty(gate_up.shape(), Type::FLOAT32, gate_up.place());
  const float *from = gate_up.data<float>(), *g = dy.data<float>();
  float* to = dx.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const float *gate = from + row * 2 * width, *up = gate + width, *grad = g + row * width;
    float *dgate = to + row * 2 * width, *dup = dgate + width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const float sigmoid = 1.0f / (1.0f + Exp(-gate[i])), silu = gate[i] * sigmoid;
      dup[i] = grad[i] * silu;
      dgate[i] = grad[i] * up[i] * (sigmoid + silu * (1.0f - sigmoid));
    }
  }
  return {dx};
}

// The sum of -log softmax(logits)[label] over `count`, and its gradient with respect to the logits in the same pass.
// A label of -100 is left out; a count of 0 stands for the number of labels that are not.
constexpr int64_t kIgnored = -100;

std::vector<Tensor> CrossEntropy(const Tensor& logits, const Tensor& labels, float count) {
  RequireFloatOnCpu(logits);
  PD_CHECK(labels.is_cpu() && labels.dtype() == Type::INT64, "labels must be int64 on the CPU");
  const int64_t rows = Rows(logits), width = Last(logits);
  PD_CHECK(labels.numel() == rows, "each row of logits wants one label");
  Tensor loss = paddle::empty({}, Type::FLOAT32, logits.place());
  Tensor slope = paddle::empty(logits.shape(), Type::FLOAT32, logits.place());
  std::vector<double> losses(rows, 0.0);
  const float* from = logits.data<float>();
  const int64_t* label = labels.data<int64_t>();
  float* to = slope.data<float>();
  int64_t valid = 0;
  for (int64_t row = 0; row < rows; ++row) {
    PD_CHECK(label[row] == kIgnored || (label[row] >= 0 && label[row] < width), "the label ", label[row],
             " is outside of the vocabulary of ", width);
    valid += label[row] != kIgnored;
  }
  const float weight = 1.0f / (count > 0 ? count : std::max<int64_t>(valid, 1));
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = from + row * width;
    float* out = to + row * width;
    if (label[row] == kIgnored) {
      std::fill_n(out, width, 0.0f);
      continue;
    }
    float most = in[0], sum = 0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < width; ++i) most = in[i] > most ? in[i] : most;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; ++i) {
      out[i] = Exp(in[i] - most);
      sum += out[i];
    }
    const float share = weight / sum;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) out[i] *= share;
    out[label[row]] -= weight;
    losses[row] = std::log(static_cast<double>(sum)) + most - in[label[row]];
  }
  double total = 0;
  for (double each : losses) total += each;
  *loss.data<float>() = static_cast<float>(total * weight);
  return {loss, slope};
}

std::vector<Tensor> CrossEntropyGrad(const Tensor& slope, const Tensor& dloss) {
  Tensor dx = paddle::empty(slope.shape(), Type::FLOAT32, slope.place());
  const float factor = *dloss.data<float>();
  const float* from = slope.data<float>();
  float* to = dx.data<float>();
  const int64_t count = slope.numel();
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < count; ++i) to[i] = from[i] * factor;
  return {dx};
}

std::vector<Shape> RmsNormShape(const Shape& x, const Shape& w, float) {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < x.size(); ++i) rows *= x[i];
  return {x, {rows}};
}
std::vector<Type> RmsNormType(const Type& x, const Type& w) { return {x, x}; }

std::vector<Shape> SplitShape(const Shape& qkv, const Shape& bias, const Shape& c, const Shape& s, int heads, int kv) {
  const int64_t dim = qkv[2] / (heads + 2 * kv);
  return {{qkv[0], qkv[1], heads, dim}, {qkv[0], qkv[1], kv, dim}, {qkv[0], qkv[1], kv, dim}};
}
std::vector<Type> SplitType(const Type& qkv, const Type& b, const Type& c, const Type& s) { return {qkv, qkv, qkv}; }

std::vector<Shape> SwiGluShape(const Shape& x) {
  Shape shape = x;
  shape.back() /= 2;
  return {shape};
}
std::vector<Type> SwiGluType(const Type& x) { return {x}; }

std::vector<Shape> LossShape(const Shape& logits, const Shape& labels, float) { return {{}, logits}; }
std::vector<Type> LossType(const Type& logits, const Type& labels) { return {logits, logits}; }

}  // namespace

PD_BUILD_OP(devkit_rms_norm)
    .Inputs({"X", "Weight"})
    .Outputs({"Y", "Scale"})
    .Attrs({"epsilon: float"})
    .SetKernelFn(PD_KERNEL(RmsNorm))
    .SetInferShapeFn(PD_INFER_SHAPE(RmsNormShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(RmsNormType));
PD_BUILD_GRAD_OP(devkit_rms_norm)
    .Inputs({"X", "Weight", "Scale", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Weight")})
    .SetKernelFn(PD_KERNEL(RmsNormGrad));

PD_BUILD_OP(devkit_split_rotate)
    .Inputs({"Qkv", "Bias", "Cos", "Sin"})
    .Outputs({"Q", "K", "V"})
    .Attrs({"heads: int", "kv_heads: int"})
    .SetKernelFn(PD_KERNEL(SplitRotate))
    .SetInferShapeFn(PD_INFER_SHAPE(SplitShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(SplitType));
PD_BUILD_GRAD_OP(devkit_split_rotate)
    .Inputs({"Bias", "Cos", "Sin", paddle::Grad("Q"), paddle::Grad("K"), paddle::Grad("V")})
    .Outputs({paddle::Grad("Qkv"), paddle::Grad("Bias")})
    .Attrs({"heads: int", "kv_heads: int"})
    .SetKernelFn(PD_KERNEL(SplitRotateGrad));

PD_BUILD_OP(devkit_swiglu)
    .Inputs({"GateUp"})
    .Outputs({"Y"})
    .SetKernelFn(PD_KERNEL(SwiGlu))
    .SetInferShapeFn(PD_INFER_SHAPE(SwiGluShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(SwiGluType));
PD_BUILD_GRAD_OP(devkit_swiglu)
    .Inputs({"GateUp", paddle::Grad("Y")})
    .Outputs({paddle::Grad("GateUp")})
    .SetKernelFn(PD_KERNEL(SwiGluGrad));

PD_BUILD_OP(devkit_cross_entropy)
    .Inputs({"Logits", "Labels"})
    .Outputs({"Loss", "Slope"})
    .Attrs({"count: float"})
    .SetKernelFn(PD_KERNEL(CrossEntropy))
    .SetInferShapeFn(PD_INFER_SHAPE(LossShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(LossType));
PD_BUILD_GRAD_OP(devkit_cross_entropy)
    .Inputs({"Slope", paddle::Grad("Loss")})
    .Outputs({paddle::Grad("Logits")})
    .SetKernelFn(PD_KERNEL(CrossEntropyGrad));

// What works in place on flat buffers, called by address: it has no gradient.
extern "C" {

double devkit_sum_of_squares(const float* x, int64_t count) {
  double total = 0;
#pragma omp parallel for reduction(+ : total) schedule(static)
  for (int64_t block = 0; block < (count + 4095) / 4096; ++block) {
    float sum = 0;
    const int64_t end = std::min(count, (block + 1) * 4096);
#pragma omp simd reduction(+ : sum)
    for (int64_t i = block * 4096; i < end; ++i) sum += x[i] * x[i];
    total += sum;
  }
  return total;
}

// to = from, or to += from; returns the sum of squares of from.
double devkit_take(const float* from, float* to, int64_t count, int add) {
  double total = 0;
#pragma omp parallel for reduction(+ : total) schedule(static)
  for (int64_t block = 0; block < (count + 4095) / 4096; ++block) {
    float sum = 0;
    const int64_t begin = block * 4096, end = std::min(count, begin + 4096);
    if (add) {
#pragma omp simd reduction(+ : sum)
      for (int64_t i = begin; i < end; ++i) {
        sum += from[i] * from[i];
        to[i] += from[i];
      }
    } else {
#pragma omp simd reduction(+ : sum)
      for (int64_t i = begin; i < end; ++i) {
        sum += from[i] * from[i];
        to[i] = from[i];
      }
    }
    total += sum;
  }
  return total;
}

// One step of AdamW; the corrections are 1 - beta^step.
void devkit_adamw(float* value, const float* gradient, float* mean, float* square, int64_t count, float scale, float lr,
                  float beta1, float beta2, float epsilon, float decay, float correction1, float correction2) {
  const float keep = 1.0f - lr * decay, rate = lr / correction1, root = 1.0f / std::sqrt(correction2);
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    const float g = gradient[i] * scale;
    const float m = beta1 * mean[i] + (1.0f - beta1) * g, s = beta2 * square[i] + (1.0f - beta2) * g * g;
    mean[i] = m;
    square[i] = s;
    value[i] = value[i] * keep - rate * m / (std::sqrt(s) * root + epsilon);
  }
}

}  // extern "C"
