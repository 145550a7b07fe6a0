// The operator as Paddle knows it: shapes checked, memory asked for, gradient registered; and which of the kernels runs.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#include "paddle/extension.h"
#include "problem.h"
#ifdef DEVKIT_HAS_AMX_BF16
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace devkit {
// One table an instruction set, each in an object of its own.
#define DEVKIT_DECLARE(isa)    \
  namespace isa {              \
  extern const Kernels kKernels; \
  }
DEVKIT_ISAS(DEVKIT_DECLARE)
#undef DEVKIT_DECLARE
}  // namespace devkit

namespace {

using devkit::Dtype;
using devkit::Kernels;
using devkit::Problem;
using Tensor = paddle::Tensor;
using MaybeTensor = paddle::optional<paddle::Tensor>;

// The kernels in this library, the fastest first.
const Kernels* const kTables[] = {
#define DEVKIT_TABLE(isa) &devkit::isa::kKernels,
    DEVKIT_ISAS(DEVKIT_TABLE)
#undef DEVKIT_TABLE
};

#ifdef DEVKIT_HAS_AMX_BF16
// Whether the processor has tiles of bfloat16 and the kernel lets this process use them, which must be asked for.
bool HasTiles() {
  static const bool has = [] {
    constexpr unsigned kTiles = 1u << 24, kBFloat16 = 1u << 22;
    constexpr long kAskForState = 0x1023, kTileData = 18;
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTiles) && (d & kBFloat16) &&
           syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
  }();
  return has;
}
#endif

bool Runs(const std::string& isa) {
#ifdef __x86_64__
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa == "avx2") return avx2;
  if (isa == "avx512") return avx512;
#ifdef DEVKIT_HAS_AMX_BF16
  if (isa == "amx_bf16") return avx512 && __builtin_cpu_supports("avx512bf16") && HasTiles();
#endif
#ifdef DEVKIT_HAS_AVX512_BF16
  if (isa == "avx512_bf16") return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
#endif
  return isa == "portable";
}

// These have products of bfloat16 alone; for the other types they mean avx512.
bool IsOfBFloat16(const std::string& isa) { return isa == "amx_bf16" || isa == "avx512_bf16"; }

bool Computes(const std::string& isa, int64_t dtype) {
  return !IsOfBFloat16(isa) || static_cast<Dtype>(dtype) == Dtype::kBFloat16;
}

// The fastest that this processor runs, or what DEVKIT_ISA says; null where that is not possible.
const Kernels* Find(int64_t dtype) {
  const char* wanted = std::getenv("DEVKIT_ISA");
  std::string isa = wanted == nullptr ? "" : wanted;
  if (IsOfBFloat16(isa) && Runs(isa) && !Computes(isa, dtype)) isa = "avx512";
  // AMX runs where it is asked for: it was never tried on a processor that has it.
  for (const Kernels* table : kTables)
    if ((isa == table->name || (isa.empty() && std::strcmp(table->name, "amx_bf16") != 0)) && Runs(table->name) && Computes(table->name, dtype)) return table;
  return nullptr;
}

const Kernels& Chosen(int64_t dtype) {
  const Kernels* found = Find(dtype);
  PD_CHECK(found != nullptr, "DEVKIT_ISA names an instruction set that this processor or this build does not have.");
  return *found;
}

int64_t DtypeOf(const Tensor& x) {
  switch (x.dtype()) {
    case paddle::DataType::FLOAT32:
      return static_cast<int64_t>(Dtype::kFloat32);
    case paddle::DataType::BFLOAT16:
      return static_cast<int64_t>(Dtype::kBFloat16);
    case paddle::DataType::FLOAT16:
      return static_cast<int64_t>(Dtype::kFloat16);
    case paddle::DataType::BOOL:
      return static_cast<int64_t>(Dtype::kBool);
    default:
      PD_THROW("Tensors must be float32, bfloat16 or float16.");
  }
}

void* Data(const Tensor& x) { return const_cast<void*>(x.data()); }

const int32_t* Ints(const Tensor& x, const char* complaint) {
  PD_CHECK(x.is_cpu() && x.dtype() == paddle::DataType::INT32, complaint);
  return x.data<int32_t>();
}

struct Options {
  float scale;
  int64_t left, right;
  bool top_left;
  int threads;
};

