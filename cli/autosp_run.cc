// autosp-run [--nproc-per-node P] PACKAGE --golden FILE …: see kHelp.
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "cli/autosp_run_see.h"
#include "cli/flags.h"
#include "runtime/train/run.h"

namespace {

using autospc::Result;
using autospc::Status;
namespace cli = autospc::cli;
namespace po = boost::program_options;

autospc::Error Usage(std::string what, std::string hint) {
  return {autospc::Code::kUsage, std::move(what), "", std::move(hint)};
}

constexpr char kHelp[] =
    "autosp-run: runs a package that autospc compiled.\n"
    "\n"
    "  autosp-run --nproc-per-node P PACKAGE --data FILE... --steps N  train\n"
    "  autosp-run --nproc-per-node P PACKAGE --golden FILE             compare loss and gradients\n"
    "  autosp-run --nproc-per-node P PACKAGE --golden FILE --steps N   train on the file's batch\n"
    "  autosp-run plot metrics.jsonl -o loss.svg                       draw what --metrics wrote\n"
    "\n"
    "Without --nproc-per-node it is one rank, as RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT (torchrun\n"
    "--no-python), SLURM_* or OMPI_* say. Exit codes: 0 ok, 1 comparison failed, 2 usage, 3 bad input,\n"
    "4 unsupported, 6 timeout, 7 a peer failed, 130 interrupted.\n"
    "\n"
    "  autosp-run --nproc-per-node 2 out/gpt --data train.bin --steps 1000 --lr-schedule cosine --warmup 50\n"
    "  autosp-run --nproc-per-node 2 out/gpt --golden models/gpt/gpt.golden_s61.safetensors\n\n";

// What --help shows fits a screen; --help-all shows the rest too.
struct RunFlags {
  po::options_description everyday{"Flags", 100}, further{"Further flags", 100};

