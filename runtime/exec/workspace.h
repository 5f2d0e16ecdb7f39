// Where LibTorch's own allocations go while a step runs: into the workspace that the plan gave to the
// instruction. What does not fit is served by malloc and counted, so that a step that takes memory outside
// its arena says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace autospc::exec {

// Makes this process' CPU allocator the one that serves workspaces. Called once, before tensors are made;
// later calls do nothing.
void InstallWorkspaceAllocator();

struct AllocationCounts {
  int64_t outside_bytes = 0;  // served by malloc while a step was running, by any thread of the process
  int64_t outside_calls = 0;
};
AllocationCounts OutsideAllocations();

// While it lives, tensors that this thread allocates lie in `memory` (aligned to 64), first fit, each rounded
// up to 64 bytes. They must not outlive it. Scopes do not nest.
class WorkspaceScope {
 public:
  explicit WorkspaceScope(std::span<std::byte> memory);
  ~WorkspaceScope();
  WorkspaceScope(const WorkspaceScope&) = delete;
  WorkspaceScope& operator=(const WorkspaceScope&) = delete;
};

// While it lives, allocations outside workspaces are counted. Several may live at a time (ranks as threads).
class CountingScope {
 public:
  CountingScope();
  ~CountingScope();
  CountingScope(const CountingScope&) = delete;
  CountingScope& operator=(const CountingScope&) = delete;
};

}  // namespace autospc::exec
