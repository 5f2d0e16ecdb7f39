#include <algorithm>
#include <array>
#include <cctype>
#include <map>

#include <nlohmann/json.hpp>

#include "codegen/memory_report.h"
#include "compiler/inspect.h"
#include "compiler/text_table.h"
#include "runtime/base/bytes.h"
#include "runtime/base/json_text.h"
#include "runtime/package/dtype.h"
#include "runtime/package/micro_batches.h"
#include "runtime/package/oci.h"

namespace autospc {
namespace {

using codegen::kKindNames;
using nlohmann::json;
using program::StorageKind;

constexpr int kLargest = 10;
constexpr size_t kNotes = 20;
constexpr std::array<const char*, 3> kPhases = {"forward", "backward", "step"};

// Collectives of one op.
struct Traffic {
  int64_t count = 0, bytes = 0;
  std::map<std::string, std::pair<int64_t, int64_t>> by_reason;  // count, bytes
};

// By op and the axis of the mesh along which it runs.
std::map<std::pair<std::string, std::string>, Traffic> TrafficOf(const program::ProgramT& p) {
  std::map<std::pair<std::string, std::string>, Traffic> traffic;
  const MicroBatches micro_batches = MicroBatchesOf(p);
  for (const auto& collective : p.collectives) {
    const int64_t times = micro_batches.Times(collective->instruction);
    Traffic& t = traffic[{collective->op, collective->axis}];
    t.count += times;
    t.bytes += times * collective->bytes;
    auto& reason = t.by_reason[collective->why];
    reason.first += times;
    reason.second += times * collective->bytes;
  }
  return traffic;
}

// Equal notes, which come from a model's repeated layers, once with their number and sum.
struct NoteSum {
  const program::NoteT* first;
  int64_t count = 0, bytes = 0;
  double flops = 0;
};

std::vector<NoteSum> NotesOf(const program::ProgramT& p) {
  std::map<std::tuple<std::string, std::string, std::string>, NoteSum> sums;
  for (const auto& note : p.notes) {
    NoteSum& sum = sums[{note->what, note->why, note->source}];
    sum.first = note.get();
    ++sum.count;
    sum.bytes += note->bytes;
    sum.flops += note->flops;
  }
  std::vector<NoteSum> list;
  for (const auto& [key, sum] : sums) list.push_back(sum);
  std::stable_sort(list.begin(), list.end(), [](const NoteSum& a, const NoteSum& b) { return a.bytes > b.bytes; });
  return list;
}

std::array<int64_t, 3> InstructionsByPhase(const program::ProgramT& p) {
  std::array<int64_t, 3> count{};
  for (const auto& instruction : p.instructions) ++count[instruction->phase];
  return count;
}

std::string SourceOf(const program::ProgramT& p, const program::InstructionT& instruction) {
  return instruction.source >= 0 ? p.sources[instruction.source] : "";
}

// The instruction during which most of the arena is alive: "autosp.attention (model.py:12)".
const program::InstructionT* PeakOf(const program::ProgramT& p, const codegen::MemoryReport& memory) {
  return memory.peak_instruction < 0 ? nullptr : p.instructions[memory.peak_instruction].get();
}

std::string LowerName(const char* name) {
  std::string lower(name);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

// Who shifts the labels, as autosp-run --labels says it; "" where nothing is known.
const char* LabelsOf(const program::ProgramT& p) {
  return p.label_shift == program::LabelShift::ByModel  ? "unshifted"
         : p.label_shift == program::LabelShift::ByData ? "shifted"
                                                        : "";
}

json Json(const Package& package, const codegen::MemoryReport& memory) {
  const program::ProgramT& p = package.program();
  json root = {{"format_version", p.format_version}, {"name", p.name},           {"ranks", p.world_size},
               {"seq_len", p.seq_len},               {"batch", p.batch},         {"strategy", p.strategy},
               {"optimizer", p.optimizer},           {"device", p.device},       {"compiler", p.compiler},
               {"digest", package.digest()},         {"flops", p.flops},         {"weights_missing", package.MissingWeights()}};
  const auto options = ParseJson(p.options, "");
  root["options"] = options.ok() ? *options : json(p.options);
  const auto phases = InstructionsByPhase(p);
  for (size_t i = 0; i < phases.size(); ++i) root["instructions"][kPhases[i]] = phases[i];
  for (size_t i = 0; i < kKindNames.size(); ++i) root["memory"][kKindNames[i]] = memory.by_kind[i];
  root["memory"]["total"] = memory.persistent_bytes + memory.arena_bytes;
  root["memory"]["arena"] = memory.arena_bytes;
  root["memory"]["live_at_peak"] = memory.live_bytes;
  if (const auto* peak = PeakOf(p, memory))
    root["memory"]["peak"] = {{"instruction", memory.peak_instruction}, {"op", peak->op}, {"source", SourceOf(p, *peak)}};
  root["micro_batches"] = MicroBatchesOf(p).count;
  root["mesh"] = {{"dp", p.dp}, {"sp", p.world_size / p.dp}};
  root["inputs"] = json::array();
  for (const auto& input : p.inputs) {
    root["inputs"].push_back({{"name", input->name}, {"role", LowerName(EnumNameInputRole(input->role))}, {"limit", input->limit},
                              {"sizes", p.tensors[input->tensor]->sizes}});
  }
  root["labels"] = LabelsOf(p);
  root["ignore_index"] = p.ignores_label ? json(p.ignore_index) : json(nullptr);
  root["collectives"] = json::array();
  for (const auto& [key, traffic] : TrafficOf(p)) {
    json reasons = json::array();
    for (const auto& [why, sum] : traffic.by_reason)
      reasons.push_back({{"why", why}, {"count", sum.first}, {"bytes", sum.second}});
    root["collectives"].push_back({{"op", key.first}, {"axis", key.second}, {"count", traffic.count}, {"bytes", traffic.bytes}, {"reasons", reasons}});
  }
  root["largest"] = json::array();
  for (const int i : memory.largest) {
    const auto& s = *p.storages[i];
    root["largest"].push_back({{"name", s.name}, {"kind", kKindNames[static_cast<size_t>(s.kind)]}, {"bytes", s.bytes},
                               {"first", s.first}, {"last", s.last}, {"source", s.source}});
  }
  root["notes"] = json::array();
  for (const NoteSum& note : NotesOf(p))
    root["notes"].push_back({{"what", note.first->what}, {"why", note.first->why}, {"source", note.first->source},
                             {"count", note.count}, {"bytes", note.bytes}, {"flops", note.flops}});
  root["blobs"] = json::array();
  for (const Blob& blob : package.blobs())
    root["blobs"].push_back({{"type", blob.type}, {"digest", blob.digest}, {"bytes", blob.bytes}});
  root["manifest_bytes"] = package.manifest_bytes();
  return root;
}

class Text {
 public:
  explicit Text(const Package& package, const codegen::MemoryReport& memory)
      : package_(package), p_(package.program()), memory_(memory) {}

  std::string Run() {
    Head();
    Memory();
    Collectives();
    Largest();
    Notes();
    Blobs();
    return out_;
  }

 private:
  template <typename... Args>
  void Line(fmt::format_string<Args...> format, Args&&... args) {
    out_ += Clip(fmt::format(format, std::forward<Args>(args)...), kTextWidth) + "\n";
  }

  void Head() {
    const auto phases = InstructionsByPhase(p_);
    Line("{}: {} ranks, sequence {}, batch {}, on {}", p_.name, p_.world_size, p_.seq_len, p_.batch, p_.device);
    if (const int64_t count = MicroBatchesOf(p_).count; count > 1) Line("  a step is {} micro-batches of batch {}", count, p_.batch);
    if (p_.dp > 1) Line("  mesh: dp {} (the batch) x sp {} (the sequence)", p_.dp, p_.world_size / p_.dp);
    Line("  strategy {}, optimizer {}", p_.strategy, p_.optimizer);
    Line("  {} instructions: {} forward, {} backward, {} step; {} a rank and step", p_.instructions.size(), phases[0],
         phases[1], phases[2], FormatFlops(p_.flops));
    Line("  made by {}, format {}, digest {}", p_.compiler, p_.format_version, package_.digest().substr(0, 16));
    const std::vector<std::string> missing = package_.MissingWeights();
    if (!missing.empty())
      Line("  without weights: {} parameters and buffers come from autosp-run --weights or --init", missing.size());
    Data();
  }

  void Data() {
    std::string inputs;
    for (const auto& input : p_.inputs) {
      inputs += fmt::format("{}{} ({}", inputs.empty() ? "" : ", ", input->name, LowerName(EnumNameInputRole(input->role)));
      inputs += input->limit > 0 ? fmt::format(" below {})", input->limit) : ")";
    }
    if (!inputs.empty()) Line("  data: {}", inputs);
    if (p_.label_shift == program::LabelShift::Unknown) return;
    Line("  labels: {}, {}", p_.label_shift == program::LabelShift::ByModel ? "the model shifts them itself" : "shifted by the data",
         p_.ignores_label ? fmt::format("{} is ignored", p_.ignore_index) : "none is ignored");
  }

  void Memory() {
    out_ += "\nMemory of a rank\n";
    for (size_t i = 0; i < kKindNames.size(); ++i) {
      const bool at_peak = i > static_cast<size_t>(StorageKind::Optimizer);
      if (memory_.by_kind[i] > 0)
        Line("  {:<16}{:>14}{}", kKindNames[i], FormatBytes(memory_.by_kind[i]), at_peak ? "   at the peak" : "");
    }
    Line("  {:<16}{:>14}   {} persistent and {} arena", "total", FormatBytes(memory_.persistent_bytes + memory_.arena_bytes),
         FormatBytes(memory_.persistent_bytes), FormatBytes(memory_.arena_bytes));
    if (const auto* peak = PeakOf(p_, memory_))
      Line("  peak at instruction {}, {} {}: {} of the arena are alive", memory_.peak_instruction, peak->op,
           ClipFront(SourceOf(p_, *peak), 30), FormatBytes(memory_.live_bytes));
  }

  void Collectives() {
    const auto traffic = TrafficOf(p_);
    int64_t total = 0, count = 0;
    for (const auto& [key, t] : traffic) {
      total += t.bytes;
      count += t.count;
    }
    Line("\nCollectives: {} in a step, {} sent by a rank", count, FormatBytes(total));
    for (const auto& [key, t] : traffic) {
      const std::string along = p_.dp > 1 ? fmt::format("{}, {}", key.first, key.second) : key.first;
      Line("  {:<28}{:>6} x{:>14}", along, t.count, FormatBytes(t.bytes));
      for (const auto& [why, sum] : t.by_reason)
        if (!why.empty()) Line("    {:<56}{:>6} x{:>14}", Clip(why, 55), sum.first, FormatBytes(sum.second));
    }
  }

  void Largest() {
    if (memory_.largest.empty()) return;
    out_ += "\nLargest buffers of the arena\n";
    for (const int i : memory_.largest) {
      const auto& s = *p_.storages[i];
      Line("  {:>12}  {:<14}{:<28}{:>6}-{:<6} {}", FormatBytes(s.bytes), kKindNames[static_cast<size_t>(s.kind)],
           Clip(s.name, 27), s.first, s.last, ClipFront(s.source, 26));
    }
  }

  void Notes() {
    const std::vector<NoteSum> notes = NotesOf(p_);
    if (notes.empty()) {
      out_ += "\nNothing was gathered or computed whole for want of a rule.\n";
      return;
    }
    out_ += "\nGathered or computed whole: times, bytes and FLOPs in all, what, where, why\n";
    for (size_t i = 0; i < std::min(notes.size(), kNotes); ++i) {
      const NoteSum& note = notes[i];
      Line("  {:>5} x {:>12} {:>12}  {:<32} {}", note.count, FormatBytes(note.bytes),
           note.flops > 0 ? FormatFlops(note.flops) : "", Clip(note.first->what, 32), ClipFront(note.first->source, 28));
      Line("          {}", note.first->why);
    }
    if (notes.size() > kNotes) Line("  and {} more (--json lists them all)", notes.size() - kNotes);
  }

  void Blobs() {
    Line("\nBlobs, shared by all ranks ({} of manifest each)", FormatBytes(package_.manifest_bytes()));
    for (const Blob& blob : package_.blobs()) Line("  {:<52}{:>14}  {}", blob.type, FormatBytes(blob.bytes), blob.digest.substr(0, 23));
  }

  const Package& package_;
  const program::ProgramT& p_;
  const codegen::MemoryReport& memory_;
  std::string out_;
};

}  // namespace

std::string DescribePackage(const Package& package, bool as_json) {
  const codegen::MemoryReport memory = codegen::ReportMemory(package.program(), kLargest);
  return as_json ? JsonText(Json(package, memory), 1) + "\n" : Text(package, memory).Run();
}

}  // namespace autospc
