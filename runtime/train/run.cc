#include "runtime/train/run.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <thread>

#include "runtime/base/log.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/base/whereabouts.h"
#include "runtime/dist/job_store.h"
#include "runtime/dist/rendezvous.h"
#include "runtime/package/describe.h"
#include "runtime/package/golden.h"
#include "runtime/package/oci.h"
#include "runtime/train/checkpointer.h"
#include "runtime/train/compare.h"
#include "runtime/train/device.h"
#include "runtime/train/job.h"
#include "runtime/train/launcher.h"
#include "runtime/train/loop.h"
#include "runtime/train/memory_probe.h"
#include "runtime/train/rank.h"
#include "runtime/train/report.h"
#include "runtime/train/restore.h"
#include "runtime/train/restart.h"
#include "runtime/train/shared_batches.h"
#include "runtime/train/seeing.h"
#include "runtime/train/stop_signal.h"
#include "runtime/train/tracer.h"
#include "runtime/train/weights_saver.h"

namespace autospc::train {
namespace {

constexpr char kVerified[] = "AUTOSP_PACKAGE_VERIFIED";  // our launcher's word to the ranks it starts

std::string Plural(int n, const char* what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); }

// torchrun's agent starts its ranks again after a failure: they go on in the files of the first time.
bool Restarted() {
  const char* count = std::getenv("TORCHELASTIC_RESTART_COUNT");
  return count != nullptr && std::atoi(count) > 0;
}

// What a run works on: the package, and a golden file or data.
struct Job {
  std::shared_ptr<Package> package;
  std::optional<GoldenFile> golden;
  std::unique_ptr<data::BatchSource> source;  // of the steps; none for a golden file or a stream
  std::unique_ptr<data::BatchSource> eval;    // of --eval-data
  // Whether the package's data are what they should be, found out beside loading them; none where it is known.
  std::shared_future<Status> verified;
};

Status OpenFiles(const RunOptions& options, bool scan, Job* job) {
  const program::ProgramT& program = job->package->program();
  ASSIGN_OR_RETURN(const bool stream, data::ReadsStream(options.data));
  if (!stream && !options.data.files.empty()) {
    ASSIGN_OR_RETURN(job->source, data::OpenData(options.data, program, options.package, scan));
  }
  if (options.eval.files.empty()) return Ok();
  ASSIGN_OR_RETURN(const bool eval_stream, data::ReadsStream(options.eval));
  if (eval_stream) {
    return Error{Code::kUsage, "--eval-data is a stream, which cannot be read again at the next evaluation", "",
                 "give files"};
  }
  ASSIGN_OR_RETURN(job->eval, data::OpenData(options.eval, program, options.package, scan));
  return Ok();
}

// Everything that can be said before a rank starts working: the package, the batch, the weights, the data.
// `local_ranks`: those for which this process answers. `verify`: nobody has read all of package and data before; `beside`:
// the weights may be read through beside what follows, until Job::verified is asked.
Result<Job> Open(const RunOptions& options, int ranks, int local_ranks, bool verify, bool beside = false) {
  RETURN_IF_ERROR(CheckMachine(options.device, local_ranks));
  ASSIGN_OR_RETURN(Package package, Package::Open(options.package, OpenOptions{.verify_data = verify && !beside}));
  Job job;
  job.package = std::make_shared<Package>(std::move(package));
  if (verify && beside) {
    job.verified = std::async(std::launch::async, [opened = job.package] { return opened->VerifyData(); });
  }
  const program::ProgramT& program = job.package->program();
  RETURN_IF_ERROR(CheckPackageDevice(options.device, program.device, options.package));
  if (program.world_size != ranks) {
    return Error{Code::kBadInput,
                 fmt::format("the package is compiled for {}, and this is a run of {}",
                             Plural(program.world_size, "rank"), ranks),
                 options.package,
                 fmt::format("run with --nproc-per-node {}, or compile with --ranks {}", program.world_size, ranks)};
  }
  if (options.golden.empty() && options.data.files.empty()) {
    return Error{Code::kUsage, "there is nothing to run on", "",
                 "give tokens, --data FILE --steps N, or --golden FILE"};
  }
  // Weights first: where a checkpoint's tie is lost, the golden file lacks the second name too, and says less of why.
  WeightOptions weights = options.weights;
  ASSIGN_OR_RETURN(const std::optional<int64_t> resumed_at,
                   CheckResume(options.checkpoint.resume, options.checkpoint.dir, program));
  weights.restored = resumed_at.has_value();
  RETURN_IF_ERROR(CheckCheckpointFolder(options.checkpoint, resumed_at.value_or(0)));
  if (!options.save_weights.empty()) RETURN_IF_ERROR(CheckSavePath(options.save_weights));
  RETURN_IF_ERROR(CheckWeights(*job.package, weights));
  RETURN_IF_ERROR(OpenFiles(options, verify, &job));
  if (verify && options.steps > 0) RETURN_IF_ERROR(CheckOutputs(options.see, resumed_at.has_value() || Restarted()));
  if (options.golden.empty()) return job;
  ASSIGN_OR_RETURN(GoldenFile golden, GoldenFile::Open(options.golden));
  RETURN_IF_ERROR(CheckGolden(golden, program));
  job.golden = std::move(golden);
  return job;
}

// Starts the ranks of a job that Open has found nothing wrong with; returns what it ended with.
Result<int> LaunchRanks(const RunOptions& options, const Role& role, const Job& job) {
  LaunchOptions launch;
  launch.ranks = options.job.nproc_per_node;
  launch.pass_signals_on = !options.checkpoint.dir.empty();
  launch.nodes = role.nodes;
  launch.node = role.node;
  launch.master_address = role.endpoint.host;
  launch.master_port = role.endpoint.port;
  launch.heartbeat_seconds = options.job.heartbeat_seconds;
  launch.describe = [package = job.package](int i) { return DescribeInstruction(package->program(), i); };
  std::error_code failed;
  launch.program = std::filesystem::read_symlink("/proc/self/exe", failed).string();
  if (failed)
    return Error{Code::kFailed, "this program does not find itself: " + failed.message(), "/proc/self/exe", ""};
  launch.arguments = options.arguments;
  launch.environment = {{kVerified, "1"}};
  // c10d's own traces stay out of the way of the one error that says what happened.
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) launch.environment.emplace_back("TORCH_CPP_LOG_LEVEL", "FATAL");
  const Checkpoints checkpoints{options.checkpoint.dir, [](const std::string& folder) -> std::optional<int64_t> {
                                  const auto listed = checkpoint::ListCheckpoints(folder);
                                  return listed.ok() && !listed->empty() ? std::optional(listed->front().step) : std::nullopt;
                                }};
  return LaunchAndRestart(launch, options.job.restarts, checkpoints);
}

