// The operator as Paddle knows it: shapes checked, memory asked for, gradient registered.
#include "attention.h"
#include "paddle/extension.h"

namespace {

devkit::Problem ProblemOf(const paddle::Tensor& q, const paddle::Tensor& k, const paddle::Tensor& v, bool causal,
                          int threads) {
  for (const auto* tensor : {&q, &k, &v}) {
    PD_CHECK(tensor->is_cpu() && tensor->dtype() == paddle::DataType::FLOAT32,
             "q, k and v must be float32 on the CPU.");
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

std::vector<paddle::Tensor> AttentionForward(const paddle::Tensor& q, const paddle::Tensor& k, const paddle::Tensor& v,
                                             bool causal, int threads) {
  const auto problem = ProblemOf(q, k, v, causal, threads);
  auto out = paddle::empty(q.shape(), q.dtype(), q.place());
  auto lse = paddle::empty({problem.batch, problem.heads, problem.seqlen_q}, q.dtype(), q.place());
  devkit::Forward(problem, q.data<float>(), k.data<float>(), v.data<float>(), out.data<float>(), lse.data<float>());
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
  devkit::Backward(problem, q.data<float>(), k.data<float>(), v.data<float>(), out.data<float>(), lse.data<float>(),
                   dout.data<float>(), dq.data<float>(), dk.data<float>(), dv.data<float>());
  return {dq, dk, dv};
}

std::vector<std::vector<int64_t>> InferShapes(const std::vector<int64_t>& q, const std::vector<int64_t>&,
                                              const std::vector<int64_t>&) {
  return {q, {q[0], q[2], q[1]}};
}

std::vector<paddle::DataType> InferTypes(paddle::DataType q, paddle::DataType, paddle::DataType) { return {q, q}; }

}  // namespace

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
