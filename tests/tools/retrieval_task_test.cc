#include "retrieval_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "model/io/hf_tokenizer.h"
#include "model/io/model_source.h"
#include "retrieval_runner.h"

namespace larder {
namespace {

using testing::HasSubstr;

/// SentencePiece that puts blanks before texts and begins them with BOS, with a vocabulary of 512,
/// and byte-level BPE, which does neither.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name) {
  if (name == "stories260K") {
    auto source = open_model(std::string(LARDER_MODELS_DIR) + "/stories260K.gguf");
    EXPECT_TRUE(source);
    return std::move(*Tokenizer::create((*source)->tokenizer()));
  }
  auto data = read_hf_tokenizer(LARDER_TEST_DATA "/tokenizers/" + name);
  EXPECT_TRUE(data) << data.error().message;
  return std::move(*Tokenizer::create(std::move(*data)));
}

class RetrievalTaskTest : public testing::TestWithParam<const char*> {
 protected:
  RetrievalTaskTest()
      : tokenizer_(make_tokenizer(GetParam())),
        maker_(*tokenizer_, std::move(*TaskFiller::create(*tokenizer_, embedded_filler()))) {}

  RetrievalTask make(TaskKind kind, TaskSize size, std::uint64_t seed = 1) const {
    TaskRandom random({seed});
    auto task = maker_.make(kind, size, random);
    EXPECT_TRUE(task) << task.error().message;
    return task ? std::move(*task) : RetrievalTask{};
  }
  std::string text(const std::vector<TokenId>& tokens) const {
    return tokenizer_->decode(tokens, false);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  TaskMaker maker_;
};
INSTANTIATE_TEST_SUITE_P(Tokenizers, RetrievalTaskTest, testing::Values("stories260K", "qwen2"),
                         [](const auto& test) { return std::string(test.param); });

std::size_t n_times(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++n;
  return n;
}

TEST_P(RetrievalTaskTest, LengthsAreExact) {
  for (std::size_t kind = 0; kind < kTaskNames.size(); ++kind) {
    for (const std::uint32_t n_tokens : {800U, 801U, 1023U, 2048U}) {
      for (std::uint64_t seed = 0; seed < 4; ++seed) {
        SCOPED_TRACE(testing::Message() << kTaskNames[kind] << ", " << n_tokens << " tokens");
        const RetrievalTask task = make(static_cast<TaskKind>(kind), {n_tokens, {}}, seed);
        std::size_t longest = 0;
        for (const auto& q : task.questions) longest = std::max(longest, q.tokens.size());
        EXPECT_EQ(task.context.size() + longest + task.n_answer_tokens, n_tokens);
        EXPECT_EQ(task.context.front() == tokenizer_->data().bos, tokenizer_->data().add_bos);
        EXPECT_GT(task.n_answer_tokens, 4U);
      }
    }
  }
}

TEST_P(RetrievalTaskTest, TheSameSeedGivesTheSameTask) {
  for (std::size_t kind = 0; kind < kTaskNames.size(); ++kind) {
    const auto one = make(static_cast<TaskKind>(kind), {900, {}}, 7);
    const auto same = make(static_cast<TaskKind>(kind), {900, {}}, 7);
    const auto other = make(static_cast<TaskKind>(kind), {900, {}}, 8);
    EXPECT_EQ(one.context, same.context) << kTaskNames[kind];
    EXPECT_EQ(one.questions.front().answers, same.questions.front().answers);
    EXPECT_NE(one.context, other.context) << kTaskNames[kind];
  }
}

TEST_P(RetrievalTaskTest, AnswersStandInTheContextAsOftenAsTheyShould) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const auto passkey = make(TaskKind::passkey, {700, 0.5}, seed);
    const std::string& key = passkey.questions.front().answers.front();
    EXPECT_EQ(key.size(), 5U);
    EXPECT_EQ(n_times(text(passkey.context), key), 2U);  // "is K. Remember it. K is"
    EXPECT_EQ(text(passkey.questions.front().tokens), "\nWhat is the pass key? The pass key is");
    for (const TaskKind kind :
         {TaskKind::niah_single, TaskKind::niah_multikey, TaskKind::niah_multivalue,
          TaskKind::niah_multiquery, TaskKind::variable_tracking}) {
      const auto task = make(kind, {1200, {}}, seed);
      for (const auto& question : task.questions) {
        for (const auto& answer : question.answers) {
          EXPECT_EQ(n_times(text(task.context), answer), 1U) << task_name(kind);
          EXPECT_EQ(n_times(text(question.tokens), answer), 0U);
        }
      }
    }
  }
}

TEST_P(RetrievalTaskTest, EachLineThatIsAskedForNamesItsAnswer) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    for (const TaskKind kind :
         {TaskKind::niah_single, TaskKind::niah_multikey, TaskKind::niah_multiquery}) {
      const auto task = make(kind, {1200, {}}, seed);
      for (const auto& question : task.questions) {
        // SentencePiece writes a blank before each text.
        const std::string line = text(question.tokens) + " " + question.answers.front() + ".\n";
        EXPECT_EQ(n_times(text(task.context), line), 1U) << line;
      }
    }
    const auto values = make(TaskKind::niah_multivalue, {1200, {}}, seed);
    EXPECT_EQ(values.questions.front().answers.size(), 4U);
    EXPECT_EQ(n_times(text(values.context), "The code of"), 4U);
    EXPECT_EQ(make(TaskKind::niah_multiquery, {1200, {}}, seed).questions.size(), 4U);
  }
}

