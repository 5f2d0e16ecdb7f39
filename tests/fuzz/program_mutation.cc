// Changes to a program's objects, so that what comes out still passes FlatBuffers' verifier and reaches what is behind.
#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "runtime/package/validate.h"
#include "tests/fuzz/entries.h"

namespace autospc::fuzz {
namespace {

using program::ArgKind;
using program::StorageKind;

class Mutator {
 public:
  Mutator(program::ProgramT* program, unsigned seed) : p_(*program), random_(seed) {}

  void Run() {
    for (int n = 1 + Below(3); n > 0; --n) Once();
  }

 private:
  int64_t Below(int64_t n) { return n <= 0 ? 0 : static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  bool Half() { return Below(2) == 0; }
  template <typename T>
  T* Any(std::vector<std::unique_ptr<T>>& list) {
    return list.empty() ? nullptr : list[static_cast<size_t>(Below(static_cast<int64_t>(list.size())))].get();
  }

  // A number near another, near a power of two, or at an edge.
  int64_t Number(int64_t near) {
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max(), kLeast = std::numeric_limits<int64_t>::min();
    constexpr int64_t kEdges[] = {0, 1, -1, 2, 3, 7, 64, 1 << 16, int64_t{1} << 31, int64_t{1} << 32, int64_t{1} << 61, kMost, kLeast};
    switch (Below(6)) {
      case 0: return kEdges[Below(static_cast<int64_t>(std::size(kEdges)))];
      case 1: return static_cast<int64_t>(static_cast<uint64_t>(near) + 1);
      case 2: return static_cast<int64_t>(static_cast<uint64_t>(near) - 1);
      case 3: return static_cast<int64_t>(static_cast<uint64_t>(near) * 2);
      case 4: return near / 2;
      default: return Below(16);
    }
  }
  int Index(size_t count) { return static_cast<int>(Below(16) == 0 ? Number(0) : Below(static_cast<int64_t>(count))); }
  int TensorIndex() { return Index(p_.tensors.size()); }

  void Once() {
    switch (Below(14)) {
      case 0: return Storage();
      case 1:
      case 2:
      case 3: return Tensor();
      case 4:
      case 5:
      case 6:
      case 7: return Argument();
      case 8: return Instruction();
      case 9: return Order();
      case 10: return Ends();
      case 11: return Copy();
      case 12: return Geometry();
      default: return Header();
    }
  }

  void Header() {
    switch (Below(6)) {
      case 0: p_.world_size = static_cast<int>(Number(p_.world_size)); break;
      case 1: p_.dp = static_cast<int>(Number(p_.dp)); break;
      case 2: p_.arena_bytes = std::min<int64_t>(Number(p_.arena_bytes), 1 << 20); break;
      case 3: p_.seq_len = Number(p_.seq_len); break;
      case 4: p_.batch = Number(p_.batch); break;
      default:
        if (!p_.aliases.empty()) p_.aliases[0] = p_.aliases.back();
        break;
    }
  }
  void Storage() {
    program::StorageT* s = Any(p_.storages);
    if (s == nullptr) return;
    switch (Below(5)) {
      case 0: s->bytes = std::min<int64_t>(Number(s->bytes), 1 << 20); break;
      case 1: s->arena_offset = Half() ? Number(s->arena_offset) : Below(64) * 64; break;
      case 2: s->kind = static_cast<StorageKind>(Below(static_cast<int64_t>(StorageKind::MAX) + 2)); break;
      case 3: s->name = p_.storages[static_cast<size_t>(Below(static_cast<int64_t>(p_.storages.size())))]->name; break;
      default: s->first = static_cast<int>(Number(s->first)); break;
    }
  }
  void Tensor() {
    program::TensorT* t = Any(p_.tensors);
    if (t == nullptr) return;
    const auto at = [&](std::vector<int64_t>& list) -> int64_t* {
      return list.empty() ? nullptr : &list[static_cast<size_t>(Below(static_cast<int64_t>(list.size())))];
    };
    switch (Below(8)) {
      case 0:
        if (int64_t* x = at(t->sizes)) *x = Number(*x);
        break;
      case 1:
        if (int64_t* x = at(t->strides)) *x = Number(*x);
        break;
      case 2: t->byte_offset = Number(t->byte_offset); break;
      case 3: t->dtype = static_cast<program::DType>(Below(13)); break;
      case 4: t->storage = Index(p_.storages.size()); break;
      case 5: t->block_of = Number(t->block_of); break;
      case 6:
        if (t->sizes.size() < 6) t->sizes.push_back(1 + Below(4)), t->strides.push_back(Below(2));
        break;
      default:
        if (!t->sizes.empty()) t->sizes.pop_back();
        if (!t->strides.empty()) t->strides.pop_back();
        break;
    }
  }
  // Another tensor's shape: what fits an op's rules better than numbers at random.
  void Geometry() {
    program::TensorT *a = Any(p_.tensors), *b = Any(p_.tensors);
    if (a == nullptr) return;
    a->sizes = b->sizes;
    a->strides = b->strides;
    if (Half()) a->dtype = b->dtype;
    if (Half()) a->storage = b->storage, a->byte_offset = b->byte_offset;
  }
  void Argument() {
    program::InstructionT* n = Any(p_.instructions);
    if (n == nullptr || n->args.empty()) return;
    program::ArgT* a = Any(n->args);
    switch (Below(8)) {
      case 0: a->kind = static_cast<ArgKind>(Below(static_cast<int64_t>(ArgKind::MAX) + 2)); break;
      case 1: a->tensor = TensorIndex(); break;
      case 2: a->i = Number(a->i); break;
      case 3: a->f = static_cast<double>(Number(0)) * (Half() ? 1 : std::numeric_limits<double>::infinity()); break;
      case 4:
        if (!a->ints.empty()) {
          int64_t& x = a->ints[static_cast<size_t>(Below(static_cast<int64_t>(a->ints.size())))];
          x = a->kind == ArgKind::TensorList ? TensorIndex() : Number(x);
        }
        break;
      case 5:
        if (Half() && !a->ints.empty()) a->ints.pop_back();
        else a->ints.push_back(a->kind == ArgKind::TensorList ? TensorIndex() : Number(0));
        break;
      case 6: a->s = Half() ? "dp" : "world"; break;
      default: std::swap(n->args.front(), n->args[static_cast<size_t>(Below(static_cast<int64_t>(n->args.size())))]); break;
    }
  }
  void Instruction() {
    program::InstructionT *n = Any(p_.instructions), *other = Any(p_.instructions);
    if (n == nullptr) return;
    switch (Below(6)) {
      case 0: n->op = other->op; break;
      case 1:
        if (!n->outputs.empty()) n->outputs[static_cast<size_t>(Below(static_cast<int64_t>(n->outputs.size())))] = TensorIndex();
        break;
      case 2:
        if (Half() && !n->outputs.empty()) n->outputs.pop_back();
        else n->outputs.push_back(TensorIndex());
        break;
      case 3: n->workspace = Index(p_.storages.size()); break;
      case 4:
        if (!n->args.empty()) n->args.pop_back();
        break;
      default:
        if (!other->args.empty()) n->args.push_back(std::make_unique<program::ArgT>(*Any(other->args)));
        break;
    }
  }
  void Order() {
    if (p_.instructions.empty()) return;
    const auto a = static_cast<size_t>(Below(static_cast<int64_t>(p_.instructions.size())));
    const auto b = static_cast<size_t>(Below(static_cast<int64_t>(p_.instructions.size())));
    if (Half()) std::swap(p_.instructions[a], p_.instructions[b]);
    else p_.instructions.erase(p_.instructions.begin() + static_cast<std::ptrdiff_t>(a));
  }
  void Copy() {
    if (const program::TensorT* t = Any(p_.tensors); Half() && t != nullptr) {
      p_.tensors.push_back(std::make_unique<program::TensorT>(*t));
    } else if (const program::InstructionT* n = Any(p_.instructions); n != nullptr && p_.instructions.size() < 64) {
      p_.instructions.push_back(std::make_unique<program::InstructionT>(*n));
    }
  }
  void Ends() {
    switch (Below(5)) {
      case 0:
        if (auto* x = Any(p_.inputs)) x->tensor = TensorIndex();
        break;
      case 1:
        if (auto* x = Any(p_.outputs)) x->tensor = TensorIndex();
        break;
      case 2:
        if (auto* x = Any(p_.outputs)) x->kind = static_cast<program::OutputKind>(Below(8));
        break;
      case 3:
        if (auto* x = Any(p_.outputs)) x->after = Index(p_.instructions.size());
        break;
      default:
        if (auto* x = Any(p_.scalars)) x->tensor = TensorIndex();
        break;
    }
  }

  program::ProgramT& p_;
  std::mt19937 random_;
};

}  // namespace

size_t MutateProgram(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  const auto program = UnpackProgram({reinterpret_cast<const char*>(data), size}, "");
  if (!program.ok()) return 0;
  Mutator(program->get(), seed).Run();
  flatbuffers::FlatBufferBuilder builder;
  program::FinishProgramBuffer(builder, program::Program::Pack(builder, program->get()));
  if (builder.GetSize() > max_size) return 0;
  std::memcpy(data, builder.GetBufferPointer(), builder.GetSize());
  return builder.GetSize();
}

}  // namespace autospc::fuzz
