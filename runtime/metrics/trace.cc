#include "runtime/metrics/trace.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "runtime/base/json_text.h"
#include "runtime/base/mesh.h"

namespace autospc::metrics {
namespace {

using program::ProgramT;

// One event a line, so that a trace of hundreds of thousands is text that tools can cut.
class Events {
 public:
  void Add(const nlohmann::ordered_json& event) {
    text_ += text_.empty() ? "" : ",\n";
    text_ += event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  std::string Finish() const { return "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n" + text_ + "\n]}\n"; }

 private:
  std::string text_;
};

const char* PhaseName(uint8_t phase) {
  return phase == 0 ? "forward" : phase == 1 ? "backward" : "update";
}

class Writer {
 public:
  Writer(const ProgramT& program, const std::vector<RankTrace>& ranks) : program_(program), ranks_(ranks) {
    for (const auto& c : program_.collectives) collectives_[c->instruction] = c.get();
    for (size_t r = 0; r < ranks_.size(); ++r) {
      for (const Span& span : ranks_[r].spans) origin_ = std::min(origin_, At(r, span.start));
    }
  }

  std::string Run() {
    events_.Add({{"ph", "M"}, {"pid", 0}, {"name", "process_name"}, {"args", {{"name", program_.name}}}});
    for (size_t r = 0; r < ranks_.size(); ++r) {
      std::string name = fmt::format("rank {}", r);
      if (ranks_[r].clock_error > 0) name += fmt::format(" (clock within {} us)", ranks_[r].clock_error / 1000 + 1);
      events_.Add({{"ph", "M"}, {"pid", 0}, {"tid", r + 1}, {"name", "thread_name"}, {"args", {{"name", name}}}});
      events_.Add({{"ph", "M"}, {"pid", 0}, {"tid", r + 1}, {"name", "thread_sort_index"}, {"args", {{"sort_index", r}}}});
    }
    for (size_t r = 0; r < ranks_.size(); ++r) Rank(r);
    return events_.Finish();
  }

 private:
  int64_t At(size_t rank, int64_t nanoseconds) const { return nanoseconds - ranks_[rank].clock_offset; }

  // Microseconds with three digits: Chrome's unit.
  static double Micro(int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1000.0; }

  void Slice(size_t rank, const std::string& name, const char* category, int64_t start, int64_t end,
             nlohmann::ordered_json args = {}) {
    nlohmann::ordered_json event = {{"ph", "X"},       {"pid", 0},     {"tid", rank + 1},
                                    {"name", name},    {"cat", category}, {"ts", Micro(start - origin_)},
                                    {"dur", Micro(end - start)}};
    if (!args.empty()) event["args"] = std::move(args);
    events_.Add(event);
  }

  void Rank(size_t rank) {
    const std::vector<Span>& spans = ranks_[rank].spans;
    for (size_t i = 0; i < spans.size();) {
      size_t end = i;
      while (end < spans.size() && spans[end].step == spans[i].step) ++end;
      Slice(rank, fmt::format("step {}", spans[i].step), "step", At(rank, spans[i].start), At(rank, spans[end - 1].end));
      for (; i < end; ++i) Instruction(rank, i);
    }
  }

  void Instruction(size_t rank, size_t place) {
    const Span& span = ranks_[rank].spans[place];
    const int64_t start = At(rank, span.start), end = At(rank, span.end);
    if (span.instruction == Span::kData) return Slice(rank, "reading data", "data", start, end);
    const program::InstructionT& instruction = *program_.instructions[span.instruction];
    const bool known = instruction.source >= 0 && instruction.source < static_cast<int>(program_.sources.size());
    const std::string source = known ? program_.sources[instruction.source] : "";
    nlohmann::ordered_json args = {{"instruction", span.instruction}, {"phase", PhaseName(instruction.phase)}};
    if (!source.empty()) args["source"] = source;
    for (const int out : instruction.outputs) {
      if (out < 0) continue;
      const program::TensorT& t = *program_.tensors[out];
      args["result"] = fmt::format("{} {} [{}]", t.name, program::EnumNameDType(t.dtype), fmt::join(t.sizes, ", "));
      break;
    }
    const auto found = collectives_.find(static_cast<int>(span.instruction));
    const program::CollectiveT* collective = found == collectives_.end() ? nullptr : found->second;
    if (collective != nullptr) {
      args["axis"] = collective->axis;
      args["bytes_sent"] = collective->bytes;
    }
    const std::string name = source.empty() ? instruction.op : instruction.op + "  " + source;
    Slice(rank, name, collective != nullptr ? "collective" : "compute", start, end, std::move(args));
    if (collective == nullptr) return;
    const auto [last, came] = LastToCome(rank, place, *collective);
    if (came <= start) return Slice(rank, "transfer", "collective", start, end);
    const int64_t met = std::min(came, end);
    Slice(rank, fmt::format("waiting for rank {}", last), "waiting", start, met);
    if (met < end) Slice(rank, "transfer", "collective", met, end);
  }

  // Of the ranks that meet in this collective, the one that began it last, and when. All ranks run the same program, so
  // it stands at the same place of each one's spans.
  std::pair<size_t, int64_t> LastToCome(size_t rank, size_t place, const program::CollectiveT& collective) const {
    const Mesh mesh(program_.world_size / std::max(1, program_.dp), std::max(1, program_.dp));
    const auto axis = ParseAxis(collective.axis);
    std::pair<size_t, int64_t> last = {rank, At(rank, ranks_[rank].spans[place].start)};
    for (size_t r = 0; r < ranks_.size(); ++r) {
      const bool meets = !axis || *axis == Axis::kWorld || SameGroup(mesh, *axis, static_cast<int>(rank), static_cast<int>(r));
      if (!meets || place >= ranks_[r].spans.size()) continue;
      const int64_t start = At(r, ranks_[r].spans[place].start);
      if (start > last.second) last = {r, start};
    }
    return last;
  }

  static bool SameGroup(const Mesh& mesh, Axis axis, int a, int b) {
    const Axis other = axis == Axis::kSp ? Axis::kDp : Axis::kSp;
    return mesh.Index(other, a) == mesh.Index(other, b);
  }

  const ProgramT& program_;
  const std::vector<RankTrace>& ranks_;
  Events events_;
  int64_t origin_ = std::numeric_limits<int64_t>::max();
  std::map<int, const program::CollectiveT*> collectives_;
};

}  // namespace

std::string TraceJson(const ProgramT& program, const std::vector<RankTrace>& ranks) { return Writer(program, ranks).Run(); }

}  // namespace autospc::metrics