Problem ProblemOf(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& bias,
                  const MaybeTensor& columns, const MaybeTensor& cu_q, const MaybeTensor& cu_k,
                  const Options& options) {
  const bool packed = static_cast<bool>(cu_q);
  for (const auto* tensor : {&q, &k, &v}) {
    PD_CHECK(tensor->is_cpu() && tensor->dtype() == q.dtype(), "q, k and v must be of one type, on the CPU.");
    PD_CHECK(tensor->shape().size() == (packed ? 3 : 4), "q, k and v have a wrong number of dimensions.");
  }
  const auto qs = q.shape(), ks = k.shape();
  const size_t h = packed ? 1 : 2;
  PD_CHECK(ks == v.shape(), "k and v must have one shape.");
  PD_CHECK(qs[h + 1] == ks[h + 1] && (packed || qs[0] == ks[0]), "q and k must agree on batch and head_dim.");
  PD_CHECK(q.numel() > 0 && k.numel() > 0, "No dimension may be 0.");
  PD_CHECK(qs[h] % ks[h] == 0, "The heads of q must be a multiple of those of k.");
  PD_CHECK(qs[h + 1] <= 256, "head_dim must be at most 256.");
  PD_CHECK(options.threads > 0, "threads must be positive.");
  Problem p{};
  p.heads = qs[h];
  p.kv_heads = ks[h];
  p.head_dim = qs[h + 1];
  p.dtype = DtypeOf(q);
  p.threads = options.threads;
  p.scale = options.scale;
  p.left = options.left < 0 ? devkit::kUnbounded : options.left;
  p.right = options.right < 0 ? devkit::kUnbounded : options.right;
  p.top_left = options.top_left;
  if (packed) {
    PD_CHECK(static_cast<bool>(cu_k) && cu_q->numel() == cu_k->numel() && cu_q->numel() > 1,
             "cu_seqlens_q and cu_seqlens_k must be as long as each other.");
    p.cu_q = Ints(*cu_q, "cu_seqlens_q must be int32, on the CPU.");
    p.cu_k = Ints(*cu_k, "cu_seqlens_k must be int32, on the CPU.");
    p.batch = cu_q->numel() - 1;
    p.total_q = qs[0];
    PD_CHECK(p.cu_q[0] >= 0 && p.cu_k[0] >= 0 && p.cu_q[p.batch] <= qs[0] && p.cu_k[p.batch] <= ks[0],
             "cu_seqlens must lie within the rows of q and k.");
    for (int64_t b = 0; b < p.batch; ++b) {
      PD_CHECK(p.cu_q[b] <= p.cu_q[b + 1] && p.cu_k[b] <= p.cu_k[b + 1], "cu_seqlens must not fall.");
      p.seqlen_q = std::max<int64_t>(p.seqlen_q, p.cu_q[b + 1] - p.cu_q[b]);
      p.seqlen_k = std::max<int64_t>(p.seqlen_k, p.cu_k[b + 1] - p.cu_k[b]);
    }
  } else {
    p.batch = qs[0];
    p.seqlen_q = qs[1];
    p.seqlen_k = ks[1];
    p.total_q = qs[0] * qs[1];
  }
  if (bias) {
    const std::vector<int64_t> whole = {p.batch, p.heads, p.seqlen_q, p.seqlen_k};
    PD_CHECK(!packed && bias->is_cpu() && bias->shape().size() == 4, "A mask must be of four dimensions, on the CPU.");
    p.bias.data = Data(*bias);
    p.bias.dtype = static_cast<Dtype>(DtypeOf(*bias));
    int64_t stride = 1;
    for (int axis = 3; axis >= 0; --axis) {
      const int64_t size = bias->shape()[axis];
      PD_CHECK(size == 1 || size == whole[axis], "A mask must fit [batch, heads, seqlen_q, seqlen_k].");
      p.bias.strides[axis] = size == 1 ? 0 : stride;
      stride *= size;
    }
  }
  if (columns) {
    const auto shape = columns->shape();
    PD_CHECK(!packed && shape.size() == 4 && shape[0] == p.batch && shape[2] == p.seqlen_k && shape[3] == 4 &&
                 (shape[1] == 1 || shape[1] == p.kv_heads || shape[1] == p.heads),
             "startend_row_indices must fit k.");
    p.columns.data = Ints(*columns, "startend_row_indices must be int32, on the CPU.");
    p.columns.heads = shape[1];
  }
  return p;
}

// Rows that belong to no sequence.
bool HasGaps(const Problem& p, const int32_t* cu, int64_t rows) { return cu && (cu[0] > 0 || cu[p.batch] < rows); }

void Clear(const Tensor& x) { std::memset(Data(x), 0, x.numel() * (x.dtype() == paddle::DataType::FLOAT32 ? 4 : 2)); }

