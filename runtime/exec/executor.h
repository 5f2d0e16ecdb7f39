// Runs a package's program: one rank, one step at a time, over one arena.
//
// At load every tensor of the program becomes a view of the arena or of persistent memory, and every
// instruction a kernel with its arguments resolved; a step only calls kernels. A step allocates no tensor
// byte outside the arena (OutsideBytes counts what does).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/base/whereabouts.h"
#include "runtime/exec/call.h"
#include "runtime/exec/device_memory.h"
#include "runtime/exec/library_kernel.h"
#include "runtime/exec/overlap.h"
#include "runtime/exec/side_stream.h"
#include "runtime/package/micro_batches.h"
#include "runtime/package/program_generated.h"

namespace autospc::exec {

struct ExecutorOptions {
  int rank = 0;
  Communicator* communicator = nullptr;  // of program.world_size ranks; must outlive the executor
  uint64_t seed = 0;                     // of dropout; each step draws anew from it
  Whereabouts* whereabouts = nullptr;    // where it writes the instruction it is at; one that fails stays written
  // Where the arena, the persistent storages and the kernels are. Another device than the host is one that LibTorch has the
  // libraries of, and the communicator's; its kernels are the portable set.
  c10::Device device = c10::Device(c10::DeviceType::CPU);
  bool portable_kernels = false;  // on the host too: for tests
  // Where collectives run beside the other instructions. Null: on a device whose communicator follows streams, one of the
  // device's; else nowhere, one instruction comes after the other.
  std::shared_ptr<SideStream> side_stream;
  // Memory of persistent storages that lies elsewhere (weights in a mapped file), by storage index, aligned
  // to their elements, writable if the program updates them; on the host alone. The others start as zeros of our own.
  std::map<int, void*> external;
};

// Sees every instruction of a step as it runs: for traces, and for checks of what was computed.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void Before(size_t instruction) {}
  virtual void After(size_t instruction) {}  // its results are there; not called where it failed
};

class Executor {
 public:
  // kBadInput: the program is malformed (an index or a view out of range, a wrong argument). kUnsupported:
  // an op that this LibTorch lacks. kDoesNotFit: no memory.
  static Result<std::unique_ptr<Executor>> Create(std::shared_ptr<const program::ProgramT> program,
                                                  const ExecutorOptions& options);
  ~Executor();

  const program::ProgramT& program() const { return *program_; }
  const Context& context() const { return context_; }

  c10::Device device() const { return context_.device; }
  // Returns when all that was queued on the device is done; at once on the host. Errors of the device and of peers.
  Status Settle() const;

  // A tensor of the program: a view of the memory that the step reads and writes, on the device.
  const at::Tensor& tensor(int index) const { return tensors_[index]; }
  void* storage(int index) const { return storages_[index]; }
  // The persistent storage of that kind and name, or -1.
  int FindStorage(program::StorageKind kind, std::string_view name) const;
  // Writes a step-time scalar ("lr", "step"); nothing if the program has none of that name.
  void SetScalar(std::string_view name, double value);

  // Called when an output other than an update is final and there to be read: its memory may be used again afterwards.
  using OnOutput = std::function<Status(const program::OutputT& output, const at::Tensor& value)>;
  // Which of them are handed over: for each one a device is waited for. Empty: all.
  using Wants = std::function<bool(const program::OutputT& output)>;
  // Runs the step and then brings updated buffers to their persistent places. Of a step of several micro-batches
  // (runtime/package/micro_batches.h) each call runs the next one, and the last call the rest of the step; the inputs
  // hold another micro-batch each time. Errors name the instruction and its source line: kFailed, kPeerFailed, ….
  Status Step(const OnOutput& on_output, const Wants& wants = {});
  // Of the step that comes or has begun: how many micro-batches it takes, and how many of them it has had.
  int64_t micro_batches() const { return micro_batches_.count; }
  int64_t micro_batch() const { return micro_batch_; }

  // The loss of what the inputs hold, handed to `on_output`, without dropout. Runs only what the loss depends on;
  // parameters, buffers, optimiser states and steps() stay as they are.
  Status Evaluate(const OnOutput& on_output);

  int64_t steps() const { return steps_; }
  // A run that goes on where another stopped after so many steps draws its dropout from there.
  void ResumeAt(int64_t steps) { steps_ = steps; }
  // Tensor bytes allocated outside the arena in the last step, by the whole process: on the host their sum, on another
  // device the most that LibTorch's allocator held at a time (kernels there take scratch from it: README.md).
  int64_t OutsideBytes() const { return outside_bytes_; }
  // The same of each instruction, all steps together: names what OutsideBytes counts. The host's alone.
  const std::vector<int64_t>& outside_by_instruction() const { return outside_by_instruction_; }
  // Who sees the steps from now on, besides those who do already; outlives them. Steps without observers pay nothing.
  void AddObserver(Observer* observer) { observers_.push_back(observer); }
  // An instruction with its operands and results as views of the memory that it works on.
  const Call& call(size_t instruction) const { return *calls_[instruction]; }
  // Seconds of each instruction are kept when on; see times().
  void set_timed(bool timed) { timed_ = timed; }
  const std::vector<double>& times() const { return times_; }
  // Of the step in which each took least: wall time, and processor time of this thread, in which neither waiting nor
  // what other programs took counts. With more than one thread the latter is a part of the work only.
  const std::vector<double>& fastest() const { return fastest_; }
  const std::vector<double>& busy() const { return busy_; }
  Way way(int instruction) const { return ways_[instruction]; }

 private:
  struct Update;  // an output that goes to a persistent storage
  struct Evaluation;
  Executor() = default;
  Status MakeGroups(const ExecutorOptions& options);
  Status MakeStorages(const ExecutorOptions& options);
  Status MakeTensors();
  Status MakeCalls();
  Status MakeUpdates();
  void ChooseSideStream(const ExecutorOptions& options);
  Status MakeEvaluation();
  Status RunInstruction(size_t index);
  Status Join() const;  // what is queued from now on comes after all collectives so far
  bool KeepsShapes(size_t index) const;  // of what the instruction has written to
  Error Locate(Error error, size_t index) const;
  bool on_host() const { return context_.device.is_cpu(); }

  std::shared_ptr<const program::ProgramT> program_;
  Context context_;
  std::unique_ptr<Communicator> sp_, dp_;  // of a mesh with both axes; else the one group is the world
  uint64_t seed_ = 0;
  DeviceRegion arena_;
  std::vector<DeviceRegion> own_;  // persistent storages of our own
  std::vector<void*> storages_;  // by storage index
  std::vector<at::Tensor> tensors_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<Kernel> kernels_;
  std::vector<Way> ways_;
  std::shared_ptr<SideStream> side_;
  Overlap overlap_;                // where there is one
  std::vector<int64_t> tickets_;   // by instruction: of its last run there
  int64_t last_ticket_ = 0;
  std::vector<std::vector<int>> outputs_after_;  // by instruction + 1: indices of outputs
  std::vector<std::unique_ptr<Update>> updates_;
  std::shared_ptr<Evaluation> evaluation_;  // made when it is first asked for
  std::vector<double> times_, fastest_, busy_;
  std::vector<int64_t> outside_by_instruction_;
  std::vector<Observer*> observers_;
  bool timed_ = false;
  Whereabouts* whereabouts_ = nullptr;
  MicroBatches micro_batches_;
  int64_t micro_batch_ = 0;
  int64_t steps_ = 0;
  int64_t outside_bytes_ = 0;
};

}  // namespace autospc::exec