// What a checkpoint says of the run, but for its step and its files.
checkpoint::Manifest Describe(const Rank& rank, const checkpoint::Reader* resumed) {
  checkpoint::Manifest header;
  header.step = rank.steps();
  header.seed = resumed != nullptr ? resumed->manifest().seed : rank.options().seed;
  header.model = rank.program().name;
  header.package = rank.package().digest();
  header.optimizer = rank.program().optimizer;
  header.ranks = rank.program().world_size;
  return header;
}

// Brings the data to where the checkpoint was, and says what goes on.
Status GoOn(Rank* rank, data::BatchSource* source, const checkpoint::Reader& resumed) {
  const checkpoint::Manifest& manifest = resumed.manifest();
  if (!manifest.data.empty()) {
    ASSIGN_OR_RETURN(const data::DataPosition position, data::ParseDataPosition(manifest.data));
    RETURN_IF_ERROR(source->Seek(position));
  }
  if (!rank->first()) return Ok();
  Log(LogLevel::kInfo, fmt::format("resumed after step {} from {} (written by {})", manifest.step, resumed.path(),
                                   Plural(manifest.ranks, "rank")));
  if (manifest.seed != rank->options().seed)
    Log(LogLevel::kInfo, fmt::format("the seed stays that of the checkpoint, {}", manifest.seed));
  if (manifest.step >= rank->options().steps)
    Log(LogLevel::kWarning, fmt::format("there is nothing left to do up to step {}", rank->options().steps));
  return Ok();
}

Result<int> TrainOn(Rank* rank, data::BatchSource* source, data::BatchSource* eval, const checkpoint::Reader* resumed) {
  if (resumed != nullptr) RETURN_IF_ERROR(GoOn(rank, source, *resumed));
  LoopOptions loop;
  loop.eval = eval;
  loop.eval_every = rank->options().eval_every;
  loop.eval_batches = rank->options().eval_batches;
  loop.steps = rank->options().steps;
  loop.learning_rate = rank->options().learning_rate;
  const SeeOptions& see = rank->options().see;
  ASSIGN_OR_RETURN(const std::unique_ptr<Seeing> seeing, Seeing::Start(rank, loop.steps));
  FiniteCheck finite(rank);
  std::vector<StepListener*> listeners = {seeing.get(), &finite};  // what is lost is told, and never saved
  std::unique_ptr<Tracer> tracer;
  if (!see.trace.empty()) {
    ASSIGN_OR_RETURN(tracer, Tracer::Start(rank, see.trace, see.trace_first, see.trace_last));
    listeners.push_back(tracer.get());
  }
  std::unique_ptr<Checkpointer> checkpointer;
  if (const CheckpointOptions& checkpoint = rank->options().checkpoint; !checkpoint.dir.empty()) {
    ASSIGN_OR_RETURN(checkpointer, Checkpointer::Make(checkpoint, &rank->executor(), &rank->communicator(), Describe(*rank, resumed),
                                                      [source] { return data::ToJson(source->position()); }));
    listeners.push_back(checkpointer.get());
    loop.stop = [&checkpointer] { return checkpointer->stopping(); };
  }
  std::unique_ptr<WeightsSaver> saver;
  if (!rank->options().save_weights.empty()) {
    ASSIGN_OR_RETURN(saver, WeightsSaver::Make(rank->options().save_weights, rank->options().max_shard_bytes, rank->options().weights,
                                               &rank->executor(), &rank->communicator()));
    if (checkpointer) saver->set_unless(loop.stop);
    listeners.push_back(saver.get());
  }
  RETURN_IF_ERROR(Train(rank, source, loop, listeners));
  return 0;
}