std::vector<int64_t> RowShape(const std::vector<int64_t>& q) {
  if (q.size() == 4) return {q[0], q[2], q[1]};
  return {q[1], q[0]};
}

std::vector<Tensor> AttentionForward(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& bias,
                                     const MaybeTensor& columns, const MaybeTensor& cu_q, const MaybeTensor& cu_k,
                                     float scale, int64_t left, int64_t right, bool top_left, int threads) {
  const auto p = ProblemOf(q, k, v, bias, columns, cu_q, cu_k, {scale, left, right, top_left, threads});
  auto shape = RowShape(q.shape());
  auto out = paddle::empty(q.shape(), q.dtype(), q.place());
  auto lse = paddle::empty(shape, paddle::DataType::FLOAT32, q.place());
  shape.insert(shape.begin(), 2);
  auto statistics = paddle::empty(shape, paddle::DataType::FLOAT32, q.place());
  if (HasGaps(p, p.cu_q, p.total_q)) {
    Clear(out);
    Clear(statistics);
    std::fill_n(lse.data<float>(), lse.numel(), -std::numeric_limits<float>::infinity());
  }
  Chosen(p.dtype).forward(p, Data(q), Data(k), Data(v), Data(out), lse.data<float>(), statistics.data<float>());
  return {out, lse, statistics};
}

// The gradients of q, k and v; that of the bias is added to dbias, where there is one.
std::vector<Tensor> Gradients(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& bias,
                              const MaybeTensor& columns, const MaybeTensor& cu_q, const MaybeTensor& cu_k,
                              const Tensor& out, const Tensor& statistics, const Tensor& dout, const Tensor& dlse,
                              const Options& options, const devkit::BiasGradient& dbias) {
  const auto p = ProblemOf(q, k, v, bias, columns, cu_q, cu_k, options);
  // Paddle gives nothing for what has no gradient.
  const Tensor given = dout.defined() ? dout : paddle::full(q.shape(), 0, q.dtype(), q.place());
  PD_CHECK(given.shape() == q.shape() && given.dtype() == q.dtype(), "The gradient of out must be like out.");
  auto dq = paddle::empty(q.shape(), q.dtype(), q.place());
  auto dk = paddle::empty(k.shape(), k.dtype(), k.place());
  auto dv = paddle::empty(v.shape(), v.dtype(), v.place());
  if (HasGaps(p, p.cu_k, k.shape()[0])) {
    Clear(dk);
    Clear(dv);
  }
  Chosen(p.dtype).backward(p, Data(q), Data(k), Data(v), Data(out), statistics.data<float>(), Data(given),
                           dlse.defined() ? dlse.data<float>() : nullptr, Data(dq), Data(dk), Data(dv), dbias);
  return {dq, dk, dv};
}

std::vector<Tensor> AttentionBackward(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeTensor& bias,
                                      const MaybeTensor& columns, const MaybeTensor& cu_q, const MaybeTensor& cu_k,
                                      const Tensor& out, const Tensor& statistics, const Tensor& dout,
                                      const Tensor& dlse, float scale, int64_t left, int64_t right, bool top_left,
                                      int threads) {
  return Gradients(q, k, v, bias, columns, cu_q, cu_k, out, statistics, dout, dlse,
                   {scale, left, right, top_left, threads}, {});
}

// The sums over the dimensions of [batch, heads, seqlen_q, seqlen_k] that are 1 in `shape`.
Tensor SummedTo(const std::vector<int64_t>& shape, Tensor whole) {
  for (int64_t axis = 0; axis < 4; ++axis)
    if (shape[axis] == 1 && whole.shape()[axis] != 1)
      whole = paddle::experimental::sum(whole, {axis}, whole.dtype(), true);
  return whole;
}

std::vector<Tensor> BiasedForward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias, float scale,
                                  int64_t left, int64_t right, bool top_left, int threads) {
  return AttentionForward(q, k, v, bias, {}, {}, {}, scale, left, right, top_left, threads);
}

std::vector<Tensor> BiasedBackward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                                   const Tensor& out, const Tensor& statistics, const Tensor& dout, const Tensor& dlse,
                                   float scale, int64_t left, int64_t right, bool top_left, int threads) {
  const auto shape = bias.shape();
  const int64_t slice = q.shape()[1] * k.shape()[1];
  Tensor dbias = paddle::full({shape[0], shape[1], q.shape()[1], k.shape()[1]}, 0, paddle::DataType::FLOAT32, q.place());
  auto gradients = Gradients(q, k, v, bias, {}, {}, {}, out, statistics, dout, dlse,
                             {scale, left, right, top_left, threads},
                             {dbias.data<float>(), shape[0] == 1 ? 0 : shape[1] * slice, shape[1] == 1 ? 0 : slice});
  dbias = SummedTo(shape, dbias);
  gradients.push_back(bias.dtype() == dbias.dtype() ? dbias : paddle::experimental::cast(dbias, bias.dtype()));
  return gradients;
}

