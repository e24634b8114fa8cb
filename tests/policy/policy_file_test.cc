#include "policy/policy_file.h"

#include <gtest/gtest.h>

#include <string>

#include "policy/methods.h"

namespace larder {
namespace {

std::string refusal(std::string_view text) {
  const auto file = parse_policy_file(text, "p.yaml");
  return file ? "accepted" : file.error().message;
}

TEST(PolicyFile, NamesWhatAMethodNames) {
  const auto file = parse_policy_file(
      "# snapkv over all that was asked, by a file\n"
      "score: attention\ncounting: unimportant\nwindow: 0\nevery: 128\nsinks: 4\nrecent: 16\n"
      "heads-get: by-file\nheads: heads of my model.tsv\nat-prompt-end: false\n",
      "p.yaml");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->heads, "heads of my model.tsv");
  EXPECT_EQ(file->policy.score, Score::attention);
  EXPECT_EQ(file->policy.counting, Counting::unimportant);
  EXPECT_EQ(file->policy.every, 128U);
  EXPECT_EQ(file->policy.recent, 16U);
  EXPECT_EQ(file->policy.head_file, HeadFile::shares);
  EXPECT_FALSE(file->policy.at_prompt_end);
}

TEST(PolicyFile, StartsFromAMethod) {
  const auto file = parse_policy_file("window: 16\nmethod: pyramidkv\nbeta: 3", "p.yaml");
  ASSERT_TRUE(file) << file.error().message;
  const Policy expected = *parse_policy("pyramidkv:window=16,beta=3");
  EXPECT_EQ(file->policy.window, expected.window);
  EXPECT_EQ(file->policy.beta, expected.beta);
  EXPECT_EQ(file->policy.kernel, expected.kernel);
  EXPECT_EQ(file->policy.allocation, Allocation::pyramid);
  for (const Method& method : methods()) {  // each can be written out
    std::string text = "method: " + std::string(method.name) + "\n";
    if (method.policy.head_file != HeadFile::none) text += "heads: x\n";
    EXPECT_EQ(refusal(text), "accepted");
  }
}

TEST(PolicyFile, RefusalsNameTheFileAndTheLine) {
  EXPECT_EQ(refusal("score: best").find("p.yaml, line 1: score must be one of position, random"),
            0U);
  EXPECT_EQ(refusal("score: key-norm\nsinks: 1000"),
            "p.yaml, line 2: sinks must be from 0 to 128, not '1000'");
  EXPECT_EQ(refusal("sinks: 4\nsinks: 5"), "p.yaml, line 2: 'sinks' is named twice");
  EXPECT_EQ(refusal("score: [attention]"), "p.yaml, line 1: is no name with one value");
  EXPECT_EQ(refusal("depth: 3")
                .find("p.yaml, line 1: there is no 'depth'; there are: method, score, "
                      "counting, allocation, "),
            0U)
      << refusal("depth: 3");
  EXPECT_TRUE(refusal("depth: 3")
                  .ends_with(", heads-get, heads, sinks, recent, every, "
                             "recent-percent, window, rise-percent, kernel, "
                             "floor-percent, full-percent, beta, heirs, seed, "
                             "chunk, recover-percent, heavy-percent, full-layers, "
                             "representatives"))
      << refusal("depth: 3");
  EXPECT_EQ(refusal("method: h3o"), "p.yaml, line 1: method 'h3o' is not known");
  for (const char* text :
       {"", "- a", "score", "a: b: c", "{", "---\nsinks: 1\n---\nsinks: 2", ",46M",
        "sinks: 4\n, every: 5", "&a [*a]", "? [a]\n: b", "every: 0\nat-prompt-end: false"}) {
    EXPECT_EQ(refusal(text).find("p.yaml"), 0U) << text;
  }
  EXPECT_NE(refusal(std::string(60000, '[')), "accepted");
  EXPECT_NE(refusal(std::string(70000, ' ')).find("at most 65536"), std::string::npos);
}

TEST(PolicyFile, MessagesHoldNoBytesThatCannotBePrinted) {
  for (const char* text :
       {"\"\\e[2J\": 3", "score: \"\\e[2J\"", "method: \"\\e[2J\"", "sinks: \"\\e[2J\"",
        "heads: \"\\e[2J\"", "\"\\e\": 1\n\"\\e\": 1", "\x1b[2J: [", "sinks: *\x1b[2J"}) {
    const std::string message = refusal(text);
    EXPECT_EQ(message.find("p.yaml"), 0U) << text;
    EXPECT_EQ(message.find('\x1b'), std::string::npos) << text;
  }
}

TEST(PolicyFile, NamesThatNothingReadsAreRefused) {
  EXPECT_EQ(refusal("score: random\nbeta: 9\nrecover-percent: 3"),
            "p.yaml, line 2: beta is read by nothing here: it goes with allocation: pyramid");
  EXPECT_EQ(refusal("score: position\nheirs: 5"),
            "p.yaml, line 2: heirs is read by nothing here: it goes with merging: shared-out");
  EXPECT_EQ(refusal("window: 8\nscore: key-norm"),
            "p.yaml, line 1: window is read by nothing here: it goes with score: attention");
  for (const char* text :
       {"score: random\nrecover-percent: 3", "score: random\ncounting: noisy",
        "score: random\nkernel: 3", "score: random\njoins-heads: true",
        "score: random\nfloor-percent: 20", "score: random\nfull-percent: 50",
        "score: random\nheavy-percent: 5", "score: random\nfull-layers: 2",
        "score: random\nrepresentatives: 4", "score: key-norm\nseed: 0",
        "score: random\nrise-percent: 2", "score: random\nchunk: 8",
        "method: fastgen\nrecent-percent: 5", "method: quest\nrepresentatives: 2",
        "method: quest\nbeta: 2", "method: quest\nat-prompt-end: true",
        "method: quest\nrecent-percent: 3", "method: pyramidkv\nallocation: uniform\nbeta: 3"}) {
    EXPECT_NE(refusal(text).find("is read by nothing here"), std::string::npos)
        << text << ": " << refusal(text);
  }
  for (const char* text :
       {"score: random\nseed: 3", "score: key-norm\nwindow: 0\nkernel: 1\njoins-heads: false",
        "score: attention\ncounting: noisy\nseed: 3", "allocation: pyramid\nbeta: 3",
        "score: attention\nmerging: shared-out\nheirs: 3\nseed: 1",
        "score: attention\nheads-get: by-score\nfloor-percent: 3", "method: infllm\nsinks: 32",
        "method: infllm\nrepresentatives: 3\nfull-layers: 1", "score: key-norm\nrecent-percent: 9",
        "counting: weight\nheavy-percent: 0\nchunk: 0\nrise-percent: 0"}) {
    EXPECT_EQ(refusal(text), "accepted") << text;
  }
}

TEST(PolicyFile, AReadingDropsNothing) {
  const auto file = parse_policy_file("method: quest\nfull-layers: 0", "p.yaml");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->policy.reading, Reading::by_bounds);
  EXPECT_EQ(file->policy.full_layers, 0U);
  EXPECT_EQ(refusal("reading: by-bounds\nsinks: 0\nrecent: 0\nevery: 0"), "accepted");
  EXPECT_NE(refusal("method: quest\nscore: key-norm").find("drops no rows"), std::string::npos);
  EXPECT_NE(refusal("method: quest\nrecent: 4").find("drops no rows"), std::string::npos);
  EXPECT_NE(refusal("method: snapkv\nreading: by-bounds"), "accepted");
  EXPECT_NE(refusal("reading: some").find("must be one of all, by-bounds"), std::string::npos);
}

