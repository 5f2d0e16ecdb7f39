#include "runtime/train/run.h"

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <thread>

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/dist/rendezvous.h"
#include "runtime/exec/executor.h"
#include "runtime/package/golden.h"
#include "runtime/package/oci.h"
#include "runtime/train/capture.h"
#include "runtime/train/device.h"
#include "runtime/train/launcher.h"
#include "runtime/train/memory_probe.h"

namespace autospc::train {
namespace {

constexpr char kVerified[] = "AUTOSP_PACKAGE_VERIFIED";  // our launcher's word to the ranks it starts
constexpr int64_t kDataSlack = 32 << 20;                 // bytes that a step may take besides the arena

std::string Plural(int n, const char* what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); }

struct Job {
  std::shared_ptr<Package> package;
  std::optional<GoldenFile> golden;
};

// Everything that can be said before a rank starts working: the package, the batch, the weights.
// `local_ranks`: those for which this process answers.
Result<Job> Open(const RunOptions& options, int ranks, int local_ranks, bool verify) {
  RETURN_IF_ERROR(CheckMachine(options.device, local_ranks));
  ASSIGN_OR_RETURN(Package package, Package::Open(options.package, OpenOptions{.verify_data = verify}));
  Job job;
  job.package = std::make_shared<Package>(std::move(package));
  const program::ProgramT& program = job.package->program();
  RETURN_IF_ERROR(CheckPackageDevice(options.device, program.device, options.package));
  if (program.world_size != ranks) {
    return Error{Code::kBadInput,
                 fmt::format("the package is compiled for {}, and this is a run of {}",
                             Plural(program.world_size, "rank"), ranks),
                 options.package,
                 fmt::format("run with --nproc-per-node {}, or compile with --ranks {}", program.world_size, ranks)};
  }
  if (options.golden.empty()) {
    return Error{Code::kUsage, "there is nothing to run on", "", "give a batch: --golden FILE"};
  }
  // Weights first: where a checkpoint's tie is lost, the golden file lacks the second name too, and says less of why.
  RETURN_IF_ERROR(CheckWeights(*job.package, options.weights));
  ASSIGN_OR_RETURN(GoldenFile golden, GoldenFile::Open(options.golden));
  RETURN_IF_ERROR(CheckGolden(golden, program));
  job.golden = std::move(golden);
  return job;
}

Status FillInputs(const GoldenFile& golden, exec::Executor* executor) {
  for (const auto& input : executor->program().inputs) {
    const GoldenTensor* found = nullptr;
    for (const GoldenTensor& t : golden.inputs()) {
      if (t.name == input->name) found = &t;
    }
    if (found == nullptr) {
      return Error{Code::kBadInput, fmt::format("the batch has no in.{}", input->name), golden.path(), ""};
    }
    executor->tensor(input->tensor)
        .copy_(at::from_blob(const_cast<std::byte*>(found->data), found->sizes,
                             at::TensorOptions().dtype(exec::ToScalarType(found->dtype))));
  }
  return Ok();
}

// One rank's memory, gathered by all of them.
struct MemoryReport {
  int64_t planned = 0;  // bytes of the arena
  int64_t growth = 0;   // VmHWM above the resident state after loading
  int64_t outside = 0;  // tensor bytes outside the arena in the last step
};

class Rank {
 public:
  Rank(const RunOptions& options, Job job, std::unique_ptr<Communicator> communicator)
      : options_(options), job_(std::move(job)), communicator_(std::move(communicator)) {}

  Result<int> Run() {
    RETURN_IF_ERROR(Load());
    ASSIGN_OR_RETURN(const ProcessMemory loaded, ReadProcessMemory());
    if (options_.measure_memory) RETURN_IF_ERROR(ResetPeakResident());
    if (options_.limit_data) RETURN_IF_ERROR(LimitDataGrowth(kDataSlack));
    loaded_ = loaded.resident;
    executor_->set_timed(options_.time_ops);
    ASSIGN_OR_RETURN(const int code, options_.steps > 0 ? Steps() : Compare());
    RETURN_IF_ERROR(Report());
    // Nobody leaves while another still reads from it.
    RETURN_IF_ERROR(communicator_->Barrier());
    return code;
  }

 private:
  bool first() const { return communicator_->rank() == 0; }

