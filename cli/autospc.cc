// autospc compile MODEL -o OUT …, autospc inspect PACKAGE|MODEL.
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/ostream.h>

#include "cli/flags.h"
#include "compiler/driver.h"
#include "compiler/inspect.h"
#include "runtime/base/bytes.h"
#include "runtime/package/oci.h"

namespace {

using namespace std::string_literals;
using autospc::Code;
using autospc::Error;
using autospc::Result;
using autospc::Status;
namespace cli = autospc::cli;
namespace po = boost::program_options;

constexpr char kHelp[] =
    "autospc " AUTOSPC_VERSION ": an exported PyTorch model becomes a sequence-parallel training program.\n"
    "\n"
    "  autospc compile MODEL.pt2 -o OUT --ranks P --seq-len S   make a package for P ranks\n"
    "  autospc inspect PACKAGE|MODEL.pt2 [--json]               say what it is, its memory and collectives\n"
    "\n"
    "autospc COMMAND --help lists a command's flags. A package is run by autosp-run.\n";

po::options_description CompileFlags() {
  po::options_description flags("Flags");
  auto add = flags.add_options();
  add("model", po::value<std::string>(), "the export, MODEL.pt2 (positional)");
  add("output,o", po::value<std::string>(), "the package to write, a folder");
  add("force", "replace an existing package");
  add("ranks", po::value<int64_t>()->default_value(1), "number of ranks");
  add("seq-len", po::value<int64_t>(), "length of the sequence, where the export leaves it open");
  add("batch", po::value<int64_t>(), "batch size, where the export leaves it open");
  add("shard", po::value<std::vector<std::string>>()->composing(), "INPUT:DIM is the sequence");
  add("loss", po::value<std::string>()->default_value(""), "which scalar output is the loss");
  add("strategy", po::value<std::string>()->default_value("ulysses"), "ulysses or allgather-kv");
  add("strict", "an op without partition rule is an error");
  add("optimizer", po::value<std::string>()->default_value("none"), "none, sgd or adamw");
  add("clip-norm", po::value<double>()->default_value(0), "clip gradients to this global norm; 0: don't");
  add("weight-decay", po::value<double>()->default_value(-1), "of the optimizer; below 0: PyTorch's default");
  add("weights", po::value<std::string>()->default_value(""), "parameters from safetensors, a file or a folder");
  add("weights-prefix", po::value<std::string>()->default_value(""), "prefix that the checkpoint's names lack");
  add("print-ir-after", po::value<std::vector<std::string>>()->composing(), "a pass or phase, or all: print the graph");
  add("dump-dir", po::value<std::string>()->default_value(""), "write the graph after each pass into this folder");
  add("time-passes", "say how long each pass took");
  add("help,h", "this text");
  return flags;
}

Status RunCompile(const std::vector<std::string>& arguments) {
  const po::options_description described = CompileFlags();
  po::positional_options_description positional;
  positional.add("model", 1);
  ASSIGN_OR_RETURN(const cli::Flags flags, cli::ParseFlags("autospc compile", arguments, described, positional));
  if (flags.Has("help")) {
    std::string text = "autospc compile MODEL.pt2 -o OUT --ranks 8 --seq-len 131072\n\n";
    fmt::print("{}{}", text, fmt::streamed(described));
    return autospc::Ok();
  }
  for (const char* flag : {"model", "output"}) {
    if (!flags.Has(flag)) {
      return Error{Code::kUsage, flag == "model"s ? "no model is given" : "no output is given", "",
                   "autospc compile MODEL.pt2 -o OUT --ranks 8 --seq-len 131072"};
    }
  }
  autospc::CompileOptions options;
  options.model = flags.Get<std::string>("model");
  options.loss = flags.Get<std::string>("loss");
  options.weights = flags.Get<std::string>("weights");
  options.weights_prefix = flags.Get<std::string>("weights-prefix");
  ASSIGN_OR_RETURN(const int64_t ranks, cli::InRange("--ranks", flags.Get<int64_t>("ranks"), 1, 65536));
  options.context.ranks = static_cast<int>(ranks);
  if (flags.Has("seq-len")) {
    ASSIGN_OR_RETURN(options.bindings.seq_len, cli::InRange("--seq-len", flags.Get<int64_t>("seq-len"), 1, int64_t{1} << 40));
  }
  if (flags.Has("batch")) {
    ASSIGN_OR_RETURN(options.bindings.batch, cli::InRange("--batch", flags.Get<int64_t>("batch"), 1, int64_t{1} << 40));
  }
  if (flags.Has("shard")) options.bindings.shard = flags.Get<std::vector<std::string>>("shard");
  ASSIGN_OR_RETURN(options.context.strategy, cli::OneOf("--strategy", flags.Get<std::string>("strategy"), {"ulysses", "allgather-kv"}));
  ASSIGN_OR_RETURN(options.context.optimizer, cli::OneOf("--optimizer", flags.Get<std::string>("optimizer"), {"none", "sgd", "adamw"}));
  options.context.strict = flags.Has("strict");
  options.context.clip_norm = flags.Get<double>("clip-norm");
  options.context.weight_decay = flags.Get<double>("weight-decay");
  if (flags.Has("print-ir-after")) options.passes.print_after = flags.Get<std::vector<std::string>>("print-ir-after");
  options.passes.dump_dir = flags.Get<std::string>("dump-dir");

  const std::string output = flags.Get<std::string>("output");
  const bool force = flags.Has("force");
  RETURN_IF_ERROR(autospc::CheckPackagePath(output, {force}));
  ASSIGN_OR_RETURN(const autospc::Compiled compiled, autospc::Compile(options));
  for (const std::string& warning : compiled.warnings) fmt::print(stderr, "warning: {}\n", warning);
  RETURN_IF_ERROR(autospc::WriteCompiled(compiled, output, force));
  if (flags.Has("time-passes")) {
    for (const autospc::PassTiming& t : compiled.timings) {
      fmt::print(stderr, "{:<28} {:>9.1f} ms {:>9.1f} ms verified {:>8} nodes\n", t.name, t.milliseconds, t.verify_milliseconds, t.nodes);
    }
  }
  const autospc::program::ProgramT& program = compiled.program;
  fmt::print("{}: {} ranks, sequence {}, batch {}, {}, optimizer {}: {} instructions, arena {} a rank, {} notes -> {}\n", program.name,
             program.world_size, program.seq_len, program.batch, program.strategy, program.optimizer,
             program.instructions.size(), autospc::FormatBytes(program.arena_bytes), program.notes.size(), output);
  return autospc::Ok();
}

Status RunInspect(const std::vector<std::string>& arguments) {
  po::options_description described("Flags");
  auto add = described.add_options();
  add("path", po::value<std::string>(), "a package or a .pt2 (positional)");
  add("json", "for programs");
  add("help,h", "this text");
  po::positional_options_description positional;
  positional.add("path", 1);
  ASSIGN_OR_RETURN(const cli::Flags flags, cli::ParseFlags("autospc inspect", arguments, described, positional));
  if (flags.Has("help")) {
    fmt::print("autospc inspect PACKAGE|MODEL.pt2 [--json]\n\n{}", fmt::streamed(described));
    return autospc::Ok();
  }
  if (!flags.Has("path")) return Error{Code::kUsage, "nothing to inspect is given", "", "autospc inspect PACKAGE|MODEL.pt2"};
  ASSIGN_OR_RETURN(const std::string text, autospc::Inspect(flags.Get<std::string>("path"), flags.Has("json")));
  fmt::print("{}", text);
  return autospc::Ok();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  const std::vector<std::string> arguments = cli::Arguments(argc, argv, 2);
  Status status = autospc::Ok();
  if (command == "compile") {
    status = RunCompile(arguments);
  } else if (command == "inspect") {
    status = RunInspect(arguments);
  } else if (command == "--help" || command == "-h" || command == "help") {
    fmt::print("{}", kHelp);
  } else if (command == "--version") {
    fmt::print("autospc {}\n", AUTOSPC_VERSION);
  } else {
    const std::string nearest = cli::Nearest(command, {"compile", "inspect"});
    status = Error{Code::kUsage, command.empty() ? "no command is given" : fmt::format("unknown command '{}'", command), "",
                   nearest.empty() ? "autospc --help" : fmt::format("did you mean '{}'?", nearest)};
  }
  return status.ok() ? 0 : cli::Fail(status.error());
}
