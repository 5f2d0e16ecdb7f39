// autospc compile MODEL -o OUT …, autospc plan MODEL …, autospc inspect PACKAGE|MODEL.
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/ostream.h>

#include "cli/flags.h"
#include "compiler/driver.h"
#include "compiler/inspect.h"
#include "compiler/planner.h"
#include "compiler/report.h"
#include "runtime/base/bytes.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/package/micro_batches.h"
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
    "  autospc plan MODEL.pt2 --ranks 1,8 --memory-budget 80GiB say how long a sequence each count of ranks can train\n"
    "  autospc inspect PACKAGE|MODEL.pt2 [--json]               say what it is, its memory and collectives\n"
    "\n"
    "autospc COMMAND --help lists a command's flags. A package is run by autosp-run.\n";

// What compile and plan take alike.
void AddModelFlags(po::options_description& flags) {
  auto add = flags.add_options();
  add("model", po::value<std::string>(), "the export, MODEL.pt2 (positional)");
  add("seq-len", po::value<int64_t>(), "length of the sequence, where the export leaves it open");
  add("batch", po::value<int64_t>(), "batch size, where the export leaves it open");
  add("shard", po::value<std::vector<std::string>>()->composing(), "INPUT:DIM is the sequence");
  add("loss", po::value<std::string>()->default_value(""), "which scalar output is the loss");
  add("log-output", po::value<std::vector<std::string>>()->composing(), "a further scalar output, told at each step; again for more");
  add("strategy", po::value<std::string>()->default_value("ulysses"), "ulysses or allgather-kv");
  add("strict", "an op without partition rule is an error");
  add("dtype", po::value<std::string>(), "bf16: compute a float32 export in bfloat16, with float32 master weights and reductions");
  add("optimizer", po::value<std::string>()->default_value("none"), "none, sgd or adamw");
  add("accumulate", po::value<int64_t>()->default_value(1), "micro-batches of a step; --batch is one");
  add("clip-norm", po::value<double>()->default_value(0), "of all gradients together; 0: no clipping");
  add("weight-decay", po::value<double>()->default_value(-1), "below 0: the optimizer's in PyTorch");
  add("no-decay", po::value<std::vector<std::string>>()->composing(), "regular expression: such names have none");
  add("memory-budget", po::value<std::string>(), "bytes a rank may hold, 80GiB; what is kept and what runs again follows from it");
  add("recompute", po::value<std::string>()->default_value("auto"), "auto, or the rules of others: none, full, layers, autosp");
  add("tile", po::value<std::string>()->default_value("auto"), "auto or off: tiles along the sequence");
  add("zero", po::value<std::string>()->default_value("0"), "shard over ranks: 1 optimizer states, 2 gradients too; auto");
  add("device", po::value<std::string>()->default_value("cpu"), "whose kernels run it: cpu or cuda");
  add("machine", po::value<std::string>()->default_value("", "cpu, h100 for cuda"), "whose rates estimate time: cpu or h100");
}

Status ReadModelFlags(const cli::Flags& flags, autospc::CompileOptions* options) {
  options->model = flags.Get<std::string>("model");
  options->loss = flags.Get<std::string>("loss");
  if (flags.Has("log-output")) options->log_outputs = flags.Get<std::vector<std::string>>("log-output");
  if (flags.Has("seq-len")) {
    ASSIGN_OR_RETURN(options->bindings.seq_len, cli::InRange("--seq-len", flags.Get<int64_t>("seq-len"), 1, int64_t{1} << 40));
  }
  if (flags.Has("batch")) {
    ASSIGN_OR_RETURN(options->bindings.batch, cli::InRange("--batch", flags.Get<int64_t>("batch"), 1, int64_t{1} << 40));
  }
  if (flags.Has("shard")) options->bindings.shard = flags.Get<std::vector<std::string>>("shard");
  autospc::PassContext& context = options->context;
  ASSIGN_OR_RETURN(context.strategy, cli::OneOf("--strategy", flags.Get<std::string>("strategy"), {"ulysses", "allgather-kv"}));
  ASSIGN_OR_RETURN(context.optimizer, cli::OneOf("--optimizer", flags.Get<std::string>("optimizer"), {"none", "sgd", "adamw"}));
  if (flags.Has("dtype")) {
    RETURN_IF_ERROR(cli::OneOf("--dtype", flags.Get<std::string>("dtype"), {"bf16", "bfloat16"}));
    context.dtype = "bf16";
  }
  context.strict = flags.Has("strict");
  ASSIGN_OR_RETURN(const int64_t micro_batches, cli::InRange("--accumulate", flags.Get<int64_t>("accumulate"), 1, autospc::kMaxMicroBatches));
  context.micro_batches = static_cast<int>(micro_batches);
  ASSIGN_OR_RETURN(context.clip_norm, cli::Finite("--clip-norm", flags.Get<double>("clip-norm")));
  ASSIGN_OR_RETURN(context.weight_decay, cli::Finite("--weight-decay", flags.Get<double>("weight-decay")));
  if (flags.Has("no-decay")) context.no_decay = flags.Get<std::vector<std::string>>("no-decay");
  if (flags.Has("memory-budget")) {
    ASSIGN_OR_RETURN(context.memory_budget, cli::Bytes("--memory-budget", flags.Get<std::string>("memory-budget")));
    if (context.memory_budget == 0) return Error{Code::kUsage, "--memory-budget 0 holds nothing", "", "leave it out for no limit"};
  }
  ASSIGN_OR_RETURN(context.recompute,
                   cli::OneOf("--recompute", flags.Get<std::string>("recompute"), {"auto", "none", "full", "layers", "autosp"}));
  ASSIGN_OR_RETURN(context.tile, cli::OneOf("--tile", flags.Get<std::string>("tile"), {"auto", "off"}));
  ASSIGN_OR_RETURN(const std::string zero, cli::OneOf("--zero", flags.Get<std::string>("zero"), {"0", "1", "2", "auto"}));
  context.zero = zero == "auto" ? -1 : zero[0] - '0';
  ASSIGN_OR_RETURN(options->device, cli::OneOf("--device", flags.Get<std::string>("device"), {"cpu", "cuda"}));
  const std::string machine = flags.Get<std::string>("machine");
  options->machine = options->device == "cpu" ? "cpu" : "h100";
  if (!machine.empty()) {
    ASSIGN_OR_RETURN(options->machine, cli::OneOf("--machine", machine, {"cpu", "h100"}));
  }
  return autospc::Ok();
}

