#include "runtime/train/load.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "runtime/package/checkpoint.h"
#include "runtime/package/dtype.h"
#include "runtime/package/export_facts.h"
#include "runtime/package/masters.h"
#include "runtime/package/seeded_init.h"
#include "runtime/package/tied_embeddings.h"

namespace autospc::train {
namespace {

using program::StorageKind;

bool IsWeight(StorageKind kind) { return kind == StorageKind::Parameter || kind == StorageKind::Buffer; }

bool InStateDict(const program::StorageT& s, const ExportFacts& facts) {
  return IsWeight(s.kind) && !(s.kind == StorageKind::Buffer && facts.non_persistent.contains(s.name));
}

// The graph's input of a storage is the first tensor made for it.
int FirstTensor(const program::ProgramT& program, int storage) {
  for (size_t t = 0; t < program.tensors.size(); ++t) {
    if (program.tensors[t]->storage == storage) return static_cast<int>(t);
  }
  return -1;
}

// A storage and where its bytes come from.
struct Item {
  enum class From { kPackage, kCheckpoint, kSeed } from = From::kPackage;
  int storage = -1;
  int tensor = -1;
  StoredTensor stored;
  WeightSource source;
};

struct Plan {  // one item a persistent storage with data
  std::vector<Item> items;
};

// Two parameters that the checkpoint means as one would get gradients of their own and drift apart.
Status CheckTies(const Package& package, const Checkpoint& checkpoint, const std::string& prefix,
                 const std::vector<WantedTensor>& wanted) {
  const program::ProgramT& program = package.program();
  const auto find = [&](const std::string& name) {
    return std::find_if(wanted.begin(), wanted.end(), [&](const WantedTensor& w) { return w.name == name; });
  };
  std::vector<TieCandidate> candidates;
  for (size_t i = 0; i + 1 < program.tie_candidates.size(); i += 2) {
    const auto head = find(program.tie_candidates[i]), embedding = find(program.tie_candidates[i + 1]);
    if (head != wanted.end() && embedding != wanted.end()) candidates.push_back({*head, *embedding});
  }
  ASSIGN_OR_RETURN(const std::vector<TieCandidate> tied, TiedByCheckpoint(checkpoint, candidates, prefix));
  if (tied.empty()) return Ok();
  return Error{Code::kBadInput,
               fmt::format("'{}' is the embedding '{}' in the checkpoint (tie_word_embeddings in its config.json), and "
                           "another parameter in the package",
                           tied[0].head.name, tied[0].embedding.name),
               package.path(), "compile with --tie-embeddings, or give the checkpoint to the compiler with --weights"};
}

// The tensor by which a storage is loaded takes as many elements as there are bytes for, and no more than it has.
Status CheckData(const Item& item, const program::StorageT& storage, const program::TensorT& tensor, const std::string& path) {
  const std::optional<int64_t> numel = CheckedNumel(tensor.sizes);
  const auto fits = [&](int64_t bytes, program::DType dtype) { return numel && *numel <= bytes / ByteSize(dtype); };
  const bool stored = item.from == Item::From::kPackage && item.stored.data != nullptr;
  if (fits(storage.bytes, tensor.dtype) && (!stored || fits(item.stored.bytes, item.stored.dtype))) return Ok();
  return Error{Code::kBadInput,
               fmt::format("'{}' with sizes {} does not fit its storage of {} bytes", storage.name, FormatSizes(tensor.sizes), storage.bytes),
               path, "the package is damaged or was not made by autospc; compile it anew"};
}

Result<Plan> MakePlan(const Package& package, const WeightOptions& options) {
  const program::ProgramT& program = package.program();
  const ExportFacts facts = ReadExportFacts(program);
  Plan plan;
  std::vector<WantedTensor> wanted;
  std::vector<size_t> wanted_items;
  std::vector<std::string> missing;
  for (size_t i = 0; i < program.storages.size(); ++i) {
    const program::StorageT& s = *program.storages[i];
    const bool weight = IsWeight(s.kind);
    if (s.arena_offset >= 0 || (!weight && s.kind != StorageKind::Constant)) continue;
    Item item;
    item.storage = static_cast<int>(i);
    item.tensor = FirstTensor(program, item.storage);
    if (item.tensor < 0 || s.bytes == 0) continue;  // nothing reads it
    if (options.restored && InStateDict(s, facts)) continue;
    item.stored = package.Find(s.name);
    const program::TensorT& t = *program.tensors[item.tensor];
    const bool replaced = s.kind == StorageKind::Parameter || item.stored.data == nullptr;
    if (weight && replaced && !options.weights.empty()) {
      item.from = Item::From::kCheckpoint;
      wanted.push_back({s.name, t.dtype, t.sizes});
      wanted_items.push_back(plan.items.size());
    } else if (weight && replaced && options.seed) {
      item.from = Item::From::kSeed;
    } else if (item.stored.data == nullptr) {
      missing.push_back(s.name);
    }
    RETURN_IF_ERROR(CheckData(item, s, t, package.path()));
    plan.items.push_back(std::move(item));
  }
  if (!missing.empty()) {
    return Error{Code::kBadInput,
                 fmt::format("the package holds no data for {} parameters and buffers, \"{}\" among them",
                             missing.size(), missing[0]),
                 package.path(), "give --weights DIR|FILE with a checkpoint, or --init SEED"};
  }
  if (!wanted.empty()) {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.weights));
    RETURN_IF_ERROR(CheckTies(package, checkpoint, options.prefix, wanted));
    ResolveOptions resolve;
    for (size_t i = 0; i + 1 < program.aliases.size(); i += 2)
      resolve.ties.emplace_back(program.aliases[i], program.aliases[i + 1]);
    resolve.prefix = options.prefix;
    ASSIGN_OR_RETURN(std::vector<WeightSource> sources, checkpoint.Resolve(wanted, resolve));
    for (size_t i = 0; i < sources.size(); ++i) plan.items[wanted_items[i]].source = std::move(sources[i]);
  }
  return plan;
}