  RunFlags();
  po::options_description All() const {
    po::options_description all;
    all.add(everyday).add(further);
    return all;
  }
};

RunFlags::RunFlags() {
  auto add = everyday.add_options();
  auto more = further.add_options();
  add("package", po::value<std::string>(), "the package (positional)");
  add("nproc-per-node", po::value<int64_t>()->default_value(0, ""), "start that many ranks on this machine");
  more("nnodes", po::value<int64_t>()->default_value(0, "1"), "on each of N machines, where this command is given too");
  more("node-rank", po::value<int64_t>()->default_value(0, ""), "which of them this one is, from 0");
  more("rdzv-endpoint", po::value<std::string>()->default_value(""), "HOST:PORT, machine 0 and a free port of it");
  more("interface", po::value<std::string>()->default_value("", "the way to rank 0"), "network interface of this machine");
  more("heartbeat-timeout", po::value<int64_t>()->default_value(30, "30"),
      "seconds of a rank's silence that end the job (exit 6); 0: none");
  add("restart", po::value<int64_t>()->default_value(0, ""), "begin a failed job again from its last checkpoint, N times");
  add("data", po::value<std::vector<std::string>>()->multitoken()->composing()->value_name("FILE..."),
      "what to train on: token files (llm.c's, bare ones), safetensors batches, a FIFO, - for standard input");
  more("token-dtype", po::value<std::string>()->default_value("uint16"),
      "of bare token files: uint8, uint16, uint32, int32 or int64");
  add("labels", po::value<std::string>()->default_value("", "as the package says"),
      "unshifted: the model shifts them itself; shifted: label t is token t + 1");
  more("shuffle", po::value<std::string>()->default_value("on"), "off: samples in the order of the files");
  add("eval-data", po::value<std::vector<std::string>>()->multitoken()->composing()->value_name("FILE..."),
      "files to evaluate on, at the end");
  add("eval-every", po::value<int64_t>()->default_value(0, ""), "and after every N steps");
  more("eval-batches", po::value<int64_t>()->default_value(0, ""), "on their first N batches alone");
  add("golden", po::value<std::string>()->default_value(""), "the batch, and what to compare with");
  more("rtol", po::value<double>()->default_value(1e-5, "1e-5"), "largest error of loss, gradients and their norm");
  more("write-golden", po::value<std::string>()->default_value(""), "write this run's loss and gradients");
  add("steps", po::value<int64_t>()->default_value(0, ""), "run N optimiser steps instead of comparing");
  add("lr", po::value<double>()->default_value(1e-3, "1e-3"), "learning rate, the highest of a schedule");
  add("lr-schedule", po::value<std::string>()->default_value("constant"),
      "constant, linear or cosine, after the warm-up");
  add("warmup", po::value<int64_t>()->default_value(0, "0"), "steps over which the rate rises to --lr");
  more("min-lr", po::value<double>()->default_value(0, "0"), "the last step's rate of a linear or cosine schedule");
  add("weights", po::value<std::string>()->default_value(""), "parameters from safetensors, a file or a folder");
  more("weights-prefix", po::value<std::string>()->default_value(""), "prefix that the checkpoint's names lack");
  more("init", po::value<uint64_t>(), "make parameters from this seed");
  more("seed", po::value<uint64_t>()->default_value(0, "0"), "of dropout and of the order of samples");
  add("save-weights", po::value<std::string>()->default_value(""),
      "write what was trained into this new folder, as Hugging Face lays out a checkpoint");
  more("max-shard-size", po::value<std::string>()->default_value("5GB"), "of a file there");
  add("checkpoint", po::value<std::string>()->default_value(""),
      "write checkpoints into this folder, beside the training; SIGTERM and SIGUSR1 write one and end the run with 0");
  add("checkpoint-every", po::value<int64_t>()->default_value(0, "at the end alone"), "after every N steps too");
  more("keep", po::value<int64_t>()->default_value(3, "3"), "the latest K checkpoints remain; 0: all");
  add("resume", po::value<std::string>()->default_value(""),
      "go on from a folder of checkpoints or one of them (its parameters, not --weights or --init); auto: from --checkpoint's "
      "latest, if there is one");
  more("device", po::value<std::string>()->default_value("cpu"), "cpu or cuda: what the package is compiled for");
  more("threads", po::value<int64_t>()->default_value(0, "cores / ranks"), "threads of a rank");
  more("measure-memory", "print the planned arena and the measured growth");
  more("limit-data", "let a step take 32 MiB besides its arena (RLIMIT_DATA)");
  more("time-ops", "print seconds by op");
  add("json", "print results as JSON lines");
  cli::AddSeeFlags(&further);
  add("help,h", "this text");
  add("help-all", "and flags for several machines, data, memory, and seeing what a run does");
}

// --data and what belongs to it.
Status ReadDataFlags(const cli::Flags& flags, autospc::train::RunOptions* options) {
  if (!flags.Has("data")) {
    for (const char* flag : {"token-dtype", "labels", "shuffle", "eval-data"}) {
      if (flags.Has(flag))
        return Usage(fmt::format("--{} says something of --data, which is not given", flag), "add --data FILE");
    }
    return autospc::Ok();
  }
  if (flags.Has("golden")) return Usage("--data and --golden exclude each other", "give one of them");
  if (options->steps == 0) return Usage("--data without a number of steps", "add --steps N");
  autospc::data::DataOptions& data = options->data;
  data.files = flags.Get<std::vector<std::string>>("data");
  const std::string& type = flags.Get<std::string>("token-dtype");
  ASSIGN_OR_RETURN(const std::string name,
                   cli::OneOf("--token-dtype", type, {"uint8", "uint16", "uint32", "int32", "int64"}));
  if (flags.Has("token-dtype")) data.token_type = autospc::data::ParseTokenType(name);
  if (flags.Has("labels")) {
    ASSIGN_OR_RETURN(const std::string labels,
                     cli::OneOf("--labels", flags.Get<std::string>("labels"), {"shifted", "unshifted"}));
    data.labels = labels == "shifted" ? autospc::data::Labels::kShifted : autospc::data::Labels::kUnshifted;
  }
  ASSIGN_OR_RETURN(const std::string shuffle,
                   cli::OneOf("--shuffle", flags.Get<std::string>("shuffle"), {"on", "off"}));
  data.order.shuffle = shuffle == "on";
  data.order.seed = options->seed;
  return autospc::Ok();
}

// --eval-data and what belongs to it; of the types and labels that hold for --data.
Status ReadEvalFlags(const cli::Flags& flags, autospc::train::RunOptions* options) {
  for (const char* flag : {"eval-every", "eval-batches"}) {
    if (!flags.Has(flag)) continue;
    if (!flags.Has("eval-data")) return Usage(fmt::format("--{} without --eval-data", flag), "add --eval-data FILE");
    RETURN_IF_ERROR(cli::InRange(fmt::format("--{}", flag), flags.Get<int64_t>(flag), 1, int64_t{1} << 40));
  }
  if (!flags.Has("eval-data")) return autospc::Ok();
  options->eval = options->data;
  options->eval.files = flags.Get<std::vector<std::string>>("eval-data");
  options->eval.order = {.shuffle = false, .once = true};
  options->eval_every = flags.Get<int64_t>("eval-every");
  options->eval_batches = flags.Get<int64_t>("eval-batches");
  return autospc::Ok();
}

Status ReadCheckpointFlags(const cli::Flags& flags, autospc::train::RunOptions* options) {
  autospc::train::CheckpointOptions& checkpoint = options->checkpoint;
  checkpoint.dir = flags.Get<std::string>("checkpoint");
  checkpoint.resume = flags.Get<std::string>("resume");
  ASSIGN_OR_RETURN(checkpoint.keep, cli::InRange("--keep", flags.Get<int64_t>("keep"), 0, 1 << 20));
  if (flags.Has("checkpoint-every")) {
    ASSIGN_OR_RETURN(checkpoint.every,
                     cli::InRange("--checkpoint-every", flags.Get<int64_t>("checkpoint-every"), 1, int64_t{1} << 40));
  }
  options->save_weights = flags.Get<std::string>("save-weights");
  ASSIGN_OR_RETURN(options->max_shard_bytes, cli::Bytes("--max-shard-size", flags.Get<std::string>("max-shard-size")));
  if (!options->save_weights.empty() && options->steps == 0) return Usage("--save-weights without a number of steps", "add --steps N");
  if (flags.Has("max-shard-size") && options->save_weights.empty())
    return Usage("--max-shard-size without --save-weights", "add --save-weights DIR");
  if (checkpoint.dir.empty()) {
    for (const char* flag : {"checkpoint-every", "keep"}) {
      if (flags.Has(flag)) return Usage(fmt::format("--{} without --checkpoint", flag), "add --checkpoint DIR");
    }
    if (checkpoint.resume == "auto") return Usage("--resume auto looks into the folder of --checkpoint, which is not given", "add --checkpoint DIR");
  } else if (options->steps == 0) {
    return Usage("--checkpoint without a number of steps", "add --steps N");
  }
  if (!checkpoint.dir.empty() && flags.Has("limit-data"))
    return Usage("--limit-data and --checkpoint exclude each other: a checkpoint is copied to memory besides the plan", "leave one out");
  return autospc::Ok();
}

Status ReadLearningRate(const cli::Flags& flags, autospc::train::RunOptions* options) {
  autospc::train::LearningRate& rate = options->learning_rate;
  rate.lr = flags.Get<double>("lr");
  ASSIGN_OR_RETURN(const std::string schedule, cli::OneOf("--lr-schedule", flags.Get<std::string>("lr-schedule"),
                                                          {"constant", "linear", "cosine"}));
  rate.schedule = autospc::train::ParseSchedule(schedule);
  rate.warmup = flags.Get<int64_t>("warmup");
  rate.min_lr = flags.Get<double>("min-lr");
  rate.steps = options->steps;
  return autospc::train::CheckLearningRate(rate);
}

// The launcher's flags, and those of the way in which ranks find and watch each other.
Status ReadJobFlags(const cli::Flags& flags, autospc::train::JobOptions* job) {
  const auto read = [&](const char* flag, int64_t least, int64_t most, int* value) -> Status {
    if (!flags.Has(flag)) return autospc::Ok();
    ASSIGN_OR_RETURN(const int64_t number,
                     cli::InRange(fmt::format("--{}", flag), flags.Get<int64_t>(flag), least, most));
    *value = static_cast<int>(number);
    return autospc::Ok();
  };
  RETURN_IF_ERROR(read("nproc-per-node", 1, 4096, &job->nproc_per_node));
  RETURN_IF_ERROR(read("nnodes", 1, 4096, &job->nodes));
  RETURN_IF_ERROR(read("node-rank", 0, 4095, &job->node_rank));
  RETURN_IF_ERROR(read("heartbeat-timeout", 0, 86400, &job->heartbeat_seconds));
  RETURN_IF_ERROR(read("restart", 0, 1000, &job->restarts));
  job->rdzv_endpoint = flags.Get<std::string>("rdzv-endpoint");
  job->interface = flags.Get<std::string>("interface");
  job->flags = flags.Texts();
  return autospc::Ok();
}

Result<int> RunMain(const std::vector<std::string>& arguments) {
  const RunFlags run_flags;
  const po::options_description described = run_flags.All();
  po::positional_options_description positional;
  positional.add("package", 1);
  ASSIGN_OR_RETURN(const cli::Flags flags, cli::ParseFlags("autosp-run", arguments, described, positional));
  if (flags.Has("help") || flags.Has("help-all")) {
    std::fputs(kHelp, stdout);
    std::ostringstream text;
    text << (flags.Has("help-all") ? described : run_flags.everyday);
    std::fputs(text.str().c_str(), stdout);
    return 0;
  }
  if (!flags.Has("package")) {
    return Usage("no package is given", flags.Has("data")
                                            ? "the package stands before --data, which takes all that follows it"
                                            : "autosp-run --help shows how");
  }
  autospc::train::RunOptions options;
  options.package = flags.Get<std::string>("package");
  RETURN_IF_ERROR(ReadJobFlags(flags, &options.job));
  options.golden = flags.Get<std::string>("golden");
  ASSIGN_OR_RETURN(options.rtol, cli::Finite("--rtol", flags.Get<double>("rtol")));
  options.write_golden = flags.Get<std::string>("write-golden");
  ASSIGN_OR_RETURN(options.steps, cli::InRange("--steps", flags.Get<int64_t>("steps"), 0, int64_t{1} << 40));
  RETURN_IF_ERROR(ReadLearningRate(flags, &options));
  options.weights.weights = flags.Get<std::string>("weights");
  options.weights.prefix = flags.Get<std::string>("weights-prefix");
  if (flags.Has("init")) options.weights.seed = flags.Get<uint64_t>("init");
  if (options.weights.seed && !options.weights.weights.empty()) {
    return Usage("--init and --weights exclude each other", "give one of them");
  }
  options.seed = flags.Get<uint64_t>("seed");
  RETURN_IF_ERROR(ReadCheckpointFlags(flags, &options));
  RETURN_IF_ERROR(ReadDataFlags(flags, &options));
  RETURN_IF_ERROR(ReadEvalFlags(flags, &options));
  ASSIGN_OR_RETURN(options.device, cli::OneOf("--device", flags.Get<std::string>("device"), {"cpu", "cuda"}));
  ASSIGN_OR_RETURN(const int64_t threads, cli::InRange("--threads", flags.Get<int64_t>("threads"), 0, 1024));
  options.threads = static_cast<int>(threads);
  options.measure_memory = flags.Has("measure-memory");
  options.limit_data = flags.Has("limit-data");
  options.time_ops = flags.Has("time-ops");
  options.json = flags.Has("json");
  RETURN_IF_ERROR(cli::ReadSeeFlags(flags, options.steps, &options.see));
  options.arguments = arguments;
  return autospc::train::Run(options);
}

}  // namespace

int main(int argc, char** argv) {
  return cli::Guarded([&] {
    const std::vector<std::string> arguments = cli::Arguments(argc, argv);
    const bool plot = !arguments.empty() && arguments[0] == "plot";
    Result<int> code = plot ? cli::RunPlot(cli::Arguments(argc, argv, 2)) : RunMain(arguments);
    return code.ok() ? code.value() : cli::Fail(code.error());
  });
}