po::options_description CompileFlags() {
  po::options_description flags("Flags");
  AddModelFlags(flags);
  auto add = flags.add_options();
  add("output,o", po::value<std::string>(), "the package to write, a folder");
  add("force", "replace an existing package");
  add("ranks", po::value<int64_t>()->default_value(1), "number of ranks");
  add("mesh", po::value<std::string>(), "dp=N,sp=N: the batch over N ranks beside the sequence over N; ranks are their product");
  add("weights", po::value<std::string>()->default_value(""), "parameters from safetensors, a file or a folder");
  add("weights-prefix", po::value<std::string>()->default_value(""), "prefix that the checkpoint's names lack");
  add("tie-embeddings", "the head is the embedding of its shape, a tie that an export without weights has lost");
  add("report", po::value<std::string>()->default_value(""), "also write a picture of memory and time, FILE.html");
  add("print-ir-after", po::value<std::vector<std::string>>()->composing(), "a pass or phase, or all: print the graph");
  add("dump-dir", po::value<std::string>()->default_value(""), "write the graph after each pass into this folder");
  add("time-passes", "say how long each pass took");
  add("help,h", "this text");
  return flags;
}

// Where nothing fits, the error also says what would: each way compiled.
Error WithRemedies(Error error, const autospc::CompileOptions& options) {
  if (error.code != Code::kDoesNotFit) return error;
  autospc::Result<autospc::import::Model> model = autospc::ImportModel(options);
  if (!model.ok()) return error;
  autospc::Trials trials(std::move(model).value(), options);
  const autospc::PassContext& context = options.context;
  const int zero = context.zero >= 0 ? context.zero : context.ranks > 1 ? 2 : 0;
  const auto remedies =
      autospc::WhatWouldFit(trials, {context.ranks, options.bindings.seq_len, zero, context.recompute, context.tile, context.dp});
  autospc::Progress(fmt::format("{} programs compiled to see what would fit", trials.count()), /*last=*/true);
  if (!remedies.ok()) return error;
  error.hint = remedies->empty() ? "nothing that was tried fits: more ranks, a shorter sequence, ZeRO; raise --memory-budget"
                                 : "any of these fits:";
  for (const std::string& remedy : *remedies) error.hint += "\n    " + remedy;
  return error;
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
  RETURN_IF_ERROR(ReadModelFlags(flags, &options));
  options.weights = flags.Get<std::string>("weights");
  options.weights_prefix = flags.Get<std::string>("weights-prefix");
  options.tie_embeddings = flags.Has("tie-embeddings");
  ASSIGN_OR_RETURN(const int64_t ranks, cli::InRange("--ranks", flags.Get<int64_t>("ranks"), 1, 65536));
  options.context.ranks = static_cast<int>(ranks);
  if (flags.Has("mesh")) {
    ASSIGN_OR_RETURN(const autospc::Mesh mesh, autospc::ParseMesh(flags.Get<std::string>("mesh")));
    if (flags.Has("ranks") && ranks != mesh.ranks()) {
      return Error{Code::kUsage, fmt::format("--ranks {} contradicts --mesh {}, which has {}", ranks, flags.Get<std::string>("mesh"), mesh.ranks()),
                   "", "give one of the two"};
    }
    options.context.ranks = mesh.ranks();
    options.context.dp = mesh.dp;
  }
  if (flags.Has("print-ir-after")) options.passes.print_after = flags.Get<std::vector<std::string>>("print-ir-after");
  options.passes.dump_dir = flags.Get<std::string>("dump-dir");

  const std::string output = flags.Get<std::string>("output");
  const bool force = flags.Has("force");
  const std::string report = flags.Get<std::string>("report");
  options.curve = !report.empty();
  RETURN_IF_ERROR(autospc::CheckPackagePath(output, {force}));
  const autospc::Result<autospc::Compiled> made = autospc::Compile(options);
  if (!made.ok()) return WithRemedies(made.error(), options);
  const autospc::Compiled& compiled = *made;
  for (const std::string& warning : compiled.warnings) fmt::print(stderr, "warning: {}\n", warning);
  if (!report.empty()) {
    ASSIGN_OR_RETURN(const std::string html, autospc::HtmlReport(compiled));
    RETURN_IF_ERROR(autospc::WriteFileAtomically(report, html));
  }
  RETURN_IF_ERROR(autospc::WriteCompiled(compiled, output, force));
  if (flags.Has("time-passes")) {
    for (const autospc::PassTiming& t : compiled.timings) {
      fmt::print(stderr, "{:<28} {:>9.1f} ms {:>9.1f} ms verified {:>8} nodes\n", t.name, t.milliseconds, t.verify_milliseconds, t.nodes);
    }
  }
  const autospc::program::ProgramT& program = compiled.program;
  const int micro_batches = options.context.micro_batches;
  fmt::print("{}: {} ranks, sequence {}, batch {}{}, {}, optimizer {}: {} instructions, arena {} a rank, {} notes -> {}\n", program.name,
             program.world_size, program.seq_len, program.batch, micro_batches > 1 ? fmt::format(" x {}", micro_batches) : "",
             program.strategy, program.optimizer,
             program.instructions.size(), autospc::FormatBytes(program.arena_bytes), program.notes.size(), output);
  return autospc::Ok();
}

