// autospc-opt: runs passes on a graph in its text form, in the order in which their flags are given.
#include <fmt/ranges.h>

#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "codegen/register_passes.h"
#include "compiler/autodiff/check_shapes.h"
#include "compiler/import/check_calls.h"
#include "passes/framework/manager.h"
#include "passes/ir/parser.h"
#include "passes/ir/printer.h"
#include "passes/ir/verifier.h"
#include "passes/tile/tile.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/package/micro_batches.h"

namespace autospc::cli {
namespace {

constexpr int64_t kMaxText = int64_t{4} << 30;  // bytes of a text that is read
constexpr int64_t kMaxConstant = int64_t{4} << 30;

po::options_description Options(const PassContext& defaults) {
  po::options_description options;
  auto add = options.add_options();
  add("help,h", "this text");
  add("list", "all passes, a line each");
  add("output,o", po::value<std::string>()->default_value("-"), "where the graph goes; - is standard output");
  add("verify-only", "read and verify; print nothing");
  add("ranks", po::value<int64_t>()->default_value(defaults.ranks), "ranks P");
  add("mesh", po::value<std::string>(), "dp=N,sp=N instead of --ranks: the batch over N ranks, the sequence over N");
  add("strategy", po::value<std::string>()->default_value(defaults.strategy), "ulysses or allgather-kv");
  add("strict", "an op without partition rule is an error");
  add("dtype", po::value<std::string>()->default_value(defaults.dtype), "bf16 for --mixed-precision");
  add("optimizer", po::value<std::string>()->default_value(defaults.optimizer), "none, sgd or adamw");
  add("accumulate", po::value<int64_t>()->default_value(defaults.micro_batches), "micro-batches of a step");
  add("clip-norm", po::value<double>()->default_value(defaults.clip_norm), "gradient norm; 0: no clipping");
  add("weight-decay", po::value<double>()->default_value(defaults.weight_decay), "below 0: the optimiser's own");
  add("no-decay", po::value<std::vector<std::string>>()->composing(), "regular expression: parameters without decay");
  add("bucket-bytes", po::value<std::string>()->default_value(std::to_string(defaults.bucket_bytes)),
      "gradients reduced together; 0: by the model's size");
  add("zero", po::value<int>()->default_value(defaults.zero), "stage of ZeRO: 0, 1 or 2");
  add("tile-level", po::value<int64_t>()->default_value(defaults.tile_level),
      "how far --tile goes: 0 not at all, 1 losses, 2 MLPs too, 3 smaller tiles");
  add("memory-budget", po::value<std::string>()->default_value(std::to_string(defaults.memory_budget)),
      "bytes a rank for --recompute; 0: no limit");
  add("recompute-rule", po::value<std::string>()->default_value(defaults.recompute),
      "of --recompute: auto, none, full, layers or autosp");
  add("constants", po::value<std::string>(), "folder of NAME.bin: raw bytes of the constant inputs");
  add("print-ir-after", po::value<std::vector<std::string>>()->composing(), "PASS or all: the graph to stderr");
  add("dump-dir", po::value<std::string>(), "folder for the graph after each pass");
  add("time-passes", "milliseconds and nodes of each pass, to stderr");
  add("notes", "what the passes report, to stderr");
  return options;
}

// The program's own options: not those that are passes.
std::string Help(const po::options_description& options, const PassRegistry& registry) {
  std::string text =
      "autospc-opt [FLAG...] [--PASS...] FILE.ir     (- reads standard input)\n"
      "Runs passes on a graph in text form, in the order given, verifies after each, prints the result.\n\n";
  text += Describe(options);
  text += "\npasses (--list explains them):";
  size_t column = 80;
  for (const PassInfo& pass : registry.all()) {
    if (column + pass.name.size() + 3 > 78) {
      text += "\n ";
      column = 1;
    }
    text += " --" + pass.name;
    column += pass.name.size() + 3;
  }
  return text +
         "\n\nexample: autospc-opt --simplify --recognise-attention --print-ir-after simplify model.ir -o out.ir\n";
}

Result<std::string> ReadText(const std::string& path) {
  if (path != "-") return ReadFile(path, kMaxText);
  return std::string(std::istreambuf_iterator<char>(std::cin), {});
}

Status WriteText(const std::string& path, std::string_view text) {
  if (path != "-") return WriteFileAtomically(path, text);
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return Ok();
  return Error{Code::kFailed, "cannot write to standard output", "", ""};
}

Result<PassContext> MakeContext(const Flags& flags) {
  PassContext context;
  ASSIGN_OR_RETURN(const int64_t ranks, InRange("--ranks", flags.Get<int64_t>("ranks"), 1, 1 << 16));
  context.ranks = static_cast<int>(ranks);
  if (flags.Has("mesh")) {
    ASSIGN_OR_RETURN(const Mesh mesh, ParseMesh(flags.Get<std::string>("mesh")));
    context.ranks = mesh.ranks();
    context.dp = mesh.dp;
  }
  ASSIGN_OR_RETURN(context.strategy,
                   OneOf("--strategy", flags.Get<std::string>("strategy"), {"ulysses", "allgather-kv"}));
  ASSIGN_OR_RETURN(context.optimizer,
                   OneOf("--optimizer", flags.Get<std::string>("optimizer"), {"none", "sgd", "adamw"}));
  ASSIGN_OR_RETURN(context.bucket_bytes, Bytes("--bucket-bytes", flags.Get<std::string>("bucket-bytes")));
  ASSIGN_OR_RETURN(const int64_t tile_level,
                   InRange("--tile-level", flags.Get<int64_t>("tile-level"), 0, tile::kMaxTileLevel));
  context.tile_level = static_cast<int>(tile_level);
  ASSIGN_OR_RETURN(context.zero, InRange("--zero", flags.Get<int>("zero"), 0, 2));
  ASSIGN_OR_RETURN(context.memory_budget, Bytes("--memory-budget", flags.Get<std::string>("memory-budget")));
  ASSIGN_OR_RETURN(context.recompute, OneOf("--recompute-rule", flags.Get<std::string>("recompute-rule"),
                                            {"auto", "none", "full", "layers", "autosp"}));
  ASSIGN_OR_RETURN(context.dtype, OneOf("--dtype", flags.Get<std::string>("dtype"), {"", "bf16"}));
  context.strict = flags.Has("strict");
  ASSIGN_OR_RETURN(const int64_t micro_batches, InRange("--accumulate", flags.Get<int64_t>("accumulate"), 1, kMaxMicroBatches));
  context.micro_batches = static_cast<int>(micro_batches);
  ASSIGN_OR_RETURN(context.clip_norm, Finite("--clip-norm", flags.Get<double>("clip-norm")));
  ASSIGN_OR_RETURN(context.weight_decay, Finite("--weight-decay", flags.Get<double>("weight-decay")));
  if (flags.Has("no-decay")) context.no_decay = flags.Get<std::vector<std::string>>("no-decay");
  if (flags.Has("constants")) {
    context.constants =
        [folder = flags.Get<std::string>("constants")](const std::string& name) -> Result<std::vector<uint8_t>> {
      ASSIGN_OR_RETURN(const std::string bytes, ReadFile(folder + "/" + name + ".bin", kMaxConstant));
      return std::vector<uint8_t>(bytes.begin(), bytes.end());
    };
  }
  return context;
}

void PrintNotes(const PassContext& context) {
  for (const Note& note : context.notes) {
    fmt::print(stderr, "note: {}: {}{} ({} bytes, {} FLOPs)\n", note.what, note.why,
               note.source.empty() ? "" : " at " + note.source, note.bytes, note.flops);
  }
}

// What main does once there is a registry.
Status Run(const PassRegistry& registry, const std::vector<std::string>& arguments) {
  const po::options_description own = Options({});
  po::options_description all;
  all.add(own);
  for (const PassInfo& pass : registry.all()) {
    // A value of no tokens: a pass may be given several times, which boost refuses to plain switches.
    all.add_options()(pass.name.c_str(), po::value<std::vector<std::string>>()->zero_tokens()->composing(),
                      pass.summary.c_str());
  }
  all.add_options()("input", po::value<std::string>());
  po::positional_options_description positional;
  positional.add("input", 1);
  ASSIGN_OR_RETURN(const Flags flags, ParseFlags("autospc-opt", arguments, all, positional));
  if (flags.Has("help")) {
    fmt::print("{}", Help(own, registry));
    return Ok();
  }
  if (flags.Has("list")) {
    for (const PassInfo& pass : registry.all()) fmt::print("--{:<26} {}\n", pass.name, pass.summary);
    return Ok();
  }
  if (!flags.Has("input"))
    return Error{Code::kUsage, "no input file is given", "", "autospc-opt --help shows an example"};
  ASSIGN_OR_RETURN(PassContext context, MakeContext(flags));

  PassManagerOptions options;
  if (flags.Has("print-ir-after")) options.print_after = flags.Get<std::vector<std::string>>("print-ir-after");
  std::vector<std::string> known = {"all"};
  for (const PassInfo& pass : registry.all()) known.push_back(pass.name);
  for (const std::string& name : options.print_after) RETURN_IF_ERROR(OneOf("--print-ir-after", name, known));
  if (flags.Has("dump-dir")) options.dump_dir = flags.Get<std::string>("dump-dir");
  std::vector<std::string> passes;
  for (const std::string& flag : flags.order) {
    if (registry.Find(flag)) passes.push_back(flag);
  }

  const std::string& input = flags.Get<std::string>("input");
  ASSIGN_OR_RETURN(const std::string text, ReadText(input));
  ASSIGN_OR_RETURN(ir::Graph graph, ir::Parse(text, input));
  for (const auto verify : {&ir::Verify, &import::WrongCalls, &ir::VerifyPlacements}) {
    const std::vector<std::string> violations = verify(graph);
    if (violations.empty()) continue;
    return Error{Code::kBadInput, fmt::format("the graph is not valid: {}", fmt::join(violations, "\n  ")), input, ""};
  }
  RETURN_IF_ERROR(autodiff::CheckShapes(graph, autodiff::Refused::kAnError));
  if (flags.Has("verify-only")) return Ok();

  PassManager manager(registry, options);
  const Status ran = manager.Run(graph, context, passes);
  if (flags.Has("time-passes")) fmt::print(stderr, "{}", manager.TimingTable());
  if (flags.Has("notes")) PrintNotes(context);
  RETURN_IF_ERROR(ran);
  return WriteText(flags.Get<std::string>("output"), ir::Print(graph));
}

}  // namespace
}  // namespace autospc::cli

int main(int argc, char** argv) {
  autospc::SetLogOptions(autospc::DefaultLogOptions());
  autospc::PassRegistry registry;
  autospc::RegisterAllPasses(registry);
  return autospc::cli::Guarded([&] {
    const autospc::Status done = autospc::cli::Run(registry, autospc::cli::Arguments(argc, argv));
    return done.ok() ? 0 : autospc::cli::Fail(done.error());
  });
}
