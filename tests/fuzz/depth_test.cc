// Graphs as deep as they are long: whatever follows values back to where they come from must not do so down the stack.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/fuzz/entries.h"

namespace autospc::fuzz {
namespace {

constexpr int kLong = 20000;

// Positions, `line` again and again on the last of them, and a loss that takes what comes out.
std::string Chain(const std::string& line) {
  std::string text =
      "graph @chain {\n input %x : f32[4, 64]{64, 1} user \"x\" seq_dim 1\n"
      " %a0 = aten.arange.default(64, dtype(i64), none, none, none) : i64[64]{1}\n";
  for (int i = 0; i < kLong; ++i) text += fmt::format(fmt::runtime(line), fmt::arg("to", i + 1), fmt::arg("from", i));
  return text + fmt::format(" %m = aten.mul.Tensor(%x, %a{}) : f32[4, 64]{{64, 1}}\n %l = aten.sum.default(%m, none) : f32[]\n"
                            " output loss %l \"loss\"\n}}\n", kLong);
}

TEST(Depth, ChainsOfIntegers) { Ir(Chain(" %a{to} = aten.add.Tensor(%a{from}, 1, 1) : i64[64]{{1}}\n")); }
TEST(Depth, ChainsOfViews) { Ir(Chain(" %a{to} = aten.view.default(%a{from}, [64]) : i64[64]{{1}} base %a0\n")); }

TEST(Depth, ChainsOfMasks) {
  std::string text =
      "graph @masks {\n input %x : f32[1, 4, 64, 8]{2048, 512, 8, 1} user \"x\" seq_dim 2\n"
      " %r = aten.arange.default(64, dtype(i64), none, none, none) : i64[64]{1}\n"
      " %c = aten.unsqueeze.default(%r, 1) : i64[64, 1]{1, 1} base %r\n"
      " %m0 = aten.le.Tensor(%r, %c) : bool[64, 64]{64, 1}\n";
  for (int i = 0; i < kLong; ++i) text += fmt::format(" %m{} = aten.bitwise_and.Tensor(%m{}, %m0) : bool[64, 64]{{64, 1}}\n", i + 1, i);
  text += fmt::format(" %a = aten.scaled_dot_product_attention.default(%x, %x, %x, %m{}, 0.0, false, none, false) : f32[1, 4, 64, 8]{{2048, 512, 8, 1}}\n"
                      " %l = aten.sum.default(%a, none) : f32[]\n output loss %l \"loss\"\n}}\n", kLong);
  Ir(text);
}

}  // namespace
}  // namespace autospc::fuzz
