#include "cli/flags.h"

#include <gtest/gtest.h>

#include <cmath>
#include <new>
#include <stdexcept>

namespace autospc::cli {
namespace {

class FlagsTest : public testing::Test {
 protected:
  FlagsTest() {
    auto add = options_.add_options();
    add("seq-len,s", po::value<int64_t>()->default_value(64), "length of the sequence");
    add("strategy", po::value<std::string>()->default_value("ulysses"), "which");
    add("strict", "refuse");
    add("weight-decay", po::value<double>(), "of the optimiser");
    add("shard", po::value<std::vector<std::string>>()->composing(), "may be repeated");
    add("input", po::value<std::string>(), "a file");
    positional_.add("input", 1);
  }
  Result<Flags> Parse(const std::vector<std::string>& arguments) {
    return ParseFlags("tool", arguments, options_, positional_);
  }
  // The error's text: what and hint.
  std::string Problem(const std::vector<std::string>& arguments) {
    const Result<Flags> flags = Parse(arguments);
    if (flags.ok()) return "no error";
    EXPECT_EQ(flags.error().code, Code::kUsage);
    return flags.error().what + "; " + flags.error().hint;
  }

  po::options_description options_;
  po::positional_options_description positional_;
};

TEST_F(FlagsTest, DashAndUnderscoreAreTheSame) {
  for (const std::vector<std::string>& spelling :
       {std::vector<std::string>{"--seq-len=5"}, {"--seq_len=5"}, {"--seq_len", "5"}, {"-s", "5"}, {"-s5"}}) {
    const Result<Flags> flags = Parse(spelling);
    ASSERT_TRUE(flags.ok()) << spelling[0];
    EXPECT_EQ(flags->Get<int64_t>("seq-len"), 5);
    EXPECT_TRUE(flags->Has("seq-len"));
  }
  EXPECT_EQ(Parse({"--strategy=all_gather"})->Get<std::string>("strategy"), "all_gather");  // values are left alone
}

TEST_F(FlagsTest, DefaultsAreNotGiven) {
  const Result<Flags> flags = Parse({"file"});
  ASSERT_TRUE(flags.ok());
  EXPECT_FALSE(flags->Has("seq-len"));
  EXPECT_EQ(flags->Get<int64_t>("seq-len"), 64);
  EXPECT_FALSE(flags->Has("strict"));
  EXPECT_EQ(flags->Get<std::string>("input"), "file");
}

TEST_F(FlagsTest, KeepsTheOrderAndNegativeAndRepeatedValues) {
  const Result<Flags> flags =
      Parse({"--strict", "-", "--weight_decay", "-1.5", "--shard", "a:1", "--seq-len", "2", "--shard=b:0"});
  ASSERT_TRUE(flags.ok()) << flags.error().Format();
  EXPECT_EQ(flags->order, (std::vector<std::string>{"strict", "weight-decay", "shard", "seq-len", "shard"}));
  EXPECT_EQ(flags->Get<double>("weight-decay"), -1.5);
  EXPECT_EQ(flags->Get<std::string>("input"), "-");
  EXPECT_EQ(flags->Get<std::vector<std::string>>("shard"), (std::vector<std::string>{"a:1", "b:0"}));
}

TEST_F(FlagsTest, MistakesAreSaidAndTheNearestFlagNamed) {
  EXPECT_EQ(Problem({"--seq-length", "5"}),
            "unknown flag '--seq-length'; did you mean '--seq-len'? tool --help shows all flags");
  EXPECT_EQ(Problem({"--strct"}), "unknown flag '--strct'; did you mean '--strict'? tool --help shows all flags");
  EXPECT_EQ(Problem({"--xyzzy-plugh"}), "unknown flag '--xyzzy-plugh'; tool --help shows all flags");
  EXPECT_EQ(Problem({"--seq"}).substr(0, 20), "unknown flag '--seq'");  // no abbreviations
  EXPECT_EQ(Problem({"--seq-len"}), "'--seq-len' needs a value; tool --help shows all flags");
  EXPECT_EQ(Problem({"--strict=yes"}), "'--strict' takes no value; tool --help shows all flags");
  EXPECT_EQ(Problem({"--seq-len", "1", "--seq_len", "2"}), "'--seq-len' is given twice; tool --help shows all flags");
  EXPECT_NE(Problem({"--seq-len", "5x"}).find("bad value of '--seq-len'"), std::string::npos);
  EXPECT_NE(Problem({"--seq-len", "%value%"}).find("bad value of '--seq-len': '%value%'"), std::string::npos);  // Boost's own never ends
  EXPECT_NE(Problem({"--seq-len", "99999999999999999999"}).find("bad value of '--seq-len'"), std::string::npos);
  EXPECT_EQ(Problem({"a", "b"}), "too many arguments without a flag; tool --help shows what is expected");
}

TEST_F(FlagsTest, DescribesAFlagALine) {
  const std::string text = Describe(options_);
  EXPECT_NE(text.find("  -s, --seq-len VALUE      length of the sequence (default 64)\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  --strict                 refuse\n"), std::string::npos) << text;
}

TEST(Nearest, IsTheLeastEditDistanceIfItIsSmall) {
  EXPECT_EQ(Nearest("simplyfy", {"simplify", "partition"}), "simplify");
  EXPECT_EQ(Nearest("partition", {"simplify", "partition"}), "partition");
  EXPECT_EQ(Nearest("zzz", {"simplify", "partition"}), "");
  EXPECT_EQ(Nearest("ab", {}), "");
}

TEST(Guarded, WhatNobodyHasMetIsAnErrorToo) {
  EXPECT_EQ(Guarded([] { return 3; }), 3);
  EXPECT_EQ(Guarded([]() -> int { throw std::bad_alloc(); }), 1);
  EXPECT_EQ(Guarded([]() -> int { throw std::runtime_error("of a library"); }), 1);
}

TEST(Values, AreChecked) {
  EXPECT_EQ(*Finite("--lr", 0.5), 0.5);
  for (const double none : {std::nan(""), HUGE_VAL, -HUGE_VAL}) EXPECT_EQ(Finite("--lr", none).error().code, Code::kUsage);
  EXPECT_EQ(*InRange("--ranks", 3, 1, 8), 3);
  EXPECT_EQ(InRange("--ranks", 0, 1, 8).error().Format(), "error: '--ranks' is 0\n  hint: it lies between 1 and 8");
  EXPECT_EQ(*OneOf("--strategy", "ulysses", {"ulysses", "ring"}), "ulysses");
  EXPECT_EQ(OneOf("--strategy", "ulises", {"ulysses", "ring"}).error().hint,
            "did you mean 'ulysses'? it is one of: ulysses, ring");
  EXPECT_EQ(*Bytes("--memory-budget", "2KiB"), 2048);
  EXPECT_EQ(Bytes("--memory-budget", "2x").error().what, "'--memory-budget': '2x' is not a size in bytes");
  EXPECT_EQ(*IntList("--ranks", "1,2,-4"), (std::vector<int64_t>{1, 2, -4}));
  for (const char* bad : {"", "1,", ",1", "1;2", "1, 2", "99999999999999999999"}) {
    EXPECT_EQ(IntList("--ranks", bad).error().code, Code::kUsage) << bad;
  }
}

TEST_F(FlagsTest, AsTexts) {
  const Result<Flags> flags = Parse({"file", "--strict", "--weight-decay", "0.1", "--shard", "a", "--shard", "b"});
  ASSERT_TRUE(flags.ok());
  using Texts = std::vector<std::pair<std::string, std::vector<std::string>>>;
  EXPECT_EQ(flags->Texts(), (Texts{{"input", {"file"}},
                                   {"seq-len", {"64"}},
                                   {"shard", {"a", "b"}},
                                   {"strategy", {"ulysses"}},
                                   {"strict", {"on"}},
                                   {"weight-decay", {"0.1"}}}));
}

}  // namespace
}  // namespace autospc::cli