  Status Load() {
    exec::ExecutorOptions executor_options;
    executor_options.rank = communicator_->rank();
    executor_options.communicator = communicator_.get();
    executor_options.seed = options_.seed;
    executor_options.external = MappedStorages(*job_.package, options_.weights);
    // The package lives as long as the program that points into it.
    std::shared_ptr<const program::ProgramT> program(job_.package, &job_.package->program());
    ASSIGN_OR_RETURN(executor_, exec::Executor::Create(std::move(program), executor_options));
    RETURN_IF_ERROR(LoadWeights(*job_.package, options_.weights, executor_.get()));
    // Mapped weights are read in now, so that loading is over when the step begins.
    for (const auto& [storage, data] : executor_options.external) {
      const volatile char* bytes = static_cast<const char*>(data);
      for (int64_t i = 0; i < executor_->program().storages[storage]->bytes; i += 4096) (void)bytes[i];
    }
    for (size_t i = 0; i < executor_->program().storages.size(); ++i) TouchState(i);
    RETURN_IF_ERROR(FillInputs(*job_.golden, executor_.get()));
    executor_->SetScalar("lr", options_.lr);
    ASSIGN_OR_RETURN(Capture capture, Capture::Make(*executor_, options_.steps == 0, first()));
    capture_ = std::make_unique<Capture>(std::move(capture));
    for (const ComputedGradient& g : capture_->gradients()) {  // taken now, not in the step
      int64_t bytes = ByteSizeOf(g.dtype);
      for (int64_t s : g.sizes) bytes *= s;
      std::fill_n(static_cast<char*>(const_cast<void*>(g.data)), bytes, 0);
    }
    return Ok();
  }

  static int64_t ByteSizeOf(program::DType dtype) {
    return static_cast<int64_t>(c10::elementSize(exec::ToScalarType(dtype)));
  }

  // An optimiser's zero pages belong to the state after loading.
  void TouchState(size_t storage) {
    const program::StorageT& s = *executor_->program().storages[storage];
    if (s.arena_offset >= 0 || s.kind != program::StorageKind::Optimizer) return;
    auto* bytes = static_cast<volatile char*>(executor_->storage(static_cast<int>(storage)));
    for (int64_t i = 0; i < s.bytes; i += 4096) bytes[i] = bytes[i];
  }

  Status Step() {
    executor_->SetScalar("step", static_cast<double>(executor_->steps() + 1));
    capture_->BeginStep();
    return executor_->Step(capture_->OnOutput());
  }

  Result<int> Steps() {
    for (int64_t step = 1; step <= options_.steps; ++step) {
      const auto start = std::chrono::steady_clock::now();
      RETURN_IF_ERROR(Step());
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (!first()) continue;
      if (options_.json) {
        fmt::print("{{\"step\": {}, \"loss\": {:.9g}, \"grad_norm\": {:.9g}, \"seconds\": {:.6f}}}\n", step,
                   capture_->loss(), capture_->grad_norm(), seconds);
      } else {
        fmt::print("step {:>3}  loss {:.9g}  grad_norm {:.9g}  {:.3f} s\n", step, capture_->loss(),
                   capture_->grad_norm(), seconds);
      }
      std::fflush(stdout);
    }
    return 0;
  }

  // One step whose gradients rank 0 keeps: written as a golden file, compared with one.
  Result<int> Compare() {
    RETURN_IF_ERROR(Step());
    if (!first()) return 0;
    const program::ProgramT& program = executor_->program();
    if (!options_.write_golden.empty()) {
      RETURN_IF_ERROR(
          WriteGolden(options_.write_golden, job_.golden->inputs(), capture_->loss(), capture_->gradients(), program));
      fmt::print("wrote {}\n", options_.write_golden);
    }
    ASSIGN_OR_RETURN(const GoldenComparison comparison,
                     CompareWithGolden(*job_.golden, capture_->loss(), capture_->gradients(), program, options_.rtol));
    if (options_.json) {
      fmt::print("{{\"loss\": {:.9g}, \"worst_error\": {:.3e}, \"rtol\": {:g}, \"passed\": {}}}\n", comparison.loss,
                 comparison.worst_error(), options_.rtol, comparison.passed());
    } else {
      fmt::print("{}", comparison.Table());
    }
    std::fflush(stdout);
    return comparison.passed() ? 0 : static_cast<int>(Code::kFailed);
  }

