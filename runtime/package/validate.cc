#include "runtime/package/validate.h"

#include <algorithm>
#include <optional>

#include "runtime/package/dtype.h"
#include "runtime/package/micro_batches.h"

namespace autospc {
namespace {

using program::ArgKind;
using program::StorageKind;

constexpr int64_t kMaxRank = 64;
constexpr int kMaxWorldSize = 1 << 20;

// Bytes of the vectors and strings that a buffer refers to. A writer stores each once, so their sum is at most
// the buffer's size; a hostile one refers to a long vector from many tables, and unpacking copies it each time.
class PayloadSum {
 public:
  explicit PayloadSum(int64_t limit) : left_(limit) {}
  bool Exceeded() const { return left_ < 0; }

  void Add(const flatbuffers::String* text) {
    if (text != nullptr) Take(text->size());
  }
  template <typename T>
  void Add(const flatbuffers::Vector<T>* numbers) {
    if (numbers != nullptr) Take(static_cast<int64_t>(numbers->size()) * static_cast<int64_t>(sizeof(T)));
  }
  void Add(const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* texts) {
    Each(texts, [&](const flatbuffers::String* text) { Add(text); });
  }
  template <typename T, typename Visit>
  void Each(const flatbuffers::Vector<flatbuffers::Offset<T>>* tables, Visit visit) {
    if (tables == nullptr) return;
    Take(static_cast<int64_t>(tables->size()) * 4);
    for (flatbuffers::uoffset_t i = 0; i < tables->size() && !Exceeded(); ++i) visit(tables->Get(i));
  }

 private:
  void Take(int64_t bytes) {
    if (left_ >= 0) left_ -= bytes;
  }
  int64_t left_;
};

bool PayloadFits(const program::Program& p, int64_t limit) {
  PayloadSum sum(limit);
  for (const auto* text : {p.name(), p.strategy(), p.optimizer(), p.device(), p.compiler(), p.options()}) sum.Add(text);
  sum.Each(p.storages(), [&](const program::Storage* s) { sum.Add(s->name()), sum.Add(s->source()); });
  sum.Each(p.tensors(), [&](const program::Tensor* t) { sum.Add(t->sizes()), sum.Add(t->strides()), sum.Add(t->name()); });
  sum.Each(p.instructions(), [&](const program::Instruction* i) {
    sum.Add(i->op());
    sum.Add(i->outputs());
    sum.Each(i->args(), [&](const program::Arg* a) { sum.Add(a->s()), sum.Add(a->ints()), sum.Add(a->floats()); });
  });
  sum.Each(p.inputs(), [&](const program::Input* i) { sum.Add(i->name()); });
  sum.Each(p.outputs(), [&](const program::Output* o) { sum.Add(o->name()), sum.Add(o->sizes()); });
  sum.Each(p.scalars(), [&](const program::Scalar* s) { sum.Add(s->name()); });
  sum.Each(p.notes(), [&](const program::Note* n) { sum.Add(n->what()), sum.Add(n->why()), sum.Add(n->source()); });
  sum.Each(p.collectives(), [&](const program::Collective* c) { sum.Add(c->op()), sum.Add(c->why()); });
  sum.Add(p.aliases());
  sum.Add(p.tie_candidates());
  sum.Add(p.frozen());
  sum.Add(p.sources());
  return !sum.Exceeded();
}

// Elements from the first to the last of a non-empty strided tensor, plus one; nullopt if they overflow.
std::optional<int64_t> Extent(const program::TensorT& tensor) {
  int64_t extent = 1;
  for (size_t d = 0; d < tensor.sizes.size(); ++d) {
    int64_t step = 0;
    if (tensor.strides[d] < 0 || __builtin_mul_overflow(tensor.sizes[d] - 1, tensor.strides[d], &step) ||
        __builtin_add_overflow(extent, step, &extent))
      return std::nullopt;
  }
  return extent;
}

class Validator {
 public:
  Validator(const program::ProgramT& program, const std::string& where) : p_(program), where_(where) {}

