#include "runtime/exec/overlap.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string_view>

#include "runtime/exec/call.h"

namespace autospc::exec {
namespace {

struct Range {
  uintptr_t begin = 0, end = 0;
  bool written = false;
};

bool MovesBytes(std::string_view op) {
  static const std::set<std::string_view> kOps = {"autosp.all_reduce",
                                                  "autosp.all_reduce_",
                                                  "autosp.all_reduce_coalesced_",
                                                  "autosp.all_gather",
                                                  "autosp.all_gather_coalesced_",
                                                  "autosp.all_to_all",
                                                  "autosp.reduce_scatter",
                                                  "autosp.reduce_scatter_coalesced",
                                                  "autosp.pad_last"};
  return kOps.contains(op);
}

// All bytes that an instruction touches.
class Touched {
 public:
  Touched(const program::ProgramT& program, const std::vector<void*>& storages)
      : program_(program), storages_(storages) {}

  std::vector<Range> By(const program::InstructionT& ins) const {
    std::vector<Range> ranges;
    const std::vector<bool> written = WrittenArguments(ins.op);
    for (size_t i = 0; i < ins.args.size(); ++i) {
      const program::ArgT& arg = *ins.args[i];
      const bool writes = i >= written.size() || written[i];  // of an op that nobody knows anything may be
      if (arg.kind == program::ArgKind::Tensor) Add(arg.tensor, writes, &ranges);
      if (arg.kind != program::ArgKind::TensorList) continue;
      for (const int64_t t : arg.ints) Add(t, writes, &ranges);
    }
    for (const int out : ins.outputs) Add(out, true, &ranges);
    if (ins.workspace >= 0) {
      const auto begin = reinterpret_cast<uintptr_t>(storages_[ins.workspace]);
      ranges.push_back({begin, begin + static_cast<uintptr_t>(program_.storages[ins.workspace]->bytes), true});
    }
    return ranges;
  }

 private:
  void Add(int64_t tensor, bool written, std::vector<Range>* ranges) const {
    if (tensor < 0) return;
    const program::TensorT& t = *program_.tensors[tensor];
    const auto storage = reinterpret_cast<uintptr_t>(storages_[t.storage]);
    ranges->push_back(
        {storage + static_cast<uintptr_t>(t.byte_offset), storage + static_cast<uintptr_t>(ExtentOf(t)), written});
  }

  const program::ProgramT& program_;
  const std::vector<void*>& storages_;
};

bool Conflict(const std::vector<Range>& a, const std::vector<Range>& b) {
  return std::any_of(a.begin(), a.end(), [&](const Range& x) {
    return std::any_of(b.begin(), b.end(),
                       [&](const Range& y) { return (x.written || y.written) && x.begin < y.end && y.begin < x.end; });
  });
}

}  // namespace

int64_t ExtentOf(const program::TensorT& t) {
  const int64_t element = static_cast<int64_t>(c10::elementSize(ToScalarType(t.dtype)));
  int64_t last = 0;
  for (size_t d = 0; d < t.sizes.size(); ++d) {
    if (t.sizes[d] < 0 || t.strides[d] < 0) return -1;
    if (t.sizes[d] == 0) return 0;
    int64_t reach = 0;
    if (__builtin_mul_overflow(t.sizes[d] - 1, t.strides[d], &reach) || __builtin_add_overflow(last, reach, &last))
      return -1;
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(last + 1, element, &bytes) || __builtin_add_overflow(bytes, t.byte_offset, &bytes))
    return -1;
  return t.byte_offset < 0 ? -1 : bytes;
}

Overlap FindOverlap(const program::ProgramT& program, const std::vector<void*>& storages) {
  const size_t count = program.instructions.size();
  Overlap overlap{std::vector<bool>(count, false), std::vector<int>(count, -1)};
  const Touched touched(program, storages);
  struct Running {
    int instruction;
    std::vector<Range> ranges;
  };
  std::vector<Running> running;
  for (size_t n = 0; n < count; ++n) {
    const program::InstructionT& ins = *program.instructions[n];
    std::vector<Range> ranges = touched.By(ins);
    if (MovesBytes(ins.op)) {
      overlap.beside[n] = true;
      running.push_back({static_cast<int>(n), std::move(ranges)});
      continue;
    }
    // The last one that is in the way: those before it are done with it.
    for (size_t i = running.size(); i-- > 0;) {
      if (!Conflict(running[i].ranges, ranges)) continue;
      overlap.waits_for[n] = running[i].instruction;
      running.erase(running.begin(), running.begin() + static_cast<int64_t>(i) + 1);
      break;
    }
  }
  return overlap;
}

}  // namespace autospc::exec
