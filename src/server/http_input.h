// What comes in over HTTP, as the API calls it.
#pragma once

#include <boost/beast/http.hpp>
#include <boost/optional.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/api.h"
#include "server/body_budget.h"

namespace larder {

namespace http = boost::beast::http;

/// A body that counts against a budget as it comes. Without room the read ends with
/// `error::bad_alloc`. Nothing is reserved for a length that is only announced.
struct CountedBody {
  struct value_type {
    BodyShare share;
    std::string text;
  };
  class reader {
   public:
    template <bool kIsRequest, class Fields>
    reader(http::header<kIsRequest, Fields>& /*header*/, value_type& body) : body_(body) {}
    void init(const boost::optional<std::uint64_t>& /*length*/, boost::system::error_code& error) {
      error = {};
    }
    template <class Buffers>
    std::size_t put(const Buffers& buffers, boost::system::error_code& error) {
      const std::size_t n_bytes = boost::beast::buffer_bytes(buffers);
      if (!body_.share.grow(n_bytes)) {
        error = http::error::bad_alloc;
        return 0;
      }
      for (const boost::asio::const_buffer part : boost::beast::buffers_range_ref(buffers)) {
        body_.text.append(static_cast<const char*>(part.data()), part.size());
      }
      error = {};
      return n_bytes;
    }
    void finish(boost::system::error_code& error) { error = {}; }

   private:
    value_type& body_;
  };
};

using Parser = http::request_parser<CountedBody>;

/// What a request asks for, its target taken apart.
struct Target {
  std::string path;   // without the query
  std::string query;  // what stands behind the '?', as it came
  std::string host;   // of an absolute target ("http://host:port/path"); otherwise empty
};

/// Absolute targets are those of proxies; every server must take them (RFC 9112, 3.2.2).
Target parse_target(std::string_view text);

/// Paths that tell nothing of the model or of others.
bool needs_key(std::string_view path);

/// What a header or body that cannot be read deserves; status 0: the peer is gone or was too slow
/// and its connection is closed, nobody listens.
ApiError header_error(const boost::system::error_code& error, std::size_t max_body_bytes);

}  // namespace larder
