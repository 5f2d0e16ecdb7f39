#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "codegen/rates.h"
#include "compiler/planner.h"
#include "compiler/text_table.h"
#include "runtime/base/bytes.h"
#include "runtime/base/json_text.h"

namespace autospc {
namespace {

using codegen::kKindNames;
using nlohmann::json;

std::string Ranks(const Mesh& mesh) {
  if (mesh.dp > 1) return fmt::format("dp={},sp={}", mesh.dp, mesh.sp);
  return fmt::format("{} rank{}", mesh.sp, mesh.sp == 1 ? "" : "s");
}

// "3,712,000"
std::string Grouped(int64_t n) {
  std::string text = std::to_string(n);
  for (size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, ",");
  return text;
}

std::string Seconds(double seconds) {
  if (seconds >= 100) return fmt::format("{:.0f} s", seconds);
  if (seconds >= 0.1) return fmt::format("{:.2f} s", seconds);
  return fmt::format("{:.2f} ms", seconds * 1e3);
}

double TokensPerSecond(const Trial& trial) {
  const double seconds = trial.cost.total.seconds;
  return seconds > 0 ? static_cast<double>(trial.seq_len * trial.batch * trial.micro_batches) / seconds : 0;
}

// The trial that stands for a row: the chosen one, or the smallest of those that don't fit; null where there is none.
const Trial* TrialOf(const PlanRow& row) {
  if (row.longest) return row.longest->best ? &*row.longest->best : row.longest->too_long ? &*row.longest->too_long : nullptr;
  if (row.chosen >= 0) return &row.settings[row.chosen];
  const auto least = std::min_element(row.settings.begin(), row.settings.end(), [](const Trial& a, const Trial& b) {
    return a.memory.total_bytes() < b.memory.total_bytes();
  });
  return least == row.settings.end() ? nullptr : &*least;
}

// The candidates that no other beats in both memory and time, by falling memory; the chosen one stays in any case.
std::vector<PlanPoint> FrontierPoints(const std::vector<PlanPoint>& curve) {
  std::vector<PlanPoint> points = curve, frontier;
  std::stable_sort(points.begin(), points.end(), [](const PlanPoint& a, const PlanPoint& b) {
    return a.peak_bytes != b.peak_bytes ? a.peak_bytes < b.peak_bytes : a.seconds < b.seconds;
  });
  double best = INFINITY;
  for (const PlanPoint& p : points) {
    if (p.seconds < best || p.chosen) frontier.push_back(p);
    best = std::min(best, p.seconds);
  }
  std::reverse(frontier.begin(), frontier.end());
  return frontier;
}

json MemoryJson(const codegen::MemoryReport& memory) {
  json root;
  for (size_t i = 0; i < kKindNames.size(); ++i) root[kKindNames[i]] = memory.by_kind[i];
  root["persistent"] = memory.persistent_bytes;
  root["arena"] = memory.arena_bytes;
  root["live_at_peak"] = memory.live_bytes;
  root["total"] = memory.total_bytes();
  return root;
}

json TrialJson(const Trial& trial, bool details) {
  json root = {{"ranks", trial.setting.ranks}, {"dp", trial.setting.dp}, {"seq_len", trial.seq_len},         {"batch", trial.batch},
               {"fits", trial.fits},           {"zero", trial.setting.zero},       {"recompute", trial.chosen},
               {"tile", trial.setting.tile},   {"memory", MemoryJson(trial.memory)}, {"peak", trial.memory.total_bytes()}};
  const codegen::NodeCost& cost = trial.cost.total;
  root["seconds"] = cost.seconds;
  root["flops"] = cost.flops;
  root["bytes_moved"] = cost.bytes_moved;
  root["bytes_sent"] = cost.bytes_sent;
  root["tokens_per_second"] = TokensPerSecond(trial);
  if (trial.why) root["error"] = trial.why->what;
  if (!details) return root;
  root["ops"] = json::array();
  for (const auto& [op, sum] : trial.cost.by_op) {
    root["ops"].push_back({{"op", op}, {"kind", codegen::Name(sum.kind)}, {"count", sum.count}, {"seconds", sum.cost.seconds},
                           {"flops", sum.cost.flops}, {"bytes_moved", sum.cost.bytes_moved}, {"bytes_sent", sum.cost.bytes_sent}});
  }
  root["curve"] = json::array();
  for (const PlanPoint& p : trial.curve) {
    root["curve"].push_back({{"label", p.label}, {"peak", p.peak_bytes}, {"arena", p.arena_bytes}, {"seconds", p.seconds},
                             {"recompute_seconds", p.recompute_seconds}, {"chosen", p.chosen}});
  }
  return root;
}

json RowJson(const PlanRow& row) {
  const Trial* trial = TrialOf(row);
  json root = trial ? TrialJson(*trial, true) : json::object();
  root["ranks"] = row.mesh.ranks();
  root["dp"] = row.mesh.dp;
  root["fits"] = trial != nullptr && trial->fits;
  if (!row.longest) {
    root["settings"] = json::array();
    for (const Trial& t : row.settings) root["settings"].push_back(TrialJson(t, false));
    return root;
  }
  root["step"] = row.longest->step;
  root["trials"] = row.longest->trials;
  root["limit"] = row.longest->limit;
  if (row.longest->too_long) {
    const Trial& t = *row.longest->too_long;
    root["too_long"] = {{"seq_len", t.seq_len}, {"peak", t.memory.total_bytes()}};
  }
  return root;
}

std::string Assumptions(const Plan& plan) {
  return fmt::format("times by the rates of {}: {}", plan.machine, codegen::RatesOf(plan.machine).source);
}

json PlanJson(const Plan& plan) {
  json root = {{"model", plan.model},   {"strategy", plan.strategy}, {"optimizer", plan.optimizer},
               {"machine", plan.machine}, {"assumptions", Assumptions(plan)}, {"trials", plan.trials},
               {"seconds", plan.seconds}};
  root["budget"] = plan.budget > 0 ? json(plan.budget) : json();
  root["seq_len"] = plan.seq_len ? json(*plan.seq_len) : json();
  root["rows"] = json::array();
  for (const PlanRow& row : plan.rows) root["rows"].push_back(RowJson(row));
  root["cheapest"] = plan.cheapest >= 0 ? TrialJson(*TrialOf(plan.rows[plan.cheapest]), false) : json();
  return root;
}

class Text {
 public:
  explicit Text(const Plan& plan) : plan_(plan) {}

