// Who waits for a collective that runs beside the rest, and what comes of it where collectives are as late as they may
// be.
#include "runtime/exec/overlap.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include "tests/exec/late_stream.h"
#include "tests/exec/programs.h"

namespace autospc::exec {
namespace {

using B = ProgramBuilder;
using program::StorageKind;

std::vector<int> WaitsFor(const program::ProgramT& program) {
  alignas(64) static std::byte memory[1 << 16];
  std::vector<void*> storages;
  size_t persistent = sizeof(memory) / 2;
  for (const auto& s : program.storages) {
    const size_t at =
        s->arena_offset >= 0 ? static_cast<size_t>(s->arena_offset) : std::exchange(persistent, persistent + 1024);
    storages.push_back(memory + at);
  }
  return FindOverlap(program, storages).waits_for;
}

struct Chain {
  B b;
  int x = b.Tensor(at::kFloat, {8}), y = Arena(), z = Arena(), w = Arena();

  int Arena() { return b.Tensor(at::kFloat, {8}, {}, StorageKind::Activation); }
  void Sum(int from, int to) { b.Add("autosp.all_reduce", {B::T(from), B::S("sum")}, {to}); }
  void Times(int from, double by, int to) { b.Add("aten.mul.Tensor", {B::T(from), B::F(by)}, {to}); }
};

TEST(OverlapTest, WhoReadsTheResultWaits) {
  Chain c;
  c.Sum(c.x, c.y);
  c.Times(c.x, 2, c.z);  // both read x
  c.Times(c.y, 3, c.w);
  c.Times(c.y, 4, c.z);  // it is done already
  EXPECT_EQ(WaitsFor(c.b.program()), (std::vector<int>{-1, -1, 0, -1}));
}

TEST(OverlapTest, WhoWritesWhatIsReadWaits) {
  Chain c;
  c.Times(c.x, 1, c.z);
  c.Sum(c.z, c.y);
  c.Times(c.x, 2, c.z);
  EXPECT_EQ(WaitsFor(c.b.program()), (std::vector<int>{-1, -1, 1}));
}

TEST(OverlapTest, AnOpInPlaceWrites) {
  Chain c;
  c.Sum(c.x, c.y);
  c.b.Add("autosp.accumulate_", {B::T(c.x), B::T(c.z)}, {});  // into x, which the sum reads
  EXPECT_EQ(WaitsFor(c.b.program()), (std::vector<int>{-1, 0}));
  Chain d;
  d.Sum(d.x, d.y);
  d.b.Add("autosp.accumulate_", {B::T(d.z), B::T(d.x)}, {});
  EXPECT_EQ(WaitsFor(d.b.program()), (std::vector<int>{-1, -1}));
}

// The arena gives the bytes of one storage to others.
TEST(OverlapTest, BytesCountNotStorages) {
  Chain c;
  c.Sum(c.x, c.y);
  c.Times(c.x, 2, c.z);
  const auto& tensors = c.b.program().tensors;
  const auto offset = [&](int t) -> int64_t& { return c.b.program().storages[tensors[t]->storage]->arena_offset; };
  EXPECT_EQ(WaitsFor(c.b.program()), (std::vector<int>{-1, -1}));
  const int64_t apart = std::exchange(offset(c.z), offset(c.y));
  EXPECT_EQ(WaitsFor(c.b.program()), (std::vector<int>{-1, 0}));
  offset(c.z) = apart;
  c.b.program().instructions[0]->workspace = c.b.Storage(64, StorageKind::Workspace);
  EXPECT_EQ(WaitsFor(c.b.program()), (std::vector<int>{-1, -1}));
  offset(c.z) = c.b.program().storages.back()->arena_offset;
  EXPECT_EQ(WaitsFor(c.b.program()), (std::vector<int>{-1, 0}));
}

TEST(OverlapTest, CollectivesKeepTheirOrderAndTheLastStandsForAll) {
  Chain c;
  c.Sum(c.x, c.y);
  c.Sum(c.y, c.z);
  c.Sum(c.x, c.w);
  c.Times(c.z, 2, c.z);  // of the second; the third may go on
  c.Times(c.y, 2, c.y);  // the first was done before the second
  c.Times(c.w, 2, c.w);
  EXPECT_EQ(WaitsFor(c.b.program()), (std::vector<int>{-1, -1, -1, 1, -1, 2}));
}

TEST(OverlapTest, LateCollectivesChangeNothing) {
  Chain c;
  const int loss = c.b.Tensor(at::kFloat, {}, {}, StorageKind::Activation);
  c.Sum(c.x, c.y);
  c.Sum(c.x, c.w);
  c.Times(c.x, 2, c.z);
  c.b.Add("aten.add.Tensor", {B::T(c.y), B::T(c.z), B::I(1)}, {c.z});
  c.b.Add("aten.sum.default", {B::T(c.z)}, {loss});
  c.b.Add("aten.fill.Scalar", {B::T(c.x), B::F(-1)}, {c.x});
  c.b.Output(program::OutputKind::Loss, "loss", loss, 4);
  const auto late = std::make_shared<LateStream>();
  for (const bool side : {false, true}) {
    auto e = c.b.Build(0, nullptr, 0, at::kCPU, side ? late : nullptr);
    ASSERT_TRUE(e.ok()) << e.error().Format();
    double got = 0;
    const auto keep = [&](const program::OutputT&, const at::Tensor& value) {
      got = value.item<double>();
      return Ok();
    };
    for (const bool evaluates : {false, true}) {
      (*e)->tensor(c.x).copy_(at::arange(8));
      ASSERT_TRUE((evaluates ? (*e)->Evaluate(keep) : (*e)->Step(keep)).ok());
      EXPECT_EQ(got, 3 * 28);
      if (evaluates) continue;
      EXPECT_TRUE(at::equal((*e)->tensor(c.w), at::arange(8).to(at::kFloat)));  // read before x was filled
    }
  }
  EXPECT_EQ(late->pending(), 0u);
  EXPECT_EQ(late->most(), 2u);
}

TEST(OverlapTest, AnOutputThatNobodyWantsIsNotHandedOver) {
  Chain c;
  c.Times(c.x, 2, c.y);
  c.b.Output(program::OutputKind::Gradient, "a", c.y, 0);
  c.b.Output(program::OutputKind::Gradient, "b", c.y, 0);
  auto e = c.b.Build();
  ASSERT_TRUE(e.ok()) << e.error().Format();
  std::vector<std::string> names;
  const auto note = [&](const program::OutputT& out, const at::Tensor&) {
    names.push_back(out.name);
    return Ok();
  };
  ASSERT_TRUE((*e)->Step(note, [](const program::OutputT& out) { return out.name == "b"; }).ok());
  EXPECT_EQ(names, std::vector<std::string>{"b"});
}

}  // namespace
}  // namespace autospc::exec
