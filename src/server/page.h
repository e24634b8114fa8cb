// The page at "/": chat with the model, the cache beside it. Made from page.html by the build.
#pragma once

#include <string>

namespace larder {

std::string page_html();
/// What the page may do in a browser: talk to this server and nobody else.
inline constexpr const char* kPagePolicy =
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src "
    "'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

}  // namespace larder
