// The operator as Paddle knows it: shapes checked, memory asked for, gradient registered.
#include "attention.h"
#include "paddle/extension.h"

namespace {

devkit::Problem ProblemOf(const paddle::Tensor& q, const paddle::Tensor& k, const paddle::Tensor& v, bool causal,
                          int threads) {
  PD_CHECK(q.dtype() == paddle::DataType::FLOAT32 || q.dtype() == paddle::DataType::BFLOAT16,
           "q must be float32 or bfloat16.");
  for (const auto* tensor : {&q, &k, &v}) {
    PD_CHECK(tensor->is_cpu() && tensor->dtype() == q.dtype(), "q, k and v must be of one type, on the CPU.");
    PD_CHECK(tensor->shape().size() == 4, "q, k and v must have the shape [batch, seqlen, heads, head_dim].");
  }
  const auto qs = q.shape(), ks = k.shape();
  PD_CHECK(ks == v.shape(), "k and v must have one shape.");
  PD_CHECK(qs[0] == ks[0] && qs[3] == ks[3], "q and k must agree on batch and head_dim.");
  PD_CHECK(q.numel() > 0 && k.numel() > 0, "No dimension may be 0.");
  PD_CHECK(qs[2] % ks[2] == 0, "The heads of q must be a multiple of those of k.");
  PD_CHECK(qs[3] <= 256, "head_dim must be at most 256.");
  PD_CHECK(threads > 0, "threads must be positive.");
  return {qs[0], qs[2], ks[2], qs[1], ks[1], qs[3], causal, threads};
}

// The elements of a tensor, as T.
template <typename T>
T* Elements(const paddle::Tensor& tensor) {
  return static_cast<T*>(const_cast<void*>(tensor.data()));
}

// Calls `run` with an element of q's type, which is there for its type alone.
template <typename Run>
void WithElement(const paddle::Tensor& q, Run run) {
  if (q.dtype() == paddle::DataType::FLOAT32) {
    run(float{});
  } else {
    run(devkit::BFloat16{});
  }
}

std::vector<paddle::Tensor> AttentionForward(const paddle::Tensor& q, const paddle::Tensor& k, const paddle::Tensor& v,
                                             bool causal, int threads) {
  const auto problem = ProblemOf(q, k, v, causal, threads);
  auto out = paddle::empty(q.shape(), q.dtype(), q.place());
  auto lse = paddle::empty({problem.batch, problem.heads, problem.seqlen_q}, paddle::DataType::FLOAT32, q.place());
  WithElement(q, [&](auto element) {
    using T = decltype(element);
    devkit::Forward(problem, Elements<T>(q), Elements<T>(k), Elements<T>(v), Elements<T>(out), lse.data<float>());
  });
  return {out, lse};
}

std::vector<paddle::Tensor> AttentionBackward(const paddle::Tensor& q, const paddle::Tensor& k, const paddle::Tensor& v,
                                              const paddle::Tensor& out, const paddle::Tensor& lse,
                                              const paddle::Tensor& dout, bool causal, int threads) {
  const auto problem = ProblemOf(q, k, v, causal, threads);
  PD_CHECK(dout.shape() == q.shape() && dout.dtype() == q.dtype(), "The gradient of out must be like out.");
  auto dq = paddle::empty(q.shape(), q.dtype(), q.place());
  auto dk = paddle::empty(k.shape(), k.dtype(), k.place());
  auto dv = paddle::empty(v.shape(), v.dtype(), v.place());
  WithElement(q, [&](auto element) {
    using T = decltype(element);
    devkit::Backward(problem, Elements<T>(q), Elements<T>(k), Elements<T>(v), Elements<T>(out), lse.data<float>(),
                     Elements<T>(dout), Elements<T>(dq), Elements<T>(dk), Elements<T>(dv));
  });
  return {dq, dk, dv};
}

std::vector<paddle::Tensor> NoSecondOrder(const paddle::Tensor&, const paddle::Tensor&, const paddle::Tensor&,
                                          const paddle::Tensor&, const paddle::Tensor&, const paddle::Tensor&,
                                          const paddle::Tensor&, bool, int) {
  PD_THROW("devkit_cpu has no gradient of the second order: where create_graph=True is needed, use Paddle's attention.");
}

std::vector<std::vector<int64_t>> InferShapes(const std::vector<int64_t>& q, const std::vector<int64_t>&,
                                              const std::vector<int64_t>&) {
  return {q, {q[0], q[2], q[1]}};
}

std::vector<paddle::DataType> InferTypes(paddle::DataType q, paddle::DataType, paddle::DataType) {
  return {q, paddle::DataType::FLOAT32};
}

std::vector<std::vector<int64_t>> InferGradShapes(const std::vector<int64_t>& q, const std::vector<int64_t>& k,
                                                  const std::vector<int64_t>& v, const std::vector<int64_t>&,
                                                  const std::vector<int64_t>&, const std::vector<int64_t>&) {
  return {q, k, v};
}

std::vector<paddle::DataType> InferGradTypes(paddle::DataType q, paddle::DataType k, paddle::DataType v,
                                             paddle::DataType, paddle::DataType, paddle::DataType) {
  return {q, k, v};
}

}  // namespace

// The gradients of a part of a wider attention: Out and Lse are those over all of its keys.
PD_BUILD_OP(devkit_flash_attention_part_backward)
    .Inputs({"Q", "K", "V", "Out", "Lse", "OutGrad"})
    .Outputs({"QGrad", "KGrad", "VGrad"})
    .Attrs({"causal: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(AttentionBackward))
    .SetInferShapeFn(PD_INFER_SHAPE(InferGradShapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(InferGradTypes));

PD_BUILD_OP(devkit_flash_attention)
    .Inputs({"Q", "K", "V"})
    .Outputs({"Out", "Lse"})
    .Attrs({"causal: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(AttentionForward))
    .SetInferShapeFn(PD_INFER_SHAPE(InferShapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(InferTypes));

PD_BUILD_GRAD_OP(devkit_flash_attention)
    .Inputs({"Q", "K", "V", "Out", "Lse", paddle::Grad("Out")})
    .Outputs({paddle::Grad("Q"), paddle::Grad("K"), paddle::Grad("V")})
    .Attrs({"causal: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(AttentionBackward));

// Without this, Paddle takes a gradient of the second order for nothing, in silence.
PD_BUILD_DOUBLE_GRAD_OP(devkit_flash_attention)
    .Inputs({"Q", "K", "V", paddle::Grad("Out"), paddle::Grad(paddle::Grad("Q")), paddle::Grad(paddle::Grad("K")),
             paddle::Grad(paddle::Grad("V"))})
    .Outputs({paddle::Grad("Q"), paddle::Grad("K"), paddle::Grad("V"), paddle::Grad(paddle::Grad("Out"))})
    .Attrs({"causal: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(NoSecondOrder));