TEST_P(RetrievalTaskTest, DepthIsWhereItSays) {
  for (const double depth : {0.0, 0.25, 0.5, 1.0}) {
    const auto task = make(TaskKind::passkey, {1500, depth});
    const std::string context = text(task.context);
    const std::string hint = "There is a pass key hidden in the text below. Remember it.\n";
    const auto begin = context.find("The pass key is");
    const double share = static_cast<double>(begin - hint.size()) /
                         static_cast<double>(context.size() - hint.size() - 70);
    EXPECT_NEAR(share, depth, 0.05);
  }
}

TEST_P(RetrievalTaskTest, VariablesFollowAChainToItsValue) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const auto task = make(TaskKind::variable_tracking, {1000, {}}, seed);
    const std::string context = text(task.context);
    std::string name = text(task.questions.front().tokens);
    name = name.substr(std::string("The value of ").size());
    name.resize(name.size() - std::string(" is").size());
    for (int hops = 0; hops < 3; ++hops) {
      const std::string assigns = "VAR " + name + " = ";
      ASSERT_EQ(n_times(context, assigns), 1U) << assigns;
      const auto at = context.find(assigns) + assigns.size();
      name = context.substr(at, context.find('.', at) - at);
    }
    EXPECT_EQ(name, task.questions.front().answers.front());
  }
}

TEST_P(RetrievalTaskTest, WordsThatAreAskedForAreTheMostFrequent) {
  const std::string filler = embedded_filler();
  for (const TaskKind kind : {TaskKind::common_words, TaskKind::frequent_words}) {
    const auto task = make(kind, {1500, {}}, 3);
    const std::string all = text(task.context);
    const std::string context = all.substr(all.find("often") + 5);
    std::map<std::string, int> counts;
    for (std::size_t at = 0; at < context.size();) {
      const auto end = std::min(context.find_first_of(" \n.", at), context.size());
      if (end > at) ++counts[context.substr(at, end - at)];
      at = end + 1;
    }
    int least = 1 << 20;
    for (const auto& answer : task.questions.front().answers) {
      least = std::min(least, counts[answer]);
      counts.erase(answer);
    }
    EXPECT_GE(least, 2) << task_name(kind);
    for (const auto& [word, n] : counts) {
      // Words of the sentences that fill the rest are not in the list.
      EXPECT_TRUE(n < least || filler.find(word) != std::string::npos) << word;
    }
  }
}

TEST_P(RetrievalTaskTest, ShortLengthsAreRefusedWithWhatIsNeeded) {
  for (std::size_t kind = 0; kind < kTaskNames.size(); ++kind) {
    TaskRandom random({1});
    const auto task = maker_.make(static_cast<TaskKind>(kind), {20, {}}, random);
    ASSERT_FALSE(task) << kTaskNames[kind];
    EXPECT_THAT(task.error().message, HasSubstr(kTaskNames[kind]));
    EXPECT_THAT(task.error().message, HasSubstr("20 tokens are too few"));
  }
}

TEST(ParseTask, KnowsItsNames) {
  for (std::size_t kind = 0; kind < kTaskNames.size(); ++kind) {
    EXPECT_EQ(*parse_task(kTaskNames[kind]), static_cast<TaskKind>(kind));
  }
  EXPECT_THAT(parse_task("niah").error().message, HasSubstr("niah_multikey"));
}

TEST(ReplyScore, OneAnswerMustComeFirst) {
  EXPECT_EQ(reply_score(" 4821.\nThe", {"4821"}), 1);
  EXPECT_EQ(reply_score("4821", {"4821"}), 1);
  EXPECT_EQ(reply_score(" 48213", {"4821"}), 0);  // another number
  EXPECT_EQ(reply_score(" a 4821", {"4821"}), 0);
  EXPECT_EQ(reply_score("", {"4821"}), 0);
}

TEST(ReplyScore, OfSeveralEachCountsAsAWholeWord) {
  EXPECT_EQ(reply_score(" river, lamp and stone.", {"lamp", "river"}), 1);
  EXPECT_EQ(reply_score(" rivers, lamp", {"lamp", "river"}), 0.5);
  EXPECT_EQ(reply_score(" driver river", {"river", "lamp"}), 0.5);
  EXPECT_EQ(reply_score("", {"river", "lamp"}), 0);
}

TEST(RunRetrievalTask, AsksBehindTheCachedContext) {
  EngineOptions options;
  options.model_path = std::string(LARDER_MODELS_DIR) + "/stories260K.gguf";
  options.n_context = 480;
  options.n_threads = 1;
  auto engine = Engine::open(options);
  ASSERT_TRUE(engine);
  const TaskMaker maker((*engine)->tokenizer(),
                        std::move(*TaskFiller::create((*engine)->tokenizer(), embedded_filler())));
  RetrievalPlan plan;
  plan.tasks = {TaskKind::niah_multiquery, TaskKind::passkey};
  plan.lengths = {400};
  plan.depths = {0, 1};
  plan.n_samples = 2;
  std::uint64_t n_done = 0;
  const auto cells = measure_retrieval(**engine, maker, plan, [&](std::uint64_t n) { n_done = n; });
  ASSERT_TRUE(cells) << cells.error().message;
  ASSERT_EQ(cells->size(), 4U);
  EXPECT_EQ(n_done, n_plan_samples(plan));
  for (const RetrievalCell& cell : *cells) {
    EXPECT_EQ(cell.n_samples, 2U);
    EXPECT_LE(cell.n_right, cell.n_samples);
    EXPECT_EQ(cell.n_kept, cell.n_rows);  // every row of the contexts came from the cache
  }
  EXPECT_EQ((*engine)->stats().kv_bytes, 0U);
  plan.lengths = {500};
  EXPECT_FALSE(measure_retrieval(**engine, maker, plan, [](std::uint64_t) {}));
}

}  // namespace
}  // namespace larder
