#include "runtime/train/slices.h"

#include <algorithm>
#include <optional>

#include "runtime/base/mesh.h"

namespace autospc::train {
namespace {

using program::ArgKind;

struct Range {
  int64_t begin = 0, end = 0;
  void Add(Range other) {
    begin = end > begin ? std::min(begin, other.begin) : other.begin;
    end = std::max(end, other.end);
  }
};

// What autosp.shard(x, dim, block, zero, axis) takes of a dim of `size`: rows past the end repeat the last one.
Range ShardOf(int64_t size, int64_t block, int index) {
  const int64_t begin = std::min(index * block, size - 1);
  return {begin, std::max(begin + 1, std::min((index + 1) * block, size))};
}

// Whether instruction `ins` has a tensor of that storage among its operands.
bool Reads(const program::ProgramT& program, const program::InstructionT& ins, int storage) {
  const auto is = [&](int64_t t) { return t >= 0 && program.tensors[t]->storage == storage; };
  for (const auto& arg : ins.args) {
    if (arg->kind == ArgKind::Tensor && is(arg->tensor)) return true;
    if (arg->kind == ArgKind::TensorList && std::any_of(arg->ints.begin(), arg->ints.end(), is)) return true;
  }
  return false;
}

}  // namespace

std::vector<data::Slice> SlicesOf(const program::ProgramT& program, int rank) {
  const Mesh mesh(program.world_size / program.dp, program.dp);
  std::vector<data::Slice> slices;
  for (const auto& input : program.inputs) {
    const program::TensorT& t = *program.tensors[input->tensor];
    Range rows, positions;  // of the shards
    bool whole = input->seq_dim < 0 || t.sizes.size() != 2;
    for (const auto& output : program.outputs) whole = whole || program.tensors[output->tensor]->storage == t.storage;
    const int batch_dim = input->seq_dim == 0 ? 1 : 0;
    for (const auto& ins : program.instructions) {
      if (whole) break;
      if (!Reads(program, *ins, t.storage)) continue;
      const bool shard = ins->op == "autosp.shard" && ins->args.size() >= 4 && ins->args[0]->tensor == input->tensor;
      const bool named = shard && ins->args.size() > 4 && ins->args[4]->kind == ArgKind::String;
      const std::optional<Axis> axis = named ? ParseAxis(ins->args[4]->s) : Axis::kSp;
      const int64_t dim = shard ? ins->args[1]->i : -1, block = shard ? ins->args[2]->i : 0;
      if (!axis || *axis == Axis::kWorld || block < 1 || (dim != batch_dim && dim != input->seq_dim)) {
        whole = true;
        break;
      }
      const Range all_rows{0, t.sizes[batch_dim]}, all_positions{0, t.sizes[input->seq_dim]};
      const Range taken = ShardOf(t.sizes[dim], block, mesh.Index(*axis, rank));
      rows.Add(dim == batch_dim ? taken : all_rows);
      positions.Add(dim == input->seq_dim ? taken : all_positions);
    }
    // An input that nothing reads is filled whole all the same: it is small, and a surprise would be dear.
    if (whole || rows.end == 0) {
      slices.push_back({});
    } else {
      slices.push_back({rows.begin, rows.end, positions.begin, positions.end});
    }
  }
  return slices;
}

}  // namespace autospc::train