TEST(PolicyFile, MixturesMakeSense) {
  EXPECT_NE(refusal("score: key-norm\nwindow: 3"), "accepted");
  EXPECT_NE(refusal("score: attention\nrise-percent: 3"), "accepted");
  EXPECT_NE(refusal("score: attention\nheads-get: by-file"), "accepted");
  EXPECT_NE(refusal("score: attention\nheads: x"), "accepted");
  EXPECT_NE(refusal("score: attention\njoins-heads: true\nheads-get: by-score"), "accepted");
  EXPECT_NE(refusal("score: position\nheads-get: by-score"), "accepted");
  EXPECT_NE(refusal("score: attention\nallocation: pyramid\nheads-get: by-score"), "accepted");
  EXPECT_NE(refusal("score: key-norm\nsink-distance: capped"), "accepted");
  EXPECT_NE(refusal("sinks: 0\nsink-distance: in-cache"), "accepted");
  EXPECT_NE(refusal("score: attention\nkernel: 4"), "accepted");
  EXPECT_EQ(refusal("score: attention\nchunk: 512\nevery: 0\ncounting: largest"), "accepted");
  EXPECT_NE(refusal("score: attention\nchunk: 512\ncounting: largest"),
            "accepted");  // every is 256
  EXPECT_NE(refusal("score: attention\nchunk: 512\nevery: 0"), "accepted");
  EXPECT_NE(refusal("score: attention\nevery: 0\ncounting: largest"), "accepted");
  EXPECT_NE(refusal("method: kvzip\nchunk: 0"), "accepted");
  EXPECT_NE(refusal("method: kvmerger\nheavy-percent: 90"), "accepted");
  EXPECT_NE(refusal("score: attention\nkernel: 5\nwindow: 8\nrecent: 2"), "accepted");
  EXPECT_NE(refusal("score: key-norm\nchunk: 512\nevery: 0"), "accepted");
  EXPECT_NE(refusal("score: key-norm\nevery: 0\nheads-get: by-pattern"), "accepted");
  EXPECT_NE(refusal("score: attention\nevery: 128\nheads-get: by-pattern"), "accepted");
  EXPECT_NE(refusal("score: attention\nevery: 0\njoins-heads: true\nheads-get: by-pattern"),
            "accepted");
  EXPECT_EQ(refusal("score: key-spread\nevery: 0\nmerging: in-runs"), "accepted");
  EXPECT_NE(refusal("score: key-spread\nevery: 9\nmerging: in-runs"), "accepted");
  EXPECT_NE(refusal("score: attention\nevery: 0\nmerging: in-runs\nheads-get: by-score"),
            "accepted");
}

}  // namespace
}  // namespace larder