  Status Run() {
    RETURN_IF_ERROR(Header());
    for (size_t i = 0; i < p_.storages.size(); ++i) RETURN_IF_ERROR(Storage(i));
    for (size_t i = 0; i < p_.tensors.size(); ++i) RETURN_IF_ERROR(Tensor(i));
    for (size_t i = 0; i < p_.instructions.size(); ++i) RETURN_IF_ERROR(Instruction(i));
    RETURN_IF_ERROR(Ends());
    if (Status parts = CheckMicroBatches(p_); !parts.ok()) {
      parts.error().where = where_;
      return parts;
    }
    return Reports();
  }

 private:
  template <typename... Args>
  Error Bad(fmt::format_string<Args...> format, Args&&... args) const {
    return {Code::kBadInput, "the program is not sound: " + fmt::format(format, std::forward<Args>(args)...), where_,
            "the package is damaged or was not made by autospc; compile it anew"};
  }
  bool IsTensor(int64_t index) const { return index >= 0 && index < static_cast<int64_t>(p_.tensors.size()); }
  bool IsInstruction(int64_t index) const { return index >= 0 && index < static_cast<int64_t>(p_.instructions.size()); }

  Status Header() const {
    if (p_.world_size < 1 || p_.world_size > kMaxWorldSize) return Bad("it is for {} ranks", p_.world_size);
    if (p_.dp < 1 || p_.world_size % p_.dp != 0) return Bad("{} ranks of which {} split the batch", p_.world_size, p_.dp);
    if (p_.arena_bytes < 0) return Bad("an arena of {} bytes", p_.arena_bytes);
    if (p_.device != "cpu" && p_.device != "cuda") return Bad("it is for the device '{}'", p_.device);
    if (p_.aliases.size() % 2 != 0) return Bad("an alias without its other name");
    if (p_.tie_candidates.size() % 2 != 0) return Bad("a head without the embedding that it may be");
    return Ok();
  }

  Status Storage(size_t i) const {
    const program::StorageT& s = *p_.storages[i];
    const auto last = static_cast<int64_t>(p_.instructions.size());
    if (s.kind > StorageKind::MAX) return Bad("storage {} is of the unknown kind {}", i, static_cast<int>(s.kind));
    if (s.bytes < 0) return Bad("storage {} '{}' has {} bytes", i, s.name, s.bytes);
    const bool persistent = s.kind <= StorageKind::Optimizer;
    if (persistent && s.arena_offset != -1) return Bad("storage {} '{}' is persistent, yet in the arena", i, s.name);
    if (persistent) return Ok();
    if (s.arena_offset < 0 || s.arena_offset % 64 != 0 || s.bytes > p_.arena_bytes ||
        s.arena_offset > p_.arena_bytes - s.bytes)
      return Bad("storage {} '{}' at {} with {} bytes does not lie in the arena of {} bytes", i, s.name, s.arena_offset,
                 s.bytes, p_.arena_bytes);
    if (s.first < -1 || s.first > s.last || s.last > last)
      return Bad("storage {} '{}' lives from {} to {} of {} instructions", i, s.name, s.first, s.last, last);
    return Ok();
  }

  Status Tensor(size_t i) const {
    const program::TensorT& t = *p_.tensors[i];
    if (!IsValidDType(t.dtype)) return Bad("tensor {} '{}' is of the unknown type {}", i, t.name, static_cast<int>(t.dtype));
    if (t.storage < 0 || t.storage >= static_cast<int64_t>(p_.storages.size()))
      return Bad("tensor {} '{}' lies in storage {}, which does not exist", i, t.name, t.storage);
    if (t.sizes.size() != t.strides.size() || t.sizes.size() > kMaxRank)
      return Bad("tensor {} '{}' has {} sizes and {} strides", i, t.name, t.sizes.size(), t.strides.size());
    const std::optional<int64_t> numel = CheckedNumel(t.sizes);
    if (!numel) return Bad("tensor {} '{}' has sizes {}", i, t.name, FormatSizes(t.sizes));
    const int64_t storage_bytes = p_.storages[t.storage]->bytes;
    // A complex tensor may start at any of its storage's real numbers.
    const bool is_complex = t.dtype >= program::DType::Complex64;
    const int64_t alignment = is_complex ? ByteSize(t.dtype) / 2 : ByteSize(t.dtype);
    if (t.byte_offset < 0 || t.byte_offset > storage_bytes || t.byte_offset % alignment != 0)
      return Bad("tensor {} '{}' starts at byte {} of a storage of {}", i, t.name, t.byte_offset, storage_bytes);
    if (t.block_of < 0 || (t.block_of > 0 && !IsBlock(t)))
      return Bad("tensor {} '{}' with sizes {} is no rank's block of {} elements", i, t.name, FormatSizes(t.sizes), t.block_of);
    if (*numel == 0) return Ok();
    const std::optional<int64_t> extent = Extent(t);
    if (!extent || *extent > (storage_bytes - t.byte_offset) / ByteSize(t.dtype))
      return Bad("tensor {} '{}' with sizes {} and strides {} at byte {} leaves its storage of {} bytes", i, t.name,
                 FormatSizes(t.sizes), FormatSizes(t.strides), t.byte_offset, storage_bytes);
    return Ok();
  }