  std::string Run() {
    const std::string budget = plan_.budget > 0 ? fmt::format(", {} a rank", FormatBytes(plan_.budget)) : "";
    const Trial* any = plan_.rows.empty() ? nullptr : TrialOf(plan_.rows[0]);
    const std::string times = any && any->micro_batches > 1 ? fmt::format(" x {}", any->micro_batches) : "";
    Line("{}: batch {}{}, strategy {}, optimizer {}{}", plan_.model, any ? any->batch : 0, times, plan_.strategy, plan_.optimizer, budget);
    Wrapped(Assumptions(plan_));
    Rows();
    Memory();
    for (const PlanRow& row : plan_.rows) {
      if (row.longest) Limit(row);
      else Curve(row);
    }
    Cheapest();
    Line("\n{} programs compiled in {}", plan_.trials, Seconds(plan_.seconds));
    return out_;
  }

 private:
  template <typename... Args>
  void Line(fmt::format_string<Args...> format, Args&&... args) {
    std::string line = fmt::format(format, std::forward<Args>(args)...);
    const size_t newline = line.starts_with('\n');  // an empty line before it is no column
    out_ += Clip(line, kTextWidth + newline) + "\n";
  }

  // Indented by two, and what goes on in the next line by two more than the first.
  void Wrapped(std::string text) {
    const size_t indent = text.find_first_not_of(' ') == text.npos ? 0 : text.find_first_not_of(' ');
    while (text.size() > kTextWidth - 2) {
      const size_t at = text.rfind(' ', kTextWidth - 2);
      if (at == text.npos || at <= indent + 2) break;
      Line("  {}", text.substr(0, at));
      text.replace(0, at + 1, std::string(indent + 2, ' '));
    }
    Line("  {}", text);
  }

  void Rows() {
    const bool search = !plan_.seq_len;
    Line("\n{:>5} {:>11} {:>10} {:>9} {:>11} {:>10} {:>8}  {}", "ranks", search ? "longest" : "tokens", "a rank", "a step",
         "a rank", "sent", "tokens/s", "how");
    for (const PlanRow& row : plan_.rows) {
      const Trial* t = TrialOf(row);
      if (t == nullptr) continue;
      if (!t->fits) {
        Line("{:>5} {:>11} {:>10}  does not fit{}", row.mesh.ranks(), search ? "-" : Grouped(t->seq_len), FormatBytes(t->memory.total_bytes()),
             search ? fmt::format(", not even {} tokens", Grouped(t->seq_len)) : "");
        continue;
      }
      const std::string how = (t->setting.dp > 1 ? fmt::format("dp {}, ", t->setting.dp) : "") +
                              (t->setting.zero > 0 ? fmt::format("ZeRO {}, ", t->setting.zero) : "") +
                              (t->chosen == "none" ? "saves all" : t->chosen);
      Line("{:>5} {:>11} {:>10} {:>9} {:>11} {:>10} {:>8}  {}", row.mesh.ranks(), Grouped(t->seq_len), FormatBytes(t->memory.total_bytes()),
           Seconds(t->cost.total.seconds), FormatFlops(t->cost.total.flops), FormatBytes(std::llround(t->cost.total.bytes_sent)),
           fmt::format("{:.3g}", TokensPerSecond(*t)), how);
    }
  }