// A master begins as the parameter is where it comes from, not as it is rounded. `whole`: the parameter in float32.
void StartMaster(const program::ProgramT& program, int storage, const at::Tensor& whole, exec::Executor* executor) {
  const int tensor = FirstTensor(program, storage);
  if (tensor < 0) return;
  const at::Tensor& master = executor->tensor(tensor);
  if (program.tensors[tensor]->block_of == 0) {
    master.copy_(whole);
    return;
  }
  // ZeRO: the rank's own block of the flattened parameter.
  const int64_t n = whole.numel(), begin = std::min(n, executor->context().rank * master.numel());
  const int64_t have = std::min(master.numel(), n - begin);
  master.narrow(0, 0, have).copy_(whole.reshape({n}).narrow(0, begin, have));
}

// The item's elements, row-major, as `dtype`.
Status ReadItem(const Item& item, const program::StorageT& s, const program::TensorT& t, program::DType dtype, int64_t numel,
                const std::optional<uint64_t>& seed, void* to) {
  switch (item.from) {
    case Item::From::kCheckpoint:
      return ReadWeight(item.source, dtype, to);
    case Item::From::kSeed:
      return FillSeeded(*seed, s.kind, s.name, dtype, t.sizes, to);
    case Item::From::kPackage:
      break;
  }
  return ConvertTo(dtype, to, item.stored.dtype, item.stored.data, numel);
}

}  // namespace

std::map<int, bool> WrittenStorages(const program::ProgramT& program) {
  std::map<int, bool> written;
  auto mark = [&](int64_t tensor) {
    if (tensor >= 0) written[program.tensors[tensor]->storage] = true;
  };
  std::map<std::string, std::vector<bool>> known;
  const auto written_arguments = [&](const std::string& op) -> const std::vector<bool>& {
    const auto [it, fresh] = known.try_emplace(op);
    if (fresh) it->second = exec::WrittenArguments(op);
    return it->second;
  };
  for (const auto& ins : program.instructions) {
    for (int out : ins->outputs) mark(out);
    // As the op's schema says, not its name: aten.add.out and batch norm write to operands too.
    const std::vector<bool>& writes = written_arguments(ins->op);
    for (size_t i = 0; i < std::min(ins->args.size(), writes.size()); ++i) {
      const program::ArgT& arg = *ins->args[i];
      if (!writes[i]) continue;
      if (arg.kind == program::ArgKind::Tensor) mark(arg.tensor);
      if (arg.kind == program::ArgKind::TensorList) {
        for (int64_t t : arg.ints) mark(t);
      }
    }
  }
  for (const auto& out : program.outputs) {
    if (out->kind != program::OutputKind::BufferUpdate && out->kind != program::OutputKind::ParameterUpdate &&
        out->kind != program::OutputKind::StateUpdate)
      continue;
    for (size_t i = 0; i < program.storages.size(); ++i) {
      if (program.storages[i]->arena_offset < 0 && program.storages[i]->name == out->name)
        written[static_cast<int>(i)] = true;
    }
  }
  return written;
}