  // One of the world's equal blocks, as long as a block must be.
  bool IsBlock(const program::TensorT& t) const {
    return t.sizes.size() == 1 && t.strides[0] == 1 && t.sizes[0] == (t.block_of - 1) / p_.world_size + 1;
  }

  Status Arg(const program::ArgT& a, size_t i, const std::string& op) const {
    bool good = a.kind <= ArgKind::MAX;
    if (a.kind == ArgKind::Tensor) good = IsTensor(a.tensor);
    if (a.kind == ArgKind::TensorList)
      good = std::all_of(a.ints.begin(), a.ints.end(), [&](int64_t t) { return t == -1 || IsTensor(t); });
    if (a.kind == ArgKind::DType) good = IsValidDType(a.dtype);
    if (!good) return Bad("instruction {} '{}' has an argument that refers to nothing", i, op);
    return Ok();
  }

  // A kernel's scratch (indices that it has checked, for one) is not what it reads and writes.
  Status Workspace(const program::InstructionT& n, size_t i) const {
    if (n.workspace < 0) return Ok();
    const program::StorageT& scratch = *p_.storages[n.workspace];
    const auto apart = [&](int64_t tensor) {
      if (tensor < 0) return true;
      const program::StorageT& s = *p_.storages[p_.tensors[tensor]->storage];
      return s.arena_offset < 0 || s.bytes == 0 || scratch.bytes == 0 || s.arena_offset >= scratch.arena_offset + scratch.bytes ||
             scratch.arena_offset >= s.arena_offset + s.bytes;
    };
    bool good = std::all_of(n.outputs.begin(), n.outputs.end(), apart);
    for (const auto& a : n.args) {
      if (a->kind == ArgKind::Tensor) good = good && apart(a->tensor);
      if (a->kind == ArgKind::TensorList) good = good && std::all_of(a->ints.begin(), a->ints.end(), apart);
    }
    if (good) return Ok();
    return Bad("instruction {} '{}' works in storage {}, where its operands or results lie", i, n.op, n.workspace);
  }

  Status Instruction(size_t i) const {
    const program::InstructionT& n = *p_.instructions[i];
    if (n.op.empty()) return Bad("instruction {} has no op", i);
    for (const auto& arg : n.args) RETURN_IF_ERROR(Arg(*arg, i, n.op));
    for (const int output : n.outputs)
      if (!IsTensor(output)) return Bad("instruction {} '{}' writes to tensor {}, which does not exist", i, n.op, output);
    if (n.workspace < -1 || n.workspace >= static_cast<int64_t>(p_.storages.size()) ||
        (n.workspace >= 0 && p_.storages[n.workspace]->kind <= StorageKind::Optimizer))
      return Bad("instruction {} '{}' has storage {} for its workspace", i, n.op, n.workspace);
    RETURN_IF_ERROR(Workspace(n, i));
    if (n.source < -1 || n.source >= static_cast<int64_t>(p_.sources.size()))
      return Bad("instruction {} '{}' is from source line {}, which does not exist", i, n.op, n.source);
    if (n.phase > 2) return Bad("instruction {} '{}' belongs to the unknown phase {}", i, n.op, n.phase);
    return Ok();
  }