// Backward with the logsumexp of a wider attention.
std::vector<Tensor> PartBackward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                                 const Tensor& lse, const Tensor& dout, float scale, int64_t left, int64_t right,
                                 bool top_left, int threads) {
  PD_CHECK(lse.shape() == RowShape(q.shape()) && lse.dtype() == paddle::DataType::FLOAT32,
           "The logsumexp must be float32 [batch, heads, seqlen_q].");
  auto statistics = paddle::empty({2, lse.numel()}, paddle::DataType::FLOAT32, q.place());
  for (int64_t i = 0; i < lse.numel(); ++i) {
    const float x = lse.data<float>()[i];
    const bool blind = x == -std::numeric_limits<float>::infinity();
    statistics.data<float>()[i] = blind ? -x : x * 1.4426950408889634f;
    statistics.data<float>()[lse.numel() + i] = blind ? 0.0f : 1.0f;
  }
  return Gradients(q, k, v, {}, {}, {}, {}, out, statistics, dout, Tensor(), {scale, left, right, top_left, threads},
                   {});
}

std::vector<Tensor> NoSecondOrder(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                  const Tensor&, const Tensor&, float, int64_t, int64_t, bool, int) {
  PD_THROW("devkit_cpu has no gradient of the second order: where create_graph=True is needed, use Paddle's attention.");
}

std::vector<Tensor> NoSecondOrderBiased(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor&,
                                        const Tensor& dout, const Tensor& ddq, const Tensor& ddk, const Tensor& ddv,
                                        const Tensor&, float scale, int64_t left, int64_t right, bool top_left,
                                        int threads) {
  return NoSecondOrder(q, k, v, dout, ddq, ddk, ddv, scale, left, right, top_left, threads);
}

using Shape = std::vector<int64_t>;

std::vector<Shape> InferShapes(const Shape& q, const Shape&, const Shape&, const paddle::optional<Shape>&,
                               const paddle::optional<Shape>&, const paddle::optional<Shape>&,
                               const paddle::optional<Shape>&) {
  Shape statistics = RowShape(q);
  statistics.insert(statistics.begin(), 2);
  return {q, RowShape(q), statistics};
}

using Type = paddle::DataType;

std::vector<Type> InferTypes(const Type& q, const Type&, const Type&, const paddle::optional<Type>&,
                             const paddle::optional<Type>&, const paddle::optional<Type>&,
                             const paddle::optional<Type>&) {
  return {q, Type::FLOAT32, Type::FLOAT32};
}

std::vector<Shape> InferBiasedShapes(const Shape& q, const Shape& k, const Shape& v, const Shape&) {
  return InferShapes(q, k, v, {}, {}, {}, {});
}