std::map<int, void*> MappedStorages(const Package& package, const WeightOptions& options) {
  std::map<int, void*> mapped;
  const program::ProgramT& program = package.program();
  const std::map<int, bool> written = WrittenStorages(program);
  const ExportFacts facts = ReadExportFacts(program);
  for (size_t i = 0; i < program.storages.size(); ++i) {
    const program::StorageT& s = *program.storages[i];
    const int index = static_cast<int>(i);
    if (s.arena_offset >= 0 || written.count(index) != 0) continue;
    if (s.kind == StorageKind::Parameter && (!options.weights.empty() || options.seed)) continue;
    if (options.restored && InStateDict(s, facts)) continue;
    if (!IsWeight(s.kind) && s.kind != StorageKind::Constant) continue;
    const StoredTensor stored = package.Find(s.name);
    const int t = FirstTensor(program, index);
    if (stored.data == nullptr || stored.bytes != s.bytes || t < 0) continue;
    const program::TensorT& tensor = *program.tensors[t];
    const bool aligned = reinterpret_cast<uintptr_t>(stored.data) % static_cast<uintptr_t>(ByteSize(tensor.dtype)) == 0;
    if (!aligned || tensor.byte_offset != 0 || tensor.dtype != stored.dtype ||
        tensor.strides != ContiguousStrides(tensor.sizes))
      continue;
    mapped[index] = const_cast<std::byte*>(stored.data);
  }
  return mapped;
}

Status CheckWeights(const Package& package, const WeightOptions& options) {
  const Result<Plan> plan = MakePlan(package, options);
  return plan.ok() ? Ok() : Status(plan.error());
}

Status LoadWeights(const Package& package, const WeightOptions& options, exec::Executor* executor) {
  const std::map<int, void*> mapped = executor->device().is_cpu() ? MappedStorages(package, options) : std::map<int, void*>();
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(package, options));
  const program::ProgramT& program = package.program();
  const std::map<std::string, int> masters = MasterStorages(program);
  for (const Item& item : plan.items) {
    if (mapped.count(item.storage) != 0) continue;
    const program::StorageT& s = *program.storages[item.storage];
    const program::TensorT& t = *program.tensors[item.tensor];
    const at::Tensor& target = executor->tensor(item.tensor);
    if (const auto master = masters.find(s.name); s.kind == StorageKind::Parameter && master != masters.end()) {
      const at::Tensor whole = at::empty(t.sizes, at::TensorOptions().dtype(at::kFloat));
      RETURN_IF_ERROR(ReadItem(item, s, t, program::DType::Float32, target.numel(), options.seed, whole.data_ptr()));
      target.copy_(whole);
      try {
        StartMaster(program, master->second, whole, executor);
      } catch (const c10::Error& e) {
        return Error{Code::kBadInput,
                     fmt::format("a master's shape is not its parameter's: {}", e.what_without_backtrace()), package.path(),
                     "the package is damaged or was not made by autospc; compile it anew"};
      }
      continue;
    }
    // Row-major bytes go straight to their place, others and those of another device by way of a copy.
    std::vector<char> rows;
    void* to = target.data_ptr();
    if (!target.is_contiguous() || !target.is_cpu()) {
      rows.resize(static_cast<size_t>(target.numel() * static_cast<int64_t>(target.element_size())));
      to = rows.data();
    }
    RETURN_IF_ERROR(ReadItem(item, s, t, t.dtype, target.numel(), options.seed, to));
    if (!rows.empty()) target.copy_(at::from_blob(to, t.sizes, at::TensorOptions().dtype(target.scalar_type())));
  }
  return Ok();
}

}  // namespace autospc::train