Result<int> BeRank(const RunOptions& options, Job job, const Meeting& meeting) {
  const bool compare = options.steps == 0;
  ASSIGN_OR_RETURN(const auto resumed, ChooseCheckpoint(options.checkpoint.resume, options.checkpoint.dir,
                                                        job.package->program(), meeting.host.get()));
  ASSIGN_OR_RETURN(const std::unique_ptr<Rank> rank,
                   Rank::Load(options, job.package, meeting, resumed.get(), /*gradients=*/compare));
  if (job.verified.valid()) RETURN_IF_ERROR(job.verified.get());  // before anything is made of them
  if (job.golden) job.source = std::make_unique<GoldenBatch>(*job.golden, rank->program());
  if (!job.source) {
    std::unique_ptr<data::BatchSource> stream;
    if (rank->first()) {
      ASSIGN_OR_RETURN(stream, data::OpenStream(options.data, rank->program(), options.package));
    }
    job.source = std::make_unique<SharedBatches>(std::move(stream), &rank->communicator());
  }
  Result<int> code = compare ? Compare(rank.get(), *job.golden)
                             : TrainOn(rank.get(), job.source.get(), job.eval.get(), resumed.get());
  if (!code.ok() && rank->shared_error()) {
    // All ranks have it: one says it, and none ends before, which would end the others.
    if (rank->first()) LogError(code.error());
    (void)rank->communicator().Barrier().ok();
    return static_cast<int>(code.error().code);
  }
  if (!code.ok()) return code;
  MyWhereabouts().Set(Activity::kEnding);
  RETURN_IF_ERROR(ReportRun(rank.get()));
  // Nobody leaves while another still reads from it.
  RETURN_IF_ERROR(rank->communicator().Barrier());
  return code;
}

}  // namespace

Result<int> Run(const RunOptions& options) {
  AnonymousAtStart();
  ASSIGN_OR_RETURN(const Role role, FindRole(options.job));
  if (role.launcher) {
    // The launcher checks all that can be checked, so that a mistake is said once and nothing is started.
    const int local = options.job.nproc_per_node;
    Result<Job> checked = Open(options, local * role.nodes, local, /*verify=*/true);
    if (checked.ok()) return LaunchRanks(options, role, *checked);
    if (role.nodes > 1) AnnounceAbsence(role.Environment(local), fmt::format("machine {}", role.node), checked.error());
    return std::move(checked).error();
  }
  if (!options.checkpoint.dir.empty()) CatchStopSignals();
  const bool verified = std::getenv(kVerified) != nullptr;
  const RankEnvironment& mine = role.rank;
  LogOptions log = DefaultLogOptions();
  if (mine.world_size > 1 && !verified) log.rank = mine.rank;
  SetLogOptions(log);
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  at::set_num_threads(options.threads > 0 ? options.threads : std::max(1, cores / std::max(1, mine.local_size)));
  // A second reader would count as what a step takes: then one after the other.
  const bool beside = !options.measure_memory && !options.limit_data;
  Result<Job> job = Open(options, mine.world_size, /*local_ranks=*/1, !verified, beside);
  if (!job.ok()) {
    // Our launcher ends its ranks together; other launchers may not, and those of other machines cannot.
    if (!verified || mine.local_size < mine.world_size)
      AnnounceAbsence(mine, fmt::format("rank {}", mine.rank), job.error());
    return std::move(job).error();
  }
  MeetOptions meet;
  meet.terms = TermsOf(options.job, job->package->digest());
  meet.interface = options.job.interface;
  meet.heartbeat_seconds = options.job.heartbeat_seconds;
  ASSIGN_OR_RETURN(Meeting meeting, Meet(mine, meet));
  if (mine.rank == 0) {
    for (const std::string& difference : meeting.warnings)
      Log(LogLevel::kWarning, "the ranks differ, and replicated values may with them, in the last bits: " + difference);
  }
  if (meeting.watchdog) {
    meeting.watchdog->SetDescribe(
        [package = job->package](int i) { return DescribeInstruction(package->program(), i); });
  }
  MyWhereabouts().Set(Activity::kLoading);
  if (const Status connected = ConnectDevice(options.device, mine, &meeting); !connected.ok()) return meeting.Explain(connected.error());
  Result<int> code = BeRank(options, std::move(*job), meeting);
  if (code.ok()) return code;
  return meeting.Explain(std::move(code).error());
}

}  // namespace autospc::train
