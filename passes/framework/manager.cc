#include "passes/framework/manager.h"

#include <stdlib.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "passes/ir/printer.h"
#include "passes/ir/verifier.h"
#include "runtime/base/files.h"
#include "runtime/base/stopwatch.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;

Status MakeFolder(const fs::path& folder) {
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (!failed) return Ok();
  return Error{Code::kUsage, fmt::format("cannot make the folder '{}': {}", folder.string(), failed.message()), "", ""};
}

// In single quotes where a shell would take the text apart.
std::string ShellQuote(std::string_view text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-./,:=+").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// Passes read arguments by position and throw where a node lacks them, as one in a text may: importers hold nodes to
// schemas.
Result<bool> RunOne(const PassInfo& pass, ir::Graph& graph, PassContext& context) {
  try {
    return pass.run(graph, context);
  } catch (const std::out_of_range& e) {
    return Error{Code::kFailed, fmt::format("pass '{}' misses an argument of a node: {}", pass.name, e.what()),
                 graph.name, "do the nodes have their ops' arguments? Else it is a bug of the compiler"};
  }
}

}  // namespace

std::vector<std::string> FlagsOf(const PassContext& context) {
  const PassContext defaults;
  std::vector<std::string> flags;
  const auto add = [&](const char* flag, const auto& value, const auto& usual) {
    if (value == usual) return;
    flags.push_back(flag);
    flags.push_back(fmt::format("{}", value));
  };
  add("--ranks", context.ranks, defaults.ranks);
  if (context.dp > 1) add("--mesh", fmt::format("dp={},sp={}", context.dp, context.ranks / context.dp), std::string());
  add("--strategy", context.strategy, defaults.strategy);
  if (context.strict) flags.push_back("--strict");
  add("--optimizer", context.optimizer, defaults.optimizer);
  add("--accumulate", context.micro_batches, defaults.micro_batches);
  add("--clip-norm", context.clip_norm, defaults.clip_norm);
  add("--weight-decay", context.weight_decay, defaults.weight_decay);
  for (const std::string& pattern : context.no_decay) add("--no-decay", pattern, std::string());
  add("--bucket-bytes", context.bucket_bytes, defaults.bucket_bytes);
  add("--zero", context.zero, defaults.zero);
  add("--tile-level", context.tile_level, defaults.tile_level);
  add("--memory-budget", context.memory_budget, defaults.memory_budget);
  add("--recompute-rule", context.recompute, defaults.recompute);
  return flags;
}

PassManager::PassManager(const PassRegistry& registry, PassManagerOptions options)
    : registry_(registry), options_(std::move(options)) {
  if (!options_.print) options_.print = [](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); };
}

Status PassManager::Run(ir::Graph& graph, PassContext& context, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (registry_.Find(name)) continue;
    return Error{Code::kUsage, fmt::format("there is no pass '{}'", name), "", "autospc-opt --list shows all passes"};
  }
  if (!options_.dump_dir.empty() && dumped_ == 0) RETURN_IF_ERROR(Dump(graph, "input"));
  for (const std::string& name : names) {
    const ir::Graph before = graph;
    const Stopwatch watch;
    const Result<bool> changed = RunOne(*registry_.Find(name), graph, context);
    const double milliseconds = watch.Milliseconds();
    if (!changed.ok()) return Reproduce(before, context, name, changed.error());
    Status observed = Observe(graph, name, milliseconds, *changed);
    if (!observed.ok()) return Reproduce(before, context, name, observed.error());
  }
  return Ok();
}

Status PassManager::RunUnseen(ir::Graph& graph, PassContext& context, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const PassInfo* pass = registry_.Find(name);
    if (!pass)
      return Error{Code::kUsage, fmt::format("there is no pass '{}'", name), "", "autospc-opt --list shows all passes"};
    const Stopwatch watch;
    ASSIGN_OR_RETURN(const bool changed, RunOne(*pass, graph, context));
    timings_.push_back({name, watch.Milliseconds(), 0, static_cast<int>(graph.nodes().size()), changed});
  }
  return Ok();
}

Status PassManager::Observe(const ir::Graph& graph, std::string_view phase, double milliseconds, bool changed) {
  const std::vector<std::string>& wanted = options_.print_after;
  const bool print =
      std::any_of(wanted.begin(), wanted.end(), [&](const std::string& w) { return w == "all" || w == phase; });
  if (print) options_.print(fmt::format("# after {}\n{}", phase, ir::Print(graph)));
  if (!options_.dump_dir.empty()) RETURN_IF_ERROR(Dump(graph, phase));
  const Stopwatch watch;
  std::vector<std::string> violations = ir::Verify(graph);
  if (violations.empty() && options_.verify_placements) violations = ir::VerifyPlacements(graph);
  timings_.push_back(
      {std::string(phase), milliseconds, watch.Milliseconds(), static_cast<int>(graph.nodes().size()), changed});
  return ir::ViolationsToStatus(violations, phase);
}

Status PassManager::Dump(const ir::Graph& graph, std::string_view phase) {
  RETURN_IF_ERROR(MakeFolder(options_.dump_dir));
  const std::string file = fmt::format("{:02}-{}.ir", dumped_++, phase);
  return WriteFileAtomically((fs::path(options_.dump_dir) / file).string(), ir::Print(graph), /*durable=*/false);
}

Error PassManager::Reproduce(const ir::Graph& before, const PassContext& context, std::string_view pass,
                             Error error) const {
  fs::path folder = options_.dump_dir;
  if (folder.empty()) {
    if (error.code != Code::kFailed) return error;
    std::error_code failed;
    std::string pattern = (fs::temp_directory_path(failed) / "autospc-XXXXXX").string();
    if (failed || !mkdtemp(pattern.data())) return error;  // the first error matters more
    folder = pattern;
  }
  const fs::path graph_file = folder / fmt::format("before-{}.ir", pass);
  std::string command = "autospc-opt";
  for (const std::string& flag : FlagsOf(context)) command += " " + ShellQuote(flag);
  command += fmt::format(" --{} {}", pass, ShellQuote(graph_file.string()));
  const std::string text = fmt::format("# RUN: {}\n{}", command, ir::Print(before));
  if (!WriteFileAtomically(graph_file.string(), text, /*durable=*/false).ok()) return error;
  if (!error.hint.empty()) error.hint += "; ";
  error.hint += fmt::format("to run the pass again: {}", command);
  return error;
}

std::string PassManager::TimingTable() const {
  std::string table = fmt::format("{:<28} {:>10} {:>10} {:>8}\n", "pass", "ms", "verify ms", "nodes");
  double sum = 0, verify = 0;
  for (const PassTiming& t : timings_) {
    table += fmt::format("{:<28} {:>10.2f} {:>10.2f} {:>8}{}\n", t.name, t.milliseconds, t.verify_milliseconds, t.nodes,
                         t.changed ? "" : "  unchanged");
    sum += t.milliseconds;
    verify += t.verify_milliseconds;
  }
  return table + fmt::format("{:<28} {:>10.2f} {:>10.2f}\n", "all", sum, verify);
}

}  // namespace autospc