std::vector<Type> InferBiasedTypes(const Type& q, const Type& k, const Type& v, const Type&) {
  return InferTypes(q, k, v, {}, {}, {}, {});
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
    .Attrs({"scale: float", "left: int64_t", "right: int64_t", "top_left: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(PartBackward))
    .SetInferShapeFn(PD_INFER_SHAPE(InferGradShapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(InferGradTypes));

PD_BUILD_OP(devkit_flash_attention)
    .Inputs({"Q", "K", "V", paddle::Optional("Bias"), paddle::Optional("Columns"), paddle::Optional("CuQ"),
             paddle::Optional("CuK")})
    .Outputs({"Out", "Lse", "Statistics"})
    .Attrs({"scale: float", "left: int64_t", "right: int64_t", "top_left: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(AttentionForward))
    .SetInferShapeFn(PD_INFER_SHAPE(InferShapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(InferTypes));

PD_BUILD_GRAD_OP(devkit_flash_attention)
    .Inputs({"Q", "K", "V", paddle::Optional("Bias"), paddle::Optional("Columns"), paddle::Optional("CuQ"),
             paddle::Optional("CuK"), "Out", "Statistics", paddle::Grad("Out"), paddle::Grad("Lse")})
    .Outputs({paddle::Grad("Q"), paddle::Grad("K"), paddle::Grad("V")})
    .Attrs({"scale: float", "left: int64_t", "right: int64_t", "top_left: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(AttentionBackward));

// Without this, Paddle takes a gradient of the second order for nothing, in silence.
PD_BUILD_DOUBLE_GRAD_OP(devkit_flash_attention)
    .Inputs({"Q", "K", "V", paddle::Grad("Out"), paddle::Grad(paddle::Grad("Q")), paddle::Grad(paddle::Grad("K")),
             paddle::Grad(paddle::Grad("V"))})
    .Outputs({paddle::Grad("Q"), paddle::Grad("K"), paddle::Grad("V"), paddle::Grad(paddle::Grad("Out"))})
    .Attrs({"scale: float", "left: int64_t", "right: int64_t", "top_left: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(NoSecondOrder));

// The same with a bias that has a gradient.
PD_BUILD_OP(devkit_flash_attention_biased)
    .Inputs({"Q", "K", "V", "Bias"})
    .Outputs({"Out", "Lse", "Statistics"})
    .Attrs({"scale: float", "left: int64_t", "right: int64_t", "top_left: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(BiasedForward))
    .SetInferShapeFn(PD_INFER_SHAPE(InferBiasedShapes))
    .SetInferDtypeFn(PD_INFER_DTYPE(InferBiasedTypes));

PD_BUILD_GRAD_OP(devkit_flash_attention_biased)
    .Inputs({"Q", "K", "V", "Bias", "Out", "Statistics", paddle::Grad("Out"), paddle::Grad("Lse")})
    .Outputs({paddle::Grad("Q"), paddle::Grad("K"), paddle::Grad("V"), paddle::Grad("Bias")})
    .Attrs({"scale: float", "left: int64_t", "right: int64_t", "top_left: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(BiasedBackward));

PD_BUILD_DOUBLE_GRAD_OP(devkit_flash_attention_biased)
    .Inputs({"Q", "K", "V", "Bias", paddle::Grad("Out"), paddle::Grad(paddle::Grad("Q")),
             paddle::Grad(paddle::Grad("K")), paddle::Grad(paddle::Grad("V")), paddle::Grad(paddle::Grad("Bias"))})
    .Outputs({paddle::Grad("Q"), paddle::Grad("K"), paddle::Grad("V"), paddle::Grad(paddle::Grad("Out"))})
    .Attrs({"scale: float", "left: int64_t", "right: int64_t", "top_left: bool", "threads: int"})
    .SetKernelFn(PD_KERNEL(NoSecondOrderBiased));

// What Python calls directly. A dtype is a devkit::Dtype.

// The instruction set that runs, or null where DEVKIT_ISA names one that cannot.
extern "C" const char* devkit_attention_isa(int dtype) {
  const Kernels* found = Find(dtype);
  return found == nullptr ? nullptr : found->name;
}

// What this library and this processor both have, the fastest first, separated by commas.
extern "C" const char* devkit_attention_isas() {
  static const std::string names = [] {
    std::string text;
    for (const Kernels* table : kTables)
      if (Runs(table->name)) text += (text.empty() ? "" : ",") + std::string(table->name);
    return text;
  }();
  return names.c_str();
}

// GFLOP/s of multiply-adds on registers alone, of `threads` threads together; 0 where there are no kernels.
extern "C" double devkit_fma_gflops(int dtype, int threads, double seconds) {
  const Kernels* found = Find(dtype);
  return found == nullptr ? 0 : found->peak(threads, seconds);
}

// 0, or 1 where there are no kernels. lse is [batch, heads, seqlen_q].
extern "C" int devkit_attention_decode(const devkit::Decode* problem, const void* q, const void* keys,
                                       const void* values, void* out, float* lse) {
  const Kernels* found = Find(problem->dtype);
  if (found == nullptr) return 1;
  found->decode(*problem, q, keys, values, out, lse);
  return 0;
}

// Writes [batch, seqlen_q, kv_heads, head_dim] to the last seqlen_q positions of each sequence.
extern "C" void devkit_attention_append(const devkit::Decode* d, const char* from, char* cache) {
  const int64_t row = d->kv_heads * d->head_dim * (static_cast<Dtype>(d->dtype) == Dtype::kFloat32 ? 4 : 2);
  for (int64_t b = 0; b < d->batch; ++b) {
    for (int64_t i = 0; i < d->seqlen_q; ++i, from += row) {
      const int64_t j = d->lengths[b] - d->seqlen_q + i;
      const int64_t page = d->table == nullptr ? b : d->table[b * d->table_width + j / d->page_size];
      std::memcpy(cache + (page * d->page_size + (d->table == nullptr ? j : j % d->page_size)) * row, from, row);
    }
  }
}

extern "C" double devkit_read(const void* memory, int64_t bytes, int threads) {
  return Find(0)->read(memory, bytes, threads);
}
