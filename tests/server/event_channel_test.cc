#include "server/event_channel.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace larder {
namespace {

ChannelEvent event(std::size_t n_top = 0, const std::string& text = "a") {
  ChannelEvent out;
  out.event.token = 1;
  out.event.text = text;
  out.event.top.resize(n_top);
  return out;
}

std::size_t n_until_full(EventChannel& channel, const ChannelEvent& one) {
  std::size_t n = 0;
  while (n < 100000 && channel.push(one)) ++n;
  return n;
}

TEST(EventChannelTest, IsBoundedInEventsAndBytes) {
  EventChannel short_ones(50, 1 << 20);
  EXPECT_EQ(n_until_full(short_ones, event()), 50U);
  EventChannel long_ones(100000, 1 << 20);
  const std::size_t n_bytes = estimated_bytes(event(20).event);
  EXPECT_EQ(n_until_full(long_ones, event(20)), (1 << 20) / n_bytes);
  EXPECT_EQ(long_ones.take().size(), (1 << 20) / n_bytes);
  EXPECT_TRUE(long_ones.push(event(20)));  // there is room again
}

TEST(EventChannelTest, OneEventAlwaysFindsRoom) {
  EventChannel channel(10, 100);
  EXPECT_TRUE(channel.push(event(0, std::string(5000, 'x'))));
  EXPECT_FALSE(channel.push(event()));
  channel.take();
  EXPECT_TRUE(channel.push(event(0, std::string(5000, 'x'))));
}

TEST(EventChannelTest, EverythingThatIsWrittenCounts) {
  TokenEvent bare;
  const std::size_t n_bare = estimated_bytes(bare);
  TokenEvent scored = bare;
  scored.logprob.emplace();
  scored.top.resize(2);
  scored.prompt.resize(3);
  const std::size_t n_scored = estimated_bytes(scored);
  EXPECT_EQ((n_scored - n_bare) % 6, 0U);
  EXPECT_GT(n_scored, n_bare);
  TokenEvent embedded = bare;
  embedded.embedding.resize(1000);
  EXPECT_EQ(estimated_bytes(embedded), n_bare + 1000 * sizeof(float));
}

}  // namespace
}  // namespace larder
