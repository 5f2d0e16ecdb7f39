#include "runtime/base/mesh.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace autospc {
namespace {

constexpr std::array<std::string_view, 3> kNames = {"sp", "dp", "world"};

// Sorted: each rank holds a block of the whole over all ranks.
constexpr std::array<std::string_view, 5> kOverAllRanks = {
    "autosp.adamw_shard_", "autosp.all_gather_coalesced_", "autosp.own_block", "autosp.reduce_scatter_coalesced", "autosp.sgd_shard_"};

// Sorted; as in runtime/base/autosp_ops.h.
constexpr std::array<std::pair<std::string_view, size_t>, 12> kAxisArguments = {{
    {"autosp.all_gather", 4},
    {"autosp.all_reduce", 2},
    {"autosp.all_reduce_", 2},
    {"autosp.all_reduce_coalesced_", 2},
    {"autosp.all_to_all", 6},
    {"autosp.first", 1},
    {"autosp.mask", 4},
    {"autosp.pad_last", 3},
    {"autosp.positions", 5},
    {"autosp.reduce_scatter", 4},
    {"autosp.shard", 4},
    {"autosp.vary", 1},
}};

Error BadMesh(std::string_view text, std::string_view why) {
  return {Code::kUsage, fmt::format("the mesh '{}' {}", text, why), "", "give the ranks of each axis, as in --mesh dp=2,sp=4"};
}

}  // namespace

std::string_view Name(Axis axis) { return kNames[static_cast<size_t>(axis)]; }

std::optional<Axis> ParseAxis(std::string_view name) {
  const auto it = std::find(kNames.begin(), kNames.end(), name);
  if (it == kNames.end()) return std::nullopt;
  return static_cast<Axis>(it - kNames.begin());
}

Result<Mesh> ParseMesh(std::string_view text) {
  constexpr int kMost = 65536;
  int sp = 0, dp = 0;
  for (std::string_view rest = text;;) {
    const size_t comma = rest.find(',');
    const std::string_view part = rest.substr(0, comma);
    const size_t equals = part.find('=');
    const std::string_view axis = part.substr(0, equals);
    if (equals == part.npos || (axis != "dp" && axis != "sp")) return BadMesh(text, "has another axis than dp and sp");
    int& size = axis == "dp" ? dp : sp;
    if (size != 0) return BadMesh(text, fmt::format("names {} twice", axis));
    const std::string_view number = part.substr(equals + 1);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), size);
    if (error != std::errc() || end != number.data() + number.size() || size < 1 || size > kMost) {
      return BadMesh(text, fmt::format("has the size '{}'", number));
    }
    if (comma == rest.npos) break;
    rest.remove_prefix(comma + 1);
  }
  const Mesh mesh(std::max(sp, 1), std::max(dp, 1));
  if (int64_t{mesh.sp} * mesh.dp > kMost) return BadMesh(text, fmt::format("is of more than {} ranks", kMost));
  return mesh;
}

std::optional<size_t> AxisArgument(std::string_view op) {
  const auto it = std::lower_bound(kAxisArguments.begin(), kAxisArguments.end(), op,
                                   [](const auto& row, std::string_view name) { return row.first < name; });
  if (it == kAxisArguments.end() || it->first != op) return std::nullopt;
  return it->second;
}

Axis UsualAxis(std::string_view op) {
  return std::binary_search(kOverAllRanks.begin(), kOverAllRanks.end(), op) ? Axis::kWorld : Axis::kSp;
}

}  // namespace autospc