  Status Ends() const {
    for (const auto& input : p_.inputs) {
      if (!IsTensor(input->tensor) || p_.storages[p_.tensors[input->tensor]->storage]->kind != StorageKind::Input)
        return Bad("input '{}' is not a tensor in an input's storage", input->name);
      if (input->seq_dim < -1 || input->seq_dim >= static_cast<int64_t>(p_.tensors[input->tensor]->sizes.size()))
        return Bad("input '{}' has dim {} for its sequence", input->name, input->seq_dim);
      if (input->role > program::InputRole::MAX || input->limit < 0)
        return Bad("input '{}' has the unknown role {} or {} ids", input->name, static_cast<int>(input->role), input->limit);
    }
    if (p_.label_shift > program::LabelShift::MAX)
      return Bad("its labels are shifted in the unknown way {}", static_cast<int>(p_.label_shift));
    for (const auto& output : p_.outputs)
      if (output->kind > program::OutputKind::MAX || !IsTensor(output->tensor) ||
          (output->after != -1 && !IsInstruction(output->after)))
        return Bad("output '{}' is tensor {} after instruction {}", output->name, output->tensor, output->after);
    for (const auto& output : p_.outputs) {
      const int64_t whole = p_.tensors[output->tensor]->block_of;
      if (whole != 0 && CheckedNumel(output->sizes) != whole)
        return Bad("output '{}' is a block of {} elements, of a whole with sizes {}", output->name, whole, FormatSizes(output->sizes));
    }
    for (const auto& scalar : p_.scalars)
      if (!IsTensor(scalar->tensor) || CheckedNumel(p_.tensors[scalar->tensor]->sizes) != 1)
        return Bad("scalar '{}' is not a tensor of one element", scalar->name);
    return Ok();
  }

  Status Reports() const {
    for (const auto& collective : p_.collectives)
      if (!IsInstruction(collective->instruction))
        return Bad("a collective at instruction {}, which does not exist", collective->instruction);
    return Ok();
  }

  const program::ProgramT& p_;
  const std::string& where_;
};

}  // namespace

Result<std::unique_ptr<program::ProgramT>> UnpackProgram(std::string_view bytes, const std::string& where) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  // A table takes at least 8 bytes (its own offset, and the one that refers to it) unless it is shared, which
  // our writer never does: so the bound fits any program of ours, and unpacking stays linear in the file.
  const auto max_tables = static_cast<flatbuffers::uoffset_t>(bytes.size() / 8 + 1);
  const bool has_size = bytes.size() >= 16 && bytes.size() < FLATBUFFERS_MAX_BUFFER_SIZE;
  bool sound = false;
  if (has_size) {
    flatbuffers::Verifier verifier(data, bytes.size(), /*max_depth=*/16, max_tables);
    sound = program::VerifyProgramBuffer(verifier);
  }
  if (!sound || !PayloadFits(*program::GetProgram(data), static_cast<int64_t>(bytes.size())))
    return Error{Code::kBadInput, "the program is not a sound FlatBuffer", where,
                 "the package is damaged or was not made by autospc; compile it anew"};
  return std::unique_ptr<program::ProgramT>(program::GetProgram(data)->UnPack());
}

Status ValidateProgram(const program::ProgramT& program, const std::string& where) {
  return Validator(program, where).Run();
}

std::vector<const program::TensorT*> WholeTensors(const program::ProgramT& program) {
  std::vector<const program::TensorT*> whole(program.storages.size(), nullptr);
  for (const auto& tensor : program.tensors) {
    if (whole[tensor->storage] != nullptr || tensor->byte_offset != 0) continue;
    const std::optional<int64_t> numel = CheckedNumel(tensor->sizes);
    int64_t bytes = 0;
    if (numel && !__builtin_mul_overflow(*numel, ByteSize(tensor->dtype), &bytes) &&
        bytes == program.storages[tensor->storage]->bytes && tensor->strides == ContiguousStrides(tensor->sizes))
      whole[tensor->storage] = tensor.get();
  }
  return whole;
}

}  // namespace autospc
