#include "passes/canonical/constants.h"

#include <algorithm>
#include <cstring>

namespace autospc::canonical {
namespace {

template <typename T>
double Load(const uint8_t* from) {
  T x;
  std::memcpy(&x, from, sizeof x);
  return static_cast<double>(x);
}

double FromBits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

double HalfToDouble(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 31) return FromBits(sign | 0x7f800000 | mantissa << 13);
  if (exponent > 0) return FromBits(sign | (exponent + 112) << 23 | mantissa << 13);
  const double tiny = mantissa / 16777216.0;  // 2^-24
  return sign ? -tiny : tiny;
}

double Decode(DType dtype, const uint8_t* at) {
  switch (dtype) {
    case DType::kBool:
      return *at != 0;
    case DType::kUInt8:
      return *at;
    case DType::kInt8:
      return Load<int8_t>(at);
    case DType::kInt16:
      return Load<int16_t>(at);
    case DType::kInt32:
      return Load<int32_t>(at);
    case DType::kInt64:
      return Load<int64_t>(at);
    case DType::kFloat16: {
      uint16_t h;
      std::memcpy(&h, at, 2);
      return HalfToDouble(h);
    }
    case DType::kBFloat16: {
      uint16_t h;
      std::memcpy(&h, at, 2);
      return FromBits(static_cast<uint32_t>(h) << 16);
    }
    case DType::kFloat32:
      return Load<float>(at);
    case DType::kFloat64:
      return Load<double>(at);
    default:
      return 0;
  }
}

}  // namespace

bool Constants::IsConstant(ValueId v) const {
  const ir::GraphInput* in = graph_.FindInput(v);
  if (!in || (in->kind != ir::InputKind::kBuffer && in->kind != ir::InputKind::kConstant)) return false;
  return std::none_of(graph_.outputs.begin(), graph_.outputs.end(), [&](const ir::GraphOutput& out) {
    return out.kind == ir::OutputKind::kBufferUpdate && out.name == in->name;
  });
}

const std::vector<uint8_t>* Constants::Bytes(ValueId v) {
  auto [it, is_new] = bytes_.try_emplace(v);
  if (is_new && reader_ && !IsComplex(graph_.value(v).dtype)) {
    auto data = reader_(graph_.FindInput(v)->name);
    if (data.ok() && static_cast<int64_t>(data->size()) >= graph_.value(v).bytes()) it->second = std::move(*data);
  }
  return it->second ? &*it->second : nullptr;
}

std::optional<double> Constants::Read(ValueId v, int64_t offset) {
  const std::vector<uint8_t>* bytes = Bytes(v);
  const DType dtype = graph_.value(v).dtype;
  if (!bytes || offset < 0 || offset >= graph_.value(v).numel()) return std::nullopt;
  return Decode(dtype, bytes->data() + offset * ByteSize(dtype));
}

namespace {

using Kind = Predicate::Kind;

// Structures whose every true entry and every false entry the data's edges suggest. First the ones of few
// words; each is checked on all entries, so a wrong suggestion costs time only.
std::vector<Predicate> Candidates(int64_t rows, int64_t columns, const std::function<bool(int64_t, int64_t)>& at) {
  constexpr int64_t kMin = Predicate::kMin, kMax = Predicate::kMax;
  const auto make = [](Kind kind, int64_t lo, int64_t hi) { return Predicate::Make(kind, lo, hi); };
  const Predicate causal = Predicate::Causal();

  // Bounds of q - k, q and k over the true entries; one that reaches the edge of the data is open.
  int64_t diff_lo = kMax, diff_hi = kMin, q_lo = kMax, q_hi = kMin, k_lo = kMax, k_hi = kMin;
  for (int64_t q = 0; q < rows; ++q) {
    for (int64_t k = 0; k < columns; ++k) {
      if (!at(q, k)) continue;
      diff_lo = std::min(diff_lo, q - k), diff_hi = std::max(diff_hi, q - k);
      q_lo = std::min(q_lo, q), q_hi = std::max(q_hi, q);
      k_lo = std::min(k_lo, k), k_hi = std::max(k_hi, k);
    }
  }
  if (diff_lo == kMax) return {Predicate::False()};
  const auto open = [](int64_t bound, int64_t edge, int64_t unbounded) { return bound == edge ? unbounded : bound; };
  const Predicate band = make(Kind::kDiff, open(diff_lo, 1 - columns, kMin), open(diff_hi, rows - 1, kMax));
  const Predicate box = Predicate::And({make(Kind::kQ, open(q_lo, 0, kMin), open(q_hi, rows - 1, kMax)),
                                        make(Kind::kK, open(k_lo, 0, kMin), open(k_hi, columns - 1, kMax))});
  // The first row's run of true entries: a prefix or a chunk. The last row's last run: a window.
  int64_t first_run = 0;
  while (first_run < columns && at(0, first_run)) ++first_run;
  int64_t window = 0;
  while (window < rows && rows - 1 - window < columns && at(rows - 1, rows - 1 - window)) ++window;

  std::vector<Predicate> all = {Predicate::True(), band, box, Predicate::And({band, box})};
  if (first_run > 0) {
    const Predicate prefix = make(Kind::kK, kMin, first_run - 1), chunk = Predicate::Make(Kind::kSameChunk, first_run);
    const Predicate recent = make(Kind::kDiff, 0, window - 1);
    for (const Predicate& p :
         {Predicate::Or({prefix, causal}), chunk, Predicate::Or({chunk, causal}), Predicate::Or({prefix, recent})}) {
      all.push_back(p);
    }
    // Sinks: the first keys and a window, causally. The first row shows one key only; the last shows how many.
    int64_t sinks = 0;
    while (sinks < columns && at(rows - 1, sinks)) ++sinks;
    if (sinks > 0) all.push_back(Predicate::And({causal, Predicate::Or({make(Kind::kK, kMin, sinks - 1), recent})}));
  }
  // Chunks and causal: the first column is seen until the chunk ends.
  int64_t first_chunk = 0;
  while (first_chunk < rows && at(first_chunk, 0)) ++first_chunk;
  if (first_chunk > 0) all.push_back(Predicate::And({causal, Predicate::Make(Kind::kSameChunk, first_chunk)}));
  return all;
}

std::optional<Predicate> FitDirectly(int64_t rows, int64_t columns, const std::function<bool(int64_t, int64_t)>& at) {
  for (Predicate& p : Candidates(rows, columns, at)) {
    bool equal = true;
    for (int64_t q = 0; q < rows && equal; ++q) {
      for (int64_t k = 0; k < columns && equal; ++k) equal = Holds(p, q, k) == at(q, k);
    }
    if (equal) return std::move(p);
  }
  return std::nullopt;
}

}  // namespace

std::optional<Predicate> FitPredicate(int64_t q_size, int64_t k_size, const std::function<bool(int64_t, int64_t)>& at) {
  auto direct = FitDirectly(q_size, k_size, at);
  if (direct && direct->operands.empty()) return direct;
  auto complement = FitDirectly(q_size, k_size, [&](int64_t q, int64_t k) { return !at(q, k); });
  if (!complement) return direct;
  complement = Predicate::Not(*complement);
  if (!direct) return complement;
  // Both say the same here; the one of fewer words is the one that was meant.
  return direct->ToString().size() <= complement->ToString().size() ? direct : complement;
}

}  // namespace autospc::canonical
