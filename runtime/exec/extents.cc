#include "runtime/exec/extents.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace autospc::exec {
namespace {

Extent Whole(int64_t size) { return {size, size, 0}; }

// How one axis splits a dim: outer * block * inner long here, outer * valid * inner in all.
struct Split {
  int64_t dim = -1, valid = 0, outer = 1, inner = 1, rank = 0;
};

// `whole` rows that `s` splits as [outer, block, inner].
std::array<Extent, 3> SplitUp(int64_t whole, const Split& s) {
  const int64_t block = whole / std::max<int64_t>(s.outer * s.inner, 1);
  return {Whole(s.outer), Extent{block, s.valid, s.rank * block}, Whole(s.inner)};
}

// x's sizes with each axis' split as extents of its own, those after the last split joined to one at the end. nullopt:
// the splits do not fit x.
std::optional<std::vector<Extent>> Extents(at::IntArrayRef sizes, const Split& sp, const Split& dp) {
  std::vector<Extent> extents;
  const int64_t last = std::max(sp.dim, dp.dim);
  int64_t after = 1;
  for (int64_t d = 0; d < static_cast<int64_t>(sizes.size()); ++d) {
    if (d > last) {
      after *= sizes[d];
    } else if (d != sp.dim && d != dp.dim) {
      extents.push_back(Whole(sizes[d]));
    } else if (sp.dim != dp.dim) {
      for (const Extent& e : SplitUp(sizes[d], d == sp.dim ? sp : dp)) extents.push_back(e);
    } else {
      // Both axes in one dim ([B, S] flattened): one's rows lie inside the other's. The geometry of each is that of the
      // other's shares.
      const std::array<Extent, 3> by_dp = SplitUp(sizes[d], dp), by_sp = SplitUp(sizes[d], sp);
      const bool dp_outside = dp.inner % std::max<int64_t>(by_sp[1].local * sp.inner, 1) == 0 &&
                              sp.outer % std::max<int64_t>(dp.outer * by_dp[1].local, 1) == 0;
      const auto& [out, in] = dp_outside ? std::pair(by_dp, by_sp) : std::pair(by_sp, by_dp);
      const int64_t used = out[0].local * out[1].local * in[1].local * in[2].local;
      if (used == 0 || sizes[d] % used != 0) return std::nullopt;
      for (const Extent& e : {out[0], out[1], Whole(sizes[d] / used), in[1], in[2]}) extents.push_back(e);
    }
  }
  extents.push_back(Whole(after));
  int64_t numel = 1, local = 1;
  for (const int64_t size : sizes) numel *= size;
  for (const Extent& e : extents) local *= e.local;
  if (numel != local) return std::nullopt;
  return extents;
}

}  // namespace

Result<std::vector<Extent>> DropoutExtents(const Call& c) {  // x, p, site, dim, valid, outer, inner, dp_dim, dp_valid, dp_outer, dp_inner
  const auto split = [&](size_t first, int rank) {
    const auto number = [&](size_t i, int64_t usual) { return c.Has(first + i) ? c.Int(first + i) : usual; };
    return Split{number(0, -1), number(1, 0), number(2, 1), number(3, 1), rank};
  };
  const at::Tensor &x = c.Tensor(0), &out = c.outputs[0];
  bool bounded = out.defined() && out.sizes() == x.sizes() && out.scalar_type() == x.scalar_type();
  for (size_t i = 3; i < c.args.size(); ++i) bounded = bounded && c.Int(i) >= -1 && c.Int(i) <= int64_t{1} << 31;
  if (!bounded) return Misshapen(c, "it does not fit its result");
  auto extents = Extents(x.sizes(), split(3, c.context->sp.rank), split(7, c.context->dp.rank));
  if (!extents) return Error{Code::kBadInput, "dropout does not fit its operand", "", "compile the model again"};
  return std::move(*extents);
}

// The global row-major index of the first element of run `run`: the last extent is the run itself.
uint64_t GlobalStart(const std::vector<Extent>& extents, int64_t run) {
  uint64_t index = 0, weight = static_cast<uint64_t>(extents.back().global);
  for (size_t i = extents.size() - 1; i-- > 0;) {
    const Extent& e = extents[i];
    index += static_cast<uint64_t>(std::min(e.start + run % e.local, e.global - 1)) * weight;
    weight *= static_cast<uint64_t>(e.global);
    run /= e.local;
  }
  return index;
}

}  // namespace autospc::exec
