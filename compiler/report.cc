#include "compiler/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "compiler/report_assets.h"
#include "compiler/report_data.h"
#include "compiler/report_html.h"
#include "compiler/report_json.h"
#include "compiler/text_table.h"
#include "runtime/base/json_text.h"
#include "runtime/package/micro_batches.h"

namespace autospc {
namespace {

using namespace report;
using nlohmann::json;
using Parts = std::map<std::string, std::string, std::less<>>;

constexpr size_t kLargest = 10;
constexpr size_t kRows = 200;  // of a table; more are counted

// What all sections need to know.
struct Subject {
  const program::ProgramT& program;
  std::vector<PlanPoint> curve;
  json options;
  int64_t budget = 0;  // 0: none
  const PlanPoint* chosen = nullptr;
  Memory memory = {};
  ArenaMap map = {};
};

std::string Swatch(size_t group) { return fmt::format("<i class=\"swatch g{}\"></i>", group); }

std::string Code(std::string_view text) { return text.empty() ? "" : fmt::format("<code>{}</code>", Breakable(text)); }

// In running text: no places to break but those of the line.
std::string Word(std::string_view text) { return fmt::format("<code>{}</code>", Escape(text)); }

std::string SourceOf(const program::ProgramT& p, const program::InstructionT& i) {
  return i.source >= 0 && i.source < static_cast<int>(p.sources.size()) ? p.sources[i.source] : "";
}

double Percent(int64_t part, int64_t whole) {
  return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0;
}

// "2.71 PFLOP", not to be broken.
std::string Flops(double flops) {
  std::string text = FormatFlops(flops);
  const size_t space = text.find(' ');
  return space == std::string::npos ? text : text.replace(space, 1, "\u00a0");
}

// In a step, of all collectives together.
struct Sent {
  int64_t count = 0, bytes = 0;
};
Sent SentIn(const program::ProgramT& p) {
  const MicroBatches micro_batches = MicroBatchesOf(p);
  Sent sum;
  for (const auto& c : p.collectives) {
    sum.count += micro_batches.Times(c->instruction);
    sum.bytes += micro_batches.Times(c->instruction) * c->bytes;
  }
  return sum;
}

// "1 rank", "8 ranks".
std::string Of(int64_t count, std::string_view what) {
  return fmt::format("{}\u00a0{}{}", Count(count), what, count == 1 ? "" : "s");
}

std::string Lede(const Subject& s) {
  const program::ProgramT& p = s.program;
  const int64_t peak = s.memory.peak_bytes();
  std::string text = fmt::format("One training step over {} of {} tokens on {}. A rank holds at most <b>{}</b>",
                                 Of(p.batch * MicroBatchesOf(p).count, "sequence"), Count(p.seq_len), Of(p.world_size, "rank"), Bytes(peak));
  if (s.budget <= 0) return text + ".";
  if (peak <= s.budget)
    return text + fmt::format(", {} under the budget of {}.", Bytes(s.budget - peak), Bytes(s.budget));
  return text + fmt::format(", <b>{} over</b> the budget of {}.", Bytes(peak - s.budget), Bytes(s.budget));
}

std::string Tiles(const Subject& s) {
  std::string out;
  const auto tile = [&](std::string_view name, const std::string& value, const std::string& detail) {
    out += fmt::format("<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>\n", name, value, detail);
  };
  const int64_t peak = s.memory.peak_bytes();
  tile("Peak of a rank", Bytes(peak),
       fmt::format("{} kept<br>{} arena", Bytes(s.memory.persistent_bytes), Bytes(s.memory.arena_bytes)));
  if (s.budget > 0)
    tile("Budget of a rank", Bytes(s.budget), fmt::format("{:.1f}\u00a0% used", Percent(peak, s.budget)));
  if (s.chosen) {
    const double again = s.chosen->recompute_seconds;
    tile("Time of a step, estimated", Seconds(s.chosen->seconds),
         again > 0 ? fmt::format("{:.1f}\u00a0% of it runs again", 100 * again / s.chosen->seconds)
                   : "nothing runs again");
  }
  tile("Compute of a rank", Flops(s.program.flops),
       fmt::format("in {}", Of(s.program.instructions.size(), "instruction")));
  const Sent sent = SentIn(s.program);
  tile("Sent by a rank", Bytes(sent.bytes), fmt::format("in {}", Of(sent.count, "collective")));
  return out;
}

std::string Facts(const Subject& s) {
  const program::ProgramT& p = s.program;
  std::vector<std::pair<std::string, std::string>> facts = {{"Model", p.name},
                                                            {"Ranks", std::to_string(p.world_size)},
                                                            {"Sequence", Count(p.seq_len)},
                                                            {"Batch", Count(p.batch)},
                                                            {"Strategy", p.strategy},
                                                            {"Optimiser", p.optimizer},
                                                            {"Device", p.device}};
  if (s.chosen) facts.push_back({"Plan", s.chosen->label});
  static const std::map<std::string, std::string, std::less<>> kTitles = {
      {"accumulate", "Micro-batches"}, {"clip_norm", "Clipping"}, {"weight_decay", "Weight decay"}, {"recompute", "Recomputation"}, {"zero", "ZeRO"}};
  for (const auto& [key, value] : s.options.items()) {
    if (key == "ranks" || key == "strategy" || key == "optimizer" || key == "memory_budget") continue;
    if (key == "non_persistent_buffers" || key == "checkpoint_names") continue;  // for saving
    std::string title = kTitles.contains(key) ? kTitles.find(key)->second : key;
    if (!title.empty() && title[0] >= 'a' && title[0] <= 'z') title[0] += 'A' - 'a';
    std::replace(title.begin(), title.end(), '_', ' ');
    const std::string text = value.is_string()              ? value.get<std::string>()
                             : value.is_boolean()           ? (value.get<bool>() ? "yes" : "no")
                             : key == "zero" && value == -1 ? "auto"
                                                            : JsonText(value);
    facts.push_back({title, text});
  }
  std::string out;
  for (const auto& [title, text] : facts)
    out += fmt::format("<div{}><dt>{}</dt><dd>{}</dd></div>\n", text.size() > 16 ? " class=\"long\"" : "",
                       Escape(title), Breakable(text));
  return out;
}

// The peak by kind: a bar and its key.
std::string PeakBar(const Subject& s) {
  const GroupBytes& at = s.memory.at_peak;
  int64_t total = 0;
  for (const int64_t bytes : at) total += bytes;
  std::string bar, key;
  for (size_t g = 0; g < kGroups; ++g) {
    if (at[g] == 0) continue;
    bar += fmt::format("<span class=\"g{}\" style=\"flex-grow:{:.4f}\"></span>", g, Percent(at[g], total));
    key += fmt::format("<div>{}<dt>{}</dt><dd>{} <small>{:.1f}\u00a0%</small></dd></div>\n", Swatch(g), kGroupNames[g],
                       Bytes(at[g]), Percent(at[g], total));
  }
  return fmt::format("<div class=\"bar\" aria-hidden=\"true\">{}</div>\n<dl class=\"key\">\n{}</dl>\n", bar, key);
}

std::string MemoryText(const Subject& s) {
  const Memory& m = s.memory;
  if (m.peak_instruction < 0) return "<p>The arena is empty: all memory is kept from step to step.</p>";
  const program::InstructionT& peak = *s.program.instructions[m.peak_instruction];
  const std::string source = SourceOf(s.program, peak);
  return fmt::format(
      "<p>Most is alive at instruction {} of {}, {}{}: {} of the arena, which is laid out in {} ({:.1f}\u00a0% of it "
      "filled). "
      "Beside it {} stay from step to step: parameters, optimiser states, inputs. The strip under the chart "
      "tells forward, backward and update instructions apart: forward ones on the way back run again, or in tiles.</p>",
      Count(m.peak_instruction), Count(s.program.instructions.size()), Word(peak.op),
      source.empty() ? "" : ", " + Word(source), Bytes(m.live_bytes), Bytes(m.arena_bytes),
      Percent(m.live_bytes, m.arena_bytes), Bytes(m.persistent_bytes));
}

std::string LargestTable(const Subject& s) {
  Table table{"The largest buffers of the arena alive at the peak",
              {{"Bytes", true}, {"Buffer"}, {"Kind"}, {"Source"}, {"Share", true}, {"From", true}, {"To", true}},
              {},
              {}};
  for (const int i : s.memory.largest) {
    const program::StorageT& b = *s.program.storages[i];
    const auto group = static_cast<size_t>(GroupOf(b.kind));
    table.rows.push_back({Bytes(b.bytes), Code(b.name),
                          fmt::format("<span class=\"kind\">{}{}</span>", Swatch(group), kGroupNames[group]),
                          Code(b.source), fmt::format("{:.1f}\u00a0%", Percent(b.bytes, s.memory.live_bytes)),
                          Count(b.first), Count(b.last)});
  }
  return table.rows.empty() ? "" : Html(table);
}

std::string MapText(const Subject& s) {
  if (s.map.left_out == 0) return fmt::format("All {} buffers of the step are drawn.", Count(s.map.storages.size()));
  return fmt::format("The {} buffers that fill the most are drawn; {} of at most {} are left out.",
                     Count(s.map.storages.size()), Count(s.map.left_out), Bytes(s.map.largest_left_out));
}

std::string CurveTable(const Subject& s) {
  const std::vector<bool> best = Frontier(s.curve);
  Table table{
      "All candidates", {{"Candidate"}, {"Peak of a rank", true}, {"Time", true}, {"Runs again", true}, {""}}, {}, {}};
  for (size_t i = 0; i < s.curve.size(); ++i) {
    const PlanPoint& point = s.curve[i];
    const bool over = s.budget > 0 && point.peak_bytes > s.budget;
    table.rows.push_back({Escape(point.label), Bytes(point.peak_bytes), Seconds(point.seconds),
                          Seconds(point.recompute_seconds),
                          point.chosen ? "<b>chosen</b>"
                          : over       ? "over the budget"
                          : best[i]    ? "on the curve"
                                       : ""});
  }
  return Html(table);
}

std::string CurveText(const Subject& s) {
  std::string text = fmt::format(
      "{} programs were weighed. Left is less memory, down is less time; the line joins those that none beats in "
      "both. ",
      Count(s.curve.size()));
  if (s.chosen)
    text += fmt::format("Chosen: <b>{}</b>, {} in {}.", Escape(s.chosen->label), Seconds(s.chosen->seconds),
                        Bytes(s.chosen->peak_bytes));
  return text;
}

std::string Cut(size_t rows) { return rows <= kRows ? "" : fmt::format("<p>And {} more.</p>\n", Count(rows - kRows)); }

std::string CollectivesSection(const Subject& s) {
  const std::vector<Traffic> traffic = SumTraffic(s.program);
  if (traffic.empty()) return "<p>None: the ranks do not talk.</p>";
  Table table{"Collectives of a step",
              {{"Op"}, {"What for"}, {"Count", true}, {"Bytes each", true}, {"Bytes in all", true}},
              {},
              {}};
  for (const Traffic& t : traffic) {
    if (table.rows.size() == kRows) break;
    const std::string each =
        t.least == t.most ? Bytes(t.most) : fmt::format("{} \u2013 {}", Bytes(t.least), Bytes(t.most));
    table.rows.push_back({Code(t.op), Breakable(t.why), Count(t.count), each, Bytes(t.bytes)});
  }
  table.total = {"all", "", Count(SentIn(s.program).count), "", Bytes(SentIn(s.program).bytes)};
  return Html(table) + Cut(traffic.size());
}

std::string GatheredSection(const Subject& s) {
  const std::vector<Gathered> notes = SumNotes(s.program);
  if (notes.empty()) return "<p class=\"good\">Nothing was gathered or computed whole for want of a rule.</p>";
  Table table{"Gathered or computed whole",
              {{"What"}, {"Why"}, {"Source"}, {"Times", true}, {"Bytes", true}, {"FLOPs", true}},
              {},
              {}};
  for (const Gathered& n : notes) {
    if (table.rows.size() == kRows) break;
    table.rows.push_back({Code(n.what), Breakable(n.why), Code(n.source), Count(n.count), Bytes(n.bytes),
                          n.flops > 0 ? Flops(n.flops) : ""});
  }
  return Html(table) + Cut(notes.size());
}

// "<!--if NAME-->…<!--end NAME-->" stays or goes.
void KeepIf(std::string* page, const std::string& name, bool keep) {
  const std::string open = fmt::format("<!--if {}-->", name), close = fmt::format("<!--end {}-->", name);
  const size_t from = page->find(open), to = page->find(close);
  if (keep) {
    page->erase(to, close.size());
    page->erase(from, open.size());
  } else {
    page->erase(from, to + close.size() - from);
  }
}

}  // namespace

Result<std::string> HtmlReport(const Compiled& compiled) {
  const program::ProgramT& p = compiled.program;
  Subject s{p, compiled.curve, json::object()};
  if (!p.options.empty()) {
    ASSIGN_OR_RETURN(s.options, ParseJson(p.options, "the program's options"));
    if (!s.options.is_object()) return Error{Code::kBadInput, "the program's options are no JSON object", p.name, ""};
  }
  if (const auto it = s.options.find("memory_budget"); it != s.options.end() && it->is_number_integer())
    s.budget = it->get<int64_t>();
  s.memory = MeasureMemory(p, kMaxSamples, kLargest);
  for (PlanPoint& point : s.curve) {
    if (!point.chosen) continue;
    point.peak_bytes = s.memory.peak_bytes();  // the program itself, as it was laid out
    s.chosen = &point;
  }
  s.map = DrawArena(p, kMaxRectangles);

  std::string page(assets::kPage);
  KeepIf(&page, "arena", !s.map.storages.empty());
  KeepIf(&page, "curve", s.curve.size() > 1);
  KeepIf(&page, "samples", !s.memory.samples.empty());
  const Parts parts = {
      {"title", Escape(p.name)},
      {"policy", fmt::format("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src '{}'",
                             PolicyHash(assets::kScript))},
      {"style", std::string(assets::kStyle)},
      {"script", std::string(assets::kScript)},
      {"data", ScriptJson(report::Data(p, s.curve, s.budget, s.memory, s.map))},
      {"lede", Lede(s)},
      {"tiles", Tiles(s)},
      {"facts", Facts(s)},
      {"peak", PeakBar(s)},
      {"memory", MemoryText(s)},
      {"largest", LargestTable(s)},
      {"map", MapText(s)},
      {"curve", CurveText(s)},
      {"curve-table", CurveTable(s)},
      {"collectives", CollectivesSection(s)},
      {"gathered", GatheredSection(s)},
      {"compiler", Escape(p.compiler)},
  };
  return FillPage(page, parts);
}

}  // namespace autospc
