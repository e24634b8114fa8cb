// The embedded model behind a server on a port of loopback.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "server/http_client.h"
#include "server/http_server.h"
#include "server/test_server.h"

namespace larder {

/// A server on a free port over the embedded model.
class Wire {
 public:
  explicit Wire(HttpOptions options = {}, bool loaded = true) {
    options.port = 0;
    auto listening = HttpServer::listen(options);
    if (!listening) throw std::runtime_error(listening.error().message);
    http_ = std::move(*listening);
    port_ = http_->port();
    thread_ = std::thread([this] { http_->run(); });
    server_.loop->start();
    if (loaded) load();
  }
  ~Wire() { end(); }
  void load() { http_->serve(*server_.api); }
  void end() {
    if (!thread_.joinable()) return;
    server_.loop->stop();
    http_->close_all();
    thread_.join();
  }
  /// Whatever happened before: it answers, and nothing is left of it.
  void expect_well() {
    EXPECT_TRUE(server_.loop->wait_until_done(60));
    EXPECT_EQ(HttpClient(port_).get("/health").status, 200);
  }
  HttpServer& http() { return *http_; }
  TestServer& server() { return server_; }
  std::uint16_t port() const { return port_; }
  void join() { thread_.join(); }

 private:
  TestServer server_;
  std::unique_ptr<HttpServer> http_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

/// Keeps a started loop between two steps until it goes: what is asked meanwhile stays unanswered.
class HeldLoop {
 public:
  explicit HeldLoop(EngineLoop& loop)
      : thread_([this, &loop] {
          loop.call([this](Engine&) {
            held_.set_value();
            released_.get_future().wait();
          });
        }) {
    held_.get_future().wait();
  }
  ~HeldLoop() {
    released_.set_value();
    thread_.join();
  }
  HeldLoop(const HeldLoop&) = delete;
  HeldLoop& operator=(const HeldLoop&) = delete;

 private:
  std::promise<void> held_, released_;
  std::thread thread_;  // last: it uses the others
};

/// Until so many requests are in the loop, however long that takes.
inline void wait_for_requests(const EngineLoop& loop, std::size_t n) {
  while (loop.stats().n_unfinished < n) std::this_thread::yield();
}

}  // namespace larder