  Status Report() {
    if (options_.time_ops && first()) PrintTimes();
    if (!options_.measure_memory) return Ok();
    ASSIGN_OR_RETURN(const ProcessMemory memory, ReadProcessMemory());
    const MemoryReport mine{executor_->program().arena_bytes, memory.peak_resident - loaded_,
                            executor_->OutsideBytes()};
    std::vector<MemoryReport> all(communicator_->size());
    RETURN_IF_ERROR(communicator_->AllGather(&mine, all.data(), sizeof(MemoryReport)));
    if (!first()) return Ok();
    for (size_t r = 0; r < all.size(); ++r) {
      if (options_.json) {
        fmt::print(
            "{{\"rank\": {}, \"planned_arena_bytes\": {}, \"measured_growth_bytes\": {}, \"bytes_outside_arena\": "
            "{}}}\n",
            r, all[r].planned, all[r].growth, all[r].outside);
      } else {
        fmt::print("memory of rank {}: arena planned {}, growth measured {}, tensor bytes outside the arena {}\n", r,
                   FormatBytes(all[r].planned), FormatBytes(all[r].growth), all[r].outside);
      }
    }
    std::fflush(stdout);
    std::map<std::string, int64_t> outside;
    for (size_t i = 0; i < executor_->outside_by_instruction().size(); ++i) {
      if (const int64_t bytes = executor_->outside_by_instruction()[i])
        outside[executor_->program().instructions[i]->op] += bytes;
    }
    for (const auto& [op, bytes] : outside)
      Log(LogLevel::kInfo, fmt::format("outside the arena, all steps together: {} by {}", FormatBytes(bytes), op));
    return Ok();
  }

  // By op: seconds a step on average; of each instruction in the step in which it took least, wall and processor time.
  void PrintTimes() const {
    struct Sum {
      double mean = 0, fastest = 0, busy = 0;
      int count = 0;
    };
    std::map<std::string, Sum> by_op;
    const double steps = static_cast<double>(std::max<int64_t>(executor_->steps(), 1));
    for (size_t i = 0; i < executor_->times().size(); ++i) {
      Sum& sum = by_op[executor_->program().instructions[i]->op];
      sum.mean += executor_->times()[i] / steps;
      sum.fastest += executor_->fastest()[i];
      sum.busy += executor_->busy()[i];
      ++sum.count;
    }
    std::vector<std::pair<std::string, Sum>> rows(by_op.begin(), by_op.end());
    std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second.mean > b.second.mean; });
    if (!options_.json) fmt::print("seconds a step, at best, of the processor, calls, op\n");
    for (const auto& [op, sum] : rows) {
      if (options_.json) {
        fmt::print("{{\"op\": \"{}\", \"count\": {}, \"seconds\": {:.6g}, \"fastest\": {:.6g}, \"busy\": {:.6g}}}\n", op, sum.count,
                   sum.mean, sum.fastest, sum.busy);
      } else {
        fmt::print("{:10.4f} {:10.4f} {:10.4f} {:6} x {}\n", sum.mean, sum.fastest, sum.busy, sum.count, op);
      }
    }
    std::fflush(stdout);
  }

  const RunOptions& options_;
  Job job_;
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<exec::Executor> executor_;
  std::unique_ptr<Capture> capture_;
  int64_t loaded_ = 0;
};

}  // namespace

Result<int> Run(const RunOptions& options) {
  ASSIGN_OR_RETURN(const auto environment, ReadRankEnvironment());
  if (options.nproc_per_node > 0 && !environment) {
    // The launcher checks all that can be checked, so that a mistake is said once and nothing is started.
    ASSIGN_OR_RETURN(const Job checked, Open(options, options.nproc_per_node, options.nproc_per_node, /*verify=*/true));
    (void)checked;
    LaunchOptions launch;
    launch.ranks = options.nproc_per_node;
    std::error_code failed;
    launch.program = std::filesystem::read_symlink("/proc/self/exe", failed).string();
    if (failed)
      return Error{Code::kFailed, "this program does not find itself: " + failed.message(), "/proc/self/exe", ""};
    launch.arguments = options.arguments;
    launch.environment = {{kVerified, "1"}};
    // c10d's own traces stay out of the way of the one error that says what happened.
    if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) launch.environment.emplace_back("TORCH_CPP_LOG_LEVEL", "FATAL");
    return Launch(launch);
  }
  RankEnvironment mine = environment.value_or(RankEnvironment{});
  LogOptions log = DefaultLogOptions();
  if (mine.world_size > 1 && std::getenv(kVerified) == nullptr) log.rank = mine.rank;
  SetLogOptions(log);
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  at::set_num_threads(options.threads > 0 ? options.threads : std::max(1, cores / std::max(1, mine.local_size)));
  ASSIGN_OR_RETURN(Job job, Open(options, mine.world_size, /*local_ranks=*/1, std::getenv(kVerified) == nullptr));
  ASSIGN_OR_RETURN(Meeting meeting, Meet(mine, job.package->digest()));
  return Rank(options, std::move(job), std::move(meeting.host)).Run();
}

}  // namespace autospc::train
