#include "runtime/exec/workspace.h"
#include "runtime/base/alignment.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <mutex>
#include <vector>

namespace autospc::exec {
namespace {

std::atomic<int> counting{0};
std::atomic<int64_t> outside_bytes{0};
std::atomic<int64_t> outside_calls{0};

struct Block {
  int64_t offset;
  int64_t bytes;
};

// The workspace of the instruction that this thread runs.
struct Workspace {
  std::byte* base = nullptr;
  int64_t bytes = 0;
  std::vector<Block> live;  // sorted by offset

  void* Take(int64_t wanted) {
    wanted = Aligned(wanted);
    int64_t start = 0;
    auto at = live.begin();
    for (; at != live.end() && at->offset - start < wanted; ++at) start = at->offset + at->bytes;
    if (bytes - start < wanted) return nullptr;
    live.insert(at, Block{start, wanted});
    return base + start;
  }

  bool Give(void* data) {
    auto* p = static_cast<std::byte*>(data);
    if (p < base || p >= base + bytes) return false;
    for (auto it = live.begin(); it != live.end(); ++it) {
      if (base + it->offset == p) {
        live.erase(it);
        return true;
      }
    }
    return false;
  }
};

thread_local Workspace workspace;

// A block of a workspace that is gone needs no freeing: the arena owns the memory.
void GiveBack(void* data) { workspace.Give(data); }

// Kernels that allocate without a DataPtr (raw_allocate) free within the call, on the same thread.
void GiveBackOrFree(void* data) {
  if (!workspace.Give(data)) c10::GetDefaultCPUAllocator()->raw_deallocate(data);
}

class WorkspaceAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t n) override {
    if (n > 0 && workspace.bytes > 0) {
      if (void* data = workspace.Take(static_cast<int64_t>(n))) {
        return {data, data, &GiveBack, c10::Device(c10::DeviceType::CPU)};
      }
    }
    if (n > 0 && counting.load(std::memory_order_relaxed) > 0) {
      outside_bytes.fetch_add(static_cast<int64_t>(n), std::memory_order_relaxed);
      outside_calls.fetch_add(1, std::memory_order_relaxed);
    }
    return c10::GetDefaultCPUAllocator()->allocate(n);
  }
  c10::DeleterFnPtr raw_deleter() const override { return &GiveBackOrFree; }
  void copy_data(void* dest, const void* src, std::size_t count) const override { default_copy_data(dest, src, count); }
};

}  // namespace

void InstallWorkspaceAllocator() {
  static std::once_flag once;
  std::call_once(once, [] { c10::SetCPUAllocator(new WorkspaceAllocator, /*priority=*/100); });
}

AllocationCounts OutsideAllocations() { return {outside_bytes.load(), outside_calls.load()}; }

WorkspaceScope::WorkspaceScope(std::span<std::byte> memory) {
  workspace.base = memory.data();
  workspace.bytes = static_cast<int64_t>(memory.size());
  workspace.live.clear();
}

WorkspaceScope::~WorkspaceScope() {
  workspace.base = nullptr;
  workspace.bytes = 0;
  workspace.live.clear();
}

CountingScope::CountingScope() { counting.fetch_add(1); }
CountingScope::~CountingScope() { counting.fetch_sub(1); }

}  // namespace autospc::exec