  void Memory() {
    Line("\nMemory of a rank by kind, the arena's as it is at its peak");
    std::vector<size_t> kinds;
    for (size_t k = 0; k < kKindNames.size(); ++k) {
      for (const PlanRow& row : plan_.rows) {
        const Trial* t = TrialOf(row);
        if (t == nullptr || t->memory.by_kind[k] == 0) continue;
        kinds.push_back(k);
        break;
      }
    }
    std::string head = fmt::format("{:>5}", "ranks");
    for (size_t k : kinds) head += fmt::format(" {:>{}}", kKindNames[k], Width(k));
    Line("{} {:>11}", head, "arena");
    for (const PlanRow& row : plan_.rows) {
      const Trial* t = TrialOf(row);
      if (t == nullptr) continue;
      std::string line = fmt::format("{:>5}", row.mesh.ranks());
      for (size_t k : kinds) line += fmt::format(" {:>{}}", FormatBytes(t->memory.by_kind[k]), Width(k));
      Line("{} {:>11}", line, FormatBytes(t->memory.arena_bytes));
    }
  }

  static size_t Width(size_t kind) { return std::max<size_t>(10, std::string_view(kKindNames[kind]).size()); }

  void Limit(const PlanRow& row) {
    const Longest& longest = *row.longest;
    if (longest.best && !longest.limit.empty()) {
      Line("\n{}: no longer because of the export, not of memory:", Ranks(row.mesh));
      Wrapped(longest.limit);
    } else if (longest.best && longest.too_long) {
      Line("\n{}: {} tokens need {} at the least ({} compiled; told apart by {})", Ranks(row.mesh),
           Grouped(longest.too_long->seq_len), FormatBytes(longest.too_long->memory.total_bytes()), longest.trials, Grouped(longest.step));
    } else if (longest.too_long && longest.too_long->why) {
      Line("\n{}:", Ranks(row.mesh));
      Indented(longest.too_long->why->what);
    }
  }

  void Curve(const PlanRow& row) {
    const Trial* t = TrialOf(row);
    if (t == nullptr) return;
    if (!t->fits && t->why) {
      Line("\n{}:", Ranks(row.mesh));
      Indented(t->why->what);
      return;
    }
    if (row.settings.size() > 1) {
      Line("\n{}, by level of ZeRO", Ranks(row.mesh));
      for (const Trial& s : row.settings) {
        Line("  ZeRO {} {:>11} {:>10}  {}{}", s.setting.zero, FormatBytes(s.memory.total_bytes()), Seconds(s.cost.total.seconds),
             s.fits ? s.chosen : "does not fit", &s == t ? "  <- cheapest" : "");
      }
    }
    if (t->curve.size() < 2) return;
    Line("\n{}, time against memory: {} candidates, those that no other beats", Ranks(row.mesh), t->curve.size());
    for (const PlanPoint& p : FrontierPoints(t->curve)) {
      Line("  {:>11} {:>10} {:>10} again  {}{}", FormatBytes(p.peak_bytes), Seconds(p.seconds), Seconds(p.recompute_seconds), p.label,
           p.chosen ? "  <- chosen" : "");
    }
  }

  void Cheapest() {
    if (!plan_.seq_len) return;
    if (plan_.cheapest < 0) {
      Line("\nNone of these counts of ranks fits.");
      return;
    }
    const Trial& t = *TrialOf(plan_.rows[plan_.cheapest]);
    Line("\nCheapest by ranks times seconds: {} --seq-len {} --zero {} --recompute {} --tile {}{}", t.setting.RanksFlag(), t.seq_len,
         t.setting.zero, t.setting.recompute, t.setting.tile,
         plan_.budget > 0 ? fmt::format(" --memory-budget {}", plan_.budget) : "");
  }

  // Lines of an error.
  void Indented(const std::string& text) {
    size_t at = 0;
    while (at <= text.size()) {
      const size_t end = std::min(text.find('\n', at), text.size());
      Wrapped(text.substr(at, end - at));
      at = end + 1;
    }
  }

  const Plan& plan_;
  std::string out_;
};

}  // namespace

std::string DescribePlan(const Plan& plan, bool as_json) { return as_json ? JsonText(PlanJson(plan), 1) + "\n" : Text(plan).Run(); }

}  // namespace autospc