Status RunPlan(const std::vector<std::string>& arguments) {
  constexpr char kExample[] = "autospc plan MODEL.pt2 --ranks 1,2,8 --memory-budget 80GiB --optimizer adamw --zero auto";
  po::options_description described("Flags");
  AddModelFlags(described);
  auto add = described.add_options();
  add("ranks", po::value<std::string>()->default_value("1"), "counts of ranks, 1,2,8");
  add("mesh", po::value<std::vector<std::string>>()->composing(), "dp=N,sp=N: a mesh to plan for, besides or instead; may be repeated");
  add("json", "for programs");
  add("help,h", "this text");
  po::positional_options_description positional;
  positional.add("model", 1);
  ASSIGN_OR_RETURN(const cli::Flags flags, cli::ParseFlags("autospc plan", arguments, described, positional));
  if (flags.Has("help")) {
    fmt::print("{}\n\nWithout --seq-len: the longest sequence that fits, by count of ranks. With it: the memory it takes, the\n"
               "curve of time against memory, and the cheapest options that fit.\n\n{}", kExample, fmt::streamed(described));
    return autospc::Ok();
  }
  if (!flags.Has("model")) return Error{Code::kUsage, "no model is given", "", kExample};
  autospc::PlanRequest request;
  RETURN_IF_ERROR(ReadModelFlags(flags, &request.options));
  request.zero_auto = request.options.context.zero < 0;
  request.meshes.clear();
  if (flags.Has("ranks") || !flags.Has("mesh")) {
    ASSIGN_OR_RETURN(const std::vector<int64_t> counts, cli::IntList("--ranks", flags.Get<std::string>("ranks")));
    for (const int64_t ranks : counts) {
      RETURN_IF_ERROR(cli::InRange("--ranks", ranks, 1, 65536));
      request.meshes.emplace_back(static_cast<int>(ranks));
    }
  }
  if (flags.Has("mesh")) {
    for (const std::string& text : flags.Get<std::vector<std::string>>("mesh")) {
      ASSIGN_OR_RETURN(const autospc::Mesh mesh, autospc::ParseMesh(text));
      request.meshes.push_back(mesh);
    }
  }
  ASSIGN_OR_RETURN(const autospc::Plan plan, autospc::MakePlan(request));
  fmt::print("{}", autospc::DescribePlan(plan, flags.Has("json")));
  return autospc::CheckPlanFits(plan);
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

int Main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  const std::vector<std::string> arguments = cli::Arguments(argc, argv, 2);
  Status status = autospc::Ok();
  if (command == "compile") {
    status = RunCompile(arguments);
  } else if (command == "plan") {
    status = RunPlan(arguments);
  } else if (command == "inspect") {
    status = RunInspect(arguments);
  } else if (command == "--help" || command == "-h" || command == "help") {
    fmt::print("{}", kHelp);
  } else if (command == "--version") {
    fmt::print("autospc {}\n", AUTOSPC_VERSION);
  } else {
    const std::string nearest = cli::Nearest(command, {"compile", "plan", "inspect"});
    status = Error{Code::kUsage, command.empty() ? "no command is given" : fmt::format("unknown command '{}'", command), "",
                   nearest.empty() ? "autospc --help" : fmt::format("did you mean '{}'?", nearest)};
  }
  return status.ok() ? 0 : cli::Fail(status.error());
}

}  // namespace

int main(int argc, char** argv) {
  return cli::Guarded([&] { return Main(argc, argv); });
}
